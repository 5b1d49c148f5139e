//! Rows in bulk: the same checks and rights as INSERT, without SQL text.

use std::sync::Arc;

use arrow::array::RecordBatch;
use kalamdb_commons::ids::NamespaceId;
use kalamdb_commons::schema::Table;
use kalamdb_commons::types::SchemaRef;
use kalamdb_commons::{Error, Result};
use kalamdb_sql::TableName;
use kalamdb_sql::ast::Expr;
use kalamdb_sql::expr::fold;

use super::Engine;
use super::accounts::DEFAULT_NAMESPACE;
use crate::access::Access;
use crate::api::ImportRequest;
use crate::commit::Refusal;
use crate::dml::assign::to_column;
use crate::dml::insert::{self, Given, known_column};
use crate::query::StatementScope;
use crate::query::scope::Caller;
use crate::stats::StatementStats;

/// An import into one table.
pub struct Import {
    engine: Arc<Engine>,
    caller: Caller,
    name: TableName,
    table: Arc<Table>,
}

impl Engine {
    /// Begins an import.
    ///
    /// # Errors
    /// If the table is absent, the subject may not write to it, or the actor may not act as the subject.
    pub async fn import(self: &Arc<Self>, request: ImportRequest) -> Result<Import> {
        let ImportRequest { actor, as_user, table, request_id: _, address: _ } = request;
        let caller = match &as_user {
            Some(named) => Caller::acting_as(&actor, named, &self.catalog())?,
            None => Caller::own(&actor),
        };
        let name = table_name(&table)?;
        let table = self.import_scope(&caller)?.table(&name, Access::Write)?;
        Ok(Import { engine: self.clone(), caller, name, table })
    }

    fn import_scope(self: &Arc<Self>, caller: &Caller) -> Result<StatementScope> {
        Ok(StatementScope {
            engine: self.clone(),
            caller: caller.clone(),
            namespace: NamespaceId::new(DEFAULT_NAMESPACE)?,
            point: self.committer().readers().enter(),
            writes: None,
            stats: Arc::new(StatementStats::begin()),
        })
    }
}

impl Import {
    /// The columns that rows may have: the user's columns, all nullable. A column that is left out gets its default.
    pub fn schema(&self) -> SchemaRef {
        insert::nullable_schema(&self.table)
    }

    /// Commits one batch as a whole and returns how many rows it has. Columns are found by name.
    ///
    /// # Errors
    /// As INSERT; nothing of the batch is written then.
    pub async fn write(&self, batch: &RecordBatch) -> Result<u64> {
        if batch.num_rows() == 0 {
            return Ok(0);
        }
        if let Some(actor) = &self.caller.impersonator {
            Caller::acting_as(actor, self.caller.subject.user.as_str(), &self.engine.catalog())?;
        }
        loop {
            let scope = self.engine.import_scope(&self.caller)?;
            let table = scope.table(&self.name, Access::Write)?;
            let mut given = Given::new();
            for (field, values) in batch.schema().fields().iter().zip(batch.columns()) {
                let column = known_column(&table, field.name())?;
                if given.insert(column.id, to_column(values, column)?).is_some() {
                    return Err(Error::invalid_input(format!("column '{}' comes twice", field.name())));
                }
            }
            let new = insert::complete(&scope, &table, batch.num_rows(), given).await?;
            let prepared = insert::prepare(&scope, &table, &new.ids(), &new.rows)?;
            let held = crate::dml::hold(self.engine.locks(), prepared.key_locks()).await;
            crate::dml::check_claims(&self.engine.import_scope(&self.caller)?, &prepared).await?;
            self.engine.check_hot_limit()?;
            let write = prepared.writes.into_write(held.into_iter().collect());
            match self.engine.committer().write(write).await {
                Ok(_) => return Ok(batch.num_rows() as u64),
                Err(Refusal::SchemaChanged | Refusal::RowsChanged) => {}
                Err(Refusal::Failed(error)) => return Err(error),
            }
        }
    }
}

/// A table's name as it would be written in SQL.
fn table_name(text: &str) -> Result<TableName> {
    let unreadable = || Error::invalid_input(format!("'{text}' is not a table name; write table or namespace.table"));
    match kalamdb_sql::expr::parse(text).map_err(|_| unreadable())? {
        Expr::Identifier(name) => Ok(TableName { namespace: None, name: fold(&name) }),
        Expr::CompoundIdentifier(parts) => match parts.as_slice() {
            [namespace, name] => Ok(TableName { namespace: Some(fold(namespace)), name: fold(name) }),
            _ => Err(unreadable()),
        },
        _ => Err(unreadable()),
    }
}
