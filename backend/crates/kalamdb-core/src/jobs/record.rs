//! What is known of a job, and how it is stored: one JSON record each, under the system keys of kind `job`.
//!
//! Records of every version can be read: fields that came later have a default, and a field that is not known is passed
//! over. Rows that older versions stored lie in `tests/engine/jobs/rows` and are opened by a test.

use bytes::Bytes;
use kalamdb_commons::error::Result;
use kalamdb_commons::ids::{JobId, UserId};
use kalamdb_store::{Snapshot, keys};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::catalog::records;

const JOB: &str = "job";

/// Where a job is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobStatus {
    /// Made, and not recorded yet.
    New,
    /// Waits for a place.
    Queued,
    /// At work.
    Running,
    /// Failed, and will be tried again.
    Retrying,
    /// Done.
    Completed,
    /// Ended by an error, which the message tells.
    Failed,
    /// Ended because somebody asked for it.
    Cancelled,
    /// There was nothing to do.
    Skipped,
}

impl JobStatus {
    /// As `system.jobs` writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Queued => "queued",
            Self::Running => "running",
            Self::Retrying => "retrying",
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Skipped => "skipped",
        }
    }

    /// Whether the job has ended.
    pub fn is_final(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Cancelled | Self::Skipped)
    }
}

/// How much a job has handled.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct JobProgress {
    /// Rows.
    pub rows: u64,
    /// Bytes.
    pub bytes: u64,
}

/// What is known of a job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JobRecord {
    /// Its id: the kind's prefix and a ULID, so that ids of a kind sort by time.
    pub job_id: JobId,
    /// What it does, as its kind is called; text, so that the jobs of another build can be shown.
    pub job_type: String,
    /// Where it is.
    pub status: JobStatus,
    /// What it was given.
    #[serde(default)]
    pub parameters: Value,
    /// What it says of its outcome.
    #[serde(default)]
    pub message: String,
    /// How much it has handled.
    #[serde(default)]
    pub progress: JobProgress,
    /// When it was submitted, ms since 1970.
    pub created_at_ms: i64,
    /// When it began, ms since 1970.
    #[serde(default)]
    pub started_at_ms: Option<i64>,
    /// When it ended, ms since 1970.
    #[serde(default)]
    pub finished_at_ms: Option<i64>,
    /// Which node it ran on.
    #[serde(default)]
    pub node_id: String,
    /// How often it has begun.
    #[serde(default)]
    pub attempts: u32,
    /// How often it may begin; as `jobs.attempts_max` says if it is absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts_max: Option<u32>,
    /// When it is tried again, ms since 1970, while it is `retrying`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next_attempt_at_ms: Option<i64>,
    /// Who asked for it; absent if the server did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub submitted_by: Option<UserId>,
    /// The key under which whoever asked for it may ask again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// Whether somebody asked for it to stop.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub cancel_requested: bool,
}

pub(super) fn key(id: &JobId) -> Bytes {
    keys::system(JOB, id.as_str())
}

pub(super) fn entry(record: &JobRecord) -> (Bytes, Bytes) {
    (key(&record.job_id), records::encode(record))
}

/// Every stored job, oldest first.
pub(super) async fn load(snapshot: &dyn Snapshot) -> Result<Vec<JobRecord>> {
    let mut found: Vec<JobRecord> = records::read_all(snapshot, JOB).await?;
    found.sort_by(|a, b| (a.created_at_ms, &a.job_id).cmp(&(b.created_at_ms, &b.job_id)));
    Ok(found)
}
