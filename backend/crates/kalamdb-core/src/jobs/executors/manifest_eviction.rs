//! `manifest_eviction`: manifests and partitions that nobody uses leave memory and the manifest cache (FR-047 to FR-050).
//! Whatever it evicts is loaded again when it is asked for, so it may end anywhere and run again.

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
    pub(crate) ManifestEvictionParams {}
}

/// The kind.
#[derive(Debug)]
pub(crate) struct ManifestEviction;

impl ManifestEviction {
    pub(crate) const NAME: &'static str = "manifest_eviction";
}

impl JobExecutor<ManifestEvictionParams> for ManifestEviction {
    fn about(&self, _settings: &Settings) -> About {
        About::new(Self::NAME, "ME")
    }

    async fn run(&self, engine: &Arc<Engine>, _params: ManifestEvictionParams, job: &JobHandle) -> Result<JobEnd> {
        job.check()?;
        engine.evict_manifests().await.map(JobEnd::Completed)
    }

    fn interval_seconds(&self, settings: &Settings) -> u64 {
        settings.manifest_cache.eviction_interval_seconds
    }

    async fn due(&self, _engine: &Arc<Engine>) -> Result<Vec<ManifestEvictionParams>> {
        Ok(vec![ManifestEvictionParams::default()])
    }
}
