//! Lost manifests are stored again, in the background (FR-027, FR-028).
//!
//! # A rebuild's life
//!
//! Whoever first reads a partition whose manifest is missing, damaged or stale has the footers of its files read, several
//! at a time; others who read the partition wait for that one reading, and nobody else does. What the footers give is
//! all that reading needs, so statements go on then, and a job stores the manifest: under the partition's maintenance,
//! as every publication, and by compare-and-set against the damaged one. A view that was in memory when the
//! damage was seen is read on meanwhile.
//!
//! | after | durable |
//! |---|---|
//! | the footers | nothing: what they give is derived again after a crash |
//! | `ManifestService::store` | the manifest |
//! | the same, into both levels of the manifest cache | nothing more |
//! | removal of hot rows that a crash left behind a file that counts | the garbage is gone |
//!
//! A flush or compaction that publishes first stores the derived manifest with its own change in it, and the job finds
//! nothing left to do. One job mends all that wait, one after another.

use std::sync::Arc;
use std::time::Duration;

use kalamdb_commons::ids::CommitTime;
use kalamdb_commons::{Error, Result};
use kalamdb_filestore::{Loaded, PublishError};
use serde_json::json;

use super::Engine;
use crate::flush::removal;
use crate::jobs::executors::manifest_rebuild::ManifestRebuild;
use crate::jobs::{JobEnd, JobHandle, Submission};
use crate::partition::Partition;
use crate::partition::view::{ColdView, recorded};

/// After how long a job that found no place in the queue is queued again.
const RETRY_SECONDS: u64 = 10;

impl Engine {
    /// Queues a job whenever a manifest turns out to be lost, until the engine stops.
    pub(crate) fn begin_mending(self: &Arc<Self>) {
        let (engine, lost) = (Arc::downgrade(self), self.cold().lost().clone());
        self.in_background(async move {
            let mut ticks = tokio::time::interval(Duration::from_secs(RETRY_SECONDS));
            loop {
                tokio::select! {
                    () = lost.noted() => {}
                    _ = ticks.tick() => {}
                }
                let Some(engine) = engine.upgrade() else { return };
                if lost.len() > 0 {
                    engine.mend_as_job().await;
                }
            }
        });
    }

    /// Runs the job to its end, so that no second one runs beside it. It is tried again by whoever looks here.
    async fn mend_as_job(&self) {
        let submission = Submission { attempts_max: Some(1), ..Submission::own(ManifestRebuild::NAME, json!({})) };
        let ended = match self.jobs().submit(submission).await {
            Ok(job) => self.jobs().wait(&job).await.map(drop),
            Err(error) => Err(error),
        };
        if let Err(error) = ended {
            tracing::warn!(%error, "the rebuild of lost manifests could not be queued");
        }
    }

    /// Stores all manifests that are known to be lost, one after another.
    pub(crate) async fn mend_manifests(self: &Arc<Self>, job: &JobHandle) -> Result<JobEnd> {
        let lost = self.cold().lost();
        let (mut stored, mut failures) = (0, Vec::new());
        loop {
            job.check()?;
            let Some(partition) = lost.next() else { break };
            match self.mend(&partition).await {
                Ok(is_stored) => {
                    stored += usize::from(is_stored);
                    lost.mended(&partition);
                }
                Err(error) => {
                    tracing::warn!(%error, partition = %partition.id(), "a lost manifest could not be stored again");
                    lost.failed(&partition);
                    failures.push(error);
                }
            }
        }
        match failures.pop() {
            None if stored == 0 => Ok(JobEnd::Skipped("no manifest is lost any more".to_owned())),
            None => Ok(JobEnd::Completed(format!("{stored} manifest(s) rebuilt"))),
            Some(error) => Err(error.context(format_args!("{stored} rebuilt, {} not", failures.len() + 1))),
        }
    }

    /// Stores the manifest of a partition again, if it is still lost. Says whether it did.
    async fn mend(self: &Arc<Self>, partition: &Arc<Partition>) -> Result<bool> {
        let _maintenance = partition.maintain().await;
        // Held, so that the end of the contents is not published in between.
        let point = self.committer().readers().enter();
        if point.catalog().table_by_incarnation(partition.id().incarnation).is_none() {
            return Ok(false);
        }
        let view = match partition.newest_view() {
            Some(view) => view,
            None => partition.view_at(CommitTime::MAX, self.cold()).await?,
        };
        let Some(held) = view.loaded() else { return Ok(false) };
        let manifests = self.cold().manifests();
        fail::fail_point!("rebuild::before_manifest");
        let published = match held.is_derived() {
            true => manifests.store(partition.spec(), held).await,
            // What is in memory is not what is stored: by the same rule as if nothing were in memory.
            false => Err(PublishError::Conflict),
        };
        let published = match published {
            Err(PublishError::Conflict) => manifests.reload(partition.spec(), recorded(&partition.record())).await?,
            published => published?,
        };
        if published.is_derived() {
            return Err(Error::io("storage does not take it; the next flush of the partition tries again"));
        }
        fail::fail_point!("rebuild::after_manifest");
        self.show_mended(partition, &view, published).await?;
        drop(point);
        // What a crash left in the hot tier behind a file that counts waited for the manifest.
        removal::after(self, partition, view.flushed_through()).await?;
        Ok(true)
    }

    /// Gives new readers the manifest that is stored. One that reaches further than the view in memory is left to the
    /// next flush, which moves the watermark in its order.
    async fn show_mended(&self, partition: &Partition, view: &ColdView, stored: Loaded) -> Result<()> {
        if stored.manifest.flushed_through != view.flushed_through() {
            return Ok(());
        }
        let next = match view.is_of(&stored) {
            true => self.cold().relisted(view, stored).await,
            false => self.cold().view_of(partition, stored).await?,
        };
        partition.replace_view(next, self.committer().readers().oldest());
        Ok(())
    }
}
