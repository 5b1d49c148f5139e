//! `deleted_row_retention`: deleted rows go physically once they were kept for DELETED_RETENTION_HOURS, with every older
//! version of them, however few they are. Compaction by itself waits until enough of a history is dead.
//!
//! It merges the oldest batches through the last one that is wholly older than what is kept and holds deletions. Killed
//! at any point it leaves what a compaction leaves; running it again does what is left.

use std::sync::Arc;

use kalamdb_commons::Result;
use kalamdb_commons::ids::{NamespaceId, TableName, UserId};
use kalamdb_commons::schema::Table;
use kalamdb_commons::settings::Settings;
use kalamdb_filestore::Found;

use super::compaction::{compact, has_batches};
use crate::compaction::Extent;
use crate::engine::Engine;
use crate::flush::deletions_kept_since;
use crate::jobs::kind::{About, JobExecutor, Target};
use crate::jobs::params::params;
use crate::jobs::{JobEnd, JobHandle};
use crate::partition::Partition;
use crate::partition::view::recorded;

params! {
    /// Where deleted rows are to go.
    #[derive(Default)]
    pub(crate) DeletedRowRetentionParams {
        /// The namespace; all of them without one.
        namespace: Option<NamespaceId> = r#""app""#,
        /// The table; all of them without one.
        table: Option<TableName> = r#""messages""#,
        /// The user whose partitions; those of all without one.
        user_id: Option<UserId> = r#""alice""#,
    }
}

/// The kind.
#[derive(Debug)]
pub(super) struct DeletedRowRetention;

impl JobExecutor<DeletedRowRetentionParams> for DeletedRowRetention {
    fn about(&self, _settings: &Settings) -> About {
        About::new("deleted_row_retention", "DR")
    }

    fn accept(&self, engine: &Engine, params: &DeletedRowRetentionParams) -> Result<()> {
        self.target(params).check(&engine.catalog())
    }

    fn target(&self, params: &DeletedRowRetentionParams) -> Target {
        Target::of(&params.namespace, &params.table, &params.user_id)
    }

    async fn run(&self, engine: &Arc<Engine>, params: DeletedRowRetentionParams, job: &JobHandle) -> Result<JobEnd> {
        compact(engine, &self.target(&params), &Extent::Expired, job).await
    }

    fn interval_seconds(&self, settings: &Settings) -> u64 {
        settings.jobs.deleted_row_retention_interval_seconds
    }

    async fn due(&self, engine: &Arc<Engine>) -> Result<Vec<DeletedRowRetentionParams>> {
        let mut due: Vec<DeletedRowRetentionParams> = Vec::new();
        for (table, partition) in Target::default().all_partitions(engine) {
            let of_table = DeletedRowRetentionParams {
                namespace: Some(table.name.namespace.clone()),
                table: Some(table.name.table.clone()),
                user_id: None,
            };
            if due.last() != Some(&of_table) && has_expired(engine, &table, &partition).await? {
                due.push(of_table);
            }
        }
        Ok(due)
    }
}

/// Whether a batch of the partition is older than what is kept and holds deletions. Asks the manifest and not the view:
/// a look at all partitions would open all of them.
async fn has_expired(engine: &Engine, table: &Table, partition: &Arc<Partition>) -> Result<bool> {
    if !has_batches(partition) {
        return Ok(false);
    }
    let kept_since = deletions_kept_since(engine, table);
    let manifests = engine.cold().manifests();
    // One that is lost is looked at when it has been stored again.
    let Found::Ready(loaded, _) = manifests.look(partition.spec(), recorded(&partition.record())).await? else {
        return Ok(false);
    };
    let is_expired = |batch: &kalamdb_commons::manifest::Batch| {
        batch.tombstone_count > 0 && batch.max_updated.is_some_and(|last| last < kept_since)
    };
    Ok(loaded.manifest.active().any(is_expired))
}
