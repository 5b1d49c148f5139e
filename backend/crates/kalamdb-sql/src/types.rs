//! The names of types: each spelling that is accepted, and what it means.

use kalamdb_commons::types::ColumnType;
use kalamdb_commons::{Error, Result};
use sqlparser::ast::{BinaryLength, CharLengthUnits, CharacterLength, DataType, ExactNumberInfo, TimezoneInfo};

/// The most digits of a DECIMAL.
const DIGITS_MAX: u64 = 38;
/// DECIMAL without a precision is what CAST makes of it.
const PLAIN_DECIMAL: ColumnType = ColumnType::Decimal(38, 10);
/// Times are held in microseconds.
const FRACTION_DIGITS: u64 = 6;

/// A column's type as it was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TypeName {
    /// The type.
    pub(crate) column_type: ColumnType,
    /// The most characters, of `VARCHAR(n)`.
    pub(crate) length: Option<u64>,
    /// SERIAL: NOT NULL, with a Snowflake id for a default.
    pub(crate) serial: bool,
}

impl From<ColumnType> for TypeName {
    fn from(column_type: ColumnType) -> Self {
        Self { column_type, length: None, serial: false }
    }
}

/// What the name of a type means.
pub(crate) fn type_name(written: &DataType) -> Result<TypeName> {
    use DataType as D;
    Ok(match written {
        D::Boolean | D::Bool => ColumnType::Boolean.into(),
        D::SmallInt(None) | D::Int2(None) | D::Int16 => ColumnType::SmallInt.into(),
        D::Int(None) | D::Integer(None) | D::Int4(None) | D::Int32 => ColumnType::Int.into(),
        D::BigInt(None) | D::Int8(None) | D::Int64 => ColumnType::BigInt.into(),
        D::Real | D::Float4 | D::Float32 => ColumnType::Float.into(),
        D::Float(info) => float(written, info)?.into(),
        D::Double(ExactNumberInfo::None) | D::DoublePrecision | D::Float8 | D::Float64 => ColumnType::Double.into(),
        D::Decimal(info) | D::Numeric(info) | D::Dec(info) => decimal(written, info)?.into(),
        D::Text | D::String(None) => ColumnType::Text.into(),
        D::Varchar(length) | D::CharVarying(length) | D::CharacterVarying(length) => varchar(written, *length)?,
        D::Bytes(None) | D::Bytea | D::Blob(None) | D::Binary(None) => ColumnType::Bytes.into(),
        D::Varbinary(length) => match length {
            None | Some(BinaryLength::Max) => ColumnType::Bytes.into(),
            Some(BinaryLength::IntegerLength { .. }) => return Err(sized(written, "BYTES")),
        },
        D::Date => ColumnType::Date.into(),
        D::Time(precision, zone) => match zone {
            TimezoneInfo::None | TimezoneInfo::WithoutTimeZone => fraction(written, *precision, ColumnType::Time)?,
            TimezoneInfo::WithTimeZone | TimezoneInfo::Tz => {
                return Err(refused(written, "use TIME, or TIMESTAMP, which is UTC"));
            }
        },
        D::Timestamp(precision, _) | D::TimestampNtz(precision) => {
            fraction(written, *precision, ColumnType::Timestamp)?
        }
        D::Datetime(precision) => fraction(written, *precision, ColumnType::DateTime)?,
        D::Uuid => ColumnType::Uuid.into(),
        D::JSON | D::JSONB => ColumnType::Json.into(),
        D::Custom(name, modifiers) => return custom(written, &name.to_string(), modifiers),
        D::SmallInt(Some(_)) | D::Int(Some(_)) | D::Integer(Some(_)) | D::BigInt(Some(_)) => {
            return Err(refused(written, "integers have no display width"));
        }
        D::Char(_) | D::Character(_) => {
            return Err(refused(written, "padding with blanks is not implemented; use VARCHAR(n) or TEXT"));
        }
        D::Bytes(Some(_)) | D::Blob(Some(_)) | D::Binary(Some(_)) => return Err(sized(written, "BYTES")),
        D::String(Some(_)) => return Err(sized(written, "VARCHAR(n)")),
        _ => return Err(unknown(written)),
    })
}

fn custom(written: &DataType, name: &str, modifiers: &[String]) -> Result<TypeName> {
    let upper = name.to_ascii_uppercase();
    match upper.as_str() {
        "SERIAL" | "BIGSERIAL" | "SERIAL8" if modifiers.is_empty() => {
            Ok(TypeName { column_type: ColumnType::BigInt, length: None, serial: true })
        }
        "SMALLSERIAL" | "SERIAL2" | "SERIAL4" => Err(refused(written, "use SERIAL: a Snowflake id has 64 bits")),
        "TEXT" => Err(sized(written, "VARCHAR(n)")),
        _ => Err(unknown(written)),
    }
}

fn float(written: &DataType, info: &ExactNumberInfo) -> Result<ColumnType> {
    match info {
        ExactNumberInfo::None | ExactNumberInfo::Precision(1..=24) => Ok(ColumnType::Float),
        ExactNumberInfo::Precision(25..=53) => Ok(ColumnType::Double),
        _ => Err(refused(written, "FLOAT(p) takes 1 to 53 binary digits")),
    }
}

fn decimal(written: &DataType, info: &ExactNumberInfo) -> Result<ColumnType> {
    let (precision, scale) = match *info {
        ExactNumberInfo::None => return Ok(PLAIN_DECIMAL),
        ExactNumberInfo::Precision(precision) => (precision, 0),
        ExactNumberInfo::PrecisionAndScale(precision, scale) => (precision, scale),
    };
    let digits = u8::try_from(precision).ok().filter(|_| (1..=DIGITS_MAX).contains(&precision));
    let fraction = i8::try_from(scale).ok().filter(|scale| *scale >= 0);
    match (digits, fraction) {
        (Some(digits), Some(fraction)) if i64::from(digits) >= scale => Ok(ColumnType::Decimal(digits, fraction)),
        _ => Err(refused(written, "the precision is 1 to 38, the scale 0 to the precision")),
    }
}

fn varchar(written: &DataType, length: Option<CharacterLength>) -> Result<TypeName> {
    let length = match length {
        None => None,
        Some(CharacterLength::IntegerLength { length, unit: None | Some(CharLengthUnits::Characters) })
            if length > 0 && i64::try_from(length).is_ok() =>
        {
            Some(length)
        }
        Some(_) => return Err(refused(written, "the length is a whole number of characters from 1")),
    };
    Ok(TypeName { column_type: ColumnType::Text, length, serial: false })
}

fn fraction(written: &DataType, precision: Option<u64>, column_type: ColumnType) -> Result<TypeName> {
    match precision {
        None | Some(FRACTION_DIGITS) => Ok(column_type.into()),
        Some(_) => Err(refused(written, "times are held in microseconds, 6 digits, and rounding is not implemented")),
    }
}

fn sized(written: &DataType, instead: &str) -> Error {
    refused(written, &format!("a length is not implemented here; use {instead}"))
}

fn refused(written: &DataType, why: &str) -> Error {
    Error::invalid_sql(format!("the type {written} is not allowed: {why}"))
}

fn unknown(written: &DataType) -> Error {
    let shown: String = written.to_string().chars().take(64).collect();
    Error::invalid_sql(format!(
        "unknown type {shown}; allowed are BOOLEAN, SMALLINT, INT, BIGINT, FLOAT, DOUBLE, DECIMAL(p, s), TEXT, \
         VARCHAR(n), STRING, BYTES, DATE, TIME, TIMESTAMP, DATETIME, UUID, JSON and SERIAL"
    ))
}

#[cfg(test)]
mod tests;
