//! A cache of this node that survives restarts, apart from the shard's data.
//!
//! It is not durable in the sense of a commit: a power cut may lose the last changes, and whoever reads it after a
//! start checks what it finds. The manifest cache lives here (FR-031 to FR-053).

use std::fmt::Debug;

use async_trait::async_trait;
use bytes::Bytes;

use crate::error::Result;
use crate::shard::Page;

/// A persistent cache with ordered keys.
#[async_trait]
pub trait NodeCache: Send + Sync + Debug {
    /// The entry of a key.
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>>;

    /// Sets an entry. Not synced.
    async fn put(&self, key: &[u8], value: &[u8]) -> Result<()>;

    /// Removes an entry, which need not exist. Not synced.
    async fn delete(&self, key: &[u8]) -> Result<()>;

    /// At most `max_entries` entries in order of their keys, from `start` on.
    async fn iterate(&self, start: &[u8], max_entries: usize) -> Result<Page>;
}
