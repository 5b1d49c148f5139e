use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray, Float64Array, RecordBatch, StringArray, UInt32Array};
use arrow::compute::{concat_batches, take_record_batch};
use futures::TryStreamExt;
use kalamdb_commons::ErrorKind;
use kalamdb_commons::ids::{ColumnId, RowId};
use kalamdb_commons::manifest::Batch;
use kalamdb_commons::schema::{Columns, Compression};
use kalamdb_commons::types::ColumnType;
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use proptest::prelude::*;

use super::*;
use crate::Sought;
use crate::batch::BatchMeta;
use crate::testing::*;

fn counters() -> Arc<IoCounters> {
    Arc::default()
}

/// A file with its rows, on a storage.
struct Written {
    world: World,
    spec: crate::PartitionSpec,
    entry: Batch,
    rows: RecordBatch,
}

impl Written {
    async fn new(storage: &str, meta: BatchMeta, seed: u64, n: usize) -> Self {
        let (world, spec) = (World::new(), spec(storage, 1));
        let made = some_rows(seed, n, meta.from.0, meta.through.0);
        let rows = rows(&meta.columns, seed, &made);
        let entry = write(&world.storage(storage), &spec, 1, meta, &rows).await;
        Self { world, spec, entry, rows }
    }

    fn storage_id(&self) -> &str {
        self.spec.storage.as_str()
    }

    fn open(&self) -> Arc<BatchFile> {
        BatchFile::open(&self.world.storage(self.storage_id()), self.spec.path().as_str(), &self.entry)
    }

    fn path(&self) -> String {
        self.spec.path().file(&self.entry.path)
    }

    fn column(&self, place: usize) -> ArrayRef {
        Arc::clone(self.rows.column(place))
    }
}

/// Every column, in the order of the file.
fn everything(columns: &Columns) -> Vec<BatchColumn> {
    let mut all = vec![BatchColumn::Id];
    all.extend(columns.iter().map(|column| BatchColumn::Column(column.id)));
    all.extend([BatchColumn::Updated, BatchColumn::Deleted, BatchColumn::Born]);
    all
}

#[tokio::test]
async fn rows_come_back_as_they_were_written() {
    let columns = all_columns();
    for storage in STORAGES {
        for compression in [Compression::None, Compression::Snappy, Compression::Lz4, Compression::Zstd] {
            for n in [0, 1, 99, 100, 101, 357] {
                let meta = BatchMeta { compression, ..meta(&columns, 0, 5000) };
                let written = Written::new(storage, meta, n as u64, n).await;
                let (file, counters) = (written.open(), counters());
                let stream = ParquetRecordBatchStreamBuilder::new(file.reader(&counters)).await.unwrap();
                assert_eq!(stream.metadata().num_row_groups(), n.div_ceil(100));
                let read: Vec<RecordBatch> = stream.build().unwrap().try_collect().await.unwrap();
                let total: usize = read.iter().map(RecordBatch::num_rows).sum();
                assert_eq!(total, n);
                if let Some(first) = read.first() {
                    let whole = concat_batches(&first.schema(), &read).unwrap();
                    assert_eq!(whole.columns(), written.rows.columns());
                }
                let all: Vec<u32> = (0..n as u32).collect();
                let at = file.rows_at(&all, &everything(&columns), &counters).await.unwrap();
                assert_eq!(at, written.rows);
            }
        }
    }
}

#[tokio::test]
async fn files_name_columns_by_id() {
    let written = Written::new("local", meta(&all_columns(), 0, 50), 1, 5).await;
    let metadata = written.open().metadata(&counters()).await.unwrap();
    let fields = metadata.file_metadata().schema_descr().root_schema().get_fields().to_vec();
    let ids: Vec<_> = fields.iter().filter(|f| f.get_basic_info().has_id()).map(|f| f.get_basic_info().id()).collect();
    let wanted: Vec<_> = all_columns().iter().map(|column| column.id.0 as i32).collect();
    assert_eq!(ids, wanted);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn rows_at_positions_are_those_rows(seed in any::<u64>(), n in 1usize..400, keep in 1u64..40) {
        runtime().block_on(async {
            let columns = all_columns();
            let written = Written::new("local", meta(&columns, 0, 900), seed, n).await;
            let positions: Vec<u32> = (0..n as u32).filter(|at| mix(seed, u64::from(*at), 7).is_multiple_of(keep)).collect();
            let projection = [BatchColumn::Born, BatchColumn::Column(columns[6].id), BatchColumn::Id, BatchColumn::Column(columns[0].id)];
            let got = written.open().rows_at(&positions, &projection, &counters()).await.unwrap();
            let end = columns.len() + 3;
            let wanted = take_record_batch(&written.rows, &UInt32Array::from(positions)).unwrap();
            prop_assert_eq!(&got, &wanted.project(&[end, 7, 0, 1]).unwrap());
            Ok(())
        })?;
    }

    #[test]
    fn ids_are_found_where_they_are(seed in any::<u64>(), n in 0usize..500, step in 1usize..50, from_memory in any::<bool>()) {
        runtime().block_on(async {
            let written = Written::new("local", meta(&small_columns(), 0, 900), seed, n).await;
            let file = written.open();
            let ids = written.column(0);
            let ids = ids.as_any().downcast_ref::<arrow::array::Int64Array>().unwrap().values().to_vec();
            let asked: Vec<RowId> = (-10..ids.last().copied().unwrap_or(0) + 10).step_by(step).map(RowId).collect();
            let wanted: Vec<_> = asked.iter().map(|id| ids.binary_search(&id.0).ok().map(|at| at as u32)).collect();
            if from_memory {
                file.positions_of_ids(&ids.iter().step_by(30).copied().map(RowId).collect::<Vec<_>>(), &counters()).await.unwrap();
            }
            prop_assert_eq!(file.positions_of_ids(&asked, &counters()).await.unwrap(), wanted);
            Ok(())
        })?;
    }

    #[test]
    fn keys_are_found_where_they_are(seed in any::<u64>(), n in 0usize..400, asked in 1usize..150, few in any::<bool>()) {
        runtime().block_on(async {
            let columns = all_columns();
            let keyable: Vec<_> = columns.iter().filter(|column| column.column_type.can_be_key()).collect();
            let pick = |at: u64| keyable[mix(seed, at, 11) as usize % keyable.len()];
            // A key of one column, one of two, and one that the file has no index for.
            let keys = [vec![pick(0).id], vec![pick(1).id, pick(2).id], vec![pick(3).id, pick(4).id]];
            let meta = BatchMeta { unique_keys: keys[..2].to_vec(), fpp: if few { 0.0 } else { 0.3 }, ..meta(&columns, 0, 900) };
            let written = Written::new("local", meta, seed, n).await;
            let file = written.open();
            let asked = if few { asked.min(20) } else { asked };
            for key in &keys {
                let there: Vec<ArrayRef> = key.iter().map(|id| written.column(file_place(&columns, *id))).collect();
                // Half of what is asked for comes from the file, half is made up.
                let made_up = rows(&columns, seed ^ 1, &some_rows(seed ^ 1, asked, 0, 900));
                let from: Vec<ArrayRef> = key.iter().enumerate().map(|(at, id)| {
                    let strange = made_up.column(file_place(&columns, *id)).slice(0, asked / 2);
                    let step = (n / asked.div_ceil(2)).max(1);
                    let known = UInt32Array::from_iter_values((0..n as u32).step_by(step));
                    let known = arrow::compute::take(&there[at], &known, None).unwrap();
                    arrow::compute::concat(&[&strange, &known]).unwrap()
                }).collect();
                let mut found = file.find_keys(key, &from, &counters()).await.unwrap();
                found.sort();
                prop_assert_eq!(found, brute_force(&there, &from));
            }
            Ok(())
        })?;
    }

    #[test]
    fn bloom_filters_never_deny_what_is_there(seed in any::<u64>(), n in 1usize..300) {
        runtime().block_on(async {
            let columns = all_columns();
            let bloom_columns = columns.iter().map(|column| column.id).collect();
            let written = Written::new("local", BatchMeta { bloom_columns, ..meta(&columns, 0, 900) }, seed, n).await;
            let file = written.open();
            for (place, column) in everything(&columns).into_iter().enumerate().take(columns.len() + 1) {
                let values = written.column(place);
                for row in 0..n {
                    let may = file.may_contain(column, &sought(&values.slice(row, 1)), &counters()).await.unwrap();
                    prop_assert!(may || values.is_null(row), "{:?} {:?}", column, values.slice(row, 1));
                }
            }
            Ok(())
        })?;
    }
}

fn sought(values: &ArrayRef) -> Sought {
    Sought::new(values).unwrap()
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_current_thread().build().unwrap()
}

fn file_place(columns: &Columns, id: ColumnId) -> usize {
    crate::batch::column_index(columns, BatchColumn::Column(id)).unwrap()
}

/// Every pair of a row asked for and a position with equal, non-NULL values.
fn brute_force(there: &[ArrayRef], asked: &[ArrayRef]) -> Vec<(usize, u32)> {
    let text = |arrays: &[ArrayRef], row: usize| -> Option<Vec<String>> {
        arrays.iter().map(|array| array.is_valid(row).then(|| format!("{:?}", array.slice(row, 1)))).collect()
    };
    let mut pairs = Vec::new();
    for row in 0..asked[0].len() {
        let Some(key) = text(asked, row) else { continue };
        pairs.extend(
            (0..there[0].len()).filter(|at| text(there, *at).as_ref() == Some(&key)).map(|at| (row, at as u32)),
        );
    }
    pairs
}

#[tokio::test]
async fn bloom_filters_deny_what_is_not_there() {
    let columns: Columns = [column(1, "a", ColumnType::Text, false), column(2, "b", ColumnType::BigInt, false)].into();
    let keys = vec![vec![ColumnId(1)], vec![ColumnId(1), ColumnId(2)]];
    let meta =
        BatchMeta { unique_keys: keys.clone(), row_group_rows: 4096, expected_rows: 5000, ..meta(&columns, 0, 900) };
    let written = Written::new("local", meta, 3, 5000).await;
    let (file, counters) = (written.open(), counters());
    let strangers = rows(&columns, 77, &some_rows(5, 20_000, 0, 900));
    let both = [Arc::clone(strangers.column(1)), Arc::clone(strangers.column(2))];
    // Unique keys: at most 1 in 10 000 for each of two row groups, or for the key as a whole (FR-056).
    let alone = file.keys_that_may_exist(&keys[0], &both[..1], &counters).await.unwrap();
    assert!(alone.len() <= 12, "{} of 20000", alone.len());
    let pair = file.keys_that_may_exist(&keys[1], &both, &counters).await.unwrap();
    assert!(pair.len() <= 8, "{} of 20000", pair.len());
    assert_eq!(
        (counters.bloom_tests(), counters.bloom_negatives()),
        (40_000, 40_000 - (alone.len() + pair.len()) as u64)
    );
    // A key whose columns are there, but in other rows.
    let crossed = [written.column(1).slice(0, 4000), written.column(2).slice(1, 4000)];
    let crossed = file.keys_that_may_exist(&keys[1], &crossed, &counters).await.unwrap();
    assert!(crossed.len() <= 4, "{} of 4000", crossed.len());
    // `_id` at 1 %.
    let end = written.entry.max_id.unwrap().0;
    let ids: ArrayRef = Arc::new(arrow::array::Int64Array::from_iter_values(end + 1..end + 20_001));
    let mut may = 0;
    for row in 0..2000 {
        may += u32::from(file.may_contain(BatchColumn::Id, &sought(&ids.slice(row, 1)), &counters).await.unwrap());
    }
    assert!(may < 80, "{may} of 2000");
    let null: ArrayRef = Arc::new(StringArray::from(vec![None::<&str>]));
    assert!(file.keys_that_may_exist(&keys[0], &[null], &counters).await.unwrap().is_empty());
}

#[tokio::test]
async fn zeros_and_booleans_are_not_denied() {
    let columns: Columns = [column(1, "d", ColumnType::Double, true), column(2, "b", ColumnType::Boolean, true)].into();
    let meta = BatchMeta { bloom_columns: vec![ColumnId(1), ColumnId(2)], ..meta(&columns, 0, 9) };
    let world = World::new();
    let spec = spec("local", 1);
    let template = rows(&columns, 1, &[Row { id: 1, updated: 5, deleted: false, born: 5 }]);
    let mut arrays = template.columns().to_vec();
    arrays[1] = Arc::new(Float64Array::from(vec![0.0]));
    arrays[2] = Arc::new(BooleanArray::from(vec![true]));
    let row = RecordBatch::try_new(template.schema(), arrays).unwrap();
    let entry = write(&world.storage("local"), &spec, 1, meta, &row).await;
    let file = BatchFile::open(&world.storage("local"), spec.path().as_str(), &entry);
    for zero in [0.0, -0.0] {
        let zero: ArrayRef = Arc::new(Float64Array::from(vec![zero]));
        assert!(file.may_contain(BatchColumn::Column(ColumnId(1)), &sought(&zero), &counters()).await.unwrap());
    }
    let no: ArrayRef = Arc::new(BooleanArray::from(vec![false]));
    assert!(file.may_contain(BatchColumn::Column(ColumnId(2)), &sought(&no), &counters()).await.unwrap());
}

#[tokio::test]
async fn lookups_read_a_page_and_then_nothing() {
    let columns = small_columns();
    let key = vec![ColumnId(1)];
    let wide = BatchMeta {
        unique_keys: vec![key.clone()],
        row_group_rows: 100_000,
        page_rows: 1024,
        expected_rows: 60_000,
        ..meta(&columns, 0, 900)
    };
    for storage in STORAGES {
        let written = Written::new(storage, wide.clone(), 3, 60_000).await;
        let file = written.open();
        let opening = counters();
        file.footer(&opening).await.unwrap();
        assert_eq!(opening.requests(), 1, "the footer is in the first read");
        let id = RowId(written.column(0).as_any().downcast_ref::<arrow::array::Int64Array>().unwrap().value(33_000));
        let first = counters();
        assert_eq!(file.positions_of_ids(&[id], &first).await.unwrap(), [Some(33_000)]);
        assert_eq!(first.requests(), 1);
        assert!(first.bytes() < 16_384, "{} bytes for one page of ids", first.bytes());
        let again = counters();
        assert_eq!(file.positions_of_ids(&[id], &again).await.unwrap(), [Some(33_000)]);
        assert_eq!((again.requests(), again.bytes()), (0, 0));
        let value = [written.column(1).slice(44_000, 1)];
        let first = counters();
        assert_eq!(file.find_key(&key, &value, &first).await.unwrap(), [44_000]);
        let again = counters();
        assert_eq!(file.find_key(&key, &value, &again).await.unwrap(), [44_000]);
        assert_eq!(again.requests(), 2, "a bucket and a page; filter and directory are in memory");
        assert!(again.bytes() < 100_000, "{}", again.bytes());
        let stranger: [ArrayRef; 1] = [Arc::new(StringArray::from(vec!["nobody"]))];
        let denied = counters();
        assert!(file.find_key(&key, &stranger, &denied).await.unwrap().is_empty());
        assert_eq!((denied.requests(), denied.bloom_negatives()), (0, 1));
        let row = counters();
        file.rows_at(&[12_345], &everything(&columns), &row).await.unwrap();
        assert!(row.requests() <= 5);
        if storage == "local" {
            assert!(row.bytes() < 150_000, "{} bytes for one row", row.bytes());
        }
    }
}

#[tokio::test]
async fn questions_that_make_no_sense_are_refused() {
    let written = Written::new("local", meta(&small_columns(), 0, 900), 1, 50).await;
    let (file, counters) = (written.open(), counters());
    let text: ArrayRef = Arc::new(StringArray::from(vec!["x"]));
    let number: ArrayRef = Arc::new(Float64Array::from(vec![1.0]));
    let internal = |error: Error| assert_eq!(error.kind(), ErrorKind::Internal, "{error}");
    internal(file.rows_at(&[1], &[BatchColumn::Column(ColumnId(9))], &counters).await.unwrap_err());
    internal(file.rows_at(&[50], &[BatchColumn::Id], &counters).await.unwrap_err());
    internal(file.rows_at(&[3, 2], &[BatchColumn::Id], &counters).await.unwrap_err());
    internal(file.rows_at(&[3, 3], &[BatchColumn::Id], &counters).await.unwrap_err());
    internal(file.find_key(&[ColumnId(9)], std::slice::from_ref(&text), &counters).await.unwrap_err());
    internal(file.find_key(&[ColumnId(1)], &[number], &counters).await.unwrap_err());
    internal(file.find_key(&[ColumnId(1), ColumnId(1)], &[text], &counters).await.unwrap_err());
    assert_eq!(file.rows_at(&[1, 2], &[], &counters).await.unwrap().num_rows(), 2);
    assert_eq!(file.rows_at(&[], &[BatchColumn::Id], &counters).await.unwrap().num_rows(), 0);
}

#[tokio::test]
async fn damaged_files_are_corrupt_and_named() {
    for storage in STORAGES {
        let written = Written::new(storage, meta(&small_columns(), 0, 900), 1, 300).await;
        let path = written.path();
        let good = {
            let mut kept = Vec::new();
            written
                .world
                .damage(storage, &path, |bytes| {
                    kept.clone_from(&bytes);
                    Some(bytes)
                })
                .await;
            kept
        };
        let cases: Vec<Option<Vec<u8>>> = vec![
            None,
            Some(Vec::new()),
            Some(good[..good.len() - 1].to_vec()),
            Some(good[..100].to_vec()),
            Some(vec![0; good.len()]),
        ];
        for case in cases {
            let shown = case.as_ref().map(Vec::len);
            written.world.damage(storage, &path, |_| case).await;
            let fresh = written.world.reopened().get(&written.spec.storage).unwrap();
            let file = BatchFile::open(&fresh, written.spec.path().as_str(), &written.entry);
            let error = file.footer(&counters()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{storage} {shown:?} {error}");
            assert!(error.message().contains("batch-0001.parquet"), "{error}");
            assert!(!error.message().contains(written.world.directory.path().to_str().unwrap()), "{error}");
        }
    }
}

#[tokio::test]
async fn a_file_that_is_not_the_manifests_is_corrupt() {
    let written = Written::new("local", meta(&small_columns(), 0, 900), 1, 300).await;
    let changes: [fn(&mut Batch); 4] = [
        |entry| entry.incarnation.0 += 1,
        |entry| entry.row_count += 1,
        |entry| entry.through.0 += 1,
        |entry| entry.number += 1,
    ];
    for change in changes {
        let mut entry = written.entry.clone();
        change(&mut entry);
        let fresh = written.world.reopened().get(&written.spec.storage).unwrap();
        let error =
            BatchFile::open(&fresh, written.spec.path().as_str(), &entry).footer(&counters()).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Corrupt);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// Damage anywhere is an error or goes unnoticed, and never a panic.
    #[test]
    fn no_bytes_make_reading_panic(changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6), tail in any::<bool>()) {
        use std::sync::OnceLock;
        static GOOD: OnceLock<(Written, Vec<u8>)> = OnceLock::new();
        runtime().block_on(async {
            if GOOD.get().is_none() {
                let meta = BatchMeta { unique_keys: vec![vec![ColumnId(1)]], ..meta(&small_columns(), 0, 900) };
                let written = Written::new("memory", meta, 1, 300).await;
                let mut kept = Vec::new();
                written.world.damage("memory", &written.path(), |bytes| { kept.clone_from(&bytes); Some(bytes) }).await;
                GOOD.set((written, kept)).ok();
            }
            let (written, good) = GOOD.get().unwrap();
            let mut bytes = good.clone();
            let start = if tail { bytes.len() * 2 / 3 } else { 0 };
            for (at, byte) in changes {
                let at = start + at.index(bytes.len() - start);
                bytes[at] ^= byte;
            }
            let world = World::new();
            world.damage("memory", &written.path(), |_| Some(bytes)).await;
            let file = BatchFile::open(&world.storage("memory"), written.spec.path().as_str(), &written.entry);
            let counters = counters();
            let ids: Vec<_> = (0..900).step_by(13).map(RowId).collect();
            file.positions_of_ids(&ids, &counters).await.ok();
            file.find_keys(&[ColumnId(1)], &[written.column(1).slice(0, 50)], &counters).await.ok();
            file.rows_at(&[5, 250], &everything(&small_columns()), &counters).await.ok();
        });
    }
}

#[tokio::test]
async fn whoever_opens_a_file_gets_the_same_one() {
    let written = Written::new("local", meta(&small_columns(), 0, 900), 1, 30).await;
    let (one, two) = (written.open(), written.open());
    assert!(Arc::ptr_eq(&one, &two));
    let storage = written.world.storage("local");
    let key = file_key(storage.id(), &written.path());
    drop(one);
    assert!(storage.caches.is_open(key));
    drop(two);
    assert!(!storage.caches.is_open(key) && storage.caches.open.is_empty());
}
