use serde_json::json;

use super::*;

params! {
    /// For these tests.
    #[derive(Default)]
    SampleParams {
        /// The table.
        table: String = r#""messages""#,
        /// How many.
        rows: Option<u64> = "1000" in 1..=1_000_000,
        /// Whose.
        user_id: Option<UserId> = r#""alice""#,
        /// Whether.
        #[serde(default)]
        repair: bool = "true",
    }
}

fn refused(value: &Value) -> String {
    let error = read_submitted::<SampleParams>("sample", value).unwrap_err();
    assert_eq!(error.kind(), kalamdb_commons::ErrorKind::InvalidParameter);
    error.message().to_owned()
}

fn submitted(value: &Value) -> SampleParams {
    read_submitted("sample", value).unwrap()
}

#[test]
fn what_is_right_is_read_and_stored_without_what_is_not_set() {
    let params = submitted(&json!({ "table": "t", "rows": 5, "repair": true, "user_id": null }));
    assert_eq!(params, SampleParams { table: "t".into(), rows: Some(5), user_id: None, repair: true });
    assert_eq!(to_stored(&params), json!({ "table": "t", "rows": 5, "repair": true }));
}

#[test]
fn an_error_names_the_field_what_it_must_be_and_an_example() {
    for (value, wanted) in [
        (json!({ "repair": false }), r#"field "table" is missing: it must be text, such as "messages""#),
        (json!({ "table": 5, "repair": false }), r#"field "table" must be text, such as "messages"; found 5"#),
        (
            json!({ "table": "t", "repair": false, "rows": 0 }),
            r#"field "rows" must be a whole number from 1 to 1000000, such as 1000; found 0"#,
        ),
        (
            json!({ "table": "t", "repair": false, "rows": -1 }),
            r#"field "rows" must be a whole number from 1 to 1000000, such as 1000; found -1"#,
        ),
        (
            json!({ "table": "t", "repair": false, "user_id": "" }),
            r#"field "user_id" must be a user id, such as "alice"; found """#,
        ),
        (json!({ "table": "t", "repair": false, "tabel": 1 }), r#"there is no field "tabel""#),
        (json!([1]), "params must be an object; found [1]"),
    ] {
        let message = refused(&value);
        assert!(message.contains(wanted), "{message}");
        assert!(
            message.contains(r#"A job of type sample takes "table" (text, such as "messages"), "rows""#),
            "{message}"
        );
    }
}

#[test]
fn all_that_is_wrong_is_told_at_once() {
    let message = refused(&json!({ "rows": "many", "colour": "red" }));
    for part in ["\"table\" is missing", "\"rows\" must be", "\"repair\" is missing", "no field \"colour\""] {
        assert!(message.contains(part), "{message}");
    }
}

#[test]
fn a_long_value_is_shown_shortened() {
    let message = refused(&json!({ "table": vec![7; 10_000], "repair": false }));
    assert!(message.len() < 800 && message.contains("..."), "{message}");
}

#[test]
fn what_another_version_stored_is_read_as_far_as_it_goes() {
    let older = read_stored::<SampleParams>(&json!({ "table": "t" })).unwrap();
    assert_eq!(older, SampleParams { table: "t".into(), ..SampleParams::default() });
    let newer = read_stored::<SampleParams>(&json!({ "table": "t", "colour": "red" })).unwrap();
    assert_eq!(newer, older);
    assert!(read_stored::<SampleParams>(&json!({})).is_err());
}
