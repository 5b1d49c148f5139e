use serde_json::json;

use super::*;

/// What goes to stdout and stderr for an answer.
fn printed(format: Format, answer: &Value) -> (String, String) {
    let (mut out, mut messages) = (Vec::new(), Vec::new());
    let text = answer.to_string();
    crate::answer::read(text.as_bytes(), &mut *printer(format, &mut out, &mut messages)).expect("an answer");
    (String::from_utf8(out).expect("UTF-8"), String::from_utf8(messages).expect("UTF-8"))
}

fn flights() -> Value {
    json!({"results": [{
        "schema": [
            {"name": "_id", "data_type": "BigInt", "index": 0},
            {"name": "carrier", "data_type": "Text", "index": 1},
            {"name": "at", "data_type": "Timestamp", "index": 2},
        ],
        "rows": [["1", "UA", 1_357_034_400_000_000_i64], ["22", null, null], ["333", "a \"b\", c\nd", 0], ["4", "", 1]],
        "row_count": 4,
    }]})
}

fn two() -> Value {
    let result = json!({"schema": [{"name": "a", "data_type": "Int"}, {"name": "a", "data_type": "Int"}],
        "rows": [[1, 2]], "row_count": 1});
    json!({"results": [result, {"row_count": 3, "message": "Inserted 3 row(s)"}, result]})
}

#[test]
fn a_table_is_aligned_and_shows_null() {
    let (out, messages) = printed(Format::Table, &flights());
    assert_eq!(
        out,
        "\
┌─────┬──────────┬────────────────────────────┐
│ _id ┆ carrier  ┆ at                         │
╞═════╪══════════╪════════════════════════════╡
│   1 ┆ UA       ┆ 2013-01-01 10:00:00        │
│  22 ┆ <null>   ┆ <null>                     │
│ 333 ┆ a \"b\", c ┆ 1970-01-01 00:00:00        │
│     ┆ d        ┆                            │
│   4 ┆          ┆ 1970-01-01 00:00:00.000001 │
└─────┴──────────┴────────────────────────────┘
(4 rows)
"
    );
    assert_eq!(messages, "");
}

#[test]
fn an_empty_table_shows_its_columns() {
    let answer = json!({"results": [{"schema": [{"name": "a", "data_type": "Int"}], "rows": [], "row_count": 0}]});
    assert_eq!(printed(Format::Table, &answer).0, "┌───┐\n│ a │\n╞═══╡\n└───┘\n(0 rows)\n");
}

#[test]
fn a_long_result_is_several_tables_with_one_count() {
    let rows: Vec<_> = (0..TABLE_ROWS_MAX + 1).map(|n| json!([n])).collect();
    let count = rows.len();
    let answer =
        json!({"results": [{"schema": [{"name": "a", "data_type": "Int"}], "rows": rows, "row_count": count}]});
    let (out, _) = printed(Format::Table, &answer);
    assert_eq!(out.lines().count(), count + 2 * 4 + 1);
    assert!(out.ends_with(&format!("({count} rows)\n")));
}

#[test]
fn csv_tells_null_from_empty() {
    let (out, _) = printed(Format::Csv, &flights());
    assert_eq!(
        out,
        "_id,carrier,at\n1,UA,2013-01-01 10:00:00\n22,,\n333,\"a \"\"b\"\", c\nd\",1970-01-01 00:00:00\n\
         4,\"\",1970-01-01 00:00:00.000001\n"
    );
}

#[test]
fn messages_stay_out_of_csv() {
    let (out, messages) = printed(Format::Csv, &two());
    assert_eq!((out.as_str(), messages.as_str()), ("a,a\n1,2\n\na,a\n1,2\n", "Inserted 3 row(s)\n"));
}

#[test]
fn json_is_one_value_per_result_and_loses_no_column() {
    let (out, messages) = printed(Format::Json, &two());
    let values: Vec<Value> =
        serde_json::Deserializer::from_str(&out).into_iter().collect::<Result<_, _>>().expect("JSON values");
    let rows = json!([{"a": 1, "a_2": 2}]);
    assert_eq!(values, [rows.clone(), json!({"row_count": 3, "message": "Inserted 3 row(s)"}), rows]);
    assert_eq!(messages, "");
}

#[test]
fn json_of_an_empty_result_is_an_empty_array() {
    let answer = json!({"results": [{"schema": [{"name": "a", "data_type": "Int"}], "rows": [], "row_count": 0}]});
    assert_eq!(printed(Format::Json, &answer).0, "[]\n");
}

#[test]
fn a_renamed_column_takes_no_other_columns_name() {
    let names = ["a", "a_2", "a", "a"].into_iter().map(str::to_owned);
    assert_eq!(distinct(names), ["a", "a_2", "a_3", "a_4"]);
}

#[test]
fn data_cannot_steer_the_terminal() {
    assert_eq!(harmless("a\u{1b}[2Jb\tc\nd\r"), "a\\u{1b}[2Jb\tc\nd\\r");
}
