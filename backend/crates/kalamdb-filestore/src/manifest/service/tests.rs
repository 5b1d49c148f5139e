use kalamdb_commons::ErrorKind;
use kalamdb_commons::ids::{TableId, TableRef};

use super::*;
use crate::batch::{BatchFile, Group};
use crate::io::IoCounters;
use crate::testing::{Interrupted, STORAGES, World, service, small_columns, spec, write_small};

/// A partition with batches (0, 10], (10, 20], (20, 30] that were published one by one.
struct Partition {
    world: World,
    service: ManifestService,
    spec: PartitionSpec,
    loaded: Loaded,
}

impl Partition {
    async fn new(storage: &str) -> Self {
        let world = World::new();
        let (service, spec) = (service(&world.storages), spec(storage, 5));
        let mut loaded = service.load(&spec, None).await.unwrap();
        for number in 1..=3u64 {
            let at = number as i64 * 10;
            let batch = write_small(&world.storage(storage), &spec, number, at - 10, at, Group::ALONE).await;
            let edit = Edit {
                add: vec![batch],
                flushed_through: CommitTime(at),
                deletions_complete_from: CommitTime((at - 10) / 2),
                ..Edit::default()
            };
            loaded = service.publish(&spec, &loaded, edit).await.unwrap();
        }
        Self { world, service, spec, loaded }
    }

    fn recorded(&self) -> Option<Recorded> {
        Some(Recorded { version: self.loaded.manifest.version, flushed_through: self.loaded.manifest.flushed_through })
    }

    fn storage(&self) -> Arc<Storage> {
        self.world.storage(self.spec.storage.as_str())
    }

    fn file(&self, name: &str) -> String {
        self.spec.path().file(name)
    }

    async fn damage(&self, name: &str, change: impl FnOnce(Vec<u8>) -> Option<Vec<u8>>) {
        self.world.damage(self.spec.storage.as_str(), &self.file(name), change).await;
    }

    async fn edit_manifest(&self, change: impl FnOnce(&mut Manifest)) {
        self.damage(MANIFEST_FILE, |bytes| {
            let mut manifest: Manifest = serde_json::from_slice(&bytes).unwrap();
            change(&mut manifest);
            Some(serde_json::to_vec(&manifest).unwrap())
        })
        .await;
    }

    async fn names(&self) -> Vec<String> {
        self.storage().list(self.spec.path().as_str()).await.unwrap().into_iter().map(|(name, _)| name).collect()
    }

    async fn small(&self, number: u64, from: i64, through: i64) -> Batch {
        write_small(&self.storage(), &self.spec, number, from, through, Group::ALONE).await
    }
}

/// What happens to a file's bytes; `None` removes it.
type Damage = fn(Vec<u8>) -> Option<Vec<u8>>;

/// All but when and as what version it was written.
fn content(manifest: &Manifest) -> Manifest {
    Manifest { version: 0, generated_at: String::new(), ..manifest.clone() }
}

#[tokio::test]
async fn a_partition_that_was_never_flushed_has_an_empty_manifest() {
    for storage in STORAGES {
        let world = World::new();
        let loaded = world.service().load(&spec(storage, 5), None).await.unwrap();
        assert_eq!((loaded.manifest.version, loaded.manifest.max_batch, loaded.tag), (0, 0, None));
        assert!(loaded.manifest.batches.is_empty() && !loaded.rebuilt && loaded.statistics.is_empty());
        assert!(world.storage(storage).list(spec(storage, 5).path().as_str()).await.unwrap().is_empty());
    }
}

#[tokio::test]
async fn what_was_published_is_loaded_after_a_restart() {
    for storage in STORAGES {
        let partition = Partition::new(storage).await;
        let loaded = partition.world.service().load(&partition.spec, partition.recorded()).await.unwrap();
        assert_eq!(loaded.manifest, partition.loaded.manifest);
        assert_eq!(loaded.tag, partition.loaded.tag);
        assert!(!loaded.rebuilt);
        let manifest = &loaded.manifest;
        assert_eq!((manifest.version, manifest.max_batch, manifest.flushed_through), (3, 3, CommitTime(30)));
        assert_eq!(manifest.generated_at, "2023-11-14T22:13:20+00:00");
        assert_eq!(loaded.statistics.len(), 3);
    }
}

#[tokio::test]
async fn the_manifest_in_memory_is_used_without_touching_storage() {
    let partition = Partition::new("local").await;
    partition.damage(MANIFEST_FILE, |_| None).await;
    let loaded = partition.service.load(&partition.spec, partition.recorded()).await.unwrap();
    assert!(Arc::ptr_eq(&loaded.manifest, &partition.loaded.manifest));
}

#[tokio::test]
async fn a_rebuilt_manifest_is_the_lost_one() {
    for storage in STORAGES {
        let damages: [(&str, Damage); 5] = [
            ("missing", |_| None),
            ("empty", |_| Some(Vec::new())),
            ("truncated", |bytes| Some(bytes[..bytes.len() / 2].to_vec())),
            ("not JSON", |_| Some(b"\0\xff\0".to_vec())),
            ("another thing", |_| Some(b"{\"format_version\": 1, \"x\": []}".to_vec())),
        ];
        for (what, damage) in damages {
            let partition = Partition::new(storage).await;
            partition.damage(MANIFEST_FILE, damage).await;
            for recorded in [partition.recorded(), None] {
                let service = partition.world.service();
                let loaded = service.load(&partition.spec, recorded).await.unwrap();
                assert_eq!(content(&loaded.manifest), content(&partition.loaded.manifest), "{storage} {what}");
                // It was stored, so the next start finds it, and so does a publication.
                let again = partition.world.service().load(&partition.spec, recorded).await.unwrap();
                assert_eq!((again.manifest, again.rebuilt), (Arc::clone(&loaded.manifest), false));
                assert_eq!(loaded.tag, again.tag);
                if loaded.rebuilt && recorded.is_some() {
                    assert_eq!(loaded.manifest.version, partition.loaded.manifest.version + 1);
                }
            }
        }
    }
}

#[tokio::test]
async fn a_manifest_that_contradicts_the_files_is_rebuilt() {
    type Change = fn(&mut Manifest);
    let changes: [(&str, Change); 11] = [
        ("stale version", |manifest| manifest.version -= 1),
        ("stale watermark", |manifest| {
            manifest.batches.pop();
            manifest.flushed_through = CommitTime(20);
            manifest.version += 5;
        }),
        ("a hole", |manifest| drop(manifest.batches.remove(1))),
        ("a wrong size", |manifest| manifest.batches[1].byte_size += 1),
        ("another path", |manifest| manifest.batches[1].path = "../../../secret".into()),
        ("a number twice", |manifest| {
            let copy = Batch { status: BatchStatus::Archived, ..manifest.batches[0].clone() };
            manifest.batches.push(copy);
        }),
        ("numbering that goes back", |manifest| manifest.max_batch = 2),
        ("a batch of another life", |manifest| manifest.batches[0].incarnation = Incarnation(4)),
        ("another table's id", |manifest| manifest.table_id = TableId(8)),
        ("another table", |manifest| manifest.table = TableRef::new("app", "other").unwrap()),
        ("another scope", |manifest| manifest.scope = Scope::Shared),
    ];
    for storage in STORAGES {
        for (what, change) in &changes {
            let partition = Partition::new(storage).await;
            partition.edit_manifest(change).await;
            let loaded = partition.world.service().load(&partition.spec, partition.recorded()).await.unwrap();
            assert!(loaded.rebuilt, "{what}");
            assert_eq!(content(&loaded.manifest), content(&partition.loaded.manifest), "{what}");
            assert!(loaded.manifest.version > partition.loaded.manifest.version);
        }
    }
}

#[tokio::test]
async fn a_file_that_is_gone_fails_the_partition_by_name() {
    for storage in STORAGES {
        let damages: [Damage; 3] =
            [|_| None, |bytes| Some(bytes[..bytes.len() - 9].to_vec()), |bytes| Some(vec![7; bytes.len() + 1])];
        for damage in damages {
            let partition = Partition::new(storage).await;
            partition.damage("batch-0002.parquet", damage).await;
            for recorded in [partition.recorded(), None] {
                let error = partition.world.service().load(&partition.spec, recorded).await.unwrap_err();
                assert_eq!(error.kind(), ErrorKind::Corrupt);
                assert!(error.message().contains("incarnation 5"), "{error}");
                assert!(error.message().contains("batch-0002") || error.message().contains("batch-0003"), "{error}");
            }
            // The hot tier still holds what the lost files would: they are not needed.
            let recorded = Some(Recorded { version: 1, flushed_through: CommitTime(10) });
            let loaded = partition.world.service().load(&partition.spec, recorded).await.unwrap();
            assert_eq!(loaded.manifest.flushed_through, CommitTime(10));
            assert_eq!(loaded.manifest.max_batch, 3, "numbers are not used again");
        }
    }
}

#[tokio::test]
async fn all_files_gone_is_not_an_empty_partition() {
    let partition = Partition::new("local").await;
    for name in [MANIFEST_FILE, "batch-0001.parquet", "batch-0002.parquet", "batch-0003.parquet"] {
        partition.damage(name, |_| None).await;
    }
    let error = partition.world.service().load(&partition.spec, partition.recorded()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
}

#[tokio::test]
async fn a_manifest_of_a_later_format_is_refused_and_kept() {
    for storage in STORAGES {
        let partition = Partition::new(storage).await;
        let mut kept = Vec::new();
        partition
            .damage(MANIFEST_FILE, |bytes| {
                let text = String::from_utf8(bytes).unwrap();
                kept = text.replace("\"format_version\": 1", "\"format_version\": 2").into_bytes();
                Some(kept.clone())
            })
            .await;
        let service = partition.world.service();
        for error in [
            service.load(&partition.spec, None).await.unwrap_err(),
            service.publish_empty(&partition.spec, Incarnation(6)).await.unwrap_err(),
        ] {
            assert!(error.message().contains("format version 2; this build reads up to 1"), "{error}");
        }
        let stored = partition.storage().get(&partition.file(MANIFEST_FILE)).await.unwrap().unwrap();
        assert!(stored.0 == kept);
    }
}

#[tokio::test]
async fn unknown_fields_are_ignored() {
    let partition = Partition::new("local").await;
    partition
        .damage(MANIFEST_FILE, |bytes| {
            let text = String::from_utf8(bytes).unwrap();
            Some(text.replacen('{', "{\"from_the_future\": [1],", 1).into_bytes())
        })
        .await;
    let loaded = partition.world.service().load(&partition.spec, partition.recorded()).await.unwrap();
    assert_eq!((loaded.rebuilt, &loaded.manifest), (false, &partition.loaded.manifest));
}

#[tokio::test]
async fn of_two_services_the_second_is_told() {
    for storage in STORAGES {
        let partition = Partition::new(storage).await;
        let other = partition.world.service();
        let theirs = other.load(&partition.spec, None).await.unwrap();
        let edit = |batch| Edit { add: vec![batch], flushed_through: CommitTime(40), ..Edit::default() };
        let (ours, other_batch) = (partition.small(4, 30, 40).await, partition.small(5, 30, 40).await);
        partition.service.publish(&partition.spec, &partition.loaded, edit(ours)).await.unwrap();
        let lost = other.publish(&partition.spec, &theirs, edit(other_batch.clone())).await;
        assert!(matches!(lost, Err(PublishError::Conflict)));
        // Loaded again, the edit no longer fits: the interval is taken.
        let reloaded = other.reload(&partition.spec, None).await.unwrap();
        assert_eq!(reloaded.manifest.version, 4);
        let lost = other.publish(&partition.spec, &reloaded, edit(other_batch)).await;
        assert!(matches!(lost, Err(PublishError::Conflict)));
        other.discard(&partition.spec, 5).await.unwrap();
        assert!(!partition.names().await.contains(&"batch-0005.parquet".to_owned()));
        other.discard(&partition.spec, 4).await.unwrap();
        assert!(partition.names().await.contains(&"batch-0004.parquet".to_owned()), "what is listed stays");
    }
}

#[tokio::test]
async fn a_compaction_replaces_its_inputs() {
    for storage in STORAGES {
        let partition = Partition::new(storage).await;
        let (service, spec) = (&partition.service, &partition.spec);
        let mark = Edit { compacting: Some(vec![1, 2]), ..Edit::default() };
        let marked = service.publish(spec, &partition.loaded, mark).await.unwrap();
        let status = |loaded: &Loaded| loaded.manifest.batches.iter().map(|b| (b.number, b.status)).collect::<Vec<_>>();
        use BatchStatus::{Active, Archived, Compacting};
        assert_eq!(status(&marked), [(1, Compacting), (2, Compacting), (3, Active)]);
        assert_eq!(marked.statistics.len(), 3);
        let merged = partition.small(4, 0, 20).await;
        let edit =
            Edit { add: vec![merged], retire: vec![1, 2], deletions_complete_from: CommitTime(15), ..Edit::default() };
        let compacted = service.publish(spec, &marked, edit.clone()).await.unwrap();
        assert_eq!(status(&compacted), [(4, Active), (3, Active), (1, Archived), (2, Archived)]);
        assert_eq!(compacted.manifest.deletions_complete_from, CommitTime(15));
        assert_eq!(compacted.statistics.len(), 2);
        assert_eq!(compacted.statistics.batch(1).number, 3);
        let again = service.publish(spec, &compacted, edit).await.unwrap();
        assert_eq!(again.manifest.version, compacted.manifest.version, "published before");
        let gone = Edit { retire: vec![1], ..Edit::default() };
        assert!(matches!(service.publish(spec, &compacted, gone).await, Err(PublishError::Conflict)));
        // A reader holds one of the inputs.
        let storage = partition.storage();
        let held = BatchFile::open(&storage, spec.path().as_str(), &compacted.manifest.batches[2]);
        let inputs = ["batch-0001.parquet".to_owned(), "batch-0002.parquet".to_owned()];
        let removal = service.remove_files(spec, &inputs).await.unwrap();
        assert_eq!((&removal.removed[..], &removal.held[..]), (&inputs[1..], &inputs[..1]));
        assert!(held.footer(&IoCounters::default()).await.is_ok());
        drop(held);
        assert_eq!(service.remove_files(spec, &inputs).await.unwrap().removed, inputs);
        let forget = Edit { forget: vec![1, 2, 3], ..Edit::default() };
        let forgotten = service.publish(spec, &compacted, forget).await.unwrap();
        assert_eq!(status(&forgotten), [(4, Active), (3, Active)], "what is active is not forgotten");
        assert_eq!(partition.names().await, ["batch-0003.parquet", "batch-0004.parquet", MANIFEST_FILE]);
        let restarted = partition.world.service().load(spec, None).await.unwrap();
        assert_eq!(restarted.manifest, forgotten.manifest);
    }
}

#[tokio::test]
async fn active_files_are_not_removed() {
    let partition = Partition::new("local").await;
    let files = ["batch-0001.parquet".to_owned()];
    let removal = partition.service.remove_files(&partition.spec, &files).await.unwrap();
    assert_eq!((removal.removed.len(), removal.held.len()), (0, 1));
    for name in [MANIFEST_FILE, "../x", "batch-1.parquet", "batch-0001.parquet/.."] {
        assert!(partition.service.remove_files(&partition.spec, &[name.to_owned()]).await.is_err());
    }
}

#[tokio::test]
async fn edits_that_leave_a_hole_are_refused() {
    let partition = Partition::new("memory").await;
    let beyond = partition.small(4, 40, 50).await;
    let overlapping = partition.small(5, 25, 50).await;
    let edits = [
        Edit { add: vec![beyond], flushed_through: CommitTime(50), ..Edit::default() },
        Edit { add: vec![overlapping], flushed_through: CommitTime(50), ..Edit::default() },
        Edit { retire: vec![2], ..Edit::default() },
        Edit { flushed_through: CommitTime(35), ..Edit::default() },
        Edit { retire: vec![9], ..Edit::default() },
    ];
    for edit in edits {
        let shown = format!("{edit:?}");
        let lost = partition.service.publish(&partition.spec, &partition.loaded, edit).await;
        assert!(matches!(lost, Err(PublishError::Conflict)), "{shown}");
    }
    let loaded = partition.world.service().load(&partition.spec, None).await.unwrap();
    assert_eq!(loaded.manifest, partition.loaded.manifest);
}

#[tokio::test]
async fn a_truncated_table_goes_on_with_the_numbering_and_none_of_the_data() {
    for storage in STORAGES {
        let partition = Partition::new(storage).await;
        let retired = partition.service.publish_empty(&partition.spec, Incarnation(6)).await.unwrap();
        assert_eq!(retired.files, ["batch-0001.parquet", "batch-0002.parquet", "batch-0003.parquet"]);
        // A job of the old incarnation is told.
        let late = partition.small(4, 30, 40).await;
        let edit = Edit { add: vec![late], flushed_through: CommitTime(40), ..Edit::default() };
        let lost = partition.service.publish(&partition.spec, &partition.loaded, edit).await;
        assert!(matches!(lost, Err(PublishError::Conflict)));
        let next = spec(storage, 6);
        for service in [partition.world.service(), service(&partition.world.storages)] {
            let loaded = service.load(&next, None).await.unwrap();
            assert_eq!((loaded.manifest.max_batch, loaded.manifest.flushed_through), (3, CommitTime::ZERO));
            assert!(loaded.manifest.batches.is_empty() && loaded.manifest.version == 4);
        }
        let removal = partition.service.remove_files(&partition.spec, &retired.files).await.unwrap();
        assert_eq!(removal.removed, retired.files);
        // The catalog went on to yet another incarnation: the first publication finds the old manifest.
        let third = spec(storage, 7);
        let service = partition.world.service();
        let loaded = service.load(&third, None).await.unwrap();
        assert_eq!((loaded.manifest.max_batch, loaded.manifest.version), (3, 4));
        let first = write_small(&partition.storage(), &third, 6, 0, 90, Group::ALONE).await;
        let edit = Edit { add: vec![first], flushed_through: CommitTime(90), ..Edit::default() };
        let published = service.publish(&third, &loaded, edit).await.unwrap();
        assert_eq!((published.manifest.max_batch, published.manifest.version), (6, 5));
        // Even the lost manifest does not bring back what another incarnation left.
        partition.damage(MANIFEST_FILE, |_| None).await;
        let rebuilt = partition.world.service().load(&third, Some((5, CommitTime(90)).into())).await.unwrap();
        assert_eq!(content(&rebuilt.manifest), content(&published.manifest));
    }
}

#[tokio::test]
async fn a_truncation_that_the_catalog_does_not_know_is_undone() {
    for storage in STORAGES {
        let partition = Partition::new(storage).await;
        partition.service.publish_empty(&partition.spec, Incarnation(6)).await.unwrap();
        let loaded = partition.world.service().load(&partition.spec, partition.recorded()).await.unwrap();
        assert!(loaded.rebuilt);
        assert_eq!(content(&loaded.manifest), content(&partition.loaded.manifest));
        assert!(loaded.manifest.version > 4);
    }
}

#[tokio::test]
async fn a_life_that_ends_leaves_nothing_that_a_crash_left_half_written() {
    let partition = Partition::new("local").await;
    let spec = &partition.spec;
    let half = "manifest.json.tmp-1-0";
    partition.damage(half, |_| Some(b"{".to_vec())).await;
    partition.world.service().publish_empty(spec, Incarnation(6)).await.unwrap();
    let left = partition.world.storage("local").list(spec.path().as_str()).await.unwrap();
    assert!(left.iter().all(|(name, _)| name != half), "{left:?}");
}

#[tokio::test]
async fn a_damaged_manifest_can_be_replaced_by_an_empty_one() {
    for storage in STORAGES {
        let partition = Partition::new(storage).await;
        partition.damage(MANIFEST_FILE, |_| Some(b"{".to_vec())).await;
        let retired = partition.world.service().publish_empty(&partition.spec, Incarnation(6)).await.unwrap();
        assert_eq!(retired.loaded.manifest.max_batch, 3, "the files tell the numbering");
        assert_eq!(retired.files, ["batch-0001.parquet", "batch-0002.parquet", "batch-0003.parquet"]);
        let fresh = World::new();
        let first = fresh.service().publish_empty(&spec(storage, 1), Incarnation(2)).await.unwrap();
        assert_eq!((first.loaded.manifest.version, first.files.len()), (1, 0));
    }
}

#[tokio::test]
async fn orphans_are_what_nothing_refers_to() {
    for storage in STORAGES {
        let partition = Partition::new(storage).await;
        let (service, spec) = (&partition.service, &partition.spec);
        // 4 failed, 5 is being written, 6 was published, 7 is reserved and may yet be published.
        for number in [4, 5, 7] {
            partition.small(number, 30, 40).await;
        }
        let published = partition.small(6, 30, 40).await;
        let edit = Edit { add: vec![published], flushed_through: CommitTime(40), ..Edit::default() };
        service.publish(spec, &partition.loaded, edit).await.unwrap();
        partition.damage("batch-0009.parquet.tmp-1-1", |_| Some(vec![1])).await;
        partition.damage("notes.txt", |_| Some(vec![1])).await;
        let mut wanted = vec!["batch-0004.parquet".to_owned()];
        if storage == "local" {
            wanted.push("batch-0009.parquet.tmp-1-1".to_owned());
        }
        assert_eq!(service.orphans(spec, None, &[5]).await.unwrap().free, wanted);
        assert_eq!(service.remove_orphans(spec, None, &[5]).await.unwrap().free, wanted);
        let left = partition.names().await;
        assert!(!left.contains(&wanted[0]) && left.contains(&"notes.txt".to_owned()));
        for number in [1, 2, 3, 5, 6, 7] {
            assert!(left.contains(&batch_file_name(number)), "{number}");
        }
        assert!(service.remove_orphans(spec, None, &[5]).await.unwrap().free.is_empty());
    }
}

#[tokio::test]
async fn no_file_is_an_orphan_while_the_manifest_is_in_doubt() {
    let partition = Partition::new("local").await;
    partition.damage("batch-0001.parquet", |_| None).await;
    let error = partition.service.remove_orphans(&partition.spec, partition.recorded(), &[]).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Corrupt);
    assert_eq!(partition.names().await.len(), 3);
}

#[tokio::test]
async fn a_flush_that_a_rebuild_found_first_counts_as_published() {
    for storage in STORAGES {
        let partition = Partition::new(storage).await;
        let batch = partition.small(4, 30, 40).await;
        partition.damage(MANIFEST_FILE, |_| None).await;
        let other = partition.world.service();
        assert_eq!(other.load(&partition.spec, None).await.unwrap().manifest.flushed_through, CommitTime(40));
        let edit = Edit { add: vec![batch], flushed_through: CommitTime(40), ..Edit::default() };
        let first = partition.service.publish(&partition.spec, &partition.loaded, edit.clone()).await;
        assert!(matches!(first, Err(PublishError::Conflict)));
        let reloaded = partition.service.reload(&partition.spec, None).await.unwrap();
        let second = partition.service.publish(&partition.spec, &reloaded, edit).await.unwrap();
        assert_eq!(second.manifest, reloaded.manifest);
    }
}

#[tokio::test]
async fn a_derived_manifest_is_stored_when_that_is_asked_for_and_only_over_what_was_lost() {
    for storage in STORAGES {
        let partition = Partition::new(storage).await;
        let spec = &partition.spec;
        partition.damage(MANIFEST_FILE, |_| None).await;
        let (service, other) = (partition.world.service(), partition.world.service());
        assert!(matches!(service.look_up(spec, partition.recorded()).await.unwrap(), Found::Lost(_)));
        let derived = service.derive(spec, partition.recorded()).await.unwrap();
        assert!(derived.is_derived());
        assert_eq!(content(&derived.manifest), content(&partition.loaded.manifest), "{storage}");
        assert!(!partition.names().await.contains(&MANIFEST_FILE.to_owned()), "reading writes nothing");
        let theirs = other.derive(spec, partition.recorded()).await.unwrap();
        let stored = service.store(spec, &derived).await.unwrap();
        assert!(!stored.is_derived());
        let again = partition.world.service().load(spec, partition.recorded()).await.unwrap();
        assert_eq!((again.manifest, again.rebuilt), (stored.manifest.clone(), false));
        let batch = partition.small(4, 30, 40).await;
        let edit = Edit { add: vec![batch], flushed_through: CommitTime(40), ..Edit::default() };
        service.publish(spec, &stored, edit).await.unwrap();
        assert!(matches!(other.store(spec, &theirs).await, Err(PublishError::Conflict)), "{storage}");
        // What is published on a derived one stores it too.
        partition.damage(MANIFEST_FILE, |_| Some(b"{".to_vec())).await;
        let service = partition.world.service();
        let derived = service.derive(spec, partition.recorded()).await.unwrap();
        let batch = partition.small(5, 40, 50).await;
        let edit = Edit { add: vec![batch], flushed_through: CommitTime(50), ..Edit::default() };
        let published = service.publish(spec, &derived, edit).await.unwrap();
        assert_eq!(published.manifest.batches.len(), 5, "{storage}");
        assert!(!published.is_derived());
    }
}

#[tokio::test]
async fn a_file_that_somebody_holds_is_not_discarded() {
    for storage in STORAGES {
        let partition = Partition::new(storage).await;
        let batch = partition.small(4, 30, 40).await;
        let held = BatchFile::open(&partition.storage(), partition.spec.path().as_str(), &batch);
        partition.service.discard(&partition.spec, 4).await.unwrap();
        assert!(partition.names().await.contains(&batch.path), "{storage}");
        drop(held);
        partition.service.discard(&partition.spec, 4).await.unwrap();
        assert!(!partition.names().await.contains(&batch.path), "{storage}");
    }
}

#[tokio::test]
async fn several_files_are_published_at_once() {
    for storage in STORAGES {
        let partition = Partition::new(storage).await;
        let storage = partition.storage();
        let first = write_small(&storage, &partition.spec, 4, 30, 40, Group::from((1, 2))).await;
        // Before the second is there, a rebuild takes neither.
        partition.damage(MANIFEST_FILE, |_| None).await;
        let service = partition.world.service();
        let loaded = service.load(&partition.spec, partition.recorded()).await.unwrap();
        assert_eq!((loaded.manifest.flushed_through, loaded.manifest.max_batch), (CommitTime(30), 4));
        let second = write_small(&storage, &partition.spec, 5, 40, 50, Group::from((2, 2))).await;
        let edit = Edit {
            add: vec![first, second],
            flushed_through: CommitTime(50),
            deletions_complete_from: CommitTime(20),
            ..Edit::default()
        };
        let published = service.publish(&partition.spec, &loaded, edit).await.unwrap();
        let rebuilt = partition.world.service().rebuild(&partition.spec, None).await.unwrap();
        assert_eq!(content(&rebuilt.manifest), content(&published.manifest));
        assert!(rebuilt.rebuilt);
    }
}

#[tokio::test]
async fn a_later_record_than_the_one_in_memory_makes_it_read_again() {
    let partition = Partition::new("local").await;
    let other = partition.world.service();
    let before = other.load(&partition.spec, None).await.unwrap();
    let batch = partition.small(4, 30, 40).await;
    let edit = Edit { add: vec![batch], flushed_through: CommitTime(40), ..Edit::default() };
    let after = partition.service.publish(&partition.spec, &partition.loaded, edit).await.unwrap();
    let held = other.load(&partition.spec, partition.recorded()).await.unwrap();
    assert!(Arc::ptr_eq(&held.manifest, &before.manifest));
    let fresh = other.load(&partition.spec, Some((4, CommitTime(40)).into())).await.unwrap();
    assert_eq!(fresh.manifest, after.manifest);
}

#[tokio::test]
async fn a_watermark_may_move_over_nothing() {
    // A flush in which every row was deleted for good writes a batch of no rows.
    let partition = Partition::new("local").await;
    let meta = crate::testing::meta(&small_columns(), 30, 40);
    let writer = crate::BatchWriter::create(&partition.storage(), &partition.spec, 4, meta).await.unwrap();
    let empty = writer.finish().await.unwrap();
    assert_eq!((empty.row_count, empty.min_id, empty.min_updated), (0, None, None));
    let edit = Edit { add: vec![empty], flushed_through: CommitTime(40), ..Edit::default() };
    let published = partition.service.publish(&partition.spec, &partition.loaded, edit).await.unwrap();
    assert_eq!(published.manifest.flushed_through, CommitTime(40));
    let rebuilt = partition.world.service().rebuild(&partition.spec, None).await.unwrap();
    assert_eq!(content(&rebuilt.manifest), content(&published.manifest));
}

/// Merges all batches into one of number 4 and deletes them, as a compaction does, in a task of its own.
fn compaction_of(partition: &Partition) -> impl Future<Output = ()> + Send + 'static {
    let (service, spec) = (partition.world.service(), partition.spec.clone());
    let (storage, loaded) = (partition.storage(), partition.loaded.clone());
    async move {
        let merged = write_small(&storage, &spec, 4, 0, 30, Group::ALONE).await;
        let edit = Edit { add: vec![merged], retire: vec![1, 2, 3], ..Edit::default() };
        let published = service.publish(&spec, &loaded, edit).await.unwrap();
        assert_eq!(service.remove_archived(&spec, &published).await.unwrap(), [1, 2, 3]);
    }
}

#[tokio::test]
async fn what_a_compaction_removes_while_a_manifest_is_examined_is_no_finding() {
    let partition = Partition::new("memory").await;
    let examining = Interrupted::service(&partition.world, compaction_of(&partition));
    assert_eq!(examining.examine(&partition.spec, partition.recorded()).await.unwrap(), []);
    partition.damage("batch-0004.parquet", |_| None).await;
    let found = examining.examine(&partition.spec, partition.recorded()).await.unwrap();
    assert_eq!(found[0].problem, "'batch-0004.parquet' is missing");
}

#[tokio::test]
async fn a_manifest_that_a_compaction_replaces_while_it_is_read_is_not_lost() {
    let partition = Partition::new("memory").await;
    let reading = Interrupted::service(&partition.world, compaction_of(&partition));
    let found = reading.look_up(&partition.spec, partition.recorded()).await.unwrap();
    let Found::Ready(loaded, _) = found else { panic!("{found:?}") };
    assert_eq!((loaded.manifest.max_batch, loaded.rebuilt), (4, false));
}

#[tokio::test]
async fn a_first_flush_while_a_manifest_is_examined_is_no_finding() {
    let world = World::new();
    let (service, storage, spec) = (world.service(), world.storage("memory"), spec("memory", 5));
    let flush = {
        let spec = spec.clone();
        async move {
            let loaded = service.load(&spec, None).await.unwrap();
            let batch = write_small(&storage, &spec, 1, 0, 10, Group::ALONE).await;
            let edit = Edit { add: vec![batch], flushed_through: CommitTime(10), ..Edit::default() };
            service.publish(&spec, &loaded, edit).await.unwrap();
        }
    };
    assert_eq!(Interrupted::service(&world, flush).examine(&spec, None).await.unwrap(), []);
}
