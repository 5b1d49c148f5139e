use super::*;

fn public(error: StoreError) -> Error {
    error.into()
}

#[test]
fn a_locked_directory_is_named() {
    let error = public(StoreError::Locked { path: "/srv/kalam".into() });
    assert_eq!(error.kind(), ErrorKind::Io);
    assert_eq!(error.message(), "the data directory /srv/kalam is in use by another server");
}

#[test]
fn a_full_disk_is_said_to_be_full_whatever_the_kind() {
    let cause = "IO error: No space left on device: While appending to file".to_owned();
    for (error, kind) in [
        (StoreError::Poisoned { cause: cause.clone() }, ErrorKind::Overloaded),
        (StoreError::OutcomeUnknown { cause: cause.clone() }, ErrorKind::OutcomeUnknown),
        (StoreError::DiskFull { doing: "flushing", cause }, ErrorKind::Io),
    ] {
        let error = public(error);
        assert_eq!(error.kind(), kind);
        assert!(error.message().contains("disk is full"), "{}", error.message());
    }
}

#[test]
fn kinds_say_what_the_caller_must_do() {
    let kinds = [
        (StoreError::Poisoned { cause: String::new() }, ErrorKind::Overloaded),
        (StoreError::OutcomeUnknown { cause: String::new() }, ErrorKind::OutcomeUnknown),
        (StoreError::corrupt("x"), ErrorKind::Corrupt),
        (StoreError::schema("x"), ErrorKind::Internal),
        (StoreError::SnapshotLost, ErrorKind::Overloaded),
        (StoreError::TooLarge { what: "a row" }, ErrorKind::TooLarge),
    ];
    for (error, kind) in kinds {
        assert_eq!(public(error).kind(), kind);
    }
}
