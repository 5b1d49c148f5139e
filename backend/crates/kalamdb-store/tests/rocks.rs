//! What is particular to the embedded form: locking, what is left in files, and the node's cache.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

mod common;

use std::path::Path;

use common::{Home, contents, one, put_all};
use kalamdb_commons::settings::Durability;
use kalamdb_commons::{Error, ErrorKind};
use kalamdb_store::{Batch, NodeCache, ShardStore, StoreError};

#[tokio::test]
async fn two_opens_of_one_directory_are_refused() {
    let home = Home::new(Durability::Sync);
    let store = home.open();
    let error = home.try_open().unwrap_err();
    assert!(matches!(&error, StoreError::Locked { path } if path.ends_with("deep/hot")), "{error:?}");
    let error = Error::from(error);
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(error.message().contains("is in use by another server"), "{error}");
    store.close().await.unwrap();
    home.open();
}

/// The names of the store's files that hold the bytes.
fn files_with(home: &Home, bytes: &str) -> Vec<String> {
    let holds = |path: &Path| {
        std::fs::read(path).unwrap_or_default().windows(bytes.len()).any(|window| window == bytes.as_bytes())
    };
    let files = std::fs::read_dir(home.path()).unwrap().map(|file| file.unwrap().path());
    files.filter(|path| holds(path)).map(|path| path.file_name().unwrap().to_string_lossy().into_owned()).collect()
}

/// Marks that are looked for in the raw bytes of files: they must not be compressed away there.
fn mark(of: &str) -> String {
    format!("<{of}:k2Jx9Qz7Vb4Lw>")
}

#[tokio::test]
async fn scrubbed_bytes_are_in_no_file() {
    let home = Home::new(Durability::Sync);
    let store = home.open();
    let kept = mark("kept");
    for round in 0..3 {
        let mut batch = Batch::default();
        for number in 0..200 {
            batch.put(format!("gone{}{round}{number:04}", mark("key")), mark("value"));
            batch.put(format!("here{round}{number:04}"), kept.clone());
        }
        store.commit(store.token(), batch).await.unwrap();
        if round < 2 {
            // Some of it in data files of several levels, some in the log.
            store.scrub(b"unused").await.unwrap();
        }
    }
    assert!(!files_with(&home, &mark("key")).is_empty());
    assert!(!files_with(&home, &mark("value")).is_empty());
    store.scrub(b"gone").await.unwrap();
    assert_eq!(files_with(&home, &mark("key")), [""; 0]);
    assert_eq!(files_with(&home, &mark("value")), [""; 0]);
    assert!(!files_with(&home, &kept).is_empty());
    assert_eq!(contents(&*store).await.len(), 600);
    store.close().await.unwrap();
    assert_eq!(files_with(&home, &mark("key")), [""; 0]);
    assert_eq!(contents(&*home.open()).await.len(), 600);
}

#[tokio::test]
async fn keys_deleted_before_are_scrubbed_too() {
    let home = Home::new(Durability::Sync);
    let store = home.open();
    put_all(&*store, &[(&mark("key"), &mark("value")), ("other", "1")]).await;
    store.scrub(b"unused").await.unwrap();
    let mut batch = Batch::default();
    batch.delete(mark("key"));
    store.commit(store.token(), batch).await.unwrap();
    store.scrub(b"<").await.unwrap();
    assert_eq!(files_with(&home, &mark("key")), [""; 0]);
    assert_eq!(files_with(&home, &mark("value")), [""; 0]);
}

#[tokio::test]
async fn neighbours_are_scrubbed_after_a_snapshot_was_in_the_way() {
    let home = Home::new(Durability::Sync);
    let store = home.open();
    put_all(&*store, &[("a0", "kept"), ("b0", &mark("b")), ("c0", &mark("c")), ("d0", "kept")]).await;
    let snapshot = store.snapshot().await.unwrap();
    assert!(store.scrub(b"b").await.is_err());
    drop(snapshot);
    store.scrub(b"c").await.unwrap();
    assert_eq!(files_with(&home, &mark("c")), [""; 0]);
    store.scrub(b"b").await.unwrap();
    store.scrub(b"b").await.unwrap();
    assert_eq!(files_with(&home, &mark("b")), [""; 0]);
    assert_eq!(contents(&*store).await, ["a0=kept", "d0=kept"]);
}

#[tokio::test]
async fn scrubbing_and_writing_go_on_side_by_side() {
    let home = Home::new(Durability::Buffered);
    let store = home.open();
    let writer = async {
        for number in 0..3000 {
            let mut batch = Batch::default();
            for part in 0..8 {
                batch.put(format!("here{number:05}{part}"), vec![part; 1000]);
            }
            store.commit(store.token(), batch).await.unwrap();
        }
    };
    let scrubber = async {
        for round in 0..10 {
            store.commit(store.token(), one(&format!("gone{}{round}", mark("key")), &mark("value"))).await.unwrap();
            store.scrub(b"gone").await.unwrap();
            assert_eq!(files_with(&home, &mark("key")), [""; 0]);
            assert_eq!(files_with(&home, &mark("value")), [""; 0]);
        }
    };
    tokio::join!(writer, scrubber);
}

#[tokio::test]
async fn the_cache_is_apart_and_survives() {
    let home = Home::new(Durability::Sync);
    let store = home.open();
    store.commit(store.token(), one("a", "data")).await.unwrap();
    for key in ["b", "a", "c"] {
        store.put(key.as_bytes(), b"cached").await.unwrap();
    }
    store.delete(b"b").await.unwrap();
    assert_eq!(contents(&*store).await, ["a=data"]);
    store.close().await.unwrap();
    let store = home.open();
    assert_eq!(NodeCache::get(&*store, b"a").await.unwrap().unwrap(), "cached");
    assert_eq!(NodeCache::get(&*store, b"b").await.unwrap(), None);
    let page = store.iterate(b"", 1).await.unwrap();
    assert_eq!((page.entries.len(), page.next.as_deref()), (1, Some(&b"c"[..])));
    assert_eq!(store.iterate(b"b", 10).await.unwrap().entries.len(), 1);
}
