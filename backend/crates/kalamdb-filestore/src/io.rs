//! Reading ranges: counting what is read, and joining ranges that lie close together into one request.

use std::ops::Range;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

/// What one statement read from the cold tier. Shared by everything that reads on its behalf.
#[derive(Debug, Default)]
pub struct IoCounters {
    requests: AtomicU64,
    bytes: AtomicU64,
    bloom_tests: AtomicU64,
    bloom_negatives: AtomicU64,
    cache_hits: AtomicU64,
    cache_misses: AtomicU64,
}

impl IoCounters {
    /// Requests to storage: one per joined range.
    pub fn requests(&self) -> u64 {
        self.requests.load(Ordering::Relaxed)
    }

    /// Bytes that were asked of storage.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// Questions to Bloom filters: one for each file and key of a lookup, or each file and column of a predicate.
    pub fn bloom_tests(&self) -> u64 {
        self.bloom_tests.load(Ordering::Relaxed)
    }

    /// How many of those tests said that the value is not there.
    pub fn bloom_negatives(&self) -> u64 {
        self.bloom_negatives.load(Ordering::Relaxed)
    }

    /// Parts of batch files that were needed and in memory: footers, filters, key directories, pages of ids.
    pub fn cache_hits(&self) -> u64 {
        self.cache_hits.load(Ordering::Relaxed)
    }

    /// Parts of batch files that were needed and not in memory.
    pub fn cache_misses(&self) -> u64 {
        self.cache_misses.load(Ordering::Relaxed)
    }

    pub(crate) fn cached(&self, hit: bool) {
        let counter = if hit { &self.cache_hits } else { &self.cache_misses };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn read(&self, ranges: &[Range<u64>]) {
        self.requests.fetch_add(ranges.len() as u64, Ordering::Relaxed);
        self.bytes.fetch_add(ranges.iter().map(|range| range.end - range.start).sum(), Ordering::Relaxed);
    }

    pub(crate) fn bloom(&self, tests: usize, negatives: usize) {
        self.bloom_tests.fetch_add(tests as u64, Ordering::Relaxed);
        self.bloom_negatives.fetch_add(negatives as u64, Ordering::Relaxed);
    }
}

/// The ranges to ask for so that every one of `ranges` is inside one of them: sorted, with neighbours at most
/// `gap` bytes apart joined.
pub(crate) fn join(ranges: &[Range<u64>], gap: u64) -> Vec<Range<u64>> {
    let mut sorted: Vec<_> = ranges.iter().filter(|range| range.start < range.end).cloned().collect();
    sorted.sort_unstable_by_key(|range| range.start);
    let mut joined: Vec<Range<u64>> = Vec::with_capacity(sorted.len());
    for range in sorted {
        match joined.last_mut() {
            Some(last) if range.start <= last.end.saturating_add(gap) => last.end = last.end.max(range.end),
            _ => joined.push(range),
        }
    }
    joined
}

/// Cuts what was wanted out of what [`join`] asked for. `None` if an answer is shorter than asked.
pub(crate) fn cut(wanted: &[Range<u64>], joined: &[Range<u64>], answers: &[Bytes]) -> Option<Vec<Bytes>> {
    wanted
        .iter()
        .map(|range| {
            if range.start >= range.end {
                return Some(Bytes::new());
            }
            let at = joined.partition_point(|part| part.start <= range.start).checked_sub(1)?;
            let start = usize::try_from(range.start - joined[at].start).ok()?;
            let end = start + usize::try_from(range.end - range.start).ok()?;
            let answer = answers.get(at)?;
            (end <= answer.len()).then(|| answer.slice(start..end))
        })
        .collect()
}

#[cfg(test)]
mod tests;
