//! Background work: jobs that show in `system.jobs`, and that people may submit and stop.
//!
//! A **kind** of job is one file in [`executors`]: its parameters, what it does, when it is due by itself. The page
//! `docs/jobs.md` shows how to add one. The [`runner`] takes jobs in, has them wait for their turn, runs them, tries them
//! again, and takes up at a start what the last run left; it knows the kinds as [`Kind`] only.
//!
//! What this promises: a job that `submit` answered for is recorded, and ends; its parameters were checked then. It
//! begins when the [`queue`](self) lets it: whatever else runs or waits, flushes begin; no two of a kind on one partition
//! at once; nobody's jobs keep those of others from their turn. It is told to stop by `KILL JOB`, also across a restart.
//! Its states only go forward but for `retrying`, and the last one is stored once, before anybody is told. A panic in a
//! job fails that job alone.
//!
//! | module | holds |
//! |---|---|
//! | [`record`] | [`JobRecord`], states, and how they are stored |
//! | [`params`] | the parameters of a kind, and what is said of wrong ones |
//! | [`kind`] | `JobExecutor`, what the runner knows of a kind, all kinds |
//! | [`executors`] | the kinds there are |
//! | `queue` | which job begins next |
//! | `pace` | schedules, and the wait before the next attempt |
//! | `recovery` | what becomes of what the last run left |
//! | [`counts`] | how many jobs there are, for metrics |
//! | [`runner`], [`handle`] | [`JobRunner`]; what a job holds of itself |

pub mod counts;
pub mod executors;
pub mod handle;
pub mod kind;
mod pace;
pub mod params;
mod queue;
pub mod record;
mod recovery;
pub mod runner;

use async_trait::async_trait;
use bytes::Bytes;
use kalamdb_commons::error::Result;

pub use counts::{JobCounts, KindCounts};
pub use handle::{JobEnd, JobHandle};
pub use kind::{Kind, Kinds, Target};
pub use record::{JobProgress, JobRecord, JobStatus};
pub use runner::{JobRunner, Submission};

/// Where records are stored. The engine gives one that passes them to the committer, because every durable write
/// does.
#[async_trait]
pub trait Records: Send + Sync + std::fmt::Debug {
    /// Stores and deletes atomically; returns when that is as durable as the store promises.
    async fn put(&self, puts: Vec<(Bytes, Bytes)>, deletes: Vec<Bytes>) -> Result<()>;
}
