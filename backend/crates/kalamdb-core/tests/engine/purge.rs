//! What a dropped user leaves, and when it goes (spec section 6).

use kalamdb_commons::ErrorKind;

use kalamdb_core::Execution;
use kalamdb_core::api::OutcomeResult;

use crate::db::{Db, names_in, texts};

const HOUR_NS: i64 = 3_600_000_000_000;
const CREATE: &str = "CREATE USER 'al' WITH PASSWORD 'a password'";

/// Two users with rows in both tiers of one table, and recent ones in another.
async fn with_rows() -> Db {
    let db = Db::with(|settings| settings.auth.dropped_user_hours = 24).await;
    db.said("CREATE NAMESPACE app").await;
    db.said("CREATE USER TABLE app.t (id BIGINT PRIMARY KEY, name TEXT)").await;
    db.said("CREATE STREAM TABLE app.s (name TEXT) WITH (TTL_SECONDS=1000000)").await;
    db.said(&format!("{CREATE}; CREATE USER 'bo' WITH PASSWORD 'a password'")).await;
    for user in ["al", "bo"] {
        let sql = "INSERT INTO app.t VALUES (1, 'cold'), (2, 'cold'); INSERT INTO app.s (name) VALUES ('now')";
        db.run_as(Db::user(user), sql, Vec::new()).await.unwrap();
    }
    db.flush("app.t").await;
    for user in ["al", "bo"] {
        db.run_as(Db::user(user), "UPDATE app.t SET name = 'hot' WHERE id = 2", Vec::new()).await.unwrap();
    }
    db
}

/// Queues what is due and waits for it.
async fn purge(db: &Db) -> usize {
    let queued = db.engine.purge_dropped_users().await.unwrap();
    for job in db.engine.jobs().records() {
        db.engine.jobs().wait(&job.job_id).await.unwrap();
    }
    queued
}

async fn rows_of(db: &Db, user: &str) -> Vec<String> {
    let mut rows = db.lines_as(Db::user(user), "SELECT id, name FROM app.t ORDER BY id").await;
    rows.extend(db.lines_as(Db::user(user), "SELECT name FROM app.s").await);
    rows
}

const WHOLE: [&str; 3] = ["1|cold", "2|hot", "now"];

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_user_keeps_rows_and_name_until_the_grace_is_over_and_then_neither() {
    let db = with_rows().await;
    db.said("DROP USER al").await;
    db.clock.step(24 * HOUR_NS);
    assert_eq!(purge(&db).await, 0, "a statement that began before the drop could still run");
    assert!(db.error(CREATE).await.message().contains("not purged yet"));
    assert!(!db.files("t", "user_al").is_empty());
    db.clock.step(HOUR_NS);
    assert_eq!(purge(&db).await, 1);
    assert_eq!(db.lines("SELECT user_id FROM system.users ORDER BY 1").await, ["bo", "root"]);
    let jobs = "SELECT status, message, parameters->>'user_id' FROM system.jobs WHERE job_type = 'user_purge'";
    assert_eq!(db.lines(jobs).await, ["completed|user 'al' purged: 2 partition(s), 1 file(s)|al"]);
    assert_eq!(db.files("t", "user_al"), ["manifest.json"], "which keeps the numbering");
    assert_eq!(purge(&db).await, 0, "once");
    assert_eq!(rows_of(&db, "bo").await, WHOLE);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_gets_the_name_begins_with_nothing_and_uses_no_file_number_again() {
    let mut db = with_rows().await;
    db.said("DROP USER al").await;
    db.clock.step(26 * HOUR_NS);
    purge(&db).await;
    db.said(CREATE).await;
    for _ in 0..2 {
        assert_eq!(rows_of(&db, "al").await, Vec::<String>::new());
        db = db.restart().await;
    }
    let sql = "INSERT INTO app.t VALUES (1, 'new'); INSERT INTO app.s (name) VALUES ('new')";
    db.run_as(Db::user("al"), sql, Vec::new()).await.unwrap();
    db.flush("app.t").await;
    for _ in 0..2 {
        assert_eq!(rows_of(&db, "al").await, ["1|new", "new"]);
        assert_eq!(names_in(&db.partition("t", "user_al")), ["batch-0002.parquet", "manifest.json"]);
        assert_eq!(rows_of(&db, "bo").await, WHOLE);
        db = db.restart().await;
    }
}

/// A token of the first account is not one of the second, however soon it comes.
#[tokio::test(flavor = "multi_thread")]
async fn no_token_outlives_its_account() {
    let db = with_rows().await;
    let origin = kalamdb_core::api::Origin { address: "127.0.0.1".to_owned(), is_local: true };
    let login = db.engine.login("al", "a password", &origin).await.unwrap();
    let grant = db.engine.authenticate(&login.access_token).unwrap();
    let mut revocations = db.engine.revocations();
    revocations.mark_unchanged();
    db.said("DROP USER al").await;
    assert!(revocations.has_changed().unwrap(), "whoever holds the grant is told");
    assert!(db.engine.recheck(&grant).is_err());
    db.clock.step(26 * HOUR_NS);
    purge(&db).await;
    db.said(CREATE).await;
    assert!(db.engine.authenticate(&login.access_token).is_err());
    assert!(db.engine.refresh(&login.refresh_token).await.is_err());
    assert!(db.engine.recheck(&grant).is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_that_is_running_when_its_user_is_dropped_does_nothing_more() {
    let db = with_rows().await;
    let sql = "INSERT INTO app.t VALUES (3, 'x'); INSERT INTO app.t VALUES (4, 'x')";
    let mut execution = db.begin(Db::user("al"), sql, Vec::new()).await.unwrap();
    assert!(execution.next().await.unwrap().is_ok());
    db.said("DROP USER al").await;
    let error = execution.next().await.unwrap().err().unwrap();
    assert_eq!(error.kind(), ErrorKind::InvalidCredentials);
}

const ALL_ROWS: &str = "SELECT _user, id, name FROM ALL USERS OF app.t ORDER BY 1, 2";

/// The rows of a request's next statement.
async fn next_lines(reader: &mut Execution) -> Vec<String> {
    let OutcomeResult::Rows(rows) = reader.next().await.unwrap().unwrap().result else { panic!("no query") };
    texts(rows).await.unwrap().into_iter().map(|row| row.join("|")).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_reads_over_all_users_sees_its_moment_to_the_end_and_others_see_nothing_of_who_is_purged() {
    let db = with_rows().await;
    db.run_as(Db::user("al"), "DELETE FROM app.t WHERE id = 1; INSERT INTO app.t VALUES (3, 'hot')", Vec::new())
        .await
        .unwrap();
    // It has chosen what it reads of every partition, and has scanned nothing.
    let sql = format!("BEGIN; SELECT id FROM ALL USERS OF app.t WHERE id > 1000; {ALL_ROWS}; COMMIT");
    let mut reader = db.begin(Db::root(), &sql, Vec::new()).await.unwrap();
    reader.next().await.unwrap().unwrap();
    assert_eq!(next_lines(&mut reader).await, Vec::<String>::new());
    db.said("DROP USER al").await;
    db.clock.step(26 * HOUR_NS);
    db.engine.purge_dropped_users().await.unwrap();
    db.engine.jobs().idle().await;
    let waits = "SELECT status, message LIKE '%still read%' FROM system.jobs WHERE job_type = 'user_purge'";
    assert_eq!(db.lines(waits).await, ["retrying|true"]);
    assert_eq!(db.lines(ALL_ROWS).await, ["bo|1|cold", "bo|2|hot"]);
    assert_eq!(next_lines(&mut reader).await, ["al|2|hot", "al|3|hot", "bo|1|cold", "bo|2|hot"]);
    drop(reader);
    db.clock.step(HOUR_NS);
    db.engine.tick().await;
    purge(&db).await;
    assert_eq!(db.lines("SELECT user_id FROM system.users ORDER BY 1").await, ["bo", "root"]);
    assert_eq!(db.lines(ALL_ROWS).await, ["bo|1|cold", "bo|2|hot"]);
    assert_eq!(db.files("t", "user_al"), ["manifest.json"]);
}
