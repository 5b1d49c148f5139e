//! The removal of files that is cut short between any two of its durable steps: what was dropped stays away, a table of the
//! same name is new, and no file is left that nothing refers to.

use serde_json::json;
use std::time::Duration;

use crate::fail_points::assert_becomes_clean;
use crate::server::{Home, Server};

/// Everything that is durable after one of these is there after the next start, and nothing else matters.
pub(crate) const POINTS: &[&str] = &[
    "removal::after_manifest",
    "storage::after_deletion",
    "removal::after_files",
    "removal::after_rows",
    "orphans::before_removal",
];

const SETTINGS: &[(&str, &str)] = &[("JOBS__ORPHAN_INTERVAL_SECONDS", "1"), ("COMPACTION__AUTOMATIC", "false")];
const TABLE: &str = "CREATE SHARED TABLE app.t (id BIGINT PRIMARY KEY, n INT)";
/// How long a job in the background may take to come to a point.
const WITHIN: Duration = Duration::from_secs(60);

/// A table with three batches and a hot row, under a server that ends at the point.
async fn history(point: &str) -> Server {
    let server = Home::new(SETTINGS).start().await;
    server.sql(&format!("CREATE NAMESPACE app; {TABLE}")).await;
    for id in 0..3 {
        server.sql(&format!("INSERT INTO app.t VALUES ({id}, 0)")).await;
        server.flush("app.t").await;
    }
    server.sql("INSERT INTO app.t VALUES (3, 0)").await;
    server.stop().with(&[("TESTING__FAIL_POINTS", &format!("{point}=exit"))]).start().await
}

/// Waits until the server has ended, and starts one on its directory that does not.
async fn ended(server: Server, point: &str) -> Server {
    let ends = async { while server.attempt("SELECT count(*) FROM system.jobs").await.is_ok() {} };
    tokio::time::timeout(WITHIN, ends).await.unwrap_or_else(|_| panic!("{point} was not reached"));
    let home = server.home.with(&[("TESTING__FAIL_POINTS", "")]);
    drop(server);
    home.start().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_while_dropped_contents_are_removed_brings_nothing_back_and_leaves_nothing() {
    for point in &POINTS[..4] {
        for drop in ["DROP TABLE app.t", "TRUNCATE TABLE app.t"] {
            let server = history(point).await;
            // It may end before it has answered.
            let _outcome = server.attempt(drop).await;
            let server = ended(server, point).await;
            if drop.starts_with("DROP") {
                server.sql(TABLE).await;
            }
            assert_eq!(server.rows("SELECT count(*) FROM app.t").await, json!([["0"]]), "{point}, {drop}");
            server.sql("INSERT INTO app.t VALUES (1, 7)").await;
            server.flush("app.t").await;
            let rows = server.rows("SELECT id, n FROM app.t").await;
            assert_eq!(rows, json!([["1", 7]]), "{point}, {drop}");
            assert_becomes_clean(&server).await;
            let server = server.stop().start().await;
            assert_eq!(server.rows("SELECT id, n FROM app.t").await, rows, "{point}, {drop}, restarted");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_while_orphans_are_removed_costs_nothing_and_leaves_nothing() {
    for point in ["orphans::before_removal", "storage::after_deletion"] {
        let server = history("none").await;
        server.sql("STORAGE COMPACT TABLE app.t WAIT").await;
        let rows = server.rows("SELECT * FROM app.t ORDER BY id").await;
        let home = server.stop();
        for number in 1..=2 {
            std::fs::write(home.shared("t").join(format!("batch-000{number}.parquet")), "left by nobody").unwrap();
        }
        let server = home.with(&[("TESTING__FAIL_POINTS", &format!("{point}=exit"))]).start().await;
        let server = ended(server, point).await;
        assert_becomes_clean(&server).await;
        assert_eq!(server.rows("SELECT * FROM app.t ORDER BY id").await, rows, "{point}");
    }
}
