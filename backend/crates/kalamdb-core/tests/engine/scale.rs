//! Many partitions: what is counted for one of them does not depend on the others, and what nobody uses is not read.

use crate::db::Db;

const USERS: usize = 300;

/// A USER table in which everybody has one row of history.
async fn many() -> Db {
    let db = Db::new().await;
    db.said("CREATE NAMESPACE app; CREATE USER TABLE app.u (id BIGINT PRIMARY KEY, n INT)").await;
    for user in 0..USERS {
        db.run_as(Db::user(&format!("user{user}")), "INSERT INTO u VALUES (1, 1)", vec![]).await.unwrap();
    }
    db
}

async fn figure(db: &Db, name: &str) -> i64 {
    db.number(&format!("SELECT metric_value FROM system.stats WHERE metric_name = 'kalamdb_{name}'")).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_reads_the_manifests_of_those_who_come_and_nobody_elses() {
    let db = many().await;
    db.flush("u").await;
    let db = db.restart().await;
    assert_eq!(figure(&db, "partitions").await, USERS as i64);
    assert_eq!(figure(&db, "open_partition_bytes").await, 0);
    let found = db.lines_as(Db::user("user7"), "SELECT n FROM u WHERE id = 1").await;
    assert_eq!(found, ["1"]);
    assert_eq!(
        (figure(&db, "manifest_cache_misses_total").await, figure(&db, "manifest_cache_revalidated_total").await),
        (1, 1)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn hot_rows_are_counted_over_all_partitions_through_every_change() {
    let db = many().await;
    let counted = async |db: &Db| (figure(db, "hot_rows").await, figure(db, "hot_row_bytes").await);
    let (rows, bytes) = counted(&db).await;
    assert_eq!(rows, USERS as i64);
    db.run_as(Db::user("user1"), "UPDATE u SET n = 2", vec![]).await.unwrap();
    assert_eq!(counted(&db).await, (rows, bytes), "the same row, as long as before");
    let db = db.restart().await;
    assert_eq!(counted(&db).await, (rows, bytes));
    db.flush("u").await;
    assert_eq!(counted(&db).await, (0, 0));
    db.run_as(Db::user("user1"), "INSERT INTO u VALUES (2, 2)", vec![]).await.unwrap();
    assert_eq!(counted(&db).await.0, 1);
    db.said("TRUNCATE TABLE u").await;
    let gone = async {
        while counted(&db).await != (0, 0) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), gone).await.unwrap();
}
