use kalamdb_commons::ErrorKind;

use super::*;

fn refused(user: &str, password: &str) -> String {
    let error = check(user, password, 8).expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(!error.message().contains(password), "the message must not repeat the password");
    error.message().to_owned()
}

#[test]
fn a_short_password_is_refused_with_the_rule() {
    assert!(refused("alice", "1234567").contains("at least 8"));
}

#[test]
fn length_is_counted_in_characters_not_bytes() {
    assert!(check("alice", "äöüäöüäö", 8).is_ok());
    assert!(refused("alice", "äöüäöüä").contains("7 characters"));
}

#[test]
fn a_password_of_megabytes_is_refused() {
    assert!(refused("alice", &"x".repeat(PASSWORD_BYTES_MAX + 1)).contains("at most 1024"));
}

#[test]
fn the_user_id_is_no_password() {
    assert!(refused("alexandra", "Alexandra").contains("user id"));
}
