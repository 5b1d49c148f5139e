//! `job_history`: jobs that ended more than `jobs.history_days` ago leave `system.jobs`. How many are kept at all is
//! `jobs.history_max`, which holds at any time. It may end anywhere and run again.

use std::sync::Arc;

use kalamdb_commons::Result;
use kalamdb_commons::settings::Settings;

use crate::engine::Engine;
use crate::jobs::kind::{About, JobExecutor};
use crate::jobs::params::params;
use crate::jobs::{JobEnd, JobHandle};

const DAY_MS: u64 = 86_400_000;

params! {
    /// Which jobs are to go.
    #[derive(Default)]
    pub(crate) JobHistoryParams {
        /// Those that ended so many days ago; as `jobs.history_days` says without one.
        days: Option<u64> = "30" in 0 ..= 36_500,
    }
}

/// The kind.
#[derive(Debug)]
pub(super) struct JobHistory;

impl JobExecutor<JobHistoryParams> for JobHistory {
    fn about(&self, _settings: &Settings) -> About {
        About::new("job_history", "JH")
    }

    async fn run(&self, engine: &Arc<Engine>, params: JobHistoryParams, job: &JobHandle) -> Result<JobEnd> {
        job.check()?;
        let forgotten = engine.jobs().forget_ended_before(kept_since_ms(engine, params.days)).await?;
        job.progress(forgotten, 0);
        Ok(match forgotten {
            0 => JobEnd::Skipped("no job ended so long ago".to_owned()),
            forgotten => JobEnd::Completed(format!("{forgotten} jobs forgotten")),
        })
    }

    fn interval_seconds(&self, settings: &Settings) -> u64 {
        settings.jobs.history_interval_seconds
    }

    async fn due(&self, engine: &Arc<Engine>) -> Result<Vec<JobHistoryParams>> {
        let oldest_ms = engine.jobs().oldest_ended_ms();
        let is_due = oldest_ms.is_some_and(|oldest_ms| oldest_ms < kept_since_ms(engine, None));
        Ok(if is_due { vec![JobHistoryParams::default()] } else { Vec::new() })
    }
}

fn kept_since_ms(engine: &Engine, days: Option<u64>) -> i64 {
    let kept_ms = days.unwrap_or(engine.settings().jobs.history_days).saturating_mul(DAY_MS);
    engine.clock().now_ms().saturating_sub(i64::try_from(kept_ms).unwrap_or(i64::MAX))
}
