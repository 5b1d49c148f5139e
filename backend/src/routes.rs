//! The endpoints (wire-protocol.md, sections 1 to 3).
//!
//! | module | endpoints |
//! |---|---|
//! | [`sql`] | `/v1/api/sql` |
//! | [`import`] | `/v1/api/import` |
//! | [`accounts`] | `/v1/api/auth/...` |
//! | this one | `/health`, `/v1/api/healthcheck`, and the answer to anything else |

mod accounts;
mod import;
mod sql;

use actix_web::http::{StatusCode, header};
use actix_web::{HttpRequest, HttpResponse, web};
use kalamdb_commons::Error;
use kalamdb_commons::schema::Role;
use serde_json::{Value, json};

use crate::answer::{JSON, refusal_body};
use crate::app::Arrival;
use crate::errors::{retry_after_seconds, status_and_code};
use crate::reply::{Head, Incoming};

/// Ties the endpoints to their addresses.
pub(crate) fn configure(config: &mut web::ServiceConfig) {
    config
        .route("/health", web::get().to(health))
        .route("/v1/api/healthcheck", web::get().to(health))
        .route("/v1/api/sql", web::post().to(sql::sql))
        .route("/v1/api/import", web::post().to(import::import))
        .route("/v1/api/auth/login", web::post().to(accounts::login))
        .route("/v1/api/auth/refresh", web::post().to(accounts::refresh))
        .route("/v1/api/auth/status", web::get().to(accounts::status))
        .route("/v1/api/auth/setup", web::post().to(accounts::setup))
        .route("/v1/api/auth/me", web::get().to(accounts::me))
        .route("/v1/api/auth/logout", web::post().to(accounts::logout))
        .default_service(web::to(nowhere));
}

async fn health() -> HttpResponse {
    answer(200, &json!({"status": "healthy", "api_version": "v1", "version": env!("CARGO_PKG_VERSION")}))
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
fn refuse(error: &Error, arrival: &Arrival, role: Option<Role>, details: Option<String>) -> HttpResponse {
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
    match incoming.head().await {
        Some(Head::Whole { status, content_type, body, retry_after_seconds }) => {
            waiting(raw(status, content_type, body), retry_after_seconds)
        }
        Some(Head::Streaming { content_type }) => {
            HttpResponse::Ok().content_type(content_type).streaming(incoming.pieces())
        }
        None => refuse(&Error::internal("a request broke down without an answer"), arrival, Some(role), None),
    }
}
