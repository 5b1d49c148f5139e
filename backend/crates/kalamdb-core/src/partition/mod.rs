//! A partition in memory: its hot counts, its overlay, and the cold views that somebody may still read.
//!
//! # What a reader does
//!
//! It enters a read point (hot snapshot, U), then asks each partition for [`Partition::view_at`] U: the newest cold
//! view with F <= U. In that order nothing can be missed, because rows only move from hot to cold. The view gives
//! its batches with their dead positions at U ([`view::ColdView::killed_at`]), and the hot snapshot gives the rows with
//! `_updated > F`.
//!
//! The first reader has the manifest loaded, and the others wait for that one loading. A manifest that is lost is derived
//! from the files' footers there, so readers wait for these once, and never for the job that stores it ([`lost`]). A view
//! that is in memory goes on being read while the stored manifest is mended.
//!
//! # What moves the watermark
//!
//! A flush publishes a manifest and then hands the new view to [`Partition::publish`]. Views that a reader still needs
//! (those with F <= its U < the next F) stay. Appending to the overlay and publishing a view exclude each other through
//! the state's lock. A compaction moves rows and not the watermark: its view takes the place of one with the same F
//! ([`Partition::replace_view`]). A reader that has begun keeps the view that it began with ([`Partition::view_for`]), also
//! when another has come to serve its moment: the overlay keeps what the oldest view needs that anybody holds.
//!
//! When you change what a view is made from, look at [`lookup`], which answers from the same parts for single rows,
//! and at `flush` and `compaction`, which make the next view.

pub(crate) mod births;
pub(crate) mod entries;
pub(crate) mod log_pins;
pub(crate) mod lookup;
pub(crate) mod lost;
pub(crate) mod overlay;
pub(crate) mod registry;
pub(crate) mod view;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use kalamdb_commons::ids::{CommitTime, PartitionId, Scope, TableRef};
use kalamdb_commons::schema::Table;
use kalamdb_commons::{Error, Result};
use kalamdb_filestore::{Asked, Loaded, PartitionSpec};
use kalamdb_store::keys::{self, KeySpace, PartitionRecord};
use kalamdb_store::{Snapshot, rows};
use log_pins::{LogPin, LogPins};
use overlay::{Kill, Overlay};
use parking_lot::Mutex;
use tokio::sync::OwnedMutexGuard;
use view::ColdView;

use crate::commit::group::Effects;
use crate::commit::readers::ReadPoint;
use crate::threads;

/// How many entries of the hot tier are read at a time.
pub(crate) const SCAN_PAGE_ENTRIES: usize = 8_192;
/// And how many bytes.
pub(crate) const SCAN_PAGE_BYTES: usize = 4 << 20;
/// How many entries are read at first of a partition that may have none.
const FIRST_PAGE_ENTRIES: usize = 32;

/// What the hot tier of a partition holds, counted.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct HotCount {
    /// Current rows, deletions and not yet removed garbage included.
    pub(crate) rows: u64,
    /// The bytes of their values.
    pub(crate) bytes: u64,
    /// Of the rows, those that a flush made garbage and that are not removed yet.
    pub(crate) garbage: u64,
    /// The first commit since the last flush.
    pub(crate) oldest: Option<CommitTime>,
    /// The last commit.
    pub(crate) last: CommitTime,
}

/// What the hot tier holds over all partitions: kept as they change, so that asking costs the same however many there
/// are.
#[derive(Debug, Default)]
pub(crate) struct HotTotal {
    rows: AtomicU64,
    bytes: AtomicU64,
}

impl HotTotal {
    pub(crate) fn rows(&self) -> u64 {
        self.rows.load(Ordering::Relaxed)
    }

    pub(crate) fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// One partition went from one count to another. The sums wrap on the way, never in the end.
    fn moved(&self, before: HotCount, after: HotCount) {
        self.rows.fetch_add(after.rows.wrapping_sub(before.rows), Ordering::Relaxed);
        self.bytes.fetch_add(after.bytes.wrapping_sub(before.bytes), Ordering::Relaxed);
    }
}

/// What a partition is opened for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Somebody reads it, or wrote what is flushed: it stays open for a while.
    Use,
    /// Work of the server, for which nothing stays open that nobody uses (FR-049).
    Upkeep,
}

/// Who wants to know that a partition has new commits.
pub(crate) trait Watcher: std::fmt::Debug + Send + Sync {
    /// A group with commits to the partition has been published. Called by the committer: it must not wait.
    fn published(&self);
}

#[derive(Debug)]
struct State {
    record: PartitionRecord,
    record_written: bool,
    overlay: Overlay,
    hot: HotCount,
    /// Views by rising F; empty until the manifest is first needed.
    views: VecDeque<Arc<ColdView>>,
    /// The bytes of the newest view's files, also after it was let go of: nobody else publishes.
    cold_bytes: Option<u64>,
    /// Every view that was made and may still be held, by a reader only perhaps: each needs the kills after its F.
    made: Vec<Weak<ColdView>>,
    /// The batch number that a compaction is writing: it is no orphan.
    in_flight: Option<u64>,
    /// The highest reserved batch number when no file was left that the manifest does not name.
    tidy_through: Option<u64>,
    /// When it was last opened only to see whether it needs a compaction, in ns; 0 if never.
    looked_at_ns: i64,
    /// Commits through here are of contents that were removed; zero if none were.
    emptied_through: CommitTime,
    log: LogPins,
    /// No entry of the change log is older; `None` if it is empty.
    log_begins: Option<CommitTime>,
    watcher: Option<Arc<dyn Watcher>>,
}

impl State {
    /// Makes a view the newest.
    fn add(&mut self, view: Arc<ColdView>) {
        self.made.retain(|made| made.strong_count() > 0);
        self.made.push(Arc::downgrade(&view));
        self.cold_bytes = Some(view.batches().iter().map(|batch| batch.entry.byte_size).sum());
        self.views.push_back(view);
    }

    /// Drops the views that nobody who begins from `oldest` on is given, and the kills that no view needs.
    fn forget_old_views(&mut self, oldest: CommitTime) {
        while self.views.get(1).is_some_and(|next| next.flushed_through() <= oldest) {
            self.views.pop_front();
        }
        if self.views.is_empty() {
            return;
        }
        // IMPORTANT: of all views that are held, not of those here. A reader keeps the view that it began with, also one
        // at a moment that a newer view has come to serve, and looks for the kills only when it scans.
        let held = self.made.iter().filter_map(Weak::upgrade);
        if let Some(flushed) = held.map(|view| view.flushed_through()).min() {
            self.overlay.forget_through(flushed);
        }
    }
}

/// A partition.
#[derive(Debug)]
pub(crate) struct Partition {
    id: PartitionId,
    keys: KeySpace,
    spec: PartitionSpec,
    has_history: bool,
    /// How long rows are seen, if they expire.
    ttl_ns: Option<i64>,
    total: Arc<HotTotal>,
    state: Mutex<State>,
    loading: Arc<tokio::sync::Mutex<()>>,
    /// Held by whoever makes the next view or changes the record: one flush at a time.
    maintenance: Arc<tokio::sync::Mutex<()>>,
    /// Held by the one compaction that runs. A rebuild relies on there being one at a time.
    compaction: tokio::sync::Mutex<()>,
}

impl Partition {
    /// A partition as its record left it, or a new one. Its hot rows are counted by [`Self::recover_hot`], and from then
    /// on in `total` too.
    pub(crate) fn new(table: &Table, scope: &Scope, record: Option<PartitionRecord>, total: &Arc<HotTotal>) -> Self {
        let id = PartitionId { incarnation: table.incarnation, scope: scope.clone() };
        let record_written = record.is_some();
        let trimmed = record.as_ref().map_or(CommitTime::ZERO, |record| record.change_log_trimmed_through);
        let record = record.unwrap_or_else(|| new_record(&table.name));
        Self {
            keys: KeySpace::new(&table.name, table.id, &id),
            spec: PartitionSpec {
                table_id: table.id,
                table: table.name.clone(),
                incarnation: table.incarnation,
                scope: scope.clone(),
                storage: table.options.storage.clone(),
            },
            has_history: table.kind.has_history(),
            ttl_ns: table
                .options
                .ttl_seconds
                .map(|seconds| i64::try_from(seconds.saturating_mul(1_000_000_000)).unwrap_or(i64::MAX)),
            total: total.clone(),
            state: Mutex::new(State {
                record,
                record_written,
                overlay: Overlay::default(),
                hot: HotCount::default(),
                views: VecDeque::new(),
                cold_bytes: None,
                made: Vec::new(),
                in_flight: None,
                tidy_through: None,
                looked_at_ns: 0,
                emptied_through: CommitTime::ZERO,
                log: LogPins::new(trimmed),
                log_begins: record_written.then_some(trimmed),
                watcher: None,
            }),
            loading: Arc::default(),
            maintenance: Arc::default(),
            compaction: tokio::sync::Mutex::default(),
            id,
        }
    }

    pub(crate) fn id(&self) -> &PartitionId {
        &self.id
    }

    pub(crate) fn keys(&self) -> &KeySpace {
        &self.keys
    }

    pub(crate) fn spec(&self) -> &PartitionSpec {
        &self.spec
    }

    /// Whether it has a cold tier and keeps deletions; false for STREAM tables.
    pub(crate) fn has_history(&self) -> bool {
        self.has_history
    }

    /// The last commit whose rows have expired at a moment of the clock; zero if rows do not expire.
    pub(crate) fn expired_through(&self, now_ns: i64) -> CommitTime {
        self.ttl_ns.map_or(CommitTime::ZERO, |ttl_ns| CommitTime(now_ns.saturating_sub(ttl_ns).max(0)))
    }

    /// The expired rows have been removed. `left` is the oldest of those that are left, of all through `seen`.
    pub(crate) fn expired(&self, left: Option<CommitTime>, seen: CommitTime) {
        let hot = &mut self.state.lock().hot;
        hot.oldest = left.or_else(|| (hot.last > seen).then_some(CommitTime(seen.0 + 1)));
    }

    /// The right to make the next view and to change the record.
    pub(crate) async fn maintain(&self) -> OwnedMutexGuard<()> {
        self.maintenance.clone().lock_owned().await
    }

    /// The same if nobody has it, without waiting.
    pub(crate) fn try_maintain(&self) -> Option<OwnedMutexGuard<()>> {
        self.maintenance.clone().try_lock_owned().ok()
    }

    /// The right to compact. Whoever only waits for a compaction to end drops it at once.
    pub(crate) async fn compact(&self) -> tokio::sync::MutexGuard<'_, ()> {
        self.compaction.lock().await
    }

    /// Notes the batch number that a compaction writes, until the answer is dropped.
    pub(crate) fn writing(&self, number: u64) -> InFlight<'_> {
        self.state.lock().in_flight = Some(number);
        InFlight(self)
    }

    /// The batch number that a compaction is writing.
    pub(crate) fn in_flight(&self) -> Option<u64> {
        self.state.lock().in_flight
    }

    /// When it was last opened only to be looked at, in ns; 0 if never.
    pub(crate) fn looked_at(&self) -> i64 {
        self.state.lock().looked_at_ns
    }

    /// Notes that it is.
    pub(crate) fn look(&self, now_ns: i64) {
        self.state.lock().looked_at_ns = now_ns;
    }

    /// Whether a file may lie in its directory that the manifest does not name: one was begun since the last look, or
    /// nobody has looked since the start.
    pub(crate) fn may_have_orphans(&self) -> bool {
        let state = self.state.lock();
        state.record.reserved_batch > 0 && state.tidy_through != Some(state.record.reserved_batch)
    }

    /// Notes that no such file is left, or that one may be.
    pub(crate) fn set_tidy(&self, is_tidy: bool) {
        let mut state = self.state.lock();
        state.tidy_through = is_tidy.then_some(state.record.reserved_batch);
    }

    /// The record, as it is or will be stored.
    pub(crate) fn record(&self) -> PartitionRecord {
        self.state.lock().record.clone()
    }

    /// The record has been stored.
    pub(crate) fn recorded(&self, record: PartitionRecord) {
        let mut state = self.state.lock();
        state.record = record;
        state.record_written = true;
    }

    /// The record to store with the partition's first commit.
    pub(crate) fn unwritten_record(&self) -> Option<PartitionRecord> {
        let state = self.state.lock();
        (!state.record_written).then(|| state.record.clone())
    }

    /// The newest F that is known.
    pub(crate) fn flushed_through(&self) -> CommitTime {
        let state = self.state.lock();
        state.views.back().map_or(state.record.flushed_through, |view| view.flushed_through())
    }

    /// Who is told of new commits from now on.
    pub(crate) fn set_watcher(&self, watcher: Option<Arc<dyn Watcher>>) {
        self.state.lock().watcher = watcher;
    }

    /// New commits have been published.
    pub(crate) fn published(&self) {
        let watcher = self.state.lock().watcher.clone();
        if let Some(watcher) = watcher {
            watcher.published();
        }
    }

    /// Keeps the change log above `cursor` from being trimmed. `None` if it has been already.
    pub(crate) fn pin_log(self: &Arc<Self>, cursor: CommitTime) -> Option<LogPin> {
        self.state.lock().log.add(cursor).then(|| LogPin::new(self.clone(), cursor))
    }

    /// How far the change log may be trimmed, at most through `wanted`. From now on nobody begins to read below.
    pub(crate) fn trim_log(&self, wanted: CommitTime) -> CommitTime {
        self.state.lock().log.trim(wanted)
    }

    /// Whether the change log may have entries through a moment.
    pub(crate) fn log_reaches_back_to(&self, through: CommitTime) -> bool {
        self.state.lock().log_begins.is_some_and(|begins| begins <= through)
    }

    /// The change log has been trimmed as far as the record says, and begins with this entry; it is empty if there is none,
    /// unless one was committed after `seen`.
    pub(crate) fn log_trimmed(&self, first: Option<CommitTime>, seen: CommitTime) {
        let mut state = self.state.lock();
        let last = state.record.change_log_trimmed_through;
        state.log.trimmed(last);
        let newer = (state.hot.last > seen).then_some(CommitTime(seen.0 + 1));
        state.log_begins = first.or(newer);
    }

    fn move_pin(&self, from: Option<CommitTime>, to: Option<CommitTime>) {
        self.state.lock().log.move_pin(from, to);
    }

    /// What the hot tier holds.
    pub(crate) fn hot(&self) -> HotCount {
        self.state.lock().hot
    }

    /// The last commit, to contents that were removed too, or a moment after it.
    pub(crate) fn last_commit(&self) -> CommitTime {
        let state = self.state.lock();
        state.hot.last.max(state.emptied_through)
    }

    /// Commits through here are of contents that were removed; zero if none were.
    pub(crate) fn emptied_through(&self) -> CommitTime {
        self.state.lock().emptied_through
    }

    /// A group has been committed: called by the committer before it publishes the group's U.
    pub(crate) fn committed(&self, effects: Effects) {
        let mut state = self.state.lock();
        state.record_written = true;
        for kill in effects.kills {
            state.overlay.push(kill);
        }
        state.log_begins = state.log_begins.or(effects.first);
        let before = state.hot;
        let hot = &mut state.hot;
        hot.rows = hot.rows.saturating_add_signed(effects.rows);
        hot.bytes = hot.bytes.saturating_add_signed(effects.bytes);
        hot.oldest = hot.oldest.or(effects.first);
        hot.last = effects.last.unwrap_or(hot.last);
        self.total.moved(before, *hot);
    }

    /// Counts the hot rows of a snapshot and rebuilds the overlay from them: at start, and after a commit whose
    /// outcome was unknown.
    pub(crate) async fn recover_hot(&self, snapshot: &dyn Snapshot) -> Result<()> {
        let mut hot = HotCount::default();
        let mut kills = Vec::new();
        let prefix = keys::current_prefix(&self.keys);
        let end = keys::prefix_end(&prefix);
        let mut next = Some(prefix);
        let flushed = self.record().flushed_through;
        // Most partitions have few hot rows or none, and a start looks at all of them: a page that small is read without
        // handing the work to another thread.
        let mut page_entries = FIRST_PAGE_ENTRIES;
        while let Some(start) = next {
            let page = snapshot.scan(&start, &end, page_entries, SCAN_PAGE_BYTES).await?;
            page_entries = SCAN_PAGE_ENTRIES;
            for (key, value) in &page.entries {
                let header = rows::header(value)?;
                hot.rows += 1;
                hot.bytes += value.len() as u64;
                hot.last = hot.last.max(header.updated);
                if header.updated <= flushed {
                    hot.garbage += 1;
                } else {
                    hot.oldest = Some(hot.oldest.map_or(header.updated, |oldest| oldest.min(header.updated)));
                }
                if self.has_history && header.born < header.updated {
                    kills.push(Kill { row: keys::row_id_of(key)?, born: header.born, at: header.updated });
                }
            }
            next = page.next;
        }
        let mut state = self.state.lock();
        self.total.moved(state.hot, hot);
        state.hot = hot;
        state.log_begins = Some(state.record.change_log_trimmed_through);
        state.overlay = Overlay::recovered(kills);
        Ok(())
    }

    /// The newest cold view with F <= `through`, for the server's own work, which is no use of it.
    pub(crate) async fn view_at(self: &Arc<Self>, through: CommitTime, cold: &view::ColdTier) -> Result<Arc<ColdView>> {
        Ok(self.view(through, cold, Purpose::Upkeep).await?.0)
    }

    /// The newest cold view with F <= `through`, and whether storage had to be asked. Asks for the manifest if the
    /// partition has not been used for long; `cold` knows how.
    pub(crate) async fn view(
        self: &Arc<Self>,
        through: CommitTime,
        cold: &view::ColdTier,
        purpose: Purpose,
    ) -> Result<(Arc<ColdView>, Asked)> {
        let mut asked = None;
        loop {
            if let Some(view) = self.held_view(through)?
                && (asked.is_some() || purpose == Purpose::Upkeep || cold.touch(&view))
            {
                return Ok((view, asked.unwrap_or(Asked::Cache)));
            }
            threads::leave().await;
            let single_flight = self.loading.clone().lock_owned().await;
            asked = match self.newest_view() {
                // Somebody else has just loaded it.
                Some(_) if purpose == Purpose::Upkeep => None,
                Some(newest) => Some(cold.renew(self, &newest).await?),
                // It may be let go of before it is used: then once more.
                None => Some(self.load(cold.clone(), purpose, single_flight).await?),
            };
        }
    }

    /// Brings the view into memory, in a task of its own: whoever asked first may give up, and the others who wait for
    /// the single flight are not to begin anew.
    async fn load(
        self: &Arc<Self>,
        cold: view::ColdTier,
        purpose: Purpose,
        single_flight: OwnedMutexGuard<()>,
    ) -> Result<Asked> {
        let partition = self.clone();
        let loading = tokio::spawn(async move {
            let emptied_through = partition.emptied_through();
            let loaded = cold.load(&partition, purpose).await;
            let mut state = partition.state.lock();
            if state.emptied_through > emptied_through {
                // What was being loaded, or could not be, was removed meanwhile: who asked asks again.
                return Ok(Asked::Storage);
            }
            let (view, asked) = loaded?;
            state.add(view);
            drop(state);
            drop(single_flight);
            Ok(asked)
        });
        loading.await.map_err(|error| Error::internal("a manifest was not loaded to the end").with_source(error))?
    }

    /// The newest view, if the manifest is in memory.
    pub(crate) fn newest_view(&self) -> Option<Arc<ColdView>> {
        self.state.lock().views.back().cloned()
    }

    /// The bytes of its active files, if that is known without opening it.
    pub(crate) fn cold_bytes(&self) -> Option<u64> {
        let state = self.state.lock();
        if state.record.reserved_batch == 0 { Some(0) } else { state.cold_bytes }
    }

    /// Lets go of the view, if there is one only and no reader is at an older moment: the next use loads it again.
    /// Says whether it did.
    pub(crate) fn release_view(&self, oldest: CommitTime) -> bool {
        // Whoever is about to publish the next view counts on this one staying until then.
        let Ok(_maintenance) = self.maintenance.try_lock() else { return false };
        let mut state = self.state.lock();
        let is_alone = state.views.len() == 1;
        let is_current = state.views.front().is_some_and(|view| view.flushed_through() <= oldest);
        if is_alone && is_current {
            state.views.clear();
        }
        is_alone && is_current
    }

    /// The manifest that is in memory, if the partition is open and has a cold tier.
    pub(crate) fn newest_loaded(&self) -> Option<Loaded> {
        self.state.lock().views.back().and_then(|view| view.loaded().cloned())
    }

    /// The cold view of a reader: the newest with F <= its U when it first asks, and that one to its end, so that
    /// nothing that is published meanwhile changes what it sees. Says whether storage had to be asked.
    pub(crate) async fn view_for(
        self: &Arc<Self>,
        point: &ReadPoint,
        cold: &view::ColdTier,
    ) -> Result<(Arc<ColdView>, Asked)> {
        self.pinned_view(point, cold, Purpose::Use).await
    }

    /// The same for the server's own work, which is no use of it.
    pub(crate) async fn view_for_upkeep(
        self: &Arc<Self>,
        point: &ReadPoint,
        cold: &view::ColdTier,
    ) -> Result<Arc<ColdView>> {
        Ok(self.pinned_view(point, cold, Purpose::Upkeep).await?.0)
    }

    async fn pinned_view(
        self: &Arc<Self>,
        point: &ReadPoint,
        cold: &view::ColdTier,
        purpose: Purpose,
    ) -> Result<(Arc<ColdView>, Asked)> {
        if let Some(view) = point.pinned(&self.id) {
            return Ok((view, Asked::Cache));
        }
        let (view, asked) = self.view(point.through(), cold, purpose).await?;
        Ok((point.pin(&self.id, view), asked))
    }

    fn held_view(&self, through: CommitTime) -> Result<Option<Arc<ColdView>>> {
        let state = self.state.lock();
        if state.views.is_empty() {
            return Ok(None);
        }
        let found = state.views.iter().rev().find(|view| view.flushed_through() <= through);
        match found {
            Some(view) => Ok(Some(view.clone())),
            None => Err(Error::internal(format!("no cold view of partition {} at {through} is held", self.id))),
        }
    }

    /// Makes a view the newest. `oldest` is the least U that anybody reads at: older views that it does not need
    /// are dropped, and the overlay's kills that no view needs which is still held.
    pub(crate) fn publish(&self, view: Arc<ColdView>, oldest: CommitTime) {
        let mut state = self.state.lock();
        let flushed = view.flushed_through();
        state.hot.oldest = (state.hot.last > flushed).then_some(CommitTime(flushed.0 + 1));
        state.add(view);
        state.forget_old_views(oldest);
    }

    /// Puts a view in the place of the newest, which has the same F: a compaction moved rows, or the manifest lists
    /// files differently. Readers that have begun keep theirs.
    pub(crate) fn replace_view(&self, view: Arc<ColdView>, oldest: CommitTime) {
        let mut state = self.state.lock();
        let flushed = view.flushed_through();
        state.views.retain(|held| held.flushed_through() != flushed);
        assert!(state.views.back().is_none_or(|last| last.flushed_through() < flushed), "F never goes back");
        state.add(view);
        state.forget_old_views(oldest);
    }

    /// Everything of the partition is being removed, of which nothing is newer than `through`: it is as new from here on.
    /// Who began to read before goes on with its view and snapshot.
    pub(crate) fn emptied(&self, through: CommitTime) {
        let mut state = self.state.lock();
        self.total.moved(state.hot, HotCount::default());
        let (log, watcher) = (std::mem::take(&mut state.log), state.watcher.take());
        // IMPORTANT: as in `State::forget_old_views`, a reader looks for the kills that its view needs when it scans.
        let (overlay, made) = (std::mem::take(&mut state.overlay), std::mem::take(&mut state.made));
        let emptied_through = state.emptied_through.max(through);
        *state = State {
            record: new_record(&self.spec.table),
            record_written: false,
            overlay,
            hot: HotCount::default(),
            views: VecDeque::new(),
            cold_bytes: None,
            made,
            in_flight: None,
            tidy_through: None,
            looked_at_ns: 0,
            emptied_through,
            log,
            log_begins: None,
            watcher,
        };
    }

    /// Drops views that nobody needs any more.
    pub(crate) fn forget_old_views(&self, oldest: CommitTime) {
        self.state.lock().forget_old_views(oldest);
    }

    /// Notes how many hot rows a flush turned into garbage, or that all of it has been removed.
    pub(crate) fn set_garbage(&self, rows: u64) {
        self.state.lock().hot.garbage = rows;
    }

    /// The kills of cold rows, for a view with `flushed`, in `(after, through]`.
    fn kills(&self, flushed: CommitTime, after: CommitTime, through: CommitTime) -> Vec<Kill> {
        let state = self.state.lock();
        let kills = state.overlay.between(after, through).iter();
        kills.filter(|kill| kill.kills_cold(flushed, through)).copied().collect()
    }

    /// How many kills the overlay holds.
    pub(crate) fn overlay_len(&self) -> usize {
        self.state.lock().overlay.len()
    }
}

/// A batch number that is being written.
#[derive(Debug)]
pub(crate) struct InFlight<'a>(&'a Partition);

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        self.0.state.lock().in_flight = None;
    }
}

impl Drop for Partition {
    fn drop(&mut self) {
        self.total.moved(self.state.get_mut().hot, HotCount::default());
    }
}

/// The record of a partition that nothing was written to.
fn new_record(table: &TableRef) -> PartitionRecord {
    PartitionRecord {
        table: table.clone(),
        manifest_version: 0,
        flushed_through: CommitTime::ZERO,
        reserved_batch: 0,
        change_log_trimmed_through: CommitTime::ZERO,
    }
}
