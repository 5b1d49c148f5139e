use super::*;

#[test]
fn lines_go_on_after_the_last_and_end_when_there_are_enough() {
    let mut out = Vec::new();
    let mut printer = Printer { out: &mut out, format: Format::Table, cursor: None, left: Some(3) };
    let batch = json!({"rows": [{"k": 1, "v": "a\nb\u{1b}[2J", "_seq": "10"}]});
    let update =
        json!({"change_type": "update", "rows": [{"k": 1, "v": null, "_seq": "30"}], "old_values": [{"k": 1}]});
    let delete = json!({"change_type": "delete", "old_values": [{"k": 1, "_seq": "40"}]});
    assert!(!printer.batch(&batch).unwrap());
    assert!(!printer.change(&update).unwrap());
    assert!(printer.change(&delete).unwrap());
    assert_eq!(printer.cursor, Some(40));
    assert_eq!(String::from_utf8(out).unwrap(), "  k=1  v=a\\nb\\u{1b}[2J\n~ k=1  v=null\n- k=1\n");
}

#[test]
fn programs_get_objects() {
    let line = shown(Format::Json, "insert", &json!({"k": 1, "_seq": "10"}));
    assert_eq!(line, r#"{"change":"insert","row":{"k":1,"_seq":"10"}}"#);
}

#[test]
fn a_resynchronisation_goes_on_and_other_errors_end_it() {
    assert!(explain(&json!({"code": "RESYNC_REQUIRED", "message": "again"})).is_ok());
    assert!(matches!(explain(&json!({"code": "UNSUPPORTED", "message": "x"})), Err(Failure::Refused(_))));
}
