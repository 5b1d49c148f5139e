//! ERASE USER: nothing of a user is left in any byte of the data directory but the id.

use std::path::{Path, PathBuf};

use kalamdb_commons::ErrorKind;
use kalamdb_commons::schema::Role;
use kalamdb_core::api::{IdempotencyKey, Replay};

use crate::db::Db;

/// Words that are found as they are in files whose compression only shortens repetitions: no two are alike.
fn mark(of: &str, number: usize) -> String {
    format!("{of}{:016x}", (number as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15))
}

const OF_AL: &str = "Qal7Zk2V";
const OF_BO: &str = "Qbo9Lm4X";

fn files_in(directory: &Path) -> Vec<PathBuf> {
    let (mut found, mut waiting) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(directory) = waiting.pop() {
        for entry in std::fs::read_dir(directory).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() { &mut waiting } else { &mut found }.push(path);
        }
    }
    found
}

/// The files of the data directory that hold some bytes.
fn holding(db: &Db, bytes: &[u8]) -> Vec<PathBuf> {
    let holds = |path: &PathBuf| {
        // RocksDB may remove a file while the directory is looked through.
        let text = std::fs::read(path).unwrap_or_default();
        text.windows(bytes.len()).any(|window| window == bytes)
    };
    files_in(db.directory.path()).into_iter().filter(holds).collect()
}

/// Two users with rows of all ages in tables of all kinds, in files that are not compressed.
async fn world() -> Db {
    let db = Db::new().await;
    db.said("CREATE NAMESPACE app").await;
    for sql in [
        "CREATE USER TABLE t (id TEXT PRIMARY KEY, word TEXT UNIQUE, n INT) WITH (COMPRESSION = 'none')",
        "CREATE INDEX word_idx ON t (word)",
        "CREATE USER TABLE old (word TEXT) WITH (COMPRESSION = 'none')",
        "CREATE STREAM TABLE s (id TEXT PRIMARY KEY, word TEXT) TTL 1000000",
        "CREATE USER 'bot' WITH PASSWORD 'long enough' ROLE 'service'",
    ] {
        db.said(sql).await;
    }
    for (user, of) in [("al", OF_AL), ("bo", OF_BO)] {
        let email = mark(of, 900);
        db.said(&format!("CREATE USER '{user}' WITH PASSWORD 'long enough' EMAIL '{email}@example.org'")).await;
        let insert = async |range: std::ops::Range<usize>| {
            for n in range {
                let sql = format!("INSERT INTO t VALUES ('{}', '{}', {n})", mark(of, n), mark(of, 100 + n));
                db.run_as(Db::user(user), &sql, vec![]).await.unwrap();
            }
        };
        insert(0..6).await;
        let sql = format!("INSERT INTO old VALUES ('{}')", mark(of, 700));
        db.run_as(Db::user(user), &sql, vec![]).await.unwrap();
        db.said("STORAGE FLUSH ALL WAIT").await;
        insert(6..12).await;
        for (n, m) in [(1, 200), (7, 201)] {
            let sql = format!("UPDATE t SET word = '{}' WHERE id = '{}'", mark(of, m), mark(of, n));
            db.run_as(Db::user(user), &sql, vec![]).await.unwrap();
        }
        db.flush("t").await;
        db.compact("t").await;
        insert(12..18).await;
        for n in [0, 6, 12] {
            let sql = format!("DELETE FROM t WHERE id = '{}'", mark(of, n));
            db.run_as(Db::user(user), &sql, vec![]).await.unwrap();
        }
        let sql = format!(
            "INSERT INTO s VALUES ('{}', '{}'); UPDATE s SET word = '{}'",
            mark(of, 300),
            mark(of, 301),
            mark(of, 302)
        );
        db.run_as(Db::user(user), &sql, vec![]).await.unwrap();
        let key = IdempotencyKey { key: "key".to_owned(), request_hash: [7; 32] };
        for (actor, n) in [(Db::user(user), 400), (Db::actor("bot", Role::Service), 401)] {
            db.engine.store_answer(&actor, &key, 200, mark(of, n).as_bytes()).await.unwrap();
        }
    }
    for (user, of) in [("al", OF_AL), ("bo", OF_BO)] {
        let sql = format!("INSERT INTO t VALUES ('{}', '{}', 20)", mark(of, 20), mark(of, 120));
        db.run_as(Db::user(user), &sql, vec![]).await.unwrap();
    }
    // What a crash may leave.
    let directory = db.partition("t", "user_al");
    for name in ["batch-0099.parquet", "batch-0100.parquet.tmp-1-1"] {
        std::fs::write(directory.join(name), mark(OF_AL, 500)).unwrap();
    }
    db.said("TRUNCATE TABLE old").await;
    let gone = async {
        let removed = "SELECT count(*) FROM system.jobs WHERE job_type = 'content_removal' AND status = 'completed'";
        while db.number(removed).await == 0 {}
    };
    tokio::time::timeout(std::time::Duration::from_secs(60), gone).await.unwrap();
    db
}

async fn rows_of_bo(db: &Db) -> Vec<String> {
    let mut rows = db.lines_as(Db::user("bo"), "SELECT * FROM t ORDER BY id").await;
    rows.extend(db.lines_as(Db::user("bo"), "SELECT * FROM s").await);
    rows
}

#[tokio::test(flavor = "multi_thread")]
async fn no_byte_of_an_erased_user_is_left_but_the_id() {
    let db = world().await;
    assert!(holding(&db, OF_AL.as_bytes()).len() > 4, "{:?}", holding(&db, OF_AL.as_bytes()));
    let before = rows_of_bo(&db).await;
    let receipt = db.lines("ERASE USER 'al'").await;
    for part in [
        "app.t|rows in the hot tier|",
        "app.t|files of history|",
        "app.s|rows in the hot tier|1",
        "|kept answers|2",
        "al|accounts|1",
    ] {
        assert!(receipt.iter().any(|line| line.starts_with(part)), "{part}: {receipt:?}");
    }
    assert_eq!(holding(&db, OF_AL.as_bytes()), Vec::<PathBuf>::new());
    assert_eq!(rows_of_bo(&db).await, before);
    assert!(!holding(&db, OF_BO.as_bytes()).is_empty());
    assert_eq!(db.lines("SELECT user_id FROM system.users ORDER BY 1").await, ["bo", "bot", "root"]);
    let log = "SELECT actor, kind, object, outcome FROM system.audit_log WHERE kind LIKE 'ERASE%' ORDER BY entry_id";
    assert_eq!(db.lines(log).await, ["root|ERASE USER BEGINS|al|ok", "root|ERASE USER|al|ok"]);
    assert!(db.lines("VERIFY AUDIT").await[0].starts_with("ok|"));
    let key = IdempotencyKey { key: "key".to_owned(), request_hash: [7; 32] };
    let kept = db.engine.idempotent_answer(&Db::user("bo"), &key).await.unwrap();
    assert!(matches!(kept, Replay::Answer { .. }), "{kept:?}");
    let db = db.restart().await;
    assert_eq!(holding(&db, OF_AL.as_bytes()), Vec::<PathBuf>::new());
    // The name is free, and whoever gets it begins with nothing.
    db.said("CREATE USER 'al' WITH PASSWORD 'long enough'").await;
    for table in ["t", "s", "old"] {
        let rows = db.lines_as(Db::user("al"), &format!("SELECT * FROM {table}")).await;
        assert_eq!(rows, Vec::<String>::new(), "{table}");
    }
    db.run_as(Db::user("al"), "INSERT INTO t VALUES ('new', 'new', 1)", vec![]).await.unwrap();
    db.flush("t").await;
    assert_eq!(db.lines_as(Db::user("al"), "SELECT id FROM t").await, ["new"]);
    assert_eq!(rows_of_bo(&db).await, before);
}

#[tokio::test(flavor = "multi_thread")]
async fn erasing_waits_for_those_who_read() {
    let db = world().await;
    // A read across users, and a transaction of the user's own, from before.
    let rows = db.open(Db::root(), "SELECT * FROM ALL USERS OF t").await;
    let mut execution =
        db.begin(Db::user("al"), "BEGIN; SELECT * FROM s; SELECT 1; DELETE FROM s; COMMIT", vec![]).await.unwrap();
    for _ in 0..3 {
        execution.next().await.unwrap().unwrap();
    }
    let erased = db.lines("ERASE USER 'al'");
    tokio::pin!(erased);
    let waits = futures::future::poll_immediate(&mut erased).await;
    assert!(waits.is_none());
    let seen = tokio::select! {
        receipt = &mut erased => panic!("it did not wait: {receipt:?}"),
        seen = crate::db::texts(rows) => seen.unwrap(),
    };
    assert_eq!(seen.len(), 32, "everything that was there when it began");
    drop(execution);
    erased.await;
    assert_eq!(holding(&db, OF_AL.as_bytes()), Vec::<PathBuf>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_erase_is_refused_and_nothing_changes() {
    let db = world().await;
    db.said("CREATE USER 'sys' WITH PASSWORD 'long enough' ROLE 'system'").await;
    for (actor, user, kind) in [
        (Db::user("bo"), "al", ErrorKind::PermissionDenied),
        (Db::actor("bot", Role::Service), "al", ErrorKind::PermissionDenied),
        (Db::actor("adm", Role::Dba), "sys", ErrorKind::PermissionDenied),
        (Db::actor("adm", Role::Dba), "nobody", ErrorKind::NotFound),
        (Db::root(), "root", ErrorKind::InvalidInput),
    ] {
        let error = db.run_as(actor, &format!("ERASE USER '{user}'"), vec![]).await.unwrap_err();
        assert_eq!(error.kind(), kind, "{user}: {error}");
    }
    assert_eq!(db.lines_as(Db::user("al"), "SELECT count(*) FROM t").await, ["16"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_holds_what_the_user_sees_and_nothing_of_others() {
    let db = world().await;
    let to = tempfile::tempdir().unwrap();
    let sql = format!("EXPORT USER DATA 'al' TO '{}'", to.path().display());
    assert_eq!(db.lines(&sql).await, ["app.s|rows|1", "app.t|rows|16"]);
    let read = |name: &str| std::fs::read_to_string(to.path().join("al").join(name)).unwrap();
    let lines: Vec<serde_json::Value> =
        read("app/t.ndjson").lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let found: Vec<String> = lines.iter().map(|row| format!("{}|{}", row["id"].as_str().unwrap(), row["n"])).collect();
    assert_eq!(found, db.lines_as(Db::user("al"), "SELECT id, n FROM t ORDER BY _id").await);
    assert!(read("account.json").contains(&mark(OF_AL, 900)) && !read("account.json").contains("argon2"));
    let listed: serde_json::Value = serde_json::from_str(&read("export.json")).unwrap();
    assert_eq!(listed["files"].as_array().unwrap().len(), 2);
    for file in files_in(to.path()) {
        assert!(!std::fs::read_to_string(&file).unwrap().contains(OF_BO), "{file:?}");
    }
    assert_eq!(db.error(&sql).await.kind(), ErrorKind::AlreadyExists);
    let log = "SELECT kind, outcome FROM system.audit_log ORDER BY entry_id DESC LIMIT 2";
    assert_eq!(db.lines(log).await, ["EXPORT USER DATA|failed", "EXPORT USER DATA|ok"]);
}
