//! A manifest from footers alone.
//!
//! The rule, given the footers of all files of the incarnation:
//!
//! 1. Only complete groups count: files are published together or not at all. A group whose other files are gone
//!    still counts if a file that counts, with a higher number than the group's, begins or ends strictly inside of
//!    the group's interval, where one of the group's own files ends: only a compaction of published files is such a
//!    file. A higher number, because two flushes that a crash cut short may have the same inner boundaries.
//! 2. Of what counts, a chain of intervals without hole or overlap from zero is taken: one that reaches furthest,
//!    and of those the one with the newest files, by number. So the result of a compaction replaces its inputs, and
//!    at equal intervals the higher number wins; but a compaction that a crash kept from being published gives way
//!    to later ones that did not know of it. A plain "the wider interval wins" would bring back rows whose deletion
//!    those later ones removed for good.
//!
//! The second rule is right because at most one compaction of a partition runs at a time, so that a file which was
//! never published is older than everything that was published without regard to it.
//!
//! The commit time that is reached must be at least what the hot tier recorded. If nothing is recorded, the hot tier
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
    let counting = published(footers);
    let chain = newest_chain(&counting);
    let reached = chain.last().map_or(CommitTime::ZERO, |footer| footer.about.entry.through);
    let rebuilt = Rebuilt {
        batches: chain.iter().map(|footer| footer.about.entry.clone()).collect(),
        flushed_through: reached,
        deletions_complete_from: chain
            .iter()
            .map(|footer| footer.about.deletions_complete_from)
            .fold(CommitTime::ZERO, CommitTime::max),
    };
    let beyond = counting.iter().map(|footer| &footer.about.entry).filter(|entry| entry.through > reached);
    let beyond_a_hole = beyond.min_by_key(|entry| (entry.from, entry.number)).map(|entry| entry.path.clone());
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

/// Whether a file that counts, and is later, has a boundary strictly inside of the interval of these members' group.
fn is_proven(members: &[BatchFooter], counting: &[BatchFooter]) -> bool {
    members.iter().any(|member| {
        let (group, entry) = (member.about.group, &member.about.entry);
        let last = entry.number + u64::from(group.size - group.position);
        counting.iter().map(|footer| &footer.about.entry).filter(|other| other.number > last).any(|other| {
            (group.position > 1 && other.through == entry.from)
                || (group.position < group.size && other.from == entry.through)
        })
    })
}

/// The chain of intervals from zero that reaches furthest, and of those the one with the newest files.
fn newest_chain(footers: &[BatchFooter]) -> Vec<&BatchFooter> {
    let mut by_start: Vec<&BatchFooter> = footers.iter().collect();
    by_start.sort_by_key(|footer| (footer.about.entry.from, footer.about.entry.number));
    // For each commit time that a chain reaches, the best chain: the numbers of its files, newest first.
    let mut best: BTreeMap<CommitTime, Vec<u64>> = [(CommitTime::ZERO, Vec::new())].into();
    for footer in by_start {
        let entry = &footer.about.entry;
        if entry.through <= entry.from {
            continue;
        }
        let Some(before) = best.get(&entry.from) else { continue };
        let mut numbers = before.clone();
        numbers.insert(numbers.partition_point(|number| *number > entry.number), entry.number);
        let known = best.entry(entry.through).or_default();
        if numbers > *known {
            *known = numbers;
        }
    }
    let numbers = best.pop_last().map(|(_, numbers)| numbers).unwrap_or_default();
    let in_chain = |footer: &&BatchFooter| numbers.contains(&footer.about.entry.number);
    let mut chain: Vec<_> = footers.iter().filter(in_chain).collect();
    chain.sort_by_key(|footer| footer.about.entry.from);
    chain
}

#[cfg(test)]
mod tests;
