//! Requests with an `Idempotency-Key` are carried out once.

use serde_json::json;

use crate::server::Server;

const TABLE: &str = "CREATE USER TABLE app.t (id BIGINT)";
const INSERT: &str = "INSERT INTO app.t VALUES (1) RETURNING _id";

#[tokio::test]
async fn the_same_request_gets_the_first_answer_again() {
    let server = Server::with_tables(TABLE).await;
    let first = server.keyed("a", INSERT).await;
    let again = server.keyed("a", INSERT).await;
    assert_eq!((again.status, again.body), (first.status, first.body));
    assert_eq!(server.rows("SELECT count(*) FROM app.t").await, json!([["1"]]));
}

#[tokio::test]
async fn the_first_answer_outlives_a_kill() {
    let mut server = Server::with_tables(TABLE).await;
    let first = server.keyed("a", INSERT).await;
    server.kill();
    let server = server.home.start().await;
    let again = server.keyed("a", INSERT).await;
    assert_eq!((again.status, again.body), (first.status, first.body));
    assert_eq!(server.rows("SELECT count(*) FROM app.t").await, json!([["1"]]));
}

#[tokio::test]
async fn another_request_with_the_key_is_refused() {
    let server = Server::with_tables(TABLE).await;
    server.keyed("a", INSERT).await.results();
    let other = server.keyed("a", "INSERT INTO app.t VALUES (2)").await;
    let message = other.refused(400, "INVALID_INPUT");
    assert!(message.contains("Idempotency-Key"), "{message}");
    assert_eq!(server.rows("SELECT id FROM app.t").await, json!([["1"]]));
}

#[tokio::test]
async fn users_keys_are_their_own() {
    let server = Server::with_tables(TABLE).await;
    let (al, ali) = (server.user("al").await, server.user("ali").await);
    for user in [&al, &ali] {
        user.keyed("a", INSERT).await.results();
        assert_eq!(user.rows("SELECT count(*) FROM app.t").await, json!([["1"]]));
    }
}

#[tokio::test]
async fn requests_at_once_with_one_key_write_once() {
    let server = Server::with_tables(TABLE).await;
    let replies = futures::future::join_all((0..8).map(|_| server.keyed("a", INSERT))).await;
    for reply in &replies {
        assert!(reply.status == 200 || reply.error().1 == "CONFLICT", "{reply:?}");
    }
    assert!(replies.iter().any(|reply| reply.status == 200));
    assert_eq!(server.rows("SELECT count(*) FROM app.t").await, json!([["1"]]));
}

#[tokio::test]
async fn a_request_that_failed_halfway_goes_on_where_it_stopped() {
    let server = Server::with_tables(&format!("{TABLE}; CREATE USER TABLE app.u (id BIGINT, CHECK (id < 0))")).await;
    let sql = "INSERT INTO app.t VALUES (1); INSERT INTO app.u VALUES (1)";
    server.keyed("a", sql).await.refused(400, "SQL_EXECUTION_ERROR");
    server.sql("DROP TABLE app.u; CREATE USER TABLE app.u (id BIGINT)").await;
    assert_eq!(server.keyed("a", sql).await.results().len(), 2);
    assert_eq!(server.rows("SELECT count(*) FROM app.t").await, json!([["1"]]));
    assert_eq!(server.rows("SELECT count(*) FROM app.u").await, json!([["1"]]));
}

#[tokio::test]
async fn keys_that_are_empty_or_too_long_are_refused() {
    let server = Server::with_tables(TABLE).await;
    for key in [" ".to_owned(), "k".repeat(256)] {
        server.keyed(&key, INSERT).await.refused(400, "INVALID_INPUT");
    }
    assert_eq!(server.rows("SELECT count(*) FROM app.t").await, json!([["0"]]));
}
