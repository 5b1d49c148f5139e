//! Who reads a partition's change log, and from where: what lies above the oldest of these cursors is not trimmed.

use std::collections::BTreeMap;
use std::sync::Arc;

use kalamdb_commons::ids::CommitTime;

use super::Partition;

/// The cursors of a partition's readers, and how far its log is trimmed or about to be.
#[derive(Debug, Default)]
pub(super) struct LogPins {
    floor: CommitTime,
    cursors: BTreeMap<CommitTime, usize>,
}

impl LogPins {
    pub(super) fn new(trimmed: CommitTime) -> Self {
        Self { floor: trimmed, cursors: BTreeMap::new() }
    }

    /// Adds a reader, unless the log above its cursor is no longer whole.
    pub(super) fn add(&mut self, cursor: CommitTime) -> bool {
        if cursor < self.floor {
            return false;
        }
        *self.cursors.entry(cursor).or_default() += 1;
        true
    }

    pub(super) fn trim(&mut self, wanted: CommitTime) -> CommitTime {
        let oldest = self.cursors.first_key_value().map_or(wanted, |(oldest, _)| wanted.min(*oldest));
        self.floor = self.floor.max(oldest);
        oldest
    }

    /// Trimming has ended: the log is whole above the last entry that is gone.
    pub(super) fn trimmed(&mut self, last: CommitTime) {
        self.floor = last;
    }

    pub(super) fn move_pin(&mut self, from: Option<CommitTime>, to: Option<CommitTime>) {
        if let Some(to) = to {
            *self.cursors.entry(to).or_default() += 1;
        }
        let Some(from) = from else { return };
        if let Some(count) = self.cursors.get_mut(&from) {
            *count -= 1;
            if *count == 0 {
                self.cursors.remove(&from);
            }
        }
    }
}

/// The right to read the change log above a cursor. Dropping it gives the right up.
#[derive(Debug)]
pub(crate) struct LogPin {
    partition: Arc<Partition>,
    cursor: CommitTime,
}

impl LogPin {
    pub(super) fn new(partition: Arc<Partition>, cursor: CommitTime) -> Self {
        Self { partition, cursor }
    }

    /// Whose log.
    pub(crate) fn partition(&self) -> &Arc<Partition> {
        &self.partition
    }

    /// What has been read.
    pub(crate) fn cursor(&self) -> CommitTime {
        self.cursor
    }

    /// More has been read.
    pub(crate) fn advance(&mut self, to: CommitTime) {
        if to > self.cursor {
            self.partition.move_pin(Some(self.cursor), Some(to));
            self.cursor = to;
        }
    }

    /// A second right, from where this one stands.
    pub(crate) fn again(&self) -> Self {
        self.partition.move_pin(None, Some(self.cursor));
        Self { partition: self.partition.clone(), cursor: self.cursor }
    }
}

impl Drop for LogPin {
    fn drop(&mut self) {
        self.partition.move_pin(Some(self.cursor), None);
    }
}

#[cfg(test)]
mod tests;
