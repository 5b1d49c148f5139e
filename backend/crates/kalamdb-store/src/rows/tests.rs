use std::collections::HashMap;
use std::sync::Arc;

use arrow::array::{
    Array, ArrayRef, AsArray, BinaryArray, BooleanArray, Date32Array, Decimal128Array, Float32Array, Float64Array,
    Int16Array, Int32Array, Int64Array, RecordBatch, StringArray, Time64MicrosecondArray, TimestampMicrosecondArray,
    new_null_array,
};
use arrow::datatypes::Int64Type;
use kalamdb_commons::ids::{ColumnId, Incarnation, RowId, TableId, TableRef};
use kalamdb_commons::schema::{Column, Table, TableKind, TableOptions, user_schema};
use kalamdb_commons::system_columns::SystemColumns;
use kalamdb_commons::types::ColumnType;
use proptest::prelude::*;

use super::convert::convert;
use super::*;

const DECIMAL: ColumnType = ColumnType::Decimal(20, 3);

fn types() -> Vec<ColumnType> {
    [&ColumnType::PLAIN[..], &[DECIMAL]].concat()
}

fn column(id: u32, column_type: ColumnType) -> Column {
    Column {
        id: ColumnId(id),
        name: format!("c{id}").into(),
        column_type,
        nullable: true,
        default: None,
        missing: None,
    }
}

/// A table whose versions, from 1, are these lists of columns.
fn table(versions: &[Vec<Column>]) -> Table {
    let versions: std::collections::BTreeMap<_, _> =
        (1..).zip(versions).map(|(version, columns)| (SchemaVersion(version), columns.clone().into())).collect();
    Table {
        id: TableId(1),
        incarnation: Incarnation(1),
        name: TableRef::new("app", "t").unwrap(),
        kind: TableKind::User,
        version: *versions.keys().last().unwrap(),
        versions,
        next_column: ColumnId(100),
        keys: vec![],
        next_key: 0,
        checks: vec![],
        indexes: vec![],
        options: TableOptions::default(),
        created_at_ms: 0,
    }
}

/// An array of a type from arbitrary numbers: `None` is NULL.
fn array(column_type: ColumnType, values: &[Option<i64>]) -> ArrayRef {
    macro_rules! numbers {
        ($array:ty, $number:ty) => {
            Arc::new(values.iter().map(|value| value.map(|v| v as $number)).collect::<$array>())
        };
    }
    let texts = |prefix: &str| -> ArrayRef {
        let text = |value: i64| if value % 5 == 0 { String::new() } else { format!("{prefix}ü{value}") };
        Arc::new(values.iter().map(|value| value.map(text)).collect::<StringArray>())
    };
    match column_type {
        ColumnType::Boolean => Arc::new(values.iter().map(|v| v.map(|v| v % 2 == 0)).collect::<BooleanArray>()),
        ColumnType::SmallInt => numbers!(Int16Array, i16),
        ColumnType::Int => numbers!(Int32Array, i32),
        ColumnType::BigInt => numbers!(Int64Array, i64),
        ColumnType::Float => numbers!(Float32Array, f32),
        ColumnType::Double => numbers!(Float64Array, f64),
        ColumnType::Decimal(precision, scale) => {
            let array: Decimal128Array = values.iter().map(|v| v.map(i128::from)).collect();
            Arc::new(array.with_precision_and_scale(precision, scale).unwrap())
        }
        ColumnType::Date => numbers!(Date32Array, i32),
        ColumnType::Time => numbers!(Time64MicrosecondArray, i64),
        ColumnType::Timestamp | ColumnType::DateTime => numbers!(TimestampMicrosecondArray, i64),
        ColumnType::Bytes => {
            let bytes: Vec<_> =
                values.iter().map(|v| v.map(|v| v.to_le_bytes()[..(v & 7) as usize].to_vec())).collect();
            Arc::new(bytes.iter().map(Option::as_deref).collect::<BinaryArray>())
        }
        ColumnType::Text => texts("t"),
        ColumnType::Uuid => texts("u"),
        ColumnType::Json => texts("j"),
    }
}

fn encode_all(columns: &[Column], version: u32, batch: &RecordBatch) -> Vec<Vec<u8>> {
    let encoder = RowEncoder::new(columns, SchemaVersion(version));
    let rows = encoder.batch(batch).unwrap();
    (0..batch.num_rows())
        .map(|row| {
            let mut value = rows.row(row, row % 3 == 0).unwrap();
            patch(&mut value, CommitTime(1000 + row as i64), CommitTime(row as i64)).unwrap();
            value
        })
        .collect()
}

fn batch_of(columns: &[Column], arrays: Vec<ArrayRef>) -> RecordBatch {
    RecordBatch::try_new(Arc::new(user_schema(columns)), arrays).unwrap()
}

fn user_columns(table: &Table) -> Vec<Projected> {
    table.columns().iter().map(|column| Projected::Column(column.id)).collect()
}

fn decode(table: &Table, projection: Vec<Projected>, rows: &[Vec<u8>]) -> Result<RecordBatch> {
    let mut decoder = RowDecoder::new(table, projection, &HashMap::new(), rows.len())?;
    for (id, row) in rows.iter().enumerate() {
        decoder.push(RowId(id as i64), row)?;
    }
    decoder.finish()
}

fn optional_numbers(rows: usize) -> impl Strategy<Value = Vec<Option<i64>>> {
    prop::collection::vec(prop::option::weighted(0.8, any::<i64>()), rows)
}

proptest! {
    #[test]
    fn rows_of_all_types_round_trip(
        picked in prop::collection::vec(0usize..15, 0..20),
        values in prop::collection::vec(optional_numbers(9), 20),
    ) {
        let columns: Vec<_> = picked.iter().zip(1..).map(|(at, id)| column(id, types()[*at])).collect();
        prop_assume!(!columns.is_empty());
        let arrays = columns.iter().zip(&values).map(|(column, values)| array(column.column_type, values)).collect();
        let batch = batch_of(&columns, arrays);
        let table = table(std::slice::from_ref(&columns));
        let rows = encode_all(&columns, 1, &batch);
        prop_assert_eq!(&decode(&table, user_columns(&table), &rows).unwrap(), &batch);
    }

    #[test]
    fn old_versions_are_read_by_column_id(
        order in prop::collection::vec(1u32..4, 1..24),
        values in prop::collection::vec(optional_numbers(24), 3),
    ) {
        // Version 2 drops column 1 and adds 3; version 3 retypes 2 and adds 1's name again as another column.
        let renamed = |id, name: &str, column_type| Column { name: name.into(), ..column(id, column_type) };
        let versions = [
            vec![renamed(1, "a", ColumnType::Text), renamed(2, "b", ColumnType::Int)],
            vec![renamed(2, "b", ColumnType::Int), renamed(3, "c", ColumnType::Boolean)],
            vec![renamed(2, "b", ColumnType::Text), renamed(3, "c", ColumnType::Boolean), renamed(4, "a", ColumnType::Text)],
        ];
        let encoded: Vec<_> = versions.iter().zip(1..).map(|(columns, version)| {
            let arrays = columns.iter().zip(&values).map(|(column, values)| array(column.column_type, values)).collect();
            let batch = batch_of(columns, arrays);
            (encode_all(columns, version, &batch), batch)
        }).collect();
        let table = table(&versions);
        let missing_c: ArrayRef = Arc::new(BooleanArray::from(vec![true]));
        let missing = HashMap::from([(ColumnId(3), missing_c)]);
        let mut decoder = RowDecoder::new(&table, user_columns(&table), &missing, 4).unwrap();
        for _ in 0..2 {
            for (row, version) in order.iter().enumerate() {
                decoder.push(RowId(row as i64), &encoded[*version as usize - 1].0[row]).unwrap();
            }
            prop_assert_eq!(decoder.len(), order.len());
            let read = decoder.finish().unwrap();
            for (row, version) in order.iter().enumerate() {
                let (_, written) = &encoded[*version as usize - 1];
                let shown = |batch: &RecordBatch, name: &str| -> Option<String> {
                    let array = batch.column_by_name(name)?;
                    (!array.is_null(row)).then(|| arrow::util::display::array_value_to_string(array, row).unwrap())
                };
                prop_assert_eq!(shown(&read, "b"), shown(written, "b"));
                let c = if *version == 1 { Some("true".to_owned()) } else { shown(written, "c") };
                prop_assert_eq!(shown(&read, "c"), c);
                let a = if *version == 3 { shown(written, "a") } else { None };
                prop_assert_eq!(shown(&read, "a"), a, "a column of the same name is another column");
            }
        }
    }

    #[test]
    fn damaged_rows_never_panic(
        cut in any::<prop::sample::Index>(),
        flips in prop::collection::vec((any::<prop::sample::Index>(), 1u8..), 0..4),
        values in prop::collection::vec(optional_numbers(1), 15),
        tail in prop::collection::vec(any::<u8>(), 0..3),
    ) {
        let columns: Vec<_> = types().into_iter().zip(1..).map(|(column_type, id)| column(id, column_type)).collect();
        let arrays = columns.iter().zip(&values).map(|(column, values)| array(column.column_type, values)).collect();
        let good = encode_all(&columns, 1, &batch_of(&columns, arrays)).remove(0);
        let table = table(&[columns]);
        let mut bad = good[..=cut.index(good.len())].to_vec();
        for (at, flip) in &flips {
            let at = at.index(bad.len());
            bad[at] ^= flip;
        }
        bad.extend(&tail);
        let outcome = decode(&table, user_columns(&table), std::slice::from_ref(&bad));
        if flips.is_empty() && bad.len() != good.len() {
            prop_assert!(matches!(outcome, Err(StoreError::Corrupt { .. })), "{:?}", outcome);
        }
        if let Err(error) = outcome {
            prop_assert!(matches!(error, StoreError::Corrupt { .. }), "{error:?}");
        }
        let _ = (header(&bad), reencode_deleted(&bad), patch(&mut bad, CommitTime(0), CommitTime(0)));
    }

    #[test]
    fn noise_never_panics(noise in any::<Vec<u8>>()) {
        let columns = vec![column(1, ColumnType::Text), column(2, ColumnType::Int), column(3, ColumnType::Bytes)];
        let table = table(&[columns]);
        let mut row = vec![0; HEADER_BYTES];
        row[VERSION_AT] = 1;
        row.extend(noise);
        let _ = decode(&table, user_columns(&table), &[row]);
    }

    #[test]
    fn key_bytes_are_equal_exactly_if_the_values_are(
        at in 0usize..15,
        a in prop::collection::vec(-2i64..3, 2),
        b in prop::collection::vec(-2i64..3, 2),
    ) {
        let column_type = types()[at];
        let key = |values: &[i64]| {
            let columns: Vec<_> = values.iter().map(|value| array(column_type, &[Some(*value)])).collect();
            let shown: Vec<_> = columns.iter().map(|c| arrow::util::display::array_value_to_string(c, 0).unwrap()).collect();
            (key_bytes(&columns.iter().collect::<Vec<_>>(), 0).unwrap().unwrap(), shown)
        };
        let ((one, shown_one), (two, shown_two)) = (key(&a), key(&b));
        prop_assert_eq!(one == two, shown_one == shown_two);
        prop_assert!(one == two || !one.starts_with(&two));
    }

    #[test]
    fn key_bytes_keep_the_order_of_numbers(a in any::<i64>(), b in any::<i64>(), x in any::<f64>(), y in any::<f64>()) {
        let key = |array: ArrayRef| key_bytes(&[&array], 0).unwrap().unwrap();
        let whole = |v| key(Arc::new(Int64Array::from(vec![v])));
        prop_assert_eq!(whole(a).cmp(&whole(b)), a.cmp(&b));
        let float = |v| key(Arc::new(Float64Array::from(vec![v])));
        prop_assert_eq!(float(x).cmp(&float(y)), x.partial_cmp(&y).unwrap());
    }
}

#[test]
fn the_format_is_the_one_that_is_on_disk() {
    let columns = [column(1, ColumnType::Text), column(2, ColumnType::SmallInt), column(3, ColumnType::Text)];
    let arrays: Vec<ArrayRef> = vec![
        Arc::new(StringArray::from(vec!["ab"])),
        Arc::new(Int16Array::from(vec![0x0102])),
        Arc::new(StringArray::from(vec![None::<&str>])),
    ];
    let mut row = Vec::new();
    RowEncoder::new(&columns, SchemaVersion(5)).encode(&arrays, 0, true, &mut row).unwrap();
    patch(&mut row, CommitTime(7), CommitTime(6)).unwrap();
    let expected = [
        &[7, 0, 0, 0, 0, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0, 5, 0, 0, 0, 1][..],
        &[0b100, 0x02, 0x01, 2, 0, 0, 0, 2, 0, 0, 0],
        b"ab",
    ]
    .concat();
    assert_eq!(row, expected);
}

#[test]
fn a_row_of_another_length_is_damage_whatever_is_read_of_it() {
    for column_type in [ColumnType::Int, ColumnType::Text] {
        let columns = vec![column(1, column_type)];
        let good = encode_all(&columns, 1, &batch_of(&columns, vec![array(column_type, &[Some(3)])])).remove(0);
        let table = table(&[columns]);
        for bad in [good[..good.len() - 1].to_vec(), [&good[..], &[0]].concat()] {
            for projection in [vec![], user_columns(&table)] {
                assert!(matches!(
                    decode(&table, projection, std::slice::from_ref(&bad)),
                    Err(StoreError::Corrupt { .. })
                ));
            }
        }
    }
}

#[test]
fn a_deletion_keeps_the_values() {
    let columns = [column(1, ColumnType::Text)];
    let arrays: Vec<ArrayRef> = vec![Arc::new(StringArray::from(vec!["last"]))];
    let row = RowEncoder::new(&columns, SchemaVersion(1)).columns(&arrays).unwrap().row(0, false).unwrap();
    let deletion = reencode_deleted(&row).unwrap();
    assert!(!header(&row).unwrap().deleted && header(&deletion).unwrap().deleted);
    assert_eq!(row[HEADER_BYTES..], deletion[HEADER_BYTES..]);
}

#[test]
fn system_columns_come_from_the_header_and_the_key() {
    let columns = vec![column(1, ColumnType::BigInt)];
    let batch = batch_of(&columns, vec![array(ColumnType::BigInt, &[Some(1), Some(2)])]);
    let table = table(std::slice::from_ref(&columns));
    let all = [
        Projected::Born,
        Projected::Seq,
        Projected::Column(ColumnId(1)),
        Projected::Deleted,
        Projected::Updated,
        Projected::Id,
    ];
    let read = decode(&table, all.to_vec(), &encode_all(&columns, 1, &batch)).unwrap();
    let expected = [
        SystemColumns::born_field(),
        SystemColumns::seq_field(),
        ColumnType::BigInt.field("c1", true),
        SystemColumns::deleted_field(),
        SystemColumns::updated_field(),
        SystemColumns::id_field(),
    ];
    assert!(read.schema().fields().iter().map(|field| &**field).eq(&expected));
    assert_eq!(read.column(0).as_primitive::<Int64Type>().values(), &[0, 1]);
    assert_eq!(read.column(1).as_primitive::<Int64Type>().values(), &[1000, 1001]);
    assert_eq!(read.column(2).as_primitive::<Int64Type>().values(), &[1, 2]);
    assert_eq!(read.column(3).as_boolean().iter().collect::<Vec<_>>(), [Some(true), Some(false)]);
    assert_eq!(read.column(5).as_primitive::<Int64Type>().values(), &[0, 1]);
}

#[test]
fn rows_can_be_counted_without_columns() {
    let columns = vec![column(1, ColumnType::BigInt)];
    let batch = batch_of(&columns, vec![array(ColumnType::BigInt, &[Some(1), Some(2)])]);
    let table = table(std::slice::from_ref(&columns));
    let read = decode(&table, vec![], &encode_all(&columns, 1, &batch)).unwrap();
    assert_eq!((read.num_columns(), read.num_rows()), (0, 2));
}

#[test]
fn a_table_without_columns_has_rows() {
    let table = table(&[vec![]]);
    let row = RowEncoder::new(&[], SchemaVersion(1))
        .batch(
            &RecordBatch::try_new_with_options(
                Arc::new(arrow::datatypes::Schema::empty()),
                vec![],
                &arrow::array::RecordBatchOptions::new().with_row_count(Some(1)),
            )
            .unwrap(),
        )
        .unwrap()
        .row(0, false)
        .unwrap();
    assert_eq!(decode(&table, vec![Projected::Id], &[row]).unwrap().num_rows(), 1);
}

#[test]
fn deletions_may_hold_null_where_null_is_not_allowed_any_more() {
    let mut columns = vec![column(1, ColumnType::BigInt)];
    let batch = batch_of(&columns, vec![array(ColumnType::BigInt, &[None])]);
    let rows = encode_all(&columns, 1, &batch);
    columns[0].nullable = false;
    let table = table(&[columns]);
    let read = decode(&table, user_columns(&table), &rows).unwrap();
    assert!(read.column(0).is_null(0) && read.schema().field(0).is_nullable());
}

#[test]
fn versions_that_never_were_are_damage() {
    let columns = vec![column(1, ColumnType::BigInt)];
    let rows = encode_all(&columns, 9, &batch_of(&columns, vec![array(ColumnType::BigInt, &[Some(1)])]));
    let outcome = decode(&table(&[columns]), vec![Projected::Id], &rows);
    assert!(matches!(outcome, Err(StoreError::Corrupt { what }) if what.contains("version 9")));
}

#[test]
fn wrong_arrays_and_projections_are_refused_by_name() {
    let columns = vec![column(1, ColumnType::BigInt)];
    let encoder = RowEncoder::new(&columns, SchemaVersion(1));
    let refused = |arrays: &[ArrayRef]| encoder.columns(arrays).unwrap_err().to_string();
    assert!(refused(&[array(ColumnType::Int, &[Some(1)])]).contains("'c1' is Int32, not Int64"));
    assert!(refused(&[]).contains("0 columns were given, the table has 1"));
    let good = [array(ColumnType::BigInt, &[Some(1)])];
    assert!(encoder.columns(&good).unwrap().row(1, false).is_err());
    let unknown = vec![Projected::Column(ColumnId(8))];
    assert!(RowDecoder::new(&table(&[columns]), unknown, &HashMap::new(), 0).is_err());
}

#[test]
fn null_keys_have_no_bytes() {
    let (one, null) = (array(ColumnType::BigInt, &[Some(1)]), array(ColumnType::BigInt, &[None]));
    assert_eq!(key_bytes(&[&one, &null], 0).unwrap(), None);
    assert!(key_bytes(&[&one], 1).is_err());
}

#[test]
fn keys_of_several_texts_do_not_run_together() {
    let text = |text: &str| -> ArrayRef { Arc::new(StringArray::from(vec![text])) };
    let key = |a: &str, b: &str| key_bytes(&[&text(a), &text(b)], 0).unwrap().unwrap();
    assert_ne!(key("a", "bc"), key("ab", "c"));
    assert_ne!(key("a\0", "b"), key("a", "\0b"));
    assert!(key("a", "b") < key("a", "c") && key("a", "z") < key("aa", "a"));
}

#[test]
fn equal_numbers_of_any_width_are_one_key() {
    let small = key_bytes(&[&array(ColumnType::SmallInt, &[Some(-4)])], 0).unwrap();
    assert_eq!(small, key_bytes(&[&array(ColumnType::BigInt, &[Some(-4)])], 0).unwrap());
    let zero = |zero: f64| key_bytes(&[&(Arc::new(Float64Array::from(vec![zero])) as ArrayRef)], 0).unwrap();
    assert_eq!(zero(0.0), zero(-0.0));
    assert_eq!(zero(f64::NAN), zero(-f64::NAN));
}

#[test]
fn values_convert_or_say_why() {
    let texts = |texts: &[&str]| -> ArrayRef { Arc::new(StringArray::from(texts.to_vec())) };
    let to = |array: &ArrayRef, from, to| convert("c", array, from, to);
    let numbers = to(&texts(&["1", "-20"]), ColumnType::Text, ColumnType::BigInt).unwrap();
    assert_eq!(numbers.as_primitive::<Int64Type>().values(), &[1, -20]);
    let error = to(&texts(&["1", "x"]), ColumnType::Text, ColumnType::BigInt).unwrap_err();
    assert!(error.to_string().contains("'c': a TEXT value cannot be read as BIGINT"), "{error}");
    let uuid = "67E55044-10B1-426F-9247-BB680E5FE0C8";
    let uuids = to(&texts(&[uuid]), ColumnType::Text, ColumnType::Uuid).unwrap();
    assert_eq!(uuids.as_string::<i32>().value(0), uuid.to_lowercase());
    assert!(to(&texts(&["no"]), ColumnType::Text, ColumnType::Uuid).is_err());
    assert!(to(&texts(&["{\"a\": 1}"]), ColumnType::Text, ColumnType::Json).is_ok());
    assert!(to(&texts(&["{"]), ColumnType::Text, ColumnType::Json).is_err());
    let big: ArrayRef = Arc::new(Int64Array::from(vec![1 << 40]));
    assert!(to(&big, ColumnType::BigInt, ColumnType::Int).is_err());
}

#[test]
fn whatever_converts_keeps_null_and_length() {
    for from in types() {
        for into in types() {
            let nulls = new_null_array(&from.arrow(), 3);
            if let Ok(converted) = convert("c", &nulls, from, into) {
                assert_eq!((converted.len(), converted.null_count()), (3, 3), "{from} to {into}");
                assert_eq!(*converted.data_type(), into.arrow());
            }
        }
    }
}
