//! Bodies of rows: chunk by chunk, checked like INSERT, and honest about what is in.

use serde_json::json;

use crate::server::{Reply, Server};

const TABLE: &str = "CREATE SHARED TABLE app.t (id BIGINT PRIMARY KEY, name TEXT DEFAULT 'none', at TIMESTAMP)";
const CSV: &str = "text/csv";
const NDJSON: &str = "application/x-ndjson";

async fn chunks_of_ten() -> Server {
    let server = Server::with(&[("LIMITS__CHUNK_ROWS", "10")]).await;
    server.sql(&format!("CREATE NAMESPACE app; {TABLE}")).await;
    server
}

fn csv(rows: std::ops::Range<u32>, bad: Option<u32>) -> String {
    let row = |row| if Some(row) == bad { "bad,x\n".to_owned() } else { format!("{row},x\n") };
    format!("id,name\n{}", rows.map(row).collect::<String>())
}

#[tokio::test]
async fn csv_is_imported_by_the_names_of_its_header() {
    let server = Server::with_tables(TABLE).await;
    let body = "name,id\n\"a, \"\"b\"\"\nc\",1\n,2\nä,3";
    let reply = server.import("app.t", CSV, body).await;
    assert_eq!((reply.status, &reply.body["row_count"]), (200, &json!(3)), "{reply:?}");
    assert!(reply.body["took"].is_number());
    let rows = server.rows("SELECT id, name FROM app.t ORDER BY id").await;
    assert_eq!(rows, json!([["1", "a, \"b\"\nc"], ["2", null], ["3", "ä"]]));
}

#[tokio::test]
async fn columns_that_a_body_leaves_out_take_their_defaults() {
    let server = Server::with_tables(TABLE).await;
    server.import("app.t", CSV, "id\n1\n").await;
    server.import("app.t", NDJSON, "{\"id\": 2}\n").await;
    let rows = server.rows("SELECT id, name, at FROM app.t ORDER BY id").await;
    assert_eq!(rows, json!([["1", "none", null], ["2", "none", null]]));
}

#[tokio::test]
async fn ndjson_is_imported_by_the_names_of_its_members() {
    let server = Server::with_tables(TABLE).await;
    let body =
        "{\"id\": 1, \"name\": \"a\"}\n\n{\"name\": null, \"id\": 2}\n{\"id\": 3, \"at\": \"1970-01-01T00:00:01Z\"}";
    let reply = server.import("app.t", NDJSON, body).await;
    assert_eq!((reply.status, &reply.body["row_count"]), (200, &json!(3)), "{reply:?}");
    let rows = server.rows("SELECT id, name, at FROM app.t WHERE id < 3 ORDER BY id").await;
    assert_eq!(rows, json!([["1", "a", null], ["2", null, null]]));
    assert_eq!(server.rows("SELECT at FROM app.t WHERE id = 3").await, json!([[1_000_000]]));
}

#[tokio::test]
async fn an_error_in_the_middle_of_csv_says_which_rows_are_in() {
    let server = chunks_of_ten().await;
    let reply = server.import("app.t", CSV, csv(1..40, Some(25))).await;
    let message = reply.refused(400, "SQL_EXECUTION_ERROR");
    assert_eq!(message, "row 25, column 'id': 'bad' does not convert to BIGINT");
    assert_eq!(reply.body["error"]["details"], "rows 1 to 20 were imported");
    assert_eq!(server.rows("SELECT count(*), max(id) FROM app.t").await, json!([["20", "20"]]));
}

#[tokio::test]
async fn an_error_in_the_middle_of_ndjson_says_which_rows_are_in() {
    let server = chunks_of_ten().await;
    let line = |row: u32| if row == 15 { "{\"id\": ".to_owned() } else { format!("{{\"id\": {row}}}") };
    let body: Vec<String> = (1..30).map(line).collect();
    let reply = server.import("app.t", NDJSON, body.join("\n")).await;
    let message = reply.refused(400, "INVALID_INPUT");
    assert!(message.contains("row 15"), "{message}");
    assert_eq!(reply.body["error"]["details"], "rows 1 to 10 were imported");
    assert_eq!(server.rows("SELECT count(*), max(id) FROM app.t").await, json!([["10", "10"]]));
}

#[tokio::test]
async fn a_chunk_with_a_duplicate_key_is_refused_whole() {
    let server = chunks_of_ten().await;
    server.sql("INSERT INTO app.t (id) VALUES (15)").await;
    let reply = server.import("app.t", CSV, csv(1..30, None)).await;
    let message = reply.refused(400, "SQL_EXECUTION_ERROR");
    assert!(message.contains("(id) = (15)"), "{message}");
    assert_eq!(reply.body["error"]["details"], "rows 1 to 10 were imported");
    assert_eq!(server.rows("SELECT count(*) FROM app.t").await, json!([["11"]]));
}

#[tokio::test]
async fn what_cannot_be_imported_is_refused_and_nothing_is_in() {
    let server = Server::with_tables(TABLE).await;
    let table = [
        ("app.t", "application/json", "[]", "INVALID_INPUT", "text/csv"),
        ("", CSV, "id\n1\n", "INVALID_INPUT", "table"),
        ("app.nowhere", CSV, "id\n1\n", "TABLE_NOT_FOUND", "app.nowhere"),
        ("../app", CSV, "id\n1\n", "INVALID_INPUT", "../app"),
        ("app.t", CSV, "id,what\n1,2\n", "SQL_EXECUTION_ERROR", "'what'"),
        ("app.t", CSV, "id,id\n1,2\n", "INVALID_INPUT", "'id'"),
        ("app.t", CSV, "id,name\n1\n", "INVALID_INPUT", "CSV"),
        ("app.t", CSV, "", "INVALID_INPUT", "header"),
        ("app.t", NDJSON, "{\"id\": 1}\n[2]\n", "INVALID_INPUT", "row 2"),
        ("app.t", NDJSON, "{\"id\": 1, \"id\": 2}\n", "INVALID_INPUT", "'id'"),
    ];
    for (name, content_type, body, code, words) in table {
        let reply = server.import(name, content_type, body).await;
        let message = reply.refused(400, code);
        assert!(message.contains(words), "{body}: {message}");
    }
    assert_eq!(server.rows("SELECT count(*) FROM app.t").await, json!([["0"]]));
}

#[tokio::test]
async fn fr_075_a_body_does_not_set_system_columns() {
    let server = Server::with_tables(TABLE).await;
    for column in ["_id", "_updated", "_deleted"] {
        for (content_type, body) in
            [(CSV, format!("id,{column}\n1,2\n")), (NDJSON, format!("{{\"id\": 1, \"{column}\": 2}}\n"))]
        {
            let reply = server.import("app.t", content_type, body).await;
            let (status, _, message) = reply.error();
            assert!(status == 400 && message.contains(column), "{message}");
        }
    }
}

#[tokio::test]
async fn a_body_over_the_limit_is_refused() {
    let server = Server::with(&[("LIMITS__IMPORT_BYTES_MAX", "1000")]).await;
    server.sql(&format!("CREATE NAMESPACE app; {TABLE}")).await;
    let reply = server.import("app.t", CSV, csv(1000..2000, None)).await;
    let message = reply.refused(413, "PAYLOAD_TOO_LARGE");
    assert!(message.contains("1000"), "{message}");
}

#[tokio::test]
async fn users_import_into_their_own_partition_and_not_into_shared_tables() {
    let server =
        Server::with_tables(&format!("CREATE USER TABLE app.mine (id BIGINT); {TABLE} WITH (ACCESS_LEVEL='public')"))
            .await;
    let (al, ali) = (server.user("al").await, server.user("ali").await);
    assert_eq!(al.import("app.mine", CSV, "id\n1\n").await.status, 200);
    assert_eq!(al.rows("SELECT id FROM app.mine").await, json!([["1"]]));
    assert_eq!(ali.rows("SELECT id FROM app.mine").await, json!([]));
    al.import("app.t", CSV, "id\n1\n").await.refused(403, "PERMISSION_DENIED");
}

#[tokio::test]
async fn an_import_that_is_repeated_under_its_key_brings_each_row_in_once() {
    let server = chunks_of_ten().await;
    server
        .sql("CREATE SHARED TABLE app.log (id BIGINT, name TEXT); CREATE SHARED TABLE app.other (id BIGINT, name TEXT)")
        .await;
    let send = async |table: &str, body: String| {
        let request = server.request(reqwest::Method::POST, &format!("/v1/api/import?table={table}"));
        let request = request.header("Content-Type", CSV).header("Idempotency-Key", "load-1");
        Reply::of(request.body(body)).await.unwrap()
    };
    let reply = send("app.log", csv(1..41, Some(25))).await;
    assert_eq!(reply.body["error"]["details"], "rows 1 to 20 were imported");
    for attempt in 1..=2 {
        let reply = send("app.log", csv(1..41, None)).await;
        assert_eq!((reply.status, &reply.body["row_count"]), (200, &json!(40)), "attempt {attempt}: {reply:?}");
        let counted = server.rows("SELECT count(*), count(DISTINCT id) FROM app.log").await;
        assert_eq!(counted, json!([["40", "40"]]), "attempt {attempt}");
    }
    send("app.other", csv(1..5, None)).await.refused(400, "INVALID_INPUT");
    let server = server.stop().start().await;
    let request = server.request(reqwest::Method::POST, "/v1/api/import?table=app.log");
    let request = request.header("Content-Type", CSV).header("Idempotency-Key", "load-1").body(csv(1..46, None));
    assert_eq!(Reply::of(request).await.unwrap().body["row_count"], json!(45), "it is remembered over a restart");
    assert_eq!(server.rows("SELECT count(*) FROM app.log").await, json!([["45"]]));
}
