//! When things are done: the next look at what is due, the next attempt of a job that failed. Both by the injected clock,
//! and both a little off the exact time, so that what began together does not stay together.

use std::collections::BTreeMap;
use std::time::Duration;

use kalamdb_commons::clock::Entropy;
use kalamdb_commons::settings::JobSettings;
use kalamdb_commons::{Error, ErrorKind};

/// A kind is looked at for the first time after so long, or after its interval: a server that is started anew every day
/// does what is done daily.
const FIRST_LOOK: Duration = Duration::from_secs(600);
/// What comes more seldom is as good as switched off, and waits for its whole interval.
const SELDOM: Duration = Duration::from_secs(30 * 86_400);
/// By how much an attempt comes earlier or later, in percent.
const RETRY_JITTER_PERCENT: u64 = 25;

/// A length of time, up to `percent` shorter or longer.
pub(super) fn jittered(length: Duration, percent: u64, entropy: &dyn Entropy) -> Duration {
    let mut random = [0; 4];
    entropy.fill(&mut random);
    let share = f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX);
    let percent = f64::from(u32::try_from(percent.min(100)).unwrap_or(100));
    length.mul_f64(1.0 + percent / 100.0 * (2.0 * share - 1.0))
}

/// Whether an error may be gone the next time.
pub(super) fn is_passing(error: &Error) -> bool {
    use ErrorKind as Kind;
    matches!(
        error.kind(),
        Kind::Overloaded | Kind::Io | Kind::Timeout | Kind::Conflict | Kind::OutcomeUnknown | Kind::RateLimited
    )
}

/// How long to wait after so many attempts that failed: twice as long each time.
pub(super) fn before_retry(attempts: u32, settings: &JobSettings, entropy: &dyn Entropy) -> Duration {
    let doubled = settings.retry_seconds.saturating_mul(1 << attempts.saturating_sub(1).min(32));
    jittered(Duration::from_secs(doubled.min(settings.retry_seconds_max)), RETRY_JITTER_PERCENT, entropy)
}

/// When each kind is looked at next.
#[derive(Debug, Default)]
pub(super) struct Timetable(BTreeMap<&'static str, i64>);

impl Timetable {
    /// The kinds whose time has come, of those that have one, and notes when they come next. The first time is one
    /// interval after they were first asked for, and [`FIRST_LOOK`] at the latest.
    pub(super) fn take_due(
        &mut self,
        now_ns: i64,
        kinds: &[(&'static str, Duration)],
        jitter_percent: u64,
        entropy: &dyn Entropy,
    ) -> Vec<&'static str> {
        let mut due = Vec::new();
        for (kind, interval) in kinds {
            let after =
                |length: Duration| now_ns.saturating_add(nanoseconds(jittered(length, jitter_percent, entropy)));
            let next = after(*interval);
            let first = if *interval > SELDOM { *interval } else { FIRST_LOOK.min(*interval) };
            let at = self.0.entry(kind).or_insert_with(|| after(first));
            // A clock that was set back must not hold up anything for longer than an interval.
            let latest = now_ns.saturating_add(nanoseconds(*interval).saturating_mul(2));
            if *at <= now_ns || *at > latest {
                if *at <= now_ns {
                    due.push(*kind);
                }
                *at = next;
            }
        }
        due
    }
}

fn nanoseconds(length: Duration) -> i64 {
    i64::try_from(length.as_nanos()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
