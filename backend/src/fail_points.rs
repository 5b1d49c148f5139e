//! Fail points for the crash tests: `testing.fail_points = "flush::after_batch=exit;commit::before_write=return"`.
//!
//! The actions are those of the `fail` crate, and one of ours: `exit` ends the process at once, with no
//! clean-up, as `kill -9` would; `exit(3)` does so the third time the point is reached.

use std::sync::atomic::{AtomicU64, Ordering};

/// A fail point and what happens there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FailPoint {
    name: String,
    action: Action,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Action {
    /// End the process the n-th time.
    Exit(u64),
    /// What the `fail` crate understands.
    Other(String),
}

const ACTIONS: [&str; 8] = ["off", "return", "sleep", "panic", "print", "pause", "yield", "delay"];

/// Reads the setting. The error says what is allowed.
pub(crate) fn parse(text: &str) -> Result<Vec<FailPoint>, String> {
    text.split(';').map(str::trim).filter(|point| !point.is_empty()).map(parse_one).collect()
}

fn parse_one(text: &str) -> Result<FailPoint, String> {
    let allowed = || {
        format!(
            "'{text}' is not name=action, where the action is exit, exit(n), or one of the fail crate's: {}",
            ACTIONS.join(", ")
        )
    };
    let (name, action) = text.split_once('=').ok_or_else(allowed)?;
    let (name, action) = (name.trim(), action.trim());
    let exit = match action.strip_prefix("exit") {
        Some("") => Some(1),
        Some(count) => count.strip_prefix('(').and_then(|rest| rest.strip_suffix(')')).and_then(|n| n.parse().ok()),
        None => None,
    };
    let action = match exit {
        Some(nth) => Action::Exit(nth),
        None if ACTIONS.iter().any(|known| action.contains(known)) => Action::Other(action.to_owned()),
        None => return Err(allowed()),
    };
    if name.is_empty() { Err(allowed()) } else { Ok(FailPoint { name: name.to_owned(), action }) }
}

/// Arms the points.
pub(crate) fn arm(points: &[FailPoint]) -> Result<(), String> {
    for point in points {
        match &point.action {
            Action::Exit(nth) => {
                let (nth, reached) = (*nth, AtomicU64::new(0));
                fail::cfg_callback(point.name.as_str(), move || {
                    if reached.fetch_add(1, Ordering::SeqCst) + 1 == nth {
                        std::process::abort();
                    }
                })?;
            }
            Action::Other(action) => fail::cfg(point.name.as_str(), action)?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
