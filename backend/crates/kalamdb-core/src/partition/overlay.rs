//! The overlay: the hot versions of a partition that replace an older version, in commit order.
//!
//! A cold row is dead for a reader at U if an entry of its id has `born <= F` and was committed in `(F, U]`, F being
//! the watermark of the manifest that the reader holds. Entries whose row was born after F replace a hot version
//! only and say nothing about cold rows until F moves past their birth; that is why they are kept from the
//! beginning.

use kalamdb_commons::ids::{CommitTime, RowId};

/// A hot version that replaces an older one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Kill {
    /// The row.
    pub(crate) row: RowId,
    /// The `_updated` of its INSERT.
    pub(crate) born: CommitTime,
    /// The `_updated` of the replacing version.
    pub(crate) at: CommitTime,
}

impl Kill {
    /// Whether it replaces a row of a cold tier that reaches through `flushed`, for a reader at `through`.
    pub(crate) fn kills_cold(&self, flushed: CommitTime, through: CommitTime) -> bool {
        self.born <= flushed && self.at > flushed && self.at <= through
    }
}

/// The kills of a partition's hot tier, by commit time.
#[derive(Debug, Default)]
pub(crate) struct Overlay {
    kills: Vec<Kill>,
}

impl Overlay {
    /// From the hot rows found at start, in any order.
    pub(crate) fn recovered(mut kills: Vec<Kill>) -> Self {
        kills.sort_unstable_by_key(|kill| kill.at);
        Self { kills }
    }

    /// Appends a kill that was just committed.
    pub(crate) fn push(&mut self, kill: Kill) {
        assert!(self.kills.last().is_none_or(|last| last.at < kill.at), "kills come in commit order");
        self.kills.push(kill);
    }

    /// The kills in `(after, through]`.
    pub(crate) fn between(&self, after: CommitTime, through: CommitTime) -> &[Kill] {
        let start = self.kills.partition_point(|kill| kill.at <= after);
        let end = self.kills.partition_point(|kill| kill.at <= through);
        &self.kills[start..end.max(start)]
    }

    /// Forgets the kills at or before `flushed`: no view that is held needs them.
    pub(crate) fn forget_through(&mut self, flushed: CommitTime) {
        let gone = self.kills.partition_point(|kill| kill.at <= flushed);
        self.kills.drain(..gone);
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.kills.len()
    }
}
