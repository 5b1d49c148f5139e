//! Reading a partition's change log: what happened in commit order, each change with the row as it was and as it
//! became.
//!
//! An entry names a row, the commit time of its new version and that of the one before. A version is the current hot
//! row, a superseded one that the log keeps, or the newest one of the cold tier: the committer keeps what a change
//! replaces as long as the change's entry, cold versions too, so there is no fourth place.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use bytes::Bytes;
use kalamdb_commons::ids::{CommitTime, RowId};
use kalamdb_commons::schema::Table;
use kalamdb_commons::{Error, Result};
use kalamdb_store::keys::{self, ChangeEntry, ChangeKind};
use kalamdb_store::rows::{self, RowDecoder};

use super::plan::reads;
use crate::commit::readers::ReadPoint;
use crate::dml::direct::cold_row;
use crate::engine::Engine;
use crate::partition::lookup::PartitionRead;
use crate::partition::{Partition, SCAN_PAGE_BYTES};
use crate::query::arrow_error;
use crate::stats::StatementStats;

/// Entries in a page. A commit is not cut in two, unless it alone is larger than [`COMMIT_ENTRIES_MAX`].
const PAGE_ENTRIES: usize = 1_000;
const COMMIT_ENTRIES_MAX: usize = 10_000;
/// Bytes of rows in a page, unless so few entries alone have more.
const PAGE_BYTES: usize = 8 << 20;
const PAGE_ENTRIES_MIN: usize = 16;
/// Versions that are read at once.
const VERSIONS_PER_READ: usize = 256;

/// What happened to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RowChange {
    /// The commit time.
    pub(crate) at: CommitTime,
    /// The row as it became, an index into the page's versions; `None` if it was deleted.
    pub(crate) new: Option<usize>,
    /// The row as it was; `None` if it was inserted.
    pub(crate) old: Option<usize>,
}

/// A page of the log.
#[derive(Debug)]
pub(crate) struct ChangePage {
    /// What happened, in commit order.
    pub(crate) changes: Vec<RowChange>,
    /// The rows as they were and as they became, in the columns that live queries read.
    pub(crate) versions: RecordBatch,
    /// Everything through here is in this page or an earlier one.
    pub(crate) through: CommitTime,
}

/// Which part of whose log is read, and from where.
pub(crate) struct LogRange<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) partition: &'a Arc<Partition>,
    pub(crate) table: &'a Arc<Table>,
    pub(crate) point: &'a Arc<ReadPoint>,
    /// Read already.
    pub(crate) after: CommitTime,
    /// The last commit time of interest, at most the point's.
    pub(crate) through: CommitTime,
    /// Whether several changes of one row become one.
    pub(crate) merge: bool,
}

type Entry = (CommitTime, ChangeEntry);

/// The next page. The log above `after` must be pinned.
pub(crate) async fn read(range: &LogRange<'_>) -> Result<ChangePage> {
    let (mut entries, mut through) = entries(range).await?;
    loop {
        if let Some(page) = page(range, &entries, through).await? {
            return Ok(page);
        }
        through = shorten(&mut entries);
    }
}

/// Cuts a page about in half, between two commits if it holds several.
fn shorten(entries: &mut Vec<Entry>) -> CommitTime {
    let half = entries.len() / 2;
    let closed = entries[..half].iter().rposition(|(_, entry)| !entry.open);
    entries.truncate(closed.map_or(half, |last| last + 1));
    entries.last().map_or(CommitTime::ZERO, |(at, _)| *at)
}

/// The page of some entries; `None` if their rows are too large and there are entries to spare.
async fn page(range: &LogRange<'_>, entries: &[Entry], through: CommitTime) -> Result<Option<ChangePage>> {
    let wanted = if range.merge { merged(entries) } else { entries.iter().map(whole).collect() };
    let mut versions: Vec<(RowId, CommitTime)> = Vec::new();
    let mut places: HashMap<(RowId, CommitTime), usize> = HashMap::new();
    let mut place = |row: RowId, at: Option<CommitTime>| {
        let at = at?;
        Some(*places.entry((row, at)).or_insert_with(|| {
            versions.push((row, at));
            versions.len() - 1
        }))
    };
    let mut changes: Vec<RowChange> = Vec::with_capacity(wanted.len());
    for Span { row, at, old, new } in wanted {
        changes.push(RowChange { at, old: place(row, old), new: place(row, new) });
    }
    let bytes_max = if entries.len() > PAGE_ENTRIES_MIN { PAGE_BYTES } else { usize::MAX };
    let Some((batch, order)) = fetch(range, &versions, bytes_max).await? else { return Ok(None) };
    // A version that is nowhere has expired, of which nothing is told.
    let is_there = |at: Option<usize>| at.is_none_or(|at| order[at].is_some());
    changes.retain(|change| is_there(change.new) && is_there(change.old));
    for change in &mut changes {
        change.new = change.new.and_then(|at| order[at]);
        change.old = change.old.and_then(|at| order[at]);
    }
    Ok(Some(ChangePage { changes, versions: batch, through }))
}

async fn entries(range: &LogRange<'_>) -> Result<(Vec<Entry>, CommitTime)> {
    let space = range.partition.keys();
    let end = keys::change(space, CommitTime(range.through.0.saturating_add(1)));
    let mut start = keys::change(space, CommitTime(range.after.0.saturating_add(1)));
    let mut entries: Vec<Entry> = Vec::new();
    loop {
        let page = range.point.snapshot().scan(&start, &end, PAGE_ENTRIES, SCAN_PAGE_BYTES).await?;
        for (key, value) in &page.entries {
            entries.push((keys::change_time_of(key)?, ChangeEntry::decode(value)?));
        }
        let Some(next) = page.next else { return Ok((entries, range.through)) };
        let closed = entries.iter().rposition(|(_, entry)| !entry.open);
        if let Some(last) = closed {
            entries.truncate(last + 1);
        }
        if closed.is_some() || entries.len() >= COMMIT_ENTRIES_MAX {
            let through = entries.last().map_or(range.through, |(at, _)| *at);
            return Ok((entries, through));
        }
        start = next;
    }
}

/// A row's way from one version to another.
struct Span {
    row: RowId,
    at: CommitTime,
    old: Option<CommitTime>,
    new: Option<CommitTime>,
}

fn whole((at, entry): &Entry) -> Span {
    let new = (entry.kind != ChangeKind::Delete).then_some(*at);
    Span { row: entry.row_id, at: *at, old: entry.previous, new }
}

/// The changes of each row as one, at the place of the last.
fn merged(entries: &[Entry]) -> Vec<Span> {
    let mut first: HashMap<RowId, Option<CommitTime>> = HashMap::new();
    for (_, entry) in entries {
        first.entry(entry.row_id).or_insert(entry.previous);
    }
    let mut spans: Vec<Span> = Vec::with_capacity(first.len());
    for entry in entries.iter().rev() {
        if let Some(old) = first.remove(&entry.1.row_id) {
            spans.push(Span { old, ..whole(entry) });
        }
    }
    spans.reverse();
    spans.retain(|span| span.old.is_some() || span.new.is_some());
    spans
}

/// The wanted versions in one batch, and for each wanted one its row there, unless it has expired. `None` if they are too
/// large.
async fn fetch(
    range: &LogRange<'_>,
    wanted: &[(RowId, CommitTime)],
    bytes_max: usize,
) -> Result<Option<(RecordBatch, Vec<Option<usize>>)>> {
    let Some((hot, bytes)) = hot_versions(range, wanted, bytes_max).await? else { return Ok(None) };
    let (projection, schema) = reads(range.table);
    let missing = range.engine.planner().missing(range.table)?;
    let mut decoder = RowDecoder::new(range.table, projection, &missing, wanted.len())?;
    let mut order = vec![None; wanted.len()];
    let mut cold = Vec::new();
    for (at, (value, (row, _))) in hot.iter().zip(wanted).enumerate() {
        match value {
            Some(value) => {
                order[at] = Some(decoder.len());
                decoder.push(*row, value)?;
            }
            None => cold.push(at),
        }
    }
    let mut parts =
        vec![RecordBatch::try_new(schema.clone(), decoder.finish()?.columns().to_vec()).map_err(arrow_error)?];
    let mut rows = parts[0].num_rows();
    let Some(found) = cold_versions(range, wanted, &cold, bytes_max - bytes).await? else { return Ok(None) };
    for (at, part) in found {
        order[at] = Some(rows);
        rows += part.num_rows();
        parts.push(part);
    }
    let batch = match parts.len() {
        1 => parts.swap_remove(0),
        _ => arrow::compute::concat_batches(&schema, &parts).map_err(arrow_error)?,
    };
    Ok(Some((batch, order)))
}

/// The versions that the hot tier has, and their bytes.
async fn hot_versions(
    range: &LogRange<'_>,
    wanted: &[(RowId, CommitTime)],
    bytes_max: usize,
) -> Result<Option<(Vec<Option<Bytes>>, usize)>> {
    let mut found = Vec::with_capacity(wanted.len());
    let mut bytes = 0;
    for some in wanted.chunks(VERSIONS_PER_READ) {
        let some = some_hot_versions(range, some).await?;
        bytes += some.iter().flatten().map(Bytes::len).sum::<usize>();
        if bytes > bytes_max {
            return Ok(None);
        }
        found.extend(some);
    }
    Ok(Some((found, bytes)))
}

async fn some_hot_versions(range: &LogRange<'_>, wanted: &[(RowId, CommitTime)]) -> Result<Vec<Option<Bytes>>> {
    let space = range.partition.keys();
    let snapshot = range.point.snapshot();
    let mut found: Vec<Option<Bytes>> = vec![None; wanted.len()];
    let current: Vec<Bytes> = wanted.iter().map(|(row, _)| keys::current(space, *row)).collect();
    for (at, value) in snapshot.get_many(&current).await?.into_iter().enumerate() {
        let Some(value) = value else { continue };
        if rows::header(&value)?.updated == wanted[at].1 {
            found[at] = Some(value);
        }
    }
    let left: Vec<usize> = (0..wanted.len()).filter(|at| found[*at].is_none()).collect();
    let superseded: Vec<Bytes> = left.iter().map(|at| keys::superseded(space, wanted[*at].0, wanted[*at].1)).collect();
    for (at, value) in left.into_iter().zip(snapshot.get_many(&superseded).await?) {
        found[at] = value;
    }
    Ok(found)
}

/// The versions that only the cold tier has: each is the newest of its row.
async fn cold_versions(
    range: &LogRange<'_>,
    wanted: &[(RowId, CommitTime)],
    cold: &[usize],
    bytes_max: usize,
) -> Result<Option<Vec<(usize, RecordBatch)>>> {
    // What expires has no cold tier.
    if cold.is_empty() || !range.partition.has_history() {
        return Ok(Some(Vec::new()));
    }
    let (view, _) = range.partition.view_for(range.point, range.engine.cold()).await?;
    let stats = Arc::new(StatementStats::begin());
    let mut sorted = cold.to_vec();
    sorted.sort_unstable_by_key(|at| wanted[*at].0);
    let ids: Vec<RowId> = sorted.iter().map(|at| wanted[*at].0).collect();
    let places = view.locate(&ids, &stats.io).await?;
    let (partition, point) = (range.partition.clone(), range.point.clone());
    let expired_through = CommitTime::ZERO;
    let read = PartitionRead { expired_through, partition, point, view, pending: None, stats };
    let (projection, schema) = reads(range.table);
    let missing = range.engine.planner().missing(range.table)?;
    let version = schema.fields().len() - 1;
    let mut found = Vec::with_capacity(sorted.len());
    let mut bytes = 0;
    for (at, place) in sorted.into_iter().zip(places) {
        let (row, updated) = wanted[at];
        let lost = || Error::corrupt(format!("the change log names version {updated} of row {row}, which is nowhere"));
        let place = place.ok_or_else(lost)?;
        let values = cold_row(range.table, &read, place, &projection, &missing).await?;
        let batch = RecordBatch::try_new(schema.clone(), values).map_err(arrow_error)?;
        if batch.column(version).as_primitive::<Int64Type>().values().first() != Some(&updated.0) {
            return Err(lost());
        }
        bytes += batch.get_array_memory_size();
        if bytes > bytes_max {
            return Ok(None);
        }
        found.push((at, batch));
    }
    Ok(Some(found))
}
