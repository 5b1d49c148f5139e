//! A table's rows of every user, with a column that says whose each row is: `ALL USERS OF ns.t`.

use std::sync::Arc;

use arrow::datatypes::{DataType, Field, Schema};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::ScalarValue;
use datafusion::datasource::TableType;
use datafusion::error::Result as DataFusionResult;
use datafusion::logical_expr::{BinaryExpr, Expr, Operator, TableProviderFilterPushDown};
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr::expressions::{Column as ColumnExpr, Literal};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::union::UnionExec;
use kalamdb_commons::ids::UserId;
use kalamdb_commons::system_columns::USER;
use kalamdb_commons::types::SchemaRef;

use super::provider::PartitionTable;

/// The partitions of a table, read at one moment.
#[derive(Debug)]
pub(crate) struct AllUsersTable {
    partitions: Vec<(UserId, PartitionTable)>,
    schema: SchemaRef,
}

impl AllUsersTable {
    /// `rows` is the schema of each partition.
    pub(crate) fn new(rows: &SchemaRef, partitions: Vec<(UserId, PartitionTable)>) -> Self {
        let mut fields = vec![Arc::new(Field::new(USER, DataType::Utf8, false))];
        fields.extend(rows.fields().iter().cloned());
        Self { partitions, schema: Arc::new(Schema::new(fields)) }
    }

    /// The rows of one user, as the projected columns of this table.
    async fn plan_of(
        &self,
        (user, partition): &(UserId, PartitionTable),
        state: &dyn Session,
        projection: &[usize],
        filters: &[Expr],
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let theirs: Vec<usize> = projection.iter().filter_map(|at| at.checked_sub(1)).collect();
        let rows = partition.scan(state, Some(&theirs), filters, None).await?;
        if theirs.len() == projection.len() {
            return Ok(rows);
        }
        let mut next = 0;
        let mut outputs: Vec<(Arc<dyn PhysicalExpr>, String)> = Vec::with_capacity(projection.len());
        for at in projection {
            let name = self.schema.field(*at).name();
            let output: Arc<dyn PhysicalExpr> = match at {
                0 => Arc::new(Literal::new(ScalarValue::from(user.as_str()))),
                _ => {
                    next += 1;
                    Arc::new(ColumnExpr::new(name, next - 1))
                }
            };
            outputs.push((output, name.clone()));
        }
        let schema = self.schema.project(projection)?;
        Ok(Arc::new(ProjectionExec::try_new_with_schema_metadata(outputs, rows, &schema)?))
    }
}

/// The user that a filter asks for, if it is `_user = '...'`.
fn wanted_user(filter: &Expr) -> Option<&str> {
    let Expr::BinaryExpr(BinaryExpr { left, op: Operator::Eq, right }) = filter else { return None };
    match (&**left, &**right) {
        (Expr::Column(column), Expr::Literal(value, _)) | (Expr::Literal(value, _), Expr::Column(column)) => {
            value.try_as_str().flatten().filter(|_| column.name == USER)
        }
        _ => None,
    }
}

fn names_user(filter: &Expr) -> bool {
    filter.column_refs().iter().any(|column| column.name == USER)
}

#[async_trait]
impl TableProvider for AllUsersTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        let support = |filter: &&Expr| match names_user(filter) && wanted_user(filter).is_none() {
            true => TableProviderFilterPushDown::Unsupported,
            false => TableProviderFilterPushDown::Inexact,
        };
        Ok(filters.iter().map(support).collect())
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let all: Vec<usize> = (0..self.schema.fields().len()).collect();
        let projection = projection.unwrap_or(&all);
        let wanted: Vec<&str> = filters.iter().filter_map(wanted_user).collect();
        let of_rows: Vec<Expr> = filters.iter().filter(|filter| !names_user(filter)).cloned().collect();
        let mut plans = Vec::new();
        for partition in &self.partitions {
            if wanted.iter().all(|user| *user == partition.0.as_str()) {
                plans.push(self.plan_of(partition, state, projection, &of_rows).await?);
            }
        }
        match plans.is_empty() {
            true => Ok(Arc::new(EmptyExec::new(Arc::new(self.schema.project(projection)?)))),
            false => UnionExec::try_new(plans),
        }
    }
}
