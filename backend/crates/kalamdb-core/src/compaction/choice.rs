//! Which neighbouring batches to merge. Pure arithmetic over what the view knows without reading a file.

use std::ops::Range;

use kalamdb_commons::ids::CommitTime;
use kalamdb_commons::settings::CompactionSettings;

use crate::partition::view::ColdBatch;

/// The most rows that one file can hold: positions are 32 bits wide.
const FILE_ROWS_MAX: u64 = u32::MAX as u64;

/// What choosing needs of a batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Shape {
    /// Its rows.
    pub(crate) rows: u64,
    /// Of these, the ones that a later batch replaces.
    pub(crate) superseded: u64,
    /// Its deletions, if all of the batch is from before the moment since which deletions are kept.
    pub(crate) expired: u64,
}

impl Shape {
    pub(crate) fn of(batch: &ColdBatch, kept_since: CommitTime) -> Self {
        let is_old = batch.entry.max_updated.is_some_and(|last| last < kept_since);
        Self {
            rows: batch.entry.row_count,
            superseded: batch.superseded.len(),
            expired: if is_old { batch.entry.tombstone_count } else { 0 },
        }
    }
}

/// What is merged when somebody asks: everything, or as much of the oldest as fits a file. `None` if that is one batch.
pub(crate) fn everything(shapes: &[Shape]) -> Option<Range<usize>> {
    (0..shapes.len()).find_map(|start| {
        let mut rows = 0u64;
        let fits = shapes[start..].iter().take_while(|shape| {
            rows = rows.saturating_add(shape.rows);
            rows <= FILE_ROWS_MAX
        });
        let count = fits.count();
        (count > 1).then_some(start..start + count)
    })
}

/// What is merged without being asked, if anything is due. After each such merge its reason is gone.
pub(crate) fn due(shapes: &[Shape], settings: &CompactionSettings) -> Option<Range<usize>> {
    superseded(shapes, settings).or_else(|| expired(shapes, settings)).or_else(|| small(shapes, settings))
}

/// The longest run of the newest batches of which enough is superseded. Whatever replaces a row lies in a later batch,
/// so every superseded row of the run goes.
fn superseded(shapes: &[Shape], settings: &CompactionSettings) -> Option<Range<usize>> {
    (0..shapes.len().saturating_sub(1)).map(|start| start..shapes.len()).find(|run| {
        let dead = shapes[run.clone()].iter().map(|shape| shape.superseded).sum();
        is_enough(dead, &shapes[run.clone()], settings)
    })
}

/// The longest run of the oldest batches of which enough is expired deletions. What they deleted lies in an earlier
/// batch, so all of them go.
fn expired(shapes: &[Shape], settings: &CompactionSettings) -> Option<Range<usize>> {
    (1..=shapes.len()).rev().map(|end| 0..end).find(|run| {
        let dead = shapes[run.clone()].iter().map(|shape| shape.expired).sum();
        shapes[run.end - 1].expired > 0 && is_enough(dead, &shapes[run.clone()], settings)
    })
}

/// The shortest run of the oldest batches that holds all expired deletions, of as many batches as may be merged.
pub(crate) fn all_expired(shapes: &[Shape], settings: &CompactionSettings) -> Option<Range<usize>> {
    let mut rows = 0u64;
    let fits = shapes.iter().take_while(|shape| {
        rows = rows.saturating_add(shape.rows);
        rows <= settings.rows_max
    });
    let last = fits.enumerate().filter(|(_, shape)| shape.expired > 0).last();
    last.map(|(place, _)| 0..place + 1)
}

fn is_enough(dead: u64, shapes: &[Shape], settings: &CompactionSettings) -> bool {
    let rows: u64 = shapes.iter().map(|shape| shape.rows).sum();
    dead > 0 && rows <= settings.rows_max && dead.saturating_mul(100) >= rows.saturating_mul(settings.dead_percent)
}

/// From the newest backwards, batches that are not larger than all newer ones together, or small anyway: each row is
/// rewritten about once for every doubling of the history.
fn small(shapes: &[Shape], settings: &CompactionSettings) -> Option<Range<usize>> {
    let mut rows = 0u64;
    let joins = shapes.iter().rev().enumerate().take_while(|(place, shape)| {
        let alike = *place == 0 || shape.rows <= rows.max(settings.small_rows);
        rows = rows.saturating_add(shape.rows);
        alike && rows <= settings.rows_max
    });
    let count = joins.count();
    (count >= settings.batches_min).then_some(shapes.len() - count..shapes.len())
}

#[cfg(test)]
mod tests;
