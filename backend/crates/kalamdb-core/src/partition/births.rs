//! Since when each life of a table lasts. A cursor from before that is of a life that has ended, and whoever resumes
//! from it must begin anew.

use std::sync::Arc;

use bytes::Bytes;
use dashmap::DashMap;
use kalamdb_commons::ids::{CommitTime, Incarnation};
use kalamdb_commons::{Error, Result};
use kalamdb_store::{Snapshot, keys};

use super::{SCAN_PAGE_BYTES, SCAN_PAGE_ENTRIES};

const KIND: &str = "incarnation";

/// The commit times of CREATE and TRUNCATE, by the life that they began. Lives that end stay: an entry is a few bytes.
#[derive(Debug, Default, Clone)]
pub(crate) struct Births(Arc<DashMap<Incarnation, CommitTime>>);

/// The record of a life that began.
pub(crate) fn record(life: Incarnation, at: CommitTime) -> (Bytes, Bytes) {
    (keys::system(KIND, &life.to_string()), Bytes::copy_from_slice(&at.0.to_le_bytes()))
}

impl Births {
    /// Reads the records.
    pub(crate) async fn recover(snapshot: &dyn Snapshot) -> Result<Self> {
        let births = Self::default();
        let prefix = keys::system_prefix(KIND);
        let end = keys::prefix_end(&prefix);
        let mut next = Some(prefix);
        while let Some(start) = next {
            let page = snapshot.scan(&start, &end, SCAN_PAGE_ENTRIES, SCAN_PAGE_BYTES).await?;
            for (key, value) in &page.entries {
                let (_, name) = keys::system_name_of(key)?;
                let at: Option<[u8; 8]> = value.as_ref().try_into().ok();
                let (Ok(life), Some(at)) = (name.parse(), at) else {
                    return Err(Error::corrupt("the record of a table's life is damaged"));
                };
                births.note(Incarnation(life), CommitTime(i64::from_le_bytes(at)));
            }
            next = page.next;
        }
        Ok(births)
    }

    /// A life begins.
    pub(crate) fn note(&self, life: Incarnation, at: CommitTime) {
        self.0.insert(life, at);
    }

    /// When the youngest life began.
    pub(crate) fn latest(&self) -> CommitTime {
        self.0.iter().map(|at| *at).max().unwrap_or(CommitTime::ZERO)
    }

    /// When a life began; before every commit if nobody noted it.
    pub(crate) fn of(&self, life: Incarnation) -> CommitTime {
        self.0.get(&life).map_or(CommitTime::ZERO, |at| *at)
    }
}
