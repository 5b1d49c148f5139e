//! Rows in bulk: the same checks and rights as INSERT, without SQL text.

use std::sync::Arc;

use arrow::array::RecordBatch;
use bytes::Bytes;
use kalamdb_commons::clock::Stopwatch;
use kalamdb_commons::ids::NamespaceId;
use kalamdb_commons::schema::Table;
use kalamdb_commons::types::SchemaRef;
use kalamdb_commons::{Error, ErrorKind, Result};
use kalamdb_sql::TableName;
use kalamdb_sql::ast::Expr;
use kalamdb_sql::expr::fold;
use parking_lot::Mutex;

use super::Engine;
use super::accounts::DEFAULT_NAMESPACE;
use super::idempotency::{IdempotencyClaim, Progress};
use super::usage::Counted;
use crate::access::Access;
use crate::api::{ImportRequest, Replay};
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
    /// How far it has come, if it can be repeated.
    resumable: Option<Mutex<Resumable>>,
    _running: Counted,
}

/// An import that can be repeated.
struct Resumable {
    progress: Progress,
    /// Rows that have come.
    seen: u64,
    /// Keeps others with the same key from running.
    _claim: IdempotencyClaim,
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
                let resumable = self.resumable(&request).await?.map(Mutex::new);
                Ok(Import { engine: self.clone(), caller, entry, name, table, resumable, _running: running })
            }
            Err(error) if request.as_user.is_some() || error.kind() == ErrorKind::PermissionDenied => {
                Err(self.audit_failure(entry, error).await)
            }
            Err(error) => Err(error),
        }
    }

    async fn resumable(&self, request: &ImportRequest) -> Result<Option<Resumable>> {
        let Some(key) = &request.idempotency else { return Ok(None) };
        match self.idempotent_answer(&request.actor, key).await? {
            Replay::Fresh(claim) => {
                let progress = self.progress_of(&request.actor, key).await?;
                Ok(Some(Resumable { progress, seen: 0, _claim: claim }))
            }
            Replay::Answer { .. } => Err(Error::invalid_input(
                "this Idempotency-Key was used for another request; use a new key for a new request",
            )),
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
            now_ns: self.clock().now_ns(),
        })
    }
}

impl Import {
    /// The columns that rows may have: the user's columns, all nullable. A column that is left out gets its default.
    pub fn schema(&self) -> SchemaRef {
        insert::nullable_schema(&self.table)
    }

    /// Commits one batch as a whole and returns how many rows it has, those included that an earlier attempt brought in.
    /// Columns are found by name.
    ///
    /// # Errors
    /// As INSERT; nothing of the batch is written then.
    pub async fn write(&self, batch: &RecordBatch) -> Result<u64> {
        if batch.num_rows() == 0 {
            return Ok(0);
        }
        let rows = batch.num_rows() as u64;
        let known = self.known(rows);
        if known == rows {
            return Ok(rows);
        }
        let known = usize::try_from(known).unwrap_or(usize::MAX);
        let new = batch.slice(known, batch.num_rows() - known);
        let watch = Stopwatch::start();
        let written = self.write_audited(&new).await;
        let metrics = self.engine.metrics();
        metrics.statement("IMPORT", written.is_ok(), watch.elapsed());
        metrics.rows_written.with_label_values(&["import"]).inc_by(*written.as_ref().unwrap_or(&0));
        written.map(|_| rows)
    }

    /// How many of the next `rows` rows are in already.
    fn known(&self, rows: u64) -> u64 {
        let Some(resumable) = &self.resumable else { return 0 };
        let mut resumable = resumable.lock();
        let known = resumable.progress.imported().saturating_sub(resumable.seen).min(rows);
        resumable.seen += rows;
        known
    }

    /// What a chunk's commit takes along, so that a later attempt knows of it.
    fn remembered(&self) -> Result<Vec<(Bytes, Bytes)>> {
        let Some(resumable) = &self.resumable else { return Ok(Vec::new()) };
        let resumable = resumable.lock();
        resumable.progress.records_of_import(resumable.seen)
    }

    fn committed(&self) {
        if let Some(resumable) = &self.resumable {
            let mut resumable = resumable.lock();
            let seen = resumable.seen;
            resumable.progress.has_imported(seen);
        }
    }

    async fn write_audited(&self, batch: &RecordBatch) -> Result<u64> {
        let entry = self.entry.clone().map(|entry| entry.at(self.engine.clock().now_ns()));
        let mut trail = entry.map(|entry| Trail::new(self.engine.weak(), entry));
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
            writes.ride(Riders { records: self.remembered()?, audit });
            match self.engine.committer().write(writes.into_write(held.into_iter().collect())).await {
                Ok(_) => {
                    self.committed();
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
