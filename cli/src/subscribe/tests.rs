use super::*;

fn printer(out: &mut Vec<u8>, format: Format, left: Option<u64>) -> Printer<'_> {
    Printer { out, format, cursor: None, left, accepted: false, progressed: false }
}

#[test]
fn lines_go_on_after_the_last_and_end_when_there_are_enough() {
    let mut out = Vec::new();
    let mut printer = printer(&mut out, Format::Table, Some(3));
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
fn what_may_pass_goes_on_and_other_errors_end_it() {
    let means = |code: &str, message: &str| explain(&json!({"code": code, "message": message, "subscription_id": ID}));
    assert!(matches!(means("RESYNC_REQUIRED", "again"), Ok(Means::AllAgain(_))));
    assert!(matches!(means("BATCH_FETCH_FAILED", "too slow"), Ok(Means::Failure(_))));
    assert!(matches!(means("SUBSCRIPTION_FAILED", "too busy"), Ok(Means::Failure(_))));
    assert!(matches!(means("SUBSCRIPTION_FAILED", KILLED), Err(Failure::Refused(_))));
    assert!(matches!(means("UNAUTHORIZED", "no"), Err(Failure::Refused(_))));
    assert!(matches!(means("UNSUPPORTED", "x"), Err(Failure::Refused(_))));
}

#[test]
fn a_program_sees_on_its_standard_input_that_all_begins_again() {
    let mut out = Vec::new();
    let mut printer = printer(&mut out, Format::Json, None);
    printer.cursor = Some(7);
    printer.begin_again("too old").unwrap();
    assert_eq!(printer.cursor, None);
    assert_eq!(String::from_utf8(out).unwrap(), "{\"change\":\"resync\"}\n");
}
