//! The promises of `ShardStore`, which every form of it must keep. What is particular to the embedded form is tested in
//! `rocks.rs` and `failed_sync.rs`.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

mod common;

use std::sync::Arc;

use bytes::Bytes;
use common::{Home, contents, one, put_all};
use kalamdb_commons::settings::Durability;
use kalamdb_store::{Batch, OwnerToken, RocksShard, ShardStore, StoreError};
use proptest::prelude::*;

/// Runs each promise on a store of its own, in both durabilities.
macro_rules! promises {
    ($($name:ident)*) => {$(
        #[tokio::test]
        async fn $name() {
            for durability in [Durability::Sync, Durability::Buffered] {
                let home = Home::new(durability);
                promise::$name(home.open(), &|| home.open()).await;
            }
        }
    )*};
}

promises! {
    a_batch_is_written_whole_and_in_order
    an_empty_batch_changes_nothing
    a_snapshot_stays_as_it_was
    a_snapshot_outlives_the_handle_of_the_store
    reads_are_ordered_and_paged
    many_keys_are_answered_in_their_order
    a_commit_of_another_owner_is_refused
    commits_outlive_closing
    the_epoch_grows_at_each_opening
    scrubbing_removes_what_it_names_and_nothing_else
    scrubbing_waits_for_older_snapshots_and_keeps_them_stable
    scrubbing_says_that_a_snapshot_is_in_the_way
    everything_after_closing_says_closed
    usage_and_counters_are_told
    commits_from_many_tasks_are_all_there
}

type Store = Arc<dyn ShardStore>;

mod promise {
    use super::*;

    pub(crate) async fn a_batch_is_written_whole_and_in_order(store: Store, _: &dyn Fn() -> Store) {
        let mut batch = Batch::default();
        batch.put("a", "1");
        batch.put("b", "2");
        batch.delete("a");
        batch.put("c", "3");
        batch.put("c", "4");
        assert_eq!((batch.len(), batch.bytes()), (5, 9));
        store.commit(store.token(), batch).await.unwrap();
        assert_eq!(contents(&*store).await, ["b=2", "c=4"]);
    }

    pub(crate) async fn an_empty_batch_changes_nothing(store: Store, _: &dyn Fn() -> Store) {
        store.commit(store.token(), Batch::default()).await.unwrap();
        assert!(contents(&*store).await.is_empty());
    }

    pub(crate) async fn a_snapshot_stays_as_it_was(store: Store, _: &dyn Fn() -> Store) {
        put_all(&*store, &[("a", "old"), ("b", "old")]).await;
        let snapshot = store.snapshot().await.unwrap();
        let mut batch = Batch::default();
        batch.put("a", "new");
        batch.delete("b");
        batch.put("c", "new");
        store.commit(store.token(), batch).await.unwrap();
        assert_eq!(snapshot.get(b"a").await.unwrap().unwrap(), "old");
        assert_eq!(snapshot.get(b"c").await.unwrap(), None);
        let page = snapshot.scan(b"a", b"z", 10, 1000).await.unwrap();
        assert_eq!(page.entries, [("a".into(), "old".into()), ("b".into(), Bytes::from("old"))]);
        let found = snapshot.get_many(&["b".into(), "c".into()]).await.unwrap();
        assert_eq!(found, [Some(Bytes::from("old")), None]);
        assert_eq!(contents(&*store).await, ["a=new", "c=new"]);
    }

    pub(crate) async fn a_snapshot_outlives_the_handle_of_the_store(store: Store, _: &dyn Fn() -> Store) {
        put_all(&*store, &[("a", "1")]).await;
        let snapshot = store.snapshot().await.unwrap();
        drop(store);
        assert_eq!(snapshot.get(b"a").await.unwrap().unwrap(), "1");
    }

    pub(crate) async fn reads_are_ordered_and_paged(store: Store, _: &dyn Fn() -> Store) {
        let mut batch = Batch::default();
        for number in (0..3000u32).rev() {
            batch.put(number.to_be_bytes().to_vec(), vec![7; 10]);
        }
        store.commit(store.token(), batch).await.unwrap();
        let snapshot = store.snapshot().await.unwrap();
        for (max_entries, max_bytes) in [(1, 1 << 20), (7, 1 << 20), (1000, 1 << 20), (2000, 1 << 20), (5000, 100)] {
            let (end, mut at, mut read) =
                (2500u32.to_be_bytes(), Bytes::copy_from_slice(&500u32.to_be_bytes()), vec![]);
            loop {
                let page = snapshot.scan(&at, &end, max_entries, max_bytes).await.unwrap();
                assert!(!page.entries.is_empty() && page.entries.len() <= max_entries);
                let bytes: usize = page.entries.iter().map(|(key, value)| key.len() + value.len()).sum();
                assert!(bytes < max_bytes + 14);
                read.extend(page.entries.into_iter().map(|(key, _)| u32::from_be_bytes(key[..].try_into().unwrap())));
                match page.next {
                    Some(next) => at = next,
                    None => break,
                }
                if max_entries == 1 && read.len() > 50 {
                    break;
                }
            }
            assert!(read.iter().copied().eq((500..2500).take(read.len())));
            assert!(max_entries == 1 || read.len() == 2000);
        }
        assert!(snapshot.scan(b"b", b"a", 10, 10).await.unwrap().entries.is_empty());
        assert_eq!(snapshot.scan(&2999u32.to_be_bytes(), b"", 10, 1000).await.unwrap().entries.len(), 1);
    }

    pub(crate) async fn many_keys_are_answered_in_their_order(store: Store, _: &dyn Fn() -> Store) {
        put_all(&*store, &[("a", "1"), ("b", "2")]).await;
        let snapshot = store.snapshot().await.unwrap();
        let found = snapshot.get_many(&["b".into(), "x".into(), "a".into(), "b".into()]).await.unwrap();
        assert_eq!(found, [Some("2".into()), None, Some("1".into()), Some(Bytes::from("2"))]);
        assert!(snapshot.get_many(&[]).await.unwrap().is_empty());
        let many: Vec<Bytes> = (0..3000).map(|i| if i % 2 == 0 { "a".into() } else { "none".into() }).collect();
        assert_eq!(snapshot.get_many(&many).await.unwrap().iter().flatten().count(), 1500);
    }

    pub(crate) async fn a_commit_of_another_owner_is_refused(store: Store, _: &dyn Fn() -> Store) {
        let current = store.token();
        let given = OwnerToken { epoch: current.epoch - 1, ..current };
        let error = store.commit(given, one("a", "1")).await.unwrap_err();
        assert!(matches!(error, StoreError::Fenced { given: g, current: c } if g == given && c == current));
        assert!(contents(&*store).await.is_empty());
    }

    pub(crate) async fn commits_outlive_closing(store: Store, open: &dyn Fn() -> Store) {
        put_all(&*store, &[("a", "1")]).await;
        store.sync().await.unwrap();
        put_all(&*store, &[("b", "2")]).await;
        store.close().await.unwrap();
        assert_eq!(contents(&*open()).await, ["a=1", "b=2"]);
    }

    pub(crate) async fn the_epoch_grows_at_each_opening(store: Store, open: &dyn Fn() -> Store) {
        let first = store.token();
        store.close().await.unwrap();
        let second = open();
        assert_eq!(second.token(), OwnerToken { epoch: first.epoch + 1, ..first });
        assert!(matches!(second.commit(first, one("one", "1")).await, Err(StoreError::Fenced { .. })));
    }

    pub(crate) async fn scrubbing_removes_what_it_names_and_nothing_else(store: Store, _: &dyn Fn() -> Store) {
        put_all(&*store, &[("a", "1"), ("b", "2"), ("b1", "3"), ("b\u{7f}", "4"), ("c", "5"), ("d1", "6")]).await;
        store.scrub_all(&["b".into(), "d".into()]).await.unwrap();
        assert_eq!(contents(&*store).await, ["a=1", "c=5"]);
        put_all(&*store, &[("b", "again")]).await;
        assert_eq!(contents(&*store).await, ["a=1", "b=again", "c=5"]);
        store.scrub_all(&[]).await.unwrap();
        assert!(store.scrub(b"").await.is_err(), "an empty prefix is everything");
    }

    pub(crate) async fn scrubbing_waits_for_older_snapshots_and_keeps_them_stable(store: Store, _: &dyn Fn() -> Store) {
        put_all(&*store, &[("a", "1"), ("b", "2")]).await;
        let snapshot = store.snapshot().await.unwrap();
        let scrub = tokio::spawn({
            let store = Arc::clone(&store);
            async move { store.scrub(b"a").await }
        });
        while contents(&*store).await.len() == 2 {
            tokio::task::yield_now().await;
        }
        assert!(!scrub.is_finished());
        assert_eq!(snapshot.get(b"a").await.unwrap().unwrap(), "1");
        drop(snapshot);
        scrub.await.unwrap().unwrap();
        assert_eq!(contents(&*store).await, ["b=2"]);
    }

    pub(crate) async fn scrubbing_says_that_a_snapshot_is_in_the_way(store: Store, _: &dyn Fn() -> Store) {
        put_all(&*store, &[("a", "1"), ("b", "2")]).await;
        let snapshot = store.snapshot().await.unwrap();
        let outcome = store.scrub(b"a").await;
        assert!(matches!(outcome, Err(StoreError::SnapshotsHeld { snapshots: 1 })), "{outcome:?}");
        assert_eq!(contents(&*store).await, ["b=2"], "removed for new readers nevertheless");
        assert_eq!(snapshot.get(b"a").await.unwrap().unwrap(), "1");
        drop(snapshot);
        store.scrub(b"a").await.unwrap();
    }

    pub(crate) async fn everything_after_closing_says_closed(store: Store, _: &dyn Fn() -> Store) {
        put_all(&*store, &[("a", "1")]).await;
        let snapshot = store.snapshot().await.unwrap();
        store.close().await.unwrap();
        store.close().await.unwrap();
        assert!(matches!(store.commit(store.token(), one("one", "1")).await, Err(StoreError::Closed)));
        assert!(matches!(store.snapshot().await, Err(StoreError::Closed)));
        assert!(matches!(store.usage().await, Err(StoreError::Closed)));
        assert!(matches!(snapshot.get(b"a").await, Err(StoreError::SnapshotLost)));
    }

    pub(crate) async fn usage_and_counters_are_told(store: Store, _: &dyn Fn() -> Store) {
        let before = store.counters();
        for number in 0..5u8 {
            put_all(&*store, &[(&format!("k{number}"), &"v".repeat(10_000))]).await;
        }
        let after = store.counters();
        assert_eq!(after.commits - before.commits, 5);
        assert!(after.bytes - before.bytes > 50_000);
        let syncs = if store.durability() == Durability::Sync { 5 } else { 0 };
        assert_eq!(after.syncs - before.syncs, syncs, "one sync per commit, and none in buffered mode");
        let snapshot = store.snapshot().await.unwrap();
        let usage = store.usage().await.unwrap();
        assert!(usage.memtable_bytes > 50_000 && usage.log_bytes > 50_000 && usage.snapshots == 1, "{usage:?}");
        drop(snapshot);
        assert_eq!(store.usage().await.unwrap().snapshots, 0);
    }

    pub(crate) async fn commits_from_many_tasks_are_all_there(store: Store, _: &dyn Fn() -> Store) {
        let tasks: Vec<_> = (0..20u8)
            .map(|task| {
                let store = Arc::clone(&store);
                tokio::spawn(async move {
                    for number in 0..10u8 {
                        let mut batch = Batch::default();
                        batch.put(vec![b'k', task, number], vec![]);
                        batch.put(vec![b'l', task, number], vec![]);
                        store.commit(store.token(), batch).await.unwrap();
                        let snapshot = store.snapshot().await.unwrap();
                        let k = snapshot.scan(b"k", b"l", 1000, 1 << 20).await.unwrap().entries.len();
                        let l = snapshot.scan(b"l", b"m", 1000, 1 << 20).await.unwrap().entries.len();
                        assert_eq!(k, l, "a batch is seen whole or not at all");
                    }
                })
            })
            .collect();
        for task in tasks {
            task.await.unwrap();
        }
        let snapshot = store.snapshot().await.unwrap();
        assert_eq!(snapshot.scan(b"k", b"m", 1000, 1 << 20).await.unwrap().entries.len(), 400);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Against a map in memory: any batches, snapshots held over them, scrubs and reopenings.
    #[test]
    fn a_store_is_an_ordered_map(steps in prop::collection::vec((0u8..20, prop::collection::vec((any::<bool>(), 0u8..4, 0u8..4), 1..6)), 1..30)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let home = Home::new(Durability::Buffered);
            let mut store: Arc<RocksShard> = home.open();
            let mut model = std::collections::BTreeMap::new();
            let mut held = Vec::new();
            for (step, (action, changes)) in steps.into_iter().enumerate() {
                match action {
                    0 => {
                        held.clear();
                        store.close().await.unwrap();
                        store = home.open();
                    }
                    1 => {
                        held.clear();
                        store.scrub(&[b'k', changes[0].1]).await.unwrap();
                        model.retain(|key: &Vec<u8>, _| !key.starts_with(&[b'k', changes[0].1]));
                    }
                    2 | 3 => held.push((store.snapshot().await.unwrap(), model.clone())),
                    _ => {
                        let mut batch = Batch::default();
                        for (put, first, second) in changes {
                            let key = vec![b'k', first, second];
                            if put {
                                batch.put(key.clone(), step.to_string());
                                model.insert(key, step.to_string());
                            } else {
                                batch.delete(key.clone());
                                model.remove(&key);
                            }
                        }
                        store.commit(store.token(), batch).await.unwrap();
                    }
                }
                held.push((store.snapshot().await.unwrap(), model.clone()));
                for (snapshot, model) in &held {
                    let page = snapshot.scan(b"k", b"l", 1000, 1 << 20).await.unwrap();
                    let expected: Vec<_> = model.iter().map(|(key, value)| (Bytes::from(key.clone()), Bytes::from(value.clone()))).collect();
                    assert_eq!(page.entries, expected);
                }
                held.pop();
            }
        });
    }
}
