//! The runner: takes jobs in, has each one run when its turn has come, and keeps what is known of it.
//!
//! # A job's life
//!
//! [`JobRunner::submit`] checks the parameters, stores the record, and the job waits (`queued`). When the [`queue`]
//! says that it may, it begins (`running`, stored before the work starts). How the work ends decides what follows: it is
//! done (`completed`), had nothing to do (`skipped`), was told to stop (`cancelled`), failed for a reason that may pass
//! and has attempts left (`retrying`, and `queued` again when its time has come), or failed (`failed`). The last state
//! is stored before anybody who waits is told.
//!
//! # Stopping and starting
//!
//! A server that stops begins no more jobs, lets those that run end, and after a while tells them to stop; what had not
//! ended is taken up at the next start, as [`recovery`](super::recovery) says, like what a crash interrupted. A job that
//! was told to stop by somebody is not: that is stored before the answer to KILL JOB.
//!
//! # Time
//!
//! Attempts and schedules go by the injected clock. [`JobRunner::tick`] looks at it; the engine calls that twice a second,
//! and a test whenever it has moved its clock.

mod attempt;

use std::collections::{BTreeSet, HashMap};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use kalamdb_commons::clock::{Clock, Entropy};
use kalamdb_commons::error::{Error, ErrorKind, Result};
use kalamdb_commons::ids::{JobId, UserId};
use kalamdb_commons::settings::JobSettings;
use kalamdb_commons::unique::TimeOrdered;
use kalamdb_store::Snapshot;
use parking_lot::Mutex;
use serde_json::Value;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::Records;
use super::counts::JobCounts;
use super::handle::JobHandle;
use super::kind::{Kind, Kinds, Target};
use super::pace::Timetable;
use super::queue::{Ask, Full, Limits, Queue};
use super::record::{self, JobProgress, JobRecord, JobStatus};
use super::recovery::{self, Fate};

/// The longest idempotency key, in bytes.
const KEY_BYTES_MAX: usize = 255;

/// What somebody wants done.
#[derive(Debug, Clone)]
pub struct Submission {
    /// The name of the kind.
    pub kind: String,
    /// Its parameters.
    pub params: Value,
    /// Who asks; `None` for the server.
    pub submitted_by: Option<UserId>,
    /// Under which they may ask again, and get the first answer.
    pub idempotency_key: Option<String>,
    /// How often it may begin; `None` for as often as the settings say.
    pub attempts_max: Option<u32>,
}

impl Submission {
    /// Something that the server wants done.
    pub fn own(kind: &str, params: Value) -> Self {
        Self { kind: kind.to_owned(), params, submitted_by: None, idempotency_key: None, attempts_max: None }
    }
}

/// A job that has not been forgotten yet.
#[derive(Debug)]
struct Job {
    state: watch::Sender<JobRecord>,
    handle: JobHandle,
    /// Nothing more will be known of it before the next start.
    left: CancellationToken,
    /// Held by who stores its record, from looking at what it is until that is stored: an older record never comes
    /// after a newer one.
    storing: tokio::sync::Mutex<()>,
}

impl Job {
    fn new(record: JobRecord) -> Arc<Self> {
        let handle = JobHandle::of(&record);
        let state = watch::Sender::new(record);
        Arc::new(Self { state, handle, left: CancellationToken::new(), storing: tokio::sync::Mutex::default() })
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
    entropy: Arc<dyn Entropy>,
    ids: TimeOrdered,
    settings: JobSettings,
    node_id: String,
    kinds: OnceLock<Kinds>,
    state: Mutex<State>,
    timetable: tokio::sync::Mutex<Timetable>,
    tasks: TaskTracker,
    stopping: CancellationToken,
    /// Somebody ended: for who waits until nothing is to be done.
    ended: Notify,
}

#[derive(Debug)]
struct State {
    jobs: HashMap<JobId, Arc<Job>>,
    queue: Queue,
    /// Jobs that wait for their next attempt, by its time.
    later: BTreeSet<(i64, JobId)>,
    /// Ended jobs, the first that ended first.
    ended: BTreeSet<(i64, JobId)>,
    keys: HashMap<(Option<UserId>, String), JobId>,
    counts: JobCounts,
}

impl State {
    fn count(&mut self, kind: &str, from: Option<JobStatus>, to: JobStatus) {
        self.counts.entry(kind.to_owned()).or_default().moved(from, to);
    }

    fn forget(&mut self, record: &JobRecord) {
        self.jobs.remove(&record.job_id);
        if let Some(key) = &record.idempotency_key {
            self.keys.remove(&(record.submitted_by.clone(), key.clone()));
        }
    }
}

impl JobRunner {
    /// A runner that knows what is stored. It runs nothing before [`Self::begin`].
    pub async fn start(
        snapshot: &dyn Snapshot,
        records: Arc<dyn Records>,
        clock: Arc<dyn Clock>,
        entropy: Arc<dyn Entropy>,
        settings: &JobSettings,
        node_id: &str,
    ) -> Result<Self> {
        let limits = Limits {
            flush_parallel_max: settings.flush_parallel_max.max(1),
            upkeep_parallel_max: settings.parallel_max.max(1),
            table_parallel_max: settings.table_parallel_max.max(1),
            waiting_max: settings.queue_max.max(1),
        };
        let mut state = State {
            jobs: HashMap::new(),
            queue: Queue::new(limits),
            later: BTreeSet::new(),
            ended: BTreeSet::new(),
            keys: HashMap::new(),
            counts: JobCounts::new(),
        };
        for record in record::load(snapshot).await? {
            if record.status.is_final() {
                state.ended.insert((record.finished_at_ms.unwrap_or(record.created_at_ms), record.job_id.clone()));
            }
            if let Some(key) = &record.idempotency_key {
                state.keys.insert((record.submitted_by.clone(), key.clone()), record.job_id.clone());
            }
            state.jobs.insert(record.job_id.clone(), Job::new(record));
        }
        Ok(Self(Arc::new(Inner {
            records,
            ids: TimeOrdered::new(Arc::clone(&clock), Arc::clone(&entropy)),
            clock,
            entropy,
            settings: settings.clone(),
            node_id: node_id.to_owned(),
            kinds: OnceLock::new(),
            state: Mutex::new(state),
            timetable: tokio::sync::Mutex::default(),
            tasks: TaskTracker::new(),
            stopping: CancellationToken::new(),
            ended: Notify::new(),
        })))
    }

    /// Takes up what the last run left, and begins to run jobs of these kinds.
    ///
    /// # Errors
    /// If what became of old jobs cannot be stored.
    pub async fn begin(&self, kinds: Kinds) -> Result<()> {
        let inner = &self.0;
        inner.kinds.set(kinds).map_err(|_| Error::internal("the job runner has begun already"))?;
        let mut left: Vec<Arc<Job>> = inner.state.lock().jobs.values().cloned().collect();
        left.retain(|job| !job.status().is_final());
        left.sort_by_key(|job| {
            let record = job.state.borrow();
            (record.created_at_ms, record.job_id.clone())
        });
        let mut ended = Vec::new();
        for job in left {
            ended.extend(inner.take_up(&job));
        }
        if !ended.is_empty() {
            inner.records.put(ended, Vec::new()).await?;
        }
        inner.trim().await;
        inner.dispatch();
        Ok(())
    }

    /// All kinds of jobs.
    pub fn kinds(&self) -> Result<&Kinds> {
        self.0.kinds.get().ok_or_else(|| Error::overloaded("the server is starting"))
    }

    /// Takes a job in, and returns its id when its record is stored. With a key that its submitter has used, the job of
    /// that time.
    ///
    /// # Errors
    /// `InvalidParameter` as the kind says; `Overloaded` if too many wait, or the server is stopping; `Conflict` if the
    /// key was used for something else.
    pub async fn submit(&self, submission: Submission) -> Result<JobId> {
        let kind = Arc::clone(self.kinds()?.require(&submission.kind)?);
        let parameters = kind.accept(&submission.params)?;
        let (job, is_new) = self.0.admit(kind.as_ref(), parameters, &submission)?;
        let id = job.handle.id().clone();
        if !is_new {
            return self.0.recorded(&job).await.map(|()| id);
        }
        let mut record = job.record();
        record.status = JobStatus::Queued;
        if let Err(error) = self.0.records.put(vec![record::entry(&record)], Vec::new()).await {
            self.0.state.lock().forget(&record);
            job.left.cancel();
            return Err(error.context("the job could not be recorded"));
        }
        self.0.enqueue(&job, kind.as_ref())?;
        self.0.dispatch();
        Ok(id)
    }

    /// The same, unless a job of the kind waits, runs or is to be tried again that is about the same.
    pub async fn submit_unless_pending(&self, submission: Submission) -> Result<Option<JobId>> {
        let target = self.kinds()?.require(&submission.kind)?.target(&submission.params)?;
        if self.is_pending(&submission.kind, &target) {
            return Ok(None);
        }
        self.submit(submission).await.map(Some)
    }

    /// Waits until the job has ended.
    ///
    /// # Errors
    /// Not found; `Overloaded` if the server stops before.
    pub async fn wait(&self, id: &JobId) -> Result<JobRecord> {
        let job = self.0.find(id)?;
        let mut state = job.state.subscribe();
        tokio::select! {
            biased;
            ended = state.wait_for(|record| record.status.is_final()) => {
                Ok(ended.map_err(|_| Error::internal("the job's state went away"))?.clone())
            }
            () = job.left.cancelled() => {
                Err(Error::overloaded("the server is stopping; the job is taken up at the next start"))
            }
        }
    }

    /// Asks a job to stop: one that waits ends at once, one that runs at its next step. Returns its state before, when
    /// it is stored that it is not to be taken up again.
    pub async fn cancel(&self, id: &JobId) -> Result<JobStatus> {
        let job = self.0.find(id)?;
        let (before, is_waiting) = self.0.withdraw(&job);
        if before.is_final() {
            return Ok(before);
        }
        if is_waiting {
            self.0.finish(&job, JobStatus::Cancelled, "cancelled before it began".to_owned()).await;
            return Ok(before);
        }
        job.handle.cancel();
        let _alone = job.storing.lock().await;
        let asked = job.record();
        if !asked.status.is_final() {
            self.0.records.put(vec![record::entry(&asked)], Vec::new()).await?;
        }
        Ok(before)
    }

    /// A job's record.
    pub fn record(&self, id: &JobId) -> Result<JobRecord> {
        Ok(self.0.find(id)?.record())
    }

    /// All records, oldest first, with the progress of this moment.
    pub fn records(&self) -> Vec<JobRecord> {
        let jobs: Vec<Arc<Job>> = self.0.state.lock().jobs.values().cloned().collect();
        let mut records: Vec<JobRecord> = jobs.iter().map(|job| job.record()).collect();
        records.sort_by(|a, b| (a.created_at_ms, &a.job_id).cmp(&(b.created_at_ms, &b.job_id)));
        records
    }

    /// How many jobs there are of each kind that has had one since the start.
    pub fn counts(&self) -> JobCounts {
        self.0.state.lock().counts.clone()
    }

    /// Whether a job of the kind waits, runs or is to be tried again that is about exactly this.
    pub fn is_pending(&self, kind: &str, target: &Target) -> bool {
        let state = self.0.state.lock();
        state.queue.has(kind, target) || self.0.is_later(&state, kind, target)
    }

    /// Looks at the clock: what is to be tried again waits for its turn, and what is due is submitted.
    pub async fn tick(&self) {
        let inner = &self.0;
        if inner.stopping.is_cancelled() {
            return;
        }
        inner.take_later();
        inner.dispatch();
        let Ok(kinds) = self.kinds() else { return };
        let intervals = kinds.iter().map(|kind| (kind.about().name, Duration::from_secs(kind.interval_seconds())));
        let intervals: Vec<_> = intervals.filter(|(_, interval)| !interval.is_zero()).collect();
        let mut timetable = inner.timetable.lock().await;
        let (now_ns, jitter) = (inner.clock.now_ns(), inner.settings.jitter_percent);
        for name in timetable.take_due(now_ns, &intervals, jitter, inner.entropy.as_ref()) {
            let Some(kind) = kinds.find(name) else { continue };
            self.submit_due(kind.as_ref()).await;
        }
    }

    /// Submits the jobs of a kind that are due now. Returns how many.
    pub async fn submit_due(&self, kind: &dyn Kind) -> usize {
        let name = kind.about().name;
        let due = match kind.due().await {
            Ok(due) => due,
            Err(error) => {
                tracing::warn!(error = &error as &dyn std::error::Error, kind = name, "it cannot be told what is due");
                return 0;
            }
        };
        let mut submitted = 0;
        for params in due {
            match self.submit_unless_pending(Submission::own(name, params)).await {
                Ok(id) => submitted += usize::from(id.is_some()),
                // What it was about has gone meanwhile.
                Err(error) if error.kind() == ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::warn!(error = &error as &dyn std::error::Error, kind = name, "a job could not be queued");
                }
            }
        }
        submitted
    }

    /// Waits until no job waits for its turn and none runs. Those that wait for their next attempt stay.
    pub async fn idle(&self) {
        loop {
            let ended = self.0.ended.notified();
            tokio::pin!(ended);
            ended.as_mut().enable();
            let is_idle = {
                let state = self.0.state.lock();
                state.jobs.values().all(|job| job.status().is_final() || job.status() == JobStatus::Retrying)
            };
            if is_idle {
                return;
            }
            ended.await;
        }
    }

    /// Forgets jobs that ended before a moment, ms since 1970. Returns how many.
    pub async fn forget_ended_before(&self, before_ms: i64) -> Result<u64> {
        let old: Vec<JobId> = {
            let state = self.0.state.lock();
            state.ended.iter().take_while(|(at, _)| *at < before_ms).map(|(_, id)| id.clone()).collect()
        };
        for chunk in old.chunks(1_000) {
            self.0.forget(chunk).await?;
        }
        Ok(old.len() as u64)
    }

    /// When the job that ended first of those that are kept has ended, ms since 1970.
    pub fn oldest_ended_ms(&self) -> Option<i64> {
        self.0.state.lock().ended.first().map(|(at, _)| *at)
    }

    /// Stops: begins no more jobs, gives those that run `grace` to end by themselves, then tells them to stop and gives
    /// them `grace` once more. What has not ended is taken up at the next start. Says whether nothing runs any more.
    pub async fn shutdown(&self, grace: Duration) -> bool {
        let inner = &self.0;
        inner.stopping.cancel();
        let all: Vec<Arc<Job>> = inner.state.lock().jobs.values().cloned().collect();
        let is_waiting = |job: &&Arc<Job>| matches!(job.status(), JobStatus::Queued | JobStatus::Retrying);
        all.iter().filter(is_waiting).for_each(|job| job.left.cancel());
        inner.tasks.close();
        if tokio::time::timeout(grace, inner.tasks.wait()).await.is_ok() {
            return true;
        }
        all.iter().filter(|job| job.status() == JobStatus::Running).for_each(|job| job.handle.cancel());
        let have_ended = tokio::time::timeout(grace, inner.tasks.wait()).await.is_ok();
        all.iter().for_each(|job| job.left.cancel());
        have_ended
    }
}

impl Inner {
    fn find(&self, id: &JobId) -> Result<Arc<Job>> {
        let found = self.state.lock().jobs.get(id).cloned();
        found.ok_or_else(|| Error::not_found(format!("job '{id}' does not exist")))
    }

    fn kind_of(&self, record: &JobRecord) -> Option<&Arc<dyn Kind>> {
        self.kinds.get()?.find(&record.job_type)
    }

    fn is_later(&self, state: &State, kind: &str, target: &Target) -> bool {
        state.later.iter().filter_map(|(_, id)| state.jobs.get(id)).any(|job| {
            let record = job.state.borrow();
            let found = self.kind_of(&record).filter(|found| found.about().name == kind);
            found.and_then(|found| found.target(&record.parameters).ok()).is_some_and(|about| about == *target)
        })
    }

    /// Makes a job if there is room, or finds the one that was submitted under the same key.
    fn admit(&self, kind: &dyn Kind, parameters: Value, submission: &Submission) -> Result<(Arc<Job>, bool)> {
        if self.stopping.is_cancelled() {
            return Err(Error::overloaded("the server is stopping and takes no more jobs"));
        }
        let key = submission.idempotency_key.as_ref().map(|key| checked_key(key)).transpose()?;
        let key = key.map(|key| (submission.submitted_by.clone(), key));
        let about = kind.about();
        let target = kind.target(&parameters)?;
        let mut state = self.state.lock();
        if let Some(existing) = key.as_ref().and_then(|key| state.keys.get(key)).and_then(|id| state.jobs.get(id)) {
            let record = existing.state.borrow();
            if record.job_type != about.name || record.parameters != parameters {
                return Err(Error::conflict(format!(
                    "the idempotency key was used before for job '{}', which is another one",
                    record.job_id
                )));
            }
            drop(record);
            return Ok((Arc::clone(existing), false));
        }
        state.queue.room(about.lane, &share(about.name, &target, submission)).map_err(|full| match full {
            Full::Lane(waiting) => Error::overloaded(format!(
                "{waiting} jobs are waiting, as many as jobs.queue_max allows; try again later"
            )),
            Full::Share(waiting) => Error::overloaded(format!(
                "{waiting} jobs of the same user, table or account are waiting, half of jobs.queue_max; try again later"
            )),
        })?;
        let record = JobRecord {
            job_id: JobId::new(&format!("{}-{}", about.prefix, self.ids.ulid()))?,
            job_type: about.name.to_owned(),
            status: JobStatus::New,
            parameters,
            message: String::new(),
            progress: JobProgress::default(),
            created_at_ms: self.clock.now_ms(),
            started_at_ms: None,
            finished_at_ms: None,
            node_id: self.node_id.clone(),
            attempts: 0,
            attempts_max: submission.attempts_max,
            next_attempt_at_ms: None,
            submitted_by: submission.submitted_by.clone(),
            idempotency_key: key.as_ref().map(|(_, key)| key.clone()),
            cancel_requested: false,
        };
        let job = Job::new(record);
        if let Some(key) = key {
            state.keys.insert(key, job.handle.id().clone());
        }
        state.jobs.insert(job.handle.id().clone(), Arc::clone(&job));
        Ok((job, true))
    }

    /// Waits until a job that somebody else is submitting has been recorded.
    async fn recorded(&self, job: &Job) -> Result<()> {
        let mut state = job.state.subscribe();
        tokio::select! {
            biased;
            recorded = state.wait_for(|record| record.status != JobStatus::New) => {
                recorded.map(drop).map_err(|_| Error::internal("the job's state went away"))
            }
            () = job.left.cancelled() => Err(Error::overloaded("the job could not be recorded; try again")),
        }
    }

    /// Has a job wait for its turn.
    fn enqueue(&self, job: &Arc<Job>, kind: &dyn Kind) -> Result<()> {
        let record = job.record();
        let target = kind.target(&record.parameters)?;
        let submission = Submission { submitted_by: record.submitted_by.clone(), ..Submission::own("", Value::Null) };
        let share = share(kind.about().name, &target, &submission);
        let mut state = self.state.lock();
        self.change(&mut state, job, |record| record.status = JobStatus::Queued);
        state.queue.push(Ask { id: record.job_id, about: *kind.about(), target, share });
        Ok(())
    }

    /// Changes a job's record, and counts what its state was and is.
    fn change(&self, state: &mut State, job: &Job, change: impl FnOnce(&mut JobRecord)) {
        let (mut before, mut after, mut kind) = (JobStatus::New, JobStatus::New, String::new());
        job.state.send_modify(|record| {
            before = record.status;
            change(record);
            after = record.status;
            kind.clone_from(&record.job_type);
        });
        if before != after {
            state.count(&kind, Some(before), after);
        }
    }

    /// Takes up a job that the last run left. Returns what is to be stored of it.
    fn take_up(&self, job: &Arc<Job>) -> Option<(bytes::Bytes, bytes::Bytes)> {
        let record = job.record();
        let kinds = self.kinds.get()?;
        let fate = recovery::fate(&record, kinds, self.settings.attempts_max);
        // What is counted began with this start.
        job.state.send_modify(|record| record.status = JobStatus::New);
        match (fate, self.kind_of(&record)) {
            (Fate::Queued, Some(kind)) => {
                let queued = self.enqueue(job, kind.as_ref());
                queued.is_err().then(|| record::entry(&job.record()))
            }
            (Fate::Retrying(at_ms), _) => {
                let mut state = self.state.lock();
                self.change(&mut state, job, |record| record.status = JobStatus::Retrying);
                state.later.insert((at_ms, record.job_id));
                None
            }
            (Fate::Ended(status, message), _) => {
                let finished_at_ms = self.clock.now_ms();
                let mut state = self.state.lock();
                self.change(&mut state, job, |record| {
                    record.status = status;
                    record.message = message;
                    record.finished_at_ms = Some(finished_at_ms);
                });
                state.ended.insert((finished_at_ms, record.job_id));
                drop(state);
                Some(record::entry(&job.record()))
            }
            (Fate::Queued, None) => None,
        }
    }

    /// Has the jobs wait for their turn whose next attempt has come.
    fn take_later(&self) {
        let now_ms = self.clock.now_ms();
        let due: Vec<Arc<Job>> = {
            let mut state = self.state.lock();
            let due: Vec<(i64, JobId)> = state.later.iter().take_while(|(at, _)| *at <= now_ms).cloned().collect();
            for key in &due {
                state.later.remove(key);
            }
            due.iter().filter_map(|(_, id)| state.jobs.get(id).cloned()).collect()
        };
        for job in due {
            let record = job.record();
            let queued = self.kind_of(&record).map(|kind| self.enqueue(&job, kind.as_ref()));
            if let Some(Err(error)) = queued {
                tracing::warn!(job = %record.job_id, error = &error as &dyn std::error::Error, "it cannot be tried again");
            }
        }
    }

    /// Takes a job out of what waits, or notes that one which runs is to stop. Returns the state that it had, and
    /// whether it waited.
    fn withdraw(&self, job: &Job) -> (JobStatus, bool) {
        let mut state = self.state.lock();
        let (status, id) = (job.status(), job.handle.id());
        let is_waiting = match status {
            JobStatus::Queued => state.queue.withdraw(id),
            JobStatus::Retrying => {
                let before = state.later.len();
                state.later.retain(|(_, other)| other != id);
                state.later.len() < before
            }
            _ => false,
        };
        if !is_waiting && !status.is_final() {
            job.state.send_modify(|record| record.cancel_requested = true);
        }
        (status, is_waiting)
    }

    async fn store_now(&self, job: &Job) {
        let _alone = job.storing.lock().await;
        self.store(&job.record()).await;
    }

    /// A record that cannot be stored does not stop the work: the job's effect is what counts, and after a restart
    /// the older record says what becomes of it.
    async fn store(&self, record: &JobRecord) {
        if let Err(error) = self.records.put(vec![record::entry(record)], Vec::new()).await {
            tracing::warn!(job = %record.job_id, error = &error as &dyn std::error::Error, "job record not stored");
        }
    }

    /// Forgets the jobs that ended first, beyond `history_max`.
    async fn trim(&self) {
        let surplus: Vec<JobId> = {
            let state = self.state.lock();
            let surplus = state.ended.len().saturating_sub(self.settings.history_max);
            state.ended.iter().take(surplus).map(|(_, id)| id.clone()).collect()
        };
        if let Err(error) = self.forget(&surplus).await {
            tracing::warn!(error = &error as &dyn std::error::Error, "old job records not removed");
        }
    }

    /// Forgets ended jobs, in memory and in the store.
    async fn forget(&self, ids: &[JobId]) -> Result<()> {
        if ids.is_empty() {
            return Ok(());
        }
        self.records.put(Vec::new(), ids.iter().map(record::key).collect()).await?;
        let mut state = self.state.lock();
        for id in ids {
            let Some(record) = state.jobs.get(id).map(|job| job.record()) else { continue };
            state.forget(&record);
            state.ended.remove(&(record.finished_at_ms.unwrap_or(record.created_at_ms), record.job_id));
        }
        Ok(())
    }
}

/// Whose share of the work a job is.
fn share(kind: &str, target: &Target, submission: &Submission) -> String {
    match (&target.user, target.one_table(), &submission.submitted_by) {
        (Some(user), _, _) => format!("user {user}"),
        (None, Some((namespace, table)), _) => format!("table {namespace}.{table}"),
        (None, None, Some(by)) => format!("by {by}"),
        (None, None, None) => format!("kind {kind}"),
    }
}

fn checked_key(key: &str) -> Result<String> {
    if (1..=KEY_BYTES_MAX).contains(&key.len()) && !key.chars().any(char::is_control) {
        return Ok(key.to_owned());
    }
    Err(Error::invalid_parameter(format!(
        "field \"idempotency_key\" must be text of 1 to {KEY_BYTES_MAX} bytes without control characters, such as \
         \"nightly-2027-01-15\""
    )))
}

#[cfg(test)]
mod tests;
