//! `POST /v1/api/sql`.
//!
//! A request is checked here, carried out on the engine's threads, and answered while it runs. When the client goes
//! away the statement is cancelled, unless the request has an `Idempotency-Key`: then it runs to its end, and the
//! answer is kept for the client's next attempt.

use actix_web::http::header;
use actix_web::{HttpRequest, HttpResponse, web};
use bytes::Bytes;
use kalamdb_commons::schema::Actor;
use kalamdb_commons::settings::LimitSettings;
use kalamdb_commons::{Error, Result};
use kalamdb_core::api::{IdempotencyKey, OutcomeResult, Param, Replay, SqlRequest};
use kalamdb_core::stats::StatsSnapshot;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use tracing::Instrument;

use super::{pass_on, pass_on_from, raw, refuse};
use crate::answer::{ARROW_STREAM, JSON, SqlAnswer, Stop, arrow_stream, of_statement};
use crate::app::{App, Arrival, Body, address_of};
use crate::reply::{self, Reply};
use crate::shapes;
use crate::work::begin_here;
use kalamdb_core::{Execution, threads};

/// The longest `Idempotency-Key`.
const KEY_BYTES_MAX: usize = 255;
/// The longest body that an HTTP worker may parse itself.
const SHORT_BYTES_MAX: usize = 4_096;

#[derive(Debug, Deserialize)]
struct SqlBody {
    sql: String,
    #[serde(default)]
    params: Option<Vec<Value>>,
    #[serde(default)]
    namespace_id: Option<String>,
    #[serde(default, rename = "impersonationContext")]
    impersonation: Option<Impersonation>,
}

#[derive(Debug, Deserialize)]
struct Impersonation {
    #[serde(rename = "subjectUserId")]
    subject: String,
}

/// Carries out the statements of a request, in order.
#[utoipa::path(
    post, path = "/v1/api/sql", operation_id = "sql", tag = "data", security(("bearer" = [])),
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes the request safe to repeat.")),
    request_body = shapes::SqlRequest,
    responses(
        (status = 200, description = "The results; with status `error` if a statement failed after the answer had begun. \
            With `Accept: application/vnd.apache.arrow.stream` and one query, an Arrow IPC stream.", body = shapes::SqlAnswer),
        (status = 400, description = "A statement that is wrong, or names what is not there.", body = shapes::SqlAnswer),
        (status = 401, description = "No token, or one that is no longer good.", body = shapes::SqlAnswer),
        (status = 403, description = "The user may not do that.", body = shapes::SqlAnswer),
        (status = 409, description = "Another transaction was first.", body = shapes::SqlAnswer),
        (status = 413, description = "Too large.", body = shapes::SqlAnswer),
        (status = 429, description = "Over a limit; try again after Retry-After.", body = shapes::SqlAnswer),
        (status = 500, description = "Internal; the request id is in the log.", body = shapes::SqlAnswer),
        (status = 503, description = "Overloaded or stopping; try again after Retry-After.", body = shapes::SqlAnswer)
    )
)]
pub(super) async fn sql(app: web::Data<App>, request: HttpRequest, payload: web::Payload) -> HttpResponse {
    let arrival = Arrival::of(&request);
    let actor = match app.authenticate(&request) {
        Ok(actor) => actor,
        Err(error) => return refuse(&error, &arrival, None, None),
    };
    let role = actor.role;
    match prepared(&app, &request, payload, actor, &arrival).await {
        Ok(request) => run(&app, request, arrival).await,
        Err(error) => refuse(&error, &arrival, Some(role), None),
    }
}

/// A request that may run.
struct Prepared {
    request: SqlRequest,
    wants_arrow: bool,
    /// Reading it takes no time.
    is_short: bool,
}

async fn prepared(
    app: &App,
    request: &HttpRequest,
    payload: web::Payload,
    actor: Actor,
    arrival: &Arrival,
) -> Result<Prepared> {
    let limits = &app.settings.limits;
    let body = Body::new(request, payload, limits.body_bytes_max)?.whole().await?;
    let idempotency = idempotency_key(request, &body)?;
    let SqlBody { sql, params, namespace_id, impersonation } = serde_json::from_slice(&body)
        .map_err(|cause| Error::invalid_input(format!("the body is not a valid request: {cause}")))?;
    let params = parameters(params.unwrap_or_default(), limits)?;
    let wants_arrow = accepts_arrow(request) && is_one_statement(&sql, limits);
    let namespace = namespace_id.filter(|namespace| !namespace.is_empty());
    let as_user = impersonation.map(|context| context.subject);
    let request_id = arrival.request_id.clone();
    let address = address_of(request);
    let request = SqlRequest { actor, sql, params, namespace, as_user, request_id, address, idempotency };
    Ok(Prepared { request, wants_arrow, is_short: body.len() <= SHORT_BYTES_MAX })
}

fn accepts_arrow(request: &HttpRequest) -> bool {
    let accepted = request.headers().get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
    accepted.split(',').any(|kind| kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(ARROW_STREAM))
}

/// What does not parse has no result either way.
fn is_one_statement(sql: &str, limits: &LimitSettings) -> bool {
    kalamdb_sql::parse(sql, limits).is_ok_and(|statements| statements.len() == 1)
}

/// The key of a request that is safe to repeat, with what it stands for.
pub(super) fn idempotency_key(request: &HttpRequest, body: &[u8]) -> Result<Option<IdempotencyKey>> {
    let Some(key) = request.headers().get("Idempotency-Key") else { return Ok(None) };
    let key = key.to_str().ok().map(str::trim).filter(|key| (1..=KEY_BYTES_MAX).contains(&key.len()));
    let key = key.ok_or_else(|| {
        Error::invalid_input(format!("the Idempotency-Key must have 1 to {KEY_BYTES_MAX} printable ASCII characters"))
    })?;
    let hash = Sha256::new().chain_update(request.method().as_str()).chain_update([0]).chain_update(body).finalize();
    Ok(Some(IdempotencyKey { key: key.to_owned(), request_hash: hash.into() }))
}

fn parameters(values: Vec<Value>, limits: &LimitSettings) -> Result<Vec<Param>> {
    if values.len() > limits.params_max {
        let (found, max) = (values.len(), limits.params_max);
        return Err(Error::invalid_parameter(format!("the request has {found} parameters; at most {max} are allowed")));
    }
    values.into_iter().enumerate().map(|(index, value)| parameter(index + 1, value, limits.param_bytes_max)).collect()
}

fn parameter(number: usize, value: Value, bytes_max: usize) -> Result<Param> {
    match value {
        Value::Null => Ok(Param::Null),
        Value::Bool(value) => Ok(Param::Boolean(value)),
        Value::Number(value) => Ok(Param::Number(value)),
        Value::String(text) if text.len() <= bytes_max => Ok(Param::Text(text)),
        Value::String(text) => Err(Error::invalid_parameter(format!(
            "the parameter ${number} has {} bytes; at most {bytes_max} are allowed",
            text.len()
        ))),
        Value::Array(_) => Err(not_a_parameter(number, "an array")),
        Value::Object(_) => Err(not_a_parameter(number, "an object")),
    }
}

fn not_a_parameter(number: usize, found: &str) -> Error {
    Error::invalid_parameter(format!(
        "the parameter ${number} is {found}; null, a boolean, a number or a string is allowed"
    ))
}

async fn run(app: &App, prepared: Prepared, arrival: Arrival) -> HttpResponse {
    let role = prepared.request.actor.role;
    let permit = match app.admit() {
        Ok(permit) => permit,
        Err(error) => return refuse(&error, &arrival, Some(role), None),
    };
    let claim = match claimed(app, &prepared.request).await {
        Ok(Claim::Run(claim)) => claim,
        Ok(Claim::Answered { status, body }) => return raw(status, JSON, body),
        Err(error) => return refuse(&error, &arrival, Some(role), None),
    };
    let (mut reply, mut incoming) = reply::channel(app.settings.limits.response_buffer_bytes, JSON);
    let is_kept = prepared.request.idempotency.is_some();
    if is_kept {
        reply.keep_copy(app.settings.limits.idempotency_answer_bytes_max);
    }
    // One that is kept goes on when its client is gone, and a worker's own work ends with the request.
    let begins_here = prepared.is_short && !prepared.wants_arrow && !is_kept;
    let (runtime, app, told) = (&app.runtime, app.clone(), arrival.clone());
    let work = async move {
        // Held until the last byte is on its way.
        let _held = permit;
        let gone = reply.gone();
        let span = tracing::info_span!("sql", request_id = arrival.request_id, user = %prepared.request.actor.user);
        let work = carry_out(&app, prepared, reply, claim, &arrival).instrument(span);
        tokio::select! {
            biased;
            () = work => {}
            () = gone, if !is_kept => tracing::debug!(request_id = arrival.request_id, "the client went away"),
        }
    };
    if !begins_here {
        runtime.spawn(work);
        return pass_on(incoming, &told, role).await;
    }
    let head = begin_here(runtime, work, &mut incoming).await;
    pass_on_from(head, incoming, &told, role)
}

/// Whether a request is to be run.
enum Claim {
    /// Yes. What is held keeps others with the same idempotency key from running.
    Run(Option<Replay>),
    /// It was answered before.
    Answered { status: u16, body: Bytes },
}

async fn claimed(app: &App, request: &SqlRequest) -> Result<Claim> {
    let Some(key) = request.idempotency.clone() else { return Ok(Claim::Run(None)) };
    let (engine, actor) = (app.engine.clone(), request.actor.clone());
    match app.on_engine(async move { engine.idempotent_answer(&actor, &key).await }).await? {
        Replay::Answer { status, body } => Ok(Claim::Answered { status, body }),
        fresh @ Replay::Fresh(_) => Ok(Claim::Run(Some(fresh))),
    }
}

/// Runs the statements and writes the answer. Dropping this cancels the statement that runs.
async fn carry_out(app: &App, prepared: Prepared, reply: Reply, claim: Option<Replay>, arrival: &Arrival) {
    let Prepared { request, wants_arrow, .. } = prepared;
    let (actor, key) = (request.actor.clone(), request.idempotency.clone());
    let audience = arrival.audience(Some(actor.role));
    let mut execution = match app.engine.execute(request).await {
        Ok(execution) => execution,
        Err(error) => {
            SqlAnswer::begin(reply, arrival.watch).fail(&error, audience, &StatsSnapshot::default()).await;
            return;
        }
    };
    if execution.remaining() > 1 {
        threads::leave().await;
    }
    if wants_arrow && key.is_none() {
        return answer_as_arrow(execution, reply, arrival, &actor).await;
    }
    let mut answer = SqlAnswer::begin(reply, arrival.watch);
    let failure = loop {
        let outcome = match execution.next().await {
            None => break None,
            Some(Ok(outcome)) => answer.add(outcome).await,
            Some(Err(error)) => Err(Stop::Failed(error)),
        };
        match outcome {
            Ok(()) => {}
            Err(Stop::Failed(error)) => break Some(of_statement(answer.statements() + 1, error)),
            Err(Stop::Gone) => return,
        }
    };
    if let Some(error) = failure {
        // Not kept: what is done is remembered with the writes themselves, and the next attempt goes on from there.
        drop(claim);
        answer.fail(&error, audience, &execution.cost()).await;
        return;
    }
    // IMPORTANT: kept before the client can know of it, so that the next attempt finds it whatever happens between.
    if let (Some(copy), Some(key)) = (answer.conclude(&execution.cost()), key) {
        keep(app, &actor, &key, copy, arrival).await;
    }
    drop(claim);
    answer.send_end().await;
}

/// Keeps an answer for the client's next attempt. One that was too long is made again then, without the writes.
async fn keep(app: &App, actor: &Actor, key: &IdempotencyKey, body: Bytes, arrival: &Arrival) {
    if let Err(error) = app.engine.store_answer(actor, key, 200, &body).await {
        tracing::warn!(request_id = arrival.request_id, "the answer to an Idempotency-Key was not kept: {error}");
    }
}

/// One statement; anything but rows is answered as JSON.
async fn answer_as_arrow(mut execution: Execution, mut reply: Reply, arrival: &Arrival, actor: &Actor) {
    let failure = match execution.next().await {
        Some(Ok(outcome)) => match outcome.result {
            OutcomeResult::Rows(rows) => match arrow_stream(rows, &mut reply).await {
                Ok(()) => {
                    // IMPORTANT: before the client has all of it: what it cost counts for the client's next request.
                    execution.stats().end();
                    return drop(reply.finish(200).await);
                }
                Err(Stop::Gone) => return,
                Err(Stop::Failed(error)) => error,
            },
            _ => {
                let mut answer = SqlAnswer::begin(reply, arrival.watch);
                return match answer.add(outcome).await {
                    Ok(()) => answer.succeed(&execution.cost()).await,
                    Err(Stop::Gone) => {}
                    Err(Stop::Failed(error)) => {
                        let error = of_statement(1, error);
                        answer.fail(&error, arrival.audience(Some(actor.role)), &execution.cost()).await;
                    }
                };
            }
        },
        Some(Err(error)) => error,
        None => Error::internal("a statement had no outcome"),
    };
    if reply.has_begun() {
        // Nothing can be told any more but that the stream is not whole: it is cut, and the reason is in the log.
        arrival.audience(Some(actor.role)).message(&failure);
        return;
    }
    reply.buffer().clear();
    reply.set_content_type(JSON);
    let error = of_statement(1, failure);
    let answer = SqlAnswer::begin(reply, arrival.watch);
    answer.fail(&error, arrival.audience(Some(actor.role)), &execution.cost()).await;
}

#[cfg(test)]
mod tests;
