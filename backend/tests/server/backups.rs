//! Backups, restores and erasures that are cut short between any two of their durable steps.

use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::{Value, json};

use crate::fail_points::assert_becomes_clean;
use crate::server::{Client, Home, Server};

const BACKUP: &[&str] = &["backup::before_description", "backup::after_description"];
const RESTORE: &[&str] =
    &["restore::after_begin", "restore::after_partition", "restore::before_catalog", "restore::after_catalog"];
const ERASE: &[&str] = &["erase::after_begin", "erase::after_partitions", "erase::after_account"];
/// All of them.
pub(crate) const POINTS: [&[&str]; 3] = [BACKUP, RESTORE, ERASE];

const DONE_WITHIN: Duration = Duration::from_secs(60);
/// What is only al's, and cannot be compressed away.
const OF_AL: &str = "Qx7Zk2Vw9Lm4";
const FAST: &[(&str, &str)] = &[("JOBS__ORPHAN_INTERVAL_SECONDS", "1"), ("JOBS__USER_PURGE_INTERVAL_SECONDS", "1")];

async fn prepare(home: &Home) {
    let server = home.start().await;
    server.sql("CREATE NAMESPACE app; CREATE USER TABLE app.t (id BIGINT PRIMARY KEY, word TEXT)").await;
    server.sql("CREATE SHARED TABLE app.s (id BIGINT PRIMARY KEY, n INT); CREATE STREAM TABLE app.f (word TEXT) TTL 100000").await;
    for (name, word) in [("al", OF_AL), ("bo", "of bo")] {
        let user = server.user(name).await;
        user.sql(&format!(
            "INSERT INTO app.t VALUES (1, '{word}'), (2, '{word}'); INSERT INTO app.f VALUES ('{word}')"
        ))
        .await;
        server.flush("app.t").await;
        user.sql(&format!("UPDATE app.t SET word = '{word}!' WHERE id = 1; DELETE FROM app.t WHERE id = 2")).await;
    }
    server.sql("INSERT INTO app.s SELECT value, value FROM generate_series(1, 50)").await;
    server.flush("app.s").await;
    server.sql("UPDATE app.s SET n = 0 WHERE id < 5").await;
    server.stop();
}

async fn contents(server: &Server, namespace: &str) -> Vec<Value> {
    let mut found = Vec::new();
    for (table, columns) in [("ALL USERS OF {}.t", "*, _seq"), ("{}.s", "*, _seq"), ("ALL USERS OF {}.f", "*")] {
        let from = table.replace("{}", namespace);
        found.push(server.rows(&format!("SELECT {columns} FROM {from} ORDER BY 1, 2")).await);
    }
    found
}

fn place(home: &Home) -> PathBuf {
    home.root().join("backups")
}

/// Starts a server that ends at the point, and has it carry out a statement.
async fn cut_short(home: &Home, point: &str, sql: &str) {
    let server = home.with(&[("TESTING__FAIL_POINTS", &format!("{point}=exit"))]).start().await;
    assert!(server.attempt(sql).await.is_err(), "{point} was not reached");
}

/// Asks again until what an end left behind is gone.
async fn until_done(client: &Client, sql: &str) {
    let done = async {
        loop {
            let reply = client.ask(sql).await;
            if reply.status == 200 {
                return;
            }
            let (_, _, message) = reply.error();
            assert!(message.contains("still being removed"), "{message}");
        }
    };
    assert!(tokio::time::timeout(DONE_WITHIN, done).await.is_ok(), "{sql}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_that_is_cut_short_is_none_or_whole_and_the_next_one_goes_on() {
    for point in BACKUP {
        let home = Home::new(FAST);
        prepare(&home).await;
        let to = place(&home);
        let backup = format!("BACKUP DATABASE app TO '{}' WAIT", to.display());
        cut_short(&home, point, &backup).await;
        let server = home.start().await;
        let before = contents(&server, "app").await;
        if *point == "backup::before_description" {
            let restore = format!("RESTORE DATABASE early FROM '{}' WAIT", to.display());
            let reply = server.ask(&restore).await;
            assert!(reply.error().2.contains("there is no backup"), "{reply:?}");
        }
        server.sql(&backup).await;
        server.sql(&format!("RESTORE DATABASE copy FROM '{}' WAIT", to.display())).await;
        assert_eq!(contents(&server, "copy").await, before, "{point}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restore_that_is_cut_short_leaves_nothing_or_everything() {
    for point in RESTORE {
        let home = Home::new(FAST);
        prepare(&home).await;
        let server = home.start().await;
        let to = place(&home);
        server.sql(&format!("BACKUP DATABASE app TO '{}' WAIT", to.display())).await;
        let before = contents(&server, "app").await;
        server.stop();
        let restore = format!("RESTORE DATABASE copy FROM '{}' WAIT", to.display());
        cut_short(&home, point, &restore).await;
        let server = home.start().await;
        let tables = "SELECT count(*) FROM system.tables WHERE namespace_id = 'copy'";
        let is_whole = *point == "restore::after_catalog";
        assert_eq!(server.rows(tables).await, json!([[if is_whole { "3" } else { "0" }]]), "{point}");
        if !is_whole {
            until_done(&server, &restore).await;
        }
        assert_eq!(contents(&server, "copy").await, before, "{point}");
        assert_becomes_clean(&server).await;
        let server = server.stop().start().await;
        assert_eq!(contents(&server, "copy").await, before, "{point}, started again");
        assert_eq!(contents(&server, "app").await, before, "{point}");
    }
}

fn holding(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            holding(&path, found);
        } else if std::fs::read(&path).unwrap_or_default().windows(OF_AL.len()).any(|bytes| bytes == OF_AL.as_bytes()) {
            found.push(path);
        }
    }
}

fn of_al(home: &Home) -> Vec<PathBuf> {
    let mut found = Vec::new();
    holding(&home.data(), &mut found);
    found
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_erasure_that_is_cut_short_is_ended_by_the_next_start() {
    for point in ERASE {
        let home = Home::new(FAST);
        prepare(&home).await;
        assert!(!of_al(&home).is_empty());
        cut_short(&home, point, "ERASE USER 'al'").await;
        let server = home.start().await;
        let gone = async {
            let users = "SELECT count(*) FROM system.users WHERE user_id = 'al'";
            while server.rows(users).await != json!([["0"]]) || !of_al(&home).is_empty() {}
        };
        assert!(tokio::time::timeout(DONE_WITHIN, gone).await.is_ok(), "{point}: {:?}", of_al(&home));
        let bo = server.login("bo", "a password").await;
        assert_eq!(bo.rows("SELECT id, word FROM app.t").await, json!([["1", "of bo!"]]), "{point}");
        assert_eq!(server.rows("VERIFY AUDIT").await[0][0], json!("ok"), "{point}");
        let al = server.user("al").await;
        assert_eq!(al.rows("SELECT id FROM app.t").await, json!([]), "{point}");
    }
}
