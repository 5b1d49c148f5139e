//! `content_removal`: what DROP and TRUNCATE left is removed. The catalog knows what is to go until it is gone, and each
//! step may be done twice, so it may end anywhere and run again. Only the server submits it, when nobody reads the
//! contents any more.

use std::sync::Arc;

use kalamdb_commons::Result;
use kalamdb_commons::ids::Incarnation;
use kalamdb_commons::settings::Settings;

use crate::engine::Engine;
use crate::jobs::kind::{About, JobExecutor, Target};
use crate::jobs::params::params;
use crate::jobs::{JobEnd, JobHandle};

params! {
    /// What is to go.
    pub(crate) ContentRemovalParams {
        /// The table's name then, for people.
        table: String = r#""app.messages""#,
        /// Which life of it.
        incarnation: u32 = "7",
    }
}

/// The kind.
#[derive(Debug)]
pub(crate) struct ContentRemoval;

impl ContentRemoval {
    pub(crate) const NAME: &'static str = "content_removal";
}

impl JobExecutor<ContentRemovalParams> for ContentRemoval {
    fn about(&self, settings: &Settings) -> About {
        let parallel_max = settings.jobs.parallel_max;
        About { is_submittable: false, parallel_max, ..About::new(Self::NAME, "CR") }
    }

    fn target(&self, params: &ContentRemovalParams) -> Target {
        Target { life: Some(Incarnation(params.incarnation)), ..Target::default() }
    }

    async fn run(&self, engine: &Arc<Engine>, params: ContentRemovalParams, job: &JobHandle) -> Result<JobEnd> {
        let catalog = engine.catalog();
        let life = catalog.dropped().find(|life| life.incarnation.0 == params.incarnation).map(|life| (**life).clone());
        let Some(life) = life else {
            return Ok(JobEnd::Skipped(format!("contents of {} are gone already", params.table)));
        };
        let files = engine.remove_life(&life, job).await?;
        Ok(JobEnd::Completed(format!("contents of {} removed, {files} file(s)", life.table.name)))
    }
}
