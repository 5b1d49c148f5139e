//! The endpoints (wire-protocol.md, sections 1 to 3).
//!
//! | module | endpoints |
//! |---|---|
//! | [`sql`] | `/v1/api/sql` |
//! | [`import`] | `/v1/api/import` |
//! | [`jobs`] | `/v1/api/jobs` |
//! | [`crate::live`] | `/v1/ws` |
//! | [`accounts`] | `/v1/api/auth/...` |
//! | [`operations`] | `/health`, `/health/ready`, `/v1/api/healthcheck`, `/metrics` |
//! | this one | `/v1/api/openapi.json`, and the answer to anything else |

mod accounts;
mod import;
mod jobs;
mod operations;
mod sql;

use std::sync::LazyLock;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use kalamdb_commons::Error;
use kalamdb_commons::schema::Role;
use serde_json::{Value, json};
use utoipa::OpenApi;

use crate::answer::{JSON, refusal_body};
use crate::app::Arrival;
use crate::errors::{retry_after_seconds, status_and_code};
use crate::openapi::Bearer;
use crate::reply::{Head, Incoming};

/// The endpoints: what serves them is what the document says of them.
macro_rules! endpoints {
    ($($method:ident $path:literal => $($handler:ident)::+;)*) => {
        /// Ties the endpoints to their addresses.
        pub(crate) fn configure(config: &mut web::ServiceConfig) {
            config $(.route($path, web::$method().to($($handler)::+)))* .default_service(web::to(nowhere));
        }

        #[derive(OpenApi)]
        #[openapi(
            info(
                title = "KalamDB",
                description = "SQL over HTTP. Errors of /v1/api/auth have the shape AccountError, all others SqlAnswer with an error.",
                license(name = "Apache-2.0", identifier = "Apache-2.0")
            ),
            paths($($($handler)::+),*),
            modifiers(&Bearer)
        )]
        struct Document;
    };
}

endpoints! {
    get "/health" => operations::health;
    get "/health/ready" => operations::ready;
    get "/v1/api/healthcheck" => operations::healthcheck;
    get "/metrics" => operations::metrics;
    get "/v1/api/openapi.json" => openapi_document;
    post "/v1/api/sql" => sql::sql;
    post "/v1/api/import" => import::import;
    post "/v1/api/jobs" => jobs::submit;
    post "/v1/api/auth/login" => accounts::login;
    post "/v1/api/auth/refresh" => accounts::refresh;
    get "/v1/api/auth/status" => accounts::status;
    post "/v1/api/auth/setup" => accounts::setup;
    get "/v1/api/auth/me" => accounts::me;
    post "/v1/api/auth/logout" => accounts::logout;
}

#[utoipa::path(
    get, path = "/v1/api/openapi.json", operation_id = "openapi", tag = "operations",
    responses((status = 200, description = "This document.", body = Value))
)]
async fn openapi_document() -> HttpResponse {
    static TEXT: LazyLock<String> =
        LazyLock::new(|| Document::openapi().to_json().unwrap_or_else(|error| unreachable!("{error}")));
    raw(200, JSON, TEXT.as_str())
}

/// Whether a path is answered by a server that is stopping too: about itself.
pub(crate) fn is_about_health(path: &str) -> bool {
    matches!(path, "/health" | "/health/ready" | "/v1/api/healthcheck" | "/metrics")
}

/// A refusal before the endpoint was asked, in the shape that the endpoint's errors have.
pub(crate) fn refusal_at(path: &str, error: &Error, arrival: &Arrival) -> HttpResponse {
    if path.starts_with("/v1/api/auth/") {
        accounts::refusal(error, arrival)
    } else {
        refuse(error, arrival, None, None)
    }
}

async fn nowhere(request: HttpRequest) -> HttpResponse {
    let message = format!("there is no {} {}", request.method(), request.path());
    answer(404, &json!({"error": "not_found", "message": message}))
}

fn answer(status: u16, body: &Value) -> HttpResponse {
    raw(status, JSON, body.to_string())
}

fn raw(status: u16, content_type: &'static str, body: impl Into<bytes::Bytes>) -> HttpResponse {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    HttpResponse::build(status).content_type(content_type).body(body.into())
}

/// An SQL answer that was an error from the start.
pub(crate) fn refuse(error: &Error, arrival: &Arrival, role: Option<Role>, details: Option<String>) -> HttpResponse {
    let (status, _) = status_and_code(error.kind());
    let body = refusal_body(error, arrival.watch, arrival.audience(role), details);
    waiting(raw(status, JSON, body), retry_after_seconds(error))
}

/// An answer that says when to try again.
fn waiting(mut response: HttpResponse, seconds: Option<u32>) -> HttpResponse {
    if let Some(seconds) = seconds {
        response.headers_mut().insert(header::RETRY_AFTER, seconds.into());
    }
    response
}

/// Passes on what comes from the engine's side.
async fn pass_on(mut incoming: Incoming, arrival: &Arrival, role: Role) -> HttpResponse {
    let head = incoming.head().await;
    pass_on_from(head, incoming, arrival, role)
}

/// The same with a beginning that has come.
fn pass_on_from(head: Option<Head>, incoming: Incoming, arrival: &Arrival, role: Role) -> HttpResponse {
    match head {
        Some(Head::Whole { status, content_type, body, retry_after_seconds }) => {
            waiting(raw(status, content_type, body), retry_after_seconds)
        }
        Some(Head::Streaming { content_type }) => {
            HttpResponse::Ok().content_type(content_type).streaming(incoming.pieces())
        }
        None => refuse(&Error::internal("a request broke down without an answer"), arrival, Some(role), None),
    }
}
