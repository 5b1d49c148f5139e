//! STREAM tables: rows are seen until their time is over and not a moment longer, whoever asks and however; then a job
//! removes them. They are never written to a file.

use kalamdb_commons::clock::Clock;
use kalamdb_commons::schema::Role;
use serde_json::json;

use crate::db::{Db, Said};

const SECOND_NS: i64 = 1_000_000_000;

/// A STREAM table `s` whose rows are seen for a minute, and which are removed when a test says so.
async fn stream() -> Db {
    stream_with(31_536_000).await
}

/// The same that is looked through every so many seconds.
async fn stream_with(interval_seconds: u64) -> Db {
    let db = Db::with(|settings| settings.jobs.stream_eviction_interval_seconds = interval_seconds).await;
    db.said("CREATE NAMESPACE app; CREATE STREAM TABLE app.s (k BIGINT PRIMARY KEY, n BIGINT) WITH (TTL_SECONDS = 60)")
        .await;
    for user in ["al", "bo"] {
        db.said(&format!("CREATE USER '{user}' WITH PASSWORD 'a password'")).await;
    }
    db
}

async fn as_al(db: &Db, sql: &str) -> Said {
    let said = db.run_as(Db::user("al"), sql, Vec::new()).await;
    said.unwrap_or_else(|error| panic!("{sql}: {error}")).pop().unwrap()
}

async fn seen(db: &Db) -> Vec<String> {
    db.lines_as(Db::user("al"), "SELECT k, n FROM s ORDER BY k").await
}

/// Moves the clock so that the next statement begins at this moment. Each one takes place a millisecond on.
fn next_at(db: &Db, ns: i64) {
    db.clock.step(ns - 1_000_000 - db.clock.now_ns());
}

/// The commit time of al's row.
async fn written(db: &Db, k: i64) -> i64 {
    let lines = db.lines_as(Db::user("al"), &format!("SELECT _seq FROM s WHERE k = {k}")).await;
    lines.concat().parse().unwrap()
}

/// Removes what has expired, and says how.
async fn evict(db: &Db) -> String {
    let submission =
        kalamdb_core::jobs::Submission::own("stream_eviction", json!({ "namespace": "app", "table": "s" }));
    let job = db.engine.jobs().submit(submission).await.unwrap();
    db.engine.jobs().wait(&job).await.unwrap().message
}

async fn hot_rows(db: &Db) -> i64 {
    db.number("SELECT metric_value FROM system.stats WHERE metric_name = 'kalamdb_hot_rows'").await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_row_is_seen_until_its_time_is_over_and_not_a_moment_longer() {
    let db = stream().await;
    as_al(&db, "INSERT INTO s VALUES (1, 10)").await;
    let over = written(&db, 1).await + 60 * SECOND_NS;
    for (ways, rows) in [(-1, 1), (0, 0)] {
        for sql in [
            "SELECT * FROM s",
            "SELECT * FROM s WHERE k = 1",
            "SELECT k FROM s WHERE n > 5 AND k < 7",
            "SELECT a.k FROM s a JOIN s b ON a.k = b.k",
            "SELECT k FROM s WHERE k IN (SELECT max(k) FROM s)",
        ] {
            next_at(&db, over + ways);
            assert_eq!(db.lines_as(Db::user("al"), sql).await.len(), rows, "{sql} {ways} ns from its end");
        }
        next_at(&db, over + ways);
        assert_eq!(db.lines_as(Db::user("al"), "SELECT count(*) FROM s").await, [rows.to_string()]);
        next_at(&db, over + ways);
        assert_eq!(db.lines("SELECT _user, k FROM ALL USERS OF s").await.len(), rows);
        next_at(&db, over + ways);
        let found = db.run_as(Db::root(), "EXECUTE AS USER 'al' (SELECT k FROM s)", Vec::new()).await.unwrap();
        assert_eq!(found, [Said::Rows(vec![vec!["1".to_owned()]; rows])]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_written_right_after_a_restart_is_seen_no_longer_for_that() {
    let mut db = stream().await;
    for k in 1..4 {
        as_al(&db, &format!("INSERT INTO s VALUES ({k}, 10)")).await;
        db = db.restart().await;
        as_al(&db, &format!("INSERT INTO s VALUES ({k}0, 10)")).await;
    }
    let now_ns = db.clock.now_ns();
    assert!(written(&db, 30).await <= now_ns, "commit times are ahead of the clock");
    next_at(&db, now_ns + 60 * SECOND_NS);
    assert_eq!(seen(&db).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_meet_the_rows_that_are_seen_and_renew_their_time() {
    let db = stream().await;
    as_al(&db, "INSERT INTO s VALUES (1, 10), (2, 20), (3, 30)").await;
    db.clock.step(40 * SECOND_NS);
    assert_eq!(as_al(&db, "UPDATE s SET n = n + 1 WHERE k = 2").await, Said::Count(1));
    assert_eq!(as_al(&db, "DELETE FROM s WHERE k = 3").await, Said::Count(1));
    assert_eq!(seen(&db).await, ["1|10", "2|21"]);
    db.clock.step(30 * SECOND_NS);
    assert_eq!(seen(&db).await, ["2|21"], "a change renews a row's time");
    for gone in ["UPDATE s SET n = 0 WHERE k = 1", "UPDATE s SET n = 0 WHERE n = 10", "DELETE FROM s WHERE k = 1"] {
        assert_eq!(as_al(&db, gone).await, Said::Count(0), "{gone}");
    }
    let said = db.run_as(Db::root(), "UPDATE s AS USER 'al' SET n = 5 WHERE k = 2", Vec::new()).await.unwrap();
    assert_eq!(said, [Said::Count(1)]);
    let said = db.run_as(Db::root(), "DELETE FROM s AS USER 'bo'", Vec::new()).await.unwrap();
    assert_eq!(said, [Said::Count(0)]);
    assert_eq!(seen(&db).await, ["2|5"]);
    as_al(&db, "BEGIN; INSERT INTO s VALUES (7, 70); UPDATE s SET n = n + 1; COMMIT").await;
    assert_eq!(seen(&db).await, ["2|6", "7|71"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_row_holds_no_key_before_and_after_it_is_removed() {
    for evicts in [false, true] {
        let db = stream().await;
        as_al(&db, "INSERT INTO s VALUES (1, 10), (2, 20)").await;
        let taken = db.run_as(Db::user("al"), "INSERT INTO s VALUES (1, 11)", Vec::new()).await.unwrap_err();
        assert!(taken.message().contains("already exists"), "{taken}");
        db.clock.step(61 * SECOND_NS);
        as_al(&db, "INSERT INTO s VALUES (1, 12)").await;
        assert_eq!(
            as_al(&db, "INSERT INTO s VALUES (2, 22) ON CONFLICT (k) DO UPDATE SET n = 0").await,
            Said::Count(1)
        );
        if evicts {
            assert_eq!(evict(&db).await, "2 expired rows removed in 1 partition(s)");
        }
        assert_eq!(seen(&db).await, ["1|12", "2|22"]);
        assert_eq!(db.lines_as(Db::user("al"), "SELECT n FROM s WHERE k = 1").await, ["12"]);
        let taken = db.run_as(Db::user("al"), "INSERT INTO s VALUES (1, 13)", Vec::new()).await.unwrap_err();
        assert!(taken.message().contains("already exists"), "the new row holds it: {taken}");
        as_al(&db, "DELETE FROM s WHERE k = 1; INSERT INTO s VALUES (1, 14)").await;
        assert_eq!(seen(&db).await, ["1|14", "2|22"]);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_job_removes_what_has_expired_and_nothing_else_and_no_file_is_ever_written() {
    let mut db = stream().await;
    as_al(&db, "INSERT INTO s VALUES (1, 10), (2, 20)").await;
    db.run_as(Db::user("bo"), "INSERT INTO s VALUES (1, 11)", Vec::new()).await.unwrap();
    db.clock.step(40 * SECOND_NS);
    as_al(&db, "INSERT INTO s VALUES (3, 30); UPDATE s SET n = 21 WHERE k = 2").await;
    assert_eq!(evict(&db).await, "nothing has expired");
    db.clock.step(30 * SECOND_NS);
    for _ in 0..2 {
        db.said("STORAGE FLUSH ALL WAIT").await;
        db = db.restart().await;
        assert_eq!(seen(&db).await, ["2|21", "3|30"]);
    }
    assert_eq!(hot_rows(&db).await, 4);
    assert_eq!(evict(&db).await, "2 expired rows removed in 2 partition(s)");
    assert_eq!(hot_rows(&db).await, 2);
    assert_eq!(evict(&db).await, "nothing has expired", "again changes nothing");
    assert_eq!(seen(&db).await, ["2|21", "3|30"]);
    assert!(!db.storage().join("app").exists(), "a file was written");
    let done = "SELECT progress->>'rows' FROM system.jobs WHERE job_type = 'stream_eviction' AND status = 'completed'";
    assert_eq!(db.lines(done).await, ["2"]);
    db.clock.step(3_600 * SECOND_NS);
    evict(&db).await;
    assert_eq!((hot_rows(&db).await, seen(&db).await), (0, Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_has_expired_is_removed_by_itself_and_the_change_log_after_it() {
    let db = stream_with(10).await;
    as_al(&db, "INSERT INTO s VALUES (1, 10); UPDATE s SET n = 11").await;
    let jobs = || db.lines("SELECT status FROM system.jobs WHERE job_type = 'stream_eviction' ORDER BY created_at");
    for (seconds, done) in [(30, 0), (61, 1), (1_000, 1), (3_600, 2), (3_600, 2)] {
        db.clock.step(seconds * SECOND_NS);
        db.engine.tick().await;
        db.engine.jobs().idle().await;
        assert_eq!(jobs().await, vec!["completed"; done], "after {seconds} s more");
    }
    assert_eq!(hot_rows(&db).await, 0);
}

/// A reader that began before keeps what it sees, while rows expire and are removed.
#[tokio::test(flavor = "multi_thread")]
async fn a_statement_sees_the_rows_of_its_own_moment() {
    let db = stream().await;
    let values = (0..20_000).map(|k| format!("({k}, {k})")).collect::<Vec<_>>().join(", ");
    as_al(&db, &format!("INSERT INTO s VALUES {values}")).await;
    let reader = db.open(Db::user("al"), "SELECT k FROM s").await;
    db.clock.step(100 * SECOND_NS);
    evict(&db).await;
    assert_eq!(seen(&db).await, Vec::<String>::new());
    assert_eq!(crate::db::texts(reader).await.unwrap().len(), 20_000);
    assert_eq!(hot_rows(&db).await, 0);
}

/// However often rows are written over, what is kept in memory does not grow.
#[tokio::test(flavor = "multi_thread")]
async fn rows_that_are_written_over_and_over_take_no_more_memory() {
    let db = stream().await;
    as_al(&db, "INSERT INTO s VALUES (1, 0)").await;
    for _ in 0..50 {
        as_al(&db, "UPDATE s SET n = n + 1").await;
    }
    let stats = db.lines("SHOW STATS FOR TABLE s").await;
    assert!(stats.contains(&"hot_versions_that_replace|0".to_owned()), "{stats:?}");
    assert!(stats.contains(&"hot_rows|1".to_owned()), "{stats:?}");
    assert_eq!(seen(&db).await, ["1|50"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_import_into_a_stream_expires_like_everything_else() {
    use arrow::array::{Int64Array, RecordBatch};
    let db = stream().await;
    let actor = Db::actor("svc", Role::Service);
    let import = db.import(actor, Some("al"), "app.s").await.unwrap();
    let columns = [1, 2].map(|n| std::sync::Arc::new(Int64Array::from(vec![n, n + 2])) as _);
    let rows = RecordBatch::try_new(import.schema(), columns.to_vec()).unwrap();
    assert_eq!(import.write(&rows).await.unwrap(), 2);
    assert_eq!(seen(&db).await, ["1|2", "3|4"]);
    db.clock.step(60 * SECOND_NS);
    assert_eq!(seen(&db).await, Vec::<String>::new());
}
