//! The brake on guessing passwords: so many failed logins in a minute, then 429 until the minute is over.
//!
//! Three things are counted, each with a limit of its own: one user from one address, so that whoever guesses at a
//! name does not lock its owner out elsewhere; one address whatever the names, against trying one password on many
//! users; and one user from all addresses, against guessing from many machines. Users who do not exist are counted
//! alike, so the brake tells nobody who does.
//!
//! An attempt counts as failed while its password is checked, and is given back when it succeeds: a hundred guesses sent
//! at once are no more than the limit. What waits for its check does not count, or a hundred right passwords sent at
//! once would be taken for guesses. Memory is bounded: a count is remembered for a minute after its first failure, by a
//! hash of what it counts, and beyond [`COUNTS_MAX`] the one with the oldest minute is forgotten. Every failure costs
//! its sender a password check first, so that bound is not reached by guessing.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};

use kalamdb_commons::{Error, Result};
use parking_lot::Mutex;

/// Counts remembered at once.
pub const COUNTS_MAX: usize = 65_536;
const WINDOW_MS: i64 = 60_000;
/// A user's failures from all addresses, as a multiple of those from one.
const ADDRESSES_PER_USER: u32 = 10;

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

/// Failed logins.
#[derive(Debug)]
pub struct LoginThrottle {
    user_max: u32,
    address_max: u32,
    hasher: RandomState,
    minutes: Mutex<HashMap<u64, Minute>>,
}

impl LoginThrottle {
    /// Lets `user_max` logins of one user from one address, and `address_max` from one address, fail within a minute
    /// of the first.
    pub fn new(user_max: u32, address_max: u32) -> Self {
        Self { user_max, address_max, hasher: RandomState::new(), minutes: Mutex::default() }
    }

    /// Asked before a password waits to be checked; counts nothing.
    ///
    /// # Errors
    /// As [`Self::begin`].
    pub fn check(&self, user: &str, address: &str, now_ms: i64) -> Result<()> {
        let counted = self.counted(user, address);
        refuse_if_full(&self.minutes.lock(), counted, now_ms)
    }

    /// Asked when a password is about to be checked; counts the attempt as failed.
    ///
    /// # Errors
    /// `RateLimited` if too many failed in the running minute, with the seconds that it still runs.
    pub fn begin(&self, user: &str, address: &str, now_ms: i64) -> Result<()> {
        let mut minutes = self.minutes.lock();
        let counted = self.counted(user, address);
        refuse_if_full(&minutes, counted, now_ms)?;
        for (key, _) in counted {
            count(&mut minutes, key, now_ms);
        }
        Ok(())
    }

    /// Told of each login that succeeded: the user's failures from this address are forgotten, and the attempt is
    /// given back to the other counts.
    pub fn succeeded(&self, user: &str, address: &str) {
        let mut minutes = self.minutes.lock();
        let [(pair, _), others @ ..] = self.counted(user, address);
        minutes.remove(&pair);
        for (key, _) in others {
            if let Some(minute) = minutes.get_mut(&key) {
                minute.failures = minute.failures.saturating_sub(1);
            }
        }
    }

    /// Each count that an attempt belongs to, with its limit.
    fn counted(&self, user: &str, address: &str) -> [(u64, u32); 3] {
        [
            (self.hasher.hash_one((0, user, address)), self.user_max),
            (self.hasher.hash_one((1, address)), self.address_max),
            (self.hasher.hash_one((2, user)), self.user_max.saturating_mul(ADDRESSES_PER_USER)),
        ]
    }
}

fn refuse_if_full(minutes: &HashMap<u64, Minute>, counted: [(u64, u32); 3], now_ms: i64) -> Result<()> {
    let is_full = |minute: &&Minute, max: u32| !minute.is_over(now_ms) && minute.failures >= max;
    let full = counted.iter().find_map(|(key, max)| minutes.get(key).filter(|minute| is_full(minute, *max)));
    let Some(minute) = full else { return Ok(()) };
    let seconds = (WINDOW_MS - (now_ms - minute.began_ms)).div_euclid(1_000) + 1;
    let seconds = u32::try_from(seconds).unwrap_or(1);
    Err(Error::rate_limited(format!("Too many failed logins; try again in {seconds} seconds"), seconds))
}

fn count(minutes: &mut HashMap<u64, Minute>, key: u64, now_ms: i64) {
    if minutes.len() >= COUNTS_MAX && !minutes.contains_key(&key) {
        forget(minutes, now_ms);
    }
    let minute = minutes.entry(key).or_insert(Minute { began_ms: now_ms, failures: 0 });
    if minute.is_over(now_ms) {
        *minute = Minute { began_ms: now_ms, failures: 0 };
    }
    minute.failures = minute.failures.saturating_add(1);
}

/// Forgets every minute that is over, or the oldest if none is.
fn forget(minutes: &mut HashMap<u64, Minute>, now_ms: i64) {
    minutes.retain(|_, minute| !minute.is_over(now_ms));
    if minutes.len() >= COUNTS_MAX {
        let oldest = minutes.iter().min_by_key(|(_, minute)| minute.began_ms).map(|(key, _)| *key);
        if let Some(oldest) = oldest {
            minutes.remove(&oldest);
        }
    }
}

#[cfg(test)]
mod tests;
