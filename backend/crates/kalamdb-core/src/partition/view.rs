//! A cold view: one version of a partition's manifest with its files, and the dead positions of each.
//!
//! A position is dead because a later batch replaces the row (**superseded**), because the version is a deletion
//! (**tombstone**), or because a hot version replaced it (**killed**, a function of the reader's U). The first two
//! belong to the view and never change. Kills are located when a reader first needs them and kept, for the
//! newest U seen, so that each is located once per view.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use futures::{StreamExt, TryStreamExt};
use kalamdb_commons::clock::Clock;
use kalamdb_commons::ids::{CommitTime, RowId};
use kalamdb_commons::{Error, Result, manifest};
use kalamdb_filestore::{
    Asked, BatchColumn, BatchFile, BatchStatistics, FOOTERS_AT_ONCE, Found, IoCounters, Loaded, ManifestService,
    Recorded,
};
use kalamdb_store::keys::PartitionRecord;
use roaring::RoaringBitmap;

use super::lost::LostManifests;
use super::{Partition, Purpose};
use crate::stats::StatementStats;

/// What a view takes besides its batches, about.
const VIEW_BYTES: usize = 1_000;
/// What a batch of a view takes besides its columns' ranges and its bitmaps, about.
const BATCH_BYTES: usize = 1_000;
/// What the range of a column takes, in the manifest, the view and the statistics together, about.
const COLUMN_BYTES: usize = 400;

/// A batch of a view.
#[derive(Debug, Clone)]
pub(crate) struct ColdBatch {
    /// The file.
    pub(crate) file: Arc<BatchFile>,
    /// What the manifest says of it.
    pub(crate) entry: Arc<manifest::Batch>,
    /// Rows that a later batch replaces.
    pub(crate) superseded: Arc<RoaringBitmap>,
    /// Rows that are deletions.
    pub(crate) tombstones: Arc<RoaringBitmap>,
}

impl ColdBatch {
    /// The ids of the rows at some positions, in their order.
    pub(crate) async fn ids_at(&self, positions: &RoaringBitmap, io: &Arc<IoCounters>) -> Result<Vec<RowId>> {
        let positions: Vec<u32> = positions.iter().collect();
        let rows = self.file.rows_at(&positions, &[BatchColumn::Id], io).await?;
        Ok(rows.column(0).as_primitive::<Int64Type>().values().iter().map(|id| RowId(*id)).collect())
    }

    fn may_hold(&self, row: RowId) -> bool {
        self.entry.min_id.is_some_and(|min| min <= row) && self.entry.max_id.is_some_and(|max| row <= max)
    }
}

/// Where a row lies in a view.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The index of its batch in the view.
    pub(crate) batch: usize,
    /// Its position in the file.
    pub(crate) position: u32,
}

/// Killed positions through a moment, one bitmap per batch.
#[derive(Debug, Clone)]
struct Killed {
    through: CommitTime,
    positions: Vec<Arc<RoaringBitmap>>,
}

/// One version of a partition's cold tier.
#[derive(Debug)]
pub(crate) struct ColdView {
    /// The manifest; `None` if the partition never had one.
    loaded: Option<Loaded>,
    batches: Vec<ColdBatch>,
    /// What the hot tier still holds through here was removed with the contents that it was of.
    emptied_through: CommitTime,
    killed: tokio::sync::Mutex<Killed>,
    _charge: Option<Charge>,
}

/// About what a view takes in memory, its part of the manifest included, as long as it lives.
#[derive(Debug)]
struct Charge {
    sum: Arc<AtomicU64>,
    bytes: u64,
}

impl Charge {
    fn of(batches: &[ColdBatch], sum: &Arc<AtomicU64>) -> Self {
        let batch = |batch: &ColdBatch| {
            let bitmaps = batch.superseded.serialized_size() + batch.tombstones.serialized_size();
            BATCH_BYTES + batch.entry.columns.len() * COLUMN_BYTES + bitmaps
        };
        let bytes = (VIEW_BYTES + batches.iter().map(batch).sum::<usize>()) as u64;
        sum.fetch_add(bytes, Ordering::Relaxed);
        Self { sum: sum.clone(), bytes }
    }
}

impl Drop for Charge {
    fn drop(&mut self) {
        self.sum.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl ColdView {
    /// The view of a partition that has no cold tier, and whose contents through a moment were removed.
    fn empty(emptied_through: CommitTime) -> Self {
        let killed = tokio::sync::Mutex::new(Killed { through: CommitTime::ZERO, positions: Vec::new() });
        Self { loaded: None, batches: Vec::new(), emptied_through, killed, _charge: None }
    }

    fn new(loaded: Loaded, batches: Vec<ColdBatch>, charged: &Arc<AtomicU64>) -> Self {
        let through = loaded.manifest.flushed_through;
        let positions = vec![Arc::default(); batches.len()];
        let charge = Charge::of(&batches, charged);
        let killed = tokio::sync::Mutex::new(Killed { through, positions });
        Self { loaded: Some(loaded), batches, emptied_through: CommitTime::ZERO, killed, _charge: Some(charge) }
    }

    /// F.
    pub(crate) fn flushed_through(&self) -> CommitTime {
        self.loaded.as_ref().map_or(CommitTime::ZERO, |loaded| loaded.manifest.flushed_through)
    }

    /// The last commit of which its readers find nothing in the hot tier: its rows are cold, or were removed.
    pub(crate) fn gone_through(&self) -> CommitTime {
        self.flushed_through().max(self.emptied_through)
    }

    /// The manifest, as it was loaded or published; `None` if the partition never had one.
    pub(crate) fn loaded(&self) -> Option<&Loaded> {
        self.loaded.as_ref()
    }

    /// The active batches, in the order of their intervals.
    pub(crate) fn batches(&self) -> &[ColdBatch] {
        &self.batches
    }

    /// Whether its batches are those that a manifest lists as active.
    pub(crate) fn is_of(&self, loaded: &Loaded) -> bool {
        self.batches.iter().map(|batch| batch.entry.number).eq(loaded.manifest.active().map(|batch| batch.number))
    }

    /// The batches' statistics in columns.
    pub(crate) fn statistics(&self) -> Option<&Arc<BatchStatistics>> {
        self.loaded.as_ref().map(|loaded| &loaded.statistics)
    }

    /// Where the newest cold version of each row lies. `rows` must be sorted; the answer is parallel to it.
    pub(crate) async fn locate(&self, rows: &[RowId], io: &Arc<IoCounters>) -> Result<Vec<Option<Place>>> {
        Ok(locate(&self.batches, rows, io).await?.0)
    }

    /// The same for a statement that looks the rows up.
    pub(crate) async fn find(&self, rows: &[RowId], stats: &StatementStats) -> Result<Vec<Option<Place>>> {
        let in_range = |batch: &&ColdBatch| rows.iter().any(|row| batch.may_hold(*row));
        let candidates = self.batches.iter().filter(in_range).count();
        let (places, asked) = locate(&self.batches, rows, &stats.io).await?;
        StatementStats::add(&stats.batches_considered, self.batches.len() as u64);
        StatementStats::add(&stats.batches_pruned_by_manifest, (self.batches.len() - candidates) as u64);
        StatementStats::add(&stats.batches_read, asked);
        Ok(places)
    }

    /// The positions of each batch that hot versions killed, for a reader at `through`.
    pub(crate) async fn killed_at(
        &self,
        partition: &Partition,
        through: CommitTime,
        io: &Arc<IoCounters>,
    ) -> Result<Vec<Arc<RoaringBitmap>>> {
        let flushed = self.flushed_through();
        let mut newest = self.killed.lock().await;
        if through < newest.through {
            // A reader older than what was located: its kills are fewer. It is rare, so nothing is kept.
            let mut killed = vec![Arc::default(); self.batches.len()];
            self.kill(partition, &mut killed, &partition.kills(flushed, flushed, through), io).await?;
            return Ok(killed);
        }
        let kills = partition.kills(flushed, newest.through, through);
        if !kills.is_empty() {
            let mut positions = newest.positions.clone();
            self.kill(partition, &mut positions, &kills, io).await?;
            newest.positions = positions;
        }
        newest.through = through;
        Ok(newest.positions.clone())
    }

    /// Whatever a hot version replaces that was born through F was live at F, so that a batch holds it.
    async fn kill(
        &self,
        partition: &Partition,
        positions: &mut [Arc<RoaringBitmap>],
        kills: &[super::Kill],
        io: &Arc<IoCounters>,
    ) -> Result<()> {
        let mut rows: Vec<RowId> = kills.iter().map(|kill| kill.row).collect();
        rows.sort_unstable();
        rows.dedup();
        for (row, place) in rows.iter().zip(self.locate(&rows, io).await?) {
            let place = place.ok_or_else(|| {
                Error::corrupt(format!("a hot version replaces row {row} of {}, which no batch holds", partition.id()))
            })?;
            Arc::make_mut(&mut positions[place.batch]).insert(place.position);
        }
        Ok(())
    }
}

/// How many batches are asked at once, from the newest back: one as long as memory answers, and twice as many each time
/// that something had to be read, so that a first lookup over many batches does not wait for each of them in turn.
pub(super) struct Ahead<'a> {
    io: &'a IoCounters,
    pace: Pace,
}

/// How many there were, and how many parts had been read by then.
struct Pace {
    misses: u64,
    batches: usize,
}

impl<'a> Ahead<'a> {
    pub(super) fn new(io: &'a IoCounters) -> Self {
        Self { io, pace: Pace { misses: io.cache_misses(), batches: 0 } }
    }

    /// For the next time: at least one.
    pub(super) fn batches(&mut self) -> usize {
        self.pace.next(self.io.cache_misses())
    }
}

impl Pace {
    fn next(&mut self, misses: u64) -> usize {
        // The counters may be shared: others may have read something before the first batch is asked. None at all would
        // be taken for a row that is nowhere.
        self.batches = if misses > self.misses { (self.batches * 2).clamp(1, FOOTERS_AT_ONCE) } else { 1 };
        self.misses = misses;
        self.batches
    }
}

/// Where the newest version of each row lies in some batches, and how many of them were asked.
async fn locate(batches: &[ColdBatch], rows: &[RowId], io: &Arc<IoCounters>) -> Result<(Vec<Option<Place>>, u64)> {
    let mut asked_batches = 0;
    let mut places = vec![None; rows.len()];
    let mut left: Vec<usize> = (0..rows.len()).collect();
    let (mut older, mut ahead) = (batches.iter().enumerate().rev(), Ahead::new(io));
    while !left.is_empty() {
        let wanted = ahead.batches();
        let mut next: Vec<(usize, Vec<usize>, Vec<RowId>)> = Vec::new();
        while next.len() < wanted {
            let Some((index, batch)) = older.next() else { break };
            let asked: Vec<usize> = left.iter().copied().filter(|at| batch.may_hold(rows[*at])).collect();
            if !asked.is_empty() {
                let ids = asked.iter().map(|at| rows[*at]).collect();
                next.push((index, asked, ids));
            }
        }
        if next.is_empty() {
            break;
        }
        asked_batches += next.len() as u64;
        let asking: Vec<_> =
            next.iter().map(|(index, _, ids)| batches[*index].file.positions_of_ids(ids, io)).collect();
        let mut found = futures::stream::iter(asking).buffered(next.len());
        for (index, asked, _) in &next {
            for (at, position) in asked.iter().zip(found.try_next().await?.unwrap_or_default()) {
                // The newest batch that holds a row counts, and it comes first.
                places[*at] = places[*at].or(position.map(|position| Place { batch: *index, position }));
            }
        }
        left.retain(|at| places[*at].is_none());
    }
    Ok((places, asked_batches))
}

/// Makes views: the way to the cold tier.
#[derive(Debug, Clone)]
pub(crate) struct ColdTier {
    manifests: Arc<ManifestService>,
    /// What opening views read.
    io: Arc<IoCounters>,
    /// What all views take, about.
    held_bytes: Arc<AtomicU64>,
    held_bytes_max: u64,
    lost: Arc<LostManifests>,
}

impl ColdTier {
    pub(crate) fn new(manifests: ManifestService, held_bytes_max: u64, clock: Arc<dyn Clock>) -> Self {
        let lost = Arc::new(LostManifests::new(clock));
        Self { manifests: Arc::new(manifests), io: Arc::default(), held_bytes: Arc::default(), held_bytes_max, lost }
    }

    /// The partitions whose stored manifest is to be mended.
    pub(crate) fn lost(&self) -> &Arc<LostManifests> {
        &self.lost
    }

    /// What open partitions take in memory, about.
    pub(crate) fn held_bytes(&self) -> u64 {
        self.held_bytes.load(Ordering::Relaxed)
    }

    /// Whether open partitions take more memory than they may.
    pub(crate) fn is_over_limit(&self) -> bool {
        self.held_bytes() > self.held_bytes_max
    }

    /// Whether there is room again for a good while.
    pub(crate) fn is_well_below_limit(&self) -> bool {
        self.held_bytes() <= self.held_bytes_max / 8 * 7
    }

    /// The manifests and, through them, the storages.
    pub(crate) fn manifests(&self) -> &ManifestService {
        &self.manifests
    }

    /// What opening views and compacting read.
    pub(crate) fn io(&self) -> &Arc<IoCounters> {
        &self.io
    }

    /// Asks for a partition's manifest and opens its view. A partition that never reserved a batch number has no
    /// cold tier of its own, and nothing is asked. A manifest that is lost is derived from footers, and mended later.
    pub(crate) async fn load(&self, partition: &Arc<Partition>, purpose: Purpose) -> Result<(Arc<ColdView>, Asked)> {
        let record = partition.record();
        if record.reserved_batch == 0 {
            return Ok((Arc::new(ColdView::empty(partition.emptied_through())), Asked::Cache));
        }
        let known = recorded(&record);
        let found = match purpose {
            Purpose::Use => self.manifests.look_up(partition.spec(), known).await?,
            Purpose::Upkeep => self.manifests.find(partition.spec(), known).await?,
        };
        let (loaded, asked) = match found {
            Found::Ready(loaded, asked) => (loaded, asked),
            Found::Lost(_) => {
                self.lost.note(partition);
                (self.manifests.derive(partition.spec(), known).await?, Asked::Storage)
            }
        };
        Ok((self.view_of(partition, loaded).await?, asked))
    }

    /// The view of a manifest. What has to be read of the batches for it is read of several at a time.
    pub(crate) async fn view_of(&self, partition: &Partition, loaded: Loaded) -> Result<Arc<ColdView>> {
        let opening: Vec<_> = loaded.manifest.active().map(|entry| self.open(partition, entry.clone())).collect();
        let mut opening = futures::stream::iter(opening).buffered(FOOTERS_AT_ONCE);
        let mut batches: Vec<ColdBatch> = Vec::new();
        while let Some((batch, superseding)) = opening.try_next().await? {
            self.add(&mut batches, batch, &superseding).await?;
        }
        drop(opening);
        Ok(Arc::new(ColdView::new(loaded, batches, &self.held_bytes)))
    }

    /// Notes that a view is used. False if it has been held for so long that [`Self::renew`] is due.
    pub(crate) fn touch(&self, view: &ColdView) -> bool {
        view.loaded().is_none_or(|loaded| self.manifests.touch(loaded))
    }

    /// Finds out whether a view's manifest is still the stored one. This node is the only one that publishes for its
    /// partitions, so a stored manifest that it did not publish is not taken over while the view stands: the next
    /// publication meets it in its compare-and-set. Nor is anything derived when it is lost: it is mended, and the view
    /// stands.
    pub(crate) async fn renew(&self, partition: &Arc<Partition>, view: &ColdView) -> Result<Asked> {
        let Some(held) = view.loaded() else { return Ok(Asked::Cache) };
        let found = self.manifests.look_up(partition.spec(), recorded(&partition.record())).await?;
        let Found::Ready(loaded, asked) = found else {
            self.lost.note(partition);
            return Ok(Asked::Storage);
        };
        if loaded.manifest.version != held.manifest.version {
            let (held, stored) = (held.manifest.version, loaded.manifest.version);
            tracing::warn!(partition = %partition.id(), held, stored, "the stored manifest is not the one in memory");
        }
        held.renewed_by(&loaded);
        Ok(asked)
    }

    /// The view after a flush added one batch, and none was retired.
    pub(crate) async fn extend(
        &self,
        partition: &Partition,
        view: &ColdView,
        loaded: Loaded,
        added: manifest::Batch,
    ) -> Result<Arc<ColdView>> {
        let mut batches = view.batches.clone();
        let (batch, superseding) = self.open(partition, added).await?;
        self.add(&mut batches, batch, &superseding).await?;
        Ok(Arc::new(ColdView::new(loaded, batches, &self.held_bytes)))
    }

    /// The same batches under a manifest that lists them differently.
    pub(crate) async fn relisted(&self, view: &ColdView, loaded: Loaded) -> Arc<ColdView> {
        let killed = view.killed.lock().await.clone();
        let mut next = ColdView::new(loaded, view.batches.clone(), &self.held_bytes);
        next.killed = tokio::sync::Mutex::new(killed);
        Arc::new(next)
    }

    /// The view after a compaction: one batch in the place of those whose intervals it covers. `superseded` are its
    /// rows that batches through `known_through` replace; what later ones replace of it is found here.
    pub(crate) async fn compacted(
        &self,
        partition: &Partition,
        view: &ColdView,
        loaded: Loaded,
        made: manifest::Batch,
        superseded: RoaringBitmap,
        known_through: CommitTime,
    ) -> Result<Arc<ColdView>> {
        let (from, through) = (made.from, made.through);
        let (mut made, _) = self.open(partition, made).await?;
        made.superseded = Arc::new(superseded);
        let later: Vec<&ColdBatch> = view.batches.iter().filter(|batch| batch.entry.from >= through).collect();
        for batch in later.iter().filter(|batch| batch.entry.from >= known_through) {
            if batch.entry.superseding_count == 0 {
                continue;
            }
            let footer = batch.file.footer(&self.io).await?;
            let rows = batch.ids_at(&footer.superseding, &self.io).await?;
            let found = made.file.positions_of_ids(&rows, &self.io).await?;
            Arc::make_mut(&mut made.superseded).extend(found.into_iter().flatten());
        }
        let mut batches: Vec<ColdBatch> =
            view.batches.iter().filter(|batch| batch.entry.through <= from).cloned().collect();
        batches.push(made);
        batches.extend(later.into_iter().cloned());
        Ok(Arc::new(ColdView::new(loaded, batches, &self.held_bytes)))
    }

    /// A batch, and the rows of it that replace an older version.
    async fn open(&self, partition: &Partition, entry: manifest::Batch) -> Result<(ColdBatch, Vec<RowId>)> {
        let storage = self.manifests.storages().get(&partition.spec().storage)?;
        let file = BatchFile::open(&storage, partition.spec().path().as_str(), &entry);
        let tombstones = match entry.tombstone_count {
            0 => Arc::default(),
            _ => Arc::new(file.footer(&self.io).await?.tombstones.clone()),
        };
        let has_superseding = entry.superseding_count > 0;
        let batch = ColdBatch { file, entry: Arc::new(entry), superseded: Arc::default(), tombstones };
        let superseding = match has_superseding {
            true => batch.ids_at(&batch.file.footer(&self.io).await?.superseding, &self.io).await?,
            false => Vec::new(),
        };
        Ok((batch, superseding))
    }

    /// Appends a batch and marks what it supersedes: the newest older version of each of its superseding rows.
    async fn add(&self, batches: &mut Vec<ColdBatch>, batch: ColdBatch, superseding: &[RowId]) -> Result<()> {
        for (row, place) in superseding.iter().zip(locate(batches, superseding, &self.io).await?.0) {
            let place = place.ok_or_else(|| {
                Error::corrupt(format!(
                    "row {row} of {} replaces an older version that no earlier batch holds",
                    batch.entry.path
                ))
            })?;
            Arc::make_mut(&mut batches[place.batch].superseded).insert(place.position);
        }
        batches.push(batch);
        Ok(())
    }
}

/// What the hot tier remembers of a partition's manifest, as the manifest service takes it.
pub(crate) fn recorded(record: &PartitionRecord) -> Option<Recorded> {
    (record.manifest_version > 0).then(|| (record.manifest_version, record.flushed_through).into())
}

#[cfg(test)]
mod tests;
