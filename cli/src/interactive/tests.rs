use super::*;

#[test]
fn enter_runs_complete_statements_and_commands() {
    for complete in ["SELECT 1;", "\\d", "  \\timing on", "", "  ", "-- nothing", "SELECT 1; SELECT 2;"] {
        assert!(is_complete(complete), "{complete}");
    }
    for open in ["SELECT 1", "SELECT ';", "BEGIN; DELETE FROM t;", "SELECT 1; SELECT"] {
        assert!(!is_complete(open), "{open}");
    }
}

#[test]
fn passwords_stay_out_of_the_history() {
    assert!(holds_a_secret("CREATE USER 'a' WITH Password 'x';"));
    assert!(holds_a_secret("CREATE STORAGE s TYPE 's3' CREDENTIALS '{}';"));
    assert!(!holds_a_secret("SELECT 'password';"));
}

#[test]
fn a_password_is_not_shown() {
    let hidden = Assistant { is_hidden: true, ..Assistant::default() };
    assert_eq!(hidden.highlight("secret", 0), "******");
    assert_eq!(Assistant::default().highlight("SELECT", 0), "SELECT");
}

#[test]
fn names_are_read_again_after_ddl() {
    assert!(changes_names("create table a.b (c INT);") && changes_names("\\i x.sql"));
    assert!(!changes_names("SELECT 1;"));
}
