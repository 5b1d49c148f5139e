use kalamdb_commons::clock::{Stopwatch, SystemEntropy};

use super::*;

/// The least that Argon2 takes, so that the tests are quick.
fn passwords() -> Passwords {
    Passwords::new(64, 2, &SystemEntropy).unwrap()
}

#[test]
fn a_hash_accepts_its_password_and_no_other() {
    let passwords = passwords();
    let stored = passwords.hash("correct horse", &SystemEntropy).unwrap();
    assert!(stored.starts_with("$argon2id$v=19$m=64,t=2,p=1$"), "{stored}");
    assert!(passwords.verify("correct horse", Some(&stored)));
    assert!(!passwords.verify("correct horsf", Some(&stored)));
    assert!(!passwords.verify("", Some(&stored)));
}

#[test]
fn one_password_hashes_differently_each_time() {
    let passwords = passwords();
    let hash = || passwords.hash("same", &SystemEntropy).unwrap();
    assert_ne!(hash(), hash());
}

#[test]
fn nobody_logs_in_as_a_user_who_does_not_exist() {
    assert!(!passwords().verify("anything", None));
}

#[test]
fn a_damaged_hash_refuses() {
    assert!(!passwords().verify("x", Some("not a hash")));
}

/// Ours and the library's are one format.
#[test]
fn hashes_are_those_of_the_library() {
    use argon2::password_hash::{PasswordHasher, PasswordVerifier};
    let passwords = passwords();
    let library = Argon2::new(Algorithm::Argon2id, Version::V0x13, passwords.params.clone());
    let ours = passwords.hash("secret", &SystemEntropy).unwrap();
    assert!(library.verify_password(b"secret", &PasswordHash::new(&ours).unwrap()).is_ok());
    let salt = salt(&SystemEntropy).unwrap();
    let theirs = library.hash_password(b"secret", &salt).unwrap().to_string();
    assert!(passwords.verify("secret", Some(&theirs)) && !passwords.verify("secreT", Some(&theirs)));
}

/// Not a timed test: the bound is an order of magnitude, and the work is the same by construction.
#[test]
fn an_unknown_user_takes_as_much_work_as_a_wrong_password() {
    let passwords = Passwords::new(8_192, 2, &SystemEntropy).unwrap();
    let stored = passwords.hash("right", &SystemEntropy).unwrap();
    let time = |stored: Option<&str>| {
        let watch = Stopwatch::start();
        for _ in 0..3 {
            assert!(!passwords.verify("wrong", stored));
        }
        watch.elapsed_ms()
    };
    let (unknown, wrong) = (time(None), time(Some(&stored)));
    assert!(unknown > wrong / 10.0, "unknown user {unknown} ms, wrong password {wrong} ms");
}

#[test]
fn a_hash_of_other_parameters_is_checked_but_not_current() {
    let old = Passwords::new(64, 2, &SystemEntropy).unwrap();
    let new = Passwords::new(128, 2, &SystemEntropy).unwrap();
    let stored = old.hash("secret", &SystemEntropy).unwrap();
    assert!(new.verify("secret", Some(&stored)));
    assert!(old.is_current(&stored) && !new.is_current(&stored));
}

/// What stands in for unknown users costs what today's hashes cost.
#[test]
fn the_stand_in_has_the_parameters_of_a_hash() {
    let passwords = passwords();
    let stored = passwords.hash("x", &SystemEntropy).unwrap();
    let head = |hash: &str| hash.rsplitn(3, '$').last().unwrap().to_owned();
    assert_eq!(head(&passwords.stand_in), head(&stored));
    assert_eq!(passwords.stand_in.len(), stored.len());
    assert!(passwords.is_current(&passwords.stand_in));
}

#[test]
fn impossible_memory_is_refused_by_name() {
    let error = Passwords::new(1, 2, &SystemEntropy).expect_err("too little");
    assert!(error.message().contains("argon2_memory_kib"), "{error}");
}
