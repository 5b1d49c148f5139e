//! What a request has cost, in every answer: of all kinds of statements, of several, and of those that fail.

use serde_json::{Value, json};

use crate::server::{Reply, Server};

/// Every figure, in the order of the alphabet.
const FIGURES: [&str; 19] = [
    "batches_considered",
    "batches_pruned_by_bloom_filter",
    "batches_pruned_by_manifest",
    "batches_read",
    "batches_without_live_rows",
    "bloom_pruning_ns",
    "bloom_tests",
    "bytes_read",
    "cache_hits",
    "cache_misses",
    "cold_rows_read",
    "execution_ms",
    "hot_rows_read",
    "manifest_cache_hits",
    "manifest_cache_misses",
    "manifest_pruning_ns",
    "pages_pruned",
    "row_groups_pruned",
    "storage_requests",
];

/// A statement of every kind, in an order in which all of them succeed.
const STATEMENTS: &[&str] = &[
    "CREATE STORAGE s TYPE 'filesystem' PATH '<dir>/s'",
    "ALTER STORAGE s SET NAME 'x'",
    "STORAGE CHECK s",
    "DROP STORAGE s",
    "CREATE NAMESPACE app",
    "ALTER NAMESPACE app SET (a = 1)",
    "USE app",
    "CREATE SHARED TABLE app.t (id BIGINT PRIMARY KEY, n INT)",
    "CREATE USER TABLE app.mine (id BIGINT)",
    "ALTER TABLE app.t ADD COLUMN word TEXT",
    "CREATE INDEX i ON app.t (word)",
    "DROP INDEX app.i",
    "CREATE VIEW app.v AS SELECT id FROM app.t",
    "INSERT INTO app.t VALUES (1, 1, 'a'), (2, 2, 'b'), (3, 3, 'c')",
    "INSERT INTO app.t VALUES (4, 4, 'd') RETURNING id",
    "UPDATE app.t SET n = 5 WHERE id = 1",
    "DELETE FROM app.t WHERE id = 2",
    "SELECT * FROM app.t WHERE id = 1",
    "SELECT count(*) FROM app.v",
    "EXPLAIN SELECT * FROM app.t",
    "EXPLAIN ANALYZE SELECT * FROM app.t",
    "BEGIN; INSERT INTO app.t VALUES (7, 7, 'x'); ROLLBACK",
    "BEGIN; INSERT INTO app.t VALUES (8, 8, 'y'); COMMIT",
    "STORAGE FLUSH TABLE app.t",
    "STORAGE FLUSH ALL WAIT",
    "STORAGE COMPACT TABLE app.t WAIT",
    "CHECK TABLE app.t",
    "SHOW TABLES IN app",
    "SHOW NAMESPACES",
    "SHOW MANIFEST CACHE",
    "SHOW STATS FOR TABLE app.t",
    "SHOW ALL",
    "DESCRIBE app.t",
    "CREATE USER 'al' WITH PASSWORD 'a password' ROLE 'user'",
    "ALTER USER 'al' SET EMAIL 'a@b.c'",
    "INSERT INTO app.mine AS USER 'al' VALUES (1)",
    "EXECUTE AS USER 'al' (SELECT * FROM app.mine)",
    "SELECT _user, id FROM ALL USERS OF app.mine",
    "SUBSCRIBE TO app.t",
    "EXPORT USER DATA 'al' TO '<dir>/of-al'",
    "ERASE USER 'al'",
    "CREATE USER 'bo' WITH PASSWORD 'a password' ROLE 'user'",
    "DROP USER 'bo'",
    "VERIFY AUDIT",
    "BACKUP DATABASE app TO '<dir>/backup' WAIT",
    "RESTORE DATABASE copy FROM '<dir>/backup' WAIT",
    "TRUNCATE TABLE app.t",
    "DROP VIEW app.v",
    "DROP TABLE app.t",
    "DROP NAMESPACE app CASCADE",
];

fn assert_has_figures(reply: &Reply, of: &str) {
    let stats = reply.body["stats"].as_object().unwrap_or_else(|| panic!("{of}: {}", reply.body));
    let mut names: Vec<&str> = stats.keys().map(String::as_str).collect();
    names.sort_unstable();
    assert_eq!(names, FIGURES, "{of}");
    assert!(stats.values().all(Value::is_number), "{of}: {stats:?}");
}

/// A server with three recent rows in `app.t` and three in history in `app.old`.
async fn with_rows() -> Server {
    let server = Server::with_tables("CREATE SHARED TABLE app.t (n INT); CREATE SHARED TABLE app.old (n INT)").await;
    server.sql("INSERT INTO app.t VALUES (1), (2), (3); INSERT INTO app.old VALUES (1), (2), (3)").await;
    server.flush("app.old").await;
    server
}

#[tokio::test]
async fn every_kind_of_statement_says_what_it_cost() {
    let server = Server::start().await;
    let directory = server.home.root().display().to_string();
    for sql in STATEMENTS {
        let reply = server.ask(&sql.replace("<dir>", &directory)).await;
        assert_eq!(reply.status, 200, "{sql}: {}", reply.body);
        assert_has_figures(&reply, sql);
        assert!(reply.body["stats"]["execution_ms"].as_f64().unwrap() > 0.0, "{sql}: {}", reply.body);
    }
}

#[tokio::test]
async fn every_refusal_says_what_it_cost() {
    let server = Server::start().await;
    for sql in [
        "SELECT 'unfinished",
        "",
        "SELECT $1",
        "SELECT * FROM app.absent",
        "SELECT 1 / (value - 1) FROM generate_series(1, 3)",
        "BEGIN; SELECT 1",
        "COMMIT",
        "KILL JOB 'FL-none'",
        "KILL LIVE QUERY 'none'",
        "DROP TABLE app.absent",
    ] {
        let reply = server.ask(sql).await;
        assert_eq!(reply.body["status"], "error", "{sql}: {}", reply.body);
        assert_has_figures(&reply, sql);
    }
    let al = server.user("al").await;
    assert_has_figures(&al.ask("CREATE NAMESPACE n").await, "what al may not do");
    assert_has_figures(&server.with_token(None).ask("SELECT 1").await, "nobody");
    assert_has_figures(&server.post("/v1/api/sql", &json!({"sql": 1})).await, "no request");
}

#[tokio::test]
async fn the_statements_of_a_request_are_added_up() {
    let server = with_rows().await;
    let figure = async |sql: &str, name: &str| server.ask(sql).await.body["stats"][name].as_u64().unwrap();
    let one = "SELECT n FROM app.t";
    for (sql, hot) in [
        (one.to_owned(), 3),
        (format!("{one}; {one}; CREATE NAMESPACE a"), 6),
        (format!("BEGIN; {one}; {one}; COMMIT"), 6),
        (format!("{one}; SELECT n FROM app.absent; {one}"), 3),
        // What fails has read before it did.
        (format!("{one}; SELECT 1 / (n - 1) FROM app.t"), 6),
        // A transaction that is left open fails after its last statement, which has been counted.
        (format!("BEGIN; {one}"), 3),
    ] {
        assert_eq!(figure(&sql, "hot_rows_read").await, hot, "{sql}");
    }
    let cold = "SELECT n FROM app.old WHERE n > 0";
    assert_eq!(figure(&format!("{cold}; {one}; {cold}"), "batches_considered").await, 2);
    assert_eq!(figure(&format!("{cold}; {one}; {cold}"), "cold_rows_read").await, 6);
}

#[tokio::test]
async fn an_answer_that_streams_ends_with_all_that_it_read() {
    let server = Server::with(&[("LIMITS__RESPONSE_BUFFER_BYTES", "1000")]).await;
    server.sql("CREATE NAMESPACE app; CREATE SHARED TABLE app.t (n INT)").await;
    server.sql("INSERT INTO app.t SELECT value FROM generate_series(1, 5000)").await;
    let reply = server.ask("SELECT n FROM app.t; SELECT n FROM app.t").await;
    assert_eq!(reply.body["stats"]["hot_rows_read"], json!(10_000));
}

#[tokio::test]
async fn a_request_that_is_repeated_has_the_figures_of_the_first_time() {
    let server = with_rows().await;
    let first = server.keyed("once", "SELECT n FROM app.t").await;
    assert_eq!(first.body["stats"]["hot_rows_read"], json!(3));
    assert_eq!(server.keyed("once", "SELECT n FROM app.t").await.body, first.body);
}
