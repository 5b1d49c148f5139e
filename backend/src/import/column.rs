//! Text and JSON values to the columns of a table, strictly: what does not convert is refused with the value
//! and the type, and nothing is rounded but decimals (half away from zero, as INSERT does).
//!
//! Whole numbers may be written as `517.0`, which is how tools that have no nullable integers write them.

use std::borrow::Cow;
use std::sync::Arc;

use arrow::array::{
    ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder, Float64Builder,
    Int16Builder, Int32Builder, Int64Builder, StringBuilder, Time64MicrosecondBuilder, TimestampMicrosecondBuilder,
};
use arrow::compute::kernels::cast_utils::{Parser, string_to_datetime, string_to_time_nanoseconds};
use arrow::datatypes::Date32Type;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD as BASE64;
use chrono::Utc;
use kalamdb_commons::types::ColumnType;

/// A value that is none of its column's type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Misfit;

/// The most bytes of a number's text.
const NUMBER_BYTES_MAX: usize = 256;

/// A column that grows value by value.
pub(crate) enum Column {
    Boolean(BooleanBuilder),
    SmallInt(Int16Builder),
    Int(Int32Builder),
    BigInt(Int64Builder),
    Float(Float32Builder),
    Double(Float64Builder),
    Decimal(Decimal128Builder, u8, i8),
    Text(StringBuilder),
    Uuid(StringBuilder),
    Json(StringBuilder),
    Bytes(BinaryBuilder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    Timestamp(TimestampMicrosecondBuilder),
}

/// Does the same with the builder of whichever variant.
macro_rules! with_builder {
    ($column:expr, $builder:ident => $do:expr) => {
        match $column {
            Column::Boolean($builder) => $do,
            Column::SmallInt($builder) => $do,
            Column::Int($builder) => $do,
            Column::BigInt($builder) => $do,
            Column::Float($builder) => $do,
            Column::Double($builder) => $do,
            Column::Decimal($builder, _, _) => $do,
            Column::Text($builder) | Column::Uuid($builder) | Column::Json($builder) => $do,
            Column::Bytes($builder) => $do,
            Column::Date($builder) => $do,
            Column::Time($builder) => $do,
            Column::Timestamp($builder) => $do,
        }
    };
}

impl Column {
    /// An empty column.
    pub(crate) fn new(column_type: ColumnType) -> Self {
        match column_type {
            ColumnType::Boolean => Self::Boolean(BooleanBuilder::new()),
            ColumnType::SmallInt => Self::SmallInt(Int16Builder::new()),
            ColumnType::Int => Self::Int(Int32Builder::new()),
            ColumnType::BigInt => Self::BigInt(Int64Builder::new()),
            ColumnType::Float => Self::Float(Float32Builder::new()),
            ColumnType::Double => Self::Double(Float64Builder::new()),
            ColumnType::Decimal(precision, scale) => {
                let builder = Decimal128Builder::new().with_data_type(column_type.arrow());
                Self::Decimal(builder, precision, scale)
            }
            ColumnType::Text => Self::Text(StringBuilder::new()),
            ColumnType::Uuid => Self::Uuid(StringBuilder::new()),
            ColumnType::Json => Self::Json(StringBuilder::new()),
            ColumnType::Bytes => Self::Bytes(BinaryBuilder::new()),
            ColumnType::Date => Self::Date(Date32Builder::new()),
            ColumnType::Time => Self::Time(Time64MicrosecondBuilder::new()),
            ColumnType::Timestamp | ColumnType::DateTime => Self::Timestamp(TimestampMicrosecondBuilder::new()),
        }
    }

    /// Adds NULL.
    pub(crate) fn append_null(&mut self) {
        with_builder!(self, builder => builder.append_null());
    }

    /// The values so far; the column is empty again.
    pub(crate) fn finish(&mut self) -> ArrayRef {
        with_builder!(self, builder => Arc::new(builder.finish()))
    }

    /// Adds what a text says. White space around anything but text and JSON does not count.
    pub(crate) fn append_text(&mut self, text: &str) -> Result<(), Misfit> {
        let value = text.trim();
        match self {
            Self::Boolean(builder) => builder.append_value(boolean(value).ok_or(Misfit)?),
            Self::SmallInt(builder) => builder.append_value(narrow(whole(value))?),
            Self::Int(builder) => builder.append_value(narrow(whole(value))?),
            Self::BigInt(builder) => builder.append_value(whole(value).ok_or(Misfit)?),
            Self::Float(builder) => builder.append_value(real::<f32>(value, f32::is_infinite)?),
            Self::Double(builder) => builder.append_value(real::<f64>(value, f64::is_infinite)?),
            Self::Decimal(builder, precision, scale) => {
                builder.append_value(decimal(value, *precision, *scale).ok_or(Misfit)?);
            }
            Self::Text(builder) => builder.append_value(text),
            Self::Uuid(builder) => {
                let uuid = uuid::Uuid::try_parse(value).map_err(|_| Misfit)?;
                builder.append_value(uuid.hyphenated().encode_lower(&mut uuid::Uuid::encode_buffer()));
            }
            Self::Json(builder) => {
                serde_json::from_str::<serde::de::IgnoredAny>(text).map_err(|_| Misfit)?;
                builder.append_value(text);
            }
            Self::Bytes(builder) => builder.append_value(bytes(value).ok_or(Misfit)?),
            Self::Date(builder) => builder.append_value(Date32Type::parse(value).ok_or(Misfit)?),
            Self::Time(builder) => {
                builder.append_value(string_to_time_nanoseconds(value).map_err(|_| Misfit)?.div_euclid(1_000));
            }
            Self::Timestamp(builder) => {
                builder.append_value(string_to_datetime(&Utc, value).map_err(|_| Misfit)?.timestamp_micros());
            }
        }
        Ok(())
    }

    /// Adds a JSON value, given as it is written. Numbers stand for times as on the wire: microseconds, and days
    /// for dates. A JSON column takes any value as it is.
    pub(crate) fn append_json(&mut self, raw: &str) -> Result<(), Misfit> {
        let first = raw.as_bytes().first().copied().unwrap_or_default();
        if first == b'n' {
            self.append_null();
            return Ok(());
        }
        match (&mut *self, first) {
            (Self::Json(builder), _) => builder.append_value(raw),
            (_, b'"') => return self.append_text(&unquoted(raw)?),
            (_, b'{' | b'[') => return Err(Misfit),
            (Self::Boolean(_) | Self::Text(_), _) => return self.append_text(raw),
            (_, b't' | b'f') => return Err(Misfit),
            (Self::Date(builder), _) => builder.append_value(narrow(whole(raw))?),
            (Self::Time(builder), _) => {
                let micros = whole(raw).filter(|micros| (0..86_400_000_000).contains(micros));
                builder.append_value(micros.ok_or(Misfit)?);
            }
            (Self::Timestamp(builder), _) => builder.append_value(whole(raw).ok_or(Misfit)?),
            (Self::Bytes(_) | Self::Uuid(_), _) => return Err(Misfit),
            _ => return self.append_text(raw),
        }
        Ok(())
    }
}

/// The text that a JSON string stands for.
fn unquoted(raw: &str) -> Result<Cow<'_, str>, Misfit> {
    match raw.get(1..raw.len() - 1) {
        Some(inner) if !inner.contains('\\') => Ok(Cow::Borrowed(inner)),
        _ => serde_json::from_str(raw).map(Cow::Owned).map_err(|_| Misfit),
    }
}

fn boolean(text: &str) -> Option<bool> {
    let is = |words: &[&str]| words.iter().any(|word| text.eq_ignore_ascii_case(word));
    if is(&["true", "t", "1", "yes", "y", "on"]) {
        Some(true)
    } else if is(&["false", "f", "0", "no", "n", "off"]) {
        Some(false)
    } else {
        None
    }
}

fn narrow<T: TryFrom<i64>>(value: Option<i64>) -> Result<T, Misfit> {
    value.and_then(|value| T::try_from(value).ok()).ok_or(Misfit)
}

/// A whole number, also as `517.0` and `5.17e2`.
fn whole(text: &str) -> Option<i64> {
    text.parse().ok().or_else(|| {
        let (value, remainder) = scaled(text, 0)?;
        if remainder == Remainder::None { i64::try_from(value).ok() } else { None }
    })
}

/// A float. What overflows to infinity without saying so is refused.
fn real<T: std::str::FromStr + Copy>(text: &str, is_infinite: fn(T) -> bool) -> Result<T, Misfit> {
    let value: T = text.parse().map_err(|_| Misfit)?;
    let says_so = || text.trim_start_matches(['+', '-']).get(..3).is_some_and(|word| word.eq_ignore_ascii_case("inf"));
    if is_infinite(value) && !says_so() { Err(Misfit) } else { Ok(value) }
}

/// A decimal, rounded half away from zero to the scale, if it has room in the precision.
fn decimal(text: &str, precision: u8, scale: i8) -> Option<i128> {
    let (value, remainder) = scaled(text, i32::from(scale))?;
    let sign = if text.starts_with('-') { -1 } else { 1 };
    let value = if remainder == Remainder::HalfOrMore { value.checked_add(sign)? } else { value };
    let limit = 10i128.checked_pow(u32::from(precision))?;
    (value.unsigned_abs() < limit.unsigned_abs()).then_some(value)
}

/// What is left below the last digit that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Remainder {
    None,
    LessThanHalf,
    HalfOrMore,
}

/// Reads `[+-]digits[.digits][e[+-]digits]` as a multiple of `10^-scale`.
fn scaled(text: &str, scale: i32) -> Option<(i128, Remainder)> {
    if text.len() > NUMBER_BYTES_MAX {
        return None;
    }
    let (mantissa, exponent) = match text.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i16>().ok()?),
        None => (text, 0),
    };
    let digits = mantissa.strip_prefix(['-', '+']).unwrap_or(mantissa);
    let (before, after) = digits.split_once('.').unwrap_or((digits, ""));
    if before.is_empty() && after.is_empty() {
        return None;
    }
    // How many of the digits count.
    let counting = i32::try_from(before.len()).ok()? + i32::from(exponent) + scale;
    let mut value = 0i128;
    let mut remainder = Remainder::None;
    for (position, digit) in before.bytes().chain(after.bytes()).enumerate() {
        if !digit.is_ascii_digit() {
            return None;
        }
        let below = i32::try_from(position).ok()? - counting;
        if below < 0 {
            value = value.checked_mul(10)?.checked_add(i128::from(digit - b'0'))?;
        } else if below == 0 && digit >= b'5' {
            remainder = Remainder::HalfOrMore;
        } else if digit != b'0' && remainder == Remainder::None {
            remainder = Remainder::LessThanHalf;
        }
    }
    let missing = counting - i32::try_from(before.len() + after.len()).ok()?;
    if missing > 0 && value != 0 {
        value = value.checked_mul(10i128.checked_pow(u32::try_from(missing).ok()?)?)?;
    }
    Some((if mantissa.starts_with('-') { -value } else { value }, remainder))
}

/// `\x` and hex digits, or base64 as on the wire.
fn bytes(text: &str) -> Option<Vec<u8>> {
    let Some(hex) = text.strip_prefix("\\x") else { return BASE64.decode(text).ok() };
    if !hex.len().is_multiple_of(2) || !hex.is_ascii() {
        return None;
    }
    let byte = |at: usize| u8::from_str_radix(hex.get(at..at + 2)?, 16).ok();
    (0..hex.len()).step_by(2).map(byte).collect()
}

#[cfg(test)]
mod tests;
