use kalamdb_commons::ids::NamespaceId;

use super::*;

fn description() -> Description {
    let namespace =
        Namespace { id: NamespaceId::new("app").unwrap(), options: serde_json::Map::new(), created_at_ms: 1 };
    Description::new("1".to_owned(), "origin".to_owned(), namespace, CommitTime(7), "then".to_owned())
}

#[test]
fn a_description_is_read_as_it_was_written() {
    let sealed = Described::seal(&description()).unwrap();
    assert_eq!(Described::open("x", &sealed).unwrap(), description());
}

#[test]
fn any_byte_that_is_missing_or_another_is_noticed() {
    let sealed = Described::seal(&description()).unwrap();
    for at in 0..sealed.len() {
        assert!(Described::open("x", &sealed[..at]).is_err(), "cut at {at}");
        let mut changed = sealed.clone();
        changed[at] ^= 1;
        let opened = Described::open("x", &changed);
        // Within the head a change may say the same: the letters of a number, for one, are one number.
        assert!(opened.map_or(true, |opened| opened == description()), "changed at {at}");
    }
}

#[test]
fn a_later_format_is_refused_by_number() {
    let later = Description { format_version: FORMAT_VERSION + 1, ..description() };
    let error = Described::open("x", &Described::seal(&later).unwrap()).unwrap_err();
    assert!(error.message().contains("has format 2; this build reads up to 1"), "{error}");
}
