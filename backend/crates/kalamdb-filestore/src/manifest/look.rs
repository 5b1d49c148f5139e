//! Finding a partition's manifest, through the cache.
//!
//! | who asks | counts as an access | stays in the cache |
//! |---|---|---|
//! | [`ManifestService::look_up`]: a statement | yes | yes |
//! | [`ManifestService::find`]: the server's own work on the partition | no | yes |
//! | [`ManifestService::look`]: the same, to see whether there is work | no | no |
//!
//! Eviction goes by accesses (FR-049): what nobody uses leaves memory and disk, although it is looked at.

use kalamdb_commons::manifest::MANIFEST_FILE;
use kalamdb_commons::{Error, Result};

use super::service::{Asked, Found, Loaded, ManifestService, Recorded};
use super::validate;
use crate::partition::PartitionSpec;
use crate::storage::Storage;

impl ManifestService {
    /// As [`Self::load`], but leaves it to the caller what to do about a manifest that is lost. Nothing is written but
    /// the cache.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub async fn look_up(&self, spec: &PartitionSpec, recorded: Option<Recorded>) -> Result<Found> {
        let found = self.find(spec, recorded).await?;
        if let Found::Ready(loaded, _) = &found {
            self.cache.accessed(loaded, self.now_ms());
        }
        Ok(found)
    }

    /// The same for the server's own work: it is no access.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub async fn find(&self, spec: &PartitionSpec, recorded: Option<Recorded>) -> Result<Found> {
        let now_ms = self.now_ms();
        let fits = |found: &Loaded| recorded.is_none_or(|recorded| recorded.is_reached_by(&found.manifest));
        if let Some(held) = self.cache.fresh(spec, now_ms).await.filter(fits) {
            self.cache.answered(Asked::Cache);
            return Ok(Found::Ready(held, Asked::Cache));
        }
        let confirmed = match self.cache.candidate(spec).await.filter(|(found, _)| fits(found)) {
            Some((found, is_seen)) => self.confirm(spec, recorded, found, is_seen).await?,
            None => None,
        };
        let loaded = match confirmed {
            Some(confirmed) => confirmed,
            None => {
                let storage = self.storages().get(&spec.storage)?;
                // Before storage is read: what is published meanwhile is newer than what is read then, not a floor for it.
                let floor = self.floor(spec, recorded);
                match self.judged(&storage, spec, floor).await?.1 {
                    Ok(loaded) => self.keep(spec, loaded).await,
                    Err(lost) => {
                        if self.cache.floor(spec).is_some() {
                            // Whoever holds the one that this process has seen goes on with it.
                            self.cache.not_confirmed(spec, &Error::corrupt(lost.why.clone()), now_ms);
                        }
                        return Ok(Found::Lost(lost.why));
                    }
                }
            }
        };
        self.cache.answered(Asked::Storage);
        Ok(Found::Ready(loaded, Asked::Storage))
    }

    /// Asks storage whether a cached manifest is still the stored one; `None` if it is not, or its files are not as it
    /// says.
    async fn confirm(
        &self,
        spec: &PartitionSpec,
        recorded: Option<Recorded>,
        found: Loaded,
        is_seen: bool,
    ) -> Result<Option<Loaded>> {
        let storage = self.storages().get(&spec.storage)?;
        match self.is_stored(&storage, spec, recorded, &found, is_seen).await {
            Ok(true) => Ok(Some(self.cache.confirmed(spec, found, self.now_ms()).await)),
            Ok(false) => Ok(None),
            Err(error) if is_seen => {
                self.cache.not_confirmed(spec, &error, self.now_ms());
                Ok(Some(found))
            }
            Err(error) => Err(error),
        }
    }

    /// The manifest of a partition, as [`Self::look_up`] finds it.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub async fn look(&self, spec: &PartitionSpec, recorded: Option<Recorded>) -> Result<Found> {
        let fits = |found: &Loaded| recorded.is_none_or(|recorded| recorded.is_reached_by(&found.manifest));
        if let Some(held) = self.cache.peek(spec, self.now_ms()).await.filter(fits) {
            return Ok(Found::Ready(held, Asked::Cache));
        }
        let storage = self.storages().get(&spec.storage)?;
        if let Some((found, is_seen)) = self.cache.candidate(spec).await.filter(|(found, _)| fits(found))
            && self.is_stored(&storage, spec, recorded, &found, is_seen).await?
        {
            return Ok(Found::Ready(found, Asked::Storage));
        }
        let floor = self.floor(spec, recorded);
        Ok(match self.judged(&storage, spec, floor).await?.1 {
            Ok(loaded) => Found::Ready(loaded, Asked::Storage),
            Err(lost) => Found::Lost(lost.why),
        })
    }

    /// Whether a cached manifest still is the stored one. What this process has not seen yet is validated as if it had
    /// just been read.
    pub(super) async fn is_stored(
        &self,
        storage: &Storage,
        spec: &PartitionSpec,
        recorded: Option<Recorded>,
        found: &Loaded,
        is_seen: bool,
    ) -> Result<bool> {
        let (path, Some(tag)) = (spec.path(), &found.tag) else { return Ok(false) };
        if !storage.is_current(&path.file(MANIFEST_FILE), tag).await? {
            return Ok(false);
        }
        if is_seen {
            return Ok(true);
        }
        let files = storage.list(path.as_str()).await?.into_iter().collect();
        Ok(validate::problem(spec, &found.manifest, &files, recorded).is_none())
    }
}
