//! CREATE, DROP and TRUNCATE TABLE.

use arrow::datatypes::{DataType, Field, Schema};
use kalamdb_commons::ErrorKind;
use kalamdb_commons::ids::{ColumnId, Incarnation};
use kalamdb_commons::schema::{AccessLevel, Compression, TableKind};
use kalamdb_commons::types::ColumnType;

use crate::catalog::ExpressionRole;
use crate::catalog::fixture::{Fixture, table_ref};

#[test]
fn create_table_keeps_columns_keys_checks_and_options() {
    let fixture = Fixture::with(&["CREATE USER TABLE t (id INT, name TEXT NOT NULL DEFAULT 'x', email TEXT, \
         PRIMARY KEY (id), UNIQUE (email), CHECK (id > 0)) \
         WITH (STORAGE_ID='s3', FLUSH_POLICY='rows:10,interval:20', DELETED_RETENTION_HOURS=1, \
         BLOOM_FILTER_COLUMNS='name', BLOOM_FILTER_FPP=0.001, COMPRESSION='zstd')"]);
    let table = fixture.table("t");
    assert_eq!(table.kind, TableKind::User);
    let columns: Vec<_> = table.columns().iter().map(|c| (c.id.0, &*c.name, c.column_type, c.nullable)).collect();
    assert_eq!(
        columns,
        [(1, "id", ColumnType::Int, false), (2, "name", ColumnType::Text, false), (3, "email", ColumnType::Text, true)]
    );
    let keys: Vec<_> = table.keys.iter().map(|key| (key.name.as_str(), key.primary, key.columns.clone())).collect();
    assert_eq!(keys, [("t_pkey", true, vec![ColumnId(1)]), ("t_email_key", false, vec![ColumnId(3)])]);
    assert_eq!(table.checks[0].name, "t_id_check");
    assert_eq!(table.options.storage.as_str(), "s3");
    assert_eq!((table.options.flush.rows, table.options.flush.interval_seconds), (Some(10), Some(20)));
    assert_eq!(table.options.bloom_filter_columns, [ColumnId(2)]);
    assert_eq!(table.options.compression, Compression::Zstd);
    assert_eq!(table.options.deleted_retention_hours, 1);
}

#[test]
fn a_table_of_no_kind_is_shared_and_private() {
    let fixture = Fixture::with(&["CREATE TABLE t (id INT)"]);
    let table = fixture.table("t");
    assert_eq!((table.kind, table.options.access_level), (TableKind::Shared, AccessLevel::Private));
}

#[test]
fn a_table_needs_a_namespace_that_exists() {
    let mut fixture = Fixture::new();
    let (kind, message) = fixture.refused("CREATE TABLE nowhere.t (id INT)");
    assert_eq!((kind, message.as_str()), (ErrorKind::NotFound, "namespace 'nowhere' does not exist"));
    fixture.context.current_namespace = None;
    let (kind, message) = fixture.refused("CREATE TABLE t (id INT)");
    assert_eq!(kind, ErrorKind::InvalidInput);
    assert!(message.contains("USE"), "{message}");
}

#[test]
fn nothing_is_made_in_the_servers_namespaces() {
    let fixture = Fixture::new();
    for namespace in ["system", "information_schema"] {
        let (_, message) = fixture.refused(&format!("CREATE TABLE {namespace}.t (id INT)"));
        assert!(message.contains("belongs to the server"), "{message}");
        fixture.refused(&format!("CREATE NAMESPACE {namespace}"));
        fixture.refused(&format!("DROP NAMESPACE {namespace}"));
    }
}

#[test]
fn a_name_is_taken_by_tables_and_views_alike() {
    let mut fixture = Fixture::with(&["CREATE TABLE t (id INT)"]);
    fixture.query_schema(Schema::new(vec![Field::new("id", DataType::Int32, true)]));
    fixture.run("CREATE VIEW v AS SELECT id FROM t");
    assert_eq!(
        fixture.refused("CREATE TABLE t (x INT)"),
        (ErrorKind::AlreadyExists, "table 'app.t' already exists".into())
    );
    assert_eq!(
        fixture.refused("CREATE TABLE v (x INT)"),
        (ErrorKind::AlreadyExists, "view 'app.v' already exists".into())
    );
    assert_eq!(fixture.nothing("CREATE TABLE IF NOT EXISTS t (x INT)"), "table 'app.t' already exists");
}

/// FR-075: a user's column is never mistaken for one of the server's.
#[test]
fn fr_075_system_column_names_are_refused_in_any_case() {
    let fixture = Fixture::new();
    for name in ["_id", "_updated", "_deleted", "_seq", "_born", "\"_ID\""] {
        let (kind, message) = fixture.refused(&format!("CREATE TABLE t (a INT, {name} INT)"));
        assert_eq!(kind, ErrorKind::InvalidInput);
        assert!(message.to_lowercase().contains(name.trim_matches('"').to_lowercase().as_str()), "{message}");
    }
}

/// FR-073.
#[test]
fn fr_073_a_users_own_id_column_is_allowed() {
    Fixture::with(&["CREATE TABLE t (id BIGINT PRIMARY KEY, \"ID\" INT)"]);
}

#[test]
fn keys_name_columns_that_exist_and_can_be_keys() {
    let fixture = Fixture::new();
    assert!(fixture.refused("CREATE TABLE t (a INT, PRIMARY KEY (b))").1.contains("'b'"));
    assert!(fixture.refused("CREATE TABLE t (a JSON, UNIQUE (a))").1.contains("JSON"));
    assert!(fixture.refused("CREATE TABLE t (a DOUBLE PRIMARY KEY)").1.contains("DOUBLE"));
    assert!(fixture.refused("CREATE TABLE t (a INT, UNIQUE (a, a))").1.contains("'a'"));
}

#[test]
fn the_columns_of_a_primary_key_are_not_null() {
    let fixture = Fixture::with(&["CREATE TABLE t (a INT, b INT, c INT, PRIMARY KEY (b, a))"]);
    let nullable: Vec<bool> = fixture.table("t").columns().iter().map(|column| column.nullable).collect();
    assert_eq!(nullable, [false, false, true]);
    assert_eq!(fixture.table("t").keys[0].columns, [ColumnId(2), ColumnId(1)]);
}

#[test]
fn names_of_keys_and_indexes_do_not_collide_within_a_namespace() {
    let fixture = Fixture::with(&[
        "CREATE TABLE t (a INT, CONSTRAINT k UNIQUE (a))",
        "CREATE TABLE t2 (a INT UNIQUE, b INT, UNIQUE (a))",
    ]);
    assert!(fixture.refused("CREATE TABLE u (a INT, CONSTRAINT k UNIQUE (a))").1.contains("'k' already exists"));
    let names: Vec<&str> = fixture.table("t2").keys.iter().map(|key| key.name.as_str()).collect();
    assert_eq!(names, ["t2_a_key", "t2_a_key1"]);
}

#[test]
fn checks_see_the_users_columns_and_no_others() {
    let fixture = Fixture::new();
    assert!(fixture.refused("CREATE TABLE t (a INT, CHECK (b > 0))").1.contains("column 'b'"));
    assert!(fixture.refused("CREATE TABLE t (a INT, CHECK (_updated > a))").1.contains("_updated"));
    let fixture =
        Fixture::with(&["CREATE TABLE t (a INT CHECK (a > 0), b INT, CHECK (a < b), CHECK (b < 10), CHECK (b > 1))"]);
    let names: Vec<&str> = fixture.table("t").checks.iter().map(|check| check.name.as_str()).collect();
    assert_eq!(names, ["t_a_check", "t_check", "t_b_check", "t_b_check1"]);
}

#[test]
fn every_expression_is_handed_on_for_verification() {
    let mut fixture = Fixture::new();
    let edit = fixture.run("CREATE TABLE t (a INT DEFAULT 1, b TEXT DEFAULT CURRENT_USER(), CHECK (a > 0))");
    let roles: Vec<_> = edit.expressions.iter().map(|expression| expression.role.clone()).collect();
    assert_eq!(
        roles,
        [
            ExpressionRole::Default(ColumnId(1)),
            ExpressionRole::Default(ColumnId(2)),
            ExpressionRole::Check("t_a_check".into())
        ]
    );
    assert_eq!(edit.expressions[0].describe(), "the default of column 'a'");
}

#[test]
fn a_stream_table_needs_a_time_to_live_and_has_no_cold_options() {
    let fixture = Fixture::with(&["CREATE STREAM TABLE s (a INT) TTL 60"]);
    assert_eq!(fixture.table("s").options.ttl_seconds, Some(60));
    assert!(fixture.refused("CREATE STREAM TABLE t (a INT)").1.contains("TTL"));
    assert!(
        fixture
            .refused("CREATE STREAM TABLE t (a INT) WITH (TTL_SECONDS=5, COMPRESSION='zstd')")
            .1
            .contains("COMPRESSION")
    );
}

#[test]
fn options_that_do_not_fit_the_kind_are_refused_by_name() {
    let fixture = Fixture::new();
    assert!(fixture.refused("CREATE USER TABLE t (a INT) WITH (ACCESS_LEVEL='public')").1.contains("ACCESS_LEVEL"));
    assert!(fixture.refused("CREATE SHARED TABLE t (a INT) WITH (TTL_SECONDS=5)").1.contains("TTL_SECONDS"));
}

#[test]
fn an_unknown_storage_is_refused_and_the_known_ones_are_named() {
    let (_, message) = Fixture::new().refused("CREATE TABLE t (a INT) WITH (STORAGE_ID='nowhere')");
    assert!(message.contains("'nowhere'") && message.contains("local, s3"), "{message}");
}

#[test]
fn bloom_filter_columns_must_exist() {
    let (_, message) = Fixture::new().refused("CREATE TABLE t (a INT) WITH (BLOOM_FILTER_COLUMNS='a,b')");
    assert!(message.contains("'b'") && message.contains("BLOOM_FILTER_COLUMNS"), "{message}");
}

#[test]
fn ids_and_incarnations_are_never_given_twice() {
    let mut fixture = Fixture::with(&["CREATE TABLE t (a INT)"]);
    let first = (fixture.table("t").id, fixture.table("t").incarnation);
    fixture.run("DROP TABLE t");
    fixture.run("CREATE TABLE t (a INT)");
    let second = (fixture.table("t").id, fixture.table("t").incarnation);
    assert!(second.0 > first.0 && second.1 > first.1);
}

#[test]
fn drop_table_leaves_its_contents_to_be_removed() {
    let mut fixture = Fixture::with(&["CREATE TABLE t (a INT)"]);
    let old = fixture.table("t").clone();
    let edit = fixture.run("DROP TABLE t");
    assert!(fixture.catalog.table(&table_ref("t")).is_none());
    assert!(fixture.catalog.table_by_incarnation(old.incarnation).is_none());
    assert_eq!(edit.affected, [table_ref("t")]);
    assert_eq!((edit.dropped[0].incarnation, edit.dropped[0].successor), (Incarnation(1), Incarnation(2)));
    assert_eq!(fixture.catalog.dropped().len(), 1);

    fixture.run("CREATE TABLE t (a INT)");
    assert!(fixture.table("t").incarnation > edit.dropped[0].successor);

    let done = crate::catalog::CatalogEdit::contents_removed(&fixture.catalog, old.incarnation);
    assert_eq!(done.next.dropped().len(), 0);
}

#[test]
fn drop_of_several_tables_is_all_or_nothing() {
    let fixture = Fixture::with(&["CREATE TABLE a (x INT)", "CREATE TABLE b (x INT)"]);
    assert_eq!(fixture.refused("DROP TABLE a, c").1, "table 'app.c' does not exist");
    let mut fixture = fixture;
    fixture.run("DROP TABLE IF EXISTS a, c, b");
    assert_eq!(fixture.catalog.tables().len(), 0);
    assert_eq!(fixture.nothing("DROP TABLE IF EXISTS a"), "table 'a' does not exist");
}

#[test]
fn truncate_keeps_the_table_and_ends_its_contents() {
    let mut fixture = Fixture::with(&["CREATE TABLE t (a INT PRIMARY KEY)", "CREATE INDEX i ON t (a)"]);
    let before = fixture.table("t").clone();
    let edit = fixture.run("TRUNCATE TABLE t");
    let after = fixture.table("t");
    assert_eq!((after.id, &after.keys, &after.indexes), (before.id, &before.keys, &before.indexes));
    assert!(after.incarnation > before.incarnation);
    assert_eq!(edit.dropped[0].successor, after.incarnation);
    assert_eq!(*edit.dropped[0].table, *before);
    assert!(fixture.catalog.table_by_incarnation(before.incarnation).is_none());
    assert_eq!(fixture.catalog.table_by_incarnation(after.incarnation).unwrap().name, table_ref("t"));
    assert_eq!(fixture.refused("TRUNCATE TABLE nope").0, ErrorKind::NotFound);
}

#[test]
fn create_table_as_takes_the_columns_of_its_query() {
    let mut fixture = Fixture::with(&["CREATE TABLE t (a INT)"]);
    fixture.query_schema(Schema::new(vec![
        Field::new("a", DataType::Int32, false),
        ColumnType::Json.field("b", true),
        Field::new("count(*)", DataType::Int64, false),
    ]));
    fixture.run("CREATE TABLE copy AS SELECT a, b, count(*) FROM t");
    let columns: Vec<_> =
        fixture.table("copy").columns().iter().map(|c| (&*c.name, c.column_type, c.nullable)).collect();
    assert_eq!(
        columns,
        [("a", ColumnType::Int, true), ("b", ColumnType::Json, true), ("count(*)", ColumnType::BigInt, true)]
    );

    let list = DataType::List(Field::new("item", DataType::Int32, true).into());
    fixture.query_schema(Schema::new(vec![Field::new("l", list, true)]));
    assert!(fixture.refused("CREATE TABLE c2 AS SELECT l FROM t").1.contains("'l'"));
    fixture.query_schema(Schema::new(vec![Field::new("_id", DataType::Int64, true)]));
    assert!(fixture.refused("CREATE TABLE c2 AS SELECT _id FROM t").1.contains("_id"));
}

#[test]
fn names_are_case_sensitive_and_may_hold_any_letters() {
    let mut fixture = Fixture::with(&["CREATE NAMESPACE \"Ünï/../x\"", "CREATE TABLE \"Ünï/../x\".\"T:a\" (a INT)"]);
    fixture.run("CREATE TABLE \"T\" (a INT)");
    fixture.run("CREATE TABLE T (a INT)");
    assert_eq!(fixture.catalog.tables().len(), 3);
}

#[test]
fn names_have_1_to_64_bytes() {
    let fixture = Fixture::new();
    let long = "x".repeat(65);
    assert!(fixture.refused(&format!("CREATE TABLE {long} (a INT)")).1.contains("64"));
    assert!(fixture.refused(&format!("CREATE TABLE t ({long} INT)")).1.contains("64"));
    assert!(fixture.refused(&format!("CREATE NAMESPACE {}", "x".repeat(300))).1.contains("64"));
    assert!(fixture.refused("CREATE TABLE \"\" (a INT)").1.contains("empty"));
}
