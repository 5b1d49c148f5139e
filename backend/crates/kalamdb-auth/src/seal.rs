//! Keyed seals: HMAC-SHA256 over parts, so that whoever lacks the key can neither change what is sealed nor make it anew.

use ring::hmac::{self, Context, HMAC_SHA256};

/// The bytes of a seal.
pub const SEAL_BYTES: usize = 32;

/// A seal.
pub type Seal = [u8; SEAL_BYTES];

/// The key that seals are made with.
pub struct SealKey(hmac::Key);

impl std::fmt::Debug for SealKey {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("SealKey").finish_non_exhaustive()
    }
}

impl SealKey {
    /// The key of a secret, which should have at least as many bytes as a seal.
    pub fn new(secret: &[u8]) -> Self {
        Self(hmac::Key::new(HMAC_SHA256, secret))
    }

    /// The seal of parts. Another purpose, or another division into parts, is another seal.
    pub fn seal(&self, purpose: &str, parts: &[&[u8]]) -> Seal {
        let mut context = Context::with_key(&self.0);
        for part in std::iter::once(&purpose.as_bytes()).chain(parts) {
            context.update(&(part.len() as u64).to_be_bytes());
            context.update(part);
        }
        let mut seal = [0; SEAL_BYTES];
        seal.copy_from_slice(context.sign().as_ref());
        seal
    }
}

#[cfg(test)]
mod tests;
