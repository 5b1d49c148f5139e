//! Single rows: by `_id` and by unique key, over both tiers, at a read point. The direct path of SELECT, UPDATE and
//! DELETE, and the check of unique keys.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, UInt64Array};
use arrow::compute::sort;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use kalamdb_commons::Result;
use kalamdb_commons::ids::{ColumnId, CommitTime, RowId};
use kalamdb_commons::schema::Table;
use kalamdb_filestore::{IoCounters, KeyValues};
use kalamdb_store::keys::{self, UniqueEntry};
use kalamdb_store::rows;
use roaring::RoaringBitmap;

use super::Partition;
use super::view::{Ahead, ColdView, Place};
use crate::commit::KeyValue;
use crate::commit::readers::ReadPoint;
use crate::dml::writes::PartitionWrites;
use crate::stats::StatementStats;
use crate::threads;

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
    /// The last commit whose rows have expired for this reader; zero if rows do not expire.
    pub(crate) expired_through: CommitTime,
    /// The reader's own writes.
    pub(crate) pending: Option<Arc<PartitionWrites>>,
    /// Counts what is read for it.
    pub(crate) stats: Arc<StatementStats>,
}

/// The values that a unique key is asked for: its columns, each an array with one value per question.
pub(crate) struct KeyQuestion<'a> {
    /// The table that has it.
    pub(crate) table: &'a Table,
    /// The key's number.
    pub(crate) key: u32,
    /// Its columns.
    pub(crate) columns: &'a [ColumnId],
    /// Their values, as many as there are questions.
    pub(crate) values: &'a [ArrayRef],
    /// The canonical bytes of each question; `None` where a value is NULL, which is never equal to anything.
    pub(crate) bytes: &'a [Option<Vec<u8>>],
}

/// A live row that holds a value of a unique key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Holder {
    /// The row.
    pub(crate) row: RowId,
    /// Where its newest version lies, if that is in the cold tier.
    pub(crate) place: Option<Place>,
}

impl PartitionRead {
    /// Counts what is read from the cold tier.
    pub(crate) fn io(&self) -> &Arc<IoCounters> {
        &self.stats.io
    }

    /// The provisional `_updated` of the reader's own pending writes: just after the moment that it reads.
    pub(crate) fn provisional(&self) -> CommitTime {
        CommitTime(self.point.through().0 + 1)
    }

    /// The last commit of which this reader finds nothing in the hot tier: its rows are cold, or have expired.
    pub(crate) fn gone_through(&self) -> CommitTime {
        self.view.gone_through().max(self.expired_through)
    }

    /// Whether the hot tier can hold a row that is not in the view. False is certain, because the committer notes a
    /// partition's last commit before it publishes it; garbage at or below F does not count.
    pub(crate) fn may_have_hot_rows(&self) -> bool {
        self.pending.is_some() || self.partition.last_commit() > self.gone_through()
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
                Some(value) if rows::header(&value)?.updated > self.gone_through() => {
                    versions[at] = Some(Version::Hot { value });
                }
                _ => cold_at.push(at),
            }
        }
        if cold_at.is_empty() || self.view.batches().is_empty() {
            return Ok(versions);
        }
        threads::leave().await;
        let cold_rows: Vec<RowId> = cold_at.iter().map(|at| rows[*at]).collect();
        for (at, place) in cold_at.into_iter().zip(self.view.find(&cold_rows, &self.stats).await?) {
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
    pub(crate) async fn key_holders(&self, question: &KeyQuestion<'_>) -> Result<Vec<Option<Holder>>> {
        let mut holders = vec![None; question.bytes.len()];
        let mut open = Vec::new();
        for (at, bytes) in question.bytes.iter().enumerate() {
            let Some(bytes) = bytes else { continue };
            let key = KeyValue { key: question.key, bytes: bytes.clone() };
            match self.pending.as_ref().and_then(|pending| pending.holder(&key)) {
                Some(holder) => holders[at] = holder.map(|row| Holder { row, place: None }),
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
        holders: &mut [Option<Holder>],
    ) -> Result<Vec<usize>> {
        let space = self.partition.keys();
        let asked = open.iter().filter_map(|at| question.bytes[*at].as_ref());
        let wanted: Vec<Bytes> = asked.map(|bytes| keys::unique(space, question.key, bytes)).collect();
        let found = self.point.snapshot().get_many(&wanted).await?;
        let mut still_open = Vec::new();
        for (at, value) in open.into_iter().zip(found) {
            let entry = value.map(|value| UniqueEntry::decode(&value)).transpose()?;
            match entry {
                Some(entry) if entry.updated > self.gone_through() => {
                    // A pending change of the holder that keeps the key has said so in `holder` already.
                    holders[at] = Some(Holder { row: entry.row_id, place: None });
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
        holders: &mut [Option<Holder>],
    ) -> Result<()> {
        let batches = self.view.batches();
        if open.is_empty() || batches.is_empty() {
            return Ok(());
        }
        threads::leave().await;
        let keys = KeyValues::new(&take_rows(question.values, open)?)?;
        let candidates = self.batches_in_range(question, open)?;
        StatementStats::add(&self.stats.batches_considered, batches.len() as u64);
        StatementStats::add(&self.stats.batches_pruned_by_manifest, (batches.len() - candidates.len()) as u64);
        let mut unanswered = open.len();
        // A dead row holds nothing: every batch is asked until all questions have an answer.
        let ask = |index: usize| batches[index].file.find_prepared(question.columns, &keys, self.io());
        let (mut left, mut ahead) = (candidates.into_iter().rev(), Ahead::new(self.io()));
        while unanswered > 0 {
            let (wanted, Some(first)) = (ahead.batches(), left.next()) else { break };
            if wanted == 1 {
                unanswered -= self.take_answers(first, ask(first).await?, open, holders).await?;
                continue;
            }
            let next: Vec<usize> = std::iter::once(first).chain(left.by_ref().take(wanted - 1)).collect();
            let asking: Vec<_> = next.iter().map(|index| ask(*index)).collect();
            let mut answers = futures::stream::iter(asking).buffered(next.len());
            for index in next {
                let found = answers.try_next().await?.flatten();
                unanswered -= self.take_answers(index, found, open, holders).await?;
            }
        }
        Ok(())
    }

    /// Takes up what a batch answered, where no newer one did. Returns how many questions have an answer now that had
    /// none.
    async fn take_answers(
        &self,
        index: usize,
        found: Option<Vec<(usize, u32)>>,
        open: &[usize],
        holders: &mut [Option<Holder>],
    ) -> Result<usize> {
        let Some(found) = found else {
            StatementStats::add(&self.stats.batches_pruned_by_bloom_filter, 1);
            return Ok(0);
        };
        StatementStats::add(&self.stats.batches_read, 1);
        let mut answered = 0;
        for (asked, holder) in self.living(index, found).await? {
            let answer = &mut holders[open[asked]];
            answered += usize::from(answer.is_none());
            *answer = Some(holder);
        }
        Ok(answered)
    }

    /// The batches whose ranges allow one of the asked values in each of the key's columns.
    fn batches_in_range(&self, question: &KeyQuestion<'_>, open: &[usize]) -> Result<Vec<usize>> {
        // A key is added to a table without live rows only: whatever is older than its columns is dead.
        let has_columns = |batch: &usize| {
            let columns = question.table.columns_at(self.view.batches()[*batch].entry.schema_version);
            columns.is_none_or(|columns| question.columns.iter().all(|id| columns.iter().any(|had| had.id == *id)))
        };
        let mut kept: Vec<usize> = (0..self.view.batches().len()).filter(has_columns).collect();
        let Some(statistics) = self.view.statistics() else { return Ok(kept) };
        for (id, values) in question.columns.iter().zip(take_rows(question.values, open)?) {
            let Some(column) = question.table.column_by_id(*id) else { continue };
            let ranges = statistics.column(*id, column.column_type, &question.table.versions, None);
            let Some(ranges) = ranges.filter(|ranges| ranges.mins.data_type() == values.data_type()) else { continue };
            let sorted = sort(&values, None).map_err(crate::query::arrow_error)?;
            let may_hold = ranges.may_hold(&sorted).map_err(crate::query::arrow_error)?;
            kept.retain(|batch| may_hold.value(*batch));
        }
        Ok(kept)
    }

    /// Those of the rows found in a batch that are alive: which question each answers, and the row.
    async fn living(&self, index: usize, found: Vec<(usize, u32)>) -> Result<Vec<(usize, Holder)>> {
        let batch = &self.view.batches()[index];
        let is_dead = |position: u32| batch.superseded.contains(position) || batch.tombstones.contains(position);
        let alive: Vec<(usize, u32)> = found.into_iter().filter(|(_, position)| !is_dead(*position)).collect();
        if alive.is_empty() {
            return Ok(Vec::new());
        }
        let positions: RoaringBitmap = alive.iter().map(|(_, position)| *position).collect();
        let rows = batch.ids_at(&positions, self.io()).await?;
        let row_at: HashMap<u32, RowId> = positions.iter().zip(rows).collect();
        let mut living = Vec::new();
        for (asked, position) in alive {
            let row = row_at[&position];
            if !self.is_replaced(row).await? {
                living.push((asked, Holder { row, place: Some(Place { batch: index, position }) }));
            }
        }
        Ok(living)
    }

    /// Whether a hot or pending version replaces the cold one.
    async fn is_replaced(&self, row: RowId) -> Result<bool> {
        if self.pending.as_ref().is_some_and(|pending| pending.row(row).is_some()) {
            return Ok(true);
        }
        let value = self.point.snapshot().get(&keys::current(self.partition.keys(), row)).await?;
        Ok(match value {
            Some(value) => rows::header(&value)?.updated > self.gone_through(),
            None => false,
        })
    }
}

fn take_rows(values: &[ArrayRef], at: &[usize]) -> Result<Vec<ArrayRef>> {
    let indices = UInt64Array::from_iter_values(at.iter().map(|at| *at as u64));
    let taken = values.iter().map(|array| arrow::compute::take(array, &indices, None));
    taken.collect::<Result<_, _>>().map_err(crate::query::arrow_error)
}
