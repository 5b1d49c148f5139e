//! What can go wrong in the hot tier, with the facts that a decision needs, and what of it crosses upward.

use std::path::PathBuf;

use kalamdb_commons::{Error, ErrorKind};

use crate::shard::OwnerToken;

/// The result of everything in this crate.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// An error of the hot tier.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The commit carried a token that is not the current one: another owner has opened the shard since.
    #[error("shard {} is owned by epoch {}, the commit came from epoch {}", .current.shard.0, .current.epoch, .given.epoch)]
    Fenced {
        /// What the commit carried.
        given: OwnerToken,
        /// Who owns the shard.
        current: OwnerToken,
    },
    /// An earlier write failed in a way that leaves the log in doubt. Nothing was written now; reads go on, and
    /// [`reopen`](crate::ShardStore::reopen) is the way back.
    #[error("writes are refused until the store has reopened: {cause}")]
    Poisoned {
        /// What failed first.
        cause: String,
    },
    /// The write failed at or after the point where it may have become durable. The store is poisoned from here on.
    #[error("the write may or may not have become durable: {cause}")]
    OutcomeUnknown {
        /// What failed.
        cause: String,
    },
    /// Another process, or another store in this one, holds the directory.
    #[error("the data directory {} is in use by another server", .path.display())]
    Locked {
        /// The directory.
        path: PathBuf,
    },
    /// The store was closed, or is between closing and opening again.
    #[error("the store is closed")]
    Closed,
    /// The snapshot did not outlive a reopening of the store. Take a new one.
    #[error("the snapshot was lost when the store reopened")]
    SnapshotLost,
    /// Scrubbed keys are gone for new snapshots, but older snapshots still hold their bytes. Scrub again when
    /// their readers are done.
    #[error("{snapshots} snapshots taken before the removal still hold the bytes")]
    SnapshotsHeld {
        /// How many.
        snapshots: usize,
    },
    /// The disk is full.
    #[error("the disk is full while {doing}: {cause}")]
    DiskFull {
        /// What was being done.
        doing: &'static str,
        /// The store's own words.
        cause: String,
    },
    /// Stored bytes are not what was written.
    #[error("damaged data: {what}")]
    Corrupt {
        /// Where, and what is wrong with it.
        what: String,
    },
    /// The store was written by a newer build.
    #[error(
        "the data in {} has version {found}, and this server reads versions up to {known}: a newer server has written it. \
         Start that one again, or restore a backup from before; nothing was changed", .path.display()
    )]
    FormatTooNew {
        /// The directory.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The newest that this build knows.
        known: u64,
    },
    /// The store was written by a build that is too old.
    #[error(
        "the data in {} has version {found}, and this server reads versions from {oldest}: upgrade it with the servers in \
         between, one after the other; nothing was changed", .path.display()
    )]
    FormatTooOld {
        /// The directory.
        path: PathBuf,
        /// Its format.
        found: u64,
        /// The oldest that this build knows.
        oldest: u64,
    },
    /// A value of an old schema version does not convert to the column's type of today.
    #[error("column '{column}': a {from} value cannot be read as {to}: {cause}")]
    Convert {
        /// The column.
        column: String,
        /// The type it was written with.
        from: String,
        /// The type it has now.
        to: String,
        /// Why not.
        cause: String,
    },
    /// More than the format can hold: a row, or the text of one decoded batch, above 2 GiB.
    #[error("{what} is too large for the hot tier")]
    TooLarge {
        /// What is.
        what: &'static str,
    },
    /// The caller's arrays or projection do not fit the schema.
    #[error("schema mismatch: {what}")]
    Schema {
        /// How.
        what: String,
    },
    /// Reading or writing failed.
    #[error("{doing} failed: {cause}")]
    Io {
        /// What was being done.
        doing: &'static str,
        /// The store's or the system's own words.
        cause: String,
    },
    /// A bug: a task of the store panicked, or an invariant of the library did not hold.
    #[error("internal error of the store: {what}")]
    Internal {
        /// What.
        what: String,
    },
}

impl StoreError {
    /// [`Self::Corrupt`].
    pub(crate) fn corrupt(what: impl Into<String>) -> Self {
        Self::Corrupt { what: what.into() }
    }

    /// [`Self::Schema`].
    pub(crate) fn schema(what: impl Into<String>) -> Self {
        Self::Schema { what: what.into() }
    }

    /// A failed system call: [`Self::DiskFull`] or [`Self::Io`].
    pub(crate) fn system(doing: &'static str, source: &std::io::Error) -> Self {
        let cause = source.to_string();
        if source.kind() == std::io::ErrorKind::StorageFull {
            Self::DiskFull { doing, cause }
        } else {
            Self::Io { doing, cause }
        }
    }

    fn kind(&self) -> ErrorKind {
        match self {
            Self::Fenced { .. } | Self::Poisoned { .. } | Self::Closed => ErrorKind::Overloaded,
            Self::SnapshotLost | Self::SnapshotsHeld { .. } => ErrorKind::Overloaded,
            Self::OutcomeUnknown { .. } => ErrorKind::OutcomeUnknown,
            Self::Corrupt { .. } => ErrorKind::Corrupt,
            Self::TooLarge { .. } => ErrorKind::TooLarge,
            Self::Convert { .. } => ErrorKind::Execution,
            Self::Schema { .. } | Self::Internal { .. } => ErrorKind::Internal,
            Self::Locked { .. }
            | Self::DiskFull { .. }
            | Self::FormatTooNew { .. }
            | Self::FormatTooOld { .. }
            | Self::Io { .. } => ErrorKind::Io,
        }
    }

    fn public_message(&self) -> String {
        match self {
            Self::Fenced { .. } => "another server owns this shard now; write there".to_owned(),
            Self::Poisoned { cause } if names_full_disk(cause) => {
                "the disk is full; writes are refused until there is space and the hot tier has reopened".to_owned()
            }
            Self::Poisoned { .. } => "writes are refused until the hot tier has reopened; try again".to_owned(),
            Self::OutcomeUnknown { cause } if names_full_disk(cause) => {
                "the disk is full: the write may or may not have become durable; read before trying again".to_owned()
            }
            Self::OutcomeUnknown { .. } => {
                "the write may or may not have become durable; read before trying again".to_owned()
            }
            Self::Closed | Self::SnapshotLost => "the hot tier is reopening; try again".to_owned(),
            Self::DiskFull { doing, .. } => format!("the disk is full while {doing}"),
            Self::Io { doing, .. } => format!("{doing} failed"),
            other => other.to_string(),
        }
    }
}

/// Whether the words of the system or of the store say that there is no space.
pub(crate) fn names_full_disk(cause: &str) -> bool {
    cause.contains("No space left") || cause.contains("Disk quota exceeded")
}

impl From<StoreError> for Error {
    fn from(error: StoreError) -> Self {
        Self::new(error.kind(), error.public_message()).with_source(error)
    }
}

#[cfg(test)]
mod tests;
