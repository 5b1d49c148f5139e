//! A shard of the hot tier, as the rest of the system sees it.
//!
//! The embedded form is [`RocksShard`](crate::RocksShard). The trait is async and every commit carries an owner
//! token, so that a shard can later live in an object store and change its owner.

use std::fmt::Debug;
use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;
use kalamdb_commons::settings::Durability;

use crate::error::Result;

/// A shard.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ShardId(pub u16);

/// The right to write to a shard. The epoch grows by one each time the shard is opened, durably, so that a commit
/// of an owner who has been replaced is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct OwnerToken {
    /// The shard.
    pub shard: ShardId,
    /// Which opening of it.
    pub epoch: u64,
}

/// One change of the keyspace.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// The key has the value from now on.
    Put {
        /// The key.
        key: Bytes,
        /// The value.
        value: Bytes,
    },
    /// The key is absent from now on.
    Delete {
        /// The key.
        key: Bytes,
    },
}

/// Changes that happen together or not at all, in order: of two changes of one key the later wins.
#[derive(Debug, Default, Clone)]
pub struct Batch {
    ops: Vec<Op>,
    bytes: usize,
}

impl Batch {
    /// An empty batch with room for `ops` changes.
    pub fn with_capacity(ops: usize) -> Self {
        Self { ops: Vec::with_capacity(ops), bytes: 0 }
    }

    /// Sets a key.
    pub fn put(&mut self, key: impl Into<Bytes>, value: impl Into<Bytes>) {
        let (key, value) = (key.into(), value.into());
        self.bytes += key.len() + value.len();
        self.ops.push(Op::Put { key, value });
    }

    /// Removes a key, which need not exist.
    pub fn delete(&mut self, key: impl Into<Bytes>) {
        let key = key.into();
        self.bytes += key.len();
        self.ops.push(Op::Delete { key });
    }

    /// Adds the changes of another batch behind those of this one.
    pub fn append(&mut self, mut other: Self) {
        self.bytes += other.bytes;
        self.ops.append(&mut other.ops);
    }

    /// How many changes.
    pub fn len(&self) -> usize {
        self.ops.len()
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        self.ops.is_empty()
    }

    /// The bytes of all keys and values.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The changes, in order.
    pub fn ops(&self) -> &[Op] {
        &self.ops
    }
}

/// What a store occupies now.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct StoreUsage {
    /// Write buffers in memory.
    pub memtable_bytes: u64,
    /// Block cache in memory, without write buffers that are charged to it.
    pub cache_bytes: u64,
    /// Data files on disk.
    pub file_bytes: u64,
    /// Write-ahead log on disk.
    pub log_bytes: u64,
    /// Snapshots that are held.
    pub snapshots: u64,
}

impl StoreUsage {
    /// The bytes of hot data: what flushing and removing can lower.
    pub fn hot_bytes(&self) -> u64 {
        self.memtable_bytes + self.file_bytes
    }
}

/// What a store has done since it was opened. Counted where it happens, never estimated.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct StoreCounters {
    /// Batches that were acknowledged.
    pub commits: u64,
    /// Syncs of the write-ahead log.
    pub syncs: u64,
    /// Bytes written to the write-ahead log.
    pub bytes: u64,
}

/// A page of an ordered read.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Page {
    /// Keys and values in order. They share one allocation: who keeps a few of them for long copies them.
    pub entries: Vec<(Bytes, Bytes)>,
    /// Where the next page starts; `None` if this was the last.
    pub next: Option<Bytes>,
}

/// One shard of the hot tier.
#[async_trait]
pub trait ShardStore: Send + Sync + Debug {
    /// The token of this opening of the shard.
    fn token(&self) -> OwnerToken;

    /// How durable an acknowledged commit is.
    fn durability(&self) -> Durability;

    /// What it has done since it was opened.
    fn counters(&self) -> StoreCounters;

    /// Whether it takes writes: not after a failed one until it has reopened, and not after it was closed.
    fn is_writable(&self) -> bool;

    /// Writes the batch atomically, and returns when it is as durable as [`Self::durability`] promises.
    ///
    /// [`Fenced`](crate::StoreError::Fenced) and [`Poisoned`](crate::StoreError::Poisoned) have written nothing.
    /// After [`OutcomeUnknown`](crate::StoreError::OutcomeUnknown), a failed sync above all, the batch may appear
    /// after the next [`Self::reopen`] or not; until then writes are refused and reads go on. Dropping the future
    /// does not stop a write that has begun.
    async fn commit(&self, token: OwnerToken, batch: Batch) -> Result<()>;

    /// Everything that was committed before the call is on disk when it returns, whatever the durability. Cheap
    /// when commits are synced anyway.
    async fn sync(&self) -> Result<()>;

    /// The newest state, held stable until the last reference is dropped.
    async fn snapshot(&self) -> Result<Arc<dyn Snapshot>>;

    /// Removes every key with one of the prefixes, durably, and returns when no file of the store holds bytes of
    /// such keys or their values any more.
    ///
    /// New snapshots see the removal at once. The bytes can go only when no snapshot from before the removal is
    /// held: that is waited for a few seconds, then answered with
    /// [`SnapshotsHeld`](crate::StoreError::SnapshotsHeld), and the call is to be repeated later. One call with
    /// many prefixes is far cheaper than many calls. Nobody may write keys of these prefixes meanwhile. A full
    /// sweep of the files: not for everyday removal, which deletes keys in a [`Batch`].
    async fn scrub_all(&self, prefixes: &[Bytes]) -> Result<()>;

    /// [`Self::scrub_all`] of one prefix.
    async fn scrub(&self, prefix: &[u8]) -> Result<()> {
        self.scrub_all(&[Bytes::copy_from_slice(prefix)]).await
    }

    /// Writes every file anew, the node's cache included: when this returns, no file of the store holds bytes of a key
    /// or value that was removed or replaced before the call. Snapshots from before the call are waited for as in
    /// [`Self::scrub_all`]; other commits go on meanwhile.
    async fn rewrite(&self) -> Result<()>;

    /// What it occupies now.
    async fn usage(&self) -> Result<StoreUsage>;

    /// Closes and opens the store again after a failed write, so that writes can go on. The token stays the same.
    /// Snapshots from before are lost: their reads fail with [`SnapshotLost`](crate::StoreError::SnapshotLost).
    /// Every commit that was acknowledged is there afterwards, and what is there is on disk. Does nothing to a
    /// store that works.
    async fn reopen(&self) -> Result<()>;

    /// Syncs and closes. Everything afterwards fails with [`Closed`](crate::StoreError::Closed).
    async fn close(&self) -> Result<()>;
}

/// A stable state of a shard. Owned: it can be kept and sent anywhere, and holds disk space while it lives.
#[async_trait]
pub trait Snapshot: Send + Sync + Debug {
    /// The value of a key.
    async fn get(&self, key: &[u8]) -> Result<Option<Bytes>>;

    /// The values of keys, in the order of the keys.
    async fn get_many(&self, keys: &[Bytes]) -> Result<Vec<Option<Bytes>>>;

    /// A page of the entries with `start <= key < end`, in order: at most `max_entries` (at least one), and no
    /// more once their keys and values have reached `max_bytes`. An empty `end` is the end of the keyspace.
    async fn scan(&self, start: &[u8], end: &[u8], max_entries: usize, max_bytes: usize) -> Result<Page>;
}
