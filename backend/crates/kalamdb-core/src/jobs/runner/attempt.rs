//! One attempt of a job: it begins when its turn has come, and how it ends decides what follows.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures::FutureExt;
use kalamdb_commons::error::{Error, ErrorKind, Result};

use super::{Inner, Job};
use crate::jobs::handle::JobEnd;
use crate::jobs::kind::AfterCrash;
use crate::jobs::pace;
use crate::jobs::record::{JobProgress, JobRecord, JobStatus};

/// How an attempt ended.
enum Next {
    Final(JobStatus, String),
    Again {
        at_ms: i64,
        message: String,
    },
    /// The server stops: it is taken up at the next start.
    Left,
}

impl Inner {
    /// Begins the jobs whose turn it is.
    pub(super) fn dispatch(self: &Arc<Self>) {
        let mut state = self.state.lock();
        while !self.stopping.is_cancelled() {
            let Some(id) = state.queue.begin() else { return };
            let Some(job) = state.jobs.get(&id).cloned() else { continue };
            let now_ms = self.clock.now_ms();
            self.change(&mut state, &job, |record| {
                record.status = JobStatus::Running;
                record.started_at_ms = Some(now_ms);
                record.next_attempt_at_ms = None;
                record.attempts += 1;
            });
            let inner = Arc::clone(self);
            self.tasks.spawn(async move { inner.run(job).await });
        }
    }

    async fn run(self: Arc<Self>, job: Arc<Job>) {
        self.store_now(&job).await;
        let record = job.record();
        let before = record.progress;
        let ended = match self.kind_of(&record) {
            Some(kind) => AssertUnwindSafe(kind.run(&record.parameters, &job.handle))
                .catch_unwind()
                .await
                .unwrap_or_else(|_| Err(Error::internal("the job panicked; the log says where"))),
            None => Err(Error::internal("a job of no kind")),
        };
        let after = job.handle.handled();
        let handled = JobProgress {
            rows: after.rows.saturating_sub(before.rows),
            bytes: after.bytes.saturating_sub(before.bytes),
        };
        match self.next(&job.record(), ended) {
            Next::Final(status, message) => self.finish_attempt(&job, status, message, handled).await,
            Next::Again { at_ms, message } => self.put_off(&job, at_ms, message, handled).await,
            Next::Left => self.leave(&job).await,
        }
        self.dispatch();
        self.ended.notify_waiters();
    }

    fn next(&self, record: &JobRecord, ended: Result<JobEnd>) -> Next {
        let error = match ended {
            Ok(JobEnd::Completed(message)) => return Next::Final(JobStatus::Completed, message),
            Ok(JobEnd::Skipped(message)) => return Next::Final(JobStatus::Skipped, message),
            Err(error) => error,
        };
        let told = error.message().to_owned();
        let is_cancelled = error.kind() == ErrorKind::Cancelled;
        if record.cancel_requested && is_cancelled {
            return Next::Final(JobStatus::Cancelled, told);
        }
        if self.stopping.is_cancelled() && (is_cancelled || pace::is_passing(&error)) {
            let begins_again =
                self.kind_of(record).is_some_and(|kind| kind.about().after_crash == AfterCrash::BeginAgain);
            return match begins_again {
                true => Next::Left,
                false => Next::Final(JobStatus::Failed, "interrupted by the end of the server".to_owned()),
            };
        }
        if is_cancelled {
            return Next::Final(JobStatus::Cancelled, told);
        }
        tracing::warn!(job = %record.job_id, error = &error as &dyn std::error::Error, "job failed");
        let attempts_max = record.attempts_max.unwrap_or(self.settings.attempts_max);
        if record.attempts >= attempts_max || record.cancel_requested || !pace::is_passing(&error) {
            return Next::Final(JobStatus::Failed, told);
        }
        let wait = pace::before_retry(record.attempts, &self.settings, self.entropy.as_ref());
        let at_ms = self.clock.now_ms().saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX));
        Next::Again { at_ms, message: format!("attempt {} of {attempts_max} failed: {told}", record.attempts) }
    }

    async fn finish_attempt(&self, job: &Arc<Job>, status: JobStatus, message: String, handled: JobProgress) {
        self.release(job, handled);
        self.finish(job, status, message).await;
    }

    fn release(&self, job: &Job, handled: JobProgress) {
        let mut state = self.state.lock();
        state.queue.end(job.handle.id(), handled.rows, handled.bytes);
        let kind = job.state.borrow().job_type.clone();
        let counts = state.counts.entry(kind).or_default();
        counts.rows += handled.rows;
        counts.bytes += handled.bytes;
    }

    /// Has it tried again later.
    async fn put_off(&self, job: &Arc<Job>, at_ms: i64, message: String, handled: JobProgress) {
        {
            let _alone = job.storing.lock().await;
            let mut next = job.record();
            next.status = JobStatus::Retrying;
            next.message.clone_from(&message);
            next.next_attempt_at_ms = Some(at_ms);
            self.store(&next).await;
        }
        self.release(job, handled);
        let is_killed = {
            let mut state = self.state.lock();
            let is_killed = job.state.borrow().cancel_requested;
            if !is_killed {
                let progress = job.handle.handled();
                self.change(&mut state, job, |record| {
                    record.status = JobStatus::Retrying;
                    record.message = message;
                    record.next_attempt_at_ms = Some(at_ms);
                    record.progress = progress;
                });
                state.later.insert((at_ms, job.handle.id().clone()));
            }
            is_killed
        };
        if is_killed {
            self.finish(job, JobStatus::Cancelled, "the job was cancelled".to_owned()).await;
        }
    }

    /// The server stops before it has ended: it is stored as one that waits.
    async fn leave(&self, job: &Job) {
        let _alone = job.storing.lock().await;
        let mut next = job.record();
        next.status = JobStatus::Queued;
        next.message = "interrupted by the end of the server".to_owned();
        // The end of the server is not the job's fault.
        next.attempts = next.attempts.saturating_sub(1);
        self.store(&next).await;
        job.left.cancel();
    }

    /// Ends a job for good.
    pub(super) async fn finish(&self, job: &Arc<Job>, status: JobStatus, message: String) {
        let finished_at_ms = self.clock.now_ms();
        {
            let _alone = job.storing.lock().await;
            let mut last = job.record();
            last.status = status;
            last.message = message;
            last.finished_at_ms = Some(finished_at_ms);
            last.next_attempt_at_ms = None;
            // IMPORTANT: stored before anybody who waits is told, so that an outcome that was seen survives a crash.
            self.store(&last).await;
            let mut state = self.state.lock();
            state.ended.insert((finished_at_ms, last.job_id.clone()));
            self.change(&mut state, job, |record| *record = last);
        }
        self.trim().await;
        self.ended.notify_waiters();
    }
}
