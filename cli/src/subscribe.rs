//! `kalam subscribe`: the rows of a query, and then its changes, a line each. A connection that breaks is opened again
//! and goes on after the last line; nothing is missed and nothing printed twice.

use std::io::Write;

use kalamdb_commons::system_columns::SEQ;
use serde_json::{Value, json};

use crate::answer::Refusal;
use crate::args::Subscribe;
use crate::client::{Client, Heard, Live};
use crate::failure::Failure;
use crate::output::{Format, harmless};

const ID: &str = "kalam";

/// What has been printed.
struct Printer<'a> {
    out: &'a mut dyn Write,
    format: Format,
    /// The `_seq` after which to go on.
    cursor: Option<i64>,
    left: Option<u64>,
}

/// Why listening on one connection stops.
enum Stop {
    /// It broke; another may do better.
    Broken(String),
    /// Enough has been printed.
    Enough,
}

/// Prints until Ctrl-C, an error of the query, or enough lines.
pub(crate) fn run(client: &mut Client, wanted: &Subscribe, format: Format, out: &mut dyn Write) -> Result<(), Failure> {
    client.interruptible = true;
    let mut printer = Printer { out, format, cursor: wanted.from, left: wanted.lines };
    let mut failed = 0;
    loop {
        let reason = match client.open_live() {
            Ok(mut live) => {
                failed = 0;
                let options = match (printer.cursor, wanted.changes_only) {
                    (Some(cursor), _) => json!({"from": cursor.to_string()}),
                    (None, true) => Value::Null,
                    (None, false) => json!({}),
                };
                let subscription = json!({"id": ID, "sql": wanted.sql, "options": options});
                client.say(&mut live, &json!({"type": "subscribe", "subscription": subscription}));
                match listen(client, &mut live, &mut printer)? {
                    Stop::Enough => return Ok(()),
                    Stop::Broken(reason) => reason,
                }
            }
            Err(reason) => reason,
        };
        eprintln!("kalam: {}; connecting again", harmless(&reason));
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
                Means::AllAgain => {
                    printer.cursor = None;
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
    /// All rows follow.
    AllAgain,
    /// The token is no longer good: another one may be.
    EndOfConnection(String),
}

/// An error ends it, unless it can be made up for.
fn explain(message: &Value) -> Result<Means, Failure> {
    let text = |name: &str| message[name].as_str().unwrap_or_default().to_owned();
    let (code, message, subscription) = (text("code"), text("message"), text("subscription_id"));
    match code.as_str() {
        "RESYNC_REQUIRED" => {
            eprintln!("kalam: {}", harmless(&message));
            Ok(Means::AllAgain)
        }
        "UNAUTHORIZED" if subscription.is_empty() => Ok(Means::EndOfConnection(message)),
        _ => Err(Failure::Refused(Refusal { code, message, details: None })),
    }
}

impl Printer<'_> {
    /// Notes what a message says of how far it goes.
    fn reached(&mut self, message: &Value) {
        self.cursor = self.cursor.max(message["batch_control"]["last_seq_id"].as_i64());
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
