use super::*;

fn parsed(line: &[&str]) -> (Arguments, Vec<Script>) {
    let matches = Arguments::command().try_get_matches_from(line).expect("valid arguments");
    let arguments = Arguments::from_arg_matches(&matches).expect("valid arguments");
    let scripts = scripts(&matches, &arguments);
    (arguments, scripts)
}

#[test]
fn the_definition_is_sound() {
    Arguments::command().debug_assert();
}

#[test]
fn commands_and_files_keep_their_order() {
    let (_, scripts) = parsed(&["kalam", "-c", "SELECT 1", "-f", "a.sql", "-c", "SELECT 2", "--file", "-"]);
    let text = |sql: &str| Script::Text(sql.to_owned());
    assert_eq!(scripts, [text("SELECT 1"), Script::File("a.sql".into()), text("SELECT 2"), Script::File("-".into())]);
}

#[test]
fn the_connection_may_stand_behind_the_command() {
    let (arguments, _) = parsed(&["kalam", "import", "--table", "a.b", "x.csv", "--user", "ali", "--password", "p"]);
    assert_eq!((arguments.connection.user.as_str(), arguments.connection.password.as_deref()), ("ali", Some("p")));
    let Some(Command::Import(import)) = arguments.command else { panic!("not an import") };
    assert_eq!((import.table.as_str(), import.file), ("a.b", PathBuf::from("x.csv")));
}

#[test]
fn a_subscription_takes_a_query_and_where_to_begin() {
    let (arguments, _) = parsed(&["kalam", "subscribe", "SELECT 1", "--from", "17", "--lines", "2"]);
    let Some(Command::Subscribe(subscribe)) = arguments.command else { panic!("not a subscription") };
    assert_eq!((subscribe.sql.as_str(), subscribe.from, subscribe.lines), ("SELECT 1", Some(17), Some(2)));
    let both = ["kalam", "subscribe", "SELECT 1", "--from", "17", "--changes-only"];
    assert!(Arguments::command().try_get_matches_from(both).is_err());
}

#[test]
fn an_unknown_format_is_refused() {
    assert!(Arguments::command().try_get_matches_from(["kalam", "--format", "xml"]).is_err());
}
