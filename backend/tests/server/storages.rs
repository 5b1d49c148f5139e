//! History in S3: flushed, read, corrected, and there again after restarts, lost manifests and a store that fails.

use std::time::Duration;

use serde_json::{Value, json};

use crate::s3::{S3, Wire};
use crate::server::{Home, Server};

/// How long it may take until a lost manifest is stored again.
const STORED_WITHIN: Duration = Duration::from_secs(60);

/// Answers that depend on every batch, on what replaced what, and on deletions.
const QUERIES: [&str; 5] = [
    "SELECT id, n, _seq FROM app.t ORDER BY id",
    "SELECT count(*), sum(n) FROM app.t",
    "SELECT n FROM app.t WHERE id = 7",
    "SELECT n FROM app.t WHERE id = 20",
    "SELECT id FROM app.t WHERE _deleted ORDER BY id",
];

async fn answers(server: &Server) -> Vec<Value> {
    let mut answers = Vec::new();
    for sql in QUERIES {
        answers.push(server.rows(sql).await);
    }
    answers
}

/// A server whose settings name a bucket as the storage `s3`. It does not try for long.
fn home_with(s3: &S3, url: &str, bucket: &str) -> Home {
    Home::new(&[
        ("COLD__REQUEST_TIMEOUT_SECONDS", "2"),
        ("COLD__REQUEST_RETRIES_MAX", "1"),
        ("STORAGE__S3_BUCKET", bucket),
        ("STORAGE__S3_ENDPOINT", url),
        ("STORAGE__S3_PREFIX", "history/one"),
        ("STORAGE__S3_ACCESS_KEY_ID", &s3.key_id),
        ("STORAGE__S3_SECRET_ACCESS_KEY", &s3.secret),
        ("STORAGE__S3_ALLOW_HTTP", "true"),
    ])
}

/// Three batches with updates and deletions of rows in older ones, and some hot rows.
async fn write_history(server: &Server, storage: &str) {
    server
        .sql(&format!(
            "CREATE NAMESPACE app;
             CREATE SHARED TABLE app.t (id BIGINT PRIMARY KEY, n INT) WITH (STORAGE_ID = '{storage}')"
        ))
        .await;
    server.sql("INSERT INTO app.t SELECT value, value FROM generate_series(1, 50)").await;
    server.flush("app.t").await;
    server.sql("UPDATE app.t SET n = n + 100 WHERE id < 10; DELETE FROM app.t WHERE id = 20").await;
    server.flush("app.t").await;
    server.sql("UPDATE app.t SET n = n + 1000 WHERE id < 5; INSERT INTO app.t VALUES (51, 51)").await;
    server.flush("app.t").await;
    server.sql("UPDATE app.t SET n = 0 WHERE id = 30").await;
}

const TOTALS: &str = "SELECT count(*), sum(n) FROM app.t";

/// FR-008, FR-027.
#[tokio::test]
async fn history_in_s3_is_flushed_read_and_rebuilt_like_history_on_disk() {
    let s3 = S3::shared().await;
    s3.make_bucket("life").await;
    let server = home_with(s3, &s3.url, "life").start().await;
    write_history(&server, "s3").await;
    let directory = "history/one/app/t/shared";
    let names = ["batch-0001.parquet", "batch-0002.parquet", "batch-0003.parquet", "manifest.json"];
    assert_eq!(s3.list("life", "history/one/app/").await, names.map(|name| format!("{directory}/{name}")));
    assert!(!server.home.shared("t").exists());
    // 1275, nine times 100 and four times 1000 more, 51 more, and without 20 and 30.
    assert_eq!(server.rows(TOTALS).await, json!([["50", (1275 + 900 + 4000 + 51 - 20 - 30).to_string()]]));
    let before = answers(&server).await;

    let server = server.stop().start().await;
    assert_eq!(answers(&server).await, before, "after a restart");

    let manifest = format!("life/{directory}/manifest.json");
    let home = server.stop();
    let stored: Value = serde_json::from_slice(&s3.get(&manifest).await.unwrap()).unwrap();
    s3.delete(&manifest).await;
    let server = home.start().await;
    assert_eq!(answers(&server).await, before, "with a manifest made from footers");
    let stored_again = async {
        loop {
            match s3.get(&manifest).await {
                Some(bytes) => return bytes,
                None => drop(server.rows("SELECT count(*) FROM app.t").await),
            }
        }
    };
    let rebuilt = tokio::time::timeout(STORED_WITHIN, stored_again).await.unwrap();
    let rebuilt: Value = serde_json::from_slice(&rebuilt).unwrap();
    assert_eq!(rebuilt["batches"], stored["batches"]);
    assert_eq!(rebuilt["flushed_through"], stored["flushed_through"]);

    // History goes on where it was: the next number, and corrections of what the rebuilt manifest names.
    server.flush("app.t").await;
    assert!(s3.get(&format!("life/{directory}/batch-0004.parquet")).await.is_some());
    server.sql("UPDATE app.t SET n = -1 WHERE id = 1; DELETE FROM app.t WHERE id = 2").await;
    let before = answers(&server).await;
    server.flush("app.t").await;
    assert_eq!(answers(&server).await, before);

    let home = server.stop();
    let whole = s3.get(&manifest).await.unwrap();
    s3.put(&manifest, whole[..whole.len() / 2].to_vec()).await;
    let server = home.start().await;
    assert_eq!(answers(&server).await, before, "with a truncated manifest");
    assert_eq!(server.rows("SELECT n FROM app.t WHERE id IN (1, 2)").await, json!([[-1]]));
}

/// The message of the flush job that failed.
#[tokio::test]
async fn a_backup_in_s3_grows_is_restored_and_refused_when_an_object_was_altered() {
    let s3 = S3::shared().await;
    s3.make_bucket("safe").await;
    let server = home_with(s3, &s3.url, "safe").start().await;
    write_history(&server, "local").await;
    let (backup, prefix) = ("BACKUP DATABASE app TO 's3/nightly/app' WAIT", "history/one/kalamdb.backups/nightly/app/");
    server.sql(backup).await;
    let first = s3.list("safe", prefix).await;
    server.sql("UPDATE app.t SET n = 7 WHERE id = 40; DELETE FROM app.t WHERE id = 41").await;
    server.sql(backup).await;
    let second = s3.list("safe", prefix).await;
    let is_batch = |key: &&String| key.contains("/files/");
    assert!(first.iter().all(|key| second.contains(key)), "{first:?} {second:?}");
    assert_eq!(second.iter().filter(is_batch).count(), 3, "what was there is not copied again: {second:?}");

    server.sql("RESTORE DATABASE copy FROM 's3/nightly/app' WAIT").await;
    let rows = async |of: &str| server.rows(&format!("SELECT *, _seq FROM {of}.t ORDER BY id")).await;
    assert_eq!(rows("copy").await, rows("app").await);

    let altered = format!("safe/{}", second.iter().find(is_batch).unwrap());
    let mut bytes = s3.get(&altered).await.unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    s3.put(&altered, bytes).await;
    let reply = server.ask("RESTORE DATABASE other FROM 's3/nightly/app' WAIT").await;
    assert!(reply.status != 200 && reply.error().2.contains("batch-0001.parquet"), "{reply:?}");
    assert_eq!(server.rows("SELECT count(*) FROM system.tables WHERE namespace_id = 'other'").await, json!([["0"]]));
}

async fn failed_flush(server: &Server) -> String {
    let message = server.refused("STORAGE FLUSH TABLE app.t WAIT", 400, "SQL_EXECUTION_ERROR").await;
    let job =
        server.rows("SELECT status, message FROM system.jobs ORDER BY created_at DESC, job_id DESC LIMIT 1").await;
    assert_eq!(job[0][0], "failed");
    assert!(message.ends_with(job[0][1].as_str().unwrap()), "{message}: {job}");
    message
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_that_the_store_breaks_off_fails_and_loses_nothing() {
    let s3 = S3::shared().await;
    s3.make_bucket("broken").await;
    let wire = Wire::to(&s3.url).await;
    let mut server = home_with(s3, &wire.url, "broken").start().await;
    write_history(&server, "s3").await;
    let directory = "/broken/history/one/app/t/shared";
    let requests = ["batch-0004.parquet", "manifest.json"].map(|name| format!("PUT {directory}/{name}"));
    for request in requests {
        server.sql("UPDATE app.t SET n = n + 7 WHERE id = 50").await;
        let before = answers(&server).await;
        wire.breaks_at(&request);
        let message = failed_flush(&server).await;
        assert!(wire.is_broken());
        assert!(message.contains("the connection to the object store broke"), "{message}");
        wire.mend();
        assert_eq!(answers(&server).await, before, "after {request} broke");
        // Writes go on, and the next flush takes them along.
        server.sql("UPDATE app.t SET n = n + 1 WHERE id IN (1, 30, 51)").await;
        let before = answers(&server).await;
        server.flush("app.t").await;
        assert_eq!(answers(&server).await, before, "flushed after {request} broke");
        server = server.stop().start().await;
        assert_eq!(answers(&server).await, before, "restarted after {request} broke");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_whose_publication_was_not_heard_of_is_taken_up() {
    let s3 = S3::shared().await;
    s3.make_bucket("unheard").await;
    let wire = Wire::to(&s3.url).await;
    let server = home_with(s3, &wire.url, "unheard").start().await;
    write_history(&server, "s3").await;
    let directory = "history/one/app/t/shared";
    wire.loses_the_answer_to(&format!("PUT /unheard/{directory}/manifest.json"));
    failed_flush(&server).await;
    wire.mend();
    let stored = s3.get(&format!("unheard/{directory}/manifest.json")).await.unwrap();
    assert!(String::from_utf8(stored).unwrap().contains("batch-0004.parquet"), "the store has carried it out");
    server.sql("UPDATE app.t SET n = -5 WHERE id = 5; DELETE FROM app.t WHERE id = 30").await;
    let before = answers(&server).await;
    server.flush("app.t").await;
    assert_eq!(answers(&server).await, before);
    let server = server.stop().start().await;
    assert_eq!(answers(&server).await, before);
    let rows = server.rows("SELECT n FROM app.t WHERE id IN (5, 30)").await;
    assert_eq!(rows, json!([[-5]]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn s3_that_dies_in_the_middle_of_an_upload_in_parts_is_taken_up_again_when_it_is_back() {
    let s3 = std::sync::Arc::new(S3::start(0));
    s3.make_bucket("dying").await;
    let wire = Wire::to(&s3.url).await;
    let server = home_with(&s3, &wire.url, "dying").start().await;
    let table = "CREATE SHARED TABLE app.t (id BIGINT PRIMARY KEY, text TEXT)";
    server.sql(&format!("CREATE NAMESPACE app; {table} WITH (STORAGE_ID = 's3', COMPRESSION = 'none')")).await;
    server.sql("INSERT INTO app.t SELECT value, repeat(value::text, 300) FROM generate_series(10001, 22000) t").await;
    let dying = s3.clone();
    wire.calls("PUT /dying/history/one/app/t/shared/batch-0001.parquet?partNumber", move || dying.kill());
    let message = failed_flush(&server).await;
    assert!(message.contains("batch-0001.parquet' failed"), "{message}");
    let totals = "SELECT count(*), sum(length(text)) FROM app.t";
    let all = json!([["12000", "18000000"]]);
    assert_eq!(server.rows(totals).await, all, "what is hot needs no store");
    let s3 = S3::start(s3.port());
    s3.make_bucket("dying").await;
    server.flush("app.t").await;
    assert_eq!(server.rows(totals).await, all);
    assert_eq!(server.stop().start().await.rows(totals).await, all);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_does_not_answer_fails_the_flush_in_time() {
    let s3 = S3::shared().await;
    s3.make_bucket("slow").await;
    let wire = Wire::to(&s3.url).await;
    let server = home_with(s3, &wire.url, "slow").start().await;
    write_history(&server, "s3").await;
    let before = answers(&server).await;
    wire.hangs();
    let message = failed_flush(&server).await;
    assert!(message.contains("did not answer in time (cold.request_timeout_seconds)"), "{message}");
    wire.mend();
    server.flush("app.t").await;
    assert_eq!(answers(&server).await, before);
}

#[tokio::test]
async fn a_missing_bucket_is_named_and_nothing_is_lost() {
    let s3 = S3::shared().await;
    let server = home_with(s3, &s3.url, "absent").start().await;
    server.sql("CREATE NAMESPACE app").await;
    server.sql("CREATE SHARED TABLE app.t (id BIGINT) WITH (STORAGE_ID = 's3'); INSERT INTO app.t VALUES (1)").await;
    let message = failed_flush(&server).await;
    assert!(message.contains("there is no such bucket"), "{message}");
    s3.make_bucket("absent").await;
    server.flush("app.t").await;
    assert_eq!(server.rows("SELECT id FROM app.t").await, json!([["1"]]));
}

#[tokio::test]
async fn credentials_that_the_store_refuses_are_said_to_be_and_never_shown() {
    let s3 = S3::start(0);
    s3.make_bucket("locked").await;
    s3.ask_for_keys().await;
    let home = home_with(&s3, &s3.url, "locked");
    let wrong = home.with(&[("STORAGE__S3_SECRET_ACCESS_KEY", "not the secret")]);
    let server = wrong.start().await;
    server.sql("CREATE NAMESPACE app").await;
    server.sql("CREATE SHARED TABLE app.t (id BIGINT) WITH (STORAGE_ID = 's3'); INSERT INTO app.t VALUES (1)").await;
    let message = failed_flush(&server).await;
    assert!(message.contains("refuses the credentials (SignatureDoesNotMatch)"), "{message}");
    drop(server);
    let log = wrong.logs();
    assert!(!log.contains("not the secret") && !log.contains(&s3.secret), "{log}");
    let server = home.start().await;
    server.flush("app.t").await;
    assert_eq!(server.rows("SELECT id FROM app.t").await, json!([["1"]]));
}
