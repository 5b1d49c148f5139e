//! ALTER TABLE.

use arrow::datatypes::{DataType, Field, Schema};
use kalamdb_commons::ErrorKind;
use kalamdb_commons::ids::{ColumnId, SchemaVersion};
use kalamdb_commons::schema::AccessLevel;
use kalamdb_commons::types::ColumnType;

use crate::catalog::fixture::{Fixture, table_ref};
use crate::catalog::{DataCheck, ExpressionRole};

fn fixture() -> Fixture {
    Fixture::with(&["CREATE TABLE t (a INT PRIMARY KEY, b TEXT, c INT, CHECK (c > 0))", "CREATE INDEX i ON t (b)"])
}

fn columns(fixture: &Fixture) -> Vec<(u32, String)> {
    fixture.table("t").columns().iter().map(|column| (column.id.0, column.name.to_string())).collect()
}

fn empty_check(checks: &[DataCheck]) -> Option<&str> {
    checks.iter().find_map(|check| match check {
        DataCheck::Empty { otherwise, .. } => Some(otherwise.as_str()),
        _ => None,
    })
}

#[test]
fn a_change_of_columns_is_a_new_version_and_old_ones_stay() {
    let mut fixture = fixture();
    let edit = fixture.run("ALTER TABLE t ADD COLUMN d TEXT");
    let table = fixture.table("t");
    assert_eq!(table.version, SchemaVersion(2));
    assert_eq!(table.columns_at(SchemaVersion(1)).unwrap().len(), 3);
    assert_eq!(table.columns().len(), 4);
    assert_eq!(edit.affected, [table_ref("t")]);
    assert_eq!(edit.checks, []);
}

#[test]
fn column_ids_are_never_used_again() {
    let mut fixture = Fixture::with(&["CREATE TABLE t (a INT, b INT)"]);
    fixture.run("ALTER TABLE t DROP COLUMN b");
    fixture.run("ALTER TABLE t ADD COLUMN b INT");
    assert_eq!(columns(&fixture), [(1, "a".into()), (3, "b".into())]);
    fixture.run("ALTER TABLE t DROP COLUMN b, ADD COLUMN b TEXT");
    assert_eq!(columns(&fixture), [(1, "a".into()), (4, "b".into())]);
}

#[test]
fn a_constant_default_is_what_older_rows_read() {
    let mut fixture = fixture();
    let edit = fixture.run("ALTER TABLE t ADD COLUMN d INT NOT NULL DEFAULT 5");
    assert_eq!(fixture.table("t").column("d").unwrap().missing.as_deref(), Some("5"));
    assert_eq!(edit.checks, []);
    let roles: Vec<_> = edit.expressions.iter().map(|expression| &expression.role).collect();
    assert!(roles.contains(&&ExpressionRole::Default(ColumnId(4))));
    assert!(roles.contains(&&ExpressionRole::Missing(ColumnId(4))));
    fixture.run("ALTER TABLE t ADD COLUMN e INT DEFAULT -(2 + 3)");
    assert!(fixture.table("t").column("e").unwrap().missing.is_some());
}

#[test]
fn now_as_a_default_gives_older_rows_the_time_of_the_statement() {
    let mut fixture = fixture();
    fixture.run("ALTER TABLE t ADD COLUMN d TIMESTAMP NOT NULL DEFAULT NOW()");
    assert_eq!(fixture.table("t").column("d").unwrap().missing.as_deref(), Some("'2025-06-15 15:06:40.000'"));
    fixture.run("ALTER TABLE t ADD COLUMN e TIMESTAMP DEFAULT CURRENT_TIMESTAMP");
    assert!(fixture.table("t").column("e").unwrap().missing.is_some());
}

#[test]
fn a_default_that_differs_by_row_needs_an_empty_table() {
    for default in ["ULID()", "CURRENT_USER()", "random()", "concat('a', ULID())"] {
        let edit = fixture().run(&format!("ALTER TABLE t ADD COLUMN d TEXT DEFAULT {default}"));
        assert!(empty_check(&edit.checks).unwrap().contains("'d'"), "{default}");
    }
}

#[test]
fn a_function_that_always_gives_the_same_is_constant() {
    let mut fixture = fixture();
    let edit = fixture.run("ALTER TABLE t ADD COLUMN d TEXT DEFAULT upper(concat('a', 'b'))");
    assert_eq!(edit.checks, []);
    assert!(fixture.table("t").column("d").unwrap().missing.is_some());
    fixture.run("ALTER TABLE t ADD COLUMN e DATE NOT NULL DEFAULT CURRENT_DATE");
    assert_eq!(fixture.table("t").column("e").unwrap().missing.as_deref(), Some("'2025-06-15'"));
}

#[test]
fn a_later_default_does_not_change_older_rows() {
    let mut fixture = fixture();
    fixture.run("ALTER TABLE t ADD COLUMN d INT DEFAULT 5");
    fixture.run("ALTER TABLE t ALTER COLUMN d SET DEFAULT 6");
    assert_eq!(fixture.table("t").column("d").unwrap().missing.as_deref(), Some("5"));
    fixture.run("ALTER TABLE t ALTER COLUMN d DROP DEFAULT");
    assert_eq!(fixture.table("t").column("d").unwrap().default, None);
}

#[test]
fn not_null_without_a_default_needs_an_empty_table() {
    let edit = fixture().run("ALTER TABLE t ADD COLUMN d INT NOT NULL");
    assert!(empty_check(&edit.checks).unwrap().contains("'d'"));
}

#[test]
fn a_new_unique_column_needs_an_empty_table() {
    let mut fixture = fixture();
    let edit = fixture.run("ALTER TABLE t ADD COLUMN d INT UNIQUE");
    assert!(empty_check(&edit.checks).unwrap().contains("UNIQUE"));
    assert_eq!(fixture.table("t").keys[1].columns, [ColumnId(4)]);
}

#[test]
fn a_new_check_must_hold_for_existing_rows() {
    let mut fixture = fixture();
    let edit = fixture.run("ALTER TABLE t ADD COLUMN d INT DEFAULT 5 CHECK (d > 3)");
    assert!(
        edit.checks.iter().any(|check| matches!(check, DataCheck::Holds { check, .. } if check.name == "t_d_check"))
    );
    assert!(edit.expressions.iter().any(|e| e.role == ExpressionRole::Check("t_d_check".into())));
}

#[test]
fn a_column_that_exists_is_not_added() {
    let fixture = fixture();
    let (kind, message) = fixture.refused("ALTER TABLE t ADD COLUMN b INT");
    assert_eq!((kind, message.as_str()), (ErrorKind::AlreadyExists, "column 'b' of table 'app.t' already exists"));
    assert_eq!(fixture.nothing("ALTER TABLE t ADD COLUMN IF NOT EXISTS b INT"), message);
    assert!(fixture.refused("ALTER TABLE t ADD COLUMN _deleted INT").1.contains("_deleted"));
}

#[test]
fn used_columns_are_not_dropped_and_what_uses_them_is_named() {
    let mut fixture = fixture();
    assert!(fixture.refused("ALTER TABLE t DROP COLUMN a").1.contains("primary key 't_pkey'"));
    assert!(fixture.refused("ALTER TABLE t DROP COLUMN b").1.contains("index 'i'"));
    assert!(fixture.refused("ALTER TABLE t DROP COLUMN c").1.contains("check constraint 't_c_check'"));
    assert!(fixture.refused("ALTER TABLE t DROP COLUMN _id").1.contains("_id"));
    assert!(fixture.refused("ALTER TABLE t DROP COLUMN nope").1.contains("'nope'"));
    assert!(fixture.nothing("ALTER TABLE t DROP COLUMN IF EXISTS nope").contains("'nope'"));

    fixture.run("DROP INDEX i");
    fixture.query_schema(Schema::new(vec![Field::new("b", DataType::Utf8, true)]));
    fixture.run("CREATE VIEW v AS SELECT b FROM t");
    assert!(fixture.refused("ALTER TABLE t DROP COLUMN b").1.contains("view 'app.v'"));
    assert!(fixture.refused("ALTER TABLE t RENAME COLUMN b TO x").1.contains("view 'app.v'"));
    fixture.run("DROP VIEW v");
    fixture.run("ALTER TABLE t DROP COLUMN b");
}

#[test]
fn the_last_column_stays() {
    let fixture = Fixture::with(&["CREATE TABLE t (a INT)"]);
    assert!(fixture.refused("ALTER TABLE t DROP COLUMN a").1.contains("last"));
}

#[test]
fn dropping_a_column_takes_it_out_of_the_bloom_filters() {
    let mut fixture = Fixture::with(&["CREATE TABLE t (a INT, b INT) WITH (BLOOM_FILTER_COLUMNS='a,b')"]);
    fixture.run("ALTER TABLE t DROP COLUMN b");
    assert_eq!(fixture.table("t").options.bloom_filter_columns, [ColumnId(1)]);
}

#[test]
fn rename_keeps_the_column_and_follows_into_checks() {
    let mut fixture = Fixture::with(&["CREATE TABLE t (a INT UNIQUE, b INT, CHECK (a > 0 AND b < a))"]);
    let edit = fixture.run("ALTER TABLE t RENAME COLUMN a TO \"Big A\"");
    assert_eq!(columns(&fixture), [(1, "Big A".into()), (2, "b".into())]);
    assert_eq!(fixture.table("t").checks[0].expression, "\"Big A\" > 0 AND b < \"Big A\"");
    assert_eq!(edit.checks, []);
    assert!(edit.expressions.iter().any(|e| matches!(e.role, ExpressionRole::Check(_))));
    assert!(fixture.refused("ALTER TABLE t RENAME COLUMN b TO \"Big A\"").1.contains("already exists"));
    assert!(fixture.refused("ALTER TABLE t RENAME COLUMN b TO _seq").1.contains("_seq"));
}

#[test]
fn a_retyped_column_must_convert() {
    let mut fixture = fixture();
    let edit = fixture.run("ALTER TABLE t MODIFY COLUMN c BIGINT");
    let check = DataCheck::Converts { table: table_ref("t"), column: ColumnId(3), to: ColumnType::BigInt };
    assert_eq!(edit.checks, [check]);
    assert_eq!(fixture.table("t").columns_at(SchemaVersion(1)).unwrap()[2].column_type, ColumnType::Int);
    // A CHECK over it has to plan again.
    assert!(edit.expressions.iter().any(|e| matches!(e.role, ExpressionRole::Check(_))));
}

#[test]
fn key_columns_are_not_retyped() {
    let fixture = fixture();
    assert!(fixture.refused("ALTER TABLE t MODIFY COLUMN a BIGINT").1.contains("key 't_pkey'"));
    assert!(fixture.refused("ALTER TABLE t ALTER COLUMN a DROP NOT NULL").1.contains("primary key"));
}

#[test]
fn a_second_retype_needs_agreeing_conversions_or_an_empty_table() {
    let mut fixture = Fixture::with(&["CREATE TABLE t (a SMALLINT, b TEXT)", "ALTER TABLE t MODIFY COLUMN a INT"]);
    let edit = fixture.run("ALTER TABLE t MODIFY COLUMN a BIGINT");
    assert_eq!(empty_check(&edit.checks), None);
    fixture.run("ALTER TABLE t MODIFY COLUMN b DATE");
    let edit = fixture.run("ALTER TABLE t MODIFY COLUMN b TEXT");
    assert!(empty_check(&edit.checks).unwrap().contains("'b'"));
}

#[test]
fn set_not_null_asks_the_data() {
    let edit = fixture().run("ALTER TABLE t ALTER COLUMN c SET NOT NULL");
    assert_eq!(edit.checks, [DataCheck::NotNull { table: table_ref("t"), column: ColumnId(3) }]);
}

#[test]
fn several_operations_are_one_version_and_are_checked_as_a_whole() {
    let mut fixture = fixture();
    let edit = fixture
        .run("ALTER TABLE t RENAME COLUMN c TO d, ALTER COLUMN d TYPE BIGINT, ALTER COLUMN d SET NOT NULL, ADD COLUMN c TEXT");
    assert_eq!(fixture.table("t").version, SchemaVersion(2));
    assert_eq!(
        edit.checks,
        [
            DataCheck::Converts { table: table_ref("t"), column: ColumnId(3), to: ColumnType::BigInt },
            DataCheck::NotNull { table: table_ref("t"), column: ColumnId(3) },
        ]
    );
    assert_eq!(columns(&fixture).last().unwrap(), &(4, "c".into()));
}

#[test]
fn one_bad_operation_refuses_all() {
    let fixture = fixture();
    fixture.refused("ALTER TABLE t ADD COLUMN x INT, DROP COLUMN nope");
    assert_eq!(fixture.table("t").version, SchemaVersion(1));
}

#[test]
fn what_changes_nothing_is_no_edit() {
    let fixture = fixture();
    fixture.nothing("ALTER TABLE t ALTER COLUMN c DROP NOT NULL");
    fixture.nothing("ALTER TABLE t MODIFY COLUMN c INT");
    fixture.nothing("ALTER TABLE IF EXISTS nope ADD COLUMN x INT");
    assert_eq!(fixture.refused("ALTER TABLE nope ADD COLUMN x INT").1, "table 'app.nope' does not exist");
}

#[test]
fn the_access_level_is_for_shared_tables_and_no_new_schema_version() {
    let mut fixture = fixture();
    fixture.run("ALTER TABLE t SET ACCESS LEVEL public");
    let table = fixture.table("t");
    assert_eq!((table.options.access_level, table.version), (AccessLevel::Public, SchemaVersion(1)));
    fixture.run("CREATE USER TABLE u (a INT)");
    assert!(fixture.refused("ALTER TABLE u SET ACCESS LEVEL public").1.contains("SHARED"));
}

#[test]
fn options_change_but_the_storage_stays() {
    let mut fixture = fixture();
    fixture.run("ALTER TABLE t SET (FLUSH_POLICY='rows:7', BLOOM_FILTER_COLUMNS='c')");
    let table = fixture.table("t");
    assert_eq!((table.options.flush.rows, table.version), (Some(7), SchemaVersion(1)));
    assert_eq!(table.options.bloom_filter_columns, [ColumnId(3)]);
    assert!(fixture.refused("ALTER TABLE t SET (STORAGE_ID='s3')").1.contains("STORAGE_ID"));
    assert!(fixture.refused("ALTER TABLE t SET (TTL_SECONDS=5)").1.contains("TTL_SECONDS"));
}
