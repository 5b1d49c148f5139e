//! What a backup consists of. Persisted: fields that a description lacks have defaults, and later formats are refused.

use kalamdb_commons::digest::sha256;
use kalamdb_commons::ids::{CommitTime, Incarnation, Scope};
use kalamdb_commons::manifest;
use kalamdb_commons::schema::Table;
use kalamdb_commons::{Error, Result};
use kalamdb_filestore::storage::FileSum;
use serde::{Deserialize, Serialize};

use crate::catalog::{Namespace, View};

/// The format that this build writes, and the greatest that it reads.
const FORMAT_VERSION: u32 = 1;
const FORMAT: &str = "kalamdb-backup";

/// A file of a backup.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct StoredFile {
    /// Its path within the place.
    pub(crate) path: String,
    /// What it holds.
    #[serde(flatten)]
    pub(crate) sum: FileSum,
}

/// A batch of a partition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct StoredBatch {
    /// Where it is.
    pub(crate) file: StoredFile,
    /// What its manifest said of it.
    pub(crate) entry: manifest::Batch,
}

impl StoredBatch {
    /// The directory that the file lies in.
    pub(crate) fn directory(&self) -> &str {
        self.file.path.rsplit_once('/').map_or("", |(directory, _)| directory)
    }
}

/// A partition at the moment of the backup.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct StoredPartition {
    /// Of which table.
    pub(crate) incarnation: Incarnation,
    /// Whose.
    pub(crate) scope: Scope,
    /// Through when its batches reach.
    pub(crate) flushed_through: CommitTime,
    /// Since when deletions are complete.
    pub(crate) deletions_complete_from: CommitTime,
    /// Its batches, in the order of their intervals.
    pub(crate) batches: Vec<StoredBatch>,
    /// The rows of a STREAM table.
    #[serde(default)]
    pub(crate) rows: Option<StoredFile>,
}

impl StoredPartition {
    /// Every file of it.
    pub(crate) fn files(&self) -> impl Iterator<Item = &StoredFile> {
        self.batches.iter().map(|batch| &batch.file).chain(&self.rows)
    }
}

/// A backup.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Description {
    /// See [`FORMAT_VERSION`].
    pub(crate) format_version: u32,
    /// Its id: the commit time, and something that no other has. Later ones are greater.
    pub(crate) id: String,
    /// Which database it is of: one that no other has.
    pub(crate) origin: String,
    /// Of which namespace.
    pub(crate) namespace: Namespace,
    /// U: it is the state at this moment.
    pub(crate) commit_time: CommitTime,
    /// When it was made, RFC 3339, for people.
    pub(crate) created_at: String,
    /// The tables with all versions of their schemas.
    pub(crate) tables: Vec<Table>,
    /// The views.
    pub(crate) views: Vec<View>,
    /// The partitions that hold anything.
    pub(crate) partitions: Vec<StoredPartition>,
}

impl Description {
    /// A description of the present format that holds nothing yet.
    pub(crate) fn new(id: String, origin: String, namespace: Namespace, at: CommitTime, created_at: String) -> Self {
        Self {
            format_version: FORMAT_VERSION,
            id,
            origin,
            namespace,
            commit_time: at,
            created_at,
            tables: Vec::new(),
            views: Vec::new(),
            partitions: Vec::new(),
        }
    }

    /// Every file of it.
    pub(crate) fn files(&self) -> impl Iterator<Item = &StoredFile> {
        self.partitions.iter().flat_map(StoredPartition::files)
    }
}

/// The first line of a stored description; the rest is the description.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Described {
    format: String,
    #[serde(flatten)]
    sum: FileSum,
}

impl Described {
    /// A description as it is stored.
    pub(crate) fn seal(description: &Description) -> Result<Vec<u8>> {
        let no_json = |error| Error::internal("the description of a backup has no JSON form").with_source(error);
        let body = serde_json::to_vec_pretty(description).map_err(no_json)?;
        let head = Self { format: FORMAT.to_owned(), sum: FileSum::of(&body) };
        let mut sealed = serde_json::to_vec(&head).map_err(no_json)?;
        sealed.push(b'\n');
        sealed.extend(body);
        Ok(sealed)
    }

    /// Reads what [`Self::seal`] wrote.
    ///
    /// # Errors
    /// Corrupt, naming the file, if any byte of it is not as it was written.
    pub(crate) fn open(name: &str, bytes: &[u8]) -> Result<Description> {
        let damaged = |why: &str| Error::corrupt(format!("the description '{name}' of a backup {why}"));
        let at = bytes.iter().position(|byte| *byte == b'\n').ok_or_else(|| damaged("was cut"))?;
        let (head, body) = (&bytes[..at], &bytes[at + 1..]);
        let head: Self = serde_json::from_slice(head).map_err(|_| damaged("has no head that can be read"))?;
        if head.format != FORMAT {
            return Err(damaged("is of something else"));
        }
        if body.len() as u64 != head.sum.bytes || sha256(body) != head.sum.sha256 {
            return Err(damaged("was cut or changed since it was written"));
        }
        let version: Version = serde_json::from_slice(body).map_err(|_| damaged("cannot be read"))?;
        if version.format_version > FORMAT_VERSION {
            return Err(Error::invalid_input(format!(
                "the backup '{name}' has format {}; this build reads up to {FORMAT_VERSION}",
                version.format_version
            )));
        }
        serde_json::from_slice(body).map_err(|error| damaged("cannot be read").with_source(error))
    }
}

/// What every format says.
#[derive(Deserialize)]
struct Version {
    format_version: u32,
}

#[cfg(test)]
mod tests;
