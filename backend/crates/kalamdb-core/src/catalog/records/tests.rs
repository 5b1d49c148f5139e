use kalamdb_commons::ErrorKind;
use kalamdb_commons::settings::HotSettings;
use kalamdb_store::{Batch, RocksShard, ShardStore};

use super::*;
use crate::catalog::fixture::{Fixture, Stored, table_ref};

fn full() -> Fixture {
    let mut fixture = Fixture::with(&[
        "CREATE TABLE a (id INT PRIMARY KEY, b TEXT DEFAULT 'x', CHECK (id > 0))",
        "CREATE USER TABLE u (x INT) WITH (FLUSH_POLICY='rows:10,interval:5')",
        "CREATE STREAM TABLE s (x INT) WITH (TTL_SECONDS=5)",
        "CREATE INDEX a_b ON a (b)",
        "CREATE USER 'alice' WITH PASSWORD 'long enough' ROLE 'user' EMAIL 'a@example.org'",
        "ALTER TABLE a ADD COLUMN c INT DEFAULT 5",
        "TRUNCATE TABLE u",
        "DROP TABLE s",
    ]);
    fixture
        .query_schema(arrow::datatypes::Schema::new(vec![kalamdb_commons::types::ColumnType::Json.field("b", true)]));
    fixture.run("CREATE VIEW v AS SELECT b FROM a");
    fixture
}

#[tokio::test]
async fn what_is_loaded_is_what_was_committed() {
    let fixture = full();
    assert_eq!(fixture.reload().await, *fixture.catalog);
}

#[tokio::test]
async fn the_catalog_survives_a_restart_of_a_real_store() {
    let fixture = full();
    let directory = tempfile::tempdir().unwrap();
    let store = RocksShard::open(directory.path(), &HotSettings::default()).unwrap();
    let mut batch = Batch::default();
    for (key, value) in &fixture.records.0 {
        batch.put(key.clone(), value.clone());
    }
    store.commit(store.token(), batch).await.unwrap();
    store.close().await.unwrap();
    drop(store);

    let store = RocksShard::open(directory.path(), &HotSettings::default()).unwrap();
    let loaded = load(&*store.snapshot().await.unwrap()).await.unwrap();
    assert_eq!(loaded, *fixture.catalog);
}

#[tokio::test]
async fn an_empty_store_gives_an_empty_catalog() {
    let loaded = load(&Stored::default()).await.unwrap();
    assert_eq!(loaded, Catalog::default());
    assert_eq!(loaded.version(), 0);
}

#[tokio::test]
async fn unknown_fields_are_ignored_and_missing_optional_ones_get_defaults() {
    let mut stored = Stored::default();
    let record = br#"{"id":"app","created_at_ms":1,"from_the_future":{"a":[1]}}"#;
    stored.0.insert(namespace_key(&NamespaceId::new("app").unwrap()), Bytes::from_static(record));
    let loaded = load(&stored).await.unwrap();
    let namespace = loaded.namespaces().next().unwrap();
    assert_eq!((namespace.id.as_str(), namespace.options.len()), ("app", 0));
}

#[tokio::test]
async fn a_damaged_record_fails_the_load_by_name() {
    let mut fixture = full();
    fixture.records.0.insert(table_key(&table_ref("a")), Bytes::from_static(b"{\"id\":"));
    let error = load(&fixture.records).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert!(error.message().contains("table record"), "{error}");
}

#[tokio::test]
async fn counters_behind_what_exists_fail_the_load() {
    let mut fixture = full();
    fixture.records.0.remove(&counters_key());
    assert_eq!(load(&fixture.records).await.unwrap_err().kind(), ErrorKind::Corrupt);
}

/// More entries than one page.
#[tokio::test]
async fn many_records_are_read_in_pages() {
    let mut fixture = Fixture::new();
    for n in 0..PAGE_ENTRIES + 10 {
        fixture.run(&format!("CREATE NAMESPACE n{n}"));
    }
    assert_eq!(fixture.reload().await.namespaces().len(), PAGE_ENTRIES + 11);
}

#[test]
fn names_that_look_alike_have_keys_of_their_own() {
    let keys = [("a", "b/c"), ("a/b", "c"), ("a", "b%2Fc"), ("A", "b/c"), ("a", "../c"), ("ä", "c")]
        .map(|(namespace, table)| table_key(&TableRef::new(namespace, table).unwrap()));
    let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
    assert_eq!(distinct.len(), keys.len());
}

#[test]
fn a_password_hash_is_not_in_the_debug_form_of_a_catalog() {
    let fixture = full();
    assert!(!format!("{:?}", fixture.catalog.users().collect::<Vec<_>>()).contains("argon2"));
}
