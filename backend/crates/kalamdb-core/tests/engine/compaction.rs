//! What compaction promises: fewer batches, the same answers, nothing disturbed, and nothing left that was to go.

use std::path::Path;
use std::time::Duration;

use kalamdb_commons::ids::Scope;
use kalamdb_commons::manifest::BatchStatus;

use crate::db::{Db, texts};

const HOUR_NS: i64 = 3_600_000_000_000;
const WITHIN: Duration = Duration::from_secs(30);

async fn table(options: &str) -> Db {
    let db = Db::with(|settings| settings.jobs.parallel_max = 8).await;
    db.said("CREATE NAMESPACE app").await;
    db.said(&format!("CREATE SHARED TABLE app.t (id BIGINT PRIMARY KEY, n INT, s TEXT) {options}")).await;
    db
}

/// `batches` batches of 10 rows each, every later one correcting a row of each batch before it.
async fn history(db: &Db, batches: i64) {
    for batch in 0..batches {
        let values = (0..10).map(|row| format!("({}, {row}, 'batch {batch}')", batch * 10 + row));
        db.count(&format!("INSERT INTO t VALUES {}", values.collect::<Vec<_>>().join(", "))).await;
        db.count(&format!("UPDATE t SET n = n + 100 WHERE id < {} AND id % 10 = {batch}", batch * 10)).await;
        db.flush("app.t").await;
    }
}

fn active(db: &Db) -> Vec<(u64, u64)> {
    db.manifest("t", "shared").active().map(|batch| (batch.number, batch.row_count)).collect()
}

/// Waits until the partition has so many batch files: readers let go of theirs a moment after their last row.
async fn until_files(db: &Db, count: usize) {
    let there = || db.files("t", "shared").into_iter().filter(|name| name.starts_with("batch-")).count();
    let settled = async {
        while there() != count {
            db.compact("app.t").await;
        }
    };
    let done = tokio::time::timeout(WITHIN, settled).await;
    assert!(done.is_ok(), "{:?}", db.files("t", "shared"));
}

const ALL: &str = "SELECT id, n, s FROM t ORDER BY id";

#[tokio::test(flavor = "multi_thread")]
async fn batches_become_one_that_answers_the_same_and_the_old_files_go() {
    let db = table("").await;
    history(&db, 5).await;
    let before = db.lines(ALL).await;
    let said = db.compact("app.t").await;
    assert!(said.contains("5 batches merged in 1 partition(s), 50 rows kept, 10 removed"), "{said}");
    assert_eq!(active(&db), [(6, 50)]);
    until_files(&db, 1).await;
    assert_eq!(db.files("t", "shared"), ["batch-0006.parquet", "manifest.json"]);
    assert_eq!(db.lines(ALL).await, before);
    assert_eq!(db.lines("SELECT n FROM t WHERE id = 4").await, ["104"]);
    assert_eq!(db.stats(ALL).await.batches_read, 1);
    let again = db.compact("app.t").await;
    assert!(again.contains("nothing to compact"), "{again}");
    let db = db.restart().await;
    assert_eq!(db.lines(ALL).await, before);
    db.count("UPDATE t SET n = -1 WHERE id = 4").await;
    db.flush("app.t").await;
    assert_eq!(db.lines("SELECT n FROM t WHERE id = 4").await, ["-1"]);
    assert_eq!(db.lines("SELECT count(*) FROM t").await, ["50"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_that_have_begun_go_on_with_the_files_that_they_began_with() {
    let db = table("").await;
    history(&db, 4).await;
    let before = db.lines(ALL).await;
    let held = db.open(Db::root(), ALL).await;
    db.compact("app.t").await;
    assert_eq!(active(&db), [(5, 40)]);
    let waiting =
        db.manifest("t", "shared").batches.iter().filter(|batch| batch.status == BatchStatus::Archived).count();
    assert_eq!(waiting, 4, "a reader holds the inputs");
    db.count("UPDATE t SET n = 0, s = 'changed'").await;
    db.flush("app.t").await;
    db.compact("app.t").await;
    let seen: Vec<String> = texts(held).await.unwrap().into_iter().map(|row| row.join("|")).collect();
    assert_eq!(seen, before);
    // With the reader gone, whoever compacts next takes them along.
    until_files(&db, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_only_hot_versions_replace_stays_for_readers_at_older_moments() {
    let db = table("").await;
    history(&db, 3).await;
    let before = db.lines(ALL).await;
    // An open transaction reads at one moment.
    let held = db.open(Db::root(), ALL).await;
    db.count("UPDATE t SET n = 7").await;
    db.count("DELETE FROM t WHERE id < 5").await;
    db.compact("app.t").await;
    assert_eq!(active(&db), [(4, 30)]);
    let seen: Vec<String> = texts(held).await.unwrap().into_iter().map(|row| row.join("|")).collect();
    assert_eq!(seen, before);
    assert_eq!(db.lines("SELECT count(*), min(n), max(n) FROM t").await, ["25|7|7"]);
    let db = db.restart().await;
    assert_eq!(db.lines("SELECT count(*), min(n), max(n) FROM t").await, ["25|7|7"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transaction_that_began_before_sees_the_same_deletions_after() {
    let db = table("WITH (DELETED_RETENTION_HOURS = 1)").await;
    history(&db, 2).await;
    db.count("DELETE FROM t WHERE id < 3").await;
    db.flush("app.t").await;
    db.clock.step(2 * HOUR_NS);
    let deleted = "SELECT id FROM t WHERE _deleted ORDER BY id";
    let sql = format!("BEGIN; {deleted}; {deleted}; COMMIT");
    let mut transaction = db.begin(Db::root(), &sql, Vec::new()).await.unwrap();
    let mut answers = Vec::new();
    while let Some(outcome) = transaction.next().await {
        if let kalamdb_core::api::OutcomeResult::Rows(rows) = outcome.unwrap().result {
            answers.push(texts(rows).await.unwrap().concat().join("|"));
            db.compact("app.t").await;
        }
    }
    assert_eq!(answers, ["0|1|2", "0|1|2"]);
    drop(transaction);
    assert_eq!(db.lines(deleted).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn deletions_are_kept_for_their_time_and_go_with_everything_of_the_row() {
    let db = table("WITH (DELETED_RETENTION_HOURS = 2, COMPRESSION = 'none')").await;
    db.count("INSERT INTO t VALUES (1, 1, 'needle one'), (2, 2, 'needle two')").await;
    db.flush("app.t").await;
    db.count("DELETE FROM t WHERE id = 1").await;
    db.flush("app.t").await;
    let deleted = "SELECT id, s FROM t WHERE _deleted";
    db.compact("app.t").await;
    assert_eq!(db.lines(deleted).await, ["1|needle one"]);
    assert_eq!(db.manifest("t", "shared").deletions_complete_from.0, 0);
    db.clock.step(3 * HOUR_NS);
    let last = db.number("SELECT max(_seq) FROM t WHERE _deleted").await;
    db.compact("app.t").await;
    assert_eq!(db.lines(deleted).await, Vec::<String>::new());
    assert_eq!(db.manifest("t", "shared").deletions_complete_from.0, last + 1);
    until_files(&db, 1).await;
    assert!(!some_file_has(&db.storage(), "needle one"));
    assert!(some_file_has(&db.storage(), "needle two"));
    // Even if the manifest is lost, a resuming reader is told from when on deletions are complete.
    let path = db.partition("t", "shared").join("manifest.json");
    db.engine.close().await.unwrap();
    std::fs::remove_file(path).unwrap();
    let db = db.reopened().await;
    assert_eq!(db.lines("SELECT id FROM t").await, ["2"]);
    db.mended().await;
    assert_eq!(db.manifest("t", "shared").deletions_complete_from.0, last + 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deletion_stays_while_an_earlier_file_holds_an_older_version() {
    let db = table("WITH (DELETED_RETENTION_HOURS = 1)").await;
    db.count("INSERT INTO t VALUES (1, 1, 'a'), (2, 2, 'b')").await;
    db.flush("app.t").await;
    db.count("DELETE FROM t WHERE id = 1").await;
    db.flush("app.t").await;
    db.count("UPDATE t SET n = 3 WHERE id = 2").await;
    db.flush("app.t").await;
    db.clock.step(2 * HOUR_NS);
    assert!(db.compact_batches("t", &Scope::Shared, 1..3).await);
    assert_eq!(active(&db), [(1, 2), (4, 2)]);
    let db = db.restart().await;
    assert_eq!(db.lines("SELECT id, n FROM t").await, ["2|3"]);
    db.compact("app.t").await;
    assert_eq!(active(&db), [(5, 1)]);
    assert_eq!(db.lines("SELECT id, n FROM t").await, ["2|3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_left_is_a_batch_of_no_rows() {
    let db = table("WITH (DELETED_RETENTION_HOURS = 1)").await;
    history(&db, 2).await;
    db.count("DELETE FROM t").await;
    db.flush("app.t").await;
    db.clock.step(2 * HOUR_NS);
    db.compact("app.t").await;
    assert_eq!(active(&db), [(4, 0)]);
    assert_eq!(db.lines("SELECT count(*) FROM t").await, ["0"]);
    let db = db.restart().await;
    db.count("INSERT INTO t VALUES (0, 1, 'again')").await;
    db.flush("app.t").await;
    assert_eq!(db.lines(ALL).await, ["0|1|again"]);
    db.compact("app.t").await;
    assert_eq!(db.lines(ALL).await, ["0|1|again"]);
    assert_eq!(active(&db).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_and_flushes_go_on_while_history_is_compacted() {
    let db = table("").await;
    history(&db, 3).await;
    let writes = async {
        for round in 0..40 {
            db.count(&format!("UPDATE t SET n = n + 1 WHERE id = {}", round % 7)).await;
            db.count(&format!("INSERT INTO t VALUES ({}, 0, 'new')", 1_000 + round)).await;
            if round % 4 == 0 {
                db.count(&format!("DELETE FROM t WHERE id = {}", 1_000 + round)).await;
            }
        }
    };
    let flushes = async {
        for _ in 0..20 {
            db.flush("app.t").await;
        }
    };
    let compactions = async {
        for round in 0..20 {
            match round % 3 {
                0 => drop(db.compact("app.t").await),
                at => drop(db.compact_batches("t", &Scope::Shared, at..at + 3).await),
            }
        }
    };
    let reads = async {
        for _ in 0..40 {
            assert_eq!(db.lines("SELECT count(*) FROM t WHERE id < 1000").await, ["30"]);
        }
    };
    let before = db.number("SELECT sum(n) FROM t WHERE id < 7").await;
    tokio::join!(writes, flushes, compactions, reads);
    for _ in 0..2 {
        assert_eq!(db.number("SELECT sum(n) FROM t WHERE id < 7").await, before + 40);
        assert_eq!(db.lines("SELECT count(*) FROM t").await, ["60"]);
        db.flush("app.t").await;
        db.compact("app.t").await;
        assert_eq!(active(&db).len(), 1);
    }
    let db = db.restart().await;
    assert_eq!(db.number("SELECT sum(n) FROM t WHERE id < 7").await, before + 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_column_leaves_with_the_next_compaction() {
    let db = table("WITH (COMPRESSION = 'none')").await;
    db.count("INSERT INTO t VALUES (1, 1, 'needle')").await;
    db.flush("app.t").await;
    db.said("ALTER TABLE t ADD COLUMN more INT DEFAULT 5").await;
    db.said("ALTER TABLE t ALTER COLUMN n TYPE BIGINT").await;
    db.said("ALTER TABLE t DROP COLUMN s").await;
    assert_eq!(db.lines("SELECT id, n, more FROM t").await, ["1|1|5"]);
    db.compact("app.t").await;
    until_files(&db, 1).await;
    assert!(!some_file_has(&db.storage(), "needle"));
    assert_eq!(db.lines("SELECT id, n, more FROM t").await, ["1|1|5"]);
    db.said("ALTER TABLE t ADD COLUMN s TEXT").await;
    assert_eq!(db.lines("SELECT id, n, more, s FROM t").await, ["1|1|5|NULL"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_with_older_columns_can_read_what_is_compacted_after_a_change() {
    let db = table("").await;
    history(&db, 3).await;
    let sql = format!("BEGIN; SELECT count(*) FROM app.t; {ALL}; COMMIT");
    let before = db.lines(ALL).await;
    let mut transaction = db.begin(Db::root(), &sql, Vec::new()).await.unwrap();
    transaction.next().await.unwrap().unwrap();
    db.said("ALTER TABLE app.t DROP COLUMN s").await;
    db.compact("app.t").await;
    let mut seen = Vec::new();
    while let Some(outcome) = transaction.next().await {
        if let kalamdb_core::api::OutcomeResult::Rows(rows) = outcome.unwrap().result {
            seen.push(texts(rows).await.unwrap().into_iter().map(|row| row.join("|")).collect::<Vec<_>>());
        }
    }
    assert_eq!(seen[1], before);
    assert_eq!(db.lines("SELECT count(*), sum(n) FROM t").await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_table_that_is_truncated_or_dropped_meanwhile_loses_nothing_of_its_next_life() {
    let db = table("").await;
    for round in 0..6 {
        history(&db, 3).await;
        let sql = if round % 2 == 0 { "TRUNCATE TABLE app.t" } else { "DROP TABLE app.t" };
        tokio::join!(db.said("STORAGE COMPACT TABLE app.t"), async {
            db.said(sql).await;
        });
        if round % 2 == 1 {
            db.said("CREATE SHARED TABLE app.t (id BIGINT PRIMARY KEY, n INT, s TEXT)").await;
        }
        assert_eq!(db.lines("SELECT count(*) FROM t").await, ["0"]);
    }
    history(&db, 2).await;
    db.compact("app.t").await;
    assert_eq!(db.lines("SELECT count(*) FROM t").await, ["20"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn compaction_shows_as_a_job_and_is_for_administrators() {
    let db = table("").await;
    history(&db, 2).await;
    let refused = db.run_as(Db::user("al"), "STORAGE COMPACT TABLE app.t", Vec::new()).await.unwrap_err();
    assert_eq!(refused.kind(), kalamdb_commons::ErrorKind::PermissionDenied);
    db.said("STORAGE COMPACT ALL IN app WAIT").await;
    let jobs = db.lines("SELECT status, message FROM system.jobs WHERE job_type = 'compaction'").await;
    assert_eq!(jobs, ["completed|2 batches merged in 1 partition(s), 20 rows kept, 1 removed"]);
}

fn some_file_has(directory: &Path, text: &str) -> bool {
    std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).any(|path| {
        if path.is_dir() {
            return some_file_has(&path, text);
        }
        std::fs::read(path).unwrap().windows(text.len()).any(|window| window == text.as_bytes())
    })
}
