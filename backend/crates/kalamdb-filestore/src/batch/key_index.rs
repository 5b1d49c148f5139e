//! From the hash of a unique key to the positions that may hold it.
//!
//! A random key tells nothing about where in a file sorted by `_id` its row is, and a Bloom filter says only that it
//! may be there. So the file carries, for each unique key, its rows' hashes with their positions, in order of the
//! hash and cut into buckets: a lookup reads one bucket of about 2 KiB and then one page of the key's columns to make
//! sure.
//!
//! An entry is the hash's low 32 bits and the position, both little-endian. The upper 32 bits choose the bucket. The
//! directory has 8 bytes for each bucket: how many entries end before its end, and the low 32 bits of the hash of
//! the bucket's bytes, because a bucket that lost an entry would let a duplicate key in.

use std::ops::Range;

use twox_hash::XxHash64;

/// Bytes of an entry, and of a directory entry.
pub(crate) const ENTRY_BYTES: usize = 8;
/// Entries that a bucket has on average.
const BUCKET_ENTRIES: usize = 256;

/// The hash of a key's bytes.
pub(crate) fn hash(key: &[u8]) -> u64 {
    XxHash64::oneshot(0, key)
}

/// The low half of the hash of stored bytes.
pub(crate) fn checksum(bytes: &[u8]) -> u32 {
    hash(bytes) as u32
}

/// How many buckets an index of so many entries has.
fn bucket_count(entries: usize) -> usize {
    entries.div_ceil(BUCKET_ENTRIES).max(1)
}

fn bucket_of(hash: u64, buckets: usize) -> usize {
    (((hash >> 32) * buckets as u64) >> 32) as usize
}

/// Gathers an index while a file is written.
#[derive(Debug, Default)]
pub(crate) struct KeyIndexBuilder {
    entries: Vec<(u64, u32)>,
}

impl KeyIndexBuilder {
    /// Takes in the key of the row at `position`.
    pub(crate) fn add(&mut self, key: &[u8], position: u32) {
        self.entries.push((hash(key), position));
    }

    /// How many keys were taken in.
    pub(crate) fn len(&self) -> usize {
        self.entries.len()
    }

    /// The entries' bytes and the directory's.
    pub(crate) fn finish(mut self) -> (Vec<u8>, Vec<u8>) {
        self.entries.sort_unstable();
        let buckets = bucket_count(self.entries.len());
        let mut entries = Vec::with_capacity(self.entries.len() * ENTRY_BYTES);
        let mut directory = Vec::with_capacity(buckets * ENTRY_BYTES);
        let mut at = 0;
        for bucket in 0..buckets {
            let start = entries.len();
            while at < self.entries.len() && bucket_of(self.entries[at].0, buckets) == bucket {
                let (hash, position) = self.entries[at];
                entries.extend_from_slice(&(hash as u32).to_le_bytes());
                entries.extend_from_slice(&position.to_le_bytes());
                at += 1;
            }
            directory.extend_from_slice(&(at as u32).to_le_bytes());
            directory.extend_from_slice(&checksum(&entries[start..]).to_le_bytes());
        }
        (entries, directory)
    }
}

/// A directory as it is read.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Directory<'a>(&'a [u8]);

impl<'a> Directory<'a> {
    /// Views a directory's bytes, if they are one of an index of so many entries.
    pub(crate) fn new(bytes: &'a [u8], entries: usize) -> Option<Self> {
        if bytes.len() != directory_bytes(entries) {
            return None;
        }
        let directory = Self(bytes);
        let buckets = bytes.len() / ENTRY_BYTES;
        let ends_grow = (1..buckets).all(|bucket| directory.end(bucket - 1) <= directory.end(bucket));
        (ends_grow && directory.end(buckets - 1) == entries).then_some(directory)
    }

    fn word(self, at: usize) -> u32 {
        let bytes = &self.0[at..at + 4];
        u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]])
    }

    fn end(self, bucket: usize) -> usize {
        self.word(bucket * ENTRY_BYTES) as usize
    }

    /// The bucket that holds a hash.
    pub(crate) fn bucket(self, hash: u64) -> usize {
        bucket_of(hash, self.0.len() / ENTRY_BYTES)
    }

    /// Where a bucket's bytes are within the entries' bytes.
    pub(crate) fn range(self, bucket: usize) -> Range<u64> {
        let start = bucket.checked_sub(1).map_or(0, |before| self.end(before));
        (start * ENTRY_BYTES) as u64..(self.end(bucket) * ENTRY_BYTES) as u64
    }

    /// Whether a bucket's bytes are those that were written.
    pub(crate) fn is_sound(self, bucket: usize, bytes: &[u8]) -> bool {
        self.word(bucket * ENTRY_BYTES + 4) == checksum(bytes)
    }
}

/// How long the directory of an index of so many entries is.
pub(crate) fn directory_bytes(entries: usize) -> usize {
    bucket_count(entries) * ENTRY_BYTES
}

/// The positions in a bucket under a hash.
pub(crate) fn positions(bucket: &[u8], hash: u64) -> impl Iterator<Item = u32> {
    let low = (hash as u32).to_le_bytes();
    bucket
        .chunks_exact(ENTRY_BYTES)
        .filter(move |entry| entry[..4] == low)
        .map(|entry| u32::from_le_bytes([entry[4], entry[5], entry[6], entry[7]]))
}

#[cfg(test)]
mod tests;
