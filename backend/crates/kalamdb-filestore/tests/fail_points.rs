//! What is left when writing stops between two durable steps, or when the disk is full.
//!
//! Fail points are the whole process's, so these tests are a program of their own, and each holds the scenario's
//! lock while it runs.

#![expect(clippy::unwrap_used, reason = "tests fail by panicking")]

use std::path::PathBuf;
use std::sync::Arc;

use arrow::array::{ArrayRef, BooleanArray, Int64Array, RecordBatch, StringArray, TimestampNanosecondArray};
use fail::FailScenario;
use kalamdb_commons::clock::ManualClock;
use kalamdb_commons::ids::*;
use kalamdb_commons::manifest::Batch;
use kalamdb_commons::schema::{Column, Columns, Compression};
use kalamdb_commons::settings::Settings;
use kalamdb_commons::types::ColumnType;
use kalamdb_commons::{ErrorKind, Result};
use kalamdb_filestore::{
    BatchMeta, BatchWriter, Edit, Group, Loaded, ManifestService, PartitionSpec, PublishError, Storages, batch_schema,
};

struct World {
    directory: tempfile::TempDir,
    spec: PartitionSpec,
}

impl World {
    fn new() -> Self {
        let spec = PartitionSpec {
            storage: StorageId::new("local").unwrap(),
            table: TableRef::new("app", "notes").unwrap(),
            table_id: TableId(1),
            incarnation: Incarnation(1),
            scope: Scope::Shared,
        };
        Self { directory: tempfile::tempdir().unwrap(), spec }
    }

    /// As after a restart.
    fn service(&self) -> ManifestService {
        let mut settings = Settings::default();
        settings.storage.data_dir = self.directory.path().to_str().unwrap().to_owned();
        ManifestService::new(Storages::open(&settings).unwrap(), Arc::new(ManualClock::at(1)))
    }

    fn names(&self) -> Vec<String> {
        let path: PathBuf = self.directory.path().join("storage/app/notes/shared");
        let mut names: Vec<_> = std::fs::read_dir(path)
            .map(|entries| entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect())
            .unwrap_or_default();
        names.sort();
        names
    }

    async fn write(&self, service: &ManifestService, number: u64, from: i64, through: i64) -> Result<Batch> {
        let name = Column {
            id: ColumnId(1),
            name: "k".into(),
            column_type: ColumnType::Text,
            nullable: false,
            default: None,
            missing: None,
        };
        let columns: Columns = [name].into();
        let arrays: Vec<ArrayRef> = vec![
            Arc::new(Int64Array::from(vec![1, 2])),
            Arc::new(StringArray::from(vec!["a", "b"])),
            Arc::new(TimestampNanosecondArray::from(vec![through, through])),
            Arc::new(BooleanArray::from(vec![false, false])),
            Arc::new(Int64Array::from(vec![through, through])),
        ];
        let rows = RecordBatch::try_new(batch_schema(&columns), arrays).unwrap();
        let meta = BatchMeta {
            from: CommitTime(from),
            through: CommitTime(through),
            group: Group::ALONE,
            deletions_complete_from: CommitTime(0),
            columns,
            schema_version: SchemaVersion(1),
            compression: Compression::Lz4,
            row_group_rows: 100,
            page_rows: 10,
            fpp: 0.01,
            unique_keys: Vec::new(),
            bloom_columns: Vec::new(),
            unfiltered: Vec::new(),
            unfiltered_id: false,
            expected_rows: 2,
        };
        let storage = service.storages().get(&self.spec.storage)?;
        let mut writer = BatchWriter::create(&storage, &self.spec, number, meta).await?;
        writer.write(&rows).await?;
        writer.finish().await
    }

    async fn flush(
        &self,
        service: &ManifestService,
        number: u64,
        from: i64,
        through: i64,
    ) -> Result<Loaded, PublishError> {
        let loaded = service.load(&self.spec, None).await?;
        let batch = self.write(service, number, from, through).await?;
        let edit = Edit { add: vec![batch], flushed_through: CommitTime(through), ..Edit::default() };
        service.publish(&self.spec, &loaded, edit).await
    }
}

#[tokio::test]
async fn a_full_disk_is_said_so_and_leaves_nothing() {
    let scenario = FailScenario::setup();
    let world = World::new();
    let service = world.service();
    world.flush(&service, 1, 0, 10).await.unwrap();
    fail::cfg("storage::write", "return").unwrap();
    let error = world.write(&service, 2, 10, 20).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Io);
    assert!(
        error.message().starts_with("the disk is full") && error.message().contains("batch-0002.parquet"),
        "{error}"
    );
    assert!(!error.message().contains(world.directory.path().to_str().unwrap()));
    assert_eq!(world.names(), ["batch-0001.parquet", "manifest.json"]);
    scenario.teardown();
    let scenario = FailScenario::setup();
    world.flush(&service, 3, 10, 20).await.unwrap();
    scenario.teardown();
}

#[tokio::test]
async fn a_stop_before_the_batch_is_durable_leaves_nothing() {
    let scenario = FailScenario::setup();
    let world = World::new();
    fail::cfg("flush::before_batch_sync", "return").unwrap();
    assert!(world.flush(&world.service(), 1, 0, 10).await.is_err());
    assert!(world.names().is_empty());
    scenario.teardown();
}

#[tokio::test]
async fn a_stop_after_the_batch_is_durable_leaves_a_file_that_a_rebuild_adopts() {
    let scenario = FailScenario::setup();
    let world = World::new();
    let service = world.service();
    world.flush(&service, 1, 0, 10).await.unwrap();
    fail::cfg("flush::after_batch_durable", "return").unwrap();
    assert!(world.flush(&service, 2, 10, 20).await.is_err());
    fail::remove("flush::after_batch_durable");
    assert_eq!(world.names(), ["batch-0001.parquet", "batch-0002.parquet", "manifest.json"]);
    let loaded = world.service().load(&world.spec, None).await.unwrap();
    assert_eq!((loaded.manifest.flushed_through, loaded.rebuilt), (CommitTime(10), false));
    // Its number may be used no more, and the next flush covers it.
    assert_eq!(world.write(&service, 2, 10, 20).await.unwrap_err().kind(), ErrorKind::AlreadyExists);
    world.flush(&service, 3, 10, 30).await.unwrap();
    assert_eq!(service.remove_orphans(&world.spec, None, &[]).await.unwrap().free, ["batch-0002.parquet"]);
    scenario.teardown();
}

#[tokio::test]
async fn a_stop_before_the_manifest_is_renamed_changes_nothing() {
    let scenario = FailScenario::setup();
    let world = World::new();
    let service = world.service();
    let before = world.flush(&service, 1, 0, 10).await.unwrap();
    fail::cfg("manifest::before_rename", "return").unwrap();
    assert!(matches!(world.flush(&service, 2, 10, 20).await, Err(PublishError::Failed(_))));
    fail::remove("manifest::before_rename");
    assert_eq!(world.names(), ["batch-0001.parquet", "batch-0002.parquet", "manifest.json"], "no temporary file");
    for service in [&service, &world.service()] {
        let loaded = service.load(&world.spec, None).await.unwrap();
        assert_eq!(loaded.manifest, before.manifest);
    }
    scenario.teardown();
}

#[tokio::test]
async fn a_stop_after_the_manifest_is_renamed_is_found_published() {
    for point in ["manifest::after_rename", "manifest::after_durable"] {
        let scenario = FailScenario::setup();
        let world = World::new();
        let service = world.service();
        let before = world.flush(&service, 1, 0, 10).await.unwrap();
        fail::cfg(point, "return").unwrap();
        let batch = world.write(&service, 2, 10, 20).await.unwrap();
        let edit = Edit { add: vec![batch], flushed_through: CommitTime(20), ..Edit::default() };
        let failed = service.publish(&world.spec, &before, edit.clone()).await;
        assert!(matches!(failed, Err(PublishError::Failed(_))), "{point}");
        fail::remove(point);
        // The job asks again what is stored, and finds that its edit is.
        let stored = service.load(&world.spec, None).await.unwrap();
        assert_eq!(stored.manifest.flushed_through, CommitTime(20));
        let again = service.publish(&world.spec, &stored, edit).await.unwrap();
        assert_eq!(again.manifest.version, 2);
        scenario.teardown();
    }
}

#[tokio::test]
async fn a_partition_is_read_on_although_its_rebuilt_manifest_cannot_be_stored() {
    let scenario = FailScenario::setup();
    let world = World::new();
    let before = world.flush(&world.service(), 1, 0, 10).await.unwrap();
    std::fs::remove_file(world.directory.path().join("storage/app/notes/shared/manifest.json")).unwrap();
    fail::cfg("manifest::before_rename", "return").unwrap();
    let service = world.service();
    let loaded = service.load(&world.spec, None).await.unwrap();
    assert_eq!((&loaded.manifest.batches, loaded.rebuilt), (&before.manifest.batches, true));
    assert_eq!(world.names(), ["batch-0001.parquet"]);
    fail::remove("manifest::before_rename");
    // The next publication stores it.
    world.flush(&service, 2, 10, 20).await.unwrap();
    assert_eq!(world.service().load(&world.spec, None).await.unwrap().manifest.flushed_through, CommitTime(20));
    scenario.teardown();
}
