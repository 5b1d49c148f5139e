//! Live queries: what a subscriber ends up with is what SELECT says, whatever happened in between.

mod limits;

use std::collections::BTreeMap;
use std::time::Duration;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use arrow::util::display::array_value_to_string;
use kalamdb_commons::settings::Durability;
use kalamdb_core::api::Origin;
use kalamdb_core::live::{ChangeKind, LiveCode, LiveDelivery, LiveEvent, LiveOptions, LiveSession};

use crate::db::{Db, Said};

const PASSWORD: &str = "correct horse";
/// Long enough for anything that is going to happen.
const PATIENCE: Duration = Duration::from_secs(30);

/// A client that keeps what it is told.
struct Watcher {
    session: LiveSession,
    /// `k` and `v` by `_id`.
    rows: BTreeMap<i64, String>,
    cursor: i64,
    /// What it was told, in words.
    told: Vec<String>,
    resynced: bool,
}

fn snapshot() -> Option<LiveOptions> {
    Some(LiveOptions::default())
}

fn resume(from: i64) -> Option<LiveOptions> {
    Some(LiveOptions { from: Some(from), ..LiveOptions::default() })
}

impl Watcher {
    async fn signed_in(db: &Db, user: &str) -> Self {
        let origin = Origin { address: "127.0.0.1".to_owned(), is_local: true };
        let login = db.engine.login(user, PASSWORD, &origin).await.unwrap();
        let session = db.engine.connect_live().unwrap().sign_in(&login.access_token, None).unwrap();
        Self { session, rows: BTreeMap::new(), cursor: 0, told: Vec::new(), resynced: false }
    }

    /// Root's, subscribed and loaded.
    async fn on(db: &Db, sql: &str) -> Self {
        let mut watcher = Self::signed_in(db, "root").await;
        watcher.subscribe(sql, snapshot()).await;
        watcher
    }

    /// Subscribes, and takes everything through the last batch of the snapshot.
    async fn subscribe(&mut self, sql: &str, options: Option<LiveOptions>) {
        let loads = options.is_some();
        self.session.subscribe("s", sql, options).unwrap();
        loop {
            match self.next().await {
                LiveEvent::Ack { .. } if !loads => return,
                LiveEvent::Batch { control, .. } if control.has_more => self.session.next_batch("s", None).unwrap(),
                LiveEvent::Batch { .. } => return,
                LiveEvent::Ended(ended) => panic!("{ended:?}"),
                _ => {}
            }
        }
    }

    async fn next(&mut self) -> LiveEvent {
        let next = tokio::time::timeout(PATIENCE, self.session.next()).await;
        let LiveDelivery { event, .. } = next.unwrap_or_else(|_| panic!("nothing came after {:?}", self.told));
        match &event {
            LiveEvent::Batch { rows, control } => {
                for row in 0..rows.num_rows() {
                    self.keep(rows, row);
                }
                self.cursor = self.cursor.max(control.last_seq.unwrap_or_default());
            }
            LiveEvent::Changes(changes) => {
                for change in changes.iter() {
                    assert!(change.seq() > self.cursor, "in commit order, each once");
                    self.cursor = change.seq();
                    let id = change.old_values().map(|cells| {
                        let cell = cells.iter().find(|cell| cell.field.name() == "_id").unwrap();
                        cell.values.as_primitive::<Int64Type>().value(cell.row)
                    });
                    let before = id.and_then(|id| self.rows.remove(&id));
                    match change.row() {
                        Some((rows, row)) => {
                            let now = self.keep(rows, row);
                            self.told.push(format!("{:?} {now}", change.kind()));
                        }
                        None => self.told.push(format!("{:?} {}", change.kind(), before.unwrap_or_default())),
                    }
                    assert_eq!(change.row().is_none(), change.kind() == ChangeKind::Delete);
                }
            }
            LiveEvent::ResyncRequired => {
                self.resynced = true;
                self.rows.clear();
                self.cursor = 0;
            }
            LiveEvent::Ack { .. } | LiveEvent::Ended(_) => {}
        }
        event
    }

    fn keep(&mut self, rows: &RecordBatch, row: usize) -> String {
        let text = |name: &str| match rows.column_by_name(name) {
            Some(column) => array_value_to_string(column, row).unwrap(),
            None => String::new(),
        };
        let shown = format!("{}={}", text("k"), text("v"));
        self.rows.insert(text("_id").parse().unwrap(), shown.clone());
        shown
    }

    /// Takes changes until the rows are these, in the order of their ids.
    async fn reaches(&mut self, expected: &[&str]) {
        while self.rows.values().map(String::as_str).collect::<Vec<_>>() != expected {
            if let LiveEvent::Ended(ended) = self.next().await {
                panic!("{ended:?}, not {expected:?}");
            }
        }
    }

    /// Takes changes until its rows are those of a query.
    async fn agrees_with(&mut self, db: &Db, sql: &str) {
        let expected: Vec<String> = db.lines(sql).await;
        let expected: Vec<&str> = expected.iter().map(String::as_str).collect();
        self.reaches(&expected).await;
    }

    async fn ended(&mut self) -> LiveCode {
        loop {
            if let LiveEvent::Ended(ended) = self.next().await {
                return ended.code;
            }
        }
    }

    fn told(&mut self) -> Vec<String> {
        std::mem::take(&mut self.told)
    }
}

async fn with_table() -> Db {
    with_settings(|_| {}).await
}

async fn with_settings(change: impl FnOnce(&mut kalamdb_commons::settings::Settings)) -> Db {
    let db = Db::with(change).await;
    db.said("CREATE NAMESPACE app").await;
    db.said("CREATE SHARED TABLE t (k INT PRIMARY KEY, v INT) WITH (ACCESS_LEVEL='public')").await;
    db
}

const ALL: &str = "SELECT * FROM app.t";
const ALL_LINES: &str = "SELECT concat(k, '=', v) FROM t ORDER BY _id";

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_and_the_changes_after_it_are_the_table() {
    let db = with_table().await;
    db.said("INSERT INTO t VALUES (1, 10), (2, 20)").await;
    db.flush("t").await;
    db.said("INSERT INTO t VALUES (3, 30)").await;
    let mut watcher = Watcher::on(&db, ALL).await;
    assert_eq!(watcher.rows.values().collect::<Vec<_>>(), ["1=10", "2=20", "3=30"]);
    db.said("UPDATE t SET v = 11 WHERE k = 1").await;
    db.said("DELETE FROM t WHERE k = 2").await;
    db.said("INSERT INTO t VALUES (4, 40)").await;
    watcher.reaches(&["1=11", "3=30", "4=40"]).await;
    assert_eq!(watcher.told(), ["Update 1=11", "Delete 2=20", "Insert 4=40"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn entering_a_filter_is_an_insert_and_leaving_it_a_delete_for_hot_and_cold_rows() {
    for flushed in [false, true] {
        let db = with_table().await;
        db.said("INSERT INTO t VALUES (1, 10), (2, 20), (3, 30)").await;
        if flushed {
            db.flush("t").await;
        }
        let mut watcher = Watcher::on(&db, "SELECT _id, k, v FROM app.t WHERE v >= 20").await;
        assert_eq!(watcher.rows.values().collect::<Vec<_>>(), ["2=20", "3=30"]);
        db.said("UPDATE t SET v = 21 WHERE k = 1").await;
        db.said("UPDATE t SET v = 5 WHERE k = 2").await;
        db.said("UPDATE t SET v = 6 WHERE k = 2").await;
        db.said("UPDATE t SET v = 31 WHERE k = 3").await;
        if flushed {
            db.flush("t").await;
        }
        db.said("DELETE FROM t WHERE k = 3").await;
        watcher.reaches(&["1=21"]).await;
        assert_eq!(watcher.told(), ["Insert 1=21", "Delete 2=20", "Update 3=31", "Delete 3=31"], "flushed: {flushed}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_gets_everything_that_came_after_it_from_the_log() {
    let db = with_table().await;
    db.said("INSERT INTO t VALUES (1, 10), (2, 20), (3, 30)").await;
    db.flush("t").await;
    let mut before = Watcher::on(&db, ALL).await;
    let cursor = before.cursor;
    db.said("UPDATE t SET v = 11 WHERE k = 1").await;
    db.flush("t").await;
    db.said("UPDATE t SET v = 12 WHERE k = 1").await;
    db.said("DELETE FROM t WHERE k = 2").await;
    db.flush("t").await;
    before.agrees_with(&db, ALL_LINES).await;
    let mut back = Watcher::signed_in(&db, "root").await;
    back.rows = BTreeMap::from_iter([(0, "gone".to_owned())]);
    back.rows.clear();
    back.cursor = cursor;
    back.subscribe(ALL, resume(cursor)).await;
    while back.told.len() < 3 {
        back.next().await;
    }
    assert_eq!(back.told(), ["Update 1=11", "Update 1=12", "Delete "]);
    assert!(!back.resynced);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_older_than_the_log_gets_every_row_that_changed_and_every_deletion() {
    let db = with_settings(|settings| settings.hot.change_log_retention_seconds = 0).await;
    db.said("INSERT INTO t VALUES (1, 10), (2, 20), (3, 30), (4, 40)").await;
    db.flush("t").await;
    let filter = "SELECT _id, k, v FROM app.t WHERE v < 100";
    let mut away = Watcher::on(&db, filter).await;
    let (cursor, kept) = (away.cursor, away.rows.clone());
    drop(away);
    db.said("UPDATE t SET v = 11 WHERE k = 1").await;
    db.said("DELETE FROM t WHERE k = 2").await;
    db.said("UPDATE t SET v = 300 WHERE k = 3").await;
    db.said("INSERT INTO t VALUES (5, 50), (6, 600)").await;
    db.clock.step(10_000_000_000);
    db.flush("t").await;
    db.said("INSERT INTO t VALUES (7, 70)").await;
    db.said("DELETE FROM t WHERE k = 4").await;
    away = Watcher::signed_in(&db, "root").await;
    (away.cursor, away.rows) = (cursor, kept);
    away.subscribe(filter, resume(cursor)).await;
    away.reaches(&["1=11", "5=50", "7=70"]).await;
    assert_eq!(away.told(), ["Update 1=11", "Delete 2=20", "Delete 3=30", "Insert 5=50", "Insert 7=70", "Delete 4=40"]);
    assert!(!away.resynced);
    db.said("UPDATE t SET v = 12 WHERE k = 1").await;
    away.reaches(&["1=12", "5=50", "7=70"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_below_deletions_that_are_gone_must_resync_and_one_above_need_not() {
    let db = with_settings(|settings| settings.hot.change_log_retention_seconds = 0).await;
    db.said("CREATE SHARED TABLE gone (k INT, v INT) WITH (DELETED_RETENTION_HOURS=0)").await;
    let all = "SELECT * FROM app.gone";
    db.said("INSERT INTO gone VALUES (1, 10), (2, 20), (3, 30)").await;
    let below = Watcher::on(&db, all).await.cursor;
    db.said("DELETE FROM gone WHERE k = 1").await;
    let above = db.number("SELECT max(_seq) FROM gone WHERE _deleted").await;
    db.said("UPDATE gone SET v = 21 WHERE k = 2").await;
    db.clock.step(10_000_000_000);
    db.flush("gone").await;
    for (cursor, resyncs) in [(below, true), (above, false)] {
        let mut back = Watcher::signed_in(&db, "root").await;
        back.cursor = cursor;
        back.subscribe(all, resume(cursor)).await;
        if !resyncs {
            back.reaches(&["2=21"]).await;
        }
        assert_eq!(back.resynced, resyncs);
        let rows = if resyncs { vec!["2=21", "3=30"] } else { vec!["2=21"] };
        assert_eq!(back.rows.values().collect::<Vec<_>>(), rows);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_of_an_earlier_life_of_the_table_must_resync() {
    let db = with_table().await;
    db.said("INSERT INTO t VALUES (1, 10)").await;
    let mut watcher = Watcher::on(&db, ALL).await;
    let cursor = watcher.cursor;
    db.said("TRUNCATE TABLE t").await;
    watcher.session.check().unwrap();
    assert_eq!(watcher.ended().await, LiveCode::NotFound);
    db.said("INSERT INTO t VALUES (2, 20)").await;
    let db = db.restart().await;
    let mut back = Watcher::signed_in(&db, "root").await;
    back.subscribe(ALL, resume(cursor)).await;
    assert!(back.resynced);
    assert_eq!(back.rows.values().collect::<Vec<_>>(), ["2=20"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_client_gets_everything_in_the_end_with_the_changes_of_a_row_merged() {
    let db = with_settings(|settings| settings.live.queue_rows_max = 4).await;
    db.said("INSERT INTO t VALUES (1, 0)").await;
    let mut slow = Watcher::on(&db, ALL).await;
    let mut quick = Watcher::on(&db, ALL).await;
    for v in 1..=200 {
        db.said(&format!("UPDATE t SET v = {v} WHERE k = 1")).await;
        quick.reaches(&[&format!("1={v}")]).await;
    }
    db.said("INSERT INTO t VALUES (2, 20)").await;
    slow.reaches(&["1=200", "2=20"]).await;
    assert!(slow.told().len() < 50, "they were merged");
    assert_eq!(quick.told().len(), 200);
    db.said("DELETE FROM t WHERE k = 2").await;
    slow.reaches(&["1=200"]).await;
    let stats =
        db.lines("SELECT metric_value FROM system.stats WHERE metric_name = 'kalamdb_live_fell_behind_total'").await;
    assert_eq!(stats, ["1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn why_a_subscription_ended_is_not_told_to_the_next_of_its_name() {
    let db = with_table().await;
    let mut watcher = Watcher::on(&db, ALL).await;
    let kill = async || {
        let id = db.lines("SELECT live_id FROM system.live").await.remove(0);
        db.said(&format!("KILL LIVE QUERY '{id}'")).await;
    };
    kill().await;
    watcher.subscribe(ALL, snapshot()).await;
    kill().await;
    watcher.session.unsubscribe("s");
    assert!(watcher.session.try_next().is_none());
    watcher.subscribe(ALL, snapshot()).await;
    db.said("INSERT INTO t VALUES (1, 10)").await;
    watcher.reaches(&["1=10"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_being_sent_still_fills_the_queue() {
    let db = with_settings(|settings| settings.live.queue_rows_max = 2).await;
    let slow = Watcher::on(&db, ALL).await;
    let mut quick = Watcher::on(&db, ALL).await;
    let waits =
        async || db.number("SELECT metric_value FROM system.stats WHERE metric_name = 'kalamdb_live_waiting'").await;
    let behind = async || db.lines("SELECT status FROM system.live WHERE status = 'behind'").await.len();
    let mut sending = Vec::new();
    for k in 1..=2 {
        db.said(&format!("INSERT INTO t VALUES ({k}, 0)")).await;
        quick.reaches(&["1=0", "2=0"][..k]).await;
        sending.push(tokio::time::timeout(PATIENCE, slow.session.next()).await.unwrap());
        assert_eq!(waits().await, k as i64);
    }
    db.said("INSERT INTO t VALUES (3, 0)").await;
    tokio::time::timeout(PATIENCE, async { while behind().await == 0 {} }).await.unwrap();
    assert!(slow.session.try_next().is_none(), "there is no room until those have been sent");
    sending.clear();
    let next = tokio::time::timeout(PATIENCE, slow.session.next()).await.unwrap();
    assert!(matches!(next.event, LiveEvent::Changes(_)));
    drop(next);
    quick.reaches(&["1=0", "2=0", "3=0"]).await;
    assert_eq!(waits().await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn columns_have_the_names_that_select_gives_them() {
    let db = with_table().await;
    db.said("INSERT INTO t VALUES (1, 10)").await;
    for list in [
        "m.k, m.v FROM app.t m",
        "M.k, v, m.v + 1, (m.v) FROM app.t AS m",
        "app.t.k, upper(CAST(t.v AS TEXT)) FROM app.t",
        "m.* FROM app.t m",
        "app.t.* FROM app.t",
        "m.k, m._seq FROM app.t m",
    ] {
        let mut selected = db.columns(&format!("SELECT {list}")).await;
        if !selected.contains(&"_seq".to_owned()) {
            selected.push("_seq".to_owned());
        }
        let watcher = Watcher::signed_in(&db, "root").await;
        watcher.session.subscribe("s", &format!("SELECT {list}"), None).unwrap();
        let LiveEvent::Ack { schema, flags, .. } = watcher.session.next().await.event else { panic!("{list}") };
        let names: Vec<_> = schema.fields().iter().map(|field| field.name().clone()).collect();
        assert_eq!(names, selected, "{list}");
        let key = selected.iter().position(|name| name == "k").unwrap();
        assert!(flags[key].primary_key, "{list}");
        db.said("UPDATE t SET v = v + 1 WHERE k = 1").await;
        let LiveEvent::Changes(changes) = watcher.session.next().await.event else { panic!("{list}") };
        let old: Vec<_> = changes[0].old_values().unwrap().iter().map(|cell| cell.field.name().clone()).collect();
        assert_eq!(old.iter().filter(|name| name.ends_with('k')).count(), 1, "{list}: {old:?}");
    }
    let refused = Watcher::signed_in(&db, "root").await;
    refused.session.subscribe("s", "SELECT other.* FROM app.t", None).unwrap();
    let LiveEvent::Ended(ended) = refused.session.next().await.event else { panic!("it is not the table's") };
    assert_eq!(ended.error.message(), "'other.*' names no columns of the table");
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_are_routed_to_those_whose_value_they_concern_and_to_no_other_user() {
    let db = with_table().await;
    db.said("CREATE USER TABLE own (k INT, v INT)").await;
    db.said(&format!("CREATE USER 'ann' WITH PASSWORD '{PASSWORD}' ROLE 'user'")).await;
    db.said(&format!("CREATE USER 'bob' WITH PASSWORD '{PASSWORD}' ROLE 'user'")).await;
    let mut ann = Watcher::signed_in(&db, "ann").await;
    let mut bob = Watcher::signed_in(&db, "bob").await;
    for watcher in [&mut ann, &mut bob] {
        watcher.subscribe("SELECT * FROM app.own WHERE k = 7 AND v > 0", snapshot()).await;
    }
    let insert = |k: i32, v: i32| format!("INSERT INTO own VALUES ({k}, {v})");
    db.run_as(Db::user("ann"), &insert(7, 1), vec![]).await.unwrap();
    db.run_as(Db::user("bob"), &insert(8, 2), vec![]).await.unwrap();
    db.run_as(Db::user("bob"), &insert(7, 3), vec![]).await.unwrap();
    db.run_as(Db::user("ann"), "UPDATE own SET k = 9 WHERE v = 1", vec![]).await.unwrap();
    db.run_as(Db::user("ann"), &insert(7, 5), vec![]).await.unwrap();
    ann.reaches(&["7=5"]).await;
    bob.reaches(&["7=3"]).await;
    assert_eq!(ann.told(), ["Insert 7=1", "Delete 7=1", "Insert 7=5"]);
    assert_eq!(bob.told(), ["Insert 7=3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_live_is_refused_with_a_reason() {
    let db = with_table().await;
    db.said("CREATE VIEW seen AS SELECT k FROM t").await;
    for (sql, code, reason) in [
        ("SELECT count(*) FROM app.t", LiveCode::Unsupported, "count() looks at other rows"),
        ("SELECT k FROM app.t ORDER BY k", LiveCode::Unsupported, "ORDER BY"),
        ("SELECT k FROM app.t LIMIT 1", LiveCode::Unsupported, "LIMIT"),
        ("SELECT DISTINCT k FROM app.t", LiveCode::Unsupported, "DISTINCT"),
        ("SELECT k FROM app.t GROUP BY k", LiveCode::Unsupported, "GROUP BY"),
        ("SELECT a.k FROM app.t a JOIN app.t b ON a.k = b.k", LiveCode::Unsupported, "joins"),
        ("SELECT k FROM app.t WHERE k IN (SELECT v FROM app.t)", LiveCode::Unsupported, "subquery"),
        ("SELECT k FROM app.t WHERE v < random()", LiveCode::Unsupported, "random() is different each time"),
        ("SELECT k FROM app.t WHERE now() > '2020-01-01'", LiveCode::Unsupported, "changes without a write"),
        ("SELECT k FROM app.t WHERE _deleted", LiveCode::Unsupported, "_deleted"),
        ("SELECT k FROM app.t WHERE k = $1", LiveCode::Unsupported, "parameters"),
        ("SELECT k, row_number() OVER () FROM app.t", LiveCode::Unsupported, "OVER"),
        ("WITH x AS (SELECT 1) SELECT k FROM app.t", LiveCode::Unsupported, "WITH"),
        ("SELECT k FROM app.t UNION SELECT v FROM app.t", LiveCode::Unsupported, "only a SELECT"),
        ("SELECT k FROM app.seen", LiveCode::Unsupported, "view"),
        ("SELECT * FROM system.tables", LiveCode::Unsupported, "own tables"),
        ("DELETE FROM app.t", LiveCode::Unsupported, "only a SELECT"),
        ("SELECT k FROM app.t; SELECT v FROM app.t", LiveCode::Unsupported, "more than one"),
        ("SELECT nothing FROM app.t", LiveCode::InvalidSql, "nothing"),
        ("SELECT k FROM app.t WHERE v", LiveCode::InvalidSql, ""),
        ("SELEC k", LiveCode::InvalidSql, "SELEC"),
        ("SELECT * FROM app.absent", LiveCode::NotFound, "absent"),
    ] {
        let mut watcher = Watcher::signed_in(&db, "root").await;
        watcher.session.subscribe("s", sql, snapshot()).unwrap();
        match watcher.next().await {
            LiveEvent::Ended(ended) => {
                assert_eq!(ended.code, code, "{sql}: {}", ended.error);
                assert!(ended.error.message().contains(reason), "{sql}: {}", ended.error);
            }
            other => panic!("{sql}: {other:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_subscription_ends_with_the_right_to_read_and_with_the_columns() {
    let db = with_table().await;
    db.said(&format!("CREATE USER 'ann' WITH PASSWORD '{PASSWORD}' ROLE 'user'")).await;
    let mut ann = Watcher::signed_in(&db, "ann").await;
    ann.subscribe(ALL, snapshot()).await;
    let mut root = Watcher::on(&db, ALL).await;
    db.said("ALTER TABLE t SET ACCESS LEVEL private").await;
    ann.session.check().unwrap();
    root.session.check().unwrap();
    assert_eq!(ann.ended().await, LiveCode::Unauthorized);
    db.said("INSERT INTO t VALUES (1, 10)").await;
    root.reaches(&["1=10"]).await;
    db.said("ALTER TABLE t ADD COLUMN w INT").await;
    root.session.check().unwrap();
    assert_eq!(root.ended().await, LiveCode::SubscriptionFailed);
    db.said("ALTER USER ann SET ROLE 'service'").await;
    assert!(ann.session.check().is_err(), "the token is no longer good");
}

#[tokio::test(flavor = "multi_thread")]
async fn large_snapshots_come_in_batches_by_rising_version_and_changes_follow_them() {
    let db = with_table().await;
    db.said("INSERT INTO t SELECT value, value FROM generate_series(1, 2500)").await;
    db.flush("t").await;
    db.said("UPDATE t SET v = 0 WHERE k <= 100").await;
    let mut watcher = Watcher::signed_in(&db, "root").await;
    let options = LiveOptions { batch_rows: Some(600), ..LiveOptions::default() };
    watcher.session.subscribe("s", ALL, Some(options)).unwrap();
    let LiveEvent::Ack { total_rows, .. } = watcher.next().await else { panic!("no ack") };
    assert_eq!(total_rows, 2_500);
    let mut sizes = Vec::new();
    loop {
        let LiveEvent::Batch { rows, control } = watcher.next().await else { panic!("changes before the end") };
        sizes.push(rows.num_rows());
        db.said(&format!("UPDATE t SET v = -1 WHERE k = {}", sizes.len())).await;
        if !control.has_more {
            break;
        }
        watcher.session.next_batch("s", None).unwrap();
    }
    assert_eq!(sizes, [600, 600, 600, 600, 100]);
    watcher.agrees_with(&db, ALL_LINES).await;
    let last = LiveOptions { last_rows: Some(3), ..LiveOptions::default() };
    let mut few = Watcher::signed_in(&db, "root").await;
    few.subscribe(ALL, Some(last)).await;
    assert_eq!(few.rows.values().collect::<Vec<_>>(), ["3=-1", "4=-1", "5=-1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_that_is_killed_ends_and_system_live_shows_those_that_are_there() {
    let db = with_table().await;
    let mut watcher = Watcher::on(&db, ALL).await;
    let live =
        db.lines("SELECT live_id, subscription_id, namespace_id, table_name, user_id, query FROM system.live").await;
    let [line] = live.as_slice() else { panic!("{live:?}") };
    let (id, rest) = line.split_once('|').unwrap();
    assert_eq!(rest, "s|app|t|root|SELECT * FROM app.t");
    db.said(&format!("KILL LIVE QUERY '{id}'")).await;
    assert_eq!(watcher.ended().await, LiveCode::SubscriptionFailed);
    assert!(db.lines("SELECT * FROM system.live").await.is_empty());
    assert!(db.error(&format!("KILL LIVE QUERY '{id}'")).await.message().contains("no live query"));
    let Said::Rows(rows) = db.said("SUBSCRIBE TO app.t WHERE k > 1").await else { panic!("no rows") };
    assert_eq!(rows[0][2], "SELECT * FROM app.t WHERE k > 1");
}

#[tokio::test(flavor = "multi_thread")]
async fn stream_tables_are_live_and_a_cursor_older_than_their_log_must_resync() {
    let db = with_table().await;
    db.said("CREATE STREAM TABLE ticks (k INT, v INT) WITH (TTL_SECONDS=3600)").await;
    let all = "SELECT * FROM app.ticks";
    db.said("INSERT INTO ticks VALUES (1, 10)").await;
    let mut watcher = Watcher::on(&db, all).await;
    let cursor = watcher.cursor;
    db.said("UPDATE ticks SET v = 11 WHERE k = 1").await;
    db.said("DELETE FROM ticks WHERE k = 1").await;
    db.said("INSERT INTO ticks VALUES (2, 20)").await;
    watcher.reaches(&["2=20"]).await;
    assert_eq!(watcher.told(), ["Update 1=11", "Delete 1=11", "Insert 2=20"]);
    let mut back = Watcher::signed_in(&db, "root").await;
    back.cursor = cursor;
    back.subscribe(all, resume(cursor)).await;
    back.reaches(&["2=20"]).await;
    assert_eq!(back.told(), ["Update 1=11", "Delete 1=11", "Insert 2=20"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_transaction_writes_arrives_whole() {
    let db = with_table().await;
    let mut watcher = Watcher::on(&db, ALL).await;
    let many: Vec<String> = (0..1_500).map(|k| format!("({k}, 0)")).collect();
    db.said(&format!("BEGIN; INSERT INTO t VALUES {}; UPDATE t SET v = 1 WHERE k < 10; COMMIT", many.join(", "))).await;
    let LiveEvent::Changes(changes) = watcher.next().await else { panic!("no changes") };
    assert_eq!(changes.len(), 1_500);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_nobody_writes_is_trimmed_too_and_a_cursor_below_it_is_served_or_told() {
    let db = with_settings(|settings| settings.hot.change_log_retention_seconds = 1).await;
    db.said("CREATE STREAM TABLE ticks (k INT, v INT) WITH (TTL_SECONDS=3600)").await;
    for (table, resyncs) in [("ticks", true), ("t", false)] {
        let all = format!("SELECT * FROM app.{table}");
        db.said(&format!("INSERT INTO {table} VALUES (1, 10), (2, 20)")).await;
        let away = Watcher::on(&db, &all).await;
        let (cursor, kept) = (away.cursor, away.rows.clone());
        drop(away);
        db.said(&format!("DELETE FROM {table} WHERE k = 1")).await;
        db.said(&format!("UPDATE {table} SET v = 21 WHERE k = 2")).await;
        let above = db.number(&format!("SELECT max(_seq) FROM {table}")).await;
        db.clock.step(10_000_000_000);
        db.said("CREATE SHARED TABLE IF NOT EXISTS other (a INT); INSERT INTO other VALUES (1)").await;
        db.engine.trim_change_logs().await;
        let mut back = Watcher::signed_in(&db, "root").await;
        (back.cursor, back.rows) = (cursor, kept);
        back.subscribe(&all, resume(cursor)).await;
        back.reaches(&["2=21"]).await;
        assert_eq!(back.resynced, resyncs, "{table}");
        db.said(&format!("INSERT INTO {table} VALUES (3, 30)")).await;
        back.reaches(&["2=21", "3=30"]).await;
        let mut later = Watcher::signed_in(&db, "root").await;
        later.cursor = above;
        later.subscribe(&all, resume(above)).await;
        later.reaches(&["3=30"]).await;
        assert!(!later.resynced, "{table}: nothing above its cursor was trimmed");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_slow_client_has_not_got_is_not_trimmed() {
    let db = with_settings(|settings| {
        settings.hot.change_log_retention_seconds = 1;
        settings.live.queue_rows_max = 4;
    })
    .await;
    db.said("CREATE STREAM TABLE ticks (k INT, v INT) WITH (TTL_SECONDS=3600)").await;
    let mut slow = Watcher::on(&db, "SELECT * FROM app.ticks").await;
    for k in 1..=50 {
        db.said(&format!("INSERT INTO ticks VALUES ({k}, {k})")).await;
    }
    db.said("DELETE FROM ticks WHERE k < 50").await;
    db.clock.step(10_000_000_000);
    db.engine.trim_change_logs().await;
    slow.reaches(&["50=50"]).await;
    assert!(!slow.resynced);
}

#[tokio::test(flavor = "multi_thread")]
async fn large_rows_come_in_small_portions_and_all_of_them() {
    let db = with_table().await;
    db.said("CREATE SHARED TABLE large (k INT, v TEXT)").await;
    let text = "x".repeat(300_000);
    let mut watcher = Watcher::on(&db, "SELECT _id, k, length(v) AS v FROM app.large").await;
    for tens in 0..3 {
        let rows: Vec<String> = (0..10).map(|k| format!("({}, '{text}')", tens * 10 + k)).collect();
        for some in rows.chunks(3) {
            db.said(&format!("INSERT INTO large VALUES {}", some.join(", "))).await;
        }
    }
    watcher.agrees_with(&db, "SELECT concat(k, '=', length(v)) FROM large ORDER BY _id").await;
    let mut loading = Watcher::signed_in(&db, "root").await;
    loading.session.subscribe("s", "SELECT * FROM app.large", snapshot()).unwrap();
    let mut sizes = Vec::new();
    while sizes.iter().sum::<usize>() < 30 {
        if let LiveEvent::Batch { rows, control } = loading.next().await {
            sizes.push(rows.num_rows());
            if control.has_more {
                loading.session.next_batch("s", None).unwrap();
            }
        }
    }
    assert!(sizes.len() > 1 && sizes.iter().all(|size| *size <= 14), "{sizes:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_ask_for_more_has_nothing_held_and_gets_the_rest_when_it_asks() {
    let db = with_table().await;
    db.said("INSERT INTO t SELECT value, value FROM generate_series(1, 100)").await;
    for last_rows in [None, Some(50)] {
        let mut watcher = Watcher::signed_in(&db, "root").await;
        let options = LiveOptions { batch_rows: Some(40), last_rows, ..LiveOptions::default() };
        watcher.session.subscribe("s", ALL, Some(options)).unwrap();
        loop {
            let LiveEvent::Batch { control, .. } = watcher.next().await else { continue };
            if !control.has_more {
                break;
            }
            let waits = async { while db.lines("SELECT status FROM system.live").await != ["waiting"] {} };
            tokio::time::timeout(PATIENCE, waits).await.unwrap();
            let row = 1 + watcher.rows.len() % 10;
            db.said(&format!("UPDATE t SET v = v + 1 WHERE k = {row}")).await;
            watcher.session.next_batch("s", None).unwrap();
        }
        assert_eq!(watcher.rows.len(), last_rows.unwrap_or(100));
        db.said("INSERT INTO t VALUES (0, 0); DELETE FROM t WHERE k = 0").await;
        while watcher.told.last().is_none_or(|told| told != "Delete 0=0") {
            watcher.next().await;
        }
        if last_rows.is_none() {
            assert_eq!(watcher.rows.into_values().collect::<Vec<_>>(), db.lines(ALL_LINES).await);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_that_expired_are_left_out_of_what_a_cursor_missed() {
    let db = with_table().await;
    db.said("CREATE STREAM TABLE ticks (k INT, v INT) WITH (TTL_SECONDS=60)").await;
    let all = "SELECT * FROM app.ticks";
    db.said("INSERT INTO ticks VALUES (1, 10)").await;
    let cursor = Watcher::on(&db, all).await.cursor;
    db.said("INSERT INTO ticks VALUES (2, 20)").await;
    db.said("UPDATE ticks SET v = 11 WHERE k = 1").await;
    db.said("INSERT INTO ticks VALUES (3, 30)").await;
    db.said("DELETE FROM ticks WHERE k = 3").await;
    db.clock.step(70_000_000_000);
    db.said("INSERT INTO ticks VALUES (4, 40)").await;
    let table = serde_json::json!({"namespace": "app", "table": "ticks"});
    let submission = kalamdb_core::jobs::Submission::own("stream_eviction", table);
    db.engine.jobs().submit(submission).await.unwrap();
    let done = "SELECT count(*) FROM system.jobs WHERE job_type = 'stream_eviction' AND status = 'completed'";
    tokio::time::timeout(PATIENCE, async { while db.number(done).await == 0 {} }).await.unwrap();
    let mut back = Watcher::signed_in(&db, "root").await;
    back.cursor = cursor;
    back.subscribe(all, resume(cursor)).await;
    back.reaches(&["4=40"]).await;
    assert!(!back.resynced);
    assert_eq!(back.told().last().unwrap(), "Insert 4=40");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_from_before_a_restore_must_resync() {
    let db = with_table().await;
    db.said("CREATE STREAM TABLE ticks (k INT, v INT) WITH (TTL_SECONDS=3600)").await;
    let beside = tempfile::tempdir().unwrap();
    let place = beside.path().join("backup");
    for table in ["t", "ticks"] {
        db.said(&format!("INSERT INTO {table} VALUES (1, 10)")).await;
    }
    db.said(&format!("BACKUP DATABASE app TO '{}' WAIT", place.display())).await;
    let mut cursors = Vec::new();
    for table in ["t", "ticks"] {
        db.said(&format!("UPDATE {table} SET v = 11 WHERE k = 1")).await;
        cursors.push((table, Watcher::on(&db, &format!("SELECT * FROM app.{table}")).await.cursor));
    }
    db.said("DROP NAMESPACE app CASCADE").await;
    let restored = async {
        while let Err(error) = db.run(&format!("RESTORE DATABASE app FROM '{}' WAIT", place.display())).await {
            assert!(error.message().contains("still being removed"), "{error}");
        }
    };
    tokio::time::timeout(PATIENCE, restored).await.unwrap();
    for db in [db.restart().await] {
        for (table, cursor) in &cursors {
            let mut back = Watcher::signed_in(&db, "root").await;
            back.cursor = *cursor;
            back.subscribe(&format!("SELECT * FROM app.{table}"), resume(*cursor)).await;
            assert!(back.resynced, "{table}");
            assert_eq!(back.rows.values().collect::<Vec<_>>(), ["1=10"], "{table}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cursor_of_an_erased_account_must_resync_also_if_commits_are_ahead_of_the_clock() {
    let db = with_table().await;
    db.said("CREATE USER TABLE own (k INT, v INT)").await;
    // Commit times go on above the ceiling of the run before: ahead of the clock.
    let db = db.restart().await;
    let create = format!("CREATE USER 'ann' WITH PASSWORD '{PASSWORD}' ROLE 'user'");
    let all = "SELECT * FROM app.own";
    db.said(&create).await;
    db.run_as(Db::user("ann"), "INSERT INTO app.own VALUES (1, 10)", vec![]).await.unwrap();
    let mut ann = Watcher::signed_in(&db, "ann").await;
    ann.subscribe(all, snapshot()).await;
    let cursor = ann.cursor;
    let mut again = Watcher::signed_in(&db, "ann").await;
    again.subscribe(all, resume(cursor)).await;
    assert!(!again.resynced);
    drop((ann, again));
    db.said("ERASE USER 'ann'").await;
    db.said(&create).await;
    let mut back = Watcher::signed_in(&db, "ann").await;
    back.subscribe(all, resume(cursor)).await;
    assert!(back.resynced);
    assert!(back.rows.is_empty());
    db.run_as(Db::user("ann"), "INSERT INTO app.own VALUES (2, 20)", vec![]).await.unwrap();
    back.reaches(&["2=20"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_that_lost_nothing_asks_nobody_to_resync() {
    for durability in [Durability::Sync, Durability::Buffered] {
        let mut db = with_settings(|settings| settings.hot.durability = durability).await;
        let mut cursors = vec![Watcher::on(&db, ALL).await.cursor];
        db.said("INSERT INTO t VALUES (1, 10)").await;
        cursors.push(Watcher::on(&db, ALL).await.cursor);
        // The newest commit is of no row.
        db.said(&format!("CREATE USER 'ann' WITH PASSWORD '{PASSWORD}' ROLE 'user'")).await;
        cursors.push(Watcher::on(&db, "SELECT * FROM app.t WHERE v > 100").await.cursor);
        for _ in 0..3 {
            db = db.restart().await;
            // Nothing is committed in this run.
            let filter = "SELECT * FROM app.t WHERE v > 100";
            cursors.push(Watcher::on(&db, filter).await.cursor);
        }
        for cursor in cursors {
            let mut back = Watcher::signed_in(&db, "root").await;
            back.subscribe(ALL, resume(cursor)).await;
            assert!(!back.resynced, "{durability:?}: {cursor}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn as_user_is_refused_for_shared_tables_as_in_every_statement() {
    let db = with_table().await;
    db.said(&format!("CREATE USER 'ann' WITH PASSWORD '{PASSWORD}' ROLE 'user'")).await;
    let watcher = Watcher::signed_in(&db, "root").await;
    watcher.session.subscribe("s", "EXECUTE AS USER 'ann' (SELECT * FROM app.t)", snapshot()).unwrap();
    let LiveEvent::Ended(ended) = watcher.session.next().await.event else { panic!("it was not refused") };
    assert_eq!(ended.error.message(), "AS USER clause not supported for Shared tables");
}
