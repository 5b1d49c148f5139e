use kalamdb_commons::ErrorKind;

use super::*;
use crate::Statement;
use crate::tests::{failed, one, refuses};

#[test]
fn clauses_of_queries_that_are_not_implemented_are_named() {
    refuses(&[
        ("SELECT * FROM t FOR UPDATE", "FOR UPDATE is not implemented"),
        ("SELECT * FROM t FOR UPDATE OF t NOWAIT", "FOR UPDATE is not implemented"),
        ("SELECT * FROM t FOR SHARE", "FOR SHARE is not implemented"),
        ("SELECT * FROM (SELECT * FROM t FOR UPDATE) x", "FOR UPDATE is not implemented"),
        ("SELECT * INTO u FROM t", "SELECT INTO is not implemented"),
        ("SELECT TOP 5 * FROM t", "TOP is not implemented"),
        ("SELECT * FROM t CLUSTER BY a", "CLUSTER BY is not implemented"),
        ("SELECT * FROM t DISTRIBUTE BY a", "DISTRIBUTE BY is not implemented"),
        ("SELECT * FROM t SORT BY a", "SORT BY is not implemented"),
        ("SELECT * FROM t LATERAL VIEW explode(a) x AS y", "LATERAL VIEW is not implemented"),
        ("SELECT * FROM t FETCH FIRST 3 ROWS WITH TIES", "FETCH ... WITH TIES is not implemented"),
        ("SELECT * FROM t FETCH FIRST 3 PERCENT ROWS ONLY", "FETCH ... PERCENT is not implemented"),
        ("SELECT * FROM t LIMIT 1 FETCH FIRST 3 ROWS ONLY", "FETCH together with LIMIT is not implemented"),
        ("WITH x AS MATERIALIZED (SELECT 1) SELECT * FROM x", "AS MATERIALIZED is not implemented"),
        ("WITH x AS NOT MATERIALIZED (SELECT 1) SELECT * FROM x", "AS NOT MATERIALIZED is not implemented"),
        ("WITH x AS (SELECT 1) INSERT INTO t SELECT * FROM x", "INSERT after WITH"),
        ("WITH x AS (SELECT 1) UPDATE t SET a = 1", "UPDATE after WITH"),
        ("WITH x AS (SELECT 1) DELETE FROM t", "DELETE after WITH"),
        ("WITH x AS (DELETE FROM t RETURNING a) SELECT * FROM x", "DELETE in a query is not implemented"),
        ("WITH x AS (INSERT INTO t VALUES (1) RETURNING a) SELECT * FROM x", "INSERT in a query is not implemented"),
        ("SELECT * FROM t WITH ORDINALITY", "WITH ORDINALITY is not implemented"),
        ("SELECT * FROM f(1) WITH ORDINALITY", "WITH ORDINALITY is not implemented"),
        ("SELECT * FROM UNNEST([1]) WITH ORDINALITY", "WITH ORDINALITY is not implemented"),
        ("SELECT * FROM t PIVOT (sum(a) FOR b IN (1, 2))", "PIVOT is not implemented"),
        ("SELECT * FROM t UNPIVOT (a FOR b IN (c, d))", "UNPIVOT is not implemented"),
        ("SELECT * FROM f(1) AS x (a INT, b TEXT)", "a type in a list of column aliases is not implemented"),
        ("SELECT * FROM TABLE(f(1))", "TABLE (...) is not implemented"),
        ("SELECT * FROM JSON_TABLE('[]', '$' COLUMNS (a INT PATH '$'))", "JSON_TABLE is not implemented"),
        ("TABLE t LIMIT 5", "TABLE as a query; use SELECT * FROM, it is not implemented"),
        ("SELECT 1 UNION TABLE t", "TABLE as a query"),
        ("SELECT * FROM @stage", "'@' is not implemented at line 1, column 14"),
        ("SELECT @a", "'@' is not implemented"),
        ("SELECT * FROM XMLTABLE('/x' PASSING '<x/>' COLUMNS a INT PATH '@a')", "XMLTABLE is not implemented"),
        ("FROM t", "FROM before SELECT is not implemented"),
        ("SELECT 1 INTO OUTFILE 'x'", "is not implemented"),
    ]);
}

#[test]
fn clauses_that_the_grammar_does_not_know_are_errors_too() {
    for sql in [
        "SELECT * FROM t TABLESAMPLE SYSTEM (10)",
        "SELECT * FROM t PREWHERE a = 1",
        "SELECT * FROM t LIMIT 1, 2",
        "SELECT * FROM t LIMIT 1 BY a",
        "SELECT * FROM t SETTINGS a = 1",
        "SELECT * FROM t FORMAT JSON",
        "SELECT * FROM t |> WHERE a = 1",
        "SELECT * FROM t START WITH a = 1 CONNECT BY b = 2",
        "SELECT * FROM t USE INDEX (a)",
        "SELECT a FROM t GROUP BY a WITH ROLLUP",
        "SELECT * FROM t FOR JSON AUTO",
        "SELECT AS STRUCT 1",
    ] {
        let kind = failed(sql).kind();
        assert_eq!(kind, ErrorKind::InvalidSql, "{sql}");
    }
}

#[test]
fn no_relation_has_a_version() {
    refuses(&[
        ("SELECT * FROM t AS OF TIMESTAMP '2020-01-01'", "AS OF is not implemented at line 1, column 17"),
        ("SELECT * FROM t AS OF 5", "AS OF is not implemented"),
        ("SELECT * FROM t AS OF $1", "AS OF is not implemented"),
        ("SELECT * FROM t AS OF SYSTEM TIME '-1h'", "AS OF is not implemented"),
        ("SELECT * FROM t VERSION AS OF 3", "AS OF is not implemented"),
        ("SELECT * FROM t TIMESTAMP AS OF now()", "AS OF is not implemented"),
        ("SELECT * FROM u JOIN t FOR SYSTEM_TIME AS OF now() ON TRUE", "FOR SYSTEM_TIME is not implemented"),
        ("SELECT * FROM t FOR SYSTEM_TIME BETWEEN 1 AND 2", "FOR SYSTEM_TIME is not implemented"),
        ("INSERT INTO u SELECT * FROM t AS OF 5", "AS OF is not implemented"),
    ]);
}

#[test]
fn of_is_a_name_where_no_version_follows() {
    one("SELECT a AS of FROM t");
    one("SELECT of.a FROM t AS of");
}

#[test]
fn no_name_holds_the_marks_of_the_tree() {
    for sql in ["SELECT * FROM \"t\u{1f}--d\"", "SELECT * FROM a.\"t\u{1e}\"", "UPDATE \"t\u{1f}\" SET a = 1"] {
        refuses(&[(sql, "control characters")]);
    }
}

#[test]
fn what_datafusion_carries_out_is_accepted() {
    for sql in [
        "VALUES (1, 'a'), (2, 'b')",
        "(SELECT 1)",
        "(SELECT 1) UNION ALL (SELECT 2) ORDER BY 1 LIMIT 1 OFFSET 1",
        "WITH RECURSIVE x (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM x WHERE n < 9) SELECT * FROM x",
        "SELECT DISTINCT ON (a) a, b FROM t ORDER BY a, b DESC NULLS LAST",
        "SELECT ALL a FROM t",
        "SELECT count(*) FILTER (WHERE a > 1), sum(DISTINCT b), string_agg(c, ',' ORDER BY c) FROM t GROUP BY ROLLUP (a, b)",
        "SELECT a, row_number() OVER w, lag(b, 1) IGNORE NULLS OVER (ORDER BY c ROWS BETWEEN 1 PRECEDING AND CURRENT ROW) \
         FROM t WINDOW w AS (PARTITION BY a)",
        "SELECT * FROM t QUALIFY row_number() OVER (ORDER BY a) = 1",
        "SELECT * EXCLUDE (a) FROM t",
        "SELECT * EXCEPT (a) FROM t",
        "SELECT * REPLACE (a + 1 AS a) FROM t",
        "SELECT t.*, u.* FROM t CROSS JOIN u, LATERAL (SELECT 1) x",
        "SELECT * FROM a JOIN b USING (c) LEFT OUTER JOIN d ON a.e = d.e NATURAL JOIN f FULL JOIN g ON TRUE",
        "SELECT * FROM a LEFT SEMI JOIN b ON a.c = b.c LEFT ANTI JOIN d ON a.c = d.c",
        "SELECT * FROM (a JOIN b ON TRUE) AS x, (t), generate_series(1, 10) AS g (n), UNNEST([1, 2]) AS u (v)",
        "SELECT doc->>'name', doc->'a'->0->>'b' FROM t WHERE doc->>'n' = 'x' AND doc->'k' IS NOT NULL",
        "SELECT a::INT, CAST(a AS DECIMAL(10, 2)), TRY_CAST(b AS BIGINT), DATE '2020-01-01', TIMESTAMP '2020-01-01 00:00:00'",
        "SELECT INTERVAL '1' DAY + INTERVAL '1 2:3' DAY TO SECOND, INTERVAL DAY TO SECOND '1 2:3', t.interval, max(interval) FROM t",
        "SELECT INTERVAL '1 day', now() - INTERVAL '1' HOUR, EXTRACT(YEAR FROM ts), a AT TIME ZONE 'utc' FROM t",
        "SELECT a LIKE 'x%' ESCAPE '!', a ILIKE 'y', a SIMILAR TO 'z', a ~ 'r', a !~* 'r' FROM t",
        "SELECT CASE a WHEN 1 THEN 2 ELSE 3 END, COALESCE(a, b), NULLIF(a, b), a IS DISTINCT FROM b, a NOTNULL FROM t",
        "SELECT substring(a FROM 1 FOR 2), trim(BOTH 'x' FROM a), position('x' IN a), overlay(a PLACING b FROM 1) FROM t",
        "SELECT a BETWEEN 1 AND 2, a NOT IN (1, 2), a = ANY(ARRAY[1, 2]), EXISTS (SELECT 1), (SELECT 1) FROM t",
        "SELECT current_date, current_timestamp, current_time, current_user, current_user(), now(), $1::TEXT",
        "SELECT a>-1, a<-1, a=-1, a*-1, a||'x', a%2, a&1, a|1, a<<1, 1_000, .5, 1e3, 0.1 FROM t",
        "SELECT point, path, line, box, date, type, name, value, key, id, status, level, role, \"user\" FROM t",
        "SELECT named(x => 1)",
    ] {
        assert!(matches!(one(sql), Statement::Query(_)), "{sql}");
    }
}

#[test]
fn arrows_bind_closer_than_comparisons() {
    let Statement::Query(query) = one("SELECT doc->>'a' = 'x'") else { panic!("a query") };
    let Some(select) = query.body.as_select() else { panic!("a SELECT") };
    let sqlparser::ast::SelectItem::UnnamedExpr(Expr::BinaryOp { op, .. }) = &select.projection[0] else {
        panic!("a comparison")
    };
    assert_eq!(*op, sqlparser::ast::BinaryOperator::Eq);
}

#[test]
fn relations_are_limited() {
    let joined = |count: usize| format!("SELECT 1 FROM {}", vec!["t"; count].join(", "));
    one(&joined(RELATIONS_MAX));
    assert_eq!(failed(&joined(RELATIONS_MAX + 1)).kind(), ErrorKind::TooLarge);
}

#[test]
fn set_operations_are_limited() {
    one(&format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(SET_OPERATIONS_MAX)));
    let error = failed(&format!("SELECT 1{}", " UNION ALL SELECT 1".repeat(SET_OPERATIONS_MAX + 1)));
    assert_eq!(error.kind(), ErrorKind::TooLarge);
}

#[test]
fn the_depth_of_expressions_is_limited() {
    one(&format!("SELECT 1{}", " + 1".repeat(DEPTH_MAX - 1)));
    assert_eq!(failed(&format!("SELECT 1{}", " + 1".repeat(DEPTH_MAX))).kind(), ErrorKind::TooLarge);
    one(&format!("INSERT INTO t VALUES (1{})", " + 1".repeat(DEPTH_MAX - 1)));
    assert_eq!(failed(&format!("INSERT INTO t VALUES (1{})", " + 1".repeat(DEPTH_MAX))).kind(), ErrorKind::TooLarge);
}
