//! Rows in bulk: the same checks and rights as INSERT, without SQL text.

use std::sync::Arc;

use arrow::array::RecordBatch;
use kalamdb_commons::ids::NamespaceId;
use kalamdb_commons::schema::{Actor, Table};
use kalamdb_commons::types::SchemaRef;
use kalamdb_commons::{Error, Result};
use kalamdb_sql::TableName;
use kalamdb_sql::ast::Expr;
use kalamdb_sql::expr::fold;

use super::Engine;
use super::accounts::DEFAULT_NAMESPACE;
use crate::commit::Refusal;
use crate::dml::assign::to_column;
use crate::dml::insert::{self, Given, known_column};
use crate::query::StatementScope;
use crate::query::scope::Access;
use crate::stats::StatementStats;

/// An import into one table.
pub struct Import {
    engine: Arc<Engine>,
    actor: Actor,
    name: TableName,
    table: Arc<Table>,
}

impl Engine {
    /// Begins an import. `table` is `namespace.table`, or `table` in the default namespace, as it would be written
    /// in SQL.
    ///
    /// # Errors
    /// If the table is absent or the actor may not write to it.
    pub async fn import(self: &Arc<Self>, actor: &Actor, table: &str) -> Result<Import> {
        let name = table_name(table)?;
        let table = self.import_scope(actor)?.table(&name, Access::Write)?;
        Ok(Import { engine: self.clone(), actor: actor.clone(), name, table })
    }

    fn import_scope(self: &Arc<Self>, actor: &Actor) -> Result<StatementScope> {
        Ok(StatementScope {
            engine: self.clone(),
            actor: actor.clone(),
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
        loop {
            let scope = self.engine.import_scope(&self.actor)?;
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
            crate::dml::check_claims(&self.engine.import_scope(&self.actor)?, &prepared).await?;
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
