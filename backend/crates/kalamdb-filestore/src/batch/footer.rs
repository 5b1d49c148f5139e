//! What a batch file says about itself beyond Parquet, in the key-value metadata of its footer.
//!
//! | key | value |
//! |---|---|
//! | `kalamdb.format_version` | the format, in digits |
//! | `kalamdb.batch` | JSON: table, scope, group, columns, key sections, and the whole manifest entry but its byte size |
//! | `kalamdb.tombstones` | positions of deletions: a roaring bitmap in its portable form, base64 |
//! | `kalamdb.superseding` | positions of rows that replace an older one (`_born <= from`), in the same form |
//!
//! It is enough to write a lost manifest again, entry for entry. Footers come from disk: everything is checked
//! before it is believed, and no byte string makes reading one panic.

use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use kalamdb_commons::ids::{ColumnId, CommitTime, Scope, TableId, TableRef};
use kalamdb_commons::manifest::{self, FORMAT_VERSION, batch_file_name};
use kalamdb_commons::schema::Column;
use parquet::file::metadata::{KeyValue, ParquetMetaData};
use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use super::key_index::{self, ENTRY_BYTES};
use super::writer::Group;
use super::{BatchColumn, column_index};

const FORMAT_KEY: &str = "kalamdb.format_version";
const BATCH_KEY: &str = "kalamdb.batch";
const TOMBSTONES_KEY: &str = "kalamdb.tombstones";
const SUPERSEDING_KEY: &str = "kalamdb.superseding";

/// What a batch file says about itself.
#[derive(Debug, Clone, PartialEq)]
pub struct BatchFooter {
    /// Identity, columns, interval and ranges.
    pub about: About,
    /// Positions of deletions.
    pub tombstones: RoaringBitmap,
    /// Positions of rows that replace an older one: those with `_born <= from`.
    pub superseding: RoaringBitmap,
}

/// The part of the footer that is JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct About {
    /// The table.
    pub table_id: TableId,
    /// Its name when the file was written.
    pub table: TableRef,
    /// Whose partition.
    pub scope: Scope,
    /// Which file of how many that are published together.
    pub group: Group,
    /// Deletions at or after this time are still in this file or a later one.
    pub deletions_complete_from: CommitTime,
    /// The user's columns, in the order of the file.
    pub columns: Vec<Column>,
    /// The unique keys that have an index in the file.
    pub keys: Vec<KeySection>,
    /// The manifest entry. Its `byte_size` is 0 in the file, because it is not known while writing.
    pub entry: manifest::Batch,
}

/// Where the index of a unique key lies in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeySection {
    /// The key's columns, in order.
    pub columns: Vec<ColumnId>,
    /// How many rows have a key: those without NULL in it.
    pub entries: u64,
    /// Where the entries begin.
    pub entries_at: u64,
    /// Where the directory begins.
    pub directory_at: u64,
    /// The low half of the hash of the directory's bytes.
    pub directory_checksum: u32,
    /// The Bloom filter of a key of several columns. A key of one column has the column's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub filter: Option<FilterSection>,
}

/// Where a Bloom filter of ours lies in the file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilterSection {
    /// Where it begins.
    pub at: u64,
    /// How long it is.
    pub bytes: u64,
    /// The low half of the hash of its bytes.
    pub checksum: u32,
}

/// Why a footer is not believed.
#[derive(Debug, thiserror::Error)]
pub enum FooterError {
    /// A key is missing: the file is Parquet, but not one of ours.
    #[error("its footer has no '{0}'")]
    Missing(&'static str),
    /// Written by a later version of the server.
    #[error("it has format version {0}; this build reads up to {FORMAT_VERSION}")]
    Newer(u32),
    /// A value cannot be read.
    #[error("'{0}' in its footer cannot be read")]
    Unreadable(&'static str),
    /// Two statements of the footer contradict each other.
    #[error("its footer contradicts itself: {0}")]
    Contradiction(&'static str),
}

impl BatchFooter {
    /// The user's column of that id, if the file has one.
    pub fn column(&self, id: ColumnId) -> Option<&Column> {
        self.about.columns.iter().find(|column| column.id == id)
    }

    /// Where a column is among the file's columns.
    pub fn column_index(&self, column: BatchColumn) -> Option<usize> {
        column_index(&self.about.columns, column)
    }

    /// The place of the index of exactly this key, columns in this order.
    pub(crate) fn key_section(&self, columns: &[ColumnId]) -> Option<usize> {
        self.about.keys.iter().position(|key| key.columns == columns)
    }

    /// The key-value metadata that says this.
    pub(crate) fn encode(&self) -> Vec<KeyValue> {
        let about = serde_json::to_string(&self.about).unwrap_or_else(|_| unreachable!("plain data has a JSON form"));
        vec![
            KeyValue::new(FORMAT_KEY.to_owned(), FORMAT_VERSION.to_string()),
            KeyValue::new(BATCH_KEY.to_owned(), about),
            KeyValue::new(TOMBSTONES_KEY.to_owned(), encode_bitmap(&self.tombstones)),
            KeyValue::new(SUPERSEDING_KEY.to_owned(), encode_bitmap(&self.superseding)),
        ]
    }

    /// Reads and checks the footer of a file of `file_bytes` bytes.
    ///
    /// # Errors
    /// If something is missing, unreadable, contradictory or of a later format.
    pub fn parse(metadata: &ParquetMetaData, file_bytes: u64) -> Result<Self, FooterError> {
        let format: u32 = value(metadata, FORMAT_KEY)?.parse().map_err(|_| FooterError::Unreadable(FORMAT_KEY))?;
        if format > FORMAT_VERSION {
            return Err(FooterError::Newer(format));
        }
        let about = serde_json::from_str(value(metadata, BATCH_KEY)?);
        let mut about: About = about.map_err(|_| FooterError::Unreadable(BATCH_KEY))?;
        about.entry.byte_size = file_bytes;
        let footer = Self {
            about,
            tombstones: decode_bitmap(metadata, TOMBSTONES_KEY)?,
            superseding: decode_bitmap(metadata, SUPERSEDING_KEY)?,
        };
        footer.check(metadata, file_bytes)?;
        Ok(footer)
    }

    fn check(&self, metadata: &ParquetMetaData, file_bytes: u64) -> Result<(), FooterError> {
        let entry = &self.about.entry;
        let holds = |holds: bool, why| if holds { Ok(()) } else { Err(FooterError::Contradiction(why)) };
        holds(entry.path == batch_file_name(entry.number), "name and number differ")?;
        holds(entry.from < entry.through && entry.from >= CommitTime::ZERO, "the interval ends before it begins")?;
        holds(self.about.group.is_sound(entry.number), "the place in its group is impossible")?;
        let rows: i64 = metadata.row_groups().iter().map(|group| group.num_rows()).sum();
        holds(u64::try_from(rows) == Ok(entry.row_count), "the row counts differ")?;
        holds(entry.row_count <= u64::from(u32::MAX), "it has more rows than positions can name")?;
        let fits = |bitmap: &RoaringBitmap, count: u64| {
            bitmap.len() == count && bitmap.max().is_none_or(|max| u64::from(max) < entry.row_count)
        };
        holds(fits(&self.tombstones, entry.tombstone_count), "the positions of deletions do not fit")?;
        holds(fits(&self.superseding, entry.superseding_count), "the positions of superseding rows do not fit")?;
        holds((entry.row_count == 0) == entry.min_id.is_none(), "the range of ids does not fit")?;
        self.check_columns(metadata)?;
        self.about.keys.iter().try_for_each(|key| self.check_key(key, file_bytes))
    }

    /// The columns are those of the Parquet schema, by field id.
    fn check_columns(&self, metadata: &ParquetMetaData) -> Result<(), FooterError> {
        let fields = metadata.file_metadata().schema_descr().root_schema().get_fields().to_vec();
        let same = fields.len() == self.about.columns.len() + 4
            && self.about.columns.iter().zip(&fields[1..]).all(|(column, field)| {
                let info = field.get_basic_info();
                info.has_id() && u32::try_from(info.id()) == Ok(column.id.0) && *column.name == *field.name()
            });
        if same { Ok(()) } else { Err(FooterError::Contradiction("the columns are not those of the file")) }
    }

    fn check_key(&self, key: &KeySection, file_bytes: u64) -> Result<(), FooterError> {
        let within = |at: u64, bytes: u64| at.checked_add(bytes).is_some_and(|end| end <= file_bytes);
        let entries = usize::try_from(key.entries).unwrap_or(usize::MAX);
        let sound = !key.columns.is_empty()
            && key.entries <= self.about.entry.row_count
            && key.columns.iter().all(|column| self.column(*column).is_some())
            && within(key.entries_at, key.entries * ENTRY_BYTES as u64)
            && within(key.directory_at, key_index::directory_bytes(entries) as u64)
            && key.filter.as_ref().is_none_or(|filter| within(filter.at, filter.bytes));
        if sound { Ok(()) } else { Err(FooterError::Contradiction("a key index lies outside of the file")) }
    }
}

fn value<'a>(metadata: &'a ParquetMetaData, key: &'static str) -> Result<&'a str, FooterError> {
    let pairs = metadata.file_metadata().key_value_metadata().map_or(&[][..], Vec::as_slice);
    let found = pairs.iter().find(|pair| pair.key == key).and_then(|pair| pair.value.as_deref());
    found.ok_or(FooterError::Missing(key))
}

fn encode_bitmap(bitmap: &RoaringBitmap) -> String {
    let mut bytes = Vec::with_capacity(bitmap.serialized_size());
    bitmap.serialize_into(&mut bytes).unwrap_or_else(|_| unreachable!("writing to memory"));
    BASE64.encode(bytes)
}

fn decode_bitmap(metadata: &ParquetMetaData, key: &'static str) -> Result<RoaringBitmap, FooterError> {
    let bytes = BASE64.decode(value(metadata, key)?).map_err(|_| FooterError::Unreadable(key))?;
    RoaringBitmap::deserialize_from(&bytes[..]).map_err(|_| FooterError::Unreadable(key))
}

#[cfg(test)]
mod tests;
