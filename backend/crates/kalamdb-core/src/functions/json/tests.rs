use kalamdb_commons::types::COLUMN_TYPE_KEY;

use super::*;
use crate::functions::tests::{query, session, value};

/// The value of an expression over `doc`.
async fn of(doc: &str, expression: &str) -> String {
    let doc = doc.replace('\'', "''");
    value(&session(None), &format!("SELECT {expression} FROM (SELECT '{doc}' AS doc) AS t")).await
}

#[tokio::test]
async fn keys_and_indexes_step_into_json() {
    let doc = r#"{"a": {"b": [10, "x", null, {"c": true}]}, "n": 1.10, "s": "t\u0041\n", "z": null}"#;
    for (expression, expected) in [
        ("doc->'a'", r#"{"b": [10, "x", null, {"c": true}]}"#),
        ("doc->'a'->'b'->0", "10"),
        ("doc->'a'->'b'->1", r#""x""#),
        ("doc->'a'->'b'->>1", "x"),
        ("doc->'a'->'b'->-1->>'c'", "true"),
        ("doc->'a'->'b'->-5", "NULL"),
        ("doc->'a'->'b'->4", "NULL"),
        ("doc->'a'->'b'->2", "null"),
        ("doc->'a'->'b'->>2", "NULL"),
        ("doc->>'z'", "NULL"),
        ("doc->'nope'", "NULL"),
        ("doc->'nope'->>'deeper'", "NULL"),
        ("doc->0", "NULL"),
        ("doc->'a'->'b'->'0'", "NULL"),
        ("doc->'n'->'a'", "NULL"),
        ("doc->>'n'", "1.10"),
        ("doc->>'s'", "tA\n"),
        ("doc->>NULL", "NULL"),
    ] {
        assert_eq!(of(doc, expression).await, expected, "{expression}");
    }
}

#[tokio::test]
async fn numbers_keep_all_their_digits() {
    let doc = r#"{"big": 123456789012345678901234567890.10, "tiny": 1e-400}"#;
    assert_eq!(of(doc, "doc->>'big'").await, "123456789012345678901234567890.10");
    assert_eq!(of(doc, "doc->'tiny'").await, "1e-400");
}

#[tokio::test]
async fn operators_bind_tighter_than_comparisons() {
    assert_eq!(of(r#"{"a": "x"}"#, "doc->>'a' = 'x' AND doc->'a' IS NOT NULL").await, "true");
    assert_eq!(of(r#"{"a": 5}"#, "CAST(doc->>'a' AS INT) + 1").await, "6");
}

#[tokio::test]
async fn keys_may_hold_escapes_and_the_last_of_two_counts() {
    assert_eq!(of(r#"{"a\"b": 1, "\u00e4": 2}"#, "doc->>'a\"b'").await, "1");
    assert_eq!(of(r#"{"\u00e4": 2}"#, "doc->>'ä'").await, "2");
    assert_eq!(of(r#"{"a": 1, "a": 2}"#, "doc->>'a'").await, "2");
    assert_eq!(of(r#"{"": 1}"#, "doc->>''").await, "1");
}

#[tokio::test]
async fn what_is_not_json_is_an_error() {
    let context = session(None);
    let bad = [
        "",
        " ",
        "{",
        "{}x",
        "{} {}",
        "[1,]",
        "[1 2]",
        r#"{"a"}"#,
        r#"{"a":}"#,
        r#"{"a":1,}"#,
        "{a:1}",
        r#"{"a":1 "b":2}"#,
        r#"{1:1}"#,
        "nul",
        "'x'",
        r#"{"a":"x}"#,
        r#"["\q"]"#,
        "]",
        "[1}",
    ];
    for text in bad {
        let sql = format!("SELECT '{}' -> 'a'", text.replace('\'', "''"));
        let error = query(&context, &sql).await.expect_err(text);
        assert!(error.to_string().contains("invalid JSON"), "{text}: {error}");
    }
}

#[tokio::test]
async fn blanks_are_allowed_where_json_allows_them() {
    assert_eq!(of(" { \"a\" : [ 1 , 2 ] , \"b\" : { } } \n", "doc->'a'->1").await, "2");
    assert_eq!(of("[ ]", "doc->0").await, "NULL");
}

#[tokio::test]
async fn deep_json_does_not_run_out_of_stack() {
    let deep = format!("{{\"a\":{}1{}}}", "[".repeat(100_000), "]".repeat(100_000));
    assert_eq!(get(&deep, Step::Key("b")).unwrap(), None);
}

#[tokio::test]
async fn null_is_null_on_either_side() {
    let context = session(None);
    assert_eq!(value(&context, "SELECT NULL -> 'a'").await, "NULL");
    assert_eq!(value(&context, "SELECT CAST(NULL AS TEXT) ->> 1").await, "NULL");
}

#[tokio::test]
async fn columns_may_stand_on_both_sides() {
    let context = session(None);
    let sql = "SELECT string_agg(doc->>key, ',' ORDER BY n) FROM (VALUES \
               (1, '{\"a\":1,\"b\":2}', 'a'), (2, '{\"a\":3,\"b\":4}', 'b'), (3, NULL, 'b'), (4, '{\"a\":5}', NULL)) AS t (n, doc, key)";
    assert_eq!(value(&context, sql).await, "1,4");
    let sql =
        "SELECT string_agg(doc->>at, ',' ORDER BY n) FROM (VALUES (1, '[1,2]', 0), (2, '[3,4]', 1)) AS t (n, doc, at)";
    assert_eq!(value(&context, sql).await, "1,4");
}

#[tokio::test]
async fn arrow_answers_json_and_long_arrow_text() {
    let batches = query(&session(None), r#"SELECT '{"a":1}' -> 'a' AS j, '{"a":1}' ->> 'a' AS t"#).await.unwrap();
    let schema = batches[0].schema();
    assert_eq!(schema.field(0).metadata().get(COLUMN_TYPE_KEY).map(String::as_str), Some("JSON"));
    assert_eq!(schema.field(1).metadata().get(COLUMN_TYPE_KEY), None);
}

#[tokio::test]
async fn other_types_are_refused_by_name() {
    let context = session(None);
    let error = query(&context, "SELECT 5 -> 'a'").await.unwrap_err().to_string();
    assert!(error.contains("-> needs JSON on its left"), "{error}");
    let error = query(&context, "SELECT '{}' ->> 1.5").await.unwrap_err().to_string();
    assert!(error.contains("->> needs a key or an index"), "{error}");
}
