use proptest::prelude::*;

use super::*;

/// The statements of a text.
pub(crate) fn all(sql: &str) -> Vec<Parsed> {
    parse(sql, &LimitSettings::default()).unwrap_or_else(|error| panic!("{sql}: {error}"))
}

/// The only statement of a text.
pub(crate) fn one(sql: &str) -> Statement {
    let mut statements = all(sql);
    assert_eq!(statements.len(), 1, "{sql}");
    statements.remove(0).statement
}

/// Why a text is refused.
pub(crate) fn refused(sql: &str) -> String {
    failed(sql).message().to_owned()
}

/// The error of a text.
pub(crate) fn failed(sql: &str) -> Error {
    match parse(sql, &LimitSettings::default()) {
        Ok(statements) => panic!("{sql} was accepted: {statements:?}"),
        Err(error) => error,
    }
}

/// Each text is refused with a message that holds its words.
pub(crate) fn refuses(cases: &[(&str, &str)]) {
    for (sql, words) in cases {
        let message = refused(sql);
        assert!(message.contains(words), "{sql}\n  was refused with: {message}\n  and not with:     {words}");
    }
}

/// A table's name.
pub(crate) fn name(text: &str) -> TableName {
    match text.split_once('.') {
        Some((namespace, name)) => TableName { namespace: Some(namespace.to_owned()), name: name.to_owned() },
        None => TableName { namespace: None, name: text.to_owned() },
    }
}

fn limits(change: impl FnOnce(&mut LimitSettings)) -> LimitSettings {
    let mut limits = LimitSettings::default();
    change(&mut limits);
    limits
}

#[test]
fn a_request_without_a_statement_is_empty() {
    for sql in ["", "  \n\t", ";", " ; ;; ", "-- nothing", "/* nothing; */ ; -- at all"] {
        assert_eq!(failed(sql).kind(), ErrorKind::EmptySql, "{sql:?}");
    }
}

#[test]
fn too_many_bytes_are_refused_with_both_numbers() {
    let error = parse("SELECT 1", &limits(|limits| limits.sql_bytes_max = 7)).expect_err("8 bytes");
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert_eq!(error.message(), "the SQL of the request has 8 bytes; at most 7 are allowed");
}

#[test]
fn too_many_statements_are_refused_with_both_numbers() {
    let two = limits(|limits| limits.statements_max = 2);
    assert_eq!(parse("SELECT 1;;SELECT 2;", &two).expect("two statements").len(), 2);
    let error = parse("SELECT 1;SELECT 2;SELECT 3", &two).expect_err("three statements");
    assert_eq!(error.kind(), ErrorKind::TooLarge);
    assert_eq!(error.message(), "the request has 3 statements; at most 2 are allowed");
}

#[test]
fn statements_keep_their_order_and_their_own_text() {
    let texts: Vec<String> = all(
        "  SELECT 1 ;\n-- between\nINSERT INTO t VALUES ('a;b') /* after */;; select 'ä€' AS \"ö\" ; SELECT  2  + /*in*/ 3",
    )
    .into_iter()
    .map(|parsed| parsed.text)
    .collect();
    assert_eq!(texts, ["SELECT 1", "INSERT INTO t VALUES ('a;b')", "select 'ä€' AS \"ö\"", "SELECT  2  + /*in*/ 3"]);
}

#[test]
fn keywords_are_read_in_any_case_and_comments_anywhere() {
    for sql in [
        "storage flush table ns.t wait",
        "STORAGE /* a */ FLUSH -- b\n TABLE /* ; */ ns /* c */ . /* d */ t WAIT ; -- e",
        "Storage Flush Table NS.T Wait;",
    ] {
        let flush = Flush { target: StorageTarget::Table(name("ns.t")), wait: true };
        assert_eq!(one(sql), Statement::Flush(flush), "{sql}");
    }
}

#[test]
fn the_highest_parameter_of_each_statement_is_counted() {
    let params: Vec<usize> =
        all("SELECT 1; SELECT $3, '$9', \"$8\" /* $7 */; UPDATE t SET a = $1 WHERE b = $12 OR c = $2")
            .into_iter()
            .map(|parsed| parsed.params)
            .collect();
    assert_eq!(params, [0, 3, 12]);
}

#[test]
fn what_is_not_a_parameter_is_refused() {
    refuses(&[
        ("SELECT $0", "'$0' is not a parameter; parameters are written $1, $2 and so on"),
        ("SELECT $99999999999999999999999", "is not a parameter"),
        ("SELECT $a", "is not a parameter"),
        ("SELECT :a", "is not a parameter"),
    ]);
}

#[test]
fn errors_say_line_and_column_in_the_request() {
    refuses(&[
        ("SELECT 1;\n  SELEC 2", "expected a statement, found SELEC at line 2, column 3"),
        ("SELECT 1;\nSELECT\n  (2", "expected ), found the end of the statement"),
        ("SELECT 1;\n\n  UPDATE t SET a 1", "expected '=', found 1 at line 3, column 18"),
        ("SELECT a FROM t WHERE a = = 1", "found = at line 1, column 27"),
        ("SELECT 'open", "Unterminated string literal at line 1, column 8"),
        ("SELECT \"open", "Expected close delimiter '\"' before EOF. at line 1, column 8"),
        ("SELECT /* open", "at line 1, column"),
    ]);
}

#[test]
fn errors_repeat_no_more_than_a_little_of_a_long_text() {
    let long = "x".repeat(100_000);
    for sql in [
        format!("SELECT 1 FROM t WHERE '{long}' '{long}'"),
        format!("UPDATE t SET '{long}' = 1"),
        format!("CREATE TABLE t (a {long})"),
        format!("CREATE TABLE t (a INT) WITH ({long} = 1)"),
        format!("CREATE TABLE t (a INT) WITH (COMPRESSION = '{long}')"),
        format!("CREATE TABLE t (a INT) TTL '{long}'"),
        format!("SELECT ${long}"),
        format!("{long} 1"),
    ] {
        let message = refused(&sql);
        assert!(message.len() < 600, "{} bytes: {}", message.len(), &message[..200]);
    }
}

#[test]
fn deep_nesting_is_an_error() {
    let nested =
        |open: &str, inner: &str, close: &str| format!("{}{inner}{}", open.repeat(10_000), close.repeat(10_000));
    for sql in [
        format!("SELECT {}", nested("(", "1", ")")),
        format!("SELECT {}", nested("f(", "1", ")")),
        format!("SELECT {}", nested("NOT ", "a", "")),
        format!("SELECT {}", nested("- ", "1", "")),
        format!("SELECT {}", nested("CASE WHEN a THEN ", "1", " END")),
        format!("SELECT {}", nested("[", "1", "]")),
        format!("SELECT {}", nested("ARRAY[", "1", "]")),
        format!("SELECT {}", nested("CAST(", "1", " AS INT)")),
        format!("SELECT {}", nested("EXISTS (SELECT ", "1", ")")),
        format!("SELECT * FROM {}", nested("(", "t", ")")),
        format!("SELECT * FROM {}", nested("a JOIN (", "t", ")")),
        format!("SELECT {}", nested("INTERVAL ", "'1'", "")),
        format!("SELECT {}", nested("INTERVAL DAY ", "'1'", "")),
        format!("SELECT {}", nested("f() OVER (ROWS INTERVAL ", "'1'", ")")),
        format!("SELECT CAST(1 AS {})", nested("TABLE(a ", "INT", ")")),
        format!("SELECT CAST(1 AS {})", nested("ARRAY<", "INT", ">")),
        format!("SELECT {}", nested("{fn f(", "1", ")}")),
        format!("SELECT * FROM JSON_TABLE('[]', '$' COLUMNS({}", "NESTED PATH '$' COLUMNS (".repeat(10_000)),
        format!("SELECT * FROM {}", nested("(SELECT * FROM ", "t", ")")),
        nested("(", "SELECT 1", ")"),
        nested("EXPLAIN ", "SELECT 1", ""),
        nested("EXPLAIN (", "SELECT 1", ")"),
        format!("INSERT INTO t VALUES ({})", nested("(", "1", ")")),
        format!("CREATE TABLE t (a INT DEFAULT {})", nested("(", "1", ")")),
        format!("CREATE TABLE t (a {})", nested("ARRAY<", "INT", ">")),
        format!("CREATE TABLE t (a INT{})", "[]".repeat(10_000)),
        format!("SELECT 1::INT{}", "[]".repeat(10_000)),
        format!("WITH {}", nested("a AS (WITH ", "b AS (SELECT 1) SELECT 1", ") SELECT 1")),
    ] {
        let kind = failed(&sql).kind();
        assert!(matches!(kind, ErrorKind::TooLarge | ErrorKind::InvalidSql), "{kind:?}: {}", &sql[..60]);
    }
}

#[test]
fn nesting_within_reason_is_accepted() {
    let sql = format!("SELECT {}1{}", "(".repeat(40), ")".repeat(40));
    assert_eq!(all(&sql).len(), 1);
}

/// What nests badly must not be tried again and again: twice per level is 2^n.
#[test]
fn hopeless_nesting_is_found_out_quickly() {
    let units = [
        "(",
        "((SELECT ",
        "(SELECT * FROM (",
        "CASE ",
        "CASE WHEN ",
        "NOT (",
        "f(",
        "CAST(",
        "EXTRACT(YEAR FROM ",
        "(a, (",
        "x IN (",
        "ARRAY[",
        "a[",
        "EXISTS(",
        "SELECT * FROM (",
        "SELECT (",
        "INTERVAL ",
        "DATE ",
        "POSITION(",
        "SUBSTRING(",
        "TRIM(",
        "OVERLAY(",
        "CEIL(",
        "f(a => ",
        "f(DISTINCT ",
        "ARRAY(SELECT ",
        "a BETWEEN (",
        "{",
        "{fn f(",
        "COLLATE ",
        "AT TIME ZONE (",
        "* EXCLUDE (",
        "LATERAL (",
        "UNNEST(",
        "a::INT[",
        "STRUCT(",
        "MAP {",
        "ROW(",
        "ANY(",
        "a = ALL(",
        "PIVOT (",
        "VALUES (",
        "WITH a AS (",
        "TABLE (",
        "CASE(",
        "NOT(",
        "CONVERT(",
        "OVER (PARTITION BY f(",
        "GROUPING SETS ((",
        "a.",
        "INTERVAL '1' ",
        "CASE CASE WHEN ",
        "IF(",
        "(SELECT (",
        "x IN ((SELECT ",
        "FLOOR(",
        "a.f(",
        "a IN (b IN (",
        "((SELECT * FROM t JOIN ",
        "(((SELECT 1 WHERE ",
        "f((SELECT ",
        "(WITH a AS ((SELECT ",
        "POSITION((SELECT ",
        "EXTRACT((",
        "SUBSTRING((",
        "SELECT * FROM ((SELECT * FROM (",
    ];
    let mut slow = Vec::new();
    for unit in units {
        for start in ["SELECT ", "SELECT * FROM ", "", "INSERT INTO t VALUES (", "UPDATE t SET a = "] {
            for length in [5, 12, 20, 70, 400] {
                let sql = format!("{start}{}", unit.repeat(length));
                let (send, receive) = std::sync::mpsc::channel();
                std::thread::spawn(move || {
                    let _ = send.send(parse(&sql, &LimitSettings::default()).is_ok());
                });
                if receive.recv_timeout(std::time::Duration::from_secs(2)).is_err() {
                    slow.push((start, unit, length));
                    break;
                }
            }
        }
    }
    assert!(slow.is_empty(), "{slow:?}");
}

#[test]
fn parentheses_that_mean_something_are_accepted_at_any_reasonable_depth() {
    for sql in [
        format!("SELECT {}1{}", "f(".repeat(30), ")".repeat(30)),
        format!("SELECT {}1{}", "COALESCE(a, ".repeat(30), ")".repeat(30)),
        format!("SELECT {}1{}", "CASE WHEN a THEN ".repeat(30), " END".repeat(30)),
        format!("SELECT {}1{}", "CAST(".repeat(20), " AS INT)".repeat(20)),
        format!("SELECT * FROM {}a{}", "(".repeat(12), " JOIN b ON TRUE)".repeat(12)),
        format!("SELECT * FROM {}(SELECT 1){}", "(SELECT * FROM ".repeat(10), " x)".repeat(10)),
        format!("SELECT {}1{}", "(SELECT ".repeat(12), ")".repeat(12)),
        format!("SELECT 1 WHERE a IN {}(1){}", "(SELECT a FROM t WHERE a IN ".repeat(8), ")".repeat(8)),
        "SELECT * FROM ((SELECT 1) x JOIN ((SELECT 2) y JOIN ((SELECT 3) z JOIN t ON TRUE) ON TRUE) ON TRUE)"
            .to_owned(),
        "SELECT ((((SELECT 1))))".to_owned(),
        "SELECT 1 WHERE ((a = 1 AND ((b = 2) OR (c IN ((SELECT 1))))))".to_owned(),
    ] {
        assert_eq!(all(&sql).len(), 1);
    }
}

#[test]
fn a_password_is_in_no_text_debug_or_error() {
    for sql in ["CREATE USER 'u' WITH PASSWORD 'hunter2' ROLE 'user'", "ALTER USER u SET PASSWORD 'hunter2';"] {
        let parsed = all(sql).remove(0);
        assert!(!format!("{parsed:?}").contains("hunter2"));
        assert!(parsed.text.contains("PASSWORD '***'"), "{}", parsed.text);
    }
    for sql in [
        "CREATE USER 'u' WITH PASSWORD 'hunter2' 'hunter2'",
        "CREATE USER 'u' 'hunter2'",
        "CREATE USER 'u' PASSWORD hunter2 ROLE 'user'",
        "ALTER USER u PASSWORD 'x' E'hunter2'",
        "ALTER USER u PASSWORD 'x' $$hunter2$$",
    ] {
        let message = refused(sql);
        assert!(!message.contains("hunter2"), "{message}");
    }
}

/// Pieces of statements, so that random text gets further than the first word.
#[rustfmt::skip]
const PIECES: &[&str] = &[
    "SELECT", "FROM", "WHERE", "INSERT", "INTO", "VALUES", "UPDATE", "SET", "DELETE", "CREATE", "TABLE", "USER", "ALTER",
    "ADD", "COLUMN", "DROP", "MODIFY", "TYPE", "DEFAULT", "NOT", "NULL", "PRIMARY", "KEY", "UNIQUE", "CHECK", "INDEX",
    "VIEW", "AS", "ON", "CONFLICT", "DO", "NOTHING", "RETURNING", "WITH", "FLUSH", "ROW_THRESHOLD", "INTERVAL", "TTL",
    "STORAGE", "SHOW", "TABLES", "IN", "EXPLAIN", "ANALYZE", "BEGIN", "COMMIT", "PASSWORD", "ROLE", "EMAIL", "KILL",
    "JOB", "UNION", "ALL", "JOIN", "ORDER", "BY", "LIMIT", "GROUP", "CASE", "WHEN", "THEN", "ELSE", "END", "CAST",
    "IF", "EXISTS", "NAMESPACE", "CASCADE", "RENAME", "TO", "ACCESS", "LEVEL", "t", "a", "ns", "\"Q\"", "INT", "TEXT",
    "VARCHAR", "DECIMAL", "TIMESTAMP", "JSON", "$1", "$2", "1", "60s", "1.5", "'x'", "'", "\"", "(", ")", "(", ")",
    "[", "]", ",", ",", ".", ";", "*", "=", "+", "-", "->", "->>", "::", "||", "<", ">", "/*", "*/", "--", "\n", "ä",
    "$$", "E'", "U&'", "\\", "\0", "{", "}", ":", "@", "#", "!", "~", "?", "%", "^", "&", "|",
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 4_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_text_panics(sql in ".{0,200}") {
        let _ = parse(&sql, &LimitSettings::default());
        let _ = expr::parse(&sql);
    }

    #[test]
    fn no_row_of_pieces_panics(pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..60), space in ".?") {
        let sql = pieces.join(if space.is_empty() { " " } else { "" });
        let _ = parse(&sql, &LimitSettings::default());
        let _ = expr::parse(&sql);
    }

    /// A statement's own text, parsed again, is the same statement.
    #[test]
    fn the_text_of_a_statement_means_the_statement(pieces in proptest::collection::vec(proptest::sample::select(PIECES), 0..12)) {
        let Ok(statements) = parse(&format!("SELECT 1; SELECT {}", pieces.join(" ")), &LimitSettings::default()) else {
            return Ok(());
        };
        for parsed in statements {
            let again = all(&parsed.text);
            prop_assert_eq!(again.len(), 1);
            prop_assert_eq!(&again[0], &parsed);
        }
    }
}
