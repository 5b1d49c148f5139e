//! What a live query may not do: hold what it reads from for good, keep the log for good, show more than a SELECT does.

use super::*;

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_asks_again_and_again_does_not_hold_its_moment_for_longer_than_is_allowed() {
    let db = with_settings(|settings| settings.limits.snapshot_age_max_seconds = 1).await;
    db.said("INSERT INTO t SELECT value, value FROM generate_series(1, 200000)").await;
    let mut watcher = Watcher::signed_in(&db, "root").await;
    let options = LiveOptions { batch_rows: Some(1), ..LiveOptions::default() };
    watcher.session.subscribe("s", ALL, Some(options)).unwrap();
    let ended = loop {
        match watcher.next().await {
            LiveEvent::Batch { control, .. } => {
                assert!(control.has_more, "200 000 batches in a second");
                watcher.session.next_batch("s", None).unwrap();
            }
            LiveEvent::Ended(ended) => break ended,
            _ => {}
        }
    };
    assert_eq!(ended.code, LiveCode::BatchFetchFailed);
    assert!(ended.error.message().contains("limits.snapshot_age_max_seconds"), "{ended:?}");
    let cursor = watcher.cursor;
    let mut back = Watcher::signed_in(&db, "root").await;
    back.subscribe("SELECT * FROM app.t WHERE k > 199999", resume(cursor)).await;
    db.said("UPDATE t SET v = 0 WHERE k = 200000").await;
    back.reaches(&["200000=0"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_is_not_kept_for_good_for_a_client_that_takes_nothing() {
    let db = with_settings(|settings| {
        settings.live.behind_seconds_max = 1;
        settings.live.queue_rows_max = 4;
    })
    .await;
    let mut slow = Watcher::on(&db, ALL).await;
    let mut fast = Watcher::on(&db, ALL).await;
    for row in 0..20 {
        db.said(&format!("INSERT INTO t VALUES ({row}, 0)")).await;
        fast.agrees_with(&db, ALL_LINES).await;
    }
    let left = async { while db.number("SELECT count(*) FROM system.live").await != 1 {} };
    tokio::time::timeout(PATIENCE, left).await.unwrap();
    let ended = loop {
        if let LiveEvent::Ended(ended) = slow.next().await {
            break ended;
        }
    };
    assert_eq!(ended.code, LiveCode::SubscriptionFailed);
    assert!(ended.error.message().contains("live.behind_seconds_max"), "{ended:?}");
    let cursor = slow.cursor;
    slow.subscribe(ALL, resume(cursor)).await;
    slow.agrees_with(&db, ALL_LINES).await;
    assert!(!slow.resynced);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_projection_that_fails_on_a_row_that_is_not_shown_fails_nobody() {
    let db = with_table().await;
    let of_others = "SELECT * FROM app.t";
    let sql = "SELECT _id, k, 100 / v AS v FROM app.t WHERE v <> 0";
    db.said("INSERT INTO t VALUES (1, 0), (2, 10)").await;
    let mut watcher = Watcher::on(&db, sql).await;
    let mut beside = Watcher::on(&db, of_others).await;
    let cursor = watcher.cursor;
    db.said("UPDATE t SET v = 5 WHERE k = 1").await;
    db.said("UPDATE t SET v = 0 WHERE k = 2").await;
    db.said("BEGIN; INSERT INTO t VALUES (3, 0); INSERT INTO t VALUES (4, 50); UPDATE t SET v = 4 WHERE k = 1; COMMIT")
        .await;
    watcher.reaches(&["1=25", "4=2"]).await;
    assert_eq!(watcher.told(), ["Insert 1=20", "Delete 2=10", "Insert 4=2", "Update 1=25"]);
    beside.agrees_with(&db, ALL_LINES).await;
    // From the log, and from both tiers.
    let mut back = Watcher::signed_in(&db, "root").await;
    back.subscribe(sql, resume(cursor)).await;
    back.reaches(&["1=25", "4=2"]).await;
    db.said("STORAGE FLUSH TABLE t WAIT").await;
    let mut back = Watcher::signed_in(&db, "root").await;
    back.subscribe(sql, resume(cursor)).await;
    back.reaches(&["1=25", "4=2"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_cursor_cannot_be_another_column() {
    let db = with_table().await;
    let watcher = Watcher::signed_in(&db, "root").await;
    watcher.session.subscribe("s", "SELECT k AS _seq, v FROM app.t", snapshot()).unwrap();
    let LiveEvent::Ended(ended) = watcher.session.next().await.event else { panic!("it was not refused") };
    assert_eq!(ended.code, LiveCode::Unsupported);
    let mut renamed = Watcher::signed_in(&db, "root").await;
    renamed.subscribe("SELECT k, v, _seq AS \"_seq\" FROM app.t", snapshot()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_must_begin_anew_gets_every_row_also_if_the_newest_few_were_asked_for() {
    let db = with_table().await;
    let cursor = Watcher::on(&db, ALL).await.cursor;
    db.said("DROP TABLE t").await;
    db.said("CREATE SHARED TABLE t (k INT PRIMARY KEY, v INT)").await;
    db.said("INSERT INTO t VALUES (1, 10), (2, 20)").await;
    let mut back = Watcher::signed_in(&db, "root").await;
    back.subscribe(ALL, Some(LiveOptions { from: Some(cursor), last_rows: Some(1), batch_rows: None })).await;
    assert!(back.resynced);
    assert_eq!(back.rows.into_values().collect::<Vec<_>>(), ["1=10", "2=20"]);
}
