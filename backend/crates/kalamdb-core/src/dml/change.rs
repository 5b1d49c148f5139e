//! UPDATE and DELETE: from the rows found to the versions to write.

use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use kalamdb_commons::ids::{CommitTime, RowId};
use kalamdb_commons::schema::{Column, ColumnDefault, Table};
use kalamdb_commons::{Error, Result};
use kalamdb_sql::ast::Expr;
use kalamdb_sql::expr::is_default;
use kalamdb_sql::{Delete, Update};
use kalamdb_store::rows::RowEncoder;

use super::assign::to_column;
use super::insert::{known_column, nullable_schema};
use super::prepared::{Claims, Prepared, planned_with};
use super::victims::{Search, Victims, find};
use crate::commit::{Change, KeyValue};
use crate::query::{StatementScope, arrow_error};

/// A statement's writes and the rows that RETURNING shows: the user's columns after an UPDATE, before a DELETE.
pub(crate) struct Changed {
    pub(crate) prepared: Prepared,
    pub(crate) ids: Vec<RowId>,
    pub(crate) rows: RecordBatch,
}

/// The writes of an UPDATE at the scope's moment.
pub(crate) async fn update(scope: &StatementScope, table: &Arc<Table>, update: &Update) -> Result<Changed> {
    let set = assignments(scope, table, &update.assignments)?;
    let search = Search { table, alias: update.alias.as_deref(), filter: update.filter.as_ref(), set: &set };
    let victims = find(scope, &search).await?;
    updated(scope, table, &victims, &set)
}

/// SET, with its columns; `DEFAULT` becomes the column's default.
pub(crate) fn assignments(
    scope: &StatementScope,
    table: &Table,
    assignments: &[(String, Expr)],
) -> Result<Vec<(Column, Expr)>> {
    let mut set: Vec<(Column, Expr)> = Vec::with_capacity(assignments.len());
    for (name, expr) in assignments {
        let column = known_column(table, name)?;
        if set.iter().any(|(other, _)| other.id == column.id) {
            return Err(Error::invalid_sql(format!("column '{name}' is set twice")));
        }
        let expr = if is_default(expr) { default_of(scope, column)? } else { expr.clone() };
        set.push((column.clone(), expr));
    }
    Ok(set)
}

fn default_of(scope: &StatementScope, column: &Column) -> Result<Expr> {
    let text = match &column.default {
        Some(ColumnDefault::Expression(text)) => text.as_str(),
        None => "NULL",
    };
    let mut expr = kalamdb_sql::expr::parse(text)?;
    scope.engine.constants(scope.subject(), &[]).apply(&mut expr)?;
    Ok(expr)
}

/// The writes that give found rows their new values.
pub(crate) fn updated(
    scope: &StatementScope,
    table: &Arc<Table>,
    victims: &Victims,
    set: &[(Column, Expr)],
) -> Result<Changed> {
    let old = victims.user_rows(table)?;
    let mut columns: Vec<ArrayRef> = old.columns().to_vec();
    for ((column, _), values) in set.iter().zip(&victims.set) {
        let at = table.columns().iter().position(|known| known.id == column.id);
        let at = at.ok_or_else(|| Error::internal("a column that was just found"))?;
        columns[at] = to_column(values, column)?;
    }
    let options = RecordBatchOptions::new().with_row_count(Some(old.num_rows()));
    let new = RecordBatch::try_new_with_options(nullable_schema(table), columns, &options).map_err(arrow_error)?;
    scope.engine.constraints().check(scope.engine.planner(), table, &new)?;
    replaced(scope, table, victims, &old, new, false)
}

/// The writes of a DELETE at the scope's moment.
pub(crate) async fn delete(scope: &StatementScope, table: &Arc<Table>, delete: &Delete) -> Result<Changed> {
    let search = Search { table, alias: delete.alias.as_deref(), filter: delete.filter.as_ref(), set: &[] };
    let victims = find(scope, &search).await?;
    let old = victims.user_rows(table)?;
    replaced(scope, table, &victims, &old, old.clone(), true)
}

fn replaced(
    scope: &StatementScope,
    table: &Arc<Table>,
    victims: &Victims,
    old: &RecordBatch,
    new: RecordBatch,
    deletes: bool,
) -> Result<Changed> {
    let partition = scope.engine.partitions().get(table, &scope.scope_in(table));
    let (ids, seen) = (victims.ids()?, victims.seen()?);
    let mut prepared = Prepared::default();
    prepared.writes.planned_with(planned_with(table));
    let mut before = Vec::with_capacity(table.keys.len());
    let mut after = Vec::with_capacity(table.keys.len());
    for key in &table.keys {
        before.push(Claims::new(table, &partition, key, old, &ids)?);
        after.push(Claims::new(table, &partition, key, &new, &ids)?);
    }
    let encoder = RowEncoder::new(table.columns(), table.version);
    let encode = encoder.batch(&new)?;
    // A statement that finds its rows flushed at its commit looks at them again; a transaction cannot.
    let cold_through = if scope.writes.is_some() { CommitTime::MAX } else { partition.flushed_through() };
    let encode_old = encoder.batch(old)?;
    for (at, row) in ids.iter().enumerate() {
        let held: Vec<KeyValue> = before.iter().filter_map(|claims| claims.value(at)).collect();
        let keys: Vec<KeyValue> = match deletes {
            true => Vec::new(),
            false => after.iter().filter_map(|claims| claims.value(at)).collect(),
        };
        let change = Change {
            partition: partition.clone(),
            row: *row,
            replaces: Some(seen[at]),
            value: encode.row(at, deletes)?,
            before: if seen[at].updated <= cold_through { Some(encode_old.row(at, false)?) } else { None },
            deletes,
            freed: held.into_iter().filter(|key| !keys.contains(key)).collect(),
            keys,
        };
        prepared.writes.apply(change, &scope.engine.settings().limits)?;
    }
    if !deletes {
        // Only a value that the row did not hold before is claimed.
        for (before, after) in before.iter().zip(after) {
            let fresh: Vec<bool> = (0..ids.len()).map(|at| before.bytes[at] != after.bytes[at]).collect();
            let claims = after.only(|at| fresh[at])?;
            if !claims.rows.is_empty() {
                prepared.claims.push(claims);
            }
        }
    }
    prepared.check_among_themselves()?;
    Ok(Changed { prepared, ids, rows: new })
}
