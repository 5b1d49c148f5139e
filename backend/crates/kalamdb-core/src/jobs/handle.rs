//! What a job holds of itself while it runs, and how it ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kalamdb_commons::error::{Error, ErrorKind, Result};
use kalamdb_commons::ids::JobId;
use tokio_util::sync::CancellationToken;

use super::record::{JobProgress, JobRecord};

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
    pub(crate) fn of(record: &JobRecord) -> Self {
        Self {
            id: record.job_id.clone(),
            rows: Arc::new(AtomicU64::new(record.progress.rows)),
            bytes: Arc::new(AtomicU64::new(record.progress.bytes)),
            cancel: CancellationToken::new(),
        }
    }

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

    pub(super) fn cancel(&self) {
        self.cancel.cancel();
    }

    pub(crate) fn handled(&self) -> JobProgress {
        JobProgress { rows: self.rows.load(Ordering::Relaxed), bytes: self.bytes.load(Ordering::Relaxed) }
    }
}
