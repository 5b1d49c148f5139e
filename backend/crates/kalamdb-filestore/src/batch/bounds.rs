//! The range of a column in one batch, as the manifest holds it.
//!
//! A bound may be wider than the values, never narrower, and survives JSON exactly: a bound that changed each
//! time a manifest is read and written would drift into a lie.

use arrow::array::{Array, ArrayRef, AsArray};
use arrow::compute::{max, max_boolean, max_string, min, min_boolean, min_string};
use arrow::datatypes::{
    DataType, Date32Type, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimestampMicrosecondType,
};
use kalamdb_commons::manifest::{BOUND_BYTES_MAX, Bound, ColumnRange};

/// Gathers the range of one column over the record batches of a file.
#[derive(Debug, Default)]
pub(crate) struct RangeBuilder {
    range: Option<(Extreme, Extreme)>,
    /// A value without an order was seen: NaN.
    unordered: bool,
    null_count: u64,
}

/// A least or greatest value, whole.
#[derive(Debug, Clone, PartialEq, PartialOrd)]
enum Extreme {
    Bool(bool),
    Int(i64),
    Float(f64),
    Decimal(i128),
    Text(String),
}

impl RangeBuilder {
    /// Takes in the next values.
    pub(crate) fn add(&mut self, array: &ArrayRef) {
        self.null_count += array.null_count() as u64;
        if holds_nan(array) {
            self.unordered = true;
        }
        let Some((least, greatest)) = extremes(array).filter(|_| !self.unordered) else { return };
        self.range = Some(match self.range.take() {
            None => (least, greatest),
            Some((min, max)) => (if least < min { least } else { min }, if greatest > max { greatest } else { max }),
        });
    }

    /// The range of everything that was taken in.
    pub(crate) fn finish(self) -> ColumnRange {
        let range = self.range.filter(|_| !self.unordered);
        ColumnRange {
            min: range.as_ref().and_then(|(least, _)| lower_bound(least)),
            max: range.as_ref().and_then(|(_, greatest)| upper_bound(greatest)),
            null_count: self.null_count,
        }
    }
}

fn holds_nan(array: &ArrayRef) -> bool {
    match array.data_type() {
        DataType::Float32 => array.as_primitive::<Float32Type>().iter().flatten().any(f32::is_nan),
        DataType::Float64 => array.as_primitive::<Float64Type>().iter().flatten().any(f64::is_nan),
        _ => false,
    }
}

/// Least and greatest value, if there is one and the type has an order.
fn extremes(array: &ArrayRef) -> Option<(Extreme, Extreme)> {
    macro_rules! of {
        ($type:ty, $extreme:expr) => {{
            let values = array.as_primitive::<$type>();
            (min(values).map($extreme)?, max(values).map($extreme)?)
        }};
    }
    Some(match array.data_type() {
        DataType::Boolean => {
            let values = array.as_boolean();
            (Extreme::Bool(min_boolean(values)?), Extreme::Bool(max_boolean(values)?))
        }
        DataType::Int16 => of!(Int16Type, |value| Extreme::Int(value.into())),
        DataType::Int32 => of!(Int32Type, |value| Extreme::Int(value.into())),
        DataType::Int64 => of!(Int64Type, Extreme::Int),
        DataType::Date32 => of!(Date32Type, |value| Extreme::Int(value.into())),
        DataType::Time64(_) => of!(Time64MicrosecondType, Extreme::Int),
        DataType::Timestamp(_, _) => of!(TimestampMicrosecondType, Extreme::Int),
        DataType::Float32 => of!(Float32Type, |value| Extreme::Float(value.into())),
        DataType::Float64 => of!(Float64Type, Extreme::Float),
        DataType::Decimal128(_, _) => of!(Decimal128Type, Extreme::Decimal),
        DataType::Utf8 => {
            let values = array.as_string::<i32>();
            (Extreme::Text(min_string(values)?.to_owned()), Extreme::Text(max_string(values)?.to_owned()))
        }
        _ => return None,
    })
}

fn lower_bound(least: &Extreme) -> Option<Bound> {
    match least {
        Extreme::Float(value) => float_bound(if *value == 0.0 { -0.0 } else { *value }, f64::next_down),
        Extreme::Text(text) => Some(Bound::Text(text[..text.floor_char_boundary(BOUND_BYTES_MAX)].to_owned())),
        other => exact_bound(other),
    }
}

fn upper_bound(greatest: &Extreme) -> Option<Bound> {
    match greatest {
        Extreme::Float(value) => float_bound(if *value == 0.0 { 0.0 } else { *value }, f64::next_up),
        Extreme::Text(text) if text.len() > BOUND_BYTES_MAX => next_text(text).map(Bound::Text),
        Extreme::Text(text) => Some(Bound::Text(text.clone())),
        other => exact_bound(other),
    }
}

fn exact_bound(extreme: &Extreme) -> Option<Bound> {
    match extreme {
        Extreme::Bool(value) => Some(Bound::Bool(*value)),
        Extreme::Int(value) => Some(Bound::Int(*value)),
        Extreme::Decimal(value) => Some(Bound::Text(value.to_string())),
        Extreme::Float(_) | Extreme::Text(_) => None,
    }
}

/// The nearest number in the direction of `step` that reads back from JSON as itself: the JSON library reads some
/// numbers a little off. None for infinities, which JSON cannot write.
fn float_bound(value: f64, step: fn(f64) -> f64) -> Option<Bound> {
    let mut candidate = value;
    for _ in 0..64 {
        if !candidate.is_finite() {
            return None;
        }
        let read: Option<f64> =
            serde_json::to_string(&candidate).ok().and_then(|text| serde_json::from_str(&text).ok());
        if read.is_some_and(|read| read.to_bits() == candidate.to_bits()) {
            return Some(Bound::Float(candidate));
        }
        candidate = step(candidate);
    }
    None
}

/// A text of at most [`BOUND_BYTES_MAX`] bytes that is greater than every text with the same beginning: the
/// beginning with its last character that has a successor replaced by that successor.
fn next_text(text: &str) -> Option<String> {
    let mut head = text[..text.floor_char_boundary(BOUND_BYTES_MAX)].to_owned();
    while let Some(last) = head.pop() {
        let next = match last {
            '\u{d7ff}' => Some('\u{e000}'),
            last => char::from_u32(u32::from(last) + 1),
        };
        if let Some(next) = next.filter(|next| head.len() + next.len_utf8() <= BOUND_BYTES_MAX) {
            head.push(next);
            return Some(head);
        }
    }
    None
}

#[cfg(test)]
mod tests;
