use super::*;

fn fail(throttle: &LoginThrottle, user: &str, times: u32, now_ms: i64) {
    for _ in 0..times {
        throttle.failed(user, now_ms);
    }
}

#[test]
fn failures_up_to_the_limit_pass_and_the_next_is_refused() {
    let throttle = LoginThrottle::new(3);
    fail(&throttle, "alice", 2, 0);
    assert!(throttle.check("alice", 0).is_ok());
    fail(&throttle, "alice", 1, 0);
    let error = throttle.check("alice", 10_000).expect_err("limit reached");
    assert_eq!(error.kind(), ErrorKind::RateLimited);
    assert!(error.message().contains("51 seconds"), "{error}");
}

#[test]
fn others_are_not_held_up() {
    let throttle = LoginThrottle::new(1);
    fail(&throttle, "alice", 5, 0);
    assert!(throttle.check("bob", 0).is_ok());
}

#[test]
fn the_minute_ends() {
    let throttle = LoginThrottle::new(1);
    fail(&throttle, "alice", 1, 1_000);
    assert!(throttle.check("alice", 60_999).is_err());
    assert!(throttle.check("alice", 61_000).is_ok());
    fail(&throttle, "alice", 1, 61_000);
    assert!(throttle.check("alice", 61_001).is_err(), "a new minute counts anew");
}

#[test]
fn success_forgets() {
    let throttle = LoginThrottle::new(2);
    fail(&throttle, "alice", 1, 0);
    throttle.succeeded("alice");
    fail(&throttle, "alice", 1, 0);
    assert!(throttle.check("alice", 0).is_ok());
}

#[test]
fn a_clock_that_steps_back_locks_nobody_out() {
    let throttle = LoginThrottle::new(1);
    fail(&throttle, "alice", 1, 10_000_000);
    assert!(throttle.check("alice", 0).is_ok());
}

#[test]
fn memory_is_bounded() {
    let throttle = LoginThrottle::new(1);
    for n in 0..USERS_MAX + 100 {
        throttle.failed(&format!("user{n}"), i64::try_from(n).unwrap() / 1_000);
    }
    assert_eq!(throttle.minutes.lock().len(), USERS_MAX);
    let last = format!("user{}", USERS_MAX + 99);
    assert!(throttle.check(&last, 20).is_err(), "the newest are remembered");
}
