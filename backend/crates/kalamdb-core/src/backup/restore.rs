//! RESTORE DATABASE.

use std::collections::BTreeMap;
use std::sync::Arc;

use arrow::array::RecordBatch;
use kalamdb_commons::ids::{Incarnation, NamespaceId, RowId, TableRef};
use kalamdb_commons::schema::Table;
use kalamdb_commons::{Error, Result};
use kalamdb_filestore::{BatchColumn, BatchFile, BatchWriter, Edit, IoCounters, batch_schema};
use kalamdb_store::keys::{self, PartitionRecord};

use super::description::{Description, StoredBatch, StoredFile, StoredPartition};
use super::place::Place;
use super::{paced, stream};
use crate::catalog::ddl::{moved_view, refuse_reserved};
use crate::catalog::{Catalog, CatalogEdit, Draft, Dropped, Namespace};
use crate::commit::{Refusal, SchemaChange};
use crate::engine::Engine;
use crate::flush::{batch_meta, reserve_number};
use crate::jobs::JobHandle;
use crate::partition::Partition;
use crate::partition::view::recorded;
use crate::query::arrow_error;

/// Rows that are held at a time.
const PIECE_ROWS: u32 = 32_768;
/// Bytes of STREAM rows that are read at a time.
const PIECE_BYTES: u64 = 1 << 20;

/// The lives that are being filled, by the incarnation that the backup knows them by.
type Lives = BTreeMap<Incarnation, Dropped>;

/// What a restore brought back.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Restored {
    /// Of which backup.
    pub(crate) backup: String,
    pub(crate) tables: usize,
    pub(crate) partitions: usize,
    /// Rows of batches, those that are superseded and deleted included, and entries of STREAM tables.
    pub(crate) rows: u64,
}

/// Restores the newest backup of a place into a namespace that is new or empty.
///
/// # Errors
/// Corrupt, naming the file, if the backup is not whole; `InvalidInput` if it does not fit here. Nothing has changed
/// then. After any other error what was begun is removed in the background.
pub(crate) async fn restore(
    engine: &Arc<Engine>,
    namespace: &NamespaceId,
    place: &Place,
    job: &JobHandle,
) -> Result<Restored> {
    let backup = place.newest().await?.ok_or_else(|| Error::not_found("there is no backup in that place"))?;
    check_fits(engine, namespace, &backup)?;
    verify(place, &backup, job).await?;
    let lives = begin(engine, namespace, &backup).await?;
    fail::fail_point!("restore::after_begin");
    match fill_and_end(engine, namespace, place, &backup, &lives, job).await {
        Ok(restored) => Ok(restored),
        Err(error) => {
            lives.into_values().for_each(|life| engine.remove_contents(life));
            Err(error)
        }
    }
}

async fn fill_and_end(
    engine: &Arc<Engine>,
    namespace: &NamespaceId,
    place: &Place,
    backup: &Description,
    lives: &Lives,
    job: &JobHandle,
) -> Result<Restored> {
    // IMPORTANT: before anything is written: whatever is committed here from now on is later than the backup.
    engine.system_columns().observe(backup.commit_time);
    if let Some(last) = greatest_id(backup) {
        engine.system_columns().observe_id(last);
    }
    let mut restored = Restored { backup: backup.id.clone(), tables: lives.len(), ..Restored::default() };
    for stored in &backup.partitions {
        job.check()?;
        let life = lives.get(&stored.incarnation).ok_or_else(|| Error::corrupt("a partition of no table"))?;
        let partition = engine.partitions().get(&life.table, &stored.scope);
        let filling = Filling { engine, place, backup, table: &life.table, partition: &partition, job };
        restored.rows += filling.partition(stored).await?;
        restored.partitions += 1;
        fail::fail_point!("restore::after_partition");
    }
    // IMPORTANT: what the tables consist of is durable before they are there.
    engine.store().sync().await?;
    fail::fail_point!("restore::before_catalog");
    end(engine, namespace, backup, lives).await?;
    fail::fail_point!("restore::after_catalog");
    Ok(restored)
}

/// What can be said without reading the files.
fn check_fits(engine: &Engine, namespace: &NamespaceId, backup: &Description) -> Result<()> {
    let catalog = engine.catalog();
    check_empty(&catalog, namespace)?;
    let ahead_ns = backup.commit_time.0.saturating_sub(engine.clock().now_ns());
    let jump_max_ns = engine.settings().clock.jump_max_seconds.saturating_mul(1_000_000_000);
    if ahead_ns > i64::try_from(jump_max_ns).unwrap_or(i64::MAX) {
        return Err(Error::invalid_input(format!(
            "the backup is of a moment {} s ahead of this machine's clock, more than clock.jump_max_seconds allows",
            ahead_ns / 1_000_000_000
        )));
    }
    for table in &backup.tables {
        engine.cold().manifests().storages().get(&table.options.storage).map_err(|error| {
            error.context(format!("table '{}' of the backup lies in storage '{}'", table.name, table.options.storage))
        })?;
    }
    let is_left = |life: &&Arc<Dropped>| life.table.name.namespace == *namespace;
    if let Some(life) = catalog.dropped().find(is_left) {
        return Err(Error::overloaded(format!(
            "the contents of table '{}', which was dropped, are still being removed; try again",
            life.table.name
        )));
    }
    Ok(())
}

fn check_empty(catalog: &Catalog, namespace: &NamespaceId) -> Result<()> {
    refuse_reserved(namespace)?;
    if catalog.tables_in(namespace).next().is_some() || catalog.views_in(namespace).next().is_some() {
        return Err(Error::already_exists(format!(
            "namespace '{namespace}' is not empty; a backup is restored into a new or an empty one"
        )));
    }
    Ok(())
}

/// Reads every file of a backup and compares it with what was written.
async fn verify(place: &Place, backup: &Description, job: &JobHandle) -> Result<()> {
    for file in backup.files() {
        let altered = |why: &str| {
            Error::corrupt(format!(
                "the backup '{}' is not whole: '{}' {why}; nothing was changed",
                backup.id, file.path
            ))
        };
        let path = place.at(&file.path);
        let found = place.storage.size(&path).await?.ok_or_else(|| altered("is missing"))?;
        if found != file.sum.bytes {
            return Err(altered(&format!("has {found} bytes in the place of {}", file.sum.bytes)));
        }
        if place.storage.sum(&path, paced(job)).await? != file.sum {
            return Err(altered("was changed since it was written"));
        }
    }
    Ok(())
}

fn greatest_id(backup: &Description) -> Option<RowId> {
    let batches = backup.partitions.iter().flat_map(|partition| &partition.batches);
    batches.filter_map(|batch| batch.entry.max_id).max()
}

/// Records the lives that are to be filled, as dropped ones.
async fn begin(engine: &Engine, namespace: &NamespaceId, backup: &Description) -> Result<Lives> {
    let mut lives = Lives::new();
    edit(engine, |catalog| {
        check_empty(catalog, namespace)?;
        let mut draft = Draft::new(catalog);
        lives.clear();
        for table in &backup.tables {
            let (id, incarnation) = (draft.draw_table_id(), draft.draw_incarnation());
            let name = TableRef { namespace: namespace.clone(), table: table.name.table.clone() };
            let life = Dropped {
                table: Arc::new(Table { id, incarnation, name, ..table.clone() }),
                incarnation,
                successor: draft.draw_incarnation(),
            };
            draft.put_dropped(life.clone());
            lives.insert(table.incarnation, life);
        }
        Ok(draft.finish("restore begun"))
    })
    .await?;
    Ok(lives)
}

/// The tables and views are there, all at once.
async fn end(engine: &Engine, namespace: &NamespaceId, backup: &Description, lives: &Lives) -> Result<()> {
    edit(engine, |catalog| {
        check_empty(catalog, namespace)?;
        let mut draft = Draft::new(catalog);
        if catalog.namespace(namespace).is_none() {
            let created_at_ms = engine.clock().now_ms();
            draft.put_namespace(Namespace { id: namespace.clone(), created_at_ms, ..backup.namespace.clone() });
        }
        for life in lives.values() {
            draft.delete_dropped(life.incarnation);
            draft.put_table((*life.table).clone());
        }
        for view in &backup.views {
            draft.put_view(moved_view(view, &backup.namespace.id, namespace)?);
        }
        Ok(draft.finish("restored"))
    })
    .await
}

/// Commits an edit, planned on the newest catalog until nothing came in between.
async fn edit(engine: &Engine, mut plan: impl FnMut(&Catalog) -> Result<CatalogEdit>) -> Result<()> {
    let _one_at_a_time = engine.schema_changes().await;
    loop {
        let edit = plan(&engine.catalog())?;
        let change = SchemaChange { edit, verified: None, rows: None, audit: Vec::new() };
        match engine.committer().change_schema(change).await {
            Ok(()) => return Ok(()),
            Err(Refusal::Failed(error)) => return Err(error),
            Err(Refusal::RowsChanged | Refusal::SchemaChanged) => {}
        }
    }
}

/// A partition that is being filled. Nobody knows its table yet.
struct Filling<'a> {
    engine: &'a Arc<Engine>,
    place: &'a Place,
    backup: &'a Description,
    table: &'a Table,
    partition: &'a Arc<Partition>,
    job: &'a JobHandle,
}

impl Filling<'_> {
    async fn partition(&self, stored: &StoredPartition) -> Result<u64> {
        let _maintenance = self.partition.maintain().await;
        // IMPORTANT: before anything of it is written: a start removes what it finds by the record.
        self.store_record(self.partition.record()).await?;
        let mut rows = 0;
        if !stored.batches.is_empty() {
            rows += self.batches(stored).await?;
        }
        if let Some(file) = &stored.rows {
            rows += self.stream(file).await?;
        }
        self.end().await?;
        Ok(rows)
    }

    /// Writes the batches, row for row, and publishes them together.
    async fn batches(&self, stored: &StoredPartition) -> Result<u64> {
        let manifests = self.engine.cold().manifests();
        let spec = self.partition.spec();
        let loaded = manifests.reload(spec, recorded(&self.partition.record())).await?;
        let (mut add, mut rows) = (Vec::new(), 0);
        for batch in &stored.batches {
            let number = reserve_number(self.engine, self.partition, &loaded).await?;
            // IMPORTANT: no file may have a number whose reservation a power cut could take back.
            self.engine.store().sync().await?;
            add.push(self.batch(number, batch).await?);
            rows += batch.entry.row_count;
        }
        let edit = Edit {
            add,
            flushed_through: stored.flushed_through,
            deletions_complete_from: stored.deletions_complete_from,
            ..Edit::default()
        };
        let published = manifests.publish(spec, &loaded, edit).await?;
        let mut record = self.partition.record();
        record.manifest_version = published.manifest.version;
        record.flushed_through = published.manifest.flushed_through;
        self.partition.recorded(record);
        Ok(rows)
    }

    async fn batch(&self, number: u64, stored: &StoredBatch) -> Result<kalamdb_commons::manifest::Batch> {
        let io = Arc::new(IoCounters::default());
        let directory = self.place.at(stored.directory());
        let file = BatchFile::open(&self.place.storage, &directory, &stored.entry);
        let footer = file.footer(&io).await?;
        let entry = &stored.entry;
        let (version, interval) = (entry.schema_version, (entry.from, entry.through));
        let rows = u32::try_from(entry.row_count).map_err(|_| Error::corrupt("a batch has too many rows"))?;
        let mut meta = batch_meta(self.engine, self.table, version, interval, rows as usize);
        meta.deletions_complete_from = footer.about.deletions_complete_from;
        let mut wanted = vec![BatchColumn::Id];
        wanted.extend(meta.columns.iter().map(|column| BatchColumn::Column(column.id)));
        wanted.extend([BatchColumn::Updated, BatchColumn::Deleted, BatchColumn::Born]);
        let schema = batch_schema(&meta.columns);
        let storage = self.engine.cold().manifests().storages().get(&self.partition.spec().storage)?;
        let mut writer = BatchWriter::create(&storage, self.partition.spec(), number, meta).await?;
        let mut next = 0;
        while next < rows {
            let range = next..rows.min(next.saturating_add(PIECE_ROWS));
            next = range.end;
            let written = async {
                let piece = file.rows_between(range, &wanted, &io).await?;
                let piece = RecordBatch::try_new(schema.clone(), piece.columns().to_vec()).map_err(arrow_error)?;
                writer.write(&piece).await?;
                self.job.progress(piece.num_rows() as u64, 0);
                self.job.check()
            };
            if let Err(error) = written.await {
                writer.abort().await;
                return Err(error);
            }
        }
        let entry = writer.finish().await?;
        self.place.storage.let_go(file.path());
        Ok(entry)
    }

    /// Puts the rows of a STREAM table back as they were, with their times.
    async fn stream(&self, stored: &StoredFile) -> Result<u64> {
        let (mut entries, mut at, mut count) = (stream::Entries::default(), 0, 0);
        let path = self.place.at(&stored.path);
        while at < stored.sum.bytes {
            let range = at..stored.sum.bytes.min(at + PIECE_BYTES);
            at = range.end;
            let read = self.place.storage.read_ranges(&path, &[range], &IoCounters::default()).await?;
            for piece in read {
                let puts = entries.take(&piece, self.partition.keys())?;
                count += puts.len() as u64;
                if let Some(last) = puts.iter().filter_map(|(key, _)| keys::row_id_of(key).ok()).max() {
                    self.engine.system_columns().observe_id(last);
                }
                if !puts.is_empty() {
                    self.engine.committer().records(puts, Vec::new()).await?;
                }
            }
            self.job.check()?;
        }
        if !entries.is_at_end() {
            return Err(Error::corrupt(format!("'{}' ends within an entry", stored.path)));
        }
        Ok(count)
    }

    /// Records the partition, so that the next start finds it, and counts its hot rows.
    async fn end(&self) -> Result<()> {
        let mut record = self.partition.record();
        // Whoever has a cursor from before begins anew: the changes up to here are not in the log.
        record.change_log_trimmed_through = self.backup.commit_time;
        self.store_record(record).await?;
        let newest = self.engine.committer().readers().newest();
        self.partition.recover_hot(newest.snapshot.as_ref()).await
    }

    async fn store_record(&self, record: PartitionRecord) -> Result<()> {
        let put = (keys::partition_record(self.partition.keys()), record.encode());
        self.engine.committer().records(vec![put], Vec::new()).await?;
        self.partition.recorded(record);
        Ok(())
    }
}
