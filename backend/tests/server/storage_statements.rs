//! CREATE, ALTER, DROP and CHECK of storages, and tables that lie in them.

use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::{Value, json};

use crate::s3::{S3, Wire};
use crate::server::{Home, Server};

/// It does not try for long.
fn impatient() -> Home {
    Home::new(&[("COLD__REQUEST_TIMEOUT_SECONDS", "2"), ("COLD__REQUEST_RETRIES_MAX", "1")])
}

fn credentials(s3: &S3, secret: &str) -> String {
    format!("CREDENTIALS '{{\"access_key_id\": \"{}\", \"secret_access_key\": \"{secret}\"}}'", s3.key_id)
}

fn create(s3: &S3, id: &str, url: &str, bucket: &str) -> String {
    let credentials = credentials(s3, &s3.secret);
    format!("CREATE STORAGE {id} TYPE 's3' BUCKET '{bucket}' ENDPOINT '{url}' ALLOW_HTTP TRUE {credentials}")
}

/// A table with cold rows, corrected ones and hot ones.
async fn fill(server: &Server, table: &str, storage: &str) {
    server
        .sql(&format!("CREATE SHARED TABLE {table} (id BIGINT PRIMARY KEY, n INT) WITH (STORAGE_ID = '{storage}')"))
        .await;
    server.sql(&format!("INSERT INTO {table} SELECT value, value FROM generate_series(1, 20)")).await;
    server.flush(table).await;
    server.sql(&format!("UPDATE {table} SET n = n + 100 WHERE id < 5; DELETE FROM {table} WHERE id = 9")).await;
    server.flush(table).await;
    server.sql(&format!("UPDATE {table} SET n = 0 WHERE id = 20")).await;
}

/// For as long it is waited for what the server does by itself.
const WITHIN: Duration = Duration::from_secs(60);

async fn rows(server: &Server, table: &str) -> Value {
    server.rows(&format!("SELECT id, n, _seq FROM {table} ORDER BY id")).await
}

const SHOWN: &str = "SELECT storage_id, storage_name, storage_type, base_directory FROM system.storages ORDER BY 1";

#[tokio::test]
async fn tables_choose_among_storages_that_live_over_restarts_until_nobody_uses_them() {
    let s3 = S3::shared().await;
    s3.make_bucket("chosen").await;
    let home = Home::new(&[]);
    let disk = home.root().join("disk");
    let server = home.start().await;
    server.sql("CREATE NAMESPACE app").await;
    let made =
        server.sql(&format!("CREATE STORAGE disk TYPE 'filesystem' PATH '{}' NAME 'Disk 2'", disk.display())).await;
    assert_eq!(made["message"], "Storage 'disk' created");
    server.sql(&format!("{} PREFIX 'one'", create(s3, "one", &s3.url, "chosen"))).await;
    server.sql(&format!("{} PREFIX 'two'", create(s3, "two", &s3.url, "chosen"))).await;
    let tables = [("app.d", "disk"), ("app.a", "one"), ("app.b", "two"), ("app.l", "local")];
    let mut before = Vec::new();
    for (table, storage) in tables {
        fill(&server, table, storage).await;
        before.push(rows(&server, table).await);
    }
    assert!(disk.join("app/d/shared/manifest.json").is_file());
    assert!(s3.get("chosen/one/app/a/shared/manifest.json").await.is_some());
    assert!(s3.get("chosen/two/app/b/shared/manifest.json").await.is_some());
    let shown = json!([
        ["disk", "Disk 2", "filesystem", disk.canonicalize().unwrap().to_str().unwrap()],
        ["local", "local", "filesystem", home.data().join("storage").canonicalize().unwrap().to_str().unwrap()],
        ["one", "one", "s3", "s3://chosen/one"],
        ["two", "two", "s3", "s3://chosen/two"],
    ]);
    assert_eq!(server.rows(SHOWN).await, shown);

    let home = server.stop();
    s3.delete("chosen/two/app/b/shared/manifest.json").await;
    let server = home.start().await;
    assert_eq!(server.rows(SHOWN).await, shown);
    for ((table, _), before) in tables.iter().zip(&before) {
        assert_eq!(rows(&server, table).await, *before, "{table} after a restart");
    }
    let made_again = async {
        while s3.get("chosen/two/app/b/shared/manifest.json").await.is_none() {
            rows(&server, "app.b").await;
        }
    };
    tokio::time::timeout(WITHIN, made_again).await.expect("a job makes the manifest again");

    for id in ["disk", "one"] {
        let message = server.refused(&format!("DROP STORAGE {id}"), 400, "SQL_EXECUTION_ERROR").await;
        assert!(message.contains("1 table(s) use it: 'app."), "{message}");
    }
    server.sql("DROP TABLE app.d; DROP TABLE app.a").await;
    for id in ["disk", "one"] {
        // The contents are removed in the background.
        while server.ask(&format!("DROP STORAGE {id}")).await.status != 200 {}
    }
    let left = server.rows("SELECT storage_id FROM system.storages ORDER BY 1").await;
    assert_eq!(left, json!([["local"], ["two"]]));
    let server = server.stop().start().await;
    // The place is free, and holds nothing of the table that had the name before.
    server.sql(&format!("{} PREFIX 'one'", create(s3, "disk", &s3.url, "chosen"))).await;
    fill(&server, "app.d", "disk").await;
    assert_eq!(server.rows("SELECT count(*), sum(n) FROM app.d").await, json!([["19", "581"]]));
    assert_eq!(rows(&server, "app.b").await, before[2]);
}

#[tokio::test]
async fn credentials_are_sealed_at_rest_and_shown_nowhere() {
    let s3 = S3::start(0);
    s3.make_bucket("sealed").await;
    s3.ask_for_keys().await;
    let server = impatient().start().await;
    server.sql(&create(&s3, "safe", &s3.url, "sealed")).await;
    server.sql("CREATE NAMESPACE app").await;
    fill(&server, "app.t", "safe").await;
    let before = rows(&server, "app.t").await;
    for sql in ["SHOW STORAGES", "SELECT * FROM system.storages", "STORAGE CHECK safe", "SHOW ALL"] {
        assert!(!server.sql(sql).await.to_string().contains(&s3.secret), "{sql}");
    }
    let wrong = credentials(&s3, "wrong-secret-1234567890");
    let message = server.refused(&format!("ALTER STORAGE safe SET {wrong}"), 400, "SQL_EXECUTION_ERROR").await;
    assert!(message.contains("SignatureDoesNotMatch") && !message.contains("wrong-secret"), "{message}");
    assert_eq!(rows(&server, "app.t").await, before, "nothing was altered");

    let home = server.stop();
    let key = home.data().join("secrets.key");
    assert_eq!(std::fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
    for name in home.everything() {
        let bytes = std::fs::read(home.root().join(&name)).unwrap_or_default();
        for secret in [s3.secret.as_bytes(), b"wrong-secret"] {
            assert!(!bytes.windows(secret.len()).any(|window| window == secret), "a secret is in {name}");
        }
    }
    let server = home.start().await;
    assert_eq!(rows(&server, "app.t").await, before);

    // Without the key the server starts, says what is wrong where it matters, and takes the credentials anew.
    let home = server.stop();
    std::fs::remove_file(&key).unwrap();
    let server = home.start().await;
    let message = server.refused("SELECT sum(n) FROM app.t", 500, "INTERNAL_ERROR").await;
    assert!(
        message.contains("storage 'safe' cannot be used: the key that sealed its credentials is missing"),
        "{message}"
    );
    server.sql("CREATE SHARED TABLE app.other (id INT); INSERT INTO app.other VALUES (1)").await;
    server.flush("app.other").await;
    server.sql(&format!("ALTER STORAGE safe SET {}", credentials(&s3, &s3.secret))).await;
    assert_eq!(rows(&server, "app.t").await, before);
    server.sql("UPDATE app.t SET n = 7 WHERE id = 7").await;
    server.flush("app.t").await;
}

#[tokio::test]
async fn a_storage_that_cannot_be_used_is_not_made() {
    let s3 = S3::start(0);
    s3.make_bucket("locked").await;
    s3.ask_for_keys().await;
    let home = impatient();
    let server = home.start().await;
    let right = create(&s3, "s", &s3.url, "locked");
    let (root, data) = (home.root().display().to_string(), home.data().display().to_string());
    let directory = |path: &str| format!("CREATE STORAGE s TYPE 'filesystem' PATH '{path}'");
    server.sql(&directory(&format!("{root}/taken")).replace("STORAGE s", "STORAGE taken")).await;
    std::os::unix::fs::symlink(home.data(), home.root().join("link")).unwrap();
    let failed = "SQL_EXECUTION_ERROR";
    let invalid = "INVALID_INPUT";
    for (sql, code, words) in [
        (right.replace(&s3.secret, "wrong"), failed, "refuses the credentials (SignatureDoesNotMatch)"),
        (right.replace(&s3.key_id, "AKIAUNKNOWN"), failed, "refuses the credentials (InvalidAccessKeyId)"),
        (right.replace("'locked'", "'absent'"), failed, "there is no such bucket"),
        (right.replace(&s3.url, "http://127.0.0.1:1"), failed, "the object store cannot be reached"),
        (right.replace("ALLOW_HTTP TRUE", ""), invalid, "ALLOW_HTTP TRUE"),
        (right.replace("'s3'", "'gcs'"), "INVALID_SQL", "allowed are 'filesystem' and 's3'"),
        (right.replace("access_key_id", "key"), invalid, "CREDENTIALS must be a JSON object"),
        (directory(&data), invalid, "the data directory must not be in each other"),
        (directory(&format!("{data}/hot")), invalid, "the data directory must not be in each other"),
        (directory(&root), invalid, "the data directory must not be in each other"),
        (directory(&format!("{root}/link/new")), invalid, "the data directory must not be in each other"),
        (directory(&format!("{root}/x/../data/hot")), invalid, "an absolute path without '..'"),
        (directory("relative"), invalid, "an absolute path without '..'"),
        (directory(&format!("{root}/taken/in/it")), invalid, "storage 'taken' is in the same place"),
        (directory("/proc/1/no"), "INTERNAL_ERROR", "making the directory of the storage"),
        ("CREATE STORAGE local TYPE 'filesystem' PATH '/x'".to_owned(), failed, "storage 'local' already exists"),
        ("ALTER STORAGE local SET NAME 'x'".to_owned(), invalid, "belongs to the settings"),
        ("DROP STORAGE local".to_owned(), invalid, "belongs to the settings"),
        ("DROP STORAGE nowhere".to_owned(), "TABLE_NOT_FOUND", "storage 'nowhere' does not exist"),
        ("ALTER STORAGE taken SET REGION 'r'".to_owned(), invalid, "REGION is not for storages of type 'filesystem'"),
    ] {
        let reply = server.ask(&sql).await;
        let (_, found, message) = reply.error();
        assert!(found == code && message.contains(words), "{sql}: {found} {message}");
        assert!(!message.contains(&s3.secret));
    }
    let ids = server.rows("SELECT storage_id FROM system.storages ORDER BY 1").await;
    assert_eq!(ids, json!([["local"], ["taken"]]));
    assert_eq!(server.sql("DROP STORAGE IF EXISTS nowhere").await["message"], "storage 'nowhere' does not exist");
    server.sql(&right).await;
    let nested = format!("{} PREFIX 'in/it'", right.replace("STORAGE s", "STORAGE nested"));
    let message = server.refused(&nested, 400, invalid).await;
    assert!(message.contains("storage 's' is in the same place"), "{message}");
    // Another server finds the mark.
    let other = impatient().start().await;
    let message = other.refused(&right, 400, failed).await;
    assert!(message.contains("there is a storage in that place already"), "{message}");
    let user = server.user("al").await;
    for sql in [right.as_str(), "DROP STORAGE s", "ALTER STORAGE s SET NAME 'x'", "STORAGE CHECK s", "SHOW STORAGES"] {
        user.refused(sql, 403, "PERMISSION_DENIED").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn storage_check_says_what_works() {
    let s3 = S3::shared().await;
    s3.make_bucket("checked").await;
    let wire = Wire::to(&s3.url).await;
    let server = impatient().start().await;
    server.sql(&create(s3, "s", &wire.url, "checked")).await;
    let check = async |sql: &str| {
        let mut row = server.rows(sql).await[0].take();
        row[9] = Value::Null;
        row
    };
    let (yes, no) = (Value::Bool(true), Value::Bool(false));
    let healthy =
        |id: &str, extended: &Value| json!([id, "healthy", yes, yes, yes, yes, yes, extended, "0", null, null]);
    assert_eq!(check("STORAGE CHECK local").await, healthy("local", &Value::Null));
    assert_eq!(check("STORAGE CHECK local EXTENDED").await, healthy("local", &yes));
    assert_eq!(check("STORAGE CHECK s EXTENDED").await, healthy("s", &yes));
    assert!(s3.list("checked", "kalamdb-check").await.is_empty(), "what was tried is gone");
    wire.breaks_at("GET /checked?");
    let failed = check("STORAGE CHECK s").await;
    let words = failed[10].as_str().unwrap_or_default().to_owned();
    assert!(words.contains("the connection to the object store broke"), "{failed}");
    assert_eq!(failed, json!(["s", "failed", yes, yes, no, no, null, null, "0", null, words]));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_that_ignores_conditions_is_said_to_and_is_safe_for_one_server() {
    let s3 = S3::shared().await;
    s3.make_bucket("careless").await;
    let wire = Wire::to(&s3.url).await;
    wire.ignores_conditions();
    let server = impatient().start().await;
    let made = server.sql(&create(s3, "s", &wire.url, "careless")).await;
    let words =
        "Storage 's' created; it does not carry out conditional writes, so no other server may write to the same place";
    assert_eq!(made["message"], words);
    assert_eq!(server.rows("STORAGE CHECK s EXTENDED").await[0][6], false);
    server.sql("CREATE NAMESPACE app").await;
    fill(&server, "app.t", "s").await;
    let before = rows(&server, "app.t").await;
    let server = server.stop().start().await;
    assert_eq!(rows(&server, "app.t").await, before);
    // What somebody else changed is seen before it is replaced.
    change_manifest(s3, "careless/app/t/shared/manifest.json").await;
    server.flush("app.t").await;
    assert_eq!(rows(&server, "app.t").await, before);
}

#[tokio::test]
async fn a_manifest_that_somebody_else_changed_is_read_again_before_it_is_replaced() {
    let s3 = S3::shared().await;
    s3.make_bucket("contended").await;
    let server = Server::start().await;
    server.sql(&create(s3, "s", &s3.url, "contended")).await;
    server.sql("CREATE NAMESPACE app").await;
    fill(&server, "app.t", "s").await;
    let before = rows(&server, "app.t").await;
    let manifest = "contended/app/t/shared/manifest.json";
    change_manifest(s3, manifest).await;
    server.flush("app.t").await;
    assert_eq!(rows(&server, "app.t").await, before);
    let stored: Value = serde_json::from_slice(&s3.get(manifest).await.unwrap()).unwrap();
    assert_eq!(stored["version"], 9, "what the other wrote was not overwritten unseen: {stored}");
}

/// As another server would: the same batches, under a later version.
async fn change_manifest(s3: &S3, path: &str) {
    let mut manifest: Value = serde_json::from_slice(&s3.get(path).await.unwrap()).unwrap();
    manifest["version"] = json!(8);
    s3.put(path, serde_json::to_vec(&manifest).unwrap()).await;
}

#[tokio::test]
async fn a_directory_that_is_not_there_any_more_fails_its_tables_and_no_others() {
    let home = Home::new(&[]);
    let (disk, away) = (home.root().join("disk"), home.root().join("away"));
    let server = home.start().await;
    server.sql(&format!("CREATE STORAGE disk TYPE 'filesystem' PATH '{}'; CREATE NAMESPACE app", disk.display())).await;
    fill(&server, "app.d", "disk").await;
    fill(&server, "app.l", "local").await;
    let before = rows(&server, "app.d").await;
    let home = server.stop();
    // As a disk that is not mounted: its directory is there, and empty.
    std::fs::rename(&disk, &away).unwrap();
    std::fs::create_dir(&disk).unwrap();
    let server = home.start().await;
    let message = server.refused("SELECT sum(n) FROM app.d", 500, "INTERNAL_ERROR").await;
    assert!(message.contains("storage 'disk' cannot be used") && message.contains("is the disk there?"), "{message}");
    assert_eq!(server.rows("SELECT count(*) FROM app.l").await, json!([["19"]]));
    let home = server.stop();
    assert_eq!(std::fs::read_dir(&disk).unwrap().count(), 0, "nothing was written to the wrong place");
    std::fs::remove_dir(&disk).unwrap();
    std::fs::rename(&away, &disk).unwrap();
    assert_eq!(rows(&home.start().await, "app.d").await, before);
}
