//! The memory that reading batch files may use: one budget for parsed footers, page indexes, Bloom filters, key
//! index directories and decoded pages of row ids, and one for open file handles.
//!
//! Entries are keyed by file. A file's name is never used twice, so an entry never goes stale; what belongs to
//! deleted files is simply never asked for again and leaves with the least used.

use std::fs::File;
use std::sync::Arc;

use bytes::Bytes;
use dashmap::DashMap;
use kalamdb_commons::ids::StorageId;
use kalamdb_commons::settings::ColdSettings;
use parquet::bloom_filter::Sbbf;
use twox_hash::XxHash64;

use crate::batch::BatchColumn;
use crate::batch::file::{BatchFile, FileMetadata};
use crate::batch::lookup::ColumnFilters;

/// A file, by a hash of storage and path that no two files share in practice.
pub(crate) type FileKey = u128;

/// The key of a file.
pub(crate) fn file_key(storage: &StorageId, path: &str) -> FileKey {
    let name = format!("{storage}\n{path}");
    let half = |seed| u128::from(XxHash64::oneshot(seed, name.as_bytes()));
    half(1) << 64 | half(2)
}

/// A part of a file that is kept in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Part {
    /// Everything parsed from the footer.
    Metadata,
    /// The Bloom filters of a column.
    Filters(BatchColumn),
    /// The Bloom filter of a unique key of several columns, by its place in the footer.
    KeyFilter(u32),
    /// The directory of a key index, by its place in the footer.
    KeyDirectory(u32),
    /// A decoded page of `_id`, by its place in the file.
    Ids(u32),
}

/// What is kept.
#[derive(Debug, Clone)]
pub(crate) enum Held {
    Metadata(Arc<FileMetadata>),
    Filters(Arc<ColumnFilters>),
    Filter(Arc<Sbbf>),
    Directory(Bytes),
    Ids(Arc<[i64]>),
}

impl Held {
    fn bytes(&self) -> usize {
        64 + match self {
            Self::Metadata(metadata) => metadata.memory_bytes(),
            Self::Filters(filters) => filters.memory_bytes(),
            Self::Filter(filter) => filter.num_blocks() * 32,
            Self::Directory(bytes) => bytes.len(),
            Self::Ids(ids) => ids.len() * 8,
        }
    }
}

/// The caches that all storages share.
#[derive(Debug)]
pub(crate) struct Caches {
    parts: moka::sync::Cache<(FileKey, Part), Held>,
    handles: moka::sync::Cache<FileKey, Arc<File>>,
    /// Batch files that somebody holds. A file in here is not deleted.
    pub(crate) open: DashMap<FileKey, std::sync::Weak<BatchFile>>,
}

impl Caches {
    pub(crate) fn new(settings: &ColdSettings) -> Self {
        Self {
            parts: moka::sync::Cache::builder()
                .max_capacity(settings.metadata_cache_mib.saturating_mul(1 << 20))
                .weigher(|_, held: &Held| u32::try_from(held.bytes()).unwrap_or(u32::MAX))
                .build(),
            handles: moka::sync::Cache::new(settings.open_files_max),
            open: DashMap::new(),
        }
    }

    pub(crate) fn get(&self, file: FileKey, part: Part) -> Option<Held> {
        self.parts.get(&(file, part))
    }

    pub(crate) fn put(&self, file: FileKey, part: Part, held: Held) {
        self.parts.insert((file, part), held);
    }

    pub(crate) fn handle(&self, file: FileKey) -> Option<Arc<File>> {
        self.handles.get(&file)
    }

    pub(crate) fn put_handle(&self, file: FileKey, handle: Arc<File>) {
        self.handles.insert(file, handle);
    }

    /// Forgets a deleted file: its handle would keep its space allocated.
    pub(crate) fn forget(&self, file: FileKey) {
        self.handles.invalidate(&file);
        self.parts.invalidate(&(file, Part::Metadata));
    }

    /// Forgets everything: names of files may mean others from now on.
    pub(crate) fn clear(&self) {
        self.parts.invalidate_all();
        self.handles.invalidate_all();
    }

    /// Whether somebody holds the file.
    pub(crate) fn is_open(&self, file: FileKey) -> bool {
        self.open.get(&file).is_some_and(|weak| weak.strong_count() > 0)
    }
}
