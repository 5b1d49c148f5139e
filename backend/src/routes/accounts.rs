//! Logging in and out, and who one is. Errors here have the shape `{error, message}`.

use actix_web::{HttpRequest, HttpResponse, web};
use chrono::{DateTime, SecondsFormat};
use kalamdb_commons::schema::Role;
use kalamdb_commons::{Error, Result};
use kalamdb_core::api::{Login, Setup, UserInfo};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::{answer, raw, waiting};
use crate::answer::JSON;
use crate::app::{App, Arrival, Body, bearer, origin};
use crate::errors::{account_status_and_word, retry_after_seconds};
use crate::shapes;

/// The most bytes of a request here.
const BODY_BYTES_MAX: usize = 64 * 1024;

#[derive(Deserialize)]
struct Credentials {
    #[serde(alias = "username")]
    user: String,
    password: String,
}

/// `POST /v1/api/auth/login`.
#[utoipa::path(
    post, path = "/v1/api/auth/login", operation_id = "login", tag = "accounts",
    request_body = shapes::LoginRequest,
    responses(
        (status = 200, description = "Tokens.", body = shapes::LoginAnswer),
        (status = 400, description = "The body is not of this shape.", body = shapes::AccountError),
        (status = 401, description = "Unknown user or wrong password, which are one answer.", body = shapes::AccountError),
        (status = 428, description = "The server waits to be set up.", body = shapes::AccountError),
        (status = 429, description = "Too many failures; try again after Retry-After.", body = shapes::AccountError),
        (status = 503, description = "Overloaded or stopping; try again after Retry-After.", body = shapes::AccountError)
    )
)]
pub(super) async fn login(app: web::Data<App>, request: HttpRequest, payload: web::Payload) -> HttpResponse {
    let arrival = Arrival::of(&request);
    let outcome = async {
        app.check_connection(&request)?;
        let Credentials { user, password } = read(&request, payload, r#"{"user": ..., "password": ...}"#).await?;
        let (engine, origin) = (app.engine.clone(), origin(&request));
        app.on_engine(async move { engine.login(&user, &password, &origin).await }).await
    };
    respond(outcome.await.map(|login| logged_in(&login)), &arrival)
}

/// `POST /v1/api/auth/refresh`: the bearer is the refresh token.
#[utoipa::path(
    post, path = "/v1/api/auth/refresh", operation_id = "refresh", tag = "accounts", security(("bearer" = [])),
    responses(
        (status = 200, description = "New tokens; the bearer is the refresh token.", body = shapes::LoginAnswer),
        (status = 401, description = "A token that is used up, or no longer good.", body = shapes::AccountError),
        (status = 429, description = "Too many failures; try again after Retry-After.", body = shapes::AccountError),
        (status = 503, description = "Overloaded or stopping; try again after Retry-After.", body = shapes::AccountError)
    )
)]
pub(super) async fn refresh(app: web::Data<App>, request: HttpRequest) -> HttpResponse {
    let arrival = Arrival::of(&request);
    let outcome = async {
        app.check_connection(&request)?;
        let token = bearer(&request)?.to_owned();
        let engine = app.engine.clone();
        app.on_engine(async move { engine.refresh(&token).await }).await
    };
    respond(outcome.await.map(|login| logged_in(&login)), &arrival)
}

/// `GET /v1/api/auth/status`.
#[utoipa::path(
    get, path = "/v1/api/auth/status", operation_id = "status", tag = "accounts",
    responses(
        (status = 200, description = "Whether the server waits to be set up.", body = shapes::SetupStatus),
        (status = 503, description = "Overloaded or stopping; try again after Retry-After.", body = shapes::AccountError)
    )
)]
pub(super) async fn status(app: web::Data<App>) -> HttpResponse {
    let needs_setup = app.engine.needs_setup();
    let message = if needs_setup { "The server waits to be set up" } else { "The server is set up" };
    answer(200, &json!({"needs_setup": needs_setup, "message": message}))
}

#[derive(Deserialize)]
struct SetupBody {
    #[serde(alias = "username")]
    user: String,
    password: String,
    root_password: String,
    email: Option<String>,
}

/// `POST /v1/api/auth/setup`.
#[utoipa::path(
    post, path = "/v1/api/auth/setup", operation_id = "setup", tag = "accounts",
    request_body = shapes::SetupRequest,
    responses(
        (status = 200, description = "The server is set up.", body = shapes::SetupAnswer),
        (status = 400, description = "A weak password, or a body that is not of this shape.", body = shapes::AccountError),
        (status = 403, description = "From another machine.", body = shapes::AccountError),
        (status = 409, description = "It is set up already.", body = shapes::AccountError),
        (status = 429, description = "Too many failures; try again after Retry-After.", body = shapes::AccountError),
        (status = 503, description = "Overloaded or stopping; try again after Retry-After.", body = shapes::AccountError)
    )
)]
pub(super) async fn setup(app: web::Data<App>, request: HttpRequest, payload: web::Payload) -> HttpResponse {
    let arrival = Arrival::of(&request);
    let outcome = async {
        app.check_connection(&request)?;
        let shape = r#"{"user": ..., "password": ..., "root_password": ..., "email"?: ...}"#;
        let SetupBody { user, password, root_password, email } = read(&request, payload, shape).await?;
        let (engine, origin) = (app.engine.clone(), origin(&request));
        let setup = Setup { user, password, root_password, email };
        app.on_engine(async move { engine.set_up(&setup, &origin).await }).await
    };
    let outcome = outcome.await.map(|user| {
        let message = format!("The server is set up: log in as {}", user.id);
        json!({"user": user_json(&user), "message": message})
    });
    respond(outcome, &arrival)
}

/// A body, which must be JSON of this shape. No complaint repeats what is in it: there are passwords.
async fn read<T: DeserializeOwned>(request: &HttpRequest, payload: web::Payload, shape: &str) -> Result<T> {
    let body = Body::new(request, payload, BODY_BYTES_MAX)?.whole().await?;
    serde_json::from_slice(&body).map_err(|cause| {
        let (line, column) = (cause.line(), cause.column());
        Error::invalid_input(format!("the body must be {shape}; it is not, at line {line}, column {column}"))
    })
}

/// `GET /v1/api/auth/me`.
#[utoipa::path(
    get, path = "/v1/api/auth/me", operation_id = "me", tag = "accounts", security(("bearer" = [])),
    responses(
        (status = 200, description = "Who one is.", body = shapes::MeAnswer),
        (status = 401, description = "No token, or one that is no longer good.", body = shapes::AccountError),
        (status = 429, description = "Too many failures; try again after Retry-After.", body = shapes::AccountError),
        (status = 503, description = "Overloaded or stopping; try again after Retry-After.", body = shapes::AccountError)
    )
)]
pub(super) async fn me(app: web::Data<App>, request: HttpRequest) -> HttpResponse {
    let outcome = app.authenticate(&request).and_then(|actor| {
        let user = app.engine.user_info(&actor.user).ok_or_else(kalamdb_auth::invalid_credentials)?;
        Ok(json!({"user": user_json(&user), "admin_ui_access": is_admin(user.role)}))
    });
    respond(outcome, &Arrival::of(&request))
}

/// `POST /v1/api/auth/logout`: the bearer is an access or refresh token, and its session ends.
#[utoipa::path(
    post, path = "/v1/api/auth/logout", operation_id = "logout", tag = "accounts", security(("bearer" = [])),
    responses(
        (status = 200, description = "The session is ended.", body = shapes::Message),
        (status = 401, description = "No token, or one that is no longer good.", body = shapes::AccountError),
        (status = 429, description = "Too many failures; try again after Retry-After.", body = shapes::AccountError),
        (status = 503, description = "Overloaded or stopping; try again after Retry-After.", body = shapes::AccountError)
    )
)]
pub(super) async fn logout(app: web::Data<App>, request: HttpRequest) -> HttpResponse {
    let arrival = Arrival::of(&request);
    let outcome = async {
        app.check_connection(&request)?;
        let token = bearer(&request)?.to_owned();
        let engine = app.engine.clone();
        app.on_engine(async move { engine.logout(&token).await }).await
    };
    respond(outcome.await.map(|()| json!({"message": "Logged out"})), &arrival)
}

fn respond(outcome: Result<Value>, arrival: &Arrival) -> HttpResponse {
    match outcome {
        Ok(body) => answer(200, &body),
        Err(error) => refusal(&error, arrival),
    }
}

/// An error in the shape of these endpoints.
pub(super) fn refusal(error: &Error, arrival: &Arrival) -> HttpResponse {
    let (status, word) = account_status_and_word(error.kind());
    let message = arrival.audience(None).message(error);
    let body = json!({"error": word, "message": message}).to_string();
    waiting(raw(status, JSON, body), retry_after_seconds(error))
}

fn logged_in(login: &Login) -> Value {
    json!({
        "user": user_json(&login.user),
        "admin_ui_access": is_admin(login.user.role),
        "expires_at": rfc3339(login.expires_at_ms),
        "access_token": login.access_token,
        "refresh_token": login.refresh_token,
        "refresh_expires_at": rfc3339(login.refresh_expires_at_ms),
    })
}

fn user_json(user: &UserInfo) -> Value {
    let mut told = json!({
        "id": user.id.as_str(),
        "role": user.role.as_str(),
        "created_at": rfc3339(user.created_at_ms),
        "updated_at": rfc3339(user.updated_at_ms),
    });
    if let Some(email) = &user.email {
        told["email"] = json!(email);
    }
    told
}

fn is_admin(role: Role) -> bool {
    role >= Role::Dba
}

fn rfc3339(ms: i64) -> String {
    DateTime::from_timestamp_millis(ms).unwrap_or_default().to_rfc3339_opts(SecondsFormat::Millis, true)
}

#[cfg(test)]
mod tests;
