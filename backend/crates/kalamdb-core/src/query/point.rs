//! The direct path of SELECT: one table, a plain select list, and a WHERE that names a key. No plan is made.

use std::sync::Arc;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::{Field, Schema};
use datafusion::common::{DFSchema, TableReference};
use kalamdb_commons::schema::Table;
use kalamdb_commons::system_columns::DELETED;
use kalamdb_commons::{Error, Result};
use kalamdb_sql::TableName;
use kalamdb_sql::ast::{
    Expr, GroupByExpr, Ident, ObjectName, ObjectNamePart, Query, Select, SelectItem, SetExpr, TableFactor,
};
use kalamdb_sql::expr::{as_column, fold};
use kalamdb_store::rows::Projected;

use super::{StatementScope, arrow_error, plan_error};
use crate::access::Access;
use crate::dml::direct::{self, Wanted};
use crate::dml::returning::Returning;
use crate::tables::{Exposure, exposed_column};

/// The answer of a query that the direct path takes; `None` if it is for the planner.
pub(crate) async fn answer(scope: &StatementScope, query: &Query) -> Result<Option<(Arc<Table>, RecordBatch)>> {
    let Some((select, filter)) = plain_select(query) else { return Ok(None) };
    let Some((name, alias)) = only_table(select) else { return Ok(None) };
    let Ok(table) = scope.table(&name, Access::Read) else { return Ok(None) };
    if kalamdb_sql::expr::as_key_equality(filter).is_none_or(|parts| parts.iter().any(|(name, _)| name == DELETED)) {
        return Ok(None);
    }
    let Some(key) = direct::named_key(&table, filter)? else { return Ok(None) };
    let planner = scope.engine.planner();
    if key.decides() {
        // What is no column is for the planner to refuse.
        let Some(wanted) = outputs(&table, &select.projection) else { return Ok(None) };
        let read = scope.read(&table).await?;
        let rows = direct::rows(scope, &table, &read, &key, &wanted).await?;
        return Ok(Some((table, rows)));
    }
    // The rest of the WHERE may ask for any column.
    let Ok(list) = Returning::plan(planner, &table, alias.as_deref(), &select.projection) else { return Ok(None) };
    let read = scope.read(&table).await?;
    let all = Wanted::exposed(&table, Exposure { seq: true, ..Exposure::default() });
    let found = direct::rows(scope, &table, &read, &key, &all).await?;
    let qualifier = alias.as_deref().unwrap_or(table.name.table.as_str());
    let schema = DFSchema::try_from_qualified_schema(TableReference::bare(qualifier), &found.schema())
        .map_err(|error| plan_error(error, "the query"))?;
    let matches = planner.evaluate(&planner.qualified_expression(filter.clone(), &schema)?, &found)?;
    let matches = matches.as_boolean_opt().ok_or_else(|| Error::execution("the WHERE is not a BOOLEAN"))?;
    let rows = arrow::compute::filter_record_batch(&found, matches).map_err(arrow_error)?;
    let rows = list.project(planner, &rows)?;
    Ok(Some((table, rows)))
}

/// The columns of a plain select list, as they come out; `None` if one is no column.
fn outputs(table: &Table, items: &[SelectItem]) -> Option<Wanted> {
    let mut outputs: Vec<(Projected, Field)> = Vec::with_capacity(items.len());
    let named = |expr: &Expr, alias: Option<&Ident>| {
        let (column, field) = exposed_column(table, &as_column(expr)?)?;
        let name = alias.map_or_else(|| field.name().clone(), fold);
        Some((column, field.with_name(name).with_nullable(true)))
    };
    for item in items {
        match item {
            SelectItem::Wildcard(_) => {
                let starred = Wanted::exposed(table, Exposure::default());
                let fields = starred.schema.fields().iter().map(|field| field.as_ref().clone());
                outputs.extend(starred.columns.into_iter().zip(fields));
            }
            SelectItem::UnnamedExpr(expr) => outputs.push(named(expr, None)?),
            SelectItem::ExprWithAlias { expr, alias } => outputs.push(named(expr, Some(alias))?),
            _ => return None,
        }
    }
    let (columns, fields): (Vec<_>, Vec<_>) = outputs.into_iter().unzip();
    Some(Wanted { columns, schema: Arc::new(Schema::new(fields)) })
}

/// The SELECT and its WHERE, if there is nothing else.
fn plain_select(query: &Query) -> Option<(&Select, &Expr)> {
    let bare = query.with.is_none()
        && query.order_by.is_none()
        && query.limit_clause.is_none()
        && query.fetch.is_none()
        && query.pipe_operators.is_empty();
    let SetExpr::Select(select) = &*query.body else { return None };
    let ungrouped =
        matches!(&select.group_by, GroupByExpr::Expressions(by, modifiers) if by.is_empty() && modifiers.is_empty());
    let plain = ungrouped
        && select.distinct.is_none()
        && select.having.is_none()
        && select.qualify.is_none()
        && select.exclude.is_none()
        && select.lateral_views.is_empty()
        && select.projection.iter().all(is_plain);
    (bare && plain).then_some(())?;
    Some((select, select.selection.as_ref()?))
}

fn is_plain(item: &SelectItem) -> bool {
    match item {
        SelectItem::Wildcard(options) => {
            options.opt_exclude.is_none()
                && options.opt_except.is_none()
                && options.opt_rename.is_none()
                && options.opt_replace.is_none()
                && options.opt_ilike.is_none()
        }
        SelectItem::UnnamedExpr(Expr::Identifier(_)) => true,
        SelectItem::ExprWithAlias { expr: Expr::Identifier(_), .. } => true,
        _ => false,
    }
}

/// The table of a FROM that names one table and nothing else, and its alias.
pub(crate) fn only_table(select: &Select) -> Option<(TableName, Option<String>)> {
    let [from] = select.from.as_slice() else { return None };
    let TableFactor::Table { name, alias, args: None, sample: None, .. } = &from.relation else { return None };
    if !from.joins.is_empty() {
        return None;
    }
    let alias = match alias {
        Some(alias) if alias.columns.is_empty() => Some(fold(&alias.name)),
        Some(_) => return None,
        None => None,
    };
    table_name(name).map(|name| (name, alias))
}

fn table_name(name: &ObjectName) -> Option<TableName> {
    match name.0.as_slice() {
        [ObjectNamePart::Identifier(table)] => Some(TableName { namespace: None, name: fold(table) }),
        [ObjectNamePart::Identifier(namespace), ObjectNamePart::Identifier(table)] => {
            Some(TableName { namespace: Some(fold(namespace)), name: fold(table) })
        }
        _ => None,
    }
}
