//! What a statement hands to the committer.

use std::sync::Arc;

use bytes::Bytes;
use kalamdb_commons::Error;
use kalamdb_commons::ids::{CommitTime, Incarnation, RowId, SchemaVersion};
use kalamdb_store::keys::ChangeKind;

use super::locks::Held;
use crate::audit::Entry;
use crate::partition::Partition;

/// A value of a unique key, in its canonical bytes.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct KeyValue {
    /// The key's number within its table.
    pub(crate) key: u32,
    /// The values of its columns.
    pub(crate) bytes: Vec<u8>,
}

/// The version of a row that a statement saw and replaces.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Seen {
    /// Its `_updated`.
    pub(crate) updated: CommitTime,
    /// The `_updated` of the row's INSERT.
    pub(crate) born: CommitTime,
}

/// One version to write.
#[derive(Debug, Clone)]
pub(crate) struct Change {
    /// Where.
    pub(crate) partition: Arc<Partition>,
    /// Which row.
    pub(crate) row: RowId,
    /// What it replaces; `None` for an INSERT.
    pub(crate) replaces: Option<Seen>,
    /// The encoded row, a deletion's with the row's last values. The committer writes the times into it.
    pub(crate) value: Vec<u8>,
    /// The encoded version that it replaces, if that one is cold: the change log must lead to it, and the hot tier has
    /// it no longer.
    pub(crate) before: Option<Vec<u8>>,
    /// Whether it deletes the row.
    pub(crate) deletes: bool,
    /// All unique keys that the new version holds. Empty for deletions.
    pub(crate) keys: Vec<KeyValue>,
    /// Keys that the old version held and the new one does not.
    pub(crate) freed: Vec<KeyValue>,
}

impl Change {
    pub(crate) fn kind(&self) -> ChangeKind {
        match (self.deletes, self.replaces) {
            (true, _) => ChangeKind::Delete,
            (false, Some(_)) => ChangeKind::Update,
            (false, None) => ChangeKind::Insert,
        }
    }
}

/// The schema that a statement was planned with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct PlannedWith {
    /// Which life of which table.
    pub(crate) incarnation: Incarnation,
    /// Its schema version then.
    pub(crate) version: SchemaVersion,
}

/// What rides in a commit beside rows.
#[derive(Debug, Default, Clone)]
pub(crate) struct Riders {
    /// System records: idempotency.
    pub(crate) records: Vec<(Bytes, Bytes)>,
    /// Entries of the audit log. They get their numbers and seals when it is sure that they are committed.
    pub(crate) audit: Vec<Entry>,
}

impl Riders {
    pub(crate) fn is_empty(&self) -> bool {
        self.records.is_empty() && self.audit.is_empty()
    }

    pub(crate) fn extend(&mut self, more: Self) {
        self.records.extend(more.records);
        self.audit.extend(more.audit);
    }
}

/// A statement's or a transaction's writes: all of them or none.
#[derive(Debug, Default)]
pub(crate) struct Write {
    /// The tables written to.
    pub(crate) planned_with: Vec<PlannedWith>,
    /// The versions, each row at most once.
    pub(crate) changes: Vec<Change>,
    /// What goes along in the same commit.
    pub(crate) riders: Riders,
    /// The statement's locks. They travel with the write, so that they are held until it is published even if whoever
    /// waits for it goes away.
    pub(crate) held: Vec<Held>,
}

/// What was committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Receipt {
    /// The `_updated` of the first change; the others follow without a gap, in the order given.
    pub(crate) first: CommitTime,
}

/// Why nothing was written.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// Another commit changed one of the rows first.
    RowsChanged,
    /// A table has a newer schema, or is gone.
    SchemaChanged,
    /// Anything else.
    Failed(Error),
}

impl From<Error> for Refusal {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}
