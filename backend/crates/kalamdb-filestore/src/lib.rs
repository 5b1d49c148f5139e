//! The cold tier: batch files, manifests, Bloom filters, storages.
//!
//! A partition's history is a directory `<namespace>/<table>/<scope>` in its table's storage, with immutable batch
//! files and one manifest that says which of them count.
//!
//! # Modules
//!
//! | module | holds |
//! |---|---|
//! | [`storage`] | where files lie: a directory of the machine, or an object store; exclusive creation, compare-and-set |
//! | [`batch`] | one batch file: writing, footer, rows by position, positions by `_id` and by key |
//! | [`manifest`] | which batch files count: loading, rebuilding, publishing, removing, pruning |
//! | [`partition`] | which partition is meant |
//! | [`io`] | counting what is read |
//!
//! # Write path
//!
//! A flush or compaction reserves numbers in the hot store, then, for each file, [`BatchWriter::create`],
//! [`BatchWriter::write`], [`BatchWriter::finish`]: the file is durable under its name. Then
//! [`ManifestService::publish`]: the manifest is durable. Only then does the caller remove hot rows, and files that
//! were retired once nobody holds them.
//!
//! | after | durable |
//! |---|---|
//! | `BatchWriter::finish` | the file's content, its name, its directories |
//! | `ManifestService::publish`, `publish_empty` | the manifest, by rename and a synced directory, or a conditional PUT |
//! | `ManifestService::remove_files`, `remove_orphans` | that the names are gone |
//!
//! # Read path
//!
//! [`ManifestService::load`] gives the manifest and its [`BatchStatistics`]; the caller opens the [`BatchFile`]s that
//! are left after pruning and holds them as long as it may read them. A scan goes through [`BatchFile::reader`] and
//! DataFusion; a lookup through `positions_of_ids`, `find_keys` and `rows_at`. Footers, page indexes, Bloom filters
//! and pages of ids are kept in one cache with a limit in bytes.
//!
//! # When you change one thing, also touch
//!
//! | change | also |
//! |---|---|
//! | what a footer holds | [`batch::footer`]: encoding, checks and the table of keys; the format version if old readers fail |
//! | a column type | `batch::physical` (bytes), `batch::bounds` (ranges), [`manifest::statistics`] (arrays) |
//! | the order of durable steps | the fail points and the `IMPORTANT:` comments beside them |
//! | the rule of a rebuild | the module page of `manifest::rebuild`, and the design |
//!
//! # What is absent
//!
//! Nothing here decides which row is live: positions are given as they are in the file. Nothing here knows the hot
//! tier; what it recorded comes in as [`Recorded`].

pub mod batch;
pub(crate) mod cache;
pub(crate) mod failure;
pub mod io;
pub mod manifest;
pub mod partition;
pub mod storage;
#[cfg(test)]
mod testing;

pub use batch::file::BatchReader;
pub use batch::lookup::Sought;
pub use batch::{BatchColumn, BatchFile, BatchFooter, BatchMeta, BatchWriter, Group, KeyValues, batch_schema};
pub use io::IoCounters;
pub use manifest::{
    Asked, BatchStatistics, CacheFigures, CachedManifest, ColumnStatistics, Edit, EntryStore, Evicted, FOOTERS_AT_ONCE,
    Finding, Found, Loaded, ManifestService, Orphans, PublishError, Recorded, Removal, Retired, SyncState,
};
pub use partition::PartitionSpec;
pub use storage::{PutError, Storage, StorageCheck, Storages, Tag};
