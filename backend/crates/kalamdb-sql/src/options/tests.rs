use kalamdb_commons::ErrorKind;

use super::*;

fn set(name: &str, value: &str) -> Result<TableOptionSet> {
    let mut set = TableOptionSet::default();
    set.set(name, value).map(|()| set)
}

#[test]
fn every_option_takes_its_example_in_any_case_of_its_name() {
    for option in TABLE_OPTIONS {
        for name in [option.name.to_owned(), option.name.to_lowercase()] {
            let set = set(&name, option.example).unwrap_or_else(|error| panic!("{name}: {error}"));
            assert_ne!(set, TableOptionSet::default(), "{name} sets something");
        }
    }
}

#[test]
fn every_option_says_what_it_is_and_takes() {
    for TableOption { name, documentation, allowed, .. } in TABLE_OPTIONS {
        assert!(documentation.ends_with('.') && !documentation.contains("  "), "{name}: {documentation}");
        assert!(!allowed.is_empty() && !allowed.contains("  "), "{name}: {allowed}");
    }
}

#[test]
fn bad_values_are_refused_with_the_name_the_value_and_what_is_allowed() {
    for (name, values) in [
        ("TYPE", &["", "users", "system"][..]),
        ("STORAGE_ID", &["", "a\0b"]),
        (
            "FLUSH_POLICY",
            &[
                "",
                "rows",
                "rows:",
                "rows:0",
                "rows:-1",
                "rows:x",
                "rows:1,rows:2",
                "rows:1;interval:2",
                "bytes:1",
                "interval:0",
                "rows:1,",
                "interval:99999999999",
                "rows:99999999999999999999",
            ],
        ),
        ("TTL_SECONDS", &["", "0", "-1", "1.5", "x", "+1", "3155760001", "99999999999999999999"]),
        ("ACCESS_LEVEL", &["", "secret", "public "]),
        ("DELETED_RETENTION_HOURS", &["", "-1", "x", "876601"]),
        ("BLOOM_FILTER_COLUMNS", &["a,", ",a", "a,,b", "a,A", "\"\""]),
        ("BLOOM_FILTER_FPP", &["", "0", "1", "-0.1", "nan", "inf", "0.0000001", "x"]),
        ("COMPRESSION", &["", "gzip", "zstd(3)"]),
    ] {
        for value in values {
            let error = set(name, value).expect_err(value);
            assert_eq!(error.kind(), ErrorKind::InvalidInput);
            let start = format!("the option {name} cannot be '{value}'; allowed is ");
            assert!(error.message().starts_with(&start), "{error}");
        }
    }
}

#[test]
fn an_unknown_option_is_refused_with_the_ones_that_there_are() {
    let message = set("COLOUR", "red").expect_err("unknown").message().to_owned();
    assert!(message.starts_with("unknown table option 'COLOUR'; allowed are "));
    for option in TABLE_OPTIONS {
        assert!(message.contains(option.name), "{}", option.name);
    }
}

#[test]
fn flush_policies_in_every_form() {
    let policy = |rows, interval_seconds| Some(FlushPolicy { rows, interval_seconds });
    for (value, expected) in [
        ("rows:5", policy(Some(5), None)),
        ("interval:7", policy(None, Some(7))),
        ("rows:5,interval:7", policy(Some(5), Some(7))),
        (" Interval : 7 , Rows : 5 ", policy(Some(5), Some(7))),
    ] {
        assert_eq!(set("FLUSH_POLICY", value).expect(value).flush, expected);
    }
}

#[test]
fn bloom_filter_columns_may_be_none() {
    assert_eq!(set("BLOOM_FILTER_COLUMNS", " ").expect("none").bloom_filter_columns, Some(Vec::new()));
}

#[test]
fn what_was_not_mentioned_stays() {
    let mut options = TableOptions { ttl_seconds: Some(9), deleted_retention_hours: 3, ..TableOptions::default() };
    let before = options.clone();
    TableOptionSet::default().apply(&mut options);
    assert_eq!(options, before);
}

#[test]
fn everything_that_was_mentioned_is_applied() {
    let mut set = TableOptionSet::default();
    for option in TABLE_OPTIONS {
        set.set(option.name, option.example).expect(option.name);
    }
    let mut options = TableOptions { storage: StorageId::new("other").expect("an id"), ..TableOptions::default() };
    set.apply(&mut options);
    assert_eq!(options.storage.as_str(), "local");
    assert_eq!(options.flush, FlushPolicy { rows: Some(10_000), interval_seconds: Some(300) });
    assert_eq!(options.ttl_seconds, Some(3_600));
    assert_eq!(options.access_level, AccessLevel::Private);
    assert_eq!(options.deleted_retention_hours, 168);
    assert_eq!(options.bloom_filter_fpp, 0.01);
    assert_eq!(options.compression, Compression::Zstd);
}

#[test]
fn options_that_mean_nothing_for_a_kind_are_refused_by_name() {
    use TableKind::{Shared, Stream, User};

    let allowed = |name: &str, value: &str| -> Vec<TableKind> {
        let set = set(name, value).expect(name);
        [User, Shared, Stream].into_iter().filter(|kind| set.check(*kind).is_ok()).collect()
    };
    for option in TABLE_OPTIONS {
        let kinds: &[TableKind] = match option.name {
            "TYPE" => &[User, Shared, Stream],
            "ACCESS_LEVEL" => &[Shared],
            "TTL_SECONDS" => &[Stream],
            _ => &[User, Shared],
        };
        assert_eq!(allowed(option.name, option.example), kinds, "{}", option.name);
    }
    let message = set("ACCESS_LEVEL", "public").expect("a level").check(User).expect_err("USER").message().to_owned();
    assert_eq!(message, "the option ACCESS_LEVEL is for SHARED tables; this is a USER table");
}
