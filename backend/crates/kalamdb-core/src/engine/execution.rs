//! A request: its statements, one after the other, and the transaction that they may open.
//!
//! Statements that fail end the request; earlier ones stay, later ones are not run. A transaction that is still open
//! at the end is rolled back, with an error. Dropping the execution or a result stream cancels what is running.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use arrow::array::{ArrayRef, RecordBatch, StringArray};
use futures::StreamExt;
use kalamdb_auth::policy::{self, Right};
use kalamdb_commons::ids::NamespaceId;
use kalamdb_commons::schema::{Actor, Table};
use kalamdb_commons::types::SchemaRef;
use kalamdb_commons::{Error, ErrorKind, Result};
use kalamdb_sql::ast::{Query, SetExpr};
use kalamdb_sql::{Parsed, Statement, Subject};
use tracing::Instrument;

use super::Engine;
use super::accounts::DEFAULT_NAMESPACE;
use super::idempotency::Progress;
use super::usage::Counted;
use crate::access::{Access, is_audited, require_statement, sees_namespace};
use crate::api::{ColumnFlags, Outcome, OutcomeResult, Param, Rows, SqlRequest, Verb};
use crate::audit::trail::Trail;
use crate::audit::{Entry, Origin, describe};
use crate::catalog::ddl::is_ddl;
use crate::commit::Riders;
use crate::commit::readers::ReadPoint;
use crate::dml::{self, Affected, Alongside, Dml, Transaction};
use crate::query::scope::Caller;
use crate::query::{self, StatementScope, arrow_error};
use crate::stats::{StatementStats, StatsSnapshot};
use crate::system::verified;
use crate::threads;
use crate::watched::{Facts, Watched};

/// A request being carried out.
pub struct Execution {
    engine: Arc<Engine>,
    request: SqlRequest,
    /// Of the statement that runs.
    caller: Caller,
    namespace: NamespaceId,
    statements: VecDeque<Parsed>,
    transaction: Option<Transaction>,
    progress: Option<Progress>,
    /// Of the statement that runs, or ran last.
    stats: Arc<StatementStats>,
    /// What the statements before it have cost.
    spent: StatsSnapshot,
    /// What the statement that runs leaves in the audit log.
    trail: Option<Trail>,
    /// The same of statements in the open transaction.
    waiting: Vec<Trail>,
    _running: Counted,
}

/// What goes along with the writes of one statement.
struct Along<'a> {
    verb: Verb,
    progress: Option<&'a Progress>,
    trail: Option<Trail>,
}

impl Alongside for Along<'_> {
    fn riders(&mut self, rows: u64) -> Result<Riders> {
        let records = self.progress.map_or(Ok(Vec::new()), |progress| progress.records_after(self.verb, rows))?;
        let audit = self.trail.as_mut().and_then(|trail| trail.hand_in(Some(rows)));
        Ok(Riders { records, audit: audit.into_iter().collect() })
    }

    fn refused(&mut self) {
        self.trail.iter_mut().for_each(Trail::take_back);
    }
}

impl Engine {
    /// Parses a request and makes it ready to run, statement by statement.
    ///
    /// # Errors
    /// If the text is not SQL, is over a limit, or uses more or fewer parameters than are given.
    pub async fn execute(self: &Arc<Self>, request: SqlRequest) -> Result<Execution> {
        let running = self.begin_request(&request.actor)?;
        let limits = &self.settings().limits;
        if request.params.len() > limits.params_max {
            return Err(Error::invalid_parameter(format!(
                "{} parameters were given; at most {} are allowed (limits.params_max)",
                request.params.len(),
                limits.params_max
            )));
        }
        let statements = kalamdb_sql::parse(&request.sql, limits)?;
        let used = statements.iter().map(|parsed| parsed.params).max().unwrap_or(0);
        if used != request.params.len() {
            return Err(Error::invalid_parameter(format!(
                "the request uses {used} parameters, but {} were given",
                request.params.len()
            )));
        }
        let namespace = NamespaceId::new(request.namespace.as_deref().unwrap_or(DEFAULT_NAMESPACE))?;
        let progress = match &request.idempotency {
            Some(key) => Some(self.progress_of(&request.actor, key).await?),
            None => None,
        };
        Ok(Execution {
            engine: self.clone(),
            caller: Caller::own(&request.actor),
            request,
            namespace,
            statements: statements.into(),
            transaction: None,
            progress,
            stats: Arc::default(),
            spent: StatsSnapshot::default(),
            trail: None,
            waiting: Vec::new(),
            _running: running,
        })
    }
}

impl Execution {
    /// How many statements are left.
    pub fn remaining(&self) -> usize {
        self.statements.len()
    }

    /// What the statement that ran last has cost so far, a failed one too.
    pub fn stats(&self) -> &Arc<StatementStats> {
        &self.stats
    }

    /// What all statements that ran have cost so far, a failed one too.
    pub fn cost(&self) -> StatsSnapshot {
        let mut cost = self.spent;
        cost += self.stats.snapshot();
        cost
    }

    /// Runs the next statement; `None` when all have been run. A stream in the outcome before must have been
    /// consumed or dropped.
    pub async fn next(&mut self) -> Option<Result<Outcome>> {
        let outcome = match self.statements.pop_front() {
            Some(parsed) => self.carry_out(parsed).await,
            None => {
                self.stats.end();
                self.transaction.as_ref()?;
                Err(Error::invalid_sql("the transaction was still open at the end of the request; it was rolled back"))
            }
        };
        Some(match outcome {
            Ok(result) => Ok(Outcome { result, as_user: self.subject().user.clone() }),
            Err(error) => {
                self.abandon().await;
                Err(error)
            }
        })
    }

    /// Whatever is left is not run, and what an open transaction did is undone.
    async fn abandon(&mut self) {
        self.stats.end();
        self.statements.clear();
        self.transaction = None;
        if let Err(error) = self.log_rolled_back().await {
            tracing::error!(%error, "statements that were rolled back could not be logged");
        }
    }

    /// Runs a statement, and has it in the audit log before it is answered, if it belongs there.
    async fn carry_out(&mut self, mut parsed: Parsed) -> Result<OutcomeResult> {
        self.spent += self.stats.end();
        self.stats = Arc::new(StatementStats::begin());
        let entry = self.entry_of(&parsed);
        self.caller = match self.decide(&parsed) {
            Ok(caller) => caller,
            Err(error) => {
                let kind = describe::kind(&parsed.statement);
                self.engine.metrics().statements.with_label_values(&[kind, "refused"]).inc();
                return Err(self.engine.audit_failure(entry, error).await);
            }
        };
        let watched = self.watched(&mut parsed);
        let span = watched.span().clone();
        let usage = self.engine.usage().of(&self.subject().user);
        self.stats = Arc::new(StatementStats::begin_watched(usage, watched));
        let outcome = self.run_audited(parsed, entry).instrument(span).await;
        self.observed(outcome)
    }

    /// A statement that begins, for the figures and the log.
    fn watched(&self, parsed: &mut Parsed) -> Watched {
        let facts = Facts {
            kind: describe::kind(&parsed.statement),
            request_id: self.request.request_id.clone(),
            actor: self.request.actor.user.clone(),
            text: std::mem::take(&mut parsed.text),
        };
        let slow_ms = self.engine.settings().logging.slow_statement_ms;
        Watched::begin(facts, self.engine.metrics().clone(), slow_ms)
    }

    /// Counts what a statement gives, and notes how it ends.
    fn observed(&self, outcome: Result<OutcomeResult>) -> Result<OutcomeResult> {
        match outcome {
            Ok(OutcomeResult::Rows(mut rows)) => {
                let stats = self.stats.clone();
                let counted = rows.batches.inspect(move |batch| {
                    stats.charge();
                    let Some(watched) = stats.watched() else { return };
                    match batch {
                        Ok(batch) => watched.returned(batch.num_rows()),
                        Err(_) => watched.fail(),
                    }
                });
                rows.batches = counted.boxed();
                Ok(OutcomeResult::Rows(rows))
            }
            Ok(OutcomeResult::Affected { verb, rows, returning }) => {
                let kind = verb.as_str();
                self.engine.metrics().rows_written.with_label_values(&[kind]).inc_by(rows);
                Ok(OutcomeResult::Affected { verb, rows, returning })
            }
            Ok(done) => Ok(done),
            Err(error) => {
                self.stats.watched().into_iter().for_each(Watched::fail);
                Err(error)
            }
        }
    }

    async fn run_audited(&mut self, parsed: Parsed, entry: Entry) -> Result<OutcomeResult> {
        self.trail = self.is_audited(&parsed).then(|| Trail::new(self.engine.weak(), entry.clone()));
        match self.run_in_time(parsed).await {
            Ok(result) => {
                if let Some(entry) = self.trail.take().and_then(Trail::into_entry) {
                    self.engine.audit(vec![entry]).await?;
                }
                Ok(result)
            }
            Err(error) => {
                let is_trailed = self.trail.take().and_then(Trail::into_entry).is_some();
                match is_trailed || error.kind() == ErrorKind::PermissionDenied {
                    true => Err(self.engine.audit_failure(entry, error).await),
                    false => Err(error),
                }
            }
        }
    }

    async fn run_in_time(&mut self, parsed: Parsed) -> Result<OutcomeResult> {
        let seconds = self.engine.settings().limits.statement_timeout_seconds;
        // On the heap: it is large, and each of the futures around it would be as large again on the stack.
        let running = Box::pin(self.run(parsed));
        match tokio::time::timeout(Duration::from_secs(seconds), running).await {
            Ok(outcome) => outcome,
            Err(_) => Err(Error::timeout(format!(
                "the statement ran longer than {seconds} s (limits.statement_timeout_seconds)"
            ))),
        }
    }

    /// The user that AS USER names, around the request or in the statement.
    fn named<'a>(&'a self, parsed: &'a Parsed) -> Result<Option<&'a str>> {
        match (&self.request.as_user, &parsed.as_user) {
            (None, None) => Ok(None),
            (Some(_), Some(_)) => {
                Err(Error::invalid_input("the whole request runs AS USER; a statement of it cannot say it again"))
            }
            (Some(named), None) | (None, Some(Subject::Name(named))) => Ok(Some(named)),
            (None, Some(Subject::Param(number))) => match self.request.params.get(number - 1) {
                Some(Param::Text(named)) => Ok(Some(named)),
                _ => Err(Error::invalid_parameter(format!("${number} names a user in AS USER: it must be text"))),
            },
        }
    }

    /// Who a statement runs as, if they may. It is decided for each statement anew, and before anything that the
    /// statement names is looked up.
    fn decide(&self, parsed: &Parsed) -> Result<Caller> {
        let actor = &self.request.actor;
        let caller = match self.named(parsed)? {
            Some(named) => Caller::acting_as(actor, named, &self.engine.catalog())?,
            None => Caller::own(actor),
        };
        require_statement(caller.subject.role, &parsed.statement)?;
        if !parsed.all_users.is_empty() {
            policy::require(caller.subject.role, Right::AllUsers)?;
        }
        Ok(caller)
    }

    /// What the audit log would say of a statement.
    fn entry_of(&self, parsed: &Parsed) -> Entry {
        let SqlRequest { actor, request_id, address, .. } = &self.request;
        let origin = Origin { actor, request_id, address: address.as_deref() };
        let named = self.named(parsed);
        let is_own_query = matches!(named, Ok(None)) && parsed.all_users.is_empty();
        let object = match &parsed.statement {
            // It is not logged, so it need not be looked through.
            Statement::Query(_) if is_own_query => String::new(),
            _ => describe::object(parsed, &self.namespace),
        };
        let entry = Entry::new(&origin, self.engine.clock().now_ns(), describe::kind(&parsed.statement), object);
        match named {
            Ok(Some(named)) => entry.on_behalf_of(named),
            Ok(None) => entry,
            Err(_) => entry.on_behalf_of(""),
        }
    }

    /// An entry that says that something long has begun.
    fn begun(&self, kind: &str, object: &str) -> Entry {
        let SqlRequest { actor, request_id, address, .. } = &self.request;
        let origin = Origin { actor, request_id, address: address.as_deref() };
        Entry::new(&origin, self.engine.clock().now_ns(), kind, object.to_owned())
    }

    fn is_audited(&self, parsed: &Parsed) -> bool {
        use Statement as S;
        let is_about_the_request = matches!(parsed.statement, S::Begin | S::Commit | S::Rollback | S::Use { .. });
        let crosses = self.caller.impersonator.is_some() || !parsed.all_users.is_empty();
        !is_about_the_request && (crosses || is_audited(&parsed.statement))
    }

    /// Logs what an open transaction did and does not leave.
    async fn log_rolled_back(&mut self) -> Result<()> {
        let entries = self.waiting.drain(..).filter_map(Trail::into_rolled_back).collect();
        self.engine.audit(entries).await
    }

    /// Who the statement that runs, runs as.
    fn subject(&self) -> &Actor {
        &self.caller.subject
    }

    fn scope_at(&self, point: Arc<ReadPoint>, stats: &Arc<StatementStats>) -> StatementScope {
        StatementScope {
            engine: self.engine.clone(),
            caller: self.caller.clone(),
            namespace: self.namespace.clone(),
            point,
            writes: None,
            stats: stats.clone(),
            now_ns: self.engine.clock().now_ns(),
        }
    }

    /// The circumstances of a statement that reads: the transaction's moment and writes, or a new moment.
    fn scope(&self, stats: &Arc<StatementStats>) -> StatementScope {
        match &self.transaction {
            Some(open) => {
                let mut scope = self.scope_at(open.point.clone(), stats);
                scope.writes = Some(open.writes());
                scope
            }
            None => self.scope_at(self.engine.committer().readers().enter(), stats),
        }
    }

    async fn run(&mut self, parsed: Parsed) -> Result<OutcomeResult> {
        self.engine.refuse_dropped(&self.request.actor)?;
        if !is_brief(&parsed.statement) {
            threads::leave().await;
        }
        let stats = self.stats.clone();
        if self.transaction.is_some() && !may_be_in_transaction(&parsed.statement) {
            return Err(Error::invalid_sql(
                "only queries and INSERT, UPDATE and DELETE may stand between BEGIN and COMMIT",
            ));
        }
        match parsed.statement {
            Statement::Query(query) => self.query(*query, &stats).await,
            Statement::Explain { analyze, verbose, statement } => {
                self.explain(*statement, analyze, verbose, &stats).await
            }
            Statement::Insert(insert) => self.write(Dml::Insert(insert), &stats).await,
            Statement::Update(update) => self.write(Dml::Update(update), &stats).await,
            Statement::Delete(delete) => self.write(Dml::Delete(delete), &stats).await,
            Statement::Begin => self.begin(),
            Statement::Commit => self.commit(&stats).await,
            Statement::Rollback => self.rollback().await,
            Statement::Use { namespace } => self.use_namespace(&namespace),
            Statement::Show(show) => {
                let batch = self.engine.show(&self.scope(&stats), &show).await?;
                Ok(OutcomeResult::Rows(in_memory(batch)))
            }
            Statement::Describe { table } => {
                let batch = self.engine.describe(&self.scope(&stats), &table)?;
                Ok(OutcomeResult::Rows(in_memory(batch)))
            }
            Statement::Flush(flush) => {
                let message = self.engine.flush_statement(&self.scope(&stats), &flush).await?;
                Ok(OutcomeResult::Done { message })
            }
            Statement::Compact(compact) => {
                let message = self.engine.compact_statement(&self.scope(&stats), &compact).await?;
                Ok(OutcomeResult::Done { message })
            }
            Statement::Tidy(tidy) => {
                let message = self.engine.tidy_statement(tidy).await?;
                Ok(OutcomeResult::Done { message })
            }
            Statement::EraseUser { name } => {
                let actor = self.request.actor.clone();
                let entry = self.begun("ERASE USER BEGINS", &name);
                let mut trail = self.trail.take();
                // Boxed, as what is long and seldom: it would make every statement's future larger.
                let erased = Box::pin(self.engine.erase_user(&actor, &name, entry, &mut trail)).await;
                self.trail = trail;
                Ok(OutcomeResult::Rows(in_memory(erased?)))
            }
            Statement::ExportUser(export) => {
                let scope = self.scope(&stats);
                let batch = Box::pin(self.engine.export_user(&scope, &export)).await?;
                Ok(OutcomeResult::Rows(in_memory(batch)))
            }
            Statement::Backup(backup) => {
                let message = Box::pin(self.engine.backup_statement(&self.scope(&stats), &backup)).await?;
                Ok(OutcomeResult::Done { message })
            }
            Statement::Restore(restore) => {
                let message = Box::pin(self.engine.restore_statement(&self.scope(&stats), &restore)).await?;
                Ok(OutcomeResult::Done { message })
            }
            Statement::CheckTable(check) => {
                let batch = self.engine.check_table(&self.scope(&stats), &check).await?;
                Ok(OutcomeResult::Rows(in_memory(batch)))
            }
            Statement::VerifyAudit => {
                let report = self.engine.verify_audit().await?;
                Ok(OutcomeResult::Rows(in_memory(verified(&report)?)))
            }
            Statement::Subscribe { sql } => {
                let batch = self.engine.how_to_subscribe(&self.scope(&stats), &sql)?;
                Ok(OutcomeResult::Rows(in_memory(batch)))
            }
            Statement::KillLive { live } => {
                let message = self.engine.kill_live(&self.scope(&stats), &live)?;
                Ok(OutcomeResult::Done { message })
            }
            Statement::KillJob { job } => {
                let message = self.engine.kill_job(&job).await?;
                Ok(OutcomeResult::Done { message })
            }
            Statement::CheckStorage { id, extended } => {
                let batch = self.engine.check_storage(&id, extended).await?;
                Ok(OutcomeResult::Rows(in_memory(batch)))
            }
            statement if is_ddl(&statement) => {
                let scope = self.scope(&stats);
                let mut trail = self.trail.take();
                let done = self.engine.change_schema(&scope, statement, &self.request.params, &mut trail).await;
                self.trail = trail;
                done.map(|message| OutcomeResult::Done { message })
            }
            _ => Err(Error::internal("a statement that nothing carries out")),
        }
    }

    async fn query(&mut self, mut query: Query, stats: &Arc<StatementStats>) -> Result<OutcomeResult> {
        query::prepare::name_outputs(&mut query);
        self.engine.constants(self.subject(), &self.request.params).apply(&mut query)?;
        let scope = self.scope(stats);
        if let Some((table, rows)) = query::point::answer(&scope, &query).await? {
            let schema = rows.schema();
            let flags = flags_of(&schema, Some(&table));
            let batches = futures::stream::once(async { Ok(rows) }).boxed();
            return Ok(OutcomeResult::Rows(Rows { schema, flags, batches }));
        }
        let only = only_table(&scope, &query);
        let plan = self.engine.planner().plan(&scope, query).await?;
        let schema: SchemaRef = Arc::new(plan.schema().as_arrow().clone());
        let flags = flags_of(&schema, only.as_deref());
        let batches = query::stream::run(&scope, &plan).await?;
        Ok(OutcomeResult::Rows(Rows { schema, flags, batches }))
    }

    async fn explain(
        &mut self,
        statement: Statement,
        analyze: bool,
        verbose: bool,
        stats: &Arc<StatementStats>,
    ) -> Result<OutcomeResult> {
        let Statement::Query(query) = statement else {
            return Err(Error::invalid_sql("EXPLAIN is implemented for queries only"));
        };
        let mut query = *query;
        self.engine.constants(self.subject(), &self.request.params).apply(&mut query)?;
        let scope = self.scope(stats);
        let plan = self.engine.planner().explanation(&scope, query, verbose, analyze).await?;
        let schema: SchemaRef = Arc::new(plan.schema().as_arrow().clone());
        let mut batches = query::stream::run(&scope, &plan).await?;
        if analyze {
            let (schema, stats) = (schema.clone(), stats.clone());
            // Made when everything before it has been read.
            let receipt = futures::stream::once(async move { receipt(&schema, &stats) });
            batches = batches.chain(receipt).boxed();
        }
        let flags = flags_of(&schema, None);
        Ok(OutcomeResult::Rows(Rows { schema, flags, batches }))
    }

    async fn write(&mut self, statement: Dml, stats: &Arc<StatementStats>) -> Result<OutcomeResult> {
        let verb = statement.verb();
        if verb != Verb::Delete {
            self.engine.check_storage_limit(self.subject())?;
        }
        if let Some(rows) = self.progress.as_mut().and_then(|progress| progress.already_done(verb)) {
            // It is in the log with the commit that it was in.
            self.trail.take().into_iter().for_each(Trail::settle);
            return Ok(OutcomeResult::Affected { verb, rows, returning: None });
        }
        let statement = self.with_constants(statement)?;
        let affected = match self.transaction.take() {
            Some(mut open) => {
                let mut scope = self.scope_at(open.point.clone(), stats);
                scope.writes = Some(open.writes());
                let affected = open.run(&scope, &statement).await?;
                self.transaction = Some(open);
                if let Some(progress) = &mut self.progress {
                    progress.pending(verb, affected.rows);
                }
                if let Some(mut trail) = self.trail.take() {
                    trail.wait_for_commit(affected.rows);
                    self.waiting.push(trail);
                }
                affected
            }
            None => {
                let readers = self.engine.committer().readers().clone();
                let trail = self.trail.take();
                let at = || self.scope_at(readers.enter(), stats);
                let mut along = Along { verb, progress: self.progress.as_ref(), trail };
                let affected = dml::run(at, &statement, &mut along).await;
                let trail = along.trail;
                if affected.is_err() {
                    self.trail = trail;
                } else {
                    trail.into_iter().for_each(Trail::settle);
                }
                let affected = affected?;
                if let Some(progress) = &mut self.progress {
                    progress.done(verb, affected.rows);
                }
                affected
            }
        };
        Ok(answer(verb, affected))
    }

    fn with_constants(&self, mut statement: Dml) -> Result<Dml> {
        let constants = self.engine.constants(self.subject(), &self.request.params);
        match &mut statement {
            Dml::Insert(insert) => constants.apply_to_insert(insert)?,
            Dml::Update(update) => {
                update.assignments.iter_mut().try_for_each(|(_, expr)| constants.apply(expr))?;
                constants.apply(&mut update.filter)?;
                constants.apply(&mut update.returning)?;
            }
            Dml::Delete(delete) => {
                constants.apply(&mut delete.filter)?;
                constants.apply(&mut delete.returning)?;
            }
        }
        Ok(statement)
    }

    fn begin(&mut self) -> Result<OutcomeResult> {
        if self.transaction.is_some() {
            return Err(Error::invalid_sql("a transaction is open already"));
        }
        self.transaction = Some(Transaction::begin(self.engine.committer().readers().enter()));
        Ok(OutcomeResult::Done { message: "Transaction started".to_owned() })
    }

    async fn commit(&mut self, stats: &Arc<StatementStats>) -> Result<OutcomeResult> {
        let Some(open) = self.transaction.take() else {
            return Err(Error::invalid_sql("there is no open transaction to commit"));
        };
        if open.point.age().as_secs() >= self.engine.settings().limits.snapshot_age_max_seconds {
            return Err(Error::timeout("the transaction held its snapshot too long (limits.snapshot_age_max_seconds)"));
        }
        let records = match &self.progress {
            Some(progress) => progress.records_at_commit()?,
            None => Vec::new(),
        };
        let mut waiting = std::mem::take(&mut self.waiting);
        let audit = waiting.iter_mut().filter_map(|trail| trail.hand_in(None)).collect();
        let readers = self.engine.committer().readers().clone();
        let riders = Riders { records, audit };
        if let Err(error) = open.commit(|| self.scope_at(readers.enter(), stats), riders).await {
            waiting.iter_mut().for_each(Trail::take_back);
            self.waiting = waiting;
            return Err(error);
        }
        waiting.into_iter().for_each(Trail::settle);
        if let Some(progress) = &mut self.progress {
            progress.committed();
        }
        Ok(OutcomeResult::Done { message: "Transaction committed".to_owned() })
    }

    async fn rollback(&mut self) -> Result<OutcomeResult> {
        if self.transaction.take().is_none() {
            return Err(Error::invalid_sql("there is no open transaction to roll back"));
        }
        if let Some(progress) = &mut self.progress {
            progress.rolled_back();
        }
        self.log_rolled_back().await?;
        Ok(OutcomeResult::Done { message: "Transaction rolled back".to_owned() })
    }

    fn use_namespace(&mut self, name: &str) -> Result<OutcomeResult> {
        let namespace = NamespaceId::new(name)?;
        let catalog = self.engine.catalog();
        if catalog.namespace(&namespace).is_none() || !sees_namespace(&catalog, self.subject().role, &namespace) {
            return Err(Error::not_found(format!("namespace '{namespace}' does not exist")));
        }
        self.namespace = namespace;
        Ok(OutcomeResult::Done { message: format!("Using namespace '{name}'") })
    }
}

/// Whether a statement may end without anything that takes long. What does, in one that may, says so itself.
fn is_brief(statement: &Statement) -> bool {
    match statement {
        Statement::Query(_) => true,
        // Both evaluate what somebody wrote.
        Statement::Insert(insert) => insert.on_conflict.is_none() && insert.returning.is_none(),
        _ => false,
    }
}

fn may_be_in_transaction(statement: &Statement) -> bool {
    use Statement as S;
    matches!(
        statement,
        S::Query(_)
            | S::Explain { .. }
            | S::Insert(_)
            | S::Update(_)
            | S::Delete(_)
            | S::Begin
            | S::Commit
            | S::Rollback
    )
}

fn answer(verb: Verb, affected: Affected) -> OutcomeResult {
    let returning = affected.returning.map(in_memory);
    OutcomeResult::Affected { verb, rows: affected.rows, returning }
}

/// A result set that is there already.
fn in_memory(batch: RecordBatch) -> Rows {
    let schema = batch.schema();
    let flags = flags_of(&schema, None);
    Rows { schema, flags, batches: futures::stream::once(async { Ok(batch) }).boxed() }
}

/// What a statement has cost, as one more row of EXPLAIN ANALYZE: a line for each counter.
fn receipt(schema: &SchemaRef, stats: &StatementStats) -> Result<RecordBatch> {
    let counted = serde_json::to_value(stats.snapshot()).map_err(|error| Error::internal(error.to_string()))?;
    let counted = counted.as_object().into_iter().flatten();
    let lines: Vec<String> = counted.map(|(name, value)| format!("{name}: {value}")).collect();
    let texts = ["Statistics".to_owned(), lines.join("\n")];
    let columns = texts.map(|text| Arc::new(StringArray::from(vec![text])) as ArrayRef).to_vec();
    RecordBatch::try_new(schema.clone(), columns).map_err(arrow_error)
}

/// The one table that a query reads, if it is one: its columns are then known by name.
fn only_table(scope: &StatementScope, query: &Query) -> Option<Arc<Table>> {
    let SetExpr::Select(select) = &*query.body else { return None };
    let (name, _) = query::point::only_table(select)?;
    scope.table(&name, Access::Read).ok()
}

pub(crate) fn flags_of(schema: &SchemaRef, table: Option<&Table>) -> Vec<ColumnFlags> {
    let flags = schema.fields().iter().map(|field| {
        let known = table.and_then(|table| Some((table, table.column(field.name())?)));
        let Some((table, column)) = known else { return ColumnFlags::default() };
        let primary_key = table.primary_key().is_some_and(|key| key.columns.contains(&column.id));
        let unique = table.keys.iter().any(|key| !key.primary && key.columns == [column.id]);
        ColumnFlags { primary_key, not_null: !column.nullable, unique }
    });
    flags.collect()
}
