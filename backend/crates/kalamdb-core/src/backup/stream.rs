//! The rows of a STREAM table's partition, and its unique keys: entries of the hot tier as they are, without the part of
//! their keys that says which partition it is.
//!
//! ```text
//! one entry: kind u8 (0 row, 1 unique key) | key bytes u32 | key | value bytes u32 | value      little-endian
//! ```

use bytes::{Buf, BufMut, Bytes, BytesMut};
use kalamdb_commons::digest::Checksum;
use kalamdb_commons::{Error, Result};
use kalamdb_filestore::storage::{FileSum, Upload};
use kalamdb_store::Snapshot;
use kalamdb_store::keys::{self, KeySpace};

use crate::partition::{SCAN_PAGE_BYTES, SCAN_PAGE_ENTRIES};

/// The prefixes of what is kept, by kind.
fn prefixes(space: &KeySpace) -> [Bytes; 2] {
    let [current, _, _, unique] = keys::partition_prefixes(space);
    [current, unique]
}

/// Whether a partition has any row.
pub(super) async fn has_rows(snapshot: &dyn Snapshot, space: &KeySpace) -> Result<bool> {
    let prefix = keys::current_prefix(space);
    let page = snapshot.scan(&prefix, &keys::prefix_end(&prefix), 1, SCAN_PAGE_BYTES).await?;
    Ok(!page.entries.is_empty())
}

/// Writes the entries of a partition to a file, and sums them.
pub(super) async fn dump(
    snapshot: &dyn Snapshot,
    space: &KeySpace,
    upload: &mut Upload,
    mut pace: impl FnMut(u64) -> Result<()>,
) -> Result<FileSum> {
    let (mut sum, mut bytes) = (Checksum::default(), 0);
    for (kind, prefix) in (0u8..).zip(prefixes(space)) {
        let end = keys::prefix_end(&prefix);
        let mut next = Some(prefix.clone());
        while let Some(start) = next {
            let page = snapshot.scan(&start, &end, SCAN_PAGE_ENTRIES, SCAN_PAGE_BYTES).await?;
            let mut out = BytesMut::new();
            for (key, value) in &page.entries {
                out.put_u8(kind);
                put(&mut out, &key[prefix.len()..])?;
                put(&mut out, value)?;
            }
            if !out.is_empty() {
                sum.add(&out);
                bytes += out.len() as u64;
                pace(out.len() as u64)?;
                upload.write(out.freeze()).await?;
            }
            next = page.next;
        }
    }
    Ok(FileSum { sha256: sum.finish(), bytes })
}

fn put(out: &mut BytesMut, bytes: &[u8]) -> Result<()> {
    let length = u32::try_from(bytes.len()).map_err(|_| Error::too_large("an entry of the hot tier"))?;
    out.put_u32_le(length);
    out.put_slice(bytes);
    Ok(())
}

/// Entries as they come out of a file whose pieces need not end where entries do.
#[derive(Debug, Default)]
pub(super) struct Entries {
    left: BytesMut,
}

impl Entries {
    /// Takes the next piece, and gives the entries that are whole, under the keys of another partition.
    pub(super) fn take(&mut self, piece: &[u8], space: &KeySpace) -> Result<Vec<(Bytes, Bytes)>> {
        self.left.extend_from_slice(piece);
        let prefixes = prefixes(space);
        let mut entries = Vec::new();
        while let Some((kind, key, value, taken)) = whole(&self.left) {
            let prefix = prefixes
                .get(usize::from(kind))
                .ok_or_else(|| Error::corrupt(format!("a backup of STREAM rows holds entries of kind {kind}")))?;
            entries.push(([prefix, key].concat().into(), Bytes::copy_from_slice(value)));
            self.left.advance(taken);
        }
        Ok(entries)
    }

    /// Whether nothing is left over.
    pub(super) fn is_at_end(&self) -> bool {
        self.left.is_empty()
    }
}

/// The first entry, if all of it is there, and its length.
fn whole(bytes: &[u8]) -> Option<(u8, &[u8], &[u8], usize)> {
    let (kind, rest) = bytes.split_first()?;
    let (key, rest) = sized(rest)?;
    let (value, rest) = sized(rest)?;
    Some((*kind, key, value, bytes.len() - rest.len()))
}

fn sized(bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (length, rest) = bytes.split_first_chunk::<4>()?;
    rest.split_at_checked(u32::from_le_bytes(*length) as usize)
}
