//! A manifest that is missing, damaged or stale, made anew from the footers of the partition's files.
//!
//! The footers say all that the manifest said, so a statement goes on as soon as they are read: [`ManifestService::derive`]
//! writes nothing. The manifest that it gives has the place of the lost one in its compare-and-set, so it becomes durable
//! by [`ManifestService::store`], or with whatever is published next; a crash before that loses what can be derived again.
//! What was derived stays right meanwhile, because no file that it names is removed while somebody holds it, and
//! whoever removes files as orphans stores a manifest first.
//!
//! Footers are read several at a time, and of each only what the manifest needs is kept.

use std::collections::BTreeMap;
use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use kalamdb_commons::ids::CommitTime;
use kalamdb_commons::manifest::{Manifest, batch_file_number};
use kalamdb_commons::{Error, ErrorKind, Result};

use super::rebuild;
use super::service::{ATTEMPTS_MAX, Loaded, Lost, ManifestService, PublishError, Recorded, Stored};
use crate::batch::BatchFooter;
use crate::batch::file::read_footer;
use crate::io::IoCounters;
use crate::partition::PartitionSpec;
use crate::storage::{PutError, Storage};

/// How many footers are read at once.
pub const FOOTERS_AT_ONCE: usize = 16;

/// A file's footer, or its name and why it cannot be read.
type Read = std::result::Result<Option<BatchFooter>, (String, Error)>;

impl ManifestService {
    /// The manifest that the footers of a partition's files make, to be read by and not stored yet; the stored one if
    /// it turns out to be sound.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub async fn derive(&self, spec: &PartitionSpec, recorded: Option<Recorded>) -> Result<Loaded> {
        let storage = self.storages().get(&spec.storage)?;
        let floor = self.floor(spec, recorded);
        let (stored, judged) = self.judged(&storage, spec, floor).await?;
        let loaded = match judged {
            Ok(loaded) => loaded,
            Err(lost) => self.derive_from(&storage, spec, floor, &stored, &lost).await?,
        };
        Ok(self.keep(spec, loaded).await)
    }

    /// Stores a manifest that was derived: durable when it returns.
    ///
    /// # Errors
    /// [`PublishError::Conflict`] if storage does not hold what the footers were read in place of: somebody else
    /// has stored one, perhaps with the next publication.
    pub async fn store(&self, spec: &PartitionSpec, derived: &Loaded) -> Result<Loaded, PublishError> {
        let storage = self.storages().get(&spec.storage)?;
        match self.put(&storage, spec, &derived.manifest, derived.tag.as_ref()).await {
            Ok(tag) => Ok(self.keep(spec, Loaded { tag: Some(tag), is_stored: true, ..derived.clone() }).await),
            Err(error) => {
                // Whatever is stored now, it need not be what is in memory.
                self.cache.doubt(spec);
                Err(error.into())
            }
        }
    }

    /// Makes the manifest anew from the footers of the partition's files, whatever is stored, and publishes it.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub async fn rebuild(&self, spec: &PartitionSpec, recorded: Option<Recorded>) -> Result<Loaded> {
        let storage = self.storages().get(&spec.storage)?;
        for _ in 0..ATTEMPTS_MAX {
            let stored = self.read(&storage, spec).await?;
            let found: Option<Box<Manifest>> =
                stored.manifest.as_ref().and_then(|(bytes, _)| serde_json::from_slice(bytes).ok());
            let lost = Lost { found, why: "a rebuild was asked for".to_owned() };
            if let Some(loaded) = self.rebuild_with(&storage, spec, recorded, &stored, &lost).await? {
                return Ok(self.keep(spec, loaded).await);
            }
        }
        Err(Error::overloaded(format!("the manifest of {spec} changes faster than it can be rebuilt; try again")))
    }

    /// Derives the manifest and stores it; `None` if that met another writer.
    pub(super) async fn rebuild_with(
        &self,
        storage: &Arc<Storage>,
        spec: &PartitionSpec,
        recorded: Option<Recorded>,
        stored: &Stored,
        lost: &Lost,
    ) -> Result<Option<Loaded>> {
        let derived = self.derive_from(storage, spec, recorded, stored, lost).await?;
        match self.put(storage, spec, &derived.manifest, derived.tag.as_ref()).await {
            Ok(tag) => Ok(Some(Loaded { tag: Some(tag), is_stored: true, ..derived })),
            Err(PutError::Conflict) => Ok(None),
            // Reading goes on from the files; the next publication writes it.
            Err(PutError::Failed(error)) => {
                tracing::warn!(partition = %spec, error = error.message(), "the rebuilt manifest could not be stored");
                Ok(Some(derived))
            }
        }
    }

    async fn derive_from(
        &self,
        storage: &Arc<Storage>,
        spec: &PartitionSpec,
        recorded: Option<Recorded>,
        stored: &Stored,
        lost: &Lost,
    ) -> Result<Loaded> {
        let reached = recorded.map_or(CommitTime::ZERO, |recorded| recorded.flushed_through);
        tracing::warn!(
            partition = %spec, why = lost.why, recorded = reached.0,
            "the manifest is rebuilt from the batch files' footers"
        );
        fail::fail_point!("rebuild::before_footers");
        let (footers, unreadable) = self.footers(storage, spec, &stored.files).await?;
        // What was wrong with the manifest is often what the rebuild misses too.
        let rebuilt =
            rebuild::rebuild(spec, footers, &unreadable, recorded).map_err(|error| error.context(&lost.why))?;
        for (file, error) in &unreadable {
            tracing::warn!(partition = %spec, file, error = error.message(), "a batch file that is not needed is unreadable");
        }
        let found = lost.found.as_deref();
        let known = self.cache.floor(spec).map_or(0, |seen| seen.version);
        let version = known.max(recorded.map_or(0, |recorded| recorded.version)).max(found.map_or(0, |m| m.version));
        let numbers = stored.files.keys().filter_map(|name| batch_file_number(name));
        let max_batch = numbers.max().unwrap_or(0).max(found.map_or(0, |manifest| manifest.max_batch));
        let mut manifest = self.empty(spec, spec.incarnation, version + 1, max_batch);
        manifest.flushed_through = rebuilt.flushed_through;
        manifest.deletions_complete_from = rebuilt.deletions_complete_from;
        manifest.batches = rebuilt.batches;
        let tag = stored.manifest.as_ref().map(|(_, tag)| tag.clone());
        Ok(Loaded { is_stored: false, ..Loaded::new(manifest, tag, true) })
    }

    /// The footers of the incarnation's files, without their bitmaps, and the files whose footers cannot be read.
    async fn footers(
        &self,
        storage: &Arc<Storage>,
        spec: &PartitionSpec,
        files: &BTreeMap<String, u64>,
    ) -> Result<(Vec<BatchFooter>, Vec<(String, Error)>)> {
        let counters = IoCounters::default();
        let batches = files.iter().filter_map(|(name, bytes)| Some((batch_file_number(name)?, name, *bytes)));
        let reads: Vec<_> =
            batches.map(|(number, name, bytes)| footer_of(storage, spec, number, name, bytes, &counters)).collect();
        let mut reads = futures::stream::iter(reads).buffered(FOOTERS_AT_ONCE);
        let (mut footers, mut unreadable) = (Vec::new(), Vec::new());
        while let Some(read) = reads.try_next().await? {
            match read {
                Ok(footer) => footers.extend(footer),
                Err(problem) => unreadable.push(problem),
            }
        }
        Ok((footers, unreadable))
    }
}

/// The footer of a file if it is of the incarnation, without its bitmaps.
async fn footer_of(
    storage: &Arc<Storage>,
    spec: &PartitionSpec,
    number: u64,
    name: &str,
    bytes: u64,
    counters: &IoCounters,
) -> Result<Read> {
    let path = spec.path();
    match read_footer(storage, path.as_str(), name, bytes, counters).await {
        Ok(footer) if footer.about.entry.incarnation != spec.incarnation => Ok(Ok(None)),
        Ok(footer) if footer.about.entry.number == number && footer.about.scope == spec.scope => {
            Ok(Ok(Some(BatchFooter { tombstones: Default::default(), superseding: Default::default(), ..footer })))
        }
        Ok(_) => {
            let why = "its footer is another file's";
            Ok(Err((name.to_owned(), crate::failure::corrupt(&path.file(name), why))))
        }
        Err(error) if error.kind() == ErrorKind::Corrupt => Ok(Err((name.to_owned(), error))),
        Err(error) => Err(error),
    }
}
