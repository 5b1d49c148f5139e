//! `stream_eviction`: rows of STREAM tables that have expired, and old entries of their change log, leave the hot tier.
//! Nobody sees expired rows before either; what is removed is removed in small commits, so it may end anywhere and run
//! again.

use std::sync::Arc;

use kalamdb_commons::Result;
use kalamdb_commons::ids::{NamespaceId, TableName, UserId};
use kalamdb_commons::settings::Settings;

use crate::engine::Engine;
use crate::flush::removal;
use crate::jobs::kind::{About, JobExecutor, Target};
use crate::jobs::params::params;
use crate::jobs::{JobEnd, JobHandle};
use crate::partition::Partition;

params! {
    /// Where expired rows are to go.
    #[derive(Default)]
    pub(crate) StreamEvictionParams {
        /// The namespace; all of them without one.
        namespace: Option<NamespaceId> = r#""app""#,
        /// The table; all STREAM tables without one.
        table: Option<TableName> = r#""typing""#,
        /// The user whose partitions; those of all without one.
        user_id: Option<UserId> = r#""alice""#,
    }
}

/// The kind.
#[derive(Debug)]
pub(super) struct StreamEviction;

impl JobExecutor<StreamEvictionParams> for StreamEviction {
    fn about(&self, settings: &Settings) -> About {
        About { parallel_max: settings.jobs.parallel_max, ..About::new("stream_eviction", "SE") }
    }

    fn accept(&self, engine: &Engine, params: &StreamEvictionParams) -> Result<()> {
        self.target(params).check(&engine.catalog())
    }

    fn target(&self, params: &StreamEvictionParams) -> Target {
        Target::of(&params.namespace, &params.table, &params.user_id)
    }

    async fn run(&self, engine: &Arc<Engine>, params: StreamEvictionParams, job: &JobHandle) -> Result<JobEnd> {
        let (mut rows, mut partitions) = (0, 0);
        for (_, partition) in self.target(&params).all_partitions(engine) {
            job.check()?;
            let now_ns = engine.clock().now_ns();
            if !is_due(engine, &partition, now_ns) {
                continue;
            }
            let _maintenance = partition.maintain().await;
            let (gone, bytes) = removal::expire(engine, &partition, now_ns).await?;
            job.progress(gone, bytes);
            rows += gone;
            partitions += 1;
        }
        Ok(match partitions {
            0 => JobEnd::Skipped("nothing has expired".to_owned()),
            _ => JobEnd::Completed(format!("{rows} expired rows removed in {partitions} partition(s)")),
        })
    }

    fn interval_seconds(&self, settings: &Settings) -> u64 {
        settings.jobs.stream_eviction_interval_seconds
    }

    async fn due(&self, engine: &Arc<Engine>) -> Result<Vec<StreamEvictionParams>> {
        let now_ns = engine.clock().now_ns();
        let mut due: Vec<StreamEvictionParams> = Vec::new();
        for (table, partition) in Target::default().all_partitions(engine) {
            let of_table = StreamEvictionParams {
                namespace: Some(table.name.namespace.clone()),
                table: Some(table.name.table.clone()),
                user_id: None,
            };
            if due.last() != Some(&of_table) && is_due(engine, &partition, now_ns) {
                due.push(of_table);
            }
        }
        Ok(due)
    }
}

/// Whether rows have expired, or all of the change log is older than it is kept.
fn is_due(engine: &Engine, partition: &Partition, now_ns: i64) -> bool {
    let (hot, trimmed) = (partition.hot(), partition.record().change_log_trimmed_through);
    let has_expired = hot.oldest.is_some_and(|oldest| oldest <= partition.expired_through(now_ns));
    let is_log_old = trimmed < hot.last && hot.last <= removal::log_kept_since(engine, now_ns);
    !partition.has_history() && (has_expired || is_log_old)
}
