//! How many batches are asked at once.

use super::*;

#[test]
fn batches_are_asked_faster_while_they_have_to_be_read() {
    let mut pace = Pace { misses: 7, batches: 0 };
    let asked: Vec<usize> = [7, 8, 9, 10, 11, 12, 12, 13].into_iter().map(|misses| pace.next(misses)).collect();
    assert_eq!(asked, [1, 2, 4, 8, 16, FOOTERS_AT_ONCE, 1, 2]);
}

#[test]
fn a_batch_is_asked_also_if_others_have_read_something_before() {
    assert_eq!(Pace { misses: 7, batches: 0 }.next(8), 1);
}
