//! The relations of a query, resolved: what DataFusion's SQL planner asks for by name.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use arrow::datatypes::DataType;
use datafusion::catalog::TableFunctionArgs;
use datafusion::common::{DataFusionError, TableReference};
use datafusion::config::ConfigOptions;
use datafusion::datasource::cte_worktable::CteWorkTable;
use datafusion::datasource::{MemTable, ViewTable, provider_as_source};
use datafusion::logical_expr::planner::{ContextProvider, ExprPlanner, RelationPlanner, TypePlanner};
use datafusion::logical_expr::{
    AggregateUDF, HigherOrderUDF, LogicalPlan, LogicalPlanBuilder, ScalarUDF, TableSource, WindowUDF,
};
use datafusion::sql::planner::SqlToRel;
use kalamdb_auth::policy::{self, Right};
use kalamdb_commons::ids::TableRef;
use kalamdb_commons::types::SchemaRef;
use kalamdb_commons::{Error, ErrorKind, Result};
use kalamdb_sql::ast::{ObjectName, ObjectNamePart, Query, Statement, Visit, Visitor};
use kalamdb_sql::expr::fold;
use kalamdb_sql::{ALL_USERS_MARK, TableName};

use super::prepare::unmarked;
use super::scope::StatementScope;
use super::{Planner, plan_error};
use crate::access::{Access, sees_view};
use crate::catalog::View;
use crate::catalog::ddl::{RESERVED_NAMESPACES, query_of};
use crate::system::{self, AUDIT_LOG, SYSTEM};
use crate::tables::{AllUsersTable, Exposure, PartitionTable, audit_log, exposed};

/// How deep views may rest on views.
const VIEW_DEPTH_MAX: usize = 16;

/// A relation's name as it is written: with a namespace or without, folded.
type RelationName = (Option<String>, String);

/// The relations of one query.
pub(crate) struct Sources<'a> {
    planner: &'a Planner,
    tables: HashMap<RelationName, Arc<dyn TableSource>>,
    /// The answer for a relation that is not there.
    absent: HashMap<RelationName, Error>,
}

impl<'a> Sources<'a> {
    /// No relations: for expressions.
    pub(crate) fn none(planner: &'a Planner) -> Self {
        Self { planner, tables: HashMap::new(), absent: HashMap::new() }
    }

    /// Resolves every relation that a query names. Names of common table expressions resolve to nothing here,
    /// and are never asked for.
    pub(crate) async fn resolve(planner: &'a Planner, scope: &StatementScope, query: &Query) -> Result<Self> {
        Self::resolve_at(planner, scope, query, 0).await
    }

    async fn resolve_at(planner: &'a Planner, scope: &StatementScope, query: &Query, depth: usize) -> Result<Self> {
        let mut sources = Self::none(planner);
        for key in relations(query)? {
            if sources.tables.contains_key(&key) {
                continue;
            }
            match resolve_one(planner, scope, &key, depth).await {
                Ok(source) => drop(sources.tables.insert(key, source)),
                Err(error) if error.kind() == ErrorKind::NotFound => drop(sources.absent.insert(key, error)),
                Err(error) => return Err(error),
            }
        }
        Ok(sources)
    }
}

fn relations(query: &Query) -> Result<Vec<RelationName>> {
    struct Names(Vec<RelationName>);
    impl Visitor for Names {
        type Break = Error;

        fn pre_visit_relation(&mut self, name: &ObjectName) -> ControlFlow<Error> {
            let part = |part: &ObjectNamePart| match part {
                ObjectNamePart::Identifier(ident) => Some(fold(ident)),
                ObjectNamePart::Function(_) => None,
            };
            let parts: Option<Vec<String>> = name.0.iter().map(part).collect();
            match parts.as_deref() {
                Some([table]) => self.0.push((None, table.clone())),
                Some([namespace, table]) => self.0.push((Some(namespace.clone()), table.clone())),
                _ => {
                    return ControlFlow::Break(Error::invalid_sql(format!(
                        "'{name}' is not a table name; write table or namespace.table"
                    )));
                }
            }
            ControlFlow::Continue(())
        }
    }
    let mut names = Names(Vec::new());
    match query.visit(&mut names) {
        ControlFlow::Continue(()) => Ok(names.0),
        ControlFlow::Break(error) => Err(error),
    }
}

async fn resolve_one(
    planner: &Planner,
    scope: &StatementScope,
    (namespace, name): &RelationName,
    depth: usize,
) -> Result<Arc<dyn TableSource>> {
    let (name, exposure) = unmarked(name);
    let namespace = namespace.as_deref().unwrap_or(scope.namespace.as_str());
    if let Some(name) = name.strip_suffix(ALL_USERS_MARK) {
        let wanted = TableName { namespace: Some(namespace.to_owned()), name: name.to_owned() };
        return all_users(planner, scope, &wanted, exposure).await;
    }
    if namespace == SYSTEM && name == AUDIT_LOG {
        return audit(scope).await;
    }
    if RESERVED_NAMESPACES.contains(&namespace) {
        let batch = scope.engine.system_rows(scope, namespace, name).await?;
        let table =
            MemTable::try_new(batch.schema(), vec![vec![batch]]).map_err(|e| plan_error(e, "a system table"))?;
        return Ok(provider_as_source(Arc::new(table)));
    }
    let resolved = TableRef::new(namespace, name).map_err(|_| scope.not_found(&format!("{namespace}.{name}")))?;
    if let Some(view) = scope.catalog().view(&resolved) {
        if !sees_view(scope.catalog(), scope.subject().role, view) {
            return Err(scope.not_found(&resolved.to_string()));
        }
        if depth >= VIEW_DEPTH_MAX {
            return Err(Error::execution(format!("views rest on each other more than {VIEW_DEPTH_MAX} deep")));
        }
        return Box::pin(resolve_view(planner, scope, view, depth)).await;
    }
    let wanted = TableName { namespace: Some(namespace.to_owned()), name: name.to_owned() };
    let table = scope.table(&wanted, Access::Read)?;
    let read = scope.read(&table).await?;
    let missing = planner.missing(&table)?;
    let provider = PartitionTable::new(table, read, missing, exposure, scope.stats.clone());
    Ok(provider_as_source(Arc::new(provider)))
}

/// The audit log as it is now, refusals that are only counted so far included.
async fn audit(scope: &StatementScope) -> Result<Arc<dyn TableSource>> {
    let name = TableRef::new(SYSTEM, AUDIT_LOG)?;
    let table = system::table(&name).filter(|table| table.readable_by(scope.subject().role));
    let table = table.ok_or_else(|| scope.not_found(&name.to_string()))?;
    scope.engine.write_counted_refusals().await?;
    audit_log(scope.engine.committer().readers().newest().snapshot.clone(), table.schema())
}

/// The rows of every user, for whoever may read across users.
async fn all_users(
    planner: &Planner,
    scope: &StatementScope,
    name: &TableName,
    exposure: Exposure,
) -> Result<Arc<dyn TableSource>> {
    policy::require(scope.subject().role, Right::AllUsers)?;
    let table = scope.table(name, Access::Read)?;
    let missing = planner.missing(&table)?;
    let mut partitions = Vec::new();
    for partition in scope.engine.partitions().of(table.incarnation) {
        let Some(user) = partition.id().scope.user().cloned() else {
            return Err(Error::invalid_input("ALL USERS OF is for USER and STREAM tables"));
        };
        let read = scope.read_in(&partition).await?;
        partitions
            .push((user, PartitionTable::new(table.clone(), read, missing.clone(), exposure, scope.stats.clone())));
    }
    partitions.sort_by(|(a, _), (b, _)| a.cmp(b));
    let (_, rows) = exposed(&table, exposure);
    Ok(provider_as_source(Arc::new(AllUsersTable::new(&rows, partitions))))
}

async fn resolve_view(
    planner: &Planner,
    scope: &StatementScope,
    view: &View,
    depth: usize,
) -> Result<Arc<dyn TableSource>> {
    let mut query = query_of(view)?;
    scope.engine.constants(scope.subject(), &[]).apply(&mut *query)?;
    super::prepare::mark_exposed(&mut query);
    let within = StatementScope { namespace: view.resolve_in.clone(), ..scope.clone() };
    let sources = Sources::resolve_at(planner, &within, &query, depth + 1).await?;
    let sql = SqlToRel::new_with_options(&sources, planner.parser_options());
    let plan = sql.sql_statement_to_plan(Statement::Query(query)).map_err(|error| plan_error(error, "a view"))?;
    Ok(provider_as_source(Arc::new(ViewTable::new(named_as(plan, view)?, None))))
}

/// The view's query with the columns named as the view names them.
fn named_as(plan: LogicalPlan, view: &View) -> Result<LogicalPlan> {
    let outputs: Vec<_> = plan
        .schema()
        .columns()
        .into_iter()
        .zip(&view.columns)
        .map(|(column, named)| datafusion::logical_expr::col(column).alias(&*named.name))
        .collect();
    if outputs.len() != plan.schema().fields().len() || outputs.len() != view.columns.len() {
        return Err(Error::execution(format!("view {} no longer gives the columns it was made with", view.name)));
    }
    LogicalPlanBuilder::from(plan)
        .project(outputs)
        .and_then(LogicalPlanBuilder::build)
        .map_err(|error| plan_error(error, "a view"))
}

impl ContextProvider for Sources<'_> {
    fn get_table_source(&self, name: TableReference) -> datafusion::common::Result<Arc<dyn TableSource>> {
        let key = (name.schema().map(str::to_owned), name.table().to_owned());
        if let Some(source) = self.tables.get(&key) {
            return Ok(source.clone());
        }
        let error = match self.absent.get(&key) {
            Some(error) => Error::new(error.kind(), error.message().to_owned()),
            None => Error::not_found("Requested table is not available"),
        };
        Err(DataFusionError::External(Box::new(error)))
    }

    fn get_table_function_source(
        &self,
        name: &str,
        args: Vec<datafusion::logical_expr::Expr>,
    ) -> datafusion::common::Result<Arc<dyn TableSource>> {
        let function = self.planner.state.table_functions().get(name).cloned();
        let function =
            function.ok_or_else(|| DataFusionError::Plan(format!("table function '{name}' does not exist")))?;
        let provider = function.create_table_provider_with_args(TableFunctionArgs::new(&args, &self.planner.state))?;
        Ok(provider_as_source(provider))
    }

    fn create_cte_work_table(&self, name: &str, schema: SchemaRef) -> datafusion::common::Result<Arc<dyn TableSource>> {
        Ok(provider_as_source(Arc::new(CteWorkTable::new(name, schema))))
    }

    fn get_expr_planners(&self) -> &[Arc<dyn ExprPlanner>] {
        self.planner.state.expr_planners()
    }

    fn get_relation_planners(&self) -> &[Arc<dyn RelationPlanner>] {
        self.planner.state.relation_planners()
    }

    fn get_type_planner(&self) -> Option<Arc<dyn TypePlanner>> {
        Some(Arc::new(crate::functions::types::CastTypes))
    }

    fn get_function_meta(&self, name: &str) -> Option<Arc<ScalarUDF>> {
        self.planner.state.scalar_functions().get(name).cloned()
    }

    fn get_higher_order_meta(&self, name: &str) -> Option<Arc<HigherOrderUDF>> {
        self.planner.state.higher_order_functions().get(name).cloned()
    }

    fn get_aggregate_meta(&self, name: &str) -> Option<Arc<AggregateUDF>> {
        self.planner.state.aggregate_functions().get(name).cloned()
    }

    fn get_window_meta(&self, name: &str) -> Option<Arc<WindowUDF>> {
        self.planner.state.window_functions().get(name).cloned()
    }

    fn get_variable_type(&self, _names: &[String]) -> Option<DataType> {
        None
    }

    fn options(&self) -> &ConfigOptions {
        self.planner.state.config_options()
    }

    fn udf_names(&self) -> Vec<String> {
        self.planner.state.scalar_functions().keys().cloned().collect()
    }

    fn higher_order_function_names(&self) -> Vec<String> {
        self.planner.state.higher_order_functions().keys().cloned().collect()
    }

    fn udaf_names(&self) -> Vec<String> {
        self.planner.state.aggregate_functions().keys().cloned().collect()
    }

    fn udwf_names(&self) -> Vec<String> {
        self.planner.state.window_functions().keys().cloned().collect()
    }
}
