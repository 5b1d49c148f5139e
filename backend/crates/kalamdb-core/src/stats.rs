//! What a statement cost, counted where the cost arises.
//!
//! Rows, batches and times are counted here, requests and bytes by the cold tier's own counters, the rows that a scan of
//! batches gives and the row groups and pages that it passes over by DataFusion, whose metrics are read when the sum is
//! asked for. Nothing is counted before it happens, and nothing is estimated.

use std::ops::AddAssign;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use datafusion::physical_plan::metrics::{ExecutionPlanMetricsSet, MetricValue};
use kalamdb_commons::clock::Stopwatch;
use kalamdb_filestore::IoCounters;
use parking_lot::Mutex;
use serde::Serialize;

use crate::engine::usage::UserUsage;
use crate::watched::Watched;

/// How many scans are looked at whenever rows are given.
const SCANS_WALKED_MAX: usize = 64;

macro_rules! counters {
    ($($(#[$doc:meta])* $name:ident,)*) => {
        /// Counters of one statement. Shared with everything that works for it.
        #[derive(Debug, Default)]
        pub struct StatementStats {
            started: Option<Stopwatch>,
            /// Who used it, told when the statement has ended.
            user: Option<Arc<UserUsage>>,
            /// The rows and bytes that the user has been told of.
            told: Mutex<(u64, u64)>,
            /// Told too.
            watched: Option<Watched>,
            /// What was read from the cold tier.
            pub io: Arc<IoCounters>,
            scans: Mutex<Vec<Scan>>,
            $($(#[$doc])* pub $name: AtomicU64,)*
        }

        /// The counters of a statement at one moment, or of several added up.
        #[derive(Debug, Default, Clone, Copy, PartialEq, Serialize)]
        pub struct StatsSnapshot {
            /// Milliseconds since the statement began, or that the statements took one after the other.
            pub execution_ms: f64,
            $($(#[$doc])* pub $name: u64,)*
            /// Row groups of the batches read that were not, because of their ranges.
            pub row_groups_pruned: u64,
            /// Pages of the row groups read that were not, because of their ranges.
            pub pages_pruned: u64,
            /// Questions to Bloom filters, of lookups and of predicates.
            pub bloom_tests: u64,
            /// Bytes asked of storage.
            pub bytes_read: u64,
            /// Requests to storage.
            pub storage_requests: u64,
            /// Footers, filters, key directories and pages of ids that were in memory.
            pub cache_hits: u64,
            /// The same that had to be read.
            pub cache_misses: u64,
        }

        impl AddAssign for StatsSnapshot {
            fn add_assign(&mut self, other: Self) {
                self.execution_ms += other.execution_ms;
                $(self.$name += other.$name;)*
                self.row_groups_pruned += other.row_groups_pruned;
                self.pages_pruned += other.pages_pruned;
                self.bloom_tests += other.bloom_tests;
                self.bytes_read += other.bytes_read;
                self.storage_requests += other.storage_requests;
                self.cache_hits += other.cache_hits;
                self.cache_misses += other.cache_misses;
            }
        }

        impl StatementStats {
            /// Reads all counters.
            pub fn snapshot(&self) -> StatsSnapshot {
                let scanned = self.scanned();
                let mut snapshot = StatsSnapshot {
                    execution_ms: self.started.map_or(0.0, |started| started.elapsed_ms()),
                    $($name: self.$name.load(Ordering::Relaxed),)*
                    row_groups_pruned: scanned.row_groups_pruned,
                    pages_pruned: scanned.pages_pruned,
                    bloom_tests: self.io.bloom_tests(),
                    bytes_read: self.io.bytes(),
                    storage_requests: self.io.requests(),
                    cache_hits: self.io.cache_hits(),
                    cache_misses: self.io.cache_misses(),
                };
                snapshot.cold_rows_read += scanned.rows;
                snapshot
            }
        }
    };
}

counters! {
    /// Hot rows read: versions that the reader's manifest does not hold, decoded.
    hot_rows_read,
    /// Rows that came out of the batches read, dead ones and those of pages ruled out left aside.
    cold_rows_read,
    /// Active batches of the partitions read.
    batches_considered,
    /// Of them, proved irrelevant by the manifest.
    batches_pruned_by_manifest,
    /// Of them, skipped because all of their rows are dead.
    batches_without_live_rows,
    /// Of them, proved irrelevant by a Bloom filter.
    batches_pruned_by_bloom_filter,
    /// Of them, read: a scan asked for pages of them, a lookup for keys or ids.
    batches_read,
    /// Nanoseconds spent on comparing with the manifest's ranges.
    manifest_pruning_ns,
    /// Nanoseconds spent on asking Bloom filters for scans, reading those that were not in memory included.
    bloom_pruning_ns,
    /// Partitions whose manifest the cache had, so that storage was not asked.
    manifest_cache_hits,
    /// Partitions whose manifest was read from storage, or compared with it.
    manifest_cache_misses,
}

impl StatementStats {
    /// Counters of a statement that begins now.
    pub fn begin() -> Self {
        let mut stats = Self::default();
        stats.started = Some(Stopwatch::start());
        stats
    }

    /// The same for a statement that a user pays for.
    pub(crate) fn begin_for(user: Arc<UserUsage>) -> Self {
        let mut stats = Self::begin();
        stats.user = Some(user);
        stats
    }

    /// The same for a statement that is counted and logged.
    pub(crate) fn begin_watched(user: Arc<UserUsage>, watched: Watched) -> Self {
        let mut stats = Self::begin_for(user);
        stats.watched = Some(watched);
        stats
    }

    /// It has ended, and has cost this much, although what worked for it may not have been dropped yet.
    pub fn end(&self) -> StatsSnapshot {
        let cost = self.snapshot();
        self.tell(cost.hot_rows_read + cost.cold_rows_read);
        if let Some(watched) = &self.watched {
            watched.end(&cost);
        }
        cost
    }

    /// Tells the user what was not told yet: as rows are given, so that a long answer counts for the requests beside it,
    /// before the end of the answer, so that it counts for the next one, and the rest when all that worked for the
    /// statement has gone.
    pub(crate) fn charge(&self) {
        if self.user.is_none() {
            return;
        }
        // Walking over the metrics of very many scans for each batch would take longer than the batch: the end tells them.
        let is_short = self.scans.lock().len() <= SCANS_WALKED_MAX;
        let scanned = if is_short { self.scanned().rows } else { 0 };
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        self.tell(read(&self.hot_rows_read) + read(&self.cold_rows_read) + scanned);
    }

    /// Tells the user of so many rows in all, and of the bytes.
    fn tell(&self, rows: u64) {
        let Some(user) = &self.user else { return };
        let bytes = self.io.bytes();
        let mut told = self.told.lock();
        user.scanned(rows.saturating_sub(told.0), bytes.saturating_sub(told.1));
        *told = (rows.max(told.0), bytes);
    }

    /// Who watches it.
    pub(crate) fn watched(&self) -> Option<&Watched> {
        self.watched.as_ref()
    }

    pub(crate) fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    /// Adds what a watch shows to a counter of nanoseconds.
    pub(crate) fn add_time(counter: &AtomicU64, watch: &Stopwatch) {
        Self::add(counter, u64::try_from(watch.elapsed().as_nanos()).unwrap_or(u64::MAX));
    }

    /// Takes in the metrics of a scan of batch files, once for each scan. One that reads no columns reads no rows.
    pub(crate) fn scan(&self, metrics: &ExecutionPlanMetricsSet, reads_columns: bool) {
        self.scans.lock().push(Scan { metrics: metrics.clone(), reads_columns });
    }

    /// What scans of batch files have done so far.
    fn scanned(&self) -> Scanned {
        let mut scanned = Scanned::default();
        for scan in self.scans.lock().iter() {
            for metric in scan.metrics.clone_inner().iter() {
                match (metric.value().name(), counted(metric.value())) {
                    ("output_rows", Some(count)) if scan.reads_columns => scanned.rows += count,
                    ("row_groups_pruned_statistics" | "limit_pruned_row_groups", Some(count))
                    | ("row_groups_pruned_dynamic_filter", Some(count)) => scanned.row_groups_pruned += count,
                    ("page_index_pages_pruned", Some(count)) => scanned.pages_pruned += count,
                    _ => {}
                }
            }
        }
        scanned
    }
}

/// What DataFusion counts of a scan of batch files.
#[derive(Debug)]
struct Scan {
    metrics: ExecutionPlanMetricsSet,
    reads_columns: bool,
}

/// Sums over scans.
#[derive(Debug, Default)]
struct Scanned {
    rows: u64,
    row_groups_pruned: u64,
    pages_pruned: u64,
}

fn counted(value: &MetricValue) -> Option<u64> {
    match value {
        MetricValue::PruningMetrics { pruning_metrics, .. } => Some(pruning_metrics.pruned() as u64),
        MetricValue::OutputRows(count) | MetricValue::Count { count, .. } => Some(count.value() as u64),
        _ => None,
    }
}

impl Drop for StatementStats {
    /// The statement has ended, with everything that worked for it.
    fn drop(&mut self) {
        if self.user.is_some() {
            self.end();
        }
    }
}

#[cfg(test)]
mod tests;
