//! Compaction: neighbouring batches of a partition become one.
//!
//! # A compaction's life
//!
//! It chooses some neighbours among the active batches ([`choice`]), reserves a batch number durably and marks its
//! inputs in the manifest. The [`merge`] of the inputs is written without holding anything up: flushes go on, and writers
//! and readers do not notice. When the file is durable, a compare-and-set puts it in the place of the inputs, which
//! stay listed as archived; the watermark does not move. The partition gets a view in which every hot version that
//! replaces a cold row has been found at its new place. Readers that have begun keep the files that they began with;
//! when nobody holds an input any more, it is deleted ([`retired`]).
//!
//! | after | durable |
//! |---|---|
//! | `reserve_number` | the number, never given again |
//! | marking | that the inputs are being compacted; for people only |
//! | `BatchWriter::finish` | the file |
//! | `ManifestService::publish` | the manifest; readers from now on read the new file |
//! | the partition's record | from here on a manifest from before is stale |
//! | `ManifestService::remove_archived` | that the inputs are gone |
//! | `publish` with `forget` | that they need not be looked for |
//!
//! A crash between any two leaves at most a file that no manifest names, or archived files; both are removed later.
//!
//! # What is removed
//!
//! Only what is dead by cold versions alone, and of that only what the inputs decide among themselves. What hot
//! versions replace stays, because somebody may read at an older moment. Deletions go when they were kept for
//! DELETED_RETENTION_HOURS and no earlier file holds an older version. `_born` is kept: in the merged interval it says
//! what it said before, because whatever a row replaced within the interval is no longer there, and whatever it
//! replaced before it still has `_born <= from`.
//!
//! One compaction of a partition runs at a time: a rebuild from footers relies on it.

pub(crate) mod choice;
mod merge;
pub(crate) mod retired;

use std::ops::Range;
use std::sync::Arc;

use arrow::array::AsArray;
use arrow::datatypes::{Int64Type, TimestampNanosecondType};
use kalamdb_commons::clock::Stopwatch;
use kalamdb_commons::ids::{CommitTime, SchemaVersion};
use kalamdb_commons::manifest;
use kalamdb_commons::schema::Table;
use kalamdb_commons::{Error, ErrorKind, Result};
use kalamdb_filestore::{BatchColumn, BatchWriter, Edit, Loaded, PublishError};
use merge::{Merge, Merged};

use crate::engine::Engine;
use crate::flush::{batch_meta, deletions_kept_since, reserve_number};
use crate::jobs::JobHandle;
use crate::metrics::Outcome;
use crate::partition::view::{ColdBatch, ColdView, recorded};
use crate::partition::{InFlight, Partition};
use choice::Shape;

/// How often a compaction begins or publishes again because somebody else published.
const ATTEMPTS_MAX: usize = 5;

/// What is to be compacted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Extent {
    /// Everything, into one batch: somebody asked.
    Everything,
    /// What the settings say is due.
    Due,
    /// Expired deletions, however few: the oldest batches through the last that has any.
    Expired,
    /// These of the active batches.
    Batches(Range<usize>),
}

/// What a compaction did.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Compacted {
    /// How many batches became one.
    pub(crate) batches: usize,
    /// The rows of that one.
    pub(crate) rows: u64,
    /// Rows that are gone: superseded ones, and expired deletions.
    pub(crate) removed: u64,
}

/// Compacts a partition. `None` if there is nothing to compact, or if the table's contents ended meanwhile.
pub(crate) async fn compact_partition(
    engine: &Arc<Engine>,
    partition: &Arc<Partition>,
    extent: &Extent,
    job: &JobHandle,
) -> Result<Option<Compacted>> {
    let watch = Stopwatch::start();
    let compacted = compact_extent(engine, partition, extent, job).await;
    let metrics = engine.metrics();
    metrics.compaction(Outcome::of(&compacted), watch);
    if let Ok(Some(compacted)) = &compacted {
        metrics.compaction_batches.inc_by(compacted.batches as u64);
        metrics.compaction_removed_rows.inc_by(compacted.removed);
    }
    compacted
}

async fn compact_extent(
    engine: &Arc<Engine>,
    partition: &Arc<Partition>,
    extent: &Extent,
    job: &JobHandle,
) -> Result<Option<Compacted>> {
    let _one_at_a_time = partition.compact().await;
    for attempt in 0..ATTEMPTS_MAX {
        match Compaction::begin(engine, partition, extent, job, attempt > 0).await {
            Ok(Some(compaction)) => return compaction.run().await,
            Ok(None) => {
                let _maintenance = partition.maintain().await;
                retired::remove(engine, partition).await?;
                return Ok(None);
            }
            Err(error) if error.kind() == ErrorKind::Conflict && attempt + 1 < ATTEMPTS_MAX => {}
            Err(error) => return Err(error),
        }
    }
    Ok(None)
}

struct Compaction<'a> {
    engine: &'a Arc<Engine>,
    partition: &'a Arc<Partition>,
    job: &'a JobHandle,
    table: Arc<Table>,
    /// The schema version of the output.
    version: SchemaVersion,
    inputs: Vec<ColdBatch>,
    /// F when the inputs were chosen: what their superseded rows are is known through it.
    known_through: CommitTime,
    number: u64,
    /// From before anybody else may look for orphans.
    _in_flight: InFlight<'a>,
}

impl<'a> Compaction<'a> {
    /// Chooses the inputs, reserves a number and marks the inputs in the manifest.
    async fn begin(
        engine: &'a Arc<Engine>,
        partition: &'a Arc<Partition>,
        extent: &Extent,
        job: &'a JobHandle,
        reload: bool,
    ) -> Result<Option<Self>> {
        let _maintenance = partition.maintain().await;
        // Held, so that the end of the contents is not published before this is over.
        let point = engine.committer().readers().enter();
        let Some(table) = point.catalog().table_by_incarnation(partition.id().incarnation).cloned() else {
            return Ok(None);
        };
        let view = sound_view(engine, partition, reload).await?;
        let Some(loaded) = view.loaded() else { return Ok(None) };
        // Who reads at an older moment knows older columns only, and may come to read the output. If nobody does,
        // nobody will: new readers begin at the newest moment.
        let alone = engine.committer().readers().oldest() >= point.through();
        let newest = view.batches().iter().map(|batch| batch.entry.schema_version).max();
        let version = if alone { table.version } else { newest.unwrap_or(table.version) };
        let Some(run) = chosen(engine, &table, version, &view, extent).await? else { return Ok(None) };
        let inputs = view.batches()[run].to_vec();
        let number = reserve_number(engine, partition, loaded).await?;
        // IMPORTANT: no file may have a number whose reservation a power cut could take back.
        engine.store().sync().await?;
        fail::fail_point!("compaction::after_number");
        let known_through = view.flushed_through();
        let _in_flight = partition.writing(number);
        let compaction = Self { engine, partition, job, table, version, inputs, known_through, number, _in_flight };
        let edit = Edit { compacting: Some(compaction.input_numbers()), ..Edit::default() };
        let marked = engine.cold().manifests().publish(partition.spec(), loaded, edit).await?;
        fail::fail_point!("compaction::after_mark");
        let next = engine.cold().relisted(&view, marked).await;
        partition.replace_view(next, engine.committer().readers().oldest());
        Ok(Some(compaction))
    }

    fn input_numbers(&self) -> Vec<u64> {
        self.inputs.iter().map(|input| input.entry.number).collect()
    }

    fn interval(&self) -> (CommitTime, CommitTime) {
        let ends = self.inputs.first().zip(self.inputs.last());
        ends.map_or((CommitTime::ZERO, CommitTime::ZERO), |(first, last)| (first.entry.from, last.entry.through))
    }

    async fn run(self) -> Result<Option<Compacted>> {
        let (entry, merged) = match self.write().await {
            Ok(written) => written,
            Err(error) => {
                self.unmark().await;
                // The contents may have ended while they were read.
                return if self.is_over() { Ok(None) } else { Err(error) };
            }
        };
        fail::fail_point!("compaction::after_batch");
        let done = Compacted {
            batches: self.inputs.len(),
            rows: entry.row_count,
            removed: merged.superseded_removed + merged.deletions_removed,
        };
        let _maintenance = self.partition.maintain().await;
        if !self.publish(entry, merged).await? {
            self.engine.cold().manifests().discard(self.partition.spec(), self.number).await?;
            return Ok(None);
        }
        let (engine, partition) = (self.engine, self.partition);
        tracing::info!(
            table = %self.table.name, scope = %partition.id().scope, batch = self.number, batches = done.batches,
            rows = done.rows, removed = done.removed, "partition compacted"
        );
        drop(self.inputs);
        retired::remove(engine, partition).await?;
        Ok(Some(done))
    }

    fn is_over(&self) -> bool {
        self.engine.catalog().table_by_incarnation(self.partition.id().incarnation).is_none()
    }

    /// Writes the file.
    async fn write(&self) -> Result<(manifest::Batch, Merged)> {
        let (engine, interval) = (self.engine, self.interval());
        let rows = self.inputs.iter().map(|input| input.entry.row_count).sum::<u64>();
        let rows = usize::try_from(rows).unwrap_or(usize::MAX);
        let meta = batch_meta(engine, &self.table, self.version, interval, rows);
        let storage = engine.cold().manifests().storages().get(&self.partition.spec().storage)?;
        let mut writer = BatchWriter::create(&storage, self.partition.spec(), self.number, meta).await?;
        match self.merge(&mut writer).await {
            Ok(merged) => Ok((writer.finish().await?, merged)),
            Err(error) => {
                writer.abort().await;
                Err(error)
            }
        }
    }

    async fn merge(&self, writer: &mut BatchWriter) -> Result<Merged> {
        let missing = self.engine.planner().missing_at(&self.table, self.version)?;
        let io = self.engine.cold().io();
        let merge = Merge {
            table: &self.table,
            version: self.version,
            missing: &missing,
            from: self.interval().0,
            kept_since: deletions_kept_since(self.engine, &self.table),
            io,
        };
        let pace = |rows, bytes| {
            self.job.progress(rows, bytes);
            if self.is_over() {
                return Err(Error::new(ErrorKind::Cancelled, "the contents were dropped or truncated"));
            }
            self.job.check()
        };
        let merged = merge.run(&self.inputs, writer, pace).await?;
        // What the inputs say about deletions that they lack already, and what was left out now.
        let mut complete_from = merged.forgotten.map_or(CommitTime::ZERO, |last| CommitTime(last.0 + 1));
        for input in &self.inputs {
            complete_from = complete_from.max(input.file.footer(io).await?.about.deletions_complete_from);
        }
        if complete_from > CommitTime::ZERO {
            writer.forget_deletions_through(CommitTime(complete_from.0 - 1)).await?;
        }
        Ok(merged)
    }

    /// Puts the file in the place of its inputs, in the manifest and in memory. False if they are no longer active, or
    /// the contents have ended: then nothing was changed. The caller holds the partition's maintenance.
    async fn publish(&self, entry: manifest::Batch, merged: Merged) -> Result<bool> {
        let manifests = self.engine.cold().manifests();
        for attempt in 0..ATTEMPTS_MAX {
            // Held, so that the end of the contents is not published in between.
            let point = self.engine.committer().readers().enter();
            if point.catalog().table_by_incarnation(self.partition.id().incarnation).is_none() {
                return Ok(false);
            }
            let view = sound_view(self.engine, self.partition, attempt > 0).await?;
            let Some(loaded) = view.loaded() else { return Ok(false) };
            if loaded.manifest.active().any(|batch| batch.number == self.number) {
                // The manifest was lost meanwhile, and what was made of the footers counts the file already.
                return Ok(true);
            }
            if !self.is_current(loaded) {
                return Ok(false);
            }
            let edit = Edit {
                add: vec![entry.clone()],
                retire: self.input_numbers(),
                compacting: Some(Vec::new()),
                deletions_complete_from: merged.forgotten.map_or(CommitTime::ZERO, |last| CommitTime(last.0 + 1)),
                ..Edit::default()
            };
            match manifests.publish(self.partition.spec(), loaded, edit).await {
                Ok(published) => {
                    fail::fail_point!("compaction::after_manifest");
                    self.show(&view, published, entry, merged).await?;
                    return Ok(true);
                }
                Err(PublishError::Conflict) => {}
                Err(PublishError::Failed(error)) => return Err(error),
            }
        }
        Ok(false)
    }

    /// Whether every input is active.
    fn is_current(&self, loaded: &Loaded) -> bool {
        let active: Vec<u64> = loaded.manifest.active().map(|batch| batch.number).collect();
        self.input_numbers().iter().all(|number| active.contains(number))
    }

    /// Gives new readers the view with the file in it.
    async fn show(&self, view: &ColdView, published: Loaded, entry: manifest::Batch, merged: Merged) -> Result<()> {
        let (engine, partition) = (self.engine, self.partition);
        let cold = engine.cold();
        let next = cold.compacted(partition, view, published, entry, merged.superseded, self.known_through).await?;
        // The rows that hot versions replace have moved: they are found before anybody reads.
        next.killed_at(partition, engine.published_through(), cold.io()).await?;
        partition.replace_view(next, engine.committer().readers().oldest());
        Ok(())
    }

    /// Takes the marks away again. If that fails, the next compaction does.
    async fn unmark(&self) {
        let _maintenance = self.partition.maintain().await;
        let _point = self.engine.committer().readers().enter();
        let view = self.partition.newest_view();
        let Some((view, loaded)) = view.as_ref().and_then(|view| Some((view, view.loaded()?))) else { return };
        if self.is_over() {
            return;
        }
        let edit = Edit { compacting: Some(Vec::new()), ..Edit::default() };
        match self.engine.cold().manifests().publish(self.partition.spec(), loaded, edit).await {
            Ok(published) => {
                let next = self.engine.cold().relisted(view, published).await;
                self.partition.replace_view(next, self.engine.committer().readers().oldest());
            }
            Err(error) => tracing::debug!(%error, "the inputs of a compaction that failed stay marked"),
        }
    }
}

/// The newest view, made anew from the stored manifest if that is asked for, or if its batches are not those that its
/// manifest lists. The caller holds the partition's maintenance and a read point at which the contents exist.
async fn sound_view(engine: &Engine, partition: &Arc<Partition>, reload: bool) -> Result<Arc<ColdView>> {
    let view = partition.view_at(CommitTime::MAX, engine.cold()).await?;
    let is_sound = view.loaded().is_none_or(|loaded| view.is_of(loaded));
    if is_sound && !reload {
        return Ok(view);
    }
    let stored = engine.cold().manifests().reload(partition.spec(), recorded(&partition.record())).await?;
    if stored.manifest.flushed_through != view.flushed_through() {
        // A flush that had no answer went through; the next flush takes it up.
        return Err(Error::conflict(format!("the manifest of {} is not the one in memory", partition.id())));
    }
    let next = engine.cold().view_of(partition, stored).await?;
    partition.replace_view(next.clone(), engine.committer().readers().oldest());
    Ok(next)
}

/// The places of the batches to be merged.
async fn chosen(
    engine: &Engine,
    table: &Table,
    version: SchemaVersion,
    view: &ColdView,
    extent: &Extent,
) -> Result<Option<Range<usize>>> {
    let kept_since = deletions_kept_since(engine, table);
    let shapes: Vec<Shape> = view.batches().iter().map(|batch| Shape::of(batch, kept_since)).collect();
    Ok(match extent {
        Extent::Due => choice::due(&shapes, &engine.settings().compaction),
        Extent::Expired => choice::all_expired(&shapes, &engine.settings().compaction),
        Extent::Batches(run) => (run.end <= shapes.len() && !run.is_empty()).then(|| run.clone()),
        Extent::Everything => match (choice::everything(&shapes), view.batches()) {
            (None, [only]) if has_something_to_remove(engine, table, version, only, kept_since).await? => Some(0..1),
            (run, _) => run,
        },
    })
}

/// Whether writing a batch anew would leave something out: expired deletions, or columns that were dropped.
async fn has_something_to_remove(
    engine: &Engine,
    table: &Table,
    version: SchemaVersion,
    batch: &ColdBatch,
    kept_since: CommitTime,
) -> Result<bool> {
    let io = engine.cold().io();
    let columns = table.columns_at(version).unwrap_or_else(|| table.columns());
    let footer = batch.file.footer(io).await?;
    if footer.about.columns.iter().any(|stored| columns.iter().all(|column| column.id != stored.id)) {
        return Ok(true);
    }
    let positions: Vec<u32> = footer.tombstones.iter().collect();
    let rows = batch.file.rows_at(&positions, &[BatchColumn::Updated, BatchColumn::Born], io).await?;
    let updated = rows.column(0).as_primitive::<TimestampNanosecondType>().values();
    let born = rows.column(1).as_primitive::<Int64Type>().values();
    let (from, kept_since) = (batch.entry.from.0, kept_since.0);
    Ok(updated.iter().zip(born).any(|(updated, born)| *updated < kept_since && *born > from))
}
