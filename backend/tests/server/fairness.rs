//! Limits of users and connections: what is over them gets 429 and when to come back, and everybody else goes on.

use futures::future::join_all;
use reqwest::Method;
use serde_json::json;

use crate::server::{Client, Reply, Server};

const TABLE: &str = "CREATE NAMESPACE app; CREATE USER TABLE app.t (id BIGINT PRIMARY KEY, name TEXT)";

fn wait_seconds(reply: &Reply) -> u32 {
    reply.refused(429, "RATE_LIMIT_EXCEEDED");
    reply.headers["retry-after"].to_str().unwrap().parse().unwrap()
}

async fn statuses(client: &Client, times: usize) -> Vec<u16> {
    join_all((0..times).map(|_| client.ask("SELECT 1"))).await.iter().map(|reply| reply.status).collect()
}

async fn usage(client: &Client, columns: &str, user: &str) -> serde_json::Value {
    client.rows(&format!("SELECT {columns} FROM system.user_usage WHERE user_id = '{user}'")).await
}

#[tokio::test]
async fn requests_per_second_are_limited_for_one_user_and_counted() {
    let server = Server::start().await;
    let (al, bo) = (server.user("al").await, server.user("bo").await);
    server.sql("ALTER USER al SET LIMIT requests_per_second 3").await;
    let statuses = statuses(&al, 40).await;
    let (fine, refused) =
        (statuses.iter().filter(|s| **s == 200).count(), statuses.iter().filter(|s| **s == 429).count());
    assert!(fine >= 3 && refused >= 20 && fine + refused == 40, "{statuses:?}");
    bo.sql("SELECT 1").await;
    let columns = "requests, requests_refused, requests_per_second_max";
    assert_eq!(usage(&server, columns, "al").await, json!([[fine.to_string(), refused.to_string(), "3"]]));
    server.sql("ALTER USER al SET LIMIT requests_per_second UNLIMITED").await;
    al.sql("SELECT 1").await;
    assert_eq!(usage(&server, "requests_per_second_max", "al").await, json!([[null]]));
    server.sql("ALTER USER al SET LIMIT requests_per_second DEFAULT").await;
    assert_eq!(usage(&server, "requests_per_second_max", "al").await, json!([["10000"]]));
}

#[tokio::test]
async fn what_was_scanned_too_much_is_waited_off() {
    let server = Server::start().await;
    server.sql(TABLE).await;
    let al = server.user("al").await;
    al.sql("INSERT INTO app.t (id) SELECT value FROM generate_series(1, 1000)").await;
    server.flush("app.t").await;
    al.sql("INSERT INTO app.t (id) SELECT value FROM generate_series(1001, 1500)").await;
    server.sql("ALTER USER al SET LIMIT rows_scanned_per_minute 500").await;
    assert_eq!(al.rows("SELECT count(name), max(id) FROM app.t").await, json!([["0", "1500"]]));
    let wait = wait_seconds(&al.ask("SELECT 1").await);
    assert!((100..=181).contains(&wait), "1 500 rows at 500 a minute: {wait} s");
    let scanned = usage(&server, "rows_scanned, bytes_scanned", "al").await;
    let number = |at: usize| scanned[0][at].as_str().unwrap().parse::<u64>().unwrap();
    assert!(number(0) >= 1500 && number(1) > 0, "{scanned}");
}

#[tokio::test]
async fn an_answer_in_arrow_counts_for_the_next_request_too() {
    let server = Server::start().await;
    server.sql(TABLE).await;
    let al = server.user("al").await;
    al.sql("INSERT INTO app.t (id) SELECT value FROM generate_series(1, 1500)").await;
    server.sql("ALTER USER al SET LIMIT rows_scanned_per_minute 500").await;
    let request = al.request(Method::POST, "/v1/api/sql").json(&json!({ "sql": "SELECT id FROM app.t" }));
    let response = request.header("Accept", "application/vnd.apache.arrow.stream").send().await.unwrap();
    assert_eq!(response.status(), 200);
    response.bytes().await.unwrap();
    assert!(wait_seconds(&al.ask("SELECT 1").await) > 60);
}

#[tokio::test]
async fn a_user_who_stores_too_much_may_only_delete() {
    let server = Server::with(&[("FLUSH__CHECK_INTERVAL_SECONDS", "1")]).await;
    server.sql(TABLE).await;
    let al = server.user("al").await;
    server.sql("ALTER USER al SET LIMIT storage_bytes 10000").await;
    al.sql(&format!("INSERT INTO app.t VALUES (1, '{}'), (2, 'x')", "x".repeat(20_000))).await;
    let refused = loop {
        let reply = al.ask("INSERT INTO app.t VALUES (3, 'x') ON CONFLICT DO NOTHING").await;
        if reply.status != 200 {
            break reply;
        }
    };
    assert_eq!(wait_seconds(&refused), 1);
    assert_eq!(al.ask("UPDATE app.t SET name = 'y'").await.status, 429);
    assert_eq!(al.import("app.t", "text/csv", "id,name\n9,x\n").await.status, 429);
    al.sql("DELETE FROM app.t WHERE id = 2").await;
    al.sql("SELECT id FROM app.t").await;
    let stored = usage(&server, "storage_bytes", "al").await;
    assert!(stored[0][0].as_str().unwrap().parse::<u64>().unwrap() > 20_000, "{stored}");
}

#[tokio::test]
async fn parallel_statements_are_limited_by_the_settings_and_not_for_dba() {
    let server = Server::with(&[("LIMITS__USER_PARALLEL_STATEMENTS_MAX", "2")]).await;
    let al = server.user("al").await;
    let slow = "SELECT count(*) FROM generate_series(1, 3000000) a WHERE a.value % 7 = 3";
    let replies = join_all((0..12).map(|_| al.ask(slow))).await;
    let refused = replies.iter().filter(|reply| reply.status == 429).count();
    assert!(refused > 0 && refused < 12, "{refused}");
    let replies = join_all((0..6).map(|_| server.ask(slow))).await;
    assert!(replies.iter().all(|reply| reply.status == 200));
    assert_eq!(usage(&server, "parallel_statements_max", "al").await, json!([["2"]]));
    assert_eq!(usage(&server, "parallel_statements_max", "root").await, json!([[null]]));
}

#[tokio::test]
async fn a_connection_has_a_limit_of_its_own() {
    let server = Server::with(&[("LIMITS__CONNECTION_REQUESTS_PER_SECOND_MAX", "5")]).await;
    let mut refused = 0;
    for _ in 0..100 {
        let reply = server.ask("SELECT 1").await;
        if reply.status == 429 {
            assert_eq!(wait_seconds(&reply), 1);
            refused += 1;
        }
    }
    assert!(refused > 0, "one client that waits for each answer uses one connection");
}

#[tokio::test]
async fn everybody_sees_their_own_use_and_only_admins_that_of_others() {
    let server = Server::start().await;
    let al = server.user("al").await;
    server.user("bo").await;
    assert_eq!(al.rows("SELECT user_id FROM system.user_usage").await, json!([["al"]]));
    assert_eq!(
        server.rows("SELECT user_id FROM system.user_usage ORDER BY 1").await,
        json!([["al"], ["bo"], ["root"]])
    );
}

#[tokio::test]
async fn a_statement_that_takes_long_does_not_hold_up_the_worker_that_received_it() {
    let server = Server::with(&[("SERVER__HTTP_WORKERS", "1")]).await;
    let long = server.ask("SELECT count(*) FROM generate_series(1, 1000000) a, generate_series(1, 1000000) b");
    let running_two = async {
        let running = |text: &str| text.lines().any(|line| line == "kalamdb_http_requests_running 2");
        while !running(&server.request(Method::GET, "/metrics").send().await.unwrap().text().await.unwrap()) {}
    };
    tokio::select! {
        biased;
        reply = long => panic!("it has ended before the worker did anything else: {:?}", reply.status),
        () = running_two => {}
    }
}
