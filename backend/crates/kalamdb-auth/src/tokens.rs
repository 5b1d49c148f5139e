//! Access and refresh tokens: JSON Web Tokens, signed with HMAC-SHA256.
//!
//! A token says who, in which role, of which kind, and of which *generation* of the account. The account's
//! generation grows when its password changes, when it is demoted or dropped; the engine compares, so an old
//! token stops working at once, without a list of revoked ones; it says of which *session* it is, which ends alone.
//! Only HS256 with our secret is accepted, whatever the token's own header says. Time comes from the injected clock.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use kalamdb_commons::clock::Entropy;
use kalamdb_commons::ids::UserId;
use kalamdb_commons::schema::Role;
use kalamdb_commons::{Error, ErrorKind, Result};
use serde::{Deserialize, Serialize};

use crate::invalid_credentials;
use crate::sessions::SessionId;

/// The longest token that is looked at. Ours have some hundred bytes beside the user's name.
const TOKEN_BYTES_MAX: usize = 4_096;
/// How far in the future a token may have been made: the clock may have been set back since.
const AHEAD_SECONDS_MAX: i64 = 300;

/// The fewest bytes of a secret: as many as the signature has.
pub const SECRET_BYTES_MIN: usize = 32;

/// What a token is good for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum TokenKind {
    /// Requests.
    Access,
    /// Getting new tokens, and nothing else.
    Refresh,
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// The user.
    pub sub: UserId,
    /// The role at the time. What counts is the account's role now.
    pub role: Role,
    /// What it is good for.
    pub kind: TokenKind,
    /// The account's generation at the time.
    pub generation: u64,
    /// The session that it belongs to.
    pub sid: SessionId,
    /// Of refresh tokens, which one of the session's.
    pub turn: u64,
    /// When it was made, seconds since 1970.
    pub iat: i64,
    /// From when it is no longer good, seconds since 1970.
    pub exp: i64,
    /// Its own name, so that no two tokens are equal.
    pub jti: String,
}

/// For whom a token is made.
#[derive(Debug, Clone, Copy)]
pub struct Subject<'a> {
    /// The user.
    pub user: &'a UserId,
    /// The role.
    pub role: Role,
    /// The account's generation.
    pub generation: u64,
    /// The session.
    pub session: &'a SessionId,
    /// The number of the session's refresh token.
    pub turn: u64,
}

/// A token and its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issued {
    /// The token.
    pub token: String,
    /// From when it is no longer good, milliseconds since 1970.
    pub expires_at_ms: i64,
}

/// Makes tokens and reads them.
#[derive(Clone)]
pub struct TokenIssuer {
    encoding: EncodingKey,
    decoding: DecodingKey,
    validation: Validation,
}

impl std::fmt::Debug for TokenIssuer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenIssuer")
    }
}

impl TokenIssuer {
    /// An issuer whose tokens only issuers with the same secret accept.
    ///
    /// # Errors
    /// `InvalidInput` if the secret has less than [`SECRET_BYTES_MIN`] bytes.
    pub fn new(secret: &[u8]) -> Result<Self> {
        if secret.len() < SECRET_BYTES_MIN {
            return Err(Error::invalid_input(format!(
                "the secret that signs tokens has {} bytes; at least {SECRET_BYTES_MIN} are required",
                secret.len()
            )));
        }
        let mut validation = Validation::new(Algorithm::HS256);
        // The library would read the machine's clock. `read` compares with the injected one.
        validation.validate_exp = false;
        validation.validate_aud = false;
        validation.required_spec_claims.clear();
        Ok(Self { encoding: EncodingKey::from_secret(secret), decoding: DecodingKey::from_secret(secret), validation })
    }

    /// Makes a token that is good for `lifetime_seconds` from `now_ms`, rounded up to a whole second.
    pub fn issue(
        &self,
        kind: TokenKind,
        subject: Subject<'_>,
        now_ms: i64,
        lifetime_seconds: u64,
        entropy: &dyn Entropy,
    ) -> Result<Issued> {
        let lifetime_ms = i64::try_from(lifetime_seconds).unwrap_or(i64::MAX).saturating_mul(1_000);
        let exp = now_ms.saturating_add(lifetime_ms).saturating_add(999) / 1_000;
        let mut jti = [0u8; 16];
        entropy.fill(&mut jti);
        let claims = Claims {
            sub: subject.user.clone(),
            role: subject.role,
            kind,
            generation: subject.generation,
            sid: subject.session.clone(),
            turn: subject.turn,
            iat: now_ms / 1_000,
            exp,
            jti: format!("{:032x}", u128::from_be_bytes(jti)),
        };
        let token = jsonwebtoken::encode(&Header::new(Algorithm::HS256), &claims, &self.encoding)
            .map_err(|reason| Error::internal("signing a token failed").with_source(reason))?;
        Ok(Issued { token, expires_at_ms: exp.saturating_mul(1_000) })
    }

    /// Reads a token of the kind that is wanted here.
    ///
    /// # Errors
    /// `InvalidCredentials` if it was not made by us, was altered, is of the other kind, or was made in the future;
    /// `TokenExpired` if its time is over.
    pub fn read(&self, token: &str, kind: TokenKind, now_ms: i64) -> Result<Claims> {
        let claims = self.read_any(token, now_ms)?;
        if claims.kind == kind { Ok(claims) } else { Err(invalid_credentials()) }
    }

    /// Reads a token of either kind.
    ///
    /// # Errors
    /// As [`Self::read`].
    pub fn read_any(&self, token: &str, now_ms: i64) -> Result<Claims> {
        if token.len() > TOKEN_BYTES_MAX {
            return Err(invalid_credentials());
        }
        let claims = jsonwebtoken::decode::<Claims>(token, &self.decoding, &self.validation)
            .map_err(|_| invalid_credentials())?
            .claims;
        if claims.iat > now_ms.div_euclid(1_000).saturating_add(AHEAD_SECONDS_MAX) {
            return Err(invalid_credentials());
        }
        if now_ms >= claims.exp.saturating_mul(1_000) {
            return Err(token_expired());
        }
        Ok(claims)
    }
}

/// The answer to a token that was right once: its time is over, or its account has moved on.
pub fn token_expired() -> Error {
    Error::new(ErrorKind::TokenExpired, "The token has expired; log in again")
}

#[cfg(test)]
mod tests;
