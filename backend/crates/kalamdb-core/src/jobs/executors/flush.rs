//! `flush`: hot rows become history (spec section 4). Asked for by STORAGE FLUSH, due by the policy of a table, or of the
//! settings, and when the hot tier is large.
//!
//! Killed at any point it leaves at most a file that nothing names; running it again flushes what is still hot.

use std::cmp::Reverse;
use std::sync::Arc;

use kalamdb_commons::Result;
use kalamdb_commons::ids::{NamespaceId, TableName, UserId};
use kalamdb_commons::schema::Table;
use kalamdb_commons::settings::Settings;
use serde::{Deserialize, Serialize};

use crate::engine::Engine;
use crate::flush::flush_partition;
use crate::jobs::kind::{About, JobExecutor, Lane, Target};
use crate::jobs::params::{ParamValue, params};
use crate::jobs::{JobEnd, JobHandle};
use crate::partition::Partition;

/// Why something is flushed, and with it what of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum FlushReason {
    /// Somebody asks: everything.
    Statement,
    /// The policy: the partitions that are due.
    Policy,
    /// The hot tier is large: the largest partitions, until it is not.
    Memory,
}

impl ParamValue for FlushReason {
    const SHAPE: &'static str = "\"statement\" (everything), \"policy\" (what is due) or \"memory\" (the largest \
                                 partitions while the hot tier is large)";
}

params! {
    /// What is to be flushed.
    #[derive(Default)]
    pub(crate) FlushParams {
        /// The namespace; all of them without one.
        namespace: Option<NamespaceId> = r#""app""#,
        /// The table; all of them without one.
        table: Option<TableName> = r#""messages""#,
        /// The user whose partitions; those of all without one.
        user_id: Option<UserId> = r#""alice""#,
        /// Why; `statement` without one.
        reason: Option<FlushReason> = r#""statement""#,
    }
}

impl FlushParams {
    /// One table.
    pub(crate) fn table(table: &Table, reason: FlushReason) -> Self {
        Self {
            namespace: Some(table.name.namespace.clone()),
            table: Some(table.name.table.clone()),
            user_id: None,
            reason: Some(reason),
        }
    }
}

/// The kind.
#[derive(Debug)]
pub(crate) struct Flush;

impl Flush {
    pub(crate) const NAME: &'static str = "flush";
}

impl JobExecutor<FlushParams> for Flush {
    fn about(&self, settings: &Settings) -> About {
        let parallel_max = settings.jobs.flush_parallel_max;
        About { lane: Lane::Flush, parallel_max, weight: 4, ..About::new(Self::NAME, "FL") }
    }

    fn accept(&self, engine: &Engine, params: &FlushParams) -> Result<()> {
        self.target(params).check(&engine.catalog())
    }

    fn target(&self, params: &FlushParams) -> Target {
        Target::of(&params.namespace, &params.table, &params.user_id)
    }

    async fn run(&self, engine: &Arc<Engine>, params: FlushParams, job: &JobHandle) -> Result<JobEnd> {
        let reason = params.reason.unwrap_or(FlushReason::Statement);
        let target = self.target(&params);
        let (mut rows, mut bytes, mut count) = (0, 0, 0);
        for table in target.tables(&engine.catalog()).iter().filter(|table| table.kind.has_history()) {
            for partition in in_order(target.partitions(engine, table), reason) {
                job.check()?;
                if !is_wanted(engine, table, &partition, reason) {
                    continue;
                }
                if let Some(flushed) = flush_partition(engine, &partition, job).await? {
                    rows += flushed.rows;
                    bytes += flushed.bytes;
                    count += 1;
                }
            }
        }
        if count == 0 {
            return Ok(JobEnd::Skipped("no pending writes".to_owned()));
        }
        Ok(JobEnd::Completed(format!("{rows} rows in {count} partition(s), {bytes} bytes")))
    }

    fn interval_seconds(&self, settings: &Settings) -> u64 {
        settings.flush.check_interval_seconds
    }

    async fn due(&self, engine: &Arc<Engine>) -> Result<Vec<FlushParams>> {
        let catalog = engine.catalog();
        let mut tables: Vec<(u64, bool, &Arc<Table>)> = Vec::new();
        for table in catalog.tables().filter(|table| table.kind.has_history()) {
            let mut partitions = engine.partitions().of(table.incarnation);
            partitions.retain(is_flushable);
            let bytes = partitions.iter().map(|partition| partition.hot().bytes).sum();
            let is_due = partitions.iter().any(|partition| is_due(engine, table, partition));
            if bytes > 0 || is_due {
                tables.push((bytes, is_due, table));
            }
        }
        tables.sort_by_key(|(bytes, _, _)| Reverse(*bytes));
        let mut over = tables.iter().map(|(bytes, _, _)| bytes).sum::<u64>().saturating_sub(limit(engine));
        let mut jobs = Vec::new();
        for (bytes, is_due, table) in tables {
            if over > 0 || is_due {
                let reason = if over > 0 { FlushReason::Memory } else { FlushReason::Policy };
                over = over.saturating_sub(bytes);
                jobs.push(FlushParams::table(table, reason));
            }
        }
        Ok(jobs)
    }
}

fn limit(engine: &Engine) -> u64 {
    engine.settings().hot.flush_at_mib << 20
}

/// The largest first where memory is short, else the one that has waited longest.
fn in_order(mut partitions: Vec<Arc<Partition>>, reason: FlushReason) -> Vec<Arc<Partition>> {
    match reason {
        FlushReason::Memory => partitions.sort_by_cached_key(|partition| Reverse(partition.hot().bytes)),
        _ => partitions.sort_by_cached_key(|partition| partition.hot().oldest),
    }
    partitions
}

fn is_wanted(engine: &Engine, table: &Table, partition: &Arc<Partition>, reason: FlushReason) -> bool {
    is_flushable(partition)
        && match reason {
            FlushReason::Statement => true,
            FlushReason::Policy => is_due(engine, table, partition),
            FlushReason::Memory => engine.hot_bytes() > limit(engine) || is_due(engine, table, partition),
        }
}

/// Whether a partition may have something that is not history yet. While garbage waits for its removal, counting rows
/// does not tell: one that was written over garbage is in both counts.
pub(crate) fn is_flushable(partition: &Arc<Partition>) -> bool {
    let hot = partition.hot();
    hot.oldest.is_some() && hot.rows > 0
}

fn is_due(engine: &Engine, table: &Table, partition: &Partition) -> bool {
    let (hot, settings) = (partition.hot(), &engine.settings().flush);
    let policy = &table.options.flush;
    let own = policy.rows.is_some() || policy.interval_seconds.is_some();
    let rows = policy.rows.or_else(|| (!own).then_some(settings.rows));
    let seconds = policy.interval_seconds.or_else(|| (!own).then_some(settings.interval_seconds));
    let age_ns = hot.oldest.map_or(0, |oldest| engine.clock().now_ns().saturating_sub(oldest.0));
    rows.is_some_and(|rows| hot.rows.saturating_sub(hot.garbage) >= rows)
        || seconds.is_some_and(|seconds| age_ns / 1_000_000_000 >= i64::try_from(seconds).unwrap_or(i64::MAX))
}
