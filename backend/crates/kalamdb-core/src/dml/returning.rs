//! RETURNING, and the select list of the direct path: expressions over rows of one table that are in memory.

use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, RecordBatchOptions, TimestampNanosecondArray};
use arrow::datatypes::{Field, Schema};
use datafusion::common::{DFSchema, TableReference};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::Column as ColumnExpr;
use kalamdb_commons::ids::{CommitTime, RowId};
use kalamdb_commons::schema::Table;
use kalamdb_commons::types::SchemaRef;
use kalamdb_commons::{Error, Result};
use kalamdb_sql::ast::{Expr, ObjectName, SelectItem, SelectItemQualifiedWildcardKind};
use kalamdb_sql::expr::{as_column, fold, output_name};
use kalamdb_store::rows::Projected;

use crate::query::{Planner, arrow_error, plan_error};
use crate::tables::{Exposure, exposed};

type Outputs = Vec<(Field, Arc<dyn PhysicalExpr>)>;

/// The outputs of a RETURNING clause, planned.
pub(crate) struct Returning {
    table: Arc<Table>,
    fields: Vec<Projected>,
    input: SchemaRef,
    outputs: Outputs,
}

impl Returning {
    /// Plans a clause over the columns of a table, `_seq` among them.
    pub(crate) fn plan(
        planner: &Planner,
        table: &Arc<Table>,
        alias: Option<&str>,
        items: &[SelectItem],
    ) -> Result<Self> {
        let (fields, input) = exposed(table, Exposure { seq: true, ..Exposure::default() });
        let name = alias.unwrap_or(table.name.table.as_str());
        let schema = DFSchema::try_from_qualified_schema(TableReference::bare(name), &input)
            .map_err(|error| plan_error(error, "what is selected"))?;
        let mut outputs = Vec::new();
        for item in items {
            match item {
                SelectItem::Wildcard(_) => starred(&input, &fields, &mut outputs),
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(of), _)
                    if is_name_of(of, table, alias) =>
                {
                    starred(&input, &fields, &mut outputs);
                }
                SelectItem::UnnamedExpr(expr) => {
                    outputs.push(planned(planner, expr, &schema, &input, output_name(expr))?);
                }
                SelectItem::ExprWithAlias { expr, alias } => {
                    outputs.push(planned(planner, expr, &schema, &input, fold(alias))?);
                }
                other => return Err(Error::invalid_sql(format!("'{other}' names no columns of the table"))),
            }
        }
        Ok(Self { table: table.clone(), fields, input, outputs })
    }

    /// The columns of the answer.
    pub(crate) fn schema(&self) -> SchemaRef {
        Arc::new(Schema::new(self.outputs.iter().map(|(field, _)| field.clone()).collect::<Vec<_>>()))
    }

    /// The answer for rows whose commit times begin with `first`.
    pub(crate) fn rows(
        &self,
        planner: &Planner,
        user_rows: &RecordBatch,
        ids: &[RowId],
        first: CommitTime,
        deleted: bool,
    ) -> Result<RecordBatch> {
        let times: Vec<i64> = (0..ids.len() as i64).map(|n| first.0 + n).collect();
        let columns = self.fields.iter().map(|field| -> Result<ArrayRef> {
            Ok(match field {
                Projected::Id => Arc::new(Int64Array::from_iter_values(ids.iter().map(|id| id.0))),
                Projected::Updated => Arc::new(TimestampNanosecondArray::from(times.clone())),
                Projected::Seq | Projected::Born => Arc::new(Int64Array::from(times.clone())),
                Projected::Deleted => Arc::new(BooleanArray::from(vec![deleted; ids.len()])),
                Projected::Column(id) => {
                    let at = self.table.columns().iter().position(|column| column.id == *id);
                    let at = at.ok_or_else(|| Error::internal("a column that is gone"))?;
                    user_rows.column(at).clone()
                }
            })
        });
        let input = RecordBatch::try_new(self.input.clone(), columns.collect::<Result<_>>()?).map_err(arrow_error)?;
        self.project(planner, &input)
    }

    /// The answer for rows in the form of the exposed table with `_seq`.
    pub(crate) fn project(&self, planner: &Planner, input: &RecordBatch) -> Result<RecordBatch> {
        let values = self.outputs.iter().map(|(_, expr)| planner.evaluate(expr, input)).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(input.num_rows()));
        RecordBatch::try_new_with_options(self.schema(), values, &options).map_err(arrow_error)
    }
}

/// Whether a name means the table: its alias, or else its name, qualified or not.
fn is_name_of(name: &ObjectName, table: &Table, alias: Option<&str>) -> bool {
    let parts: Option<Vec<String>> = name.0.iter().map(|part| part.as_ident().map(fold)).collect();
    let parts = parts.unwrap_or_default();
    match (parts.as_slice(), alias) {
        ([only], Some(alias)) => only == alias,
        ([only], None) => *only == *table.name.table.as_str(),
        ([namespace, last], None) => {
            *namespace == *table.name.namespace.as_str() && *last == *table.name.table.as_str()
        }
        _ => false,
    }
}

fn starred(input: &Schema, fields: &[Projected], outputs: &mut Outputs) {
    for (at, field) in input.fields().iter().enumerate() {
        if fields[at] != Projected::Seq {
            outputs.push((field.as_ref().clone(), Arc::new(ColumnExpr::new(field.name(), at))));
        }
    }
}

fn planned(
    planner: &Planner,
    expr: &Expr,
    schema: &DFSchema,
    input: &Schema,
    name: String,
) -> Result<(Field, Arc<dyn PhysicalExpr>)> {
    let physical: Arc<dyn PhysicalExpr> = match as_column(expr).and_then(|column| input.index_of(&column).ok()) {
        Some(at) => Arc::new(ColumnExpr::new(input.field(at).name(), at)),
        None => planner.qualified_expression(expr.clone(), schema)?,
    };
    let field = physical.return_field(input).map_err(|error| plan_error(error, "what is selected"))?;
    Ok((field.as_ref().clone().with_name(name).with_nullable(true), physical))
}
