//! The write set: what a statement or transaction wants to change, row by row, before it is committed.
//!
//! Each row is in it at most once: a transaction that changes a row twice writes the last version only. Statements
//! of the transaction see it laid over their snapshot, with commit times that are provisional.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use kalamdb_commons::ids::{PartitionId, RowId};
use kalamdb_commons::settings::LimitSettings;
use kalamdb_commons::{Error, Result};

use crate::commit::locks::Held;
use crate::commit::{Change, KeyValue, PlannedWith, Riders, Write};
use crate::partition::Partition;

/// The writes to one partition.
#[derive(Debug, Clone)]
pub(crate) struct PartitionWrites {
    partition: Arc<Partition>,
    rows: BTreeMap<RowId, Change>,
    /// Which row holds a key after these writes; `None` if nobody does.
    holders: HashMap<KeyValue, Option<RowId>>,
}

impl PartitionWrites {
    /// The pending version of a row.
    pub(crate) fn row(&self, row: RowId) -> Option<&Change> {
        self.rows.get(&row)
    }

    /// All pending versions, by row id.
    pub(crate) fn rows(&self) -> impl Iterator<Item = &Change> {
        self.rows.values()
    }

    /// Who holds a key, if these writes say anything about it.
    pub(crate) fn holder(&self, key: &KeyValue) -> Option<Option<RowId>> {
        self.holders.get(key).copied()
    }
}

/// A write set.
#[derive(Debug, Clone, Default)]
pub(crate) struct WriteSet {
    planned_with: HashSet<PlannedWith>,
    partitions: HashMap<PartitionId, PartitionWrites>,
    order: Vec<(PartitionId, RowId)>,
    riders: Riders,
    bytes: usize,
}

impl WriteSet {
    /// The writes to a partition, if there are any.
    pub(crate) fn of(&self, partition: &PartitionId) -> Option<&PartitionWrites> {
        self.partitions.get(partition)
    }

    /// Whether nothing is written.
    pub(crate) fn is_empty(&self) -> bool {
        self.order.is_empty() && self.riders.is_empty()
    }

    /// Adds what goes along in the commit.
    pub(crate) fn ride(&mut self, riders: Riders) {
        self.riders.extend(riders);
    }

    /// Remembers the schema that the writes were planned with.
    pub(crate) fn planned_with(&mut self, planned: PlannedWith) {
        self.planned_with.insert(planned);
    }

    /// Adds a change. One to a row that the set holds already becomes one change from what was there before.
    pub(crate) fn apply(&mut self, mut change: Change, limits: &LimitSettings) -> Result<()> {
        self.bytes += change.value.len() + change.before.as_ref().map_or(0, Vec::len);
        let id = change.partition.id().clone();
        let writes = self.partitions.entry(id.clone()).or_insert_with(|| PartitionWrites {
            partition: change.partition.clone(),
            rows: BTreeMap::new(),
            holders: HashMap::new(),
        });
        for freed in &change.freed {
            // Another row of the same writes may have taken the key already: it stays taken.
            let holder = writes.holders.entry(freed.clone()).or_insert(None);
            if *holder == Some(change.row) {
                *holder = None;
            }
        }
        for taken in &change.keys {
            writes.holders.insert(taken.clone(), Some(change.row));
        }
        match writes.rows.remove(&change.row) {
            None => self.order.push((id, change.row)),
            Some(before) if before.replaces.is_none() && change.deletes => {
                // Inserted and deleted again: as if it had never been. Its place in the order stays unused.
                return Ok(());
            }
            Some(before) => {
                change.replaces = before.replaces;
                change.before = before.before;
                // A key that the first change freed, and that the second did not take back, is still to be freed.
                let kept = before.freed.into_iter().filter(|freed| !change.keys.contains(freed));
                let kept: Vec<KeyValue> = kept.collect();
                change.freed.extend(kept);
            }
        }
        writes.rows.insert(change.row, change);
        check_limits(self.order.len(), self.bytes, limits)
    }

    /// Takes over another set's changes, as a statement that ended well does to its transaction.
    pub(crate) fn absorb(&mut self, other: Self, limits: &LimitSettings) -> Result<()> {
        self.planned_with.extend(other.planned_with);
        self.riders.extend(other.riders);
        let mut partitions = other.partitions;
        for (partition, row) in other.order {
            if let Some(change) = partitions.get_mut(&partition).and_then(|writes| writes.rows.remove(&row)) {
                self.apply(change, limits)?;
            }
        }
        Ok(())
    }

    /// Each partition with its changes.
    pub(crate) fn partitions(&self) -> impl Iterator<Item = (&Arc<Partition>, &PartitionWrites)> {
        self.partitions.values().map(|writes| (&writes.partition, writes))
    }

    /// As the committer takes it, in the order in which the rows were first written.
    pub(crate) fn into_write(self, held: Vec<Held>) -> Write {
        let mut partitions = self.partitions;
        let changes = self
            .order
            .into_iter()
            .filter_map(|(partition, row)| partitions.get_mut(&partition)?.rows.remove(&row))
            .collect();
        Write { planned_with: self.planned_with.into_iter().collect(), changes, riders: self.riders, held }
    }
}

fn check_limits(rows: usize, bytes: usize, limits: &LimitSettings) -> Result<()> {
    if rows > limits.statement_rows_max {
        return Err(Error::too_large(format!(
            "more than {} rows in one statement or transaction (limits.statement_rows_max); split it",
            limits.statement_rows_max
        )));
    }
    if bytes > limits.statement_bytes_max {
        return Err(Error::too_large(format!(
            "more than {} bytes of rows in one statement or transaction (limits.statement_bytes_max); split it",
            limits.statement_bytes_max
        )));
    }
    Ok(())
}
