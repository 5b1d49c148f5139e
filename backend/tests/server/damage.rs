//! Damaged and missing files: manifests are rebuilt, batch files are named, and other tables go on.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::server::{Home, Server};

const QUERIES: [&str; 4] = [
    "SELECT id, n, _seq FROM app.t ORDER BY id",
    "SELECT count(*), sum(n) FROM app.t",
    "SELECT n FROM app.t WHERE id = 7",
    "SELECT id FROM app.t WHERE _deleted",
];

/// Three batches with updates and deletions of rows in older ones, and some hot rows.
async fn history() -> Server {
    let server = Server::with_tables(
        "CREATE SHARED TABLE app.t (id BIGINT PRIMARY KEY, n INT);
         CREATE SHARED TABLE app.other (id BIGINT); INSERT INTO app.other VALUES (1)",
    )
    .await;
    server.sql("INSERT INTO app.t SELECT value, value FROM generate_series(1, 50)").await;
    server.flush("app.t").await;
    server.sql("UPDATE app.t SET n = n + 100 WHERE id < 10; DELETE FROM app.t WHERE id = 20").await;
    server.flush("app.t").await;
    server.sql("UPDATE app.t SET n = n + 1000 WHERE id < 5; INSERT INTO app.t VALUES (51, 51)").await;
    server.flush("app.t").await;
    server.flush("app.other").await;
    server.sql("UPDATE app.t SET n = 0 WHERE id = 30").await;
    server
}

async fn answers(server: &Server) -> Vec<Value> {
    let mut answers = Vec::new();
    for sql in QUERIES {
        answers.push(server.rows(sql).await);
    }
    answers
}

fn manifest(home: &Home) -> PathBuf {
    home.shared("t").join("manifest.json")
}

fn batch(home: &Home, number: u32) -> PathBuf {
    home.shared("t").join(format!("batch-{number:04}.parquet"))
}

/// Damages the manifest between two starts and asserts that nothing else changes.
async fn is_rebuilt_after(damage: impl FnOnce(&Path)) {
    let server = history().await;
    let before = answers(&server).await;
    let home = server.stop();
    damage(&manifest(&home));
    let server = home.start().await;
    assert_eq!(answers(&server).await, before);
    // The next batch goes on from the rebuilt manifest.
    server.flush("app.t").await;
    assert_eq!(answers(&server).await, before);
    let stored: Value = serde_json::from_slice(&std::fs::read(manifest(&home)).unwrap()).unwrap();
    assert_eq!(stored["max_batch"], 4, "{stored}");
}

#[tokio::test]
async fn fr_027_a_missing_manifest_is_rebuilt() {
    is_rebuilt_after(|manifest| std::fs::remove_file(manifest).unwrap()).await;
}

#[tokio::test]
async fn fr_027_an_empty_manifest_is_rebuilt() {
    is_rebuilt_after(|manifest| std::fs::write(manifest, "").unwrap()).await;
}

#[tokio::test]
async fn fr_027_a_truncated_manifest_is_rebuilt() {
    is_rebuilt_after(|manifest| {
        let whole = std::fs::read(manifest).unwrap();
        std::fs::write(manifest, &whole[..whole.len() / 2]).unwrap();
    })
    .await;
}

#[tokio::test]
async fn fr_027_a_manifest_of_noise_is_rebuilt() {
    is_rebuilt_after(|manifest| std::fs::write(manifest, [0xFF; 1000]).unwrap()).await;
}

#[tokio::test]
async fn fr_027_a_stale_manifest_is_rebuilt() {
    let server = history().await;
    let home = server.home.clone();
    let stale = std::fs::read(manifest(&home)).unwrap();
    server.flush("app.t").await;
    let before = answers(&server).await;
    server.stop();
    std::fs::write(manifest(&home), stale).unwrap();
    let server = home.start().await;
    assert_eq!(answers(&server).await, before);
}

#[tokio::test]
async fn fr_027_a_manifest_without_one_of_its_batches_is_rebuilt() {
    is_rebuilt_after(|manifest| {
        let mut stored: Value = serde_json::from_slice(&std::fs::read(manifest).unwrap()).unwrap();
        stored["batches"].as_array_mut().unwrap().remove(1);
        std::fs::write(manifest, stored.to_string()).unwrap();
    })
    .await;
}

/// Damages the second batch file between two starts: queries that need it fail and name it, others go on.
async fn is_named_after(damage: impl FnOnce(&Path)) {
    let home = history().await.stop();
    damage(&batch(&home, 2));
    let server = home.start().await;
    let message = server.refused("SELECT sum(n) FROM app.t", 500, "INTERNAL_ERROR").await;
    assert!(message.contains("batch-0002.parquet"), "{message}");
    assert_eq!(server.rows("SELECT id FROM app.other").await, json!([["1"]]));
    server.sql("INSERT INTO app.other VALUES (2)").await;
    server.flush("app.other").await;
    assert_eq!(server.rows("SELECT id FROM app.other ORDER BY id").await, json!([["1"], ["2"]]));
    assert_eq!(server.with_token(None).get("/health").await.status, 200);
}

#[tokio::test]
async fn a_missing_batch_file_is_named() {
    is_named_after(|file| std::fs::remove_file(file).unwrap()).await;
}

#[tokio::test]
async fn a_truncated_batch_file_is_named() {
    is_named_after(|file| {
        let whole = std::fs::read(file).unwrap();
        std::fs::write(file, &whole[..whole.len() / 2]).unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_batch_file_of_noise_is_named() {
    is_named_after(|file| {
        let length = std::fs::read(file).unwrap().len();
        std::fs::write(file, vec![0xA5; length]).unwrap();
    })
    .await;
}

#[tokio::test]
async fn a_batch_file_with_damaged_pages_is_named() {
    is_named_after(|file| {
        // Everything between the magic number and the footer, whose length stands before the last four bytes.
        let mut bytes = std::fs::read(file).unwrap();
        let tail = bytes.len() - 8;
        let footer = u32::from_le_bytes(bytes[tail..tail + 4].try_into().unwrap()) as usize;
        bytes[4..tail - footer].fill(0xA5);
        std::fs::write(file, bytes).unwrap();
    })
    .await;
}

#[tokio::test]
async fn users_are_not_told_which_file_is_damaged() {
    let server = Server::with_tables("CREATE USER TABLE app.u (id BIGINT)").await;
    let al = server.user("al").await;
    al.sql("INSERT INTO app.u VALUES (1)").await;
    server.flush("app.u").await;
    let home = server.stop();
    std::fs::remove_file(home.partition("app/u/user_al/batch-0001.parquet")).unwrap();
    let server = home.start().await;
    let al = server.login("al", "a password").await;
    let message = al.refused("SELECT id FROM app.u", 500, "INTERNAL_ERROR").await;
    assert!(message.contains("request id") && !message.contains("batch"), "{message}");
}

#[tokio::test]
async fn a_file_that_is_put_back_is_read_again() {
    let server = history().await;
    let before = answers(&server).await;
    let home = server.stop();
    let aside = batch(&home, 2).with_extension("aside");
    std::fs::rename(batch(&home, 2), &aside).unwrap();
    let server = home.start().await;
    server.refused("SELECT sum(n) FROM app.t", 500, "INTERNAL_ERROR").await;
    let home = server.stop();
    std::fs::rename(&aside, batch(&home, 2)).unwrap();
    assert_eq!(answers(&home.start().await).await, before);
}
