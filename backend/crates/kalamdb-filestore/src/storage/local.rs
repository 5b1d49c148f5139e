//! A directory of the machine.
//!
//! The life of a file: its directories are made and synced, it is written aside under a temporary name in its
//! directory, synced, linked to its name (which fails if the name is taken), and its directory is synced.
//! A manifest is written aside the same way and renamed over the old one, under a lock of the directory that
//! holds between processes too.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind as IoErrorKind, Write};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use dashmap::DashSet;
use kalamdb_commons::{Error, ErrorKind, Result};
use twox_hash::XxHash64;

use super::{PutError, Tag};
use crate::failure;

/// Ranges at most this far apart are read at once: copying that much is cheaper than another system call.
pub(super) const JOIN_GAP_BYTES: u64 = 16 << 10;
/// Reads of at most this many bytes are done in place; larger ones on a thread that may block.
const INLINE_BYTES_MAX: u64 = 256 << 10;
/// What temporary names have between the name and a number.
const TEMPORARY: &str = ".tmp-";
/// Directories that are remembered as synced.
const SYNCED_MAX: usize = 100_000;

/// A directory of the machine as a storage.
#[derive(Debug, Clone)]
pub struct LocalStorage(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    root: PathBuf,
    /// Directories whose entries in their parents are durable.
    synced: DashSet<PathBuf>,
    /// Temporary files that this process is writing.
    live: DashSet<PathBuf>,
    next_temporary: AtomicU64,
}

impl LocalStorage {
    /// Opens a storage below `root`, which is made if needed.
    ///
    /// # Errors
    /// If the directory cannot be made.
    pub fn open(root: &Path) -> Result<Self> {
        let failed = |error| failure::io("making the directory of the storage", &root.display().to_string(), error);
        fs::create_dir_all(root).map_err(failed)?;
        let root = root.canonicalize().map_err(failed)?;
        // IMPORTANT: the entries of the root's own parents must be durable before any file below counts as durable.
        for ancestor in root.ancestors() {
            if sync_directory(ancestor).is_err() {
                break;
            }
        }
        Ok(Self(Arc::new(Inner {
            root,
            synced: DashSet::new(),
            live: DashSet::new(),
            next_temporary: AtomicU64::new(0),
        })))
    }

    pub(super) fn root(&self) -> &Path {
        &self.0.root
    }

    fn at(&self, path: &str) -> PathBuf {
        self.0.root.join(path)
    }

    /// Runs blocking work on `path` where it may block.
    async fn blocking<T: Send + 'static>(
        &self,
        what: &'static str,
        path: &str,
        work: impl FnOnce(&Inner) -> io::Result<T> + Send + 'static,
    ) -> Result<T> {
        let inner = Arc::clone(&self.0);
        let done = tokio::task::spawn_blocking(move || work(&inner)).await;
        done.map_err(|error| failure::task(what, path, error))?.map_err(|error| failure::io(what, path, error))
    }

    pub(super) async fn create_exclusive(&self, path: &str) -> Result<LocalUpload> {
        let target = self.at(path);
        let name = path.to_owned();
        self.blocking("creating", path, move |inner| {
            if target.exists() {
                return Err(IoErrorKind::AlreadyExists.into());
            }
            inner.make_parent(&target)?;
            let (temporary, file) = inner.create_temporary(&target)?;
            Ok((target, temporary, file))
        })
        .await
        .map(|(target, temporary, file)| LocalUpload {
            storage: self.clone(),
            path: name,
            target,
            temporary,
            file: Some(Arc::new(file)),
        })
    }

    pub(super) fn open_file(&self, path: &str) -> Result<Arc<File>> {
        match File::open(self.at(path)) {
            Ok(file) => Ok(Arc::new(file)),
            Err(error) if error.kind() == IoErrorKind::NotFound => {
                Err(failure::corrupt(path, "the file is missing").with_source(error))
            }
            Err(error) => Err(failure::io("opening", path, error)),
        }
    }

    pub(super) async fn read(&self, path: &str, file: Arc<File>, ranges: &[Range<u64>]) -> Result<Vec<Bytes>> {
        let total: u64 = ranges.iter().map(|range| range.end - range.start).sum();
        let done = if total <= INLINE_BYTES_MAX {
            read_all(&file, ranges)
        } else {
            let ranges = ranges.to_vec();
            let reading = tokio::task::spawn_blocking(move || read_all(&file, &ranges)).await;
            reading.map_err(|error| failure::task("reading", path, error))?
        };
        done.map_err(|error| match error.kind() {
            IoErrorKind::UnexpectedEof => {
                failure::corrupt(path, "it ends before what was to be read").with_source(error)
            }
            _ => failure::io("reading", path, error),
        })
    }

    pub(super) async fn size(&self, path: &str) -> Result<Option<u64>> {
        let target = self.at(path);
        self.blocking("looking at", path, move |_| match fs::metadata(&target) {
            Ok(metadata) if metadata.is_file() => Ok(Some(metadata.len())),
            Ok(_) => Ok(None),
            Err(error) if error.kind() == IoErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        })
        .await
    }

    pub(super) async fn list(&self, directory: &str) -> Result<Vec<(String, u64)>> {
        let target = self.at(directory);
        self.blocking("listing", directory, move |_| {
            let entries = match fs::read_dir(&target) {
                Ok(entries) => entries,
                Err(error) if error.kind() == IoErrorKind::NotFound => return Ok(Vec::new()),
                Err(error) => return Err(error),
            };
            let mut files = Vec::new();
            for entry in entries {
                let entry = entry?;
                let metadata = match entry.metadata() {
                    Ok(metadata) => metadata,
                    Err(error) if error.kind() == IoErrorKind::NotFound => continue,
                    Err(error) => return Err(error),
                };
                if let (true, Ok(name)) = (metadata.is_file(), entry.file_name().into_string()) {
                    files.push((name, metadata.len()));
                }
            }
            Ok(files)
        })
        .await
    }

    pub(super) async fn delete(&self, paths: &[String]) -> Result<()> {
        let Some(first) = paths.first() else { return Ok(()) };
        let targets: Vec<_> = paths.iter().map(|path| self.at(path)).collect();
        self.blocking("deleting", first, move |_| {
            let mut directories = std::collections::BTreeSet::new();
            for target in &targets {
                match fs::remove_file(target) {
                    Ok(()) => directories.extend(target.parent().map(Path::to_owned)),
                    Err(error) if error.kind() == IoErrorKind::NotFound => {}
                    Err(error) => return Err(error),
                }
                fail::fail_point!("storage::after_deletion", |_| Err(IoErrorKind::Other.into()));
            }
            // IMPORTANT: after this a deleted file does not come back, so its number may be forgotten.
            directories.iter().try_for_each(|directory| sync_directory(directory))
        })
        .await
    }

    pub(super) async fn get(&self, path: &str) -> Result<Option<(Bytes, Tag)>> {
        let target = self.at(path);
        self.blocking("reading", path, move |_| Ok(read_tagged(&target)?.map(|(bytes, tag)| (Bytes::from(bytes), tag))))
            .await
    }

    pub(super) async fn put_if(&self, path: &str, bytes: Bytes, expected: Option<&Tag>) -> Result<Tag, PutError> {
        let (inner, target, name) = (Arc::clone(&self.0), self.at(path), path.to_owned());
        let expected = expected.cloned();
        let done = tokio::task::spawn_blocking(move || inner.put_if(&target, &name, &bytes, expected.as_ref())).await;
        done.map_err(|error| failure::task("replacing", path, error))?
    }

    pub(super) fn is_dead_temporary(&self, directory: &str, name: &str) -> bool {
        let path = self.at(directory).join(name);
        // One that was written when it was listed may have its own name by now: it is gone before it is not live.
        name.contains(TEMPORARY) && !self.0.live.contains(&path) && path.exists()
    }
}

impl Inner {
    /// Makes the directory of `target`, and every directory on the way, durably.
    fn make_parent(&self, target: &Path) -> io::Result<()> {
        let Some(directory) = target.parent() else { return Ok(()) };
        if self.synced.contains(directory) {
            return Ok(());
        }
        fs::create_dir_all(directory)?;
        // IMPORTANT: a file in a directory whose own entry is lost in a power cut is lost with it. Every level is
        // synced, made by us or not: who made it may not have synced it yet.
        for level in directory.ancestors().take_while(|level| level.starts_with(&self.root)) {
            sync_directory(level)?;
        }
        if self.synced.len() >= SYNCED_MAX {
            self.synced.clear();
        }
        self.synced.insert(directory.to_owned());
        Ok(())
    }

    /// A new file beside `target`, registered as live.
    fn create_temporary(&self, target: &Path) -> io::Result<(PathBuf, File)> {
        loop {
            let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
            let mut name = target.file_name().unwrap_or_default().to_owned();
            name.push(format!("{TEMPORARY}{}-{number}", std::process::id()));
            let temporary = target.with_file_name(name);
            self.live.insert(temporary.clone());
            match OpenOptions::new().write(true).create_new(true).open(&temporary) {
                Ok(file) => return Ok((temporary, file)),
                Err(error) => {
                    self.live.remove(&temporary);
                    if error.kind() != IoErrorKind::AlreadyExists {
                        return Err(error);
                    }
                }
            }
        }
    }

    fn remove_temporary(&self, temporary: &Path) {
        if let Err(error) = fs::remove_file(temporary)
            && error.kind() != IoErrorKind::NotFound
        {
            tracing::warn!(%error, "a temporary file could not be removed; orphan removal will");
        }
        self.live.remove(temporary);
    }

    fn put_if(&self, target: &Path, name: &str, bytes: &[u8], expected: Option<&Tag>) -> Result<Tag, PutError> {
        let failed = |error| PutError::Failed(failure::io("replacing", name, error));
        self.make_parent(target).map_err(failed)?;
        let _lock = lock_parent(target).map_err(failed)?;
        let found = read_tagged(target).map_err(failed)?.map(|(_, tag)| tag);
        if found.as_ref() != expected {
            return Err(PutError::Conflict);
        }
        let (temporary, mut file) = self.create_temporary(target).map_err(failed)?;
        // IMPORTANT: the content is durable before the name points to it; else a power cut leaves an empty manifest.
        let written = file.write_all(bytes).and_then(|()| file.sync_all());
        let written = written.map_err(failed).and_then(|()| {
            fail::fail_point!("manifest::before_rename", |_| Err(injected(name, "before_rename")));
            fs::rename(&temporary, target).map_err(failed)
        });
        if let Err(error) = written {
            self.remove_temporary(&temporary);
            return Err(error);
        }
        self.live.remove(&temporary);
        fail::fail_point!("manifest::after_rename", |_| Err(injected(name, "after_rename")));
        // IMPORTANT: the rename is durable before the hot rows that it makes garbage are removed.
        if let Err(error) = target.parent().map_or(Ok(()), sync_directory) {
            let unknown = Error::new(
                ErrorKind::OutcomeUnknown,
                format!("'{name}' was replaced, but the disk did not say whether durably"),
            );
            return Err(PutError::Failed(unknown.with_source(error)));
        }
        Ok(tag_of(bytes))
    }
}

fn injected(name: &str, point: &str) -> PutError {
    PutError::Failed(Error::io(format!("replacing '{name}' was stopped by the fail point manifest::{point}")))
}

/// Holds the directory's lock until dropped. The lock is on the directory itself, so that it leaves no file.
fn lock_parent(target: &Path) -> io::Result<File> {
    let directory = File::open(target.parent().unwrap_or(target))?;
    match directory.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => directory.lock()?,
        // Some network file systems have no locks. The lock inside the process is the caller's then.
        Err(TryLockError::Error(error)) if error.kind() == IoErrorKind::Unsupported => {}
        Err(TryLockError::Error(error)) => return Err(error),
    }
    Ok(directory)
}

fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}

fn read_tagged(target: &Path) -> io::Result<Option<(Vec<u8>, Tag)>> {
    match fs::read(target) {
        Ok(bytes) => {
            let tag = tag_of(&bytes);
            Ok(Some((bytes, tag)))
        }
        Err(error) if error.kind() == IoErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

fn tag_of(bytes: &[u8]) -> Tag {
    Tag(format!("{:016x}{:016x}-{}", XxHash64::oneshot(1, bytes), XxHash64::oneshot(2, bytes), bytes.len()))
}

fn read_all(file: &File, ranges: &[Range<u64>]) -> io::Result<Vec<Bytes>> {
    let one = |range: &Range<u64>| {
        let length = usize::try_from(range.end - range.start).map_err(io::Error::other)?;
        let mut buffer = vec![0; length];
        file.read_exact_at(&mut buffer, range.start)?;
        Ok(Bytes::from(buffer))
    };
    ranges.iter().map(one).collect()
}

/// A file that is being written aside.
#[derive(Debug)]
pub(super) struct LocalUpload {
    storage: LocalStorage,
    path: String,
    target: PathBuf,
    temporary: PathBuf,
    /// `None` once finished.
    file: Option<Arc<File>>,
}

impl LocalUpload {
    fn file(&self) -> Arc<File> {
        Arc::clone(self.file.as_ref().unwrap_or_else(|| unreachable!("finishing consumes the upload")))
    }

    pub(super) async fn write(&mut self, bytes: Bytes) -> Result<()> {
        let file = self.file();
        self.storage
            .blocking("writing", &self.path, move |_| {
                fail::fail_point!("storage::write", |_| Err(IoErrorKind::StorageFull.into()));
                (&*file).write_all(&bytes)
            })
            .await
    }

    pub(super) async fn finish(mut self) -> Result<()> {
        let (file, temporary, target) = (self.file(), self.temporary.clone(), self.target.clone());
        self.storage
            .blocking("making durable", &self.path, move |inner| {
                // IMPORTANT: the content is durable before the name exists, and the name before the manifest lists it.
                file.sync_all()?;
                publish_exclusively(&temporary, &target)?;
                inner.remove_temporary(&temporary);
                fail::fail_point!("storage::before_directory_sync", |_| Err(IoErrorKind::Other.into()));
                // IMPORTANT: the entry is durable before the manifest lists the file.
                target.parent().map_or(Ok(()), sync_directory)
            })
            .await?;
        self.file = None;
        Ok(())
    }
}

/// Gives the temporary file its name, unless the name is taken.
fn publish_exclusively(temporary: &Path, target: &Path) -> io::Result<()> {
    match fs::hard_link(temporary, target) {
        Err(error) if matches!(error.kind(), IoErrorKind::Unsupported | IoErrorKind::PermissionDenied) => {
            // A file system without hard links: whoever publishes here holds the directory's lock.
            let _lock = lock_parent(target)?;
            if target.exists() {
                return Err(IoErrorKind::AlreadyExists.into());
            }
            fs::rename(temporary, target)
        }
        done => done,
    }
}

impl Drop for LocalUpload {
    fn drop(&mut self) {
        if self.file.take().is_some() {
            self.storage.0.remove_temporary(&self.temporary);
        }
    }
}
