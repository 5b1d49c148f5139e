use super::*;
use crate::tests::{failed, one, refuses};

fn created(sql: &str) -> CreateUser {
    match one(sql) {
        Statement::CreateUser(user) => user,
        other => panic!("{sql}: {other:?}"),
    }
}

#[test]
fn names_are_quoted_either_way_or_bare() {
    for sql in [
        "CREATE USER 'alice' WITH PASSWORD 'x'",
        "CREATE USER \"alice\" PASSWORD 'x'",
        "create user Alice with password 'x';",
    ] {
        assert_eq!(created(sql).name, "alice", "{sql}");
    }
    assert_eq!(created("CREATE USER 'Alice B; --' PASSWORD 'x'").name, "Alice B; --");
    assert_eq!(created("CREATE USER \"Alice\" PASSWORD 'x'").name, "Alice");
}

#[test]
fn create_user_takes_its_parts_in_any_order() {
    for sql in [
        "CREATE USER IF NOT EXISTS 'a' WITH PASSWORD 'it''s' ROLE 'service' EMAIL 'a@b.c'",
        "CREATE USER IF NOT EXISTS a EMAIL 'a@b.c' ROLE Service PASSWORD 'it''s'",
    ] {
        let user = created(sql);
        assert_eq!((user.password.reveal(), user.role, user.email.as_deref()), ("it's", Role::Service, Some("a@b.c")));
        assert!(user.if_not_exists);
    }
    let user = created("CREATE USER a WITH PASSWORD 'x'");
    assert_eq!((user.role, user.email, user.if_not_exists), (Role::User, None, false));
}

#[test]
fn every_role_is_known_and_admin_is_dba() {
    for (text, role) in [
        ("user", Role::User),
        ("'service'", Role::Service),
        ("DBA", Role::Dba),
        ("'admin'", Role::Dba),
        ("system", Role::System),
    ] {
        assert_eq!(created(&format!("CREATE USER a PASSWORD 'x' ROLE {text}")).role, role, "{text}");
    }
    let error = failed("CREATE USER a PASSWORD 'x' ROLE 'king'");
    assert_eq!(error.message(), "unknown role 'king'; allowed are user, service, dba (or admin) and system");
}

#[test]
fn alter_user_sets_one_thing() {
    let altered = |change: &str| match one(&format!("ALTER USER 'u' {change}")) {
        Statement::AlterUser { name, change } if name == "u" => change,
        other => panic!("{change}: {other:?}"),
    };
    assert_eq!(altered("SET PASSWORD 'x'"), UserChange::Password(Secret::new("x".to_owned())));
    assert_eq!(altered("SET ROLE 'dba'"), UserChange::Role(Role::Dba));
    assert_eq!(altered("SET EMAIL 'a@b.c'"), UserChange::Email("a@b.c".to_owned()));
    let limit = UserChange::Limit;
    assert_eq!(altered("SET LIMIT requests_per_second 5"), limit(UserLimit::RequestsPerSecond, Some(5)));
    assert_eq!(altered("SET LIMIT Storage_Bytes = 0"), limit(UserLimit::StorageBytes, Some(0)));
    assert_eq!(altered("SET LIMIT subscriptions UNLIMITED"), limit(UserLimit::Subscriptions, Some(0)));
    assert_eq!(altered("SET LIMIT subscriptions = DEFAULT"), limit(UserLimit::Subscriptions, None));
    assert_eq!(altered("WITH PASSWORD 'x'"), UserChange::Password(Secret::new("x".to_owned())));
    assert_eq!(altered("ROLE service"), UserChange::Role(Role::Service));
}

#[test]
fn drop_user() {
    for (sql, if_exists) in [("DROP USER u", false), ("DROP USER IF EXISTS 'u'", true), ("drop user \"u\";", false)] {
        assert_eq!(one(sql), Statement::DropUser { name: "u".to_owned(), if_exists }, "{sql}");
    }
}

#[test]
fn what_is_missing_or_not_implemented_is_named() {
    refuses(&[
        ("CREATE USER a", "expected PASSWORD '...', found the end of the statement"),
        ("CREATE USER a ROLE 'user'", "expected PASSWORD '...'"),
        ("CREATE USER a PASSWORD x", "expected a password in single quotes"),
        ("CREATE USER a PASSWORD $1", "expected a password in single quotes"),
        ("CREATE USER a PASSWORD 'x' PASSWORD 'y'", "says something twice"),
        ("CREATE USER a PASSWORD 'x' VALID UNTIL 'tomorrow'", "VALID in CREATE USER is not implemented"),
        ("CREATE USER a IDENTIFIED BY 'x'", "IDENTIFIED in CREATE USER is not implemented"),
        ("CREATE USER a PASSWORD 'x' ROLE", "expected a role"),
        ("CREATE OR REPLACE USER a PASSWORD 'x'", "CREATE OR REPLACE is not implemented"),
        ("ALTER USER a", "expected PASSWORD, ROLE, EMAIL or LIMIT"),
        ("ALTER USER a RENAME TO b", "ALTER USER ... RENAME is not implemented"),
        ("ALTER USER a SET PASSWORD 'x' ROLE 'dba'", "expected the end of ALTER USER"),
        ("ALTER USER a SET LIMIT wishes 3", "unknown limit 'wishes'; allowed are requests_per_second, "),
        ("ALTER USER a SET LIMIT subscriptions", "expected a number, UNLIMITED or DEFAULT"),
        ("ALTER USER a SET LIMIT subscriptions -1", "expected a number, UNLIMITED or DEFAULT"),
        ("CREATE USER a PASSWORD 'x' LIMIT subscriptions 3", "use ALTER USER ... SET LIMIT"),
        ("DROP USER a, b", "dropping several users in one statement is not implemented"),
        ("DROP USER a CASCADE", "CASCADE in DROP USER is not implemented"),
    ]);
}
