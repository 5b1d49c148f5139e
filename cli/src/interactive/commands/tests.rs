use super::*;

#[test]
fn short_forms_become_sql() {
    assert_eq!(parse("\\d app.messages;"), Ok(Command::Sql("DESCRIBE app.messages;".to_owned())));
    assert_eq!(parse(" \\dn "), Ok(Command::Sql("SHOW NAMESPACES;".to_owned())));
    assert_eq!(parse("\\u app"), Ok(Command::Sql("USE app;".to_owned())));
    assert_eq!(parse("\\dt"), Ok(Command::Tables));
    assert_eq!(tables(Some("a\"b")), "SHOW TABLES IN \"a\"\"b\";");
}

#[test]
fn settings_are_understood() {
    assert_eq!(parse("\\timing"), Ok(Command::Timing(None)));
    assert_eq!(parse("\\timing off"), Ok(Command::Timing(Some(false))));
    assert_eq!(parse("\\format CSV"), Ok(Command::Format(Format::Csv)));
}

#[test]
fn what_is_unknown_says_what_is_known() {
    assert!(parse("\\format xml").expect_err("unknown").contains("table, json and csv"));
    assert!(parse("\\nonsense").expect_err("unknown").contains("\\? lists them"));
    assert!(parse("\\i").is_err());
}
