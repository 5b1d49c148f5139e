//! What a manifest says about its active batches, in columns, so that pruning a thousand batches compares arrays
//! instead of parsing JSON.
//!
//! Batches are named by their place among the manifest's active ones. Every answer keeps a batch of which nothing is
//! known: pruning may only drop what is proven irrelevant.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array, Int16Array, Int32Array,
    Int64Array, StringArray, Time64MicrosecondArray, TimestampMicrosecondArray, UInt64Array, make_comparator,
    new_null_array,
};
use arrow::compute::{CastOptions, SortOptions, cast_with_options, interleave};
use arrow::error::ArrowError;
use dashmap::DashMap;
use kalamdb_commons::ids::{ColumnId, SchemaVersion};
use kalamdb_commons::manifest::{Bound, ColumnRange, Manifest};
use kalamdb_commons::schema::Columns;
use kalamdb_commons::types::ColumnType;

/// The ranges of a manifest's active batches.
#[derive(Debug)]
pub struct BatchStatistics {
    manifest: Arc<Manifest>,
    /// Where the active batches are among the manifest's.
    active: Vec<usize>,
    ids: ColumnStatistics,
    updated: ColumnStatistics,
    deleted: ColumnStatistics,
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

impl ColumnStatistics {
    /// Which batches may hold one of these values, which are of the column's type, sorted ascending and not NULL.
    ///
    /// # Errors
    /// If the values are of another type.
    pub fn may_hold(&self, sorted: &ArrayRef) -> Result<BooleanArray, ArrowError> {
        let least = make_comparator(&self.mins, sorted, SortOptions::default())?;
        let greatest = make_comparator(&self.maxes, sorted, SortOptions::default())?;
        let may_hold = |batch: usize| {
            // The first value that is not below the range is the only one to compare with its end.
            let first = match self.mins.is_null(batch) {
                true => 0,
                false => partition_point(sorted.len(), |value| least(batch, value) == Ordering::Greater),
            };
            first < sorted.len() && (self.maxes.is_null(batch) || greatest(batch, first) != Ordering::Less)
        };
        Ok((0..self.mins.len()).map(|batch| Some(may_hold(batch))).collect())
    }
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
        let batches = || active.iter().map(|at| &manifest.batches[*at]);
        let never_null: ArrayRef = Arc::new(UInt64Array::from(vec![0; active.len()]));
        let numbers = |mins: Int64Array, maxes: Int64Array| ColumnStatistics {
            mins: Arc::new(mins),
            maxes: Arc::new(maxes),
            null_counts: Arc::clone(&never_null),
        };
        let ids = numbers(
            batches().map(|batch| batch.min_id.map(|id| id.0)).collect(),
            batches().map(|batch| batch.max_id.map(|id| id.0)).collect(),
        );
        let updated = numbers(
            batches().map(|batch| batch.min_updated.map(|at| at.0)).collect(),
            batches().map(|batch| batch.max_updated.map(|at| at.0)).collect(),
        );
        let all_deleted = batches().map(|batch| Some(batch.tombstone_count == batch.row_count));
        let some_deleted = batches().map(|batch| Some(batch.tombstone_count > 0));
        let deleted = ColumnStatistics {
            mins: Arc::new(all_deleted.collect::<BooleanArray>()),
            maxes: Arc::new(some_deleted.collect::<BooleanArray>()),
            null_counts: Arc::clone(&never_null),
        };
        let row_counts = batches().map(|batch| batch.row_count).collect::<Vec<_>>().into();
        Self { active, ids, updated, deleted, row_counts, columns: DashMap::new(), manifest }
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

    /// The ranges of `_id`, as Int64.
    pub fn ids(&self) -> &ColumnStatistics {
        &self.ids
    }

    /// The ranges of `_updated` in nanoseconds, as Int64.
    pub fn updated(&self) -> &ColumnStatistics {
        &self.updated
    }

    /// The ranges of `_deleted`, as Boolean.
    pub fn deleted(&self) -> &ColumnStatistics {
        &self.deleted
    }

    /// The ranges of a column, in its type of today; `None` if the type has none. `versions` are the columns of every
    /// schema version of the table, `missing` is what rows read that are older than the column: NULL if `None`.
    ///
    /// A batch of a type whose values compare otherwise is unknown. Made once and kept.
    pub fn column(
        &self,
        column: ColumnId,
        column_type: ColumnType,
        versions: &BTreeMap<SchemaVersion, Columns>,
        missing: Option<&ArrayRef>,
    ) -> Option<ColumnStatistics> {
        if !column_type.is_comparable() {
            return None;
        }
        if let Some(made) = self.columns.get(&(column, column_type)) {
            return Some(made.clone());
        }
        let known: Vec<Known<'_>> =
            (0..self.len()).map(|place| self.known(place, column, column_type, versions)).collect();
        let made = self.gather(&known, column_type, missing.filter(|value| value.is_valid(0)))?;
        self.columns.insert((column, column_type), made.clone());
        Some(made)
    }

    /// What is known of a column in a batch.
    fn known(
        &self,
        place: usize,
        column: ColumnId,
        now: ColumnType,
        versions: &BTreeMap<SchemaVersion, Columns>,
    ) -> Known<'_> {
        let batch = self.batch(place);
        let Some(columns) = versions.get(&batch.schema_version) else { return Known::Nothing };
        let Some(then) = columns.iter().find(|then| then.id == column) else { return Known::Absent };
        let conversion = conversion(then.column_type, now);
        match batch.columns.get(&column).zip(conversion) {
            Some((range, conversion)) => Known::Range { range, then: then.column_type, conversion },
            None => Known::Nothing,
        }
    }

    fn gather(&self, known: &[Known<'_>], now: ColumnType, missing: Option<&ArrayRef>) -> Option<ColumnStatistics> {
        let null_count = |(place, known): (usize, &Known<'_>)| match known {
            Known::Nothing | Known::Range { conversion: Conversion::Partial, .. } => None,
            Known::Absent if missing.is_some() => Some(0),
            Known::Absent => Some(self.row_counts.value(place)),
            Known::Range { range, conversion: Conversion::Total, .. } => Some(range.null_count),
        };
        Some(ColumnStatistics {
            mins: side(known, now, missing, |range| range.min.as_ref())?,
            maxes: side(known, now, missing, |range| range.max.as_ref())?,
            null_counts: Arc::new(known.iter().enumerate().map(null_count).collect::<UInt64Array>()),
        })
    }
}

/// What a manifest knows of a column in one batch.
enum Known<'a> {
    /// Nothing that can be used.
    Nothing,
    /// The batch is older than the column.
    Absent,
    /// A range of values of type `then`.
    Range { range: &'a ColumnRange, then: ColumnType, conversion: Conversion },
}

/// How values of an earlier type become values of the type of today, in the same order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Conversion {
    /// Every value converts.
    Total,
    /// What does not convert reads as NULL, so that the number of NULLs is not known.
    Partial,
}

/// Whether bounds of a column of type `then` are bounds of its values read as type `now`.
fn conversion(then: ColumnType, now: ColumnType) -> Option<Conversion> {
    use ColumnType::{BigInt, Date, DateTime, Decimal, Double, Float, Int, SmallInt, Timestamp};
    let width = |column_type| match column_type {
        SmallInt => 16,
        Int => 32,
        _ => 64,
    };
    match (then, now) {
        (then, now) if then == now => Some(Conversion::Total),
        (SmallInt | Int | BigInt, SmallInt | Int | BigInt) if width(then) <= width(now) => Some(Conversion::Total),
        (SmallInt | Int | BigInt, Float | Double) | (Float, Double) | (Timestamp, DateTime) | (DateTime, Timestamp) => {
            Some(Conversion::Total)
        }
        (SmallInt | Int | BigInt | Float | Double | Decimal(..), SmallInt | Int | BigInt)
        | (SmallInt | Int | BigInt | Decimal(..), Decimal(..))
        | (Double | Decimal(..), Float)
        | (Decimal(..), Double)
        | (Date, Timestamp | DateTime) => Some(Conversion::Partial),
        _ => None,
    }
}

/// One side of the ranges of all batches, in the type of today.
fn side(
    known: &[Known<'_>],
    now: ColumnType,
    missing: Option<&ArrayRef>,
    of: fn(&ColumnRange) -> Option<&Bound>,
) -> Option<ArrayRef> {
    let mut types: Vec<ColumnType> = Vec::new();
    let bound_if = |known: &Known<'_>, wanted: ColumnType| match known {
        Known::Range { range, then, .. } if *then == wanted => of(range).cloned(),
        _ => None,
    };
    // For each batch, which of the sources below, and which row of it.
    let mut picked = Vec::with_capacity(known.len());
    for (place, known) in known.iter().enumerate() {
        picked.push(match known {
            Known::Nothing => (0, 0),
            Known::Absent => (1, 0),
            Known::Range { then, .. } => {
                let at = types.iter().position(|known| known == then).unwrap_or_else(|| {
                    types.push(*then);
                    types.len() - 1
                });
                (at + 2, place)
            }
        });
    }
    let unknown = new_null_array(&now.arrow(), 1);
    let mut sources = vec![Arc::clone(&unknown), missing.map_or(unknown, Arc::clone)];
    let lenient = CastOptions { safe: true, ..CastOptions::default() };
    for then in types {
        let bounds: Vec<Option<Bound>> = known.iter().map(|known| bound_if(known, then)).collect();
        let bounds = bounds_of(then, bounds.iter().map(Option::as_ref));
        sources.push(cast_with_options(&bounds, &now.arrow(), &lenient).ok()?);
    }
    let sources: Vec<&dyn Array> = sources.iter().map(|source| &**source).collect();
    interleave(&sources, &picked).ok()
}

/// The first of `0..len` of which something that holds for a beginning does not.
fn partition_point(len: usize, holds: impl Fn(usize) -> bool) -> usize {
    let (mut low, mut high) = (0, len);
    while low < high {
        let middle = low + (high - low) / 2;
        if holds(middle) { low = middle + 1 } else { high = middle }
    }
    low
}

/// The array of one side of the ranges. A bound that is not one of the type's is as good as none.
fn bounds_of<'a>(column_type: ColumnType, bounds: impl Iterator<Item = Option<&'a Bound>>) -> ArrayRef {
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
            values
                .with_precision_and_scale(precision, scale)
                .map_or_else(|_| new_null_array(&column_type.arrow(), nulls), |values| Arc::new(values) as ArrayRef)
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
