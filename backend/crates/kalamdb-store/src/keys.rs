//! The key layout of a shard (persisted; see `FORMAT_VERSION` in [`rocks`](crate::rocks)).
//!
//! ```text
//! rows      hash16 | kind u8 | incarnation u32 | scope | ...
//!   'R'  current rows         ... _id                      -> row
//!   'V'  superseded versions  ... _id | _updated           -> row
//!   'L'  change log           ... _updated                 -> ChangeEntry
//!   'K'  unique keys          ... key id u32 | key bytes   -> UniqueEntry
//! system    0 u16 | 1 u8 | kind of record, terminated | name
//! ```
//!
//! All numbers are big-endian, and signed ones have their sign flipped, so that the order of bytes is the order of
//! values. A scope is `1` for shared, or `2`, the user id escaped (`00` as `00 FF`) and `00 00`: no scope is a
//! prefix of another. The hash spreads partitions over the keyspace: of namespace and user for a user's partition,
//! so that one user's tables lie together, of the table id for a shared one. It is computed from the table's name
//! at CREATE, so a namespace is never renamed under hot rows.

use bytes::{BufMut, Bytes};
use kalamdb_commons::ids::{CommitTime, Incarnation, PartitionId, RowId, Scope, TableId, TableRef, UserId};
use serde::{Deserialize, Serialize};

use crate::error::{Result, StoreError};

const SYSTEM: u8 = 1;
const CURRENT: u8 = b'R';
const SUPERSEDED: u8 = b'V';
const CHANGE: u8 = b'L';
const UNIQUE: u8 = b'K';

const SCOPE_SHARED: u8 = 1;
const SCOPE_USER: u8 = 2;
const TERMINATOR: [u8; 2] = [0, 0];

/// The kind of system records under which partition records lie.
pub const PARTITION_RECORDS: &str = "partition";

const HASH_BYTES: usize = 2;
const KIND_AT: usize = HASH_BYTES;
const NUMBER_BYTES: usize = 8;

/// Where the keys of one partition lie.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct KeySpace {
    hash: u16,
    partition: PartitionId,
    /// Incarnation and scope, encoded: what follows the kind in every key of the partition.
    place: Bytes,
}

impl KeySpace {
    /// The key space of a table's partition.
    pub fn new(table: &TableRef, id: TableId, partition: &PartitionId) -> Self {
        let mut place = Vec::with_capacity(32);
        put_place(&mut place, partition);
        Self { hash: hash_of(table, id, &partition.scope), partition: partition.clone(), place: place.into() }
    }

    /// The partition.
    pub fn partition(&self) -> &PartitionId {
        &self.partition
    }

    /// The first two bytes of its keys, as a number.
    pub fn hash(&self) -> u16 {
        self.hash
    }

    fn key(&self, kind: u8, tail_bytes: usize) -> Vec<u8> {
        let mut key = Vec::with_capacity(HASH_BYTES + 1 + self.place.len() + tail_bytes);
        key.put_u16(self.hash);
        key.put_u8(kind);
        key.put_slice(&self.place);
        key
    }
}

/// FNV-1a, folded to 16 bits. Persisted in keys: it never changes.
fn hash_of(table: &TableRef, id: TableId, scope: &Scope) -> u16 {
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    let mut feed = |bytes: &[u8]| {
        for byte in bytes {
            hash = (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3);
        }
    };
    match scope {
        Scope::Shared => feed(&id.0.to_be_bytes()),
        Scope::User(user) => {
            feed(table.namespace.as_str().as_bytes());
            feed(&[0]);
            feed(user.as_str().as_bytes());
        }
    }
    (hash ^ (hash >> 16) ^ (hash >> 32) ^ (hash >> 48)) as u16
}

fn put_place(out: &mut Vec<u8>, partition: &PartitionId) {
    out.put_u32(partition.incarnation.0);
    match &partition.scope {
        Scope::Shared => out.put_u8(SCOPE_SHARED),
        Scope::User(user) => {
            out.put_u8(SCOPE_USER);
            put_terminated(out, user.as_str().as_bytes());
        }
    }
}

/// Bytes such that none is a prefix of another and their order is kept.
pub(crate) fn put_terminated(out: &mut Vec<u8>, bytes: &[u8]) {
    for byte in bytes {
        out.push(*byte);
        if *byte == 0 {
            out.push(0xff);
        }
    }
    out.extend_from_slice(&TERMINATOR);
}

/// Reads what [`put_terminated`] wrote, and returns it with what follows.
fn take_terminated(mut from: &[u8]) -> Option<(Vec<u8>, &[u8])> {
    let mut bytes = Vec::with_capacity(from.len());
    loop {
        match from {
            [0, 0, rest @ ..] => return Some((bytes, rest)),
            [0, 0xff, rest @ ..] => {
                bytes.push(0);
                from = rest;
            }
            [0, ..] | [] => return None,
            [byte, rest @ ..] => {
                bytes.push(*byte);
                from = rest;
            }
        }
    }
}

/// A number whose bytes sort as it does.
fn ordered(number: i64) -> u64 {
    (number as u64) ^ (1 << 63)
}

fn number_before(key: &[u8], from_end: usize) -> Option<i64> {
    let end = key.len().checked_sub(from_end)?;
    let bytes = key.get(end.checked_sub(NUMBER_BYTES)?..end)?;
    Some((u64::from_be_bytes(bytes.try_into().ok()?) ^ (1 << 63)) as i64)
}

/// The key of a row's current version.
pub fn current(space: &KeySpace, row: RowId) -> Bytes {
    let mut key = space.key(CURRENT, NUMBER_BYTES);
    key.put_u64(ordered(row.0));
    key.into()
}

/// The prefix of all current rows of a partition, which are in order of `_id` under it.
pub fn current_prefix(space: &KeySpace) -> Bytes {
    space.key(CURRENT, 0).into()
}

/// The key of a superseded version of a row.
pub fn superseded(space: &KeySpace, row: RowId, updated: CommitTime) -> Bytes {
    let mut key = space.key(SUPERSEDED, 2 * NUMBER_BYTES);
    key.put_u64(ordered(row.0));
    key.put_u64(ordered(updated.0));
    key.into()
}

/// The prefix of all superseded versions of a row, oldest first under it.
pub fn superseded_row_prefix(space: &KeySpace, row: RowId) -> Bytes {
    let mut key = space.key(SUPERSEDED, NUMBER_BYTES);
    key.put_u64(ordered(row.0));
    key.into()
}

/// The prefix of all superseded versions of a partition.
pub fn superseded_prefix(space: &KeySpace) -> Bytes {
    space.key(SUPERSEDED, 0).into()
}

/// The key of a change-log entry.
pub fn change(space: &KeySpace, updated: CommitTime) -> Bytes {
    let mut key = space.key(CHANGE, NUMBER_BYTES);
    key.put_u64(ordered(updated.0));
    key.into()
}

/// The prefix of a partition's change log, which is in commit order under it.
pub fn change_prefix(space: &KeySpace) -> Bytes {
    space.key(CHANGE, 0).into()
}

/// The key of an entry of a unique key. `key` is what [`key_bytes`](crate::rows::key_bytes) gave.
pub fn unique(space: &KeySpace, key_id: u32, key: &[u8]) -> Bytes {
    let mut out = space.key(UNIQUE, 4 + key.len());
    out.put_u32(key_id);
    out.put_slice(key);
    out.into()
}

/// The prefix of all entries of one unique key of a partition.
pub fn unique_prefix(space: &KeySpace, key_id: u32) -> Bytes {
    unique(space, key_id, &[])
}

/// The prefixes that together hold every key of a partition except its partition record: what erasing it scrubs.
pub fn partition_prefixes(space: &KeySpace) -> [Bytes; 4] {
    [CURRENT, SUPERSEDED, CHANGE, UNIQUE].map(|kind| space.key(kind, 0).into())
}

/// The key of a system record: a table, an account, a job, a ceiling. The kind `shard` is the store's own.
pub fn system(kind: &str, name: &str) -> Bytes {
    system_bytes(kind, name.as_bytes()).into()
}

/// The prefix of all system records of a kind, which are in order of their names under it.
pub fn system_prefix(kind: &str) -> Bytes {
    system_bytes(kind, &[]).into()
}

fn system_bytes(kind: &str, name: &[u8]) -> Vec<u8> {
    let mut key = Vec::with_capacity(8 + kind.len() + name.len());
    key.put_u16(0);
    key.put_u8(SYSTEM);
    put_terminated(&mut key, kind.as_bytes());
    key.put_slice(name);
    key
}

/// The kind and the name of a system record.
pub fn system_name_of(key: &[u8]) -> Result<(String, String)> {
    let parse = || {
        let (kind, name) = take_terminated(key.strip_prefix(&[0, 0, SYSTEM])?)?;
        Some((String::from_utf8(kind).ok()?, String::from_utf8(name.to_vec()).ok()?))
    };
    parse().ok_or_else(|| damaged_key("a system record", key))
}

/// The key of a partition's record.
pub fn partition_record(space: &KeySpace) -> Bytes {
    system_bytes(PARTITION_RECORDS, &space.place).into()
}

/// The prefix of the records of all partitions of one incarnation of a table.
pub fn partition_records_prefix(incarnation: Incarnation) -> Bytes {
    system_bytes(PARTITION_RECORDS, &incarnation.0.to_be_bytes()).into()
}

/// The prefix of the records of all partitions.
pub fn all_partition_records_prefix() -> Bytes {
    system_prefix(PARTITION_RECORDS)
}

/// The partition whose record a key is.
pub fn partition_of(key: &[u8]) -> Result<PartitionId> {
    parse_partition(key).ok_or_else(|| damaged_key("a partition record", key))
}

fn parse_partition(key: &[u8]) -> Option<PartitionId> {
    let place = key.strip_prefix(&*all_partition_records_prefix())?;
    let (incarnation, scope) = place.split_at_checked(4)?;
    let scope = match scope {
        [SCOPE_SHARED] => Scope::Shared,
        [SCOPE_USER, user @ ..] => {
            let (user, []) = take_terminated(user)? else { return None };
            Scope::User(UserId::new(std::str::from_utf8(&user).ok()?).ok()?)
        }
        _ => return None,
    };
    Some(PartitionId { incarnation: Incarnation(u32::from_be_bytes(incarnation.try_into().ok()?)), scope })
}

/// The `_id` in the key of a current row or of a superseded version.
pub fn row_id_of(key: &[u8]) -> Result<RowId> {
    let number = match key.get(KIND_AT) {
        Some(&CURRENT) => number_before(key, 0),
        Some(&SUPERSEDED) => number_before(key, NUMBER_BYTES),
        _ => None,
    };
    number.map(RowId).ok_or_else(|| damaged_key("a row", key))
}

/// The `_updated` in the key of a superseded version.
pub fn superseded_time_of(key: &[u8]) -> Result<CommitTime> {
    time_of(key, SUPERSEDED).ok_or_else(|| damaged_key("a superseded version", key))
}

/// The `_updated` in the key of a change-log entry.
pub fn change_time_of(key: &[u8]) -> Result<CommitTime> {
    time_of(key, CHANGE).ok_or_else(|| damaged_key("a change-log entry", key))
}

fn time_of(key: &[u8], kind: u8) -> Option<CommitTime> {
    (key.get(KIND_AT) == Some(&kind)).then(|| number_before(key, 0).map(CommitTime))?
}

fn damaged_key(of: &str, key: &[u8]) -> StoreError {
    StoreError::corrupt(format!("{} bytes are not the key of {of}", key.len()))
}

/// The least key above every key with the prefix; empty, which means the end of the keyspace, if there is none.
pub fn prefix_end(prefix: &[u8]) -> Bytes {
    let kept = prefix.iter().rposition(|byte| *byte != 0xff).map_or(0, |last| last + 1);
    let mut end = prefix.get(..kept).unwrap_or_default().to_vec();
    if let Some(last) = end.last_mut() {
        *last += 1;
    }
    end.into()
}

/// What the hot tier knows of a partition besides its rows.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartitionRecord {
    /// The table's name.
    pub table: TableRef,
    /// The newest manifest version that hot rows were removed for. An older manifest is stale and never served.
    pub manifest_version: u64,
    /// F of that manifest.
    pub flushed_through: CommitTime,
    /// The highest batch number that was reserved. It is never used again.
    pub reserved_batch: u64,
    /// Change-log entries at or below it are gone.
    pub change_log_trimmed_through: CommitTime,
}

impl PartitionRecord {
    /// As it is stored.
    pub fn encode(&self) -> Bytes {
        serde_json::to_vec(self).unwrap_or_else(|_| unreachable!("numbers and names are always JSON")).into()
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn decode(value: &[u8]) -> Result<Self> {
        serde_json::from_slice(value).map_err(|e| StoreError::corrupt(format!("a partition record: {e}")))
    }
}

/// What a commit did to a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ChangeKind {
    /// It exists now.
    Insert,
    /// It has other values now.
    Update,
    /// It is gone now.
    Delete,
}

/// An entry of the change log: from it the new row (current or superseded) and the old row are found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangeEntry {
    /// The row.
    pub row_id: RowId,
    /// What happened to it.
    pub kind: ChangeKind,
    /// The `_updated` of the version before, if there was one.
    pub previous: Option<CommitTime>,
    /// Whether the same commit goes on: another entry of it follows in this partition.
    pub open: bool,
}

/// The bit beside the kind that says that the commit goes on.
const OPEN: u8 = 0x80;

impl ChangeEntry {
    /// As it is stored: the kind, with a bit for a commit that goes on, `_id`, and `_updated` of the version before if
    /// there is one.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(1 + 2 * NUMBER_BYTES);
        let kind = match self.kind {
            ChangeKind::Insert => 1,
            ChangeKind::Update => 2,
            ChangeKind::Delete => 3,
        };
        out.put_u8(if self.open { kind | OPEN } else { kind });
        out.put_i64_le(self.row_id.0);
        if let Some(previous) = self.previous {
            out.put_i64_le(previous.0);
        }
        out.into()
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn decode(value: &[u8]) -> Result<Self> {
        Self::parse(value).ok_or_else(|| StoreError::corrupt("a change-log entry"))
    }

    fn parse(value: &[u8]) -> Option<Self> {
        let (kind, rest) = value.split_first()?;
        let open = kind & OPEN != 0;
        let kind = match kind & !OPEN {
            1 => ChangeKind::Insert,
            2 => ChangeKind::Update,
            3 => ChangeKind::Delete,
            _ => return None,
        };
        let (row, previous) = rest.split_at_checked(NUMBER_BYTES)?;
        let previous = match previous {
            [] => None,
            bytes => Some(CommitTime(i64::from_le_bytes(bytes.try_into().ok()?))),
        };
        Some(Self { row_id: RowId(i64::from_le_bytes(row.try_into().ok()?)), kind, previous, open })
    }
}

/// The value of a unique key's entry: which version of which row holds the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UniqueEntry {
    /// The row.
    pub row_id: RowId,
    /// Its version.
    pub updated: CommitTime,
}

impl UniqueEntry {
    /// As it is stored.
    pub fn encode(&self) -> Bytes {
        let mut out = Vec::with_capacity(2 * NUMBER_BYTES);
        out.put_i64_le(self.row_id.0);
        out.put_i64_le(self.updated.0);
        out.into()
    }

    /// Reads what [`Self::encode`] wrote.
    pub fn decode(value: &[u8]) -> Result<Self> {
        Self::parse(value).ok_or_else(|| StoreError::corrupt("an entry of a unique key"))
    }

    fn parse(value: &[u8]) -> Option<Self> {
        let (row, updated) = value.split_at_checked(NUMBER_BYTES)?;
        Some(Self {
            row_id: RowId(i64::from_le_bytes(row.try_into().ok()?)),
            updated: CommitTime(i64::from_le_bytes(updated.try_into().ok()?)),
        })
    }
}

#[cfg(test)]
mod tests;
