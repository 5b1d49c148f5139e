//! Flush: the hot state of a partition becomes a batch of its history.
//!
//! # A flush's life
//!
//! It enters a read point; its U becomes the new watermark F. A batch number is reserved, the hot log through U and
//! that reservation is synced, and the newest version of every row committed in (old F, U] goes to the file, deletions
//! included. The file is made durable, then the manifest that names it, by compare-and-set. With that the line has
//! moved: what is at or below F is cold, whatever is still in the hot tier. The partition then gets its new view, and
//! when no statement from before F is left, the committer removes the hot entries that are garbage.
//!
//! Writers are never blocked; what they write meanwhile is above U and stays hot. A crash between any two steps
//! leaves at most an unreferenced file or hot garbage, and both are removed after the next start.
//!
//! When you change the order of steps here, look at `ManifestService::publish`, at [`removal`], and at the crash tests.

pub(crate) mod removal;

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;
use kalamdb_commons::clock::Stopwatch;
use kalamdb_commons::ids::{ColumnId, CommitTime, SchemaVersion};
use kalamdb_commons::manifest;
use kalamdb_commons::schema::Table;
use kalamdb_commons::{Error, ErrorKind, Result};
use kalamdb_filestore::{BatchMeta, BatchWriter, Edit, Group, Loaded, PublishError};
use kalamdb_store::keys;
use kalamdb_store::rows::{self, Projected, RowDecoder};

use crate::commit::readers::ReadPoint;
use crate::engine::Engine;
use crate::jobs::JobHandle;
use crate::metrics::Outcome;
use crate::partition::view::{ColdView, recorded};
use crate::partition::{Partition, Purpose, SCAN_PAGE_BYTES, SCAN_PAGE_ENTRIES};

const HOUR_NS: i64 = 3_600_000_000_000;
/// How often a flush begins again because somebody else published.
const ATTEMPTS_MAX: usize = 5;

/// What a flush of one partition did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Flushed {
    /// Rows in the batch file.
    pub(crate) rows: u64,
    /// Its size.
    pub(crate) bytes: u64,
}

/// Flushes a partition through the newest published moment. `None` if it has nothing to flush.
pub(crate) async fn flush_partition(
    engine: &Arc<Engine>,
    partition: &Arc<Partition>,
    job: &JobHandle,
) -> Result<Option<Flushed>> {
    let watch = Stopwatch::start();
    let flushed = flush_newest(engine, partition, job).await;
    let metrics = engine.metrics();
    metrics.flush(Outcome::of(&flushed), watch);
    if let Ok(Some(flushed)) = &flushed {
        metrics.flush_rows.inc_by(flushed.rows);
        metrics.flush_written_bytes.inc_by(flushed.bytes);
    }
    flushed
}

async fn flush_newest(engine: &Arc<Engine>, partition: &Arc<Partition>, job: &JobHandle) -> Result<Option<Flushed>> {
    let _maintenance = partition.maintain().await;
    for attempt in 0..ATTEMPTS_MAX {
        let point = engine.committer().readers().enter();
        let Some(table) = point.catalog().table_by_incarnation(partition.id().incarnation).cloned() else {
            return Ok(None);
        };
        let mut view = partition.view(point.through(), engine.cold(), Purpose::Use).await?.0;
        if attempt > 0 {
            view = take_up(engine, partition, view).await?;
        }
        if partition.hot().last <= view.flushed_through() {
            return Ok(None);
        }
        let flush = Flush { engine, partition, table, point, view, job, reload: attempt > 0 };
        match flush.run().await {
            Ok(Some((flushed, through))) => {
                removal::after(engine, partition, through).await?;
                return Ok(Some(flushed));
            }
            Ok(None) => return Ok(None),
            // The removal of an ended life of the table publishes in the same place: begin again on what it left.
            Err(error) if error.kind() == ErrorKind::Conflict && attempt + 1 < ATTEMPTS_MAX => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

/// Takes up a manifest that a flush or a compaction of this server published without hearing of it, because the answer of
/// the storage was lost. Returns the newest view.
async fn take_up(engine: &Arc<Engine>, partition: &Arc<Partition>, view: Arc<ColdView>) -> Result<Arc<ColdView>> {
    let stored = engine.cold().manifests().reload(partition.spec(), recorded(&partition.record())).await?;
    let (before, after) = (view.flushed_through(), stored.manifest.flushed_through);
    if after <= before {
        return of_the_same_files(engine, partition, view, stored).await;
    }
    let garbage = stored.manifest.active().filter(|batch| batch.through > before).map(|batch| batch.row_count).sum();
    let next = engine.cold().view_of(partition, stored).await?;
    partition.publish(next.clone(), engine.committer().readers().oldest());
    partition.set_garbage(garbage);
    tracing::warn!(partition = %partition.id(), "a flush whose outcome was unknown had been published");
    removal::after(engine, partition, after).await?;
    Ok(next)
}

/// The view, or, if the manifest with the same watermark lists other files, one of those.
async fn of_the_same_files(
    engine: &Arc<Engine>,
    partition: &Arc<Partition>,
    view: Arc<ColdView>,
    stored: Loaded,
) -> Result<Arc<ColdView>> {
    if stored.manifest.flushed_through != view.flushed_through() || view.is_of(&stored) {
        return Ok(view);
    }
    let next = engine.cold().view_of(partition, stored).await?;
    partition.replace_view(next.clone(), engine.committer().readers().oldest());
    tracing::warn!(partition = %partition.id(), "a compaction whose outcome was unknown had been published");
    Ok(next)
}

/// Draws a batch number that no file has had, as durably as the setting promises. The caller holds the partition's maintenance.
pub(crate) async fn reserve_number(engine: &Engine, partition: &Partition, loaded: &Loaded) -> Result<u64> {
    let mut record = partition.record();
    record.reserved_batch = record.reserved_batch.max(loaded.manifest.max_batch) + 1;
    let number = record.reserved_batch;
    let put = (keys::partition_record(partition.keys()), record.encode());
    // IMPORTANT: before the file is created, so that no other file is ever given the number.
    engine.committer().records(vec![put], Vec::new()).await?;
    partition.recorded(record);
    Ok(number)
}

/// Deletions from before this moment have been kept for as long as the table keeps them.
pub(crate) fn deletions_kept_since(engine: &Engine, table: &Table) -> CommitTime {
    let retention_hours = i64::try_from(table.options.deleted_retention_hours).unwrap_or(i64::MAX);
    CommitTime(engine.clock().now_ns().saturating_sub(retention_hours.saturating_mul(HOUR_NS)))
}

/// What a batch file of a table is to be, in the columns of one of its schema versions, which it has.
pub(crate) fn batch_meta(
    engine: &Engine,
    table: &Table,
    version: SchemaVersion,
    (from, through): (CommitTime, CommitTime),
    expected_rows: usize,
) -> BatchMeta {
    let settings = &engine.settings().flush;
    let options = &table.options;
    let columns = table.columns_at(version).unwrap_or_else(|| table.columns()).clone();
    let has = |id: &ColumnId| columns.iter().any(|column| column.id == *id);
    let mut bloom: HashSet<ColumnId> = options.bloom_filter_columns.iter().copied().collect();
    bloom.extend(table.indexes.iter().flat_map(|index| index.columns.iter().copied()));
    let keys = table.keys.iter().filter(|key| key.columns.iter().all(has));
    BatchMeta {
        from,
        through,
        group: Group::ALONE,
        deletions_complete_from: CommitTime::ZERO,
        schema_version: version,
        compression: options.compression,
        row_group_rows: settings.row_group_rows,
        page_rows: settings.page_rows,
        fpp: options.bloom_filter_fpp,
        unique_keys: keys.map(|key| key.columns.clone()).collect(),
        bloom_columns: bloom.into_iter().filter(has).collect(),
        unfiltered: options.bloom_filter_off.clone(),
        unfiltered_id: options.bloom_filter_off_id,
        expected_rows,
        columns,
    }
}

struct Flush<'a> {
    engine: &'a Arc<Engine>,
    partition: &'a Arc<Partition>,
    table: Arc<Table>,
    point: Arc<ReadPoint>,
    view: Arc<ColdView>,
    job: &'a JobHandle,
    /// Whether the manifest in memory may no longer be the stored one.
    reload: bool,
}

impl Flush<'_> {
    async fn run(self) -> Result<Option<(Flushed, CommitTime)>> {
        let (from, through) = (self.view.flushed_through(), self.point.through());
        if !self.rows().any(from).await? {
            return Ok(None);
        }
        let manifests = self.engine.cold().manifests();
        let loaded = match self.view.loaded() {
            Some(loaded) if !self.reload => loaded.clone(),
            _ => manifests.reload(self.partition.spec(), recorded(&self.partition.record())).await?,
        };
        if loaded.manifest.flushed_through != from {
            return Err(Error::internal(format!("the manifest of {} is not the one in memory", self.partition.id())));
        }
        if !self.view.is_of(&loaded) {
            // The next view is this one with a batch more: it has to be of the files that the manifest lists.
            return Err(Error::conflict(format!("the batches of {} are others than in memory", self.partition.id())));
        }
        let number = reserve_number(self.engine, self.partition, &loaded).await?;
        // IMPORTANT: nothing may become cold that a power cut could still take out of the hot tier, and no file may have
        // a number whose reservation it could take back.
        self.engine.store().sync().await?;
        fail::fail_point!("flush::after_number");
        let (entry, forgotten) = self.write(number, from, through).await?;
        fail::fail_point!("flush::after_batch");
        let edit = Edit {
            add: vec![entry.clone()],
            flushed_through: through,
            deletions_complete_from: forgotten.map_or(CommitTime::ZERO, |last| CommitTime(last.0 + 1)),
            ..Edit::default()
        };
        let published = match self.publish(&loaded, edit).await {
            Ok(published) => published,
            Err(error) => {
                // After any other failure the manifest may be stored, or be on its way: the file stays, and if nothing
                // comes to name it, it is removed as an orphan.
                if error.kind() == ErrorKind::Conflict {
                    manifests.discard(self.partition.spec(), number).await?;
                }
                return Err(error);
            }
        };
        fail::fail_point!("flush::after_manifest");
        let flushed = Flushed { rows: entry.row_count, bytes: entry.byte_size };
        let next = self.engine.cold().extend(self.partition, &self.view, published, entry).await?;
        self.partition.publish(next, self.engine.committer().readers().oldest());
        self.partition.set_garbage(flushed.rows);
        tracing::info!(
            table = %self.table.name, scope = %self.partition.id().scope, batch = number, rows = flushed.rows,
            bytes = flushed.bytes, "partition flushed"
        );
        Ok(Some((flushed, through)))
    }

    /// Writes the file. Returns its manifest entry and the time of the last deletion that was left out because its
    /// retention is over.
    async fn write(
        &self,
        number: u64,
        from: CommitTime,
        through: CommitTime,
    ) -> Result<(manifest::Batch, Option<CommitTime>)> {
        let storage = self.engine.cold().manifests().storages().get(&self.partition.spec().storage)?;
        let mut writer = BatchWriter::create(&storage, self.partition.spec(), number, self.meta(from, through)).await?;
        let forgotten = match self.rows().write(&mut writer, from).await {
            Ok(forgotten) => forgotten,
            Err(error) => {
                writer.abort().await;
                return Err(error);
            }
        };
        if let Some(last) = forgotten {
            writer.forget_deletions_through(last).await?;
        }
        Ok((writer.finish().await?, forgotten))
    }

    fn rows(&self) -> HotRows<'_> {
        HotRows {
            engine: self.engine,
            partition: self.partition,
            table: &self.table,
            point: &self.point,
            job: self.job,
        }
    }

    fn meta(&self, from: CommitTime, through: CommitTime) -> BatchMeta {
        let rows = usize::try_from(self.partition.hot().rows).unwrap_or(usize::MAX);
        batch_meta(self.engine, &self.table, self.table.version, (from, through), rows)
    }

    /// Publishes the manifest. A conflict means that the incarnation has ended, or that the end of an earlier one has
    /// just been published.
    async fn publish(&self, loaded: &Loaded, edit: Edit) -> Result<Loaded> {
        let manifests = self.engine.cold().manifests();
        manifests.publish(self.partition.spec(), loaded, edit).await.map_err(|error| match error {
            PublishError::Conflict => Error::conflict(format!(
                "{} was dropped, truncated or changed by somebody else during the flush",
                self.table.name
            )),
            PublishError::Failed(error) => error,
        })
    }
}

/// The rows of a partition that are hot at a moment: what a batch through that moment holds.
pub(crate) struct HotRows<'a> {
    pub(crate) engine: &'a Engine,
    pub(crate) partition: &'a Partition,
    pub(crate) table: &'a Arc<Table>,
    pub(crate) point: &'a ReadPoint,
    pub(crate) job: &'a JobHandle,
}

impl HotRows<'_> {
    /// Whether any row was committed in (from, U].
    pub(crate) async fn any(&self, from: CommitTime) -> Result<bool> {
        let mut pages = Pages::new(self.partition, self.point);
        while let Some(page) = pages.next().await? {
            for (_, value) in &page {
                if rows::header(value)?.updated > from {
                    return Ok(true);
                }
            }
        }
        Ok(false)
    }

    /// How many rows were committed in (from, U].
    pub(crate) async fn count(&self, from: CommitTime) -> Result<usize> {
        let (mut pages, mut count) = (Pages::new(self.partition, self.point), 0);
        while let Some(page) = pages.next().await? {
            for (_, value) in &page {
                count += usize::from(rows::header(value)?.updated > from);
            }
        }
        Ok(count)
    }

    /// Writes the rows that were committed in (from, U]. Gives the time of the last deletion that was left out because
    /// its retention is over.
    pub(crate) async fn write(&self, writer: &mut BatchWriter, from: CommitTime) -> Result<Option<CommitTime>> {
        let mut forgotten = None;
        let kept_since = deletions_kept_since(self.engine, self.table);
        let missing = self.engine.planner().missing(self.table)?;
        let mut projection = vec![Projected::Id];
        projection.extend(self.table.columns().iter().map(|column| Projected::Column(column.id)));
        projection.extend([Projected::Updated, Projected::Deleted, Projected::Born]);
        let schema = kalamdb_filestore::batch_schema(self.table.columns());
        let mut pages = Pages::new(self.partition, self.point);
        while let Some(page) = pages.next().await? {
            self.job.check()?;
            let mut decoder = RowDecoder::new(self.table, projection.clone(), &missing, page.len())?;
            for (key, value) in &page {
                let header = rows::header(value)?;
                if header.updated <= from {
                    continue;
                }
                // A deletion whose row no file holds is only kept for those who resume from before it.
                if header.deleted && header.born > from && header.updated < kept_since {
                    forgotten = forgotten.max(Some(header.updated));
                    continue;
                }
                decoder.push(keys::row_id_of(key)?, value)?;
            }
            if decoder.is_empty() {
                continue;
            }
            let rows = decoder.finish()?;
            let rows =
                RecordBatch::try_new(schema.clone(), rows.columns().to_vec()).map_err(crate::query::arrow_error)?;
            writer.write(&rows).await?;
            self.job.progress(rows.num_rows() as u64, rows.get_array_memory_size() as u64);
        }
        Ok(forgotten)
    }
}

/// The current rows of a partition at a moment, page by page.
struct Pages<'a> {
    point: &'a ReadPoint,
    end: Bytes,
    next: Option<Bytes>,
}

impl<'a> Pages<'a> {
    fn new(partition: &Partition, point: &'a ReadPoint) -> Self {
        let prefix = keys::current_prefix(partition.keys());
        Self { point, end: keys::prefix_end(&prefix), next: Some(prefix) }
    }

    async fn next(&mut self) -> Result<Option<Vec<(Bytes, Bytes)>>> {
        let Some(start) = self.next.take() else { return Ok(None) };
        let page = self.point.snapshot().scan(&start, &self.end, SCAN_PAGE_ENTRIES, SCAN_PAGE_BYTES).await?;
        self.next = page.next;
        Ok(Some(page.entries))
    }
}
