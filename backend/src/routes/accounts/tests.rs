use kalamdb_commons::ids::UserId;

use super::*;

#[test]
fn a_login_has_the_shape_that_clients_know() {
    let user = UserInfo {
        id: UserId::new("alice").unwrap(),
        role: Role::Dba,
        email: None,
        created_at_ms: 0,
        updated_at_ms: 1_700_000_000_123,
    };
    let login = Login {
        user,
        access_token: "a".to_owned(),
        expires_at_ms: 3_600_000,
        refresh_token: "r".to_owned(),
        refresh_expires_at_ms: 7_200_000,
    };
    assert_eq!(
        logged_in(&login),
        json!({
            "user": {"id": "alice", "role": "dba", "created_at": "1970-01-01T00:00:00.000Z",
                     "updated_at": "2023-11-14T22:13:20.123Z"},
            "admin_ui_access": true,
            "expires_at": "1970-01-01T01:00:00.000Z",
            "access_token": "a",
            "refresh_token": "r",
            "refresh_expires_at": "1970-01-01T02:00:00.000Z",
        })
    );
}

#[test]
fn clients_may_say_user_or_username() {
    for body in [r#"{"user": "u", "password": "p", "more": 1}"#, r#"{"username": "u", "password": "p"}"#] {
        let read: Credentials = serde_json::from_str(body).unwrap();
        assert_eq!((read.user.as_str(), read.password.as_str()), ("u", "p"));
    }
}
