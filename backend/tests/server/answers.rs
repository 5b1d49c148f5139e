//! The exact shapes of answers (wire-protocol.md, sections 1 and 2).

use serde_json::{Value, json};

use crate::server::{ROOT_PASSWORD, Server};

const ALL_TYPES: &str = "CREATE SHARED TABLE app.types (b BOOLEAN, si SMALLINT, i INT, bi BIGINT, f FLOAT, d DOUBLE, \
     dec DECIMAL(10, 2), t TEXT, bs BYTES, da DATE, ti TIME, ts TIMESTAMP, dt DATETIME, u UUID, j JSON);
     INSERT INTO app.types VALUES (true, -7, 2147483647, 9007199254740993, 0.5, 0.1, 12.34, 'ü\"x', x'00ff', \
     '1970-01-03', '00:00:01.5', '1970-01-01 00:00:01.000002', '1970-01-01 00:00:02', \
     '0190A6C0-0000-7000-8000-000000000001', '{\"a\": [1, 2]}')";

fn keys(value: &Value) -> Vec<&str> {
    let mut keys: Vec<&str> = value.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

#[tokio::test]
async fn a_login_answers_with_user_tokens_and_their_ends() {
    let server = Server::start().await;
    let reply = server.post("/v1/api/auth/login", &json!({"user": "root", "password": ROOT_PASSWORD})).await;
    assert_eq!(reply.status, 200);
    let expected =
        ["access_token", "admin_ui_access", "expires_at", "refresh_expires_at", "refresh_token", "user"].as_slice();
    assert_eq!(keys(&reply.body), expected);
    assert_eq!(keys(&reply.body["user"]), ["created_at", "id", "role", "updated_at"]);
    assert_eq!((&reply.body["user"]["id"], &reply.body["admin_ui_access"]), (&json!("root"), &json!(true)));
    for time in [&reply.body["expires_at"], &reply.body["refresh_expires_at"], &reply.body["user"]["created_at"]] {
        let time = time.as_str().unwrap();
        assert!(chrono::DateTime::parse_from_rfc3339(time).is_ok(), "{time}");
    }
}

#[tokio::test]
async fn username_is_taken_for_user() {
    let server = Server::start().await;
    let reply = server.post("/v1/api/auth/login", &json!({"username": "root", "password": ROOT_PASSWORD})).await;
    assert_eq!(reply.status, 200);
}

#[tokio::test]
async fn unknown_users_and_wrong_passwords_are_one_answer() {
    let server = Server::start().await;
    let expected = json!({"error": "unauthorized", "message": "Invalid credentials"});
    for user in ["root", "nobody"] {
        let reply = server.post("/v1/api/auth/login", &json!({"user": user, "password": "wrong one"})).await;
        assert_eq!((reply.status, reply.body), (401, expected.clone()), "{user}");
    }
}

#[tokio::test]
async fn a_refresh_token_gives_new_tokens_and_an_access_token_does_not() {
    let server = Server::start().await;
    let login = server.post("/v1/api/auth/login", &json!({"user": "root", "password": ROOT_PASSWORD})).await.body;
    let refresh = server.with_token(login["refresh_token"].as_str()).post("/v1/api/auth/refresh", &json!({})).await;
    assert_eq!((refresh.status, keys(&refresh.body)), (200, keys(&login)));
    let access = server.with_token(login["access_token"].as_str()).post("/v1/api/auth/refresh", &json!({})).await;
    assert_eq!((access.status, &access.body["error"]), (401, &json!("unauthorized")));
}

#[tokio::test]
async fn health_is_told_without_a_token() {
    let server = Server::start().await;
    for path in ["/health", "/v1/api/healthcheck"] {
        let reply = server.with_token(None).get(path).await;
        assert_eq!(
            (reply.status, &reply.body["status"], &reply.body["api_version"]),
            (200, &json!("healthy"), &json!("v1"))
        );
        assert!(reply.body["version"].is_string(), "{reply:?}");
    }
}

#[tokio::test]
async fn a_query_answers_with_schema_rows_and_their_number() {
    let server = Server::with_tables("CREATE SHARED TABLE app.t (id BIGINT PRIMARY KEY, name TEXT UNIQUE)").await;
    server.sql("INSERT INTO app.t VALUES (1, 'one')").await;
    let body = server.ask("SELECT id, name FROM app.t").await.body;
    assert_eq!(
        body["results"],
        json!([{
            "schema": [{"name": "id", "data_type": "BigInt", "index": 0, "flags": ["pk", "nn"]},
                       {"name": "name", "data_type": "Text", "index": 1, "flags": ["uq"]}],
            "rows": [["1", "one"]], "row_count": 1, "as_user": "root",
        }])
    );
    assert_eq!(body["status"], "success");
    assert!(body["took"].is_number() && body.get("error").is_none(), "{body}");
}

#[tokio::test]
async fn every_type_has_its_data_type_and_its_cell_in_both_tiers() {
    let server = Server::with_tables(ALL_TYPES).await;
    let kinds = json!([
        "Boolean", "SmallInt", "Int", "BigInt", "Float", "Double", {"Decimal": {"precision": 10, "scale": 2}}, "Text",
        "Bytes", "Date", "Time", "Timestamp", "DateTime", "Uuid", "Json"
    ]);
    let cells = json!([[
        true,
        -7,
        2_147_483_647,
        "9007199254740993",
        0.5,
        0.1,
        "12.34",
        "ü\"x",
        "AP8=",
        2,
        1_500_000,
        1_000_002,
        2_000_000,
        "0190a6c0-0000-7000-8000-000000000001",
        "{\"a\": [1, 2]}"
    ]]);
    for tier in ["hot", "cold"] {
        let answer = server.sql("SELECT b, si, i, bi, f, d, dec, t, bs, da, ti, ts, dt, u, j FROM app.types").await;
        let found: Vec<Value> =
            answer["schema"].as_array().unwrap().iter().map(|column| column["data_type"].clone()).collect();
        assert_eq!((Value::from(found), &answer["rows"]), (kinds.clone(), &cells), "{tier}");
        server.flush("app.types").await;
    }
}

#[tokio::test]
async fn null_is_null_in_every_type() {
    let server = Server::with_tables(ALL_TYPES).await;
    server.sql("DELETE FROM app.types; INSERT INTO app.types (b) VALUES (NULL)").await;
    for tier in ["hot", "cold"] {
        let rows = server.rows("SELECT b, si, i, bi, f, d, dec, t, bs, da, ti, ts, dt, u, j FROM app.types").await;
        assert_eq!(rows, json!([vec![Value::Null; 15]]), "{tier}");
        server.flush("app.types").await;
    }
}

#[tokio::test]
async fn what_is_not_finite_is_null() {
    let server = Server::start().await;
    let rows = server.rows("SELECT CAST('NaN' AS DOUBLE), CAST('Infinity' AS DOUBLE), 0.5::DOUBLE").await;
    assert_eq!(rows, json!([[null, null, 0.5]]));
}

#[tokio::test]
async fn a_star_stands_for_system_columns_around_the_users() {
    let server = Server::with_tables("CREATE SHARED TABLE app.t (id BIGINT); INSERT INTO app.t VALUES (1)").await;
    let answer = server.sql("SELECT * FROM app.t").await;
    let columns: Vec<(&str, &str)> = answer["schema"]
        .as_array()
        .unwrap()
        .iter()
        .map(|column| (column["name"].as_str().unwrap(), column["data_type"].as_str().unwrap()))
        .collect();
    let expected = [("_id", "BigInt"), ("id", "BigInt"), ("_updated", "Timestamp"), ("_deleted", "Boolean")];
    assert_eq!(columns, expected);
    let row = &answer["rows"][0];
    assert!(row[0].is_string() && row[2].is_number(), "{row}");
    assert_eq!((&row[1], &row[3]), (&json!("1"), &json!(false)));
}

#[tokio::test]
async fn a_write_says_what_it_did_and_to_how_many_rows() {
    let server = Server::with_tables("CREATE SHARED TABLE app.t (id BIGINT PRIMARY KEY, n INT)").await;
    let said = [
        ("INSERT INTO app.t VALUES (1, 1), (2, 2)", 2, "Inserted 2 row(s)"),
        ("UPDATE app.t SET n = 5 WHERE id = 1", 1, "Updated 1 row(s)"),
        ("DELETE FROM app.t", 2, "Deleted 2 row(s)"),
        ("DELETE FROM app.t", 0, "Deleted 0 row(s)"),
    ];
    for (sql, rows, message) in said {
        let answer = server.sql(sql).await;
        assert_eq!(answer, json!({"row_count": rows, "message": message, "as_user": "root"}), "{sql}");
    }
}

#[tokio::test]
async fn returning_gives_rows_beside_the_message() {
    let server = Server::with_tables("CREATE SHARED TABLE app.t (id BIGINT PRIMARY KEY, n INT)").await;
    let answer = server.sql("INSERT INTO app.t VALUES (1, 1), (2, 2) RETURNING id, n + 1 AS more").await;
    assert_eq!((&answer["rows"], &answer["row_count"]), (&json!([["1", "2"], ["2", "3"]]), &json!(2)));
    assert_eq!((&answer["message"], &answer["schema"][1]["name"]), (&json!("Inserted 2 row(s)"), &json!("more")));
}

#[tokio::test]
async fn schema_changes_answer_with_a_message_and_no_rows() {
    let server = Server::start().await;
    let said = [
        ("CREATE NAMESPACE app", "Namespace 'app' created"),
        ("CREATE NAMESPACE IF NOT EXISTS app", "namespace 'app' already exists"),
        ("CREATE USER TABLE app.t (id BIGINT)", "Table 'app.t' created"),
        ("ALTER TABLE app.t ADD COLUMN n INT", "Table 'app.t' altered"),
        ("CREATE VIEW app.v AS SELECT id FROM app.t", "View 'app.v' created"),
        ("DROP VIEW app.v", "View 'app.v' dropped"),
        ("TRUNCATE TABLE app.t", "Table 'app.t' truncated"),
        ("DROP TABLE app.t", "Table 'app.t' dropped"),
        ("CREATE USER 'al' WITH PASSWORD 'a password' ROLE 'user'", "User 'al' created"),
        ("DROP USER 'al'", "User 'al' dropped"),
        ("DROP NAMESPACE app", "Namespace 'app' dropped"),
    ];
    for (sql, message) in said {
        assert_eq!(server.sql(sql).await, json!({"row_count": 0, "message": message, "as_user": "root"}), "{sql}");
    }
}

#[tokio::test]
async fn a_flush_answers_in_the_words_that_clients_know() {
    let server = Server::with_tables("CREATE SHARED TABLE app.t (id BIGINT)").await;
    let skipped = server.sql("STORAGE FLUSH TABLE app.t").await;
    assert_eq!(skipped["message"], "Storage flush skipped: no pending writes for table 'app.t'");
    server.sql("INSERT INTO app.t VALUES (1)").await;
    let started = server.sql("STORAGE FLUSH TABLE app.t").await["message"].as_str().unwrap().to_owned();
    assert!(started.starts_with("Storage flush started for table 'app.t'. Job ID: FL-"), "{started}");
}

#[tokio::test]
async fn each_statement_has_its_result_in_order() {
    let server = Server::start().await;
    let reply = server.ask("SELECT 1; CREATE NAMESPACE n; SELECT 'x' AS y;").await;
    let results = reply.results();
    assert_eq!(results.len(), 3);
    assert_eq!((&results[0]["rows"], &results[2]["rows"]), (&json!([["1"]]), &json!([["x"]])));
}

#[tokio::test]
async fn an_answer_that_is_longer_than_what_is_held_back_streams_whole() {
    let server = Server::with(&[("LIMITS__RESPONSE_BUFFER_BYTES", "1000")]).await;
    let answer = server.sql("SELECT value FROM generate_series(1, 50000) ORDER BY value").await;
    assert_eq!((answer["rows"].as_array().unwrap().len(), &answer["row_count"]), (50_000, &json!(50_000)));
    assert_eq!(answer["rows"][49_999], json!(["50000"]));
}

#[tokio::test]
async fn an_arrow_stream_is_given_to_whom_accepts_it() {
    let server = Server::with_tables("CREATE SHARED TABLE app.t (id BIGINT); INSERT INTO app.t VALUES (1), (2)").await;
    let request = server.request(reqwest::Method::POST, "/v1/api/sql");
    let request = request.header("Accept", "application/vnd.apache.arrow.stream");
    let response = request.json(&json!({"sql": "SELECT id FROM app.t"})).send().await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/vnd.apache.arrow.stream");
    let body = response.bytes().await.unwrap();
    let batches = arrow::ipc::reader::StreamReader::try_new(&body[..], None).unwrap();
    assert_eq!(batches.map(|batch| batch.unwrap().num_rows()).sum::<usize>(), 2);
}

#[tokio::test]
async fn an_output_without_a_name_is_named_as_it_was_written() {
    let server = Server::start().await;
    server.sql("CREATE NAMESPACE app; CREATE SHARED TABLE app.t (id BIGINT PRIMARY KEY, n INT)").await;
    server.sql("INSERT INTO app.t VALUES (1, 5), (2, 7)").await;
    for (sql, expected) in [
        ("SELECT 2, 'x', CURRENT_USER(), 2", json!(["2", "'x'", "CURRENT_USER()", "2:1"])),
        ("SELECT count(*), sum(n + 1) FROM app.t", json!(["count(*)", "sum(n + 1)"])),
        ("SELECT n, t.id FROM app.t ORDER BY t.id", json!(["n", "id"])),
        ("SELECT DISTINCT n + 1 FROM app.t", json!(["n + 1"])),
        ("SELECT n % 2, count(*) FROM app.t GROUP BY n % 2 ORDER BY count(*)", json!(["n % 2", "count(*)"])),
        ("SELECT 1 UNION ALL SELECT 2", json!(["1"])),
    ] {
        let answer = server.sql(sql).await;
        let names: Vec<&Value> = answer["schema"].as_array().unwrap().iter().map(|column| &column["name"]).collect();
        assert_eq!(json!(names), expected, "{sql}");
    }
}

#[tokio::test]
async fn returned_columns_have_the_names_that_select_gives_them() {
    let server = Server::with_tables("CREATE SHARED TABLE app.t (k INT PRIMARY KEY, v INT)").await;
    server.sql("INSERT INTO app.t VALUES (1, 10)").await;
    let names = async |sql: &str| {
        let answer = server.sql(sql).await;
        let schema = answer["schema"].as_array().unwrap().clone();
        schema.iter().map(|column| column["name"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    for (list, expected) in [
        ("t.k, V, t.v + 1, (t.k)", &["k", "v", "t.v + 1", "(t.k)"][..]),
        ("app.t.k, app.t.v", &["k", "v"]),
        ("app.t.*", &["_id", "k", "v", "_updated", "_deleted"]),
    ] {
        assert_eq!(names(&format!("SELECT {list} FROM app.t")).await, expected, "{list}");
        assert_eq!(names(&format!("UPDATE app.t SET v = 0 WHERE k = 1 RETURNING {list}")).await, expected, "{list}");
    }
    let refused = server.refused("UPDATE app.t SET v = 0 RETURNING other.*", 400, "INVALID_SQL").await;
    assert!(refused.contains("'other.*' names no columns of the table"), "{refused}");
}
