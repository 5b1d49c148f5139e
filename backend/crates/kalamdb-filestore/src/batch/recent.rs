//! The Bloom filters that a file was asked for last, at hand without a look into the cache that all files share: a
//! lookup asks a thousand files the same column's, and the cache takes longer to find them than they to answer.
//!
//! The cache keeps the filters alive, within its budget; what it has let go is not at hand here either. It hears of
//! each sixteenth use, which is enough to keep what is often used.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;

use super::BatchColumn;
use super::lookup::ColumnFilters;

/// Of this many uses the cache hears of one.
const USES: u8 = 16;

/// A place for the filters of one column.
#[derive(Debug, Default)]
pub(super) struct RecentFilters(Mutex<Option<Recent>>);

#[derive(Debug)]
struct Recent {
    column: BatchColumn,
    filters: Weak<ColumnFilters>,
    uses: u8,
}

impl RecentFilters {
    /// The filters of a column, unless the cache is to be asked.
    pub(super) fn get(&self, column: BatchColumn) -> Option<Arc<ColumnFilters>> {
        let mut recent = self.0.lock();
        let recent = recent.as_mut().filter(|recent| recent.column == column && recent.uses < USES)?;
        recent.uses += 1;
        recent.filters.upgrade()
    }

    /// Remembers what the cache has.
    pub(super) fn put(&self, column: BatchColumn, filters: &Arc<ColumnFilters>) {
        *self.0.lock() = Some(Recent { column, filters: Arc::downgrade(filters), uses: 1 });
    }
}

#[cfg(test)]
mod tests;
