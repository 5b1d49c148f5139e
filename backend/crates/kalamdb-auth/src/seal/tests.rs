use super::SealKey;

#[test]
fn a_seal_is_of_its_key_purpose_and_parts() {
    let key = SealKey::new(&[7; 32]);
    let seal = key.seal("entry", &[b"ab", b"c"]);
    assert_eq!(seal, SealKey::new(&[7; 32]).seal("entry", &[b"ab", b"c"]));
    let others = [
        SealKey::new(&[8; 32]).seal("entry", &[b"ab", b"c"]),
        key.seal("head", &[b"ab", b"c"]),
        key.seal("entry", &[b"a", b"bc"]),
        key.seal("entry", &[b"abc"]),
        key.seal("entry", &[b"c", b"ab"]),
        key.seal("entry", &[b"ab", b"c", b""]),
    ];
    for (at, other) in others.iter().enumerate() {
        assert_ne!(seal, *other, "{at}");
    }
}

#[test]
fn a_key_is_not_shown() {
    assert_eq!(format!("{:?}", SealKey::new(b"a secret of the server's")), "SealKey { .. }");
}
