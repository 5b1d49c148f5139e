//! Start, orderly stop, and start again: nothing is lost, and a directory has one server.

use serde_json::json;

use crate::server::{Home, Server};

#[tokio::test]
async fn sigterm_keeps_every_row_of_both_tiers() {
    let server = Server::with_tables("CREATE SHARED TABLE app.t (id BIGINT PRIMARY KEY, n INT)").await;
    server.sql("INSERT INTO app.t VALUES (1, 1), (2, 2), (3, 3)").await;
    server.flush("app.t").await;
    server
        .sql("UPDATE app.t SET n = 20 WHERE id = 2; DELETE FROM app.t WHERE id = 3; INSERT INTO app.t VALUES (4, 4)")
        .await;
    let before = server.rows("SELECT *, _seq FROM app.t ORDER BY id").await;
    let server = server.stop().start().await;
    assert_eq!(server.rows("SELECT *, _seq FROM app.t ORDER BY id").await, before);
    assert_eq!(server.rows("SELECT id, n FROM app.t ORDER BY id").await, json!([["1", 1], ["2", 20], ["4", 4]]));
}

#[tokio::test]
async fn sigterm_lets_requests_in_flight_end() {
    let server = Server::with(&[("LIMITS__CHUNK_ROWS", "1000")]).await;
    server.sql("CREATE NAMESPACE app; CREATE SHARED TABLE app.t (id BIGINT)").await;
    let body = "id\n".to_owned() + &(0..20_000).map(|row| format!("{row}\n")).collect::<String>();
    let (first, rest) = body.split_at(50_000);
    let (first, rest) = (first.to_owned(), rest.to_owned());
    let (send, pieces) = tokio::sync::mpsc::channel::<Result<String, std::io::Error>>(1);
    let pieces =
        futures::stream::unfold(pieces, |mut pieces| async move { pieces.recv().await.map(|next| (next, pieces)) });
    let client = (*server).clone();
    let import =
        tokio::spawn(async move { client.import("app.t", "text/csv", reqwest::Body::wrap_stream(pieces)).await });
    send.send(Ok(first)).await.unwrap();
    // Rows that are in show that the request is in flight.
    while server.rows("SELECT count(*) FROM app.t").await == json!([["0"]]) {}
    server.terminate();
    send.send(Ok(rest)).await.unwrap();
    drop(send);
    let reply = import.await.unwrap();
    assert_eq!((reply.status, &reply.body["row_count"]), (200, &json!(20_000)), "{reply:?}");
    let server = server.ended().start().await;
    assert_eq!(server.rows("SELECT count(*) FROM app.t").await, json!([["20000"]]));
}

#[tokio::test]
async fn a_restart_keeps_the_catalog() {
    let server = Server::with_tables(
        "CREATE USER TABLE app.u (id BIGINT PRIMARY KEY, n INT DEFAULT 7, CHECK (n > 0));
         CREATE SHARED TABLE app.s (id BIGINT, word TEXT UNIQUE) WITH (ACCESS_LEVEL='public');
         ALTER TABLE app.s ADD COLUMN more INT DEFAULT 3; ALTER TABLE app.s RENAME COLUMN word TO name;
         CREATE VIEW app.v AS SELECT id, more FROM app.s; CREATE SHARED TABLE app.gone (id BIGINT); DROP TABLE app.gone;
         INSERT INTO app.s (id, name) VALUES (1, 'one')",
    )
    .await;
    server.user("al").await;
    let lists = ["SHOW TABLES", "SHOW NAMESPACES", "DESCRIBE app.u", "DESCRIBE app.s", "SELECT * FROM system.users"];
    let mut before = Vec::new();
    for list in lists {
        before.push(server.rows(list).await);
    }
    let server = server.stop().start().await;
    for (list, before) in lists.iter().zip(before) {
        assert_eq!(server.rows(list).await, before, "{list}");
    }
    assert_eq!(server.rows("SELECT id, more FROM app.v").await, json!([["1", 3]]));
    server.refused("INSERT INTO app.s (id, name) VALUES (2, 'one')", 400, "SQL_EXECUTION_ERROR").await;
    server.refused("INSERT INTO app.u VALUES (1, -1)", 400, "SQL_EXECUTION_ERROR").await;
    let al = server.login("al", "a password").await;
    al.sql("INSERT INTO app.u (id) VALUES (1)").await;
    assert_eq!(al.rows("SELECT id, n FROM app.u").await, json!([["1", 7]]));
}

#[tokio::test]
async fn fr_074_ids_and_commit_times_go_on_growing_after_a_restart() {
    let server = Server::with_tables("CREATE SHARED TABLE app.t (n INT)").await;
    for n in 0..3 {
        server.sql(&format!("INSERT INTO app.t VALUES ({n})")).await;
    }
    let server = server.stop().start().await;
    server.sql("INSERT INTO app.t VALUES (3)").await;
    assert_eq!(server.rows("SELECT n FROM app.t ORDER BY _id").await, json!([[0], [1], [2], [3]]));
    assert_eq!(server.rows("SELECT n FROM app.t ORDER BY _seq").await, json!([[0], [1], [2], [3]]));
}

#[tokio::test]
async fn tokens_outlive_a_restart() {
    let server = Server::start().await;
    let before = (*server).clone();
    let server = server.stop().start().await;
    assert_eq!(before.at(&server.url).rows("SELECT 1").await, json!([["1"]]));
}

#[tokio::test]
async fn a_second_server_on_a_directory_ends_and_says_why() {
    let server = Server::with_tables("CREATE SHARED TABLE app.t (id BIGINT); INSERT INTO app.t VALUES (1)").await;
    let second = server.home.refused();
    assert!(!second.status.success());
    let words = &second.words;
    assert!(words.contains("in use by another server") && words.contains("data"), "{words}");
    assert_eq!(server.rows("SELECT id FROM app.t").await, json!([["1"]]));
    let server = server.stop().start().await;
    assert_eq!(server.rows("SELECT id FROM app.t").await, json!([["1"]]));
}

#[tokio::test]
async fn a_directory_that_cannot_be_made_is_named() {
    let home = Home::new(&[]);
    std::fs::write(home.data(), "a file").unwrap();
    let ended = home.refused();
    assert!(!ended.status.success() && ended.words.contains("data"), "{ended:?}");
}
