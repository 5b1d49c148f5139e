use kalamdb_commons::ids::UserId;
use kalamdb_commons::schema::{Actor, Role};

use super::{ABOVE, INVALID_SUBJECT, NOT_ALLOWED, decide};

const ROLES: [Role; 4] = [Role::User, Role::Service, Role::Dba, Role::System];

fn actor(name: &str, role: Role) -> Actor {
    Actor { user: UserId::new(name).expect("a user id"), role }
}

fn words(actor: &Actor, named: &str, account: Option<Actor>) -> String {
    match decide(actor, named, account) {
        Ok(subject) => format!("as {}", subject.user),
        Err(error) => error.message().to_owned(),
    }
}

#[test]
fn every_pair_of_roles_is_decided() {
    for by in ROLES {
        for of in ROLES {
            let expected = match (by, of) {
                (Role::User, _) => NOT_ALLOWED,
                _ if of > by => ABOVE,
                _ => "as u",
            };
            assert_eq!(words(&actor("a", by), "u", Some(actor("u", of))), expected, "{by:?} as {of:?}");
        }
    }
}

#[test]
fn everybody_may_name_themselves_and_gains_nothing() {
    for role in ROLES {
        let me = actor("me", role);
        assert_eq!(decide(&me, "me", Some(me.clone())).expect("oneself"), me);
    }
    let raised = actor("me", Role::Dba);
    assert_eq!(words(&actor("me", Role::User), "me", Some(raised)), ABOVE);
}

#[test]
fn a_user_learns_nothing_about_whom_they_name() {
    let user = actor("a", Role::User);
    for account in [None, Some(actor("u", Role::User)), Some(actor("u", Role::System))] {
        assert_eq!(words(&user, "u", account), NOT_ALLOWED);
    }
    assert_eq!(words(&actor("a", Role::System), "nobody", None), INVALID_SUBJECT);
}

#[test]
fn look_alikes_are_other_people() {
    let user = actor("root", Role::User);
    for named in ["Root", "root ", "rооt", "ｒｏｏｔ", "root\u{200b}", "roo\u{74}\u{301}"] {
        assert_eq!(words(&user, named, Some(user.clone())), NOT_ALLOWED, "{named:?}");
    }
}
