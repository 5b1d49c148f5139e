use super::*;

fn held(tails: &LostTails, times: std::ops::Range<i64>) -> Vec<i64> {
    times.filter(|at| tails.holds(CommitTime(*at))).collect()
}

#[test]
fn a_gap_holds_what_was_lost_and_not_what_survived() {
    let mut tails = LostTails::default();
    tails.add(CommitTime(0), CommitTime(10), CommitTime(20));
    tails.add(CommitTime(20), CommitTime(25), CommitTime(25));
    tails.add(CommitTime(25), CommitTime(30), CommitTime(40));
    assert_eq!(held(&tails, 8..45), (11..20).chain(31..40).collect::<Vec<i64>>());
}

#[test]
fn where_a_run_begins_is_in_no_gap_also_if_nothing_was_committed_in_it() {
    let mut tails = LostTails::default();
    tails.add(CommitTime(0), CommitTime(10), CommitTime(20));
    tails.add(CommitTime(20), CommitTime(10), CommitTime(40));
    assert!(!tails.holds(CommitTime(20)) && !tails.holds(CommitTime(40)));
    assert_eq!(held(&tails, 15..45), (15..20).chain(21..40).collect::<Vec<i64>>());
}

#[test]
fn what_a_run_told_that_ended_in_order_is_in_no_gap_of_the_next_also_if_its_last_commit_was_of_no_row() {
    let mut tails = LostTails::default();
    // The run before told of 15, a user that was created, and ended there; the last row is of 10.
    tails.add(CommitTime(15), CommitTime(10), CommitTime(30));
    assert_eq!(held(&tails, 8..35), (16..30).collect::<Vec<i64>>());
}
