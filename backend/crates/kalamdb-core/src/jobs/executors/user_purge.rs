//! `user_purge`: a dropped user's partitions and account go when the grace is over (spec section 6). The account goes
//! last: it may end anywhere and run again.

use std::sync::Arc;

use kalamdb_commons::ids::UserId;
use kalamdb_commons::settings::Settings;
use kalamdb_commons::{Error, Result};

use crate::engine::Engine;
use crate::jobs::kind::{About, JobExecutor, Target};
use crate::jobs::params::params;
use crate::jobs::{JobEnd, JobHandle};

params! {
    /// Who is to go.
    pub(crate) UserPurgeParams {
        /// A user who was dropped, and whose grace is over.
        user_id: UserId = r#""alice""#,
    }
}

/// The kind.
#[derive(Debug)]
pub(crate) struct UserPurge;

impl UserPurge {
    pub(crate) const NAME: &'static str = "user_purge";
}

impl JobExecutor<UserPurgeParams> for UserPurge {
    fn about(&self, _settings: &Settings) -> About {
        About::new(Self::NAME, "UP")
    }

    fn accept(&self, engine: &Engine, params: &UserPurgeParams) -> Result<()> {
        if engine.users_to_purge().contains(&params.user_id) {
            return Ok(());
        }
        let message =
            "field \"user_id\" must be a user who was dropped and whose grace (auth.dropped_user_hours) is over";
        Err(Error::invalid_parameter(message))
    }

    fn target(&self, params: &UserPurgeParams) -> Target {
        Target { user: Some(params.user_id.clone()), ..Target::default() }
    }

    async fn run(&self, engine: &Arc<Engine>, params: UserPurgeParams, job: &JobHandle) -> Result<JobEnd> {
        let user = params.user_id;
        // Whoever has the name by now is somebody else.
        if !engine.users_to_purge().contains(&user) {
            return Ok(JobEnd::Skipped(format!("user '{user}' is not to be purged")));
        }
        let (partitions, files) = engine.purge(&user, job).await?;
        Ok(JobEnd::Completed(format!("user '{user}' purged: {partitions} partition(s), {files} file(s)")))
    }

    fn interval_seconds(&self, settings: &Settings) -> u64 {
        settings.jobs.user_purge_interval_seconds
    }

    async fn due(&self, engine: &Arc<Engine>) -> Result<Vec<UserPurgeParams>> {
        Ok(engine.users_to_purge().into_iter().map(|user_id| UserPurgeParams { user_id }).collect())
    }
}
