use kalamdb_commons::ErrorKind;
use kalamdb_commons::ids::UserId;
use kalamdb_commons::schema::{Actor, Role};

use super::Refusals;
use crate::audit::{Entry, Origin, Outcome};

fn refusal(actor: &str, kind: &str, second: i64) -> Entry {
    let actor = Actor { user: UserId::new(actor).unwrap(), role: Role::User };
    let origin = Origin { actor: &actor, request_id: "r", address: None };
    Entry::new(&origin, second * 1_000_000_000, kind, "o".to_owned())
        .because(Outcome::Refused, ErrorKind::PermissionDenied)
}

fn total(entries: &[Entry]) -> u64 {
    entries.iter().map(|entry| entry.times).sum()
}

#[test]
fn the_first_of_a_minute_are_written_and_the_rest_is_counted_by_kind() {
    let refusals = Refusals::default();
    for n in 0..3 {
        assert_eq!(refusals.note(refusal("a", "SELECT", n), 3).len(), 1);
    }
    for n in 3..10 {
        assert_eq!(refusals.note(refusal("a", if n < 5 { "INSERT" } else { "SELECT" }, n), 3), []);
    }
    // Others are not held back by it.
    assert_eq!(refusals.note(refusal("b", "SELECT", 10), 3).len(), 1);
    let held = refusals.take(10_000_000);
    let kinds: Vec<_> = held.iter().map(|entry| (entry.kind.as_str(), entry.times)).collect();
    assert_eq!(kinds, [("INSERT", 2), ("SELECT", 5)]);
    assert_eq!(refusals.take(10_000_000), []);
    // Reading the log does not begin the minute anew.
    assert_eq!(refusals.note(refusal("a", "SELECT", 11), 3), []);
}

#[test]
fn no_refusal_is_lost_or_counted_twice() {
    let refusals = Refusals::default();
    let mut written = 0;
    for second in 0..1_000 {
        written += total(&refusals.note(refusal("a", ["SELECT", "INSERT"][second as usize % 2], second), 5));
        if second % 77 == 0 {
            let held = refusals.take(second * 1_000_000);
            match second % 2 {
                0 => written += total(&held),
                _ => refusals.put_back(held),
            }
        }
    }
    written += total(&refusals.take(1_000_000_000));
    assert_eq!(written, 1_000);
}

#[test]
fn accounts_are_forgotten_with_their_minute() {
    let refusals = Refusals::default();
    for n in 0..100 {
        refusals.note(refusal(&format!("u{n}"), "SELECT", 1), 5);
    }
    refusals.take(120_000_000);
    assert_eq!(refusals.of.lock().len(), 0);
}
