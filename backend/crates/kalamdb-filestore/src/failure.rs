//! How failures below become the one public error. Messages name files relative to their storage, never where
//! the storage is on the machine.

use std::io;

use kalamdb_commons::Error;

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

/// An error of an object store.
pub(crate) fn object(what: &str, path: &str, error: object_store::Error) -> Error {
    match &error {
        object_store::Error::AlreadyExists { .. } => {
            Error::already_exists(format!("{what} '{path}' failed: an object of that name exists"))
        }
        _ => Error::io(format!("{what} '{path}' failed in the object store")),
    }
    .with_source(error)
}

/// A file that is not what its manifest entry or its own footer says.
pub(crate) fn corrupt(path: &str, why: impl std::fmt::Display) -> Error {
    Error::corrupt(format!("batch file '{path}' cannot be used: {why}"))
}

/// A blocking task that did not end: it panicked or the runtime is going down.
pub(crate) fn task(what: &str, path: &str, error: tokio::task::JoinError) -> Error {
    Error::internal(format!("{what} '{path}' was interrupted")).with_source(error)
}
