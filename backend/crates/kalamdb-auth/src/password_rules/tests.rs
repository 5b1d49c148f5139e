use super::*;

const RULES: Rules = Rules { length_min: 8, refuse_common: true };

fn refused(user: &str, password: &str) -> String {
    let error = RULES.check(user, password).expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::WeakPassword);
    assert!(!error.message().contains(password), "the message must not repeat the password");
    error.message().to_owned()
}

#[test]
fn a_short_password_is_refused_with_the_rule() {
    assert!(refused("alice", "1234567").contains("at least 8"));
}

#[test]
fn length_is_counted_in_characters_not_bytes() {
    assert!(RULES.check("alice", "äöüäöüäö").is_ok());
    assert!(refused("alice", "äöüäöüä").contains("7 characters"));
}

#[test]
fn a_password_of_megabytes_is_refused() {
    assert!(refused("alice", &"x".repeat(PASSWORD_BYTES_MAX + 1)).contains("at most 1024"));
}

#[test]
fn the_user_id_is_no_password() {
    assert!(refused("alexandra", "Alexandra").contains("user id"));
    assert!(refused("ÄÖÜÄÖÜÄÖ", "äöüäöüäö").contains("user id"));
}

#[test]
fn what_is_guessed_first_is_refused_unless_the_settings_allow_it() {
    for common in ["passw0rd", "PassWord1", "12345678", "qwertyuiop", "iloveyou"] {
        assert!(refused("alice", common).contains("guessed first"), "{common}");
        assert!(Rules { refuse_common: false, ..RULES }.check("alice", common).is_ok());
    }
    for own in ["correct horse", "a password", "wonderland", "p4ssw0rd-of-alice"] {
        assert!(RULES.check("alice", own).is_ok(), "{own}");
    }
}
