//! The only reader and writer of manifests.
//!
//! A manifest is validated when its partition is first used, and made anew from footers if it is missing, damaged or
//! stale ([`super::lost`]). From then on the one in the [`cache`](super::cache) is the one that this service validated or published, and
//! publication is a compare-and-set against storage, so whoever holds an older one is told instead of overwriting.
//! Every publication, whoever asks for it, writes storage first and then both levels of the cache.
//!
//! The life of an edit: batch files are durable before [`ManifestService::publish`] is called; the new manifest is
//! durable when it returns; only then may hot rows go, and retired files when nobody holds them
//! ([`ManifestService::remove_files`]). A job whose publication fails with a conflict loads again, *with the
//! incarnation that the catalog then has*, and either rebases or gives up with
//! [`ManifestService::discard`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kalamdb_commons::clock::Clock;
use kalamdb_commons::ids::{CommitTime, Incarnation, PartitionPath, Scope, TableRef};
use kalamdb_commons::manifest::{
    Batch, BatchStatus, FORMAT_VERSION, MANIFEST_FILE, Manifest, batch_file_name, batch_file_number,
};
use kalamdb_commons::settings::ManifestCacheSettings;
use kalamdb_commons::{Error, Result};

use super::cache::{Access, CacheFigures, CachedManifest, EntryStore, Evicted, ManifestCache};
use super::statistics::BatchStatistics;
use super::validate::{self, Verdict};
use crate::cache::file_key;
use crate::partition::PartitionSpec;
use crate::storage::{PutError, Storage, Storages, Tag};

/// How often a manifest that others change meanwhile is read again.
pub(super) const ATTEMPTS_MAX: usize = 8;

/// What the hot tier recorded when it last removed hot rows of a partition: the manifest that made them garbage.
/// An older manifest, from wherever, is stale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Recorded {
    /// The manifest's version.
    pub version: u64,
    /// Its watermark F.
    pub flushed_through: CommitTime,
}

impl Recorded {
    /// Whether a manifest is this one or a later one.
    pub(crate) fn is_reached_by(self, manifest: &Manifest) -> bool {
        manifest.version >= self.version && manifest.flushed_through >= self.flushed_through
    }
}

impl From<(u64, CommitTime)> for Recorded {
    fn from((version, flushed_through): (u64, CommitTime)) -> Self {
        Self { version, flushed_through }
    }
}

/// A manifest that may be used. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The manifest.
    pub manifest: Arc<Manifest>,
    /// Its batches' ranges in columns.
    pub statistics: Arc<BatchStatistics>,
    /// The version of the stored file that a publication must find: `None` if there is none yet.
    pub tag: Option<Tag>,
    /// Whether it was made from footers, because what was stored could not be used.
    pub rebuilt: bool,
    /// Whether storage holds it. One that was rebuilt may be in memory only.
    pub(crate) is_stored: bool,
    /// When it was compared with storage and asked for.
    pub(crate) access: Arc<Access>,
}

impl Loaded {
    pub(crate) fn new(manifest: Manifest, tag: Option<Tag>, rebuilt: bool) -> Self {
        let manifest = Arc::new(manifest);
        let statistics = Arc::new(BatchStatistics::new(Arc::clone(&manifest)));
        Self { statistics, manifest, is_stored: tag.is_some(), tag, rebuilt, access: Arc::default() }
    }

    /// Whether it was made from footers and storage does not hold it yet.
    pub fn is_derived(&self) -> bool {
        self.rebuilt && !self.is_stored
    }

    /// When somebody last asked for it since the start, ms since 1970.
    pub fn last_accessed_ms(&self) -> Option<i64> {
        self.access.accessed_ms()
    }

    /// The same manifest was loaded again: what is known of its age is known here too.
    pub fn renewed_by(&self, other: &Self) {
        if !Arc::ptr_eq(&self.access, &other.access) {
            self.access.follow(&other.access);
        }
    }
}

/// Where an answer came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Asked {
    /// The cache, without touching storage.
    Cache,
    /// Storage was asked, if only whether anything has changed.
    Storage,
}

/// What was found of a partition's manifest.
#[derive(Debug, Clone)]
pub enum Found {
    /// It may be used.
    Ready(Loaded, Asked),
    /// It is missing, damaged or stale, and the footers have to say what it said: why.
    Lost(String),
}

/// A change of a manifest.
#[derive(Debug, Default, Clone)]
pub struct Edit {
    /// Batches whose files are durable, to become active.
    pub add: Vec<Batch>,
    /// Numbers of active batches that the added ones replace. They stay listed as archived.
    pub retire: Vec<u64>,
    /// Numbers of archived batches whose files are gone, to be listed no longer.
    pub forget: Vec<u64>,
    /// Numbers of active batches that a compaction is about to replace; all others stop being marked so. `None`
    /// leaves the marks as they are.
    pub compacting: Option<Vec<u64>>,
    /// The watermark, if it moves: it never goes back.
    pub flushed_through: CommitTime,
    /// From when on deletions are complete, if it moves: it never goes back.
    pub deletions_complete_from: CommitTime,
}

/// Why an edit was not published.
#[derive(Debug, thiserror::Error)]
pub enum PublishError {
    /// The manifest changed since it was loaded, or the edit does not fit it. Load again, and rebase or give up.
    #[error("the manifest was changed meanwhile")]
    Conflict,
    /// Storage failed, or the edit contradicts itself.
    #[error(transparent)]
    Failed(#[from] Error),
}

impl From<PublishError> for Error {
    fn from(error: PublishError) -> Self {
        match error {
            PublishError::Conflict => Self::conflict("the manifest was changed meanwhile"),
            PublishError::Failed(error) => error,
        }
    }
}

impl From<PutError> for PublishError {
    fn from(error: PutError) -> Self {
        match error {
            PutError::Conflict => Self::Conflict,
            PutError::Failed(error) => Self::Failed(error),
        }
    }
}

/// What an incarnation left behind.
#[derive(Debug, Clone)]
pub struct Retired {
    /// The empty manifest of the next incarnation.
    pub loaded: Loaded,
    /// The files that the old manifest named, and those that no manifest came to name, to be removed when nobody holds
    /// them.
    pub files: Vec<String>,
}

/// What became of files to be removed.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Removal {
    /// Gone, durably.
    pub removed: Vec<String>,
    /// Still held by somebody, or active: ask again later.
    pub held: Vec<String>,
}

/// Files of a partition that its manifest does not name.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Orphans {
    /// Nothing refers to them.
    pub free: Vec<String>,
    /// Batch files that somebody holds or writes, or may publish yet: ask again later.
    pub kept: Vec<String>,
}

/// Reads and writes manifests.
#[derive(Debug)]
pub struct ManifestService {
    storages: Storages,
    clock: Arc<dyn Clock>,
    pub(super) cache: ManifestCache,
}

/// What is stored of a partition.
pub(super) struct Stored {
    pub(super) manifest: Option<(bytes::Bytes, Tag)>,
    pub(super) files: BTreeMap<String, u64>,
}

impl Stored {
    /// Whether the manifest is still the stored one, or there is still none.
    pub(super) async fn is_current(&self, storage: &Storage, spec: &PartitionSpec) -> Result<bool> {
        let path = spec.path().file(MANIFEST_FILE);
        match &self.manifest {
            Some((_, tag)) => storage.is_current(&path, tag).await,
            None => Ok(!storage.exists(&path).await?),
        }
    }
}

pub(super) fn changes_too_fast(spec: &PartitionSpec) -> Error {
    Error::overloaded(format!("the manifest of {spec} changes faster than it can be read; try again"))
}

/// Why the stored manifest cannot be used.
pub(super) struct Lost {
    /// What could be read of it.
    pub(super) found: Option<Box<Manifest>>,
    pub(super) why: String,
}

impl ManifestService {
    /// A service over these storages, whose cache is in memory only.
    pub fn new(storages: Storages, clock: Arc<dyn Clock>) -> Self {
        Self::with_cache(storages, clock, &ManifestCacheSettings::default(), None)
    }

    /// A service whose cache has these limits, and a level that survives restarts.
    pub fn with_cache(
        storages: Storages,
        clock: Arc<dyn Clock>,
        settings: &ManifestCacheSettings,
        entries: Option<Arc<dyn EntryStore>>,
    ) -> Self {
        let cache = ManifestCache::new(settings, entries, clock.now_ms());
        Self { storages, clock, cache }
    }

    /// The storages that the manifests lie in.
    pub fn storages(&self) -> &Storages {
        &self.storages
    }

    /// Notes that a manifest that the caller holds is asked for. False if it has been held for so long that
    /// [`Self::load`] is to say whether it is still the stored one.
    pub fn touch(&self, held: &Loaded) -> bool {
        self.cache.touch(held, self.now_ms())
    }

    /// Whether nobody has asked for a manifest for so long that it need not be held.
    pub fn is_idle(&self, held: &Loaded) -> bool {
        self.cache.is_idle(held, self.now_ms())
    }

    /// The manifest of a partition: a fresh one from the cache if it is not older than what the hot tier recorded,
    /// else the stored one, else one rebuilt from footers. A partition that was never flushed has an empty one, which
    /// is not stored.
    ///
    /// # Errors
    /// Corrupt, naming the partition, if what the hot tier recorded cannot be reached, or if the stored manifest is
    /// of a later format. I/O if storage fails.
    pub async fn load(&self, spec: &PartitionSpec, recorded: Option<Recorded>) -> Result<Loaded> {
        match self.look_up(spec, recorded).await? {
            Found::Ready(loaded, _) => Ok(loaded),
            Found::Lost(_) => self.reload(spec, recorded).await,
        }
    }

    /// As [`Self::load`], but never from the cache: after a conflict.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub async fn reload(&self, spec: &PartitionSpec, recorded: Option<Recorded>) -> Result<Loaded> {
        let storage = self.storages.get(&spec.storage)?;
        for _ in 0..ATTEMPTS_MAX {
            // As in `look_up`, before storage is read.
            let floor = self.floor(spec, recorded);
            let (stored, judged) = self.judged(&storage, spec, floor).await?;
            let loaded = match judged {
                Ok(loaded) => Some(loaded),
                Err(lost) => self.rebuild_with(&storage, spec, floor, &stored, &lost).await?,
            };
            if let Some(loaded) = loaded {
                return Ok(self.keep(spec, loaded).await);
            }
        }
        Err(changes_too_fast(spec))
    }

    /// What a manifest must reach: what the hot tier recorded, and what this process has seen.
    pub(super) fn floor(&self, spec: &PartitionSpec, recorded: Option<Recorded>) -> Option<Recorded> {
        match (recorded, self.cache.floor(spec)) {
            (Some(recorded), Some(seen)) => Some(Recorded {
                version: recorded.version.max(seen.version),
                flushed_through: recorded.flushed_through.max(seen.flushed_through),
            }),
            (recorded, seen) => recorded.or(seen),
        }
    }

    /// Writes both levels of the cache.
    pub(super) async fn keep(&self, spec: &PartitionSpec, loaded: Loaded) -> Loaded {
        self.cache.write(spec, loaded, self.now_ms()).await
    }

    /// How often the cache could answer by itself.
    pub fn cache_figures(&self) -> CacheFigures {
        self.cache.figures()
    }

    /// Every entry of the cache, by key.
    ///
    /// # Errors
    /// If the persistent level cannot be read.
    pub async fn cached(&self) -> Result<Vec<CachedManifest>> {
        self.cache.list(self.now_ms()).await
    }

    /// The cache's entry of one partition.
    ///
    /// # Errors
    /// As [`Self::cached`].
    pub async fn cached_of(&self, table: &TableRef, scope: &Scope) -> Result<Option<CachedManifest>> {
        self.cache.show(table, scope, self.now_ms()).await
    }

    /// Removes from the cache what has not been used for long, and the least recently used beyond its limits.
    ///
    /// # Errors
    /// If the persistent level fails; some entries may be gone then.
    pub async fn evict_cached(&self) -> Result<Evicted> {
        self.cache.evict(self.now_ms()).await
    }

    /// What is stored. The manifest is read before the directory: a file that is added in between does no harm.
    pub(super) async fn read(&self, storage: &Storage, spec: &PartitionSpec) -> Result<Stored> {
        let path = spec.path();
        let manifest = storage.get(&path.file(MANIFEST_FILE)).await?;
        let files = storage.list(path.as_str()).await?.into_iter().collect();
        Ok(Stored { manifest, files })
    }

    /// What is stored, and what may be used of it. A manifest that may not be, and was replaced since it was read, is
    /// read again: files that it names may be gone because of that.
    pub(super) async fn judged(
        &self,
        storage: &Storage,
        spec: &PartitionSpec,
        recorded: Option<Recorded>,
    ) -> Result<(Stored, Result<Loaded, Lost>)> {
        for _ in 0..ATTEMPTS_MAX {
            let stored = self.read(storage, spec).await?;
            let judged = self.settle(spec, recorded, &stored)?;
            if judged.is_ok() || stored.is_current(storage, spec).await? {
                return Ok((stored, judged));
            }
        }
        Err(changes_too_fast(spec))
    }

    /// Makes of what is stored what may be used, or says why it may not be.
    fn settle(
        &self,
        spec: &PartitionSpec,
        recorded: Option<Recorded>,
        stored: &Stored,
    ) -> Result<Result<Loaded, Lost>> {
        let is_flushed = recorded.is_some_and(|recorded| recorded.flushed_through > CommitTime::ZERO);
        let version = recorded.map_or(0, |recorded| recorded.version);
        let Some((bytes, tag)) = &stored.manifest else {
            let has_files = stored.files.keys().any(|name| batch_file_number(name).is_some());
            if is_flushed || has_files {
                return Ok(Err(Lost { found: None, why: "it is missing".to_owned() }));
            }
            return Ok(Ok(Loaded::new(self.empty(spec, spec.incarnation, version, 0), None, false)));
        };
        Ok(match validate::judge(spec, bytes, &stored.files, recorded)? {
            Verdict::Sound(manifest) => Ok(Loaded::new(manifest, Some(tag.clone()), false)),
            Verdict::OtherIncarnation(other) if is_flushed => {
                Err(Lost { found: Some(Box::new(other)), why: "it is of another incarnation".to_owned() })
            }
            Verdict::OtherIncarnation(other) => {
                let manifest = self.empty(spec, spec.incarnation, other.version.max(version), other.max_batch);
                Ok(Loaded::new(manifest, Some(tag.clone()), false))
            }
            Verdict::Damaged(found, why) => Err(Lost { found, why }),
        })
    }

    /// Publishes an edit of a loaded manifest: durable when it returns. An edit whose added batches are all active
    /// already was published before, by a rebuild that found the files, and succeeds.
    ///
    /// # Errors
    /// [`PublishError::Conflict`] if the stored manifest is no longer the loaded one, if a batch to retire is no
    /// longer active, or if intervals would no longer be sound.
    pub async fn publish(&self, spec: &PartitionSpec, expected: &Loaded, edit: Edit) -> Result<Loaded, PublishError> {
        let storage = self.storages.get(&spec.storage)?;
        if expected.manifest.incarnation != spec.incarnation {
            return Err(PublishError::Conflict);
        }
        let is_published = |batch: &Batch| expected.manifest.active().any(|active| active.number == batch.number);
        if !edit.add.is_empty() && edit.add.iter().all(is_published) {
            return Ok(expected.clone());
        }
        let manifest = self.apply(&expected.manifest, edit)?;
        let done = self.put(&storage, spec, &manifest, expected.tag.as_ref()).await;
        let tag = match done {
            Ok(tag) => tag,
            Err(error) => {
                // Whatever is stored now, it need not be what is in memory.
                self.cache.doubt(spec);
                return Err(error.into());
            }
        };
        // IMPORTANT: after storage, so that no level ever holds a manifest that storage may not have.
        Ok(self.keep(spec, Loaded::new(manifest, Some(tag), false)).await)
    }

    /// The manifest after an edit.
    fn apply(&self, before: &Manifest, edit: Edit) -> Result<Manifest, PublishError> {
        let mut manifest = before.clone();
        manifest.version += 1;
        manifest.generated_at = self.now();
        manifest.flushed_through = manifest.flushed_through.max(edit.flushed_through);
        manifest.deletions_complete_from = manifest.deletions_complete_from.max(edit.deletions_complete_from);
        let mut retire: BTreeSet<u64> = edit.retire.into_iter().collect();
        for batch in &mut manifest.batches {
            if batch.status == BatchStatus::Archived {
                continue;
            }
            if retire.remove(&batch.number) {
                batch.status = BatchStatus::Archived;
            } else if let Some(compacting) = &edit.compacting {
                let is_input = compacting.contains(&batch.number);
                batch.status = if is_input { BatchStatus::Compacting } else { BatchStatus::Active };
            }
        }
        if !retire.is_empty() {
            return Err(PublishError::Conflict);
        }
        let gone = |batch: &Batch| batch.status == BatchStatus::Archived && edit.forget.contains(&batch.number);
        manifest.batches.retain(|batch| !gone(batch));
        for batch in edit.add {
            let is_taken = manifest.batches.iter().any(|other| other.number == batch.number);
            if is_taken || batch.incarnation != manifest.incarnation || batch.path != batch_file_name(batch.number) {
                return Err(PublishError::Conflict);
            }
            manifest.max_batch = manifest.max_batch.max(batch.number);
            manifest.batches.push(batch);
        }
        manifest.batches.sort_by_key(|batch| (batch.status == BatchStatus::Archived, batch.through, batch.from));
        if manifest.intervals_are_sound() { Ok(manifest) } else { Err(PublishError::Conflict) }
    }

    /// Ends an incarnation: publishes an empty manifest of the next one, which keeps the numbering, whatever is
    /// stored. Jobs of the old incarnation fail their publication from then on.
    ///
    /// # Errors
    /// If storage fails, or the stored manifest is of a later format.
    pub async fn publish_empty(&self, spec: &PartitionSpec, next: Incarnation) -> Result<Retired> {
        let storage = self.storages.get(&spec.storage)?;
        for _ in 0..ATTEMPTS_MAX {
            let stored = self.read(&storage, spec).await?;
            // Nobody looks into the directory again to find what a crash left half written.
            let is_dead = |name: &&String| storage.is_dead_temporary(spec.path().as_str(), name);
            let dead: Vec<String> = stored.files.keys().filter(is_dead).map(|name| spec.path().file(name)).collect();
            storage.delete(&dead).await?;
            let found = match &stored.manifest {
                None => None,
                Some((bytes, _)) => match validate::judge(spec, bytes, &stored.files, None)? {
                    Verdict::Sound(manifest) | Verdict::OtherIncarnation(manifest) => Some(manifest),
                    Verdict::Damaged(manifest, _) => manifest.map(|manifest| *manifest),
                },
            };
            if let (Some(later), Some((_, tag))) = (&found, &stored.manifest)
                && later.incarnation >= next
            {
                // The next life has published already, perhaps with batches: it stays. What it does not list, of the
                // numbers that are not its own to come, the ended life left behind.
                let is_listed = |name: &str| later.batches.iter().any(|batch| batch.path == name);
                let is_left = |name: &&String| {
                    batch_file_number(name).is_some_and(|number| number <= later.max_batch) && !is_listed(name)
                };
                let files = stored.files.keys().filter(is_left).cloned().collect();
                return Ok(Retired { loaded: Loaded::new(later.clone(), Some(tag.clone()), false), files });
            }
            let known = self.cache.floor(spec).map_or(0, |seen| seen.version);
            let version = found.as_ref().map_or(0, |manifest| manifest.version).max(known) + 1;
            let numbers = stored.files.keys().filter_map(|name| batch_file_number(name));
            let max_batch = numbers.max().unwrap_or(0).max(found.as_ref().map_or(0, |manifest| manifest.max_batch));
            let manifest = self.empty(spec, next, version, max_batch);
            let tag = stored.manifest.as_ref().map(|(_, tag)| tag);
            self.cache.doubt(spec);
            match self.put(&storage, spec, &manifest, tag).await {
                Ok(tag) => {
                    self.cache.remove(spec).await;
                    let mut files: Vec<String> = found.map_or_else(Vec::new, |manifest| {
                        manifest.batches.into_iter().map(|batch| batch.path).collect()
                    });
                    // And those that a crash left before a manifest named them. One that the next life is writing is
                    // none that it can publish: it has to find the manifest that has just been replaced.
                    let others = stored.files.into_keys().filter(|name| batch_file_number(name).is_some());
                    let others: Vec<String> = others.filter(|name| !files.contains(name)).collect();
                    files.extend(others);
                    return Ok(Retired { loaded: Loaded::new(manifest, Some(tag), false), files });
                }
                Err(PutError::Conflict) => {}
                Err(PutError::Failed(error)) => return Err(error),
            }
        }
        Err(Error::overloaded(format!("the manifest of {spec} changes faster than it can be replaced; try again")))
    }

    /// Deletes files that a retired manifest, or archived entries, name: those that nobody holds and that the stored
    /// manifest does not list as active.
    ///
    /// # Errors
    /// If storage fails, or a name is not a batch file's.
    pub async fn remove_files(&self, spec: &PartitionSpec, files: &[String]) -> Result<Removal> {
        let storage = self.storages.get(&spec.storage)?;
        let path = spec.path();
        let active = self.listed(&storage, &path, |status| status != BatchStatus::Archived).await?;
        let mut removal = Removal::default();
        for name in files {
            if batch_file_number(name).is_none() {
                return Err(Error::internal(format!("'{name}' is not the name of a batch file")));
            }
            let is_held = storage.caches.is_open(file_key(storage.id(), &path.file(name)));
            if is_held || active.contains(name) { &mut removal.held } else { &mut removal.removed }.push(name.clone());
        }
        let paths: Vec<String> = removal.removed.iter().map(|name| path.file(name)).collect();
        storage.delete(&paths).await?;
        Ok(removal)
    }

    /// Deletes every file of a partition that its stored manifest does not list, whoever left it. For a partition that
    /// has ended, that nobody writes to any more. Returns how many.
    ///
    /// # Errors
    /// `Overloaded` if somebody holds one; I/O if storage fails.
    pub async fn remove_unlisted(&self, spec: &PartitionSpec) -> Result<usize> {
        let storage = self.storages.get(&spec.storage)?;
        let path = spec.path();
        let files = storage.list(path.as_str()).await?;
        let listed = self.listed(&storage, &path, |_| true).await?;
        let is_left = |name: &String| name != MANIFEST_FILE && !listed.contains(name);
        let left: Vec<String> = files.into_iter().map(|(name, _)| name).filter(is_left).collect();
        if let Some(held) = left.iter().find(|name| storage.caches.is_open(file_key(storage.id(), &path.file(name)))) {
            return Err(Error::overloaded(format!("'{held}' of {spec} is still read")));
        }
        storage.delete(&left.iter().map(|name| path.file(name)).collect::<Vec<_>>()).await?;
        Ok(left.len())
    }

    /// Deletes the files of a manifest's archived batches, oldest interval first, and stops at the first one that
    /// somebody holds. Returns the numbers of those that are gone, durably: for [`Edit::forget`].
    ///
    /// # Errors
    /// If storage fails. Files that are gone then are no error the next time.
    pub async fn remove_archived(&self, spec: &PartitionSpec, loaded: &Loaded) -> Result<Vec<u64>> {
        let storage = self.storages.get(&spec.storage)?;
        let path = spec.path();
        let mut archived: Vec<&Batch> =
            loaded.manifest.batches.iter().filter(|batch| batch.status == BatchStatus::Archived).collect();
        archived.sort_by_key(|batch| (batch.from, batch.through, batch.number));
        // The stored manifest has the last word: what it calls active is not deleted.
        let active = self.listed(&storage, &path, |status| status != BatchStatus::Archived).await?;
        let is_free = |batch: &&&Batch| {
            let file = path.file(&batch.path);
            !active.contains(&batch.path) && !storage.caches.is_open(file_key(storage.id(), &file))
        };
        let free: Vec<&Batch> = archived.iter().take_while(is_free).copied().collect();
        for batch in &free {
            // IMPORTANT: one by one, each durably: a crash leaves the newer of them, never the older.
            storage.delete(&[path.file(&batch.path)]).await?;
            fail::fail_point!("manifest::between_removals", |_| {
                Err(Error::io("stopped by the fail point manifest::between_removals"))
            });
        }
        Ok(free.iter().map(|batch| batch.number).collect())
    }

    /// Removes a batch file that its job gives up on, unless a manifest lists it, or somebody reads it: a manifest that
    /// was made from footers may count it and not be stored yet. Then it goes as an orphan, if it does not count.
    ///
    /// # Errors
    /// If storage fails.
    pub async fn discard(&self, spec: &PartitionSpec, number: u64) -> Result<()> {
        let storage = self.storages.get(&spec.storage)?;
        let (path, name) = (spec.path(), batch_file_name(number));
        let is_held = storage.caches.is_open(file_key(storage.id(), &path.file(&name)));
        if is_held || self.listed(&storage, &path, |_| true).await?.contains(&name) {
            return Ok(());
        }
        storage.delete(&[path.file(&name)]).await
    }

    /// The names that the stored manifest lists with such a status, of whatever incarnation.
    async fn listed(
        &self,
        storage: &Storage,
        path: &PartitionPath,
        wanted: impl Fn(BatchStatus) -> bool,
    ) -> Result<BTreeSet<String>> {
        let Some((bytes, _)) = storage.get(&path.file(MANIFEST_FILE)).await? else { return Ok(BTreeSet::new()) };
        let manifest: Manifest = serde_json::from_slice(&bytes).map_err(|error| {
            Error::corrupt(format!("the manifest in '{path}' cannot be read, so no file is removed there"))
                .with_source(error)
        })?;
        Ok(manifest.batches.into_iter().filter(|batch| wanted(batch.status)).map(|batch| batch.path).collect())
    }

    /// The files of a partition's directory that nothing refers to: left by a crash. `in_flight` are the numbers that
    /// jobs of this process are writing or about to publish. A number above the manifest's `max_batch` is left alone:
    /// it is reserved, and may be published yet.
    ///
    /// # Errors
    /// As [`Self::load`]; then no file counts as an orphan.
    pub async fn orphans(
        &self,
        spec: &PartitionSpec,
        recorded: Option<Recorded>,
        in_flight: &[u64],
    ) -> Result<Orphans> {
        let storage = self.storages.get(&spec.storage)?;
        let path = spec.path();
        // The listing comes first: a file that is published after it is in the manifest that is read after it.
        let files = storage.list(path.as_str()).await?;
        // Nothing is kept of it: whoever looks for orphans uses no partition.
        let manifest = match self.judged(&storage, spec, self.floor(spec, recorded)).await?.1 {
            Ok(stored) => stored.manifest,
            Err(_) => self.reload(spec, recorded).await?.manifest,
        };
        let mut orphans = Orphans::default();
        for (name, _) in files {
            let Some(number) = batch_file_number(&name) else {
                if storage.is_dead_temporary(path.as_str(), &name) {
                    orphans.free.push(name);
                }
                continue;
            };
            if manifest.batches.iter().any(|batch| batch.number == number) {
                continue;
            }
            let is_held = storage.caches.is_open(file_key(storage.id(), &path.file(&name)));
            let may_count_yet = number > manifest.max_batch || in_flight.contains(&number);
            if is_held || may_count_yet { &mut orphans.kept } else { &mut orphans.free }.push(name);
        }
        Ok(orphans)
    }

    /// Deletes those of the [`Self::orphans`] that may go.
    ///
    /// # Errors
    /// As [`Self::orphans`].
    pub async fn remove_orphans(
        &self,
        spec: &PartitionSpec,
        recorded: Option<Recorded>,
        in_flight: &[u64],
    ) -> Result<Orphans> {
        let orphans = self.orphans(spec, recorded, in_flight).await?;
        if !orphans.free.is_empty() {
            fail::fail_point!("orphans::before_removal");
        }
        let path = spec.path();
        let paths: Vec<String> = orphans.free.iter().map(|name| path.file(name)).collect();
        self.storages.get(&spec.storage)?.delete(&paths).await?;
        Ok(orphans)
    }

    pub(super) async fn put(
        &self,
        storage: &Storage,
        spec: &PartitionSpec,
        manifest: &Manifest,
        expected: Option<&Tag>,
    ) -> Result<Tag, PutError> {
        let bytes = serde_json::to_vec_pretty(manifest)
            .map_err(|error| Error::internal(format!("the manifest of {spec} has no JSON form")).with_source(error))?;
        let tag = storage.put_if(&spec.path().file(MANIFEST_FILE), bytes.into(), expected).await?;
        fail::fail_point!("manifest::after_durable", |_| {
            Err(PutError::Failed(Error::io("stopped by the fail point manifest::after_durable")))
        });
        Ok(tag)
    }

    pub(super) fn empty(
        &self,
        spec: &PartitionSpec,
        incarnation: Incarnation,
        version: u64,
        max_batch: u64,
    ) -> Manifest {
        Manifest {
            version,
            format_version: FORMAT_VERSION,
            generated_at: self.now(),
            max_batch,
            table_id: spec.table_id,
            table: spec.table.clone(),
            incarnation,
            scope: spec.scope.clone(),
            flushed_through: CommitTime::ZERO,
            deletions_complete_from: CommitTime::ZERO,
            batches: Vec::new(),
        }
    }

    pub(super) fn now_ms(&self) -> i64 {
        self.clock.now_ms()
    }

    fn now(&self) -> String {
        chrono::DateTime::from_timestamp_nanos(self.clock.now_ns()).to_rfc3339()
    }
}

#[cfg(test)]
mod tests;
