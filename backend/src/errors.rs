//! What an error looks like to a client: status, code and message, derived from its kind in one table.
//!
//! Internal text never reaches a client who may not see it. The whole error, with its cause, goes to the log
//! under the request's id, and the id goes to the client.

use std::error::Error as _;

use kalamdb_auth::policy::is_told_everything;
use kalamdb_commons::schema::Role;
use kalamdb_commons::{Error, ErrorKind};

/// Said to everybody but admins about objects that are absent or hidden: one answer for both.
const NOT_AVAILABLE: &str = "Requested table is not available";

/// The status and code of each kind.
pub(crate) fn status_and_code(kind: ErrorKind) -> (u16, &'static str) {
    match kind {
        ErrorKind::InvalidSql => (400, "INVALID_SQL"),
        ErrorKind::EmptySql => (400, "EMPTY_SQL"),
        ErrorKind::InvalidParameter => (400, "INVALID_PARAMETER"),
        ErrorKind::InvalidInput | ErrorKind::WeakPassword => (400, "INVALID_INPUT"),
        ErrorKind::Execution | ErrorKind::AlreadyExists => (400, "SQL_EXECUTION_ERROR"),
        // A statement that ran out of time does so again: 503 would invite the client to repeat it.
        ErrorKind::Timeout | ErrorKind::Cancelled => (400, "SQL_EXECUTION_ERROR"),
        ErrorKind::NotFound => (400, "TABLE_NOT_FOUND"),
        ErrorKind::MissingAuthorization => (401, "MISSING_AUTHORIZATION"),
        ErrorKind::InvalidCredentials => (401, "INVALID_CREDENTIALS"),
        ErrorKind::TokenExpired => (401, "TOKEN_EXPIRED"),
        ErrorKind::SetupRequired => (428, "SETUP_REQUIRED"),
        ErrorKind::PermissionDenied => (403, "PERMISSION_DENIED"),
        ErrorKind::Conflict => (409, "CONFLICT"),
        ErrorKind::TooLarge => (413, "PAYLOAD_TOO_LARGE"),
        ErrorKind::RateLimited => (429, "RATE_LIMIT_EXCEEDED"),
        ErrorKind::Overloaded => (503, "OVERLOADED"),
        ErrorKind::OutcomeUnknown | ErrorKind::Corrupt | ErrorKind::Io | ErrorKind::Internal => (500, "INTERNAL_ERROR"),
    }
}

/// The status and `error` word of the accounts' endpoints.
pub(crate) fn account_status_and_word(kind: ErrorKind) -> (u16, String) {
    let (status, code) = status_and_code(kind);
    match kind {
        ErrorKind::MissingAuthorization | ErrorKind::InvalidCredentials | ErrorKind::TokenExpired => {
            (status, "unauthorized".to_owned())
        }
        ErrorKind::WeakPassword => (status, "weak_password".to_owned()),
        ErrorKind::RateLimited => (status, "rate_limited".to_owned()),
        // The one thing that can be there already is a server that is set up.
        ErrorKind::AlreadyExists => (409, "already_configured".to_owned()),
        _ => (status, code.to_ascii_lowercase()),
    }
}

/// After how many seconds to try again, of what may be tried again.
pub(crate) fn retry_after_seconds(error: &Error) -> Option<u32> {
    match error.kind() {
        ErrorKind::RateLimited | ErrorKind::Overloaded => Some(error.retry_after_seconds().unwrap_or(1)),
        _ => None,
    }
}

/// Who is told, and under which request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Audience<'a> {
    /// The actor's role; `None` before authentication.
    pub(crate) role: Option<Role>,
    /// The request's id.
    pub(crate) request_id: &'a str,
}

impl Audience<'_> {
    fn is_admin(self) -> bool {
        self.role.is_some_and(is_told_everything)
    }

    /// The words that this audience may read, and the whole error to the log if they are not the whole.
    pub(crate) fn message(self, error: &Error) -> String {
        let hidden = match error.kind() {
            ErrorKind::Internal => true,
            ErrorKind::Corrupt | ErrorKind::Io => !self.is_admin(),
            _ => false,
        };
        self.log(error);
        if hidden {
            format!("Internal error; the request id is {}", self.request_id)
        } else if error.kind() == ErrorKind::NotFound && !self.is_admin() {
            NOT_AVAILABLE.to_owned()
        } else {
            error.message().to_owned()
        }
    }

    fn log(self, error: &Error) {
        let (status, code) = status_and_code(error.kind());
        if status >= 500 && error.kind() != ErrorKind::Overloaded {
            tracing::error!(request_id = self.request_id, code, kind = ?error.kind(), "{}", with_causes(error));
        } else {
            tracing::debug!(request_id = self.request_id, code, kind = ?error.kind(), "{}", with_causes(error));
        }
    }
}

/// An error with what caused it, and what caused that, in one line. Says nothing twice: many causes repeat what they
/// are wrapped in.
pub(crate) fn with_causes(error: &Error) -> String {
    let mut said = vec![error.to_string()];
    let mut next = error.source();
    while let Some(cause) = next {
        let words = cause.to_string();
        match said.last_mut() {
            Some(last) if words.starts_with(last.as_str()) => *last = words,
            Some(last) if last.ends_with(&words) => {}
            _ => said.push(words),
        }
        next = cause.source();
    }
    said.join(": ").replace('\n', " ")
}

#[cfg(test)]
mod tests;
