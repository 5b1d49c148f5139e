use kalamdb_commons::clock::SystemEntropy;

use super::*;

const NOW_MS: i64 = 1_700_000_000_123;
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

fn issue(issuer: &TokenIssuer, kind: TokenKind) -> Issued {
    let user = UserId::new("al\u{e9} o'x").unwrap();
    let session = SessionId::draw(&SystemEntropy);
    let subject = Subject { user: &user, role: Role::Service, generation: 7, session: &session, turn: 3 };
    issuer.issue(kind, subject, NOW_MS, 60, &SystemEntropy).unwrap()
}

fn issuer() -> TokenIssuer {
    TokenIssuer::new(SECRET).unwrap()
}

#[test]
fn a_token_says_what_it_was_made_with() {
    let issued = issue(&issuer(), TokenKind::Access);
    let claims = issuer().read(&issued.token, TokenKind::Access, NOW_MS).unwrap();
    assert_eq!((claims.sub.as_str(), claims.role, claims.generation), ("al\u{e9} o'x", Role::Service, 7));
    assert_eq!(claims.turn, 3);
    assert_eq!(claims.exp * 1_000, issued.expires_at_ms);
}

#[test]
fn a_token_is_good_up_to_its_end_and_not_at_it() {
    let issued = issue(&issuer(), TokenKind::Access);
    assert!(issued.expires_at_ms >= NOW_MS + 60_000, "never shorter than promised");
    assert!(issuer().read(&issued.token, TokenKind::Access, issued.expires_at_ms - 1).is_ok());
    let late = issuer().read(&issued.token, TokenKind::Access, issued.expires_at_ms).expect_err("expired");
    assert_eq!(late.kind(), ErrorKind::TokenExpired);
}

/// The clock that counts is the one passed in, whatever year the machine has.
#[test]
fn the_machines_clock_is_not_asked() {
    let user = UserId::new("alice").unwrap();
    let session = SessionId::draw(&SystemEntropy);
    let subject = Subject { user: &user, role: Role::User, generation: 0, session: &session, turn: 0 };
    let issued = issuer().issue(TokenKind::Access, subject, 1_000, 60, &SystemEntropy).unwrap();
    assert!(issuer().read(&issued.token, TokenKind::Access, 2_000).is_ok());
}

#[test]
fn kinds_do_not_stand_in_for_each_other() {
    for (made, wanted) in [(TokenKind::Refresh, TokenKind::Access), (TokenKind::Access, TokenKind::Refresh)] {
        let issued = issue(&issuer(), made);
        let error = issuer().read(&issued.token, wanted, NOW_MS).expect_err("the other kind");
        assert_eq!(error.kind(), ErrorKind::InvalidCredentials);
    }
}

#[test]
fn altered_foreign_and_unsigned_tokens_are_refused() {
    let token = issue(&issuer(), TokenKind::Access).token;
    let foreign = issue(&TokenIssuer::new(&[9; 32]).unwrap(), TokenKind::Access).token;
    let mut parts: Vec<&str> = token.split('.').collect();
    let other = issue(&issuer(), TokenKind::Access).token;
    parts[1] = other.split('.').nth(1).unwrap();
    let swapped = parts.join(".");
    // {"alg":"none"}
    let unsigned = format!("eyJhbGciOiJub25lIn0.{}.", token.split('.').nth(1).unwrap());
    for bad in [foreign.as_str(), &swapped, &unsigned, "", "a.b.c", &token[..token.len() - 2]] {
        let error = issuer().read(bad, TokenKind::Access, NOW_MS).expect_err(bad);
        assert_eq!((error.kind(), error.message()), (ErrorKind::InvalidCredentials, "Invalid credentials"));
    }
}

#[test]
fn no_two_tokens_are_equal() {
    assert_ne!(issue(&issuer(), TokenKind::Access).token, issue(&issuer(), TokenKind::Access).token);
}

#[test]
fn a_short_secret_is_refused() {
    let error = TokenIssuer::new(&[1; 31]).expect_err("too short");
    assert!(error.message().contains("at least 32"));
}

/// What somebody could sign who knows how tokens look: with our secret, so that only the one thing is wrong.
fn forged(header: &Header, change: impl FnOnce(&mut serde_json::Value), key: &[u8]) -> String {
    let claims = issuer().read(&issue(&issuer(), TokenKind::Access).token, TokenKind::Access, NOW_MS).unwrap();
    let mut claims = serde_json::to_value(claims).unwrap();
    change(&mut claims);
    jsonwebtoken::encode(header, &claims, &EncodingKey::from_secret(key)).unwrap()
}

fn is_refused(token: &str) -> bool {
    let read = issuer().read(token, TokenKind::Access, NOW_MS);
    read.is_err_and(|error| error.kind() == ErrorKind::InvalidCredentials)
}

#[test]
fn only_hs256_is_accepted_whatever_the_header_says() {
    assert!(!is_refused(&forged(&Header::new(Algorithm::HS256), |_| {}, SECRET)), "the forgery is otherwise right");
    for algorithm in [Algorithm::HS384, Algorithm::HS512] {
        assert!(is_refused(&forged(&Header::new(algorithm), |_| {}, SECRET)), "{algorithm:?}");
    }
    let ours = forged(&Header::new(Algorithm::HS256), |_| {}, SECRET);
    let rest = ours.split_once('.').unwrap().1;
    for header in [
        "eyJhbGciOiJub25lIn0",     // {"alg":"none"}
        "eyJhbGciOiJOb25lIn0",     // {"alg":"None"}
        "eyJhbGciOiJSUzI1NiJ9",    // {"alg":"RS256"}
        "eyJhbGciOiJFUzI1NiJ9",    // {"alg":"ES256"}
        "eyJ0eXAiOiJKV1QifQ",      // {"typ":"JWT"}, no algorithm
        "eyJhbGciOlsiSFMyNTYiXX0", // {"alg":["HS256"]}
    ] {
        assert!(is_refused(&format!("{header}.{rest}")), "{header}");
        let unsigned = format!("{header}.{}.", rest.split_once('.').unwrap().0);
        assert!(is_refused(&unsigned), "{unsigned}");
    }
}

/// Fields of the header that name another key are not followed.
#[test]
fn keys_that_a_token_brings_along_are_not_used() {
    let mut header = Header::new(Algorithm::HS256);
    header.kid = Some("../../dev/null".to_owned());
    header.jku = Some("https://example.org/keys".to_owned());
    assert!(is_refused(&forged(&header, |_| {}, b"the key of somebody else, 32 bytes")));
}

#[test]
fn claims_that_are_missing_of_the_wrong_type_or_from_the_future_are_refused() {
    let header = Header::new(Algorithm::HS256);
    for name in ["sub", "role", "kind", "generation", "sid", "turn", "iat", "exp", "jti"] {
        let missing = forged(&header, |claims| drop(claims.as_object_mut().unwrap().remove(name)), SECRET);
        assert!(is_refused(&missing), "{name} is missing");
        assert!(
            is_refused(&forged(&header, |claims| claims[name] = serde_json::json!([]), SECRET)),
            "{name} is a list"
        );
    }
    let in_seconds = |seconds: i64| forged(&header, |claims| claims["iat"] = (NOW_MS / 1_000 + seconds).into(), SECRET);
    assert!(!is_refused(&in_seconds(AHEAD_SECONDS_MAX)));
    assert!(is_refused(&in_seconds(AHEAD_SECONDS_MAX + 1)));
}

#[test]
fn a_huge_token_is_not_looked_at() {
    let long = forged(&Header::new(Algorithm::HS256), |claims| claims["more"] = "x".repeat(100_000).into(), SECRET);
    assert!(is_refused(&long));
    assert!(is_refused(&".".repeat(TOKEN_BYTES_MAX)));
}
