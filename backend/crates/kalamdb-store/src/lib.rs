//! The hot tier: what people write now, in one ordered keyspace per shard.
//!
//! Above this crate there are no column families, range deletes or RocksDB transactions. There is an atomic and
//! durable [`Batch`], a stable owned [`Snapshot`] with point and ordered reads, a [`scrub`](ShardStore::scrub)
//! after which no file holds the bytes, and durability as a fact rather than a hope.
//!
//! | module | holds |
//! |---|---|
//! | [`shard`] | the traits [`ShardStore`] and [`Snapshot`], owner tokens, batches |
//! | [`node_cache`] | [`NodeCache`]: a node-local cache that survives restarts, apart from the data |
//! | [`rocks`] | the embedded form of both: the only code that names RocksDB |
//! | [`keys`] | the key layout, and the small values under keys that are not rows |
//! | [`rows`] | the row format: Arrow to bytes, bytes to Arrow, keys of unique constraints |
//! | [`error`] | [`StoreError`], and what the caller of a statement is told |
//!
//! **Write path.** [`rows::RowEncoder`] turns the columns of a statement into row values with an empty header;
//! the committer compares, assigns commit times, fills the headers in with [`rows::patch`], collects current
//! rows, superseded versions, change-log entries and unique keys into one [`Batch`], and hands it to
//! [`ShardStore::commit`]. What that returns from is as durable as [`ShardStore::durability`] says.
//!
//! **Read path.** One [`Snapshot`] per published commit. A point read is [`keys::current`] and
//! [`Snapshot::get`]; a scan is pages of [`Snapshot::scan`] over [`keys::current_prefix`], pushed into a
//! [`rows::RowDecoder`], which builds only the projected columns.
//!
//! **When you change X, also touch Y.**
//! - The row format or the key layout: raise `FORMAT_VERSION` in `rocks`, and keep reading the old form.
//! - A [`ColumnType`](kalamdb_commons::types::ColumnType): the layout in [`rows`], both codecs,
//!   [`rows::convert`] and [`rows::key_bytes`]; the proptests run over all types.
//! - A kind of key: [`keys::partition_prefixes`], or erasing a partition leaves it behind.
//! - [`ShardStore`]: the contract suite in `tests/contract.rs`, which every form of the trait must pass.

pub mod error;
pub mod keys;
pub mod node_cache;
pub mod rocks;
pub mod rows;
pub mod shard;

pub use error::StoreError;
pub use node_cache::NodeCache;
pub use rocks::RocksShard;
pub use shard::{Batch, Op, OwnerToken, Page, ShardId, ShardStore, Snapshot, StoreCounters, StoreUsage};
