//! `audit_retention`: entries of the audit log that are older than `audit.retention_days` go, from the old end. It takes
//! no parameters, because nobody may shorten the log; each commit of it leaves a sealed checkpoint, so it may end anywhere.

use std::sync::Arc;

use kalamdb_commons::Result;
use kalamdb_commons::settings::Settings;

use crate::engine::Engine;
use crate::jobs::kind::{About, JobExecutor};
use crate::jobs::params::params;
use crate::jobs::{JobEnd, JobHandle};

params! {
    /// It takes none.
    #[derive(Default)]
    pub(crate) AuditRetentionParams {}
}

/// The kind.
#[derive(Debug)]
pub(super) struct AuditRetention;

impl JobExecutor<AuditRetentionParams> for AuditRetention {
    fn about(&self, _settings: &Settings) -> About {
        About::new("audit_retention", "AR")
    }

    async fn run(&self, engine: &Arc<Engine>, _params: AuditRetentionParams, job: &JobHandle) -> Result<JobEnd> {
        let pace = |rows| {
            job.progress(rows, 0);
            job.check()
        };
        match engine.expire_audit_at(pace).await? {
            0 => Ok(JobEnd::Skipped("no entry is older than audit.retention_days".to_owned())),
            removed => Ok(JobEnd::Completed(format!("{removed} entries removed"))),
        }
    }

    fn interval_seconds(&self, settings: &Settings) -> u64 {
        settings.jobs.audit_retention_interval_seconds
    }

    async fn due(&self, engine: &Arc<Engine>) -> Result<Vec<AuditRetentionParams>> {
        let keeps_all = engine.settings().audit.retention_days == 0;
        Ok(if keeps_all { Vec::new() } else { vec![AuditRetentionParams::default()] })
    }
}
