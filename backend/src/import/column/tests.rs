use arrow::array::AsArray;
use arrow::datatypes::{
    ArrowPrimitiveType, Decimal128Type, Float32Type, Float64Type, Int16Type, Int32Type, Int64Type,
    Time64MicrosecondType, TimestampMicrosecondType,
};
use proptest::prelude::*;

use super::*;

fn text(column_type: ColumnType, text: &str) -> Result<ArrayRef, Misfit> {
    let mut column = Column::new(column_type);
    column.append_text(text)?;
    Ok(column.finish())
}

fn json(column_type: ColumnType, raw: &str) -> Result<ArrayRef, Misfit> {
    let mut column = Column::new(column_type);
    column.append_json(raw)?;
    Ok(column.finish())
}

fn number<T: ArrowPrimitiveType>(array: Result<ArrayRef, Misfit>) -> Option<T::Native> {
    array.ok().map(|array| array.as_primitive::<T>().value(0))
}

fn string(array: Result<ArrayRef, Misfit>) -> Option<String> {
    array.ok().map(|array| array.as_string::<i32>().value(0).to_owned())
}

#[test]
fn every_type_has_the_arrow_type_of_its_column() {
    for column_type in ColumnType::PLAIN.into_iter().chain([ColumnType::Decimal(20, 4)]) {
        let mut column = Column::new(column_type);
        column.append_null();
        let array = column.finish();
        assert_eq!((array.data_type(), array.len(), array.null_count()), (&column_type.arrow(), 1, 1));
    }
}

#[test]
fn whole_numbers() {
    let int = |value| number::<Int32Type>(text(ColumnType::Int, value));
    assert_eq!(int(" 517 "), Some(517));
    assert_eq!(int("517.0"), Some(517));
    assert_eq!(int("-5.17e2"), Some(-517));
    assert_eq!(int("+7"), Some(7));
    for bad in ["", "1.5", "x", "0x10", "2147483648", "1e40", "nan", "1 2", ".", "-", "1e", "--1"] {
        assert_eq!(int(bad), None, "{bad}");
    }
    assert_eq!(number::<Int16Type>(text(ColumnType::SmallInt, "-32768")), Some(i16::MIN));
    assert_eq!(number::<Int16Type>(text(ColumnType::SmallInt, "32768")), None);
    assert_eq!(number::<Int64Type>(text(ColumnType::BigInt, "9223372036854775807")), Some(i64::MAX));
    assert_eq!(number::<Int64Type>(text(ColumnType::BigInt, "9223372036854775807.0")), Some(i64::MAX));
    assert_eq!(number::<Int64Type>(text(ColumnType::BigInt, "9223372036854775808")), None);
}

#[test]
fn floats() {
    assert_eq!(number::<Float64Type>(text(ColumnType::Double, "1e-3")), Some(0.001));
    assert_eq!(number::<Float64Type>(text(ColumnType::Double, "-inf")), Some(f64::NEG_INFINITY));
    assert!(number::<Float64Type>(text(ColumnType::Double, "NaN")).unwrap().is_nan());
    assert_eq!(number::<Float64Type>(text(ColumnType::Double, "1e999")), None);
    assert_eq!(number::<Float32Type>(text(ColumnType::Float, "1e39")), None);
    assert_eq!(number::<Float64Type>(text(ColumnType::Double, "1,5")), None);
}

#[test]
fn decimals_round_half_away_from_zero() {
    let of = |value| number::<Decimal128Type>(text(ColumnType::Decimal(6, 2), value));
    assert_eq!(of("12.3"), Some(1_230));
    assert_eq!(of("1.005"), Some(101));
    assert_eq!(of("-1.005"), Some(-101));
    assert_eq!(of("1.00499"), Some(100));
    assert_eq!(of("0.004"), Some(0));
    assert_eq!(of("-0.005"), Some(-1));
    assert_eq!(of("1e3"), Some(100_000));
    assert_eq!(of("123456e-3"), Some(12_346));
    assert_eq!(of("9999.99"), Some(999_999));
    assert_eq!(of("9999.995"), None, "rounds beyond the precision");
    assert_eq!(of("10000"), None);
    assert_eq!(of("1e-300"), Some(0));
    assert_eq!(of("0e300"), Some(0));
    assert_eq!(of(&"9".repeat(300)), None);
    let negative_scale = |value| number::<Decimal128Type>(text(ColumnType::Decimal(3, -2), value));
    assert_eq!(negative_scale("1250"), Some(13));
}

#[test]
fn booleans() {
    let of = |value| text(ColumnType::Boolean, value).ok().map(|array| array.as_boolean().value(0));
    assert_eq!((of("TRUE"), of("0"), of("y"), of("2")), (Some(true), Some(false), Some(true), None));
}

#[test]
fn times() {
    let timestamp = |value| number::<TimestampMicrosecondType>(text(ColumnType::Timestamp, value));
    assert_eq!(timestamp("2013-01-01T05:00:00Z"), Some(1_357_016_400_000_000));
    assert_eq!(timestamp("2013-01-01 05:00:00.000001"), Some(1_357_016_400_000_001));
    assert_eq!(timestamp("2013-01-01T06:00:00+01:00"), Some(1_357_016_400_000_000));
    assert_eq!(timestamp("0001-01-01T00:00:00Z"), Some(-62_135_596_800_000_000), "outside the range of nanoseconds");
    assert_eq!(timestamp("1357016400"), None);
    assert_eq!(timestamp("2013-02-30"), None);
    let date = |value| text(ColumnType::Date, value).ok().map(|array| array.as_primitive::<Date32Type>().value(0));
    assert_eq!((date("1970-01-02"), date("x")), (Some(1), None));
    assert_eq!(number::<Time64MicrosecondType>(text(ColumnType::Time, "00:00:01.5")), Some(1_500_000));
    assert_eq!(number::<Time64MicrosecondType>(text(ColumnType::Time, "25:00:00")), None);
}

#[test]
fn texts_uuids_json_and_bytes() {
    assert_eq!(string(text(ColumnType::Text, " as is ")), Some(" as is ".to_owned()));
    let uuid = "67E55044-10B1-426F-9247-BB680E5FE0C8";
    assert_eq!(string(text(ColumnType::Uuid, uuid)), Some(uuid.to_lowercase()));
    assert_eq!(string(text(ColumnType::Uuid, "67e5504410b1426f9247bb680e5fe0c")), None);
    assert_eq!(string(text(ColumnType::Json, "{\"a\": 1}")), Some("{\"a\": 1}".to_owned()));
    assert_eq!(string(text(ColumnType::Json, "{a: 1}")), None);
    let of = |value| text(ColumnType::Bytes, value).ok().map(|array| array.as_binary::<i32>().value(0).to_vec());
    assert_eq!(of("AP8="), Some(vec![0, 255]));
    assert_eq!(of("\\x00ff"), Some(vec![0, 255]));
    for bad in ["\\x0", "\\xzz", "\\x€", "***"] {
        assert_eq!(of(bad), None, "{bad}");
    }
}

#[test]
fn json_values() {
    assert_eq!(number::<Int64Type>(json(ColumnType::BigInt, "7")), Some(7));
    assert_eq!(number::<Int64Type>(json(ColumnType::BigInt, "\"9007199254740993\"")), Some(9_007_199_254_740_993));
    assert_eq!(number::<Decimal128Type>(json(ColumnType::Decimal(20, 2), "1.1")), Some(110));
    assert_eq!(number::<TimestampMicrosecondType>(json(ColumnType::Timestamp, "5")), Some(5));
    assert_eq!(number::<Date32Type>(json(ColumnType::Date, "19000")), Some(19_000));
    assert_eq!(string(json(ColumnType::Text, "\"a\\n\\u00e9\"")), Some("a\né".to_owned()));
    assert_eq!(string(json(ColumnType::Text, "12")), Some("12".to_owned()));
    assert_eq!(string(json(ColumnType::Json, "{\"a\":[1]}")), Some("{\"a\":[1]}".to_owned()));
    assert_eq!(string(json(ColumnType::Json, "\"x\"")), Some("\"x\"".to_owned()));
    assert!(json(ColumnType::Json, "null").unwrap().is_null(0));
    for (column_type, bad) in [
        (ColumnType::Int, "true"),
        (ColumnType::Text, "{}"),
        (ColumnType::Int, "[1]"),
        (ColumnType::Bytes, "1"),
        (ColumnType::Time, "86400000000"),
        (ColumnType::Boolean, "2"),
        (ColumnType::Double, "false"),
    ] {
        assert_eq!(json(column_type, bad).err(), Some(Misfit), "{column_type} {bad}");
    }
}

proptest! {
    /// Every integer that Rust prints is read, with and without a fraction of zeros.
    #[test]
    fn any_integer_is_read(value: i64) {
        for written in [value.to_string(), format!("{value}.000"), format!("{value}0e-1")] {
            prop_assert_eq!(whole(&written), Some(value));
        }
    }

    #[test]
    fn any_decimal_is_read(value in -99_999_999_i128..=99_999_999) {
        let sign = if value < 0 { "-" } else { "" };
        let written = format!("{sign}{}.{:04}", value.abs() / 10_000, value.abs() % 10_000);
        prop_assert_eq!(decimal(&written, 8, 4), Some(value));
    }

    #[test]
    fn no_text_panics(value in ".*") {
        for column_type in ColumnType::PLAIN.into_iter().chain([ColumnType::Decimal(38, 10)]) {
            let _any = text(column_type, &value);
            let _any = json(column_type, &value);
        }
    }
}
