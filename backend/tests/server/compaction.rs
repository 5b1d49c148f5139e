//! Compaction that is cut short between any two of its durable steps, and under load: the same answers after the next
//! start, and no file left that nobody needs.

use std::time::Duration;

use kalamdb_commons::clock::Stopwatch;
use serde_json::json;

use crate::server::{Client, Home, Server};

/// Everything that is durable after one of these is there after the next start, and nothing else matters.
pub(crate) const POINTS: &[&str] = &[
    "compaction::after_number",
    "compaction::after_mark",
    "flush::before_batch_sync",
    "storage::before_directory_sync",
    "flush::after_batch_durable",
    "compaction::after_batch",
    "compaction::after_manifest",
    "compaction::before_removal",
    "storage::after_deletion",
    "manifest::between_removals",
    "compaction::after_removal",
];

const FAST: &[(&str, &str)] = &[
    ("JOBS__ORPHAN_INTERVAL_SECONDS", "1"),
    ("COMPACTION__CHECK_INTERVAL_SECONDS", "1"),
    ("COMPACTION__AUTOMATIC", "false"),
];

async fn history(client: &Client) {
    client
        .sql("CREATE NAMESPACE app; CREATE SHARED TABLE app.t (id BIGINT PRIMARY KEY, n INT) WITH (DELETED_RETENTION_HOURS=0)")
        .await;
    for batch in 0..4 {
        let rows: Vec<String> = (0..5).map(|row| format!("({}, {batch})", batch * 5 + row)).collect();
        client.sql(&format!("INSERT INTO app.t VALUES {}", rows.join(", "))).await;
        client
            .sql(&format!("UPDATE app.t SET n = 10 WHERE id = {}; DELETE FROM app.t WHERE id = {}", batch, batch * 5))
            .await;
        client.sql("STORAGE FLUSH TABLE app.t WAIT").await;
    }
}

fn files(home: &Home) -> Vec<String> {
    let entries = std::fs::read_dir(home.shared("t")).unwrap();
    let mut names: Vec<String> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.retain(|name| name.starts_with("batch-"));
    names.sort();
    names
}

/// Waits until the partition has so many files.
/// How long a compaction and the removal of what it retired may take.
const FILES_WITHIN: Duration = Duration::from_secs(60);

async fn until_files(server: &Server, count: usize) {
    let mut seen = Vec::new();
    let watch = Stopwatch::start();
    while watch.elapsed() < FILES_WITHIN {
        seen = files(&server.home);
        if seen.len() == count {
            return;
        }
        server.rows("SELECT count(*) FROM app.t").await;
    }
    panic!("it should be {count} files: {seen:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_between_any_two_steps_of_a_compaction_loses_nothing_and_leaves_nothing() {
    for point in POINTS {
        let home = Home::new(FAST);
        let server = home.start().await;
        history(&server).await;
        let before = server.rows("SELECT *, _seq FROM app.t ORDER BY id").await;
        let home = server.stop();
        let armed = home.with(&[("TESTING__FAIL_POINTS", &format!("{point}=exit"))]);
        let server = armed.start().await;
        let cut = server.attempt("STORAGE COMPACT TABLE app.t WAIT").await;
        assert!(cut.is_err(), "{point} was not reached: {cut:?}");
        drop(server);
        let server = home.start().await;
        assert_eq!(server.rows("SELECT *, _seq FROM app.t ORDER BY id").await, before, "{point}");
        for row in before.as_array().unwrap() {
            let sql = format!("SELECT id, n FROM app.t WHERE id = {}", row[1].as_str().unwrap());
            assert_eq!(server.rows(&sql).await, json!([[row[1], row[2]]]), "{point}");
        }
        server.sql("STORAGE COMPACT TABLE app.t WAIT").await;
        assert_eq!(server.rows("SELECT *, _seq FROM app.t ORDER BY id").await, before, "{point}, compacted again");
        until_files(&server, 1).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_manifest_is_made_again_from_the_footers_wherever_a_compaction_was_cut_short() {
    for point in POINTS {
        let home = Home::new(&[("COMPACTION__AUTOMATIC", "false")]);
        let server = home.start().await;
        history(&server).await;
        let before = server.rows("SELECT *, _seq FROM app.t ORDER BY id").await;
        let home = server.stop();
        let server = home.with(&[("TESTING__FAIL_POINTS", &format!("{point}=exit"))]).start().await;
        assert!(server.attempt("STORAGE COMPACT TABLE app.t WAIT").await.is_err(), "{point} was not reached");
        drop(server);
        std::fs::remove_file(home.shared("t").join("manifest.json")).unwrap();
        let server = home.start().await;
        assert_eq!(server.rows("SELECT *, _seq FROM app.t ORDER BY id").await, before, "{point}");
        server
            .sql("UPDATE app.t SET n = n + 1; STORAGE FLUSH TABLE app.t WAIT; STORAGE COMPACT TABLE app.t WAIT")
            .await;
        let server = server.stop().start().await;
        let sums = "SELECT count(*), sum(n) FROM app.t";
        let count = before.as_array().unwrap().len();
        let sum: i64 = before.as_array().unwrap().iter().map(|row| row[2].as_i64().unwrap() + 1).sum();
        assert_eq!(server.rows(sums).await, json!([[count.to_string(), sum.to_string()]]), "{point}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_is_compacted_without_being_asked() {
    let settings = [("COMPACTION__CHECK_INTERVAL_SECONDS", "1"), ("COMPACTION__BATCHES_MIN", "4")];
    let home = Home::new(&settings);
    let server = home.start().await;
    history(&server).await;
    let before = server.rows("SELECT id, n FROM app.t ORDER BY id").await;
    until_files(&server, 1).await;
    assert_eq!(server.rows("SELECT id, n FROM app.t ORDER BY id").await, before);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn history_that_nobody_reads_after_a_start_is_compacted_too() {
    let server = Home::new(FAST).start().await;
    history(&server).await;
    let before = server.rows("SELECT id, n FROM app.t ORDER BY id").await;
    let home = server.stop().with(&[("COMPACTION__AUTOMATIC", "true"), ("COMPACTION__BATCHES_MIN", "4")]);
    let server = home.start().await;
    let compacted = async {
        while files(&home).len() > 1 {
            server.rows("SELECT count(*) FROM system.jobs").await;
        }
    };
    tokio::time::timeout(FILES_WITHIN, compacted).await.unwrap_or_else(|_| panic!("{:?}", files(&home)));
    assert_eq!(server.rows("SELECT id, n FROM app.t ORDER BY id").await, before);
}
