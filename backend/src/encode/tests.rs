use arrow::array::*;
use arrow::buffer::{OffsetBuffer, ScalarBuffer};
use arrow::datatypes::{DurationMicrosecondType, Fields, Int32Type, IntervalUnit, Schema, i256};
use proptest::prelude::*;

use super::*;

/// The `data_type` and the cells of a column.
fn encoded(field: Field, array: ArrayRef) -> (Value, Vec<Value>) {
    let schema = Arc::new(Schema::new(vec![field]));
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![array]).unwrap();
    let writer = RowWriter::new(&schema, &batch).unwrap();
    let cells = (0..writer.rows()).map(|row| {
        let mut out = Vec::new();
        writer.write(row, &mut out);
        let cells: Vec<Value> = serde_json::from_slice(&out).unwrap();
        assert_eq!(cells.len(), 1);
        cells[0].clone()
    });
    (data_type(schema.field(0)), cells.collect())
}

fn check(array: impl Array + 'static, expected_type: Value, expected: Value) {
    let field = Field::new("c", array.data_type().clone(), true);
    assert_eq!(encoded(field, Arc::new(array)), (expected_type, expected.as_array().unwrap().clone()));
}

#[test]
fn booleans_and_nulls() {
    check(BooleanArray::from(vec![Some(true), None, Some(false)]), json!("Boolean"), json!([true, null, false]));
    check(NullArray::new(2), json!("Text"), json!([null, null]));
}

#[test]
fn small_integers_are_numbers() {
    check(Int8Array::from(vec![-128, 127]), json!("SmallInt"), json!([-128, 127]));
    check(Int16Array::from(vec![Some(-32768), None]), json!("SmallInt"), json!([-32768, null]));
    check(Int32Array::from(vec![i32::MIN, i32::MAX]), json!("Int"), json!([i32::MIN, i32::MAX]));
    check(UInt8Array::from(vec![255]), json!("SmallInt"), json!([255]));
    check(UInt16Array::from(vec![65535]), json!("Int"), json!([65535]));
    check(UInt32Array::from(vec![u32::MAX]), json!("BigInt"), json!([u32::MAX]));
}

#[test]
fn integers_of_64_bits_are_strings() {
    check(
        Int64Array::from(vec![Some(i64::MIN), None, Some(i64::MAX)]),
        json!("BigInt"),
        json!(["-9223372036854775808", null, "9223372036854775807"]),
    );
    check(UInt64Array::from(vec![u64::MAX]), json!("BigInt"), json!(["18446744073709551615"]));
}

#[test]
fn floats_are_numbers_if_they_are_finite() {
    let odd = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY];
    check(
        Float64Array::from([&odd[..], &[0.1, 1e300]].concat()),
        json!("Double"),
        json!([null, null, null, 0.1, 1e300]),
    );
    check(Float32Array::from(vec![f32::NAN, 0.1, 16_777_216.0]), json!("Float"), json!([null, 0.1, 16_777_216.0]));
    let half = Float16Type::default_half(1.5);
    check(Float16Array::from(vec![half]), json!("Float"), json!([1.5]));
}

trait Half {
    fn default_half(value: f32) -> <Float16Type as ArrowPrimitiveType>::Native;
}

impl Half for Float16Type {
    fn default_half(value: f32) -> <Float16Type as ArrowPrimitiveType>::Native {
        <Float16Type as ArrowPrimitiveType>::Native::from_f32(value)
    }
}

#[test]
fn a_float_of_32_bits_is_not_widened() {
    let field = Field::new("c", DataType::Float32, false);
    let schema = Arc::new(Schema::new(vec![field]));
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![Arc::new(Float32Array::from(vec![0.1]))]).unwrap();
    let mut out = Vec::new();
    RowWriter::new(&schema, &batch).unwrap().write(0, &mut out);
    assert_eq!(out, b"[0.1]");
}

#[test]
fn decimals_are_strings_of_every_width() {
    let of = |precision, scale| json!({"Decimal": {"precision": precision, "scale": scale}});
    let array = Decimal128Array::from(vec![Some(-12_345), None, Some(5)]).with_precision_and_scale(10, 2).unwrap();
    check(array, of(10, 2), json!(["-123.45", null, "0.05"]));
    let array = Decimal32Array::from(vec![1_234]).with_precision_and_scale(9, 3).unwrap();
    check(array, of(9, 3), json!(["1.234"]));
    let array = Decimal64Array::from(vec![7]).with_precision_and_scale(18, 0).unwrap();
    check(array, of(18, 0), json!(["7"]));
    let array = Decimal256Array::from(vec![i256::from_i128(i128::MAX)]).with_precision_and_scale(50, 1).unwrap();
    check(array, of(38, 1), json!(["17014118346046923173168730371588410572.7"]));
}

#[test]
fn instants_of_every_unit_are_microseconds() {
    check(TimestampSecondArray::from(vec![1, -1]), json!("Timestamp"), json!([1_000_000, -1_000_000]));
    check(TimestampMillisecondArray::from(vec![1]), json!("Timestamp"), json!([1_000]));
    check(TimestampMicrosecondArray::from(vec![Some(1), None]), json!("Timestamp"), json!([1, null]));
    check(TimestampNanosecondArray::from(vec![1_999, -1]), json!("Timestamp"), json!([1, -1]));
    check(
        TimestampMicrosecondArray::from(vec![5]).with_timezone("Europe/Berlin".to_owned()),
        json!("Timestamp"),
        json!([5]),
    );
}

#[test]
fn days_and_times_of_day() {
    check(Date32Array::from(vec![-1, 19_000]), json!("Date"), json!([-1, 19_000]));
    check(Date64Array::from(vec![-1, 86_400_000]), json!("Date"), json!([-1, 1]));
    check(Time32SecondArray::from(vec![86_399]), json!("Time"), json!([86_399_000_000_i64]));
    check(Time32MillisecondArray::from(vec![1]), json!("Time"), json!([1_000]));
    check(Time64MicrosecondArray::from(vec![1]), json!("Time"), json!([1]));
    check(Time64NanosecondArray::from(vec![1_999]), json!("Time"), json!([1]));
}

#[test]
fn text_is_escaped_and_bytes_are_base64() {
    let odd = "a\"b\\c\n\u{1}\u{2028}é😀";
    check(StringArray::from(vec![Some(odd), None, Some("")]), json!("Text"), json!([odd, null, ""]));
    check(LargeStringArray::from(vec![odd]), json!("Text"), json!([odd]));
    check(StringViewArray::from(vec![odd, "short"]), json!("Text"), json!([odd, "short"]));
    check(BinaryArray::from_vec(vec![b"", b"\x00\xff", b"abc"]), json!("Bytes"), json!(["", "AP8=", "YWJj"]));
    check(LargeBinaryArray::from_vec(vec![b"abcd"]), json!("Bytes"), json!(["YWJjZA=="]));
    check(BinaryViewArray::from_iter_values([b"abc"]), json!("Bytes"), json!(["YWJj"]));
    let fixed = FixedSizeBinaryArray::try_from_iter([[1u8, 2], [3, 4]].iter()).unwrap();
    check(fixed, json!("Bytes"), json!(["AQI=", "AwQ="]));
}

#[test]
fn dictionaries_and_runs_are_their_values() {
    let array: DictionaryArray<Int32Type> = [Some("a"), None, Some("a")].into_iter().collect();
    check(array, json!("Text"), json!(["a", null, "a"]));
    let numbers = DictionaryArray::new(Int32Array::from(vec![1, 0]), Arc::new(Int64Array::from(vec![7, 8])));
    check(numbers, json!("BigInt"), json!(["8", "7"]));
    let runs = RunArray::try_new(&Int32Array::from(vec![2, 3]), &StringArray::from(vec![Some("x"), None])).unwrap();
    check(runs, json!("Text"), json!(["x", "x", null]));
}

#[test]
fn lists_structs_and_maps_are_json() {
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None, Some(vec![])]);
    check(list, json!("Json"), json!([[1, null], null, []]));
    let fixed = FixedSizeListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), Some(2)])], 2);
    check(fixed, json!("Json"), json!([[1, 2]]));
    let fields = Fields::from(vec![Field::new("a", DataType::Int32, true), Field::new("b", DataType::Utf8, true)]);
    let columns: Vec<ArrayRef> =
        vec![Arc::new(Int32Array::from(vec![Some(1), None])), Arc::new(StringArray::from(vec![Some("x\"y"), None]))];
    check(
        StructArray::new(fields, columns, None),
        json!("Json"),
        json!([{"a": 1, "b": "x\"y"}, {"a": null, "b": null}]),
    );
    let mut map = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
    map.keys().append_value("k");
    map.values().append_value(1);
    map.append(true).unwrap();
    check(map.finish(), json!("Json"), json!([{"k": 1}]));
}

#[test]
fn what_has_no_scalar_form_is_text() {
    let durations = PrimitiveArray::<DurationMicrosecondType>::from(vec![Some(1_500_000), None]);
    let (kind, cells) = encoded(Field::new("c", durations.data_type().clone(), true), Arc::new(durations));
    assert_eq!(kind, json!("Text"));
    assert!(cells[0].is_string() && cells[1].is_null(), "{cells:?}");
    let intervals = IntervalYearMonthArray::from(vec![14]);
    assert_eq!(*intervals.data_type(), DataType::Interval(IntervalUnit::YearMonth));
    let (kind, cells) = encoded(Field::new("c", intervals.data_type().clone(), true), Arc::new(intervals));
    assert_eq!(kind, json!("Text"));
    assert!(cells[0].is_string(), "{cells:?}");
}

/// A map with keys that JSON cannot have, and a union, are still answered.
#[test]
fn nothing_is_refused() {
    let mut map = MapBuilder::new(None, Int32Builder::new(), Int32Builder::new());
    map.keys().append_value(1);
    map.values().append_value(2);
    map.append(true).unwrap();
    let map = map.finish();
    let (kind, cells) = encoded(Field::new("c", map.data_type().clone(), true), Arc::new(map));
    assert_eq!(kind, json!("Json"));
    assert!(cells[0].is_string(), "{cells:?}");
}

#[test]
fn the_remembered_type_decides_the_data_type() {
    for (column_type, expected) in [
        (ColumnType::Uuid, json!("Uuid")),
        (ColumnType::Json, json!("Json")),
        (ColumnType::DateTime, json!("DateTime")),
        (ColumnType::Timestamp, json!("Timestamp")),
        (ColumnType::Decimal(12, 3), json!({"Decimal": {"precision": 12, "scale": 3}})),
    ] {
        assert_eq!(data_type(&column_type.field("c", true)), expected);
    }
}

/// Clients reject an answer with any other.
#[test]
fn every_column_type_has_a_data_type_of_the_protocol() {
    const WORDS: [&str; 15] = [
        "Boolean",
        "SmallInt",
        "Int",
        "BigInt",
        "Float",
        "Double",
        "Text",
        "Timestamp",
        "Date",
        "DateTime",
        "Time",
        "Json",
        "Bytes",
        "Uuid",
        "File",
    ];
    for column_type in ColumnType::PLAIN {
        let word = data_type(&column_type.field("c", true));
        assert!(WORDS.contains(&word.as_str().unwrap()), "{word}");
    }
}

#[test]
fn a_schema_says_names_types_places_and_flags() {
    let schema: SchemaRef =
        Arc::new(Schema::new(vec![ColumnType::BigInt.field("id", false), ColumnType::Text.field("we\"ird", true)]));
    let flags = [ColumnFlags { primary_key: true, not_null: true, unique: true }, ColumnFlags::default()];
    let mut out = Vec::new();
    write_schema(&schema, &flags, &mut out);
    assert_eq!(
        serde_json::from_slice::<Value>(&out).unwrap(),
        json!([
            {"name": "id", "data_type": "BigInt", "index": 0, "flags": ["pk", "nn", "uq"]},
            {"name": "we\"ird", "data_type": "Text", "index": 1},
        ])
    );
}

#[test]
fn a_sliced_batch_writes_its_own_rows() {
    let offsets = OffsetBuffer::new(ScalarBuffer::from(vec![0, 1, 3, 4]));
    let values = Arc::new(Int32Array::from(vec![1, 2, 3, 4]));
    let list = ListArray::new(Arc::new(Field::new_list_field(DataType::Int32, true)), offsets, values, None);
    let sliced = list.slice(1, 2);
    check(sliced, json!("Json"), json!([[2, 3], [4]]));
    check(StringArray::from(vec!["a", "b", "c"]).slice(2, 1), json!("Text"), json!(["c"]));
}

proptest! {
    #[test]
    fn any_text_and_bytes_survive(text in ".*", bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        check(StringArray::from(vec![text.as_str()]), json!("Text"), json!([text]));
        let (_, cells) = encoded(
            Field::new("c", DataType::Binary, true),
            Arc::new(BinaryArray::from_vec(vec![bytes.as_slice()])),
        );
        prop_assert_eq!(BASE64.decode(cells[0].as_str().unwrap()).unwrap(), bytes);
    }
}
