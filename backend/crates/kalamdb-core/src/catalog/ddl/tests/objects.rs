//! Namespaces, indexes and views.

use arrow::datatypes::{DataType, Field, Schema};
use kalamdb_commons::ErrorKind;
use kalamdb_commons::ids::{ColumnId, NamespaceId};

use crate::catalog::fixture::{Fixture, table_ref};

fn int(name: &str) -> Schema {
    Schema::new(vec![Field::new(name, DataType::Int32, true)])
}

#[test]
fn a_namespace_keeps_its_options_and_null_takes_one_away() {
    let mut fixture = Fixture::with(&["CREATE NAMESPACE n WITH (a = 1, b = 'two')"]);
    let id = NamespaceId::new("n").unwrap();
    assert_eq!(fixture.catalog.namespace(&id).unwrap().options["b"], "two");
    fixture.run("ALTER NAMESPACE n SET (a = NULL, c = 3)");
    let keys: Vec<&String> = fixture.catalog.namespace(&id).unwrap().options.keys().collect();
    assert_eq!(keys, ["b", "c"]);
    assert_eq!(fixture.refused("ALTER NAMESPACE nope SET (a = 1)").0, ErrorKind::NotFound);
}

#[test]
fn a_namespace_exists_once() {
    let fixture = Fixture::new();
    assert_eq!(
        fixture.refused("CREATE NAMESPACE app"),
        (ErrorKind::AlreadyExists, "namespace 'app' already exists".into())
    );
    fixture.nothing("CREATE NAMESPACE IF NOT EXISTS app");
    assert_eq!(fixture.refused("DROP NAMESPACE nope"), (ErrorKind::NotFound, "namespace 'nope' does not exist".into()));
    fixture.nothing("DROP NAMESPACE IF EXISTS nope");
}

#[test]
fn a_namespace_that_holds_something_goes_with_cascade_only() {
    let mut fixture =
        Fixture::with(&["CREATE TABLE t (a INT)", "CREATE USER TABLE u (a INT)", "CREATE NAMESPACE other"]);
    fixture.query_schema(int("a"));
    fixture.run("CREATE VIEW v AS SELECT a FROM t");
    fixture.run("CREATE VIEW other.w AS SELECT a FROM app.v");
    fixture.run("CREATE VIEW other.x AS SELECT 1 AS a");
    assert!(fixture.refused("DROP NAMESPACE app").1.contains("CASCADE"));
    let edit = fixture.run("DROP NAMESPACE app CASCADE");
    assert_eq!(edit.dropped.len(), 2);
    assert_eq!(fixture.catalog.tables().len(), 0);
    let left: Vec<String> = fixture.catalog.views().map(|view| view.name.to_string()).collect();
    assert_eq!(left, ["other.x"], "what reads a dropped view goes too");
}

#[tokio::test]
async fn a_cascade_leaves_no_record_behind() {
    let mut fixture = Fixture::with(&["CREATE TABLE t (a INT)", "CREATE INDEX i ON t (a)"]);
    fixture.run("DROP NAMESPACE app CASCADE");
    let loaded = fixture.reload().await;
    assert_eq!((loaded.namespaces().len(), loaded.tables().len(), loaded.dropped().len()), (0, 0, 1));
}

#[test]
fn an_index_has_a_name_of_its_own_and_columns_that_exist() {
    let mut fixture = Fixture::with(&["CREATE TABLE t (a INT UNIQUE, b INT)", "CREATE TABLE u (a INT)"]);
    fixture.run("CREATE INDEX i ON t (b, a)");
    assert_eq!(fixture.table("t").indexes[0].columns, [ColumnId(2), ColumnId(1)]);
    assert!(fixture.refused("CREATE INDEX i ON u (a)").1.contains("'i' already exists"));
    fixture.nothing("CREATE INDEX IF NOT EXISTS i ON t (b)");
    assert!(fixture.refused("CREATE INDEX j ON t (nope)").1.contains("'nope'"));
    assert_eq!(fixture.refused("CREATE INDEX j ON nope (a)").0, ErrorKind::NotFound);
    fixture.run("CREATE INDEX ON t (b)");
    assert_eq!(fixture.table("t").indexes[1].name, "t_b_idx");
    fixture.run("DROP INDEX i");
    assert_eq!(fixture.table("t").indexes.len(), 1);
    assert!(fixture.refused("DROP INDEX t_a_key").1.contains("key of table"));
    assert_eq!(fixture.refused("DROP INDEX i").0, ErrorKind::NotFound);
    fixture.nothing("DROP INDEX IF EXISTS i");
}

#[test]
fn a_view_has_the_columns_of_its_query_under_its_own_names() {
    let mut fixture = Fixture::with(&["CREATE TABLE t (a INT)"]);
    fixture.query_schema(int("a"));
    fixture.run("CREATE VIEW v (x) AS SELECT a FROM t");
    let view = fixture.catalog.view(&table_ref("v")).unwrap();
    assert_eq!(&*view.columns[0].name, "x");
    assert_eq!(view.query_text, "SELECT a FROM t");
    assert_eq!(view.resolve_in.as_str(), "app");
    assert!(fixture.refused("CREATE VIEW w (x, y) AS SELECT a FROM t").1.contains("2 columns"));
    fixture.query_schema(Schema::new(vec![
        Field::new("a", DataType::Int32, true),
        Field::new("a", DataType::Int32, true),
    ]));
    assert!(fixture.refused("CREATE VIEW w AS SELECT a, a FROM t").1.contains("twice"));
}

#[test]
fn or_replace_replaces_views_and_nothing_else() {
    let mut fixture = Fixture::with(&["CREATE TABLE t (a INT)"]);
    fixture.query_schema(int("a"));
    fixture.run("CREATE VIEW v AS SELECT a FROM t");
    assert_eq!(fixture.refused("CREATE VIEW v AS SELECT a FROM t").0, ErrorKind::AlreadyExists);
    assert_eq!(fixture.refused("CREATE OR REPLACE VIEW t AS SELECT 1 AS a").0, ErrorKind::AlreadyExists);
    fixture.nothing("CREATE VIEW IF NOT EXISTS v AS SELECT a FROM t");
    fixture.run("CREATE OR REPLACE VIEW v AS SELECT a + 1 AS a FROM t");
    fixture.run("CREATE VIEW w AS SELECT a FROM v");
    fixture.query_schema(int("b"));
    assert!(fixture.refused("CREATE OR REPLACE VIEW v AS SELECT a AS b FROM t").1.contains("'app.w'"));
}

#[test]
fn a_view_cannot_read_itself_even_through_others() {
    let mut fixture = Fixture::with(&["CREATE TABLE t (a INT)"]);
    fixture.query_schema(int("a"));
    fixture.run("CREATE VIEW v AS SELECT a FROM t");
    fixture.run("CREATE VIEW w AS SELECT a FROM v WHERE a IN (SELECT a FROM v)");
    assert!(fixture.refused("CREATE OR REPLACE VIEW v AS SELECT a FROM w").1.contains("itself"));
}

#[test]
fn what_a_view_reads_is_not_dropped_under_it() {
    let mut fixture = Fixture::with(&["CREATE TABLE t (a INT)"]);
    fixture.query_schema(int("a"));
    fixture.run("CREATE VIEW v AS SELECT a FROM (SELECT a FROM app.t) AS s");
    fixture.run("CREATE VIEW w AS SELECT a FROM v");
    assert!(fixture.refused("DROP TABLE t").1.contains("view 'app.v' depends on it"));
    assert!(fixture.refused("DROP VIEW v").1.contains("'app.w'"));
    fixture.run("DROP VIEW v, w");
    fixture.run("DROP TABLE t");
}

#[test]
fn tables_and_views_are_dropped_as_what_they_are() {
    let mut fixture = Fixture::with(&["CREATE TABLE t (a INT)"]);
    fixture.query_schema(int("a"));
    fixture.run("CREATE VIEW v AS SELECT a FROM t");
    assert!(fixture.refused("DROP TABLE v").1.contains("DROP VIEW"));
    assert!(fixture.refused("DROP VIEW t").1.contains("DROP TABLE"));
    assert!(fixture.refused("TRUNCATE TABLE v").1.contains("view"));
    assert!(fixture.refused("ALTER TABLE v ADD COLUMN x INT").1.contains("view"));
}

#[test]
fn each_edit_is_one_version() {
    let mut fixture = Fixture::new();
    let before = fixture.catalog.version();
    fixture.run("CREATE TABLE t (a INT)");
    fixture.nothing("CREATE TABLE IF NOT EXISTS t (a INT)");
    fixture.run("DROP TABLE t");
    assert_eq!(fixture.catalog.version(), before + 2);
}

#[test]
fn an_edit_leaves_the_catalog_that_it_began_with_as_it_was() {
    let mut fixture = Fixture::with(&["CREATE TABLE t (a INT)"]);
    let held = fixture.catalog.clone();
    let copy = (*held).clone();
    fixture.run("ALTER TABLE t ADD COLUMN b INT");
    fixture.run("DROP TABLE t");
    assert_eq!(*held, copy);
}
