//! A database in a temporary directory, with a clock that the test moves.

use std::sync::Arc;

use arrow::util::display::array_value_to_string;
use futures::StreamExt;
use kalamdb_commons::clock::{ManualClock, SystemEntropy};
use kalamdb_commons::ids::UserId;
use kalamdb_commons::schema::{Actor, Role};
use kalamdb_commons::settings::{Durability, Settings};
use kalamdb_commons::{Error, Result};
use kalamdb_core::Engine;
use kalamdb_core::api::{OutcomeResult, Param, Rows, SqlRequest};

/// 2027-01-15: any time after the Snowflake epoch does.
pub(crate) const START_NS: i64 = 1_800_000_000_000_000_000;

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
        drop(self.engine);
        let engine = open(&self.settings, &self.clock).await;
        Self { engine, ..self }
    }

    pub(crate) fn actor(user: &str, role: Role) -> Actor {
        Actor { user: UserId::new(user).unwrap(), role }
    }

    pub(crate) async fn run_as(&self, actor: Actor, sql: &str, params: Vec<Param>) -> Result<Vec<Said>> {
        // Time passes between requests.
        self.clock.step(1_000_000);
        let request = SqlRequest {
            actor,
            sql: sql.to_owned(),
            params,
            namespace: Some("app".to_owned()),
            request_id: "test".to_owned(),
            idempotency: None,
        };
        let mut execution = self.engine.execute(request).await?;
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

    pub(crate) async fn flush(&self, table: &str) {
        self.said(&format!("STORAGE FLUSH TABLE {table} WAIT")).await;
    }
}

async fn open(settings: &Arc<Settings>, clock: &ManualClock) -> Arc<Engine> {
    Engine::open(settings.clone(), Arc::new(clock.clone()), Arc::new(SystemEntropy)).await.unwrap()
}

async fn texts(mut rows: Rows) -> Result<Vec<Vec<String>>> {
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
