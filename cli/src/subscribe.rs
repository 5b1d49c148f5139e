//! `kalam subscribe`: the rows of a query, and then its changes, a line each. What breaks is begun again and goes on
//! after the last line, a connection and a query of which the server says that it failed; nothing is missed and nothing
//! printed twice.

use std::io::Write;
use std::mem::take;

use kalamdb_commons::system_columns::SEQ;
use serde_json::{Value, json};

use crate::answer::Refusal;
use crate::args::Subscribe;
use crate::client::{Client, Heard, Live};
use crate::failure::Failure;
use crate::output::{Format, harmless};

const ID: &str = "kalam";
/// How often a query may fail in a row, without a line in between, before that is its end.
const FAILURES_MAX: u32 = 5;
/// What the server says of a query that an administrator ended. Its code is that of failures that may pass.
const KILLED: &str = "the live query was killed";

/// What has been printed.
struct Printer<'a> {
    out: &'a mut dyn Write,
    format: Format,
    /// The `_seq` after which to go on.
    cursor: Option<i64>,
    left: Option<u64>,
    /// Whether the server has taken the query, since that was last asked.
    accepted: bool,
    /// Whether anything has come of it since.
    progressed: bool,
}

/// Why listening on one connection stops.
enum Stop {
    /// It broke; another may do better.
    Broken(String),
    /// The query failed on it, in a way that may pass.
    Failed(Refusal),
    /// Enough has been printed.
    Enough,
}

/// Prints until Ctrl-C, an error of the query, or enough lines.
pub(crate) fn run(client: &mut Client, wanted: &Subscribe, format: Format, out: &mut dyn Write) -> Result<(), Failure> {
    client.interruptible = true;
    let mut printer =
        Printer { out, format, cursor: wanted.from, left: wanted.lines, accepted: false, progressed: false };
    let mut failed = 0;
    loop {
        let stop = match client.open_live() {
            Ok(mut live) => {
                let options = match (printer.cursor, wanted.changes_only) {
                    (Some(cursor), _) => json!({"from": cursor.to_string()}),
                    (None, true) => Value::Null,
                    (None, false) => json!({}),
                };
                let subscription = json!({"id": ID, "sql": wanted.sql, "options": options});
                client.say(&mut live, &json!({"type": "subscribe", "subscription": subscription}));
                listen(client, &mut live, &mut printer)?
            }
            Err(reason) => Stop::Broken(reason),
        };
        let (accepted, progressed) = (take(&mut printer.accepted), take(&mut printer.progressed));
        let reason = match stop {
            Stop::Enough => return Ok(()),
            Stop::Broken(reason) => {
                failed = if accepted { 0 } else { failed };
                reason
            }
            Stop::Failed(refusal) => {
                failed = if progressed { 0 } else { failed };
                if failed >= FAILURES_MAX {
                    return Err(Failure::Refused(refusal));
                }
                refusal.message
            }
        };
        eprintln!("kalam: {}; going on", harmless(&reason));
        client.wait_before_attempt(failed)?;
        failed += 1;
        match client.sign_in_again() {
            Err(Failure::Connection { .. }) | Ok(()) => {}
            Err(failure) => return Err(failure),
        }
    }
}

fn listen(client: &Client, live: &mut Live, printer: &mut Printer<'_>) -> Result<Stop, Failure> {
    loop {
        let message = match client.hear(live)? {
            Heard::End(reason) => return Ok(Stop::Broken(reason)),
            Heard::Message(message) => message,
        };
        let enough = match message["type"].as_str() {
            Some("subscription_ack") => {
                printer.accepted = true;
                printer.reached(&message);
                false
            }
            Some("initial_data_batch") => {
                let enough = printer.batch(&message)?;
                printer.reached(&message);
                if message["batch_control"]["has_more"] == true {
                    client.say(live, &json!({"type": "next_batch", "subscription_id": ID}));
                }
                enough
            }
            Some("change") => printer.change(&message)?,
            Some("error") => match explain(&message)? {
                Means::EndOfConnection(reason) => return Ok(Stop::Broken(reason)),
                Means::Failure(refusal) => return Ok(Stop::Failed(refusal)),
                Means::AllAgain(reason) => {
                    printer.begin_again(&reason)?;
                    false
                }
            },
            _ => false,
        };
        printer.out.flush().map_err(Failure::output)?;
        if enough {
            return Ok(Stop::Enough);
        }
    }
}

/// What an error that can be made up for means.
enum Means {
    /// All rows follow, for a reason.
    AllAgain(String),
    /// The token is no longer good: another one may be.
    EndOfConnection(String),
    /// The query failed; it may do better.
    Failure(Refusal),
}

/// An error ends it, unless it can be made up for.
fn explain(message: &Value) -> Result<Means, Failure> {
    let text = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
    let (code, message, subscription) = (text("code"), text("message"), text("subscription_id"));
    match code.as_str() {
        "RESYNC_REQUIRED" => Ok(Means::AllAgain(message)),
        "UNAUTHORIZED" if subscription.is_empty() => Ok(Means::EndOfConnection(message)),
        "BATCH_FETCH_FAILED" => Ok(Means::Failure(Refusal { code, message, details: None })),
        "SUBSCRIPTION_FAILED" if message != KILLED => Ok(Means::Failure(Refusal { code, message, details: None })),
        _ => Err(Failure::Refused(Refusal { code, message, details: None })),
    }
}

impl Printer<'_> {
    /// Notes what a message says of how far it goes.
    fn reached(&mut self, message: &Value) {
        self.cursor = self.cursor.max(message["batch_control"]["last_seq_id"].as_i64());
    }

    /// What was printed is void, and all rows follow: people are told, and programs get a line.
    fn begin_again(&mut self, reason: &str) -> Result<(), Failure> {
        self.cursor = None;
        if self.format == Format::Json {
            return writeln!(self.out, "{}", json!({"change": "resync"})).map_err(Failure::output);
        }
        eprintln!("kalam: {}", harmless(reason));
        Ok(())
    }

    fn batch(&mut self, message: &Value) -> Result<bool, Failure> {
        for row in message["rows"].as_array().into_iter().flatten() {
            if self.line("row", row)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn change(&mut self, message: &Value) -> Result<bool, Failure> {
        let kind = message["change_type"].as_str().unwrap_or_default();
        let rows = if kind == "delete" { &message["old_values"] } else { &message["rows"] };
        match rows.get(0) {
            Some(row) => self.line(kind, row),
            None => Ok(false),
        }
    }

    /// Prints a line. Returns whether it was the last that is wanted.
    fn line(&mut self, kind: &str, row: &Value) -> Result<bool, Failure> {
        let seq = row[SEQ].as_str().and_then(|seq| seq.parse().ok());
        let line = shown(self.format, kind, row);
        writeln!(self.out, "{line}").map_err(Failure::output)?;
        self.cursor = self.cursor.max(seq);
        self.progressed = true;
        if let Some(left) = &mut self.left {
            *left = left.saturating_sub(1);
        }
        Ok(self.left == Some(0))
    }
}

/// A sign and `name=value` for people, an object for programs.
fn shown(format: Format, kind: &str, row: &Value) -> String {
    if format == Format::Json {
        return json!({"change": kind, "row": row}).to_string();
    }
    let sign = match kind {
        "insert" => "+",
        "update" => "~",
        "delete" => "-",
        _ => " ",
    };
    let cells = row.as_object().into_iter().flatten().filter(|(name, _)| *name != SEQ);
    let cells = cells.map(|(name, value)| match value {
        Value::String(text) => format!("{name}={}", harmless(text).replace('\n', "\\n")),
        other => format!("{name}={other}"),
    });
    format!("{sign} {}", cells.collect::<Vec<_>>().join("  "))
}

#[cfg(test)]
mod tests;
