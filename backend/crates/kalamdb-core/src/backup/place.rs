//! Where backups lie: `'/a/directory'`, or `'storage/a/path'` within a storage, apart from the tables there.

use std::path::Path;
use std::sync::Arc;

use kalamdb_commons::ids::StorageId;
use kalamdb_commons::{Error, Result};
use kalamdb_filestore::Storage;

use super::description::{Described, Description};
use crate::engine::Engine;

/// The part of a storage that backups lie in. No namespace's directory has a dot in its name.
const WITHIN_STORAGES: &str = "kalamdb.backups";
/// The directory of descriptions.
const DESCRIPTIONS: &str = "backups";

/// A place for backups.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    pub(crate) storage: Arc<Storage>,
    prefix: String,
}

impl Place {
    /// The place that a statement names. A directory is made if `make` says so.
    ///
    /// # Errors
    /// `InvalidInput` for a path that is none, or that is within the data directory or a storage; `NotFound` if there is
    /// no such storage or directory.
    pub(crate) fn open(engine: &Engine, text: &str, make: bool) -> Result<Self> {
        let storages = engine.cold().manifests().storages();
        if text.starts_with('/') {
            if !make && !Path::new(text).is_dir() {
                return Err(Error::not_found(format!("there is no directory '{text}' on the server's machine")));
            }
            // Of its own for each use: nothing is remembered of files that people may move.
            let id = StorageId::new(&format!("backup-{}", engine.secrets().unique_name()))?;
            return Ok(Self { storage: storages.directory(id, text)?, prefix: String::new() });
        }
        let (id, path) = text.split_once('/').unwrap_or((text, ""));
        let is_sound = |part: &str| {
            let sound = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
            !part.is_empty() && part != "." && part != ".." && part.chars().all(sound)
        };
        let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
        if !parts.iter().all(|part| is_sound(part)) {
            return Err(Error::invalid_input(format!(
                "'{text}' is no place for backups: write '/an/absolute/directory', or 'storage/path' with letters, \
                 digits, '-', '_' and '.'"
            )));
        }
        let storage = storages.get(&StorageId::new(id)?)?;
        let prefix = [&[WITHIN_STORAGES], parts.as_slice()].concat().join("/");
        Ok(Self { storage, prefix: format!("{prefix}/") })
    }

    /// Where a path of a backup lies in the storage.
    pub(crate) fn at(&self, path: &str) -> String {
        format!("{}{path}", self.prefix)
    }

    /// The newest backup; `None` if there is none.
    ///
    /// # Errors
    /// Corrupt if its description was cut or changed.
    pub(crate) async fn newest(&self) -> Result<Option<Description>> {
        let mut descriptions = self.storage.list(&self.at(DESCRIPTIONS)).await?;
        descriptions.retain(|(name, _)| name.ends_with(".json"));
        let Some((name, _)) = descriptions.last() else { return Ok(None) };
        let path = self.at(&format!("{DESCRIPTIONS}/{name}"));
        let Some((bytes, _)) = self.storage.get(&path).await? else { return Ok(None) };
        Described::open(name, &bytes).map(Some)
    }

    /// Stores a description: from here on the backup is one.
    pub(crate) async fn describe(&self, description: &Description) -> Result<()> {
        let path = self.at(&format!("{DESCRIPTIONS}/{}.json", description.id));
        self.storage.write_new(&path, Described::seal(description)?.into()).await
    }
}
