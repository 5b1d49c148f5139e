use super::*;

const TEN_A_SECOND: Rate = Rate { amount: 10, per_ms: 1_000 };

#[test]
fn a_whiles_allowance_may_be_used_at_once_and_then_at_its_rate() {
    let mut bucket = Bucket::default();
    let taken =
        |bucket: &mut Bucket, now_ms| (0..100).take_while(|_| bucket.take(TEN_A_SECOND, now_ms).is_ok()).count();
    assert_eq!(taken(&mut bucket, 1_000_000), 10);
    assert_eq!(bucket.take(TEN_A_SECOND, 1_000_000), Err(1));
    assert_eq!(taken(&mut bucket, 1_000_300), 3);
    assert_eq!(taken(&mut bucket, 1_060_000), 10, "what is not used is not saved up");
}

#[test]
fn what_was_used_too_much_is_waited_off() {
    let rate = Rate { amount: 1_000, per_ms: 60_000 };
    let mut bucket = Bucket::default();
    bucket.spend(rate, 11_000, 0);
    let wait = bucket.check(rate, 0).expect_err("in debt");
    assert!((600..=601).contains(&wait), "{wait}");
    assert!(bucket.check(rate, 599_000).is_err());
    assert!(bucket.check(rate, 601_000).is_ok());
}

#[test]
fn a_clock_that_is_set_back_locks_nobody_out_for_long() {
    let mut bucket = Bucket::default();
    for _ in 0..10 {
        bucket.take(TEN_A_SECOND, 1_000_000).expect("left");
    }
    assert!(bucket.take(TEN_A_SECOND, 0).is_err());
    assert!(bucket.take(TEN_A_SECOND, 1_000).is_ok());
}
