//! The rows that an UPDATE or DELETE matches, with the values that SET gives them.
//!
//! A statement whose WHERE names a whole key takes the direct path: one lookup, then the predicate and SET on that
//! row. Everything else is a SELECT that DataFusion plans, subqueries included. DataFusion's own hooks for UPDATE and
//! DELETE are never used: they lose predicates that they cannot express.

use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, RecordBatch, RecordBatchOptions};
use arrow::datatypes::{Int64Type, TimestampNanosecondType};
use datafusion::common::{DFSchema, TableReference};
use kalamdb_commons::ids::{CommitTime, RowId};
use kalamdb_commons::schema::{Column, Table};
use kalamdb_commons::system_columns::{BORN, ID, UPDATED};
use kalamdb_commons::{Error, Result};
use kalamdb_sql::ast::helpers::attached_token::AttachedToken;
use kalamdb_sql::ast::{
    Expr, GroupByExpr, Ident, ObjectName, Query, Select, SelectFlavor, SelectItem, SetExpr, TableAlias, TableFactor,
    TableWithJoins, Visit, Visitor, WildcardAdditionalOptions,
};

use super::direct::{self, Wanted};
use crate::commit::Seen;
use crate::query::prepare::marked;
use crate::query::{StatementScope, arrow_error, one_batch, plan_error};
use crate::tables::Exposure;

/// What is looked for.
pub(crate) struct Search<'a> {
    pub(crate) table: &'a Arc<Table>,
    pub(crate) alias: Option<&'a str>,
    pub(crate) filter: Option<&'a Expr>,
    /// The columns that SET assigns, and their expressions.
    pub(crate) set: &'a [(Column, Expr)],
}

/// The rows that were found.
#[derive(Debug, Clone)]
pub(crate) struct Victims {
    /// `_id`, the user's columns, `_updated`, `_deleted` if the table has it, `_born`.
    pub(crate) rows: RecordBatch,
    /// The values of SET, parallel to the rows, not converted yet.
    pub(crate) set: Vec<ArrayRef>,
}

impl Victims {
    /// The ids of the rows.
    pub(crate) fn ids(&self) -> Result<Vec<RowId>> {
        Ok(self.longs(ID)?.into_iter().map(RowId).collect())
    }

    /// The versions that were seen.
    pub(crate) fn seen(&self) -> Result<Vec<Seen>> {
        let updated = self.column(UPDATED)?.as_primitive::<TimestampNanosecondType>().values().to_vec();
        let versions = updated.into_iter().zip(self.longs(BORN)?);
        Ok(versions.map(|(updated, born)| Seen { updated: CommitTime(updated), born: CommitTime(born) }).collect())
    }

    /// The user's columns.
    pub(crate) fn user_rows(&self, table: &Table) -> Result<RecordBatch> {
        let columns: Vec<ArrayRef> = self.rows.columns()[1..=table.columns().len()].to_vec();
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows.num_rows()));
        RecordBatch::try_new_with_options(super::insert::nullable_schema(table), columns, &options).map_err(arrow_error)
    }

    fn column(&self, name: &str) -> Result<&ArrayRef> {
        self.rows.column_by_name(name).ok_or_else(|| Error::internal(format!("a search without {name}")))
    }

    fn longs(&self, name: &str) -> Result<Vec<i64>> {
        Ok(self.column(name)?.as_primitive::<Int64Type>().values().to_vec())
    }
}

/// Finds the rows.
pub(crate) async fn find(scope: &StatementScope, search: &Search<'_>) -> Result<Victims> {
    if let Some(found) = find_directly(scope, search).await? {
        return Ok(found);
    }
    let planner = scope.engine.planner();
    let plan = planner.plan_marked(scope, selection(search)).await?;
    let batches = scope.engine.collect_limited(scope, &plan).await?;
    let schema = Arc::new(plan.schema().as_arrow().clone());
    let all = one_batch(&schema, &batches)?;
    let width = all.num_columns() - search.set.len();
    let rows = all.project(&(0..width).collect::<Vec<_>>()).map_err(arrow_error)?;
    Ok(Victims { rows, set: all.columns()[width..].to_vec() })
}

/// The direct path: the row that a key names, if the whole WHERE is equalities and they hold a key.
async fn find_directly(scope: &StatementScope, search: &Search<'_>) -> Result<Option<Victims>> {
    let Some(filter) = search.filter else { return Ok(None) };
    if search.set.iter().any(|(_, expr)| has_subquery(expr)) {
        return Ok(None);
    }
    let Some(key) = direct::named_key(search.table, filter)? else { return Ok(None) };
    let read = scope.read(search.table).await?;
    let wanted = Wanted::exposed(search.table, Exposure { born: true, ..Exposure::default() });
    let found = direct::rows(scope, search.table, &read, &key, &wanted).await?;
    let planner = scope.engine.planner();
    let name = search.alias.unwrap_or(search.table.name.table.as_str());
    let qualified = DFSchema::try_from_qualified_schema(TableReference::bare(name), &found.schema())
        .map_err(|error| plan_error(error, "the statement"))?;
    let rows = if key.decides() {
        found
    } else {
        let matches = planner.qualified_expression(filter.clone(), &qualified)?;
        let matches = planner.evaluate(&matches, &found)?;
        let matches = matches.as_boolean_opt().ok_or_else(|| Error::execution("the WHERE is not a BOOLEAN"))?;
        arrow::compute::filter_record_batch(&found, matches).map_err(arrow_error)?
    };
    let value = |expr: &Expr| planner.evaluate(&planner.qualified_expression(expr.clone(), &qualified)?, &rows);
    let set = search.set.iter().map(|(_, expr)| value(expr)).collect::<Result<_>>()?;
    Ok(Some(Victims { rows, set }))
}

fn has_subquery(expr: &Expr) -> bool {
    struct Find;
    impl Visitor for Find {
        type Break = ();
        fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
            ControlFlow::Break(())
        }
    }
    expr.visit(&mut Find).is_break()
}

/// `SELECT *, <set> FROM table WHERE filter`, on the form of the table that shows `_born`.
fn selection(search: &Search<'_>) -> Query {
    let exposure = Exposure { born: true, ..Exposure::default() };
    let name = &search.table.name;
    let quoted = |text: &str| Ident::with_quote('"', text);
    let alias = search.alias.unwrap_or(name.table.as_str());
    let relation = TableFactor::Table {
        name: ObjectName::from(vec![quoted(name.namespace.as_str()), quoted(&marked(name.table.as_str(), exposure))]),
        alias: Some(TableAlias { explicit: true, name: quoted(alias), columns: Vec::new(), at: None }),
        args: None,
        with_hints: Vec::new(),
        version: None,
        with_ordinality: false,
        partitions: Vec::new(),
        json_path: None,
        sample: None,
        index_hints: Vec::new(),
    };
    let mut projection = vec![SelectItem::Wildcard(WildcardAdditionalOptions::default())];
    for (at, (_, expr)) in search.set.iter().enumerate() {
        projection.push(SelectItem::ExprWithAlias { expr: expr.clone(), alias: quoted(&format!("\u{1f}set{at}")) });
    }
    let select = Select {
        select_token: AttachedToken::empty(),
        optimizer_hints: Vec::new(),
        distinct: None,
        select_modifiers: None,
        top: None,
        top_before_distinct: false,
        projection,
        exclude: None,
        into: None,
        from: vec![TableWithJoins { relation, joins: Vec::new() }],
        lateral_views: Vec::new(),
        prewhere: None,
        selection: search.filter.cloned(),
        connect_by: Vec::new(),
        group_by: GroupByExpr::Expressions(Vec::new(), Vec::new()),
        cluster_by: Vec::new(),
        distribute_by: Vec::new(),
        sort_by: Vec::new(),
        having: None,
        named_window: Vec::new(),
        qualify: None,
        window_before_qualify: false,
        value_table_mode: None,
        flavor: SelectFlavor::Standard,
    };
    body_query(SetExpr::Select(Box::new(select)))
}

/// A query of a body and nothing else.
pub(crate) fn body_query(body: SetExpr) -> Query {
    Query {
        with: None,
        body: Box::new(body),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: Vec::new(),
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: Vec::new(),
    }
}
