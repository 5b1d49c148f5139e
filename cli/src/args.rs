//! The command line's arguments.

use std::path::PathBuf;

use clap::{ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};

use crate::output::Format;

/// The KalamDB command line.
///
/// Without -c, -f or a command it reads SQL from a terminal, interactively, or from standard input.
#[derive(Debug, Parser)]
#[command(name = "kalam", version, args_conflicts_with_subcommands = false)]
#[command(after_help = "Exit status: 0 done, 1 the server refused a statement, 2 wrong usage or no connection.")]
pub(crate) struct Arguments {
    #[command(flatten)]
    pub(crate) connection: Connection,

    /// Run this SQL and leave; may be given several times, mixed with -f.
    #[arg(short = 'c', long = "command", value_name = "SQL")]
    commands: Vec<String>,

    /// Run the SQL in this file (- for standard input) and leave; may be given several times, mixed with -c.
    #[arg(short = 'f', long = "file", value_name = "FILE")]
    files: Vec<PathBuf>,

    /// How results are written.
    #[arg(long, value_enum, default_value_t = Format::Table)]
    pub(crate) format: Format,

    /// Say after each statement how long it took.
    #[arg(long)]
    pub(crate) timing: bool,

    /// Set a variable, which SQL has as :name, :'name' or :"name"; may be given several times.
    #[arg(short = 'v', long = "set", value_name = "NAME=VALUE")]
    pub(crate) variables: Vec<String>,

    /// Where interactive input is remembered [default: .kalam_history in your home directory].
    #[arg(long, value_name = "FILE", env = "KALAM_HISTORY")]
    pub(crate) history: Option<PathBuf>,

    /// What shows long results of interactive statements; empty for nothing.
    #[arg(long, value_name = "COMMAND", env = "PAGER", default_value = "less -FRSX")]
    pub(crate) pager: String,

    #[command(subcommand)]
    pub(crate) command: Option<Command>,
}

/// Where to connect and as whom.
#[derive(Debug, Args)]
pub(crate) struct Connection {
    /// The server.
    #[arg(long, global = true, env = "KALAM_URL", default_value = "http://127.0.0.1:8080")]
    pub(crate) url: String,

    /// The user.
    #[arg(long, short = 'u', global = true, env = "KALAM_USER", default_value = "root")]
    pub(crate) user: String,

    /// The password. Without it, and without KALAM_PASSWORD, a terminal is asked.
    #[arg(long, short = 'p', global = true, env = "KALAM_PASSWORD", hide_env_values = true)]
    pub(crate) password: Option<String>,

    /// The namespace of names without one.
    #[arg(long, short = 'n', global = true, env = "KALAM_NAMESPACE")]
    pub(crate) namespace: Option<String>,

    /// Where `kalam login` keeps passwords [default: .kalam_credentials in your home directory].
    #[arg(long, global = true, value_name = "FILE", env = "KALAM_CREDENTIALS")]
    pub(crate) credentials: Option<PathBuf>,
}

/// What else than SQL can be run.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Load a file into a table.
    Import(Import),
    /// Write the rows of a table into a file that import reads.
    Export(Export),
    /// Show, start and stop the server's jobs.
    Jobs(Jobs),
    /// Check the connection, the clocks, the disk, the settings and the health of a server.
    Doctor,
    /// Check a password and remember it.
    Login,
    /// Forget a password that is remembered.
    Logout,
    /// Print the rows of a SELECT, and then each change as it comes.
    Subscribe(Subscribe),
}

/// `kalam subscribe`.
#[derive(Debug, Args)]
pub(crate) struct Subscribe {
    /// The query, as in "SELECT room, body FROM app.messages WHERE room = 'kitchen'".
    pub(crate) sql: String,

    /// Go on after this _seq instead of printing all rows first.
    #[arg(long, value_name = "SEQ", conflicts_with = "changes_only")]
    pub(crate) from: Option<i64>,

    /// Print changes only, not the rows that are there.
    #[arg(long)]
    pub(crate) changes_only: bool,

    /// Leave after so many lines.
    #[arg(long, value_name = "N")]
    pub(crate) lines: Option<u64>,
}

/// `kalam import`.
#[derive(Debug, Args)]
pub(crate) struct Import {
    /// The table, as in app.messages. It must exist; columns are matched by name.
    #[arg(long, short = 't')]
    pub(crate) table: String,

    /// The file; - for standard input.
    pub(crate) file: PathBuf,

    /// The form of the file; known from its name if that ends in .csv, .ndjson, .jsonl, .parquet, .arrow or .arrows.
    #[arg(long, value_enum)]
    pub(crate) format: Option<FileFormat>,

    /// A text that stands for NULL in CSV, such as NA. An empty field always does.
    #[arg(long, value_name = "TEXT")]
    pub(crate) null: Option<String>,

    /// Whose rows they shall be, for the tables where each user has their own.
    #[arg(long, value_name = "USER")]
    pub(crate) as_user: Option<String>,

    /// Go on with an import of this file that did not come to its end: rows that are in stay out.
    #[arg(long, conflicts_with = "restart")]
    pub(crate) resume: bool,

    /// Begin anew, although an earlier import of this file did not come to its end.
    #[arg(long)]
    pub(crate) restart: bool,
}

/// `kalam export`.
#[derive(Debug, Args)]
pub(crate) struct Export {
    /// The table, as in app.messages.
    #[arg(long, short = 't')]
    pub(crate) table: String,

    /// The file; it must not exist.
    pub(crate) file: PathBuf,

    /// The form of the file; known from its name if that ends in .csv, .ndjson, .jsonl or .parquet.
    #[arg(long, value_enum)]
    pub(crate) format: Option<FileFormat>,

    /// Which rows, as behind WHERE.
    #[arg(long = "where", value_name = "CONDITION")]
    pub(crate) condition: Option<String>,

    /// Go on with an export into this file that did not come to its end.
    #[arg(long, conflicts_with = "restart")]
    pub(crate) resume: bool,

    /// Begin anew, although an earlier export into this file did not come to its end.
    #[arg(long)]
    pub(crate) restart: bool,

    /// Rows that are read at a time.
    #[arg(long, value_name = "N", default_value_t = 50_000, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) page_rows: u64,
}

/// `kalam jobs`.
#[derive(Debug, Args)]
pub(crate) struct Jobs {
    #[command(subcommand)]
    pub(crate) action: Option<JobAction>,
}

/// What to do with jobs.
#[derive(Debug, Subcommand)]
pub(crate) enum JobAction {
    /// List the newest (as without anything).
    List {
        /// Only jobs in this state, such as running or failed.
        #[arg(long)]
        status: Option<String>,
        /// How many.
        #[arg(long, default_value_t = 20)]
        limit: u64,
    },
    /// Show all about one.
    Show {
        /// Its id.
        id: String,
    },
    /// Start one.
    Run {
        /// What it is to do, such as flush or compaction.
        kind: String,
        /// Its parameters, a JSON object.
        #[arg(long, default_value = "{}")]
        params: String,
        /// Do nothing if a job was started under this key already.
        #[arg(long, value_name = "KEY")]
        idempotency_key: Option<String>,
    },
    /// Tell one to stop.
    Kill {
        /// Its id.
        id: String,
    },
}

/// A form that the server imports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum FileFormat {
    /// Comma-separated, with a header that names the columns.
    Csv,
    /// A JSON object per line.
    Ndjson,
    /// Parquet.
    Parquet,
    /// An Arrow IPC stream.
    Arrow,
}

/// One thing to run.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Script {
    /// SQL given with -c.
    Text(String),
    /// A file given with -f.
    File(PathBuf),
}

/// Reads the process's arguments; leaves with status 2 if they are wrong.
pub(crate) fn parse() -> (Arguments, Vec<Script>) {
    let matches = Arguments::command().get_matches();
    let arguments = Arguments::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
    let scripts = scripts(&matches, &arguments);
    (arguments, scripts)
}

/// What was given with -c and -f, in the order in which it was given.
fn scripts(matches: &ArgMatches, arguments: &Arguments) -> Vec<Script> {
    let positions = |id| matches.indices_of(id).into_iter().flatten();
    let texts = arguments.commands.iter().cloned().map(Script::Text);
    let files = arguments.files.iter().cloned().map(Script::File);
    let mut found: Vec<_> = positions("commands").zip(texts).chain(positions("files").zip(files)).collect();
    found.sort_by_key(|(position, _)| *position);
    found.into_iter().map(|(_, script)| script).collect()
}

#[cfg(test)]
mod tests;
