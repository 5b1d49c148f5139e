//! The shapes of requests and answers, for the OpenAPI document: they are read by it and by nothing else. A test holds
//! real answers against them.
#![expect(dead_code, reason = "only the shapes are used")]

use serde_json::Value;
use utoipa::ToSchema;

/// One SQL request: one or several statements, carried out in order.
#[derive(ToSchema)]
pub(crate) struct SqlRequest {
    /// The statements.
    sql: String,
    /// The values of `$1..$n`: null, booleans, numbers, strings.
    params: Option<Vec<Value>>,
    /// The namespace of names without one.
    namespace_id: Option<String>,
    /// AS USER for the whole request.
    #[schema(rename = "impersonationContext")]
    impersonation_context: Option<ImpersonationContext>,
}

/// Whom a request is for.
#[derive(ToSchema)]
#[schema(rename_all = "camelCase")]
pub(crate) struct ImpersonationContext {
    /// The user.
    subject_user_id: String,
}

/// The answer to an SQL request. Fields come in any order.
#[derive(ToSchema)]
pub(crate) struct SqlAnswer {
    /// `success` or `error`.
    status: Status,
    /// One for each statement that was carried out.
    results: Vec<StatementResult>,
    /// Milliseconds.
    took: f64,
    /// What all of its statements have cost, the one that failed too: counters, and milliseconds.
    stats: Value,
    /// Why not everything was done.
    error: Option<ErrorDetail>,
}

/// A job that is wanted.
#[derive(ToSchema)]
pub(crate) struct JobRequest {
    /// The kind of job.
    job_type: String,
    /// Its parameters.
    params: Option<Value>,
    /// With the same one, the first answer is given again.
    idempotency_key: Option<String>,
}

/// A job that was taken in.
#[derive(ToSchema)]
pub(crate) struct JobAnswer {
    /// As in `system.jobs`.
    job_id: String,
    /// `queued`, or what has become of it by now.
    status: String,
}

/// How a request ended.
#[derive(ToSchema)]
#[schema(rename_all = "lowercase")]
pub(crate) enum Status {
    /// All of it was done.
    Success,
    /// Not all of it was.
    Error,
}

/// What a statement gave.
#[derive(ToSchema)]
pub(crate) struct StatementResult {
    /// The columns.
    schema: Option<Vec<ColumnShape>>,
    /// The rows: arrays of cells in the order of the columns.
    rows: Option<Vec<Vec<Value>>>,
    /// Rows that were returned or changed.
    row_count: u64,
    /// A sentence.
    message: Option<String>,
    /// Whose partition it ran in.
    as_user: String,
}

/// A column of a result.
#[derive(ToSchema)]
pub(crate) struct ColumnShape {
    /// Its name.
    name: String,
    /// Its type: a word such as `BigInt`, or an object such as `{"Decimal": {"precision": 10, "scale": 2}}`.
    data_type: Value,
    /// Its place, from 0.
    index: u64,
    /// `pk`, `nn`, `uq`.
    flags: Option<Vec<String>>,
}

/// An error.
#[derive(ToSchema)]
pub(crate) struct ErrorDetail {
    /// A word for programs, such as `INVALID_SQL`.
    code: String,
    /// A sentence for people.
    message: String,
    /// More, such as which rows of an import are in.
    details: Option<String>,
}

/// What an import did.
#[derive(ToSchema)]
pub(crate) struct ImportAnswer {
    /// Rows that are in.
    row_count: u64,
    /// Milliseconds.
    took: f64,
}

/// Who logs in.
#[derive(ToSchema)]
pub(crate) struct LoginRequest {
    /// The user; `username` is accepted too.
    user: String,
    /// The password.
    password: String,
}

/// An account, as its owner sees it.
#[derive(ToSchema)]
pub(crate) struct AccountShape {
    /// Its id.
    id: String,
    /// `user`, `service`, `dba` or `system`.
    role: String,
    /// An address.
    email: Option<String>,
    /// RFC 3339.
    created_at: String,
    /// RFC 3339.
    updated_at: String,
}

/// Tokens.
#[derive(ToSchema)]
pub(crate) struct LoginAnswer {
    /// Whose they are.
    user: AccountShape,
    /// Whether the account is `dba` or above.
    admin_ui_access: bool,
    /// Until when the access token is good, RFC 3339.
    expires_at: String,
    /// The bearer of requests.
    access_token: String,
    /// The bearer of `/v1/api/auth/refresh`, once.
    refresh_token: Option<String>,
    /// Until when that is good, RFC 3339.
    refresh_expires_at: Option<String>,
}

/// Who one is.
#[derive(ToSchema)]
pub(crate) struct MeAnswer {
    /// The account.
    user: AccountShape,
    /// Whether it is `dba` or above.
    admin_ui_access: bool,
}

/// Taking a new server into possession.
#[derive(ToSchema)]
pub(crate) struct SetupRequest {
    /// The first account of a person.
    user: String,
    /// Its password.
    password: String,
    /// The password that `root` gets.
    root_password: String,
    /// An address.
    email: Option<String>,
}

/// A server that is set up.
#[derive(ToSchema)]
pub(crate) struct SetupAnswer {
    /// The account.
    user: AccountShape,
    /// A sentence.
    message: String,
}

/// Whether a server waits to be set up.
#[derive(ToSchema)]
pub(crate) struct SetupStatus {
    /// Whether it does.
    needs_setup: bool,
    /// A sentence.
    message: String,
}

/// A sentence.
#[derive(ToSchema)]
pub(crate) struct Message {
    /// The sentence.
    message: String,
}

/// An error of the endpoints of accounts.
#[derive(ToSchema)]
pub(crate) struct AccountError {
    /// A word for programs, such as `unauthorized`.
    error: String,
    /// A sentence for people.
    message: String,
}

/// A process that answers.
#[derive(ToSchema)]
pub(crate) struct HealthAnswer {
    /// `healthy`.
    status: String,
    /// `v1`.
    api_version: String,
    /// The server's version.
    version: String,
}

/// Whether a server should be sent requests.
#[derive(ToSchema)]
pub(crate) struct ReadyAnswer {
    /// `ready`, `draining` or `unready`.
    status: String,
    /// Why it should not.
    reason: Option<String>,
}
