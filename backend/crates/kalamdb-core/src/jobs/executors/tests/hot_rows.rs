//! `hot_rows`: counts what waits to become history. It changes nothing, so it may end anywhere and run again.

use std::sync::Arc;

use kalamdb_commons::Result;
use kalamdb_commons::ids::{NamespaceId, TableName};
use kalamdb_commons::settings::Settings;

use crate::engine::Engine;
use crate::jobs::kind::{About, JobExecutor, Target};
use crate::jobs::params::params;
use crate::jobs::{JobEnd, JobHandle};

params! {
    /// What is counted.
    pub(crate) HotRowsParams {
        /// The namespace.
        namespace: NamespaceId = r#""app""#,
        /// The table; all of the namespace without one.
        table: Option<TableName> = r#""messages""#,
        /// Rows after which it stops.
        rows_max: Option<u64> = "1000" in 1 ..= 1_000_000,
    }
}

/// The kind.
#[derive(Debug)]
pub(crate) struct HotRows;

impl JobExecutor<HotRowsParams> for HotRows {
    fn about(&self, _settings: &Settings) -> About {
        About::new("hot_rows", "HR")
    }

    fn accept(&self, engine: &Engine, params: &HotRowsParams) -> Result<()> {
        self.target(params).check(&engine.catalog())
    }

    fn target(&self, params: &HotRowsParams) -> Target {
        Target::of(&Some(params.namespace.clone()), &params.table, &None)
    }

    async fn run(&self, engine: &Arc<Engine>, params: HotRowsParams, job: &JobHandle) -> Result<JobEnd> {
        let mut rows = 0;
        for (_, partition) in self.target(&params).all_partitions(engine) {
            job.check()?;
            let hot = partition.hot();
            job.progress(hot.rows, hot.bytes);
            rows += hot.rows;
            if params.rows_max.is_some_and(|max| rows >= max) {
                break;
            }
        }
        Ok(JobEnd::Completed(format!("{rows} rows")))
    }
}
