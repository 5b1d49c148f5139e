//! Storages: where batch files and manifests lie, behind one seam with two forms.
//!
//! Promises, for both forms:
//! - A file appears under its name whole or not at all, and a name that exists is never written again
//!   ([`Storage::create_exclusive`]). When [`Upload::finish`] returns, the file survives a power cut.
//! - A manifest changes only by compare-and-set ([`Storage::put_if`]), durably, and readers see the old one or
//!   the new one.
//! - Paths are relative to the storage, with `/` between components that
//!   [`escape_component`](kalamdb_commons::ids::escape_component) made; anything else is refused.
//!
//! The local form writes by itself, because `object_store` does not sync local files.

mod check;
mod copy;
mod local;
mod object;
mod registry;

use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use kalamdb_commons::ids::StorageId;
use kalamdb_commons::{Error, Result};
use parking_lot::RwLock;

use crate::cache::{Caches, FileKey};
use crate::failure;
use crate::io::{self, IoCounters};

pub use check::StorageCheck;
pub use copy::FileSum;
pub use local::LocalStorage;
pub use object::ObjectStorage;
pub use registry::Storages;

/// The id of the storage that always exists.
pub const LOCAL: &str = "local";

/// One storage.
#[derive(Debug)]
pub struct Storage {
    id: StorageId,
    /// Replaced when the way to the storage changes; what lies in it stays the same.
    form: RwLock<Arc<Form>>,
    pub(crate) caches: Arc<Caches>,
}

#[derive(Debug)]
enum Form {
    Local(LocalStorage),
    Object(ObjectStorage),
}

/// Which version of a file was read: an ETag, or for local files a hash of the content.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tag(pub(crate) String);

impl Tag {
    /// The tag as text, for the manifest cache.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// A tag that was kept as text.
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// Why a compare-and-set did not happen.
#[derive(Debug, thiserror::Error)]
pub enum PutError {
    /// The file is not the expected version. Nothing was written.
    #[error("the file was changed by another writer")]
    Conflict,
    /// Storage failed.
    #[error(transparent)]
    Failed(#[from] Error),
}

/// What a storage is, for `system.storages`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StorageDescription {
    /// `filesystem` or `s3`.
    pub kind: &'static str,
    /// The directory, or bucket and prefix.
    pub base: String,
}

/// Where a storage is, for telling whether two are in each other.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Whereabouts {
    Directory(std::path::PathBuf),
    Keys {
        endpoint: String,
        bucket: String,
        prefix: object_store::path::Path,
    },
    /// A store that the caller made.
    Unknown,
}

impl Storage {
    /// Its id.
    pub fn id(&self) -> &StorageId {
        &self.id
    }

    fn form(&self) -> Arc<Form> {
        Arc::clone(&self.form.read())
    }

    /// What it is. For administrators only: it shows where the data lies.
    pub fn describe(&self) -> StorageDescription {
        match &*self.form() {
            Form::Local(local) => StorageDescription { kind: "filesystem", base: local.root().display().to_string() },
            Form::Object(object) => StorageDescription { kind: "s3", base: object.base().to_owned() },
        }
    }

    /// Begins a file that must not exist yet. Nothing is visible under the name before [`Upload::finish`].
    ///
    /// # Errors
    /// If the path is not a safe one, the file exists, or storage fails.
    pub async fn create_exclusive(&self, path: &str) -> Result<Upload> {
        check_path(path)?;
        Ok(Upload(match &*self.form() {
            Form::Local(local) => UploadForm::Local(local.create_exclusive(path).await?),
            Form::Object(object) => UploadForm::Object(Box::new(object.create_exclusive(path).await?)),
        }))
    }

    /// Reads ranges of a file, in the order that they are given. Ranges close together are one request.
    ///
    /// # Errors
    /// Corrupt, naming the file, if it is missing or shorter than asked; I/O otherwise.
    pub async fn read_ranges(&self, path: &str, ranges: &[Range<u64>], counters: &IoCounters) -> Result<Vec<Bytes>> {
        self.read_ranges_of(path, crate::cache::file_key(&self.id, path), ranges, counters).await
    }

    pub(crate) async fn read_ranges_of(
        &self,
        path: &str,
        key: FileKey,
        ranges: &[Range<u64>],
        counters: &IoCounters,
    ) -> Result<Vec<Bytes>> {
        let gap = match &*self.form() {
            Form::Local(_) => local::JOIN_GAP_BYTES,
            Form::Object(_) => object::JOIN_GAP_BYTES,
        };
        let joined = io::join(ranges, gap);
        if joined.is_empty() {
            return Ok(vec![Bytes::new(); ranges.len()]);
        }
        counters.read(&joined);
        let answers = match &*self.form() {
            Form::Local(local) => {
                let handle = match self.caches.handle(key) {
                    Some(handle) => handle,
                    None => {
                        let handle = local.open_file(path)?;
                        self.caches.put_handle(key, Arc::clone(&handle));
                        handle
                    }
                };
                local.read(path, handle, &joined).await?
            }
            Form::Object(object) => object.read(path, &joined).await?,
        };
        io::cut(ranges, &joined, &answers).ok_or_else(|| failure::corrupt(path, "it is shorter than its index says"))
    }

    /// The size of a file, or `None` if there is none.
    ///
    /// # Errors
    /// If storage fails.
    pub async fn size(&self, path: &str) -> Result<Option<u64>> {
        check_path(path)?;
        match &*self.form() {
            Form::Local(local) => local.size(path).await,
            Form::Object(object) => object.size(path).await,
        }
    }

    /// Whether there is such a file.
    ///
    /// # Errors
    /// If storage fails.
    pub async fn exists(&self, path: &str) -> Result<bool> {
        Ok(self.size(path).await?.is_some())
    }

    /// The files directly in a directory, with their sizes, by name. A directory that does not exist is empty.
    ///
    /// # Errors
    /// If storage fails.
    pub async fn list(&self, directory: &str) -> Result<Vec<(String, u64)>> {
        check_path(directory)?;
        let mut files = match &*self.form() {
            Form::Local(local) => local.list(directory).await?,
            Form::Object(object) => object.list(directory).await?,
        };
        files.sort_unstable();
        Ok(files)
    }

    /// Deletes files, durably. One that does not exist is no error.
    ///
    /// # Errors
    /// If storage fails; some of the files may be gone then.
    pub async fn delete(&self, paths: &[String]) -> Result<()> {
        for path in paths {
            check_path(path)?;
            self.caches.forget(crate::cache::file_key(&self.id, path));
        }
        match &*self.form() {
            Form::Local(local) => local.delete(paths).await,
            Form::Object(object) => object.delete(paths).await,
        }
    }

    /// Reads a whole small file with the tag of its version, or `None` if there is none.
    ///
    /// # Errors
    /// If storage fails.
    pub async fn get(&self, path: &str) -> Result<Option<(Bytes, Tag)>> {
        check_path(path)?;
        match &*self.form() {
            Form::Local(local) => local.get(path).await,
            Form::Object(object) => object.get(path).await,
        }
    }

    /// Whether a small file still is the version of this tag, by as little reading as the storage allows.
    ///
    /// # Errors
    /// If storage fails.
    pub async fn is_current(&self, path: &str, tag: &Tag) -> Result<bool> {
        check_path(path)?;
        match &*self.form() {
            Form::Local(local) => Ok(local.get(path).await?.is_some_and(|(_, found)| found == *tag)),
            Form::Object(object) => object.is_current(path, tag).await,
        }
    }

    /// Replaces a file if it still is the version `expected`, or makes it if there is none and `expected` is
    /// `None`. Durable when it returns.
    ///
    /// # Errors
    /// [`PutError::Conflict`] if the file is another version; nothing was written then.
    pub async fn put_if(&self, path: &str, bytes: Bytes, expected: Option<&Tag>) -> Result<Tag, PutError> {
        check_path(path)?;
        match &*self.form() {
            Form::Local(local) => local.put_if(path, bytes, expected).await,
            Form::Object(object) => object.put_if(path, bytes, expected).await,
        }
    }

    /// Whether a name in a listing is a file of an upload that did not end, which is still there and which nobody in this
    /// process writes.
    pub(crate) fn is_dead_temporary(&self, directory: &str, name: &str) -> bool {
        match &*self.form() {
            Form::Local(local) => local.is_dead_temporary(directory, name),
            Form::Object(_) => false,
        }
    }
}

/// A file that is being written.
#[derive(Debug)]
pub struct Upload(UploadForm);

#[derive(Debug)]
enum UploadForm {
    Local(local::LocalUpload),
    Object(Box<object::ObjectUpload>),
}

impl Upload {
    /// Appends. Memory stays bounded by a few such pieces.
    ///
    /// # Errors
    /// If storage fails; the upload is of no use then and leaves nothing behind.
    pub async fn write(&mut self, bytes: Bytes) -> Result<()> {
        match &mut self.0 {
            UploadForm::Local(upload) => upload.write(bytes).await,
            UploadForm::Object(upload) => upload.write(bytes).await,
        }
    }

    /// Makes the file visible under its name and durable, directory entries included.
    ///
    /// # Errors
    /// [`ErrorKind::AlreadyExists`](kalamdb_commons::ErrorKind::AlreadyExists) if the name was taken meanwhile. I/O if
    /// storage fails: should the file be there nevertheless, it is whole, and nothing refers to it.
    pub async fn finish(self) -> Result<()> {
        match self.0 {
            UploadForm::Local(upload) => upload.finish().await,
            UploadForm::Object(upload) => upload.finish().await,
        }
    }

    /// Gives up and removes what was written. Dropping an upload does the same, as far as it can.
    pub async fn abort(self) {
        match self.0 {
            UploadForm::Local(upload) => drop(upload),
            UploadForm::Object(upload) => upload.abort().await,
        }
    }
}

/// Refuses a path that could leave its storage. Paths are made of escaped components, so this only ever stops a
/// mistake of ours.
fn check_path(path: &str) -> Result<()> {
    let safe = |part: &str| !part.is_empty() && part != "." && part != ".." && !part.contains(['\\', '\0']);
    if path.is_empty() || !path.split('/').all(safe) {
        return Err(Error::internal(format!("'{path}' is not a path within a storage")));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
