//! Commit times that a run in `buffered` mode assigned and an end of it may have lost: between the last commit that
//! survived and the ceiling that the next run began above. A client may have seen one of them; a cursor in there points at
//! what never was, and its owner must begin anew. A run in `sync` mode tells nobody what it could lose.

use kalamdb_commons::ids::CommitTime;
use kalamdb_commons::settings::Durability;
use kalamdb_commons::{Error, Result};
use kalamdb_store::{Batch, ShardStore, Snapshot, keys};
use serde::{Deserialize, Serialize};

use crate::partition::registry::Partitions;

const RECORD: (&str, &str) = ("clock", "lost_tails");
/// How many starts are remembered.
const TAILS_MAX: usize = 4_096;

/// The gaps, oldest first, each open on both sides: no run uses the ceiling itself, and the next one begins there.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct LostTails(Vec<(CommitTime, CommitTime)>);

/// What is stored of them.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Record {
    tails: Vec<(CommitTime, CommitTime)>,
    /// Whether the run that stored it may lose what it has told.
    may_lose: bool,
    /// Where that run began: what lies below has been decided.
    #[serde(default)]
    began_above: CommitTime,
}

impl LostTails {
    /// Whether a cursor lies in a gap.
    pub(crate) fn holds(&self, cursor: CommitTime) -> bool {
        self.0.iter().any(|(survived, ceiling)| *survived < cursor && cursor < *ceiling)
    }

    /// The run has ended in order, and everything that it told is durable.
    pub(crate) async fn nothing_more_was_lost(&self, store: &dyn ShardStore) -> Result<()> {
        self.record(false, CommitTime::ZERO, store).await
    }

    async fn record(&self, may_lose: bool, began_above: CommitTime, store: &dyn ShardStore) -> Result<()> {
        let record = Record { tails: self.0.clone(), may_lose, began_above };
        let mut batch = Batch::default();
        let value = serde_json::to_vec(&record).unwrap_or_else(|_| unreachable!("numbers"));
        batch.put(keys::system(RECORD.0, RECORD.1), value);
        Ok(store.commit(store.token(), batch).await?)
    }

    /// Adds the gap below the ceiling that a run begins above. What lies below where the one before began is of earlier
    /// runs, whose last commits may have been of no row.
    fn add(&mut self, began_above: CommitTime, survived: CommitTime, ceiling: CommitTime) {
        let survived = survived.max(began_above);
        if survived < ceiling {
            self.0.push((survived, ceiling));
        }
        let surplus = self.0.len().saturating_sub(TAILS_MAX);
        self.0.drain(..surplus);
    }

    /// Reads the gaps of earlier runs and records the one of the run before this, which begins above `ceiling`.
    pub(crate) async fn at_start(
        store: &dyn ShardStore,
        snapshot: &dyn Snapshot,
        partitions: &Partitions,
        ceiling: CommitTime,
        durability: Durability,
    ) -> Result<Self> {
        let key = keys::system(RECORD.0, RECORD.1);
        let record: Record = match snapshot.get(&key).await? {
            Some(stored) => serde_json::from_slice(&stored)
                .map_err(|error| Error::corrupt("the record of lost commit times is damaged").with_source(error))?,
            None => Record::default(),
        };
        let mut tails = Self(record.tails);
        if record.may_lose {
            // What an earlier version stored says nothing of where its run began.
            let before = tails.0.last().map_or(CommitTime::ZERO, |(_, ceiling)| *ceiling);
            tails.add(record.began_above.max(before), survived(snapshot, partitions).await?, ceiling);
        }
        tails.record(durability == Durability::Buffered, ceiling, store).await?;
        Ok(tails)
    }
}

/// The last commit that is there.
async fn survived(snapshot: &dyn Snapshot, partitions: &Partitions) -> Result<CommitTime> {
    let mut last = partitions.births().latest();
    for partition in partitions.all() {
        let known = partition.hot().last.max(partition.record().flushed_through);
        last = last.max(known);
        if partition.has_history() {
            continue;
        }
        // A deletion of a STREAM row leaves nothing but its entry in the log.
        let space = partition.keys();
        let end = keys::prefix_end(&keys::change_prefix(space));
        let mut next = Some(keys::change(space, CommitTime(known.0 + 1)));
        while let Some(start) = next {
            let page = snapshot.scan(&start, &end, crate::partition::SCAN_PAGE_ENTRIES, usize::MAX).await?;
            if let Some((key, _)) = page.entries.last() {
                last = last.max(keys::change_time_of(key)?);
            }
            next = page.next;
        }
    }
    Ok(last)
}

#[cfg(test)]
mod tests;
