//! Publications whose answer was lost: the manifest is stored, and who published it was told that it failed.

use fail::FailScenario;

use crate::db::Db;

const ALL: &str = "SELECT id, n FROM t ORDER BY id";

/// What a reader sees of the table, by a scan, by a scan that ranges rule batches out of, and row by row.
async fn assert_rows<const N: usize>(db: &Db, rows: [&str; N]) {
    assert_eq!(db.lines(ALL).await, rows);
    for row in rows {
        let (id, n) = row.split_once('|').unwrap();
        assert_eq!(db.lines(&format!("SELECT n FROM t WHERE id = {id}")).await, [n]);
        assert_eq!(db.lines(&format!("SELECT n FROM t WHERE id BETWEEN {id} AND {id}")).await, [n]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_flush_after_a_compaction_that_was_not_heard_of_reads_what_is_stored() {
    let scenario = FailScenario::setup();
    let db = Db::new().await;
    db.said("CREATE NAMESPACE app").await;
    db.said("CREATE SHARED TABLE app.t (id BIGINT PRIMARY KEY, n INT)").await;
    for id in 1..4 {
        db.count(&format!("INSERT INTO t VALUES ({id}, {id}0)")).await;
        db.flush("t").await;
    }
    // The inputs are marked, and then replaced.
    fail::cfg("manifest::after_durable", "1*off->1*return->off").unwrap();
    db.error("STORAGE COMPACT TABLE t WAIT").await;
    assert_rows(&db, ["1|10", "2|20", "3|30"]).await;
    db.count("UPDATE t SET n = 11 WHERE id = 1").await;
    db.count("INSERT INTO t VALUES (4, 40)").await;
    db.flush("t").await;
    let now = ["1|11", "2|20", "3|30", "4|40"];
    assert_rows(&db, now).await;
    db.count("UPDATE t SET n = 12 WHERE id = 1").await;
    db.compact("t").await;
    let now = ["1|12", "2|20", "3|30", "4|40"];
    assert_rows(&db, now).await;
    assert_rows(&db.restart().await, now).await;
    scenario.teardown();
}
