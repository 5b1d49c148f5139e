//! Logging in and out, and who one is. Errors here have the shape `{error, message}`.

use actix_web::{HttpRequest, HttpResponse, web};
use chrono::{DateTime, SecondsFormat};
use kalamdb_commons::schema::Role;
use kalamdb_commons::{Error, Result};
use kalamdb_core::api::{Login, UserInfo};
use serde::Deserialize;
use serde_json::{Value, json};

use super::answer;
use crate::app::{App, Arrival, Body, bearer};
use crate::errors::{account_word, status_and_code};

/// The most bytes of a request here.
const BODY_BYTES_MAX: usize = 64 * 1024;

#[derive(Deserialize)]
struct Credentials {
    #[serde(alias = "username")]
    user: String,
    password: String,
}

/// `POST /v1/api/auth/login`.
pub(super) async fn login(app: web::Data<App>, request: HttpRequest, payload: web::Payload) -> HttpResponse {
    let arrival = app.arrival();
    let outcome = async {
        let body = Body::new(&request, payload, BODY_BYTES_MAX)?.whole().await?;
        let Credentials { user, password } = serde_json::from_slice(&body).map_err(|cause| {
            Error::invalid_input(format!("the body must be {{\"user\": ..., \"password\": ...}}: {cause}"))
        })?;
        let _turn = app.admit_login().await?;
        let engine = app.engine.clone();
        app.on_engine(async move { engine.login(&user, &password).await }).await
    };
    respond(outcome.await.map(|login| logged_in(&login)), &arrival)
}

/// `POST /v1/api/auth/refresh`: the bearer is the refresh token.
pub(super) async fn refresh(app: web::Data<App>, request: HttpRequest) -> HttpResponse {
    let arrival = app.arrival();
    let outcome = async {
        let token = bearer(&request)?.to_owned();
        let engine = app.engine.clone();
        app.on_engine(async move { engine.refresh(&token).await }).await
    };
    respond(outcome.await.map(|login| logged_in(&login)), &arrival)
}

/// `GET /v1/api/auth/status`. The first start makes `root`, so nothing is ever left to set up.
pub(super) async fn status() -> HttpResponse {
    answer(200, &json!({"needs_setup": false, "message": "The server is set up"}))
}

/// `POST /v1/api/auth/setup`.
pub(super) async fn setup() -> HttpResponse {
    answer(409, &json!({"error": "already_configured", "message": "The server is set up: log in as root"}))
}

/// `GET /v1/api/auth/me`.
pub(super) async fn me(app: web::Data<App>, request: HttpRequest) -> HttpResponse {
    let outcome = app.authenticate(&request).and_then(|actor| {
        let user = app.engine.user_info(&actor.user).ok_or_else(kalamdb_auth::invalid_credentials)?;
        Ok(json!({"user": user_json(&user), "admin_ui_access": is_admin(user.role)}))
    });
    respond(outcome, &app.arrival())
}

/// `POST /v1/api/auth/logout`. Tokens are not kept here: the client forgets its own.
pub(super) async fn logout(app: web::Data<App>, request: HttpRequest) -> HttpResponse {
    let outcome = app.authenticate(&request).map(|_| json!({"message": "Logged out"}));
    respond(outcome, &app.arrival())
}

fn respond(outcome: Result<Value>, arrival: &Arrival) -> HttpResponse {
    match outcome {
        Ok(body) => answer(200, &body),
        Err(error) => {
            let (status, _) = status_and_code(error.kind());
            let message = arrival.audience(None).message(&error);
            answer(status, &json!({"error": account_word(error.kind()), "message": message}))
        }
    }
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
