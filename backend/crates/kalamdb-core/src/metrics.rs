//! The figures of the server, for operators: one registry behind `/metrics` and `system.stats`.
//!
//! What happens is counted where it happens, in the fields of [`Metrics`]. What is kept elsewhere anyway (sizes, jobs,
//! the store's own counters) is copied into the registry when somebody asks ([`Engine::figures`]), so that it costs
//! nothing in between. Names follow Prometheus's conventions; what a figure is, its documentation here says, which is also
//! what `/metrics` says. No label has a value that a user chooses.
//!
//! [`Engine::figures`]: crate::Engine::figures

use std::time::Duration;

use kalamdb_commons::clock::Stopwatch;
use prometheus::core::Collector;
pub use prometheus::proto::MetricFamily;
use prometheus::proto::{Metric, MetricType};
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

/// Upper bounds of times, in seconds.
const SECONDS: [f64; 16] =
    [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 5.0, 30.0, 120.0];
/// Upper bounds of numbers of things.
const SIZES: [f64; 10] = [1.0, 2.0, 4.0, 8.0, 16.0, 64.0, 256.0, 1_024.0, 4_096.0, 16_384.0];

/// A kind of figure that can be registered under a name.
pub trait Figure: Collector + Clone + Sized + 'static {
    /// One with a name, an explanation and labels.
    ///
    /// # Errors
    /// If the name or a label is not one that Prometheus takes.
    fn named(name: &str, help: &str, labels: &[&str]) -> prometheus::Result<Self>;
}

impl Figure for IntCounter {
    fn named(name: &str, help: &str, _: &[&str]) -> prometheus::Result<Self> {
        Self::new(name, help)
    }
}

impl Figure for IntGauge {
    fn named(name: &str, help: &str, _: &[&str]) -> prometheus::Result<Self> {
        Self::new(name, help)
    }
}

impl Figure for IntCounterVec {
    fn named(name: &str, help: &str, labels: &[&str]) -> prometheus::Result<Self> {
        Self::new(Opts::new(name, help), labels)
    }
}

impl Figure for IntGaugeVec {
    fn named(name: &str, help: &str, labels: &[&str]) -> prometheus::Result<Self> {
        Self::new(Opts::new(name, help), labels)
    }
}

impl Figure for Histogram {
    fn named(name: &str, help: &str, _: &[&str]) -> prometheus::Result<Self> {
        Self::with_opts(histogram(name, help))
    }
}

impl Figure for HistogramVec {
    fn named(name: &str, help: &str, labels: &[&str]) -> prometheus::Result<Self> {
        Self::new(histogram(name, help), labels)
    }
}

fn histogram(name: &str, help: &str) -> HistogramOpts {
    let buckets = if name.ends_with("_seconds") { SECONDS.to_vec() } else { SIZES.to_vec() };
    HistogramOpts::new(name, help).buckets(buckets)
}

/// Makes a figure and registers it. Names are constants of the program.
pub fn registered<F: Figure>(registry: &Registry, name: &str, help: &str, labels: &[&str]) -> F {
    let made = F::named(name, help.trim(), labels).and_then(|figure| {
        registry.register(Box::new(figure.clone()))?;
        Ok(figure)
    });
    made.unwrap_or_else(|error| unreachable!("{name}: {error}"))
}

macro_rules! figures {
    ($($name:literal [$($label:literal),*] $field:ident: $type:ty, $help:literal;)*) => {
        /// Every figure that the engine keeps or copies.
        #[derive(Debug)]
        pub struct Metrics {
            registry: Registry,
            /// Held while the figures that are kept elsewhere are copied and read.
            pub(crate) reading: tokio::sync::Mutex<()>,
            $(#[doc = $help] pub(crate) $field: $type,)*
        }

        impl Default for Metrics {
            fn default() -> Self {
                let registry = Registry::new();
                let metrics = Self {
                    $($field: registered(&registry, $name, $help, &[$($label),*]),)*
                    reading: tokio::sync::Mutex::default(),
                    registry,
                };
                metrics.begin();
                metrics
            }
        }
    };
}

figures! {
    "kalamdb_statements_total" ["kind", "outcome"] statements: IntCounterVec,
        "Statements that have ended, by kind, and whether they were ok, an error, or refused for want of a right.";
    "kalamdb_statement_seconds" ["kind"] statement_seconds: HistogramVec,
        "How long statements took, from their beginning to the last row.";
    "kalamdb_slow_statements_total" [] slow_statements: IntCounter,
        "Statements that took longer than logging.slow_statement_ms.";
    "kalamdb_rows_returned_total" [] rows_returned: IntCounter,
        "Rows that statements gave.";
    "kalamdb_rows_written_total" ["kind"] rows_written: IntCounterVec,
        "Rows that were written, by kind: insert, update, delete, import. Those of transactions that were rolled back count too.";
    "kalamdb_rows_read_total" ["tier"] rows_read: IntCounterVec,
        "Rows that statements looked at, in the hot and the cold tier.";
    "kalamdb_batches_read_total" [] batches_read: IntCounter,
        "Batch files that statements read.";
    "kalamdb_batches_pruned_total" ["by"] batches_pruned: IntCounterVec,
        "Batch files that statements did not read, by what ruled them out: manifest, bloom_filter, no_live_rows.";
    "kalamdb_bloom_tests_total" [] bloom_tests: IntCounter,
        "Questions to Bloom filters.";
    "kalamdb_storage_read_bytes_total" [] storage_read_bytes: IntCounter,
        "Bytes that statements read from the cold tier.";
    "kalamdb_storage_requests_total" [] storage_requests: IntCounter,
        "Requests to storages on behalf of statements.";
    "kalamdb_metadata_cache_hits_total" [] metadata_cache_hits: IntCounter,
        "Footers, filters and indexes of batch files that were needed and in memory.";
    "kalamdb_metadata_cache_misses_total" [] metadata_cache_misses: IntCounter,
        "Footers, filters and indexes of batch files that had to be read.";
    "kalamdb_manifest_cache_hits_total" [] manifest_cache_hits: IntCounter,
        "Manifests that were needed and in the cache.";
    "kalamdb_manifest_cache_misses_total" [] manifest_cache_misses: IntCounter,
        "Manifests that had to be read from storage.";
    "kalamdb_manifest_cache_revalidated_total" [] manifest_cache_revalidated: IntCounter,
        "Manifests in the cache that were compared with storage.";
    "kalamdb_commits_total" [] commits: IntCounter,
        "Commits of statements, transactions and chunks of imports.";
    "kalamdb_commit_failures_total" [] commit_failures: IntCounter,
        "Groups of commits whose write failed.";
    "kalamdb_commit_group_changes" [] commit_group_changes: Histogram,
        "Changes in each group commit.";
    "kalamdb_commit_sync_seconds" [] commit_sync_seconds: Histogram,
        "How long each group took to become as durable as hot.durability promises: with sync, one write and one fsync.";
    "kalamdb_log_syncs_total" [] log_syncs: IntCounter,
        "Syncs of the hot tier's log.";
    "kalamdb_log_written_bytes_total" [] log_written_bytes: IntCounter,
        "Bytes written to the hot tier's log.";
    "kalamdb_flushes_total" ["outcome"] flushes: IntCounterVec,
        "Flushes of partitions: completed, skipped, failed.";
    "kalamdb_flush_seconds" [] flush_seconds: Histogram,
        "How long flushes of partitions took.";
    "kalamdb_flush_rows_total" [] flush_rows: IntCounter,
        "Rows that flushes wrote into batch files.";
    "kalamdb_flush_written_bytes_total" [] flush_written_bytes: IntCounter,
        "Bytes of the batch files that flushes wrote.";
    "kalamdb_compactions_total" ["outcome"] compactions: IntCounterVec,
        "Compactions of partitions: completed, skipped, failed.";
    "kalamdb_compaction_seconds" [] compaction_seconds: Histogram,
        "How long compactions of partitions took.";
    "kalamdb_compaction_batches_total" [] compaction_batches: IntCounter,
        "Batch files that compactions merged.";
    "kalamdb_compaction_removed_rows_total" [] compaction_removed_rows: IntCounter,
        "Superseded rows and expired deletions that compactions removed.";
    "kalamdb_jobs" ["kind", "status"] jobs: IntGaugeVec,
        "Jobs in system.jobs, by kind and status.";
    "kalamdb_logins_total" ["outcome"] logins: IntCounterVec,
        "Logins: ok, or refused.";
    "kalamdb_sessions_begun_total" [] sessions_begun: IntCounter,
        "Sessions that logins began.";
    "kalamdb_sessions_ended_total" [] sessions_ended: IntCounter,
        "Sessions that were ended before they expired: by logging out, or because a refresh token came twice.";
    "kalamdb_token_refreshes_total" [] token_refreshes: IntCounter,
        "Refresh tokens that gave new tokens.";
    "kalamdb_audit_entries_total" [] audit_entries: IntCounter,
        "Entries that were committed to the audit log.";
    "kalamdb_live_subscriptions" [] live_subscriptions: IntGauge,
        "Live queries that are open.";
    "kalamdb_live_connections" [] live_connections: IntGauge,
        "Connections of live queries that are open.";
    "kalamdb_live_connections_ended_total" ["reason"] live_connections_ended: IntCounterVec,
        "Connections of live queries that ended, by why: client, gone, stuck, idle, signed_out, refused, misbehaved, stopping, failed.";
    "kalamdb_live_begun_total" [] live_begun: IntCounter,
        "Live queries that were begun.";
    "kalamdb_live_ended_total" ["reason"] live_ended: IntCounterVec,
        "Live queries that ended, by why: client, killed, or the code that their client was told.";
    "kalamdb_live_changes_sent_total" [] live_changes_sent: IntCounter,
        "Changes that were sent to live queries, each once for each that it was sent to.";
    "kalamdb_live_messages_sent_total" [] live_messages_sent: IntCounter,
        "Messages that were sent to live queries: those changes, batches of rows, and what tells how they stand.";
    "kalamdb_live_sent_bytes_total" [] live_sent_bytes: IntCounter,
        "Bytes of those messages.";
    "kalamdb_live_waiting" [] live_waiting: IntGauge,
        "Rows and changes that wait to be sent to live queries, each 4 KiB of them counting as one more.";
    "kalamdb_live_fell_behind_total" [] live_fell_behind: IntCounter,
        "How often a live query read the change log by itself because its client was slow.";
    "kalamdb_live_resyncs_total" [] live_resyncs: IntCounter,
        "How often a cursor could not be served whole, and all rows were sent again.";
    "kalamdb_requests_running" [] requests_running: IntGauge,
        "Requests to the engine that run now.";
    "kalamdb_requests_limited_total" [] requests_limited: IntCounter,
        "Requests that were refused because their user was over a limit.";
    "kalamdb_namespaces" [] namespaces: IntGauge,
        "Namespaces.";
    "kalamdb_tables" [] tables: IntGauge,
        "Tables.";
    "kalamdb_partitions" [] partitions: IntGauge,
        "Partitions that were ever written to.";
    "kalamdb_open_partition_bytes" [] open_partition_bytes: IntGauge,
        "Memory that open partitions derive from their manifests.";
    "kalamdb_hot_rows" [] hot_rows: IntGauge,
        "Current rows in the hot tier, flushed ones that are not removed yet included.";
    "kalamdb_hot_row_bytes" [] hot_row_bytes: IntGauge,
        "Bytes of those rows, which hot.flush_at_mib and hot.hard_limit_mib go by.";
    "kalamdb_hot_memory_bytes" [] hot_memory_bytes: IntGauge,
        "The hot tier's write buffers in memory (RocksDB's memtables).";
    "kalamdb_hot_cache_bytes" [] hot_cache_bytes: IntGauge,
        "The hot tier's block cache in memory.";
    "kalamdb_hot_file_bytes" [] hot_file_bytes: IntGauge,
        "The hot tier's data files on disk (RocksDB's SST files).";
    "kalamdb_hot_log_bytes" [] hot_log_bytes: IntGauge,
        "The hot tier's write-ahead log on disk.";
    "kalamdb_hot_snapshots" [] hot_snapshots: IntGauge,
        "Snapshots of the hot tier that are held.";
    "kalamdb_hot_writable" [] hot_writable: IntGauge,
        "1 if the hot tier takes writes, 0 after a failed write until it has reopened.";
}

impl Metrics {
    /// Where figures are registered: those of whoever stands before the engine too.
    pub fn registry(&self) -> &Registry {
        &self.registry
    }

    /// Labels whose values are known are there from the beginning: a rate needs a zero to start from.
    fn begin(&self) {
        for kind in ["SELECT", "INSERT", "UPDATE", "DELETE"] {
            self.statements.with_label_values(&[kind, "ok"]);
            self.statement_seconds.with_label_values(&[kind]);
        }
        let known: [(&IntCounterVec, &[&str]); 8] = [
            (&self.rows_written, &["insert", "update", "delete", "import"]),
            (&self.rows_read, &["hot", "cold"]),
            (&self.batches_pruned, &["manifest", "bloom_filter", "no_live_rows"]),
            (&self.flushes, &["completed", "skipped", "failed"]),
            (&self.compactions, &["completed", "skipped", "failed"]),
            (&self.live_ended, &["client"]),
            (&self.live_connections_ended, &["client"]),
            (&self.logins, &["ok", "refused"]),
        ];
        for (counters, labels) in known {
            labels.iter().for_each(|label| drop(counters.with_label_values(&[label])));
        }
        self.jobs.with_label_values(&["flush", "running"]);
    }

    /// A statement has ended.
    pub(crate) fn statement(&self, kind: &str, is_ok: bool, took: Duration) {
        self.statements.with_label_values(&[kind, if is_ok { "ok" } else { "error" }]).inc();
        self.statement_seconds.with_label_values(&[kind]).observe(took.as_secs_f64());
    }

    /// A partition was flushed, or was to be.
    pub(crate) fn flush(&self, outcome: Outcome, watch: Stopwatch) {
        self.flushes.with_label_values(&[outcome.as_str()]).inc();
        if outcome != Outcome::Skipped {
            self.flush_seconds.observe(watch.elapsed().as_secs_f64());
        }
    }

    /// A partition was compacted, or was to be.
    pub(crate) fn compaction(&self, outcome: Outcome, watch: Stopwatch) {
        self.compactions.with_label_values(&[outcome.as_str()]).inc();
        if outcome != Outcome::Skipped {
            self.compaction_seconds.observe(watch.elapsed().as_secs_f64());
        }
    }
}

/// How work in the background ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    Completed,
    Skipped,
    Failed,
}

impl Outcome {
    /// Nothing to do is `Ok(None)`.
    pub(crate) fn of<T, E>(done: &Result<Option<T>, E>) -> Self {
        match done {
            Ok(Some(_)) => Self::Completed,
            Ok(None) => Self::Skipped,
            Err(_) => Self::Failed,
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Skipped => "skipped",
            Self::Failed => "failed",
        }
    }
}

/// Sets a counter to what is counted elsewhere. Whoever does holds [`Metrics::reading`].
pub(crate) fn copy(counter: &IntCounter, value: u64) {
    counter.reset();
    counter.inc_by(value);
}

/// Sets a gauge.
pub(crate) fn set(gauge: &IntGauge, value: u64) {
    gauge.set(i64::try_from(value).unwrap_or(i64::MAX));
}

/// Figures as names and values: `name{label="value"}`, as Prometheus writes them. Of a histogram its count and sum.
pub(crate) fn samples(families: &[MetricFamily]) -> Vec<(String, String)> {
    families
        .iter()
        .flat_map(|family| family.get_metric().iter().flat_map(|metric| samples_of(family, metric)))
        .collect()
}

fn samples_of(family: &MetricFamily, metric: &Metric) -> Vec<(String, String)> {
    let labels: Vec<String> =
        metric.get_label().iter().map(|label| format!("{}=\"{}\"", label.name(), label.value())).collect();
    let labels = if labels.is_empty() { String::new() } else { format!("{{{}}}", labels.join(",")) };
    let sample = |suffix: &str, value: String| (format!("{}{suffix}{labels}", family.name()), value);
    match family.get_field_type() {
        MetricType::COUNTER => vec![sample("", metric.get_counter().get_value().to_string())],
        MetricType::GAUGE => vec![sample("", metric.get_gauge().get_value().to_string())],
        _ => {
            let histogram = metric.get_histogram();
            vec![
                sample("_count", histogram.get_sample_count().to_string()),
                sample("_sum", histogram.get_sample_sum().to_string()),
            ]
        }
    }
}

#[cfg(test)]
mod tests;
