use kalamdb_commons::clock::SystemEntropy;

use super::*;

/// Always the same bytes.
#[derive(Debug)]
struct Fixed(u8);

impl Entropy for Fixed {
    fn fill(&self, bytes: &mut [u8]) {
        bytes.fill(self.0);
    }
}

const SECOND_NS: i64 = 1_000_000_000;

#[test]
fn attempts_come_after_twice_as_long_each_time_up_to_a_limit() {
    let settings = JobSettings { retry_seconds: 2, retry_seconds_max: 60, ..JobSettings::default() };
    let waits = [1, 2, 3, 4, 5, 6, 99].map(|attempts| before_retry(attempts, &settings, &Fixed(0x80)).as_secs_f64());
    for (wait, wanted) in waits.into_iter().zip([2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]) {
        assert!((wait - wanted).abs() < 0.2, "{waits:?}");
    }
}

#[test]
fn no_two_servers_try_again_in_step() {
    let settings = JobSettings { retry_seconds: 100, retry_seconds_max: 100, ..JobSettings::default() };
    for _ in 0..100 {
        let wait = before_retry(1, &settings, &SystemEntropy).as_secs_f64();
        assert!((75.0..=125.0).contains(&wait), "{wait}");
    }
    let (early, late) = (before_retry(1, &settings, &Fixed(0)), before_retry(1, &settings, &Fixed(0xff)));
    assert_eq!((early.as_secs(), late.as_secs()), (75, 125));
}

#[test]
fn a_kind_is_due_every_interval_and_not_at_the_start() {
    let kinds = [("a", Duration::from_secs(10)), ("b", Duration::from_secs(25))];
    let mut table = Timetable::default();
    let mut seen = Vec::new();
    for second in 0..=60 {
        for kind in table.take_due(second * SECOND_NS, &kinds, 0, &SystemEntropy) {
            seen.push((second, kind));
        }
    }
    assert_eq!(seen, [(10, "a"), (20, "a"), (25, "b"), (30, "a"), (40, "a"), (50, "a"), (50, "b"), (60, "a")]);
}

#[test]
fn what_is_done_daily_is_looked_at_soon_after_a_start_and_then_daily() {
    let kinds = [("a", Duration::from_secs(86_400))];
    let mut table = Timetable::default();
    let minutes = (0..3 * 1_440).filter(|minute| {
        let now_ns = minute * 60 * SECOND_NS;
        !table.take_due(now_ns, &kinds, 0, &SystemEntropy).is_empty()
    });
    assert_eq!(minutes.collect::<Vec<i64>>(), [10, 1_450, 2_890]);
}

#[test]
fn a_clock_that_is_set_back_or_far_ahead_holds_nothing_up() {
    let kinds = [("a", Duration::from_secs(10))];
    let mut table = Timetable::default();
    let mut due = |second: i64| !table.take_due(second * SECOND_NS, &kinds, 0, &SystemEntropy).is_empty();
    assert!(!due(1_000_000));
    assert!(due(1_000_010));
    assert!(!due(500), "set back: it begins to count anew");
    assert!(due(510));
    assert!(due(2_000_000), "ahead: once, not as often as it was missed");
    assert!(!due(2_000_001));
}
