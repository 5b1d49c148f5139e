//! `answer_retention`: answers that were kept for an `Idempotency-Key` longer than `limits.idempotency_hours`, and sessions
//! whose tokens have all expired, go. It may end anywhere and run again.

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
    pub(crate) AnswerRetentionParams {}
}

/// The kind.
#[derive(Debug)]
pub(super) struct AnswerRetention;

impl JobExecutor<AnswerRetentionParams> for AnswerRetention {
    fn about(&self, _settings: &Settings) -> About {
        About::new("answer_retention", "NR")
    }

    async fn run(&self, engine: &Arc<Engine>, _params: AnswerRetentionParams, job: &JobHandle) -> Result<JobEnd> {
        let answers = engine.forget_old_answers().await?;
        job.progress(answers as u64, 0);
        job.check()?;
        let sessions = engine.forget_old_sessions().await?;
        job.progress(sessions as u64, 0);
        Ok(JobEnd::Completed(format!("{answers} answers and {sessions} sessions forgotten")))
    }

    fn interval_seconds(&self, settings: &Settings) -> u64 {
        settings.jobs.answer_retention_interval_seconds
    }

    async fn due(&self, _engine: &Arc<Engine>) -> Result<Vec<AnswerRetentionParams>> {
        Ok(vec![AnswerRetentionParams::default()])
    }
}
