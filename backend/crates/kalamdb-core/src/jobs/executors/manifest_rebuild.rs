//! `manifest_rebuild`: manifests that were missing, damaged or stale are stored again (FR-027). What is lost is known in
//! memory and found again by whoever reads it, so it may end anywhere and run again.

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
    pub(crate) ManifestRebuildParams {}
}

/// The kind.
#[derive(Debug)]
pub(crate) struct ManifestRebuild;

impl ManifestRebuild {
    pub(crate) const NAME: &'static str = "manifest_rebuild";
}

impl JobExecutor<ManifestRebuildParams> for ManifestRebuild {
    fn about(&self, _settings: &Settings) -> About {
        About::new(Self::NAME, "MR")
    }

    async fn run(&self, engine: &Arc<Engine>, _params: ManifestRebuildParams, job: &JobHandle) -> Result<JobEnd> {
        engine.mend_manifests(job).await
    }
}
