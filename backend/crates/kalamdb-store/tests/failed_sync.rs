//! What happens when a commit fails where its outcome is unknown. In a file of its own, because fail points are
//! global to the process.

#![expect(clippy::unwrap_used, reason = "a failure fails the test")]

mod common;

use std::sync::Arc;

use common::{Home, contents, one, put_all};
use fail::FailScenario;
use kalamdb_commons::settings::Durability;
use kalamdb_commons::{Error, ErrorKind};
use kalamdb_store::{NodeCache, RocksShard, ShardStore, StoreError};

async fn after_a_failed_sync(how: &str) -> (Home, Arc<RocksShard>) {
    let home = Home::new(Durability::Sync);
    let store = home.open();
    put_all(&*store, &[("before", "1")]).await;
    fail::cfg("store::sync_fails", &format!("return({how})")).unwrap();
    let outcome = store.commit(store.token(), one("doubtful", "2")).await;
    fail::remove("store::sync_fails");
    assert!(matches!(outcome, Err(StoreError::OutcomeUnknown { .. })), "{outcome:?}");
    (home, store)
}

#[tokio::test]
async fn a_failed_sync_poisons_writes_until_the_store_has_reopened() {
    let scenario = FailScenario::setup();
    for (how, entries) in [("written", 3), ("lost", 2)] {
        let (_home, store) = after_a_failed_sync(how).await;
        let held = store.snapshot().await.unwrap();

        let refused = store.commit(store.token(), one("refused", "3")).await.unwrap_err();
        assert!(matches!(refused, StoreError::Poisoned { .. }), "{refused:?}");
        assert_eq!(Error::from(refused).kind(), ErrorKind::Overloaded);
        assert!(matches!(store.sync().await, Err(StoreError::Poisoned { .. })));
        assert!(matches!(store.scrub(b"x").await, Err(StoreError::Poisoned { .. })));
        assert!(matches!(store.put(b"x", b"y").await, Err(StoreError::Poisoned { .. })));
        assert_eq!(held.get(b"before").await.unwrap().unwrap(), "1", "reads go on");

        let token = store.token();
        store.reopen().await.unwrap();
        assert!(matches!(held.get(b"before").await, Err(StoreError::SnapshotLost)));
        assert_eq!(store.token(), token);
        store.commit(token, one("after", "4")).await.unwrap();
        let found = contents(&*store).await;
        assert_eq!(found.len(), entries, "{how}: {found:?}");
        assert!(!found.contains(&"refused=3".to_owned()));
        store.reopen().await.unwrap();
        assert_eq!(contents(&*store).await, found, "a store that works is left alone");
    }

    fail::cfg("store::before_commit", "return").unwrap();
    let home = Home::new(Durability::Sync);
    let store = home.open();
    assert!(matches!(store.commit(store.token(), one("a", "1")).await, Err(StoreError::Io { .. })));
    fail::remove("store::before_commit");
    assert!(contents(&*store).await.is_empty(), "nothing was written, and the store is not poisoned");
    fail::cfg("store::after_commit", "return").unwrap();
    assert!(matches!(store.commit(store.token(), one("a", "1")).await, Err(StoreError::OutcomeUnknown { .. })));
    scenario.teardown();
    store.reopen().await.unwrap();
    assert_eq!(contents(&*store).await.len(), 1);
}
