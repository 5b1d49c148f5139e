//! What becomes, at a start, of the jobs that the last run left.
//!
//! | found | then |
//! |---|---|
//! | ended in any way | it stays as it is |
//! | asked to stop | `cancelled` |
//! | of a kind that this build has not, or parameters that it cannot read | `failed`, with that message |
//! | `new`, `queued` | `queued` |
//! | `retrying` | `retrying`, at the time that was set |
//! | `running`, its kind is begun again, and it may begin once more | `queued` |
//! | `running`, and it has begun as often as it may | `failed`: it may be what ends the server |
//! | `running`, its kind is not begun again | `failed` |

use super::kind::{AfterCrash, Kinds};
use super::record::{JobRecord, JobStatus};

/// What becomes of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fate {
    /// It waits for its turn.
    Queued,
    /// It waits for its time, ms since 1970.
    Retrying(i64),
    /// It has ended.
    Ended(JobStatus, String),
}

/// What becomes of a job that has not ended.
pub(super) fn fate(record: &JobRecord, kinds: &Kinds, attempts_max: u32) -> Fate {
    let failed = |message: String| Fate::Ended(JobStatus::Failed, message);
    if record.cancel_requested {
        return Fate::Ended(JobStatus::Cancelled, "the job was cancelled".to_owned());
    }
    let Some(kind) = kinds.find(&record.job_type) else {
        return failed(format!("this server has no jobs of type {}", record.job_type));
    };
    if let Err(error) = kind.target(&record.parameters) {
        return failed(error.message().to_owned());
    }
    let (begun, may_begin) = (record.attempts, record.attempts_max.unwrap_or(attempts_max));
    match (record.status, kind.about().after_crash) {
        (JobStatus::Retrying, _) => Fate::Retrying(record.next_attempt_at_ms.unwrap_or(0)),
        (JobStatus::Running, AfterCrash::Fail) => failed("interrupted by a restart".to_owned()),
        (JobStatus::Running, _) if begun > 0 && begun >= may_begin => {
            failed(format!("interrupted by a restart in attempt {begun} of {may_begin}"))
        }
        _ => Fate::Queued,
    }
}
