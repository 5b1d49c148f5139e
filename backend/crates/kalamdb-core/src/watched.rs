//! A statement under watch: counted when it has ended, and logged if it was slow.
//!
//! A statement has ended when the next one begins, when its request ends, or when nobody holds its [`StatementStats`] any
//! more: its rows have been read then, or nobody wants them. What is logged of it is its shape ([`kalamdb_sql::shape`]): no value that somebody wrote, no comment.
//!
//! [`StatementStats`]: crate::stats::StatementStats

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use kalamdb_commons::clock::Stopwatch;
use kalamdb_commons::ids::UserId;
use tracing::Span;

use crate::metrics::Metrics;
use crate::stats::StatsSnapshot;

/// The most bytes of a statement's shape in the log.
const SHAPE_BYTES_MAX: usize = 4_096;

/// What is known of a statement before it begins.
#[derive(Debug)]
pub(crate) struct Facts {
    /// As the audit log names it.
    pub(crate) kind: &'static str,
    /// The request that it is part of.
    pub(crate) request_id: String,
    /// Who sent it.
    pub(crate) actor: UserId,
    /// Its text.
    pub(crate) text: String,
}

/// A statement that runs.
#[derive(Debug)]
pub(crate) struct Watched {
    facts: Facts,
    metrics: Arc<Metrics>,
    /// Longer than this is slow.
    slow: Option<Duration>,
    watch: Stopwatch,
    failed: AtomicBool,
    has_ended: AtomicBool,
    rows: AtomicU64,
    span: Span,
}

impl Watched {
    /// Begins now. `slow_ms` 0 is never slow.
    pub(crate) fn begin(facts: Facts, metrics: Arc<Metrics>, slow_ms: u64) -> Self {
        let span = tracing::info_span!("statement", kind = facts.kind);
        let slow = (slow_ms > 0).then(|| Duration::from_millis(slow_ms));
        let (failed, has_ended, rows) = (AtomicBool::new(false), AtomicBool::new(false), AtomicU64::new(0));
        Self { facts, metrics, slow, watch: Stopwatch::start(), failed, has_ended, rows, span }
    }

    /// What everything that is logged and traced of it is under.
    pub(crate) fn span(&self) -> &Span {
        &self.span
    }

    /// It failed.
    pub(crate) fn fail(&self) {
        self.failed.store(true, Ordering::Relaxed);
    }

    /// It gave rows.
    pub(crate) fn returned(&self, rows: usize) {
        self.rows.fetch_add(rows as u64, Ordering::Relaxed);
    }

    /// It has ended, and has cost this much. Only the first call counts.
    pub(crate) fn end(&self, cost: &StatsSnapshot) {
        if self.has_ended.swap(true, Ordering::Relaxed) {
            return;
        }
        let (took, metrics) = (self.watch.elapsed(), &self.metrics);
        let is_ok = !self.failed.load(Ordering::Relaxed);
        metrics.statement(self.facts.kind, is_ok, took);
        metrics.rows_returned.inc_by(self.rows.load(Ordering::Relaxed));
        for (counter, n) in [
            (&metrics.batches_read, cost.batches_read),
            (&metrics.bloom_tests, cost.bloom_tests),
            (&metrics.storage_read_bytes, cost.bytes_read),
            (&metrics.storage_requests, cost.storage_requests),
            (&metrics.metadata_cache_hits, cost.cache_hits),
            (&metrics.metadata_cache_misses, cost.cache_misses),
        ] {
            counter.inc_by(n);
        }
        for (counters, label, n) in [
            (&metrics.rows_read, "hot", cost.hot_rows_read),
            (&metrics.rows_read, "cold", cost.cold_rows_read),
            (&metrics.batches_pruned, "manifest", cost.batches_pruned_by_manifest),
            (&metrics.batches_pruned, "bloom_filter", cost.batches_pruned_by_bloom_filter),
            (&metrics.batches_pruned, "no_live_rows", cost.batches_without_live_rows),
        ] {
            if n > 0 {
                counters.with_label_values(&[label]).inc_by(n);
            }
        }
        if self.slow.is_some_and(|slow| took > slow) {
            self.log(took, is_ok, cost);
        }
    }

    fn log(&self, took: Duration, is_ok: bool, cost: &StatsSnapshot) {
        let Facts { kind, request_id, actor, text } = &self.facts;
        self.metrics.slow_statements.inc();
        let mut shape = kalamdb_sql::shape(text);
        shape.truncate(shape.floor_char_boundary(SHAPE_BYTES_MAX));
        tracing::warn!(
            target: "kalamdb::slow_statement",
            parent: &self.span,
            request_id,
            user = %actor,
            kind,
            took_ms = took.as_secs_f64() * 1e3,
            outcome = if is_ok { "ok" } else { "error" },
            rows = self.rows.load(Ordering::Relaxed),
            hot_rows_read = cost.hot_rows_read,
            cold_rows_read = cost.cold_rows_read,
            batches_read = cost.batches_read,
            bytes_read = cost.bytes_read,
            sql = shape,
            "slow statement"
        );
    }
}
