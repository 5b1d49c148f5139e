use crate::tests::{all, name, refuses};

fn read_across(sql: &str) -> Vec<String> {
    all(sql).remove(0).all_users.iter().map(ToString::to_string).collect()
}

#[test]
fn the_tables_that_are_read_across_users_are_named() {
    assert_eq!(read_across("SELECT * FROM ALL USERS OF app.t"), ["app.t"]);
    assert_eq!(read_across("select t.a from all users of T where _user = 'x'"), ["t"]);
    assert_eq!(read_across("SELECT * FROM ALL USERS OF a.\"T\" x JOIN ALL USERS OF b ON x.i = b.i"), ["a.T", "b"]);
    assert_eq!(read_across("SELECT 1 FROM s, ALL USERS OF t"), ["t"]);
    assert_eq!(read_across("INSERT INTO s SELECT a FROM ALL USERS OF t"), ["t"]);
    assert_eq!(read_across("EXECUTE AS USER 'u' (SELECT a FROM ALL USERS OF t)"), ["t"]);
    assert_eq!(read_across("SELECT (SELECT max(a) FROM ALL USERS OF t) FROM s"), ["t"]);
}

#[test]
fn nothing_else_reads_across_users() {
    for sql in ["SELECT ALL users FROM t", "SELECT * FROM \"all\" users", "SELECT 'FROM ALL USERS OF t' FROM t"] {
        assert_eq!(read_across(sql), Vec::<String>::new(), "{sql}");
    }
    assert_eq!(all("SELECT * FROM t").remove(0).all_users, []);
    assert_ne!(name("t"), name("a.t"));
}

#[test]
fn it_is_for_reading_in_sight() {
    refuses(&[
        ("CREATE VIEW v AS SELECT a FROM ALL USERS OF t", "cannot stand in a view"),
        ("DELETE FROM ALL USERS OF t", "ALL USERS OF is for reading"),
        ("SHOW COLUMNS FROM ALL USERS OF t", "ALL USERS OF is for reading"),
        ("SELECT * FROM ALL USERS OF", "expected"),
        ("SELECT * FROM ALL USERS OF (SELECT 1)", "expected a table name after ALL USERS OF"),
    ]);
}
