use super::*;
use crate::tests::{one, refuses};

#[test]
fn transactions_in_every_form() {
    for sql in ["BEGIN", "begin;", "BEGIN TRANSACTION", "BEGIN WORK", "START TRANSACTION"] {
        assert_eq!(one(sql), Statement::Begin, "{sql}");
    }
    for sql in ["COMMIT", "COMMIT TRANSACTION;", "COMMIT WORK", "END", "END TRANSACTION"] {
        assert_eq!(one(sql), Statement::Commit, "{sql}");
    }
    for sql in ["ROLLBACK", "rollback transaction", "ROLLBACK WORK", "ABORT"] {
        assert_eq!(one(sql), Statement::Rollback, "{sql}");
    }
}

#[test]
fn modes_of_transactions_are_named() {
    refuses(&[
        ("BEGIN ISOLATION LEVEL SERIALIZABLE", "ISOLATION LEVEL in BEGIN is not implemented"),
        ("BEGIN READ ONLY", "READ in BEGIN is not implemented"),
        ("BEGIN IMMEDIATE", "IMMEDIATE in BEGIN is not implemented"),
        ("START TRANSACTION READ WRITE", "READ in START TRANSACTION is not implemented"),
        ("COMMIT AND CHAIN", "AND CHAIN in COMMIT is not implemented"),
        ("ROLLBACK TO SAVEPOINT a", "TO SAVEPOINT in ROLLBACK is not implemented"),
        ("START", "expected TRANSACTION"),
    ]);
}

#[test]
fn explain_in_every_form() {
    for (sql, expected) in [
        ("EXPLAIN SELECT 1", (false, false)),
        ("EXPLAIN ANALYZE SELECT 1", (true, false)),
        ("EXPLAIN VERBOSE SELECT 1", (false, true)),
        ("EXPLAIN ANALYZE VERBOSE SELECT 1", (true, true)),
        ("EXPLAIN (ANALYZE) SELECT 1", (true, false)),
        ("EXPLAIN (ANALYZE TRUE, VERBOSE ON) SELECT 1", (true, true)),
        ("EXPLAIN (ANALYZE OFF, VERBOSE FALSE) SELECT 1", (false, false)),
        ("EXPLAIN (SELECT 1)", (false, false)),
        ("EXPLAIN ((SELECT 1))", (false, false)),
        ("EXPLAIN ANALYZE (SELECT 1)", (true, false)),
        ("EXPLAIN WITH x AS (SELECT 1) SELECT * FROM x", (false, false)),
    ] {
        let Statement::Explain { analyze, verbose, statement } = one(sql) else { panic!("{sql}") };
        assert_eq!((analyze, verbose), expected, "{sql}");
        assert!(matches!(*statement, Statement::Query(_)), "{sql}");
    }
    for sql in ["EXPLAIN INSERT INTO t VALUES (1)", "EXPLAIN UPDATE t SET a = 1", "EXPLAIN ANALYZE DELETE FROM t"] {
        assert!(matches!(one(sql), Statement::Explain { .. }), "{sql}");
    }
}

#[test]
fn what_explain_cannot_is_named() {
    refuses(&[
        ("EXPLAIN FORMAT JSON SELECT 1", "EXPLAIN FORMAT is not implemented"),
        ("EXPLAIN (FORMAT JSON) SELECT 1", "the option FORMAT of EXPLAIN is not implemented"),
        ("EXPLAIN (COSTS OFF) SELECT 1", "the option COSTS of EXPLAIN is not implemented"),
        ("EXPLAIN QUERY PLAN SELECT 1", "EXPLAIN QUERY is not implemented"),
        ("EXPLAIN CREATE TABLE t (a INT)", "EXPLAIN CREATE is not implemented"),
        ("EXPLAIN EXPLAIN SELECT 1", "EXPLAIN EXPLAIN is not implemented"),
        ("EXPLAIN t", "EXPLAIN T is not implemented"),
        ("EXPLAIN", "expected a statement to explain"),
        ("EXPLAIN DELETE FROM t USING u", "USING in DELETE is not implemented"),
    ]);
}

#[test]
fn statements_of_other_databases_are_named() {
    for word in KNOWN {
        refuses(&[(&format!("{word} x"), &format!("{word} is not implemented at line 1, column 1"))]);
    }
    refuses(&[
        ("prepare p AS SELECT 1", "PREPARE is not implemented"),
        ("COPY t FROM STDIN", "COPY is not implemented"),
        ("MERGE INTO t USING u ON t.a = u.a WHEN MATCHED THEN DELETE", "MERGE is not implemented"),
        ("GRANT SELECT ON t TO u", "GRANT is not implemented"),
        ("SET a = 1", "SET is not implemented"),
        ("VACUUM", "VACUUM is not implemented"),
    ]);
}

#[test]
fn what_begins_no_statement_is_an_error() {
    refuses(&[
        ("SELEC 1", "expected a statement, found SELEC at line 1, column 1"),
        ("1", "expected a statement, found 1"),
        ("'SELECT 1'", "expected a statement, found 'SELECT 1'"),
        ("\"select\" 1", "expected a statement, found \"select\""),
        (")", "expected a statement, found ')'"),
        ("$1", "expected a statement, found '$1'"),
    ]);
}

#[test]
fn a_statement_is_read_to_its_end() {
    refuses(&[
        ("SHOW ALL nonsense", "expected the end of SHOW, found nonsense"),
        ("SELECT 1 2", "expected the end of the query, found 2"),
        ("USE a b", "expected the end of USE, found b"),
        ("BEGIN SELECT 1", "expected the end of BEGIN, found SELECT"),
        ("SELECT 1 FROM t WHERE a = 1 b", "expected the end of the query, found b"),
        ("DROP TABLE t u", "expected the end of DROP TABLE, found u"),
    ]);
}
