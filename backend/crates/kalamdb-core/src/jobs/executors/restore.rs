//! `restore`: a namespace comes back from a place of backups. One that the end of the server interrupted is not begun again
//! by itself: whoever asked says whether it is still wanted.

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
    /// What comes back.
    pub(crate) RestoreParams {
        /// The namespace that it becomes: a new or an empty one.
        namespace: NamespaceId = r#""app""#,
        /// Where from, as RESTORE DATABASE has it.
        from: String = r#""/var/backups/kalamdb""#,
    }
}

/// The kind.
#[derive(Debug)]
pub(crate) struct Restore;

impl Restore {
    pub(crate) const NAME: &'static str = "restore";
}

impl JobExecutor<RestoreParams> for Restore {
    fn about(&self, _settings: &Settings) -> About {
        About { after_crash: AfterCrash::Fail, ..About::new(Self::NAME, "RE") }
    }

    fn accept(&self, engine: &Engine, params: &RestoreParams) -> Result<()> {
        Place::open(engine, &params.from, false).map(drop)
    }

    fn target(&self, params: &RestoreParams) -> Target {
        Target { namespace: Some(params.namespace.clone()), ..Target::default() }
    }

    async fn run(&self, engine: &Arc<Engine>, params: RestoreParams, job: &JobHandle) -> Result<JobEnd> {
        engine.restore_from(&params.namespace, &params.from, job).await
    }
}
