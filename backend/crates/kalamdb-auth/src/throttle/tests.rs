use kalamdb_commons::ErrorKind;

use super::*;

fn throttle(user_max: u32) -> LoginThrottle {
    LoginThrottle::new(user_max, 1_000)
}

fn fail(throttle: &LoginThrottle, user: &str, times: u32, now_ms: i64) {
    for _ in 0..times {
        throttle.begin(user, "10.0.0.1", now_ms).expect("below the limit");
    }
}

#[test]
fn failures_up_to_the_limit_pass_and_the_next_is_refused_with_when_to_retry() {
    let throttle = throttle(3);
    fail(&throttle, "alice", 3, 0);
    let error = throttle.begin("alice", "10.0.0.1", 10_000).expect_err("limit reached");
    assert_eq!((error.kind(), error.retry_after_seconds()), (ErrorKind::RateLimited, Some(51)));
    assert!(error.message().contains("51 seconds"), "{error}");
}

#[test]
fn a_guesser_elsewhere_does_not_lock_the_owner_out() {
    let throttle = throttle(2);
    fail(&throttle, "alice", 2, 0);
    assert!(throttle.begin("bob", "10.0.0.1", 0).is_ok());
    assert!(throttle.begin("alice", "10.0.0.2", 0).is_ok());
}

#[test]
fn one_user_from_many_addresses_and_one_address_with_many_users_are_stopped() {
    let throttle = LoginThrottle::new(2, 5);
    for n in 0..20 {
        throttle.begin("alice", &format!("10.0.1.{n}"), 0).expect("ten times the limit of one address");
    }
    assert!(throttle.begin("alice", "10.0.2.1", 0).is_err());
    for n in 0..5 {
        throttle.begin(&format!("user{n}"), "10.0.3.1", 0).expect("the limit of the address");
    }
    assert!(throttle.begin("user5", "10.0.3.1", 0).is_err());
}

#[test]
fn the_minute_ends() {
    let throttle = throttle(1);
    fail(&throttle, "alice", 1, 1_000);
    assert!(throttle.begin("alice", "10.0.0.1", 60_999).is_err());
    assert!(throttle.begin("alice", "10.0.0.1", 61_000).is_ok());
    assert!(throttle.begin("alice", "10.0.0.1", 61_001).is_err(), "a new minute counts anew");
}

#[test]
fn success_forgets_and_is_not_counted() {
    let throttle = LoginThrottle::new(2, 3);
    for _ in 0..20 {
        fail(&throttle, "alice", 1, 0);
        throttle.succeeded("alice", "10.0.0.1");
    }
    fail(&throttle, "alice", 2, 0);
    assert!(throttle.begin("alice", "10.0.0.1", 0).is_err());
}

#[test]
fn who_only_waits_is_refused_like_the_others_but_not_counted() {
    let throttle = throttle(2);
    for _ in 0..20 {
        throttle.check("alice", "10.0.0.1", 0).expect("nothing failed yet");
    }
    fail(&throttle, "alice", 2, 0);
    assert!(throttle.check("alice", "10.0.0.1", 0).is_err());
}

#[test]
fn a_clock_that_steps_back_locks_nobody_out() {
    let throttle = throttle(1);
    fail(&throttle, "alice", 1, 10_000_000);
    assert!(throttle.begin("alice", "10.0.0.1", 0).is_ok());
}

#[test]
fn memory_is_bounded() {
    let throttle = LoginThrottle::new(1, u32::MAX);
    let users = COUNTS_MAX / 2;
    for n in 0..users + 100 {
        throttle.begin(&format!("user{n}"), "10.0.0.1", i64::try_from(n).unwrap() / 1_000).unwrap();
    }
    assert!(throttle.minutes.lock().len() <= COUNTS_MAX);
    let last = format!("user{}", users + 99);
    assert!(throttle.begin(&last, "10.0.0.1", 40).is_err(), "the newest are remembered");
}
