//! The one public error.
//!
//! Crates keep rich errors of their own inside; what crosses a crate boundary upwards is an [`Error`]: a kind
//! that says what the caller must do, a message for people, and the source for the log. HTTP status, wire code
//! and retry advice are derived from the kind by the server, in one place.

use std::borrow::Cow;

/// The result of everything that can fail across a crate boundary.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong, as far as the caller must act differently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The text is not SQL that we understand, or uses a clause that is not implemented. Change the statement.
    InvalidSql,
    /// The request holds no statement.
    EmptySql,
    /// A parameter is missing, surplus, too large or of the wrong type.
    InvalidParameter,
    /// A name, option or value is not allowed. The message says what is.
    InvalidInput,
    /// The statement is understood and failed on the data: a violated constraint, a failed cast, an overflow.
    Execution,
    /// The object is absent, or hidden from the actor: the two are one answer.
    NotFound,
    /// An object of that name exists.
    AlreadyExists,
    /// The actor may not do this.
    PermissionDenied,
    /// Credentials are missing.
    MissingAuthorization,
    /// Credentials are wrong.
    InvalidCredentials,
    /// The token was right once. Log in again.
    TokenExpired,
    /// A new password is too easy to guess. The message says which rule it breaks.
    WeakPassword,
    /// The server's first account has not been taken into possession yet: set it up first.
    SetupRequired,
    /// Another transaction changed the same rows first. Run the transaction again.
    Conflict,
    /// The statement, body or result is over a limit. Split it.
    TooLarge,
    /// Too many requests from this caller. Wait.
    RateLimited,
    /// The server cannot take this now: a queue is full, the hot tier is at its limit, or the store is
    /// reopening after a failed sync. Try again later.
    Overloaded,
    /// The statement ran longer, or held its snapshot longer, than the settings allow.
    Timeout,
    /// The client went away, or the job was killed.
    Cancelled,
    /// The commit may or may not have become durable: the disk refused to say. Read before trying again.
    OutcomeUnknown,
    /// Stored data is damaged or missing. Nothing that depends on it is answered until it is repaired.
    Corrupt,
    /// Reading or writing storage failed.
    Io,
    /// Ours. The message is for the log only.
    Internal,
}

/// An error: its kind, a message for people, and what caused it.
#[derive(Debug, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: Cow<'static, str>,
    retry_after_seconds: Option<u32>,
    #[source]
    source: Option<Box<dyn std::error::Error + Send + Sync>>,
}

impl Error {
    /// An error without a cause.
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into(), retry_after_seconds: None, source: None }
    }

    /// The same with its cause, which goes to the log and never to a client.
    #[must_use]
    pub fn with_source(mut self, source: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        self.source = Some(source.into());
        self
    }

    /// Too much from this caller; after so many seconds it may try again.
    pub fn rate_limited(message: impl Into<Cow<'static, str>>, retry_after_seconds: u32) -> Self {
        let retry_after_seconds = Some(retry_after_seconds.max(1));
        Self { retry_after_seconds, ..Self::new(ErrorKind::RateLimited, message) }
    }

    /// The same error, of which it is known when to try again.
    #[must_use]
    pub fn with_retry_after_seconds(self, seconds: u32) -> Self {
        Self { retry_after_seconds: Some(seconds.max(1)), ..self }
    }

    /// When to try again, if that is known.
    pub fn retry_after_seconds(&self) -> Option<u32> {
        self.retry_after_seconds
    }

    /// What the caller must do.
    pub fn kind(&self) -> ErrorKind {
        self.kind
    }

    /// The sentence for people.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The same error with words before its message.
    #[must_use]
    pub fn context(mut self, before: impl std::fmt::Display) -> Self {
        self.message = format!("{before}: {}", self.message).into();
        self
    }
}

macro_rules! shorthands {
    ($($(#[$doc:meta])* $name:ident => $kind:ident),* $(,)?) => {
        impl Error {
            $($(#[$doc])* pub fn $name(message: impl Into<Cow<'static, str>>) -> Self {
                Self::new(ErrorKind::$kind, message)
            })*
        }
    };
}

shorthands! {
    /// [`ErrorKind::InvalidSql`].
    invalid_sql => InvalidSql,
    /// [`ErrorKind::InvalidParameter`].
    invalid_parameter => InvalidParameter,
    /// [`ErrorKind::InvalidInput`].
    invalid_input => InvalidInput,
    /// [`ErrorKind::Execution`].
    execution => Execution,
    /// [`ErrorKind::NotFound`].
    not_found => NotFound,
    /// [`ErrorKind::AlreadyExists`].
    already_exists => AlreadyExists,
    /// [`ErrorKind::PermissionDenied`].
    permission_denied => PermissionDenied,
    /// [`ErrorKind::Conflict`].
    conflict => Conflict,
    /// [`ErrorKind::TooLarge`].
    too_large => TooLarge,
    /// [`ErrorKind::Overloaded`].
    overloaded => Overloaded,
    /// [`ErrorKind::Timeout`].
    timeout => Timeout,
    /// [`ErrorKind::Corrupt`].
    corrupt => Corrupt,
    /// [`ErrorKind::Io`].
    io => Io,
    /// [`ErrorKind::Internal`].
    internal => Internal,
}
