//! What the tests of this crate share: storages in a temporary directory, columns of every type, rows of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::*;
use arrow::datatypes::{DataType, TimeUnit};
use futures::FutureExt;
use futures::future::BoxFuture;
use futures::stream::BoxStream;
use kalamdb_commons::clock::ManualClock;
use kalamdb_commons::ids::*;
use kalamdb_commons::manifest::Batch;
use kalamdb_commons::schema::{Column, Columns, Compression};
use kalamdb_commons::settings::Settings;
use kalamdb_commons::types::ColumnType;
use object_store::path::Path;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStore, PutMultipartOptions,
    PutOptions, PutPayload, PutResult,
};

use crate::batch::{BatchMeta, BatchWriter, Group, batch_schema};
use crate::manifest::ManifestService;
use crate::partition::PartitionSpec;
use crate::storage::{Storage, Storages};

/// Storages `local` and `memory`, an object store, of which tests run over both.
pub(crate) struct World {
    pub(crate) directory: tempfile::TempDir,
    pub(crate) storages: Storages,
    pub(crate) memory: Arc<object_store::memory::InMemory>,
}

pub(crate) const STORAGES: [&str; 2] = ["local", "memory"];

impl World {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let memory = Arc::new(object_store::memory::InMemory::new());
        let storages = open(&directory, &memory);
        Self { directory, storages, memory }
    }

    /// The same data, opened again with nothing in memory.
    pub(crate) fn reopened(&self) -> Storages {
        open(&self.directory, &self.memory)
    }

    pub(crate) fn storage(&self, id: &str) -> Arc<Storage> {
        self.storages.get(&StorageId::new(id).unwrap()).unwrap()
    }

    pub(crate) fn service(&self) -> ManifestService {
        service(&self.reopened())
    }

    /// Replaces a file's bytes behind everybody's back; `None` removes it.
    pub(crate) async fn damage(&self, storage: &str, path: &str, change: impl FnOnce(Vec<u8>) -> Option<Vec<u8>>) {
        use object_store::ObjectStoreExt;
        if storage == "local" {
            let file = self.directory.path().join("storage").join(path);
            let bytes = std::fs::read(&file).unwrap_or_default();
            std::fs::remove_file(&file).ok();
            if let Some(bytes) = change(bytes) {
                std::fs::write(&file, bytes).unwrap();
            }
            return;
        }
        let at = Path::parse(path).unwrap();
        let bytes = match self.memory.get(&at).await {
            Ok(found) => found.bytes().await.unwrap().to_vec(),
            Err(_) => Vec::new(),
        };
        match change(bytes) {
            Some(bytes) => drop(self.memory.put_opts(&at, bytes.into(), Default::default()).await.unwrap()),
            None => self.memory.delete(&at).await.unwrap(),
        }
    }
}

/// The object store, with something that happens the next time that a directory is listed, before the listing.
pub(crate) struct Interrupted {
    store: Arc<object_store::memory::InMemory>,
    meanwhile: tokio::sync::Mutex<Option<BoxFuture<'static, ()>>>,
}

impl Interrupted {
    /// Storages `memory` over the store of a world, and a service over them.
    pub(crate) fn service(world: &World, meanwhile: impl Future<Output = ()> + Send + 'static) -> ManifestService {
        let meanwhile = tokio::sync::Mutex::new(Some(meanwhile.boxed()));
        let store = Arc::new(Self { store: Arc::clone(&world.memory), meanwhile });
        let mut settings = Settings::default();
        settings.storage.data_dir = world.directory.path().to_str().unwrap().to_owned();
        service(&Storages::with_object_store(&settings, StorageId::new("memory").unwrap(), store).unwrap())
    }
}

impl std::fmt::Debug for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Interrupted")
    }
}

impl std::fmt::Display for Interrupted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Interrupted")
    }
}

#[async_trait::async_trait]
impl ObjectStore for Interrupted {
    async fn put_opts(&self, at: &Path, payload: PutPayload, opts: PutOptions) -> object_store::Result<PutResult> {
        self.store.put_opts(at, payload, opts).await
    }

    async fn put_multipart_opts(
        &self,
        at: &Path,
        opts: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        self.store.put_multipart_opts(at, opts).await
    }

    async fn get_opts(&self, at: &Path, opts: GetOptions) -> object_store::Result<GetResult> {
        self.store.get_opts(at, opts).await
    }

    fn delete_stream(
        &self,
        paths: BoxStream<'static, object_store::Result<Path>>,
    ) -> BoxStream<'static, object_store::Result<Path>> {
        self.store.delete_stream(paths)
    }

    fn list(&self, prefix: Option<&Path>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.store.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&Path>) -> object_store::Result<ListResult> {
        if let Some(meanwhile) = self.meanwhile.lock().await.take() {
            meanwhile.await;
        }
        self.store.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, from: &Path, to: &Path, opts: CopyOptions) -> object_store::Result<()> {
        self.store.copy_opts(from, to, opts).await
    }
}

fn open(directory: &tempfile::TempDir, memory: &Arc<object_store::memory::InMemory>) -> Storages {
    let mut settings = Settings::default();
    settings.storage.data_dir = directory.path().to_str().unwrap().to_owned();
    let store: Arc<dyn ObjectStore> = Arc::clone(memory) as _;
    Storages::with_object_store(&settings, StorageId::new("memory").unwrap(), store).unwrap()
}

pub(crate) fn service(storages: &Storages) -> ManifestService {
    ManifestService::new(storages.clone(), Arc::new(ManualClock::at(1_700_000_000_000_000_000)))
}

pub(crate) fn spec(storage: &str, incarnation: u32) -> PartitionSpec {
    PartitionSpec {
        storage: StorageId::new(storage).unwrap(),
        table: TableRef::new("app", "../Müll e%").unwrap(),
        table_id: TableId(7),
        incarnation: Incarnation(incarnation),
        scope: Scope::User(UserId::new("../..").unwrap()),
    }
}

pub(crate) fn column(id: u32, name: &str, column_type: ColumnType, nullable: bool) -> Column {
    Column { id: ColumnId(id), name: name.into(), column_type, nullable, default: None, missing: None }
}

/// A nullable column of every type, and decimals of each width that Parquet stores them in. Ids are not in order.
pub(crate) fn all_columns() -> Columns {
    let mut types = ColumnType::PLAIN.to_vec();
    types.extend([ColumnType::Decimal(5, 2), ColumnType::Decimal(18, 0), ColumnType::Decimal(38, 10)]);
    types.push(ColumnType::Decimal(21, 3));
    let name = |column_type: &ColumnType| format!("the {column_type}.\"x\"");
    types
        .iter()
        .enumerate()
        .map(|(at, column_type)| column(100 - at as u32, &name(column_type), *column_type, true))
        .collect()
}

/// A number that looks random and depends on all arguments.
pub(crate) fn mix(seed: u64, row: u64, column: u64) -> u64 {
    let mut x = seed ^ row.wrapping_mul(0x9e37_79b9_7f4a_7c15) ^ column.wrapping_mul(0xd1b5_4a32_d192_ed03);
    for _ in 0..2 {
        x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        x ^= x >> 31;
    }
    x
}

/// Values of a type, from random numbers; `None` is NULL. Few bits give few distinct values.
pub(crate) fn values(column_type: ColumnType, numbers: &[Option<u64>]) -> ArrayRef {
    let each = || numbers.iter().copied();
    let signed = |n: Option<u64>| n.map(|n| n as i64);
    match column_type {
        ColumnType::Boolean => Arc::new(each().map(|n| n.map(|n| n % 2 == 1)).collect::<BooleanArray>()),
        ColumnType::SmallInt => Arc::new(each().map(|n| n.map(|n| n as i16)).collect::<Int16Array>()),
        ColumnType::Int => Arc::new(each().map(|n| n.map(|n| n as i32)).collect::<Int32Array>()),
        ColumnType::BigInt => Arc::new(each().map(signed).collect::<Int64Array>()),
        ColumnType::Float => Arc::new(each().map(|n| n.map(|n| f32::from_bits(n as u32))).collect::<Float32Array>()),
        ColumnType::Double => Arc::new(each().map(|n| n.map(f64::from_bits)).collect::<Float64Array>()),
        ColumnType::Date => Arc::new(each().map(|n| n.map(|n| n as i32)).collect::<Date32Array>()),
        ColumnType::Time => {
            Arc::new(each().map(|n| n.map(|n| (n % 86_400_000_000) as i64)).collect::<Time64MicrosecondArray>())
        }
        ColumnType::Timestamp | ColumnType::DateTime => {
            Arc::new(each().map(signed).collect::<TimestampMicrosecondArray>())
        }
        ColumnType::Decimal(precision, scale) => {
            let limit = 10i128.pow(precision.into());
            let value = |n: u64| (i128::from(n as i64) * i128::from(n | 1)) % limit;
            let array: Decimal128Array = each().map(|n| n.map(value)).collect();
            Arc::new(array.with_precision_and_scale(precision, scale).unwrap())
        }
        ColumnType::Bytes => {
            let bytes: Vec<Option<Vec<u8>>> =
                each().map(|n| n.map(|n| n.to_le_bytes()[..(n % 9) as usize].to_vec())).collect();
            Arc::new(BinaryArray::from_iter(bytes))
        }
        ColumnType::Text | ColumnType::Uuid | ColumnType::Json => {
            let text = |n: u64| format!("{}{n:x}", "é€\u{10ffff}z".repeat((n % 16) as usize));
            Arc::new(each().map(|n| n.map(text)).collect::<StringArray>())
        }
    }
}

/// Rows for a batch file with ids and flags given, values by `mix`.
pub(crate) fn rows(columns: &Columns, seed: u64, rows: &[Row]) -> RecordBatch {
    let mut arrays: Vec<ArrayRef> = vec![Arc::new(rows.iter().map(|row| row.id).collect::<Int64Array>())];
    for column in columns.iter() {
        let number = |row: &Row| {
            let number = mix(seed, row.id as u64, column.id.0.into());
            (!column.nullable || !number.is_multiple_of(5)).then_some(number >> 3)
        };
        arrays.push(values(column.column_type, &rows.iter().map(number).collect::<Vec<_>>()));
    }
    arrays.push(Arc::new(TimestampNanosecondArray::from_iter_values(rows.iter().map(|row| row.updated))));
    assert_eq!(arrays[arrays.len() - 1].data_type(), &DataType::Timestamp(TimeUnit::Nanosecond, None));
    arrays.push(Arc::new(BooleanArray::from(rows.iter().map(|row| row.deleted).collect::<Vec<_>>())));
    arrays.push(Arc::new(Int64Array::from_iter_values(rows.iter().map(|row| row.born))));
    RecordBatch::try_new(batch_schema(columns), arrays).unwrap()
}

/// A row's system columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) id: i64,
    pub(crate) updated: i64,
    pub(crate) deleted: bool,
    pub(crate) born: i64,
}

/// `n` rows with growing ids in (from, through], of which some are deletions and some replace older rows.
pub(crate) fn some_rows(seed: u64, n: usize, from: i64, through: i64) -> Vec<Row> {
    let mut id = -5;
    (0..n as u64)
        .map(|at| {
            id += 1 + (mix(seed, at, 1) % 7) as i64;
            let updated = from + 1 + (mix(seed, at, 2) % (through - from) as u64) as i64;
            let born = if mix(seed, at, 3).is_multiple_of(4) { updated.min(from) } else { updated };
            Row { id, updated, deleted: mix(seed, at, 4).is_multiple_of(6), born }
        })
        .collect()
}

pub(crate) fn meta(columns: &Columns, from: i64, through: i64) -> BatchMeta {
    BatchMeta {
        from: CommitTime(from),
        through: CommitTime(through),
        group: Group::ALONE,
        deletions_complete_from: CommitTime::ZERO,
        columns: Arc::clone(columns),
        schema_version: SchemaVersion(1),
        compression: Compression::Lz4,
        row_group_rows: 100,
        page_rows: 16,
        fpp: 0.01,
        unique_keys: Vec::new(),
        bloom_columns: Vec::new(),
        unfiltered: Vec::new(),
        unfiltered_id: false,
        expected_rows: 1000,
    }
}

/// Writes a file in pieces of uneven size.
pub(crate) async fn write(
    storage: &Storage,
    spec: &PartitionSpec,
    number: u64,
    meta: BatchMeta,
    rows: &RecordBatch,
) -> Batch {
    let mut writer = BatchWriter::create(storage, spec, number, meta).await.unwrap();
    let mut at = 0;
    while at < rows.num_rows() {
        let length = (1 + mix(9, at as u64, number) as usize % 77).min(rows.num_rows() - at);
        writer.write(&rows.slice(at, length)).await.unwrap();
        at += length;
    }
    writer.finish().await.unwrap()
}

/// A small file of (from, through] with a few rows of one column.
pub(crate) async fn write_small(
    storage: &Storage,
    spec: &PartitionSpec,
    number: u64,
    from: i64,
    through: i64,
    group: Group,
) -> Batch {
    let columns = small_columns();
    let meta = BatchMeta {
        group,
        deletions_complete_from: CommitTime(from / 2),
        unique_keys: vec![vec![ColumnId(1)]],
        ..meta(&columns, from, through)
    };
    let rows = rows(&columns, number, &some_rows(number, 20, from, through));
    write(storage, spec, number, meta, &rows).await
}

pub(crate) fn small_columns() -> Columns {
    [column(1, "k", ColumnType::Text, false)].into()
}

/// The columns of the one schema version that tests use.
pub(crate) fn versions(columns: &Columns) -> BTreeMap<SchemaVersion, Columns> {
    [(SchemaVersion(1), Arc::clone(columns))].into()
}
