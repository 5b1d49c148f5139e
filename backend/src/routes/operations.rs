//! For operators: `/health`, `/health/ready`, `/metrics`.
//!
//! `/health` says that the process answers (liveness); `/health/ready` whether it should be sent requests (readiness), which
//! it should not while it stops or cannot write. Neither tells anything that a stranger may not know. `/metrics` does: it is
//! for requests from the server's own machine, and for `dba` and above from elsewhere.

use actix_web::{HttpRequest, HttpResponse, web};
use kalamdb_auth::policy::{Right, require};
use kalamdb_commons::Result;
use prometheus::TextEncoder;
use serde_json::json;

use super::{answer, raw, refuse, waiting};
use crate::app::{App, Arrival, origin};
use crate::requests::DRAIN_RETRY_SECONDS;
use crate::shapes::{HealthAnswer, ReadyAnswer, SqlAnswer};

/// The text format, as Prometheus names it.
const TEXT: &str = "text/plain; version=0.0.4; charset=utf-8";

/// `GET /health`: that the process answers.
#[utoipa::path(
    get, path = "/health", operation_id = "health", tag = "operations",
    responses((status = 200, description = "The process answers.", body = HealthAnswer))
)]
pub(super) async fn health() -> HttpResponse {
    answer(200, &json!({"status": "healthy", "api_version": "v1", "version": env!("CARGO_PKG_VERSION")}))
}

/// `GET /v1/api/healthcheck`: the same.
#[utoipa::path(
    get, path = "/v1/api/healthcheck", operation_id = "healthcheck", tag = "operations",
    responses((status = 200, description = "The process answers.", body = HealthAnswer))
)]
pub(super) async fn healthcheck() -> HttpResponse {
    health().await
}

/// `GET /health/ready`: whether it should be sent requests.
#[utoipa::path(
    get, path = "/health/ready", operation_id = "ready", tag = "operations",
    responses(
        (status = 200, description = "The server takes requests.", body = ReadyAnswer),
        (status = 503, description = "It should not be sent any now.", body = ReadyAnswer)
    )
)]
pub(super) async fn ready(app: web::Data<App>) -> HttpResponse {
    let (status, reason) = if app.is_draining() {
        ("draining", "the server is stopping")
    } else if !app.engine.is_writable() {
        ("unready", "a write to the disk failed, and the store has not reopened yet")
    } else if app.engine.check_hot_limit().is_err() {
        ("unready", "the hot tier is at its limit (hot.hard_limit_mib)")
    } else {
        return answer(200, &json!({"status": "ready"}));
    };
    waiting(answer(503, &json!({"status": status, "reason": reason})), Some(DRAIN_RETRY_SECONDS))
}

/// `GET /metrics`: figures for Prometheus.
#[utoipa::path(
    get, path = "/metrics", operation_id = "metrics", tag = "operations", security((), ("bearer" = [])),
    responses(
        (status = 200, description = "The figures, in Prometheus's text format.", body = String, content_type = "text/plain"),
        (status = 401, description = "From another machine, without a token.", body = SqlAnswer),
        (status = 403, description = "From another machine, by an account below dba.", body = SqlAnswer)
    )
)]
pub(super) async fn metrics(app: web::Data<App>, request: HttpRequest) -> HttpResponse {
    let arrival = Arrival::of(&request);
    let role = match reader(&app, &request) {
        Ok(role) => role,
        Err(error) => return refuse(&error, &arrival, None, None),
    };
    let engine = app.engine.clone();
    let figures = app.on_engine(async move { Ok(engine.figures().await) }).await;
    let text = figures.and_then(|figures| {
        let text = TextEncoder::new().encode_to_string(&figures);
        text.map_err(|cause| kalamdb_commons::Error::internal("the figures cannot be written").with_source(cause))
    });
    match text {
        Ok(text) => raw(200, TEXT, text),
        Err(error) => refuse(&error, &arrival, role, None),
    }
}

/// Who may read the figures: whoever is on this machine, or is allowed to see the server's own tables.
fn reader(app: &App, request: &HttpRequest) -> Result<Option<kalamdb_commons::schema::Role>> {
    if origin(request).is_local {
        return Ok(None);
    }
    let actor = app.authenticate(request)?;
    require(actor.role, Right::ServerTables)?;
    Ok(Some(actor.role))
}
