//! The text of a cell. The wire has timestamps as microseconds and dates as days; people get ISO 8601.

use std::borrow::Cow;

use chrono::{DateTime, NaiveDate, NaiveTime, TimeDelta};
use serde_json::Value;

const MICROS_PER_SECOND: i64 = 1_000_000;

/// How a column's cells are to be shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// As they come, on the left.
    Text,
    /// As they come, on the right.
    Number,
    /// Microseconds since 1970.
    Timestamp,
    /// Microseconds since midnight.
    Time,
    /// Days since 1970.
    Date,
}

impl Kind {
    /// Reads the wire's name of a type. A name of a later version is shown as text.
    pub(crate) fn of(data_type: &Value) -> Self {
        match data_type {
            Value::String(name) => match name.as_str() {
                "SmallInt" | "Int" | "BigInt" | "Float" | "Double" => Self::Number,
                "Timestamp" | "DateTime" => Self::Timestamp,
                "Time" => Self::Time,
                "Date" => Self::Date,
                _ => Self::Text,
            },
            Value::Object(fields) if fields.contains_key("Decimal") => Self::Number,
            _ => Self::Text,
        }
    }

    /// The text of a cell; none for NULL.
    pub(crate) fn text(self, cell: &Value) -> Option<Cow<'_, str>> {
        let iso = cell.as_i64().and_then(|number| match self {
            Self::Text | Self::Number => None,
            Self::Timestamp => timestamp(number),
            Self::Time => time(number),
            Self::Date => date(number),
        });
        match (iso, cell) {
            (Some(iso), _) => Some(iso.into()),
            (None, Value::Null) => None,
            (None, Value::String(text)) => Some(text.into()),
            (None, other) => Some(other.to_string().into()),
        }
    }
}

fn timestamp(micros: i64) -> Option<String> {
    let at = DateTime::from_timestamp_micros(micros)?;
    Some(at.format("%Y-%m-%d %H:%M:%S").to_string() + &fraction(micros))
}

fn time(micros: i64) -> Option<String> {
    let seconds = u32::try_from(micros.div_euclid(MICROS_PER_SECOND)).ok()?;
    let at = NaiveTime::from_num_seconds_from_midnight_opt(seconds, 0)?;
    Some(at.format("%H:%M:%S").to_string() + &fraction(micros))
}

fn date(days: i64) -> Option<String> {
    let day = NaiveDate::from_ymd_opt(1970, 1, 1)?.checked_add_signed(TimeDelta::try_days(days)?)?;
    Some(day.format("%Y-%m-%d").to_string())
}

/// The part of a second, with as many digits as it needs; nothing for whole seconds.
fn fraction(micros: i64) -> String {
    match micros.rem_euclid(MICROS_PER_SECOND) {
        0 => String::new(),
        part if part % 1000 == 0 => format!(".{:03}", part / 1000),
        part => format!(".{part:06}"),
    }
}

#[cfg(test)]
mod tests;
