//! The brake on guessing passwords: so many failed logins of one user in a minute, then 429 until the minute
//! is over. Users who do not exist are counted alike, so the brake tells nobody who does.
//!
//! Memory is bounded: a user is remembered for a minute after a first failure, by a hash of the name, and
//! beyond [`USERS_MAX`] the one with the oldest minute is forgotten. Every failure costs its sender a password
//! check first, so that bound is not reached by guessing.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use kalamdb_commons::{Error, ErrorKind, Result};
use parking_lot::Mutex;

/// Users remembered at once.
pub const USERS_MAX: usize = 16_384;
const WINDOW_MS: i64 = 60_000;

#[derive(Debug, Clone, Copy)]
struct Minute {
    began_ms: i64,
    failures: u32,
}

impl Minute {
    /// Over, or begun after now: the clock was set back, and nobody should wait for it to come round.
    fn is_over(self, now_ms: i64) -> bool {
        now_ms < self.began_ms || now_ms - self.began_ms >= WINDOW_MS
    }
}

/// Failed logins per user.
#[derive(Debug)]
pub struct LoginThrottle {
    failures_max: u32,
    hasher: RandomState,
    minutes: Mutex<HashMap<u64, Minute>>,
}

impl LoginThrottle {
    /// Lets `failures_max` logins of one user fail within a minute of the first.
    pub fn new(failures_max: u32) -> Self {
        Self { failures_max, hasher: RandomState::new(), minutes: Mutex::default() }
    }

    /// Asked before a password is checked.
    ///
    /// # Errors
    /// `RateLimited` if this user's logins have failed too often in the running minute. The message says for
    /// how many seconds.
    pub fn check(&self, user: &str, now_ms: i64) -> Result<()> {
        let minute = self.minutes.lock().get(&self.key(user)).copied();
        match minute {
            Some(minute) if !minute.is_over(now_ms) && minute.failures >= self.failures_max => {
                let seconds = (WINDOW_MS - (now_ms - minute.began_ms)).div_euclid(1_000) + 1;
                Err(Error::new(
                    ErrorKind::RateLimited,
                    format!("Too many failed logins; try again in {seconds} seconds"),
                ))
            }
            _ => Ok(()),
        }
    }

    /// Told of each login that failed.
    pub fn failed(&self, user: &str, now_ms: i64) {
        let key = self.key(user);
        let mut minutes = self.minutes.lock();
        if minutes.len() >= USERS_MAX && !minutes.contains_key(&key) {
            forget(&mut minutes, now_ms);
        }
        let minute = minutes.entry(key).or_insert(Minute { began_ms: now_ms, failures: 0 });
        if minute.is_over(now_ms) {
            *minute = Minute { began_ms: now_ms, failures: 0 };
        }
        minute.failures = minute.failures.saturating_add(1);
    }

    /// Told of each login that succeeded: the user's failures are forgotten.
    pub fn succeeded(&self, user: &str) {
        self.minutes.lock().remove(&self.key(user));
    }

    fn key(&self, user: &str) -> u64 {
        self.hasher.hash_one(user)
    }
}

/// Forgets every minute that is over, or the oldest if none is.
fn forget(minutes: &mut HashMap<u64, Minute>, now_ms: i64) {
    minutes.retain(|_, minute| !minute.is_over(now_ms));
    if minutes.len() >= USERS_MAX {
        let oldest = minutes.iter().min_by_key(|(_, minute)| minute.began_ms).map(|(key, _)| *key);
        if let Some(oldest) = oldest {
            minutes.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests;
