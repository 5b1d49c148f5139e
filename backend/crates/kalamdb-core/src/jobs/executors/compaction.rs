//! `compaction`: neighbouring batches become one (spec section 4). Asked for by STORAGE COMPACT, or due by the settings:
//! then a job for each partition, so that one large history does not keep the others from their turn.
//!
//! Killed at any point it leaves at most a file that nothing names, or replaced files that go later; running it again
//! merges what is not merged.

use std::sync::Arc;

use kalamdb_commons::Result;
use kalamdb_commons::ids::{CommitTime, NamespaceId, PartitionId, Scope, TableName, UserId};
use kalamdb_commons::manifest::{BatchStatus, Manifest};
use kalamdb_commons::schema::Table;
use kalamdb_commons::settings::Settings;
use kalamdb_commons::{Error, ErrorKind};
use kalamdb_filestore::Found;
use serde::{Deserialize, Serialize};

use crate::compaction::choice::{self, Shape};
use crate::compaction::{Compacted, Extent, compact_partition, retired};
use crate::engine::Engine;
use crate::flush::deletions_kept_since;
use crate::jobs::kind::{About, JobExecutor, Target};
use crate::jobs::params::{ParamValue, params};
use crate::jobs::{JobEnd, JobHandle};
use crate::partition::Partition;
use crate::partition::view::{ColdView, recorded};

/// What a job says that found nothing to do.
pub(crate) const NOTHING: &str = "nothing to compact";
/// How many partitions that are not in memory are looked at each time.
const LOOKED_AT_MAX: usize = 8;
/// How many partitions are put in the queue at a time.
const DUE_MAX: usize = 256;

/// Why something is compacted, and with it what of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum CompactionReason {
    /// Somebody asks: everything.
    Statement,
    /// The settings: what is due.
    Policy,
    /// Some batches, which are named.
    #[serde(alias = "some batches")]
    Batches,
}

impl ParamValue for CompactionReason {
    const SHAPE: &'static str = "\"statement\" (everything), \"policy\" (what is due) or \"batches\" (those that \
                                 \"first_batch\" and \"batches\" name)";
}

params! {
    /// What is to be compacted.
    #[derive(Default)]
    pub(crate) CompactionParams {
        /// The namespace; all of them without one.
        namespace: Option<NamespaceId> = r#""app""#,
        /// The table; all of them without one.
        table: Option<TableName> = r#""messages""#,
        /// The user whose partitions; those of all without one.
        user_id: Option<UserId> = r#""alice""#,
        /// The place of the first batch among the active ones of each partition, if only some are meant.
        first_batch: Option<u64> = "0" in 0 ..= 4_294_967_295,
        /// How many batches from that one on.
        batches: Option<u64> = "2" in 1 ..= 4_294_967_295,
        /// Why; `statement` without one.
        reason: Option<CompactionReason> = r#""statement""#,
    }
}

/// The kind.
#[derive(Debug)]
pub(crate) struct Compaction;

impl Compaction {
    pub(crate) const NAME: &'static str = "compaction";
}

impl JobExecutor<CompactionParams> for Compaction {
    fn about(&self, settings: &Settings) -> About {
        // The last place is left to what does not take as long.
        let parallel_max = settings.jobs.parallel_max.saturating_sub(1).max(1);
        About { parallel_max, ..About::new(Self::NAME, "CO") }
    }

    fn accept(&self, engine: &Engine, params: &CompactionParams) -> Result<()> {
        let names_some = params.reason == Some(CompactionReason::Batches);
        if params.first_batch.is_some() != names_some || params.batches.is_some() != names_some {
            return Err(Error::invalid_parameter(
                "fields \"first_batch\" and \"batches\" go together, with \"reason\": \"batches\", and not otherwise; such \
                 as {\"namespace\": \"app\", \"table\": \"messages\", \"reason\": \"batches\", \"first_batch\": 0, \
                 \"batches\": 2}",
            ));
        }
        self.target(params).check(&engine.catalog())
    }

    fn target(&self, params: &CompactionParams) -> Target {
        Target::of(&params.namespace, &params.table, &params.user_id)
    }

    async fn run(&self, engine: &Arc<Engine>, params: CompactionParams, job: &JobHandle) -> Result<JobEnd> {
        let Some(extent) = extent(&params) else { return Ok(JobEnd::Skipped("no batches are named".to_owned())) };
        compact(engine, &self.target(&params), &extent, job).await
    }

    fn interval_seconds(&self, settings: &Settings) -> u64 {
        if settings.compaction.automatic { settings.compaction.check_interval_seconds } else { 0 }
    }

    async fn due(&self, engine: &Arc<Engine>) -> Result<Vec<CompactionParams>> {
        let all = Target::default().all_partitions(engine);
        let closed = due_of_closed(engine, &all).await;
        let is_due = |(table, partition): &(Arc<Table>, Arc<Partition>)| {
            let is_due_if_open = partition.newest_view().is_some_and(|view| is_due(engine, table, &view));
            is_due_if_open || closed.contains(partition.id())
        };
        let due = all.into_iter().filter(is_due).take(DUE_MAX);
        Ok(due.map(|(table, partition)| of_partition(&table, &partition)).collect())
    }
}

fn of_partition(table: &Table, partition: &Partition) -> CompactionParams {
    let user_id = match &partition.id().scope {
        Scope::User(user) => Some(user.clone()),
        Scope::Shared => None,
    };
    CompactionParams {
        namespace: Some(table.name.namespace.clone()),
        table: Some(table.name.table.clone()),
        user_id,
        reason: Some(CompactionReason::Policy),
        ..CompactionParams::default()
    }
}

/// What of each partition is meant; `None` if an older version did not say.
fn extent(params: &CompactionParams) -> Option<Extent> {
    match params.reason {
        None | Some(CompactionReason::Statement) => Some(Extent::Everything),
        Some(CompactionReason::Policy) => Some(Extent::Due),
        Some(CompactionReason::Batches) => {
            let (first, count) = params.first_batch.zip(params.batches)?;
            let first = usize::try_from(first).ok()?;
            Some(Extent::Batches(first..first.checked_add(usize::try_from(count).ok()?)?))
        }
    }
}

/// Compacts the partitions that are meant, one after the other. One that fails does not keep the others from it.
pub(super) async fn compact(engine: &Arc<Engine>, target: &Target, extent: &Extent, job: &JobHandle) -> Result<JobEnd> {
    let (mut total, mut count, mut failed) = (Compacted::default(), 0, None);
    for (_, partition) in target.all_partitions(engine) {
        if !has_batches(&partition) {
            continue;
        }
        job.check()?;
        match compact_partition(engine, &partition, extent, job).await {
            Ok(Some(done)) => {
                total.batches += done.batches;
                total.rows += done.rows;
                total.removed += done.removed;
                count += 1;
            }
            Ok(None) => {}
            Err(error) if error.kind() == ErrorKind::Cancelled => return Err(error),
            Err(error) => failed = failed.or(Some(error.context(partition.id()))),
        }
    }
    let Compacted { batches, rows, removed } = total;
    match failed {
        Some(error) => Err(error),
        None if count == 0 => Ok(JobEnd::Skipped(NOTHING.to_owned())),
        None => Ok(JobEnd::Completed(format!(
            "{batches} batches merged in {count} partition(s), {rows} rows kept, {removed} removed"
        ))),
    }
}

/// Whether a partition has a cold tier.
pub(crate) fn has_batches(partition: &Arc<Partition>) -> bool {
    partition.has_history() && partition.record().reserved_batch > 0
}

/// Looks at a few partitions that are not in memory and have a history, those that were looked at the longest time ago:
/// what a restart or an eviction hid is found, and looking costs the same however many there are.
async fn due_of_closed(engine: &Arc<Engine>, all: &[(Arc<Table>, Arc<Partition>)]) -> Vec<PartitionId> {
    let mut closed: Vec<&(Arc<Table>, Arc<Partition>)> =
        all.iter().filter(|(_, partition)| has_batches(partition) && partition.newest_view().is_none()).collect();
    if closed.is_empty() || engine.cold().is_over_limit() {
        return Vec::new();
    }
    let some = closed.len().min(LOOKED_AT_MAX);
    closed.select_nth_unstable_by_key(some - 1, |(_, partition)| partition.looked_at());
    let mut due = Vec::new();
    for (table, partition) in &closed[..some] {
        partition.look(engine.clock().now_ns());
        match is_due_closed(engine, table, partition).await {
            Ok(true) => due.push(partition.id().clone()),
            Ok(false) => {}
            Err(error) => {
                tracing::warn!(%error, partition = %partition.id(), "a partition could not be looked at for compaction");
            }
        }
    }
    due
}

/// The same of a partition that stays closed.
async fn is_due_closed(engine: &Arc<Engine>, table: &Table, partition: &Arc<Partition>) -> Result<bool> {
    // Whoever maintains it opens it, and it is looked at then.
    let Some(_maintenance) = partition.try_maintain() else { return Ok(false) };
    let cold = engine.cold();
    let loaded = match cold.manifests().look(partition.spec(), recorded(&partition.record())).await? {
        Found::Ready(loaded, _) => loaded,
        Found::Lost(_) => {
            cold.lost().note(partition);
            return Ok(false);
        }
    };
    if loaded.manifest.batches.iter().any(|batch| batch.status == BatchStatus::Archived) {
        partition.view_at(CommitTime::MAX, cold).await?;
        retired::remove(engine, partition).await?;
        return Ok(false);
    }
    if !may_be_due(&loaded.manifest, engine) {
        return Ok(false);
    }
    let view = cold.view_of(partition, loaded).await?;
    Ok(is_due(engine, table, &view))
}

/// Whether there is a reason to open a partition: many batches, or rows in them that are superseded or deletions.
fn may_be_due(manifest: &Manifest, engine: &Engine) -> bool {
    let is_many = manifest.active().count() >= engine.settings().compaction.batches_min;
    is_many || manifest.active().any(|batch| batch.superseding_count > 0 || batch.tombstone_count > 0)
}

fn is_due(engine: &Engine, table: &Table, view: &ColdView) -> bool {
    let kept_since = deletions_kept_since(engine, table);
    let shapes: Vec<Shape> = view.batches().iter().map(|batch| Shape::of(batch, kept_since)).collect();
    choice::due(&shapes, &engine.settings().compaction).is_some()
}
