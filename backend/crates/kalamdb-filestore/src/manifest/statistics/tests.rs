use kalamdb_commons::ids::{CommitTime, RowId};
use kalamdb_commons::manifest::{Batch, BatchStatus};
use proptest::prelude::*;

use super::*;
use crate::testing::*;

/// Statistics of files that were written, with their rows.
async fn written(n: u64, columns: &Columns) -> (BatchStatistics, Vec<arrow::array::RecordBatch>) {
    let world = World::new();
    let service = service(&world.storages);
    let spec = spec("memory", 1);
    let mut loaded = service.load(&spec, None).await.unwrap();
    let mut all = Vec::new();
    for number in 1..=n {
        let (from, through) = ((number as i64 - 1) * 100, number as i64 * 100);
        let made = rows(columns, number, &some_rows(number, 1 + (number as usize * 7) % 40, from, through));
        let batch = write(&world.storage("memory"), &spec, number, meta(columns, from, through), &made).await;
        let edit = crate::Edit { add: vec![batch], flushed_through: CommitTime(through), ..Default::default() };
        loaded = service.publish(&spec, &loaded, edit).await.unwrap();
        all.push(made);
    }
    (BatchStatistics::new(loaded.manifest), all)
}

#[tokio::test]
async fn pruning_keeps_every_batch_that_holds_the_value() {
    let columns = all_columns();
    let (statistics, all) = written(12, &columns).await;
    let versions = versions(&columns);
    assert_eq!((statistics.len(), statistics.is_empty()), (12, false));
    let counts: Vec<u64> = statistics.row_counts().values().to_vec();
    assert_eq!(counts, all.iter().map(|rows| rows.num_rows() as u64).collect::<Vec<_>>());
    for (place, rows) in all.iter().enumerate() {
        assert!(keeps(statistics.ids(), &rows.column(0).slice(0, 1), place));
        for (at, column) in columns.iter().enumerate() {
            let Some(made) = statistics.column(column.id, column.column_type, &versions, None) else { continue };
            for row in (0..rows.num_rows()).filter(|row| rows.column(at + 1).is_valid(*row)) {
                assert!(keeps(&made, &rows.column(at + 1).slice(row, 1), place), "{column:?}");
            }
        }
    }
    let numbers = |values: &[i64]| -> ArrayRef { Arc::new(Int64Array::from(values.to_vec())) };
    let kept = |statistics: &ColumnStatistics, values: &[i64]| {
        let kept = statistics.may_hold(&numbers(values)).unwrap();
        (0..12).filter(|place| kept.value(*place)).collect::<Vec<_>>()
    };
    assert!(kept(statistics.updated(), &[101]).iter().all(|place| *place == 1));
    assert!(kept(statistics.updated(), &[1201, i64::MAX]).is_empty());
    assert!(kept(statistics.ids(), &[]).is_empty());
    assert!(kept(statistics.ids(), &[-100, 100_000]).is_empty());
}

fn keeps(statistics: &ColumnStatistics, value: &ArrayRef, place: usize) -> bool {
    statistics.may_hold(value).unwrap().value(place)
}

#[tokio::test]
async fn pruning_drops_what_is_proven_irrelevant() {
    let columns: Columns = [column(1, "n", ColumnType::SmallInt, true)].into();
    let (statistics, _) = written(3, &columns).await;
    let made = statistics.column(ColumnId(1), ColumnType::SmallInt, &versions(&columns), None).unwrap();
    let max = made.maxes.as_any().downcast_ref::<Int16Array>().unwrap();
    let greatest = (0..3).map(|at| max.value(at)).max().unwrap();
    if greatest < i16::MAX {
        let beyond: ArrayRef = Arc::new(Int16Array::from(vec![greatest + 1]));
        assert_eq!(made.may_hold(&beyond).unwrap().true_count(), 0);
    }
    assert_eq!(made.null_counts.len(), 3);
    assert!(statistics.column(ColumnId(1), ColumnType::Json, &versions(&columns), None).is_none());
}

fn one_range(then: ColumnType, min: Bound, max: Bound) -> (BatchStatistics, BTreeMap<SchemaVersion, Columns>) {
    let columns: Columns = [column(1, "c", then, true)].into();
    let range = ColumnRange { min: Some(min), max: Some(max), null_count: 3 };
    let spec = spec("local", 1);
    let batch = Batch {
        path: "batch-0001.parquet".into(),
        number: 1,
        status: BatchStatus::Active,
        from: CommitTime(0),
        through: CommitTime(10),
        min_updated: Some(CommitTime(1)),
        max_updated: Some(CommitTime(10)),
        min_id: Some(RowId(1)),
        max_id: Some(RowId(9)),
        row_count: 9,
        tombstone_count: 0,
        superseding_count: 0,
        byte_size: 1,
        schema_version: SchemaVersion(1),
        incarnation: spec.incarnation,
        columns: [(ColumnId(1), range)].into(),
    };
    let manifest = Manifest {
        version: 1,
        format_version: 1,
        generated_at: String::new(),
        max_batch: 1,
        table_id: spec.table_id,
        table: spec.table,
        incarnation: spec.incarnation,
        scope: spec.scope,
        flushed_through: CommitTime(10),
        deletions_complete_from: CommitTime(0),
        batches: vec![batch],
    };
    (BatchStatistics::new(Arc::new(manifest)), versions(&columns))
}

#[test]
fn bounds_of_a_column_that_was_retyped_are_used_if_the_order_is_the_same() {
    let int = || (Bound::Int(1), Bound::Int(5));
    let text = || (Bound::Text("1".into()), Bound::Text("5".into()));
    // Whether the bounds and the number of NULLs are known.
    let cases = [
        (ColumnType::SmallInt, int(), ColumnType::BigInt, (true, true)),
        (ColumnType::BigInt, int(), ColumnType::SmallInt, (true, false)),
        (ColumnType::Date, int(), ColumnType::Timestamp, (true, false)),
        (ColumnType::Int, int(), ColumnType::Double, (true, true)),
        (ColumnType::Decimal(10, 2), text(), ColumnType::Decimal(10, 4), (true, false)),
        (ColumnType::Decimal(10, 2), text(), ColumnType::Text, (false, false)),
        (ColumnType::Int, int(), ColumnType::Text, (false, false)),
        (ColumnType::Text, text(), ColumnType::Uuid, (false, false)),
        (ColumnType::Text, text(), ColumnType::Text, (true, true)),
    ];
    for (then, (min, max), now, (bounds, nulls)) in cases {
        let (statistics, versions) = one_range(then, min, max);
        let made = statistics.column(ColumnId(1), now, &versions, None).unwrap();
        assert_eq!(made.mins.is_valid(0), bounds, "{then} as {now}");
        assert_eq!(made.maxes.is_valid(0), bounds, "{then} as {now}");
        assert_eq!(made.null_counts.is_valid(0), nulls, "{then} as {now}");
        assert_eq!(made.mins.data_type(), &now.arrow());
    }
}

#[test]
fn a_bound_that_does_not_convert_is_unknown() {
    let (statistics, versions) = one_range(ColumnType::BigInt, Bound::Int(1), Bound::Int(1 << 40));
    let made = statistics.column(ColumnId(1), ColumnType::Int, &versions, None).unwrap();
    assert!(made.mins.is_valid(0) && made.maxes.is_null(0));
}

#[test]
fn a_batch_that_is_older_than_a_column_holds_its_default_or_null() {
    let (statistics, mut versions) = one_range(ColumnType::Int, Bound::Int(1), Bound::Int(5));
    let column_of = |id| column(id, "c", ColumnType::Int, true);
    versions.insert(SchemaVersion(2), vec![column_of(1), column_of(2), column_of(3)].into());
    let value: ArrayRef = Arc::new(Int32Array::from(vec![77]));
    let made = statistics.column(ColumnId(2), ColumnType::Int, &versions, Some(&value)).unwrap();
    assert_eq!((&made.mins, &made.maxes), (&value, &value));
    assert_eq!(made.null_counts.as_ref(), &UInt64Array::from(vec![0]) as &dyn Array);
    let made = statistics.column(ColumnId(3), ColumnType::Int, &versions, None).unwrap();
    assert!(made.mins.is_null(0) && made.maxes.is_null(0));
    assert_eq!(made.null_counts.as_ref(), &UInt64Array::from(vec![9]) as &dyn Array);
}

proptest! {
    #[test]
    fn hostile_bounds_are_as_good_as_none(bound in prop_oneof![
        any::<bool>().prop_map(Bound::Bool),
        any::<i64>().prop_map(Bound::Int),
        any::<f64>().prop_map(Bound::Float),
        ".*".prop_map(Bound::Text),
    ]) {
        for column in all_columns().iter().filter(|column| column.column_type.is_comparable()) {
            let (statistics, versions) = one_range(column.column_type, bound.clone(), bound.clone());
            let made = statistics.column(ColumnId(1), column.column_type, &versions, None).unwrap();
            prop_assert_eq!(made.mins.data_type(), &column.column_type.arrow());
        }
    }
}
