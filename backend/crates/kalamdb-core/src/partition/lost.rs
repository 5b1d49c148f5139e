//! The partitions whose stored manifest is missing, damaged or stale, and waits for the job that mends it.
//!
//! Reading needs no more than the footers; who reads notes the partition here and goes on. A partition that could not be
//! mended is not noted again for a while, so that its readers do not fill the list of jobs.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use kalamdb_commons::clock::Clock;
use kalamdb_commons::ids::PartitionId;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Partition;

/// After how long one that could not be mended is tried again.
const RETRY_MS: i64 = 60_000;

/// The partitions, in the order in which they were found.
#[derive(Debug)]
pub(crate) struct LostManifests {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
    found: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: VecDeque<Arc<Partition>>,
    /// When those that failed may be tried again, ms since 1970.
    failed: BTreeMap<PartitionId, i64>,
}

impl LostManifests {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Self {
        Self { clock, state: Mutex::default(), found: Notify::new() }
    }

    /// Notes a partition, once.
    pub(crate) fn note(&self, partition: &Arc<Partition>) {
        let mut state = self.state.lock();
        let is_waiting = state.waiting.iter().any(|other| other.id() == partition.id());
        let is_hopeless = state.failed.get(partition.id()).is_some_and(|until| self.clock.now_ms() < *until);
        if !is_waiting && !is_hopeless {
            state.waiting.push_back(partition.clone());
            self.found.notify_one();
        }
    }

    /// The one that has waited longest.
    pub(crate) fn next(&self) -> Option<Arc<Partition>> {
        self.state.lock().waiting.pop_front()
    }

    /// How many wait.
    pub(crate) fn len(&self) -> usize {
        self.state.lock().waiting.len()
    }

    /// Returns when one is noted.
    pub(crate) async fn noted(&self) {
        self.found.notified().await;
    }

    /// Its manifest is stored, or the partition is gone.
    pub(crate) fn mended(&self, partition: &Partition) {
        self.state.lock().failed.remove(partition.id());
    }

    /// It could not be mended.
    pub(crate) fn failed(&self, partition: &Partition) {
        self.state.lock().failed.insert(partition.id().clone(), self.clock.now_ms().saturating_add(RETRY_MS));
    }
}
