//! A catalog to run DDL against, and the records that it would have stored.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use arrow::datatypes::Schema;
use async_trait::async_trait;
use bytes::Bytes;
use kalamdb_commons::error::{ErrorKind, Result};
use kalamdb_commons::ids::{CommitTime, NamespaceId, StorageId, TableRef, UserId};
use kalamdb_commons::schema::{Actor, Role, Table};
use kalamdb_commons::settings::LimitSettings;
use kalamdb_store::{Page, Snapshot, StoreError};

use super::{Catalog, CatalogEdit, DdlContext, Planned, load, plan};

/// Runs statements like the engine would, without data.
#[derive(Debug)]
pub(crate) struct Fixture {
    pub(crate) catalog: Arc<Catalog>,
    pub(crate) context: DdlContext,
    pub(crate) records: Stored,
}

impl Fixture {
    /// An empty server with `root`, and the namespace `app` as the current one.
    pub(crate) fn new() -> Self {
        let context = DdlContext {
            now_ms: 1_750_000_000_000,
            through: CommitTime::ZERO,
            current_namespace: Some(NamespaceId::new("app").unwrap()),
            actor: actor("root", Role::System),
            storages: vec![StorageId::new("local").unwrap(), StorageId::new("s3").unwrap()],
            password_hash: Some("$argon2id$hash".to_owned()),
            query_schema: None,
        };
        let mut fixture = Self { catalog: Arc::default(), context, records: Stored::default() };
        fixture.run("CREATE NAMESPACE app");
        fixture
    }

    /// With statements run.
    pub(crate) fn with(statements: &[&str]) -> Self {
        let mut fixture = Self::new();
        for sql in statements {
            fixture.run(sql);
        }
        fixture
    }

    pub(crate) fn plan(&self, sql: &str) -> Result<Planned> {
        let parsed = kalamdb_sql::parse(sql, &LimitSettings::default())?.remove(0);
        plan(&self.catalog, &parsed.statement, &self.context)
    }

    /// Runs a statement that changes something.
    pub(crate) fn run(&mut self, sql: &str) -> CatalogEdit {
        match self.plan(sql) {
            Ok(Planned::Edit(edit)) => {
                self.records.apply(&edit);
                self.catalog = Arc::clone(&edit.next);
                *edit
            }
            other => panic!("{sql}: {other:?}"),
        }
    }

    /// The message of a statement that has nothing to do.
    pub(crate) fn nothing(&self, sql: &str) -> String {
        match self.plan(sql) {
            Ok(Planned::Nothing { message }) => message,
            other => panic!("{sql}: {other:?}"),
        }
    }

    /// The error of a statement that is refused.
    #[track_caller]
    pub(crate) fn refused(&self, sql: &str) -> (ErrorKind, String) {
        let error = self.plan(sql).expect_err(sql);
        (error.kind(), error.message().to_owned())
    }

    pub(crate) fn table(&self, name: &str) -> &Arc<Table> {
        self.catalog.table(&table_ref(name)).unwrap()
    }

    /// Sets the schema that the planner would give of the next statement's query.
    pub(crate) fn query_schema(&mut self, schema: Schema) {
        self.context.query_schema = Some(Arc::new(schema));
    }

    /// What a restart would load.
    pub(crate) async fn reload(&self) -> Catalog {
        load(&self.records).await.unwrap()
    }
}

pub(crate) fn actor(user: &str, role: Role) -> Actor {
    Actor { user: UserId::new(user).unwrap(), role }
}

/// `t` in `app`, or a full name.
pub(crate) fn table_ref(name: &str) -> TableRef {
    let (namespace, table) = name.split_once('.').unwrap_or(("app", name));
    TableRef::new(namespace, table).unwrap()
}

/// Records in memory.
#[derive(Debug, Default, Clone)]
pub(crate) struct Stored(pub(crate) BTreeMap<Bytes, Bytes>);

impl Stored {
    pub(crate) fn apply(&mut self, edit: &CatalogEdit) {
        for key in &edit.deletes {
            assert!(edit.puts.iter().all(|(put, _)| put != key), "a key is put and deleted");
            self.0.remove(key);
        }
        self.0.extend(edit.puts.iter().cloned());
    }
}

#[async_trait]
impl Snapshot for Stored {
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        Ok(self.0.get(key).cloned())
    }

    async fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>, StoreError> {
        Ok(keys.iter().map(|key| self.0.get(key).cloned()).collect())
    }

    async fn scan(&self, start: &[u8], end: &[u8], max_entries: usize, _: usize) -> Result<Page, StoreError> {
        let bounds = (Bound::Included(Bytes::copy_from_slice(start)), Bound::Excluded(Bytes::copy_from_slice(end)));
        let mut range = self.0.range(bounds).map(|(key, value)| (key.clone(), value.clone()));
        let entries = range.by_ref().take(max_entries).collect();
        Ok(Page { entries, next: range.next().map(|(key, _)| key) })
    }
}
