//! What jobs promise whoever submits them and whoever runs the server: wrong parameters are named, rows of older versions
//! are taken up, and a week of schedules changes no answer.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use kalamdb_commons::ids::JobId;
use kalamdb_commons::schema::Role;
use kalamdb_commons::settings::Settings;
use kalamdb_commons::{Error, ErrorKind, Result};
use kalamdb_core::api::JobRequest;
use kalamdb_core::jobs::{JobRecord, JobStatus};
use kalamdb_store::{Batch, RocksShard, ShardStore, keys};
use serde_json::{Value, json};

use crate::db::Db;

const YEAR_SECONDS: u64 = 31_536_000;
const HOUR_NS: i64 = 3_600_000_000_000;
const MINUTE_NS: i64 = 60_000_000_000;

/// Nothing is done by itself.
fn quiet(settings: &mut Settings) {
    settings.compaction.automatic = false;
    settings.manifest_cache.eviction_interval_seconds = YEAR_SECONDS;
    let jobs = &mut settings.jobs;
    for interval in [
        &mut jobs.answer_retention_interval_seconds,
        &mut jobs.audit_retention_interval_seconds,
        &mut jobs.deleted_row_retention_interval_seconds,
        &mut jobs.history_interval_seconds,
        &mut jobs.orphan_interval_seconds,
        &mut jobs.user_purge_interval_seconds,
    ] {
        *interval = YEAR_SECONDS;
    }
}

/// A USER table `t` with rows of two users in two batches each, and some that are hot.
async fn with_rows() -> Db {
    let db = Db::with(quiet).await;
    db.said("CREATE NAMESPACE app; CREATE USER TABLE app.t (k BIGINT PRIMARY KEY, n BIGINT)").await;
    db.said("CREATE USER 'al' WITH PASSWORD 'a password'; CREATE USER 'bo' WITH PASSWORD 'a password'").await;
    for round in 0..3 {
        for user in ["al", "bo"] {
            let sql = format!("INSERT INTO t VALUES ({round}, 1), (1{round}, 1); DELETE FROM t WHERE k = 1{round}");
            db.run_as(Db::user(user), &sql, Vec::new()).await.unwrap();
        }
        if round < 2 {
            db.flush("t").await;
        }
    }
    db
}

async fn submit(db: &Db, job_type: &str, params: Value) -> Result<JobId> {
    let request = JobRequest {
        actor: Db::root(),
        job_type: job_type.to_owned(),
        params,
        idempotency_key: None,
        request_id: "test".to_owned(),
        address: None,
    };
    db.engine.submit_job(request).await.map(|(job, _)| job)
}

async fn ended(db: &Db, job_type: &str, params: Value) -> JobRecord {
    let job = submit(db, job_type, params.clone()).await.unwrap_or_else(|error| panic!("{job_type} {params}: {error}"));
    db.engine.jobs().wait(&job).await.unwrap()
}

async fn refused(db: &Db, job_type: &str, params: Value) -> Error {
    match submit(db, job_type, params.clone()).await {
        Err(error) => error,
        Ok(job) => panic!("{job_type} {params} became {job}"),
    }
}

/// A value that the field's example is, and one that nothing is.
fn example(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("the example {text} is not JSON: {error}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_090_095_sc_012_wrong_parameters_of_every_kind_are_named_with_what_they_must_be() {
    let db = with_rows().await;
    let kinds: Vec<_> = db.engine.jobs().kinds().unwrap().iter().cloned().collect();
    assert!(kinds.len() >= 11, "{kinds:?}");
    for kind in kinds {
        let name = kind.about().name;
        let complete: serde_json::Map<String, Value> =
            kind.fields().iter().map(|field| (field.name.to_owned(), example(field.example))).collect();
        let wrong = |change: &dyn Fn(&mut serde_json::Map<String, Value>)| {
            let mut params = complete.clone();
            change(&mut params);
            let watch = kalamdb_commons::clock::Stopwatch::start();
            let error = kind.accept(&Value::Object(params)).unwrap_err();
            assert!(watch.elapsed_ms() < 100.0, "{name}: {} ms", watch.elapsed_ms());
            assert_eq!(error.kind(), ErrorKind::InvalidParameter, "{name}: {error}");
            assert!(error.message().contains(&format!("A job of type {name} takes")), "{error}");
            error.message().to_owned()
        };
        let unknown = wrong(&|params| drop(params.insert("colour".into(), json!("red"))));
        assert!(unknown.contains("there is no field \"colour\""), "{unknown}");
        for field in kind.fields() {
            let told = format!("field \"{}\" must be {}; found [0]", field.name, field.wanted());
            assert!(field.wanted().contains(&format!("such as {}", field.example)));
            let mistyped = wrong(&|params| drop(params.insert(field.name.into(), json!([0]))));
            assert!(mistyped.contains(&told), "{mistyped}");
            if field.shape.contains("number") {
                let range = wrong(&|params| drop(params.insert(field.name.into(), json!(u64::MAX))));
                assert!(range.contains(&format!("field \"{}\" must be", field.name)), "{range}");
                let negative = wrong(&|params| drop(params.insert(field.name.into(), json!(-1))));
                assert!(negative.contains("found -1"), "{negative}");
            }
            if field.is_required {
                let missing = wrong(&|params| drop(params.remove(field.name)));
                let told = format!("field \"{}\" is missing: it must be {}", field.name, field.wanted());
                assert!(missing.contains(&told), "{missing}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn parameters_that_are_wrong_together_or_name_what_is_not_there_are_refused() {
    let db = with_rows().await;
    let unknown = refused(&db, "flsh", json!({})).await;
    assert!(
        unknown.message().contains("\"job_type\" must be the name of a kind of job, such as \"flush\""),
        "{unknown}"
    );
    let alone = refused(&db, "flush", json!({ "table": "t" })).await;
    assert!(alone.message().contains("field \"namespace\" is missing"), "{alone}");
    for params in [json!({ "namespace": "app", "table": "absent" }), json!({ "namespace": "absent" })] {
        assert_eq!(refused(&db, "compaction", params).await.kind(), ErrorKind::NotFound);
    }
    let half = refused(&db, "compaction", json!({ "namespace": "app", "table": "t", "first_batch": 0 })).await;
    assert!(half.message().contains("go together"), "{half}");
    let early = refused(&db, "user_purge", json!({ "user_id": "al" })).await;
    assert!(early.message().contains("must be a user who was dropped"), "{early}");
    let own = refused(&db, "content_removal", json!({ "table": "app.t", "incarnation": 1 })).await;
    assert!(own.message().contains("by the server alone"), "{own}");
    assert_eq!(
        db.lines("SELECT job_type FROM system.jobs WHERE submitted_by = 'root' AND job_type <> 'flush'").await.len(),
        0
    );
    let logged =
        "SELECT kind, object, outcome FROM system.audit_log WHERE kind = 'SUBMIT JOB' ORDER BY entry_id LIMIT 1";
    assert_eq!(db.lines(logged).await, ["SUBMIT JOB|flsh|failed"]);
    ended(&db, "flush", json!({ "namespace": "app", "user_id": null, "table": "t" })).await;
    let logged =
        "SELECT object, outcome FROM system.audit_log WHERE kind = 'SUBMIT JOB' ORDER BY entry_id DESC LIMIT 1";
    assert_eq!(db.lines(logged).await, [r#"flush {"namespace":"app","table":"t"}|ok"#]);
}

#[tokio::test(flavor = "multi_thread")]
async fn every_kind_does_its_work_when_it_is_asked_for() {
    let db = with_rows().await;
    let t = json!({ "namespace": "app", "table": "t" });
    let flushed = ended(&db, "flush", json!({ "namespace": "app", "table": "t", "user_id": "al" })).await;
    assert_eq!(
        (flushed.status, flushed.attempts, flushed.submitted_by),
        (JobStatus::Completed, 1, Some(Db::root().user))
    );
    assert!(flushed.message.starts_with("2 rows in 1 partition(s), "), "{}", flushed.message);
    assert_eq!(flushed.progress.rows, 2);
    assert_eq!(ended(&db, "flush", json!({ "namespace": "app" })).await.message[..21], *"2 rows in 1 partition");
    assert_eq!(ended(&db, "flush", json!(null)).await.status, JobStatus::Skipped);
    let some = json!({ "namespace": "app", "table": "t", "user_id": "al", "reason": "batches", "first_batch": 0, "batches": 2 });
    let some = ended(&db, "compaction", some).await;
    assert!(some.message.starts_with("2 batches merged in 1 partition(s)"), "{}", some.message);
    assert_eq!(ended(&db, "deleted_row_retention", t.clone()).await.status, JobStatus::Skipped);
    let deleted = "SELECT count(*) FROM t WHERE _deleted";
    assert_eq!(db.lines_as(Db::user("bo"), deleted).await, ["3"]);
    db.clock.step(8 * 24 * HOUR_NS);
    let expired = ended(&db, "deleted_row_retention", t.clone()).await;
    assert_eq!(expired.status, JobStatus::Completed, "{}", expired.message);
    assert_eq!(db.lines_as(Db::user("bo"), deleted).await, ["0"]);
    let merged = ended(&db, "compaction", t.clone()).await;
    assert!(merged.progress.rows > 0 || merged.status == JobStatus::Skipped, "{merged:?}");
    let checked = ended(&db, "integrity_check", json!({ "repair": true })).await;
    assert_eq!(checked.message, "2 partition(s) checked, 0 problem(s) repaired");
    assert!(checked.progress.rows > 0, "{checked:?}");
    assert_eq!(ended(&db, "orphan_files", t).await.message, "0 orphan file(s) removed");
    assert_eq!(ended(&db, "manifest_eviction", json!({})).await.status, JobStatus::Completed);
    assert_eq!(ended(&db, "answer_retention", json!({})).await.status, JobStatus::Completed);
    assert_eq!(ended(&db, "audit_retention", json!({})).await.status, JobStatus::Skipped);
    db.said("DROP USER bo").await;
    db.clock.step(9 * 24 * HOUR_NS);
    let purged = ended(&db, "user_purge", json!({ "user_id": "bo" })).await;
    assert!(purged.message.starts_with("user 'bo' purged: 1 partition(s)"), "{}", purged.message);
    assert_eq!(db.lines_as(Db::user("al"), "SELECT k FROM t ORDER BY k").await, ["0", "1", "2"]);
    let before = db.number("SELECT count(*) FROM system.jobs").await;
    let forgotten = ended(&db, "job_history", json!({ "days": 1 })).await;
    assert_eq!(forgotten.status, JobStatus::Completed);
    assert!(db.number("SELECT count(*) FROM system.jobs").await < before);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_check_that_finds_something_fails_and_says_what() {
    let db = with_rows().await;
    let file = db.partition("t", "user_al").join("batch-0001.parquet");
    std::fs::write(&file, b"nonsense").unwrap();
    let db = db.restart().await;
    let found = ended(&db, "integrity_check", json!({ "namespace": "app", "table": "t" })).await;
    assert_eq!(found.status, JobStatus::Failed);
    assert!(found.message.contains("app.t user al manifest.json:"), "{}", found.message);
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_may_not_have_jobs_done_is_refused_whatever_is_asked() {
    let db = with_rows().await;
    for (role, kind) in [(Role::User, "flush"), (Role::Service, "nonsense")] {
        let request = JobRequest {
            actor: Db::actor("al", role),
            job_type: kind.to_owned(),
            params: json!({ "colour": 1 }),
            idempotency_key: None,
            request_id: "test".to_owned(),
            address: None,
        };
        assert_eq!(db.engine.submit_job(request).await.unwrap_err().kind(), ErrorKind::PermissionDenied);
    }
}

/// Puts records into the store of a closed engine, as an older version left them.
async fn put_rows(db: &Db, rows: &[Value]) {
    let shard = RocksShard::open(db.directory.path().join("hot"), &db.settings.hot).unwrap();
    let mut batch = Batch::default();
    for row in rows {
        let key = keys::system("job", row["job_id"].as_str().unwrap());
        batch.put(key, Bytes::from(serde_json::to_vec(row).unwrap()));
    }
    shard.commit(shard.token(), batch).await.unwrap();
    shard.sync().await.unwrap();
    ShardStore::close(&*shard).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_094_rows_of_older_versions_are_shown_and_taken_up() {
    let db = with_rows().await;
    let answers = db.lines_as(Db::user("al"), "SELECT k, n FROM t ORDER BY k").await;
    let rows: Vec<Value> = serde_json::from_str(include_str!("jobs/rows-1.json")).unwrap();
    db.engine.close().await.unwrap();
    put_rows(&db, &rows).await;
    let db = db.reopened().await;
    db.engine.jobs().idle().await;
    let now = "SELECT job_id, job_type, status FROM system.jobs WHERE job_id LIKE '__-01JZ0000%' ORDER BY created_at";
    let last = |line: String| line.split_once("-01JZ00000000000000000000").unwrap().1.to_owned();
    let now: Vec<String> = db.lines(now).await.into_iter().map(last).collect();
    assert_eq!(
        now,
        [
            "01|flush|completed",
            "02|compaction|failed",
            "03|flush|completed",
            "04|compaction|completed",
            "05|compaction|skipped",
            "06|orphan_removal|completed",
            "07|content_removal|skipped",
            "08|manifest_eviction|completed",
            "09|user_purge|skipped",
            "0A|flush|skipped",
            "0B|flush|skipped",
            "0C|teleport|failed",
        ]
    );
    let message = "SELECT message FROM system.jobs WHERE job_type = 'teleport'";
    assert_eq!(db.lines(message).await, ["this server has no jobs of type teleport"]);
    assert_eq!(db.lines_as(Db::user("al"), "SELECT k, n FROM t ORDER BY k").await, answers);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_that_a_kill_interrupted_is_done_after_the_restart_and_once_told_to_stop_it_is_not() {
    let db = with_rows().await;
    db.engine.close().await.unwrap();
    let row = |id: &str, stop: bool| {
        json!({
            "job_id": id, "job_type": "flush", "status": "running", "parameters": { "namespace": "app", "table": "t" },
            "created_at_ms": 1, "attempts": 1, "cancel_requested": stop,
        })
    };
    put_rows(&db, &[row("FL-stopped", true)]).await;
    let db = db.reopened().await;
    db.engine.jobs().idle().await;
    assert_eq!(db.number("SELECT metric_value FROM system.stats WHERE metric_name = 'kalamdb_hot_rows'").await, 4);
    db.engine.close().await.unwrap();
    put_rows(&db, &[row("FL-killed", false)]).await;
    let db = db.reopened().await;
    db.engine.jobs().idle().await;
    assert_eq!(db.number("SELECT metric_value FROM system.stats WHERE metric_name = 'kalamdb_hot_rows'").await, 0);
    let ended = "SELECT job_id, status, attempts FROM system.jobs WHERE created_at < '2000-01-01' ORDER BY job_id";
    assert_eq!(db.lines(ended).await, ["FL-killed|completed|2", "FL-stopped|cancelled|1"]);
}

/// Numbers that look random and are the same each time.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % bound
    }
}

const USERS: [&str; 2] = ["al", "bo"];

/// What the tables must hold: of each user, `n` by `k`.
type Model = [BTreeMap<u64, u64>; USERS.len()];

async fn change(db: &Db, model: &mut Model, dice: &mut Dice) {
    let user = usize::try_from(dice.below(2)).unwrap();
    let (k, n, rows) = (dice.below(40), dice.below(1_000), &mut model[user]);
    let sql = match dice.below(10) {
        0..5 => {
            rows.insert(k, n);
            format!("INSERT INTO t VALUES ({k}, {n}) ON CONFLICT (k) DO UPDATE SET n = excluded.n")
        }
        5..8 => {
            rows.values_mut().filter(|value| **value < n / 4).for_each(|value| *value += 1);
            format!("UPDATE t SET n = n + 1 WHERE n < {}", n / 4)
        }
        _ => {
            rows.retain(|key, _| !(k..k + 3).contains(key));
            format!("DELETE FROM t WHERE k >= {k} AND k < {}", k + 3)
        }
    };
    db.run_as(Db::user(USERS[user]), &sql, Vec::new()).await.unwrap();
}

async fn compare(db: &Db, model: &Model) {
    for (user, rows) in USERS.iter().zip(model) {
        let wanted: Vec<String> = rows.iter().map(|(k, n)| format!("{k}|{n}")).collect();
        assert_eq!(db.lines_as(Db::user(user), "SELECT k, n FROM t ORDER BY k").await, wanted, "of {user}");
        let deleted = db.lines_as(Db::user(user), "SELECT k FROM t WHERE _deleted").await;
        assert!(deleted.len() < 400, "{} deleted rows", deleted.len());
    }
}

/// Flush, compaction, eviction and retention as their schedules have it, by a clock that runs a week in moments.
#[tokio::test(flavor = "multi_thread")]
async fn a_week_of_schedules_changes_no_answer() {
    let mut db = Db::with(|settings| {
        settings.flush.rows = 12;
        settings.flush.interval_seconds = 7_200;
        settings.compaction.batches_min = 4;
        settings.compaction.check_interval_seconds = 1_800;
        settings.manifest_cache.last_accessed_memory_window = 900;
        settings.audit.retention_days = 1;
        settings.jobs.history_days = 2;
        settings.jobs.deleted_row_retention_interval_seconds = 6 * 3_600;
        settings.jobs.integrity_check_interval_seconds = 12 * 3_600;
        settings.jobs.history_max = 100_000;
    })
    .await;
    db.said("CREATE NAMESPACE app").await;
    db.said("CREATE USER TABLE app.t (k BIGINT PRIMARY KEY, n BIGINT) WITH (DELETED_RETENTION_HOURS = 3)").await;
    for user in USERS {
        db.said(&format!("CREATE USER '{user}' WITH PASSWORD 'a password'")).await;
    }
    let (mut model, mut dice, mut seen) = (Model::default(), Dice(7), BTreeMap::<String, u64>::new());
    for step in 1..=7 * 24 * 4 {
        for _ in 0..2 {
            change(&db, &mut model, &mut dice).await;
        }
        db.clock.step(15 * MINUTE_NS);
        db.engine.tick().await;
        db.engine.jobs().idle().await;
        if step % 8 == 0 {
            compare(&db, &model).await;
        }
        if step % 96 == 0 {
            let unhappy =
                "SELECT job_type, status, message FROM system.jobs WHERE status NOT IN ('completed', 'skipped')";
            assert_eq!(db.lines(unhappy).await, [""; 0]);
            for (kind, counts) in db.engine.jobs().counts() {
                assert_eq!((counts.failed, counts.cancelled, counts.retries), (0, 0, 0), "{kind}");
                *seen.entry(kind).or_default() += counts.completed;
            }
            db = db.restart().await;
            compare(&db, &model).await;
        }
    }
    db.said("CHECK TABLE t").await;
    let done: BTreeSet<&str> = seen.iter().filter(|(_, times)| **times > 0).map(|(kind, _)| kind.as_str()).collect();
    for kind in [
        "answer_retention",
        "audit_retention",
        "compaction",
        "deleted_row_retention",
        "flush",
        "integrity_check",
        "manifest_eviction",
        "orphan_files",
    ] {
        assert!(done.contains(kind), "{kind} is not among {done:?}");
    }
    let oldest = "SELECT min(created_at) >= max(created_at) - INTERVAL '3 days' FROM system.jobs";
    assert_eq!(db.lines(oldest).await, ["true"]);
}
