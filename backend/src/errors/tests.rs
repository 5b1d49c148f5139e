use super::*;

const KINDS: [ErrorKind; 23] = [
    ErrorKind::InvalidSql,
    ErrorKind::EmptySql,
    ErrorKind::InvalidParameter,
    ErrorKind::InvalidInput,
    ErrorKind::Execution,
    ErrorKind::NotFound,
    ErrorKind::AlreadyExists,
    ErrorKind::PermissionDenied,
    ErrorKind::MissingAuthorization,
    ErrorKind::InvalidCredentials,
    ErrorKind::TokenExpired,
    ErrorKind::WeakPassword,
    ErrorKind::SetupRequired,
    ErrorKind::Conflict,
    ErrorKind::TooLarge,
    ErrorKind::RateLimited,
    ErrorKind::Overloaded,
    ErrorKind::Timeout,
    ErrorKind::Cancelled,
    ErrorKind::OutcomeUnknown,
    ErrorKind::Corrupt,
    ErrorKind::Io,
    ErrorKind::Internal,
];

/// The table of the wire protocol, section 3.
#[test]
fn every_kind_has_a_status_and_a_code_of_the_protocol() {
    let allowed: &[(u16, &[&str])] = &[
        (
            400,
            &[
                "INVALID_SQL",
                "SQL_EXECUTION_ERROR",
                "EMPTY_SQL",
                "BATCH_PARSE_ERROR",
                "INVALID_PARAMETER",
                "INVALID_INPUT",
                "TABLE_NOT_FOUND",
            ],
        ),
        (401, &["MISSING_AUTHORIZATION", "INVALID_CREDENTIALS", "TOKEN_EXPIRED"]),
        (403, &["PERMISSION_DENIED"]),
        (409, &["CONFLICT"]),
        (413, &["PAYLOAD_TOO_LARGE"]),
        // Of the accounts' endpoints.
        (428, &["SETUP_REQUIRED"]),
        (429, &["RATE_LIMIT_EXCEEDED"]),
        (503, &["OVERLOADED", "NOT_LEADER"]),
        (500, &["INTERNAL_ERROR"]),
    ];
    for kind in KINDS {
        let (status, code) = status_and_code(kind);
        let codes = allowed.iter().find(|(allowed, _)| *allowed == status).map(|(_, codes)| *codes);
        assert!(codes.is_some_and(|codes| codes.contains(&code)), "{kind:?}: {status} {code}");
    }
}

fn told(role: Option<Role>, error: &Error) -> String {
    Audience { role, request_id: "req-1" }.message(error)
}

#[test]
fn internal_text_reaches_nobody_and_damage_only_admins() {
    let internal = Error::internal("the map has no such key /secret");
    for role in [None, Some(Role::User), Some(Role::Service), Some(Role::Dba), Some(Role::System)] {
        assert_eq!(told(role, &internal), "Internal error; the request id is req-1");
    }
    for error in [Error::corrupt("batch-0003.parquet of bob is damaged"), Error::io("disk full at /x")] {
        assert_eq!(told(Some(Role::User), &error), "Internal error; the request id is req-1");
        assert_eq!(told(Some(Role::Service), &error), "Internal error; the request id is req-1");
        assert_eq!(told(Some(Role::Dba), &error), error.message());
    }
}

/// Absent and hidden are one answer to those who may not know.
#[test]
fn what_is_absent_is_named_to_admins_only() {
    let error = Error::not_found("table app.secret does not exist");
    assert_eq!(told(Some(Role::User), &error), "Requested table is not available");
    assert_eq!(told(Some(Role::System), &error), "table app.secret does not exist");
}

#[test]
fn messages_about_the_request_stay_readable() {
    let error = Error::execution("duplicate key (1) in app.t");
    assert_eq!(told(Some(Role::User), &error), "duplicate key (1) in app.t");
    let unknown = Error::new(ErrorKind::OutcomeUnknown, "the commit may or may not be durable");
    assert_eq!(told(Some(Role::User), &unknown), unknown.message());
}

#[test]
fn accounts_speak_their_own_words() {
    assert_eq!(account_status_and_word(ErrorKind::InvalidCredentials).1, "unauthorized");
    assert_eq!(account_status_and_word(ErrorKind::TokenExpired).1, "unauthorized");
    assert_eq!(account_status_and_word(ErrorKind::RateLimited).1, "rate_limited");
    assert_eq!(account_status_and_word(ErrorKind::InvalidInput).1, "invalid_input");
}

#[test]
fn causes_are_told_in_one_line_and_once() {
    let cause = |words: &str| std::io::Error::other(words.to_owned());
    let of = |words: &str| with_causes(&Error::io("reading failed").with_source(cause(words)));
    assert_eq!(of("disk\non fire"), "reading failed: disk on fire");
    assert_eq!(of("reading failed"), "reading failed");
    assert_eq!(of("reading failed: disk on fire"), "reading failed: disk on fire");
    assert_eq!(with_causes(&Error::io("a: b").with_source(cause("b"))), "a: b");
}
