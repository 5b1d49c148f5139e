//! Batch files: immutable Parquet files of one partition, sorted by `_id`.
//!
//! A file holds, in this order: `_id`, the user's columns of one schema version (Parquet field id = column id,
//! name = the column's name at that version), `_updated`, `_deleted`, `_born`. After the row groups come the key
//! indexes ([`key_index`]), then the Bloom filters' and page indexes' usual places, then the footer with what
//! [`footer`] adds to it.
//!
//! | module | holds |
//! |---|---|
//! | [`writer`] | writing one file with bounded memory, and its manifest entry |
//! | [`footer`] | what the footer says beyond Parquet, and its validation |
//! | [`file`](mod@file) | an open file: footer, ranges, rows by position |
//! | [`lookup`] | positions by `_id` and by unique key |
//! | [`recent`] | the Bloom filters that a file was asked for last |
//! | [`key_index`] | from the hash of a key to positions |
//! | [`physical`] | values as Parquet's Bloom filters and our keys see them |
//! | [`bounds`] | minimum and maximum of a column for the manifest |

pub(crate) mod bounds;
pub mod file;
pub mod footer;
pub(crate) mod key_index;
pub(crate) mod lookup;
pub(crate) mod physical;
mod recent;
pub mod writer;

use std::sync::Arc;

use arrow::datatypes::{Field, Schema};
use kalamdb_commons::ids::ColumnId;
use kalamdb_commons::schema::Column;
use kalamdb_commons::system_columns::SystemColumns;
use kalamdb_commons::types::SchemaRef;
use parquet::arrow::PARQUET_FIELD_ID_META_KEY;

pub use file::BatchFile;
pub use footer::BatchFooter;
pub use physical::KeyValues;
pub use writer::{BatchMeta, BatchWriter, Group};

/// A column of a batch file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BatchColumn {
    /// `_id`.
    Id,
    /// A column of the user's.
    Column(ColumnId),
    /// `_updated`.
    Updated,
    /// `_deleted`.
    Deleted,
    /// `_born`.
    Born,
}

/// The Arrow schema of a batch file whose user columns are `columns`.
pub fn batch_schema(columns: &[Column]) -> SchemaRef {
    let mut fields = vec![SystemColumns::id_field()];
    fields.extend(columns.iter().map(user_field));
    fields.extend([SystemColumns::updated_field(), SystemColumns::deleted_field(), SystemColumns::born_field()]);
    Arc::new(Schema::new(fields))
}

fn user_field(column: &Column) -> Field {
    // Nullable in every file: a deletion keeps its last values, which may be older than a NOT NULL.
    let field = column.column_type.field(&column.name, true);
    let mut metadata = field.metadata().clone();
    metadata.insert(PARQUET_FIELD_ID_META_KEY.to_owned(), column.id.to_string());
    field.with_metadata(metadata)
}

/// Where a column of a batch file with these user columns is, or `None` if the file has no such column.
pub fn column_index(columns: &[Column], column: BatchColumn) -> Option<usize> {
    match column {
        BatchColumn::Id => Some(0),
        BatchColumn::Column(id) => columns.iter().position(|column| column.id == id).map(|index| index + 1),
        BatchColumn::Updated => Some(columns.len() + 1),
        BatchColumn::Deleted => Some(columns.len() + 2),
        BatchColumn::Born => Some(columns.len() + 3),
    }
}
