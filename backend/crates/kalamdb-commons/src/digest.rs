//! SHA-256 of what is copied, so that a copy can be told from what it was.

use sha2::{Digest, Sha256};

/// The sum of bytes that come in pieces.
#[derive(Debug, Default, Clone)]
pub struct Checksum(Sha256);

impl Checksum {
    /// Adds the next bytes.
    pub fn add(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The sum of all of them, in lower-case hexadecimal.
    pub fn finish(self) -> String {
        self.0.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

/// The sum of some bytes.
pub fn sha256(bytes: &[u8]) -> String {
    let mut sum = Checksum::default();
    sum.add(bytes);
    sum.finish()
}

#[cfg(test)]
mod tests;
