use super::*;

#[test]
fn what_a_reader_still_needs_is_not_trimmed() {
    let mut pins = LogPins::new(CommitTime(10));
    assert!(!pins.add(CommitTime(9)), "the log above it is no longer whole");
    assert!(pins.add(CommitTime(10)));
    assert!(pins.add(CommitTime(20)));
    assert_eq!(pins.trim(CommitTime(30)), CommitTime(10));
    pins.move_pin(Some(CommitTime(10)), Some(CommitTime(25)));
    assert_eq!(pins.trim(CommitTime(30)), CommitTime(20));
    pins.move_pin(Some(CommitTime(20)), None);
    assert_eq!(pins.trim(CommitTime(30)), CommitTime(25));
    pins.move_pin(Some(CommitTime(25)), None);
    assert_eq!(pins.trim(CommitTime(30)), CommitTime(30));
}

#[test]
fn nobody_begins_below_what_is_about_to_be_trimmed() {
    let mut pins = LogPins::new(CommitTime::ZERO);
    assert_eq!(pins.trim(CommitTime(30)), CommitTime(30));
    assert!(!pins.add(CommitTime(29)));
    assert!(pins.add(CommitTime(30)));
}

#[test]
fn whoever_has_all_that_was_trimmed_may_go_on() {
    let mut pins = LogPins::new(CommitTime::ZERO);
    pins.trim(CommitTime(30));
    pins.trimmed(CommitTime(12));
    assert!(!pins.add(CommitTime(11)));
    assert!(pins.add(CommitTime(12)));
}
