//! Settings that are wrong stop the server before it touches anything, and all of them are told at once.

use crate::server::Home;

const WRONG: [(&str, &str); 5] = [
    ("SERVER__HTTP_WORKERS", "0"),
    ("HOT__DURABILITY", "maybe"),
    ("LIMITS__CHUNK_ROWS", "many"),
    ("FLUSH__ROW", "5"),
    ("SERVR__PORT", "1"),
];

fn errors(home: &Home, arguments: &[&str]) -> String {
    let output = home.run(arguments);
    assert!(matches!(output.status.code(), Some(1 | 2)), "{output:?}");
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn fr_086_every_problem_is_told_at_once_with_key_value_and_what_is_allowed() {
    let words = errors(&Home::new(&WRONG), &["--check-config"]);
    for told in [
        "server.http_workers = 0",
        "from 1 to 256",
        "hot.durability = \"maybe\"",
        "\"sync\", \"buffered\"",
        "limits.chunk_rows",
        "\"many\"",
        "whole number",
        "flush.row ",
        "did you mean rows?",
        "[servr]",
        "did you mean [server]?",
    ] {
        assert!(words.contains(told), "{told} is not in: {words}");
    }
}

#[test]
fn fr_086_a_server_with_wrong_settings_does_not_start_and_makes_nothing() {
    let home = Home::new(&WRONG);
    let words = errors(&home, &[]);
    assert!(words.contains("server.http_workers"), "{words}");
    assert!(!home.data().exists());
}

#[test]
fn fr_086_rules_between_settings_are_checked() {
    let home = Home::new(&[("HOT__FLUSH_AT_MIB", "100"), ("HOT__HARD_LIMIT_MIB", "50"), ("SERVER__HOST", "0.0.0.0")]);
    let words = errors(&home, &["--check-config"]);
    assert!(words.contains("hot.hard_limit_mib = 50") && words.contains("hot.flush_at_mib = 100"), "{words}");
    assert!(words.contains("server.host") && words.contains("TLS"), "{words}");
}

#[test]
fn fr_086_valid_settings_are_said_to_be_and_make_nothing() {
    let home = Home::new(&[]);
    let output = home.run(&["--check-config"]);
    assert!(output.status.success(), "{output:?}");
    assert!(String::from_utf8(output.stdout).unwrap().contains("valid"));
    assert!(!home.data().exists());
}

#[test]
fn fr_083_the_settings_in_force_are_printed_with_their_sources_and_without_secrets() {
    let home = Home::new(&[("AUTH__TOKEN_SECRET", "0123456789abcdef0123456789abcdef")]);
    let printed = String::from_utf8(home.run(&["--print-config"]).stdout).unwrap();
    assert!(printed.contains("KALAMDB_SERVER__PORT") && printed.contains("[server]"), "{printed}");
    assert!(!printed.contains("0123456789abcdef") && !printed.contains(crate::server::ROOT_PASSWORD), "{printed}");
}

#[test]
fn fr_086_a_file_that_is_missing_or_no_toml_is_named() {
    let home = Home::new(&[]);
    assert!(errors(&home, &["--config", "nowhere.toml"]).contains("nowhere.toml"));
    std::fs::write(home.data(), "[server\n").unwrap();
    assert!(errors(&home, &["--check-config", "--config", "data"]).contains("data is not valid TOML"));
}
