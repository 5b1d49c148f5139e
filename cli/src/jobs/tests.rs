use super::*;

#[test]
fn what_is_asked_for_is_text_in_sql() {
    let sql = newest(Some("x' OR 'a"), 5);
    assert!(sql.contains("WHERE status = 'x'' OR ''a' ORDER BY") && sql.ends_with("LIMIT 5"), "{sql}");
    assert!(!newest(None, 1).contains("WHERE"));
}
