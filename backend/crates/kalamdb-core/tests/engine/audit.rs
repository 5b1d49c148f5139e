//! The audit log (FR-068, SC-009): every statement on somebody's behalf, every change of accounts and schemas, every
//! refusal; in the commit of what it describes; unchangeable, and found out when it is changed.

use std::path::PathBuf;

use kalamdb_commons::ErrorKind;
use kalamdb_commons::schema::{Actor, Role};
use kalamdb_store::{Batch, keys};

use crate::db::{Db, Said};

const LOG: &str =
    "SELECT actor, subject, role, kind, object, outcome, row_count FROM system.audit_log ORDER BY entry_id";

async fn world() -> Db {
    world_with(|_| {}).await
}

async fn world_with(change: impl FnOnce(&mut kalamdb_commons::settings::Settings)) -> Db {
    let db = Db::with(change).await;
    db.said("CREATE NAMESPACE app; CREATE USER TABLE app.t (id BIGINT PRIMARY KEY, word TEXT)").await;
    for (user, role) in [("ann", "user"), ("ben", "user"), ("bot", "service")] {
        db.said(&format!("CREATE USER '{user}' WITH PASSWORD 'long enough' ROLE '{role}'")).await;
    }
    db
}

fn bot() -> Actor {
    Db::actor("bot", Role::Service)
}

/// The lines of the log since an entry.
async fn since(db: &Db, entry: i64) -> Vec<String> {
    db.lines(&LOG.replace("ORDER", &format!("WHERE entry_id > {entry} ORDER"))).await
}

async fn last(db: &Db) -> i64 {
    db.number("SELECT max(entry_id) FROM system.audit_log").await
}

async fn verified(db: &Db) -> Vec<String> {
    db.lines("VERIFY AUDIT").await
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_068_who_did_what_on_whose_behalf_is_logged_with_its_rows() {
    let db = world().await;
    let before = last(&db).await;
    for sql in [
        "INSERT INTO t AS USER 'ann' VALUES (1, 'a'), (2, 'b')",
        "UPDATE t AS USER 'ann' SET word = 'c' WHERE id = 1",
        "DELETE FROM t AS USER 'ann' WHERE id = 3",
        "EXECUTE AS USER 'ann' (SELECT * FROM t)",
        "EXECUTE AS USER 'ann' (SELECT word FROM t WHERE id = 1)",
        "EXECUTE AS USER 'ann' (EXPLAIN SELECT * FROM t)",
        "EXECUTE AS USER 'ann' (SHOW TABLES)",
    ] {
        db.run_as(bot(), sql, vec![]).await.unwrap();
    }
    db.run_for(bot(), Some("ben"), "INSERT INTO t VALUES (1, 'x'); SELECT 1").await.unwrap();
    assert_eq!(
        since(&db, before).await,
        [
            "bot|ann|service|INSERT|app.t|ok|2",
            "bot|ann|service|UPDATE|app.t|ok|1",
            "bot|ann|service|DELETE|app.t|ok|0",
            "bot|ann|service|SELECT|app.t|ok|NULL",
            "bot|ann|service|SELECT|app.t|ok|NULL",
            "bot|ann|service|EXPLAIN|app.t|ok|NULL",
            "bot|ann|service|SHOW||ok|NULL",
            "bot|ben|service|INSERT|app.t|ok|1",
            "bot|ben|service|SELECT||ok|NULL",
        ]
    );
    let request = "SELECT DISTINCT request_id, address FROM system.audit_log WHERE subject = 'ann'";
    assert_eq!(db.lines(request).await, ["test|192.0.2.1"]);
    // What somebody does for themselves is not anybody else's business.
    let before = last(&db).await;
    db.run_as(bot(), "INSERT INTO t VALUES (1, 'own'); SELECT * FROM t", vec![]).await.unwrap();
    assert_eq!(since(&db, before).await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_and_failures_are_logged_with_their_reason() {
    let db = world().await;
    db.said("INSERT INTO t AS USER 'ann' VALUES (1, 'a')").await;
    db.said("CREATE SHARED TABLE open (id BIGINT) WITH (ACCESS_LEVEL = 'public')").await;
    let before = last(&db).await;
    for (actor, sql) in [
        (Db::user("ann"), "UPDATE t AS USER 'ben' SET word = 'x'"),
        (bot(), "DELETE FROM t AS USER 'nobody'"),
        (bot(), "EXECUTE AS USER 'root' (SELECT * FROM t)"),
        (bot(), "INSERT INTO open AS USER 'ann' VALUES (1)"),
        (bot(), "INSERT INTO t AS USER 'ann' VALUES (1, 'again')"),
        (bot(), "EXECUTE AS USER 'ann' (SELECT * FROM absent)"),
        (Db::user("ann"), "DROP TABLE t"),
        (Db::user("ann"), "INSERT INTO open VALUES (1)"),
        (Db::user("ann"), "SELECT * FROM ALL USERS OF t"),
        (Db::user("ann"), "VERIFY AUDIT"),
    ] {
        db.run_as(actor, sql, vec![]).await.expect_err(sql);
    }
    let logged = "SELECT actor, subject, kind, object, outcome, reason FROM system.audit_log WHERE entry_id > $ ORDER BY entry_id";
    assert_eq!(
        db.lines(&logged.replace('$', &before.to_string())).await,
        [
            "ann|ben|UPDATE|app.t|refused|PermissionDenied",
            "bot|nobody|DELETE|app.t|refused|InvalidInput",
            "bot|root|SELECT|app.t|refused|PermissionDenied",
            "bot|ann|INSERT|app.open|refused|InvalidInput",
            "bot|ann|INSERT|app.t|failed|Execution",
            "bot|ann|SELECT|app.absent|failed|NotFound",
            "ann|ann|DROP TABLE|app.t|refused|PermissionDenied",
            "ann|ann|INSERT|app.open|refused|PermissionDenied",
            "ann|ann|SELECT|all users of app.t|refused|PermissionDenied",
            "ann|ann|VERIFY AUDIT||refused|PermissionDenied",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn hidden_and_absent_leave_the_same_trace() {
    let db = world().await;
    db.said("CREATE SHARED TABLE vault (id BIGINT) WITH (ACCESS_LEVEL = 'restricted')").await;
    let before = (last(&db).await, db.engine.store().counters().commits);
    for table in ["vault", "never"] {
        db.run_as(Db::user("ann"), &format!("SELECT * FROM {table}"), vec![]).await.unwrap_err();
    }
    assert_eq!((last(&db).await, db.engine.store().counters().commits), before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_transactions_statements_are_logged_with_its_commit_or_its_end() {
    let db = world().await;
    let two = "INSERT INTO t AS USER 'ann' VALUES (1, 'a'); INSERT INTO t AS USER 'ben' VALUES (1, 'b')";
    let before = last(&db).await;
    let commits = db.engine.store().counters().commits;
    db.run_as(bot(), &format!("BEGIN; {two}; COMMIT"), vec![]).await.unwrap();
    assert_eq!(db.engine.store().counters().commits, commits + 1, "rows and entries in one commit");
    assert_eq!(since(&db, before).await, ["bot|ann|service|INSERT|app.t|ok|1", "bot|ben|service|INSERT|app.t|ok|1"]);
    let update = "UPDATE t AS USER 'ann' SET word = 'x'";
    for (end, also) in [
        ("ROLLBACK", None),
        ("SELECT 1", None),
        ("UPDATE t AS USER 'gone' SET word = 'x'; COMMIT", Some("bot|gone|service|UPDATE|app.t|refused|NULL")),
        ("UPDATE t AS USER 'ben' SET id = 1 / 0; COMMIT", Some("bot|ben|service|UPDATE|app.t|failed|NULL")),
    ] {
        let before = last(&db).await;
        drop(db.run_as(bot(), &format!("BEGIN; {update}; {end}"), vec![]).await);
        let rolled_back = Some("bot|ann|service|UPDATE|app.t|rolled_back|1");
        let expected: Vec<&str> = also.into_iter().chain(rolled_back).collect();
        assert_eq!(since(&db, before).await, expected, "{end}");
    }
    assert_eq!(db.lines_as(Db::user("ann"), "SELECT word FROM t").await, ["a"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_statement_whose_client_goes_away_is_logged() {
    let db = world().await;
    let before = last(&db).await;
    // Waits for its turn until it is dropped: a schema change holds what it needs.
    let mut execution =
        db.begin(bot(), "BEGIN; UPDATE t AS USER 'ann' SET word = 'x'; SELECT 1", vec![]).await.unwrap();
    for _ in 0..2 {
        execution.next().await.unwrap().unwrap();
    }
    drop(execution);
    loop {
        let found = since(&db, before).await;
        if !found.is_empty() {
            assert_eq!(found, ["bot|ann|service|UPDATE|app.t|rolled_back|0"]);
            break;
        }
        tokio::task::yield_now().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn changes_of_accounts_and_schemas_are_logged_in_their_commit() {
    let db = world().await;
    let before = last(&db).await;
    let statements = [
        "CREATE NAMESPACE b",
        "CREATE SHARED TABLE b.s (a INT)",
        "ALTER TABLE b.s ADD COLUMN c INT",
        "ALTER TABLE b.s SET ACCESS LEVEL public",
        "CREATE INDEX a_idx ON b.s (a)",
        "CREATE VIEW b.v AS SELECT a FROM b.s",
        "DROP VIEW b.v",
        "TRUNCATE TABLE b.s",
        "DROP TABLE b.s",
        "DROP NAMESPACE b",
        "ALTER USER 'ann' SET ROLE 'service'",
        "ALTER USER 'ann' SET PASSWORD 'no longer short'",
        "DROP USER 'ben'",
        "CREATE NAMESPACE IF NOT EXISTS app",
    ];
    for sql in statements {
        let commits = db.engine.store().counters().commits;
        db.said(sql).await;
        assert!(db.engine.store().counters().commits > commits, "{sql}");
    }
    let logged = since(&db, before).await;
    let told: Vec<String> = logged.iter().map(|line| line.replace("root|root|system|", "")).collect();
    assert_eq!(
        told,
        [
            "CREATE NAMESPACE|b|ok|NULL",
            "CREATE TABLE|b.s|ok|NULL",
            "ALTER TABLE|b.s|ok|NULL",
            "ALTER TABLE|b.s|ok|NULL",
            "CREATE INDEX|b.s|ok|NULL",
            "CREATE VIEW|b.v|ok|NULL",
            "DROP VIEW|b.v|ok|NULL",
            "TRUNCATE|b.s|ok|NULL",
            "DROP TABLE|b.s|ok|NULL",
            "DROP NAMESPACE|b|ok|NULL",
            "ALTER USER SET ROLE|ann, service|ok|NULL",
            "ALTER USER SET PASSWORD|ann|ok|NULL",
            "DROP USER|ben|ok|NULL",
            "CREATE NAMESPACE|app|ok|NULL",
        ]
    );
    assert!(!db.lines("SELECT * FROM system.audit_log").await.concat().contains("no longer short"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_across_users_is_logged_before_anything_is_shown() {
    let db = world().await;
    let before = last(&db).await;
    let rows = db.open(Db::root(), "SELECT * FROM ALL USERS OF t").await;
    assert_eq!(since(&db, before).await, ["root|root|system|SELECT|all users of app.t|ok|NULL"]);
    drop(rows);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_imports_chunks_are_logged() {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Int64Array, RecordBatch};

    let db = world().await;
    let before = last(&db).await;
    let import = db.import(bot(), Some("ann"), "app.t").await.unwrap();
    let rows =
        |ids: Vec<i64>| RecordBatch::try_from_iter([("id", Arc::new(Int64Array::from(ids)) as ArrayRef)]).unwrap();
    import.write(&rows(vec![1, 2])).await.unwrap();
    import.write(&rows(vec![3])).await.unwrap();
    import.write(&rows(vec![3])).await.unwrap_err();
    db.import(Db::user("ann"), Some("ben"), "app.t").await.err().unwrap();
    assert_eq!(
        since(&db, before).await,
        [
            "bot|ann|service|IMPORT|app.t|ok|2",
            "bot|ann|service|IMPORT|app.t|ok|1",
            "bot|ann|service|IMPORT|app.t|failed|NULL",
            "ann|ben|user|IMPORT|app.t|refused|NULL",
        ]
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_beyond_the_limit_are_counted_and_none_is_lost() {
    let db = world_with(|settings| settings.audit.refusals_per_minute_max = 5).await;
    let before = last(&db).await;
    for n in 0..30 {
        let sql = if n % 3 == 0 { "DELETE FROM t AS USER 'ben'" } else { "UPDATE t AS USER 'ben' SET word = 'x'" };
        db.run_as(Db::user("ann"), sql, vec![]).await.unwrap_err();
    }
    let counted = format!(
        "SELECT count(*), sum(times) FROM system.audit_log WHERE actor = 'ann' AND outcome = 'refused' AND entry_id > {before}"
    );
    assert_eq!(db.lines(&counted).await, ["7|30"]);
    // Others are not held back.
    db.run_as(Db::user("ben"), "DELETE FROM t AS USER 'ann'", vec![]).await.unwrap_err();
    assert_eq!(db.lines("SELECT times FROM system.audit_log WHERE actor = 'ben'").await, ["1"]);
    // What is counted outlives an orderly end.
    for _ in 0..3 {
        db.run_as(Db::user("ann"), "DELETE FROM t AS USER 'ben'", vec![]).await.unwrap_err();
    }
    let db = db.restart().await;
    assert_eq!(db.lines(&counted).await, ["8|33"]);
    assert_eq!(verified(&db).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_changes_the_log_by_sql() {
    let db = world().await;
    let before = db.lines(LOG).await;
    for sql in [
        "INSERT INTO system.audit_log (entry_id) VALUES (1)",
        "UPDATE system.audit_log SET actor = 'ann'",
        "DELETE FROM system.audit_log",
        "TRUNCATE TABLE system.audit_log",
        "DROP TABLE system.audit_log",
        "ALTER TABLE system.audit_log DROP COLUMN actor",
        "CREATE TABLE system.audit_log (a INT)",
        "DROP NAMESPACE system CASCADE",
        "CREATE INDEX x ON system.audit_log (actor)",
        "STORAGE FLUSH TABLE system.audit_log",
    ] {
        let error = db.error(sql).await;
        assert!(error.kind() != ErrorKind::Internal, "{sql}: {error}");
    }
    let after = db.lines(LOG).await;
    assert_eq!(after[..before.len()], before);
    assert_eq!(verified(&db).await[0].split('|').next(), Some("ok"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_log_does_not_exist_for_users_and_services() {
    let db = world().await;
    for actor in [Db::user("ann"), bot()] {
        for sql in ["SELECT * FROM system.audit_log", "DESCRIBE system.audit_log"] {
            let error = db.run_as(actor.clone(), sql, vec![]).await.unwrap_err();
            let never = db.run_as(actor.clone(), &sql.replace("audit_log", "never"), vec![]).await.unwrap_err();
            assert_eq!(error.message().replace("audit_log", "never"), never.message());
        }
    }
    let through = "EXECUTE AS USER 'ann' (SELECT * FROM system.audit_log)";
    assert_eq!(db.error(through).await.kind(), ErrorKind::NotFound);
    assert!(db.lines_as(Db::actor("adm", Role::Dba), LOG).await.len() > 3);
}

/// Changes the stored log behind the server's back.
async fn tamper(db: &Db, batch: Batch) {
    db.engine.store().commit(db.engine.store().token(), batch).await.unwrap();
    // Any commit publishes the state behind it.
    db.said("CREATE NAMESPACE IF NOT EXISTS app").await;
}

fn entry(number: i64) -> bytes::Bytes {
    keys::system("audit", &format!("{number:016x}"))
}

async fn value(db: &Db, key: &[u8]) -> Vec<u8> {
    db.engine.store().snapshot().await.unwrap().get(key).await.unwrap().unwrap().to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_finds_what_is_missing_changed_moved_or_added() {
    let db = world().await;
    for n in 0..10 {
        db.said(&format!("INSERT INTO t AS USER 'ann' VALUES ({n}, 'x')")).await;
    }
    let whole = verified(&db).await;
    assert_eq!(whole.len(), 1);
    let end = last(&db).await;
    assert_eq!(whole[0], format!("ok|{end}|1|{end}|NULL"));
    let (a, b) = (end - 5, end - 3);
    let (at_a, at_b) = (value(&db, &entry(a)).await, value(&db, &entry(b)).await);
    let mut changed = at_a.clone();
    let at = changed.windows(3).position(|bytes| bytes == b"ann").unwrap();
    changed[at..at + 3].copy_from_slice(b"ben");
    let put = |pairs: &[(i64, Option<&Vec<u8>>)]| {
        let mut batch = Batch::default();
        for (number, value) in pairs {
            match value {
                Some(value) => batch.put(entry(*number), (*value).clone()),
                None => batch.delete(entry(*number)),
            }
        }
        batch
    };
    for (batch, found) in [
        (put(&[(a, Some(&changed))]), format!("entry {a} was changed, moved or forged")),
        (put(&[(a, None)]), format!("entry {a} is missing")),
        (put(&[(a, Some(&at_b)), (b, Some(&at_a))]), format!("entry {b} was changed, moved or forged")),
        (put(&[(a, Some(&at_b))]), format!("entry {a} was changed, moved or forged")),
        (put(&[(1, None), (2, None)]), "entries 1 to 2 are missing".to_owned()),
        (put(&[(end + 1_000, Some(&at_a))]), "are missing".to_owned()),
    ] {
        let restore = {
            let mut batch = put(&[(a, Some(&at_a)), (b, Some(&at_b)), (end + 1_000, None)]);
            for number in [1, 2] {
                batch.put(entry(number), value(&db, &entry(number)).await);
            }
            batch
        };
        tamper(&db, batch).await;
        let report = verified(&db).await;
        assert!(report.iter().all(|line| line.starts_with("damaged|")), "{report:?}");
        assert!(report.iter().any(|line| line.contains(&found)), "{found}: {report:?}");
        tamper(&db, restore).await;
        let report = verified(&db).await;
        assert!(report[0].starts_with("ok|"), "restored after {found}: {report:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn verify_finds_a_log_that_was_cut_or_put_back() {
    let db = world().await;
    for n in 0..6 {
        db.said(&format!("INSERT INTO t AS USER 'ann' VALUES ({n}, 'x')")).await;
    }
    let (end, head) = (last(&db).await, keys::system("audit_head", "0"));
    let head_then = value(&db, &head).await;
    for n in 6..9 {
        db.said(&format!("INSERT INTO t AS USER 'ann' VALUES ({n}, 'x')")).await;
    }
    // Cut at the end, the end's record kept.
    let db = db.restart().await;
    let mut cut = Batch::default();
    for number in end + 1..=end + 3 {
        cut.delete(entry(number));
    }
    db.engine.store().commit(db.engine.store().token(), cut).await.unwrap();
    let db = db.restart().await;
    let report = verified(&db).await;
    let words = format!("entries {} to {} are missing at the end", end + 1, end + 3);
    assert!(report.iter().any(|line| line.contains(&words)), "{report:?}");
    // The end's record put back as well: the file beside the store remembers.
    let mut back = Batch::default();
    back.put(head, head_then);
    db.engine.store().commit(db.engine.store().token(), back).await.unwrap();
    let anchor = std::fs::read(path(&db, "audit.head")).unwrap();
    db.engine.close().await.unwrap();
    std::fs::write(path(&db, "audit.head"), anchor).unwrap();
    let db = db.reopened().await;
    let report = verified(&db).await;
    assert!(report.iter().any(|line| line.contains("it was put back")), "{report:?}");
}

fn path(db: &Db, name: &str) -> PathBuf {
    db.directory.path().join(name)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_key_lies_beside_the_store_and_its_loss_is_not_passed_over() {
    let db = world().await;
    assert_eq!(std::fs::read(path(&db, "audit.key")).unwrap().len(), 32);
    db.engine.close().await.unwrap();
    std::fs::rename(path(&db, "audit.key"), path(&db, "kept")).unwrap();
    let error = db.refuses_to_open().await;
    assert!(error.message().contains("audit.key") && error.message().contains("is missing"), "{error}");
    std::fs::write(path(&db, "audit.key"), [1; 32]).unwrap();
    let db = db.reopened().await;
    assert!(verified(&db).await[0].starts_with("damaged|"), "another key");
}

#[tokio::test(flavor = "multi_thread")]
async fn retention_removes_the_old_end_and_leaves_a_sealed_checkpoint() {
    let db = world_with(|settings| settings.audit.retention_days = 2).await;
    for n in 0..5 {
        db.said(&format!("INSERT INTO t AS USER 'ann' VALUES ({n}, 'x')")).await;
    }
    let old = last(&db).await;
    db.clock.step(3 * 86_400_000_000_000);
    db.said("INSERT INTO t AS USER 'ann' VALUES (100, 'x')").await;
    assert_eq!(db.engine.expire_audit().await.unwrap(), old as u64);
    assert_eq!(db.engine.expire_audit().await.unwrap(), 0);
    let report = verified(&db).await;
    assert_eq!(report, [format!("ok|1|{0}|{0}|NULL", old + 1)]);
    let db = db.restart().await;
    assert_eq!(verified(&db).await, report);
    // Everything may be old; numbers go on.
    db.clock.step(9 * 86_400_000_000_000);
    assert_eq!(db.engine.expire_audit().await.unwrap(), 1);
    db.said("INSERT INTO t AS USER 'ann' VALUES (101, 'x')").await;
    assert_eq!(last(&db).await, old + 2);
    assert!(verified(&db).await[0].starts_with("ok|1|"));
    // A checkpoint that somebody moves does not hide what is gone.
    let checkpoint = keys::system("audit_checkpoint", "0");
    let mut forged = value(&db, &checkpoint).await;
    forged[7] += 1;
    let mut batch = Batch::default();
    batch.put(checkpoint, forged);
    tamper(&db, batch).await;
    assert!(verified(&db).await.iter().any(|line| line.contains("the checkpoint of retention was changed")));
}

#[tokio::test(flavor = "multi_thread")]
async fn sc_010_a_refusal_touches_no_table_and_takes_one_sync() {
    let db = world_with(|settings| settings.hot.durability = kalamdb_commons::settings::Durability::Sync).await;
    db.said("INSERT INTO t AS USER 'ann' VALUES (1, 'a')").await;
    db.flush("t").await;
    for sql in [
        "UPDATE t AS USER 'ann' SET word = 'x' WHERE id = 1",
        "EXECUTE AS USER 'ann' (SELECT * FROM t)",
        "DELETE FROM t AS USER 'nobody'",
    ] {
        let before = db.engine.store().counters();
        let mut execution = db.begin(Db::user("ben"), sql, vec![]).await.unwrap();
        let error = execution.next().await.unwrap().err().unwrap();
        assert_eq!(error.kind(), ErrorKind::PermissionDenied);
        let stats = execution.stats().snapshot();
        assert_eq!(
            (stats.hot_rows_read, stats.batches_considered, stats.batches_read, stats.storage_requests),
            (0, 0, 0, 0)
        );
        assert_eq!((stats.manifest_cache_hits, stats.manifest_cache_misses), (0, 0), "no partition was opened");
        let after = db.engine.store().counters();
        assert_eq!((after.commits - before.commits, after.syncs - before.syncs), (1, 1), "{sql}");
    }
}

/// SC-009: thousands of statements, some refused, some failing, counted.
#[tokio::test(flavor = "multi_thread")]
async fn sc_009_every_statement_on_somebodys_behalf_is_in_the_log() {
    const EACH: u64 = 400;
    let db = world_with(|settings| settings.audit.refusals_per_minute_max = 3).await;
    let before = last(&db).await;
    let runs = (0..8u64).map(|writer| {
        let db = &db;
        async move {
            let (mut ok, mut rows, mut failed, mut refused) = (0, 0, 0, 0);
            for n in 0..EACH {
                let id = writer * EACH + n;
                let (sql, actor) = match n % 5 {
                    0 | 1 => (format!("INSERT INTO t AS USER 'ann' VALUES ({id}, 'x')"), bot()),
                    2 => (format!("INSERT INTO t AS USER 'ann' VALUES ({}, 'again')", id - 1), bot()),
                    3 => (format!("EXECUTE AS USER 'ben' (SELECT word FROM t WHERE id = {id})"), bot()),
                    _ => (format!("DELETE FROM t AS USER 'ann' WHERE id = {id}"), Db::user("ben")),
                };
                match db.run_as(actor, &sql, vec![]).await {
                    Ok(said) => {
                        ok += 1;
                        rows += if let [Said::Count(count)] = said.as_slice() { *count } else { 0 };
                    }
                    Err(error) if error.kind() == ErrorKind::PermissionDenied => refused += 1,
                    Err(_) => failed += 1,
                }
            }
            [ok, rows, failed, refused]
        }
    });
    let counted = futures::future::join_all(runs).await;
    let total = |at: usize| counted.iter().map(|of| of[at]).sum::<u64>();
    let logged = async |outcome: &str, what: &str| {
        db.number(&format!(
            "SELECT coalesce({what}, 0) FROM system.audit_log WHERE outcome = '{outcome}' AND entry_id > {before}"
        ))
        .await as u64
    };
    assert_eq!(logged("ok", "sum(times)").await, total(0));
    assert_eq!(logged("ok", "sum(row_count)").await, total(1));
    assert_eq!(logged("failed", "sum(times)").await, total(2));
    assert_eq!(logged("refused", "sum(times)").await, total(3));
    assert_eq!(total(0) + total(2) + total(3), 8 * EACH);
    let report = verified(&db).await;
    assert!(report[0].starts_with("ok|"), "{report:?}");
}
