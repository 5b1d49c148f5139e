//! The interactive prompt: history, statements over several lines, completion, and commands that begin with `\`.

mod commands;
mod completion;
mod pager;

use std::borrow::Cow;
use std::path::PathBuf;

use rustyline::completion::{Completer, Pair};
use rustyline::error::ReadlineError;
use rustyline::highlight::{CmdKind, Highlighter};
use rustyline::hint::Hinter;
use rustyline::history::DefaultHistory;
use rustyline::validate::{ValidationContext, ValidationResult, Validator};
use rustyline::{ColorMode, Config, Context, Editor, Helper};

use crate::failure::Failure;
use crate::interactive::commands::Command;
use crate::interactive::completion::Names;
use crate::interactive::pager::Screen;
use crate::output::{Format, harmless};
use crate::session::Session;
use crate::statements;

/// Words in a statement that keep it out of the history file.
const SECRETS: [&str; 2] = ["password", "credentials"];

/// Where input is remembered and output is paged.
pub(crate) struct Surroundings {
    /// The history file; none for no history.
    pub(crate) history: Option<PathBuf>,
    /// The pager's command; empty for none.
    pub(crate) pager: String,
    /// Whether it is used.
    pub(crate) is_paging: bool,
}

/// Reads and runs until the input ends.
pub(crate) fn run(mut session: Session, mut surroundings: Surroundings) -> Result<(), Failure> {
    session.client.interruptible = true;
    let mut editor = editor(&surroundings.history)?;
    let login = session.client.login();
    eprintln!("kalam {}: {} at {}. \\? for help.", env!("CARGO_PKG_VERSION"), login.user, login.url);
    reload_names(&mut editor, &mut session);
    loop {
        let prompt = format!("{}=> ", session.namespace.as_deref().unwrap_or("kalam"));
        match editor.readline(&prompt) {
            Ok(line) => {
                remember(&mut editor, &line, &surroundings.history);
                match perform(&mut session, &line, &mut surroundings) {
                    Ok(Next::Quit) => return Ok(()),
                    Ok(Next::Continue) => {}
                    Err(failure) if failure.is_quiet() => {}
                    Err(failure) => eprintln!("{}", harmless(&failure.to_string())),
                }
                if changes_names(&line) {
                    reload_names(&mut editor, &mut session);
                }
            }
            Err(ReadlineError::Interrupted) => {}
            Err(ReadlineError::Eof) => return Ok(()),
            Err(error) => return Err(Failure::Usage(format!("the terminal cannot be read: {error}"))),
        }
    }
}

enum Next {
    Continue,
    Quit,
}

/// Runs a line: a command, or statements.
fn perform(session: &mut Session, line: &str, surroundings: &mut Surroundings) -> Result<Next, Failure> {
    if !line.trim_start().starts_with('\\') {
        return show(session, line, surroundings);
    }
    match commands::parse(line).map_err(Failure::Usage)? {
        Command::Quit => return Ok(Next::Quit),
        Command::Help => eprint!("{}", commands::HELP),
        Command::Timing(wanted) => {
            session.timing = wanted.unwrap_or(!session.timing);
            eprintln!("Timing is {}.", if session.timing { "on" } else { "off" });
        }
        Command::Pager(wanted) => {
            surroundings.is_paging = wanted.unwrap_or(!surroundings.is_paging);
            eprintln!("Paging is {}.", if surroundings.is_paging { "on" } else { "off" });
        }
        Command::Set(name, value) => session.variables.set(&name, &value).map_err(Failure::Usage)?,
        Command::Unset(name) => session.variables.unset(&name),
        Command::Variables => eprint!("{}", session.variables.listed()),
        Command::Connection => {
            let login = session.client.login();
            eprintln!("{} at {}", login.user, login.url);
        }
        Command::Format(format) => session.format = format,
        Command::Sql(sql) => return show(session, &sql, surroundings),
        Command::Tables => return show(session, &commands::tables(session.namespace.as_deref()), surroundings),
        Command::File(path) => {
            let unreadable = |source| Failure::File { path: path.clone(), source };
            return show(session, &std::fs::read_to_string(&path).map_err(unreadable)?, surroundings);
        }
    }
    Ok(Next::Continue)
}

fn show(session: &mut Session, sql: &str, surroundings: &Surroundings) -> Result<Next, Failure> {
    // Only tables are for reading; other formats go where they are sent.
    let is_paged = session.format == Format::Table && surroundings.is_paging;
    let pager = if is_paged { surroundings.pager.as_str() } else { "" };
    session.run(sql, &mut Screen::new(pager)).map(|()| Next::Continue)
}

fn editor(history: &Option<PathBuf>) -> Result<Editor<Assistant, DefaultHistory>, Failure> {
    let unusable = |error: ReadlineError| Failure::Usage(format!("the terminal cannot be used: {error}"));
    let config = Config::builder().auto_add_history(false).max_history_size(10_000).map_err(unusable)?.build();
    let mut editor = Editor::with_config(config).map_err(unusable)?;
    editor.set_helper(Some(Assistant::default()));
    if let Some(path) = history {
        // There is none at the first start.
        drop(editor.load_history(path));
    }
    Ok(editor)
}

fn remember(editor: &mut Editor<Assistant, DefaultHistory>, line: &str, history: &Option<PathBuf>) {
    if line.trim().is_empty() || holds_a_secret(line) || !editor.add_history_entry(line).unwrap_or(false) {
        return;
    }
    if let Some(path) = history
        && let Err(error) = editor.append_history(path)
    {
        eprintln!("{}: {error}", path.display());
    }
}

fn holds_a_secret(line: &str) -> bool {
    statements::words(line).any(|word| SECRETS.iter().any(|secret| word.eq_ignore_ascii_case(secret)))
}

/// Whether a line may have made or removed tables or columns.
fn changes_names(line: &str) -> bool {
    let first = statements::words(line).next().unwrap_or_default().to_ascii_lowercase();
    matches!(first.as_str(), "create" | "drop" | "alter" | "use" | "i")
}

fn reload_names(editor: &mut Editor<Assistant, DefaultHistory>, session: &mut Session) {
    if let Some(assistant) = editor.helper_mut() {
        assistant.names = Names::load(session);
    }
}

/// Asks for a password without showing it.
pub(crate) fn ask_password(user: &str) -> Result<String, Failure> {
    let failed = |error: ReadlineError| match error {
        ReadlineError::Interrupted | ReadlineError::Eof => Failure::Interrupted,
        error => Failure::Usage(format!("the password cannot be read: {error}")),
    };
    let config = Config::builder().auto_add_history(false).color_mode(ColorMode::Forced).build();
    let mut editor: Editor<Assistant, DefaultHistory> = Editor::with_config(config).map_err(failed)?;
    editor.set_helper(Some(Assistant { is_hidden: true, ..Assistant::default() }));
    editor.readline(&format!("Password of {user}: ")).map_err(failed)
}

/// What helps while a line is typed.
#[derive(Default)]
struct Assistant {
    names: Names,
    /// Whether what is typed is a password.
    is_hidden: bool,
}

impl Helper for Assistant {}

impl Hinter for Assistant {
    type Hint = String;
}

impl Highlighter for Assistant {
    fn highlight<'l>(&self, line: &'l str, _position: usize) -> Cow<'l, str> {
        if self.is_hidden { "*".repeat(line.chars().count()).into() } else { line.into() }
    }

    fn highlight_char(&self, _line: &str, _position: usize, kind: CmdKind) -> bool {
        self.is_hidden && kind != CmdKind::MoveCursor
    }
}

impl Validator for Assistant {
    fn validate(&self, context: &mut ValidationContext<'_>) -> rustyline::Result<ValidationResult> {
        let is_complete = self.is_hidden || is_complete(context.input());
        Ok(if is_complete { ValidationResult::Valid(None) } else { ValidationResult::Incomplete })
    }
}

/// Whether Enter runs what has been typed: a command, or statements of which the last has its `;`.
fn is_complete(input: &str) -> bool {
    input.trim_start().starts_with('\\') || statements::units(input).rest.is_none()
}

impl Completer for Assistant {
    type Candidate = Pair;

    fn complete(&self, line: &str, position: usize, _: &Context<'_>) -> rustyline::Result<(usize, Vec<Pair>)> {
        if self.is_hidden {
            return Ok((position, Vec::new()));
        }
        let before = &line[..position];
        if before.starts_with('\\') && !before.contains(char::is_whitespace) {
            let found = commands::NAMES.iter().filter(|name| name.starts_with(before));
            return Ok((0, found.map(|name| pair((*name).to_owned())).collect()));
        }
        let (start, found) = self.names.complete(before);
        Ok((start, found.into_iter().map(pair).collect()))
    }
}

fn pair(name: String) -> Pair {
    Pair { display: name.clone(), replacement: name }
}

#[cfg(test)]
mod tests;
