//! `POST /v1/api/jobs`, `KILL JOB`, and jobs that are killed with the server at some moment and done after the restart.

use std::collections::BTreeSet;
use std::path::PathBuf;

use serde_json::{Value, json};

use crate::fail_points::assert_becomes_clean;
use crate::load::{Dice, say};
use crate::server::{Client, Home, Reply, Server};

async fn post(client: &Client, body: Value) -> Reply {
    client.post("/v1/api/jobs", &body).await
}

/// The id of a job that was taken in.
async fn submitted(client: &Client, body: Value) -> String {
    let reply = post(client, body).await;
    assert_eq!(reply.status, 202, "{reply:?}");
    assert!(
        ["queued", "running", "completed", "skipped"].contains(&reply.body["status"].as_str().unwrap()),
        "{reply:?}"
    );
    assert_eq!(reply.body.as_object().unwrap().len(), 2, "{reply:?}");
    reply.body["job_id"].as_str().unwrap().to_owned()
}

/// How a job ended: its state and message.
async fn ended(server: &Server, job: &str) -> (String, String) {
    let question = format!("SELECT status, message FROM system.jobs WHERE job_id = '{job}'");
    loop {
        let row = server.rows(&question).await[0].take();
        let (status, message) = (row[0].as_str().unwrap(), row[1].as_str().unwrap());
        if ["completed", "skipped", "failed", "cancelled"].contains(&status) {
            return (status.to_owned(), message.to_owned());
        }
    }
}

#[tokio::test]
async fn a_job_is_submitted_done_and_shown() {
    let server = Server::with_tables("CREATE SHARED TABLE app.t (id BIGINT); INSERT INTO app.t VALUES (1), (2)").await;
    let flush = json!({"job_type": "flush", "params": {"namespace": "app", "table": "t"}, "idempotency_key": "one"});
    let job = submitted(&server, flush.clone()).await;
    assert!(job.starts_with("FL-"), "{job}");
    let (status, message) = ended(&server, &job).await;
    assert_eq!(status, "completed");
    assert!(message.starts_with("2 rows in 1 partition(s), "), "{message}");
    assert_eq!(submitted(&server, flush).await, job, "the key gives the first answer");
    let other = post(&server, json!({"job_type": "flush", "idempotency_key": "one"})).await;
    other.refused(409, "CONFLICT");
    let columns =
        "SELECT job_type, parameters, progress, attempts, submitted_by, idempotency_key, node_id FROM system.jobs";
    let row = server.rows(&format!("{columns} WHERE job_id = '{job}'")).await[0].take();
    assert_eq!(row[0], "flush");
    assert_eq!(row.as_array().unwrap()[3..], [json!("1"), json!("root"), json!("one"), json!("node-1")]);
    assert_eq!(
        ended(&server, &submitted(&server, json!({"job_type": "manifest_eviction"})).await).await.0,
        "completed"
    );
}

#[tokio::test]
async fn what_is_wrong_with_a_job_is_told_so_that_a_person_can_act_on_it() {
    let server = Server::with_tables("CREATE SHARED TABLE app.t (id BIGINT)").await;
    for (body, told) in [
        (json!({}), r#"field "job_type" is missing; the body must be {"job_type": "flush""#),
        (json!({"job_type": 7}), r#"field "job_type" must be text"#),
        (json!({"job_type": "flsh"}), r#"There are: answer_retention, audit_retention, backup"#),
        (json!({"job_type": "flush", "params": []}), "params must be an object; found []"),
        (
            json!({"job_type": "flush", "params": {"namespace": "app", "table": 5}}),
            r#"field "table" must be the name of a table, such as "messages"; found 5"#,
        ),
        (
            json!({"job_type": "flush", "params": {"tabel": "t"}}),
            r#"there is no field "tabel". A job of type flush takes"#,
        ),
        (
            json!({"job_type": "compaction", "params": {"batches": 0}}),
            r#"field "batches" must be a whole number from 1 to 4294967295, such as 2; found 0"#,
        ),
        (json!({"job_type": "user_purge"}), r#"field "user_id" is missing: it must be a user id, such as "alice""#),
        (
            json!({"job_type": "flush", "idempotency_key": ""}),
            r#"field "idempotency_key" must be text of 1 to 255 bytes"#,
        ),
    ] {
        let reply = post(&server, body).await;
        let message = reply.refused(400, "INVALID_PARAMETER");
        assert!(message.contains(told), "{message}");
    }
    let absent = json!({"job_type": "flush", "params": {"namespace": "app", "table": "absent"}});
    post(&server, absent).await.refused(400, "TABLE_NOT_FOUND");
    let al = server.user("al").await;
    post(&al, json!({"job_type": "flush"})).await.refused(403, "PERMISSION_DENIED");
    post(&server.with_token(None), json!({"job_type": "flush"})).await.refused(401, "MISSING_AUTHORIZATION");
    assert_eq!(server.rows("SELECT count(*) FROM system.jobs WHERE submitted_by IS NOT NULL").await, json!([["0"]]));
}

#[tokio::test]
async fn kill_job_stops_the_work_for_good() {
    let server = Server::with_tables(
        "CREATE SHARED TABLE app.t (id BIGINT);
         INSERT INTO app.t SELECT value FROM generate_series(1, 200000); STORAGE FLUSH TABLE app.t WAIT;
         INSERT INTO app.t SELECT value FROM generate_series(1, 200000); STORAGE FLUSH TABLE app.t WAIT",
    )
    .await;
    let compaction = json!({"job_type": "compaction", "params": {"namespace": "app", "table": "t"}});
    let job = submitted(&server, compaction.clone()).await;
    server.sql(&format!("KILL JOB '{job}'")).await;
    let (status, _) = ended(&server, &job).await;
    assert_eq!(status, "cancelled");
    let server = server.stop().start().await;
    assert_eq!(ended(&server, &job).await.0, "cancelled");
    assert_eq!(server.rows("SELECT count(*), count(DISTINCT id) FROM app.t").await, json!([["400000", "200000"]]));
    assert_eq!(ended(&server, &submitted(&server, compaction).await).await.0, "completed");
    assert_eq!(server.rows("SELECT count(*), count(DISTINCT id) FROM app.t").await, json!([["400000", "200000"]]));
}

const SETTINGS: &[(&str, &str)] = &[
    ("HOT__DURABILITY", "sync"),
    ("JOBS__ORPHAN_INTERVAL_SECONDS", "1"),
    ("COMPACTION__AUTOMATIC", "false"),
    ("AUTH__DROPPED_USER_HOURS", "0"),
    ("LIMITS__STATEMENT_TIMEOUT_SECONDS", "10"),
    ("LIMITS__SNAPSHOT_AGE_MAX_SECONDS", "10"),
    ("JOBS__USER_PURGE_INTERVAL_SECONDS", "3600"),
    ("JOBS__STREAM_EVICTION_INTERVAL_SECONDS", "3600"),
];

/// The kinds that are submitted, each with its parameters in one round.
fn jobs(home: &Home, round: u64) -> Vec<(&'static str, Value)> {
    let t = json!({"namespace": "app", "table": "t"});
    let place = home.root().join("backups");
    vec![
        ("flush", json!({})),
        ("compaction", t.clone()),
        ("deleted_row_retention", t.clone()),
        ("orphan_files", t.clone()),
        ("integrity_check", json!({"repair": true})),
        ("manifest_rebuild", json!({})),
        ("manifest_eviction", json!({})),
        ("stream_eviction", json!({"namespace": "app"})),
        ("answer_retention", json!({})),
        ("audit_retention", json!({})),
        ("backup", json!({"namespace": "app", "to": place})),
        ("restore", json!({"namespace": format!("copy{round}"), "from": place})),
        ("job_history", json!({"days": 0})),
        ("user_purge", json!({"user_id": "gone"})),
    ]
}

/// The kinds that people may submit, as a refusal tells them.
async fn submittable(server: &Server) -> BTreeSet<String> {
    let reply = post(server, json!({"job_type": "nonsense"})).await;
    let (_, kinds) = reply.refused(400, "INVALID_PARAMETER").split_once("There are: ").unwrap();
    kinds.split(", ").map(ToOwned::to_owned).collect()
}

/// Rows of three users in several batches and hot, some changed and deleted, and of two streams, one of which has
/// expired; one of the users was dropped.
async fn prepare(server: &Server, round: u64) {
    if round == 0 {
        server.sql("CREATE NAMESPACE app").await;
        server
            .sql("CREATE USER TABLE app.t (id BIGINT PRIMARY KEY, n BIGINT) WITH (DELETED_RETENTION_HOURS = 0)")
            .await;
        server
            .sql("CREATE STREAM TABLE app.brief (n BIGINT) TTL 1; CREATE STREAM TABLE app.long (n BIGINT) TTL 100000")
            .await;
        server.sql("CREATE USER 'al' WITH PASSWORD 'a password'; CREATE USER 'bo' WITH PASSWORD 'a password'").await;
    }
    server.sql("CREATE USER 'gone' WITH PASSWORD 'a password'").await;
    for part in 0..3 {
        for user in ["al", "bo", "gone"] {
            let first = (round * 3 + part) * 1_000;
            let values = (first..first + 300).map(|id| format!("({id}, 1)")).collect::<Vec<_>>().join(", ");
            server.sql(&format!("INSERT INTO app.t AS USER '{user}' VALUES {values}")).await;
            server.sql(&format!("UPDATE app.t AS USER '{user}' SET n = n + 1 WHERE id % 7 = {part}")).await;
            server.sql(&format!("DELETE FROM app.t AS USER '{user}' WHERE id % 11 = {part}")).await;
            // Times of commits run ahead of a clock that has not come to where a killed server might have been: rows of
            // later rounds would not expire soon.
            for stream in if round == 0 { &["brief", "long"][..] } else { &["long"] } {
                server.sql(&format!("INSERT INTO app.{stream} AS USER '{user}' VALUES ({part}), ({round})")).await;
            }
        }
        if part < 2 {
            server.flush("app.t").await;
        }
    }
    server.sql("CREATE SHARED TABLE app.dropped (id BIGINT); INSERT INTO app.dropped VALUES (1), (2)").await;
    server.flush("app.dropped").await;
    server.sql("DROP USER 'gone'").await;
    while server.rows("SELECT count(*) FROM ALL USERS OF app.brief").await != json!([["0"]]) {}
}

/// All that somebody can see of a namespace, but of whom is to be purged.
async fn answers(server: &Server, namespace: &str) -> Vec<Value> {
    let mut found = Vec::new();
    for (table, columns) in [("t", "id, n"), ("brief", "n"), ("long", "n")] {
        let from = format!("ALL USERS OF {namespace}.{table}");
        let sql = format!("SELECT _user, {columns} FROM {from} WHERE _user <> 'gone' ORDER BY 1, 2");
        found.push(server.rows(&sql).await);
    }
    found
}

/// Has a job done that was killed with the server. Of a kind that a crash begins again, the job itself; of another,
/// which has failed then, one that is asked for anew.
async fn done(server: &Server, kind: &str, params: &Value, job: &str) {
    // Of `job_history` the record goes with the work.
    if server.rows(&format!("SELECT 1 FROM system.jobs WHERE job_id = '{job}'")).await == json!([]) {
        return assert_eq!(kind, "job_history");
    }
    let (mut status, mut message) = ended(server, job).await;
    while ["backup", "restore"].contains(&kind) && status == "failed" {
        let passes = ["interrupted", "still being removed"].iter().any(|words| message.contains(words));
        assert!(passes, "{kind}: {message}");
        let again = submitted(server, json!({"job_type": kind, "params": params})).await;
        (status, message) = ended(server, &again).await;
    }
    assert!(["completed", "skipped"].contains(&status.as_str()), "{kind} {status}: {message}");
}

/// Has a job begin and kills the server a moment later.
async fn kill_in(mut server: Server, kind: &str, params: &Value, moment: u64) -> String {
    let reply = post(&server, json!({"job_type": kind, "params": params})).await;
    assert_eq!(reply.status, 202, "{kind}: {reply:?}");
    for _ in 0..moment {
        server.get("/health").await;
    }
    server.kill();
    reply.body["job_id"].as_str().unwrap().to_owned()
}

fn manifest(home: &Home) -> PathBuf {
    home.partition("app/t/user_al/manifest.json")
}

/// Loses a manifest, so that somebody has to make it again.
async fn lose_manifest(home: &Home, server: Server) -> Server {
    server.stop();
    std::fs::remove_file(manifest(home)).unwrap();
    let server = home.start().await;
    server.rows("SELECT count(*) FROM ALL USERS OF app.t").await;
    server
}

/// Every kind of job, killed with the server at some moment and done after the restart: what is there then is what is
/// there without the kill.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_is_killed_anywhere_and_done_again_ends_as_if_it_was_done_once() {
    let home = Home::new(SETTINGS);
    let mut dice = Dice::thrown();
    for round in 0..3 {
        let mut server = home.start().await;
        prepare(&server, round).await;
        let expected = answers(&server, "app").await;
        let jobs = jobs(&home, round);
        assert_eq!(
            jobs.iter().map(|(kind, _)| (*kind).to_owned()).collect::<BTreeSet<_>>(),
            submittable(&server).await
        );
        for (kind, params) in jobs {
            match kind {
                "user_purge" => purge_is_due(&server).await,
                "manifest_rebuild" => server = lose_manifest(&home, server).await,
                _ => {}
            }
            let moment = dice.below(12);
            say(&format!("round {round}: {kind} is killed after {moment} requests"));
            let job = kill_in(server, kind, &params, moment).await;
            server = home.start().await;
            done(&server, kind, &params, &job).await;
            assert_eq!(answers(&server, "app").await, expected, "after {kind}");
            if kind == "manifest_rebuild" {
                // Who finds it lost after the kill has it made again.
                while !manifest(&home).is_file() {
                    answers(&server, "app").await;
                }
            }
        }
        // Of the kind that only the server submits.
        server.sql("DROP TABLE app.dropped").await;
        server.kill();
        server = home.start().await;
        assert_eq!(answers(&server, &format!("copy{round}")).await, expected, "restored");
        assert_eq!(server.rows("SELECT user_id FROM system.users WHERE user_id = 'gone'").await, json!([]));
        assert_eq!(server.rows("SELECT count(*) FROM ALL USERS OF app.t WHERE _user = 'gone'").await, json!([["0"]]));
        assert_becomes_clean(&server).await;
        let found = server.rows("CHECK TABLE app.t").await;
        let findings = found.as_array().unwrap().iter().map(|row| row[2].as_str().unwrap());
        assert!(findings.clone().all(|finding| finding.starts_with("ok")), "{found}");
        server.stop();
    }
}

/// Waits until the dropped user's grace is over: the job is refused before.
async fn purge_is_due(server: &Server) {
    let purge = json!({"job_type": "user_purge", "params": {"user_id": "gone"}, "idempotency_key": "x".repeat(300)});
    // Whatever else is right with it, the key is wrong: nothing is submitted before the test does.
    while !post(server, purge.clone()).await.refused(400, "INVALID_PARAMETER").contains("idempotency_key") {}
}
