//! Changing rows: INSERT, UPDATE and DELETE, alone or in a transaction.
//!
//! # A statement's life
//!
//! It reads at one moment and makes its writes ([`prepared::Prepared`]): the new version of each row, and the unique
//! keys that those claim. Then it locks the claimed keys, looks at a moment after the lock whether they are free,
//! and hands the writes to the committer, which compares each replaced row with the newest state. If a row changed
//! meanwhile, the statement is evaluated again on the newest rows (READ COMMITTED), now holding locks on the
//! rows that it lost, so that it waits its turn instead of losing again.
//!
//! In a transaction the writes are collected, each statement sees those of the ones before, and the same steps are
//! taken once, at COMMIT; there a row or key that somebody else changed first is a conflict, and nothing is written.
//!
//! | module | does |
//! |---|---|
//! | [`insert`], [`conflict`] | rows of an INSERT; ON CONFLICT |
//! | [`victims`], [`direct`], [`change`] | rows that UPDATE and DELETE match, by a query or by key; their new versions |
//! | [`assign`], [`literals`], [`constraints`] | values into columns; VALUES without planning; NOT NULL and CHECK |
//! | [`prepared`], [`writes`] | what is handed to the committer |
//! | [`returning`] | RETURNING |

pub(crate) mod assign;
pub(crate) mod change;
pub(crate) mod conflict;
pub(crate) mod constraints;
pub(crate) mod direct;
pub(crate) mod insert;
pub(crate) mod literals;
pub(crate) mod prepared;
pub(crate) mod returning;
pub(crate) mod victims;
pub(crate) mod writes;

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::RecordBatch;
use kalamdb_commons::ids::{CommitTime, NamespaceId, RowId};
use kalamdb_commons::schema::Table;
use kalamdb_commons::{Error, ErrorKind, Result};
use kalamdb_sql::ast::SelectItem;
use kalamdb_sql::{Delete, Insert, TableName, Update};
use prepared::Prepared;
use returning::Returning;

use crate::access::Access;
use crate::api::Verb;
use crate::commit::locks::{Held, LockName, Locks};
use crate::commit::readers::ReadPoint;
use crate::commit::{Refusal, Riders};
use crate::query::StatementScope;

/// How often a statement is evaluated again because rows changed under it.
const ATTEMPTS_MAX: usize = 1_000;

/// A data-changing statement whose constants are filled in.
#[derive(Debug, Clone)]
pub(crate) enum Dml {
    Insert(Insert),
    Update(Update),
    Delete(Delete),
}

impl Dml {
    fn table(&self) -> &TableName {
        match self {
            Self::Insert(insert) => &insert.table,
            Self::Update(update) => &update.table,
            Self::Delete(delete) => &delete.table,
        }
    }

    fn alias(&self) -> Option<&str> {
        match self {
            Self::Insert(_) => None,
            Self::Update(update) => update.alias.as_deref(),
            Self::Delete(delete) => delete.alias.as_deref(),
        }
    }

    fn returning(&self) -> Option<&[SelectItem]> {
        match self {
            Self::Insert(insert) => insert.returning.as_deref(),
            Self::Update(update) => update.returning.as_deref(),
            Self::Delete(delete) => delete.returning.as_deref(),
        }
    }

    /// Which of the three.
    pub(crate) fn verb(&self) -> Verb {
        match self {
            Self::Insert(_) => Verb::Insert,
            Self::Update(_) => Verb::Update,
            Self::Delete(_) => Verb::Delete,
        }
    }
}

/// What a statement did.
#[derive(Debug)]
pub(crate) struct Affected {
    pub(crate) rows: u64,
    pub(crate) returning: Option<RecordBatch>,
}

/// What goes along with a statement's commit.
pub(crate) trait Alongside {
    /// The riders of a commit that is handed in now and affects so many rows.
    fn riders(&mut self, rows: u64) -> Result<Riders>;

    /// That commit did not take place.
    fn refused(&mut self);
}

/// A statement evaluated at one moment.
struct Evaluated {
    table: Arc<Table>,
    prepared: Prepared,
    ids: Vec<RowId>,
    rows: RecordBatch,
    returning: Option<Returning>,
}

impl Evaluated {
    fn affected(&self, scope: &StatementScope, first: CommitTime, deleted: bool) -> Result<Affected> {
        let planner = scope.engine.planner();
        let returning = self.returning.as_ref();
        let returning =
            returning.map(|clause| clause.rows(planner, &self.rows, &self.ids, first, deleted)).transpose()?;
        Ok(Affected { rows: self.ids.len() as u64, returning })
    }
}

/// The rows of an INSERT, made once: a repeated evaluation gives them the same ids and defaults.
#[derive(Default)]
struct Fresh(Option<insert::NewRows>);

impl Fresh {
    async fn rows(&mut self, scope: &StatementScope, table: &Arc<Table>, insert: &Insert) -> Result<&insert::NewRows> {
        if self.0.as_ref().is_none_or(|rows| rows.table != *table) {
            self.0 = Some(insert::new_rows(scope, table, insert).await?);
        }
        self.0.as_ref().ok_or_else(|| Error::internal("an INSERT without rows"))
    }
}

/// Runs a statement by itself: when it returns, its writes are durable and visible, or there are none.
///
/// `at` gives the scope at a new read point each time; `along` adds what goes along in the same commit.
pub(crate) async fn run(
    at: impl Fn() -> StatementScope,
    statement: &Dml,
    along: &mut (impl Alongside + Send),
) -> Result<Affected> {
    let mut fresh = Fresh::default();
    let mut rows_to_lock: Vec<LockName> = Vec::new();
    let mut more_keys: Vec<LockName> = Vec::new();
    let deletes = statement.verb() == Verb::Delete;
    for _ in 0..ATTEMPTS_MAX {
        let mut scope = at();
        let locks = scope.engine.locks().clone();
        let held_rows = hold(&locks, std::mem::take(&mut rows_to_lock)).await;
        // What a conflict clause finds must stay true: it looks under the locks of its rows' keys.
        let mut known = early_key_locks(&scope, statement, &mut fresh).await?;
        known.append(&mut more_keys);
        let held_keys = hold(&locks, known.clone()).await;
        if held_rows.is_some() || held_keys.is_some() {
            scope = at();
        }
        let mut evaluated = evaluate(&scope, statement, &mut fresh).await?;
        let provisional = CommitTime(scope.point.through().0 + 1);
        // Errors of RETURNING must come before the commit.
        let unwritten = evaluated.affected(&scope, provisional, deletes)?;
        let known: HashSet<LockName> = known.into_iter().collect();
        let wanted = evaluated.prepared.key_locks();
        let mut late_keys = None;
        if wanted.iter().any(|name| !known.contains(name)) {
            if held_keys.is_some() {
                // A conflict clause claims keys that were not foreseen: begin again with all of them.
                more_keys = wanted;
                continue;
            }
            late_keys = hold(&locks, wanted).await;
        }
        check_claims(&at(), &evaluated.prepared).await?;
        let replaced = evaluated.prepared.row_locks();
        let mut writes = std::mem::take(&mut evaluated.prepared.writes);
        writes.ride(along.riders(evaluated.ids.len() as u64)?);
        if writes.is_empty() {
            return Ok(unwritten);
        }
        scope.engine.check_hot_limit()?;
        let held = [held_rows, held_keys, late_keys].into_iter().flatten().collect();
        let outcome = scope.engine.committer().write(writes.into_write(held)).await;
        if outcome.is_err() {
            along.refused();
        }
        match outcome {
            Ok(receipt) => return evaluated.affected(&scope, receipt.first, deletes),
            Err(Refusal::RowsChanged) => rows_to_lock = replaced,
            Err(Refusal::SchemaChanged) => fresh = Fresh::default(),
            Err(Refusal::Failed(error)) => return Err(error),
        }
    }
    Err(Error::overloaded("the rows change faster than this statement can follow; try again"))
}

pub(crate) async fn hold(locks: &Arc<Locks>, names: Vec<LockName>) -> Option<Held> {
    if names.is_empty() { None } else { Some(locks.acquire(names).await) }
}

/// The keys of an INSERT's rows, known before anything is looked up.
async fn early_key_locks(scope: &StatementScope, statement: &Dml, fresh: &mut Fresh) -> Result<Vec<LockName>> {
    let Dml::Insert(insert) = statement else { return Ok(Vec::new()) };
    let table = scope.table(&insert.table, Access::Write)?;
    if table.keys.is_empty() {
        return Ok(Vec::new());
    }
    let new = fresh.rows(scope, &table, insert).await?;
    let partition = scope.engine.partitions().get(&table, &scope.scope_in(&table));
    let mut names = Vec::new();
    for key in &table.keys {
        names.extend(prepared::Claims::new(&table, &partition, key, &new.rows, &new.ids())?.locks());
    }
    Ok(names)
}

async fn evaluate(scope: &StatementScope, statement: &Dml, fresh: &mut Fresh) -> Result<Evaluated> {
    let table = scope.table(statement.table(), Access::Write)?;
    let planner = scope.engine.planner();
    let returning = statement.returning();
    let returning = returning.map(|items| Returning::plan(planner, &table, statement.alias(), items)).transpose()?;
    match statement {
        Dml::Insert(insert) => {
            let new = fresh.rows(scope, &table, insert).await?;
            match &insert.on_conflict {
                Some(clause) => {
                    let done = conflict::resolve(scope, new, clause).await?;
                    Ok(Evaluated { table, prepared: done.prepared, ids: done.ids, rows: done.rows, returning })
                }
                None => {
                    let ids = new.ids();
                    let prepared = insert::prepare(scope, &table, &ids, &new.rows)?;
                    Ok(Evaluated { table, prepared, ids, rows: new.rows.clone(), returning })
                }
            }
        }
        Dml::Update(update) => {
            let done = change::update(scope, &table, update).await?;
            Ok(Evaluated { table, prepared: done.prepared, ids: done.ids, rows: done.rows, returning })
        }
        Dml::Delete(delete) => {
            let done = change::delete(scope, &table, delete).await?;
            Ok(Evaluated { table, prepared: done.prepared, ids: done.ids, rows: done.rows, returning })
        }
    }
}

/// Refuses writes that claim a key which somebody else holds at the scope's moment.
pub(crate) async fn check_claims(scope: &StatementScope, prepared: &Prepared) -> Result<()> {
    for claims in &prepared.claims {
        // A transaction may hold claims of several subjects: each is asked where it was made.
        let read = scope.read_in(&claims.partition).await?;
        claims.check(&read, prepared).await?;
    }
    Ok(())
}

/// A transaction that is open within a request.
pub(crate) struct Transaction {
    /// The moment that all of it reads.
    pub(crate) point: Arc<ReadPoint>,
    prepared: Prepared,
    namespace: Option<NamespaceId>,
}

impl Transaction {
    /// Begins at a moment.
    pub(crate) fn begin(point: Arc<ReadPoint>) -> Self {
        Self { point, prepared: Prepared::default(), namespace: None }
    }

    /// What its statements see of its own writes.
    pub(crate) fn writes(&self) -> Arc<writes::WriteSet> {
        Arc::new(self.prepared.writes.clone())
    }

    /// Runs a statement in it; `scope` is at the transaction's moment and carries its writes.
    pub(crate) async fn run(&mut self, scope: &StatementScope, statement: &Dml) -> Result<Affected> {
        let evaluated = evaluate(scope, statement, &mut Fresh::default()).await?;
        let namespace = &evaluated.table.name.namespace;
        if let Some(first) = self.namespace.as_ref().filter(|first| *first != namespace) {
            return Err(Error::invalid_sql(format!(
                "a transaction writes to one namespace; this one has written to '{first}', and '{namespace}' is another"
            )));
        }
        self.namespace = Some(namespace.clone());
        let limits = &scope.engine.settings().limits;
        let mut after = self.prepared.clone();
        after.writes.absorb(evaluated.prepared.writes.clone(), limits)?;
        after.claims.extend(evaluated.prepared.claims.iter().cloned());
        after.check_among_themselves()?;
        // The claims of this statement, against the transaction's own moment and writes.
        for claims in &evaluated.prepared.claims {
            claims.check(&scope.read_in(&claims.partition).await?, &after).await?;
        }
        let provisional = CommitTime(scope.point.through().0 + 1);
        let affected = evaluated.affected(scope, provisional, statement.verb() == Verb::Delete)?;
        self.prepared = after;
        Ok(affected)
    }

    /// Commits. `at` gives the scope at a new read point, which is entered after the locks are held.
    pub(crate) async fn commit(self, at: impl Fn() -> StatementScope, riders: Riders) -> Result<()> {
        let locks = at().engine.locks().clone();
        let mut names = self.prepared.row_locks();
        names.extend(self.prepared.key_locks());
        let held = hold(&locks, names).await;
        let scope = at();
        check_claims(&scope, &self.prepared).await.map_err(|error| match error.kind() {
            // At the transaction's own moment the key was free: somebody else was first.
            ErrorKind::Execution => Error::conflict(format!("another transaction was first: {error}")),
            _ => error,
        })?;
        let mut writes = self.prepared.writes;
        writes.ride(riders);
        if writes.is_empty() {
            return Ok(());
        }
        scope.engine.check_hot_limit()?;
        match scope.engine.committer().write(writes.into_write(held.into_iter().collect())).await {
            Ok(_) => Ok(()),
            Err(Refusal::RowsChanged) => {
                Err(Error::conflict("another transaction changed the same rows first; run the transaction again"))
            }
            Err(Refusal::SchemaChanged) => {
                Err(Error::conflict("a table's schema changed during the transaction; run it again"))
            }
            Err(Refusal::Failed(error)) => Err(error),
        }
    }
}
