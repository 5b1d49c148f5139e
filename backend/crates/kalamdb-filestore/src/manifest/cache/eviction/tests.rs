use super::*;

const POLICY: Policy = Policy { ttl_ms: 100, idle_ms: 50, max_entries: 3, max_bytes: 1_000 };

fn candidate(key: &str, refreshed_ms: i64, used_ms: i64, bytes: u64) -> Candidate {
    Candidate { key: key.to_owned(), refreshed_ms, used_ms, bytes }
}

#[test]
fn fr_049_what_is_idle_leaves_memory_and_what_is_expired_as_well_goes() {
    let entries = vec![
        candidate("used and fresh", 960, 990, 10),
        candidate("used and expired", 100, 990, 10),
        candidate("idle and fresh", 960, 900, 10),
        candidate("idle and expired", 100, 900, 10),
    ];
    let Eviction { idle, gone } = plan(entries, POLICY, 1_000);
    assert_eq!(idle, ["idle and fresh", "idle and expired"]);
    assert_eq!(gone, ["idle and expired"]);
}

#[test]
fn fr_050_beyond_max_entries_the_least_recently_used_go() {
    let entries = (0..6).map(|at| candidate(&format!("entry {at}"), 990, 960 + (at * 5) % 6, 10)).collect();
    assert_eq!(plan(entries, POLICY, 1_000).gone, ["entry 0", "entry 5", "entry 4"]);
}

#[test]
fn beyond_the_limit_in_bytes_the_least_recently_used_go() {
    let entries =
        vec![candidate("old", 990, 970, 500), candidate("new", 990, 980, 600), candidate("held", 990, 960, 0)];
    assert_eq!(plan(entries, POLICY, 1_000).gone, ["old"], "what is not on disk takes no place there");
}

#[test]
fn an_entry_that_was_never_compared_is_kept_for_as_long_as_it_is_used() {
    let entries = vec![candidate("idle", i64::MIN, 0, 1), candidate("used", i64::MIN, 1_000, 1)];
    assert_eq!(plan(entries, POLICY, 1_000).gone, ["idle"]);
}
