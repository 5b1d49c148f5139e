//! What the engine does by itself: flushes by policy and at memory limits, compaction, removal of dropped contents, of
//! orphan files and of old answers. Each is a job that shows in `system.jobs`, and can be asked for by statement where a
//! statement exists.

use std::cmp::Reverse;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use kalamdb_commons::ids::{CommitTime, Incarnation, JobId, NamespaceId};
use kalamdb_commons::schema::Table;
use kalamdb_commons::{Error, Result};
use kalamdb_filestore::{PartitionSpec, Removal};
use kalamdb_sql::{Chore, Flush, StorageTarget, Tidy};
use kalamdb_store::keys::{self, KeySpace, PartitionRecord};
use serde_json::json;
use tokio::time::MissedTickBehavior;

use super::Engine;
use crate::access::Access;
use crate::catalog::{CatalogEdit, Dropped};
use crate::commit::{Refusal, SchemaChange};
use crate::compaction::retired;
use crate::flush::{flush_partition, removal};
use crate::jobs::{JobEnd, JobHandle, JobKind, JobStatus};
use crate::partition::view::recorded;
use crate::partition::{Partition, SCAN_PAGE_BYTES, SCAN_PAGE_ENTRIES};
use crate::query::StatementScope;

/// How many partitions one job looks through for orphan files.
const ORPHAN_PARTITIONS_MAX: usize = 1_000;
/// Keys of a dropped life that are removed in one commit.
const CHUNK_KEYS: usize = 5_000;

impl Engine {
    /// Runs something until the engine stops.
    pub(crate) fn in_background(&self, work: impl Future<Output = ()> + Send + 'static) {
        let stop = self.stop.clone();
        let task = tokio::spawn(async move {
            tokio::select! {
                () = stop.cancelled() => {}
                () = work => {}
            }
        });
        let mut tasks = self.tasks.lock();
        // The first is the committer's.
        let mut at = 0;
        tasks.retain(|task| {
            at += 1;
            at == 1 || !task.is_finished()
        });
        tasks.push(task);
    }

    /// Takes up what the last run left, and begins the periodic checks.
    pub(crate) fn begin_upkeep(self: &Arc<Self>) {
        for life in self.catalog().dropped().map(|life| (**life).clone()).collect::<Vec<_>>() {
            self.remove_contents(life);
        }
        self.periodically(self.settings.flush.check_interval_seconds, |engine| async move {
            engine.flush_by_policy().await;
            if let Err(error) = engine.measure_storage().await {
                tracing::warn!(%error, "what users store could not be measured");
            }
        });
        self.periodically(self.settings.compaction.check_interval_seconds, |engine| async move {
            engine.compact_by_policy().await;
        });
        self.periodically(self.settings.jobs.orphan_interval_seconds, |engine| async move {
            if let Err(error) = engine.submit_orphan_removal(ORPHAN_PARTITIONS_MAX).await {
                tracing::warn!(%error, "the removal of orphan files could not be queued");
            }
        });
        self.periodically(self.settings.manifest_cache.eviction_interval_seconds, |engine| async move {
            engine.evict_manifests_by_policy().await;
        });
        self.periodically(self.settings.jobs.user_purge_interval_seconds, |engine| async move {
            if let Err(error) = engine.purge_dropped_users().await {
                tracing::warn!(%error, "the purge of dropped users could not be queued");
            }
        });
        self.periodically(3_600, |engine| async move {
            if let Err(error) = engine.forget_old_answers().await {
                tracing::warn!(%error, "old answers could not be forgotten");
            }
            if let Err(error) = engine.forget_old_sessions().await {
                tracing::warn!(%error, "old sessions could not be forgotten");
            }
        });
        self.periodically(60, |engine| async move { engine.bring_audit_up().await });
        self.periodically(3_600, |engine| async move {
            if let Err(error) = engine.expire_audit().await {
                tracing::warn!(%error, "old entries of the audit log could not be removed");
            }
        });
        self.begin_mending();
        let engine = Arc::downgrade(self);
        self.in_background(async move {
            if let Some(engine) = engine.upgrade() {
                engine.resume_rewrite().await;
                engine.remove_leftover_garbage().await;
            }
        });
    }

    fn periodically<F>(self: &Arc<Self>, seconds: u64, work: impl Fn(Arc<Self>) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let engine = Arc::downgrade(self);
        self.in_background(async move {
            let mut ticks = tokio::time::interval(Duration::from_secs(seconds.max(1)));
            ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
            // The first tick is immediate: nothing is due at the start.
            ticks.tick().await;
            loop {
                ticks.tick().await;
                let Some(engine) = engine.upgrade() else { return };
                work(engine).await;
            }
        });
    }

    /// STORAGE FLUSH: starts a job per table, or says that there is nothing to do; with WAIT, answers when done.
    pub(crate) async fn flush_statement(&self, scope: &StatementScope, flush: &Flush) -> Result<String> {
        if let StorageTarget::Table(name) = &flush.target {
            let table = scope.table(name, Access::Write)?;
            let Some(job) = self.submit_flush(&table, "statement").await? else {
                return Ok(format!("Storage flush skipped: no pending writes for table '{}'", table.name));
            };
            if flush.wait {
                let message = self.finished(&job).await?;
                return Ok(format!("Storage flush completed for table '{}': {message}. Job ID: {job}", table.name));
            }
            return Ok(format!("Storage flush started for table '{}'. Job ID: {job}", table.name));
        }
        let mut jobs = Vec::new();
        for table in tables_meant(scope, &flush.target)? {
            jobs.extend(self.submit_flush(&table, "statement").await?);
        }
        if jobs.is_empty() {
            return Ok("Storage flush skipped: no pending writes for any table".to_owned());
        }
        let ids = jobs.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        if flush.wait {
            for job in &jobs {
                self.finished(job).await?;
            }
            return Ok(format!("Storage flush completed for {} table(s). Job IDs: [{ids}]", jobs.len()));
        }
        Ok(format!("Storage flush started for {} table(s). Job IDs: [{ids}]", jobs.len()))
    }

    /// Waits for a job and returns its message.
    pub(super) async fn finished(&self, job: &JobId) -> Result<String> {
        let record = self.jobs.wait(job).await?;
        match record.status {
            JobStatus::Completed | JobStatus::Skipped => Ok(record.message),
            _ => Err(Error::execution(format!("job {job} {}: {}", record.status.as_str(), record.message))),
        }
    }

    /// Queues the flush of a table's partitions that have something to flush.
    async fn submit_flush(&self, table: &Arc<Table>, reason: &str) -> Result<Option<JobId>> {
        if !table.kind.has_history() {
            return Ok(None);
        }
        let pending = self.partitions.of(table.incarnation).into_iter().filter(is_flushable).collect();
        self.submit_flush_of(table, pending, reason).await
    }

    async fn submit_flush_of(
        &self,
        table: &Arc<Table>,
        partitions: Vec<Arc<Partition>>,
        reason: &str,
    ) -> Result<Option<JobId>> {
        if partitions.is_empty() {
            return Ok(None);
        }
        let parameters = json!({
            "namespace": table.name.namespace, "table": table.name.table, "partitions": partitions.len(), "reason": reason,
        });
        let engine = self.weak.clone();
        let work = move |job: JobHandle| async move {
            let engine = engine.upgrade().ok_or_else(|| Error::overloaded("the server is shutting down"))?;
            let (mut rows, mut bytes, mut count) = (0, 0, 0);
            for partition in partitions {
                job.check()?;
                if let Some(flushed) = flush_partition(&engine, &partition, &job).await? {
                    rows += flushed.rows;
                    bytes += flushed.bytes;
                    count += 1;
                }
            }
            if count == 0 {
                return Ok(JobEnd::Skipped("no pending writes".to_owned()));
            }
            Ok(JobEnd::Completed(format!("{rows} rows in {count} partition(s), {bytes} bytes")))
        };
        self.jobs.submit(JobKind::Flush, parameters, work).await.map(Some)
    }

    /// Flushes the partitions whose policy says so, and the largest ones when the hot tier is large.
    async fn flush_by_policy(&self) {
        let catalog = self.catalog();
        let mut over = self.hot_bytes().saturating_sub(self.settings.hot.flush_at_mib << 20);
        let reason = if over > 0 { "memory" } else { "policy" };
        for table in catalog.tables().filter(|table| table.kind.has_history()) {
            let mut due = Vec::new();
            let mut partitions = self.partitions.of(table.incarnation);
            partitions.retain(is_flushable);
            partitions.sort_by_key(|partition| Reverse(partition.hot().bytes));
            for partition in partitions {
                if over > 0 || self.is_due(table, &partition) {
                    over = over.saturating_sub(partition.hot().bytes);
                    due.push(partition);
                }
            }
            if let Err(error) = self.submit_flush_of(table, due, reason).await {
                tracing::warn!(%error, table = %table.name, "a flush could not be queued");
            }
        }
    }

    fn is_due(&self, table: &Table, partition: &Partition) -> bool {
        let hot = partition.hot();
        let policy = &table.options.flush;
        let own = policy.rows.is_some() || policy.interval_seconds.is_some();
        let rows = policy.rows.or_else(|| (!own).then_some(self.settings.flush.rows));
        let seconds = policy.interval_seconds.or_else(|| (!own).then_some(self.settings.flush.interval_seconds));
        let age_ns = hot.oldest.map_or(0, |oldest| self.clock.now_ns().saturating_sub(oldest.0));
        rows.is_some_and(|rows| hot.rows.saturating_sub(hot.garbage) >= rows)
            || seconds.is_some_and(|seconds| age_ns / 1_000_000_000 >= i64::try_from(seconds).unwrap_or(i64::MAX))
    }

    /// Hot rows that a flush, and files that a compaction made garbage before a crash. Only who has hot rows can have such
    /// rows, so that a start does not read the manifests of all the others; their files go when they are used again.
    async fn remove_leftover_garbage(self: &Arc<Self>) {
        let may_have_some =
            |partition: &Arc<Partition>| partition.record().reserved_batch > 0 && partition.hot().rows > 0;
        for partition in self.partitions.all().into_iter().filter(may_have_some) {
            let _maintenance = partition.maintain().await;
            if let Err(error) = self.remove_garbage_of(&partition).await {
                tracing::warn!(%error, partition = %partition.id(), "leftover hot rows could not be removed");
            }
        }
    }

    async fn remove_garbage_of(self: &Arc<Self>, partition: &Arc<Partition>) -> Result<()> {
        let view = partition.view_at(CommitTime::MAX, &self.cold).await?;
        let behind = partition.record().flushed_through < view.flushed_through();
        if behind || partition.hot().garbage > 0 {
            removal::remove(self, partition, view.flushed_through()).await?;
        }
        drop(view);
        retired::remove(self, partition).await?;
        Ok(())
    }

    /// STORAGE EVICT MANIFESTS, STORAGE REMOVE ORPHANS: starts the job that runs by itself too; with WAIT, answers when
    /// done. Orphans are looked for everywhere.
    pub(crate) async fn tidy_statement(&self, tidy: Tidy) -> Result<String> {
        let (what, job) = match tidy.chore {
            Chore::EvictManifests => ("Manifest eviction", self.submit_manifest_eviction().await?),
            Chore::RemoveOrphans => {
                self.partitions.all().iter().for_each(|partition| partition.set_tidy(false));
                ("Orphan removal", self.submit_orphan_removal(usize::MAX).await?)
            }
        };
        if tidy.wait {
            return Ok(format!("{what} completed: {}. Job ID: {job}", self.finished(&job).await?));
        }
        Ok(format!("{what} started. Job ID: {job}"))
    }

    async fn submit_orphan_removal(&self, partitions_max: usize) -> Result<JobId> {
        let engine = self.weak.clone();
        let work = move |job: JobHandle| async move {
            let engine = engine.upgrade().ok_or_else(|| Error::overloaded("the server is shutting down"))?;
            let (files, left) = engine.remove_orphans(partitions_max, &job).await?;
            let later = if left > 0 { format!(", {left} partition(s) left for the next time") } else { String::new() };
            Ok(JobEnd::Completed(format!("{files} orphan file(s) removed{later}")))
        };
        self.jobs.submit(JobKind::OrphanRemoval, json!({}), work).await
    }

    /// Removes files that no manifest names, where one was begun since the last look: a bounded number of partitions at a
    /// time, because each costs a listing and a manifest. Returns how many files went, and how many partitions are
    /// left to be looked at.
    async fn remove_orphans(&self, partitions_max: usize, job: &JobHandle) -> Result<(usize, usize)> {
        let mut untidy = self.partitions.all();
        untidy.retain(|partition| partition.may_have_orphans());
        let left = untidy.len().saturating_sub(partitions_max);
        let mut removed = 0;
        for partition in untidy.into_iter().take(partitions_max) {
            job.check()?;
            // No flush of the partition runs meanwhile, so no number is in flight but a compaction's.
            let _maintenance = partition.maintain().await;
            let in_flight: Vec<u64> = partition.in_flight().into_iter().collect();
            let record = partition.record();
            if record.reserved_batch == 0 {
                continue;
            }
            let manifests = self.cold.manifests();
            let orphans = manifests.remove_orphans(partition.spec(), recorded(&record), &in_flight).await?;
            for file in &orphans.free {
                tracing::info!(partition = %partition.id(), file, "orphan file removed");
            }
            removed += orphans.free.len();
            partition.set_tidy(orphans.kept.is_empty() && in_flight.is_empty());
        }
        Ok((removed, left))
    }

    /// Queues the removal of what a DROP or TRUNCATE left behind. It is taken up again at the next start if it does not
    /// come to its end.
    pub(crate) fn remove_contents(&self, life: Dropped) {
        let engine = self.weak.clone();
        let dropped_at = self.published_through();
        let readers = self.committer.readers().clone();
        self.in_background(async move {
            // Statements that began before the drop still read these contents. They are waited for outside of the job,
            // so that no other job waits with it.
            readers.wait_until_past(dropped_at).await;
            if let Some(engine) = engine.upgrade() {
                for partition in engine.partitions.of(life.incarnation) {
                    // IMPORTANT: a compaction that still writes would take a number that the next life may be given.
                    // It sees that the contents have ended, and none begins from now on.
                    drop(partition.compact().await);
                }
                engine.partitions.forget(life.incarnation);
                engine.submit_removal(life).await;
            }
        });
    }

    async fn submit_removal(&self, life: Dropped) {
        let engine = self.weak.clone();
        let table = life.table.name.clone();
        let parameters = json!({ "table": table.to_string(), "incarnation": life.incarnation });
        let work = move |job: JobHandle| async move {
            let engine = engine.upgrade().ok_or_else(|| Error::overloaded("the server is shutting down"))?;
            let files = engine.remove_life(&life, &job).await?;
            Ok(JobEnd::Completed(format!("contents of {} removed, {files} file(s)", life.table.name)))
        };
        if let Err(error) = self.jobs.submit(JobKind::ContentRemoval, parameters, work).await {
            tracing::warn!(%error, %table, "the removal of dropped contents could not be queued; the next start does it");
        }
    }

    async fn remove_life(&self, life: &Dropped, job: &JobHandle) -> Result<usize> {
        let snapshot = self.committer.readers().newest().snapshot.clone();
        let prefix = keys::partition_records_prefix(life.incarnation);
        let end = keys::prefix_end(&prefix);
        let (mut next, mut files) = (Some(prefix), 0);
        while let Some(start) = next {
            let page = snapshot.scan(&start, &end, SCAN_PAGE_ENTRIES, SCAN_PAGE_BYTES).await?;
            for (key, value) in page.entries {
                job.check()?;
                let id = keys::partition_of(&key)?;
                let record = PartitionRecord::decode(&value)?;
                let spec = PartitionSpec {
                    storage: life.table.options.storage.clone(),
                    table: life.table.name.clone(),
                    table_id: life.table.id,
                    incarnation: life.incarnation,
                    scope: id.scope.clone(),
                };
                if record.reserved_batch > 0 {
                    let removal = self.remove_cold(&spec, life.successor).await?;
                    if !removal.held.is_empty() {
                        tracing::info!(files = ?removal.held, "files of dropped contents are still read; they go as orphans later");
                        if let Some(next) = self.partitions.find(life.successor, &id.scope) {
                            next.set_tidy(false);
                        }
                    }
                    files += removal.removed.len();
                }
                fail::fail_point!("removal::after_files");
                self.remove_hot(&KeySpace::new(&life.table.name, life.table.id, &id)).await?;
                fail::fail_point!("removal::after_rows");
                self.committer.records(Vec::new(), vec![key]).await?;
            }
            next = page.next;
        }
        self.note_contents_removed(life).await?;
        Ok(files)
    }

    /// Ends the cold tier of a partition, and removes its files.
    pub(super) async fn remove_cold(&self, spec: &PartitionSpec, successor: Incarnation) -> Result<Removal> {
        // IMPORTANT: what ended the life is durable before its files go: a power cut must not bring back a table whose
        // history is gone.
        self.store.sync().await?;
        // IMPORTANT: the empty manifest first: a flush of the ended life fails its publication from here on.
        let retired = self.cold.manifests().publish_empty(spec, successor).await?;
        fail::fail_point!("removal::after_manifest");
        self.cold.manifests().remove_files(spec, &retired.files).await
    }

    /// Removes every hot key of a partition but its record.
    pub(super) async fn remove_hot(&self, space: &KeySpace) -> Result<()> {
        let snapshot = self.committer.readers().newest().snapshot.clone();
        for prefix in keys::partition_prefixes(space) {
            let end = keys::prefix_end(&prefix);
            let mut next = Some(prefix);
            while let Some(start) = next {
                let page = snapshot.scan(&start, &end, CHUNK_KEYS, SCAN_PAGE_BYTES).await?;
                let gone: Vec<_> = page.entries.into_iter().map(|(key, _)| key).collect();
                if !gone.is_empty() {
                    self.committer.records(Vec::new(), gone).await?;
                }
                next = page.next;
            }
        }
        Ok(())
    }

    async fn note_contents_removed(&self, life: &Dropped) -> Result<()> {
        loop {
            let _one_at_a_time = self.ddl.lock().await;
            let edit = CatalogEdit::contents_removed(&self.catalog(), life.incarnation);
            match self
                .committer
                .change_schema(SchemaChange { edit, verified: None, rows: None, audit: Vec::new() })
                .await
            {
                Ok(()) => return Ok(()),
                Err(Refusal::Failed(error)) => return Err(error),
                Err(Refusal::RowsChanged | Refusal::SchemaChanged) => {}
            }
        }
    }
}

/// The tables that a statement about storage means.
pub(super) fn tables_meant(scope: &StatementScope, target: &StorageTarget) -> Result<Vec<Arc<Table>>> {
    let within = match target {
        StorageTarget::Table(name) => return Ok(vec![scope.table(name, Access::Write)?]),
        StorageTarget::Namespace(name) => Some(NamespaceId::new(name)?),
        StorageTarget::All => None,
    };
    if let Some(namespace) = &within {
        scope.catalog().require_namespace(namespace)?;
    }
    let wanted = |table: &&Arc<Table>| within.as_ref().is_none_or(|namespace| table.name.namespace == *namespace);
    Ok(scope.catalog().tables().filter(wanted).cloned().collect())
}

/// Whether a partition may have something that is not history yet. While garbage waits for its removal, counting rows
/// does not tell: one that was written over garbage is in both counts.
fn is_flushable(partition: &Arc<Partition>) -> bool {
    let hot = partition.hot();
    hot.oldest.is_some() && hot.rows > 0
}
