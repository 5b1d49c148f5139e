//! What is known of a job, and how it is stored: one JSON record each, under the system keys of kind `job`.

use bytes::Bytes;
use kalamdb_commons::error::Result;
use kalamdb_commons::ids::JobId;
use kalamdb_store::{Snapshot, keys};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::catalog::records;

const JOB: &str = "job";

/// What a job does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    /// Moves a table's hot rows into batch files.
    Flush,
    /// Merges neighbouring batch files.
    Compaction,
    /// Removes files that no manifest names.
    OrphanRemoval,
    /// Removes the contents that DROP or TRUNCATE ended.
    ContentRemoval,
    /// Removes manifests from memory and from the manifest cache.
    ManifestEviction,
    /// Stores manifests again that were missing, damaged or stale.
    ManifestRebuild,
    /// Removes a dropped user with all partitions.
    UserPurge,
    /// Copies a namespace to a place of backups.
    Backup,
    /// Brings a namespace back from there.
    Restore,
}

impl JobKind {
    /// As `system.jobs` writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Flush => "flush",
            Self::Compaction => "compaction",
            Self::OrphanRemoval => "orphan_removal",
            Self::ContentRemoval => "content_removal",
            Self::ManifestEviction => "manifest_eviction",
            Self::ManifestRebuild => "manifest_rebuild",
            Self::UserPurge => "user_purge",
            Self::Backup => "backup",
            Self::Restore => "restore",
        }
    }

    /// What the ids of such jobs begin with.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Flush => "FL",
            Self::Compaction => "CO",
            Self::OrphanRemoval => "OR",
            Self::ContentRemoval => "CR",
            Self::ManifestEviction => "ME",
            Self::ManifestRebuild => "MR",
            Self::UserPurge => "UP",
            Self::Backup => "BA",
            Self::Restore => "RE",
        }
    }
}

/// Where a job is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum JobStatus {
    /// Made, and not queued yet.
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
    /// What it does, as [`JobKind::as_str`] has it; text, so that the jobs of another build can be shown.
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
