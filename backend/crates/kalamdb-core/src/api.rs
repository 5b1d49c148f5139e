//! What the server says to the engine and hears back: requests, outcomes, accounts. No HTTP words here.

use arrow::array::RecordBatch;
use bytes::Bytes;
use futures::stream::BoxStream;
use kalamdb_auth::sessions::SessionId;
use kalamdb_commons::Result;
use kalamdb_commons::ids::UserId;
use kalamdb_commons::schema::{Actor, Role};
use kalamdb_commons::types::SchemaRef;
use serde::Serialize;

/// One SQL request: one or several statements.
#[derive(Debug, Clone)]
pub struct SqlRequest {
    /// Who runs it.
    pub actor: Actor,
    /// The text.
    pub sql: String,
    /// The values of `$1..$n`, numbered over the whole request.
    pub params: Vec<Param>,
    /// The namespace of unqualified names.
    pub namespace: Option<String>,
    /// AS USER for all of it.
    pub as_user: Option<String>,
    /// For the log, the audit and internal errors.
    pub request_id: String,
    /// Where it came from, for the audit.
    pub address: Option<String>,
    /// Makes the request safe to repeat.
    pub idempotency: Option<IdempotencyKey>,
}

/// An import into one table.
#[derive(Debug, Clone)]
pub struct ImportRequest {
    /// Who sends it.
    pub actor: Actor,
    /// AS USER.
    pub as_user: Option<String>,
    /// `namespace.table`, or `table` in the default namespace, as it would be written in SQL.
    pub table: String,
    /// For the audit.
    pub request_id: String,
    /// Where it came from, for the audit.
    pub address: Option<String>,
    /// Makes the import safe to repeat: rows that an earlier attempt brought in are passed over.
    pub idempotency: Option<IdempotencyKey>,
}

/// The value of a parameter.
#[derive(Debug, Clone, PartialEq)]
pub enum Param {
    /// NULL.
    Null,
    /// BOOLEAN.
    Boolean(bool),
    /// A number as it was written.
    Number(serde_json::Number),
    /// Text.
    Text(String),
}

/// A client's name for one request, and what it asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdempotencyKey {
    /// The client's key.
    pub key: String,
    /// SHA-256 of the request: the same key with another request is an error.
    pub request_hash: [u8; 32],
}

/// What is known of an idempotency key.
#[derive(Debug)]
pub enum Replay {
    /// Not carried out to its end yet: run the request, and hold the claim until the answer is stored.
    Fresh(crate::IdempotencyClaim),
    /// Carried out before.
    Answer {
        /// The HTTP-independent status number that was stored.
        status: u16,
        /// The body.
        body: Bytes,
    },
}

/// What a data-changing statement did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    /// INSERT.
    Insert,
    /// UPDATE.
    Update,
    /// DELETE.
    Delete,
}

impl Verb {
    /// In lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
        }
    }
}

/// The outcome of one statement.
pub struct Outcome {
    /// What it gave.
    pub result: OutcomeResult,
    /// Whose partition it ran in.
    pub as_user: UserId,
}

/// What a statement gave.
pub enum OutcomeResult {
    /// A result set.
    Rows(Rows),
    /// INSERT, UPDATE or DELETE.
    Affected {
        /// Which of them.
        verb: Verb,
        /// Rows affected.
        rows: u64,
        /// The rows of RETURNING.
        returning: Option<Rows>,
    },
    /// Anything else.
    Done {
        /// A sentence.
        message: String,
    },
}

/// A result set, streaming.
pub struct Rows {
    /// Its columns; fields carry `kalamdb.type` where Arrow's type does not say enough.
    pub schema: SchemaRef,
    /// What is known of each column.
    pub flags: Vec<ColumnFlags>,
    /// The rows. Dropping the stream cancels the statement.
    pub batches: BoxStream<'static, Result<RecordBatch>>,
}

/// The flags of a result column.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ColumnFlags {
    /// Part of the primary key.
    pub primary_key: bool,
    /// NOT NULL.
    pub not_null: bool,
    /// UNIQUE.
    pub unique: bool,
}

/// A job that somebody wants done.
#[derive(Debug, Clone)]
pub struct JobRequest {
    /// Who is authenticated.
    pub actor: Actor,
    /// The kind of job.
    pub job_type: String,
    /// Its parameters.
    pub params: serde_json::Value,
    /// Under which they may ask again, and get the first answer.
    pub idempotency_key: Option<String>,
    /// The request.
    pub request_id: String,
    /// Where it came from.
    pub address: Option<String>,
}

/// Where a request came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The address that failures are counted by.
    pub address: String,
    /// Whether it is certain that the request was made on the server's own machine.
    pub is_local: bool,
}

/// What setting up a server takes.
#[derive(Clone)]
pub struct Setup {
    /// The first account of a person.
    pub user: String,
    /// Its password.
    pub password: String,
    /// The password that `root` gets.
    pub root_password: String,
    /// The account's address.
    pub email: Option<String>,
}

/// What an access token gave: who may act, until when, and what may end it before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// Who.
    pub actor: Actor,
    /// Until when, ms since 1970.
    pub expires_at_ms: i64,
    pub(crate) generation: u64,
    pub(crate) session: SessionId,
}

/// An account as its owner may see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserInfo {
    /// Its id.
    pub id: UserId,
    /// Its role.
    pub role: Role,
    /// Its address.
    pub email: Option<String>,
    /// When it was created, ms since 1970.
    pub created_at_ms: i64,
    /// When it was changed last, ms since 1970.
    pub updated_at_ms: i64,
}

/// A successful login.
#[derive(Debug, Clone)]
pub struct Login {
    /// Who.
    pub user: UserInfo,
    /// The bearer token of requests.
    pub access_token: String,
    /// Until when it is good, ms since 1970.
    pub expires_at_ms: i64,
    /// The token that gives a new one.
    pub refresh_token: String,
    /// Until when that is good, ms since 1970.
    pub refresh_expires_at_ms: i64,
}
