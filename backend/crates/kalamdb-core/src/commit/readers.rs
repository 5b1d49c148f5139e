//! Which moments are being read. A [`ReadPoint`] is one published pair (hot snapshot, U) and the catalog of that
//! moment, held while a statement, transaction or flush needs it; the registry knows the oldest one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use arc_swap::ArcSwap;
use kalamdb_commons::clock::Stopwatch;
use kalamdb_commons::ids::{CommitTime, PartitionId};
use kalamdb_store::Snapshot;
use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use crate::catalog::Catalog;
use crate::partition::view::ColdView;

/// What the committer publishes after each group: everything that a reader at `through` sees.
#[derive(Debug)]
pub(crate) struct Published {
    /// The hot tier at this moment, not one commit more or less.
    pub(crate) snapshot: Arc<dyn Snapshot>,
    /// U: the last commit time of the newest published group.
    pub(crate) through: CommitTime,
    /// The catalog that the commits through U left.
    pub(crate) catalog: Arc<Catalog>,
}

/// The newest published moment, and the moments being read.
#[derive(Debug)]
pub(crate) struct Readers {
    newest: ArcSwap<Published>,
    active: Mutex<BTreeMap<CommitTime, usize>>,
    left: Notify,
    /// The version of the newest catalog.
    catalog: watch::Sender<u64>,
}

impl Readers {
    /// Starts with the first moment after recovery.
    pub(crate) fn new(first: Published) -> Arc<Self> {
        let catalog = watch::Sender::new(first.catalog.version());
        Arc::new(Self { newest: ArcSwap::from_pointee(first), active: Mutex::default(), left: Notify::new(), catalog })
    }

    /// Makes a moment the one that new readers get. Called by the committer only, after its group is as durable
    /// as the setting promises.
    pub(crate) fn publish(&self, next: Published) {
        assert!(next.through >= self.newest.load().through, "U never goes back");
        let version = next.catalog.version();
        self.newest.store(Arc::new(next));
        self.left.notify_waiters();
        self.catalog.send_if_modified(|known| std::mem::replace(known, version) != version);
    }

    /// Changes when another catalog is published.
    pub(crate) fn catalog_versions(&self) -> watch::Receiver<u64> {
        self.catalog.subscribe()
    }

    /// The newest published moment, without holding it open.
    pub(crate) fn newest(&self) -> Arc<Published> {
        self.newest.load_full()
    }

    /// Begins reading at the newest moment.
    pub(crate) fn enter(self: &Arc<Self>) -> Arc<ReadPoint> {
        // The moment is chosen under the lock, so that `oldest` can never pass a reader that is about to register.
        let mut active = self.active.lock();
        let published = self.newest.load_full();
        *active.entry(published.through).or_default() += 1;
        Arc::new(ReadPoint { published, readers: self.clone(), entered: Stopwatch::start(), views: Mutex::default() })
    }

    /// The least U that anybody reads or could still begin to read at.
    pub(crate) fn oldest(&self) -> CommitTime {
        let active = self.active.lock();
        let newest = self.newest.load().through;
        active.first_key_value().map_or(newest, |(oldest, _)| newest.min(*oldest))
    }

    /// Waits until nobody reads at a moment before `through`.
    pub(crate) async fn wait_until_past(&self, through: CommitTime) {
        loop {
            let left = self.left.notified();
            tokio::pin!(left);
            left.as_mut().enable();
            if self.oldest() >= through {
                return;
            }
            left.await;
        }
    }

    fn leave(&self, through: CommitTime) {
        let mut active = self.active.lock();
        if let Some(count) = active.get_mut(&through) {
            *count -= 1;
            if *count == 0 {
                active.remove(&through);
            }
        }
        drop(active);
        self.left.notify_waiters();
    }
}

/// A moment being read.
#[derive(Debug)]
pub(crate) struct ReadPoint {
    published: Arc<Published>,
    readers: Arc<Readers>,
    entered: Stopwatch,
    /// The cold view of each partition that was read, kept to the end: compaction makes views for the same moment.
    views: Mutex<HashMap<PartitionId, Arc<ColdView>>>,
}

impl ReadPoint {
    /// The hot tier at this moment.
    pub(crate) fn snapshot(&self) -> &Arc<dyn Snapshot> {
        &self.published.snapshot
    }

    /// U.
    pub(crate) fn through(&self) -> CommitTime {
        self.published.through
    }

    /// The catalog at this moment.
    pub(crate) fn catalog(&self) -> &Arc<Catalog> {
        &self.published.catalog
    }

    /// The view of a partition that was read at this moment before.
    pub(crate) fn pinned(&self, partition: &PartitionId) -> Option<Arc<ColdView>> {
        self.views.lock().get(partition).cloned()
    }

    /// Keeps a view, unless one was kept meanwhile, and returns the one that is kept.
    pub(crate) fn pin(&self, partition: &PartitionId, view: Arc<ColdView>) -> Arc<ColdView> {
        self.views.lock().entry(partition.clone()).or_insert(view).clone()
    }

    /// How long it has been held.
    pub(crate) fn age(&self) -> std::time::Duration {
        self.entered.elapsed()
    }
}

impl Drop for ReadPoint {
    fn drop(&mut self) {
        self.readers.leave(self.published.through);
    }
}
