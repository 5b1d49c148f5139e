//! CHECK TABLE: whether manifests, files, footers and rows of a table's history agree, and what REPAIR may do.
//!
//! | looked at | against |
//! |---|---|
//! | the stored manifest | what the hot tier recorded, the files that are there, each file's footer |
//! | each row of each batch | the order of ids, the batch's interval, the footer's positions |
//! | each row that replaces an older version, or none | the ids of the earlier batches |
//! | each row that is seen, of both tiers | one row for each id and each unique key |
//!
//! Reading everything takes its time and disturbs nobody. REPAIR writes a manifest anew from the footers if that is what
//! is wrong, every file is sound, and the new one reaches as far as the old; and it deletes files that nothing refers
//! to. What would lose something is said and left alone.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Int64Type, TimestampNanosecondType};
use datafusion::common::Column as ColumnName;
use datafusion::datasource::provider_as_source;
use datafusion::functions_aggregate::expr_fn::count;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, LogicalPlan, LogicalPlanBuilder, col, lit};
use futures::StreamExt;
use kalamdb_commons::ids::{CommitTime, RowId, UserId};
use kalamdb_commons::manifest::MANIFEST_FILE;
use kalamdb_commons::schema::{Actor, Role, Table};
use kalamdb_commons::system_columns::ID;
use kalamdb_commons::{Error, ErrorKind, Result};
use kalamdb_filestore::{BatchColumn, IoCounters, Recorded};
use kalamdb_sql::CheckTable;

use super::Engine;
use crate::access::Access;
use crate::commit::readers::ReadPoint;
use crate::partition::Partition;
use crate::partition::lookup::PartitionRead;
use crate::partition::view::{ColdBatch, ColdView, recorded};
use crate::query::scope::Caller;
use crate::query::{StatementScope, plan_error};
use crate::stats::StatementStats;
use crate::system::show::{CheckedRow, checked};
use crate::tables::provider::{Exposure, PartitionTable};

/// Rows that are looked at at a time.
const PIECE_ROWS: u32 = 65_536;
/// How many problems of one batch are told.
const PROBLEMS_MAX: usize = 20;

impl Engine {
    /// CHECK TABLE: one row for each problem, or one for a partition that has none.
    pub(crate) async fn check_table(&self, scope: &StatementScope, check: &CheckTable) -> Result<RecordBatch> {
        let table = scope.table(&check.table, Access::Read)?;
        let mut partitions = self.partitions().of(table.incarnation);
        partitions.sort_by(|a, b| a.id().scope.cmp(&b.id().scope));
        let mut rows = Vec::new();
        for partition in partitions.iter().filter(|partition| partition.has_history()) {
            rows.extend(self.check_partition(scope, &table, partition, check.repair).await?);
        }
        checked(rows)
    }

    /// The same of one partition, for a job. Returns the rows and bytes that were read, and what was found.
    pub(crate) async fn check_integrity(
        self: &Arc<Self>,
        point: Arc<ReadPoint>,
        table: &Arc<Table>,
        partition: &Arc<Partition>,
        repair: bool,
    ) -> Result<(u64, u64, Vec<CheckedRow>)> {
        let server = Actor { user: UserId::new(&self.settings().server.node_id)?, role: Role::System };
        let stats = Arc::new(StatementStats::begin());
        let scope = StatementScope {
            engine: self.clone(),
            caller: Caller::own(&server),
            namespace: table.name.namespace.clone(),
            point,
            writes: None,
            stats: stats.clone(),
            now_ns: self.clock().now_ns(),
        };
        let found = self.check_partition(&scope, table, partition, repair).await?;
        let snapshot = stats.snapshot();
        Ok((snapshot.hot_rows_read + snapshot.cold_rows_read, snapshot.bytes_read, found))
    }

    async fn check_partition(
        &self,
        scope: &StatementScope,
        table: &Arc<Table>,
        partition: &Arc<Partition>,
        repair: bool,
    ) -> Result<Vec<CheckedRow>> {
        let name = partition.id().scope.to_string();
        let row = |file: Option<&str>, finding: &str, repaired: Option<bool>| CheckedRow {
            scope: name.clone(),
            file: file.map(ToOwned::to_owned),
            finding: finding.to_owned(),
            repaired,
        };
        let mut rows = Vec::new();
        if partition.record().reserved_batch > 0 {
            let known = recorded(&partition.record());
            let findings = self.cold().manifests().examine(partition.spec(), known).await?;
            if partition.record().reserved_batch == 0 {
                // Its user is being purged: nothing of it is as it was recorded.
                return Ok(rows);
            }
            let is_rebuildable = findings.iter().all(|finding| finding.is_rebuildable);
            let mut repaired = false;
            if repair && !findings.is_empty() && is_rebuildable {
                match self.rebuild_manifest(partition).await {
                    Ok(()) => repaired = true,
                    Err(error) => rows.push(row(Some(MANIFEST_FILE), error.message(), Some(false))),
                }
            }
            let told = findings.iter().map(|finding| row(Some(&finding.file), &finding.problem, Some(repaired)));
            rows.extend(told);
            // What nothing refers to is known only by a manifest that can be believed.
            if findings.is_empty() || repaired {
                let orphans = self.check_orphans(partition, repair).await?;
                rows.extend(orphans.iter().map(|file| row(Some(file), "nothing refers to it", Some(repair))));
            }
        }
        let view = match partition.view_for_upkeep(&scope.point, self.cold()).await {
            Ok(view) => view,
            Err(error) if error.kind() == ErrorKind::Corrupt => {
                rows.push(row(None, error.message(), Some(false)));
                return Ok(rows);
            }
            Err(error) => return Err(error),
        };
        let io = &scope.stats.io;
        for (at, batch) in view.batches().iter().enumerate() {
            let problems = match check_batch(&view.batches()[..at], batch, io).await {
                Err(error) if error.kind() == ErrorKind::Corrupt => vec![error.message().to_owned()],
                problems => problems?,
            };
            rows.extend(problems.iter().map(|problem| row(Some(&batch.entry.path), problem, Some(false))));
        }
        if rows.is_empty() {
            let problems = self.check_keys(scope, table, partition, &view).await?;
            rows.extend(problems.iter().map(|problem| row(None, problem, Some(false))));
        }
        if rows.is_empty() {
            let count: u64 = view.batches().iter().map(|batch| batch.entry.row_count).sum();
            rows.push(row(None, &format!("ok: {} batches, {count} rows in them", view.batches().len()), None));
        }
        Ok(rows)
    }

    /// The files that nothing refers to; deletes them if that is wanted.
    async fn check_orphans(&self, partition: &Partition, remove: bool) -> Result<Vec<String>> {
        let _maintenance = partition.maintain().await;
        let in_flight: Vec<u64> = partition.in_flight().into_iter().collect();
        let (manifests, known) = (self.cold().manifests(), recorded(&partition.record()));
        let found = match remove {
            true => manifests.remove_orphans(partition.spec(), known, &in_flight).await,
            false => manifests.orphans(partition.spec(), known, &in_flight).await,
        };
        match found {
            Err(error) if error.kind() == ErrorKind::Corrupt => Ok(Vec::new()),
            found => found.map(|found| found.free),
        }
    }

    /// Writes the manifest anew from the footers, if that reaches as far as what is known to be flushed.
    async fn rebuild_manifest(&self, partition: &Arc<Partition>) -> Result<()> {
        let _maintenance = partition.maintain().await;
        let record = partition.record();
        let view = partition.newest_view();
        let flushed = view.as_ref().map_or(CommitTime::ZERO, |view| view.flushed_through());
        let known = Recorded {
            version: record.manifest_version,
            // What the view in memory reads is no longer hot for its readers, whatever was recorded.
            flushed_through: flushed.max(record.flushed_through),
        };
        let rebuilt = self.cold().manifests().rebuild(partition.spec(), Some(known)).await?;
        let Some(view) = view else { return Ok(()) };
        if rebuilt.manifest.flushed_through == view.flushed_through() {
            let next = self.cold().view_of(partition, rebuilt).await?;
            partition.replace_view(next, self.committer().readers().oldest());
        }
        Ok(())
    }

    /// Ids and unique keys that more than one row has, over both tiers.
    async fn check_keys(
        &self,
        scope: &StatementScope,
        table: &Arc<Table>,
        partition: &Arc<Partition>,
        view: &Arc<ColdView>,
    ) -> Result<Vec<String>> {
        let named = |id| table.column_by_id(id).map(|column| column.name.to_string());
        let keys = table.keys.iter().map(|key| key.columns.iter().copied().filter_map(named).collect::<Vec<_>>());
        let mut problems = Vec::new();
        for columns in std::iter::once(vec![ID.to_owned()]).chain(keys) {
            let plan = self.duplicates(scope, table, partition, view, &columns)?;
            let mut found = crate::query::stream::run(scope, &plan).await?;
            let mut rows = 0;
            while let Some(batch) = found.next().await {
                rows += batch?.num_rows();
            }
            if rows > 0 {
                problems.push(format!("more than one row has the same ({})", columns.join(", ")));
            }
        }
        Ok(problems)
    }

    /// One row if some values of the columns, none of them NULL, are those of several rows.
    fn duplicates(
        &self,
        scope: &StatementScope,
        table: &Arc<Table>,
        partition: &Arc<Partition>,
        view: &Arc<ColdView>,
        columns: &[String],
    ) -> Result<LogicalPlan> {
        let read = PartitionRead {
            partition: partition.clone(),
            point: scope.point.clone(),
            view: view.clone(),
            expired_through: CommitTime::ZERO,
            pending: None,
            stats: scope.stats.clone(),
        };
        let missing = self.planner().missing(table)?;
        let provider = PartitionTable::new(table.clone(), read, missing, Exposure::default(), scope.stats.clone());
        let values: Vec<Expr> = columns.iter().map(|name| col(ColumnName::new_unqualified(name))).collect();
        let all_there = conjunction(values.iter().map(|value| value.clone().is_not_null()));
        let plan = LogicalPlanBuilder::scan("rows", provider_as_source(Arc::new(provider)), None)
            .and_then(|plan| plan.filter(all_there.unwrap_or_else(|| lit(true))))
            .and_then(|plan| plan.aggregate(values, [count(lit(1)).alias("rows_alike")]))
            .and_then(|plan| plan.filter(col("rows_alike").gt(lit(1))))
            .and_then(|plan| plan.limit(0, Some(1)))
            .and_then(LogicalPlanBuilder::build)
            .map_err(|error| plan_error(error, "a check of keys"))?;
        self.planner().state().optimize(&plan).map_err(|error| plan_error(error, "a check of keys"))
    }
}

/// What is wrong with the rows of a batch, given the batches before it.
async fn check_batch(earlier: &[ColdBatch], batch: &ColdBatch, io: &Arc<IoCounters>) -> Result<Vec<String>> {
    let footer = batch.file.footer(io).await?;
    let rows = u32::try_from(batch.entry.row_count).map_err(|_| Error::corrupt("it has too many rows"))?;
    let mut problems = Vec::new();
    let mut last = None;
    let mut next = 0;
    while next < rows && problems.len() < PROBLEMS_MAX {
        let range = next..rows.min(next.saturating_add(PIECE_ROWS));
        next = range.end;
        let columns = [BatchColumn::Id, BatchColumn::Updated, BatchColumn::Deleted, BatchColumn::Born];
        let piece = batch.file.rows_between(range.clone(), &columns, io).await?;
        let ids = piece.column(0).as_primitive::<Int64Type>().values();
        let updated = piece.column(1).as_primitive::<TimestampNanosecondType>().values();
        let deleted = piece.column(2).as_boolean();
        let born = piece.column(3).as_primitive::<Int64Type>().values();
        let (mut replacing, mut new) = (Vec::new(), Vec::new());
        for (at, position) in range.enumerate() {
            let (from, through) = (batch.entry.from.0, batch.entry.through.0);
            let replaces = born[at] <= from;
            let mut require = |holds: bool, problem: &str| {
                if !holds && problems.len() < PROBLEMS_MAX {
                    problems.push(format!("row {} at {position}: {problem}", ids[at]));
                }
            };
            require(last.is_none_or(|last| last < ids[at]), "ids do not grow");
            require(from < updated[at] && updated[at] <= through, "its commit time is outside of the interval");
            require(born[at] <= updated[at], "it was changed before it was born");
            require(
                deleted.value(at) == footer.tombstones.contains(position),
                "the footer is wrong about its deletion",
            );
            require(replaces == footer.superseding.contains(position), "the footer is wrong about what it replaces");
            last = Some(ids[at]);
            if replaces { &mut replacing } else { &mut new }.push(RowId(ids[at]));
        }
        let wanting = replacing.len() - held(earlier, &replacing, io).await?;
        if wanting > 0 {
            problems.push(format!("{wanting} rows replace an older version that no earlier batch holds"));
        }
        let again = held(earlier, &new, io).await?;
        if again > 0 {
            problems.push(format!("{again} rows are held as new, and an earlier batch holds them too"));
        }
    }
    Ok(problems)
}

/// How many of these rows, sorted by id, some of the batches hold.
async fn held(batches: &[ColdBatch], rows: &[RowId], io: &Arc<IoCounters>) -> Result<usize> {
    let mut left = rows.to_vec();
    for batch in batches {
        if left.is_empty() {
            break;
        }
        let found = batch.file.positions_of_ids(&left, io).await?;
        left = left.into_iter().zip(found).filter_map(|(row, at)| at.is_none().then_some(row)).collect();
    }
    Ok(rows.len() - left.len())
}
