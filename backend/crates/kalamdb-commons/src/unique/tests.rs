use std::collections::BTreeSet;

use super::*;
use crate::clock::{ManualClock, SystemEntropy};

fn source() -> (ManualClock, TimeOrdered) {
    let clock = ManualClock::at(1_750_000_000_000_000_000);
    (clock.clone(), TimeOrdered::new(Arc::new(clock), Arc::new(SystemEntropy)))
}

/// Runs while the clock stands, goes on and steps back.
fn many(make: impl Fn(&TimeOrdered) -> String) -> Vec<String> {
    let (clock, source) = source();
    let mut made = Vec::new();
    for step in [0, 5_000_000, -60_000_000_000, 1_000_000] {
        clock.step(step);
        made.extend((0..1_000).map(|_| make(&source)));
    }
    made
}

#[test]
fn ulids_grow_strictly_whatever_the_clock_does() {
    let made = many(TimeOrdered::ulid);
    assert!(made.windows(2).all(|pair| pair[0] < pair[1]));
    assert!(made.iter().all(|id| id.len() == 26));
}

#[test]
fn uuids_grow_strictly_whatever_the_clock_does() {
    let made = many(TimeOrdered::uuid_v7);
    assert!(made.windows(2).all(|pair| pair[0] < pair[1]));
    assert_eq!(made.iter().collect::<BTreeSet<_>>().len(), made.len());
}

#[test]
fn a_uuid_has_version_7_its_variant_and_its_time() {
    let (_, source) = source();
    let made: uuid::Uuid = source.uuid_v7().parse().unwrap();
    assert_eq!(made.get_version_num(), 7);
    assert_eq!(made.get_variant(), uuid::Variant::RFC4122);
    assert_eq!(made.as_u128() >> 80, 1_750_000_000_000);
}

#[test]
fn a_ulid_carries_its_time() {
    let (_, source) = source();
    assert_eq!(ulid::Ulid::from_string(&source.ulid()).unwrap().timestamp_ms(), 1_750_000_000_000);
}
