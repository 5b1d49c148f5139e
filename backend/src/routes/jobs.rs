//! `POST /v1/api/jobs {job_type, params, idempotency_key?}`: 202 `{job_id, status}` when the job is recorded.

use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use kalamdb_commons::schema::Actor;
use kalamdb_commons::{Error, Result};
use kalamdb_core::api::JobRequest;
use serde_json::{Map, Value, json};

use super::{answer, refuse};
use crate::app::{App, Arrival, Body, address_of};
use crate::shapes;

/// The most bytes of a request.
const BODY_BYTES_MAX: usize = 64 * 1024;
/// What a request is.
const SHAPE: &str = r#"{"job_type": "flush", "params": {"namespace": "app"}, "idempotency_key": "nightly-1"}, of which "params" and "idempotency_key" may be left out"#;

/// Takes a job in.
#[utoipa::path(
    post, path = "/v1/api/jobs", operation_id = "submitJob", tag = "operations", security(("bearer" = [])),
    request_body = shapes::JobRequest,
    responses(
        (status = 202, description = "The job is recorded.", body = shapes::JobAnswer),
        (status = 400, description = "A field that is wrong: which, what it must be, and an example.", body = shapes::SqlAnswer),
        (status = 401, description = "No token, or one that is no longer good.", body = shapes::SqlAnswer),
        (status = 403, description = "The user may not do that.", body = shapes::SqlAnswer),
        (status = 409, description = "The key was used for another job.", body = shapes::SqlAnswer),
        (status = 413, description = "Too large.", body = shapes::SqlAnswer),
        (status = 429, description = "Over a limit; try again after Retry-After.", body = shapes::SqlAnswer),
        (status = 503, description = "Too many jobs wait, or the server is stopping.", body = shapes::SqlAnswer)
    )
)]
pub(super) async fn submit(app: web::Data<App>, request: HttpRequest, payload: web::Payload) -> HttpResponse {
    let arrival = Arrival::of(&request);
    let actor = match app.authenticate(&request) {
        Ok(actor) => actor,
        Err(error) => return refuse(&error, &arrival, None, None),
    };
    let role = Some(actor.role);
    let submitted = async {
        let body = Body::new(&request, payload, BODY_BYTES_MAX)?.whole().await?;
        let wanted = read(&body, actor, &request, &arrival)?;
        let engine = app.engine.clone();
        app.on_engine(async move { engine.submit_job(wanted).await }).await
    };
    match submitted.await {
        Ok((job, status)) => answer(202, &json!({"job_id": job.as_str(), "status": status.as_str()})),
        Err(error) => refuse(&error, &arrival, role, None),
    }
}

fn read(body: &Bytes, actor: Actor, request: &HttpRequest, arrival: &Arrival) -> Result<JobRequest> {
    let wrong = |what: &str| Error::invalid_parameter(format!("{what}; the body must be {SHAPE}"));
    let mut fields: Map<String, Value> =
        serde_json::from_slice(body).map_err(|cause| wrong(&format!("the body is not a JSON object ({cause})")))?;
    let job_type = match fields.remove("job_type") {
        Some(Value::String(job_type)) => job_type,
        Some(_) => return Err(wrong("field \"job_type\" must be text")),
        None => return Err(wrong("field \"job_type\" is missing")),
    };
    let idempotency_key = match fields.remove("idempotency_key") {
        Some(Value::String(key)) => Some(key),
        None | Some(Value::Null) => None,
        Some(_) => return Err(wrong("field \"idempotency_key\" must be text")),
    };
    let params = fields.remove("params").unwrap_or_default();
    let (request_id, address) = (arrival.request_id.clone(), address_of(request));
    Ok(JobRequest { actor, job_type, params, idempotency_key, request_id, address })
}
