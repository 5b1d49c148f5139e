//! The purge of a dropped user, cut short between any two of its durable steps: the next start takes it up and ends it,
//! with nothing of the user left, nothing of others touched, and each of its two entries in the audit log once.

use std::time::Duration;

use serde_json::json;

use crate::server::{Client, Home, Server};

/// Between the durable steps.
pub(crate) const POINTS: &[&str] = &[
    "purge::after_begin",
    "removal::after_manifest",
    "purge::after_cold",
    "purge::after_hot",
    "purge::after_record",
    "purge::after_account",
];

/// A dropped user is due at once, that is, when no statement can be running any more.
const SOON: &[(&str, &str)] = &[
    ("AUTH__DROPPED_USER_HOURS", "0"),
    ("LIMITS__STATEMENT_TIMEOUT_SECONDS", "3"),
    ("LIMITS__SNAPSHOT_AGE_MAX_SECONDS", "3"),
    ("JOBS__USER_PURGE_INTERVAL_SECONDS", "1"),
];
const PURGED_WITHIN: Duration = Duration::from_secs(60);
const PASSWORD: &str = "a password";

async fn rows_of(client: &Client) -> (serde_json::Value, serde_json::Value) {
    (client.rows("SELECT id, word FROM app.t ORDER BY id").await, client.rows("SELECT word FROM app.s").await)
}

/// Two users with rows in both tiers and in a STREAM table.
async fn prepare(home: &Home) {
    let server = home.start().await;
    server.sql("CREATE NAMESPACE app; CREATE USER TABLE app.t (id BIGINT PRIMARY KEY, word TEXT)").await;
    server.sql("CREATE STREAM TABLE app.s (word TEXT) TTL 100000").await;
    for name in ["al", "bo"] {
        let user = server.user(name).await;
        user.sql("INSERT INTO app.t VALUES (1, 'cold'), (2, 'cold')").await;
        server.flush("app.t").await;
        user.sql("INSERT INTO app.t VALUES (3, 'hot'); UPDATE app.t SET word = 'hot' WHERE id = 1").await;
        user.sql("INSERT INTO app.s VALUES ('now')").await;
    }
    server.stop();
}

async fn until_purged(server: &Server) {
    let gone = async {
        while server.rows("SELECT count(*) FROM system.users WHERE user_id = 'al'").await != json!([["0"]]) {}
    };
    assert!(tokio::time::timeout(PURGED_WITHIN, gone).await.is_ok(), "{}", server.home.last_log());
}

async fn cut_short_at(point: &str) {
    let home = Home::new(SOON);
    prepare(&home).await;
    let server = home.with(&[("TESTING__FAIL_POINTS", &format!("{point}=exit"))]).start().await;
    server.sql("DROP USER 'al'").await;
    let ended = async { while server.attempt("SELECT 1").await.is_ok() {} };
    assert!(tokio::time::timeout(PURGED_WITHIN, ended).await.is_ok(), "{point} was not reached");
    drop(server);

    let server = home.start().await;
    until_purged(&server).await;
    let of_al = home.partition("app/t/user_al");
    let files: Vec<_> = std::fs::read_dir(&of_al).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert_eq!(files, ["manifest.json"], "{point}: it keeps the numbering");
    let log = "SELECT actor, kind, object, outcome FROM system.audit_log WHERE kind LIKE 'PURGE%' ORDER BY entry_id";
    assert_eq!(
        server.rows(log).await,
        json!([["(server)", "PURGE USER BEGINS", "al", "ok"], ["(server)", "PURGE USER", "al", "ok"]]),
        "{point}"
    );
    assert_eq!(server.rows("VERIFY AUDIT").await[0][0], json!("ok"), "{point}");
    let whole = (json!([["1", "hot"], ["2", "cold"], ["3", "hot"]]), json!([["now"]]));
    assert_eq!(rows_of(&server.login("bo", PASSWORD).await).await, whole, "{point}");
    let al = server.user("al").await;
    assert_eq!(rows_of(&al).await, (json!([]), json!([])), "{point}");
    al.sql("INSERT INTO app.t VALUES (1, 'new')").await;
    server.flush("app.t").await;
    assert_eq!(al.rows("SELECT id, word FROM app.t").await, json!([["1", "new"]]), "{point}");
    server.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_purge_that_is_cut_short_anywhere_is_ended_by_the_next_start() {
    futures::future::join_all(POINTS.iter().map(|point| cut_short_at(point))).await;
}
