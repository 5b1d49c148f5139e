//! How failures below become the one public error. Messages name files relative to their storage, never where
//! the storage is on the machine.

use std::io;

use kalamdb_commons::Error;
use object_store::client::{HttpError, HttpErrorKind};

/// An error of the file system while doing `what` (a verb phrase such as "writing") to `path`.
pub(crate) fn io(what: &str, path: &str, error: io::Error) -> Error {
    match error.kind() {
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge => {
            Error::io(format!("the disk is full: {what} '{path}' failed, and what was written of it is removed"))
        }
        io::ErrorKind::AlreadyExists => {
            Error::already_exists(format!("{what} '{path}' failed: a file of that name exists"))
        }
        _ => Error::io(format!("{what} '{path}' failed: {error}")),
    }
    .with_source(error)
}

/// An error of an object store. The message says what people can do something about; the cause, for the log, is
/// without the store's own answer, because some stores repeat in it what was sent.
pub(crate) fn object(what: &str, path: &str, error: &object_store::Error) -> Error {
    match error {
        object_store::Error::AlreadyExists { .. } => {
            Error::already_exists(format!("{what} '{path}' failed: an object of that name exists"))
        }
        _ => Error::io(format!("{what} '{path}' failed: {}", reason(error))),
    }
    .with_source(Cause(without_answer(&error.to_string())))
}

/// What an object store said, for the log.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Cause(String);

fn without_answer(text: &str) -> String {
    text.split('<').next().unwrap_or_default().trim_end().to_owned()
}

/// Why a request to an object store failed, in words.
fn reason(error: &object_store::Error) -> String {
    let text = error.to_string();
    let code = text.split("<Code>").nth(1).and_then(|rest| rest.split("</Code>").next());
    match (error, code, transport(error)) {
        (_, Some("NoSuchBucket"), _) => "there is no such bucket".to_owned(),
        (object_store::Error::PermissionDenied { .. } | object_store::Error::Unauthenticated { .. }, code, _) => {
            format!("the object store refuses the credentials ({})", code.unwrap_or("no reason given"))
        }
        (_, Some(code), _) => format!("the object store answered {code}"),
        (_, None, Some(HttpErrorKind::Timeout)) => {
            "the object store did not answer in time (cold.request_timeout_seconds)".to_owned()
        }
        (_, None, Some(HttpErrorKind::Connect)) => "the object store cannot be reached".to_owned(),
        (_, None, Some(_)) => "the connection to the object store broke".to_owned(),
        (_, None, None) => match text.split("status code: ").nth(1) {
            Some(rest) => format!("the object store answered {}", rest.split(':').next().unwrap_or_default()),
            None => "the object store gives no reason".to_owned(),
        },
    }
}

/// Whether it is unknown if the store carried out a request.
pub(crate) fn is_lost(error: &object_store::Error) -> bool {
    matches!(
        transport(error),
        Some(HttpErrorKind::Timeout | HttpErrorKind::Interrupted | HttpErrorKind::Unknown | HttpErrorKind::Request)
    )
}

/// Whether the store has no such bucket: every object looks absent then.
pub(crate) fn has_no_bucket(error: &object_store::Error) -> bool {
    error.to_string().contains("NoSuchBucket")
}

/// Whether the store says that it does not understand a condition.
pub(crate) fn knows_no_conditions(error: &object_store::Error) -> bool {
    let text = error.to_string();
    let is_unknown = ["status code: 501", "status code: 400"].iter().any(|status| text.contains(status));
    is_unknown || matches!(error, object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. })
}

/// How the connection failed, if it did.
fn transport(error: &object_store::Error) -> Option<HttpErrorKind> {
    let mut next: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(cause) = next {
        if let Some(http) = cause.downcast_ref::<HttpError>() {
            return Some(http.kind());
        }
        next = cause.source();
    }
    None
}

/// A file that is not what its manifest entry or its own footer says.
pub(crate) fn corrupt(path: &str, why: impl std::fmt::Display) -> Error {
    Error::corrupt(format!("batch file '{path}' cannot be used: {why}"))
}

/// A blocking task that did not end: it panicked or the runtime is going down.
pub(crate) fn task(what: &str, path: &str, error: tokio::task::JoinError) -> Error {
    Error::internal(format!("{what} '{path}' was interrupted")).with_source(error)
}
