//! A lost manifest: readers wait for one reading of the footers, and for nothing of what is made durable afterwards.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use fail::FailScenario;
use kalamdb_commons::manifest::MANIFEST_FILE;
use kalamdb_commons::settings::Settings;

use crate::Gate;
use crate::db::Db;
use crate::equivalence::{self, HISTORY};

const ALL: &str = "SELECT id, n FROM t ORDER BY id";
const ROWS: [&str; 3] = ["1|10", "2|21", "4|40"];
const TTL_NS: i64 = 3_600_000_000_000;

fn manifest(db: &Db) -> PathBuf {
    db.partition("t", "shared").join(MANIFEST_FILE)
}

/// Two tables with history, of which `t` has superseded and deleted rows in two batches.
async fn history() -> Db {
    history_with(|_| {}).await
}

async fn history_with(change: impl FnOnce(&mut Settings)) -> Db {
    let db = Db::with(change).await;
    db.said("CREATE NAMESPACE app").await;
    db.said("CREATE SHARED TABLE app.t (id BIGINT PRIMARY KEY, n INT)").await;
    db.said("CREATE SHARED TABLE app.other (id BIGINT)").await;
    db.count("INSERT INTO other VALUES (7)").await;
    db.count("INSERT INTO t VALUES (1, 10), (2, 20), (3, 30)").await;
    db.said("STORAGE FLUSH ALL WAIT").await;
    db.count("UPDATE t SET n = 21 WHERE id = 2").await;
    db.count("DELETE FROM t WHERE id = 3").await;
    db.count("INSERT INTO t VALUES (4, 40)").await;
    db.flush("t").await;
    db
}

/// The same as after a start that finds no manifest of `t`.
async fn without_manifest() -> Arc<Db> {
    let db = history().await;
    db.engine.close().await.unwrap();
    std::fs::remove_file(manifest(&db)).unwrap();
    Arc::new(db.reopened().await)
}

fn asking(db: &Arc<Db>) -> tokio::task::JoinHandle<Vec<String>> {
    let db = db.clone();
    tokio::spawn(async move { db.lines(ALL).await })
}

#[tokio::test(flavor = "multi_thread", worker_threads = 6)]
async fn fr_028_readers_wait_for_one_reading_of_the_footers_and_others_for_nothing() {
    let scenario = FailScenario::setup();
    let db = without_manifest().await;
    let gate = Gate::at("rebuild::before_footers");
    let gives_up = asking(&db);
    gate.wait_until_reached();
    let waiting = [asking(&db), asking(&db), asking(&db)];
    // Another partition is read, written and flushed meanwhile.
    assert_eq!(db.lines("SELECT id FROM other").await, ["7"]);
    db.count("INSERT INTO other VALUES (8)").await;
    db.flush("other").await;
    assert_eq!(db.lines("SELECT id FROM other ORDER BY id").await, ["7", "8"]);
    gives_up.abort();
    let came = gate.came.clone();
    gate.open();
    for answer in waiting {
        assert_eq!(answer.await.unwrap(), ROWS);
    }
    db.mended().await;
    assert_eq!(came.load(Ordering::SeqCst), 1, "who gave up, who waited and the job share one reading");
    assert_eq!(db.manifest("t", "shared").batches.len(), 2);
    scenario.teardown();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_view_in_memory_is_read_on_while_the_stored_manifest_is_rebuilt() {
    let scenario = FailScenario::setup();
    let db = history().await;
    assert_eq!(db.lines(ALL).await, ROWS);
    std::fs::write(manifest(&db), "{}").unwrap();
    let gate = Gate::at("rebuild::before_footers");
    db.clock.step(TTL_NS);
    assert_eq!(db.lines(ALL).await, ROWS);
    gate.wait_until_reached();
    assert_eq!(db.lines(ALL).await, ROWS);
    db.count("UPDATE t SET n = 11 WHERE id = 1").await;
    let now = ["1|11", "2|21", "4|40"];
    assert_eq!(db.lines(ALL).await, now);
    gate.open();
    db.mended().await;
    assert_eq!(db.manifest("t", "shared").batches.len(), 2);
    db.flush("t").await;
    assert_eq!(db.restart().await.lines(ALL).await, now);
    scenario.teardown();
}

/// With every step of the history in a batch of its own and no manifest, and the job that stores it standing still.
async fn check(point: &str) {
    let scenario = FailScenario::setup();
    let db = Db::new().await;
    equivalence::found(&db).await;
    let mut mark = 0;
    for step in 0..HISTORY.len() {
        mark = equivalence::step(&db, step).await.unwrap_or(mark);
        db.said("STORAGE FLUSH ALL WAIT").await;
    }
    db.engine.close().await.unwrap();
    std::fs::remove_file(manifest(&db)).unwrap();
    let db = db.reopened().await;
    // The others are open already, so that nothing but the rebuild comes to the point.
    for other in ["kinds", "archive"] {
        db.lines(&format!("SELECT count(*) FROM {other}")).await;
    }
    let gate = Gate::at(point);
    equivalence::ask(&db, mark).await;
    gate.wait_until_reached();
    equivalence::ask(&db, mark).await;
    equivalence::change(&db, false, false).await;
    equivalence::ask_about_changes(&db).await;
    gate.open();
    db.mended().await;
    equivalence::ask_about_changes(&db).await;
    db.flush("t").await;
    let db = db.restart().await;
    equivalence::ask_about_changes(&db).await;
    equivalence::end(db).await;
    scenario.teardown();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn answers_are_the_same_at_every_step_of_a_rebuild() {
    for point in [
        "rebuild::before_manifest",
        "manifest::before_rename",
        "manifest::after_rename",
        "manifest::after_durable",
        "manifest_cache::before_entry",
        "rebuild::after_manifest",
    ] {
        check(point).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_file_that_a_rebuild_counts_before_its_compaction_is_published_stays() {
    let scenario = FailScenario::setup();
    // Without memory for it, no view stays longer than who reads it.
    let db = history_with(|settings| settings.manifest_cache.memory_mib = 0).await;
    let gate = Gate::at("compaction::after_batch");
    db.said("STORAGE COMPACT TABLE t").await;
    gate.wait_until_reached();
    assert_eq!(db.lines(ALL).await, ROWS);
    // All that is left are the files, the merged one among them.
    std::fs::remove_file(manifest(&db)).unwrap();
    db.clock.step(TTL_NS);
    assert_eq!(db.lines(ALL).await, ROWS);
    gate.open();
    db.said("STORAGE COMPACT TABLE t WAIT").await;
    db.mended().await;
    assert_eq!(db.lines(ALL).await, ROWS);
    let found = db.lines("CHECK TABLE t REPAIR").await;
    assert!(found.iter().all(|line| line.contains("nothing refers to it")), "{found:?}");
    assert_eq!(db.lines("CHECK TABLE t").await.len(), 1);
    assert_eq!(db.restart().await.lines(ALL).await, ROWS);
    scenario.teardown();
}
