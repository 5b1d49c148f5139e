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
//! | [`import`], [`export`] | files into tables, and back |
//! | [`subscribe`] | live queries |
//! | [`jobs`], [`doctor`] | the server's jobs; what may be wrong |
//! | [`credentials`], [`variables`] | passwords that are remembered; `:name` in SQL |
//! | [`failure`] | why it stops, and the exit status |
#![expect(clippy::print_stderr, reason = "a command line speaks to people on stderr")]

mod answer;
mod args;
mod cells;
mod client;
mod credentials;
mod doctor;
mod export;
mod failure;
mod import;
mod interactive;
mod jobs;
mod output;
mod session;
mod statements;
mod subscribe;
mod variables;

use std::io::{self, BufWriter, IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;

use crate::args::{Arguments, Command, Connection, Script};
use crate::client::{Client, Login};
use crate::credentials::Credentials;
use crate::failure::Failure;
use crate::interactive::Surroundings;
use crate::session::Session;
use crate::variables::Variables;

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
    let Arguments { connection, format, timing, history, pager, command, variables: assignments, .. } = arguments;
    let mut out = BufWriter::new(io::stdout().lock());
    match &command {
        Some(Command::Login) => return remember(&connection, &mut out),
        Some(Command::Logout) => return forget(&connection, &mut out),
        Some(Command::Doctor) => {
            let mut client = Client::anonymous(login(&connection)?)?;
            let outcome = doctor::run(&mut client, &mut out);
            out.flush().map_err(Failure::output)?;
            return outcome;
        }
        _ => {}
    }
    let mut variables = Variables::default();
    assignments.iter().try_for_each(|text| variables.assign(text)).map_err(Failure::Usage)?;
    let client = Client::connect(login(&connection)?)?;
    let mut session = Session { client, namespace: connection.namespace, format, timing, variables };
    if let Some(command) = command {
        perform(&mut session, &command, &mut out)?;
        return out.flush().map_err(Failure::output);
    }
    if !scripts.is_empty() {
        session.run_all(scripts, &mut out)
    } else if io::stdin().is_terminal() {
        drop(out);
        let history = history.or_else(|| in_home(".kalam_history"));
        interactive::run(session, Surroundings { history, pager, is_paging: true })
    } else {
        session.run_stdin(&mut out)
    }
}

fn perform(session: &mut Session, command: &Command, out: &mut dyn Write) -> Result<(), Failure> {
    match command {
        Command::Import(wanted) => import::run(&session.client, wanted, session.namespace.as_deref(), out),
        Command::Export(wanted) => export::run(session, wanted, out),
        Command::Jobs(wanted) => jobs::run(session, wanted, out),
        Command::Subscribe(wanted) => subscribe::run(&mut session.client, wanted, session.format, out),
        Command::Doctor | Command::Login | Command::Logout => Ok(()),
    }
}

fn in_home(name: &str) -> Option<PathBuf> {
    std::env::home_dir().map(|home| home.join(name))
}

fn credentials(connection: &Connection) -> Result<Credentials, Failure> {
    let path = connection.credentials.clone().or_else(|| in_home(".kalam_credentials"));
    let path = path.ok_or_else(|| Failure::Usage("there is no home directory: say --credentials FILE".to_owned()))?;
    Credentials::open(&path)
}

/// `kalam login`: a password is remembered once the server has taken it.
fn remember(connection: &Connection, out: &mut dyn Write) -> Result<(), Failure> {
    let mut credentials = credentials(connection)?;
    let login = asked(connection)?;
    Client::connect(login.clone())?;
    credentials.remember(&login.url, &login.user, &login.password)?;
    writeln!(out, "The password of {} at {} is remembered.", login.user, login.url).map_err(Failure::output)
}

fn forget(connection: &Connection, out: &mut dyn Write) -> Result<(), Failure> {
    let (url, user) = (&connection.url, &connection.user);
    let was_there = credentials(connection)?.forget(url, user)?;
    let words = if was_there { "is forgotten" } else { "was not remembered" };
    writeln!(out, "The password of {user} at {url} {words}.").map_err(Failure::output)
}

/// Who logs in: with the password that was said, else the one that is remembered, else what a terminal is asked for.
fn login(connection: &Connection) -> Result<Login, Failure> {
    if connection.password.is_none()
        && let Some(password) = credentials(connection)?.find(&connection.url, &connection.user)
    {
        let (url, user) = (connection.url.clone(), connection.user.clone());
        return Ok(Login { url, user, password: password.to_owned() });
    }
    asked(connection)
}

fn asked(connection: &Connection) -> Result<Login, Failure> {
    let password = match &connection.password {
        Some(password) => password.clone(),
        None if io::stdin().is_terminal() => interactive::ask_password(&connection.user)?,
        None => {
            let words = "a password is needed: set KALAM_PASSWORD, use --password, or say kalam login once";
            return Err(Failure::Usage(words.to_owned()));
        }
    };
    Ok(Login { url: connection.url.clone(), user: connection.user.clone(), password })
}
