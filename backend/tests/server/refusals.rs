//! Errors: the status and code of each kind, words that say what was wrong, and limits (wire-protocol.md, section 3).

use serde_json::{Value, json};

use crate::server::Server;

const TABLE: &str = "CREATE SHARED TABLE app.t (id BIGINT PRIMARY KEY, n INT NOT NULL DEFAULT 0, CHECK (n < 100))";

#[tokio::test]
async fn every_kind_of_error_has_its_status_code_and_words() {
    let server = Server::with_tables(TABLE).await;
    server.sql("INSERT INTO app.t VALUES (1, 1)").await;
    let table = [
        ("SELEC 1", 400, "INVALID_SQL", "SELEC"),
        ("", 400, "EMPTY_SQL", "no statement"),
        (" ; -- nothing\n", 400, "EMPTY_SQL", "no statement"),
        ("SELECT 1 FROM app.nowhere", 400, "TABLE_NOT_FOUND", "app.nowhere"),
        ("INSERT INTO app.nowhere VALUES (1)", 400, "TABLE_NOT_FOUND", "app.nowhere"),
        ("INSERT INTO app.t (id) VALUES (1)", 400, "SQL_EXECUTION_ERROR", "(id) = (1) already exists"),
        ("INSERT INTO app.t (id, n) VALUES (2, NULL)", 400, "SQL_EXECUTION_ERROR", "'n'"),
        ("INSERT INTO app.t (id, n) VALUES (2, 100)", 400, "SQL_EXECUTION_ERROR", "CHECK"),
        ("INSERT INTO app.t (id, n) VALUES (2, 'x')", 400, "SQL_EXECUTION_ERROR", "'n'"),
        ("INSERT INTO app.t (id, what) VALUES (2, 1)", 400, "SQL_EXECUTION_ERROR", "'what'"),
        ("SELECT 1 / 0", 400, "SQL_EXECUTION_ERROR", ""),
        ("CREATE NAMESPACE app", 400, "SQL_EXECUTION_ERROR", "'app' already exists"),
        ("CREATE SHARED TABLE app.u (id BIGINT) WITH (COLOUR='red')", 400, "INVALID_INPUT", "COLOUR"),
        ("BEGIN; INSERT INTO app.t VALUES (3, 3)", 400, "INVALID_SQL", "rolled back"),
    ];
    for (sql, status, code, words) in table {
        let message = server.refused(sql, status, code).await;
        assert!(message.to_lowercase().contains(&words.to_lowercase()), "{sql}: {message}");
    }
}

#[tokio::test]
async fn fr_075_a_system_column_is_refused_by_name() {
    let server = Server::with_tables(TABLE).await;
    for column in ["_id", "_updated", "_deleted"] {
        for sql in
            [format!("INSERT INTO app.t (id, {column}) VALUES (1, NULL)"), format!("UPDATE app.t SET {column} = NULL")]
        {
            let reply = server.ask(&sql).await;
            let (status, _, message) = reply.error();
            assert!(status == 400 && message.contains(column), "{sql}: {message}");
        }
    }
}

#[tokio::test]
async fn a_failure_names_its_statement_keeps_what_was_before_and_runs_nothing_after() {
    let server = Server::with_tables(TABLE).await;
    let reply = server.ask("INSERT INTO app.t VALUES (1, 1); INSERT INTO app.t VALUES (1, 1); DELETE FROM app.t").await;
    let message = reply.refused(400, "SQL_EXECUTION_ERROR");
    assert!(message.starts_with("Statement 2 failed: "), "{message}");
    assert_eq!(reply.body["results"].as_array().unwrap().len(), 1);
    assert_eq!(server.rows("SELECT id FROM app.t").await, json!([["1"]]));
}

#[tokio::test]
async fn a_statement_writes_all_of_its_rows_or_none() {
    let server = Server::with_tables(TABLE).await;
    server.refused("INSERT INTO app.t VALUES (1, 1), (2, 2), (3, 100)", 400, "SQL_EXECUTION_ERROR").await;
    assert_eq!(server.rows("SELECT id FROM app.t").await, json!([]));
}

#[tokio::test]
async fn a_failure_after_the_answer_began_is_told_at_its_end() {
    let server = Server::with(&[("LIMITS__RESPONSE_BUFFER_BYTES", "1000")]).await;
    let reply = server.ask("SELECT value FROM generate_series(1, 50000); SELECT 1 / 0").await;
    let message = reply.refused(200, "SQL_EXECUTION_ERROR");
    assert!(message.starts_with("Statement 2 failed: "), "{message}");
}

#[tokio::test]
async fn requests_without_a_good_token_get_401() {
    let server = Server::start().await;
    for (token, code) in [(None, "MISSING_AUTHORIZATION"), (Some("nonsense"), "INVALID_CREDENTIALS")] {
        let somebody = server.with_token(token);
        somebody.refused("SELECT 1", 401, code).await;
        somebody.import("app.t", "text/csv", "id\n1\n").await.refused(401, code);
    }
}

#[tokio::test]
async fn a_token_ends_when_its_account_changes() {
    let server = Server::start().await;
    let al = server.user("al").await;
    server.sql("ALTER USER 'al' SET PASSWORD 'another password'").await;
    al.refused("SELECT 1", 401, "TOKEN_EXPIRED").await;
}

#[tokio::test]
async fn users_may_neither_change_the_schema_nor_write_to_shared_tables() {
    let server = Server::with_tables("CREATE SHARED TABLE app.open (id BIGINT) WITH (ACCESS_LEVEL='public')").await;
    let al = server.user("al").await;
    for sql in [
        "CREATE NAMESPACE mine",
        "DROP TABLE app.open",
        "CREATE USER 'b' WITH PASSWORD 'a password'",
        "STORAGE FLUSH TABLE app.open",
        "INSERT INTO app.open VALUES (1)",
    ] {
        let message = al.refused(sql, 403, "PERMISSION_DENIED").await;
        assert!(message.contains("Permission denied"), "{sql}: {message}");
    }
}

#[tokio::test]
async fn too_many_failed_logins_get_429() {
    let server = Server::with(&[("AUTH__LOGIN_FAILURES_PER_MINUTE_MAX", "2")]).await;
    server.user("al").await;
    let guess = json!({"user": "al", "password": "a wrong guess"});
    for _ in 0..2 {
        assert_eq!(server.post("/v1/api/auth/login", &guess).await.status, 401);
    }
    let reply = server.post("/v1/api/auth/login", &guess).await;
    assert_eq!((reply.status, &reply.body["error"]), (429, &json!("rate_limited")));
}

#[tokio::test]
async fn parameters_are_numbered_over_the_request_and_keep_their_types() {
    let server = Server::with_tables("CREATE SHARED TABLE app.p (b BOOLEAN, i BIGINT, d DOUBLE, t TEXT, x TEXT)").await;
    let sql = "INSERT INTO app.p VALUES ($1, $2, $3, $4, $5); SELECT b, i, d, t, x FROM app.p WHERE t = $4";
    let reply =
        server.ask_with(sql, json!([true, 9_007_199_254_740_993_i64, 0.5, "'; DROP TABLE app.p; --", null])).await;
    let expected = json!([[true, "9007199254740993", 0.5, "'; DROP TABLE app.p; --", null]]);
    assert_eq!(reply.results()[1]["rows"], expected);
}

#[tokio::test]
async fn wrong_parameters_are_refused() {
    let server = Server::start().await;
    let table = [
        ("SELECT $1", json!([]), "uses 1 parameters, but 0 were given"),
        ("SELECT 1", json!([1]), "uses 0 parameters, but 1 were given"),
        ("SELECT $1", json!([[1]]), "$1 is an array"),
        ("SELECT $1", json!([{"a": 1}]), "$1 is an object"),
        ("SELECT $51", Value::from(vec![1; 51]), "51 parameters"),
        ("SELECT $1", json!(["x".repeat(524_289)]), "$1 has 524289 bytes"),
    ];
    for (sql, params, words) in table {
        let reply = server.ask_with(sql, params).await;
        let message = reply.refused(400, "INVALID_PARAMETER");
        assert!(message.contains(words), "{sql}: {message}");
    }
}

#[tokio::test]
async fn fifty_parameters_of_the_greatest_size_are_allowed() {
    let server = Server::start().await;
    let sql: Vec<String> = (1..=50).map(|number| format!("length(${number})")).collect();
    let sql = format!("SELECT {}", sql.join(" + "));
    let reply = server.ask_with(&sql, Value::from(vec!["x".repeat(524_288); 50])).await;
    let sum = &reply.results()[0]["rows"][0][0];
    assert_eq!(sum.to_string().trim_matches('"'), (50 * 524_288).to_string());
}

#[tokio::test]
async fn too_much_is_refused_with_413_and_the_limit() {
    let server = Server::with(&[("LIMITS__BODY_BYTES_MAX", "2000000"), ("LIMITS__STATEMENT_ROWS_MAX", "10000")]).await;
    let rows: Vec<String> = (0..10_001).map(|row| format!("({row})")).collect();
    server.sql("CREATE NAMESPACE app; CREATE SHARED TABLE app.t (id BIGINT)").await;
    let table = [
        (format!("SELECT '{}'", "x".repeat(1_048_576)), "1048576"),
        ("x".repeat(2_000_001), "2000000"),
        ("SELECT 1;".repeat(101), "100"),
        (format!("INSERT INTO app.t VALUES {}", rows.join(",")), "10000"),
    ];
    for (sql, limit) in table {
        let message = server.refused(&sql, 413, "PAYLOAD_TOO_LARGE").await;
        assert!(message.contains(limit), "{message}");
    }
    assert_eq!(server.rows("SELECT count(*) FROM app.t").await, json!([["0"]]));
}

#[tokio::test]
async fn a_hundred_statements_are_allowed() {
    let server = Server::start().await;
    assert_eq!(server.ask(&"SELECT 1;".repeat(100)).await.results().len(), 100);
}

#[tokio::test]
async fn deep_expressions_are_refused_and_the_server_goes_on() {
    let server = Server::start().await;
    let sql = format!("SELECT {}1{}", "(".repeat(100_000), ")".repeat(100_000));
    let (status, _, _) = server.ask(&sql).await.error();
    assert!(status == 400 || status == 413, "{status}");
    assert_eq!(server.rows("SELECT 1").await, json!([["1"]]));
}

#[tokio::test]
async fn bodies_that_are_no_request_are_refused() {
    let server = Server::start().await;
    for body in [json!({}), json!({"sql": 1}), json!([]), json!({"sql": "SELECT 1", "params": "x"})] {
        server.post("/v1/api/sql", &body).await.refused(400, "INVALID_INPUT");
    }
}

#[tokio::test]
async fn addresses_that_lead_nowhere_get_404() {
    let server = Server::start().await;
    assert_eq!(server.get("/v1/api/nothing").await.status, 404);
    assert_eq!(server.get("/v1/api/sql").await.status, 404);
}

#[tokio::test]
async fn clauses_that_are_not_implemented_are_named() {
    let server = Server::with_tables(TABLE).await;
    let message = server.refused("SELECT * FROM app.t FOR UPDATE", 400, "INVALID_SQL").await;
    assert!(message.contains("FOR UPDATE"), "{message}");
}
