use kalamdb_commons::schema::{AccessLevel, Role};

use super::{Right, Rows, Verdict, decide};

const ROLES: [Role; 4] = [Role::User, Role::Service, Role::Dba, Role::System];
const LEVELS: [AccessLevel; 3] = [AccessLevel::Public, AccessLevel::Private, AccessLevel::Restricted];

fn verdicts(right: Right) -> [Verdict; 4] {
    ROLES.map(|role| decide(role, right))
}

#[test]
fn shared_tables_obey_their_level() {
    use Verdict::{Allowed, Hidden, Refused};
    let of = |level| (verdicts(Right::Read(Rows::Shared(level))), verdicts(Right::Write(Rows::Shared(level))));
    assert_eq!(of(AccessLevel::Public), ([Allowed; 4], [Refused, Allowed, Allowed, Allowed]));
    let from_service = [Hidden, Allowed, Allowed, Allowed];
    assert_eq!(of(AccessLevel::Private), (from_service, from_service));
    let from_dba = [Hidden, Hidden, Allowed, Allowed];
    assert_eq!(of(AccessLevel::Restricted), (from_dba, from_dba));
}

#[test]
fn what_may_be_written_may_be_read() {
    for rows in [Rows::Own].into_iter().chain(LEVELS.map(Rows::Shared)) {
        for role in ROLES {
            let (read, write) = (decide(role, Right::Read(rows)), decide(role, Right::Write(rows)));
            assert!(write != Verdict::Allowed || read == Verdict::Allowed, "{rows:?} {role:?}");
            assert_eq!(write == Verdict::Hidden, read == Verdict::Hidden, "{rows:?} {role:?}");
        }
    }
}

#[test]
fn a_higher_role_lacks_nothing_that_a_lower_one_has() {
    let mut rights = vec![Right::AllUsers, Right::Schema, Right::Storage, Right::Jobs, Right::Server];
    rights.extend([Right::ServerTables, Right::Audit]);
    rights.extend(ROLES.map(Right::Account));
    for right in rights {
        let allowed = verdicts(right).map(|verdict| verdict == Verdict::Allowed);
        assert!(allowed.is_sorted(), "{right:?}");
        assert!(!allowed[1] && allowed[3], "{right:?} is for dba and above");
    }
}

#[test]
fn a_dba_deals_with_accounts_up_to_dba() {
    assert_eq!(decide(Role::Dba, Right::Account(Role::Dba)), Verdict::Allowed);
    assert_eq!(decide(Role::Dba, Right::Account(Role::System)), Verdict::Refused);
    assert_eq!(decide(Role::System, Right::Account(Role::System)), Verdict::Allowed);
    assert_eq!(decide(Role::Service, Right::Account(Role::User)), Verdict::Refused);
}
