//! What a statement cost, counted where the cost arises.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kalamdb_commons::clock::Stopwatch;
use kalamdb_filestore::IoCounters;
use serde::Serialize;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters of one statement. Shared with everything that works for it.
        #[derive(Debug, Default)]
        pub struct StatementStats {
            started: Option<Stopwatch>,
            /// What was read from the cold tier.
            pub io: Arc<IoCounters>,
            $($(#[$doc])* pub $name: AtomicU64,)*
        }

        /// The counters at one moment.
        #[derive(Debug, Default, Clone, Copy, PartialEq, Serialize)]
        pub struct StatsSnapshot {
            /// Milliseconds since the statement began.
            pub execution_ms: f64,
            /// Bytes asked of storage.
            pub bytes_read: u64,
            /// Requests to storage.
            pub storage_requests: u64,
            $($(#[$doc])* pub $name: u64,)*
        }

        impl StatementStats {
            /// Reads all counters.
            pub fn snapshot(&self) -> StatsSnapshot {
                StatsSnapshot {
                    execution_ms: self.started.map_or(0.0, |started| started.elapsed_ms()),
                    bytes_read: self.io.bytes(),
                    storage_requests: self.io.requests(),
                    $($name: self.$name.load(Ordering::Relaxed),)*
                }
            }
        }
    };
}

counters! {
    /// Hot rows read, superseded or not.
    hot_rows_read,
    /// Active batches of the partitions read.
    batches_considered,
    /// Of them, proved irrelevant by the manifest.
    batches_pruned_by_manifest,
    /// Of them, proved irrelevant by a Bloom filter.
    batches_pruned_by_bloom_filter,
    /// Of them, opened.
    batches_read,
    /// Partitions whose manifest was in memory.
    manifest_cache_hits,
    /// Partitions whose manifest was read from storage.
    manifest_cache_misses,
}

impl StatementStats {
    /// Counters of a statement that begins now.
    pub fn begin() -> Self {
        Self { started: Some(Stopwatch::start()), ..Self::default() }
    }

    pub(crate) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }
}
