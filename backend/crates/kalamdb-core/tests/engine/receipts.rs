//! What a statement reads of history, counted: Bloom filters, ranges within batches, dead batches, and the receipts that
//! say so. Layouts are known, so the numbers are exact.

use futures::StreamExt;
use kalamdb_commons::settings::Settings;
use kalamdb_core::stats::StatsSnapshot;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

use crate::db::{Db, Said};

/// Batches stay as they were flushed.
fn as_flushed(settings: &mut Settings) {
    settings.compaction.automatic = false;
}

/// A SHARED table `t` without a key, whose batches all span the same ranges: `code` in batch b is `c<b>` or one of two
/// values that every batch has, `n` is b or one of the ends.
async fn spread(batches: i64, columns: &str, after: &str) -> Db {
    let db = Db::with(as_flushed).await;
    db.said("CREATE NAMESPACE app").await;
    db.said(&format!("CREATE SHARED TABLE app.t (code TEXT, n INT, big BIGINT) {columns}")).await;
    if !after.is_empty() {
        db.said(after).await;
    }
    for batch in 0..batches {
        add_batch(&db, batch).await;
    }
    db
}

async fn add_batch(db: &Db, batch: i64) {
    let rows = format!("('a', -1000, -1000), ('c{batch}', {batch}, {batch}), ('z', 1000, 1000)");
    db.count(&format!("INSERT INTO t VALUES {rows}")).await;
    db.flush("t").await;
}

/// What became of the batches of a statement that needs all that are left.
fn batches(stats: &StatsSnapshot) -> [u64; 5] {
    let read =
        [stats.batches_pruned_by_manifest, stats.batches_without_live_rows, stats.batches_pruned_by_bloom_filter];
    let [manifest, dead, bloom] = read;
    assert_eq!(stats.batches_considered, manifest + dead + bloom + stats.batches_read, "{stats:?}");
    [stats.batches_considered, manifest, dead, bloom, stats.batches_read]
}

/// The columns of a file that have Bloom filters.
fn filtered(db: &Db, file: &str) -> Vec<String> {
    let file = std::fs::File::open(db.partition("t", "shared").join(file)).unwrap();
    let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
    let group = reader.metadata().row_group(0).clone();
    let with = group.columns().iter().filter(|column| column.bloom_filter_offset().is_some());
    with.map(|column| column.column_path().string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_054_id_has_a_filter_and_updated_is_told_apart_by_ranges() {
    let db = spread(4, "", "").await;
    assert_eq!(filtered(&db, "batch-0001.parquet"), ["_id"]);
    let through = db.manifest("t", "shared").batches[2].through;
    let stats = db.stats(&format!("SELECT n FROM t WHERE _seq = {through}")).await;
    assert_eq!(batches(&stats), [4, 3, 0, 0, 1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_055_indexed_columns_have_filters() {
    let db = spread(1, "WITH (BLOOM_FILTER_COLUMNS = 'n')", "CREATE INDEX by_code ON app.t (code)").await;
    assert_eq!(filtered(&db, "batch-0001.parquet"), ["_id", "code", "n"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_055_files_from_before_the_index_are_read() {
    let db = spread(3, "", "").await;
    db.said("CREATE INDEX by_code ON app.t (code)").await;
    for batch in 3..6 {
        add_batch(&db, batch).await;
    }
    for (code, read) in [("c1", 3), ("c4", 4), ("c9", 3)] {
        let sql = format!("SELECT n FROM t WHERE code = '{code}'");
        assert_eq!(batches(&db.stats(&sql).await), [6, 0, 0, 6 - read, read], "{code}");
    }
    assert_eq!(db.lines("SELECT n FROM t WHERE code IN ('c1', 'c4') ORDER BY n").await, ["1", "4"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_056_filters_are_embedded_and_survive_a_restart() {
    let db = spread(4, "WITH (BLOOM_FILTER_COLUMNS = 'code')", "").await.restart().await;
    let sql = "SELECT n FROM t WHERE code = 'c2'";
    assert_eq!(batches(&db.stats(sql).await), [4, 0, 0, 3, 1]);
    assert_eq!(db.lines(sql).await, ["2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_057_filters_in_memory_are_asked_before_anything_is_read() {
    let db = spread(100, "WITH (BLOOM_FILTER_COLUMNS = 'code')", "").await;
    db.stats("SELECT n FROM t WHERE code = 'nobody'").await;
    let stats = db.stats("SELECT n FROM t WHERE code = 'other'").await;
    assert_eq!(batches(&stats), [100, 0, 0, 100, 0]);
    assert_eq!((stats.bytes_read, stats.storage_requests), (0, 0), "{stats:?}");
    assert_eq!((stats.bloom_tests, stats.cache_hits, stats.cache_misses), (100, 100, 0), "{stats:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_058_of_a_hundred_batches_that_all_may_hold_a_value_one_is_read() {
    let db = spread(100, "WITH (BLOOM_FILTER_COLUMNS = 'code,n,big', BLOOM_FILTER_FPP = 0.000001)", "").await;
    let cases = [
        "SELECT code FROM t WHERE code = 'c37'",
        "SELECT code FROM t WHERE 37 = n",
        "SELECT code FROM t WHERE big = 37",
        "SELECT code FROM t WHERE n IN (37, 2000000000)",
        "SELECT code FROM t WHERE (code = 'c37' OR code = 'nobody') AND big < 1000",
        "SELECT count(*) FROM t WHERE code = 'c37' GROUP BY n",
        "UPDATE t SET big = 38 WHERE n = 37",
        "DELETE FROM t WHERE n = 36",
    ];
    for sql in cases {
        assert_eq!(batches(&db.stats(sql).await), [100, 0, 0, 99, 1], "{sql}");
    }
    let parameter = [kalamdb_core::api::Param::Text("c35".to_owned())].to_vec();
    let said = db.run_as(Db::root(), "SELECT n FROM t WHERE code = $1", parameter).await.unwrap();
    assert_eq!(said, [Said::Rows(vec![vec!["35".to_owned()]])]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_059_a_smaller_rate_makes_larger_filters() {
    let size = async |fpp: &str| {
        let db = spread(0, &format!("WITH (BLOOM_FILTER_COLUMNS = 'code' {fpp})"), "").await;
        let rows: Vec<String> = (0..5000).map(|n| format!("('code {n}', {n}, {n})")).collect();
        db.count(&format!("INSERT INTO t VALUES {}", rows.join(", "))).await;
        db.flush("t").await;
        let file = std::fs::File::open(db.partition("t", "shared").join("batch-0001.parquet")).unwrap();
        let reader = ParquetRecordBatchReaderBuilder::try_new(file).unwrap();
        reader.metadata().row_group(0).column(1).bloom_filter_length().unwrap()
    };
    let (default, one_percent, finer) =
        (size("").await, size(", BLOOM_FILTER_FPP = 0.01").await, size(", BLOOM_FILTER_FPP = 0.0001").await);
    assert_eq!(default, one_percent);
    assert!(finer > default, "{finer} and {default} bytes");
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_060_false_positives_cost_a_read_and_no_answer() {
    let db = spread(0, "WITH (BLOOM_FILTER_COLUMNS = 'code', BLOOM_FILTER_FPP = 0.99)", "").await;
    for batch in 0..4 {
        let rows: Vec<String> = (0..500).map(|row| format!("('c{row}-{batch}', {row}, {batch})")).collect();
        db.count(&format!("INSERT INTO t VALUES {}", rows.join(", "))).await;
        db.flush("t").await;
    }
    let mut needless = 0;
    for row in 100..120 {
        let sql = format!("SELECT big FROM t WHERE code = 'c{row}-2'");
        assert_eq!(db.lines(&sql).await, ["2"]);
        needless += batches(&db.stats(&sql).await)[4] - 1;
        assert_eq!(db.lines(&format!("SELECT n FROM t WHERE code = 'c{row}-9'")).await, Vec::<String>::new());
    }
    assert!(needless > 0, "a filter of such a rate is wrong now and then");
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_061_filters_are_switched_off_per_column() {
    let db = spread(1, "WITH (BLOOM_FILTER_COLUMNS = 'n,big')", "CREATE INDEX by_code ON app.t (code)").await;
    db.said("ALTER TABLE t SET (BLOOM_FILTER_OFF = 'code,big')").await;
    add_batch(&db, 1).await;
    db.said("ALTER TABLE t SET (BLOOM_FILTER_OFF = '', BLOOM_FILTER_COLUMNS = '')").await;
    add_batch(&db, 2).await;
    let had: Vec<String> = (1..4).map(|file| filtered(&db, &format!("batch-000{file}.parquet")).join(",")).collect();
    assert_eq!(had, ["_id,code,n,big", "_id,n", "_id,code"]);
    assert_eq!(db.lines("SELECT n FROM t WHERE code = 'c1'").await, ["1"]);
    db.said("ALTER TABLE t SET (BLOOM_FILTER_OFF = '_id,code')").await;
    add_batch(&db, 3).await;
    assert_eq!(filtered(&db, "batch-0004.parquet"), Vec::<String>::new());
    let options = db.lines("SELECT options FROM system.tables WHERE table_name = 't'").await.concat();
    assert!(options.contains("\"BLOOM_FILTER_OFF\":\"_id,code\""), "{options}");
    let db = db.restart().await;
    add_batch(&db, 4).await;
    assert_eq!(filtered(&db, "batch-0005.parquet"), Vec::<String>::new());
    let id = db.number("SELECT _id FROM t WHERE code = 'c4'").await;
    assert_eq!(
        db.lines(&format!("SELECT code FROM t WHERE _id IN ({id}, 7) OR code = 'c3' ORDER BY code")).await,
        ["c3", "c4"]
    );
    db.said("ALTER TABLE t SET (BLOOM_FILTER_OFF = 'code')").await;
    add_batch(&db, 5).await;
    assert_eq!(filtered(&db, "batch-0006.parquet"), ["_id"]);
    db.said("CREATE SHARED TABLE app.plain (n INT) WITH (BLOOM_FILTER_OFF = '_id')").await;
    let refused = db.error("ALTER TABLE t SET (BLOOM_FILTER_OFF = '_updated')").await;
    assert!(refused.message().contains("_updated"), "{refused}");
    // A key without a filter is found by its index.
    db.said("CREATE SHARED TABLE app.k (k TEXT PRIMARY KEY, n INT) WITH (BLOOM_FILTER_OFF = 'k')").await;
    db.count("INSERT INTO k VALUES ('a', 1), ('b', 2)").await;
    db.flush("k").await;
    assert_eq!(db.lines("SELECT n FROM k WHERE k = 'b'").await, ["2"]);
    assert_eq!(db.stats("SELECT n FROM k WHERE k = 'aa'").await.bloom_tests, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn sc_005_a_range_of_time_reads_a_fifth_of_the_batches_at_most() {
    let db = spread(50, "", "").await;
    let from = db.manifest("t", "shared").batches[44].through;
    let stats = db.stats(&format!("SELECT n FROM t WHERE _seq > {from}")).await;
    assert_eq!(batches(&stats), [50, 45, 0, 0, 5]);
}

#[tokio::test(flavor = "multi_thread")]
async fn sc_006_a_key_lookup_over_a_hundred_batches_reads_a_tenth_of_the_bytes() {
    let db = Db::with(as_flushed).await;
    db.said("CREATE NAMESPACE app").await;
    db.said("CREATE SHARED TABLE app.t (id TEXT PRIMARY KEY, n INT)").await;
    for batch in 0..100 {
        let rows: Vec<String> = (0..40).map(|row| format!("('{row:02}-{batch}', {batch})")).collect();
        db.count(&format!("INSERT INTO t VALUES {}", rows.join(", "))).await;
        db.flush("t").await;
    }
    let all = db.stats("SELECT * FROM t WHERE n % 2 = 3").await;
    assert_eq!(batches(&all), [100, 0, 0, 0, 100]);
    for sql in ["SELECT * FROM t WHERE id = '20-50'", "SELECT * FROM t WHERE id IN ('20-50', '20-500')"] {
        let one = db.stats(sql).await;
        assert!(one.batches_read <= 2 && one.batches_pruned_by_bloom_filter >= 49, "{sql}: {one:?}");
        assert!(one.bytes_read * 10 <= all.bytes_read, "{sql}: {} of {} bytes", one.bytes_read, all.bytes_read);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sc_019_nine_tenths_of_a_hundred_batches_are_eliminated_by_the_manifest() {
    let db = Db::with(as_flushed).await;
    db.said("CREATE NAMESPACE app").await;
    db.said("CREATE SHARED TABLE app.t (n INT)").await;
    for batch in 0..100 {
        db.count(&format!("INSERT INTO t VALUES ({batch}), ({batch})")).await;
        db.flush("t").await;
    }
    assert_eq!(batches(&db.stats("SELECT n FROM t WHERE n >= 90").await), [100, 90, 0, 0, 10]);
    let many: Vec<String> = (0..25).map(|n| (n * 4).to_string()).collect();
    let stats = db.stats(&format!("SELECT n FROM t WHERE n IN ({})", many.join(", "))).await;
    assert_eq!(batches(&stats), [100, 75, 0, 0, 25]);
}

#[tokio::test(flavor = "multi_thread")]
async fn batches_of_deleted_rows_are_pruned_and_skipped() {
    let db = spread(4, "", "").await;
    db.count("DELETE FROM t WHERE n = 2").await;
    db.flush("t").await;
    // The fifth batch is the deletion alone: dead to everybody but a WHERE that names it.
    assert_eq!(batches(&db.stats("SELECT n FROM t WHERE n > -5000").await), [5, 0, 1, 0, 4]);
    assert_eq!(batches(&db.stats("SELECT n FROM t WHERE _deleted").await), [5, 4, 0, 0, 1]);
    assert_eq!(db.lines("SELECT n FROM t WHERE _deleted").await, ["2"]);
    // The batch that is ruled out goes on superseding.
    assert_eq!(db.lines("SELECT n FROM t WHERE n IN (2, 3)").await, ["3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_groups_and_pages_are_skipped_by_their_ranges_and_counted() {
    let db = Db::with(|settings| {
        settings.flush.row_group_rows = 1000;
        settings.flush.page_rows = 100;
    })
    .await;
    db.said("CREATE NAMESPACE app").await;
    db.said("CREATE SHARED TABLE app.t (n INT, pad TEXT)").await;
    let rows: Vec<String> = (0..4000).map(|n| format!("({n}, 'pad {n} {}')", n * 7919)).collect();
    db.count(&format!("INSERT INTO t VALUES {}", rows.join(", "))).await;
    db.flush("t").await;
    let all = db.stats("SELECT pad FROM t WHERE n % 2 = 3").await;
    assert_eq!((all.row_groups_pruned, all.pages_pruned), (0, 0), "{all:?}");
    let some = db.stats("SELECT pad FROM t WHERE n BETWEEN 2250 AND 2260").await;
    assert_eq!((some.batches_read, some.row_groups_pruned, some.pages_pruned), (1, 3, 9), "{some:?}");
    assert!(some.bytes_read * 5 < all.bytes_read, "{} of {} bytes", some.bytes_read, all.bytes_read);
    // Dead positions and ranges of pages are both left out.
    db.count("DELETE FROM t WHERE n IN (2251, 2255, 100)").await;
    let some = db.stats("SELECT pad FROM t WHERE n BETWEEN 2250 AND 2260").await;
    assert_eq!((some.row_groups_pruned, some.pages_pruned), (3, 9), "{some:?}");
    assert_eq!(db.number("SELECT count(pad) FROM t WHERE n BETWEEN 2250 AND 2260").await, 9);
    // A file of an earlier version too, by the columns' ids.
    db.said("ALTER TABLE t RENAME COLUMN n TO m; ALTER TABLE t ADD COLUMN n INT DEFAULT 5").await;
    let some = db.stats("SELECT pad FROM t WHERE m BETWEEN 2250 AND 2260 AND n = 5").await;
    assert_eq!((some.row_groups_pruned, some.pages_pruned), (3, 9), "{some:?}");
    assert_eq!(batches(&db.stats("SELECT pad FROM t WHERE n = 6").await), [1, 1, 0, 0, 0]);
}

/// A SHARED table `t` with one batch of 4 000 rows in row groups of 1 000 and pages of 100.
async fn paged() -> Db {
    let db = Db::with(|settings| {
        settings.flush.row_group_rows = 1000;
        settings.flush.page_rows = 100;
        settings.compaction.automatic = false;
    })
    .await;
    db.said("CREATE NAMESPACE app; CREATE SHARED TABLE app.t (n INT, pad TEXT)").await;
    db.count("INSERT INTO t SELECT value, 'pad ' || value FROM generate_series(0, 3999)").await;
    db.flush("t").await;
    db
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_only_planned_has_read_nothing() {
    let db = spread(6, "", "").await;
    db.count("DELETE FROM t WHERE n = 3").await;
    db.flush("t").await;
    for (sql, answer) in [
        ("EXPLAIN SELECT * FROM t", None),
        ("EXPLAIN VERBOSE SELECT * FROM t WHERE n > 0", None),
        // Live rows are counted without looking at them, and a column of none is a number of rows too.
        ("SELECT count(*) FROM t", Some(17)),
        ("SELECT sum(one) FROM (SELECT 1 AS one FROM t)", Some(17)),
    ] {
        let stats = db.stats(sql).await;
        let considered = [stats.batches_considered, stats.batches_without_live_rows];
        assert_eq!((considered, stats.batches_read, stats.cold_rows_read), ([7, 1], 0, 0), "{sql}: {stats:?}");
        if let Some(answer) = answer {
            assert_eq!(db.number(sql).await, answer, "{sql}");
        }
    }
    let stats = db.stats("SELECT n FROM t").await;
    assert_eq!((batches(&stats), stats.cold_rows_read), ([7, 0, 1, 0, 6], 17));
    // With a column that has to be looked at, the count reads it.
    assert_eq!(db.stats("SELECT count(*) FROM t WHERE n % 2 = 3").await.cold_rows_read, 17);
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_are_counted_as_they_come_out_of_the_batches() {
    let db = paged().await;
    for (sql, rows) in [
        ("SELECT pad FROM t", 4000),
        ("SELECT pad FROM t WHERE n % 2 = 3", 4000),
        ("SELECT pad FROM t LIMIT 1", 1),
        ("SELECT pad FROM t LIMIT 7 OFFSET 2", 9),
        // One page of forty.
        ("SELECT pad FROM t WHERE n BETWEEN 2250 AND 2260", 100),
        // The ranges allow it, the row groups and pages do not.
        ("SELECT pad FROM t WHERE n > 2150 AND n < 2151", 100),
        ("SELECT pad FROM t WHERE n = 17 OR n = 3950", 200),
        ("SELECT pad FROM t WHERE n > 5000", 0),
        ("SELECT pad FROM t WHERE n < 100 UNION ALL SELECT pad FROM t WHERE n >= 3900", 200),
    ] {
        let stats = db.stats(sql).await;
        assert_eq!(stats.cold_rows_read, rows, "{sql}: {stats:?}");
    }
    db.count("DELETE FROM t WHERE n IN (2250, 2255, 100)").await;
    assert_eq!(db.stats("SELECT pad FROM t WHERE n BETWEEN 2250 AND 2260").await.cold_rows_read, 98);
}

#[tokio::test(flavor = "multi_thread")]
async fn no_hot_row_is_read_twice() {
    let db = Db::new().await;
    db.said("CREATE NAMESPACE app; CREATE SHARED TABLE app.t (n INT)").await;
    for (rows, of) in [(5_000, "one page"), (50_000, "several")] {
        db.count(&format!("INSERT INTO t SELECT value FROM generate_series(1, {rows})")).await;
        let hot = db.number("SELECT count(n) FROM t WHERE n > 0").await as u64;
        assert_eq!(db.stats("SELECT n FROM t WHERE n > 0").await.hot_rows_read, hot, "{of}");
    }
    assert_eq!(db.number("SELECT count(DISTINCT _id) FROM t").await, 55_000);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_leaves_batches_unread() {
    let parallel = std::thread::available_parallelism().unwrap().get() as u64;
    let batches = parallel as i64 + 4;
    let db = spread(batches, "", "").await;
    let stats = db.stats("SELECT n FROM t LIMIT 1").await;
    assert_eq!(stats.batches_considered, batches as u64);
    // As many begin as run at once, with a row of each.
    assert!((1..=parallel).contains(&stats.batches_read), "{stats:?}");
    assert!((1..=parallel).contains(&stats.cold_rows_read), "{stats:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_in_parts_is_read_once() {
    let db = Db::with(|settings| settings.flush.row_group_rows = 10_000).await;
    db.said("CREATE NAMESPACE app; CREATE SHARED TABLE app.t (n BIGINT, pad TEXT)").await;
    db.count("INSERT INTO t SELECT value, ULID() || ULID() || ULID() FROM generate_series(1, 60000)").await;
    db.flush("t").await;
    // More than the planner leaves to one thread.
    assert!(db.manifest("t", "shared").batches[0].byte_size > 1 << 20);
    let stats = db.stats("SELECT max(n), max(pad) FROM t WHERE n % 2 = 3").await;
    assert_eq!((batches(&stats), stats.cold_rows_read), ([1, 0, 0, 0, 1], 60_000));
}

#[tokio::test(flavor = "multi_thread")]
async fn explain_shows_the_physical_plan_and_analyze_the_receipt() {
    let db = spread(5, "WITH (BLOOM_FILTER_COLUMNS = 'code')", "").await;
    let plan = db.rows("EXPLAIN SELECT n FROM t WHERE code = 'c3'").await;
    let kinds: Vec<&str> = plan.iter().map(|row| row[0].as_str()).collect();
    assert_eq!(kinds, ["logical_plan", "physical_plan"]);
    assert!(plan[1][1].contains("DataSourceExec"), "{}", plan[1][1]);
    let said = db.rows("EXPLAIN ANALYZE SELECT n FROM t WHERE code = 'c3'").await;
    let [plan, receipt] = said.as_slice() else { panic!("{said:?}") };
    assert_eq!((plan[0].as_str(), receipt[0].as_str()), ("Plan with Metrics", "Statistics"));
    for line in ["batches_considered: 5", "batches_pruned_by_bloom_filter: 4", "batches_read: 1", "cache_hits: "] {
        assert!(receipt[1].contains(line), "{}", receipt[1]);
    }
    assert!(!receipt[1].contains("bytes_read: 0\n"), "{}", receipt[1]);
}

#[tokio::test(flavor = "multi_thread")]
async fn hot_rows_are_counted_as_they_are_read() {
    let db = spread(1, "", "").await;
    // A reader holds the flushed rows back in the hot tier, where they are nobody's rows any more.
    let reader = db.open(Db::root(), "SELECT n FROM t").await;
    db.count("INSERT INTO t VALUES ('h', 5, 5), ('i', 6, 6)").await;
    db.flush("t").await;
    db.count("INSERT INTO t VALUES ('j', 7, 7)").await;
    assert_eq!(db.stats("SELECT n FROM t WHERE n > 0").await.hot_rows_read, 1);
    drop(reader);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_column_that_became_unique_on_an_emptied_table_ignores_older_files() {
    let db = spread(2, "", "").await;
    db.count("DELETE FROM t").await;
    db.said("ALTER TABLE t ADD COLUMN k INT UNIQUE").await;
    db.count("INSERT INTO t VALUES ('n', 1, 1, 9)").await;
    db.flush("t").await;
    assert_eq!(db.lines("SELECT code FROM t WHERE k = 9").await, ["n"]);
    assert!(db.error("INSERT INTO t VALUES ('m', 1, 1, 9)").await.message().contains("duplicate key"));
}

#[tokio::test(flavor = "multi_thread")]
async fn nan_is_above_every_number_in_history_as_well() {
    let db = Db::with(|settings| settings.flush.page_rows = 2).await;
    db.said("CREATE NAMESPACE app").await;
    db.said("CREATE SHARED TABLE app.t (id INT, d DOUBLE)").await;
    db.count("INSERT INTO t VALUES (1, 1.0), (2, CAST('NaN' AS DOUBLE)), (3, 2.0), (4, 3.0)").await;
    let sql = "SELECT id FROM t WHERE d > 5 ORDER BY id";
    assert_eq!(db.lines(sql).await, ["2"]);
    db.flush("t").await;
    assert_eq!(db.lines(sql).await, ["2"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_long_answer_has_read_counts_while_the_rest_is_read() {
    let db = Db::new().await;
    db.said("CREATE NAMESPACE app; CREATE USER TABLE app.u (id BIGINT); CREATE USER 'al' WITH PASSWORD 'a password'")
        .await;
    let values = (0..20_000).map(|id| format!("({id})")).collect::<Vec<_>>().join(", ");
    db.run_as(Db::user("al"), &format!("INSERT INTO u VALUES {values}"), Vec::new()).await.unwrap();
    let scanned = || db.number("SELECT rows_scanned FROM system.user_usage WHERE user_id = 'al'");
    let before = scanned().await;
    let mut reader = db.open(Db::user("al"), "SELECT id FROM u").await;
    reader.batches.next().await.unwrap().unwrap();
    let begun = scanned().await - before;
    assert!(begun > 0 && begun < 20_000, "{begun} rows");
    while reader.batches.next().await.is_some() {}
    drop(reader);
    assert!(scanned().await - before >= 20_000);
}
