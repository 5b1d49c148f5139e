use futures::future::join_all;
use kalamdb_commons::ErrorKind;

use super::*;
use crate::testing::{STORAGES, World};

async fn put(storage: &Storage, path: &str, content: &[u8]) -> Result<()> {
    let mut upload = storage.create_exclusive(path).await?;
    for piece in content.chunks(7) {
        upload.write(Bytes::copy_from_slice(piece)).await?;
    }
    upload.finish().await
}

fn names(world: &World, directory: &str) -> Vec<String> {
    let entries = std::fs::read_dir(world.directory.path().join("storage").join(directory)).unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

#[tokio::test]
async fn a_file_appears_whole_when_it_is_finished() {
    let world = World::new();
    for id in STORAGES {
        let storage = world.storage(id);
        let mut upload = storage.create_exclusive("a/b/file").await.unwrap();
        upload.write(Bytes::from_static(b"hello ")).await.unwrap();
        assert_eq!(storage.size("a/b/file").await.unwrap(), None);
        upload.write(Bytes::from_static(b"world")).await.unwrap();
        upload.finish().await.unwrap();
        assert_eq!(storage.size("a/b/file").await.unwrap(), Some(11));
        assert_eq!(storage.list("a/b").await.unwrap(), [("file".to_owned(), 11)]);
        assert!(storage.list("a/c").await.unwrap().is_empty());
        let counters = IoCounters::default();
        let parts = storage.read_ranges("a/b/file", &[6..11, 0..5, 3..3], &counters).await.unwrap();
        assert_eq!(parts, [&b"world"[..], b"hello", b""]);
        assert_eq!((counters.requests(), counters.bytes()), (1, 11));
    }
    assert_eq!(names(&world, "a/b"), ["file"]);
}

#[tokio::test]
async fn a_name_is_taken_once() {
    let world = World::new();
    for id in STORAGES {
        let storage = world.storage(id);
        let (mut first, mut second) =
            (storage.create_exclusive("d/x").await.unwrap(), storage.create_exclusive("d/x").await.unwrap());
        first.write(Bytes::from_static(b"first")).await.unwrap();
        second.write(Bytes::from_static(b"second")).await.unwrap();
        first.finish().await.unwrap();
        assert_eq!(second.finish().await.unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(storage.create_exclusive("d/x").await.unwrap_err().kind(), ErrorKind::AlreadyExists);
        assert_eq!(storage.size("d/x").await.unwrap(), Some(5));
    }
    assert_eq!(names(&world, "d"), ["x"]);
}

#[tokio::test]
async fn what_is_given_up_leaves_nothing() {
    let world = World::new();
    for id in STORAGES {
        let storage = world.storage(id);
        for aborts in [true, false] {
            let mut upload = storage.create_exclusive("d/x").await.unwrap();
            upload.write(Bytes::from(vec![1; 9 << 20])).await.unwrap();
            if aborts { upload.abort().await } else { drop(upload) }
        }
        assert!(storage.list("d").await.unwrap().is_empty());
    }
    assert!(names(&world, "d").is_empty());
}

#[tokio::test]
async fn a_large_object_goes_in_parts() {
    let world = World::new();
    for id in STORAGES {
        let storage = world.storage(id);
        let content: Vec<u8> = (0..20 << 20).map(|at: u32| (at % 253) as u8).collect();
        let mut upload = storage.create_exclusive("large").await.unwrap();
        for piece in content.chunks(3 << 20) {
            upload.write(Bytes::copy_from_slice(piece)).await.unwrap();
        }
        upload.finish().await.unwrap();
        let all = 0..content.len() as u64;
        let whole = storage.read_ranges("large", std::slice::from_ref(&all), &IoCounters::default()).await.unwrap();
        assert!(whole[0] == content);
    }
}

#[tokio::test]
async fn compare_and_set_writes_only_over_what_was_read() {
    let world = World::new();
    for id in STORAGES {
        let storage = world.storage(id);
        let bytes = |text: &'static str| Bytes::from_static(text.as_bytes());
        assert!(storage.get("p/m").await.unwrap().is_none());
        let first = storage.put_if("p/m", bytes("1"), None).await.unwrap();
        assert!(matches!(storage.put_if("p/m", bytes("x"), None).await, Err(PutError::Conflict)));
        let second = storage.put_if("p/m", bytes("2"), Some(&first)).await.unwrap();
        assert!(matches!(storage.put_if("p/m", bytes("x"), Some(&first)).await, Err(PutError::Conflict)));
        assert_eq!(storage.get("p/m").await.unwrap(), Some((bytes("2"), second.clone())));
        storage.delete(&["p/m".to_owned()]).await.unwrap();
        assert!(matches!(storage.put_if("p/m", bytes("x"), Some(&second)).await, Err(PutError::Conflict)));
    }
    assert!(names(&world, "p").is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_racing_writers_one_wins_each_round() {
    let world = World::new();
    for id in STORAGES {
        // Each writer has its own view of the same directory, as two processes would.
        let storages: Vec<_> = (0..4).map(|_| world.reopened().get(&StorageId::new(id).unwrap()).unwrap()).collect();
        let mut tag = None;
        for round in 0..20 {
            let attempts = storages.iter().enumerate().map(|(at, storage)| {
                let (storage, tag) = (Arc::clone(storage), tag.clone());
                tokio::spawn(async move { storage.put_if("p/m", format!("{round} {at}").into(), tag.as_ref()).await })
            });
            let outcomes: Vec<_> = join_all(attempts).await.into_iter().map(|done| done.unwrap()).collect();
            let (won, lost): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(|outcome| outcome.is_ok());
            assert_eq!(won.len(), 1);
            assert!(lost.iter().all(|outcome| matches!(outcome, Err(PutError::Conflict))));
            tag = Some(storages[0].get("p/m").await.unwrap().unwrap().1);
            assert_eq!(won[0].as_ref().ok(), tag.as_ref());
        }
    }
    assert_eq!(names(&world, "p"), ["m"]);
}

#[tokio::test]
async fn missing_and_short_files_are_corrupt_and_named() {
    let world = World::new();
    for id in STORAGES {
        let storage = world.storage(id);
        put(&storage, "short", b"0123456789").await.unwrap();
        let range = 8..12u64;
        for path in ["short", "missing"] {
            let error =
                storage.read_ranges(path, std::slice::from_ref(&range), &IoCounters::default()).await.unwrap_err();
            assert_eq!(error.kind(), ErrorKind::Corrupt, "{id} {path}");
            assert!(error.message().contains(path), "{error}");
        }
    }
}

#[tokio::test]
async fn paths_stay_within_the_storage() {
    let world = World::new();
    for id in STORAGES {
        let storage = world.storage(id);
        for path in ["", "/", "/etc/passwd", "..", "a/../../b", "a//b", "./a", "a/", "a/..", "a\\..\\b", "a\0b"] {
            assert!(storage.create_exclusive(path).await.is_err(), "{path:?}");
            assert!(storage.get(path).await.is_err(), "{path:?}");
            assert!(storage.put_if(path, Bytes::new(), None).await.is_err(), "{path:?}");
            assert!(storage.delete(&[path.to_owned()]).await.is_err(), "{path:?}");
            assert!(storage.list(path).await.is_err(), "{path:?}");
        }
    }
}

#[tokio::test]
async fn a_temporary_file_is_dead_when_nobody_here_writes_it() {
    let world = World::new();
    let storage = world.storage("local");
    let upload = storage.create_exclusive("d/x").await.unwrap();
    let written = names(&world, "d").pop().unwrap();
    assert!(!storage.is_dead_temporary("d", &written));
    let other_process = world.reopened().get(&StorageId::new(LOCAL).unwrap()).unwrap();
    assert!(other_process.is_dead_temporary("d", &written));
    assert!(!other_process.is_dead_temporary("d", "batch-0001.parquet"));
    upload.finish().await.unwrap();
    assert!(!storage.is_dead_temporary("d", &written), "it was listed while it was written, and has its name now");
}

#[tokio::test]
async fn unknown_storages_are_named_with_the_known_ones() {
    let world = World::new();
    let error = world.storages.get(&StorageId::new("s9").unwrap()).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NotFound);
    assert_eq!(error.message(), "there is no storage 's9'; there are local, memory");
    assert_eq!(world.storages.list().len(), 2);
}
