//! Queries: from a syntax tree to a stream of Arrow batches, at one read point.
//!
//! One [`Planner`] with one shared DataFusion session state serves all statements. A statement's tables are resolved
//! against the catalog of its read point, each with the partition of the statement's subject: names that are
//! absent and names that the actor may not see give the same answer.

pub(crate) mod point;
pub(crate) mod prepare;
pub(crate) mod scope;
pub(crate) mod source;
pub(crate) mod stream;

use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{ArrayRef, RecordBatch, RecordBatchOptions};
use dashmap::DashMap;
use datafusion::common::{DFSchema, ScalarValue};
use datafusion::execution::memory_pool::FairSpillPool;
use datafusion::execution::runtime_env::RuntimeEnvBuilder;
use datafusion::execution::{SessionState, SessionStateBuilder, TaskContext};
use datafusion::logical_expr::simplify::SimplifyContext;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder};
use datafusion::optimizer::simplify_expressions::ExprSimplifier;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_plan::ExecutionPlan;
use datafusion::prelude::SessionConfig;
use datafusion::sql::planner::{ParserOptions, PlannerContext, SqlToRel};
use kalamdb_commons::ids::{ColumnId, Incarnation, SchemaVersion};
use kalamdb_commons::schema::Table;
use kalamdb_commons::settings::Settings;
use kalamdb_commons::system_columns::SystemColumns;
use kalamdb_commons::types::SchemaRef;
use kalamdb_commons::unique::TimeOrdered;
use kalamdb_commons::{Error, Result};
use kalamdb_sql::ast::{Expr, Query, Statement};

pub(crate) use scope::StatementScope;
use source::Sources;

use crate::tables::Missing;
use crate::threads;

/// Plans and runs queries.
#[derive(Debug)]
pub(crate) struct Planner {
    state: SessionState,
    task: Arc<TaskContext>,
    missing: DashMap<(Incarnation, SchemaVersion), Missing>,
}

impl Planner {
    /// The shared session: all of DataFusion's functions and ours, memory bounded by `limits.query_memory_mib`.
    pub(crate) fn new(settings: &Settings, rows: Arc<SystemColumns>, ids: Arc<TimeOrdered>) -> Result<Self> {
        let mut config = SessionConfig::new().with_information_schema(false);
        config.options_mut().sql_parser.map_string_types_to_utf8view = false;
        config.options_mut().execution.parquet.schema_force_view_types = false;
        config.options_mut().execution.collect_statistics = true;
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(FairSpillPool::new(settings.limits.query_memory_mib << 20)))
            .build_arc()
            .map_err(|error| plan_error(error, "the query runtime"))?;
        let builder = SessionStateBuilder::new().with_config(config).with_runtime_env(runtime).with_default_features();
        let state = crate::functions::register(builder, rows, ids).build();
        let task = state.task_ctx();
        Ok(Self { state, task, missing: DashMap::new() })
    }

    /// Plans a query whose constants have been filled in.
    pub(crate) async fn plan(&self, scope: &StatementScope, mut query: Query) -> Result<LogicalPlan> {
        prepare::mark_exposed(&mut query);
        self.plan_marked(scope, query).await
    }

    /// Plans a query whose relations are marked already.
    pub(crate) async fn plan_marked(&self, scope: &StatementScope, query: Query) -> Result<LogicalPlan> {
        let plan = self.logical(scope, query).await?;
        self.state.optimize(&plan).map_err(|error| plan_error(error, "planning"))
    }

    /// The plan of EXPLAIN of a query whose constants have been filled in: run, it says how the query is carried out.
    pub(crate) async fn explanation(
        &self,
        scope: &StatementScope,
        mut query: Query,
        verbose: bool,
        analyze: bool,
    ) -> Result<LogicalPlan> {
        prepare::mark_exposed(&mut query);
        let plan = self.logical(scope, query).await?;
        let explained = LogicalPlanBuilder::from(plan).explain(verbose, analyze).and_then(LogicalPlanBuilder::build);
        // Optimised as a whole: the plan of an EXPLAIN that was not optimised has no physical part.
        explained.and_then(|plan| self.state.optimize(&plan)).map_err(|error| plan_error(error, "EXPLAIN"))
    }

    async fn logical(&self, scope: &StatementScope, query: Query) -> Result<LogicalPlan> {
        threads::leave().await;
        let sources = Sources::resolve(self, scope, &query).await?;
        let planner = SqlToRel::new_with_options(&sources, self.parser_options());
        planner.sql_statement_to_plan(Statement::Query(Box::new(query))).map_err(|error| plan_error(error, "planning"))
    }

    fn parser_options(&self) -> ParserOptions {
        ParserOptions::from(&self.state.config_options().sql_parser)
    }

    /// The physical plan of an optimised plan.
    pub(crate) async fn physical(&self, plan: &LogicalPlan) -> Result<Arc<dyn ExecutionPlan>> {
        self.state
            .query_planner()
            .create_physical_plan(plan, &self.state)
            .await
            .map_err(|error| plan_error(error, "planning"))
    }

    /// Runs a plan to its end and keeps all rows: for what a statement needs whole, within its limits.
    pub(crate) async fn collect(&self, plan: &LogicalPlan) -> Result<Vec<RecordBatch>> {
        let physical = self.physical(plan).await?;
        datafusion::physical_plan::collect(physical, self.task.clone())
            .await
            .map_err(|error| plan_error(error, "running the query"))
    }

    /// The context in which plans run.
    pub(crate) fn task(&self) -> &Arc<TaskContext> {
        &self.task
    }

    pub(crate) fn state(&self) -> &SessionState {
        &self.state
    }

    /// Plans an expression over the columns of a schema. It may name no tables.
    pub(crate) fn expression(&self, expr: Expr, schema: &SchemaRef) -> Result<Arc<dyn PhysicalExpr>> {
        let schema = DFSchema::try_from(schema.clone()).map_err(|error| plan_error(error, "a schema"))?;
        self.qualified_expression(expr, &schema)
    }

    /// The same where columns may be qualified.
    pub(crate) fn qualified_expression(&self, expr: Expr, schema: &DFSchema) -> Result<Arc<dyn PhysicalExpr>> {
        let sources = Sources::none(self);
        let planner = SqlToRel::new_with_options(&sources, self.parser_options());
        let logical = planner
            .sql_to_expr(expr, schema, &mut PlannerContext::new())
            .map_err(|error| plan_error(error, "an expression"))?;
        // Some functions exist only until they are simplified: coalesce becomes CASE.
        let context = SimplifyContext::builder()
            .with_schema(Arc::new(schema.clone()))
            .with_config_options(self.state.config_options().clone())
            .build();
        let simplifier = ExprSimplifier::new(context);
        let simple = simplifier.coerce(logical, schema).and_then(|coerced| simplifier.simplify(coerced));
        simple
            .and_then(|simple| self.state.create_physical_expr(simple, schema))
            .map_err(|error| plan_error(error, "an expression"))
    }

    /// Evaluates an expression for each row of a batch.
    pub(crate) fn evaluate(&self, expr: &Arc<dyn PhysicalExpr>, batch: &RecordBatch) -> Result<ArrayRef> {
        let value = expr.evaluate(batch).map_err(|error| plan_error(error, "evaluating an expression"))?;
        value.into_array(batch.num_rows()).map_err(|error| plan_error(error, "evaluating an expression"))
    }

    /// The value of a constant expression.
    pub(crate) fn constant(&self, expr: Expr) -> Result<ScalarValue> {
        let schema: SchemaRef = Arc::new(arrow::datatypes::Schema::empty());
        let physical = self.expression(expr, &schema)?;
        let options = RecordBatchOptions::new().with_row_count(Some(1));
        let row = RecordBatch::try_new_with_options(schema, vec![], &options).map_err(arrow_error)?;
        let array = self.evaluate(&physical, &row)?;
        ScalarValue::try_from_array(&array, 0).map_err(|error| plan_error(error, "a constant"))
    }

    /// What the columns of a table read as in rows that are older than the column.
    pub(crate) fn missing(&self, table: &Table) -> Result<Missing> {
        self.missing_at(table, table.version)
    }

    /// The same for the columns of one of the table's schema versions.
    pub(crate) fn missing_at(&self, table: &Table, version: SchemaVersion) -> Result<Missing> {
        let key = (table.incarnation, version);
        if let Some(known) = self.missing.get(&key) {
            return Ok(known.clone());
        }
        let mut values: HashMap<ColumnId, ArrayRef> = HashMap::new();
        let columns = table
            .columns_at(version)
            .ok_or_else(|| Error::internal(format!("{} has no schema version {version}", table.name)))?;
        for column in columns.iter() {
            let Some(text) = &column.missing else { continue };
            let value = self.constant(kalamdb_sql::expr::parse(text)?)?;
            let array = value.to_array().map_err(|error| plan_error(error, "a default"))?;
            values.insert(column.id, crate::dml::assign::to_column(&array, column)?);
        }
        let values = Arc::new(values);
        self.missing.insert(key, values.clone());
        Ok(values)
    }
}

/// Rows in one batch.
pub(crate) fn one_batch(schema: &SchemaRef, batches: &[RecordBatch]) -> Result<RecordBatch> {
    match batches {
        [only] => Ok(only.clone()),
        _ => arrow::compute::concat_batches(schema, batches).map_err(arrow_error),
    }
}

/// Arrow's errors are about the data.
pub(crate) fn arrow_error(error: arrow::error::ArrowError) -> Error {
    Error::execution(error.to_string())
}

/// DataFusion's errors: what the statement asked for is the caller's, resources are a limit, the rest is ours.
pub(crate) fn plan_error(error: datafusion::error::DataFusionError, doing: &str) -> Error {
    use datafusion::error::DataFusionError as Df;
    match error {
        Df::External(source) => match source.downcast::<Error>() {
            Ok(ours) => *ours,
            Err(source) => Error::internal(format!("{doing}: {source}")),
        },
        Df::ParquetError(source) => match *source {
            parquet::errors::ParquetError::External(source) => match source.downcast::<Error>() {
                Ok(ours) => *ours,
                Err(source) => Error::corrupt(format!("{doing}: {source}")),
            },
            source => Error::corrupt(format!("{doing}: {source}")),
        },
        Df::Context(_, inner) | Df::Diagnostic(_, inner) => plan_error(*inner, doing),
        Df::Shared(shared) => match Arc::try_unwrap(shared) {
            Ok(inner) => plan_error(inner, doing),
            Err(shared) => match shared.find_root() {
                Df::External(source) if source.is::<Error>() => {
                    let ours = source.downcast_ref::<Error>().map(|ours| (ours.kind(), ours.message().to_owned()));
                    ours.map_or_else(|| Error::internal(doing.to_owned()), |(kind, text)| Error::new(kind, text))
                }
                other => Error::execution(other.strip_backtrace()),
            },
        },
        Df::SQL(source, _) => Error::invalid_sql(source.to_string()),
        Df::Plan(text) => Error::execution(text),
        Df::SchemaError(source, _) => Error::execution(source.to_string()),
        Df::NotImplemented(text) => Error::invalid_sql(format!("not supported: {text}")),
        Df::ResourcesExhausted(text) => {
            Error::overloaded(format!("the query needs more memory than it may use: {text}"))
        }
        Df::Internal(text) => Error::internal(format!("{doing}: {text}")),
        Df::IoError(source) => Error::io(format!("{doing}: {source}")),
        Df::ArrowError(source, _) => Error::execution(source.to_string()),
        other => Error::execution(other.strip_backtrace()),
    }
}
