//! The rebuild of a lost manifest that is cut short between any two of its durable steps: the same answers after the next
//! start, and in the end a manifest that says what the lost one said.

use std::time::Duration;

use serde_json::{Value, json};

use crate::disk::{Disk, Reached};
use crate::server::{Home, Server};

/// Everything that is durable after one of these is there after the next start, and nothing else matters.
pub(crate) const POINTS: &[&str] = &[
    "rebuild::before_footers",
    "rebuild::before_manifest",
    "manifest::before_rename",
    "manifest::after_rename",
    "manifest::after_durable",
    "manifest_cache::before_entry",
    "manifest_cache::after_entry",
    "manifest_cache::after_memory",
    "rebuild::after_manifest",
];

/// How long a rebuild in the background may take to come to its end, or to a point.
const WITHIN: Duration = Duration::from_secs(60);
const ALL: &str = "SELECT *, _seq FROM app.t ORDER BY id";

async fn history() -> (Home, Value) {
    let server = Server::with_tables("CREATE SHARED TABLE app.t (id BIGINT PRIMARY KEY, n INT)").await;
    for batch in 0..3 {
        server.sql(&format!("INSERT INTO app.t VALUES ({}, 0), ({}, 0)", batch * 2, batch * 2 + 1)).await;
        server.sql(&format!("UPDATE app.t SET n = n + 1 WHERE id <= {batch}")).await;
        server.flush("app.t").await;
    }
    server.sql("DELETE FROM app.t WHERE id = 4").await;
    let rows = server.rows(ALL).await;
    (server.stop(), rows)
}

/// What the manifest says of batches and watermark.
fn stored(home: &Home) -> Option<Value> {
    let bytes = std::fs::read(home.shared("t").join("manifest.json")).ok()?;
    let manifest: Value = serde_json::from_slice(&bytes).ok()?;
    Some(json!([manifest["batches"], manifest["flushed_through"], manifest["max_batch"]]))
}

/// Asks until something is so.
async fn until(server: &Server, what: &str, mut is_so: impl FnMut() -> bool) {
    let asking = async {
        while !is_so() {
            server.rows("SELECT count(*) FROM app.t").await;
        }
    };
    tokio::time::timeout(WITHIN, asking).await.unwrap_or_else(|_| panic!("not {what} in {WITHIN:?}"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_between_any_two_steps_of_a_rebuild_changes_no_answer() {
    let (home, rows) = history().await;
    let before = stored(&home);
    let manifest = home.shared("t").join("manifest.json");
    for damage in [None, Some("{\"format_version\": 1")] {
        for point in POINTS {
            match damage {
                None => std::fs::remove_file(&manifest).unwrap(),
                Some(bytes) => std::fs::write(&manifest, bytes).unwrap(),
            }
            let armed = home.with(&[("TESTING__FAIL_POINTS", &format!("{point}=exit"))]);
            // The start itself reads partitions that have hot rows.
            if let Ok(server) = armed.try_start().await {
                let ends = async { while server.attempt(ALL).await.is_ok() {} };
                tokio::time::timeout(WITHIN, ends).await.unwrap_or_else(|_| panic!("{point} was not reached"));
            }
            let server = home.start().await;
            assert_eq!(server.rows(ALL).await, rows, "{point}");
            until(&server, "stored again", || stored(&home) == before).await;
            assert_eq!(server.rows(ALL).await, rows, "{point}, stored again");
            server.stop();
        }
    }
    let server = home.start().await;
    server.flush("app.t").await;
    assert_eq!(server.stop().start().await.rows(ALL).await, rows);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rebuild_shows_as_a_job() {
    let (home, rows) = history().await;
    std::fs::remove_file(home.shared("t").join("manifest.json")).unwrap();
    let server = home.start().await;
    assert_eq!(server.rows(ALL).await, rows);
    until(&server, "stored again", || stored(&home).is_some()).await;
    let home = server.stop();
    let server = home.start().await;
    let jobs = "SELECT status, message FROM system.jobs WHERE job_type = 'manifest_rebuild'";
    assert_eq!(server.rows(jobs).await, json!([["completed", "1 manifest(s) rebuilt"]]));
}

/// A file has its name, and the directory that says so is not synced, when the server ends for the first time. The next
/// one counts the file, and ends before the manifest is stored. What the file holds must not have left the hot tier.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hot_rows_stay_until_the_rebuilt_manifest_is_durable() {
    let mut home = Home::new(&[("HOT__DURABILITY", "sync")]);
    let disk = Disk::under(&mut home);
    let server = home.with(&[("TESTING__FAIL_POINTS", "storage::before_directory_sync=exit")]).start().await;
    server.sql("CREATE NAMESPACE app; CREATE SHARED TABLE app.t (id BIGINT PRIMARY KEY, n INT)").await;
    server.sql("INSERT INTO app.t VALUES (1, 10), (2, 20)").await;
    server.attempt("STORAGE FLUSH TABLE app.t WAIT").await.unwrap_err();
    drop(server);
    let armed = home.with(&[("TESTING__FAIL_POINTS", "rebuild::before_manifest=exit")]);
    if let Ok(server) = armed.try_start().await {
        let ends = async { while server.attempt("SELECT count(*) FROM app.t").await.is_ok() {} };
        tokio::time::timeout(WITHIN, ends).await.unwrap();
    }
    disk.cut(&home, &mut |_| Reached::Nothing);
    let server = home.start().await;
    let rows = json!([["1", 10], ["2", 20]]);
    assert_eq!(server.rows("SELECT id, n FROM app.t ORDER BY id").await, rows);
    server.flush("app.t").await;
    assert_eq!(server.stop().start().await.rows("SELECT id, n FROM app.t ORDER BY id").await, rows);
}
