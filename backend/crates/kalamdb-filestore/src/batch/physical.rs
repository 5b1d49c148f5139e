//! Values as bytes, in Parquet's plain form: what its Bloom filters hash, and what makes two keys equal.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimeUnit, TimestampMicrosecondType, TimestampNanosecondType,
};
use kalamdb_commons::{Error, Result};

/// A column of values that can be asked for their bytes.
#[derive(Debug)]
pub(crate) struct PhysicalColumn<'a> {
    array: &'a ArrayRef,
    form: Form<'a>,
}

#[derive(Debug)]
enum Form<'a> {
    Boolean(&'a arrow::array::BooleanArray),
    I16(&'a [i16]),
    I32(&'a [i32]),
    I64(&'a [i64]),
    F32(&'a [f32]),
    F64(&'a [f64]),
    /// Unscaled values, and how many bytes Parquet gives them at this precision.
    Decimal(&'a [i128], usize),
    Text(&'a arrow::array::StringArray),
    Bytes(&'a arrow::array::BinaryArray),
}

impl<'a> PhysicalColumn<'a> {
    /// Views an array of one of the column types.
    pub(crate) fn new(array: &'a ArrayRef) -> Result<Self> {
        let form = match array.data_type() {
            DataType::Boolean => Form::Boolean(array.as_boolean()),
            DataType::Int16 => Form::I16(array.as_primitive::<Int16Type>().values()),
            DataType::Int32 => Form::I32(array.as_primitive::<Int32Type>().values()),
            DataType::Date32 => Form::I32(array.as_primitive::<Date32Type>().values()),
            DataType::Int64 => Form::I64(array.as_primitive::<Int64Type>().values()),
            DataType::Time64(TimeUnit::Microsecond) => {
                Form::I64(array.as_primitive::<Time64MicrosecondType>().values())
            }
            DataType::Timestamp(TimeUnit::Microsecond, None) => {
                Form::I64(array.as_primitive::<TimestampMicrosecondType>().values())
            }
            DataType::Timestamp(TimeUnit::Nanosecond, None) => {
                Form::I64(array.as_primitive::<TimestampNanosecondType>().values())
            }
            DataType::Float32 => Form::F32(array.as_primitive::<Float32Type>().values()),
            DataType::Float64 => Form::F64(array.as_primitive::<Float64Type>().values()),
            DataType::Decimal128(precision, _) => {
                Form::Decimal(array.as_primitive::<Decimal128Type>().values(), decimal_bytes(*precision))
            }
            DataType::Utf8 => Form::Text(array.as_string()),
            DataType::Binary => Form::Bytes(array.as_binary()),
            other => return Err(Error::internal(format!("batch files hold no values of type {other}"))),
        };
        Ok(Self { array, form })
    }

    /// Appends the bytes of the value in `row`, or says `false` if it is NULL.
    pub(crate) fn append(&self, row: usize, out: &mut Vec<u8>) -> bool {
        if self.array.is_null(row) {
            return false;
        }
        match &self.form {
            Form::Boolean(values) => out.push(u8::from(values.value(row))),
            Form::I16(values) => out.extend_from_slice(&i32::from(values[row]).to_le_bytes()),
            Form::I32(values) => out.extend_from_slice(&values[row].to_le_bytes()),
            Form::I64(values) => out.extend_from_slice(&values[row].to_le_bytes()),
            Form::F32(values) => out.extend_from_slice(&values[row].to_le_bytes()),
            Form::F64(values) => out.extend_from_slice(&values[row].to_le_bytes()),
            Form::Decimal(values, width @ (4 | 8)) => out.extend_from_slice(&values[row].to_le_bytes()[..*width]),
            Form::Decimal(values, width) => out.extend_from_slice(&values[row].to_be_bytes()[16 - width..]),
            Form::Text(values) => out.extend_from_slice(values.value(row).as_bytes()),
            Form::Bytes(values) => out.extend_from_slice(values.value(row)),
        }
        true
    }

    /// Whether equal values have equal bytes, so that a Bloom filter's "no" can be trusted, and Parquet writes a
    /// filter at all. Not so for zeros and NaN of floating point, and BOOLEAN has none.
    pub(crate) fn is_filtered(&self, row: usize) -> bool {
        match &self.form {
            Form::Boolean(_) => false,
            Form::F32(values) => values[row] != 0.0 && !values[row].is_nan(),
            Form::F64(values) => values[row] != 0.0 && !values[row].is_nan(),
            _ => true,
        }
    }
}

/// How many bytes Parquet stores a decimal of this precision in.
fn decimal_bytes(precision: u8) -> usize {
    match precision {
        0..=9 => 4,
        10..=18 => 8,
        _ => {
            let greatest = 10u128.pow(u32::from(precision.min(38))) - 1;
            let bits = 128 - greatest.leading_zeros() as usize + 1;
            bits.div_ceil(8)
        }
    }
}

/// The bytes of a unique key for every row: the columns' bytes, each but a lone one's behind its length, so that no
/// two keys have the same. Empty where a column is NULL, because such a row has no key.
#[derive(Debug)]
pub(crate) struct KeyBytes {
    bytes: Vec<u8>,
    /// Where each row's key ends.
    ends: Vec<usize>,
    /// Whether each row has a key.
    present: Vec<bool>,
}

impl KeyBytes {
    /// The keys of all rows of some columns of one length.
    pub(crate) fn new(columns: &[ArrayRef]) -> Result<Self> {
        let rows = columns.first().map_or(0, |column| column.len());
        let views: Vec<_> = columns.iter().map(PhysicalColumn::new).collect::<Result<_>>()?;
        let mut keys = Self { bytes: Vec::new(), ends: Vec::with_capacity(rows), present: Vec::with_capacity(rows) };
        for row in 0..rows {
            let start = keys.bytes.len();
            let present = views.iter().all(|view| keys.append(view, row, views.len() > 1));
            if !present {
                keys.bytes.truncate(start);
            }
            keys.ends.push(keys.bytes.len());
            keys.present.push(present);
        }
        Ok(keys)
    }

    fn append(&mut self, view: &PhysicalColumn<'_>, row: usize, with_length: bool) -> bool {
        let at = self.bytes.len();
        if with_length {
            self.bytes.extend_from_slice(&[0; 4]);
        }
        let present = view.append(row, &mut self.bytes);
        if with_length {
            let length = u32::try_from(self.bytes.len() - at - 4).unwrap_or(u32::MAX);
            self.bytes[at..at + 4].copy_from_slice(&length.to_le_bytes());
        }
        present
    }

    /// The key of a row, unless a part of it is NULL.
    pub(crate) fn get(&self, row: usize) -> Option<&[u8]> {
        let start = row.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.present[row].then(|| &self.bytes[start..self.ends[row]])
    }

    /// How many rows there are.
    pub(crate) fn len(&self) -> usize {
        self.ends.len()
    }
}

/// The values of a unique key for a number of rows, prepared for asking many files.
#[derive(Debug)]
pub struct KeyValues {
    pub(crate) arrays: Vec<ArrayRef>,
    pub(crate) bytes: KeyBytes,
}

impl KeyValues {
    /// One array for each column of the key, all of one length. A row with a NULL has no key.
    ///
    /// # Errors
    /// Internal if an array is not of a column type's Arrow type, or lengths differ.
    pub fn new(arrays: &[ArrayRef]) -> Result<Self> {
        if arrays.is_empty() || arrays.iter().any(|array| array.len() != arrays[0].len()) {
            return Err(Error::internal("a key needs columns of one length"));
        }
        Ok(Self { arrays: arrays.to_vec(), bytes: KeyBytes::new(arrays)? })
    }

    /// Whether a lone column's Bloom filter can be asked with the bytes of the key as they are.
    pub(crate) fn is_column(&self) -> bool {
        let unfiltered =
            |array: &ArrayRef| matches!(array.data_type(), DataType::Boolean | DataType::Float32 | DataType::Float64);
        self.arrays.len() == 1 && !unfiltered(&self.arrays[0])
    }
}

#[cfg(test)]
mod tests;
