//! `orphan_files`: files that no manifest names, which crashes leave, are removed. A file that is gone is gone: it may end
//! anywhere and run again.

use std::sync::Arc;

use kalamdb_commons::Result;
use kalamdb_commons::ids::{NamespaceId, TableName};
use kalamdb_commons::settings::Settings;

use crate::engine::Engine;
use crate::jobs::kind::{About, JobExecutor, Target};
use crate::jobs::params::params;
use crate::jobs::{JobEnd, JobHandle};
use crate::partition::Partition;
use crate::partition::view::recorded;

/// How many partitions one job looks through that the server makes: each costs a listing and a manifest.
const PARTITIONS_MAX: u64 = 1_000;

params! {
    /// Where orphans are looked for.
    #[derive(Default)]
    pub(crate) OrphanFilesParams {
        /// The namespace; all of them without one.
        namespace: Option<NamespaceId> = r#""app""#,
        /// The table; all of them without one.
        table: Option<TableName> = r#""messages""#,
        /// How many partitions are looked through, of those in which a file was begun since the last look; all that are
        /// meant, whatever was begun, without one.
        partitions_max: Option<u64> = "1000" in 1 ..= 4_294_967_295,
    }
}

/// The kind.
#[derive(Debug)]
pub(crate) struct OrphanFiles;

impl OrphanFiles {
    pub(crate) const NAME: &'static str = "orphan_files";
}

impl JobExecutor<OrphanFilesParams> for OrphanFiles {
    fn about(&self, _settings: &Settings) -> About {
        About { former_names: &["orphan_removal"], ..About::new(Self::NAME, "OR") }
    }

    fn accept(&self, engine: &Engine, params: &OrphanFilesParams) -> Result<()> {
        self.target(params).check(&engine.catalog())
    }

    fn target(&self, params: &OrphanFilesParams) -> Target {
        Target::of(&params.namespace, &params.table, &None)
    }

    async fn run(&self, engine: &Arc<Engine>, params: OrphanFilesParams, job: &JobHandle) -> Result<JobEnd> {
        let mut partitions: Vec<_> =
            self.target(&params).all_partitions(engine).into_iter().map(|(_, partition)| partition).collect();
        if params.partitions_max.is_none() {
            // Somebody asks: whatever is known of earlier looks.
            partitions.iter().for_each(|partition| partition.set_tidy(false));
        }
        partitions.retain(|partition| partition.may_have_orphans());
        let max = params.partitions_max.and_then(|max| usize::try_from(max).ok()).unwrap_or(usize::MAX);
        let (left, mut removed) = (partitions.len().saturating_sub(max), 0);
        for partition in partitions.into_iter().take(max) {
            job.check()?;
            removed += remove_orphans(engine, &partition).await?;
        }
        let later = if left > 0 { format!(", {left} partition(s) left for the next time") } else { String::new() };
        Ok(JobEnd::Completed(format!("{removed} orphan file(s) removed{later}")))
    }

    fn interval_seconds(&self, settings: &Settings) -> u64 {
        settings.jobs.orphan_interval_seconds
    }

    async fn due(&self, _engine: &Arc<Engine>) -> Result<Vec<OrphanFilesParams>> {
        Ok(vec![OrphanFilesParams { partitions_max: Some(PARTITIONS_MAX), ..OrphanFilesParams::default() }])
    }
}

async fn remove_orphans(engine: &Engine, partition: &Partition) -> Result<usize> {
    // No flush of the partition runs meanwhile, so no number is in flight but a compaction's.
    let _maintenance = partition.maintain().await;
    let in_flight: Vec<u64> = partition.in_flight().into_iter().collect();
    let manifests = engine.cold().manifests();
    let orphans = manifests.remove_orphans(partition.spec(), recorded(&partition.record()), &in_flight).await?;
    for file in &orphans.free {
        tracing::info!(partition = %partition.id(), file, "orphan file removed");
    }
    partition.set_tidy(orphans.kept.is_empty() && in_flight.is_empty());
    Ok(orphans.free.len())
}
