//! The row format (persisted; see `FORMAT_VERSION` in [`rocks`](crate::rocks)), Arrow to bytes and back.
//!
//! ```text
//! header    _updated i64 | _born i64 | schema version u32 | flags u8        all little-endian
//! nulls     one bit per column of the version, 1 is NULL
//! fixed     one slot per column of fixed width, in order, zero if NULL
//! ends      one u32 per column of variable length, in order: where its bytes end
//! bytes     of the columns of variable length
//! ```
//!
//! A row holds the user's columns of the schema version that it names; where a slot lies follows from the version
//! alone. The header has a fixed size and comes first, so that the committer fills it in when it knows the time
//! ([`patch`]), after the payload was encoded by whoever runs the statement. `_id` is in the key.
//!
//! A reader trusts nothing: bytes that cannot be a row give [`StoreError::Corrupt`], never a panic.

pub mod convert;
mod decode;
mod encode;
mod key;
mod layout;

use kalamdb_commons::ids::{CommitTime, SchemaVersion};

pub use self::decode::{Projected, RowDecoder};
pub use self::encode::{BatchEncoder, RowEncoder};
pub use self::key::key_bytes;
use crate::error::{Result, StoreError};

const BORN_AT: usize = 8;
const VERSION_AT: usize = 16;
const FLAGS_AT: usize = 20;
/// The size of a header.
pub const HEADER_BYTES: usize = 21;
const DELETED: u8 = 1;

/// What stands in front of every row.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RowHeader {
    /// `_updated`.
    pub updated: CommitTime,
    /// `_born`.
    pub born: CommitTime,
    /// Whether this version deletes the row.
    pub deleted: bool,
    /// The schema version of the payload.
    pub schema_version: SchemaVersion,
}

/// The header of a row.
#[inline]
pub fn header(value: &[u8]) -> Result<RowHeader> {
    let Some((header, _)) = value.split_first_chunk::<HEADER_BYTES>() else {
        return Err(StoreError::corrupt(format!("a row of {} bytes has no header", value.len())));
    };
    let flags = header[FLAGS_AT];
    if flags & !DELETED != 0 {
        return Err(StoreError::corrupt(format!("a row has the unknown flags {flags:#04x}")));
    }
    let number = |at: usize| i64::from_le_bytes(std::array::from_fn(|i| header[at + i]));
    Ok(RowHeader {
        updated: CommitTime(number(0)),
        born: CommitTime(number(BORN_AT)),
        deleted: flags & DELETED != 0,
        schema_version: SchemaVersion(u32::from_le_bytes(std::array::from_fn(|i| header[VERSION_AT + i]))),
    })
}

/// Fills in what only the committer knows.
pub fn patch(value: &mut [u8], updated: CommitTime, born: CommitTime) -> Result<()> {
    if value.len() < HEADER_BYTES {
        return Err(StoreError::corrupt(format!("a row of {} bytes has no header", value.len())));
    }
    value[..BORN_AT].copy_from_slice(&updated.0.to_le_bytes());
    value[BORN_AT..VERSION_AT].copy_from_slice(&born.0.to_le_bytes());
    Ok(())
}

/// The deletion of a row: the same values, and the flag. Its times are those of `value` until they are patched.
pub fn reencode_deleted(value: &[u8]) -> Result<Vec<u8>> {
    header(value)?;
    let mut deletion = value.to_vec();
    deletion[FLAGS_AT] |= DELETED;
    Ok(deletion)
}

#[cfg(test)]
mod tests;
