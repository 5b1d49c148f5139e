//! Argon2id, as PHC strings (`$argon2id$v=19$m=...`), so that a stored hash says by itself how to check it.
//!
//! A login for a user who does not exist is checked against a hash that no password gives: it takes as long as a
//! wrong password, and gives the same answer.

use argon2::password_hash::{self, Output, ParamsString, PasswordHash, Salt, SaltString};
use argon2::{ARGON2ID_IDENT, Algorithm, Argon2, Block, Params, Version};
use kalamdb_commons::clock::Entropy;
use kalamdb_commons::{Error, Result};

/// Lanes: what OWASP recommends beside 19 MiB and two passes.
const LANES: u32 = 1;
const SALT_BYTES: usize = 16;
const HASH_BYTES: usize = 32;

/// The C library keeps freed memory for the thread that had it, unless it was larger than this in one piece: then the
/// system has it back at once. A piece is asked for that is larger, and only what is needed of it is touched.
const KEPT_BYTES_MAX: usize = 33 << 20;

/// Hashes and checks passwords with the memory that the settings give.
#[derive(Debug, Clone)]
pub struct Passwords {
    params: Params,
    /// The hash that stands in for users who do not exist.
    stand_in: String,
}

impl Passwords {
    /// `memory_kib` is what hashing one password takes, and `passes` how often it goes over it.
    ///
    /// # Errors
    /// `InvalidInput` if Argon2 does not take that much or that little memory.
    pub fn new(memory_kib: u32, passes: u32, entropy: &dyn Entropy) -> Result<Self> {
        let params = Params::new(memory_kib, passes, LANES, None).map_err(|reason| {
            Error::invalid_input(format!("auth.argon2_memory_kib = {memory_kib} is not possible: {reason}"))
        })?;
        let mut random = [0u8; HASH_BYTES];
        entropy.fill(&mut random);
        // Making it takes no work, because nobody knows a password for it; checking it does.
        let stand_in = phc_string(&params, &salt(entropy)?, &random).map_err(failed)?;
        Ok(Self { params, stand_in })
    }

    /// The PHC string to store for a password. CPU-heavy.
    pub fn hash(&self, password: &str, entropy: &dyn Entropy) -> Result<String> {
        let salt = salt(entropy)?;
        let mut hash = [0u8; HASH_BYTES];
        argon2id(&self.params, password, salt.as_salt(), &mut hash).map_err(failed)?;
        phc_string(&self.params, &salt, &hash).map_err(failed)
    }

    /// Whether the password is the one that `stored` was made from. `None` stands for a user who does not
    /// exist: false, after as much work. CPU-heavy; compares in constant time.
    pub fn verify(&self, password: &str, stored: Option<&str>) -> bool {
        let matches = matches(password, stored.unwrap_or(&self.stand_in)).unwrap_or(false);
        matches && stored.is_some()
    }

    /// Whether a stored hash was made with today's parameters. After a successful login, one that was not
    /// should be made again: until then the time of a check tells its user from one who does not exist.
    pub fn is_current(&self, stored: &str) -> bool {
        PasswordHash::new(stored).ok().and_then(|parsed| Params::try_from(&parsed).ok()).is_some_and(|params| {
            let today = &self.params;
            (params.m_cost(), params.t_cost(), params.p_cost()) == (today.m_cost(), today.t_cost(), today.p_cost())
        })
    }
}

fn salt(entropy: &dyn Entropy) -> Result<SaltString> {
    let mut salt = [0u8; SALT_BYTES];
    entropy.fill(&mut salt);
    SaltString::encode_b64(&salt).map_err(failed)
}

fn matches(password: &str, stored: &str) -> password_hash::Result<bool> {
    let stored = PasswordHash::new(stored)?;
    let (Some(salt), Some(expected)) = (stored.salt, stored.hash) else { return Ok(false) };
    if stored.algorithm != ARGON2ID_IDENT || stored.version != Some(Version::V0x13.into()) {
        return Ok(false);
    }
    let mut hash = vec![0u8; expected.len()];
    argon2id(&Params::try_from(&stored)?, password, salt, &mut hash)?;
    // Outputs are compared in constant time.
    Ok(Output::new(&hash)? == expected)
}

/// Fills `hash`. Its memory is given back to the system at the end.
fn argon2id(params: &Params, password: &str, salt: Salt<'_>, hash: &mut [u8]) -> password_hash::Result<()> {
    let mut salt_bytes = [0u8; Salt::MAX_LENGTH];
    let salt = salt.decode_b64(&mut salt_bytes)?;
    let mut memory = Vec::with_capacity(params.block_count().max(KEPT_BYTES_MAX / Block::SIZE));
    memory.resize(params.block_count(), Block::default());
    let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params.clone());
    Ok(argon2.hash_password_into_with_memory(password.as_bytes(), salt, hash, &mut memory)?)
}

fn phc_string(params: &Params, salt: &SaltString, hash: &[u8]) -> password_hash::Result<String> {
    let parts = PasswordHash {
        algorithm: ARGON2ID_IDENT,
        version: Some(Version::V0x13.into()),
        params: ParamsString::try_from(params)?,
        salt: Some(salt.as_salt()),
        hash: Some(Output::new(hash)?),
    };
    Ok(parts.to_string())
}

fn failed(reason: password_hash::Error) -> Error {
    Error::internal(format!("hashing a password failed: {reason}"))
}

#[cfg(test)]
mod tests;
