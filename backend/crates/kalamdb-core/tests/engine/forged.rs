//! CHECK TABLE finds batch files whose rows contradict each other, their footer or the other tier, although every file is
//! sound in itself: their rows are taken out, changed, and put back as the writer would never have written them.

use std::fs::File;
use std::sync::Arc;

use arrow::array::{ArrayRef, AsArray, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use arrow::compute::concat_batches;
use arrow::datatypes::{Int64Type, TimestampNanosecondType};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use kalamdb_commons::manifest::MANIFEST_FILE;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::arrow_writer::ArrowWriterOptions;
use parquet::file::metadata::KeyValue;
use roaring::RoaringBitmap;

use crate::db::{Db, Said};

const CHECK: &str = "CHECK TABLE app.t";
const REPAIR: &str = "CHECK TABLE app.t REPAIR";
/// Longer than a manifest is believed without asking the storage.
const TTL_NS: i64 = 3_600_000_000_000;

/// The rows of a batch of `t`, in their order, and what its footer says of them. Of the columns of the file, `n` is left
/// alone.
struct Contents {
    ids: Vec<i64>,
    words: Vec<Option<String>>,
    updated: Vec<i64>,
    deleted: Vec<bool>,
    born: Vec<i64>,
    superseding: RoaringBitmap,
}

impl Contents {
    fn of(rows: &RecordBatch) -> Self {
        let ids = rows.column(0).as_primitive::<Int64Type>().values().to_vec();
        let words = rows.column(2).as_string::<i32>().iter().map(|word| word.map(ToOwned::to_owned)).collect();
        let updated = rows.column(3).as_primitive::<TimestampNanosecondType>().values().to_vec();
        let deleted = rows.column(4).as_boolean().iter().map(Option::unwrap).collect();
        let born = rows.column(5).as_primitive::<Int64Type>().values().to_vec();
        Self { ids, words, updated, deleted, born, superseding: RoaringBitmap::new() }
    }

    fn into_rows(self, was: &RecordBatch) -> RecordBatch {
        let updated = TimestampNanosecondArray::from(self.updated).with_data_type(was.column(3).data_type().clone());
        let columns: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(self.ids)),
            was.column(1).clone(),
            Arc::new(StringArray::from(self.words)),
            Arc::new(updated),
            Arc::new(BooleanArray::from(self.deleted)),
            Arc::new(Int64Array::from(self.born)),
        ];
        RecordBatch::try_new(was.schema(), columns).unwrap()
    }
}

/// Writes batch `number` of the partition anew, with other rows, and a footer and a manifest that say how many of them
/// supersede and how large the file is. It has no index of keys.
fn rewrite(db: &Db, number: usize, change: impl FnOnce(&mut Contents)) {
    let directory = db.partition("t", "shared");
    let path = directory.join(format!("batch-{number:04}.parquet"));
    let reader = ParquetRecordBatchReaderBuilder::try_new(File::open(&path).unwrap()).unwrap();
    let mut pairs = reader.metadata().file_metadata().key_value_metadata().unwrap().clone();
    let schema = reader.schema().clone();
    let batches: Vec<RecordBatch> = reader.build().unwrap().map(Result::unwrap).collect();
    let rows = concat_batches(&schema, &batches).unwrap();
    let value = |pairs: &mut Vec<KeyValue>, key: &str| {
        let pair = pairs.iter_mut().find(|pair| pair.key == key).unwrap();
        std::mem::take(pair.value.as_mut().unwrap())
    };
    let mut contents = Contents::of(&rows);
    let bitmap = BASE64.decode(value(&mut pairs, "kalamdb.superseding")).unwrap();
    contents.superseding = RoaringBitmap::deserialize_from(&bitmap[..]).unwrap();
    change(&mut contents);

    let superseding = contents.superseding.clone();
    let mut bitmap = Vec::new();
    superseding.serialize_into(&mut bitmap).unwrap();
    let mut about: serde_json::Value = serde_json::from_str(&value(&mut pairs, "kalamdb.batch")).unwrap();
    about["keys"] = serde_json::json!([]);
    about["entry"]["superseding_count"] = superseding.len().into();
    let options = ArrowWriterOptions::new().with_skip_arrow_metadata(true);
    let mut writer = ArrowWriter::try_new_with_options(File::create(&path).unwrap(), schema, options).unwrap();
    writer.write(&contents.into_rows(&rows)).unwrap();
    for mut pair in pairs {
        match pair.key.as_str() {
            "kalamdb.superseding" => pair.value = Some(BASE64.encode(&bitmap)),
            "kalamdb.batch" => pair.value = Some(about.to_string()),
            _ => {}
        }
        writer.append_key_value_metadata(pair);
    }
    writer.close().unwrap();

    let mut manifest = db.manifest("t", "shared");
    manifest.batches[number - 1].superseding_count = superseding.len();
    manifest.batches[number - 1].byte_size = std::fs::metadata(&path).unwrap().len();
    std::fs::write(directory.join(MANIFEST_FILE), serde_json::to_vec(&manifest).unwrap()).unwrap();
}

/// Three rows in the first batch. In the second, the second of them changed, the third deleted, and a new one.
async fn history(batches: usize) -> Db {
    let db = Db::with(|settings| settings.compaction.automatic = false).await;
    db.said("CREATE NAMESPACE app").await;
    db.said("CREATE SHARED TABLE app.t (n INT, word TEXT UNIQUE)").await;
    db.count("INSERT INTO t VALUES (1, 'a'), (2, 'b'), (3, 'c')").await;
    db.flush("app.t").await;
    if batches == 2 {
        db.count("UPDATE t SET n = 20 WHERE n = 2").await;
        db.count("DELETE FROM t WHERE n = 3").await;
        db.count("INSERT INTO t VALUES (4, 'd')").await;
        db.flush("app.t").await;
    }
    db
}

/// The database with a batch rewritten while it was closed.
async fn forged(db: Db, number: usize, change: impl FnOnce(&mut Contents)) -> Db {
    db.engine.close().await.unwrap();
    rewrite(&db, number, change);
    db.clock.step(TTL_NS);
    db.reopened().await
}

/// What CHECK TABLE says of each file, without the ids of rows.
async fn problems(db: &Db, sql: &str) -> Vec<String> {
    let Said::Rows(rows) = db.said(sql).await else { panic!("{sql} has no rows") };
    let without_id =
        |word: &str| if word.len() > 15 && word.parse::<i64>().is_ok() { "#".to_owned() } else { word.to_owned() };
    let told = rows.into_iter().map(|row| {
        assert_eq!((row[0].as_str(), row[3].as_str()), ("shared", "false"), "{row:?}");
        let problem: Vec<String> = row[2].split(' ').map(without_id).collect();
        format!("{}: {}", row[1], problem.join(" "))
    });
    told.collect()
}

/// Asserts that CHECK TABLE says exactly this, and that REPAIR says it too and leaves the files as they are.
async fn assert_found(db: &Db, expected: &[&str]) {
    assert_eq!(problems(db, CHECK).await, expected);
    let contents = |db: &Db| {
        let directory = db.partition("t", "shared");
        db.files("t", "shared").into_iter().map(|name| std::fs::read(directory.join(name)).unwrap()).collect::<Vec<_>>()
    };
    let before = contents(db);
    assert_eq!(problems(db, REPAIR).await, expected);
    assert_eq!(contents(db), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_back_as_it_was_is_sound() {
    let db = forged(history(2).await, 2, |_| {}).await;
    let db = forged(db, 1, |_| {}).await;
    assert_eq!(db.lines(CHECK).await, ["shared|NULL|ok: 2 batches, 6 rows in them|NULL"]);
    assert_eq!(db.lines("SELECT n, word FROM t ORDER BY n").await, ["1|a", "4|d", "20|b"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn ids_that_do_not_grow_are_found() {
    let db = forged(history(1).await, 1, |rows| rows.ids.swap(0, 1)).await;
    assert_found(&db, &["batch-0001.parquet: row # at 1: ids do not grow"]).await;
    let db = forged(history(1).await, 1, |rows| rows.ids[2] = rows.ids[1]).await;
    assert_found(&db, &["batch-0001.parquet: row # at 2: ids do not grow"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn commit_times_outside_of_the_interval_are_found() {
    let db = history(2).await;
    let through = db.manifest("t", "shared").batches[0].through.0;
    let db = forged(db, 1, |rows| rows.updated[1] = through + 1).await;
    assert_found(&db, &["batch-0001.parquet: row # at 1: its commit time is outside of the interval"]).await;
    // The interval begins after the last commit of the batch before.
    let db = forged(db, 1, |rows| rows.updated[1] = through).await;
    let db = forged(db, 2, |rows| rows.updated[0] = through).await;
    assert_found(&db, &["batch-0002.parquet: row # at 0: its commit time is outside of the interval"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_changed_before_they_were_born_are_found() {
    let db = forged(history(1).await, 1, |rows| rows.born[2] = rows.updated[2] + 1).await;
    assert_found(&db, &["batch-0001.parquet: row # at 2: it was changed before it was born"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_footer_that_is_wrong_about_deletions_is_found() {
    let db = forged(history(2).await, 2, |rows| rows.deleted = vec![false, false, true]).await;
    let wrong = "the footer is wrong about its deletion";
    let expected = [1, 2].map(|at| format!("batch-0002.parquet: row # at {at}: {wrong}"));
    assert_found(&db, &expected.each_ref().map(String::as_str)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_replaces_what_no_earlier_batch_holds_is_found() {
    let db = forged(history(2).await, 2, |rows| rows.born[2] = 1).await;
    assert_found(
        &db,
        &[
            "batch-0002.parquet: row # at 2: the footer is wrong about what it replaces",
            "batch-0002.parquet: 1 rows replace an older version that no earlier batch holds",
        ],
    )
    .await;
    // With a footer that says so too, the batches cannot even be read together.
    let db = forged(db, 2, |rows| assert!(rows.superseding.insert(2))).await;
    let held = "row # of batch-0002.parquet replaces an older version that no earlier batch holds";
    assert_found(&db, &[&format!("NULL: {held}")]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_held_as_new_twice_is_found() {
    let db = forged(history(2).await, 2, |rows| {
        rows.born[0] = rows.updated[0];
        assert!(rows.superseding.remove(0));
    })
    .await;
    let again = "batch-0002.parquet: 1 rows are held as new, and an earlier batch holds them too";
    assert_found(&db, &[again]).await;
    // Only the footer is wrong: the row says that it replaces one.
    let db = forged(history(2).await, 2, |rows| assert!(rows.superseding.remove(0))).await;
    assert_found(&db, &["batch-0002.parquet: row # at 0: the footer is wrong about what it replaces"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn live_rows_with_the_same_key_are_found() {
    let db = forged(history(2).await, 1, |rows| rows.words[0] = Some("b".to_owned())).await;
    assert_found(&db, &["NULL: more than one row has the same (word)"]).await;
    // Dead rows hold nothing: here the one that was deleted.
    let db = forged(history(2).await, 1, |rows| rows.words[2] = Some("a".to_owned())).await;
    assert_eq!(db.lines(CHECK).await, ["shared|NULL|ok: 2 batches, 6 rows in them|NULL"]);
    // And NULL is equal to nothing.
    let db = forged(history(1).await, 1, |rows| rows.words.fill(None)).await;
    assert_eq!(db.lines(CHECK).await, ["shared|NULL|ok: 1 batches, 3 rows in them|NULL"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_that_is_in_both_tiers_is_found() {
    let db = history(2).await;
    db.count("INSERT INTO t VALUES (5, 'e')").await;
    let hot = db.number("SELECT _id FROM t WHERE n = 5").await;
    let db = forged(db, 2, |rows| rows.ids[2] = hot).await;
    assert_found(&db, &["NULL: more than one row has the same (_id)"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_batch_that_is_wrong_throughout_the_first_problems_are_told() {
    let db = Db::new().await;
    db.said("CREATE NAMESPACE app; CREATE SHARED TABLE app.t (n INT, word TEXT)").await;
    db.count("INSERT INTO t SELECT value, NULL FROM generate_series(1, 50)").await;
    db.flush("app.t").await;
    let db = forged(db, 1, |rows| rows.deleted.fill(true)).await;
    let found = problems(&db, CHECK).await;
    assert_eq!(found.len(), 20, "{found:?}");
    assert_eq!(found[19], "batch-0001.parquet: row # at 19: the footer is wrong about its deletion");
}
