//! `backup`: a namespace is copied to a place of backups. What a killed one wrote is passed over by the next, which copies
//! only what is not there. One that the end of the server interrupted is not begun again by itself: whoever asked says
//! whether the moment still suits.

use std::sync::Arc;

use kalamdb_commons::Result;
use kalamdb_commons::ids::NamespaceId;
use kalamdb_commons::settings::Settings;

use crate::backup::place::Place;
use crate::engine::Engine;
use crate::jobs::kind::{About, AfterCrash, JobExecutor, Target};
use crate::jobs::params::params;
use crate::jobs::{JobEnd, JobHandle};

params! {
    /// What is copied.
    pub(crate) BackupParams {
        /// The namespace.
        namespace: NamespaceId = r#""app""#,
        /// Where to, as BACKUP DATABASE has it.
        to: String = r#""/var/backups/kalamdb""#,
    }
}

/// The kind.
#[derive(Debug)]
pub(crate) struct Backup;

impl Backup {
    pub(crate) const NAME: &'static str = "backup";
}

impl JobExecutor<BackupParams> for Backup {
    fn about(&self, _settings: &Settings) -> About {
        About { after_crash: AfterCrash::Fail, ..About::new(Self::NAME, "BA") }
    }

    fn accept(&self, engine: &Engine, params: &BackupParams) -> Result<()> {
        engine.catalog().require_namespace(&params.namespace)?;
        Place::open(engine, &params.to, true).map(drop)
    }

    fn target(&self, params: &BackupParams) -> Target {
        Target { namespace: Some(params.namespace.clone()), ..Target::default() }
    }

    async fn run(&self, engine: &Arc<Engine>, params: BackupParams, job: &JobHandle) -> Result<JobEnd> {
        engine.back_up(&params.namespace, &params.to, job).await
    }
}
