//! Which batches are merged, and that merging takes its own reason away.

use proptest::prelude::*;

use super::*;

fn rows(rows: u64) -> Shape {
    Shape { rows, superseded: 0, expired: 0 }
}

fn settings() -> CompactionSettings {
    CompactionSettings { batches_min: 4, small_rows: 10, dead_percent: 30, rows_max: 1_000, ..Default::default() }
}

#[test]
fn whoever_asks_gets_everything_in_one_batch_as_far_as_a_file_can_hold_it() {
    assert_eq!(everything(&[]), None);
    assert_eq!(everything(&[rows(5)]), None);
    assert_eq!(everything(&[rows(5), rows(0), rows(7)]), Some(0..3));
    assert_eq!(everything(&[rows(FILE_ROWS_MAX), rows(1), rows(2)]), Some(1..3));
    assert_eq!(everything(&[rows(FILE_ROWS_MAX - 3), rows(1), rows(2), rows(1)]), Some(0..3));
    assert_eq!(everything(&[rows(FILE_ROWS_MAX), rows(FILE_ROWS_MAX)]), None);
}

#[test]
fn batches_of_one_size_are_merged_when_there_are_enough() {
    assert_eq!(due(&[rows(5); 3], &settings()), None);
    assert_eq!(due(&[rows(5); 4], &settings()), Some(0..4));
    assert_eq!(due(&[rows(100), rows(5), rows(5), rows(5), rows(5)], &settings()), Some(1..5));
    assert_eq!(due(&[rows(20), rows(10), rows(5), rows(5)], &settings()), Some(0..4));
    assert_eq!(due(&[rows(999), rows(2), rows(2), rows(2)], &settings()), None);
}

#[test]
fn a_much_superseded_batch_is_merged_with_what_replaces_it() {
    let old = Shape { superseded: 40, ..rows(100) };
    assert_eq!(due(&[rows(500), old, rows(20)], &settings()), Some(1..3));
    assert_eq!(due(&[rows(500), Shape { superseded: 30, ..old }, rows(20)], &settings()), None);
    assert_eq!(due(&[Shape { superseded: 900, ..rows(1_000) }, rows(1)], &settings()), None, "beyond rows_max");
}

#[test]
fn expired_deletions_are_removed_with_what_they_deleted() {
    let deletions = Shape { expired: 50, ..rows(50) };
    assert_eq!(due(&[rows(100), deletions, rows(60)], &settings()), Some(0..2));
    assert_eq!(due(&[deletions], &settings()), Some(0..1));
    assert_eq!(due(&[rows(400), deletions], &settings()), None);
}

fn shape() -> impl Strategy<Value = Shape> {
    (0u64..200, 0u64..101, 0u64..101, any::<bool>()).prop_map(|(rows, superseded, deletions, is_old)| Shape {
        rows,
        superseded: rows * superseded / 100,
        expired: if is_old { rows * deletions / 100 } else { 0 },
    })
}

proptest! {
    #[test]
    fn merging_what_is_due_comes_to_an_end(mut shapes in prop::collection::vec(shape(), 0..20)) {
        if let Some(newest) = shapes.last_mut() {
            newest.superseded = 0;
        }
        let mut merges = 0;
        while let Some(run) = due(&shapes, &settings()) {
            prop_assert!(!run.is_empty() && run.end <= shapes.len());
            let merged = &shapes[run.clone()];
            let is_newest = run.end == shapes.len();
            let dead = |shape: &Shape| if is_newest { shape.superseded } else { 0 };
            // What replaces a row of an older run may lie outside of it.
            let kept: u64 = merged.iter().map(|shape| shape.rows - (dead(shape) + shape.expired).min(shape.rows)).sum();
            let superseded = merged.iter().map(|shape| shape.superseded - dead(shape)).sum::<u64>().min(kept);
            shapes.splice(run, [Shape { rows: kept, superseded, expired: 0 }]);
            merges += 1;
            prop_assert!(merges < 100, "it merges for ever");
        }
    }
}
