//! What grows from one login: a session.
//!
//! A login gives an access token and the first refresh token of a session. Each refresh token is good for one turn: it
//! gives new tokens, the refresh token among them being the next. One that comes again later was copied, by a thief or
//! from one, and nobody can tell which of the two holds the newer one: the session ends for both. Because an answer may
//! get lost on its way, and two tabs of a browser may refresh at once, the last token is good for a moment longer and
//! gives the same turn again.
//!
//! A session that only ever logged in needs no record: its first turn is number 0. The record is made by the first
//! refresh or by the end, and is of no use after `expires_at_ms`.

use kalamdb_commons::clock::Entropy;
use serde::{Deserialize, Serialize};

/// How long the last refresh token is good after its successor was given.
pub const REPEAT_MS: i64 = 30_000;

/// The name of a session.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct SessionId(String);

impl SessionId {
    /// A new one, which nobody can guess.
    pub fn draw(entropy: &dyn Entropy) -> Self {
        let mut random = [0u8; 16];
        entropy.fill(&mut random);
        Self(format!("{:032x}", u128::from_be_bytes(random)))
    }

    /// Hexadecimal digits.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What is stored of a session.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// Its name.
    pub id: SessionId,
    /// The number of the refresh token that was given last.
    pub turn: u64,
    /// When that was, ms since 1970.
    pub turned_at_ms: i64,
    /// Whether it was ended: by logging out, or because a refresh token came twice.
    pub ended: bool,
    /// From when on no token of it can be good, ms since 1970.
    pub expires_at_ms: i64,
}

/// What a refresh token gets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Turn {
    /// New tokens, after the session is stored like this.
    Next(Session),
    /// New tokens of the turn that was given a moment ago. Nothing is to be stored.
    Again(u64),
    /// Nothing, and the session is to be stored as ended.
    Reused(Session),
    /// Nothing.
    Ended,
}

impl Session {
    /// The session after its login.
    pub fn begun(id: SessionId, expires_at_ms: i64) -> Self {
        Self { id, turn: 0, turned_at_ms: i64::MIN, ended: false, expires_at_ms }
    }

    /// The session as it is when it has been ended.
    #[must_use]
    pub fn end(self) -> Self {
        Self { ended: true, ..self }
    }

    /// What the refresh token number `turn` gets; tokens that are given now are good until `expires_at_ms`.
    pub fn turn(self, turn: u64, now_ms: i64, expires_at_ms: i64) -> Turn {
        let is_repeat = turn.checked_add(1) == Some(self.turn)
            && (0..REPEAT_MS).contains(&now_ms.saturating_sub(self.turned_at_ms));
        if self.ended {
            Turn::Ended
        } else if turn == self.turn {
            let expires_at_ms = self.expires_at_ms.max(expires_at_ms);
            Turn::Next(Self { turn: turn.saturating_add(1), turned_at_ms: now_ms, expires_at_ms, ..self })
        } else if is_repeat {
            Turn::Again(self.turn)
        } else {
            Turn::Reused(self.end())
        }
    }
}

#[cfg(test)]
mod tests;
