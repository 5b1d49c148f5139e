//! Manifests: which batch files are a partition's cold tier. [`ManifestService`] is their only reader and writer.
//!
//! | module | holds |
//! |---|---|
//! | [`service`] | loading, publishing, retiring, removing |
//! | [`cache`] | the two levels between planning and storage |
//! | [`validate`] | whether a manifest that was read may be believed |
//! | [`look`] | finding one, for a use or only to look |
//! | [`lost`], [`rebuild`] | a manifest from footers alone: reading them, and the rule |
//! | [`examine`] | whether manifest, files and footers agree |
//! | [`statistics`] | the batches' ranges in columns, for pruning |

pub mod cache;
pub mod examine;
mod look;
pub(crate) mod lost;
pub(crate) mod rebuild;
pub mod service;
pub mod statistics;
pub(crate) mod validate;

pub use cache::{CacheFigures, CachedManifest, EntryStore, Evicted, SyncState};
pub use examine::Finding;
pub use lost::FOOTERS_AT_ONCE;
pub use service::{Asked, Edit, Found, Loaded, ManifestService, Orphans, PublishError, Recorded, Removal, Retired};
pub use statistics::{BatchStatistics, ColumnStatistics};
