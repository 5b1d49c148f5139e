//! The commands that begin with `\`.

use clap::ValueEnum;

use crate::output::Format;

/// What `\?` says.
pub(crate) const HELP: &str = "\
SQL ends with ; and may have several lines. BEGIN; ... COMMIT; is sent as one.
  \\d             list tables           \\d NAME        describe a table
  \\dt            list tables           \\dv            list views
  \\dn            list namespaces       \\du            list users
  \\ds            list storages         \\dj            list the newest jobs
  \\u NAMESPACE   use a namespace       \\i FILE        run a file
  \\set NAME TEXT set a variable: :NAME \\unset NAME    forget one; \\set lists them
  \\timing [on|off]                     \\format table|json|csv
  \\pager [on|off]                      \\conninfo       who is connected, and where to
  \\? or \\h       this help             \\q             leave (also Ctrl-D)
Ctrl-C ends a running statement. Tab completes keywords and names.
";

/// The tables of every namespace but the server's own.
const ALL_TABLES: &str = "SELECT table_schema AS namespace, table_name, table_type FROM information_schema.tables \
    WHERE table_schema NOT IN ('system', 'information_schema') ORDER BY table_schema, table_name;";

const VIEWS: &str = "SELECT table_schema AS namespace, table_name AS view_name FROM information_schema.tables \
    WHERE table_type = 'VIEW' ORDER BY table_schema, table_name;";

const USERS: &str =
    "SELECT user_id, role, email, created_at FROM system.users WHERE deleted_at IS NULL ORDER BY user_id;";

/// Every command, for completion.
pub(crate) const NAMES: &[&str] = &[
    "\\d",
    "\\dt",
    "\\dv",
    "\\dn",
    "\\du",
    "\\ds",
    "\\dj",
    "\\l",
    "\\u",
    "\\i",
    "\\set",
    "\\unset",
    "\\timing",
    "\\format",
    "\\pager",
    "\\conninfo",
    "\\help",
    "\\quit",
];

/// One of them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Quit,
    Help,
    /// On, off, or the other way.
    Timing(Option<bool>),
    /// The same.
    Pager(Option<bool>),
    /// A variable's name and value.
    Set(String, String),
    Unset(String),
    Variables,
    Connection,
    Format(Format),
    /// A short form of SQL.
    Sql(String),
    /// The tables of the namespace in use, or all.
    Tables,
    File(String),
}

/// Reads a command; the error says what is allowed.
pub(crate) fn parse(line: &str) -> Result<Command, String> {
    let line = line.trim().trim_end_matches(';').trim_end();
    let (name, argument) = line.split_once(char::is_whitespace).unwrap_or((line, ""));
    let argument = argument.trim();
    match (name, argument) {
        ("\\q" | "\\quit", "") => Ok(Command::Quit),
        ("\\?" | "\\h" | "\\help", "") => Ok(Command::Help),
        ("\\d" | "\\dt", "") => Ok(Command::Tables),
        ("\\d" | "\\dt", table) => Ok(Command::Sql(format!("DESCRIBE {table};"))),
        ("\\dn", "") => Ok(Command::Sql("SHOW NAMESPACES;".to_owned())),
        ("\\u" | "\\c", namespace) if !namespace.is_empty() => Ok(Command::Sql(format!("USE {namespace};"))),
        ("\\i", file) if !file.is_empty() => Ok(Command::File(file.to_owned())),
        ("\\dv", "") => Ok(Command::Sql(VIEWS.to_owned())),
        ("\\du", "") => Ok(Command::Sql(USERS.to_owned())),
        ("\\ds", "") => Ok(Command::Sql("SHOW STORAGES;".to_owned())),
        ("\\dj", "") => Ok(Command::Sql(format!("{};", crate::jobs::newest(None, 20)))),
        ("\\l", "") => Ok(Command::Sql("SHOW NAMESPACES;".to_owned())),
        ("\\conninfo", "") => Ok(Command::Connection),
        ("\\set", "") => Ok(Command::Variables),
        ("\\set", assignment) => {
            let (name, value) = assignment.split_once(char::is_whitespace).unwrap_or((assignment, ""));
            Ok(Command::Set(name.to_owned(), unquoted(value.trim())))
        }
        ("\\unset", name) if !name.is_empty() => Ok(Command::Unset(name.to_owned())),
        ("\\pager", "") => Ok(Command::Pager(None)),
        ("\\pager", "on") => Ok(Command::Pager(Some(true))),
        ("\\pager", "off") => Ok(Command::Pager(Some(false))),
        ("\\timing", "") => Ok(Command::Timing(None)),
        ("\\timing", "on") => Ok(Command::Timing(Some(true))),
        ("\\timing", "off") => Ok(Command::Timing(Some(false))),
        ("\\format" | "\\f", format) => Format::from_str(format, true)
            .map(Command::Format)
            .map_err(|_| format!("'{format}' is not a format: table, json and csv are")),
        _ => Err(format!("'{line}' is not a command; \\? lists them")),
    }
}

/// A value without the quotes that may be around it.
fn unquoted(text: &str) -> String {
    let inner = text.strip_prefix('\'').and_then(|rest| rest.strip_suffix('\''));
    inner.map_or_else(|| text.to_owned(), |inner| inner.replace("''", "'"))
}

/// The statement that lists the tables of a namespace, or all.
pub(crate) fn tables(namespace: Option<&str>) -> String {
    match namespace {
        Some(namespace) => format!("SHOW TABLES IN \"{}\";", namespace.replace('"', "\"\"")),
        None => ALL_TABLES.to_owned(),
    }
}

#[cfg(test)]
mod tests;
