use kalamdb_commons::clock::SystemEntropy;

use super::*;

const NOW_MS: i64 = 1_700_000_000_123;
const SECRET: &[u8] = b"0123456789abcdef0123456789abcdef";

fn issue(issuer: &TokenIssuer, kind: TokenKind) -> Issued {
    let user = UserId::new("al\u{e9} o'x").unwrap();
    let subject = Subject { user: &user, role: Role::Service, generation: 7 };
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
    let subject = Subject { user: &user, role: Role::User, generation: 0 };
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
