use kalamdb_commons::schema::AccessLevel;
use kalamdb_commons::types::ColumnType;

use super::*;
use crate::tests::{name, one, refuses};

fn operations(sql: &str) -> Vec<AlterOperation> {
    match one(sql) {
        Statement::AlterTable { operations, .. } => operations,
        other => panic!("{sql}: {other:?}"),
    }
}

fn operation_of(change: &str) -> AlterOperation {
    let mut all = operations(&format!("ALTER TABLE t {change}"));
    assert_eq!(all.len(), 1, "{change}");
    all.remove(0)
}

fn modified(column_type: Option<ColumnType>, nullable: Option<bool>, default: Option<Option<&str>>) -> AlterOperation {
    let default = default.map(|default| default.map(str::to_owned));
    AlterOperation::ModifyColumn { name: "c".to_owned(), column_type, nullable, default }
}

#[test]
fn the_table_may_be_absent() {
    let Statement::AlterTable { table, if_exists, operations } =
        one("ALTER TABLE IF EXISTS Ns.T ADD COLUMN a INT, DROP COLUMN b, RENAME COLUMN c TO d")
    else {
        panic!("ALTER TABLE")
    };
    assert_eq!((table, if_exists, operations.len()), (name("ns.t"), true, 3));
}

#[test]
fn add_column_in_every_form() {
    for change in ["ADD COLUMN c INT NOT NULL DEFAULT 3", "ADD c INT DEFAULT 3 NOT NULL"] {
        let AlterOperation::AddColumn { column, if_not_exists } = operation_of(change) else { panic!("{change}") };
        assert_eq!((column.name.as_str(), column.column_type, column.nullable), ("c", ColumnType::Int, false));
        assert_eq!((column.default.as_deref(), if_not_exists), (Some("3"), false));
    }
    let AlterOperation::AddColumn { column, if_not_exists } =
        operation_of("ADD COLUMN IF NOT EXISTS \"C\" VARCHAR(5) UNIQUE CHECK (\"C\" <> '')")
    else {
        panic!("ADD COLUMN")
    };
    assert!(if_not_exists && column.unique);
    assert_eq!((column.name.as_str(), column.checks.len()), ("C", 2));
}

#[test]
fn drop_and_rename_column_in_every_form() {
    for (change, if_exists) in [("DROP COLUMN c", false), ("DROP c", false), ("DROP COLUMN IF EXISTS c", true)] {
        assert_eq!(operation_of(change), AlterOperation::DropColumn { name: "c".to_owned(), if_exists }, "{change}");
    }
    for change in ["RENAME COLUMN c TO D", "RENAME c TO d"] {
        let renamed = AlterOperation::RenameColumn { from: "c".to_owned(), to: "d".to_owned() };
        assert_eq!(operation_of(change), renamed, "{change}");
    }
}

#[test]
fn modify_column_in_every_form() {
    let bigint = Some(ColumnType::BigInt);
    for (change, expected) in [
        ("MODIFY COLUMN c BIGINT", modified(bigint, None, None)),
        ("MODIFY c BIGINT", modified(bigint, None, None)),
        ("MODIFY COLUMN c TYPE BIGINT", modified(bigint, None, None)),
        ("MODIFY COLUMN c BIGINT NOT NULL DEFAULT 1", modified(bigint, Some(false), Some(Some("1")))),
        ("MODIFY COLUMN c BIGINT DEFAULT 1 NULL", modified(bigint, Some(true), Some(Some("1")))),
        ("MODIFY COLUMN c NOT NULL", modified(None, Some(false), None)),
        ("MODIFY COLUMN c DEFAULT 'x'", modified(None, None, Some(Some("'x'")))),
        ("MODIFY COLUMN c SET NOT NULL", modified(None, Some(false), None)),
        ("MODIFY COLUMN c DROP DEFAULT", modified(None, None, Some(None))),
        ("ALTER COLUMN c TYPE DECIMAL(5, 1)", modified(Some(ColumnType::Decimal(5, 1)), None, None)),
        ("ALTER COLUMN c SET DATA TYPE BIGINT", modified(bigint, None, None)),
        ("ALTER c TYPE BIGINT", modified(bigint, None, None)),
        ("ALTER COLUMN c SET NOT NULL", modified(None, Some(false), None)),
        ("ALTER COLUMN c DROP NOT NULL", modified(None, Some(true), None)),
        ("ALTER COLUMN c SET DEFAULT now()", modified(None, None, Some(Some("now()")))),
        ("ALTER COLUMN c DROP DEFAULT", modified(None, None, Some(None))),
    ] {
        assert_eq!(operation_of(change), expected, "{change}");
    }
}

#[test]
fn access_level_and_options() {
    for change in ["SET ACCESS LEVEL public", "SET ACCESS LEVEL 'PUBLIC'", "set access level Public"] {
        assert_eq!(operation_of(change), AlterOperation::SetAccessLevel(AccessLevel::Public), "{change}");
    }
    for change in ["SET (COMPRESSION = 'zstd', TTL_SECONDS = 5)", "SET OPTIONS (ttl_seconds = 5, compression = zstd)"] {
        let AlterOperation::SetOptions(options) = operation_of(change) else { panic!("{change}") };
        assert_eq!(options.ttl_seconds, Some(5));
        assert!(options.compression.is_some());
    }
}

#[test]
fn what_is_not_implemented_is_named() {
    refuses(&[
        ("ALTER TABLE t ADD CONSTRAINT u UNIQUE (a)", "ALTER TABLE ... ADD CONSTRAINT is not implemented"),
        ("ALTER TABLE t ADD PRIMARY KEY (a)", "ALTER TABLE ... ADD PRIMARY is not implemented"),
        ("ALTER TABLE t ADD UNIQUE (a)", "ALTER TABLE ... ADD UNIQUE is not implemented"),
        ("ALTER TABLE t ADD CHECK (a > 1)", "ALTER TABLE ... ADD CHECK is not implemented"),
        ("ALTER TABLE t ADD COLUMN (a INT, b INT)", "ADD COLUMN with parentheses"),
        ("ALTER TABLE t ADD COLUMN a INT PRIMARY KEY", "PRIMARY KEY in ADD COLUMN is not implemented"),
        ("ALTER TABLE t ADD COLUMN a JSON UNIQUE", "which cannot be part of a UNIQUE"),
        ("ALTER TABLE t ADD COLUMN a INT AFTER b", "AFTER after a column's type is not implemented"),
        ("ALTER TABLE t ADD COLUMN a INT FIRST", "FIRST after a column's type is not implemented"),
        ("ALTER TABLE t ADD COLUMN a INT DEFAULT b", "a DEFAULT cannot use a column"),
        ("ALTER TABLE t DROP CONSTRAINT c", "ALTER TABLE ... DROP CONSTRAINT is not implemented"),
        ("ALTER TABLE t DROP PRIMARY KEY", "ALTER TABLE ... DROP PRIMARY is not implemented"),
        ("ALTER TABLE t DROP COLUMN a CASCADE", "CASCADE in ALTER TABLE is not implemented"),
        ("ALTER TABLE t DROP COLUMN a RESTRICT", "RESTRICT in ALTER TABLE is not implemented"),
        ("ALTER TABLE t RENAME TO u", "ALTER TABLE ... RENAME TO is not implemented"),
        ("ALTER TABLE t RENAME CONSTRAINT a TO b", "ALTER TABLE ... RENAME CONSTRAINT is not implemented"),
        ("ALTER TABLE t ALTER COLUMN c TYPE INT USING c::INT", "USING in ALTER COLUMN is not implemented"),
        ("ALTER TABLE t ALTER COLUMN c SET STORAGE EXTERNAL", "expected TYPE, SET NOT NULL"),
        ("ALTER TABLE t MODIFY COLUMN c VARCHAR(5)", "VARCHAR(n) of a column that exists is not implemented"),
        ("ALTER TABLE t MODIFY COLUMN c SERIAL", "SERIAL of a column that exists is not implemented"),
        ("ALTER TABLE t MODIFY COLUMN c INT COLLATE x", "COLLATE in MODIFY COLUMN is not implemented"),
        ("ALTER TABLE t MODIFY COLUMN c INT UNIQUE", "UNIQUE in MODIFY COLUMN is not implemented"),
        ("ALTER TABLE t OWNER TO x", "ALTER TABLE ... OWNER is not implemented"),
        ("ALTER TABLE t ENABLE ROW LEVEL SECURITY", "ALTER TABLE ... ENABLE is not implemented"),
        ("ALTER TABLE t SET SCHEMA x", "ALTER TABLE ... SET SCHEMA is not implemented"),
        (
            "ALTER TABLE t SET ACCESS LEVEL secret",
            "the access level cannot be 'secret'; allowed is public, private or restricted",
        ),
        ("ALTER TABLE t SET (TYPE = 'user')", "the TYPE of a table cannot be changed"),
        ("ALTER TABLE t SET ()", "sets nothing"),
        ("ALTER TABLE t SET (COLOUR = 1)", "unknown table option 'COLOUR'"),
        ("ALTER TABLE ONLY t ADD COLUMN a INT", "ALTER TABLE ONLY is not implemented"),
        ("ALTER TABLE t", "expected ADD, DROP, RENAME, MODIFY, ALTER or SET"),
        ("ALTER TABLE t ADD COLUMN a INT,", "expected ADD"),
    ]);
}
