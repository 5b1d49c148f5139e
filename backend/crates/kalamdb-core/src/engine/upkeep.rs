//! What the engine does by itself and is no job, because it is over in a moment or goes along with something else: it
//! looks at the clock for the jobs, measures what users store, deletes replaced files that nobody reads any more, removes
//! what a crash left of a flush. And what comes before the removal of dropped contents is a job: waiting for their
//! readers.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use kalamdb_commons::Result;
use kalamdb_commons::ids::{CommitTime, Incarnation};
use kalamdb_filestore::{PartitionSpec, Removal};
use kalamdb_store::keys::{self, KeySpace, PartitionRecord};
use tokio::time::MissedTickBehavior;

use super::Engine;
use crate::catalog::{CatalogEdit, Dropped};
use crate::commit::{Refusal, SchemaChange};
use crate::compaction::retired;
use crate::flush::removal;
use crate::jobs::executors::content_removal::{ContentRemoval, ContentRemovalParams};
use crate::jobs::params::to_stored;
use crate::jobs::{JobHandle, Submission};
use crate::partition::{Partition, SCAN_PAGE_BYTES, SCAN_PAGE_ENTRIES};

/// Keys of a dropped life that are removed in one commit.
const CHUNK_KEYS: usize = 5_000;
/// How often the clock is looked at for jobs that are due.
const JOBS_TICK: Duration = Duration::from_millis(500);

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
        self.periodically(JOBS_TICK, |engine| async move { engine.jobs.tick().await });
        self.periodically(seconds(self.settings.flush.check_interval_seconds), |engine| async move {
            if let Err(error) = engine.measure_storage().await {
                tracing::warn!(%error, "what users store could not be measured");
            }
        });
        self.periodically(seconds(self.settings.compaction.check_interval_seconds), |engine| async move {
            engine.remove_all_retired().await;
        });
        self.periodically(seconds(60), |engine| async move { engine.bring_audit_up().await });
        self.periodically(seconds(60), |engine| async move { engine.resume_rewrite().await });
        self.begin_mending();
        self.periodically(seconds(self.settings.hot.change_log_trim_interval_seconds), |engine| async move {
            engine.trim_change_logs().await;
            engine.live.forget_unused();
        });
        let engine = Arc::downgrade(self);
        self.in_background(async move {
            if let Some(engine) = engine.upgrade() {
                engine.resume_rewrite().await;
                engine.remove_leftover_garbage().await;
            }
        });
    }

    fn periodically<F>(self: &Arc<Self>, every: Duration, work: impl Fn(Arc<Self>) -> F + Send + 'static)
    where
        F: Future<Output = ()> + Send + 'static,
    {
        let engine = Arc::downgrade(self);
        self.in_background(async move {
            let mut ticks = tokio::time::interval(every);
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

    /// Deletes the files that compactions replaced and nobody reads any more.
    async fn remove_all_retired(self: &Arc<Self>) {
        for partition in self.partitions.all() {
            if !partition.newest_view().is_some_and(|view| retired::is_pending(&view)) {
                continue;
            }
            // Whoever maintains the partition may take long, and the next check comes soon.
            let Some(_maintenance) = partition.try_maintain() else { continue };
            if let Err(error) = retired::remove(self, &partition).await {
                tracing::warn!(%error, partition = %partition.id(), "replaced batch files could not be deleted");
            }
        }
    }

    /// Trims the change logs that no flush trims: of STREAM tables, and of partitions that are written no more.
    pub async fn trim_change_logs(self: &Arc<Self>) {
        let through = removal::trimmed_through(self);
        for partition in self.partitions.all() {
            if !partition.log_reaches_back_to(through) {
                continue;
            }
            // Whoever holds it trims the log too, or the next turn does.
            let Some(_maintenance) = partition.try_maintain() else { continue };
            if let Err(error) = removal::trim_change_log(self, &partition).await {
                tracing::warn!(%error, partition = %partition.id(), "a change log could not be trimmed; it is tried again");
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
                engine.live.forget(life.incarnation);
                engine.submit_removal(life).await;
            }
        });
    }

    async fn submit_removal(&self, life: Dropped) {
        let params = ContentRemovalParams { table: life.table.name.to_string(), incarnation: life.incarnation.0 };
        let submission = Submission::own(ContentRemoval::NAME, to_stored(&params));
        if let Err(error) = self.jobs.submit_unless_pending(submission).await {
            let table = &life.table.name;
            tracing::warn!(%error, %table, "the removal of dropped contents could not be queued; the next start does it");
        }
    }

    /// Removes the contents of a life that has ended. Returns how many files went.
    pub(crate) async fn remove_life(&self, life: &Dropped, job: &JobHandle) -> Result<usize> {
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

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds.max(1))
}
