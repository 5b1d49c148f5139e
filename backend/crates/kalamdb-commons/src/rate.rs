//! So much in a while, and then a wait: a bucket that is full of a while's allowance and fills at its rate.
//!
//! What is used may be told afterwards and may be more than there is. The debt is then waited off, so that whoever took
//! ten times the allowance at once waits for ten whiles: over any long time nobody gets more than the rate.

/// An allowance of some size per while.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How much.
    pub amount: u64,
    /// Per how many milliseconds.
    pub per_ms: u64,
}

/// What is left of an allowance.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Bucket {
    /// How much was used and is not waited off yet.
    used: f64,
    at_ms: i64,
}

impl Bucket {
    /// Lets time pass.
    fn refill(&mut self, rate: Rate, now_ms: i64) {
        // A clock that is set back gives nothing and takes nothing.
        let passed_ms = now_ms.saturating_sub(self.at_ms).max(0);
        self.at_ms = now_ms;
        self.used = (self.used - passed_ms as f64 * rate.amount as f64 / rate.per_ms as f64).max(0.0);
    }

    /// Whether anything is left.
    ///
    /// # Errors
    /// The seconds until there is, rounded up.
    pub fn check(&mut self, rate: Rate, now_ms: i64) -> Result<(), u32> {
        self.refill(rate, now_ms);
        let over = self.used + 1.0 - rate.amount as f64;
        if over <= 0.0 {
            return Ok(());
        }
        let seconds = over * rate.per_ms as f64 / rate.amount.max(1) as f64 / 1e3;
        Err(seconds.ceil().clamp(1.0, f64::from(u32::MAX)) as u32)
    }

    /// Notes what was used.
    pub fn spend(&mut self, rate: Rate, amount: u64, now_ms: i64) {
        self.refill(rate, now_ms);
        self.used += amount as f64;
    }

    /// Uses one, if it is left.
    ///
    /// # Errors
    /// As [`Self::check`].
    pub fn take(&mut self, rate: Rate, now_ms: i64) -> Result<(), u32> {
        self.check(rate, now_ms)?;
        self.used += 1.0;
        Ok(())
    }
}

#[cfg(test)]
mod tests;
