//! The figures of the server at this moment, for `/metrics` and `system.stats`.

use std::sync::Arc;

use super::Engine;
use crate::metrics::{MetricFamily, Metrics, copy, samples, set};

impl Engine {
    /// The figures' registry and what counts into it.
    pub fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    /// Every figure. What cannot be read now, because the store is closed, keeps its last value.
    pub async fn figures(&self) -> Vec<MetricFamily> {
        let _one_at_a_time = self.metrics.reading.lock().await;
        self.copy_store().await;
        self.copy_catalog();
        self.copy_jobs();
        self.copy_requests();
        self.metrics.registry().gather()
    }

    /// The same as names and values.
    pub(crate) async fn stats(&self) -> Vec<(String, String)> {
        samples(&self.figures().await)
    }

    async fn copy_store(&self) {
        let (metrics, counters) = (&self.metrics, self.store.counters());
        copy(&metrics.log_syncs, counters.syncs);
        copy(&metrics.log_written_bytes, counters.bytes);
        set(&metrics.hot_writable, u64::from(self.is_writable()));
        if let Ok(usage) = self.store.usage().await {
            set(&metrics.hot_memory_bytes, usage.memtable_bytes);
            set(&metrics.hot_cache_bytes, usage.cache_bytes);
            set(&metrics.hot_file_bytes, usage.file_bytes);
            set(&metrics.hot_log_bytes, usage.log_bytes);
            set(&metrics.hot_snapshots, usage.snapshots);
        }
    }

    fn copy_catalog(&self) {
        let (metrics, catalog) = (&self.metrics, self.catalog());
        set(&metrics.namespaces, catalog.namespaces().len() as u64);
        set(&metrics.tables, catalog.tables().len() as u64);
        set(&metrics.partitions, self.partitions.len() as u64);
        set(&metrics.hot_rows, self.partitions.hot().rows());
        set(&metrics.hot_row_bytes, self.hot_bytes());
        set(&metrics.open_partition_bytes, self.cold.held_bytes());
        let cached = self.cold.manifests().cache_figures();
        copy(&metrics.manifest_cache_hits, cached.hits);
        copy(&metrics.manifest_cache_misses, cached.misses);
        copy(&metrics.manifest_cache_revalidated, cached.revalidated);
    }

    fn copy_jobs(&self) {
        let jobs = &self.metrics.jobs;
        jobs.reset();
        jobs.with_label_values(&["flush", "running"]);
        for job in self.jobs.records() {
            jobs.with_label_values(&[job.job_type.as_str(), job.status.as_str()]).inc();
        }
    }

    fn copy_requests(&self) {
        let totals = self.usage.totals();
        set(&self.metrics.requests_running, totals.running);
        set(&self.metrics.live_subscriptions, totals.subscriptions);
        let live = self.live.figures();
        set(&self.metrics.live_connections, live.connections);
        copy(&self.metrics.live_begun, live.begun);
        copy(&self.metrics.live_fell_behind, live.fell_behind);
        copy(&self.metrics.live_resyncs, live.resyncs);
    }
}
