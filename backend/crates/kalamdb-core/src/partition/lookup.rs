//! Single rows: by `_id` and by unique key, over both tiers, at a read point. The direct path of SELECT, UPDATE and
//! DELETE, and the check of unique keys.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, UInt64Array};
use bytes::Bytes;
use kalamdb_commons::Result;
use kalamdb_commons::ids::{ColumnId, CommitTime, RowId};
use kalamdb_filestore::IoCounters;
use kalamdb_store::keys::{self, UniqueEntry};
use kalamdb_store::rows;
use roaring::RoaringBitmap;

use super::Partition;
use super::view::{ColdView, Place};
use crate::commit::KeyValue;
use crate::commit::readers::ReadPoint;
use crate::dml::writes::PartitionWrites;

/// The newest version of a row that a reader sees, deletions included.
#[derive(Debug, Clone)]
pub(crate) enum Version {
    /// In the hot tier, or pending in the reader's own transaction.
    Hot {
        /// The encoded row.
        value: Bytes,
    },
    /// In the cold tier.
    Cold {
        /// Where.
        place: Place,
        /// Whether it is a deletion.
        deleted: bool,
    },
}

/// What a reader reads of a partition: the moment, the cold view that belongs to it, and its own pending writes.
#[derive(Debug, Clone)]
pub(crate) struct PartitionRead {
    /// The partition.
    pub(crate) partition: Arc<Partition>,
    /// The moment.
    pub(crate) point: Arc<ReadPoint>,
    /// Its cold view.
    pub(crate) view: Arc<ColdView>,
    /// The reader's own writes.
    pub(crate) pending: Option<Arc<PartitionWrites>>,
    /// Counts what is read for it.
    pub(crate) io: Arc<IoCounters>,
}

/// The values that a unique key is asked for: its columns, each an array with one value per question.
pub(crate) struct KeyQuestion<'a> {
    /// The key's number.
    pub(crate) key: u32,
    /// Its columns.
    pub(crate) columns: &'a [ColumnId],
    /// Their values, as many as there are questions.
    pub(crate) values: &'a [ArrayRef],
    /// The canonical bytes of each question; `None` where a value is NULL, which is never equal to anything.
    pub(crate) bytes: &'a [Option<Vec<u8>>],
}

impl PartitionRead {
    /// The provisional `_updated` of the reader's own pending writes: just after the moment that it reads.
    pub(crate) fn provisional(&self) -> CommitTime {
        CommitTime(self.point.through().0 + 1)
    }

    /// The newest version of each row. `rows` must be sorted; the answer is parallel.
    pub(crate) async fn versions(&self, rows: &[RowId]) -> Result<Vec<Option<Version>>> {
        let mut versions = vec![None; rows.len()];
        let hot_keys: Vec<Bytes> = rows.iter().map(|row| keys::current(self.partition.keys(), *row)).collect();
        let hot = self.point.snapshot().get_many(&hot_keys).await?;
        let mut cold_at = Vec::new();
        for (at, value) in hot.into_iter().enumerate() {
            if let Some(change) = self.pending.as_ref().and_then(|pending| pending.row(rows[at])) {
                versions[at] = Some(Version::Hot { value: change.value.clone().into() });
                continue;
            }
            match value {
                Some(value) if rows::header(&value)?.updated > self.view.flushed_through() => {
                    versions[at] = Some(Version::Hot { value });
                }
                _ => cold_at.push(at),
            }
        }
        if cold_at.is_empty() || self.view.batches().is_empty() {
            return Ok(versions);
        }
        let cold_rows: Vec<RowId> = cold_at.iter().map(|at| rows[*at]).collect();
        for (at, place) in cold_at.into_iter().zip(self.view.locate(&cold_rows, &self.io).await?) {
            versions[at] = place.map(|place| Version::Cold { place, deleted: self.is_tombstone(place) });
        }
        Ok(versions)
    }

    /// The newest version of one row.
    pub(crate) async fn version(&self, row: RowId) -> Result<Option<Version>> {
        Ok(self.versions(&[row]).await?.pop().flatten())
    }

    fn is_tombstone(&self, place: Place) -> bool {
        self.view.batches()[place.batch].tombstones.contains(place.position)
    }

    /// Which live row holds each of the asked values of a unique key.
    pub(crate) async fn key_holders(&self, question: &KeyQuestion<'_>) -> Result<Vec<Option<RowId>>> {
        let mut holders = vec![None; question.bytes.len()];
        let mut open = Vec::new();
        for (at, bytes) in question.bytes.iter().enumerate() {
            let Some(bytes) = bytes else { continue };
            let key = KeyValue { key: question.key, bytes: bytes.clone() };
            match self.pending.as_ref().and_then(|pending| pending.holder(&key)) {
                Some(holder) => holders[at] = holder,
                None => open.push(at),
            }
        }
        let open = self.hot_holders(question, open, &mut holders).await?;
        self.cold_holders(question, &open, &mut holders).await?;
        Ok(holders)
    }

    /// Answers what the hot tier knows and returns the questions that are still open.
    async fn hot_holders(
        &self,
        question: &KeyQuestion<'_>,
        open: Vec<usize>,
        holders: &mut [Option<RowId>],
    ) -> Result<Vec<usize>> {
        let space = self.partition.keys();
        let asked = open.iter().filter_map(|at| question.bytes[*at].as_ref());
        let wanted: Vec<Bytes> = asked.map(|bytes| keys::unique(space, question.key, bytes)).collect();
        let found = self.point.snapshot().get_many(&wanted).await?;
        let mut still_open = Vec::new();
        for (at, value) in open.into_iter().zip(found) {
            let entry = value.map(|value| UniqueEntry::decode(&value)).transpose()?;
            match entry {
                Some(entry) if entry.updated > self.view.flushed_through() => {
                    // A pending change of the holder that keeps the key has said so in `holder` already.
                    holders[at] = Some(entry.row_id);
                }
                _ => still_open.push(at),
            }
        }
        Ok(still_open)
    }

    async fn cold_holders(
        &self,
        question: &KeyQuestion<'_>,
        open: &[usize],
        holders: &mut [Option<RowId>],
    ) -> Result<()> {
        if open.is_empty() || self.view.batches().is_empty() {
            return Ok(());
        }
        let values = take_rows(question.values, open)?;
        // A dead row holds nothing, so every batch is asked.
        for batch in self.view.batches().iter().rev() {
            let found = batch.file.find_keys(question.columns, &values, &self.io).await?;
            let alive: Vec<(usize, u32)> = found
                .into_iter()
                .filter(|(_, position)| !batch.superseded.contains(*position) && !batch.tombstones.contains(*position))
                .collect();
            if alive.is_empty() {
                continue;
            }
            let positions: RoaringBitmap = alive.iter().map(|(_, position)| *position).collect();
            let rows = batch.ids_at(&positions, &self.io).await?;
            let row_at: HashMap<u32, RowId> = positions.iter().zip(rows).collect();
            for (asked, position) in alive {
                let row = row_at[&position];
                if !self.is_replaced(row).await? {
                    holders[open[asked]] = Some(row);
                }
            }
        }
        Ok(())
    }

    /// Whether a hot or pending version replaces the cold one.
    async fn is_replaced(&self, row: RowId) -> Result<bool> {
        if self.pending.as_ref().is_some_and(|pending| pending.row(row).is_some()) {
            return Ok(true);
        }
        let value = self.point.snapshot().get(&keys::current(self.partition.keys(), row)).await?;
        Ok(match value {
            Some(value) => rows::header(&value)?.updated > self.view.flushed_through(),
            None => false,
        })
    }
}

fn take_rows(values: &[ArrayRef], at: &[usize]) -> Result<Vec<ArrayRef>> {
    let indices = UInt64Array::from_iter_values(at.iter().map(|at| *at as u64));
    let taken = values.iter().map(|array| arrow::compute::take(array, &indices, None));
    taken.collect::<Result<_, _>>().map_err(crate::query::arrow_error)
}
