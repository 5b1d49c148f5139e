use proptest::prelude::*;

use super::*;

#[test]
fn hostile_names_stay_inside_their_directory() {
    for name in ["../x", "..", ".", "a/b", "a:b", "a\\b", "ü", "a b", "%2E%2E"] {
        let escaped = escape_component(name);
        assert!(!escaped.contains(['/', '\\', ':', '.']), "{name} became {escaped}");
    }
}

#[test]
fn names_are_validated_with_the_reason() {
    assert!(UserId::new("").is_err());
    assert!(UserId::new("a\0b").is_err_and(|error| error.message().contains("control")));
    assert!(TableName::new(&"x".repeat(65)).is_err_and(|error| error.message().contains("at most 64")));
    assert!(UserId::new(&"x".repeat(255)).is_ok());
    assert!(NamespaceId::new("größe").is_ok());
}

#[test]
fn the_longest_user_id_fits_a_file_system() {
    let user = UserId::new(&"é".repeat(127)).expect("254 bytes");
    assert!(Scope::User(user).directory().len() <= 255);
}

proptest! {
    #[test]
    fn escaping_never_collides(a in ".{0,90}", b in ".{0,90}") {
        prop_assert_eq!(a == b, escape_component(&a) == escape_component(&b));
    }
}
