//! INSERT: rows from VALUES, a query or an import, made complete, checked and encoded.

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, RecordBatch, RecordBatchOptions, new_null_array};
use arrow::datatypes::Schema;
use kalamdb_commons::ids::{ColumnId, RowId};
use kalamdb_commons::schema::{Column, ColumnDefault, Table};
use kalamdb_commons::system_columns::SystemColumns;
use kalamdb_commons::types::SchemaRef;
use kalamdb_commons::{Error, Result};
use kalamdb_sql::ast::{Expr, Parens, Query, SelectItem, SetExpr, Values};
use kalamdb_sql::expr::{as_any_column, fold, is_default};
use kalamdb_sql::{Insert, InsertSource};
use kalamdb_store::rows::RowEncoder;

use super::assign::to_column;
use super::literals::column_of_literals;
use super::prepared::{Claims, Prepared, planned_with};
use crate::commit::Change;
use crate::query::StatementScope;

/// Rows to be inserted: the user's columns of the current schema, complete, converted and checked.
pub(crate) struct NewRows {
    pub(crate) table: Arc<Table>,
    pub(crate) first_id: RowId,
    pub(crate) rows: RecordBatch,
}

impl NewRows {
    /// The ids of the rows.
    pub(crate) fn ids(&self) -> Vec<RowId> {
        (0..self.rows.num_rows()).map(|n| SystemColumns::nth_id(self.first_id, n)).collect()
    }
}

/// The values that a statement gives, by column.
pub(crate) type Given = HashMap<ColumnId, ArrayRef>;

/// The rows of an INSERT.
pub(crate) async fn new_rows(scope: &StatementScope, table: &Arc<Table>, insert: &Insert) -> Result<NewRows> {
    let named: Vec<&Column> = match &insert.columns {
        None => table.columns().iter().collect(),
        Some(names) => named_columns(table, names)?,
    };
    let (count, given) = match &insert.source {
        InsertSource::DefaultValues => (1, HashMap::new()),
        InsertSource::Values(rows) => values(scope, table, &named, insert.columns.is_some(), rows).await?,
        InsertSource::Query(query) => from_query(scope, &named, query).await?,
    };
    complete(scope, table, count, given).await
}

fn named_columns<'a>(table: &'a Table, names: &[String]) -> Result<Vec<&'a Column>> {
    let mut columns: Vec<&Column> = Vec::with_capacity(names.len());
    for name in names {
        let column = known_column(table, name)?;
        if columns.iter().any(|other| other.id == column.id) {
            return Err(Error::invalid_sql(format!("column '{name}' is named twice")));
        }
        columns.push(column);
    }
    Ok(columns)
}

/// A column that a statement may write to.
pub(crate) fn known_column<'a>(table: &'a Table, name: &str) -> Result<&'a Column> {
    SystemColumns::refuse_write(name)?;
    table.column(name).ok_or_else(|| {
        let known: Vec<&str> = table.columns().iter().map(|column| &*column.name).collect();
        Error::execution(format!("column '{name}' of {} does not exist; it has {}", table.name, known.join(", ")))
    })
}

async fn values(
    scope: &StatementScope,
    table: &Arc<Table>,
    named: &[&Column],
    columns_listed: bool,
    rows: &[Vec<Expr>],
) -> Result<(usize, Given)> {
    let width = rows.first().map_or(0, Vec::len);
    if let Some(at) = rows.iter().position(|row| row.len() != width) {
        return Err(Error::invalid_sql(format!(
            "row {} of VALUES has {} values, the first has {width}",
            at + 1,
            rows[at].len()
        )));
    }
    if width > named.len() || (columns_listed && width < named.len()) {
        return Err(Error::invalid_sql(format!("INSERT names {} columns but gives {width} values", named.len())));
    }
    let rows_max = scope.engine.settings().limits.statement_rows_max;
    if rows.len() > rows_max {
        return Err(Error::too_large(format!(
            "{} rows in one INSERT; at most {rows_max} are allowed (limits.statement_rows_max)",
            rows.len()
        )));
    }
    let mut given = Given::new();
    for (at, column) in named.iter().take(width).enumerate() {
        let cells = rows.iter().map(move |row| &row[at]);
        if cells.clone().all(is_default) {
            continue;
        }
        let array = match column_of_literals(cells.clone(), column) {
            Some(array) => array?,
            None => evaluated(scope, table, column, cells).await?,
        };
        given.insert(column.id, array);
    }
    Ok((rows.len(), given))
}

/// The values of one column of VALUES that are not all literals.
async fn evaluated<'a>(
    scope: &StatementScope,
    table: &Arc<Table>,
    column: &Column,
    cells: impl Iterator<Item = &'a Expr>,
) -> Result<ArrayRef> {
    let mut parts = Vec::new();
    for cell in cells {
        let part = if is_default(cell) {
            default_values(scope, column, 1)?
        } else if let Some(literal) = column_of_literals(std::iter::once(cell), column) {
            literal?
        } else {
            computed(scope, table, column, cell).await?
        };
        parts.push(part);
    }
    let refs: Vec<&dyn Array> = parts.iter().map(AsRef::as_ref).collect();
    arrow::compute::concat(&refs).map_err(crate::query::arrow_error)
}

/// One computed value: an expression without columns, or one with subqueries.
async fn computed(scope: &StatementScope, table: &Table, column: &Column, cell: &Expr) -> Result<ArrayRef> {
    let rows = vec![Parens::with_empty_span(vec![cell.clone()])];
    let values = Values { explicit_row: false, value_keyword: false, rows };
    let query = super::victims::body_query(SetExpr::Values(values));
    let planner = scope.engine.planner();
    let plan = planner
        .plan(scope, query)
        .await
        .map_err(|error| error.context(format!("the value of column '{}' of {}", column.name, table.name)))?;
    let batches = planner.collect(&plan).await?;
    let schema = Arc::new(plan.schema().as_arrow().clone());
    let row = crate::query::one_batch(&schema, &batches)?;
    to_column(row.column(0), column)
}

/// The rows of a query, for these columns in order.
pub(crate) async fn from_query(scope: &StatementScope, named: &[&Column], query: &Query) -> Result<(usize, Given)> {
    let planner = scope.engine.planner();
    let plan = planner.plan(scope, query.clone()).await?;
    let kept = without_starred_system_columns(query, plan.schema().as_arrow());
    if kept.len() != named.len() {
        return Err(Error::invalid_sql(format!(
            "INSERT names {} columns but its query gives {}",
            named.len(),
            kept.len()
        )));
    }
    let batches = scope.engine.collect_limited(scope, &plan).await?;
    let schema = Arc::new(plan.schema().as_arrow().clone());
    let rows = crate::query::one_batch(&schema, &batches)?;
    let mut given = Given::new();
    for (column, at) in named.iter().zip(kept) {
        given.insert(column.id, to_column(rows.column(at), column)?);
    }
    Ok((rows.num_rows(), given))
}

/// The outputs of a query that rows are made from: a star leaves system columns out, unless the query also names
/// them itself.
pub(crate) fn without_starred_system_columns(query: &Query, schema: &Schema) -> Vec<usize> {
    let mut body = &*query.body;
    let select = loop {
        match body {
            SetExpr::Select(select) => break Some(select),
            SetExpr::SetOperation { left, .. } => body = left,
            SetExpr::Query(inner) => body = &inner.body,
            _ => break None,
        }
    };
    let items = select.map_or(&[][..], |select| &select.projection);
    let starred = items.iter().any(|item| matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..)));
    let named = |name: &str| {
        items.iter().any(|item| match item {
            SelectItem::UnnamedExpr(expr) => as_any_column(expr).is_some_and(|column| column == name),
            SelectItem::ExprWithAlias { alias, .. } => fold(alias) == name,
            _ => false,
        })
    };
    let kept = |name: &str| !starred || !SystemColumns::is_system(name) || named(name);
    (0..schema.fields().len()).filter(|at| kept(schema.field(*at).name())).collect()
}

/// The values of a column that an INSERT leaves out.
fn default_values(scope: &StatementScope, column: &Column, count: usize) -> Result<ArrayRef> {
    let Some(ColumnDefault::Expression(text)) = &column.default else {
        return Ok(new_null_array(&column.column_type.arrow(), count));
    };
    let planner = scope.engine.planner();
    let mut expr = kalamdb_sql::expr::parse(text)?;
    scope.engine.constants(scope.subject(), &[]).apply(&mut expr)?;
    let schema: SchemaRef = Arc::new(Schema::empty());
    let expression = planner.expression(expr, &schema)?;
    let options = RecordBatchOptions::new().with_row_count(Some(count));
    let rows = RecordBatch::try_new_with_options(schema, vec![], &options).map_err(crate::query::arrow_error)?;
    to_column(&planner.evaluate(&expression, &rows)?, column)
}

/// Fills in defaults, checks constraints and draws ids.
pub(crate) async fn complete(
    scope: &StatementScope,
    table: &Arc<Table>,
    count: usize,
    mut given: Given,
) -> Result<NewRows> {
    // Ids first: the functions that defaults may call draw from the same reserved range.
    let first_id = scope.engine.committer().draw_ids(count.max(1)).await?;
    let mut columns = Vec::with_capacity(table.columns().len());
    for column in table.columns().iter() {
        let values = match given.remove(&column.id) {
            Some(values) => values,
            None => default_values(scope, column, count)?,
        };
        columns.push(values);
    }
    let options = RecordBatchOptions::new().with_row_count(Some(count));
    let rows = RecordBatch::try_new_with_options(nullable_schema(table), columns, &options)
        .map_err(crate::query::arrow_error)?;
    scope.engine.constraints().check(scope.engine.planner(), table, &rows)?;
    Ok(NewRows { table: table.clone(), first_id, rows })
}

/// The user's columns, all nullable: constraints are checked by us, with our words.
pub(crate) fn nullable_schema(table: &Table) -> SchemaRef {
    let fields = table.columns().iter().map(|column| column.column_type.field(&column.name, true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

/// The writes that insert rows under ids. Two of them that claim one key are an error.
pub(crate) fn prepare(
    scope: &StatementScope,
    table: &Arc<Table>,
    ids: &[RowId],
    rows: &RecordBatch,
) -> Result<Prepared> {
    let partition = scope.engine.partitions().get(table, &scope.scope_in(table));
    let mut prepared = Prepared::default();
    prepared.writes.planned_with(planned_with(table));
    for key in &table.keys {
        prepared.claims.push(Claims::new(table, &partition, key, rows, ids)?);
    }
    let encoder = RowEncoder::new(table.columns(), table.version);
    let encode = encoder.batch(rows)?;
    for (at, row) in ids.iter().enumerate() {
        let change = Change {
            partition: partition.clone(),
            row: *row,
            replaces: None,
            value: encode.row(at, false)?,
            before: None,
            deletes: false,
            keys: prepared.claims.iter().filter_map(|claims| claims.value(at)).collect(),
            freed: Vec::new(),
        };
        prepared.writes.apply(change, &scope.engine.settings().limits)?;
    }
    prepared.check_among_themselves()?;
    Ok(prepared)
}
