use actix_web::test::TestRequest;
use kalamdb_commons::ErrorKind;
use serde_json::json;

use super::*;

fn limits() -> LimitSettings {
    LimitSettings { params_max: 3, param_bytes_max: 4, ..LimitSettings::default() }
}

fn parameters_of(values: Value) -> Result<Vec<Param>> {
    parameters(serde_json::from_value(values).unwrap(), &limits())
}

#[test]
fn parameters_are_null_boolean_number_or_text() {
    let read = parameters_of(json!([null, true, 1.5])).unwrap();
    let number = serde_json::Number::from_f64(1.5).unwrap();
    assert_eq!(read, [Param::Null, Param::Boolean(true), Param::Number(number)]);
    assert_eq!(parameters_of(json!(["text"])).unwrap(), [Param::Text("text".to_owned())]);
}

#[test]
fn what_is_no_parameter_is_refused_by_its_number() {
    for (values, word) in [
        (json!([1, [2]]), "$2 is an array"),
        (json!([{}]), "$1 is an object"),
        (json!(["12345"]), "$1 has 5 bytes; at most 4"),
        (json!([1, 2, 3, 4]), "has 4 parameters; at most 3"),
    ] {
        let error = parameters_of(values).expect_err(word);
        assert_eq!(error.kind(), ErrorKind::InvalidParameter);
        assert!(error.message().contains(word), "{error}");
    }
}

#[test]
fn a_request_has_what_clients_send_and_may_have_more() {
    let body = r#"{"sql": "SELECT 1", "params": null, "namespace_id": "app", "impersonationContext":
        {"subjectUserId": "alice"}, "more": {}}"#;
    let read: SqlBody = serde_json::from_str(body).unwrap();
    assert_eq!((read.sql.as_str(), read.namespace_id.as_deref()), ("SELECT 1", Some("app")));
    assert_eq!(read.impersonation.unwrap().subject, "alice");
    assert!(serde_json::from_str::<SqlBody>("{}").is_err());
}

#[test]
fn arrow_is_asked_for_by_name() {
    let asks =
        |accept: &str| accepts_arrow(&TestRequest::default().insert_header(("Accept", accept)).to_http_request());
    assert!(asks(ARROW_STREAM));
    assert!(asks("application/json;q=0.5, application/vnd.apache.arrow.stream; q=1"));
    assert!(!asks("*/*") && !asks("application/json"));
    assert!(is_one_statement("SELECT 1;", &limits()));
    assert!(!is_one_statement("SELECT 1; SELECT 2", &limits()));
}

#[test]
fn an_idempotency_key_stands_for_one_request() {
    let key = |key: &str, body: &'static str| {
        let request = TestRequest::post().insert_header(("Idempotency-Key", key)).to_http_request();
        idempotency_key(&request, &Bytes::from_static(body.as_bytes()))
    };
    let first = key("k", "body").unwrap().unwrap();
    assert_eq!(key("k", "body").unwrap().unwrap(), first);
    assert_ne!(key("k", "other").unwrap().unwrap().request_hash, first.request_hash);
    assert!(idempotency_key(&TestRequest::post().to_http_request(), &Bytes::new()).unwrap().is_none());
    for bad in ["", &"x".repeat(KEY_BYTES_MAX + 1)] {
        assert_eq!(key(bad, "").expect_err("refused").kind(), ErrorKind::InvalidInput);
    }
}
