use arrow::array::{BooleanArray, Int32Array, Int64Array, TimestampMicrosecondArray};
use arrow::datatypes::{Int16Type, Int32Type};
use kalamdb_commons::ids::ColumnId;

use super::*;

fn column(column_type: ColumnType) -> Column {
    Column { id: ColumnId(1), name: "c".into(), column_type, nullable: true, default: None, missing: None }
}

fn text(value: &str) -> ArrayRef {
    Arc::new(StringArray::from(vec![value]))
}

#[test]
fn a_value_that_does_not_convert_is_named() {
    let error = to_column(&text("abc"), &column(ColumnType::Int)).expect_err("not a number");
    assert!(error.message().contains("'abc'") && error.message().contains("'c'"), "{error}");
}

#[test]
fn numbers_out_of_range_are_refused() {
    let values: ArrayRef = Arc::new(Int64Array::from(vec![70_000]));
    assert!(to_column(&values, &column(ColumnType::SmallInt)).is_err());
    let fits: ArrayRef = Arc::new(Int64Array::from(vec![7]));
    let array = to_column(&fits, &column(ColumnType::SmallInt)).expect("fits");
    assert_eq!(array.as_primitive::<Int16Type>().value(0), 7);
}

#[test]
fn fractions_are_rounded_into_whole_numbers() {
    let values: ArrayRef = Arc::new(Float64Array::from(vec![1.5, 2.4]));
    let array = to_column(&values, &column(ColumnType::Int)).expect("rounds");
    assert_eq!(array.as_primitive::<Int32Type>().values().to_vec(), vec![2, 2]);
}

#[test]
fn booleans_are_not_numbers() {
    let values: ArrayRef = Arc::new(BooleanArray::from(vec![true]));
    assert!(to_column(&values, &column(ColumnType::Int)).is_err());
    let values: ArrayRef = Arc::new(Int32Array::from(vec![1]));
    assert!(to_column(&values, &column(ColumnType::Boolean)).is_err());
}

#[test]
fn json_and_uuid_are_validated() {
    assert!(to_column(&text("{\"a\":1}"), &column(ColumnType::Json)).is_ok());
    assert!(to_column(&text("{a"), &column(ColumnType::Json)).is_err());
    let array = to_column(&text("6F9619FF8B86D011B42D00C04FC964FF"), &column(ColumnType::Uuid)).expect("a uuid");
    assert_eq!(array.as_string::<i32>().value(0), "6f9619ff-8b86-d011-b42d-00c04fc964ff");
    assert!(to_column(&text("no"), &column(ColumnType::Uuid)).is_err());
}

#[test]
fn timestamps_read_from_text_and_from_the_wires_microseconds() {
    let from_text = to_column(&text("1970-01-01 00:00:01"), &column(ColumnType::Timestamp)).expect("a timestamp");
    let micros: ArrayRef = Arc::new(Int64Array::from(vec![1_000_000]));
    let from_number = to_column(&micros, &column(ColumnType::Timestamp)).expect("a timestamp");
    let expected: ArrayRef = Arc::new(TimestampMicrosecondArray::from(vec![1_000_000]));
    assert_eq!(&from_text, &expected);
    assert_eq!(&from_number, &expected);
}

#[test]
fn bytes_read_from_hex() {
    let array = to_column(&text("\\x00ff"), &column(ColumnType::Bytes)).expect("bytes");
    assert_eq!(array.as_binary::<i32>().value(0), [0, 255]);
    assert!(to_column(&text("\\x0"), &column(ColumnType::Bytes)).is_err());
}
