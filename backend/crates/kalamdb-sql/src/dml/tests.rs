use super::*;
use crate::Statement;
use crate::tests::{name, one, refuses};

fn inserted(sql: &str) -> Insert {
    match one(sql) {
        Statement::Insert(insert) => insert,
        other => panic!("{sql}: {other:?}"),
    }
}

fn updated(sql: &str) -> Update {
    match one(sql) {
        Statement::Update(update) => update,
        other => panic!("{sql}: {other:?}"),
    }
}

fn deleted(sql: &str) -> Delete {
    match one(sql) {
        Statement::Delete(delete) => delete,
        other => panic!("{sql}: {other:?}"),
    }
}

fn rows_of(sql: &str) -> Vec<String> {
    match inserted(sql).source {
        InsertSource::Values(rows) => {
            rows.iter().map(|row| row.iter().map(Expr::to_string).collect::<Vec<_>>().join("|")).collect()
        }
        other => panic!("{sql}: {other:?}"),
    }
}

fn shown(pairs: &[(String, Expr)]) -> Vec<String> {
    pairs.iter().map(|(column, expr)| format!("{column}={expr}")).collect()
}

fn names(names: &[&str]) -> Option<Vec<String>> {
    Some(names.iter().map(|name| (*name).to_owned()).collect())
}

#[test]
fn insert_values_with_and_without_columns() {
    let insert = inserted("INSERT INTO App.T (A, \"B\") VALUES (1, 'x')");
    assert_eq!(insert.table, name("app.t"));
    assert_eq!(insert.columns, names(&["a", "B"]));
    assert_eq!(insert.on_conflict, None);
    assert_eq!(insert.returning, None);
    let insert = inserted("insert into \"T\" values (1)");
    assert_eq!(insert.table, name("T"));
    assert_eq!(insert.columns, None);
}

#[test]
fn every_literal_and_expression_is_a_value() {
    assert_eq!(
        rows_of("INSERT INTO t VALUES (1, -2, 1.5e3, 'it''s', NULL, true, FALSE, $3, 1_000, E'a\\nb', $$q$$)"),
        ["1|-2|1.5e3|'it''s'|NULL|true|false|$3|1000|'a\nb'|'q'"]
    );
    assert_eq!(
        rows_of(
            "INSERT INTO t VALUES (1 + 1, - 2 * 3, now(), DATE '2020-01-01', (1), 'a' || 'b', 'x'::TEXT, (SELECT 1))"
        ),
        ["1 + 1|-2 * 3|now()|DATE '2020-01-01'|(1)|'a' || 'b'|'x'::TEXT|(SELECT 1)"]
    );
}

/// The short way of literals gives the tree that the parser's own would.
#[test]
fn literals_read_the_short_way_are_the_same_expressions() {
    for literal in ["1", "-2", "1.5e3", ".5", "'x'", "''", "NULL", "TRUE", "false", "$1", "X'00ff'"] {
        let InsertSource::Values(rows) = inserted(&format!("INSERT INTO t VALUES ({literal})")).source else {
            panic!("values")
        };
        assert_eq!(rows[0][0], crate::expr::parse(literal).expect("an expression"), "{literal}");
    }
}

#[test]
fn the_word_default_is_a_value_and_a_quoted_one_is_not() {
    let InsertSource::Values(rows) = inserted("INSERT INTO t VALUES (DEFAULT, default, 'default')").source else {
        panic!("values")
    };
    let defaults: Vec<bool> = rows[0].iter().map(crate::expr::is_default).collect();
    assert_eq!(defaults, [true, true, false]);
    let update = updated("UPDATE t SET a = DEFAULT, b = \"default\"");
    let defaults: Vec<bool> = update.assignments.iter().map(|(_, expr)| crate::expr::is_default(expr)).collect();
    assert_eq!(defaults, [true, false]);
}

#[test]
fn insert_of_a_query_in_every_form() {
    for sql in [
        "INSERT INTO t SELECT * FROM u",
        "INSERT INTO t (a) SELECT a FROM u WHERE b > 1",
        "INSERT INTO t (a) WITH x AS (SELECT 1) SELECT * FROM x",
        "INSERT INTO t (SELECT 1)",
        "INSERT INTO t (a) (SELECT 1)",
        "INSERT INTO t ((SELECT 1) UNION SELECT 2)",
        "INSERT INTO t VALUES (1), (2) UNION SELECT 3",
        "INSERT INTO t VALUES (1), (2) ORDER BY 1 LIMIT 1",
        "INSERT INTO t (a) (VALUES (1))",
    ] {
        let insert = inserted(sql);
        assert!(matches!(insert.source, InsertSource::Query(_)), "{sql}: {insert:?}");
    }
    let insert = inserted("INSERT INTO t SELECT 1 ON CONFLICT DO NOTHING RETURNING a");
    assert!(insert.on_conflict.is_some() && insert.returning.is_some());
}

#[test]
fn insert_default_values() {
    assert_eq!(inserted("INSERT INTO t DEFAULT VALUES RETURNING *").source, InsertSource::DefaultValues);
}

#[test]
fn rows_must_have_the_length_of_the_columns_or_of_the_first_row() {
    refuses(&[
        ("INSERT INTO t (a, b) VALUES (1, 2), (1)", "row 2 of VALUES has 1 values; INSERT names 2 columns"),
        ("INSERT INTO t (a) VALUES (1, 2)", "row 1 of VALUES has 2 values; INSERT names 1 columns"),
        ("INSERT INTO t VALUES (1, 2), (1, 2), (1, 2, 3)", "row 3 of VALUES has 3 values; row 1 has 2"),
        ("INSERT INTO t VALUES ()", "expected an expression, found )"),
    ]);
}

#[test]
fn on_conflict_in_every_form() {
    let on = |sql: &str| inserted(sql).on_conflict.expect("ON CONFLICT");
    let nothing = on("INSERT INTO t VALUES (1) ON CONFLICT DO NOTHING");
    assert_eq!(nothing, OnConflict { target: None, action: ConflictAction::DoNothing });
    let nothing = on("INSERT INTO t VALUES (1) ON CONFLICT (A, \"B\") DO NOTHING");
    assert_eq!(nothing.target, names(&["a", "B"]));
    let update = on(
        "INSERT INTO t VALUES (1) ON CONFLICT (id) DO UPDATE SET a = excluded.a, B = t.b + 1 WHERE t.b < 9 RETURNING a",
    );
    let ConflictAction::DoUpdate { assignments, filter } = update.action else { panic!("DO UPDATE") };
    assert_eq!(shown(&assignments), ["a=excluded.a", "b=t.b + 1"]);
    assert_eq!(filter.map(|filter| filter.to_string()), Some("t.b < 9".to_owned()));
}

#[test]
fn update_in_every_form() {
    let update = updated("UPDATE App.T SET a = a + 1, \"B\" = 'x'");
    assert_eq!((update.table, update.alias, update.filter, update.returning), (name("app.t"), None, None, None));
    assert_eq!(shown(&update.assignments), ["a=a + 1", "B='x'"]);
    for sql in ["UPDATE t AS x SET a = 1", "UPDATE t X SET a = 1", "UPDATE t \"x\" SET a = 1"] {
        assert_eq!(updated(sql).alias.as_deref(), Some("x"), "{sql}");
    }
    let update = updated(
        "UPDATE t SET (a, b) = (1, DEFAULT), (c) = ROW (2) WHERE a IN (SELECT b FROM u) RETURNING *, a + 1 AS n",
    );
    assert_eq!(shown(&update.assignments), ["a=1", "b=DEFAULT", "c=2"]);
    assert!(matches!(update.filter, Some(Expr::InSubquery { .. })));
    assert_eq!(update.returning.map(|items| items.len()), Some(2));
}

#[test]
fn delete_in_every_form() {
    let delete = deleted("DELETE FROM App.T");
    assert_eq!(delete, Delete { table: name("app.t"), alias: None, filter: None, returning: None });
    for sql in ["DELETE FROM t AS x", "DELETE FROM t x WHERE x.a = 1"] {
        assert_eq!(deleted(sql).alias.as_deref(), Some("x"), "{sql}");
    }
    let delete = deleted("DELETE FROM t WHERE EXISTS (SELECT 1 FROM u WHERE u.a = t.a) RETURNING _id");
    assert!(delete.filter.is_some() && delete.returning.is_some());
}

#[test]
fn a_column_is_named_once() {
    refuses(&[
        ("INSERT INTO t (a, b, A) VALUES (1, 2, 3)", "column 'a' is named twice"),
        ("UPDATE t SET a = 1, b = 2, a = 3", "column 'a' is set twice"),
        ("UPDATE t SET (a, a) = (1, 2)", "column 'a' is named twice"),
        ("INSERT INTO t VALUES (1) ON CONFLICT (a) DO UPDATE SET b = 1, b = 2", "column 'b' is set twice"),
        ("UPDATE t SET (a, b) = (1)", "2 columns are set to 1 values"),
    ]);
    inserted("INSERT INTO t (a, \"A\") VALUES (1, 2)");
}

#[test]
fn clauses_of_insert_that_are_not_implemented_are_named() {
    refuses(&[
        ("INSERT OR REPLACE INTO t VALUES (1)", "INSERT OR is not implemented"),
        ("INSERT IGNORE INTO t VALUES (1)", "INSERT IGNORE is not implemented"),
        ("INSERT OVERWRITE t VALUES (1)", "INSERT OVERWRITE is not implemented"),
        ("INSERT INTO TABLE t VALUES (1)", "INSERT INTO TABLE is not implemented"),
        ("INSERT t VALUES (1)", "expected INTO"),
        ("INSERT INTO t AS x VALUES (1)", "an alias of the table in INSERT is not implemented"),
        ("INSERT INTO t SET a = 1", "SET in INSERT is not implemented"),
        ("INSERT INTO t PARTITION (a) VALUES (1)", "PARTITION in INSERT is not implemented"),
        ("INSERT INTO t (a) OVERRIDING SYSTEM VALUE VALUES (1)", "OVERRIDING in INSERT is not implemented"),
        ("INSERT INTO t FORMAT CSV", "FORMAT in INSERT is not implemented"),
        ("INSERT INTO t (a) DEFAULT VALUES", "DEFAULT VALUES takes no list of columns"),
        ("INSERT INTO t VALUES (1) ON DUPLICATE KEY UPDATE a = 1", "ON DUPLICATE KEY UPDATE"),
        (
            "INSERT INTO t VALUES (1) ON CONFLICT ON CONSTRAINT c DO NOTHING",
            "ON CONFLICT ON CONSTRAINT is not implemented",
        ),
        ("INSERT INTO t VALUES (1) ON CONFLICT (a) WHERE a > 1 DO NOTHING", "WHERE in the target of ON CONFLICT"),
        ("INSERT INTO t VALUES (1) ON CONFLICT DO UPDATE SET a = 1", "must name the columns of a key"),
        ("INSERT INTO t VALUES (1) ON CONFLICT (lower(a)) DO NOTHING", "expected ')'"),
        ("INSERT INTO t VALUES (1) RETURNING a INTO x", "INTO in INSERT is not implemented"),
        ("INSERT INTO t VALUES (DEFAULT) LIMIT 1", "LIMIT in INSERT is not implemented"),
        ("INSERT INTO a.b.c VALUES (1)", "a name has at most two parts"),
        ("INSERT INTO t (a.b) VALUES (1)", "expected ')'"),
        ("INSERT INTO t SELECT * FROM u FOR UPDATE", "FOR UPDATE is not implemented"),
        ("INSERT INTO t VALUES ((SELECT a FROM u FOR UPDATE))", "FOR UPDATE is not implemented"),
        ("REPLACE INTO t VALUES (1)", "REPLACE is not implemented"),
    ]);
}

#[test]
fn clauses_of_update_that_are_not_implemented_are_named() {
    refuses(&[
        ("UPDATE t SET a = 1 FROM u WHERE t.b = u.b", "FROM in UPDATE is not implemented"),
        ("UPDATE t SET a = 1 LIMIT 5", "LIMIT in UPDATE is not implemented"),
        ("UPDATE t SET a = 1 ORDER BY a", "ORDER BY in UPDATE is not implemented"),
        ("UPDATE t SET a = 1 WHERE b = 2 LIMIT 5", "LIMIT in UPDATE is not implemented"),
        ("UPDATE t JOIN u ON t.a = u.a SET a = 1", "JOIN in UPDATE is not implemented"),
        ("UPDATE t LEFT JOIN u ON t.a = u.a SET a = 1", "LEFT in UPDATE is not implemented"),
        ("UPDATE t, u SET a = 1", "changing several tables in one statement is not implemented"),
        ("UPDATE OR IGNORE t SET a = 1", "UPDATE OR is not implemented"),
        ("UPDATE ONLY t SET a = 1", "UPDATE ONLY is not implemented"),
        ("UPDATE t SET t.a = 1", "SET names columns without their table"),
        ("UPDATE t SET a[1] = 1", "setting a part of a column is not implemented"),
        ("UPDATE t SET (a, b) = (SELECT 1, 2)", "setting several columns from a subquery is not implemented"),
        ("UPDATE t SET a = 1 WHERE CURRENT OF c", "WHERE CURRENT OF is not implemented"),
        ("UPDATE t SET a = 1 WHERE a IN (SELECT 1 FROM u FOR SHARE)", "FOR SHARE is not implemented"),
        ("UPDATE t FOR SYSTEM_TIME AS OF 1 SET a = 1", "FOR SYSTEM_TIME is not implemented"),
        ("UPDATE t SET", "expected a column name, found the end of the statement"),
        ("UPDATE t WHERE a = 1", "expected SET"),
        ("UPDATE t SET a = 1 RETURNING a INTO b", "INTO in UPDATE is not implemented"),
    ]);
}

#[test]
fn clauses_of_delete_that_are_not_implemented_are_named() {
    refuses(&[
        ("DELETE FROM t USING u WHERE t.a = u.a", "USING in DELETE is not implemented"),
        ("DELETE FROM t WHERE a = 1 LIMIT 1", "LIMIT in DELETE is not implemented"),
        ("DELETE FROM t ORDER BY a LIMIT 1", "ORDER BY in DELETE is not implemented"),
        ("DELETE t WHERE a = 1", "expected FROM"),
        ("DELETE FROM t, u", "changing several tables in one statement is not implemented"),
        ("DELETE FROM ONLY t", "DELETE FROM ONLY is not implemented"),
        ("DELETE FROM t AS OF TIMESTAMP '2020-01-01' WHERE a = 1", "AS OF is not implemented"),
        ("DELETE FROM t WHERE CURRENT OF c", "WHERE CURRENT OF is not implemented"),
    ]);
}
