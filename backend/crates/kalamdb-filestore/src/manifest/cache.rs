//! The manifest cache (FR-031 to FR-053): two levels between planning and storage.
//!
//! The memory level holds manifests that are ready for use, within a limit in bytes. The persistent level, an
//! [`EntryStore`] of the node, holds one readable [`entry`] for each partition and survives restarts.
//!
//! What this promises:
//! - A manifest is used without touching storage only if this process has published it, read it from storage or
//!   compared it with storage, and that no longer than `ttl_seconds` ago. What an earlier run left is compared first.
//! - Of what this process has seen of a partition the newest counts. An older entry, in whichever level and however it
//!   came there, is as good as none.
//! - The levels only save work: losing one, or failing to write one, changes no answer. A failure is logged as
//!   `manifest_cache_sync_failure` and shows as the entry's state.
//!
//! `last_accessed` lives in memory only. The light map of what is known of each entry decides what is evicted
//! ([`eviction`]); it never holds manifests.

pub(crate) mod entry;
pub(crate) mod eviction;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use dashmap::DashMap;
use kalamdb_commons::ids::{CommitTime, Incarnation, PartitionPath, Scope, StorageId, TableRef};
use kalamdb_commons::manifest::MANIFEST_FILE;
use kalamdb_commons::settings::ManifestCacheSettings;
use kalamdb_commons::{Error, Result};
use parking_lot::Mutex;

use super::service::{Asked, Loaded, Recorded};
use super::validate;
use crate::partition::PartitionSpec;
use crate::storage::Tag;
pub use entry::SyncState;
use entry::{Entry, Head, encode, key};
use eviction::{Candidate, Policy, plan};

/// Entries that are read at a time when all are looked through.
const PAGE_ENTRIES: usize = 256;
/// After how long a storage that could not be asked is asked again, while what is in memory goes on being used.
const RETRY_MS: i64 = 10_000;
/// Before every clock.
const NEVER: i64 = i64::MIN;

/// The persistent level: an ordered map on this node. Nothing in it is needed, and it need not be synced.
#[async_trait]
pub trait EntryStore: Send + Sync + std::fmt::Debug {
    /// The value of a key.
    async fn get(&self, key: &str) -> Result<Option<Bytes>>;
    /// Sets a value.
    async fn put(&self, key: &str, value: &[u8]) -> Result<()>;
    /// Removes a key, which need not exist.
    async fn delete(&self, key: &str) -> Result<()>;
    /// At most so many entries in order of their keys, from `start` on, and where the next page starts.
    async fn page(&self, start: &[u8], max_entries: usize) -> Result<(Vec<(String, Bytes)>, Option<Bytes>)>;
}

/// When a manifest was last compared with storage, and last asked for. Shared by all its versions.
#[derive(Debug)]
pub(crate) struct Access {
    refreshed_ms: AtomicI64,
    accessed_ms: AtomicI64,
    retry_ms: AtomicI64,
}

impl Default for Access {
    fn default() -> Self {
        Self {
            refreshed_ms: AtomicI64::new(NEVER),
            accessed_ms: AtomicI64::new(NEVER),
            retry_ms: AtomicI64::new(NEVER),
        }
    }
}

impl Access {
    fn refreshed(&self, now_ms: i64) {
        self.refreshed_ms.store(now_ms, Ordering::Relaxed);
        self.retry_ms.store(NEVER, Ordering::Relaxed);
    }

    fn touch(&self, now_ms: i64) {
        self.accessed_ms.store(now_ms, Ordering::Relaxed);
    }

    pub(crate) fn accessed_ms(&self) -> Option<i64> {
        Some(self.accessed_ms.load(Ordering::Relaxed)).filter(|ms| *ms != NEVER)
    }

    /// How long it may still be used without asking storage, in ms. A clock that was set back ends it.
    fn left_ms(&self, now_ms: i64, ttl_ms: i64) -> i64 {
        let age = now_ms.saturating_sub(self.refreshed_ms.load(Ordering::Relaxed));
        if age < 0 { 0 } else { ttl_ms.saturating_sub(age).max(0) }
    }

    /// Takes over when another one for the same manifest was refreshed.
    pub(crate) fn follow(&self, other: &Self) {
        self.refreshed_ms.store(other.refreshed_ms.load(Ordering::Relaxed), Ordering::Relaxed);
        self.retry_ms.store(other.retry_ms.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    fn is_fresh(&self, now_ms: i64, ttl_ms: i64) -> bool {
        self.left_ms(now_ms, ttl_ms) > 0 || now_ms < self.retry_ms.load(Ordering::Relaxed)
    }
}

/// The newest manifest of a partition that this process published, read or compared.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    incarnation: Incarnation,
    version: u64,
    flushed_through: CommitTime,
    tag: Option<Tag>,
}

impl Seen {
    fn of(loaded: &Loaded) -> Self {
        let manifest = &loaded.manifest;
        let (incarnation, version) = (manifest.incarnation, manifest.version);
        Self { incarnation, version, flushed_through: manifest.flushed_through, tag: loaded.tag.clone() }
    }
}

/// What is known of an entry, apart from its manifest.
#[derive(Debug)]
struct Known {
    table: TableRef,
    scope: Scope,
    storage: Option<StorageId>,
    access: Arc<Access>,
    state: Mutex<State>,
    /// Held by whoever writes the entry, so that both levels end with the newest.
    writing: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    seen: Option<Seen>,
    /// Bytes in the persistent level; 0 if it is not there.
    bytes: u64,
    failed: bool,
}

/// An entry as SHOW MANIFEST CACHE tells of it.
#[derive(Debug, Clone, PartialEq)]
pub struct CachedManifest {
    /// Whose manifest.
    pub table: TableRef,
    /// Which partition's.
    pub scope: Scope,
    /// The version of the stored file.
    pub etag: Option<String>,
    /// When it was last compared with storage, ms since 1970.
    pub last_refreshed_ms: i64,
    /// When it was last asked for since the start, ms since 1970.
    pub last_accessed_ms: Option<i64>,
    /// How long it may still be used without asking storage, in seconds.
    pub ttl_seconds: i64,
    /// The storage and the path of the manifest there.
    pub source: String,
    /// Whether it is what storage holds.
    pub sync_state: SyncState,
}

/// What an eviction removed.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Evicted {
    /// Manifests that left memory.
    pub idle: usize,
    /// Entries that left both levels.
    pub entries: usize,
    /// Entries that are left on disk.
    pub left: usize,
}

/// How often the cache could answer by itself.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct CacheFigures {
    /// Answered without touching storage.
    pub hits: u64,
    /// Storage was asked.
    pub misses: u64,
    /// Of those, storage said that nothing has changed.
    pub revalidated: u64,
}

/// The two levels.
#[derive(Debug)]
pub(crate) struct ManifestCache {
    memory: moka::sync::Cache<String, Loaded>,
    entries: Option<Arc<dyn EntryStore>>,
    known: DashMap<String, Arc<Known>>,
    /// Whether all entries that an earlier run left are in `known`.
    indexed: AtomicBool,
    policy: Policy,
    started_ms: i64,
    hits: AtomicU64,
    misses: AtomicU64,
    revalidated: AtomicU64,
}

impl ManifestCache {
    pub(crate) fn new(settings: &ManifestCacheSettings, entries: Option<Arc<dyn EntryStore>>, now_ms: i64) -> Self {
        let weight = |key: &String, loaded: &Loaded| {
            let columns = loaded.manifest.batches.iter().map(|batch| 400 + batch.columns.len() * 150).sum::<usize>();
            u32::try_from(600 + key.len() + columns).unwrap_or(u32::MAX)
        };
        let memory_bytes = settings.memory_mib.saturating_mul(1 << 20);
        let ms = |seconds: u64| i64::try_from(seconds.saturating_mul(1_000)).unwrap_or(i64::MAX);
        Self {
            memory: moka::sync::Cache::builder().max_capacity(memory_bytes).weigher(weight).build(),
            entries,
            known: DashMap::new(),
            indexed: AtomicBool::new(false),
            policy: Policy {
                ttl_ms: ms(settings.ttl_seconds),
                idle_ms: ms(settings.last_accessed_memory_window),
                max_entries: settings.max_entries,
                max_bytes: settings.disk_mib.saturating_mul(1 << 20),
            },
            started_ms: now_ms,
            hits: AtomicU64::new(0),
            misses: AtomicU64::new(0),
            revalidated: AtomicU64::new(0),
        }
    }

    /// Notes that a manifest that somebody holds is asked for. False if storage must be asked whether it is still the
    /// same.
    pub(crate) fn touch(&self, loaded: &Loaded, now_ms: i64) -> bool {
        let is_fresh = loaded.access.is_fresh(now_ms, self.policy.ttl_ms);
        if is_fresh {
            self.answered(Asked::Cache);
            self.accessed(loaded, now_ms);
        }
        is_fresh
    }

    /// Whether nobody has asked for a manifest within the window.
    pub(crate) fn is_idle(&self, loaded: &Loaded, now_ms: i64) -> bool {
        let used_ms = loaded.access.accessed_ms().unwrap_or(self.started_ms);
        now_ms.saturating_sub(used_ms) >= self.policy.idle_ms
    }

    /// A manifest that may be used without asking storage, from either level (FR-037, FR-038).
    pub(crate) async fn fresh(&self, spec: &PartitionSpec, now_ms: i64) -> Option<Loaded> {
        let fresh = self.peek(spec, now_ms).await?;
        let key = key(&spec.table, &spec.scope);
        if !self.memory.contains_key(&key) {
            self.memory.insert(key, fresh.clone());
        }
        Some(fresh)
    }

    /// The same for whoever only looks: it does not come into memory for that.
    pub(crate) async fn peek(&self, spec: &PartitionSpec, now_ms: i64) -> Option<Loaded> {
        let key = key(&spec.table, &spec.scope);
        let known = self.known.get(&key)?.clone();
        if !known.access.is_fresh(now_ms, self.policy.ttl_ms) {
            return None;
        }
        let seen = known.state.lock().seen.clone().filter(|seen| seen.incarnation == spec.incarnation)?;
        if let Some(held) = self.memory.get(&key).filter(|held| Seen::of(held) == seen) {
            return Some(held);
        }
        let entry = self.stored(&key, spec).await?;
        if Seen::of(&entry) != seen {
            return None;
        }
        Some(Loaded { access: known.access.clone(), ..entry })
    }

    /// A manifest that storage may confirm: from memory, or as an earlier run left it. Whether this process has seen
    /// it comes with it.
    pub(crate) async fn candidate(&self, spec: &PartitionSpec) -> Option<(Loaded, bool)> {
        let key = key(&spec.table, &spec.scope);
        let known = self.known.get(&key).map(|known| known.clone());
        let seen = known.as_ref().and_then(|known| known.state.lock().seen.clone());
        let mut found = match self.memory.get(&key) {
            Some(held) => held,
            None => self.stored(&key, spec).await?,
        };
        if found.manifest.incarnation != spec.incarnation || found.tag.is_none() {
            return None;
        }
        if let Some(known) = known {
            found.access = known.access.clone();
        }
        match seen {
            None => Some((found, false)),
            Some(seen) => (Seen::of(&found) == seen).then_some((found, true)),
        }
    }

    /// The entry of the persistent level, if it can be read and is this partition's.
    async fn stored(&self, key: &str, spec: &PartitionSpec) -> Option<Loaded> {
        let bytes = match self.entries.as_ref()?.get(key).await {
            Ok(bytes) => bytes?,
            Err(error) => {
                tracing::warn!(key, error = error.message(), "manifest_cache_sync_failure: an entry cannot be read");
                return None;
            }
        };
        let entry: Entry = match serde_json::from_slice(&bytes) {
            Ok(entry) => entry,
            Err(error) => {
                tracing::debug!(key, %error, "an entry of the manifest cache is of another form; it is read again");
                return None;
            }
        };
        let is_ours = entry.head.storage.as_ref() == Some(&spec.storage) && validate::is_of(spec, &entry.manifest);
        let is_known = entry.manifest.format_version <= kalamdb_commons::manifest::FORMAT_VERSION;
        (is_ours && is_known).then(|| Loaded::new(entry.manifest, entry.head.etag.map(Tag::new), false))
    }

    /// The newest manifest that this process has seen, as a floor below which everything is stale.
    pub(crate) fn floor(&self, spec: &PartitionSpec) -> Option<Recorded> {
        let known = self.known.get(&key(&spec.table, &spec.scope))?.clone();
        let seen = known.state.lock().seen.clone().filter(|seen| seen.incarnation == spec.incarnation)?;
        Some(Recorded { version: seen.version, flushed_through: seen.flushed_through })
    }

    /// Writes what was just published, read or confirmed to both levels (FR-039, FR-041, FR-043), and returns it as
    /// it is to be held. If a newer one was written meanwhile, that one stays.
    pub(crate) async fn write(&self, spec: &PartitionSpec, loaded: Loaded, now_ms: i64) -> Loaded {
        let key = key(&spec.table, &spec.scope);
        let known = self.known_of(&key, spec);
        let loaded = Loaded { access: known.access.clone(), ..loaded };
        let _turn = known.writing.lock().await;
        let seen = Seen::of(&loaded);
        let is_older = |newest: &Seen| (newest.incarnation, newest.version) > (seen.incarnation, seen.version);
        if known.state.lock().seen.as_ref().is_some_and(is_older) {
            return loaded;
        }
        let stored = self.store(&key, spec, &loaded, now_ms).await;
        {
            let mut state = known.state.lock();
            state.seen = Some(seen);
            state.failed = stored.is_err();
            state.bytes = stored.unwrap_or(state.bytes);
        }
        known.access.refreshed(now_ms);
        self.memory.insert(key, loaded.clone());
        fail::fail_point!("manifest_cache::after_memory");
        loaded
    }

    /// Writes the persistent level and returns its bytes. What storage does not hold is not written.
    async fn store(&self, key: &str, spec: &PartitionSpec, loaded: &Loaded, now_ms: i64) -> Result<u64> {
        let Some(entries) = self.entries.as_ref().filter(|_| loaded.tag.is_some() && loaded.is_stored) else {
            return Ok(0);
        };
        fail::fail_point!("manifest_cache::before_entry");
        let written = async {
            let bytes = encode(spec, loaded, now_ms)
                .map_err(|error| Error::internal(format!("the entry of {spec} has no JSON form")).with_source(error))?;
            fail::fail_point!("manifest_cache::entry_fails", |_| Err(Error::io(
                "stopped by the fail point manifest_cache::entry_fails"
            )));
            entries.put(key, &bytes).await?;
            Ok(bytes.len() as u64)
        };
        let written = written.await;
        let version = loaded.manifest.version;
        match &written {
            Ok(bytes) => tracing::info!(key, version, bytes, "manifest_cache_sync_success"),
            Err(error) => tracing::warn!(key, version, error = error.message(), "manifest_cache_sync_failure"),
        }
        fail::fail_point!("manifest_cache::after_entry");
        written
    }

    /// Storage confirmed that nothing has changed.
    pub(crate) async fn confirmed(&self, spec: &PartitionSpec, loaded: Loaded, now_ms: i64) -> Loaded {
        self.revalidated.fetch_add(1, Ordering::Relaxed);
        self.write(spec, loaded, now_ms).await
    }

    /// Storage could not be asked. What is in memory goes on being used, and storage is asked again a little later.
    pub(crate) fn not_confirmed(&self, spec: &PartitionSpec, error: &Error, now_ms: i64) {
        let key = key(&spec.table, &spec.scope);
        tracing::warn!(key, error = error.message(), "manifest_cache_sync_failure: the manifest in memory is used");
        let known = self.known_of(&key, spec);
        known.state.lock().failed = true;
        known.access.retry_ms.store(now_ms.saturating_add(RETRY_MS), Ordering::Relaxed);
    }

    /// What is stored is not known any more: storage is to be asked before anything is used.
    pub(crate) fn doubt(&self, spec: &PartitionSpec) {
        let key = key(&spec.table, &spec.scope);
        self.memory.invalidate(&key);
        if let Some(known) = self.known.get(&key) {
            known.access.refreshed(NEVER);
        }
    }

    /// Forgets a partition whose life has ended, in both levels.
    pub(crate) async fn remove(&self, spec: &PartitionSpec) {
        let key = key(&spec.table, &spec.scope);
        if let Err(error) = self.drop_entry(&key).await {
            tracing::warn!(key, error = error.message(), "manifest_cache_sync_failure: an entry cannot be removed");
        }
    }

    async fn drop_entry(&self, key: &str) -> Result<()> {
        self.memory.invalidate(key);
        self.known.remove(key);
        match &self.entries {
            Some(entries) => entries.delete(key).await,
            None => Ok(()),
        }
    }

    /// Notes that somebody asked for it.
    pub(crate) fn accessed(&self, loaded: &Loaded, now_ms: i64) {
        loaded.access.touch(now_ms);
    }

    /// Counts an answer.
    pub(crate) fn answered(&self, asked: Asked) {
        let counter = match asked {
            Asked::Cache => &self.hits,
            Asked::Storage => &self.misses,
        };
        counter.fetch_add(1, Ordering::Relaxed);
    }

    pub(crate) fn figures(&self) -> CacheFigures {
        CacheFigures {
            hits: self.hits.load(Ordering::Relaxed),
            misses: self.misses.load(Ordering::Relaxed),
            revalidated: self.revalidated.load(Ordering::Relaxed),
        }
    }

    fn known_of(&self, key: &str, spec: &PartitionSpec) -> Arc<Known> {
        if let Some(known) = self.known.get(key) {
            return known.clone();
        }
        let made = || Arc::new(Known::new(spec.table.clone(), spec.scope.clone(), Some(spec.storage.clone())));
        self.known.entry(key.to_owned()).or_insert_with(made).clone()
    }

    /// Removes what [`eviction`] decides on.
    ///
    /// # Errors
    /// If the persistent level fails; some entries may be gone then.
    pub(crate) async fn evict(&self, now_ms: i64) -> Result<Evicted> {
        self.index().await?;
        let candidates = self.known.iter().map(|known| self.candidate_of(known.key(), known.value())).collect();
        let eviction = plan(candidates, self.policy, now_ms);
        eviction.idle.iter().for_each(|key| self.memory.invalidate(key));
        for key in &eviction.gone {
            self.evict_entry(key).await?;
        }
        let left = self.known.iter().filter(|known| known.value().state.lock().bytes > 0).count();
        Ok(Evicted { idle: eviction.idle.len(), entries: eviction.gone.len(), left })
    }

    /// Removes an entry from both levels. What somebody holds stays known, so that they see when it is refreshed.
    async fn evict_entry(&self, key: &str) -> Result<()> {
        self.memory.invalidate(key);
        if let Some(entries) = &self.entries {
            entries.delete(key).await?;
        }
        self.known.remove_if(key, |_, known| Arc::strong_count(&known.access) == 1);
        if let Some(known) = self.known.get(key) {
            let mut state = known.state.lock();
            (state.bytes, state.failed) = (0, false);
        }
        Ok(())
    }

    fn candidate_of(&self, key: &str, known: &Known) -> Candidate {
        Candidate {
            key: key.to_owned(),
            refreshed_ms: known.access.refreshed_ms.load(Ordering::Relaxed),
            used_ms: known.access.accessed_ms().unwrap_or(self.started_ms),
            bytes: known.state.lock().bytes,
        }
    }

    /// Learns of the entries that an earlier run left, and removes those that nobody can read.
    async fn index(&self) -> Result<()> {
        if self.indexed.load(Ordering::Acquire) {
            return Ok(());
        }
        let mut unreadable = Vec::new();
        self.each_entry(|key, bytes, head| match head {
            None => unreadable.push(key),
            Some(head) => {
                let known = self.known.entry(key).or_insert_with(|| {
                    let known = Known::new(head.table_ref(), head.scope.clone(), head.storage.clone());
                    known.access.refreshed_ms.store(head.last_refreshed_ms(), Ordering::Relaxed);
                    Arc::new(known)
                });
                let mut state = known.state.lock();
                state.bytes = state.bytes.max(bytes);
            }
        })
        .await?;
        for key in unreadable {
            self.drop_entry(&key).await?;
        }
        self.indexed.store(true, Ordering::Release);
        Ok(())
    }

    /// Calls back for every entry of the persistent level.
    async fn each_entry(&self, mut each: impl FnMut(String, u64, Option<Head>)) -> Result<()> {
        let Some(entries) = &self.entries else { return Ok(()) };
        let mut next = Some(Bytes::new());
        while let Some(start) = next {
            let (page, following) = entries.page(&start, PAGE_ENTRIES).await?;
            for (key, value) in page {
                each(key, value.len() as u64, serde_json::from_slice(&value).ok());
            }
            next = following;
        }
        Ok(())
    }

    /// All entries, by key.
    ///
    /// # Errors
    /// If the persistent level cannot be read.
    pub(crate) async fn list(&self, now_ms: i64) -> Result<Vec<CachedManifest>> {
        let mut found: BTreeMap<String, CachedManifest> = BTreeMap::new();
        self.each_entry(|key, _, head| {
            if let Some(head) = head {
                found.insert(key, of_earlier_run(&head));
            }
        })
        .await?;
        for known in &self.known {
            if let Some(shown) = self.shown(known.value(), now_ms) {
                found.insert(known.key().clone(), shown);
            }
        }
        Ok(found.into_values().collect())
    }

    /// An entry as SHOW tells of it; `None` if this process has not seen the manifest, or evicted the entry.
    fn shown(&self, known: &Known, now_ms: i64) -> Option<CachedManifest> {
        let state = known.state.lock();
        let seen = state.seen.as_ref().filter(|seen| seen.tag.is_some())?;
        if state.bytes == 0 && !state.failed && self.entries.is_some() {
            return None;
        }
        let left_ms = known.access.left_ms(now_ms, self.policy.ttl_ms);
        let path = PartitionPath::new(&known.table, &known.scope).file(MANIFEST_FILE);
        Some(CachedManifest {
            table: known.table.clone(),
            scope: known.scope.clone(),
            etag: seen.tag.as_ref().map(|tag| tag.as_str().to_owned()),
            last_refreshed_ms: known.access.refreshed_ms.load(Ordering::Relaxed).max(0),
            last_accessed_ms: known.access.accessed_ms(),
            ttl_seconds: (left_ms + 999) / 1_000,
            source: source(known.storage.as_ref(), &path),
            sync_state: match (state.failed, left_ms) {
                (true, _) => SyncState::Error,
                (false, 0) => SyncState::Stale,
                (false, _) => SyncState::InSync,
            },
        })
    }

    /// The entry of one partition.
    ///
    /// # Errors
    /// If the persistent level cannot be read.
    pub(crate) async fn show(&self, table: &TableRef, scope: &Scope, now_ms: i64) -> Result<Option<CachedManifest>> {
        let key = key(table, scope);
        let known = self.known.get(&key).map(|known| known.clone());
        if let Some(shown) = known.and_then(|known| self.shown(&known, now_ms)) {
            return Ok(Some(shown));
        }
        let Some(entries) = &self.entries else { return Ok(None) };
        let head = entries.get(&key).await?.and_then(|bytes| serde_json::from_slice::<Head>(&bytes).ok());
        Ok(head.map(|head| of_earlier_run(&head)))
    }
}

impl Known {
    fn new(table: TableRef, scope: Scope, storage: Option<StorageId>) -> Self {
        Self { table, scope, storage, access: Arc::default(), state: Mutex::default(), writing: Default::default() }
    }
}

fn of_earlier_run(head: &Head) -> CachedManifest {
    CachedManifest {
        table: head.table_ref(),
        scope: head.scope.clone(),
        etag: head.etag.clone(),
        last_refreshed_ms: head.last_refreshed_ms(),
        last_accessed_ms: None,
        ttl_seconds: 0,
        source: source(head.storage.as_ref(), &head.source_path),
        sync_state: SyncState::Stale,
    }
}

fn source(storage: Option<&StorageId>, path: &str) -> String {
    storage.map_or_else(|| path.to_owned(), |storage| format!("{storage}:{path}"))
}

#[cfg(test)]
mod tests;
