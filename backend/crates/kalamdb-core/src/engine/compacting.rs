//! Compaction as a job: asked for by statement, or due by the settings.

use std::ops::Range;
use std::sync::Arc;

use kalamdb_commons::ids::{CommitTime, JobId, Scope, TableRef};
use kalamdb_commons::schema::Table;
use kalamdb_commons::{Error, Result};
use kalamdb_sql::{Compact, StorageTarget};
use serde_json::{Value, json};

use super::Engine;
use super::upkeep::tables_meant;
use crate::compaction::choice::{self, Shape};
use crate::compaction::{Compacted, Extent, compact_partition, retired};
use crate::flush::deletions_kept_since;
use crate::jobs::{JobEnd, JobHandle, JobKind};
use crate::partition::Partition;
use crate::query::StatementScope;

impl Engine {
    /// STORAGE COMPACT: starts a job, or says that there is nothing to do; with WAIT, answers when done.
    pub(crate) async fn compact_statement(&self, scope: &StatementScope, compact: &Compact) -> Result<String> {
        let tables = tables_meant(scope, &compact.target)?;
        let (what, parameters) = match (&compact.target, &tables[..]) {
            (StorageTarget::Table(_), [table]) => (
                format!("table '{}'", table.name),
                json!({ "namespace": table.name.namespace, "table": table.name.table, "reason": "statement" }),
            ),
            (StorageTarget::Namespace(name), _) => {
                (format!("namespace '{name}'"), json!({ "namespace": name, "reason": "statement" }))
            }
            _ => ("all tables".to_owned(), json!({ "reason": "statement" })),
        };
        let partitions: Vec<_> = tables.iter().flat_map(|table| self.with_history(table)).collect();
        if partitions.is_empty() {
            return Ok(format!("Storage compaction skipped: nothing to compact for {what}"));
        }
        let job = self.submit_compaction(partitions, Extent::Everything, parameters).await?;
        if compact.wait {
            let message = self.finished(&job).await?;
            return Ok(format!("Storage compaction completed for {what}: {message}. Job ID: {job}"));
        }
        Ok(format!("Storage compaction started for {what}. Job ID: {job}"))
    }

    /// Compacts some neighbouring batches of a partition now, by their places among the active ones: for whoever
    /// knows better than the settings. Says whether there was anything to do.
    ///
    /// # Errors
    /// Not found if there is no such table; else as its job fails.
    pub async fn compact_batches(&self, table: &TableRef, scope: &Scope, batches: Range<usize>) -> Result<bool> {
        let catalog = self.catalog();
        let table = catalog.table(table).ok_or_else(|| Error::not_found(format!("table '{table}' does not exist")))?;
        let partition = self.partitions.get(table, scope);
        let parameters =
            json!({ "namespace": table.name.namespace, "table": table.name.table, "reason": "some batches" });
        let job = self.submit_compaction(vec![partition], Extent::Batches(batches), parameters).await?;
        self.finished(&job).await.map(|message| message != NOTHING)
    }

    /// The partitions of a table that have a cold tier.
    fn with_history(&self, table: &Arc<Table>) -> Vec<Arc<Partition>> {
        let mut partitions = self.partitions.of(table.incarnation);
        partitions.retain(|partition| partition.has_history() && partition.record().reserved_batch > 0);
        partitions.sort_by(|a, b| a.id().scope.cmp(&b.id().scope));
        partitions
    }

    async fn submit_compaction(
        &self,
        partitions: Vec<Arc<Partition>>,
        extent: Extent,
        parameters: Value,
    ) -> Result<JobId> {
        let engine = self.weak.clone();
        let work = move |job: JobHandle| async move {
            let engine = engine.upgrade().ok_or_else(|| Error::overloaded("the server is shutting down"))?;
            let (mut total, mut count) = (Compacted::default(), 0);
            for partition in partitions {
                job.check()?;
                if let Some(done) = compact_partition(&engine, &partition, &extent, &job).await? {
                    total.batches += done.batches;
                    total.rows += done.rows;
                    total.removed += done.removed;
                    count += 1;
                }
            }
            if count == 0 {
                return Ok(JobEnd::Skipped(NOTHING.to_owned()));
            }
            let Compacted { batches, rows, removed } = total;
            Ok(JobEnd::Completed(format!(
                "{batches} batches merged in {count} partition(s), {rows} rows kept, {removed} removed"
            )))
        };
        self.jobs.submit(JobKind::Compaction, parameters, work).await
    }

    /// Compacts the partitions in use where that is due, and deletes the files that earlier compactions replaced. Of the
    /// partitions that are not in memory it looks at some each time, in turn, so that what a restart or an eviction hid
    /// is found, and looking costs the same however many there are.
    pub(super) async fn compact_by_policy(self: &Arc<Self>) {
        for partition in self.partitions.all() {
            if partition.newest_view().is_some_and(|view| retired::is_pending(&view)) {
                self.remove_retired(&partition).await;
            }
        }
        // One at a time, so that flushes always find a place.
        if !self.settings.compaction.automatic || self.jobs.is_any_pending(JobKind::Compaction) {
            return;
        }
        let all = self.partitions.all();
        self.open_some(&all).await;
        let due: Vec<_> = all.into_iter().filter(|partition| self.is_compaction_due(partition)).collect();
        if due.is_empty() {
            return;
        }
        let parameters = json!({ "partitions": due.len(), "reason": "policy" });
        if let Err(error) = self.submit_compaction(due, Extent::Due, parameters).await {
            tracing::warn!(%error, "a compaction could not be queued");
        }
    }

    /// Opens a few partitions that are not in memory and have a history, those that were looked at the longest time ago.
    async fn open_some(&self, all: &[Arc<Partition>]) {
        let is_closed = |partition: &&Arc<Partition>| {
            partition.has_history() && partition.record().reserved_batch > 0 && partition.newest_view().is_none()
        };
        let mut closed: Vec<&Arc<Partition>> = all.iter().filter(is_closed).collect();
        if closed.is_empty() || self.cold.is_over_limit() {
            return;
        }
        let some = closed.len().min(OPENED_MAX);
        closed.select_nth_unstable_by_key(some - 1, |partition| partition.looked_at());
        for partition in &closed[..some] {
            partition.look(self.clock.now_ns());
            if let Err(error) = partition.view_at(CommitTime::MAX, &self.cold).await {
                tracing::warn!(%error, partition = %partition.id(), "a partition could not be looked at for compaction");
            }
        }
    }

    async fn remove_retired(self: &Arc<Self>, partition: &Arc<Partition>) {
        // Whoever maintains the partition may take long, and the next check comes soon.
        let Some(_maintenance) = partition.try_maintain() else { return };
        if let Err(error) = retired::remove(self, partition).await {
            tracing::warn!(%error, partition = %partition.id(), "replaced batch files could not be deleted");
        }
    }

    fn is_compaction_due(&self, partition: &Partition) -> bool {
        let Some(view) = partition.newest_view() else { return false };
        let catalog = self.catalog();
        let Some(table) = catalog.table_by_incarnation(partition.id().incarnation) else { return false };
        let kept_since = deletions_kept_since(self, table);
        let shapes: Vec<Shape> = view.batches().iter().map(|batch| Shape::of(batch, kept_since)).collect();
        choice::due(&shapes, &self.settings.compaction).is_some()
    }
}

/// How many partitions that are not in memory are opened for one look.
const OPENED_MAX: usize = 8;
/// What a job says that found nothing to do.
const NOTHING: &str = "nothing to compact";
