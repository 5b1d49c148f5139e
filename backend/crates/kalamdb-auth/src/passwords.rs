//! Argon2id, as PHC strings (`$argon2id$v=19$m=...`), so that a stored hash says by itself how to check it.
//!
//! A login for a user who does not exist is checked against a hash that no password gives: it takes as long as a
//! wrong password, and gives the same answer.

use argon2::password_hash::{Output, ParamsString, PasswordHash, PasswordHasher, PasswordVerifier, SaltString};
use argon2::{ARGON2ID_IDENT, Algorithm, Argon2, Params, Version};
use kalamdb_commons::clock::Entropy;
use kalamdb_commons::{Error, Result};

/// Passes over the memory, and lanes: what OWASP recommends beside 19 MiB.
const PASSES: u32 = 2;
const LANES: u32 = 1;
const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;

/// Hashes and checks passwords with the memory that the settings give.
#[derive(Debug, Clone)]
pub struct Passwords {
    argon2: Argon2<'static>,
    /// The hash that stands in for users who do not exist.
    stand_in: String,
}

impl Passwords {
    /// `memory_kib` is what hashing one password takes.
    ///
    /// # Errors
    /// `InvalidInput` if Argon2 does not take that much or that little memory.
    pub fn new(memory_kib: u32, entropy: &dyn Entropy) -> Result<Self> {
        let params = Params::new(memory_kib, PASSES, LANES, None).map_err(|reason| {
            Error::invalid_input(format!("auth.argon2_memory_kib = {memory_kib} is not possible: {reason}"))
        })?;
        let stand_in = random_hash(&params, entropy).map_err(failed)?;
        Ok(Self { argon2: Argon2::new(Algorithm::Argon2id, Version::V0x13, params), stand_in })
    }

    /// The PHC string to store for a password. CPU-heavy.
    pub fn hash(&self, password: &str, entropy: &dyn Entropy) -> Result<String> {
        let salt = salt(entropy).map_err(failed)?;
        Ok(self.argon2.hash_password(password.as_bytes(), &salt).map_err(failed)?.to_string())
    }

    /// Whether the password is the one that `stored` was made from. `None` stands for a user who does not
    /// exist: false, after as much work. CPU-heavy; compares in constant time.
    pub fn verify(&self, password: &str, stored: Option<&str>) -> bool {
        let matches = PasswordHash::new(stored.unwrap_or(&self.stand_in))
            .and_then(|parsed| self.argon2.verify_password(password.as_bytes(), &parsed))
            .is_ok();
        matches && stored.is_some()
    }

    /// Whether a stored hash was made with today's parameters. After a successful login, one that was not
    /// should be made again: until then the time of a check tells its user from one who does not exist.
    pub fn is_current(&self, stored: &str) -> bool {
        PasswordHash::new(stored).ok().and_then(|parsed| Params::try_from(&parsed).ok()).is_some_and(|params| {
            let today = self.argon2.params();
            (params.m_cost(), params.t_cost(), params.p_cost()) == (today.m_cost(), today.t_cost(), today.p_cost())
        })
    }
}

fn salt(entropy: &dyn Entropy) -> argon2::password_hash::Result<SaltString> {
    let mut salt = [0u8; SALT_BYTES];
    entropy.fill(&mut salt);
    SaltString::encode_b64(&salt)
}

/// A PHC string with these parameters and a random hash: making it takes no work, checking it does.
fn random_hash(params: &Params, entropy: &dyn Entropy) -> argon2::password_hash::Result<String> {
    let mut random = [0u8; HASH_BYTES];
    entropy.fill(&mut random);
    let salt = salt(entropy)?;
    let hash = PasswordHash {
        algorithm: ARGON2ID_IDENT,
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(params)?,
        salt: Some(salt.as_salt()),
        hash: Some(Output::new(&random)?),
    };
    Ok(hash.to_string())
}

fn failed(reason: argon2::password_hash::Error) -> Error {
    Error::internal(format!("hashing a password failed: {reason}"))
}

#[cfg(test)]
mod tests;
