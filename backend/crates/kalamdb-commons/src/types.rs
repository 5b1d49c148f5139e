//! Column types, their names in SQL and on the wire, and their Arrow form.

use std::fmt;
use std::sync::Arc;

use arrow::datatypes::{DataType, Field, TimeUnit};
use serde::{Deserialize, Serialize};

/// The metadata key under which an Arrow field carries its [`ColumnType`], where Arrow's type alone would lose
/// it: UUID and JSON are text to Arrow, and TIMESTAMP and DATETIME are one.
pub const COLUMN_TYPE_KEY: &str = "kalamdb.type";

/// The type of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ColumnType {
    /// `BOOLEAN`.
    Boolean,
    /// `SMALLINT`, 16 bits.
    SmallInt,
    /// `INT`, 32 bits.
    Int,
    /// `BIGINT`, 64 bits.
    BigInt,
    /// `FLOAT`, 32 bits.
    Float,
    /// `DOUBLE`, 64 bits.
    Double,
    /// `DECIMAL(p, s)`, up to 38 digits.
    Decimal(u8, i8),
    /// `TEXT`, `VARCHAR`, `STRING`: UTF-8.
    Text,
    /// `BYTES`.
    Bytes,
    /// `DATE`: days since 1970-01-01.
    Date,
    /// `TIME`: microseconds since midnight.
    Time,
    /// `TIMESTAMP`: microseconds since 1970-01-01 UTC.
    Timestamp,
    /// `DATETIME`: microseconds since 1970-01-01 UTC.
    DateTime,
    /// `UUID`, held as its lower-case hyphenated text.
    Uuid,
    /// `JSON`, held as the text that was written, which was valid JSON.
    Json,
}

impl ColumnType {
    /// The Arrow type that holds it.
    pub fn arrow(self) -> DataType {
        match self {
            Self::Boolean => DataType::Boolean,
            Self::SmallInt => DataType::Int16,
            Self::Int => DataType::Int32,
            Self::BigInt => DataType::Int64,
            Self::Float => DataType::Float32,
            Self::Double => DataType::Float64,
            Self::Decimal(precision, scale) => DataType::Decimal128(precision, scale),
            Self::Text | Self::Uuid | Self::Json => DataType::Utf8,
            Self::Bytes => DataType::Binary,
            Self::Date => DataType::Date32,
            Self::Time => DataType::Time64(TimeUnit::Microsecond),
            Self::Timestamp | Self::DateTime => DataType::Timestamp(TimeUnit::Microsecond, None),
        }
    }

    /// An Arrow field of this type, which remembers the type.
    pub fn field(self, name: &str, nullable: bool) -> Field {
        Field::new(name, self.arrow(), nullable).with_metadata([(COLUMN_TYPE_KEY.to_owned(), self.to_string())].into())
    }

    /// The type that a field carries, or the nearest one to its Arrow type. `None` for types that have no
    /// scalar form here (lists, structs, maps).
    pub fn of_field(field: &Field) -> Option<Self> {
        let remembered = field.metadata().get(COLUMN_TYPE_KEY).and_then(|text| Self::parse(text));
        remembered.filter(|found| found.arrow() == *field.data_type()).or_else(|| Self::of_arrow(field.data_type()))
    }

    /// The nearest type to an Arrow type: what `CREATE TABLE ... AS SELECT` gives a column.
    pub fn of_arrow(data_type: &DataType) -> Option<Self> {
        Some(match data_type {
            DataType::Boolean => Self::Boolean,
            DataType::Int8 | DataType::Int16 | DataType::UInt8 => Self::SmallInt,
            DataType::Int32 | DataType::UInt16 => Self::Int,
            DataType::Int64 | DataType::UInt32 | DataType::UInt64 => Self::BigInt,
            DataType::Float16 | DataType::Float32 => Self::Float,
            DataType::Float64 => Self::Double,
            DataType::Decimal32(p, s)
            | DataType::Decimal64(p, s)
            | DataType::Decimal128(p, s)
            | DataType::Decimal256(p, s) => Self::Decimal((*p).min(38), *s),
            DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View | DataType::Null => Self::Text,
            DataType::Binary | DataType::LargeBinary | DataType::BinaryView | DataType::FixedSizeBinary(_) => {
                Self::Bytes
            }
            DataType::Date32 | DataType::Date64 => Self::Date,
            DataType::Time32(_) | DataType::Time64(_) => Self::Time,
            DataType::Timestamp(_, _) => Self::Timestamp,
            DataType::Dictionary(_, values) => return Self::of_arrow(values),
            _ => return None,
        })
    }

    /// Reads a type as [`Display`](fmt::Display) writes it.
    pub fn parse(text: &str) -> Option<Self> {
        if let Some(inner) = text.strip_prefix("DECIMAL(").and_then(|rest| rest.strip_suffix(')')) {
            let (precision, scale) = inner.split_once(',')?;
            return Some(Self::Decimal(precision.trim().parse().ok()?, scale.trim().parse().ok()?));
        }
        Self::PLAIN.iter().find(|plain| plain.to_string() == text).copied()
    }

    /// Every type without parameters.
    pub const PLAIN: [Self; 14] = [
        Self::Boolean,
        Self::SmallInt,
        Self::Int,
        Self::BigInt,
        Self::Float,
        Self::Double,
        Self::Text,
        Self::Bytes,
        Self::Date,
        Self::Time,
        Self::Timestamp,
        Self::DateTime,
        Self::Uuid,
        Self::Json,
    ];

    /// Whether values have an order that min and max of a batch may use. JSON text has none that means
    /// anything, and bytes are left out to keep manifests small.
    pub fn is_comparable(self) -> bool {
        !matches!(self, Self::Json | Self::Bytes)
    }

    /// Whether the type may be part of a primary key or UNIQUE constraint.
    pub fn can_be_key(self) -> bool {
        !matches!(self, Self::Json | Self::Float | Self::Double)
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Boolean => "BOOLEAN",
            Self::SmallInt => "SMALLINT",
            Self::Int => "INT",
            Self::BigInt => "BIGINT",
            Self::Float => "FLOAT",
            Self::Double => "DOUBLE",
            Self::Decimal(precision, scale) => return write!(f, "DECIMAL({precision}, {scale})"),
            Self::Text => "TEXT",
            Self::Bytes => "BYTES",
            Self::Date => "DATE",
            Self::Time => "TIME",
            Self::Timestamp => "TIMESTAMP",
            Self::DateTime => "DATETIME",
            Self::Uuid => "UUID",
            Self::Json => "JSON",
        })
    }
}

/// A shared Arrow schema.
pub type SchemaRef = Arc<arrow::datatypes::Schema>;
