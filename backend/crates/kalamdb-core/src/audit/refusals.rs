//! Refusals of one account in a minute: the first ones are logged one by one, the others are counted and logged as one
//! entry for each kind of statement when the minute is over, or when somebody reads the log.

use std::collections::{BTreeMap, HashMap};

use kalamdb_commons::ids::UserId;
use parking_lot::Mutex;

use super::Entry;

/// One account's minute.
#[derive(Debug, Default)]
struct Minute {
    number: i64,
    written: u32,
    /// What is counted: the last one of each kind, with how many there were.
    held: BTreeMap<String, Entry>,
}

/// The refusals of the present minute.
#[derive(Debug, Default)]
pub(crate) struct Refusals {
    of: Mutex<HashMap<UserId, Minute>>,
}

impl Refusals {
    /// Takes note of a refusal, and gives the entries that are to be written now.
    pub(crate) fn note(&self, entry: Entry, per_minute_max: u32) -> Vec<Entry> {
        let number = entry.at_us.div_euclid(60_000_000);
        let mut of = self.of.lock();
        let minute = of.entry(entry.actor.clone()).or_default();
        let mut due = Vec::new();
        if minute.number != number {
            due.extend(std::mem::take(&mut minute.held).into_values());
            *minute = Minute { number, ..Minute::default() };
        }
        if minute.written < per_minute_max {
            minute.written += 1;
            due.push(entry);
            return due;
        }
        let before = minute.held.get(&entry.kind).map_or(0, |held| held.times);
        minute.held.insert(entry.kind.clone(), Entry { times: before + 1, ..entry });
        due
    }

    /// What is counted and not written. It is no longer counted here afterwards.
    pub(crate) fn take(&self, now_us: i64) -> Vec<Entry> {
        let now = now_us.div_euclid(60_000_000);
        let mut of = self.of.lock();
        let held = of.values_mut().flat_map(|minute| std::mem::take(&mut minute.held).into_values()).collect();
        of.retain(|_, minute| minute.number == now);
        held
    }

    /// Counts again what could not be written.
    pub(crate) fn put_back(&self, entries: Vec<Entry>) {
        let mut of = self.of.lock();
        for entry in entries {
            let held = &mut of.entry(entry.actor.clone()).or_default().held;
            let more = held.get(&entry.kind).map_or(0, |held| held.times);
            held.insert(entry.kind.clone(), Entry { times: entry.times + more, ..entry });
        }
    }
}

#[cfg(test)]
mod tests;
