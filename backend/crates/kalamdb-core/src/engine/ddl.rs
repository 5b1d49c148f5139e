//! Schema changes: planned on the newest catalog, verified against the data, committed, and cleaned up after.
//!
//! One at a time. What is verified about existing rows is verified at a moment, and the committer refuses the edit if
//! a commit to one of those tables came since; then it is verified again. Statements that were planned with the old
//! schema are refused by the committer and plan again, so no lock is held while rows are looked at.

use std::sync::Arc;

use arrow::array::{Array, AsArray, RecordBatch};
use arrow::datatypes::DataType;
use datafusion::common::Column as ColumnName;
use datafusion::datasource::provider_as_source;
use datafusion::logical_expr::{LogicalPlan, LogicalPlanBuilder, col};
use futures::StreamExt;
use kalamdb_commons::ids::UserId;
use kalamdb_commons::schema::{Actor, Column, Role, Table};
use kalamdb_commons::types::SchemaRef;
use kalamdb_commons::{Error, Result};
use kalamdb_sql::{Statement, UserChange};
use kalamdb_store::rows::convert::convert;

use super::Engine;
use super::accounts::{ROOT, password_rules};
use crate::api::Param;
use crate::audit::trail::Trail;
use crate::catalog::ddl::{self, Planned};
use crate::catalog::{CatalogEdit, DataCheck, DdlContext, ExpressionRole, NewExpression};
use crate::commit::{Refusal, SchemaChange, Verified, Write};
use crate::dml::insert;
use crate::partition::lookup::PartitionRead;
use crate::query::{StatementScope, arrow_error, plan_error};
use crate::tables::{Exposure, PartitionTable};

/// How often an edit is planned and verified again because something changed under it.
const ATTEMPTS_MAX: usize = 20;

/// What a verification does with each batch of rows.
type Look<'a> = &'a mut (dyn FnMut(&RecordBatch) -> Result<()> + Send);

impl Engine {
    /// Carries out a statement that changes the catalog, and returns what the answer says.
    pub(crate) async fn change_schema(
        &self,
        scope: &StatementScope,
        mut statement: Statement,
        params: &[Param],
        trail: &mut Option<Trail>,
    ) -> Result<String> {
        if ddl::is_about_storage(&statement) {
            return self.change_storage(statement, trail).await;
        }
        // Before the lock: it takes its time, and other schema changes need not wait for it.
        let password_hash = self.password_hash(&statement).await?;
        let _one_at_a_time = self.ddl.lock().await;
        self.fill_in_constants(scope, &mut statement, params)?;
        for _ in 0..ATTEMPTS_MAX {
            let scope = StatementScope { point: self.committer().readers().enter(), ..scope.clone() };
            let context = self.context(&scope, &statement, password_hash.clone()).await?;
            let edit = match ddl::plan(scope.catalog(), &statement, &context)? {
                Planned::Nothing { message } => return Ok(message),
                Planned::Edit(edit) => *edit,
            };
            self.verify_expressions(&edit)?;
            let verified = self.verify_data(&scope, &edit).await?;
            let rows = self.rows_of(&scope, &statement, &edit).await?;
            let (message, dropped) = (edit.message.clone(), edit.dropped.clone());
            let audit = trail.as_mut().and_then(|trail| trail.hand_in(None)).into_iter().collect();
            match self.committer().change_schema(SchemaChange { edit, verified, rows, audit }).await {
                Ok(()) => {
                    trail.take().into_iter().for_each(Trail::settle);
                    if matches!(statement, Statement::AlterUser { .. } | Statement::DropUser { .. }) {
                        self.accounts().note_revocation();
                    }
                    for life in dropped {
                        self.remove_contents(life);
                    }
                    return Ok(message);
                }
                Err(refusal) => {
                    trail.iter_mut().for_each(Trail::take_back);
                    if let Refusal::Failed(error) = refusal {
                        return Err(error);
                    }
                }
            }
        }
        Err(Error::overloaded("the table changes faster than its rows can be checked; try again when it is quieter"))
    }

    fn fill_in_constants(&self, scope: &StatementScope, statement: &mut Statement, params: &[Param]) -> Result<()> {
        let constants = self.constants(scope.subject(), params);
        match statement {
            Statement::CreateTable(create) => match &mut create.as_query {
                Some(query) => constants.apply(&mut **query),
                None => Ok(()),
            },
            _ if params.is_empty() => Ok(()),
            _ => Err(Error::invalid_parameter("schema changes take no parameters")),
        }
    }

    /// The hash of the password that a statement sets.
    async fn password_hash(&self, statement: &Statement) -> Result<Option<String>> {
        let password = match statement {
            Statement::CreateUser(create) => Some((create.name.as_str(), &create.password)),
            Statement::AlterUser { name, change: UserChange::Password(password) } => Some((name.as_str(), password)),
            _ => None,
        };
        let Some((user, password)) = password else { return Ok(None) };
        password_rules(&self.settings().auth).check(user, password.reveal())?;
        self.accounts().hash(password.reveal().to_owned()).await.map(Some)
    }

    async fn context(
        &self,
        scope: &StatementScope,
        statement: &Statement,
        password_hash: Option<String>,
    ) -> Result<DdlContext> {
        Ok(DdlContext {
            now_ms: self.clock().now_ms(),
            through: scope.point.through(),
            current_namespace: Some(scope.namespace.clone()),
            actor: scope.subject().clone(),
            storages: self.cold().manifests().storages().list().into_iter().map(|(id, _)| id).collect(),
            password_hash,
            query_schema: self.query_schema(scope, statement).await?,
        })
    }

    /// What the query of CREATE VIEW or CREATE TABLE ... AS gives.
    async fn query_schema(&self, scope: &StatementScope, statement: &Statement) -> Result<Option<SchemaRef>> {
        let query = match statement {
            Statement::CreateView(create) => Some((*create.query).clone()),
            Statement::CreateTable(create) => create.as_query.as_deref().cloned(),
            _ => None,
        };
        let Some(mut query) = query else { return Ok(None) };
        self.constants(scope.subject(), &[]).apply(&mut query)?;
        let plan = self.planner().plan(scope, query.clone()).await?;
        let schema = plan.schema().as_arrow().clone();
        let kept = match statement {
            Statement::CreateTable(_) => insert::without_starred_system_columns(&query, &schema),
            _ => (0..schema.fields().len()).collect(),
        };
        Ok(Some(Arc::new(schema.project(&kept).map_err(arrow_error)?)))
    }

    /// The rows of CREATE TABLE ... AS SELECT, to be committed with the table.
    async fn rows_of(
        &self,
        scope: &StatementScope,
        statement: &Statement,
        edit: &CatalogEdit,
    ) -> Result<Option<Write>> {
        let Statement::CreateTable(create) = statement else { return Ok(None) };
        let Some(query) = &create.as_query else { return Ok(None) };
        let Some(table) = edit.affected.first().and_then(|name| edit.next.table(name)).cloned() else {
            return Ok(None);
        };
        let (count, given) = insert::from_query(scope, &table.columns().iter().collect::<Vec<_>>(), query).await?;
        let new = insert::complete(scope, &table, count, given).await?;
        let prepared = insert::prepare(scope, &table, &new.ids(), &new.rows)?;
        self.check_hot_limit()?;
        Ok(Some(prepared.writes.into_write(Vec::new())))
    }

    /// New defaults and checks must plan, and give what they are for.
    fn verify_expressions(&self, edit: &CatalogEdit) -> Result<()> {
        let verify = |new: &NewExpression| self.verify_expression(new).map_err(|error| error.context(new.describe()));
        edit.expressions.iter().try_for_each(verify)
    }

    fn verify_expression(&self, new: &NewExpression) -> Result<()> {
        let planner = self.planner();
        let mut expr = kalamdb_sql::expr::parse(&new.text)?;
        let nobody = Actor { user: UserId::new(ROOT)?, role: Role::User };
        self.constants(&nobody, &[]).apply(&mut expr)?;
        match &new.role {
            ExpressionRole::Default(id) | ExpressionRole::Missing(id) => {
                let column =
                    new.table.column_by_id(*id).ok_or_else(|| Error::internal("a default without a column"))?;
                let value = planner.constant(expr)?;
                let array = value.to_array().map_err(|error| plan_error(error, "a default"))?;
                crate::dml::assign::to_column(&array, column).map(|_| ())
            }
            ExpressionRole::Check(_) => {
                let schema = insert::nullable_schema(&new.table);
                let planned = planner.expression(expr, &schema)?;
                let gives = planned.data_type(&schema).map_err(|error| plan_error(error, "a check"))?;
                if gives != DataType::Boolean {
                    return Err(Error::execution(format!("it gives {gives}, not BOOLEAN")));
                }
                Ok(())
            }
        }
    }

    /// Looks at the rows of all partitions that an edit depends on.
    async fn verify_data(&self, scope: &StatementScope, edit: &CatalogEdit) -> Result<Option<Verified>> {
        if edit.checks.is_empty() {
            return Ok(None);
        }
        let mut incarnations = Vec::new();
        for check in &edit.checks {
            let name = match check {
                DataCheck::NotNull { table, .. }
                | DataCheck::Converts { table, .. }
                | DataCheck::Empty { table, .. }
                | DataCheck::Holds { table, .. } => table,
            };
            let table = scope.catalog().table(name).cloned().ok_or_else(|| scope.not_found(&name.to_string()))?;
            incarnations.push(table.incarnation);
            self.verify_check(scope, edit, &table, check).await?;
        }
        Ok(Some(Verified { incarnations, at: scope.point.through() }))
    }

    async fn verify_check(
        &self,
        scope: &StatementScope,
        edit: &CatalogEdit,
        table: &Arc<Table>,
        check: &DataCheck,
    ) -> Result<()> {
        let column = |id| table.column_by_id(id).cloned().ok_or_else(|| Error::internal("a check without its column"));
        match check {
            DataCheck::NotNull { column: id, .. } => {
                let column = column(*id)?;
                let look: Look<'_> = &mut |batch| match batch.column(0).null_count() {
                    0 => Ok(()),
                    _ => Err(Error::execution(format!(
                        "column '{}' of {} has NULL in existing rows; it cannot become NOT NULL",
                        column.name, table.name
                    ))),
                };
                self.each_batch(scope, table, Some(&column), look).await
            }
            DataCheck::Converts { column: id, to, .. } => {
                let column = column(*id)?;
                let look: Look<'_> = &mut |batch| {
                    let converted = convert(&column.name, batch.column(0), column.column_type, *to);
                    converted.map(|_| ()).map_err(|error| {
                        Error::execution(format!(
                            "column '{}' of {} cannot become {to}: {error}",
                            column.name, table.name
                        ))
                    })
                };
                self.each_batch(scope, table, Some(&column), look).await
            }
            DataCheck::Empty { otherwise, .. } => {
                let look: Look<'_> = &mut |batch| match batch.num_rows() {
                    0 => Ok(()),
                    _ => Err(Error::execution(format!("{otherwise}: {} has rows", table.name))),
                };
                self.each_batch(scope, table, None, look).await
            }
            DataCheck::Holds { check, .. } => {
                let after = edit.next.table(&table.name).cloned();
                let after = after.ok_or_else(|| Error::internal("a check on a table that is gone"))?;
                let schema = insert::nullable_schema(&after);
                let planned = self.planner().expression(kalamdb_sql::expr::parse(&check.expression)?, &schema)?;
                let user_columns: Vec<usize> = (1..=after.columns().len()).collect();
                let look: Look<'_> = &mut |batch| {
                    let rows = batch.project(&user_columns).map_err(arrow_error)?;
                    let held = self.planner().evaluate(&planned, &rows)?;
                    let held = held.as_boolean();
                    if (0..held.len()).any(|row| held.is_valid(row) && !held.value(row)) {
                        return Err(Error::execution(format!(
                            "existing rows of {} violate the CHECK constraint '{}'",
                            table.name, check.name
                        )));
                    }
                    Ok(())
                };
                self.each_batch(scope, &after, None, look).await
            }
        }
    }

    /// Hands every live row of every partition to `look`, in batches of one column or of all.
    async fn each_batch(
        &self,
        scope: &StatementScope,
        table: &Arc<Table>,
        column: Option<&Column>,
        look: Look<'_>,
    ) -> Result<()> {
        for partition in self.partitions().of(table.incarnation) {
            let (view, _) = partition.view_for(&scope.point, self.cold()).await?;
            let (point, stats) = (scope.point.clone(), scope.stats.clone());
            let expired_through = partition.expired_through(scope.now_ns);
            let read = PartitionRead { expired_through, partition, point, view, pending: None, stats };
            let plan = self.scan_plan(scope, table, read, column)?;
            let mut batches = crate::query::stream::run(scope, &plan).await?;
            while let Some(batch) = batches.next().await {
                look(&batch?)?;
            }
        }
        Ok(())
    }

    fn scan_plan(
        &self,
        scope: &StatementScope,
        table: &Arc<Table>,
        read: PartitionRead,
        column: Option<&Column>,
    ) -> Result<LogicalPlan> {
        let missing = self.planner().missing(table)?;
        let provider = PartitionTable::new(table.clone(), read, missing, Exposure::default(), scope.stats.clone());
        let scan = LogicalPlanBuilder::scan("rows", provider_as_source(Arc::new(provider)), None);
        let plan = match column {
            Some(column) => {
                scan.and_then(|scan| scan.project([col(ColumnName::new_unqualified(column.name.to_string()))]))
            }
            None => scan,
        };
        let plan = plan.and_then(LogicalPlanBuilder::build).map_err(|error| plan_error(error, "a check of rows"))?;
        self.planner().state().optimize(&plan).map_err(|error| plan_error(error, "a check of rows"))
    }
}
