use super::*;
use crate::batch::Group;
use crate::manifest::{Asked, Edit, Found, ManifestService};
use crate::testing::{STORAGES, World, spec, write_small};
use kalamdb_commons::clock::ManualClock;

const START_NS: i64 = 1_700_000_000_000_000_000;
const TTL_NS: i64 = 3_600_000_000_000;

struct Cached {
    world: World,
    clock: ManualClock,
    service: ManifestService,
    spec: PartitionSpec,
    loaded: Loaded,
}

/// A partition with one batch, whose manifest was published by the service.
async fn cached(storage: &str) -> Cached {
    let (world, clock, spec) = (World::new(), ManualClock::at(START_NS), spec(storage, 5));
    let service = ManifestService::new(world.reopened(), Arc::new(clock.clone()));
    let empty = service.load(&spec, None).await.unwrap();
    let batch = write_small(&world.storage(storage), &spec, 1, 0, 10, Group::ALONE).await;
    let edit = Edit { add: vec![batch], flushed_through: CommitTime(10), ..Edit::default() };
    let loaded = service.publish(&spec, &empty, edit).await.unwrap();
    Cached { world, clock, service, spec, loaded }
}

impl Cached {
    async fn asked(&self) -> Asked {
        self.look_up().await.1
    }

    async fn look_up(&self) -> (Loaded, Asked) {
        match self.service.look_up(&self.spec, None).await.unwrap() {
            Found::Ready(loaded, asked) => (loaded, asked),
            Found::Lost(why) => panic!("{why}"),
        }
    }

    async fn rewrite_manifest(&self, change: impl FnOnce(Vec<u8>) -> Option<Vec<u8>>) {
        let path = self.spec.path().file(MANIFEST_FILE);
        self.world.damage(self.spec.storage.as_str(), &path, change).await;
    }
}

#[tokio::test]
async fn an_expired_manifest_is_compared_and_only_read_again_if_it_changed() {
    for storage in STORAGES {
        let cached = cached(storage).await;
        assert_eq!(cached.asked().await, Asked::Cache);
        cached.clock.step(TTL_NS);
        let (same, asked) = cached.look_up().await;
        assert_eq!(asked, Asked::Storage);
        assert!(Arc::ptr_eq(&same.manifest, &cached.loaded.manifest), "nothing is parsed again");
        assert_eq!(cached.asked().await, Asked::Cache);
        assert_eq!(cached.service.cache_figures().revalidated, 1);
        cached.clock.step(TTL_NS);
        cached
            .rewrite_manifest(|mut bytes| {
                bytes.push(b'\n');
                Some(bytes)
            })
            .await;
        let (changed, _) = cached.look_up().await;
        assert_eq!(changed.manifest, same.manifest);
        assert_ne!(changed.tag, same.tag);
        assert_eq!(cached.service.cache_figures().revalidated, 1);
    }
}

#[tokio::test]
async fn an_older_manifest_than_was_seen_is_never_served() {
    let cached = cached("local").await;
    let path = cached.world.directory.path().join("storage").join(cached.spec.path().file(MANIFEST_FILE));
    let older = std::fs::read(&path).unwrap();
    let batch = write_small(&cached.world.storage("local"), &cached.spec, 2, 10, 20, Group::ALONE).await;
    let edit = Edit { add: vec![batch], flushed_through: CommitTime(20), ..Edit::default() };
    let newest = cached.service.publish(&cached.spec, &cached.loaded, edit).await.unwrap();
    cached.rewrite_manifest(|_| Some(older)).await;
    cached.clock.step(TTL_NS);
    let found = cached.service.load(&cached.spec, None).await.unwrap();
    assert!(found.rebuilt);
    assert!(found.manifest.version > newest.manifest.version);
    assert_eq!(found.manifest.batches, newest.manifest.batches);
}

#[tokio::test]
async fn a_manifest_in_memory_goes_on_being_used_while_storage_cannot_be_asked() {
    let cached = cached("local").await;
    cached.clock.step(TTL_NS);
    // A directory in the manifest's place cannot be read.
    let path = cached.world.directory.path().join("storage").join(cached.spec.path().file(MANIFEST_FILE));
    std::fs::remove_file(&path).unwrap();
    std::fs::create_dir(&path).unwrap();
    let found = cached.service.load(&cached.spec, None).await.unwrap();
    assert!(Arc::ptr_eq(&found.manifest, &cached.loaded.manifest));
    let shown = cached.service.cached_of(&cached.spec.table, &cached.spec.scope).await.unwrap().unwrap();
    assert_eq!(shown.sync_state, SyncState::Error);
    assert_eq!(cached.asked().await, Asked::Cache, "storage is not asked again at once");
    cached.clock.step(RETRY_MS * 1_000_000);
    assert_eq!(cached.asked().await, Asked::Storage);
}

#[tokio::test]
async fn a_clock_that_was_set_back_ends_freshness() {
    let cached = cached("local").await;
    cached.clock.step(-1_000_000_000);
    assert_eq!(cached.asked().await, Asked::Storage);
}

#[tokio::test]
async fn the_end_of_an_incarnation_takes_its_entry_along() {
    let cached = cached("local").await;
    cached.service.publish_empty(&cached.spec, Incarnation(6)).await.unwrap();
    assert_eq!(cached.service.cached().await.unwrap(), []);
    assert_eq!(cached.asked().await, Asked::Storage);
}
