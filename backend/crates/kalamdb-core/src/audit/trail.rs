//! What a statement leaves in the log, however it ends.
//!
//! A trail is open until its entry is in the log or on its way there with the statement's writes. One that is dropped
//! while it is open, because whoever asked went away, writes its entry by itself.

use super::{Entry, Outcome};
use crate::engine::WeakEngine;

/// An open entry.
#[derive(Debug)]
pub(crate) struct Trail {
    engine: WeakEngine,
    /// `None` when there is nothing left to write.
    entry: Option<Entry>,
    /// The entry goes with a commit that has been handed in.
    handed_in: bool,
    /// What it says if nobody ends it.
    otherwise: Outcome,
}

impl Trail {
    pub(crate) fn new(engine: WeakEngine, entry: Entry) -> Self {
        Self { engine, entry: Some(entry), handed_in: false, otherwise: Outcome::Cancelled }
    }

    /// The entry to commit together with what the statement writes. If that commit is refused, [`Self::take_back`].
    pub(crate) fn hand_in(&mut self, rows: Option<u64>) -> Option<Entry> {
        self.handed_in = true;
        let entry = self.entry.clone()?;
        Some(rows.into_iter().fold(entry, Entry::with_rows))
    }

    /// The commit did not take place.
    pub(crate) fn take_back(&mut self) {
        self.handed_in = false;
    }

    /// The statement is done, in a transaction that is still open: if nothing follows, it is rolled back.
    pub(crate) fn wait_for_commit(&mut self, rows: u64) {
        self.otherwise = Outcome::RolledBack;
        self.entry = self.entry.take().map(|entry| entry.with_rows(rows));
    }

    /// Its entry is in the log, or there is to be none.
    pub(crate) fn settle(mut self) {
        self.entry = None;
    }

    /// The entry, for whoever writes it.
    pub(crate) fn into_entry(mut self) -> Option<Entry> {
        self.entry.take()
    }

    /// The entry of a statement whose transaction was not committed.
    pub(crate) fn into_rolled_back(self) -> Option<Entry> {
        self.into_entry().map(|entry| entry.ended(Outcome::RolledBack))
    }
}

impl Drop for Trail {
    fn drop(&mut self) {
        let Some(entry) = self.entry.take().filter(|_| !self.handed_in) else { return };
        if let Some(engine) = self.engine.upgrade() {
            engine.audit_in_background(entry.ended(self.otherwise));
        }
    }
}
