//! A manifest from footers alone.
//!
//! The rule, given the footers of all files of the incarnation:
//!
//! 1. Only complete groups count: files are published together or not at all. A group whose other files are gone
//!    still counts if a file that counts begins or ends strictly inside of the group's interval, where one of the
//!    group's own files ends: only compactions make such files, and they work on what was published.
//! 2. An interval contained in another is dropped, at equal intervals the lower number is: a compaction replaces
//!    its inputs, and a flush after a crash replaces what the crashed one left.
//! 3. What is left must be contiguous from zero.
//!
//! The interval that is reached must be at least what the hot tier recorded. If nothing is recorded, the hot tier
//! has removed nothing on account of these files; then a hole is still an error, because a hot tier that was lost
//! records nothing either.

use std::collections::BTreeMap;

use kalamdb_commons::ids::CommitTime;
use kalamdb_commons::manifest::Batch;
use kalamdb_commons::{Error, Result};

use super::service::Recorded;
use crate::batch::BatchFooter;
use crate::partition::PartitionSpec;

/// What the footers give.
#[derive(Debug, PartialEq)]
pub(crate) struct Rebuilt {
    pub(crate) batches: Vec<Batch>,
    pub(crate) flushed_through: CommitTime,
    pub(crate) deletions_complete_from: CommitTime,
}

/// Applies the rule. `unreadable` are the files whose footers could not be read, with the reasons.
///
/// # Errors
/// Corrupt, naming the partition and the files in question, if what was flushed cannot be reached.
pub(crate) fn rebuild(
    spec: &PartitionSpec,
    footers: Vec<BatchFooter>,
    unreadable: &[(String, Error)],
    recorded: Option<Recorded>,
) -> Result<Rebuilt> {
    let counting = drop_contained(published(footers));
    let mut reached = CommitTime::ZERO;
    let mut rebuilt =
        Rebuilt { batches: Vec::new(), flushed_through: CommitTime::ZERO, deletions_complete_from: CommitTime::ZERO };
    let mut beyond_a_hole = None;
    for footer in counting {
        let entry = footer.about.entry;
        if entry.from != reached {
            beyond_a_hole = Some(entry.path);
            break;
        }
        reached = entry.through;
        rebuilt.deletions_complete_from = rebuilt.deletions_complete_from.max(footer.about.deletions_complete_from);
        rebuilt.batches.push(entry);
    }
    rebuilt.flushed_through = reached;
    let wanted = recorded.map(|recorded| recorded.flushed_through);
    if wanted.is_some_and(|wanted| reached >= wanted) {
        return Ok(rebuilt);
    }
    if wanted.is_none() && beyond_a_hole.is_none() && unreadable.is_empty() {
        return Ok(rebuilt);
    }
    Err(unreachable_watermark(spec, reached, wanted, beyond_a_hole, unreadable))
}

fn unreachable_watermark(
    spec: &PartitionSpec,
    reached: CommitTime,
    wanted: Option<CommitTime>,
    beyond_a_hole: Option<String>,
    unreadable: &[(String, Error)],
) -> Error {
    let mut message = format!("the manifest of {spec} cannot be rebuilt: its batch files reach {reached}");
    if let Some(wanted) = wanted {
        message.push_str(&format!(", but everything through {wanted} was flushed"));
    }
    if let Some(path) = beyond_a_hole {
        message.push_str(&format!("; what lies before '{path}' is missing"));
    }
    for (_, error) in unreadable {
        message.push_str(&format!("; {}", error.message()));
    }
    Error::corrupt(message)
}

/// The files that were published, as far as the files can tell.
fn published(footers: Vec<BatchFooter>) -> Vec<BatchFooter> {
    let mut groups: BTreeMap<(u64, u32), Vec<BatchFooter>> = BTreeMap::new();
    for footer in footers {
        let group = footer.about.group;
        if let Some(first) = group.first(footer.about.entry.number) {
            groups.entry((first, group.size)).or_default().push(footer);
        }
    }
    let (mut counting, mut doubtful) = (Vec::new(), Vec::new());
    for ((_, size), members) in groups {
        if members.len() == size as usize { counting.extend(members) } else { doubtful.push(members) }
    }
    // Each group that turns out to count may be what proves another one.
    while let Some(proven) = doubtful.iter().position(|members| is_proven(members, &counting)) {
        counting.extend(doubtful.swap_remove(proven));
    }
    counting
}

/// Whether a file that counts has a boundary strictly inside of the interval of the group of these members.
fn is_proven(members: &[BatchFooter], counting: &[BatchFooter]) -> bool {
    members.iter().any(|member| {
        let (group, entry) = (member.about.group, &member.about.entry);
        counting.iter().map(|footer| &footer.about.entry).any(|other| {
            (group.position > 1 && other.through == entry.from)
                || (group.position < group.size && other.from == entry.through)
        })
    })
}

/// Drops what another one contains; the rest in order of their intervals.
fn drop_contained(mut footers: Vec<BatchFooter>) -> Vec<BatchFooter> {
    // Earlier beginnings first, at equal ones the longer first, at equal intervals the higher number first: then
    // whatever contains an interval comes before it.
    footers.sort_by(|a, b| {
        let key = |footer: &BatchFooter| {
            let entry = &footer.about.entry;
            (entry.from, std::cmp::Reverse(entry.through), std::cmp::Reverse(entry.number))
        };
        key(a).cmp(&key(b))
    });
    let mut reached: Option<CommitTime> = None;
    footers.retain(|footer| {
        let through = footer.about.entry.through;
        let is_new = reached.is_none_or(|reached| through > reached);
        reached = Some(reached.map_or(through, |reached| reached.max(through)));
        is_new
    });
    footers
}

#[cfg(test)]
mod tests;
