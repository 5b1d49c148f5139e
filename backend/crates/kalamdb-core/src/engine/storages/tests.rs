use kalamdb_commons::ErrorKind;
use kalamdb_commons::clock::SystemEntropy;

use super::*;

fn secret(text: &str) -> Secret {
    Secret::new(text.to_owned())
}

#[test]
fn credentials_are_read_and_no_error_repeats_them() {
    let key = credentials_of(Some(&secret(r#"{"access_key_id": "a", "secret_access_key": "b"}"#))).unwrap().unwrap();
    assert_eq!((key.access_key_id.as_str(), key.secret_access_key.as_str()), ("a", "b"));
    let aws = r#"{"aws_access_key_id": "a", "aws_secret_access_key": "b", "aws_session_token": "c"}"#;
    assert_eq!(credentials_of(Some(&secret(aws))).unwrap().unwrap().session_token.as_deref(), Some("c"));
    assert_eq!(credentials_of(Some(&secret("{}"))).unwrap(), None);
    for wrong in [
        "hunter2",
        r#""hunter2""#,
        r#"{"hunter2": 1}"#,
        r#"{"access_key_id": "hunter2"}"#,
        r#"{"access_key_id": "a", "secret_access_key": ""}"#,
        r#"{"access_key_id": "a", "secret_access_key": "hunter2", "more": 1}"#,
        r#"{"access_key_id": "a", "secret_access_key": ["hunter2"]}"#,
    ] {
        let error = credentials_of(Some(&secret(wrong))).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(!format!("{error:?}").contains("hunter2"), "{error:?}");
    }
}

#[test]
fn an_endpoint_is_an_address_and_encrypted_unless_it_is_said() {
    let place =
        |endpoint: &str, allow_http| S3Place { endpoint: endpoint.to_owned(), allow_http, ..S3Place::default() };
    for (endpoint, allow_http) in [("", false), ("https://s3.example", false), ("http://s3.example:9000", true)] {
        check_endpoint(&place(endpoint, allow_http)).unwrap();
    }
    for endpoint in ["s3.example", "ftp://s3", "http://s3.example", "https://key:secret@s3.example", "https://s3?key=1"]
    {
        assert!(check_endpoint(&place(endpoint, false)).is_err(), "{endpoint}");
    }
}

#[test]
fn credentials_open_with_the_same_key_again_and_for_no_other_storage() {
    let directory = tempfile::tempdir().unwrap();
    let settings =
        StorageSettings { data_dir: directory.path().to_str().unwrap().to_owned(), ..StorageSettings::default() };
    let secrets = || Secrets::new(&settings, Arc::new(SystemEntropy));
    let key = credentials_of(Some(&secret(r#"{"access_key_id": "a", "secret_access_key": "b"}"#))).unwrap().unwrap();
    let id = StorageId::new("s").unwrap();
    let sealed = secrets().seal(&id, &key).unwrap();
    let definition = |id: &str| StorageDefinition {
        id: StorageId::new(id).unwrap(),
        name: id.to_owned(),
        place: StoragePlace::S3(S3Place::default()),
        credentials: Some(sealed.clone()),
        created_at_ms: 0,
        updated_at_ms: 0,
    };
    assert_eq!(secrets().open(&definition("s")).unwrap(), Some(key));
    assert_eq!(secrets().open(&definition("other")).unwrap_err().kind(), ErrorKind::Corrupt);
    std::fs::remove_file(directory.path().join(KEY_FILE)).unwrap();
    assert_eq!(secrets().open(&definition("s")).unwrap_err().kind(), ErrorKind::Corrupt);
}
