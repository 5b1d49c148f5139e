use super::*;

fn split(text: &str) -> (Vec<&str>, Option<&str>) {
    let found = units(text);
    (found.complete, found.rest)
}

#[test]
fn a_semicolon_ends_a_statement() {
    assert_eq!(split("SELECT 1; SELECT 2;"), (vec!["SELECT 1;", "SELECT 2;"], None));
    assert_eq!(split("SELECT 1;\nSELECT 2"), (vec!["SELECT 1;"], Some("SELECT 2")));
}

#[test]
fn a_semicolon_in_quotes_or_comments_does_not() {
    for text in [
        "SELECT ';';",
        "SELECT 'it''s; fine';",
        "SELECT \"a;b\" FROM t;",
        "SELECT 1 -- not; here\n;",
        "SELECT /* nor; /* in; */ here; */ 1;",
        "SELECT $$a;b$$;",
        "SELECT $tag$a;$$;b$tag$;",
    ] {
        assert_eq!(split(text), (vec![text], None));
    }
}

#[test]
fn what_is_not_closed_waits_for_more() {
    for text in [
        "SELECT 'a;",
        "SELECT \"a;",
        "SELECT /* a;",
        "SELECT $$ a;",
        "SELECT 1 -- a;",
        "BEGIN; INSERT INTO t VALUES (1);",
    ] {
        assert_eq!(split(text), (vec![], Some(text)));
    }
}

#[test]
fn blanks_comments_and_empty_statements_are_nothing() {
    assert_eq!(split(" ;; -- only this\n /* and this */ ; "), (vec![], None));
    assert_eq!(split(""), (vec![], None));
}

#[test]
fn a_transaction_travels_as_one() {
    let text = "begin; UPDATE t SET a = 1; COMMIT;";
    assert_eq!(split(&format!("SELECT 1; {text} SELECT 2;")), (vec!["SELECT 1;", text, "SELECT 2;"], None));
    let text = "START TRANSACTION; DELETE FROM t; ROLLBACK;";
    assert_eq!(split(text), (vec![text], None));
    let text = "/* x */ BEGIN; ROLLBACK TO SAVEPOINT a; END;";
    assert_eq!(split(text), (vec![text], None));
}

#[test]
fn parameters_and_dollars_in_names_are_not_quotes() {
    assert_eq!(split("SELECT $1; SELECT $2;").0.len(), 2);
    assert_eq!(split("SELECT a$b$c; SELECT 2;").0.len(), 2);
}

#[test]
fn letters_of_any_script_pass() {
    assert_eq!(split("SELECT 'مرحبا;' AS \"名前\"; SELECT 'ü';").0.len(), 2);
}

#[test]
fn use_names_a_namespace() {
    assert_eq!(used_namespace("USE App;").as_deref(), Some("app"));
    assert_eq!(used_namespace("/* x */ use \"App\"").as_deref(), Some("App"));
    assert_eq!(used_namespace("USE NAMESPACE app;").as_deref(), Some("app"));
    assert_eq!(used_namespace("USE namespace").as_deref(), Some("namespace"));
    assert_eq!(used_namespace("SELECT use FROM t"), None);
    assert_eq!(used_namespace("USE"), None);
}
