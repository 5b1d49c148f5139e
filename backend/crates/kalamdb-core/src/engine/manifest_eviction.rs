//! The eviction of manifests (FR-047 to FR-050): partitions that nobody asked for in long leave memory, and entries of
//! the manifest cache go by age, by idleness and at the limits. What was evicted is loaded again when it is asked for.

use std::cmp::Reverse;

use kalamdb_commons::Result;

use super::Engine;
use crate::partition::Partition;

impl Engine {
    /// Evicts, and says what went.
    pub(crate) async fn evict_manifests(&self) -> Result<String> {
        let oldest = self.committer().readers().oldest();
        let manifests = self.cold().manifests();
        let is_idle = |partition: &Partition| {
            partition.newest_loaded().is_some_and(|loaded| manifests.is_idle(&loaded)) && partition.release_view(oldest)
        };
        let closed = self.partitions().all().iter().filter(|partition| is_idle(partition)).count();
        let evicted = manifests.evict_cached().await?;
        Ok(format!(
            "{closed} idle partition(s) closed, {} manifest(s) out of memory, {} entries removed, {} left",
            evicted.idle, evicted.entries, evicted.left
        ))
    }

    /// Closes the partitions that were not used for the longest time, once open ones take more memory than they may.
    pub(crate) fn close_surplus_partitions(&self) {
        if !self.cold().is_over_limit() {
            return;
        }
        let oldest = self.committer().readers().oldest();
        let mut open: Vec<_> = self.partitions().all();
        open.retain(|partition| partition.newest_loaded().is_some());
        let last_used = |partition: &Partition| partition.newest_loaded().and_then(|loaded| loaded.last_accessed_ms());
        open.sort_by_cached_key(|partition| Reverse(last_used(partition)));
        // Well below the limit, so that not every statement has to look through all of them.
        while !self.cold().is_well_below_limit() {
            let Some(partition) = open.pop() else { return };
            partition.release_view(oldest);
        }
    }
}
