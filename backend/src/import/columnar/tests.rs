use arrow::array::*;
use arrow::datatypes::{Int32Type, UInt8Type};
use arrow::ipc::writer::StreamWriter;
use kalamdb_commons::ErrorKind;
use proptest::prelude::*;

use super::super::tests::{decoded, shown, target};
use super::*;

fn stream(columns: Vec<(&str, ArrayRef)>, batches: usize) -> Vec<u8> {
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
    for _ in 0..batches {
        writer.write(&batch).unwrap();
    }
    writer.into_inner().unwrap()
}

fn read(columns: Vec<(&str, ArrayRef)>) -> Result<Vec<String>> {
    let (batches, outcome) = decoded(ArrowStream::new(target(1_000)), &stream(columns, 1), 33);
    outcome.map(|()| shown(&batches))
}

fn refusal(column: &str, array: impl Array + 'static) -> String {
    read(vec![(column, Arc::new(array))]).expect_err(column).message().to_owned()
}

#[test]
fn types_are_converted_to_the_tables() {
    let rows = read(vec![
        ("id", Arc::new(UInt8Array::from(vec![Some(1), None]))),
        ("name", Arc::new(LargeStringArray::from(vec!["a", "b"]))),
        ("size", Arc::new(Int32Array::from(vec![3, 4]))),
        ("at", Arc::new(TimestampNanosecondArray::from(vec![1_999, 0]).with_timezone("UTC"))),
    ]);
    assert_eq!(rows.unwrap(), [r#"["1","a",3.0,1]"#, r#"[null,"b",4.0,0]"#]);
}

#[test]
fn text_is_read_as_in_csv_and_dictionaries_are_their_values() {
    let dictionary: DictionaryArray<Int32Type> = ["7", "8"].into_iter().collect();
    let rows = read(vec![
        ("id", Arc::new(dictionary)),
        ("at", Arc::new(StringArray::from(vec!["1970-01-01T00:00:01Z", "1970-01-01"]))),
        ("uuid", Arc::new(StringViewArray::from(vec!["67E5504410B1426F9247BB680E5FE0C8"; 2]))),
    ]);
    let uuid = "67e55044-10b1-426f-9247-bb680e5fe0c8";
    assert_eq!(rows.unwrap(), [format!("[\"7\",1000000,\"{uuid}\"]"), format!("[\"8\",0,\"{uuid}\"]")]);
}

#[test]
fn sixteen_bytes_are_a_uuid_and_nested_values_are_json() {
    let bytes = FixedSizeBinaryArray::try_from_sparse_iter_with_size([Some([0x67; 16]), None].into_iter(), 16);
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1), None]), None]);
    let rows = read(vec![("uuid", Arc::new(bytes.unwrap())), ("extra", Arc::new(list))]).unwrap();
    assert_eq!(rows, ["[\"67676767-6767-6767-6767-676767676767\",\"[1,null]\"]", "[null,null]"]);
}

#[test]
fn nothing_is_lost_without_a_word() {
    assert_eq!(
        refusal("id", Float64Array::from(vec![1.0, 1.5])),
        "row 2, column 'id': '1.5' does not convert to BIGINT"
    );
    assert_eq!(
        refusal("id", UInt64Array::from(vec![u64::MAX])),
        format!("row 1, column 'id': '{}' does not convert to BIGINT", u64::MAX)
    );
    assert_eq!(
        refusal("id", Float64Array::from(vec![f64::NAN])),
        "row 1, column 'id': 'NaN' does not convert to BIGINT"
    );
    let decimals = Decimal128Array::from(vec![150]).with_precision_and_scale(5, 2).unwrap();
    assert_eq!(refusal("id", decimals), "row 1, column 'id': '1.50' does not convert to BIGINT");
    assert_eq!(refusal("id", StringArray::from(vec!["x"])), "row 1, column 'id': 'x' does not convert to BIGINT");
    assert_eq!(refusal("extra", StringArray::from(vec!["{"])), "row 1, column 'extra': '{' does not convert to JSON");
    assert!(refusal("extra", Int32Array::from(vec![1])).contains("does not convert to JSON"));
    let list = ListArray::from_iter_primitive::<Int32Type, _, _>([Some(vec![Some(1)])]);
    assert!(refusal("id", list).contains("does not convert to BIGINT"));
    assert_eq!(read(vec![("id", Arc::new(Float64Array::from(vec![Some(2.0), None])))]).unwrap(), ["[\"2\"]", "[null]"]);
}

#[test]
fn rows_are_counted_over_batches_and_chunks_are_cut() {
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..7));
    let (batches, outcome) = decoded(ArrowStream::new(target(10)), &stream(vec![("id", ids)], 5), 100);
    outcome.unwrap();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [10, 10, 10, 5]);

    let bad: ArrayRef = Arc::new(StringArray::from(vec!["1", "2", "x"]));
    let body = stream(vec![("id", bad)], 1);
    let mut good = stream(vec![("id", Arc::new(StringArray::from(vec!["1", "2", "3"])) as ArrayRef)], 1);
    // The second batch follows the first: without the first's end mark and the second's schema.
    let schema_bytes = stream(vec![("id", Arc::new(StringArray::from(Vec::<&str>::new())) as ArrayRef)], 0).len() - 8;
    good.truncate(good.len() - 8);
    good.extend_from_slice(&body[schema_bytes..]);
    let (_, outcome) = decoded(ArrowStream::new(target(10)), &good, 100);
    assert_eq!(outcome.expect_err("bad").message(), "row 6, column 'id': 'x' does not convert to BIGINT");
}

#[test]
fn what_is_no_stream_is_refused() {
    let whole = stream(vec![("id", Arc::new(Int64Array::from(vec![1])) as ArrayRef)], 1);
    for body in [&b"id,name\n1,2\n"[..], &[], &whole[..whole.len() - 20]] {
        let (_, outcome) = decoded(ArrowStream::new(target(10)), body, 9);
        assert_eq!(outcome.expect_err("no stream").kind(), ErrorKind::InvalidInput);
    }
    let dictionary: DictionaryArray<UInt8Type> = ["a"].into_iter().collect();
    let body = stream(vec![("nom", Arc::new(dictionary) as ArrayRef)], 1);
    assert!(decoded(ArrowStream::new(target(10)), &body, 9).1.expect_err("unknown").message().contains("'nom'"));
}

#[test]
fn a_batch_beyond_the_limit_is_refused() {
    let mut arrow = ArrowStream::new(Target { message_bytes_max: 1_000, ..target(10) });
    let ids: ArrayRef = Arc::new(Int64Array::from_iter_values(0..1_000));
    let body = stream(vec![("id", ids)], 1);
    let outcome = body.chunks(100).try_for_each(|piece| arrow.feed(Bytes::copy_from_slice(piece), &mut Vec::new()));
    assert_eq!(outcome.expect_err("too large").kind(), ErrorKind::TooLarge);
}

proptest! {
    #[test]
    fn pieces_do_not_matter(ids in proptest::collection::vec(any::<i64>(), 1..50), piece_bytes in 1..200usize) {
        let body = stream(vec![("id", Arc::new(Int64Array::from(ids.clone())) as ArrayRef)], 2);
        let (batches, outcome) = decoded(ArrowStream::new(target(7)), &body, piece_bytes);
        outcome.unwrap();
        let expected: Vec<String> = ids.iter().chain(&ids).map(|id| format!("[\"{id}\"]")).collect();
        prop_assert_eq!(shown(&batches), expected);
    }
}
