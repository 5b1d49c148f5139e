//! Background work: a small runner whose jobs show in `system.jobs`.
//!
//! The life of a job: [`JobRunner::submit`] stores its record and queues it; when one of `jobs.parallel_max` places
//! is free its work runs with a [`JobHandle`], through which it counts rows and bytes and learns that it is to stop;
//! its outcome is stored, and who waits in [`JobRunner::wait`] is told. A job that a dead server left unfinished is
//! marked failed at the next start: the work of all kinds is such that whoever wants it submits it again.
//!
//! What this promises: a job that `submit` answered for is in `system.jobs` before it begins; no more than
//! `parallel_max` run at once and no more than `queue_max` wait; the states of a job only go forward, and its last
//! one is stored once. Progress in between is in memory. A panic in a job fails that job alone.
//!
//! | module | holds |
//! |---|---|
//! | [`record`] | [`JobRecord`], kinds, states, and how they are stored |
//! | [`runner`] | [`JobRunner`], [`JobHandle`] |

pub mod record;
pub mod runner;

use async_trait::async_trait;
use bytes::Bytes;
use kalamdb_commons::error::Result;

pub use record::{JobKind, JobProgress, JobRecord, JobStatus};
pub use runner::{JobEnd, JobHandle, JobRunner};

/// Where records are stored. The engine gives one that passes them to the committer, because every durable write
/// does.
#[async_trait]
pub trait Records: Send + Sync + std::fmt::Debug {
    /// Stores and deletes atomically; returns when that is as durable as the store promises.
    async fn put(&self, puts: Vec<(Bytes, Bytes)>, deletes: Vec<Bytes>) -> Result<()>;
}
