//! A database in a temporary directory, with a clock that the test moves.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use arrow::util::display::array_value_to_string;
use futures::StreamExt;
use kalamdb_commons::clock::{ManualClock, SystemEntropy};
use kalamdb_commons::ids::{Scope, TableRef, UserId};
use kalamdb_commons::manifest::{MANIFEST_FILE, Manifest};
use kalamdb_commons::schema::{Actor, Role};
use kalamdb_commons::settings::{Durability, Settings};
use kalamdb_commons::{Error, Result};
use kalamdb_core::api::{ImportRequest, OutcomeResult, Param, Rows, SqlRequest};
use kalamdb_core::stats::StatsSnapshot;
use kalamdb_core::{Engine, Execution, Import};

/// 2027-01-15: any time after the Snowflake epoch does.
pub(crate) const START_NS: i64 = 1_800_000_000_000_000_000;

const MENDED_WITHIN: Duration = Duration::from_secs(60);

pub(crate) struct Db {
    pub(crate) engine: Arc<Engine>,
    pub(crate) clock: ManualClock,
    pub(crate) settings: Arc<Settings>,
    /// Removed with the last handle.
    pub(crate) directory: Arc<tempfile::TempDir>,
}

/// What a statement gave, as text.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Said {
    Rows(Vec<Vec<String>>),
    Count(u64),
    Message(String),
}

impl Db {
    pub(crate) async fn new() -> Self {
        Self::with(|_| {}).await
    }

    pub(crate) async fn with(change: impl FnOnce(&mut Settings)) -> Self {
        let directory = Arc::new(tempfile::tempdir().unwrap());
        let mut settings = Settings::default();
        settings.storage.data_dir = directory.path().to_str().unwrap().to_owned();
        settings.hot.durability = Durability::Buffered;
        settings.auth.root_password = "correct horse".to_owned();
        settings.auth.argon2_memory_kib = 64;
        settings.flush.page_rows = 64;
        change(&mut settings);
        let clock = ManualClock::at(START_NS);
        let settings = Arc::new(settings);
        let engine = open(&settings, &clock).await;
        Self { engine, clock, settings, directory }
    }

    /// Closes and opens again.
    pub(crate) async fn restart(self) -> Self {
        self.engine.close().await.unwrap();
        self.reopened().await
    }

    /// Why what has been closed does not open again.
    pub(crate) async fn refuses_to_open(&self) -> Error {
        let entropy = Arc::new(SystemEntropy);
        Engine::open(self.settings.clone(), Arc::new(self.clock.clone()), entropy).await.unwrap_err()
    }

    /// Opens again what has been closed.
    pub(crate) async fn reopened(self) -> Self {
        drop(self.engine);
        let engine = open(&self.settings, &self.clock).await;
        Self { engine, ..self }
    }

    pub(crate) fn actor(user: &str, role: Role) -> Actor {
        Actor { user: UserId::new(user).unwrap(), role }
    }

    /// An ordinary user.
    pub(crate) fn user(name: &str) -> Actor {
        Self::actor(name, Role::User)
    }

    pub(crate) fn root() -> Actor {
        Self::actor("root", Role::System)
    }

    /// A request that has been parsed and not run.
    pub(crate) async fn begin(&self, actor: Actor, sql: &str, params: Vec<Param>) -> Result<Execution> {
        self.engine.execute(self.request(actor, sql, params)).await
    }

    fn request(&self, actor: Actor, sql: &str, params: Vec<Param>) -> SqlRequest {
        // Time passes between requests.
        self.clock.step(1_000_000);
        SqlRequest {
            actor,
            sql: sql.to_owned(),
            params,
            namespace: Some("app".to_owned()),
            as_user: None,
            request_id: "test".to_owned(),
            address: Some("192.0.2.1".to_owned()),
            idempotency: None,
        }
    }

    /// An import that has begun.
    pub(crate) async fn import(&self, actor: Actor, as_user: Option<&str>, table: &str) -> Result<Import> {
        let (request_id, address) = ("import".to_owned(), Some("192.0.2.1".to_owned()));
        let as_user = as_user.map(ToOwned::to_owned);
        let table = table.to_owned();
        self.engine.import(ImportRequest { actor, as_user, table, request_id, address, idempotency: None }).await
    }

    /// A query that has begun to read, and of which nothing has been fetched.
    pub(crate) async fn open(&self, actor: Actor, sql: &str) -> Rows {
        let mut execution = self.begin(actor, sql, Vec::new()).await.unwrap();
        match execution.next().await.unwrap().unwrap().result {
            OutcomeResult::Rows(rows) => rows,
            _ => panic!("{sql}: no query"),
        }
    }

    /// What a statement cost.
    pub(crate) async fn stats(&self, sql: &str) -> StatsSnapshot {
        let mut execution = self.begin(Self::root(), sql, Vec::new()).await.unwrap();
        if let OutcomeResult::Rows(rows) = execution.next().await.unwrap().unwrap().result {
            texts(rows).await.unwrap();
        }
        execution.cost()
    }

    /// The columns that a query gives.
    pub(crate) async fn columns(&self, sql: &str) -> Vec<String> {
        let rows = self.open(Self::root(), sql).await;
        rows.schema.fields().iter().map(|field| field.name().clone()).collect()
    }

    pub(crate) async fn run_as(&self, actor: Actor, sql: &str, params: Vec<Param>) -> Result<Vec<Said>> {
        // Boxed: without optimisation the futures of tests that say much would not fit a thread's stack.
        let run = async {
            let execution = self.begin(actor, sql, params).await?;
            all_of(execution).await
        };
        Box::pin(run).await
    }

    /// A request that runs as `as_user` as a whole.
    pub(crate) async fn run_for(&self, actor: Actor, as_user: Option<&str>, sql: &str) -> Result<Vec<Said>> {
        let request = SqlRequest { as_user: as_user.map(ToOwned::to_owned), ..self.request(actor, sql, Vec::new()) };
        Box::pin(async { all_of(self.engine.execute(request).await?).await }).await
    }

    pub(crate) async fn run(&self, sql: &str) -> Result<Vec<Said>> {
        self.run_as(Self::actor("root", Role::System), sql, Vec::new()).await
    }

    /// The outcome of the last statement.
    pub(crate) async fn said(&self, sql: &str) -> Said {
        self.run(sql).await.unwrap_or_else(|error| panic!("{sql}: {error} {:?}", error.kind())).pop().unwrap()
    }

    pub(crate) async fn rows(&self, sql: &str) -> Vec<Vec<String>> {
        match self.said(sql).await {
            Said::Rows(rows) => rows,
            other => panic!("{sql}: {other:?}"),
        }
    }

    /// Rows with their values joined by `|`, in order.
    pub(crate) async fn lines(&self, sql: &str) -> Vec<String> {
        self.rows(sql).await.into_iter().map(|row| row.join("|")).collect()
    }

    /// The same as somebody else.
    pub(crate) async fn lines_as(&self, actor: Actor, sql: &str) -> Vec<String> {
        match self.run_as(actor, sql, Vec::new()).await.unwrap().pop().unwrap() {
            Said::Rows(rows) => rows.into_iter().map(|row| row.join("|")).collect(),
            other => panic!("{sql}: {other:?}"),
        }
    }

    /// The one value of a query, as a number.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        self.lines(sql).await.concat().parse().unwrap()
    }

    pub(crate) async fn count(&self, sql: &str) -> u64 {
        match self.said(sql).await {
            Said::Count(count) => count,
            other => panic!("{sql}: {other:?}"),
        }
    }

    pub(crate) async fn error(&self, sql: &str) -> Error {
        match self.run(sql).await {
            Err(error) => error,
            Ok(said) => panic!("{sql}: {said:?}"),
        }
    }

    /// Where the local storage lies.
    pub(crate) fn storage(&self) -> PathBuf {
        self.directory.path().join("storage")
    }

    /// The directory of a partition of a table in `app`; `scope` is `shared` or `user_<id>`.
    pub(crate) fn partition(&self, table: &str, scope: &str) -> PathBuf {
        self.storage().join("app").join(table).join(scope)
    }

    /// The manifest of a partition, as it is stored.
    pub(crate) fn manifest(&self, table: &str, scope: &str) -> Manifest {
        let text = std::fs::read(self.partition(table, scope).join(MANIFEST_FILE)).unwrap();
        serde_json::from_slice(&text).unwrap()
    }

    /// The names of the files of a partition, in order.
    pub(crate) fn files(&self, table: &str, scope: &str) -> Vec<String> {
        names_in(&self.partition(table, scope))
    }

    /// What a statement says that it did.
    pub(crate) async fn message(&self, sql: &str) -> String {
        match self.said(sql).await {
            Said::Message(message) => message,
            other => panic!("{sql}: {other:?}"),
        }
    }

    /// Compacts everything of a table; says what the job said.
    pub(crate) async fn compact(&self, table: &str) -> String {
        self.message(&format!("STORAGE COMPACT TABLE {table} WAIT")).await
    }

    /// Compacts some neighbouring batches of a partition of a table in `app`.
    pub(crate) async fn compact_batches(&self, table: &str, scope: &Scope, batches: Range<usize>) -> bool {
        self.engine.compact_batches(&TableRef::new("app", table).unwrap(), scope, batches).await.unwrap()
    }

    /// Waits until a job has stored lost manifests again.
    pub(crate) async fn mended(&self) {
        let jobs = "SELECT count(*) FROM system.jobs WHERE job_type = 'manifest_rebuild' AND status = 'completed'";
        let are = async {
            while self.number(jobs).await == 0 {
                tokio::task::yield_now().await;
            }
        };
        tokio::time::timeout(MENDED_WITHIN, are).await.unwrap();
    }

    pub(crate) async fn flush(&self, table: &str) {
        self.said(&format!("STORAGE FLUSH TABLE {table} WAIT")).await;
    }
}

async fn open(settings: &Arc<Settings>, clock: &ManualClock) -> Arc<Engine> {
    Engine::open(settings.clone(), Arc::new(clock.clone()), Arc::new(SystemEntropy)).await.unwrap()
}

/// Runs a request to its end.
pub(crate) async fn all_of(mut execution: Execution) -> Result<Vec<Said>> {
    let mut said = Vec::new();
    while let Some(outcome) = execution.next().await {
        said.push(match outcome?.result {
            OutcomeResult::Rows(rows) => Said::Rows(texts(rows).await?),
            OutcomeResult::Affected { returning: Some(rows), .. } => Said::Rows(texts(rows).await?),
            OutcomeResult::Affected { rows, .. } => Said::Count(rows),
            OutcomeResult::Done { message } => Said::Message(message),
        });
    }
    Ok(said)
}

/// The names in a directory, in order.
pub(crate) fn names_in(directory: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// All rows of a result, as text.
pub(crate) async fn texts(mut rows: Rows) -> Result<Vec<Vec<String>>> {
    let mut out = Vec::new();
    while let Some(batch) = rows.batches.next().await {
        let batch = batch?;
        for row in 0..batch.num_rows() {
            let cell = |column: &arrow::array::ArrayRef| match column.is_null(row) {
                true => "NULL".to_owned(),
                false => array_value_to_string(column, row).unwrap(),
            };
            out.push(batch.columns().iter().map(cell).collect());
        }
    }
    Ok(out)
}
