//! What a manifest says about its active batches, in columns, so that pruning a thousand batches compares arrays
//! instead of parsing JSON.
//!
//! Batches are named by their place among the manifest's active ones. Every answer keeps a batch of which nothing is
//! known: pruning may only drop what is proven irrelevant.

use std::collections::BTreeMap;
use std::ops::RangeInclusive;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Date32Array, Datum, Decimal128Array, Float32Array, Float64Array, Int16Array,
    Int32Array, Int64Array, Scalar, StringArray, Time64MicrosecondArray, TimestampMicrosecondArray, UInt64Array,
};
use arrow::compute::kernels::cmp;
use dashmap::DashMap;
use kalamdb_commons::ids::{ColumnId, CommitTime, RowId, SchemaVersion};
use kalamdb_commons::manifest::{Bound, ColumnRange, Manifest};
use kalamdb_commons::schema::Columns;
use kalamdb_commons::types::ColumnType;

/// The ranges of a manifest's active batches.
#[derive(Debug)]
pub struct BatchStatistics {
    manifest: Arc<Manifest>,
    /// Where the active batches are among the manifest's.
    active: Vec<usize>,
    ids: Vec<Option<(i64, i64)>>,
    updated: Vec<Option<(i64, i64)>>,
    row_counts: UInt64Array,
    columns: DashMap<(ColumnId, ColumnType), ColumnStatistics>,
}

/// The ranges of one column: a value for each active batch, NULL where nothing is known.
#[derive(Debug, Clone)]
pub struct ColumnStatistics {
    /// At most the least value.
    pub mins: ArrayRef,
    /// At least the greatest.
    pub maxes: ArrayRef,
    /// How many are NULL, as UInt64.
    pub null_counts: ArrayRef,
}

impl BatchStatistics {
    /// Gathers what a manifest says.
    pub fn new(manifest: Arc<Manifest>) -> Self {
        let active: Vec<usize> = {
            let numbers: Vec<u64> = manifest.active().map(|batch| batch.number).collect();
            let place = |number: &u64| manifest.batches.iter().position(|batch| batch.number == *number);
            if numbers.len() == manifest.batches.len() {
                (0..numbers.len()).collect()
            } else {
                numbers.iter().filter_map(place).collect()
            }
        };
        let pair = |min: Option<i64>, max: Option<i64>| min.zip(max);
        let batches = || manifest.active();
        let ids = batches().map(|batch| pair(batch.min_id.map(|id| id.0), batch.max_id.map(|id| id.0))).collect();
        let updated =
            batches().map(|batch| pair(batch.min_updated.map(|at| at.0), batch.max_updated.map(|at| at.0))).collect();
        let row_counts = batches().map(|batch| batch.row_count).collect::<Vec<_>>().into();
        Self { active, ids, updated, row_counts, columns: DashMap::new(), manifest }
    }

    /// How many active batches there are.
    pub fn len(&self) -> usize {
        self.active.len()
    }

    /// Whether there is no active batch.
    pub fn is_empty(&self) -> bool {
        self.active.is_empty()
    }

    /// The active batch at a place.
    pub fn batch(&self, place: usize) -> &kalamdb_commons::manifest::Batch {
        &self.manifest.batches[self.active[place]]
    }

    /// Rows in each batch, dead ones included.
    pub fn row_counts(&self) -> &UInt64Array {
        &self.row_counts
    }

    /// The batches that may hold one of these ids, which are sorted.
    pub fn prune_by_id(&self, sorted_ids: &[RowId]) -> Vec<usize> {
        let may_hold = |(min, max): (i64, i64)| {
            let first = sorted_ids.partition_point(|id| id.0 < min);
            sorted_ids.get(first).is_some_and(|id| id.0 <= max)
        };
        // A batch without a range of ids has no rows.
        (0..self.len()).filter(|place| self.ids[*place].is_some_and(may_hold)).collect()
    }

    /// The batches that may hold a version with `_updated` in the range.
    pub fn prune_by_updated(&self, range: RangeInclusive<CommitTime>) -> Vec<usize> {
        let may_hold = |(min, max): (i64, i64)| min <= range.end().0 && max >= range.start().0;
        (0..self.len()).filter(|place| self.updated[*place].is_some_and(may_hold)).collect()
    }

    /// The batches that may hold a row whose columns equal these values, each an array of one value of the column's
    /// type. `versions` are the columns of every schema version of the table.
    pub fn prune_by_key(
        &self,
        columns: &[(ColumnId, ColumnType)],
        values: &[ArrayRef],
        versions: &BTreeMap<SchemaVersion, Columns>,
    ) -> Vec<usize> {
        let mut keep: Vec<bool> = (0..self.len()).map(|place| self.ids[place].is_some()).collect();
        for ((column, column_type), value) in columns.iter().zip(values) {
            let Some(statistics) = self.column(*column, *column_type, versions) else { continue };
            if value.len() != 1 || value.data_type() != statistics.mins.data_type() {
                continue;
            }
            let value = Scalar::new(Arc::clone(value));
            keep_if(&mut keep, cmp::lt_eq(&statistics.mins as &dyn Datum, &value));
            keep_if(&mut keep, cmp::gt_eq(&statistics.maxes as &dyn Datum, &value));
        }
        (0..self.len()).filter(|place| keep[*place]).collect()
    }

    /// The ranges of a column, in its type of today; `None` if the type has none. A batch of a schema version in
    /// which the column was absent, or of a type whose values compare otherwise, has NULL. Made once and kept.
    pub fn column(
        &self,
        column: ColumnId,
        column_type: ColumnType,
        versions: &BTreeMap<SchemaVersion, Columns>,
    ) -> Option<ColumnStatistics> {
        if !column_type.is_comparable() {
            return None;
        }
        if let Some(made) = self.columns.get(&(column, column_type)) {
            return Some(made.clone());
        }
        let ranges: Vec<Option<&ColumnRange>> = (0..self.len())
            .map(|place| {
                let batch = self.batch(place);
                let then = versions.get(&batch.schema_version)?.iter().find(|then| then.id == column)?.column_type;
                batch.columns.get(&column).filter(|_| compares_alike(then, column_type))
            })
            .collect();
        let side = |of: fn(&ColumnRange) -> Option<&Bound>| -> ArrayRef {
            bounds(column_type, ranges.iter().map(|range| range.and_then(of)))
        };
        let made = ColumnStatistics {
            mins: side(|range| range.min.as_ref()),
            maxes: side(|range| range.max.as_ref()),
            null_counts: Arc::new(
                ranges.iter().map(|range| range.map(|range| range.null_count)).collect::<UInt64Array>(),
            ),
        };
        self.columns.insert((column, column_type), made.clone());
        Some(made)
    }
}

/// Keeps only what a comparison allows; what it does not know it allows.
fn keep_if(keep: &mut [bool], allowed: Result<BooleanArray, arrow::error::ArrowError>) {
    let Ok(allowed) = allowed else { return };
    for (place, keep) in keep.iter_mut().enumerate() {
        *keep &= allowed.is_null(place) || allowed.value(place);
    }
}

/// Whether bounds of a column of type `then` are bounds of its values read as type `now`.
fn compares_alike(then: ColumnType, now: ColumnType) -> bool {
    let width = |column_type| match column_type {
        ColumnType::SmallInt => Some(16),
        ColumnType::Int => Some(32),
        ColumnType::BigInt => Some(64),
        _ => None,
    };
    then == now || width(then).zip(width(now)).is_some_and(|(then, now)| then <= now)
}

/// The array of one side of the ranges. A bound that is not one of the type's is as good as none.
fn bounds<'a>(column_type: ColumnType, bounds: impl Iterator<Item = Option<&'a Bound>>) -> ArrayRef {
    let ints = |bound: Option<&Bound>| match bound {
        Some(Bound::Int(value)) => Some(*value),
        _ => None,
    };
    let floats = |bound: Option<&Bound>| match bound {
        Some(Bound::Float(value)) => Some(*value),
        Some(Bound::Int(value)) => Some(*value as f64),
        _ => None,
    };
    let texts = |bound: Option<&'a Bound>| match bound {
        Some(Bound::Text(text)) => Some(text.as_str()),
        _ => None,
    };
    match column_type {
        ColumnType::Boolean => Arc::new(
            bounds
                .map(|bound| match bound {
                    Some(Bound::Bool(value)) => Some(*value),
                    _ => None,
                })
                .collect::<BooleanArray>(),
        ),
        ColumnType::SmallInt => Arc::new(narrow::<i16>(bounds.map(ints)).collect::<Int16Array>()),
        ColumnType::Int => Arc::new(narrow::<i32>(bounds.map(ints)).collect::<Int32Array>()),
        ColumnType::BigInt => Arc::new(bounds.map(ints).collect::<Int64Array>()),
        ColumnType::Date => Arc::new(narrow::<i32>(bounds.map(ints)).collect::<Date32Array>()),
        ColumnType::Time => Arc::new(bounds.map(ints).collect::<Time64MicrosecondArray>()),
        ColumnType::Timestamp | ColumnType::DateTime => {
            Arc::new(bounds.map(ints).collect::<TimestampMicrosecondArray>())
        }
        ColumnType::Float => Arc::new(bounds.map(|bound| floats(bound).map(|v| v as f32)).collect::<Float32Array>()),
        ColumnType::Double => Arc::new(bounds.map(floats).collect::<Float64Array>()),
        ColumnType::Decimal(precision, scale) => {
            let values: Decimal128Array = bounds.map(|bound| texts(bound).and_then(|text| text.parse().ok())).collect();
            let nulls = values.len();
            values.with_precision_and_scale(precision, scale).map_or_else(
                |_| arrow::array::new_null_array(&column_type.arrow(), nulls),
                |values| Arc::new(values) as ArrayRef,
            )
        }
        ColumnType::Text | ColumnType::Uuid | ColumnType::Bytes | ColumnType::Json => {
            Arc::new(bounds.map(texts).collect::<StringArray>())
        }
    }
}

fn narrow<T: TryFrom<i64>>(values: impl Iterator<Item = Option<i64>>) -> impl Iterator<Item = Option<T>> {
    values.map(|value| value.and_then(|value| T::try_from(value).ok()))
}

#[cfg(test)]
mod tests;
