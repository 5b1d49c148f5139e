//! The committer: the one task that writes to the shard.
//!
//! # A group's life
//!
//! Statements hand in [`Write`]s. The committer takes all that wait, compares each with the newest state (the last
//! published moment and the group so far), refuses those that lost a race, assigns commit times to the others,
//! and writes everything as **one** atomic batch. While that batch is being synced, the next group gathers.
//! When it is as durable as the setting promises, the committer appends to the partitions' overlays, takes the
//! hot snapshot, publishes (snapshot, U, catalog) and answers. Nothing is visible before it is durable, and no
//! answer precedes visibility.
//!
//! Besides rows, the same queue carries catalog edits, system records, and the removal of flushed hot entries, so
//! that each of them has its place in the one order of commits.
//!
//! # After a failed sync
//!
//! The outcome of the group is unknown, and its writers are told so. Writes are refused with 503 until the store
//! has reopened its log; then the partitions and the catalog that the group touched are read again from the store,
//! which shows whether the group is there, before anything is published.
//!
//! Lock order: a statement's locks ([`locks`]), then a partition's state. The committer takes only the latter.

pub(crate) mod change;
pub(crate) mod group;
pub(crate) mod locks;
pub(crate) mod readers;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use kalamdb_commons::clock::Stopwatch;
use kalamdb_commons::ids::{CommitTime, Incarnation, RowId};
use kalamdb_commons::settings::HotSettings;
use kalamdb_commons::system_columns::{Ceilings, SystemColumns};
use kalamdb_commons::{Error, ErrorKind, Result};
use kalamdb_store::ShardStore;
use tokio::sync::{mpsc, oneshot};

pub(crate) use change::{Change, KeyValue, PlannedWith, Receipt, Refusal, Riders, Seen, Write};
use group::Group;
use readers::{Published, Readers};

use crate::audit::Entry;
use crate::audit::chain::Chain;
use crate::catalog::{self, CatalogEdit};
use crate::metrics::Metrics;
use crate::partition::Partition;
use crate::partition::registry::Partitions;

/// The record of the durable ceilings.
pub(crate) const CEILINGS: (&str, &str) = ("clock", "ceilings");

/// Hot entries that may be garbage: removed if they still are.
#[derive(Debug)]
pub(crate) struct Removal {
    /// Whose.
    pub(crate) partition: Arc<Partition>,
    /// F: what is at or below it is cold.
    pub(crate) flushed_through: CommitTime,
    /// Keys of current rows and of unique keys.
    pub(crate) keys: Vec<Bytes>,
}

/// A schema change as the committer takes it.
#[derive(Debug)]
pub(crate) struct SchemaChange {
    /// The edit.
    pub(crate) edit: CatalogEdit,
    /// What was verified against the data, if anything was.
    pub(crate) verified: Option<Verified>,
    /// Rows that belong to it: CREATE TABLE ... AS SELECT.
    pub(crate) rows: Option<Write>,
    /// Its entries in the audit log.
    pub(crate) audit: Vec<Entry>,
}

/// Facts about the rows of some tables, found true at a moment. A commit to one of them since then refuses the edit.
#[derive(Debug, Clone)]
pub(crate) struct Verified {
    /// Which lives of which tables.
    pub(crate) incarnations: Vec<Incarnation>,
    /// When.
    pub(crate) at: CommitTime,
}

/// What the queue carries.
enum Work {
    Write(Write, oneshot::Sender<Result<Receipt, Refusal>>),
    Catalog(Box<SchemaChange>, oneshot::Sender<Result<(), Refusal>>),
    Records {
        riders: Riders,
        deletes: Vec<Bytes>,
        done: oneshot::Sender<Result<(), Refusal>>,
    },
    Remove(Removal, oneshot::Sender<Result<(), Refusal>>),
    /// Raises the ceilings if they are near.
    Reserve(oneshot::Sender<Result<(), Refusal>>),
    /// Ends the task.
    End(oneshot::Sender<Result<(), Refusal>>),
}

/// The way to the committer.
#[derive(Debug)]
pub(crate) struct Committer {
    queue: mpsc::Sender<Work>,
    readers: Arc<Readers>,
    system: Arc<SystemColumns>,
    closed: AtomicBool,
}

/// What commits are made of and written to.
pub(crate) struct Shard {
    pub(crate) store: Arc<dyn ShardStore>,
    pub(crate) system: Arc<SystemColumns>,
    pub(crate) partitions: Arc<Partitions>,
}

impl Committer {
    /// Starts the task. The ceilings must have been reserved.
    pub(crate) fn start(
        shard: Shard,
        readers: Arc<Readers>,
        settings: &HotSettings,
        chain: Chain,
        metrics: Arc<Metrics>,
    ) -> (Arc<Self>, tokio::task::JoinHandle<()>) {
        let Shard { store, system, partitions } = shard;
        let (queue, work) = mpsc::channel(settings.commit_queue_max);
        let committer =
            Arc::new(Self { queue, readers: readers.clone(), system: system.clone(), closed: AtomicBool::new(false) });
        let task = Task {
            store,
            readers,
            system,
            partitions,
            work,
            changes_max: settings.group_changes_max,
            suspects: Suspects::default(),
            chain,
            metrics,
        };
        (committer, tokio::spawn(task.run()))
    }

    /// Commits a statement's writes. When this returns `Ok`, they are as durable as the setting promises, and
    /// every read point entered from now on sees them.
    pub(crate) async fn write(&self, write: Write) -> Result<Receipt, Refusal> {
        self.submit(|done| Work::Write(write, done)).await
    }

    /// Commits a schema change and makes its catalog the current one. `SchemaChanged` if the edit was planned on
    /// another catalog than the current one, `RowsChanged` if what was verified may no longer be true.
    pub(crate) async fn change_schema(&self, change: SchemaChange) -> Result<(), Refusal> {
        self.submit(|done| Work::Catalog(Box::new(change), done)).await
    }

    /// Writes system records.
    pub(crate) async fn records(&self, puts: Vec<(Bytes, Bytes)>, deletes: Vec<Bytes>) -> Result<()> {
        self.ride(Riders { records: puts, audit: Vec::new() }, deletes).await
    }

    /// Writes system records and entries of the audit log.
    pub(crate) async fn ride(&self, riders: Riders, deletes: Vec<Bytes>) -> Result<()> {
        self.submit(|done| Work::Records { riders, deletes, done }).await.map_err(into_error)
    }

    /// Removes hot entries that are garbage at a published watermark.
    pub(crate) async fn remove(&self, removal: Removal) -> Result<()> {
        self.submit(|done| Work::Remove(removal, done)).await.map_err(into_error)
    }

    /// Draws `n` consecutive row ids.
    pub(crate) async fn draw_ids(&self, n: usize) -> Result<RowId> {
        if let Ok(first) = self.system.next_ids(n) {
            return Ok(first);
        }
        self.submit(Work::Reserve).await.map_err(into_error)?;
        self.system.next_ids(n)
    }

    /// The published moments.
    pub(crate) fn readers(&self) -> &Arc<Readers> {
        &self.readers
    }

    /// Takes no more work. What is queued is still carried out.
    pub(crate) fn close(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    /// Waits for what is queued, and ends the task: nothing is committed afterwards. The next run goes on with the times and
    /// ids that this one has not used.
    pub(crate) async fn end(&self) -> Result<()> {
        let (done, ended) = oneshot::channel();
        if self.queue.send(Work::End(done)).await.is_err() {
            return Ok(());
        }
        ended.await.unwrap_or(Ok(())).map_err(into_error)
    }

    async fn submit<T>(&self, work: impl FnOnce(oneshot::Sender<Result<T, Refusal>>) -> Work) -> Result<T, Refusal> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(Error::overloaded("the server is shutting down").into());
        }
        let (done, outcome) = oneshot::channel();
        self.queue.try_send(work(done)).map_err(|_| {
            Error::overloaded("too many statements are waiting to be committed (hot.commit_queue_max); try again")
        })?;
        outcome.await.unwrap_or_else(|_| Err(Error::internal("the committer has stopped").into()))
    }
}

fn ceilings_record(ceilings: Ceilings) -> (Bytes, Bytes) {
    let value = serde_json::to_vec(&ceilings).unwrap_or_else(|_| unreachable!("two numbers"));
    (kalamdb_store::keys::system(CEILINGS.0, CEILINGS.1), value.into())
}

fn into_error(refusal: Refusal) -> Error {
    match refusal {
        Refusal::RowsChanged => Error::conflict("another transaction changed the same rows first"),
        Refusal::SchemaChanged => Error::conflict("the schema changed meanwhile"),
        Refusal::Failed(error) => error,
    }
}

/// What a group with an unknown outcome touched.
#[derive(Debug, Default)]
struct Suspects {
    partitions: Vec<Arc<Partition>>,
    catalog: bool,
    any: bool,
}

struct Task {
    store: Arc<dyn ShardStore>,
    readers: Arc<Readers>,
    system: Arc<SystemColumns>,
    partitions: Arc<Partitions>,
    work: mpsc::Receiver<Work>,
    changes_max: usize,
    suspects: Suspects,
    /// The end of the audit log as it is committed.
    chain: Chain,
    metrics: Arc<Metrics>,
}

impl Task {
    async fn run(mut self) {
        let mut carried = None;
        loop {
            let first = match carried.take() {
                Some(work) => Some(work),
                None => self.work.recv().await,
            };
            let Some(first) = first else { return };
            if let Work::End(done) = first {
                let _closing = done.send(self.give_back().await.map_err(Into::into));
                return;
            }
            if self.suspects.any
                && let Err(error) = self.recover().await
            {
                tracing::error!(%error, "the store could not reopen after a failed sync");
                refuse(first, || still_closed(&error));
                continue;
            }
            let mut group = Group::new(self.readers.newest(), self.chain.clone());
            if let Err(error) = self.ceilings(&mut group).await {
                tracing::error!(%error, "the durable ceilings could not be raised");
                refuse(first, || Error::overloaded(format!("the disk does not take writes now: {error}")));
                continue;
            }
            let mut alone = matches!(first, Work::Remove(..));
            self.stage(&mut group, first).await;
            while !alone && group.changes() < self.changes_max {
                match self.work.try_recv() {
                    Ok(next @ (Work::Remove(..) | Work::End(_))) => {
                        carried = Some(next);
                        alone = true;
                    }
                    Ok(work) => self.stage(&mut group, work).await,
                    Err(_) => break,
                }
            }
            self.finish(group).await;
        }
    }

    /// Makes room below the ceilings. Raising them rides in the group's own batch while the old ones still have
    /// room; a node that was idle for long pays one extra commit.
    async fn ceilings(&mut self, group: &mut Group) -> Result<()> {
        let Some(ceilings) = self.system.reserve() else { return Ok(()) };
        let record = ceilings_record(ceilings);
        if self.system.has_room() {
            group.put_ceilings(record, ceilings);
            return Ok(());
        }
        let mut batch = kalamdb_store::Batch::default();
        batch.put(record.0, record.1);
        // IMPORTANT: durable before any value under the new ceilings is used.
        if let Err(error) = self.store.commit(self.store.token(), batch).await {
            self.suspects.any = true;
            return Err(error.into());
        }
        self.system.reserved(ceilings);
        Ok(())
    }

    /// Stores that nothing above what was assigned is used by this run.
    async fn give_back(&mut self) -> Result<()> {
        // What became of the last group is not known: then it may have used more than what is there says.
        if self.suspects.any {
            return Ok(());
        }
        let mut batch = kalamdb_store::Batch::default();
        let (key, value) = ceilings_record(self.system.give_back());
        batch.put(key, value);
        // IMPORTANT: after every group of this run, and none comes after it.
        Ok(self.store.commit(self.store.token(), batch).await?)
    }

    async fn stage(&self, group: &mut Group, work: Work) {
        match work {
            Work::Write(write, done) => group.stage_write(write, &self.system, done).await,
            Work::Catalog(change, done) => {
                group.stage_catalog(*change, &self.partitions, &self.system, done).await;
            }
            Work::Records { riders, deletes, done } => group.stage_records(riders, deletes, done),
            Work::Remove(removal, done) => group.stage_removal(removal, done).await,
            Work::Reserve(done) => group.stage_records(Riders::default(), Vec::new(), done),
            Work::End(_) => unreachable!("it is no part of a group"),
        }
    }

    async fn finish(&mut self, mut group: Group) {
        let batch = group.take_batch();
        if batch.is_empty() {
            group.answer_all();
            return;
        }
        fail::fail_point!("commit::before_write");
        let watch = Stopwatch::start();
        // IMPORTANT: durable before published, published before answered.
        if let Err(error) = self.store.commit(self.store.token(), batch).await {
            let error = Error::from(error);
            self.metrics.commit_failures.inc();
            tracing::error!(%error, "a group could not be committed");
            self.suspect(&group);
            group.fail_all(&error);
            return;
        }
        self.metrics.commit_sync_seconds.observe(watch.elapsed().as_secs_f64());
        fail::fail_point!("commit::after_write");
        let snapshot = match self.store.snapshot().await {
            Ok(snapshot) => snapshot,
            Err(error) => {
                self.suspect(&group);
                group.fail_all(&Error::from(error));
                return;
            }
        };
        if let Some(ceilings) = group.ceilings() {
            self.system.reserved(ceilings);
        }
        self.count(&group);
        self.chain = group.chain().clone();
        let through = group.through();
        // IMPORTANT: overlays before publication: a reader at the new U must find every kill up to it.
        group.apply_to_partitions();
        self.readers.publish(Published { snapshot, through, catalog: group.catalog() });
        // IMPORTANT: after publication: who is told reads the log at the new U.
        group.partitions().for_each(|partition| partition.published());
        group.answer_all();
    }

    /// Counts a group that is durable.
    fn count(&self, group: &Group) {
        self.metrics.commits.inc_by(group.commits());
        self.metrics.commit_group_changes.observe(group.changes() as f64);
        self.metrics.audit_entries.inc_by(group.chain().number().saturating_sub(self.chain.number()));
    }

    fn suspect(&mut self, group: &Group) {
        self.suspects.any = true;
        self.suspects.catalog |= group.edits_catalog();
        self.suspects.partitions.extend(group.partitions());
    }

    /// Reopens the store and reads again what an unknown outcome may have changed.
    async fn recover(&mut self) -> Result<()> {
        self.store.reopen().await?;
        let snapshot = self.store.snapshot().await?;
        for partition in &self.suspects.partitions {
            partition.recover_hot(snapshot.as_ref()).await?;
        }
        // The group's entries are there with the group, or not at all.
        self.chain = self.chain.again(snapshot.as_ref()).await?;
        let newest = self.readers.newest();
        let catalog = if self.suspects.catalog {
            Arc::new(catalog::load(snapshot.as_ref()).await?)
        } else {
            newest.catalog.clone()
        };
        self.readers.publish(Published { snapshot, through: self.system.last_updated(), catalog });
        self.suspects.partitions.iter().for_each(|partition| partition.published());
        self.suspects = Suspects::default();
        tracing::info!("the store has reopened; writes go on");
        Ok(())
    }
}

/// Said to writers while the store cannot reopen.
fn still_closed(error: &Error) -> Error {
    match error.kind() {
        ErrorKind::Io => Error::overloaded(format!("writes are refused for now: {}; try again", error.message())),
        _ => Error::overloaded("the store is reopening after a failed sync; try again"),
    }
}

fn refuse(work: Work, error: impl Fn() -> Error) {
    // A dropped receiver means that nobody waits for the answer any more.
    match work {
        Work::Write(_, done) => drop(done.send(Err(error().into()))),
        Work::Catalog(_, done)
        | Work::Records { done, .. }
        | Work::Remove(_, done)
        | Work::Reserve(done)
        | Work::End(done) => {
            drop(done.send(Err(error().into())));
        }
    }
}
