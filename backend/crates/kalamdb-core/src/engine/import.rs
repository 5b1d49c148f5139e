//! Rows in bulk: the same checks and rights as INSERT, without SQL text.

use std::sync::Arc;

use arrow::array::RecordBatch;
use kalamdb_commons::ids::NamespaceId;
use kalamdb_commons::schema::Table;
use kalamdb_commons::types::SchemaRef;
use kalamdb_commons::{Error, ErrorKind, Result};
use kalamdb_sql::TableName;
use kalamdb_sql::ast::Expr;
use kalamdb_sql::expr::fold;

use super::Engine;
use super::accounts::DEFAULT_NAMESPACE;
use super::usage::Counted;
use crate::access::Access;
use crate::api::ImportRequest;
use crate::audit::trail::Trail;
use crate::audit::{Entry, Origin};
use crate::commit::{Refusal, Riders};
use crate::dml::assign::to_column;
use crate::dml::insert::{self, Given, known_column};
use crate::query::StatementScope;
use crate::query::scope::Caller;
use crate::stats::StatementStats;

/// An import into one table.
pub struct Import {
    engine: Arc<Engine>,
    caller: Caller,
    /// What the audit log says of each chunk, if it is on somebody's behalf.
    entry: Option<Entry>,
    name: TableName,
    table: Arc<Table>,
    _running: Counted,
}

impl Engine {
    /// Begins an import.
    ///
    /// # Errors
    /// If the table is absent, the subject may not write to it, or the actor may not act as the subject.
    pub async fn import(self: &Arc<Self>, request: ImportRequest) -> Result<Import> {
        let running = self.begin_request(&request.actor)?;
        let origin =
            Origin { actor: &request.actor, request_id: &request.request_id, address: request.address.as_deref() };
        let entry = Entry::new(&origin, self.clock().now_ns(), "IMPORT", request.table.clone());
        let entry = match &request.as_user {
            Some(named) => entry.on_behalf_of(named),
            None => entry,
        };
        match self.begin_import(&request) {
            Ok((caller, name, table)) => {
                let entry = request.as_user.is_some().then_some(entry);
                Ok(Import { engine: self.clone(), caller, entry, name, table, _running: running })
            }
            Err(error) if request.as_user.is_some() || error.kind() == ErrorKind::PermissionDenied => {
                Err(self.audit_failure(entry, error).await)
            }
            Err(error) => Err(error),
        }
    }

    fn begin_import(self: &Arc<Self>, request: &ImportRequest) -> Result<(Caller, TableName, Arc<Table>)> {
        let caller = match &request.as_user {
            Some(named) => Caller::acting_as(&request.actor, named, &self.catalog())?,
            None => Caller::own(&request.actor),
        };
        let name = table_name(&request.table)?;
        let table = self.import_scope(&caller)?.table(&name, Access::Write)?;
        Ok((caller, name, table))
    }

    fn import_scope(self: &Arc<Self>, caller: &Caller) -> Result<StatementScope> {
        Ok(StatementScope {
            engine: self.clone(),
            caller: caller.clone(),
            namespace: NamespaceId::new(DEFAULT_NAMESPACE)?,
            point: self.committer().readers().enter(),
            writes: None,
            stats: Arc::new(StatementStats::begin_for(self.usage().of(&caller.subject.user))),
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
        let entry = self.entry.clone().map(|entry| entry.at(self.engine.clock().now_ns()));
        let mut trail = entry.map(|entry| Trail::new(Arc::downgrade(&self.engine), entry));
        let written = self.commit(batch, &mut trail).await;
        match (written, trail.and_then(Trail::into_entry)) {
            (Err(error), Some(entry)) => Err(self.engine.audit_failure(entry, error).await),
            (written, _) => written,
        }
    }

    async fn commit(&self, batch: &RecordBatch, trail: &mut Option<Trail>) -> Result<u64> {
        if let Some(actor) = &self.caller.impersonator {
            Caller::acting_as(actor, self.caller.subject.user.as_str(), &self.engine.catalog())?;
        }
        self.engine.refuse_dropped(&self.caller.subject)?;
        self.engine.check_storage_limit(&self.caller.subject)?;
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
            let rows = batch.num_rows() as u64;
            let audit = trail.as_mut().and_then(|trail| trail.hand_in(Some(rows))).into_iter().collect();
            let mut writes = prepared.writes;
            writes.ride(Riders { records: Vec::new(), audit });
            match self.engine.committer().write(writes.into_write(held.into_iter().collect())).await {
                Ok(_) => {
                    trail.take().into_iter().for_each(Trail::settle);
                    return Ok(rows);
                }
                Err(refusal) => {
                    trail.iter_mut().for_each(Trail::take_back);
                    if let Refusal::Failed(error) = refusal {
                        return Err(error);
                    }
                }
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
