use kalamdb_commons::clock::ManualClock;
use kalamdb_commons::ids::UserId;

use super::*;
use crate::engine::usage::Usage;

#[test]
fn a_user_is_told_when_a_statement_ends_and_of_the_rest_when_all_that_worked_for_it_has_gone() {
    let usage = Usage::new(Arc::new(ManualClock::at(0))).of(&UserId::new("al").unwrap());
    let stats = Arc::new(StatementStats::begin_for(usage.clone()));
    let works_on = stats.clone();
    StatementStats::add(&stats.hot_rows_read, 3);
    stats.end();
    drop(stats);
    assert_eq!(usage.info().rows_scanned, 3, "before the answer");
    StatementStats::add(&works_on.cold_rows_read, 4);
    works_on.end();
    assert_eq!(usage.info().rows_scanned, 7);
    StatementStats::add(&works_on.cold_rows_read, 5);
    drop(works_on);
    assert_eq!(usage.info().rows_scanned, 12);
}
