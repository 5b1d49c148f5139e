use super::*;
use crate::clock::ManualClock;

const NOW: i64 = 1_800_000_000_000_000_000;

fn started(clock: &ManualClock, ceilings: Ceilings) -> SystemColumns {
    let columns = SystemColumns::new(Arc::new(clock.clone()), "node-1", ceilings, 3_600_000_000_000);
    if let Some(ceilings) = columns.reserve() {
        columns.reserved(ceilings);
    }
    columns
}

#[test]
fn fr_072_an_id_holds_time_node_and_sequence() {
    let columns = started(&ManualClock::at(NOW), Ceilings::default());
    let id = columns.next_id().expect("below the ceiling").0;
    assert_eq!((id >> 22) + SNOWFLAKE_EPOCH_MS, NOW / 1_000_000);
    assert_eq!((id >> 12) & 1023, i64::from(node_number("node-1")));
    assert_eq!(id & 4095, 0);
}

#[test]
fn fr_074_ids_grow_though_the_clock_steps_back() {
    let clock = ManualClock::at(NOW);
    let columns = started(&clock, Ceilings::default());
    let before = columns.next_id().expect("an id");
    clock.step(-3_600_000_000_000);
    assert!(columns.next_id().expect("an id") > before);
}

#[test]
fn consecutive_ids_continue_over_the_sequence() {
    let columns = started(&ManualClock::at(NOW), Ceilings::default());
    let first = columns.next_ids(10_000).expect("ids");
    let after = columns.next_id().expect("an id");
    let mut last = first;
    for n in 1..10_000 {
        let next = SystemColumns::nth_id(first, n);
        assert!(next > last);
        assert_eq!((next.0 >> 12) & 1023, i64::from(node_number("node-1")));
        last = next;
    }
    assert!(after > last);
}

#[test]
fn fr_013_commit_times_grow_strictly_and_stay_below_the_ceiling() {
    let clock = ManualClock::at(NOW);
    let columns = started(&clock, Ceilings::default());
    let first = columns.next_updated(5).expect("room");
    assert_eq!(first, CommitTime(NOW));
    clock.step(-1_000_000_000);
    assert_eq!(columns.next_updated(1).expect("room"), CommitTime(NOW + 5));
    clock.step(60_000_000_000);
    assert!(columns.next_updated(1).is_err(), "60 s ahead is beyond the ceiling");
}

#[test]
fn a_clock_that_jumps_is_not_followed() {
    let clock = ManualClock::at(NOW);
    let columns = started(&clock, Ceilings::default());
    columns.next_updated(1).expect("room");
    clock.step(3_601_000_000_000);
    assert_eq!(columns.next_updated(1).expect("room"), CommitTime(NOW + 1));
}

#[test]
fn a_restart_begins_above_the_ceilings() {
    let clock = ManualClock::at(NOW);
    let columns = started(&clock, Ceilings::default());
    let (id, updated) = (columns.next_id().expect("an id"), columns.next_updated(1).expect("room"));
    let left = Ceilings { updated_ns: NOW + CEILING_AHEAD_NS, id_ms: (NOW + CEILING_AHEAD_NS) / 1_000_000 };
    clock.step(-86_400_000_000_000);
    let again = started(&clock, left);
    assert!(again.next_id().expect("an id") > id);
    assert!(again.next_updated(1).expect("room") > updated);
}

#[test]
fn crash_upon_crash_moves_commit_times_no_further_ahead_of_the_clock() {
    let (clock, mut left, mut last) = (ManualClock::at(NOW), Ceilings::default(), CommitTime::ZERO);
    for _ in 0..50 {
        let columns = SystemColumns::new(Arc::new(clock.clone()), "node-1", left, 3_600_000_000_000);
        left = columns.reserve().expect("what the last run reserved is not believed to be free");
        columns.reserved(left);
        assert!(columns.has_room());
        let next = columns.next_updated(1_000_000).expect("room");
        assert!(next > last);
        last = next;
    }
    assert!(last.0 - NOW < 2 * CEILING_AHEAD_NS, "{} s ahead", (last.0 - NOW) / 1_000_000_000);
    let columns = started(&clock, left);
    clock.step(2 * CEILING_AHEAD_NS);
    columns.reserved(columns.reserve().expect("the clock has come near"));
    assert_eq!(columns.next_updated(1).expect("room"), CommitTime(clock.now_ns()), "and time is the clock's again");
}

#[test]
fn what_is_given_back_is_where_the_next_run_begins() {
    let clock = ManualClock::at(NOW);
    let columns = started(&clock, Ceilings::default());
    let (id, updated) = (columns.next_id().expect("an id"), columns.next_updated(3).expect("room"));
    let left = columns.give_back();
    assert!(columns.next_updated(1).is_err());
    let again = started(&clock, left);
    assert!(again.next_id().expect("an id") > id);
    assert_eq!(again.next_updated(1).expect("room"), CommitTime(updated.0 + 3));
}

#[test]
fn fr_075_writes_are_refused_by_name() {
    for name in [ID, UPDATED, DELETED, "_Updated"] {
        assert!(SystemColumns::refuse_write(name).is_err_and(|error| error.message().contains(name)));
    }
    assert!(SystemColumns::refuse_write("id").is_ok(), "FR-073: a user's own id column");
}
