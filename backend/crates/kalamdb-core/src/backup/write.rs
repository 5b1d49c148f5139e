//! BACKUP DATABASE.

use std::collections::HashMap;
use std::sync::Arc;

use kalamdb_commons::ids::{CommitTime, Incarnation, NamespaceId, Scope};
use kalamdb_commons::manifest::{self, BatchStatus};
use kalamdb_commons::schema::Table;
use kalamdb_commons::{Error, Result};
use kalamdb_filestore::BatchWriter;
use kalamdb_store::keys;

use super::description::{Description, StoredBatch, StoredFile, StoredPartition};
use super::place::Place;
use super::{paced, stream};
use crate::commit::readers::ReadPoint;
use crate::engine::Engine;
use crate::flush::{HotRows, batch_meta};
use crate::jobs::JobHandle;
use crate::partition::Partition;
use crate::partition::view::ColdBatch;

/// The record that tells this database from every other.
const ORIGIN: (&str, &str) = ("backup", "origin");
/// The number of the one batch that holds what was hot.
const HOT_BATCH: u64 = 1;

/// What a backup did.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Copied {
    /// Files that an earlier backup had.
    pub(crate) kept: u64,
    /// Files that were written.
    pub(crate) written: u64,
    /// Their bytes.
    pub(crate) bytes: u64,
}

/// Batch files that earlier backups in the place have, by the file's own partition and number.
type Known = HashMap<(Incarnation, Scope, u64), StoredBatch>;

/// A backup in the making.
struct Backup<'a> {
    engine: &'a Arc<Engine>,
    place: &'a Place,
    id: String,
    point: Arc<ReadPoint>,
    job: &'a JobHandle,
    known: Known,
    copied: Copied,
}

/// Backs up a namespace. When this returns, the backup is durable and can be restored.
///
/// # Errors
/// `NotFound` if there is no such namespace; `InvalidInput` if the place has backups of something else; I/O.
pub(crate) async fn backup(
    engine: &Arc<Engine>,
    namespace: &NamespaceId,
    place: &Place,
    job: &JobHandle,
) -> Result<(Description, Copied)> {
    let origin = origin(engine).await?;
    let newest = place.newest().await?;
    if let Some(other) = newest.as_ref().filter(|newest| newest.origin != origin || newest.namespace.id != *namespace) {
        return Err(Error::invalid_input(format!(
            "the place has backups of namespace '{}'{}; each namespace needs a place of its own",
            other.namespace.id,
            if other.origin == origin { "" } else { " of another database" },
        )));
    }
    // Everything is read at this one moment.
    let point = engine.committer().readers().enter();
    let about = (**point.catalog().require_namespace(namespace)?).clone();
    let now = chrono::DateTime::from_timestamp_nanos(engine.clock().now_ns()).to_rfc3339();
    let id = format!("{:020}-{:.8}", point.through().0, engine.secrets().unique_name());
    let mut description = Description::new(id.clone(), origin, about, point.through(), now);
    let tables: Vec<Arc<Table>> = point.catalog().tables_in(namespace).cloned().collect();
    description.views = point.catalog().views_in(namespace).map(|view| (**view).clone()).collect();
    let known = newest.map(known).unwrap_or_default();
    let mut backup = Backup { engine, place, id, point, job, known, copied: Copied::default() };
    for table in tables {
        let mut partitions = engine.partitions().of(table.incarnation);
        partitions.sort_by(|a, b| a.id().scope.cmp(&b.id().scope));
        for partition in partitions {
            job.check()?;
            description.partitions.extend(backup.partition(&table, &partition).await?);
        }
        description.tables.push((*table).clone());
    }
    fail::fail_point!("backup::before_description");
    // IMPORTANT: last: everything that it names is durable.
    place.describe(&description).await?;
    fail::fail_point!("backup::after_description");
    Ok((description, backup.copied))
}

/// What this database is called in its backups; drawn at the first one.
async fn origin(engine: &Engine) -> Result<String> {
    let key = keys::system(ORIGIN.0, ORIGIN.1);
    if let Some(stored) = engine.committer().readers().newest().snapshot.get(&key).await? {
        return String::from_utf8(stored.to_vec()).map_err(|_| Error::corrupt("the name of the database's backups"));
    }
    let drawn = engine.secrets().unique_name();
    engine.committer().records(vec![(key, drawn.clone().into())], Vec::new()).await?;
    Ok(drawn)
}

fn known(newest: Description) -> Known {
    let of = |partition: StoredPartition| {
        let (incarnation, scope) = (partition.incarnation, partition.scope);
        let batches = partition.batches.into_iter().filter(|batch| batch.file.path.starts_with("files/"));
        batches.map(move |batch| ((incarnation, scope.clone(), batch.entry.number), batch))
    };
    newest.partitions.into_iter().flat_map(of).collect()
}

/// An entry apart from where the batch is in its life.
fn lasting(entry: &manifest::Batch) -> manifest::Batch {
    manifest::Batch { status: BatchStatus::Active, ..entry.clone() }
}

impl Backup<'_> {
    async fn partition(&mut self, table: &Arc<Table>, partition: &Arc<Partition>) -> Result<Option<StoredPartition>> {
        let mut stored = StoredPartition {
            incarnation: table.incarnation,
            scope: partition.id().scope.clone(),
            flushed_through: CommitTime::ZERO,
            deletions_complete_from: CommitTime::ZERO,
            batches: Vec::new(),
            rows: None,
        };
        if !table.kind.has_history() {
            stored.rows = self.stream(partition).await?;
            return Ok(stored.rows.is_some().then_some(stored));
        }
        // Held to the end of the backup with the point, so that no file of it goes.
        let view = partition.view_for_upkeep(&self.point, self.engine.cold()).await?;
        if let Some(loaded) = view.loaded() {
            stored.flushed_through = view.flushed_through();
            stored.deletions_complete_from = loaded.manifest.deletions_complete_from;
        }
        for batch in view.batches() {
            stored.batches.push(self.batch(partition, batch).await?);
        }
        self.hot(table, partition, &mut stored).await?;
        Ok((!stored.batches.is_empty()).then_some(stored))
    }

    /// Copies a batch file, unless an earlier backup has it.
    async fn batch(&mut self, partition: &Partition, batch: &ColdBatch) -> Result<StoredBatch> {
        let entry = lasting(&batch.entry);
        let key = (partition.id().incarnation, partition.id().scope.clone(), entry.number);
        if let Some(known) = self.known.get(&key).filter(|known| known.entry == entry)
            && self.place.storage.size(&self.place.at(&known.file.path)).await? == Some(known.file.sum.bytes)
        {
            self.copied.kept += 1;
            return Ok(known.clone());
        }
        let path = format!("files/{}/{}", partition.id().incarnation, partition.spec().path().file(&entry.path));
        let (from, to) = (batch.file.storage(), self.place.at(&path));
        let sum = if self.place.storage.exists(&to).await? {
            // Of a backup that did not come to its end.
            let (there, here) = (
                self.place.storage.sum(&to, paced(self.job)).await?,
                from.sum(batch.file.path(), paced(self.job)).await?,
            );
            if there != here {
                return Err(Error::corrupt(format!(
                    "'{path}' is in the place already, and holds something else; choose another place"
                )));
            }
            here
        } else {
            from.copy(batch.file.path(), &self.place.storage, &to, paced(self.job)).await?
        };
        self.wrote(sum.bytes);
        self.job.progress(entry.row_count, 0);
        Ok(StoredBatch { file: StoredFile { path, sum }, entry })
    }

    /// Writes what is hot as one more batch, as a flush through the backup's moment would.
    async fn hot(
        &mut self,
        table: &Arc<Table>,
        partition: &Arc<Partition>,
        stored: &mut StoredPartition,
    ) -> Result<()> {
        let (from, through) = (stored.flushed_through, self.point.through());
        let rows = HotRows { engine: self.engine, partition, table, point: &self.point, job: self.job };
        let count = rows.count(from).await?;
        if count == 0 {
            return Ok(());
        }
        let directory = self.hot_path(partition);
        let path = format!("{directory}/{}", manifest::batch_file_name(HOT_BATCH));
        let meta = batch_meta(self.engine, table, table.version, (from, through), count);
        let mut writer =
            BatchWriter::create_at(&self.place.storage, &self.place.at(&path), partition.spec(), HOT_BATCH, meta)
                .await?;
        let forgotten = match rows.write(&mut writer, from).await {
            Ok(forgotten) => forgotten,
            Err(error) => {
                writer.abort().await;
                return Err(error);
            }
        };
        if let Some(last) = forgotten {
            writer.forget_deletions_through(last).await?;
            stored.deletions_complete_from = stored.deletions_complete_from.max(CommitTime(last.0 + 1));
        }
        let entry = writer.finish().await?;
        let sum = self.place.storage.sum(&self.place.at(&path), |_| self.job.check()).await?;
        self.wrote(sum.bytes);
        stored.flushed_through = through;
        stored.batches.push(StoredBatch { file: StoredFile { path, sum }, entry });
        Ok(())
    }

    async fn stream(&mut self, partition: &Partition) -> Result<Option<StoredFile>> {
        let snapshot = self.point.snapshot().as_ref();
        if !stream::has_rows(snapshot, partition.keys()).await? {
            return Ok(None);
        }
        let path = format!("{}/rows.bin", self.hot_path(partition));
        let mut upload = self.place.storage.create_exclusive(&self.place.at(&path)).await?;
        let sum = stream::dump(snapshot, partition.keys(), &mut upload, paced(self.job)).await?;
        upload.finish().await?;
        self.wrote(sum.bytes);
        Ok(Some(StoredFile { path, sum }))
    }

    fn hot_path(&self, partition: &Partition) -> String {
        format!("hot/{}/{}/{}", self.id, partition.id().incarnation, partition.spec().path())
    }

    fn wrote(&mut self, bytes: u64) {
        self.copied.written += 1;
        self.copied.bytes += bytes;
    }
}
