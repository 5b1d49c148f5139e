//! Arrow columns to rows.

use arrow::array::{Array, ArrayRef, AsArray, BinaryArray, BooleanArray, PrimitiveArray, RecordBatch, StringArray};
use arrow::datatypes::{
    ArrowPrimitiveType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimestampMicrosecondType,
};
use kalamdb_commons::ids::SchemaVersion;
use kalamdb_commons::schema::Column;
use kalamdb_commons::types::ColumnType;

use super::layout::{Layout, Place, Slot};
use super::{DELETED, FLAGS_AT, HEADER_BYTES, VERSION_AT};
use crate::error::{Result, StoreError};

/// Encodes rows of one schema version.
#[derive(Debug)]
pub struct RowEncoder {
    layout: Layout,
    names: Vec<std::sync::Arc<str>>,
    version: SchemaVersion,
}

impl RowEncoder {
    /// An encoder for the columns of a version.
    pub fn new(columns: &[Column], version: SchemaVersion) -> Self {
        let names = columns.iter().map(|column| column.name.clone()).collect();
        Self { layout: Layout::new(columns), names, version }
    }

    /// Prepares the columns of a batch: exactly the user's columns of the version, in schema order and of the
    /// Arrow types of their column types.
    pub fn batch<'a>(&'a self, batch: &'a RecordBatch) -> Result<BatchEncoder<'a>> {
        self.prepare(batch.columns(), batch.num_rows())
    }

    /// The same without a batch around the columns.
    pub fn columns<'a>(&'a self, columns: &'a [ArrayRef]) -> Result<BatchEncoder<'a>> {
        let rows = columns.first().map_or(0, |column| column.len());
        self.prepare(columns, rows)
    }

    /// Appends one row to `out`. For many rows, [`Self::batch`] prepares once.
    pub fn encode(&self, columns: &[ArrayRef], row: usize, deleted: bool, out: &mut Vec<u8>) -> Result<()> {
        self.prepare(columns, row + 1)?.encode(row, deleted, out)
    }

    fn prepare<'a>(&'a self, columns: &'a [ArrayRef], rows: usize) -> Result<BatchEncoder<'a>> {
        if columns.len() != self.layout.slots.len() {
            let (given, expected) = (columns.len(), self.layout.slots.len());
            return Err(StoreError::schema(format!("{given} columns were given, the table has {expected}")));
        }
        let typed = self.layout.slots.iter().zip(columns).zip(&self.names).map(|((slot, column), name)| {
            if column.len() < rows {
                return Err(StoreError::schema(format!("column '{name}' has {} of {rows} rows", column.len())));
            }
            Values::new(slot.column_type, column).ok_or_else(|| {
                let (given, expected) = (column.data_type(), slot.column_type.arrow());
                StoreError::schema(format!("column '{name}' is {given}, not {expected}"))
            })
        });
        Ok(BatchEncoder { encoder: self, columns: typed.collect::<Result<_>>()?, rows })
    }
}

/// Encodes the rows of one batch.
#[derive(Debug)]
pub struct BatchEncoder<'a> {
    encoder: &'a RowEncoder,
    columns: Vec<Values<'a>>,
    rows: usize,
}

impl BatchEncoder<'_> {
    /// The row with empty times, which [`patch`](super::patch) fills in.
    pub fn row(&self, row: usize, deleted: bool) -> Result<Vec<u8>> {
        let mut out = Vec::new();
        self.encode(row, deleted, &mut out)?;
        Ok(out)
    }

    /// Appends the row to `out`.
    pub fn encode(&self, row: usize, deleted: bool, out: &mut Vec<u8>) -> Result<()> {
        if row >= self.rows {
            return Err(StoreError::schema(format!("row {row} of a batch of {} rows", self.rows)));
        }
        let layout = &self.encoder.layout;
        let bytes: usize = self.columns.iter().map(|column| column.bytes(row)).sum();
        if u32::try_from(bytes).is_err() {
            return Err(StoreError::TooLarge { what: "a row" });
        }
        let start = out.len();
        out.reserve(layout.bytes_at + bytes);
        out.resize(start + layout.bytes_at, 0);
        for (slot, column) in layout.slots.iter().zip(&self.columns) {
            put(layout, slot, column, row, start, out);
        }
        let fixed = &mut out[start..];
        fixed[VERSION_AT..FLAGS_AT].copy_from_slice(&self.encoder.version.0.to_le_bytes());
        fixed[FLAGS_AT] = if deleted { DELETED } else { 0 };
        Ok(())
    }
}

#[inline]
fn put(layout: &Layout, slot: &Slot, column: &Values<'_>, row: usize, start: usize, out: &mut Vec<u8>) {
    let null = column.is_null(row);
    if null {
        out[start + HEADER_BYTES + slot.null / 8] |= 1 << (slot.null % 8);
    }
    match slot.place {
        Place::Fixed(_) if null => {}
        Place::Fixed(at) => column.put_fixed(row, &mut out[start + at..]),
        Place::Variable(index) => {
            if !null {
                out.extend_from_slice(column.variable(row));
            }
            let end = (out.len() - start - layout.bytes_at) as u32;
            let end_at = start + layout.ends_at + 4 * index;
            out[end_at..end_at + 4].copy_from_slice(&end.to_le_bytes());
        }
    }
}

/// A column, downcast once.
#[derive(Debug)]
enum Values<'a> {
    Boolean(&'a BooleanArray),
    SmallInt(&'a PrimitiveArray<Int16Type>),
    Int(&'a PrimitiveArray<Int32Type>),
    BigInt(&'a PrimitiveArray<Int64Type>),
    Float(&'a PrimitiveArray<Float32Type>),
    Double(&'a PrimitiveArray<Float64Type>),
    Decimal(&'a PrimitiveArray<Decimal128Type>),
    Date(&'a PrimitiveArray<Date32Type>),
    Time(&'a PrimitiveArray<Time64MicrosecondType>),
    Timestamp(&'a PrimitiveArray<TimestampMicrosecondType>),
    Text(&'a StringArray),
    Bytes(&'a BinaryArray),
}

macro_rules! each {
    ($self:expr, $array:ident => $body:expr) => {
        match $self {
            Values::Boolean($array) => $body,
            Values::SmallInt($array) => $body,
            Values::Int($array) => $body,
            Values::BigInt($array) => $body,
            Values::Float($array) => $body,
            Values::Double($array) => $body,
            Values::Decimal($array) => $body,
            Values::Date($array) => $body,
            Values::Time($array) => $body,
            Values::Timestamp($array) => $body,
            Values::Text($array) => $body,
            Values::Bytes($array) => $body,
        }
    };
}

impl<'a> Values<'a> {
    /// `None` if the array is not of exactly the type's Arrow type.
    fn new(column_type: ColumnType, array: &'a ArrayRef) -> Option<Self> {
        fn primitive<T: ArrowPrimitiveType>(array: &ArrayRef) -> Option<&PrimitiveArray<T>> {
            array.as_primitive_opt()
        }
        if *array.data_type() != column_type.arrow() {
            return None;
        }
        Some(match column_type {
            ColumnType::Boolean => Self::Boolean(array.as_boolean_opt()?),
            ColumnType::SmallInt => Self::SmallInt(primitive(array)?),
            ColumnType::Int => Self::Int(primitive(array)?),
            ColumnType::BigInt => Self::BigInt(primitive(array)?),
            ColumnType::Float => Self::Float(primitive(array)?),
            ColumnType::Double => Self::Double(primitive(array)?),
            ColumnType::Decimal(..) => Self::Decimal(primitive(array)?),
            ColumnType::Date => Self::Date(primitive(array)?),
            ColumnType::Time => Self::Time(primitive(array)?),
            ColumnType::Timestamp | ColumnType::DateTime => Self::Timestamp(primitive(array)?),
            ColumnType::Text | ColumnType::Uuid | ColumnType::Json => Self::Text(array.as_string_opt()?),
            ColumnType::Bytes => Self::Bytes(array.as_binary_opt()?),
        })
    }

    #[inline]
    fn is_null(&self, row: usize) -> bool {
        each!(self, array => array.is_null(row))
    }

    /// How many bytes of variable length the value has.
    #[inline]
    fn bytes(&self, row: usize) -> usize {
        match self {
            Self::Text(array) if array.is_valid(row) => array.value_length(row) as usize,
            Self::Bytes(array) if array.is_valid(row) => array.value_length(row) as usize,
            _ => 0,
        }
    }

    #[inline]
    fn variable(&self, row: usize) -> &'a [u8] {
        match self {
            Self::Text(array) => array.value(row).as_bytes(),
            Self::Bytes(array) => array.value(row),
            _ => &[],
        }
    }

    #[inline]
    fn put_fixed(&self, row: usize, slot: &mut [u8]) {
        macro_rules! put {
            ($array:expr) => {{
                let bytes = $array.value(row).to_le_bytes();
                slot[..bytes.len()].copy_from_slice(&bytes);
            }};
        }
        match self {
            Self::Boolean(array) => slot[0] = u8::from(array.value(row)),
            Self::SmallInt(array) => put!(array),
            Self::Int(array) => put!(array),
            Self::BigInt(array) => put!(array),
            Self::Float(array) => put!(array),
            Self::Double(array) => put!(array),
            Self::Decimal(array) => put!(array),
            Self::Date(array) => put!(array),
            Self::Time(array) => put!(array),
            Self::Timestamp(array) => put!(array),
            Self::Text(_) | Self::Bytes(_) => {}
        }
    }
}
