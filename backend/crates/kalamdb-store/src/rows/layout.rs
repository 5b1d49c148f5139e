//! Where the values of a row of one schema version lie.

use kalamdb_commons::ids::ColumnId;
use kalamdb_commons::schema::Column;
use kalamdb_commons::types::ColumnType;

use super::HEADER_BYTES;

/// The width of a type's slot; `None` for types of variable length.
pub(super) fn width(column_type: ColumnType) -> Option<usize> {
    match column_type {
        ColumnType::Boolean => Some(1),
        ColumnType::SmallInt => Some(2),
        ColumnType::Int | ColumnType::Float | ColumnType::Date => Some(4),
        ColumnType::BigInt | ColumnType::Double | ColumnType::Time | ColumnType::Timestamp | ColumnType::DateTime => {
            Some(8)
        }
        ColumnType::Decimal(..) => Some(16),
        ColumnType::Text | ColumnType::Uuid | ColumnType::Json | ColumnType::Bytes => None,
    }
}

/// Where a column's value lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// In a slot at this offset from the start of the row.
    Fixed(usize),
    /// Among the bytes at the end, this one of the columns of variable length.
    Variable(usize),
}

/// A column of a schema version.
#[derive(Debug, Clone, Copy)]
pub(super) struct Slot {
    pub(super) column: ColumnId,
    pub(super) column_type: ColumnType,
    /// Its bit among the nulls.
    pub(super) null: usize,
    pub(super) place: Place,
}

/// Where everything lies in rows of one schema version.
#[derive(Debug, Clone)]
pub(super) struct Layout {
    pub(super) slots: Vec<Slot>,
    /// Where the ends of values of variable length begin.
    pub(super) ends_at: usize,
    /// Where their bytes begin: the length of a row without them.
    pub(super) bytes_at: usize,
}

impl Layout {
    pub(super) fn new(columns: &[Column]) -> Self {
        let mut at = HEADER_BYTES + columns.len().div_ceil(8);
        let mut variable = 0;
        let mut slots = Vec::with_capacity(columns.len());
        for (null, column) in columns.iter().enumerate() {
            let place = match width(column.column_type) {
                Some(width) => {
                    at += width;
                    Place::Fixed(at - width)
                }
                None => {
                    variable += 1;
                    Place::Variable(variable - 1)
                }
            };
            slots.push(Slot { column: column.id, column_type: column.column_type, null, place });
        }
        Self { slots, ends_at: at, bytes_at: at + 4 * variable }
    }

    pub(super) fn slot(&self, column: ColumnId) -> Option<Slot> {
        self.slots.iter().find(|slot| slot.column == column).copied()
    }

    /// Whether a row is exactly as long as it says it is.
    #[inline]
    pub(super) fn fits(&self, row: &[u8]) -> bool {
        if self.bytes_at == self.ends_at {
            return row.len() == self.bytes_at;
        }
        u32_at(row, self.bytes_at - 4).is_some_and(|end| row.len() - self.bytes_at == end as usize)
    }

    /// The bytes of a value: `Ok(None)` if it is NULL, `Err` if the row does not hold together.
    #[inline]
    pub(super) fn value<'a>(&self, row: &'a [u8], slot: &Slot) -> Result<Option<&'a [u8]>, Damaged> {
        let nulls = row.get(HEADER_BYTES + slot.null / 8).ok_or(Damaged)?;
        if nulls >> (slot.null % 8) & 1 == 1 {
            return Ok(None);
        }
        let bytes = match slot.place {
            Place::Fixed(at) => row.get(at..at + width(slot.column_type).ok_or(Damaged)?),
            Place::Variable(index) => self.variable(row, index),
        };
        bytes.map(Some).ok_or(Damaged)
    }

    #[inline]
    fn variable<'a>(&self, row: &'a [u8], index: usize) -> Option<&'a [u8]> {
        let end_at = self.ends_at + 4 * index;
        let start = if index == 0 { 0 } else { u32_at(row, end_at - 4)? };
        row.get(self.bytes_at..)?.get(start as usize..u32_at(row, end_at)? as usize)
    }
}

/// Bytes that are not what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Damaged;

#[inline]
fn u32_at(row: &[u8], at: usize) -> Option<u32> {
    row.get(at..)?.first_chunk().map(|bytes| u32::from_le_bytes(*bytes))
}
