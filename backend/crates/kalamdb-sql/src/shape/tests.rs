use super::*;

#[test]
fn no_value_and_no_comment_is_in_a_shape() {
    for (sql, expected) in [
        (
            "SELECT  a, b FROM app.t -- mine\n WHERE a = 'secret' AND b > 12.5",
            "SELECT a, b FROM app.t WHERE a = ? AND b > ?",
        ),
        ("select \"A b\" from t where x in (1, 2) /* x */", "select \"A b\" from t where x in (?, ?)"),
        ("SELECT $1, E'a\\'b', X'ff', $$x$$, N'n', 1_000", "SELECT $1, ?, ?"),
        ("SELECT a::TEXT; DELETE FROM t;", "SELECT a::TEXT; DELETE FROM t"),
        ("not ' sql", ""),
    ] {
        assert_eq!(shape(sql), expected, "{sql}");
    }
}

#[test]
fn a_password_is_hidden_however_it_is_written() {
    for password in ["'hunter2'", "hunter2", "\"hunter2\""] {
        let shape = shape(&format!("CREATE USER al WITH PASSWORD {password} ROLE 'dba'"));
        assert_eq!(shape, "CREATE USER al WITH PASSWORD ? ROLE ?");
    }
}

#[test]
fn a_long_list_is_shown_by_its_beginning() {
    let values = vec!["1"; 1_000].join(", ");
    assert_eq!(shape(&format!("SELECT a FROM t WHERE a IN ({values})")), "SELECT a FROM t WHERE a IN (?, ?, ?)");
}
