//! A reader that has begun sees its moment to the end: whatever a flush or a compaction publishes meanwhile, and also when
//! the reader began at a moment that the next view would have served too.

use fail::FailScenario;
use kalamdb_core::Execution;
use kalamdb_core::api::OutcomeResult;

use crate::Gate;
use crate::db::{Db, texts};

const ALL: &str = "SELECT id, n FROM t ORDER BY id";
const ROWS: [&str; 3] = ["1|11", "2|20", "4|40"];

/// A table with history, of which a hot version replaces one row and a hot deletion another.
async fn replaced() -> Db {
    let db = Db::new().await;
    db.said("CREATE NAMESPACE app").await;
    db.said("CREATE SHARED TABLE app.t (id BIGINT PRIMARY KEY, n INT)").await;
    db.count("INSERT INTO t VALUES (1, 10), (2, 20)").await;
    db.flush("t").await;
    db.count("INSERT INTO t VALUES (3, 30)").await;
    db.flush("t").await;
    db.count("UPDATE t SET n = 11 WHERE id = 1").await;
    db.count("DELETE FROM t WHERE id = 3").await;
    db.count("INSERT INTO t VALUES (4, 40)").await;
    db
}

/// A transaction that has looked up a row, so that it has chosen what it reads by, and has scanned nothing.
async fn reader(db: &Db) -> Execution {
    let sql = format!("BEGIN; SELECT n FROM t WHERE id = 2; {ALL}; COMMIT");
    let mut reader = db.begin(Db::root(), &sql, Vec::new()).await.unwrap();
    reader.next().await.unwrap().unwrap();
    assert_eq!(lines(&mut reader).await, ["20"]);
    reader
}

/// How many hot versions that replace a row are remembered.
async fn replacing(db: &Db) -> String {
    let stats = db.rows("SHOW STATS FOR TABLE t").await;
    stats.into_iter().find(|row| row[0] == "hot_versions_that_replace").unwrap().remove(1)
}

/// The rows of a request's next statement.
async fn lines(reader: &mut Execution) -> Vec<String> {
    let OutcomeResult::Rows(rows) = reader.next().await.unwrap().unwrap().result else { panic!("no query") };
    texts(rows).await.unwrap().into_iter().map(|row| row.join("|")).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_row_is_there_once_for_who_began_before_a_flush_at_the_same_moment() {
    let scenario = FailScenario::setup();
    let db = replaced().await;
    let mut reader = reader(&db).await;
    db.flush("t").await;
    assert_eq!(db.manifest("t", "shared").batches.len(), 3);
    db.count("UPDATE t SET n = 21 WHERE id = 2").await;
    assert_eq!(lines(&mut reader).await, ROWS);
    assert_eq!(db.lines(ALL).await, ["1|11", "2|21", "4|40"]);
    scenario.teardown();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_row_is_there_once_for_who_began_before_a_compaction_and_a_flush() {
    let scenario = FailScenario::setup();
    let db = replaced().await;
    let mut reader = reader(&db).await;
    db.compact("t").await;
    db.flush("t").await;
    assert_eq!(lines(&mut reader).await, ROWS);
    scenario.teardown();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_row_is_there_once_for_who_began_before_another_reader_and_after_a_flush() {
    let scenario = FailScenario::setup();
    let db = replaced().await;
    let gate = Gate::at("flush::after_batch");
    db.said("STORAGE FLUSH TABLE t").await;
    gate.wait_until_reached();
    let mut older = reader(&db).await;
    db.count("UPDATE t SET n = 12 WHERE id = 1").await;
    let mut newer = reader(&db).await;
    assert_eq!(lines(&mut newer).await, ["1|12", "2|20", "4|40"]);
    gate.open();
    db.flush("t").await;
    assert_eq!(db.manifest("t", "shared").batches.len(), 4);
    assert_eq!(lines(&mut older).await, ROWS);
    scenario.teardown();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn what_a_reader_needed_is_forgotten_when_it_has_left() {
    let scenario = FailScenario::setup();
    let db = replaced().await;
    let reader = reader(&db).await;
    db.flush("t").await;
    assert_eq!(replacing(&db).await, "2");
    drop(reader);
    db.count("INSERT INTO t VALUES (5, 50)").await;
    db.flush("t").await;
    assert_eq!(replacing(&db).await, "0");
    scenario.teardown();
}
