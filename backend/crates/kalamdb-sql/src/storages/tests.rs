use super::*;
use crate::tests::{all, one, refused, refuses};

const S3: &str =
    "CREATE STORAGE s3_prod TYPE 's3' BUCKET 'b' REGION 'eu-west-1' ENDPOINT 'https://x' CREDENTIALS '{\"a\":1}'";

fn created(sql: &str) -> CreateStorage {
    match one(sql) {
        Statement::CreateStorage(create) => create,
        other => panic!("{other:?}"),
    }
}

#[test]
fn create_storage_in_every_form() {
    let create = created(S3);
    assert_eq!((create.id.as_str(), create.kind, create.if_not_exists), ("s3_prod", StorageType::S3, false));
    let options = create.options;
    assert_eq!(options.bucket.as_deref(), Some("b"));
    assert_eq!(options.region.as_deref(), Some("eu-west-1"));
    assert_eq!(options.endpoint.as_deref(), Some("https://x"));
    assert_eq!(options.credentials.unwrap().reveal(), "{\"a\":1}");
    let create =
        created("create storage if not exists 'Disk 2' type = filesystem, path = '/mnt/2', name = 'The second disk';");
    assert_eq!((create.id.as_str(), create.kind, create.if_not_exists), ("Disk 2", StorageType::Filesystem, true));
    assert_eq!(create.options.path.as_deref(), Some("/mnt/2"));
    let create = created("CREATE STORAGE s TYPE 'S3' BUCKET 'b' PREFIX 'p/q' ALLOW_HTTP TRUE");
    assert_eq!((create.options.prefix.as_deref(), create.options.allow_http), (Some("p/q"), Some(true)));
}

#[test]
fn alter_drop_and_check_in_every_form() {
    let Statement::AlterStorage { id, options } = one("ALTER STORAGE s SET CREDENTIALS '{}', REGION 'r' NAME 'n'")
    else {
        panic!("not ALTER STORAGE")
    };
    assert_eq!((id.as_str(), options.region.as_deref(), options.name.as_deref()), ("s", Some("r"), Some("n")));
    assert_eq!(one("DROP STORAGE IF EXISTS 's'"), Statement::DropStorage { id: "s".to_owned(), if_exists: true });
    for (sql, extended) in [("STORAGE CHECK local", false), ("storage check 'local' extended;", true)] {
        assert_eq!(one(sql), Statement::CheckStorage { id: "local".to_owned(), extended });
    }
}

#[test]
fn what_is_missing_unknown_or_for_another_type_is_named() {
    refuses(&[
        ("CREATE STORAGE", "expected a storage id"),
        ("CREATE STORAGE s", "expected TYPE"),
        ("CREATE STORAGE s TYPE 'gcs' BUCKET 'b'", "'gcs' (allowed are 'filesystem' and 's3') is not implemented"),
        ("CREATE STORAGE s TYPE azure", "'azure' (allowed are 'filesystem' and 's3') is not implemented"),
        ("CREATE STORAGE s TYPE 'ftp'", "the storage type is unknown; allowed are 'filesystem' and 's3'"),
        (
            "CREATE STORAGE s TYPE 's3'",
            "expected NAME, PATH, BUCKET, PREFIX, REGION, ENDPOINT, ALLOW_HTTP, CREDENTIALS",
        ),
        ("CREATE STORAGE s TYPE 's3' NAME 'n'", "needs BUCKET"),
        ("CREATE STORAGE s TYPE 'filesystem' NAME 'n'", "needs PATH"),
        ("CREATE STORAGE s TYPE 'filesystem' PATH '/p' BUCKET 'b'", "BUCKET is not for storages of type 'filesystem'"),
        ("CREATE STORAGE s TYPE 's3' BUCKET 'b' PATH '/p'", "PATH is not for storages of type 's3'"),
        ("CREATE STORAGE s TYPE 's3' BUCKET 'b' BUCKET 'c'", "BUCKET is said twice"),
        ("CREATE STORAGE s TYPE 's3' BUCKET 'b',", "expected NAME"),
        ("CREATE STORAGE s TYPE 's3' BUCKET b", "expected BUCKET in single quotes"),
        ("CREATE STORAGE s TYPE 's3' BUCKET 'b' ALLOW_HTTP 1", "expected TRUE or FALSE"),
        ("ALTER STORAGE s", "expected SET"),
        ("ALTER STORAGE s SET BUCKET 'b'", "BUCKET cannot be changed: the files lie where they are"),
        ("ALTER STORAGE s SET PATH '/p'", "PATH cannot be changed"),
        ("ALTER STORAGE s SET", "expected NAME, REGION, ENDPOINT, ALLOW_HTTP, CREDENTIALS"),
        ("DROP STORAGE s CASCADE", "CASCADE in DROP STORAGE is not implemented"),
        ("STORAGE CHECK", "expected a storage id"),
    ]);
}

#[test]
fn credentials_are_in_no_text_debug_or_error() {
    for sql in [S3, "ALTER STORAGE s SET CREDENTIALS '{\"a\":1}' REGION 'r'"] {
        let sql = sql.replace("{\"a\":1}", "hunter2");
        let parsed = all(&sql).remove(0);
        assert!(!format!("{parsed:?}").contains("hunter2"));
        assert!(parsed.text.contains("CREDENTIALS '***'"), "{}", parsed.text);
    }
    for sql in [
        "CREATE STORAGE s TYPE 's3' CREDENTIALS 'x' 'hunter2'",
        "CREATE STORAGE s TYPE 's3' CREDENTIALS hunter2",
        "CREATE STORAGE s TYPE 's3' CREDENTIALS E'hunter2'",
        "CREATE STORAGE s TYPE 's3' BUCKET 'b' ALLOW_HTTP 'hunter2'",
        "CREATE STORAGE s TYPE 'hunter2'",
        "ALTER STORAGE s SET CREDENTIALS 'x' $$hunter2$$",
    ] {
        let message = refused(sql);
        assert!(!message.contains("hunter2"), "{message}");
    }
}
