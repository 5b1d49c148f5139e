use crate::statement::{Statement, Subject};
use crate::tests::{all, refuses};

fn subject(sql: &str) -> (Option<Subject>, Statement) {
    let parsed = all(sql).remove(0);
    (parsed.as_user, parsed.statement)
}

fn named(name: &str) -> Option<Subject> {
    Some(Subject::Name(name.to_owned()))
}

#[test]
fn the_three_inline_forms_name_the_subject() {
    for (sql, plain) in [
        ("INSERT INTO a.t AS USER 'u' (x) VALUES (1)", "INSERT INTO a.t (x) VALUES (1)"),
        ("insert into a.t as user \"u\" SELECT 1", "INSERT INTO a.t SELECT 1"),
        ("UPDATE t /* as */ AS /* user */ USER U SET x = 1", "UPDATE t SET x = 1"),
        ("UPDATE t AS USER 'u' AS y SET x = y.x", "UPDATE t AS y SET x = y.x"),
        ("UPDATE t y AS USER 'u' SET x = y.x", "UPDATE t y SET x = y.x"),
        ("DELETE FROM t As User 'u' WHERE x = 1", "DELETE FROM t WHERE x = 1"),
        ("DELETE FROM t AS USER 'u' RETURNING x", "DELETE FROM t RETURNING x"),
    ] {
        let (found, statement) = subject(sql);
        assert_eq!(found, named("u"), "{sql}");
        assert_eq!(subject(plain).0, None, "{plain}");
        assert_eq!(std::mem::discriminant(&statement), std::mem::discriminant(&subject(plain).1), "{sql}");
    }
}

#[test]
fn a_parameter_can_be_the_subject_and_counts() {
    let parsed = all("DELETE FROM t AS USER $2 WHERE x = $1").remove(0);
    assert_eq!((parsed.as_user, parsed.params), (Some(Subject::Param(2)), 2));
    let parsed = all("EXECUTE AS USER $1 (SELECT $2)").remove(0);
    assert_eq!((parsed.as_user, parsed.params), (Some(Subject::Param(1)), 2));
}

#[test]
fn a_name_is_text_whatever_is_in_it() {
    for name in ["o''neil", "a;b", "--", "/* x */", "'') SELECT 1 --", "u (SELECT 1)", "ｒｏｏｔ", "rооt", "a\"b"]
    {
        let (found, _) = subject(&format!("EXECUTE AS USER '{name}' (SELECT 1)"));
        assert_eq!(found, named(&name.replace("''", "'")), "{name}");
        let (found, _) = subject(&format!("DELETE FROM t AS USER '{name}'"));
        assert_eq!(found, named(&name.replace("''", "'")), "{name}");
    }
}

#[test]
fn any_single_statement_stands_in_execute_as_user() {
    for inner in [
        "SELECT * FROM t WHERE (a = 1)",
        "(SELECT 1) UNION (SELECT 2)",
        "WITH x AS (SELECT 1) SELECT * FROM x",
        "INSERT INTO t VALUES (1, ')'), (DEFAULT, '(')",
        "INSERT INTO t (a) SELECT a FROM s ON CONFLICT DO NOTHING RETURNING a",
        "UPDATE t SET a = (1) WHERE b IN (SELECT 1)",
        "DELETE FROM t",
        "EXPLAIN SELECT 1",
        "SHOW TABLES",
        "DESCRIBE t",
        "DROP TABLE t",
    ] {
        let (found, statement) = subject(&format!("EXECUTE AS USER 'u' ({inner});"));
        assert_eq!(found, named("u"), "{inner}");
        let plain = all(inner).remove(0);
        assert_eq!(std::mem::discriminant(&statement), std::mem::discriminant(&plain.statement), "{inner}");
    }
    assert_eq!(all("EXECUTE AS USER 'u' (SELECT 1 )").remove(0).text, "SELECT 1");
}

#[test]
fn a_statement_has_one_subject() {
    refuses(&[
        ("EXECUTE AS USER 'a' (EXECUTE AS USER 'b' (SELECT 1))", "EXECUTE AS USER within EXECUTE AS USER"),
        ("EXECUTE AS USER 'a' (INSERT INTO t AS USER 'b' VALUES (1))", "said twice"),
        ("UPDATE t AS USER 'a' y AS USER 'b' SET x = 1", "said twice"),
        ("DELETE FROM t AS USER 'a' AS USER 'b'", "cannot be an alias"),
        ("EXECUTE AS USER 'a' (EXPLAIN EXECUTE AS USER 'b' (SELECT 1))", "EXPLAIN EXECUTE is not implemented"),
    ]);
}

#[test]
fn what_surrounds_the_statement_is_read_strictly() {
    refuses(&[
        ("EXECUTE AS USER 'u' SELECT 1", "expected '('"),
        ("EXECUTE AS USER 'u' ()", "expected a statement"),
        ("EXECUTE AS USER 'u' (SELECT 1", "not closed"),
        ("EXECUTE AS USER 'u' (SELECT 1; SELECT 2)", "not closed"),
        ("EXECUTE AS USER 'u' (SELECT 1) (SELECT 2)", "expected the end of EXECUTE AS USER"),
        ("EXECUTE AS USER 'u' (SELECT 1) UNION (SELECT 2)", "expected the end of EXECUTE AS USER"),
        ("EXECUTE AS USER 'u' (SELECT 1))", "expected the end of EXECUTE AS USER"),
        ("EXECUTE AS USER 'u' (SELECT 1) AS USER 'v'", "expected the end of EXECUTE AS USER"),
        ("EXECUTE AS USER 'u', 'v' (SELECT 1)", "expected '('"),
        ("EXECUTE AS USER 5 (SELECT 1)", "expected a user name"),
        ("EXECUTE AS USER", "expected a user name"),
        ("EXECUTE AS 'u' (SELECT 1)", "EXECUTE is not implemented"),
        ("INSERT INTO t AS USER VALUES (1)", "cannot be a user name"),
        ("UPDATE t AS USER 'u' 'v' SET a = 1", "expected SET"),
    ]);
}

#[test]
fn transactions_and_use_belong_to_the_request() {
    for inner in ["BEGIN", "COMMIT", "ROLLBACK", "USE app"] {
        refuses(&[(&format!("EXECUTE AS USER 'u' ({inner})"), "cannot stand in EXECUTE AS USER")]);
    }
}

#[test]
fn a_query_says_it_around_itself() {
    refuses(&[
        ("SELECT * FROM t AS USER 'u'", "write EXECUTE AS USER"),
        ("WITH x AS (SELECT * FROM t AS USER $1) SELECT * FROM x", "write EXECUTE AS USER"),
    ]);
    for sql in [
        "INSERT INTO t SELECT * FROM s AS USER 'u'",
        "DELETE FROM t WHERE a IN (SELECT a FROM s AS USER 'u')",
        "EXECUTE AS USER 'u' (SELECT * FROM s AS USER 'v')",
        "CREATE VIEW v AS USER 'u' SELECT 1",
    ] {
        crate::tests::refused(sql);
    }
}
