//! CREATE, ALTER and DROP USER.

use kalamdb_commons::ErrorKind;
use kalamdb_commons::ids::UserId;
use kalamdb_commons::schema::Role;

use crate::catalog::User;
use crate::catalog::fixture::{Fixture, actor};

const CREATE: &str = "CREATE USER 'alice' WITH PASSWORD 'long enough' ROLE 'user'";

fn alice(fixture: &Fixture) -> User {
    User::clone(fixture.catalog.user(&UserId::new("alice").unwrap()).unwrap())
}

#[test]
fn a_user_has_a_role_and_the_hash_that_was_handed_in() {
    let fixture =
        Fixture::with(&["CREATE USER 'alice' WITH PASSWORD 'long enough' ROLE 'admin' EMAIL 'a@example.org'"]);
    let user = alice(&fixture);
    assert_eq!((user.role, user.email.as_deref()), (Role::Dba, Some("a@example.org")));
    assert_eq!(user.password_hash, "$argon2id$hash");
}

#[test]
fn no_record_holds_a_password() {
    let fixture = Fixture::with(&[CREATE]);
    assert!(fixture.records.0.values().all(|value| !value.windows(11).any(|part| part == b"long enough")));
}

#[test]
fn a_user_exists_once() {
    let fixture = Fixture::with(&[CREATE]);
    assert_eq!(fixture.refused(CREATE), (ErrorKind::AlreadyExists, "user 'alice' already exists".into()));
    fixture.nothing("CREATE USER IF NOT EXISTS 'alice' WITH PASSWORD 'long enough'");
}

#[test]
fn password_and_role_end_earlier_tokens_and_email_does_not() {
    let mut fixture = Fixture::with(&[CREATE]);
    let first = alice(&fixture).generation;
    let generations =
        ["SET PASSWORD 'also long enough'", "SET ROLE 'service'", "SET ROLE 'service'", "SET EMAIL 'a@b.c'"].map(
            |change| {
                fixture.run(&format!("ALTER USER 'alice' {change}"));
                alice(&fixture).generation - first
            },
        );
    assert_eq!(generations, [1, 2, 2, 2]);
    assert!(fixture.refused("ALTER USER 'alice' SET EMAIL 'nonsense'").1.contains("e-mail"));
}

#[test]
fn drop_user_is_soft_and_the_name_stays_taken() {
    let mut fixture = Fixture::with(&[CREATE]);
    let before = alice(&fixture).generation;
    fixture.run("DROP USER 'alice'");
    let dropped = alice(&fixture);
    assert!(!dropped.is_active() && dropped.generation > before);
    assert_eq!(fixture.refused("DROP USER 'alice'").0, ErrorKind::NotFound);
    fixture.nothing("DROP USER IF EXISTS 'alice'");
    assert_eq!(fixture.refused("ALTER USER 'alice' SET ROLE 'dba'").0, ErrorKind::NotFound);
    assert!(fixture.refused(CREATE).1.contains("dropped"));
}

#[test]
fn nobody_deals_with_accounts_above_their_own() {
    let mut fixture = Fixture::with(&[CREATE, "CREATE USER 'boss' WITH PASSWORD 'long enough' ROLE 'system'"]);
    fixture.context.actor = actor("ann", Role::Dba);
    for sql in [
        "CREATE USER 'x' WITH PASSWORD 'long enough' ROLE 'system'",
        "ALTER USER 'alice' SET ROLE 'system'",
        "ALTER USER 'boss' SET PASSWORD 'mine now'",
        "DROP USER 'boss'",
    ] {
        assert_eq!(fixture.refused(sql).0, ErrorKind::PermissionDenied, "{sql}");
    }
    fixture.run("ALTER USER 'alice' SET ROLE 'dba'");
}

#[test]
fn nobody_locks_themselves_out() {
    let mut fixture = Fixture::with(&["CREATE USER 'alice' WITH PASSWORD 'long enough' ROLE 'dba'"]);
    fixture.context.actor = actor("alice", Role::Dba);
    assert!(fixture.refused("DROP USER 'alice'").1.contains("your own"));
    assert!(fixture.refused("ALTER USER 'alice' SET ROLE 'user'").1.contains("your own"));
    fixture.run("ALTER USER 'alice' SET PASSWORD 'also long enough'");
}

#[test]
fn user_ids_may_hold_anything_but_control_characters() {
    let mut fixture = Fixture::new();
    for name in ["../x", "a/b", "a:b", "al", "ali", "zoë"] {
        fixture.run(&format!("CREATE USER '{name}' WITH PASSWORD 'long enough'"));
    }
    assert_eq!(fixture.catalog.users().len(), 6);
    assert!(fixture.refused("CREATE USER 'a\0b' WITH PASSWORD 'long enough'").1.contains("control"));
    assert!(
        fixture.refused(&format!("CREATE USER '{}' WITH PASSWORD 'long enough'", "x".repeat(300))).1.contains("255")
    );
}
