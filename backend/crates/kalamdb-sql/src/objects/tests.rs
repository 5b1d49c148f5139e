use serde_json::json;

use super::*;
use crate::tests::{name, one, refuses};

fn strings(names: &[&str]) -> Vec<String> {
    names.iter().map(|name| (*name).to_owned()).collect()
}

#[test]
fn create_namespace_in_every_form() {
    for (sql, if_not_exists) in
        [("CREATE NAMESPACE App", false), ("CREATE NAMESPACE IF NOT EXISTS app;", true), ("create schema app", false)]
    {
        let expected = Statement::CreateNamespace { name: "app".to_owned(), if_not_exists, options: Vec::new() };
        assert_eq!(one(sql), expected, "{sql}");
    }
    let Statement::CreateNamespace { options, .. } = one(
        "CREATE NAMESPACE a WITH (Owner = 'Ann', \"Max\" = 5, ratio = -1.5, open = true, 'a b' = NULL, kind = Plain, n = '7')",
    ) else {
        panic!("CREATE NAMESPACE")
    };
    let expected = [
        ("owner", json!("Ann")),
        ("Max", json!(5)),
        ("ratio", json!(-1.5)),
        ("open", json!(true)),
        ("a b", json!(null)),
        ("kind", json!("Plain")),
        ("n", json!("7")),
    ];
    assert_eq!(options, expected.map(|(key, value)| (key.to_owned(), value)));
}

#[test]
fn alter_and_drop_namespace_in_every_form() {
    for sql in ["ALTER NAMESPACE a SET (x = 1)", "ALTER SCHEMA a SET OPTIONS (X = 1)"] {
        let options = vec![("x".to_owned(), json!(1))];
        assert_eq!(one(sql), Statement::AlterNamespace { name: "a".to_owned(), options }, "{sql}");
    }
    for (sql, if_exists, cascade) in [
        ("DROP NAMESPACE a", false, false),
        ("DROP NAMESPACE IF EXISTS a CASCADE", true, true),
        ("DROP SCHEMA a RESTRICT", false, false),
    ] {
        assert_eq!(one(sql), Statement::DropNamespace { name: "a".to_owned(), if_exists, cascade }, "{sql}");
    }
}

#[test]
fn drop_and_truncate_in_every_form() {
    for sql in ["DROP TABLE ns.t", "DROP USER TABLE ns.t", "drop shared table ns.t", "DROP STREAM TABLE ns.t;"] {
        assert_eq!(one(sql), Statement::DropTable { tables: vec![name("ns.t")], if_exists: false }, "{sql}");
    }
    let two = vec![name("a"), name("ns.b")];
    assert_eq!(one("DROP TABLE IF EXISTS a, ns.b"), Statement::DropTable { tables: two.clone(), if_exists: true });
    assert_eq!(one("DROP VIEW a, ns.b"), Statement::DropView { views: two.clone(), if_exists: false });
    assert_eq!(one("DROP VIEW IF EXISTS a"), Statement::DropView { views: vec![name("a")], if_exists: true });
    assert_eq!(one("TRUNCATE TABLE a, ns.b"), Statement::Truncate { tables: two });
    assert_eq!(one("TRUNCATE a"), Statement::Truncate { tables: vec![name("a")] });
    assert_eq!(one("DROP INDEX IF EXISTS ns.i"), Statement::DropIndex { name: name("ns.i"), if_exists: true });
    assert_eq!(one("DROP INDEX i"), Statement::DropIndex { name: name("i"), if_exists: false });
}

#[test]
fn create_index_in_every_form() {
    let index = |sql: &str| match one(sql) {
        Statement::CreateIndex(index) => index,
        other => panic!("{sql}: {other:?}"),
    };
    let expected =
        CreateIndex { name: "i".to_owned(), table: name("ns.t"), columns: strings(&["a", "B"]), if_not_exists: false };
    assert_eq!(index("CREATE INDEX I ON Ns.T (A, \"B\")"), expected);
    assert!(index("CREATE INDEX IF NOT EXISTS i ON t (a)").if_not_exists);
    assert_eq!(index("CREATE INDEX ON ns.t (a, b)").name, "t_a_b_idx");
}

#[test]
fn create_view_in_every_form() {
    let view = |sql: &str| match one(sql) {
        Statement::CreateView(view) => view,
        other => panic!("{sql}: {other:?}"),
    };
    let plain = view("CREATE VIEW Ns.V AS SELECT a, /* kept */ b FROM t -- not kept");
    assert_eq!((plain.name, plain.or_replace, plain.if_not_exists), (name("ns.v"), false, false));
    assert_eq!((plain.columns, plain.query_text.as_str()), (Vec::new(), "SELECT a, /* kept */ b FROM t"));
    assert!(view("CREATE OR REPLACE VIEW v AS SELECT 1").or_replace);
    let named = view("CREATE VIEW IF NOT EXISTS v (A, \"B\") AS (SELECT 1, ';');");
    assert!(named.if_not_exists);
    assert_eq!((named.columns, named.query_text.as_str()), (strings(&["a", "B"]), "(SELECT 1, ';')"));
    assert_eq!(
        view("CREATE VIEW v AS WITH x AS (SELECT 1) SELECT * FROM x").query_text,
        "WITH x AS (SELECT 1) SELECT * FROM x"
    );
}

#[test]
fn what_is_missing_or_not_implemented_is_named() {
    refuses(&[
        ("CREATE NAMESPACE", "expected a namespace name"),
        ("CREATE NAMESPACE a.b", "expected the end of CREATE NAMESPACE"),
        ("CREATE NAMESPACE a WITH (x = 1, X = 2)", "the option 'x' is set twice"),
        ("CREATE SCHEMA a AUTHORIZATION b", "AUTHORIZATION in CREATE NAMESPACE is not implemented"),
        ("CREATE DATABASE a", "CREATE DATABASE is not implemented"),
        ("ALTER NAMESPACE a RENAME TO b", "ALTER NAMESPACE ... RENAME is not implemented"),
        ("ALTER NAMESPACE a SET ()", "expected a key"),
        ("DROP NAMESPACE a, b", "expected the end of DROP NAMESPACE"),
        ("DROP NAMESPACE a CASCADE RESTRICT", "RESTRICT in DROP NAMESPACE is not implemented"),
        ("DROP TABLE t CASCADE", "CASCADE in DROP TABLE is not implemented"),
        ("DROP TABLE t RESTRICT", "RESTRICT in DROP TABLE is not implemented"),
        ("DROP TABLE t PURGE", "PURGE in DROP TABLE is not implemented"),
        ("DROP TABLE a, b, A", "'a' is named twice"),
        ("DROP TEMPORARY TABLE t", "DROP TEMPORARY TABLE is not implemented"),
        ("DROP INDEX a, b", "expected the end of DROP INDEX"),
        ("DROP INDEX CONCURRENTLY a", "expected the end of DROP INDEX"),
        ("DROP INDEX a ON t", "expected the end of DROP INDEX, found ON"),
        ("DROP VIEW v CASCADE", "CASCADE in DROP VIEW is not implemented"),
        ("DROP FUNCTION f", "DROP FUNCTION is not implemented"),
        ("DROP", "expected TABLE, NAMESPACE, INDEX, VIEW or USER after DROP"),
        ("TRUNCATE t RESTART IDENTITY", "RESTART IDENTITY in TRUNCATE is not implemented"),
        ("TRUNCATE t CASCADE", "CASCADE in TRUNCATE is not implemented"),
        ("TRUNCATE ONLY t", "TRUNCATE ONLY is not implemented"),
        ("CREATE UNIQUE INDEX i ON t (a)", "CREATE UNIQUE INDEX; declare UNIQUE in CREATE TABLE"),
        ("CREATE INDEX CONCURRENTLY i ON t (a)", "CREATE INDEX CONCURRENTLY is not implemented"),
        ("CREATE INDEX i ON t USING btree (a)", "USING in CREATE INDEX is not implemented"),
        ("CREATE INDEX i ON t (a DESC)", "DESC in CREATE INDEX is not implemented"),
        ("CREATE INDEX i ON t (a ASC NULLS LAST)", "ASC in CREATE INDEX is not implemented"),
        ("CREATE INDEX i ON t (lower(a))", "an index of an expression is not implemented"),
        ("CREATE INDEX i ON t (a) WHERE a > 1", "WHERE in CREATE INDEX is not implemented"),
        ("CREATE INDEX i ON t (a) INCLUDE (b)", "INCLUDE in CREATE INDEX is not implemented"),
        ("CREATE INDEX i ON t (a, a)", "column 'a' is named twice in CREATE INDEX"),
        ("CREATE INDEX ns.i ON t (a)", "an index lies in the namespace of its table"),
        ("CREATE INDEX IF NOT EXISTS ON t (a)", "expected an index name"),
        ("CREATE MATERIALIZED VIEW v AS SELECT 1", "CREATE MATERIALIZED VIEW is not implemented"),
        ("CREATE TEMP VIEW v AS SELECT 1", "CREATE TEMP VIEW is not implemented"),
        ("CREATE VIEW v AS SELECT $1", "a view cannot use a parameter"),
        ("CREATE VIEW v AS SELECT 1 WITH CHECK OPTION", "WITH CHECK OPTION is not implemented"),
        ("CREATE VIEW v WITH (x = 1) AS SELECT 1", "WITH (options) in CREATE VIEW is not implemented"),
        ("CREATE OR REPLACE VIEW IF NOT EXISTS v AS SELECT 1", "either OR REPLACE or IF NOT EXISTS"),
        ("CREATE VIEW v AS DELETE FROM t", "DELETE in a query is not implemented"),
        ("CREATE FUNCTION f() RETURNS INT", "CREATE FUNCTION is not implemented"),
        ("CREATE TRIGGER x", "CREATE TRIGGER is not implemented"),
        ("CREATE", "expected TABLE, NAMESPACE, INDEX, VIEW or USER after CREATE"),
        ("ALTER INDEX i RENAME TO j", "ALTER INDEX is not implemented"),
        ("ALTER VIEW v AS SELECT 1", "ALTER VIEW is not implemented"),
        ("ALTER ROLE x", "ALTER ROLE is not implemented"),
    ]);
}
