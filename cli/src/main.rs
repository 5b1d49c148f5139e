//! `kalam`, the KalamDB command line: SQL from arguments, files, standard input or an interactive prompt, results
//! as tables, JSON or CSV, and imports of files.
//!
//! | module | holds |
//! |---|---|
//! | [`args`] | what can be written behind `kalam` |
//! | [`session`] | running SQL: statement after statement |
//! | [`statements`] | where statements end |
//! | [`client`] | the connection: the only part that knows HTTP |
//! | [`answer`] | reading an answer as it arrives |
//! | [`output`], [`cells`] | results as text |
//! | [`interactive`] | the prompt |
//! | [`import`] | sending files |
//! | [`failure`] | why it stops, and the exit status |
#![expect(clippy::print_stderr, reason = "a command line speaks to people on stderr")]

mod answer;
mod args;
mod cells;
mod client;
mod failure;
mod import;
mod interactive;
mod output;
mod session;
mod statements;

use std::io::{self, BufWriter, IsTerminal, Write};
use std::process::ExitCode;

use crate::args::{Arguments, Command, Connection, Script};
use crate::client::{Client, Login};
use crate::failure::Failure;
use crate::interactive::Surroundings;
use crate::session::Session;

fn main() -> ExitCode {
    let (arguments, scripts) = args::parse();
    match run(arguments, &scripts) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.is_quiet() {
                eprintln!("kalam: {}", output::harmless(&failure.to_string()));
            }
            ExitCode::from(failure.exit_status())
        }
    }
}

fn run(arguments: Arguments, scripts: &[Script]) -> Result<(), Failure> {
    let Arguments { connection, format, timing, history, pager, command, .. } = arguments;
    let client = Client::connect(login(&connection)?)?;
    let namespace = connection.namespace;
    let mut out = BufWriter::new(io::stdout().lock());
    if let Some(Command::Import(wanted)) = command {
        import::run(&client, &wanted, namespace.as_deref(), &mut out)?;
        return out.flush().map_err(Failure::output);
    }
    let mut session = Session { client, namespace, format, timing };
    if !scripts.is_empty() {
        session.run_all(scripts, &mut out)
    } else if io::stdin().is_terminal() {
        drop(out);
        let history = history.or_else(|| std::env::home_dir().map(|home| home.join(".kalam_history")));
        interactive::run(session, &Surroundings { history, pager })
    } else {
        session.run_stdin(&mut out)
    }
}

fn login(connection: &Connection) -> Result<Login, Failure> {
    let password = match &connection.password {
        Some(password) => password.clone(),
        None if io::stdin().is_terminal() => interactive::ask_password(&connection.user)?,
        None => return Err(Failure::Usage("a password is needed: set KALAM_PASSWORD, or use --password".to_owned())),
    };
    Ok(Login { url: connection.url.clone(), user: connection.user.clone(), password })
}
