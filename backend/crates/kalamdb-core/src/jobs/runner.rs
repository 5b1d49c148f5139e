//! The runner.

use std::collections::BTreeMap;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::FutureExt;
use futures::future::BoxFuture;
use kalamdb_commons::clock::{Clock, Entropy};
use kalamdb_commons::error::{Error, ErrorKind, Result};
use kalamdb_commons::ids::JobId;
use kalamdb_commons::settings::JobSettings;
use kalamdb_commons::unique::TimeOrdered;
use kalamdb_store::Snapshot;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{Semaphore, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Records;
use super::record::{self, JobKind, JobProgress, JobRecord, JobStatus};

/// How a job ended that did not fail.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum JobEnd {
    /// It did its work, and says what.
    Completed(String),
    /// There was nothing to do, and it says why.
    Skipped(String),
}

/// What a job holds of itself while it runs.
#[derive(Debug, Clone)]
pub struct JobHandle {
    id: JobId,
    rows: Arc<AtomicU64>,
    bytes: Arc<AtomicU64>,
    cancel: CancellationToken,
}

impl JobHandle {
    /// Its id.
    pub fn id(&self) -> &JobId {
        &self.id
    }

    /// Adds to what it has handled.
    pub fn progress(&self, rows: u64, bytes: u64) {
        self.rows.fetch_add(rows, Ordering::Relaxed);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    /// Whether it is to stop.
    pub fn is_cancelled(&self) -> bool {
        self.cancel.is_cancelled()
    }

    /// Fails if it is to stop: for `?` between the steps of a job.
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() { Err(Error::new(ErrorKind::Cancelled, "the job was cancelled")) } else { Ok(()) }
    }

    /// Returns when it is to stop.
    pub async fn cancelled(&self) {
        self.cancel.cancelled().await;
    }

    fn handled(&self) -> JobProgress {
        JobProgress { rows: self.rows.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }
}

/// A job that has not been forgotten yet.
#[derive(Debug)]
struct Job {
    state: watch::Sender<JobRecord>,
    handle: JobHandle,
}

impl Job {
    fn new(record: JobRecord) -> Self {
        let handle = JobHandle {
            id: record.job_id.clone(),
            rows: Arc::new(AtomicU64::new(record.progress.rows)),
            bytes: Arc::new(AtomicU64::new(record.progress.bytes)),
            cancel: CancellationToken::new(),
        };
        Self { state: watch::Sender::new(record), handle }
    }

    /// The record with the progress of this moment.
    fn record(&self) -> JobRecord {
        let mut record = self.state.borrow().clone();
        record.progress = self.handle.handled();
        record
    }

    fn status(&self) -> JobStatus {
        self.state.borrow().status
    }
}

/// Runs jobs. Cheap to clone; all clones are one runner.
#[derive(Debug, Clone)]
pub struct JobRunner(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    records: Arc<dyn Records>,
    clock: Arc<dyn Clock>,
    ids: TimeOrdered,
    settings: JobSettings,
    node_id: String,
    places: Arc<Semaphore>,
    tasks: TaskTracker,
    /// Oldest first, by (creation, id).
    jobs: Mutex<BTreeMap<(i64, JobId), Arc<Job>>>,
}

impl JobRunner {
    /// A runner that goes on from what is stored. Jobs that were not finished are marked failed, durably.
    pub async fn start(
        snapshot: &dyn Snapshot,
        records: Arc<dyn Records>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        settings: &JobSettings,
        node_id: &str,
    ) -> Result<Self> {
        let mut stored = record::load(snapshot).await?;
        let mut interrupted = Vec::new();
        for record in stored.iter_mut().filter(|record| !record.status.is_final()) {
            record.status = JobStatus::Failed;
            record.message = "interrupted by a restart".to_owned();
            record.finished_at_ms = Some(clock.now_ms());
            interrupted.push(record::entry(record));
        }
        if !interrupted.is_empty() {
            records.put(interrupted, Vec::new()).await?;
        }
        let jobs = stored
            .into_iter()
            .map(|record| ((record.created_at_ms, record.job_id.clone()), Arc::new(Job::new(record))))
            .collect();
        let runner = Self(Arc::new(Inner {
            records,
            ids: TimeOrdered::new(Arc::clone(&clock), entropy),
            clock,
            settings: settings.clone(),
            node_id: node_id.to_owned(),
            places: Arc::new(Semaphore::new(settings.parallel_max.max(1))),
            tasks: TaskTracker::new(),
            jobs: Mutex::new(jobs),
        }));
        runner.0.trim().await;
        Ok(runner)
    }

    /// Queues a job and returns its id when its record is stored. `work` is called when it is the job's turn.
    ///
    /// Fails with [`ErrorKind::Overloaded`] if `jobs.queue_max` jobs wait already, or the server is stopping.
    pub async fn submit<W, F>(&self, kind: JobKind, parameters: Value, work: W) -> Result<JobId>
    where
        W: FnOnce(JobHandle) -> F + Send + 'static,
        F: Future<Output = Result<JobEnd>> + Send + 'static,
    {
        let job = self.0.admit(kind, parameters)?;
        let stored = self.0.records.put(vec![record::entry(&job.record())], Vec::new()).await;
        if let Err(error) = stored {
            self.0.forget(&job);
            return Err(error.context("the job could not be recorded"));
        }
        let id = job.handle.id().clone();
        let inner = Arc::clone(&self.0);
        self.0.tasks.spawn(async move { inner.run(job, Box::new(move |handle| work(handle).boxed())).await });
        Ok(id)
    }

    /// Waits until the job has ended.
    pub async fn wait(&self, id: &JobId) -> Result<JobRecord> {
        let job = self.0.find(id)?;
        let mut state = job.state.subscribe();
        let ended = state.wait_for(|record| record.status.is_final()).await;
        let record = ended.map_err(|_| Error::internal("the job's state went away"))?.clone();
        Ok(record)
    }

    /// Asks a job to stop: one that waits ends at once, one that runs at its next step. Returns its state now.
    pub async fn cancel(&self, id: &JobId) -> Result<JobStatus> {
        let job = self.0.find(id)?;
        job.handle.cancel.cancel();
        Ok(job.status())
    }

    /// A job's record.
    pub fn record(&self, id: &JobId) -> Result<JobRecord> {
        Ok(self.0.find(id)?.record())
    }

    /// All records, oldest first, with the progress of this moment.
    pub fn records(&self) -> Vec<JobRecord> {
        self.0.jobs.lock().values().map(|job| job.record()).collect()
    }

    /// Whether a job of the kind with these parameters waits or runs.
    pub fn is_pending(&self, kind: JobKind, parameters: &Value) -> bool {
        self.0.jobs.lock().values().any(|job| {
            let record = job.state.borrow();
            !record.status.is_final() && record.job_type == kind.as_str() && record.parameters == *parameters
        })
    }

    /// Whether any job of the kind waits or runs.
    pub fn is_any_pending(&self, kind: JobKind) -> bool {
        self.0.jobs.lock().values().any(|job| {
            let record = job.state.borrow();
            !record.status.is_final() && record.job_type == kind.as_str()
        })
    }

    /// Stops: takes no more jobs, cancels those that wait, gives those that run `grace` to end by themselves, then
    /// asks them to stop and gives them `grace` once more. Says whether all have ended.
    pub async fn shutdown(&self, grace: Duration) -> bool {
        let inner = &self.0;
        inner.places.close();
        inner.tasks.close();
        if tokio::time::timeout(grace, inner.tasks.wait()).await.is_ok() {
            return true;
        }
        inner.jobs.lock().values().for_each(|job| job.handle.cancel.cancel());
        tokio::time::timeout(grace, inner.tasks.wait()).await.is_ok()
    }
}

type Work = Box<dyn FnOnce(JobHandle) -> BoxFuture<'static, Result<JobEnd>> + Send>;

impl Inner {
    fn find(&self, id: &JobId) -> Result<Arc<Job>> {
        let jobs = self.jobs.lock();
        let found = jobs.iter().find(|((_, existing), _)| existing == id).map(|(_, job)| Arc::clone(job));
        found.ok_or_else(|| Error::not_found(format!("job '{id}' does not exist")))
    }

    /// Makes a job, if there is room in the queue.
    fn admit(&self, kind: JobKind, parameters: Value) -> Result<Arc<Job>> {
        if self.places.is_closed() {
            return Err(Error::overloaded("the server is stopping and takes no more jobs"));
        }
        let mut jobs = self.jobs.lock();
        let waiting = jobs.values().filter(|job| job.status() == JobStatus::Queued).count();
        if waiting >= self.settings.queue_max {
            return Err(Error::overloaded(format!(
                "{waiting} jobs are waiting, as many as jobs.queue_max allows; try again later"
            )));
        }
        let record = JobRecord {
            job_id: JobId::new(&format!("{}-{}", kind.prefix(), self.ids.ulid()))?,
            job_type: kind.as_str().to_owned(),
            status: JobStatus::Queued,
            parameters,
            message: String::new(),
            progress: JobProgress::default(),
            created_at_ms: self.clock.now_ms(),
            started_at_ms: None,
            finished_at_ms: None,
            node_id: self.node_id.clone(),
        };
        let key = (record.created_at_ms, record.job_id.clone());
        let job = Arc::new(Job::new(record));
        jobs.insert(key, Arc::clone(&job));
        Ok(job)
    }

    fn forget(&self, job: &Job) {
        self.jobs.lock().retain(|(_, id), _| id != job.handle.id());
    }

    async fn run(&self, job: Arc<Job>, work: Work) {
        let place = tokio::select! {
            biased;
            () = job.handle.cancelled() => None,
            place = self.places.acquire() => place.ok(),
        };
        let ended = match place {
            None => Err(Error::new(ErrorKind::Cancelled, "cancelled before it began")),
            Some(_place) => {
                self.begin(&job).await;
                std::panic::AssertUnwindSafe(async { work(job.handle.clone()).await })
                    .catch_unwind()
                    .await
                    .unwrap_or_else(|_| Err(Error::internal("the job panicked; the log says where")))
            }
        };
        self.end(&job, ended).await;
    }

    async fn begin(&self, job: &Job) {
        job.state.send_modify(|record| {
            record.status = JobStatus::Running;
            record.started_at_ms = Some(self.clock.now_ms());
        });
        self.store(job).await;
    }

    async fn end(&self, job: &Job, ended: Result<JobEnd>) {
        let (status, message) = match ended {
            Ok(JobEnd::Completed(message)) => (JobStatus::Completed, message),
            Ok(JobEnd::Skipped(message)) => (JobStatus::Skipped, message),
            Err(error) if error.kind() == ErrorKind::Cancelled => (JobStatus::Cancelled, error.message().to_owned()),
            Err(error) => {
                tracing::warn!(job = %job.handle.id(), error = &error as &dyn std::error::Error, "job failed");
                (JobStatus::Failed, error.message().to_owned())
            }
        };
        let mut last = job.record();
        last.status = status;
        last.message = message;
        last.finished_at_ms = Some(self.clock.now_ms());
        // IMPORTANT: stored before anybody who waits is told, so that an outcome that was seen survives a crash.
        self.store_record(&last).await;
        job.state.send_replace(last);
        self.trim().await;
    }

    async fn store(&self, job: &Job) {
        self.store_record(&job.record()).await;
    }

    /// A record that cannot be stored does not stop the work: the job's effect is what counts, and after a restart
    /// the older record tells that the outcome is unknown.
    async fn store_record(&self, record: &JobRecord) {
        if let Err(error) = self.records.put(vec![record::entry(record)], Vec::new()).await {
            tracing::warn!(job = %record.job_id, error = &error as &dyn std::error::Error, "job record not stored");
        }
    }

    /// Forgets the oldest ended jobs beyond `history_max`.
    async fn trim(&self) {
        let gone: Vec<(i64, JobId)> = {
            let mut jobs = self.jobs.lock();
            let ended: Vec<(i64, JobId)> =
                jobs.iter().filter(|(_, job)| job.status().is_final()).map(|(key, _)| key.clone()).collect();
            let surplus = ended.len().saturating_sub(self.settings.history_max);
            let gone: Vec<(i64, JobId)> = ended.into_iter().take(surplus).collect();
            gone.iter().for_each(|key| drop(jobs.remove(key)));
            gone
        };
        if gone.is_empty() {
            return;
        }
        let deletes = gone.iter().map(|(_, id)| record::key(id)).collect();
        if let Err(error) = self.records.put(Vec::new(), deletes).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "old job records not removed");
        }
    }
}

#[cfg(test)]
mod tests;
