use serde_json::json;

use super::*;

fn text(data_type: &str, cell: Value) -> Option<String> {
    Kind::of(&json!(data_type)).text(&cell).map(Cow::into_owned)
}

fn shown(data_type: &str, cell: Value) -> String {
    text(data_type, cell).expect("not NULL")
}

#[test]
fn timestamps_are_iso() {
    assert_eq!(shown("Timestamp", json!(1_357_034_400_000_000_i64)), "2013-01-01 10:00:00");
    assert_eq!(shown("DateTime", json!(1_357_034_400_120_000_i64)), "2013-01-01 10:00:00.120");
    assert_eq!(shown("Timestamp", json!(1_357_034_400_000_001_i64)), "2013-01-01 10:00:00.000001");
    assert_eq!(shown("Timestamp", json!(-1)), "1969-12-31 23:59:59.999999");
}

#[test]
fn dates_and_times_are_iso() {
    assert_eq!(shown("Date", json!(15_706)), "2013-01-01");
    assert_eq!(shown("Date", json!(-1)), "1969-12-31");
    assert_eq!(shown("Time", json!(3_723_000_500_i64)), "01:02:03.000500");
}

#[test]
fn what_no_calendar_holds_stays_a_number() {
    assert_eq!(shown("Timestamp", json!(i64::MAX)), i64::MAX.to_string());
    assert_eq!(shown("Date", json!(i64::MAX)), i64::MAX.to_string());
    assert_eq!(shown("Time", json!(-5)), "-5");
    assert_eq!(shown("Time", json!(86_400_000_000_i64)), "86400000000");
}

#[test]
fn other_cells_come_as_they_are() {
    assert_eq!(shown("BigInt", json!("9223372036854775807")), "9223372036854775807");
    assert_eq!(shown("Double", json!(0.1)), "0.1");
    assert_eq!(shown("Boolean", json!(true)), "true");
    assert_eq!(shown("Json", json!({"a": 1})), r#"{"a":1}"#);
    assert_eq!(shown("SomethingNew", json!("x")), "x");
    assert_eq!(text("Text", Value::Null), None);
}

#[test]
fn decimals_are_numbers() {
    assert_eq!(Kind::of(&json!({"Decimal": {"precision": 9, "scale": 2}})), Kind::Number);
    assert_eq!(Kind::of(&json!({"Embedding": 3})), Kind::Text);
}
