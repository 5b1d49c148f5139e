//! UUIDs of version 7 and ULIDs, from an injected clock and injected randomness.
//!
//! Both begin with the time in milliseconds and grow strictly within one source, also when many are made in one
//! millisecond or the clock steps back: then the random part of the last one is counted up.

use std::sync::{Arc, Mutex, PoisonError};

use crate::clock::{Clock, Entropy};

/// Bits of a ULID after its time.
const ULID_TAIL: u32 = 80;
/// Bits of a UUID v7 that are neither time, version nor variant.
const UUID_TAIL: u32 = 74;

/// A source of ids that grow with time.
#[derive(Debug)]
pub struct TimeOrdered {
    clock: Arc<dyn Clock>,
    entropy: Arc<dyn Entropy>,
    /// The last of each as (milliseconds << tail) | tail.
    last_ulid: Mutex<u128>,
    last_uuid: Mutex<u128>,
}

impl TimeOrdered {
    /// A source that has made nothing yet.
    pub fn new(clock: Arc<dyn Clock>, entropy: Arc<dyn Entropy>) -> Self {
        Self { clock, entropy, last_ulid: Mutex::new(0), last_uuid: Mutex::new(0) }
    }

    /// The next ULID: 26 characters of Crockford's base 32.
    pub fn ulid(&self) -> String {
        ulid::Ulid(self.next(&self.last_ulid, ULID_TAIL)).to_string()
    }

    /// The next UUID of version 7 (RFC 9562), lower case with hyphens.
    pub fn uuid_v7(&self) -> String {
        let value = self.next(&self.last_uuid, UUID_TAIL);
        let time = (value >> UUID_TAIL) & ((1 << 48) - 1);
        let high = (value >> 62) & 0xfff;
        let low = value & ((1 << 62) - 1);
        uuid::Uuid::from_u128(time << 80 | 7 << 76 | high << 64 | 2 << 62 | low).hyphenated().to_string()
    }

    /// Fresh time and randomness, or the last value counted up where that would not be greater.
    fn next(&self, last: &Mutex<u128>, tail: u32) -> u128 {
        let mut random = [0; 16];
        self.entropy.fill(&mut random);
        // The tail's highest bit stays free, so that there is room to count up within a millisecond.
        let random = u128::from_le_bytes(random) & ((1 << (tail - 1)) - 1);
        let time = u128::try_from(self.clock.now_ms()).unwrap_or(0) & ((1 << 48) - 1);
        let mut last = last.lock().unwrap_or_else(PoisonError::into_inner);
        *last = if time > *last >> tail { time << tail | random } else { *last + 1 };
        *last
    }
}

#[cfg(test)]
mod tests;
