//! The manifest of a partition, as it is stored beside its batch files (FR-016 to FR-030).
//!
//! A manifest says which batch files are the partition's cold tier and up to which commit time it reaches.
//! Every active batch covers an interval `(from, through]` of commit time; the intervals of a manifest's active
//! batches are disjoint and cover `(0, flushed_through]`. A row of a batch replaces an older one exactly if its
//! `_born` is at most the batch's `from`.
//!
//! `version` grows by one with each publication. `format_version` is [`FORMAT_VERSION`]: a reader refuses a
//! greater one, and ignores fields it does not know.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::ids::{ColumnId, CommitTime, Incarnation, RowId, SchemaVersion, Scope, TableId, TableRef};

/// The format of manifests and footers that this build writes, and the greatest that it reads.
pub const FORMAT_VERSION: u32 = 1;

/// The file name of a manifest.
pub const MANIFEST_FILE: &str = "manifest.json";

/// A partition's manifest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    /// Grows by one with each publication; compare-and-set is on it.
    pub version: u64,
    /// The format.
    pub format_version: u32,
    /// When it was written, RFC 3339.
    pub generated_at: String,
    /// The highest batch number that any published file had. Never goes down.
    pub max_batch: u64,
    /// The table.
    pub table_id: TableId,
    /// Its name when this was written, for people.
    pub table: TableRef,
    /// Which life of the table. Files of another one are not this table's data.
    pub incarnation: Incarnation,
    /// Whose partition.
    pub scope: Scope,
    /// F: versions with `_updated` at or below it are cold, later ones are hot.
    pub flushed_through: CommitTime,
    /// Deletions at or after this time are still there to be seen by a resuming reader.
    pub deletions_complete_from: CommitTime,
    /// The batches: active ones in order of their intervals, then those being retired.
    pub batches: Vec<Batch>,
}

impl Manifest {
    /// The batches that queries read, in the order of their intervals.
    pub fn active(&self) -> impl Iterator<Item = &Batch> {
        self.batches.iter().filter(|batch| batch.status != BatchStatus::Archived)
    }

    /// Whether active intervals are disjoint, in order, and cover `(0, flushed_through]`.
    pub fn intervals_are_sound(&self) -> bool {
        let mut reached = CommitTime::ZERO;
        for batch in self.active() {
            if batch.from != reached || batch.through < batch.from {
                return false;
            }
            reached = batch.through;
        }
        reached == self.flushed_through
    }
}

/// Where a batch is in its life (FR-030).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BatchStatus {
    /// Read by queries.
    Active,
    /// Read by queries, and input of a compaction that is running.
    Compacting,
    /// Replaced; the file goes when no reader holds it.
    Archived,
}

/// A batch file as the manifest knows it: enough to prove that a query need not open it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    /// The file's name in the manifest's directory, `batch-0001.parquet`.
    pub path: String,
    /// Its number.
    pub number: u64,
    /// Its status.
    pub status: BatchStatus,
    /// The commit time before which the batch holds nothing.
    pub from: CommitTime,
    /// The commit time through which it holds everything that was newest then.
    pub through: CommitTime,
    /// The least `_updated` in it, ns; absent if it has no rows.
    pub min_updated: Option<CommitTime>,
    /// The greatest.
    pub max_updated: Option<CommitTime>,
    /// The least `_id`.
    pub min_id: Option<RowId>,
    /// The greatest.
    pub max_id: Option<RowId>,
    /// Rows, deletions and superseded ones included.
    pub row_count: u64,
    /// How many of them are deletions.
    pub tombstone_count: u64,
    /// How many replace an older row: those with `_born <= from`. Which ones, the footer says.
    pub superseding_count: u64,
    /// The file's size.
    pub byte_size: u64,
    /// The schema version of its rows.
    pub schema_version: SchemaVersion,
    /// Its incarnation, as the manifest's.
    pub incarnation: Incarnation,
    /// Ranges of the user's columns of comparable types, by column id.
    pub columns: BTreeMap<ColumnId, ColumnRange>,
}

/// The range of one column in one batch. Text is cut short to [`BOUND_BYTES_MAX`]: a lower bound may be less
/// than the least value and an upper bound greater than the greatest, never the other way. `min` and `max` are
/// absent when nothing is known or all is NULL.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ColumnRange {
    /// At most the least value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<Bound>,
    /// At least the greatest value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<Bound>,
    /// How many are NULL.
    pub null_count: u64,
}

/// The longest text bound in a manifest, in bytes.
pub const BOUND_BYTES_MAX: usize = 64;

/// A bound in JSON, in the column's physical form.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Bound {
    /// BOOLEAN.
    Bool(bool),
    /// SMALLINT, INT, BIGINT, DATE (days), TIME and TIMESTAMP (microseconds).
    Int(i64),
    /// FLOAT and DOUBLE. A column that holds NaN has no bounds.
    Float(f64),
    /// TEXT and UUID as they are; DECIMAL as its unscaled digits.
    Text(String),
}

/// The name of batch file `number`: `batch-0001.parquet` (FR-023).
pub fn batch_file_name(number: u64) -> String {
    format!("batch-{number:04}.parquet")
}

/// The number of a batch file, if the name is one that [`batch_file_name`] gives.
pub fn batch_file_number(name: &str) -> Option<u64> {
    let number = name.strip_prefix("batch-")?.strip_suffix(".parquet")?.parse().ok()?;
    (batch_file_name(number) == name).then_some(number)
}
