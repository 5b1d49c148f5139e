use kalamdb_commons::ids::UserId;

use super::*;
use crate::testing::{STORAGES, World, spec};

fn read(text: &str) -> Entry {
    serde_json::from_str(text).unwrap()
}

#[test]
fn fr_036_an_entry_of_an_older_build_is_read_and_counts_as_never_compared() {
    let Entry { head, manifest } = read(include_str!("../fixtures/entry-of-an-older-build.json"));
    assert_eq!(head.scope, Scope::User(UserId::new("alice").unwrap()));
    assert_eq!((head.etag.as_deref(), head.last_refreshed_ms(), head.sync_state), (None, 0, SyncState::Stale));
    assert_eq!((manifest.version, manifest.max_batch), (3, 2));
}

#[test]
fn fr_036_what_a_newer_build_adds_to_an_entry_is_ignored() {
    let Entry { head, manifest } = read(include_str!("../fixtures/entry-of-a-newer-build.json"));
    assert_eq!((head.etag.as_deref(), head.last_refreshed_ms()), (Some("abc-1"), 1_767_323_045_678));
    assert_eq!(head.sync_state, SyncState::Stale, "a state that is not known is the careful one");
    assert_eq!(manifest.version, 3);
}

#[tokio::test]
async fn fr_036_an_entry_is_json_that_a_person_can_read() {
    for storage in STORAGES {
        let spec = spec(storage, 5);
        let loaded = World::new().service().load(&spec, None).await.unwrap();
        let loaded = Loaded { tag: Some(crate::storage::Tag::new("t-1")), ..loaded };
        let bytes = encode(&spec, &loaded, 1_767_323_045_678).unwrap();
        let shown: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
        assert_eq!(shown["namespace"], "app");
        assert_eq!(shown["storage"], storage);
        assert_eq!(shown["source_path"], "app/%2E%2E%2FM%C3%BCll%20e%25/user_%2E%2E%2F%2E%2E/manifest.json");
        assert_eq!(shown["etag"], "t-1");
        assert_eq!(shown["last_refreshed"], "2026-01-02T03:04:05.678Z");
        assert_eq!(shown["sync_state"], "in_sync");
        assert_eq!(shown["manifest"]["max_batch"], 0);
        let entry: Entry = serde_json::from_slice(&bytes).unwrap();
        assert_eq!((entry.manifest, entry.head.scope), ((*loaded.manifest).clone(), spec.scope));
    }
}

#[test]
fn fr_035_no_two_partitions_share_a_key() {
    let named = |namespace: &str, table: &str, user: &str| {
        key(&TableRef::new(namespace, table).unwrap(), &Scope::User(UserId::new(user).unwrap()))
    };
    assert_eq!(named("app", "notes", "alice"), "app:notes:user_alice");
    assert_eq!(key(&TableRef::new("app", "notes").unwrap(), &Scope::Shared), "app:notes:shared");
    let keys = [
        named("a", "b:c", "d"),
        named("a:b", "c", "d"),
        named("a", "b", "c:d"),
        named("a", "b", "shared"),
        named("a", "b", "user_shared"),
        key(&TableRef::new("a", "b").unwrap(), &Scope::Shared),
    ];
    let distinct: std::collections::BTreeSet<_> = keys.iter().collect();
    assert_eq!(distinct.len(), keys.len(), "{keys:?}");
    assert!(keys.iter().all(|key| key.matches(':').count() == 2), "{keys:?}");
}
