//! The commands that begin with `\`.

use clap::ValueEnum;

use crate::output::Format;

/// What `\?` says.
pub(crate) const HELP: &str = "\
SQL ends with ; and may have several lines. BEGIN; ... COMMIT; is sent as one.
  \\d             list tables           \\d NAME        describe a table
  \\dt            list tables           \\dn            list namespaces
  \\u NAMESPACE   use a namespace       \\i FILE        run a file
  \\timing [on|off]                     \\format table|json|csv
  \\? or \\h       this help             \\q             leave (also Ctrl-D)
Ctrl-C ends a running statement. Tab completes keywords and names.
";

/// The tables of every namespace but the server's own.
const ALL_TABLES: &str = "SELECT table_schema AS namespace, table_name, table_type FROM information_schema.tables \
    WHERE table_schema NOT IN ('system', 'information_schema') ORDER BY table_schema, table_name;";

/// One of them.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Command {
    Quit,
    Help,
    /// On, off, or the other way.
    Timing(Option<bool>),
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
        ("\\timing", "") => Ok(Command::Timing(None)),
        ("\\timing", "on") => Ok(Command::Timing(Some(true))),
        ("\\timing", "off") => Ok(Command::Timing(Some(false))),
        ("\\format" | "\\f", format) => Format::from_str(format, true)
            .map(Command::Format)
            .map_err(|_| format!("'{format}' is not a format: table, json and csv are")),
        _ => Err(format!("'{line}' is not a command; \\? lists them")),
    }
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
