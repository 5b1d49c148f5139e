//! What operators rely on: figures, ids of requests, the log, health, and an orderly end.

use std::collections::BTreeSet;
use std::path::Path;

use futures::StreamExt;
use reqwest::Method;
use serde_json::{Value, json};

use super::server::{Client, Home, Server};

async fn text(client: &Client, path: &str) -> (u16, String) {
    let response = client.request(Method::GET, path).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

/// The value of a sample, by its name with labels.
fn sample(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("{name} is not there: {text}")).parse().unwrap()
}

fn docs(page: &str) -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs").join(page)).unwrap()
}

#[tokio::test]
async fn the_figures_that_are_served_are_those_that_are_documented() {
    let server = Server::with_tables("CREATE SHARED TABLE app.t (id BIGINT PRIMARY KEY)").await;
    server.sql("INSERT INTO app.t VALUES (1), (2)").await;
    server.flush("app.t").await;
    server.get("/health").await;
    let (status, served) = text(&server, "/metrics").await;
    assert_eq!(status, 200, "{served}");
    let served: BTreeSet<(&str, &str)> =
        served.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' ')).collect();
    let page = docs("operations.md");
    let documented: BTreeSet<(&str, &str)> = page
        .lines()
        .filter_map(|line| line.strip_prefix("| `")?.split_once("` | "))
        .filter(|(name, _)| name.starts_with("kalamdb_") || name.starts_with("process_"))
        .map(|(name, rest)| (name, rest.split(' ').next().unwrap()))
        .collect();
    assert_eq!(served, documented);
}

#[tokio::test]
async fn what_happens_is_counted_once_and_shown_in_both_places() {
    let server = Server::with_tables("CREATE SHARED TABLE app.t (id BIGINT PRIMARY KEY, n INT)").await;
    server.sql("INSERT INTO app.t VALUES (1, 1), (2, 2), (3, 3)").await;
    server.flush("app.t").await;
    server.sql("UPDATE app.t SET n = 0 WHERE id = 1; DELETE FROM app.t WHERE id = 2").await;
    server.sql("SELECT n FROM app.t").await;
    assert_eq!(server.ask("SELECT nothing FROM app.t").await.status, 400);
    let (_, served) = text(&server, "/metrics").await;
    for (name, value) in [
        ("kalamdb_rows_written_total{kind=\"insert\"}", 3.0),
        ("kalamdb_rows_written_total{kind=\"update\"}", 1.0),
        ("kalamdb_rows_written_total{kind=\"delete\"}", 1.0),
        ("kalamdb_statements_total{kind=\"SELECT\",outcome=\"ok\"}", 1.0),
        ("kalamdb_statements_total{kind=\"SELECT\",outcome=\"error\"}", 1.0),
        ("kalamdb_statement_seconds_count{kind=\"UPDATE\"}", 1.0),
        ("kalamdb_rows_returned_total", 2.0),
        ("kalamdb_flushes_total{outcome=\"completed\"}", 1.0),
        ("kalamdb_flush_rows_total", 3.0),
        ("kalamdb_jobs{kind=\"flush\",status=\"completed\"}", 1.0),
        ("kalamdb_logins_total{outcome=\"ok\"}", 1.0),
        ("kalamdb_commits_total", 3.0),
        ("kalamdb_hot_writable", 1.0),
        ("kalamdb_http_requests_total{method=\"POST\",route=\"/v1/api/auth/login\",status=\"200\"}", 1.0),
        ("kalamdb_http_requests_total{method=\"POST\",route=\"/v1/api/sql\",status=\"400\"}", 1.0),
    ] {
        assert_eq!(sample(&served, name), value, "{name}");
    }
    assert!(sample(&served, "kalamdb_storage_read_bytes_total") > 0.0, "{served}");
    assert!(sample(&served, "process_resident_memory_bytes") > 1e6, "{served}");
    let shown =
        server.rows("SELECT metric_value FROM system.stats WHERE metric_name = 'kalamdb_flush_rows_total'").await;
    assert_eq!(shown, json!([["3"]]));
    let named = "SELECT metric_value FROM system.stats WHERE metric_name = \
        'kalamdb_http_requests_total{method=\"POST\",route=\"/v1/api/auth/login\",status=\"200\"}'";
    assert_eq!(server.rows(named).await, json!([["1"]]), "HTTP's figures are there too");
}

#[tokio::test]
async fn figures_are_for_this_machine_and_for_admins() {
    let server = Server::start().await;
    let al = server.user("al").await;
    let passed_on = async |client: &Client| {
        let request = client.request(Method::GET, "/metrics").header("X-Forwarded-For", "192.0.2.1");
        request.send().await.unwrap().status().as_u16()
    };
    assert_eq!(text(&server.with_token(None), "/metrics").await.0, 200, "from this machine");
    let statuses = [passed_on(&server.with_token(None)).await, passed_on(&al).await, passed_on(&server).await];
    assert_eq!(statuses, [401, 403, 200], "through a proxy: nobody, a user, root");
}

#[tokio::test]
async fn a_request_has_one_id_in_its_answer_the_log_and_the_audit() {
    let home = Home::new(&[("LOGGING__FORMAT", "json"), ("LOGGING__LEVEL", "info,kalamdb::access=debug")]);
    let server = home.start().await;
    let reply = server.ask("CREATE NAMESPACE app").await;
    let id = reply.headers["x-request-id"].to_str().unwrap().to_owned();
    assert!(id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{id}");
    let logged = server.rows("SELECT request_id FROM system.audit_log WHERE kind = 'CREATE NAMESPACE'").await;
    assert_eq!(logged, json!([[id]]));
    for path in ["/health", "/nowhere", "/v1/api/auth/me"] {
        let response = server.request(Method::GET, path).send().await.unwrap();
        assert!(response.headers().contains_key("x-request-id"), "{path}");
    }
    let home = server.stop();
    let log = home.logs();
    let lines: Vec<Value> = log.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let line = lines.iter().find(|line| line["fields"]["request_id"] == json!(id)).expect("the request is in the log");
    assert_eq!((&line["target"], &line["fields"]["status"]), (&json!("kalamdb::access"), &json!(200)), "{line}");
}

#[tokio::test]
async fn a_slow_statement_is_logged_without_what_its_user_wrote() {
    let home = Home::new(&[("LOGGING__FORMAT", "json"), ("LOGGING__SLOW_STATEMENT_MS", "1")]);
    let server = home.start().await;
    let reply = server.ask("SELECT 'hush' || value, 4711 -- private\n FROM generate_series(1, 200000)").await;
    let id = reply.headers["x-request-id"].to_str().unwrap().to_owned();
    server.sql("CREATE USER 'al' WITH PASSWORD 'my hidden word' ROLE 'user'").await;
    let (_, figures) = text(&server, "/metrics").await;
    assert!(sample(&figures, "kalamdb_slow_statements_total") >= 1.0);
    let log = server.stop().logs();
    for secret in ["hush", "4711", "private", "my hidden word"] {
        assert!(!log.contains(secret), "{secret} is in the log: {log}");
    }
    let lines = log.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    let mut slow = lines.filter(|line| line["target"] == "kalamdb::slow_statement").map(|line| line["fields"].clone());
    let slow = slow.find(|fields| fields["request_id"] == json!(id)).expect("the statement is in the log");
    assert_eq!(slow["sql"], "SELECT ? || value, ? FROM generate_series (?, ?)");
    assert_eq!((&slow["kind"], &slow["rows"], &slow["user"]), (&json!("SELECT"), &json!(200_000), &json!("root")));
}

#[tokio::test]
async fn a_server_that_stops_says_so_finishes_what_runs_and_refuses_the_rest() {
    let settings = [("LIMITS__RESPONSE_BUFFER_BYTES", "1000"), ("SERVER__DRAIN_SECONDS", "1")];
    let server = Server::with(&settings).await;
    assert_eq!(server.get("/health/ready").await.body, json!({"status": "ready"}));
    let request = server.request(Method::POST, "/v1/api/sql");
    let sql = "SELECT value, repeat('x', 100) FROM generate_series(1, 200000) ORDER BY value";
    let mut running = request.json(&json!({"sql": sql})).send().await.unwrap();
    let mut body = running.chunk().await.unwrap().unwrap().to_vec();
    server.terminate();
    let ready = loop {
        let ready = server.get("/health/ready").await;
        if ready.status != 200 {
            break ready;
        }
    };
    assert_eq!((ready.status, &ready.body["status"]), (503, &json!("draining")));
    assert_eq!(server.get("/health").await.status, 200, "it lives");
    let refused = server.ask("SELECT 1").await;
    refused.refused(503, "OVERLOADED");
    assert_eq!(
        (&refused.headers["retry-after"], &refused.headers["connection"]),
        (&"5".parse().unwrap(), &"close".parse().unwrap())
    );
    let login = server.post("/v1/api/auth/login", &json!({"user": "root", "password": "x"})).await;
    assert_eq!((login.status, &login.body["error"]), (503, &json!("overloaded")));
    let mut rest = running.bytes_stream();
    while let Some(piece) = rest.next().await {
        body.extend_from_slice(&piece.unwrap());
    }
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!((&body["status"], &body["results"][0]["row_count"]), (&json!("success"), &json!(200_000)));
    server.ended();
}
