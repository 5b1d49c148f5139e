//! How many jobs there are of each kind, for metrics: kept as they change, so that asking costs nothing.

use std::collections::BTreeMap;

use super::record::JobStatus;

/// The jobs of one kind.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct KindCounts {
    /// That wait for their turn, now.
    pub queued: u64,
    /// That run, now.
    pub running: u64,
    /// That wait for their next attempt, now.
    pub retrying: u64,
    /// Attempts that failed and were followed by another, since the start.
    pub retries: u64,
    /// That have completed since the start.
    pub completed: u64,
    /// That found nothing to do, since the start.
    pub skipped: u64,
    /// That have failed since the start.
    pub failed: u64,
    /// That were cancelled since the start.
    pub cancelled: u64,
    /// Rows that ended attempts have handled since the start.
    pub rows: u64,
    /// Bytes that they have.
    pub bytes: u64,
}

/// The counts of all kinds, by name.
pub type JobCounts = BTreeMap<String, KindCounts>;

impl KindCounts {
    /// A job went from one state to another; `None` is before the first.
    pub(super) fn moved(&mut self, from: Option<JobStatus>, to: JobStatus) {
        if let Some(gauge) = from.and_then(|from| self.gauge(from)) {
            *gauge = gauge.saturating_sub(1);
        }
        let counter = match to {
            JobStatus::New => return,
            JobStatus::Queued | JobStatus::Running => None,
            JobStatus::Retrying => Some(&mut self.retries),
            JobStatus::Completed => Some(&mut self.completed),
            JobStatus::Skipped => Some(&mut self.skipped),
            JobStatus::Failed => Some(&mut self.failed),
            JobStatus::Cancelled => Some(&mut self.cancelled),
        };
        if let Some(counter) = counter {
            *counter += 1;
        }
        if let Some(gauge) = self.gauge(to) {
            *gauge += 1;
        }
    }

    fn gauge(&mut self, status: JobStatus) -> Option<&mut u64> {
        match status {
            JobStatus::Queued => Some(&mut self.queued),
            JobStatus::Running => Some(&mut self.running),
            JobStatus::Retrying => Some(&mut self.retrying),
            _ => None,
        }
    }
}
