//! `integrity_check`: whether manifests, files, footers and rows agree, as CHECK TABLE does. It fails if something does
//! not, and says what. With `repair` it does what CHECK TABLE ... REPAIR may do; each repair is one step that may be done
//! twice.

use std::sync::Arc;

use kalamdb_commons::ids::{NamespaceId, TableName, UserId};
use kalamdb_commons::schema::Table;
use kalamdb_commons::settings::Settings;
use kalamdb_commons::{Error, ErrorKind, Result};

use crate::engine::Engine;
use crate::jobs::kind::{About, JobExecutor, Target};
use crate::jobs::params::params;
use crate::jobs::{JobEnd, JobHandle};
use crate::partition::Partition;
use crate::system::show::CheckedRow;

/// How many problems a message tells.
const TOLD_MAX: usize = 5;

params! {
    /// What is to be checked.
    #[derive(Default)]
    pub(crate) IntegrityCheckParams {
        /// The namespace; all of them without one.
        namespace: Option<NamespaceId> = r#""app""#,
        /// The table; all of them without one.
        table: Option<TableName> = r#""messages""#,
        /// The user whose partitions; those of all without one.
        user_id: Option<UserId> = r#""alice""#,
        /// Whether what can be repaired without losing anything is.
        repair: Option<bool> = "true",
    }
}

/// The kind.
#[derive(Debug)]
pub(super) struct IntegrityCheck;

impl JobExecutor<IntegrityCheckParams> for IntegrityCheck {
    fn about(&self, _settings: &Settings) -> About {
        About::new("integrity_check", "IC")
    }

    fn accept(&self, engine: &Engine, params: &IntegrityCheckParams) -> Result<()> {
        self.target(params).check(&engine.catalog())
    }

    fn target(&self, params: &IntegrityCheckParams) -> Target {
        Target::of(&params.namespace, &params.table, &params.user_id)
    }

    async fn run(&self, engine: &Arc<Engine>, params: IntegrityCheckParams, job: &JobHandle) -> Result<JobEnd> {
        let repair = params.repair.unwrap_or(false);
        let (mut checked, mut repaired, mut problems) = (0, 0, Vec::new());
        for (table, partition) in self.target(&params).all_partitions(engine) {
            job.check()?;
            if !partition.has_history() {
                continue;
            }
            checked += 1;
            for row in check(engine, &table, &partition, repair, job).await? {
                match row.repaired {
                    None => {}
                    Some(true) => repaired += 1,
                    Some(false) => problems.push(told(&table, &row)),
                }
            }
        }
        if problems.is_empty() {
            return Ok(JobEnd::Completed(format!("{checked} partition(s) checked, {repaired} problem(s) repaired")));
        }
        let (count, first) = (problems.len(), problems[..problems.len().min(TOLD_MAX)].join("; "));
        Err(Error::corrupt(format!("{count} problem(s) in {checked} partition(s): {first}")))
    }

    fn interval_seconds(&self, settings: &Settings) -> u64 {
        settings.jobs.integrity_check_interval_seconds
    }

    async fn due(&self, _engine: &Arc<Engine>) -> Result<Vec<IntegrityCheckParams>> {
        Ok(vec![IntegrityCheckParams::default()])
    }
}

/// Checks one partition. A check that only reads is given up where it stands when the job is to stop.
async fn check(
    engine: &Arc<Engine>,
    table: &Arc<Table>,
    partition: &Arc<Partition>,
    repair: bool,
    job: &JobHandle,
) -> Result<Vec<CheckedRow>> {
    let point = engine.committer().readers().enter();
    // The contents may have ended since.
    if point.catalog().table_by_incarnation(partition.id().incarnation).is_none() {
        return Ok(Vec::new());
    }
    let checking = engine.check_integrity(point, table, partition, repair);
    let (rows, bytes, found) = if repair {
        checking.await?
    } else {
        tokio::select! {
            found = checking => found?,
            () = job.cancelled() => return Err(Error::new(ErrorKind::Cancelled, "the job was cancelled")),
        }
    };
    job.progress(rows, bytes);
    Ok(found)
}

fn told(table: &Table, row: &CheckedRow) -> String {
    let file = row.file.as_deref().map_or_else(String::new, |file| format!(" {file}"));
    format!("{} {}{file}: {}", table.name, row.scope, row.finding)
}
