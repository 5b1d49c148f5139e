//! Who somebody is and what they may do: passwords, tokens, the brake on guessing, and the policy.
//!
//! Nothing here stores accounts or reads time: the engine keeps the accounts and passes the clock's time in.
//! Hashing and checking a password take tens of milliseconds of CPU by design; callers run them where that
//! holds nobody up (`spawn_blocking`), a bounded number at once, because each also takes the memory that
//! `auth.argon2_memory_kib` says.
//!
//! | module | holds |
//! |---|---|
//! | [`passwords`] | Argon2id hashes; a check that takes as long for an unknown user as for a wrong password |
//! | [`password_rules`] | what a new password must be |
//! | [`sealing`] | secrets at rest |
//! | [`tokens`] | access and refresh tokens: what they say, how they are made and read |
//! | [`sessions`] | what grows from one login: rotation of refresh tokens, and its end |
//! | [`impersonation`] | who may act on whose behalf |
//! | [`policy`] | which role has which right |
//! | [`seal`] | keyed seals, for the audit log |
//! | [`throttle`] | failed logins per user, address and minute |

pub mod impersonation;
pub mod password_rules;
pub mod passwords;
pub mod policy;
pub mod seal;
pub mod sealing;
pub mod sessions;
pub mod throttle;
pub mod tokens;

use kalamdb_commons::{Error, ErrorKind};

/// The one answer to an unknown user, a wrong password and a token that was never ours.
pub fn invalid_credentials() -> Error {
    Error::new(ErrorKind::InvalidCredentials, "Invalid credentials")
}

/// The answer to a request without a bearer token.
pub fn missing_authorization() -> Error {
    Error::new(ErrorKind::MissingAuthorization, "Missing Authorization header: send 'Authorization: Bearer <token>'")
}
