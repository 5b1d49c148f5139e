//! INSERT ... ON CONFLICT: which rows are inserted, which update the row that holds their key, which do nothing.
//!
//! The keys of all new rows are locked before this looks, so what it finds is still true at the commit.

use std::collections::HashSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions, UInt64Array};
use datafusion::common::{DFSchema, TableReference};
use kalamdb_commons::ids::RowId;
use kalamdb_commons::schema::{Column, Table, UniqueKey};
use kalamdb_commons::{Error, Result};
use kalamdb_sql::ast::{Expr, Ident, VisitMut, VisitorMut};
use kalamdb_sql::{ConflictAction, OnConflict};

use super::change::{assignments, updated};
use super::direct::{self, Wanted};
use super::insert::{NewRows, known_column, prepare};
use super::prepared::{Claims, Prepared};
use super::victims::Victims;
use crate::partition::lookup::PartitionRead;
use crate::query::{StatementScope, arrow_error, plan_error};
use crate::tables::Exposure;

/// What became of the new rows.
pub(crate) struct Resolved {
    pub(crate) prepared: Prepared,
    /// The rows written, in the order of their commit times.
    pub(crate) ids: Vec<RowId>,
    /// Their user columns.
    pub(crate) rows: RecordBatch,
}

/// The keys whose conflicts the clause catches.
fn arbiters<'a>(table: &'a Table, clause: &OnConflict) -> Result<Vec<&'a UniqueKey>> {
    let Some(target) = &clause.target else { return Ok(table.keys.iter().collect()) };
    let mut wanted = Vec::with_capacity(target.len());
    for name in target {
        wanted.push(known_column(table, name)?.id);
    }
    let same = |key: &&UniqueKey| key.columns.len() == wanted.len() && key.columns.iter().all(|id| wanted.contains(id));
    match table.keys.iter().find(same) {
        Some(key) => Ok(vec![key]),
        None => Err(Error::invalid_sql(format!(
            "ON CONFLICT ({}) names no PRIMARY KEY or UNIQUE constraint of {}",
            target.join(", "),
            table.name
        ))),
    }
}

/// Resolves the clause at the scope's moment.
pub(crate) async fn resolve(scope: &StatementScope, new: &NewRows, clause: &OnConflict) -> Result<Resolved> {
    let table = &new.table;
    let read = scope.read(table).await?;
    let ids = new.ids();
    let mut holders: Vec<Option<RowId>> = vec![None; ids.len()];
    let mut again: HashSet<usize> = HashSet::new();
    for key in arbiters(table, clause)? {
        let claims = Claims::new(table, &read.partition, key, &new.rows, &ids)?;
        let mut seen = HashSet::new();
        for (at, holder) in claims.holders(&read).await?.into_iter().enumerate() {
            holders[at] = holders[at].or(holder);
            if let Some(value) = claims.value(at)
                && !seen.insert(value)
            {
                again.insert(at);
            }
        }
    }
    match &clause.action {
        ConflictAction::DoNothing => {
            let fresh = (0..ids.len()).filter(|at| holders[*at].is_none() && !again.contains(at));
            inserted(scope, new, &ids, &fresh.collect::<Vec<_>>())
        }
        ConflictAction::DoUpdate { assignments: set, filter } => {
            if !again.is_empty() {
                return Err(Error::execution(
                    "ON CONFLICT DO UPDATE cannot change a row twice: two of the new rows have the same key",
                ));
            }
            let fresh: Vec<usize> = (0..ids.len()).filter(|at| holders[*at].is_none()).collect();
            let mut resolved = inserted(scope, new, &ids, &fresh)?;
            let set = assignments(scope, table, set)?;
            let conflicts: Vec<(usize, RowId)> =
                holders.iter().enumerate().filter_map(|(at, holder)| Some((at, (*holder)?))).collect();
            if conflicts.is_empty() {
                return Ok(resolved);
            }
            let victims = conflicting(scope, new, &read, &conflicts, &set, filter.as_ref()).await?;
            let changed = updated(scope, table, &victims, &set)?;
            resolved.prepared.writes.absorb(changed.prepared.writes, &scope.engine.settings().limits)?;
            resolved.prepared.claims.extend(changed.prepared.claims);
            resolved.prepared.check_among_themselves()?;
            resolved.ids.extend(changed.ids);
            resolved.rows = arrow::compute::concat_batches(&resolved.rows.schema(), [&resolved.rows, &changed.rows])
                .map_err(arrow_error)?;
            Ok(resolved)
        }
    }
}

/// The writes of those new rows that conflict with nothing.
fn inserted(scope: &StatementScope, new: &NewRows, ids: &[RowId], fresh: &[usize]) -> Result<Resolved> {
    let indices = UInt64Array::from_iter_values(fresh.iter().map(|at| *at as u64));
    let rows = arrow::compute::take_record_batch(&new.rows, &indices).map_err(arrow_error)?;
    let kept: Vec<RowId> = fresh.iter().map(|at| ids[*at]).collect();
    let prepared = prepare(scope, &new.table, &kept, &rows)?;
    Ok(Resolved { prepared, ids: kept, rows })
}

/// The rows that hold the keys of new rows, with the values that SET gives them; those that the clause's WHERE
/// leaves out are not among them.
async fn conflicting(
    scope: &StatementScope,
    new: &NewRows,
    read: &PartitionRead,
    conflicts: &[(usize, RowId)],
    set: &[(Column, Expr)],
    filter: Option<&Expr>,
) -> Result<Victims> {
    let table: &Arc<Table> = &new.table;
    let wanted = Wanted::exposed(table, Exposure { born: true, ..Exposure::default() });
    let mut parts = Vec::with_capacity(conflicts.len());
    for (_, row) in conflicts {
        let version = read.version(*row).await?.ok_or_else(|| Error::internal("the holder of a key is gone"))?;
        parts.push(direct::fetch(scope, table, read, &[(*row, version)], &wanted).await?);
    }
    let held = arrow::compute::concat_batches(&parts[0].schema(), &parts).map_err(arrow_error)?;
    let indices = UInt64Array::from_iter_values(conflicts.iter().map(|(at, _)| *at as u64));
    let excluded = arrow::compute::take_record_batch(&new.rows, &indices).map_err(arrow_error)?;
    let qualify = |name: &str, batch: &RecordBatch| {
        DFSchema::try_from_qualified_schema(TableReference::bare(name), &batch.schema())
            .map_err(|error| plan_error(error, "ON CONFLICT"))
    };
    let table_name = table.name.table.as_str();
    let both = qualify(table_name, &held)?
        .join(&qualify("excluded", &excluded)?)
        .map_err(|error| plan_error(error, "ON CONFLICT"))?;
    let columns: Vec<ArrayRef> = held.columns().iter().chain(excluded.columns()).cloned().collect();
    let mut rows = RecordBatch::try_new(Arc::new(both.as_arrow().clone()), columns).map_err(arrow_error)?;
    let planner = scope.engine.planner();
    let planned = |expr: &Expr| planner.qualified_expression(own_columns(expr, table, table_name), &both);
    if let Some(filter) = filter {
        let matches = planner.evaluate(&planned(filter)?, &rows)?;
        let matches = matches.as_boolean_opt().ok_or_else(|| Error::execution("the WHERE is not a BOOLEAN"))?;
        rows = arrow::compute::filter_record_batch(&rows, matches).map_err(arrow_error)?;
    }
    let set = set.iter().map(|(_, expr)| planner.evaluate(&planned(expr)?, &rows)).collect::<Result<Vec<_>>>()?;
    let own = rows.columns()[..held.num_columns()].to_vec();
    let options = RecordBatchOptions::new().with_row_count(Some(rows.num_rows()));
    let rows = RecordBatch::try_new_with_options(held.schema(), own, &options).map_err(arrow_error)?;
    Ok(Victims { rows, set })
}

/// An unqualified column means the row that is there, as in PostgreSQL.
fn own_columns(expr: &Expr, table: &Table, table_name: &str) -> Expr {
    struct Qualify<'a>(&'a Table, &'a str);
    impl VisitorMut for Qualify<'_> {
        type Break = ();
        fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
            let Expr::Identifier(ident) = expr else { return ControlFlow::Continue(()) };
            let name = kalamdb_sql::expr::fold(ident);
            if self.0.column(&name).is_some() {
                let qualified = vec![Ident::with_quote('"', self.1), Ident::with_quote('"', name)];
                *expr = Expr::CompoundIdentifier(qualified);
            }
            ControlFlow::Continue(())
        }
    }
    let mut expr = expr.clone();
    // The visitor never breaks.
    let _: ControlFlow<()> = VisitMut::visit(&mut expr, &mut Qualify(table, table_name));
    expr
}
