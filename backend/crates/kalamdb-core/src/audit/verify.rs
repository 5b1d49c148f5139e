//! VERIFY AUDIT: whether the log is as it was written, from the checkpoint to the end.

use kalamdb_auth::seal::SealKey;
use kalamdb_commons::Result;
use kalamdb_store::Snapshot;

use super::anchor::Anchor;
use super::chain::{Mark, Pages, Stored, checkpoint, has_begun, head};

/// The most findings that are listed.
const PROBLEMS_MAX: usize = 100;

/// What was found.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Report {
    /// Entries that are there.
    pub(crate) entries: u64,
    /// The first one's number.
    pub(crate) first: Option<u64>,
    /// The last one's number.
    pub(crate) last: Option<u64>,
    /// What is wrong; nothing, if the log is whole.
    pub(crate) problems: Vec<String>,
}

impl Report {
    fn problem(&mut self, what: String) {
        if self.problems.len() < PROBLEMS_MAX {
            self.problems.push(what);
        }
    }

    /// Takes the next record, and gives the place behind it.
    fn take(&mut self, key: &SealKey, before: Mark, stored: &Stored) -> Mark {
        self.entries += 1;
        self.first.get_or_insert(stored.number);
        self.last = Some(stored.number);
        let expected = before.number + 1;
        if stored.number > expected {
            self.problem(match stored.number - 1 {
                only if only == expected => format!("entry {only} is missing"),
                last => format!("entries {expected} to {last} are missing"),
            });
        } else if stored.number < expected {
            self.problem(format!("entry {} is before the checkpoint at {}", stored.number, before.number));
        }
        if !stored.is_sealed_by(key) {
            self.problem(format!("entry {} was changed, moved or forged", stored.number));
        } else if stored.number == expected && stored.before != before.seal {
            self.problem(format!("entry {} does not follow from the one before", stored.number));
        }
        Mark { number: stored.number, seal: stored.seal }
    }

    fn compare_end(&mut self, found: Mark, head: Option<Mark>, begun: bool) {
        match head {
            None if begun => self.problem("the record of the end was changed or forged".to_owned()),
            None if found != Mark::default() => self.problem("the record of the end is missing".to_owned()),
            None => {}
            Some(head) if head.number > found.number => {
                self.problem(format!("entries {} to {} are missing at the end", found.number + 1, head.number));
            }
            Some(head) if head.number < found.number => {
                self.problem(format!("entries {} to {} are behind the end", head.number + 1, found.number));
            }
            Some(head) if head.seal != found.seal => {
                self.problem(format!("entry {} is not the one that was written last", found.number));
            }
            Some(_) => {}
        }
    }

    fn compare_anchor(&mut self, anchor: Anchor, removed: u64, end: u64, at_anchor: Option<Mark>) {
        match anchor {
            Anchor::None => {}
            Anchor::Wrong => self.problem("the file of the log's end was changed or forged".to_owned()),
            Anchor::At(mark) if mark.number > end => {
                self.problem(format!("the log ends at {end}, and had come to {}: it was put back", mark.number));
            }
            Anchor::At(mark) if mark.number > removed && at_anchor.is_some_and(|found| found.seal != mark.seal) => {
                self.problem(format!("entry {} is another one than it was", mark.number));
            }
            Anchor::At(_) => {}
        }
    }
}

/// Compares everything with everything.
pub(crate) async fn verify(snapshot: &dyn Snapshot, key: &SealKey, anchor: Anchor) -> Result<Report> {
    let mut report = Report::default();
    let start = checkpoint(snapshot, key).await?;
    if start.is_none() {
        report.problem("the checkpoint of retention was changed or forged".to_owned());
    }
    let mut before = start.unwrap_or_default();
    let removed = before.number;
    let wanted = if let Anchor::At(mark) = anchor { mark.number } else { 0 };
    let mut at_anchor = None;
    let mut pages = Pages::new();
    while let Some(entries) = pages.next(snapshot).await? {
        for (record_key, value) in entries {
            match Stored::decode(&record_key, &value) {
                Ok(stored) => {
                    before = report.take(key, before, &stored);
                    at_anchor = at_anchor.or((before.number == wanted).then_some(before));
                }
                Err(_) => report.problem(format!("the record after entry {} cannot be read", before.number)),
            }
        }
    }
    let end = head(snapshot, key).await?;
    report.compare_end(before, end, has_begun(snapshot).await?);
    report.compare_anchor(anchor, removed, before.number, at_anchor);
    Ok(report)
}
