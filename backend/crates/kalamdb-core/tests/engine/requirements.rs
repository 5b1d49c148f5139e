//! The promises of the specification by their names, one test each. What is promised of files is looked up in the
//! files, and what is promised of pruning is counted.

use std::path::Path;

use arrow::datatypes::{DataType, TimeUnit};
use kalamdb_commons::clock::Clock;
use kalamdb_commons::ids::CommitTime;
use kalamdb_commons::manifest::{BatchStatus, FORMAT_VERSION, MANIFEST_FILE, Manifest, batch_file_name};
use kalamdb_commons::system_columns::{SNOWFLAKE_EPOCH_MS, node_number};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::db::{Db, Said};

const MANIFEST: &str = "manifest.json";
const ALL: &str = "SELECT id, name, n FROM t ORDER BY id";

/// A SHARED table `t` with a key, and no rows.
async fn table() -> Db {
    let db = Db::new().await;
    db.said("CREATE NAMESPACE app").await;
    db.said("CREATE SHARED TABLE app.t (id BIGINT PRIMARY KEY, name TEXT, n INT)").await;
    db
}

/// The same with three rows in the cold tier, in one batch.
async fn cold() -> Db {
    let db = table().await;
    db.count("INSERT INTO t VALUES (1, 'one', 10), (2, 'two', 20), (3, 'three', 30)").await;
    db.flush("t").await;
    db
}

/// The same with four batches of ten rows, whose keys and numbers do not overlap.
async fn four_batches() -> Db {
    let db = table().await;
    for batch in 0..4 {
        let rows: Vec<String> =
            (batch * 10..batch * 10 + 10).map(|id| format!("({id}, 'r{id}', {})", id * 100)).collect();
        db.count(&format!("INSERT INTO t VALUES {}", rows.join(", "))).await;
        db.flush("t").await;
    }
    db
}

/// A USER and a SHARED table.
async fn both_kinds() -> Db {
    let db = table().await;
    db.said("CREATE USER TABLE app.u (id BIGINT, name TEXT)").await;
    db
}

async fn seq(db: &Db, id: i64) -> i64 {
    db.number(&format!("SELECT _seq FROM t WHERE id = {id}")).await
}

fn rows_in(file: &Path) -> usize {
    let builder = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(file).unwrap()).unwrap();
    builder.build().unwrap().map(|batch| batch.unwrap().num_rows()).sum()
}

fn columns_in(file: &Path) -> Vec<String> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(std::fs::File::open(file).unwrap()).unwrap();
    builder.schema().fields().iter().map(|field| field.name().clone()).collect()
}

// Versions: FR-001 to FR-015.

#[tokio::test(flavor = "multi_thread")]
async fn fr_001_every_user_and_shared_table_has_updated_in_nanoseconds() {
    let db = both_kinds().await;
    for table in ["t", "u"] {
        let rows = db.open(Db::root(), &format!("SELECT * FROM {table}")).await;
        let field = rows.schema.field_with_name("_updated").unwrap().clone();
        assert_eq!(*field.data_type(), DataType::Timestamp(TimeUnit::Nanosecond, None), "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_002_every_user_and_shared_table_has_deleted_as_boolean() {
    let db = both_kinds().await;
    for table in ["t", "u"] {
        let rows = db.open(Db::root(), &format!("SELECT * FROM {table}")).await;
        assert_eq!(*rows.schema.field_with_name("_deleted").unwrap().data_type(), DataType::Boolean, "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_003_new_rows_are_not_deleted() {
    let db = table().await;
    db.count("INSERT INTO t VALUES (1, 'one', 1), (2, 'two', 2)").await;
    assert_eq!(db.lines("SELECT DISTINCT _deleted FROM t").await, ["false"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_004_update_looks_in_the_hot_tier_first() {
    let db = table().await;
    db.said("CREATE SHARED TABLE app.plain (n INT)").await;
    db.count("INSERT INTO plain VALUES (1)").await;
    let row = db.number("SELECT _id FROM plain").await;
    db.flush("plain").await;
    db.count("UPDATE plain SET n = 2").await;
    let stats = db.stats(&format!("UPDATE plain SET n = 3 WHERE _id = {row}")).await;
    assert_eq!((stats.hot_rows_read, stats.batches_read, stats.storage_requests), (1, 0, 0), "{stats:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_005_updating_a_hot_row_leaves_one_version_with_a_new_updated() {
    let db = table().await;
    db.count("INSERT INTO t VALUES (1, 'one', 1)").await;
    let before = seq(&db, 1).await;
    db.count("UPDATE t SET n = 2 WHERE id = 1").await;
    assert_eq!(db.lines(ALL).await, ["1|one|2"]);
    assert!(seq(&db, 1).await > before);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_006_updating_a_cold_row_adds_a_hot_version() {
    let db = cold().await;
    db.count("UPDATE t SET n = 21 WHERE id = 2").await;
    assert!(CommitTime(seq(&db, 2).await) > db.manifest("t", "shared").flushed_through);
    assert_eq!(db.files("t", "shared"), ["batch-0001.parquet", MANIFEST]);
    assert_eq!(db.lines(ALL).await, ["1|one|10", "2|two|21", "3|three|30"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_007_the_cold_file_of_an_old_version_is_never_changed() {
    let db = cold().await;
    let file = db.partition("t", "shared").join("batch-0001.parquet");
    let before = std::fs::read(&file).unwrap();
    db.count("UPDATE t SET n = 21 WHERE id = 2").await;
    db.count("DELETE FROM t WHERE id = 3").await;
    db.flush("t").await;
    let db = db.restart().await;
    db.count("UPDATE t SET n = 22 WHERE id = 2").await;
    db.flush("t").await;
    assert!(std::fs::read(&file).unwrap() == before, "batch-0001.parquet was changed");
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_008_the_next_flush_writes_the_new_version_to_a_batch_of_its_own() {
    let db = cold().await;
    db.count("UPDATE t SET n = 21 WHERE id = 2").await;
    db.flush("t").await;
    assert_eq!(rows_in(&db.partition("t", "shared").join("batch-0002.parquet")), 1);
    let manifest = db.manifest("t", "shared");
    let batch = &manifest.batches[1];
    assert_eq!((batch.row_count, batch.superseding_count, batch.tombstone_count), (1, 1, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_009_queries_over_both_tiers_return_only_the_newest_version() {
    let db = cold().await;
    db.count("UPDATE t SET n = 21 WHERE id = 2").await;
    db.flush("t").await;
    db.count("UPDATE t SET n = 22 WHERE id = 2").await;
    db.count("UPDATE t SET n = 31 WHERE id = 3").await;
    assert_eq!(db.lines(ALL).await, ["1|one|10", "2|two|22", "3|three|31"]);
    assert_eq!(db.lines("SELECT count(*), sum(n) FROM t").await, ["3|63"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_010_delete_adds_a_hot_version_that_is_deleted_with_a_new_updated() {
    let db = cold().await;
    let before = seq(&db, 2).await;
    db.count("DELETE FROM t WHERE id = 2").await;
    let deleted = db.number("SELECT _seq FROM t WHERE id = 2 AND _deleted").await;
    assert!(deleted > before && CommitTime(deleted) > db.manifest("t", "shared").flushed_through);
    assert_eq!(db.files("t", "shared"), ["batch-0001.parquet", MANIFEST]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_011_deleted_rows_are_not_in_results() {
    let db = table().await;
    db.count("INSERT INTO t VALUES (1, 'one', 10), (2, 'two', 20)").await;
    db.count("DELETE FROM t WHERE id = 2").await;
    for _ in 0..2 {
        assert_eq!(db.lines(ALL).await, ["1|one|10"]);
        assert_eq!(db.lines("SELECT name FROM t WHERE id = 2").await, Vec::<String>::new());
        assert_eq!(db.lines("SELECT count(*), max(n) FROM t").await, ["1|10"]);
        db.flush("t").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_012_three_updates_of_one_row_keep_their_order() {
    let db = cold().await;
    let mut times = vec![seq(&db, 1).await];
    for n in 1..=3 {
        db.count(&format!("UPDATE t SET n = {n} WHERE id = 1")).await;
        times.push(seq(&db, 1).await);
    }
    assert!(times.is_sorted_by(|before, after| before < after), "{times:?}");
    assert_eq!(db.lines("SELECT n FROM t WHERE id = 1").await, ["3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_013_updated_grows_strictly_though_the_clock_steps_back() {
    let db = table().await;
    let mut last = 0;
    for id in 0..6 {
        db.clock.step(-3_600_000_000_000);
        db.count(&format!("INSERT INTO t VALUES ({}, 'a', 1), ({}, 'b', 2)", 2 * id, 2 * id + 1)).await;
        let (first, second) = (seq(&db, 2 * id).await, seq(&db, 2 * id + 1).await);
        assert!(last < first && first < second, "{last} {first} {second}");
        last = second;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_013_updated_grows_over_a_restart_though_the_clock_stepped_back() {
    let db = cold().await;
    let before = db.number("SELECT max(_seq) FROM t").await;
    db.clock.step(-86_400_000_000_000);
    let db = db.restart().await;
    db.count("INSERT INTO t VALUES (4, 'four', 40)").await;
    assert!(seq(&db, 4).await > before);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_014_creating_a_table_makes_its_system_columns() {
    let db = both_kinds().await;
    assert_eq!(db.columns("SELECT * FROM t").await, ["_id", "id", "name", "n", "_updated", "_deleted"]);
    assert_eq!(db.columns("SELECT * FROM u").await, ["_id", "id", "name", "_updated", "_deleted"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_014_a_batch_file_has_the_system_columns_and_the_birth_of_each_row() {
    let db = cold().await;
    let columns = columns_in(&db.partition("t", "shared").join("batch-0001.parquet"));
    assert_eq!(columns, ["_id", "id", "name", "n", "_updated", "_deleted", "_born"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_015_delete_records_its_time_in_updated() {
    let db = cold().await;
    db.clock.step(60_000_000_000);
    let before = db.clock.now_ns();
    db.count("DELETE FROM t WHERE id = 2").await;
    let after = db.clock.now_ns();
    let deleted = db.number("SELECT _seq FROM t WHERE _deleted").await;
    assert!((before..=after).contains(&deleted), "{before} {deleted} {after}");
}

// The manifest: FR-016 to FR-030.

#[tokio::test(flavor = "multi_thread")]
async fn fr_016_each_users_partition_has_its_manifest() {
    let db = both_kinds().await;
    for user in ["alice", "bob"] {
        db.run_as(Db::user(user), "INSERT INTO u VALUES (1, 'x')", Vec::new()).await.unwrap();
    }
    db.flush("u").await;
    for scope in ["user_alice", "user_bob"] {
        assert_eq!(db.files("u", scope), ["batch-0001.parquet", MANIFEST]);
        assert_eq!(db.manifest("u", scope).batches[0].row_count, 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_017_a_shared_table_has_one_manifest() {
    let db = cold().await;
    assert_eq!(crate::db::names_in(&db.storage().join("app").join("t")), ["shared"]);
    assert_eq!(db.manifest("t", "shared").batches.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_018_the_manifest_lies_beside_the_files_that_it_names() {
    let db = four_batches().await;
    let mut named: Vec<String> = db.manifest("t", "shared").batches.iter().map(|batch| batch.path.clone()).collect();
    named.push(MANIFEST_FILE.to_owned());
    assert_eq!(db.files("t", "shared"), named);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_019_the_manifest_has_a_version_a_time_and_max_batch() {
    let db = cold().await;
    let first = db.manifest("t", "shared");
    db.count("INSERT INTO t VALUES (4, 'four', 40)").await;
    db.flush("t").await;
    let second = db.manifest("t", "shared");
    assert!(second.version > first.version);
    assert_eq!((first.max_batch, second.max_batch), (1, 2));
    assert!(first.generated_at.starts_with("2027-01-15T"), "{}", first.generated_at);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_020_a_batch_is_described_well_enough_to_be_skipped() {
    let db = cold().await;
    let text = std::fs::read(db.partition("t", "shared").join(MANIFEST)).unwrap();
    let json: serde_json::Value = serde_json::from_slice(&text).unwrap();
    let batch = &json["batches"][0];
    assert_eq!((&batch["path"], &batch["status"]), (&"batch-0001.parquet".into(), &"active".into()));
    assert_eq!((&batch["row_count"], &batch["schema_version"]), (&3.into(), &1.into()));
    let size = std::fs::metadata(db.partition("t", "shared").join("batch-0001.parquet")).unwrap().len();
    assert_eq!(batch["byte_size"], size);
    let bounds = |column: &str| (batch["columns"][column]["min"].clone(), batch["columns"][column]["max"].clone());
    assert_eq!(bounds("1"), (1.into(), 3.into()));
    assert_eq!(bounds("2"), ("one".into(), "two".into()));
    assert_eq!(bounds("3"), (10.into(), 30.into()));
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_021_a_batch_has_its_range_of_updated_in_nanoseconds() {
    let db = cold().await;
    let batch = db.manifest("t", "shared").batches[0].clone();
    let range = format!("{}|{}", batch.min_updated.unwrap(), batch.max_updated.unwrap());
    assert_eq!(db.lines("SELECT min(_seq), max(_seq) FROM t").await, [range]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_022_a_flush_takes_the_next_number_from_the_current_manifest() {
    let db = cold().await.restart().await;
    db.count("INSERT INTO t VALUES (4, 'four', 40)").await;
    db.flush("t").await;
    assert_eq!(db.manifest("t", "shared").batches.iter().map(|batch| batch.number).collect::<Vec<_>>(), [1, 2]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_022_a_table_created_again_continues_the_numbers() {
    let db = cold().await;
    db.said("DROP TABLE t").await;
    db.said("CREATE SHARED TABLE app.t (id BIGINT PRIMARY KEY, name TEXT, n INT)").await;
    db.count("INSERT INTO t VALUES (1, 'new', 1)").await;
    db.flush("t").await;
    let manifest = db.manifest("t", "shared");
    let active: Vec<u64> = manifest.active().map(|batch| batch.number).collect();
    assert_eq!(active.len(), 1);
    assert!(active[0] > 1, "number 1 was used again");
    assert_eq!(db.lines(ALL).await, ["1|new|1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_023_batch_files_are_numbered_in_sequence() {
    let db = four_batches().await;
    let files: Vec<String> = (1..=4).map(batch_file_name).chain([MANIFEST.to_owned()]).collect();
    assert_eq!(db.files("t", "shared"), files);
    assert_eq!(files[3], "batch-0004.parquet");
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_024_a_published_manifest_names_only_complete_files_and_leaves_nothing_aside() {
    let db = four_batches().await;
    let manifest = db.manifest("t", "shared");
    for batch in manifest.active() {
        assert_eq!(rows_in(&db.partition("t", "shared").join(&batch.path)) as u64, batch.row_count);
    }
    assert!(manifest.intervals_are_sound(), "{manifest:?}");
    assert_eq!(db.files("t", "shared").len(), manifest.batches.len() + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_025_planning_finds_the_batches_that_overlap_a_predicate() {
    let db = four_batches().await;
    let stats = db.stats("SELECT name FROM t WHERE n BETWEEN 1900 AND 2100").await;
    assert_eq!((stats.batches_considered, stats.batches_read), (4, 2), "{stats:?}");
    assert_eq!(db.lines("SELECT id FROM t WHERE n BETWEEN 1900 AND 2100 ORDER BY id").await, ["19", "20", "21"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_026_batches_that_cannot_match_are_skipped_by_a_columns_range() {
    let db = four_batches().await;
    let stats = db.stats("SELECT name FROM t WHERE n = 500").await;
    assert_eq!((stats.batches_pruned_by_manifest, stats.batches_read), (3, 1), "{stats:?}");
    let stats = db.stats("SELECT name FROM t WHERE n > 100000").await;
    assert_eq!((stats.batches_pruned_by_manifest, stats.batches_read), (4, 0), "{stats:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_026_batches_that_cannot_match_are_skipped_by_id_and_by_updated() {
    let db = four_batches().await;
    let third = db.manifest("t", "shared").batches[2].clone();
    let (from, through) = (third.from, third.through);
    let stats = db.stats(&format!("SELECT name FROM t WHERE _seq > {from} AND _seq <= {through}")).await;
    assert_eq!((stats.batches_pruned_by_manifest, stats.batches_read), (3, 1), "{stats:?}");
    let (least, greatest) = (third.min_id.unwrap(), third.max_id.unwrap());
    let stats = db.stats(&format!("SELECT name FROM t WHERE _id >= {least} AND _id <= {greatest}")).await;
    assert_eq!((stats.batches_pruned_by_manifest, stats.batches_read), (3, 1), "{stats:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_026_skipping_goes_by_the_newest_version() {
    let db = four_batches().await;
    db.count("UPDATE t SET n = 99999 WHERE id = 5").await;
    for _ in 0..2 {
        assert_eq!(db.lines("SELECT id FROM t WHERE n > 90000").await, ["5"]);
        assert_eq!(db.lines("SELECT id FROM t WHERE n = 500").await, Vec::<String>::new());
        db.flush("t").await;
    }
}

/// A database whose cold tier has updates and a deletion, closed, damaged by `damage`, and opened again.
async fn damaged(damage: impl FnOnce(&Path, &[u8])) -> Db {
    let db = cold().await;
    let path = db.partition("t", "shared").join(MANIFEST);
    let older = std::fs::read(&path).unwrap();
    db.count("UPDATE t SET n = 21 WHERE id = 2").await;
    db.count("DELETE FROM t WHERE id = 3").await;
    db.flush("t").await;
    db.engine.close().await.unwrap();
    damage(&path, &older);
    db.reopened().await
}

const AFTER_DAMAGE: [&str; 2] = ["1|one|10", "2|two|21"];

#[tokio::test(flavor = "multi_thread")]
async fn fr_027_a_truncated_manifest_is_rebuilt() {
    let db = damaged(|path, _| {
        let text = std::fs::read(path).unwrap();
        std::fs::write(path, &text[..text.len() / 2]).unwrap();
    })
    .await;
    assert_eq!(db.lines(ALL).await, AFTER_DAMAGE);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_027_a_manifest_of_garbage_is_rebuilt() {
    let db = damaged(|path, _| std::fs::write(path, b"\0\xff not a manifest").unwrap()).await;
    assert_eq!(db.lines(ALL).await, AFTER_DAMAGE);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_027_a_stale_manifest_is_rebuilt() {
    let db = damaged(|path, older| std::fs::write(path, older).unwrap()).await;
    assert_eq!(db.lines(ALL).await, AFTER_DAMAGE);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_027_a_rebuilt_manifest_is_stored_by_the_next_flush() {
    let db = damaged(|path, _| std::fs::write(path, b"{").unwrap()).await;
    db.count("UPDATE t SET n = 11 WHERE id = 1").await;
    db.flush("t").await;
    let manifest = db.manifest("t", "shared");
    assert_eq!((manifest.max_batch, manifest.active().count()), (3, 3));
    assert!(manifest.intervals_are_sound(), "{manifest:?}");
    let db = db.restart().await;
    assert_eq!(db.lines(ALL).await, ["1|one|11", "2|two|21"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_028_without_a_manifest_queries_still_answer() {
    let db = damaged(|path, _| std::fs::remove_file(path).unwrap()).await;
    assert_eq!(db.lines(ALL).await, AFTER_DAMAGE);
    assert_eq!(db.lines("SELECT n FROM t WHERE id = 2").await, ["21"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_028_a_missing_batch_file_fails_the_queries_that_need_it_by_name() {
    let db = damaged(|path, _| std::fs::remove_file(path.with_file_name("batch-0001.parquet")).unwrap()).await;
    let error = db.error(ALL).await;
    assert!(error.message().contains("batch-0001.parquet"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_029_the_manifest_says_its_format() {
    let db = cold().await;
    assert_eq!(db.manifest("t", "shared").format_version, FORMAT_VERSION);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_029_fields_that_a_later_build_adds_are_ignored() {
    let db = damaged(|path, _| {
        let mut json: serde_json::Value = serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap();
        json["of_a_later_build"] = 1.into();
        json["batches"][0]["of_a_later_build"] = "x".into();
        std::fs::write(path, serde_json::to_vec(&json).unwrap()).unwrap();
    })
    .await;
    assert_eq!(db.lines(ALL).await, AFTER_DAMAGE);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_030_a_batch_has_a_status() {
    let db = cold().await;
    assert_eq!(db.manifest("t", "shared").batches[0].status, BatchStatus::Active);
    let names = [BatchStatus::Active, BatchStatus::Compacting, BatchStatus::Archived];
    let names = names.map(|status| serde_json::to_value(status).unwrap());
    assert_eq!(names, ["active", "compacting", "archived"]);
}

// System columns: FR-070 to FR-081.

#[tokio::test(flavor = "multi_thread")]
async fn fr_070_every_way_of_writing_draws_from_one_sequence() {
    let db = table().await;
    db.count("INSERT INTO t VALUES (1, 'values', 1)").await;
    db.count("INSERT INTO t SELECT 2, 'query', 2").await;
    db.count("INSERT INTO t VALUES (3, 'upsert', 3) ON CONFLICT (id) DO UPDATE SET n = 0").await;
    db.run("BEGIN; INSERT INTO t VALUES (4, 'transaction', 4); COMMIT").await.unwrap();
    db.said("CREATE SHARED TABLE app.copy AS SELECT id, name FROM t WHERE id = 4").await;
    let mut ids = db.lines("SELECT _id FROM t ORDER BY id").await;
    ids.extend(db.lines("SELECT _id FROM copy").await);
    let ids: Vec<i64> = ids.iter().map(|id| id.parse().unwrap()).collect();
    assert!(ids.is_sorted_by(|before, after| before < after), "{ids:?}");
    let mut times = db.lines("SELECT _seq FROM t ORDER BY id").await;
    times.extend(db.lines("SELECT _seq FROM copy").await);
    let times: Vec<i64> = times.iter().map(|time| time.parse().unwrap()).collect();
    assert!(times.is_sorted_by(|before, after| before < after), "{times:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_071_id_is_the_first_column_and_a_bigint() {
    let db = both_kinds().await;
    for table in ["t", "u"] {
        let rows = db.open(Db::root(), &format!("SELECT * FROM {table}")).await;
        let first = rows.schema.field(0).clone();
        assert_eq!((first.name().as_str(), first.data_type()), ("_id", &DataType::Int64), "{table}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_072_an_id_holds_the_time_and_the_node() {
    let db = table().await;
    db.clock.step(5_000_000_000);
    db.count("INSERT INTO t VALUES (1, 'one', 1)").await;
    let id = db.number("SELECT _id FROM t").await;
    let (ms, node) = ((id >> 22) + SNOWFLAKE_EPOCH_MS, (id >> 12) & 1023);
    assert!((db.clock.now_ms() - 1_000..=db.clock.now_ms()).contains(&ms), "{ms} at {}", db.clock.now_ms());
    assert_eq!(node, i64::from(node_number(&db.settings.server.node_id)));
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_073_a_users_own_id_coexists_with_the_servers() {
    let db = cold().await;
    let line = db.lines("SELECT id, _id > 1000000 FROM t WHERE id = 2").await;
    assert_eq!(line, ["2|true"]);
    assert_eq!(db.count("UPDATE t SET id = 20 WHERE id = 2").await, 1);
    assert_eq!(db.lines("SELECT id FROM t ORDER BY id").await, ["1", "3", "20"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_074_ids_are_made_by_insert_and_grow_over_a_restart() {
    let db = table().await;
    db.count("INSERT INTO t VALUES (1, 'a', 1), (2, 'b', 2), (3, 'c', 3)").await;
    db.clock.step(-3_600_000_000_000);
    let db = db.restart().await;
    db.count("INSERT INTO t VALUES (4, 'd', 4), (5, 'e', 5)").await;
    let ids: Vec<i64> = db.lines("SELECT _id FROM t ORDER BY id").await.iter().map(|id| id.parse().unwrap()).collect();
    assert!(ids.is_sorted_by(|before, after| before < after), "{ids:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_075_setting_a_system_column_is_refused_by_name() {
    let db = cold().await;
    for column in ["_id", "_updated", "_deleted", "_seq"] {
        let insert = format!("INSERT INTO t (id, {column}) VALUES (9, NULL)");
        let upsert = format!("INSERT INTO t (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET {column} = NULL");
        for sql in
            [insert, upsert, format!("UPDATE t SET {column} = NULL"), format!("UPDATE t SET n = 1, {column} = NULL")]
        {
            let error = db.error(&sql).await;
            assert!(error.message().contains(&format!("'{column}'")), "{sql}: {error}");
        }
    }
    assert_eq!(db.lines(ALL).await, ["1|one|10", "2|two|20", "3|three|30"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_076_adding_a_column_leaves_the_system_columns_in_their_places() {
    let db = cold().await;
    db.said("ALTER TABLE t ADD COLUMN extra INT").await;
    let columns = ["_id", "id", "name", "n", "extra", "_updated", "_deleted"];
    assert_eq!(db.columns("SELECT * FROM t").await, columns);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_077_update_keeps_the_id_and_gives_a_new_updated() {
    let db = cold().await;
    let id = db.number("SELECT _id FROM t WHERE id = 2").await;
    let before = seq(&db, 2).await;
    db.count("UPDATE t SET n = 21, id = 22 WHERE id = 2").await;
    assert_eq!(db.number("SELECT _id FROM t WHERE id = 22").await, id);
    assert!(seq(&db, 22).await > before);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_078_delete_keeps_the_id_and_the_last_values() {
    let db = cold().await;
    let id = db.number("SELECT _id FROM t WHERE id = 2").await;
    db.count("DELETE FROM t WHERE id = 2").await;
    let deleted = format!("{id}|2|two|20|true");
    for _ in 0..2 {
        assert_eq!(
            db.lines("SELECT _id, id, name, n, _deleted FROM t WHERE _deleted").await,
            std::slice::from_ref(&deleted)
        );
        db.flush("t").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_079_deleted_rows_are_hidden_from_every_kind_of_query() {
    let db = cold().await;
    db.count("DELETE FROM t WHERE id = 2").await;
    for _ in 0..2 {
        for (sql, answer) in [
            ("SELECT count(*) FROM t", "2"),
            ("SELECT sum(n) FROM t", "40"),
            ("SELECT count(*) FROM t a JOIN t b ON a.id = b.id", "2"),
            ("SELECT count(*) FROM (SELECT 1 AS one WHERE 2 IN (SELECT id FROM t)) AS found", "0"),
            ("SELECT count(*) FROM (SELECT id FROM t UNION ALL SELECT id FROM t) AS twice", "4"),
            // The subquery does not inherit the wish of the query around it.
            ("SELECT count(*) FROM t WHERE _deleted AND id IN (SELECT id FROM t)", "0"),
        ] {
            assert_eq!(db.lines(sql).await, [answer], "{sql}");
        }
        assert_eq!(db.count("UPDATE t SET n = 0 WHERE id = 2").await, 0);
        db.flush("t").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_080_an_import_cannot_set_system_columns() {
    let db = table().await;
    let import = db.import(Db::root(), None, "app.t").await.unwrap();
    for column in ["_id", "_updated", "_deleted"] {
        let values: arrow::array::ArrayRef = std::sync::Arc::new(arrow::array::Int64Array::from(vec![1]));
        let rows = arrow::array::RecordBatch::try_from_iter([("id", values.clone()), (column, values)]).unwrap();
        let error = import.write(&rows).await.unwrap_err();
        assert!(error.message().contains(&format!("'{column}'")), "{error}");
    }
    assert_eq!(db.lines(ALL).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_081_no_table_can_be_made_with_a_column_of_the_servers_name() {
    let db = cold().await;
    for column in ["_id", "_updated", "_deleted", "_seq"] {
        let created = format!("CREATE SHARED TABLE app.bad ({column} BIGINT)");
        let renamed = format!("ALTER TABLE t RENAME COLUMN n TO {column}");
        let added = format!("ALTER TABLE t ADD COLUMN {column} BIGINT");
        let selected = format!("CREATE SHARED TABLE app.bad AS SELECT id AS {column} FROM t");
        for sql in [created, renamed, added, selected] {
            let error = db.error(&sql).await;
            assert!(error.message().contains(&format!("'{column}'")), "{sql}: {error}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_081_a_star_leaves_the_system_columns_out_of_an_insert() {
    let db = cold().await;
    db.said("CREATE SHARED TABLE app.copy (id BIGINT, name TEXT, n INT)").await;
    assert_eq!(db.count("INSERT INTO copy SELECT * FROM t").await, 3);
    assert_eq!(db.lines("SELECT count(*) FROM copy JOIN t ON copy._id = t._id").await, ["0"]);
}

// Updates and deletions over the tiers: FR-096 to FR-101.

#[tokio::test(flavor = "multi_thread")]
async fn fr_096_a_row_is_updated_after_its_flush() {
    let db = cold().await;
    assert_eq!(db.count("UPDATE t SET n = n + 1 WHERE n >= 20").await, 2);
    for _ in 0..2 {
        assert_eq!(db.lines(ALL).await, ["1|one|10", "2|two|21", "3|three|31"]);
        db.flush("t").await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_097_of_three_versions_that_are_all_flushed_the_last_is_seen() {
    let db = cold().await;
    for n in [21, 22] {
        db.count(&format!("UPDATE t SET n = {n} WHERE id = 2")).await;
        db.flush("t").await;
    }
    assert_eq!(db.manifest("t", "shared").active().map(|batch| batch.row_count).collect::<Vec<_>>(), [3, 1, 1]);
    assert_eq!(db.lines(ALL).await, ["1|one|10", "2|two|22", "3|three|30"]);
    assert_eq!(db.lines("SELECT n FROM t WHERE id = 2").await, ["22"]);
    let db = db.restart().await;
    assert_eq!(db.lines(ALL).await, ["1|one|10", "2|two|22", "3|three|30"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_098_deleted_rows_stay_out_over_flush_restart_and_reinsertion() {
    let db = cold().await;
    db.count("DELETE FROM t WHERE id = 2").await;
    db.flush("t").await;
    let db = db.restart().await;
    assert_eq!(db.lines(ALL).await, ["1|one|10", "3|three|30"]);
    db.count("INSERT INTO t VALUES (2, 'again', 200)").await;
    db.flush("t").await;
    assert_eq!(db.lines(ALL).await, ["1|one|10", "2|again|200", "3|three|30"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_099_the_greatest_updated_wins_across_tiers() {
    let db = cold().await;
    db.count("UPDATE t SET n = 21 WHERE id = 2").await;
    db.flush("t").await;
    // The clock goes back, so that only commit order can tell.
    db.clock.step(-3_600_000_000_000);
    db.count("UPDATE t SET n = 22 WHERE id = 2").await;
    let newest = seq(&db, 2).await;
    assert!(CommitTime(newest) > db.manifest("t", "shared").flushed_through);
    assert_eq!(db.lines("SELECT n, _seq FROM t WHERE n > 20 AND n < 30").await, [format!("22|{newest}")]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_100_concurrent_updates_of_one_row_are_none_lost() {
    for flushed in [false, true] {
        let db = table().await;
        db.count("INSERT INTO t VALUES (1, 'counter', 0)").await;
        if flushed {
            db.flush("t").await;
        }
        let increments = (0..50).map(|_| db.count("UPDATE t SET n = n + 1 WHERE id = 1"));
        let counts = futures::future::join_all(increments).await;
        assert_eq!(counts.iter().sum::<u64>(), 50);
        assert_eq!(db.lines("SELECT n FROM t").await, ["50"], "flushed: {flushed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_101_a_deletion_holds_at_each_tier() {
    let db = table().await;
    db.count("INSERT INTO t VALUES (1, 'hot', 1), (2, 'cold', 2), (3, 'both', 3), (4, 'kept', 4)").await;
    // Hot row, hot deletion.
    db.count("DELETE FROM t WHERE id = 1").await;
    db.flush("t").await;
    // Cold row, cold deletion.
    db.count("DELETE FROM t WHERE id = 2").await;
    db.flush("t").await;
    // Cold row, hot deletion.
    db.count("DELETE FROM t WHERE id = 3").await;
    assert_eq!(db.lines(ALL).await, ["4|kept|4"]);
    assert_eq!(db.lines("SELECT id FROM t WHERE _deleted ORDER BY id").await, ["1", "2", "3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_101_a_flush_counts_the_deletions_that_it_writes() {
    let db = cold().await;
    db.count("DELETE FROM t WHERE id >= 2").await;
    db.flush("t").await;
    let manifest: Manifest = db.manifest("t", "shared");
    let batch = &manifest.batches[1];
    assert_eq!((batch.row_count, batch.tombstone_count, batch.superseding_count), (2, 2, 2));
    assert_eq!(db.said("SELECT count(*) FROM t").await, Said::Rows(vec![vec!["1".to_owned()]]));
}
