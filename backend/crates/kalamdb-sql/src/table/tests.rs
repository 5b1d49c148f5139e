use kalamdb_commons::schema::{AccessLevel, Compression};

use super::*;
use crate::Statement;
use crate::statement::CheckDef;
use crate::tests::{name, one, refuses};

fn created(sql: &str) -> CreateTable {
    match one(sql) {
        Statement::CreateTable(table) => table,
        other => panic!("{sql}: {other:?}"),
    }
}

fn key(name: Option<&str>, columns: &[&str]) -> KeyDef {
    KeyDef { name: name.map(str::to_owned), columns: columns.iter().map(|column| (*column).to_owned()).collect() }
}

fn check(name: Option<&str>, expression: &str) -> CheckDef {
    CheckDef { name: name.map(str::to_owned), expression: expression.to_owned() }
}

fn policy(rows: Option<u64>, interval_seconds: Option<u64>) -> Option<FlushPolicy> {
    Some(FlushPolicy { rows, interval_seconds })
}

#[test]
fn the_kind_is_a_keyword_or_an_option() {
    for (sql, kind) in [
        ("CREATE TABLE t (a INT)", None),
        ("CREATE USER TABLE t (a INT)", Some(TableKind::User)),
        ("create shared table t (a INT)", Some(TableKind::Shared)),
        ("CREATE STREAM TABLE t (a INT)", Some(TableKind::Stream)),
        ("CREATE TABLE t (a INT) WITH (TYPE='USER')", Some(TableKind::User)),
        ("CREATE TABLE t (a INT) WITH (type = stream)", Some(TableKind::Stream)),
        ("CREATE SHARED TABLE t (a INT) WITH (TYPE='shared')", Some(TableKind::Shared)),
    ] {
        assert_eq!(created(sql).kind, kind, "{sql}");
    }
    refuses(&[(
        "CREATE USER TABLE t (a INT) WITH (TYPE='SHARED')",
        "the table is USER by its keyword and SHARED by its option TYPE",
    )]);
}

#[test]
fn names_and_if_not_exists() {
    let table = created("CREATE TABLE IF NOT EXISTS App.\"Chat Log\" (Id INT, \"Id\" INT)");
    assert!(table.if_not_exists);
    assert_eq!(table.name, name("app.Chat Log"));
    let names: Vec<&str> = table.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(names, ["id", "Id"]);
    assert!(!created("CREATE TABLE t (a INT)").if_not_exists);
}

#[test]
fn columns_have_their_constraints_in_any_order() {
    for sql in [
        "CREATE TABLE t (a INT NOT NULL DEFAULT 1 UNIQUE CHECK (a > 0))",
        "CREATE TABLE t (a INT CHECK (a > 0) UNIQUE DEFAULT 1 NOT NULL)",
    ] {
        let table = created(sql);
        let column = &table.columns[0];
        assert_eq!((column.nullable, column.default.as_deref(), column.unique), (false, Some("1"), true), "{sql}");
        assert_eq!(table.uniques, [key(None, &["a"])], "{sql}");
        assert_eq!(table.checks, [check(None, "a > 0")], "{sql}");
        assert_eq!(column.checks, table.checks, "{sql}");
    }
    let column = &created("CREATE TABLE t (a INT NULL)").columns[0];
    assert!(column.nullable && column.default.is_none() && !column.unique && !column.primary_key);
}

#[test]
fn defaults_keep_the_text_that_was_written() {
    for text in [
        "1",
        "-1",
        "'it''s; -- not a comment'",
        "NULL",
        "TRUE",
        "NOW()",
        "CURRENT_TIMESTAMP",
        "SNOWFLAKE_ID()",
        "UUID_V7()",
        "ULID()",
        "CURRENT_USER()",
        "CURRENT_USER",
        "now() + INTERVAL '1 day'",
        "(1 + 2) * 3",
        "'{}'::JSON",
        "E'a\\nb'",
        "CASE WHEN TRUE THEN 1 END",
        "upper('x')",
        "'ä€🙂'",
        "DATE '2020-01-01'",
    ] {
        let table = created(&format!("CREATE TABLE t (a TEXT DEFAULT {text} NOT NULL, b INT DEFAULT {text})"));
        assert_eq!(table.columns[0].default.as_deref(), Some(text));
        assert_eq!(table.columns[1].default.as_deref(), Some(text));
        crate::expr::parse(text).expect("an expression");
    }
}

#[test]
fn a_default_cannot_look_at_anything() {
    refuses(&[
        ("CREATE TABLE t (a INT, b INT DEFAULT a)", "a DEFAULT cannot use a column"),
        ("CREATE TABLE t (b TEXT DEFAULT \"x\")", "text is written in single quotes"),
        ("CREATE TABLE t (b INT DEFAULT t.a + 1)", "a DEFAULT cannot use a column"),
        ("CREATE TABLE t (b INT DEFAULT $1)", "a DEFAULT cannot use a parameter"),
        ("CREATE TABLE t (b INT DEFAULT (SELECT 1))", "a DEFAULT cannot use a subquery"),
        ("CREATE TABLE t (b INT DEFAULT f((SELECT 1)))", "a DEFAULT cannot use a subquery"),
        ("CREATE TABLE t (b INT DEFAULT row_number() OVER ())", "a DEFAULT cannot use a window function"),
        ("CREATE TABLE t (b TEXT DEFAULT 'x' COLLATE \"C\")", "COLLATE"),
        ("CREATE TABLE t (b INT DEFAULT)", "found )"),
    ]);
}

#[test]
fn a_check_cannot_use_parameters_and_subqueries() {
    refuses(&[
        ("CREATE TABLE t (a INT CHECK (a > $1))", "a CHECK cannot use a parameter"),
        ("CREATE TABLE t (a INT, CHECK (a IN (SELECT 1)))", "a CHECK cannot use a subquery"),
        ("CREATE TABLE t (a INT CHECK a > 1)", "expected '('"),
        ("CREATE TABLE t (a INT CHECK ())", "found )"),
    ]);
}

#[test]
fn constraints_of_the_table_with_and_without_names() {
    let table = created(
        "CREATE TABLE t (a INT, b INT, c TEXT CONSTRAINT c_ok CHECK (c <> '' /* x */), CONSTRAINT Pk PRIMARY KEY (b, a), \
         UNIQUE (a, c), CONSTRAINT \"U\" UNIQUE (c), CHECK (a > b), CONSTRAINT ab CHECK (a <> 0))",
    );
    assert_eq!(table.primary_key, Some(key(Some("pk"), &["b", "a"])));
    assert_eq!(table.uniques, [key(None, &["a", "c"]), key(Some("U"), &["c"])]);
    assert_eq!(table.checks, [check(Some("c_ok"), "c <> ''"), check(None, "a > b"), check(Some("ab"), "a <> 0")]);
}

#[test]
fn key_columns_are_not_null() {
    let table = created("CREATE TABLE t (a INT, b TEXT, c INT, PRIMARY KEY (a, b))");
    let nullable: Vec<bool> = table.columns.iter().map(|column| column.nullable).collect();
    assert_eq!(nullable, [false, false, true]);
    let table = created("CREATE TABLE t (a INT PRIMARY KEY)");
    assert_eq!(table.primary_key, Some(key(None, &["a"])));
    assert!(table.columns[0].primary_key && !table.columns[0].nullable);
}

#[test]
fn auto_increment_is_a_snowflake_id() {
    for sql in [
        "CREATE TABLE t (a BIGINT AUTO_INCREMENT)",
        "CREATE TABLE t (a BIGINT PRIMARY KEY auto_increment)",
        "CREATE TABLE t (a BIGINT AUTOINCREMENT NOT NULL)",
    ] {
        let column = &created(sql).columns[0];
        assert_eq!(column.default.as_deref(), Some("SNOWFLAKE_ID()"), "{sql}");
        assert!(!column.nullable, "{sql}");
    }
    refuses(&[
        ("CREATE TABLE t (a INT AUTO_INCREMENT)", "AUTO_INCREMENT needs BIGINT"),
        ("CREATE TABLE t (a BIGINT AUTO_INCREMENT DEFAULT 1)", "both AUTO_INCREMENT and DEFAULT"),
        ("CREATE TABLE t (a SERIAL DEFAULT 1)", "both AUTO_INCREMENT and DEFAULT"),
        ("CREATE TABLE t (a BIGINT NULL AUTO_INCREMENT)", "cannot be NULL"),
    ]);
}

#[test]
fn names_must_fit_together() {
    refuses(&[
        ("CREATE TABLE t ()", "expected a column name"),
        ("CREATE TABLE t (a INT, A TEXT)", "column 'a' is declared twice in table 't'"),
        ("CREATE TABLE t (PRIMARY KEY (a))", "has no columns"),
        (
            "CREATE TABLE t (a INT, PRIMARY KEY (b))",
            "PRIMARY KEY names the column 'b', which is not declared; there are a",
        ),
        ("CREATE TABLE t (a INT, UNIQUE (a, b))", "UNIQUE names the column 'b'"),
        ("CREATE TABLE t (a INT, UNIQUE (a, a))", "column 'a' is named twice"),
        ("CREATE TABLE t (a INT PRIMARY KEY, b INT PRIMARY KEY)", "has two primary keys"),
        ("CREATE TABLE t (a INT PRIMARY KEY, PRIMARY KEY (a))", "has two primary keys"),
        ("CREATE TABLE t (a INT NULL NOT NULL)", "both NULL and NOT NULL"),
        ("CREATE TABLE t (a INT NULL PRIMARY KEY)", "cannot be NULL"),
        ("CREATE TABLE t (a INT DEFAULT 1 DEFAULT 2)", "has DEFAULT twice"),
        ("CREATE TABLE t (a INT UNIQUE UNIQUE)", "has UNIQUE twice"),
        ("CREATE TABLE t (a JSON PRIMARY KEY)", "column 'a' is JSON, which cannot be part of a PRIMARY KEY"),
        ("CREATE TABLE t (a DOUBLE, UNIQUE (a))", "column 'a' is DOUBLE, which cannot be part of a UNIQUE"),
        ("CREATE TABLE t (a INT) WITH (BLOOM_FILTER_COLUMNS = 'a,b')", "BLOOM_FILTER_COLUMNS names the column 'b'"),
        ("CREATE TABLE t (a)", "column 'a' has no type"),
        ("CREATE TABLE t (order INT)", "order is a reserved word"),
        ("CREATE TABLE t (a INT", "expected ')'"),
        ("CREATE TABLE t", "expected '(' and the columns of the table"),
    ]);
    created(
        "CREATE TABLE t (\"order\" INT, date DATE, type TEXT, name TEXT, value TEXT, key TEXT, index INT, level INT)",
    );
}

#[test]
fn every_option_is_read_in_with() {
    let table = created(
        "CREATE TABLE t (a INT, B TEXT, \"C\" TEXT) WITH (TYPE='SHARED', STORAGE_ID='local', \
         FLUSH_POLICY='rows:1000,interval:60', ACCESS_LEVEL='public', DELETED_RETENTION_HOURS=24, \
         BLOOM_FILTER_COLUMNS='a, b,\"C\"', BLOOM_FILTER_FPP=0.001, COMPRESSION=ZSTD)",
    );
    let options = table.options;
    assert_eq!(options.storage.as_ref().map(|storage| storage.as_str()), Some("local"));
    assert_eq!(options.flush, policy(Some(1000), Some(60)));
    assert_eq!(options.access_level, Some(AccessLevel::Public));
    assert_eq!(options.deleted_retention_hours, Some(24));
    assert_eq!(options.bloom_filter_columns, Some(vec!["a".to_owned(), "b".to_owned(), "C".to_owned()]));
    assert_eq!(options.bloom_filter_fpp, Some(0.001));
    assert_eq!(options.compression, Some(Compression::Zstd));
    assert_eq!(created("CREATE STREAM TABLE t (a INT) WITH (TTL_SECONDS=60)").options.ttl_seconds, Some(60));
    assert_eq!(created("CREATE TABLE t (a INT) WITH ()").options, TableOptionSet::default());
}

#[test]
fn clauses_come_in_any_order() {
    for sql in [
        "CREATE STREAM TABLE t (a INT) TTL 60 FLUSH ROW_THRESHOLD 5 INTERVAL 7s WITH (COMPRESSION='none')",
        "CREATE STREAM TABLE t (a INT) WITH (COMPRESSION='none') FLUSH INTERVAL 7 ROW_THRESHOLD 5 TTL 60",
        "CREATE STREAM TABLE t (a INT) flush row_threshold 5 interval '7s' with (compression='NONE') ttl 1m",
    ] {
        let options = created(sql).options;
        assert_eq!(options.ttl_seconds, Some(60), "{sql}");
        assert_eq!(options.flush, policy(Some(5), Some(7)), "{sql}");
        assert_eq!(options.compression, Some(Compression::None), "{sql}");
    }
}

#[test]
fn intervals_have_units() {
    for (written, seconds) in [
        ("60", 60),
        ("60s", 60),
        ("60 s", 60),
        ("'60'", 60),
        ("'60 s'", 60),
        ("60 SECONDS", 60),
        ("5m", 300),
        ("5 minutes", 300),
        ("2h", 7_200),
        ("'2 hours'", 7_200),
        ("1d", 86_400),
        ("1 day", 86_400),
    ] {
        let options = created(&format!("CREATE TABLE t (a INT) FLUSH INTERVAL {written} ROW_THRESHOLD 9")).options;
        assert_eq!(options.flush, policy(Some(9), Some(seconds)), "{written}");
        assert_eq!(created(&format!("CREATE TABLE t (a INT) TTL {written}")).options.ttl_seconds, Some(seconds));
    }
    assert_eq!(created("CREATE TABLE t (a INT) FLUSH ROW_THRESHOLD 9").options.flush, policy(Some(9), None));
    assert_eq!(created("CREATE TABLE t (a INT) FLUSH INTERVAL 9s").options.flush, policy(None, Some(9)));
}

#[test]
fn bad_options_are_named_with_what_is_allowed() {
    refuses(&[
        (
            "CREATE TABLE t (a INT) WITH (COLOUR='red')",
            "unknown table option 'COLOUR'; allowed are TYPE, STORAGE_ID, FLUSH_POLICY",
        ),
        ("CREATE TABLE t (a INT) WITH (TYPE='x')", "the option TYPE cannot be 'x'; allowed is USER, SHARED or STREAM"),
        ("CREATE TABLE t (a INT) WITH (TTL_SECONDS=-1)", "the option TTL_SECONDS cannot be '-1'"),
        ("CREATE TABLE t (a INT) WITH (TTL_SECONDS=1, ttl_seconds=2)", "the option TTL_SECONDS is set twice"),
        ("CREATE TABLE t (a INT) TTL 1 WITH (TTL_SECONDS=2)", "the option TTL_SECONDS is set twice"),
        ("CREATE TABLE t (a INT) WITH (TTL_SECONDS=2) TTL 1", "the option TTL_SECONDS is set twice"),
        (
            "CREATE TABLE t (a INT) FLUSH INTERVAL 1 WITH (FLUSH_POLICY='rows:1')",
            "the option FLUSH_POLICY is set twice",
        ),
        ("CREATE TABLE t (a INT) FLUSH INTERVAL 1 FLUSH INTERVAL 2", "the option FLUSH_POLICY is set twice"),
        ("CREATE TABLE t (a INT) FLUSH", "expected ROW_THRESHOLD n or INTERVAL n"),
        ("CREATE TABLE t (a INT) FLUSH ROW_THRESHOLD 0", "ROW_THRESHOLD cannot be 0"),
        ("CREATE TABLE t (a INT) FLUSH INTERVAL 0s", "INTERVAL cannot be 0"),
        ("CREATE TABLE t (a INT) FLUSH INTERVAL '5 weeks'", "INTERVAL cannot be"),
        ("CREATE TABLE t (a INT) FLUSH INTERVAL 99999999999999999999", "expected a number of seconds"),
        ("CREATE TABLE t (a INT) FLUSH INTERVAL 9999999999999999999d", "INTERVAL cannot be"),
        ("CREATE TABLE t (a INT) TTL 0", "the option TTL_SECONDS cannot be '0'"),
        ("CREATE TABLE t (a INT) TTL 1.5", "expected a number of seconds"),
        ("CREATE TABLE t (a INT) TTL soon", "expected a number of seconds"),
        ("CREATE TABLE t (a INT) WITH (TYPE)", "expected '='"),
        ("CREATE TABLE t (a INT) WITH (TYPE=)", "expected a string, a number or a word"),
    ]);
}

#[test]
fn as_takes_a_query() {
    for sql in [
        "CREATE TABLE t AS SELECT * FROM u",
        "CREATE SHARED TABLE t WITH (COMPRESSION='lz4') AS (SELECT 1 AS a)",
        "CREATE TABLE IF NOT EXISTS t AS WITH x AS (SELECT 1 AS a) SELECT * FROM x",
        "CREATE TABLE t TTL 5 AS VALUES (1)",
    ] {
        let table = created(sql);
        assert!(table.as_query.is_some() && table.columns.is_empty(), "{sql}");
    }
    refuses(&[
        ("CREATE TABLE t (a INT) AS SELECT 1", "a list of columns together with AS"),
        ("CREATE TABLE t AS SELECT 1 WITH NO DATA", "WITH [NO] DATA is not implemented"),
        ("CREATE TABLE t AS SELECT * FROM u FOR UPDATE", "FOR UPDATE is not implemented"),
        ("CREATE TABLE t AS SELECT 1 TTL 5 WHERE", "expected"),
    ]);
}

#[test]
fn clauses_that_are_not_implemented_are_named() {
    refuses(&[
        ("CREATE TEMPORARY TABLE t (a INT)", "CREATE TEMPORARY TABLE is not implemented"),
        ("CREATE TEMP TABLE t (a INT)", "CREATE TEMP TABLE is not implemented"),
        ("CREATE UNLOGGED TABLE t (a INT)", "CREATE UNLOGGED TABLE is not implemented"),
        ("CREATE EXTERNAL TABLE t (a INT)", "CREATE EXTERNAL TABLE is not implemented"),
        ("CREATE OR REPLACE TABLE t (a INT)", "CREATE OR REPLACE is not implemented"),
        ("CREATE VIRTUAL TABLE t USING x", "CREATE VIRTUAL is not implemented"),
        ("CREATE TABLE t (a INT REFERENCES u (b))", "REFERENCES (a foreign key) is not implemented"),
        ("CREATE TABLE t (a INT, FOREIGN KEY (a) REFERENCES u (b))", "FOREIGN KEY is not implemented"),
        ("CREATE TABLE t (a INT, CONSTRAINT f FOREIGN KEY (a) REFERENCES u (b))", "FOREIGN KEY is not implemented"),
        ("CREATE TABLE t (a TEXT COLLATE \"C\")", "COLLATE after a column's type is not implemented"),
        ("CREATE TABLE t (a INT GENERATED ALWAYS AS (1) STORED)", "a generated column is not implemented"),
        ("CREATE TABLE t (a INT GENERATED BY DEFAULT AS IDENTITY)", "a generated column is not implemented"),
        ("CREATE TABLE t (a INT AS (1))", "a generated column is not implemented"),
        ("CREATE TABLE t (a INT COMMENT 'x')", "COMMENT after a column's type is not implemented"),
        ("CREATE TABLE t (a TIMESTAMP ON UPDATE NOW())", "ON UPDATE of a column is not implemented"),
        ("CREATE TABLE t (a INT PRIMARY KEY ON CONFLICT REPLACE)", "ON CONFLICT of a constraint is not implemented"),
        ("CREATE TABLE t (a INT PRIMARY KEY DESC)", "DESC after a column's type is not implemented"),
        ("CREATE TABLE t (a INT UNIQUE DEFERRABLE)", "DEFERRABLE after a column's type is not implemented"),
        ("CREATE TABLE t (a INT, UNIQUE (a) DEFERRABLE)", "DEFERRABLE after a constraint is not implemented"),
        ("CREATE TABLE t (a INT, UNIQUE NULLS NOT DISTINCT (a))", "UNIQUE NULLS [NOT] DISTINCT is not implemented"),
        ("CREATE TABLE t (a INT, PRIMARY KEY (a) INCLUDE (b))", "INCLUDE after a constraint is not implemented"),
        ("CREATE TABLE t (a INT, EXCLUDE USING gist (a WITH =))", "EXCLUDE is not implemented"),
        ("CREATE TABLE t (a INT, INDEX i (a))", "unknown type i"),
        ("CREATE TABLE t (a INT, INDEX (a))", "use CREATE INDEX"),
        ("CREATE TABLE t (a INT, FULLTEXT KEY k (a))", "use CREATE INDEX"),
        ("CREATE TABLE t (LIKE u)", "LIKE in CREATE TABLE is not implemented"),
        ("CREATE TABLE t LIKE u", "LIKE in CREATE TABLE is not implemented"),
        ("CREATE TABLE t (a INT) PARTITION BY RANGE (a)", "PARTITION in CREATE TABLE is not implemented"),
        ("CREATE TABLE t (a INT) PARTITIONED BY (a)", "PARTITIONED BY in CREATE TABLE is not implemented"),
        ("CREATE TABLE t (a INT) ENGINE=InnoDB", "ENGINE in CREATE TABLE is not implemented"),
        ("CREATE TABLE t (a INT) COMMENT 'x'", "COMMENT in CREATE TABLE is not implemented"),
        ("CREATE TABLE t (a INT) INHERITS (u)", "INHERITS in CREATE TABLE is not implemented"),
        ("CREATE TABLE t (a INT) TABLESPACE x", "TABLESPACE in CREATE TABLE is not implemented"),
        ("CREATE TABLE t (a INT) ON COMMIT DROP", "ON COMMIT in CREATE TABLE is not implemented"),
        ("CREATE TABLE t (a INT) WITHOUT ROWID", "WITHOUT ROWID in CREATE TABLE is not implemented"),
        ("CREATE TABLE t (a INT) STRICT", "STRICT in CREATE TABLE is not implemented"),
        ("CREATE TABLE t (a INT) USING heap", "USING in CREATE TABLE is not implemented"),
        ("CREATE TABLE t (a INT) ORDER BY a", "ORDER BY in CREATE TABLE is not implemented"),
        ("CREATE TABLE t (a INT) nonsense", "expected the end of CREATE TABLE, found nonsense"),
    ]);
}
