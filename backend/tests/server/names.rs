//! Odd names of users, namespaces and tables: they work, or are refused in words, and no directory lies elsewhere.

use std::path::Path;

use serde_json::json;

use crate::server::Server;

const ODD: [&str; 14] =
    ["../x", "..", ".", "a/b", "a:b", "a\\b", "a b", "A", "a", "%2E", "shared", "user_a", "ünï-日本", "'; DROP"];

/// As a quoted identifier.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

/// As a string.
fn text(name: &str) -> String {
    format!("'{}'", name.replace('\'', "''"))
}

/// Asserts that the storage holds partitions at its third level and files only in them.
fn is_regular(server: &Server) {
    for path in server.home.everything() {
        let Some(path) = path.strip_prefix("data/storage/") else { continue };
        let parts = Path::new(path).components().count();
        assert!(parts <= 4, "{path}");
        let is_file = path.ends_with(".json") || path.ends_with(".parquet");
        assert!(!is_file || parts == 4, "{path}");
    }
}

#[tokio::test]
async fn odd_names_of_tables_work_side_by_side() {
    let server = Server::with_tables("").await;
    for (number, name) in ODD.iter().enumerate() {
        let table = format!("app.{}", quoted(name));
        server.sql(&format!("CREATE SHARED TABLE {table} (id BIGINT); INSERT INTO {table} VALUES ({number})")).await;
        server.flush(&table).await;
    }
    let server = server.stop().start().await;
    for (number, name) in ODD.iter().enumerate() {
        let rows = server.rows(&format!("SELECT id FROM app.{}", quoted(name))).await;
        assert_eq!(rows, json!([[number.to_string()]]), "{name}");
    }
    is_regular(&server);
}

#[tokio::test]
async fn odd_names_of_namespaces_work_side_by_side() {
    let server = Server::start().await;
    for (number, name) in ODD.iter().enumerate() {
        let table = format!("{}.t", quoted(name));
        server.sql(&format!("CREATE NAMESPACE {}", quoted(name))).await;
        server.sql(&format!("CREATE SHARED TABLE {table} (id BIGINT); INSERT INTO {table} VALUES ({number})")).await;
        server.flush(&table).await;
    }
    for (number, name) in ODD.iter().enumerate() {
        let rows = server.rows(&format!("SELECT id FROM {}.t", quoted(name))).await;
        assert_eq!(rows, json!([[number.to_string()]]), "{name}");
    }
    is_regular(&server);
}

#[tokio::test]
async fn odd_names_of_users_have_rows_of_their_own() {
    let server = Server::with_tables("CREATE USER TABLE app.t (id BIGINT)").await;
    let mut users = Vec::new();
    for (number, name) in ODD.iter().enumerate() {
        server.sql(&format!("CREATE USER {} WITH PASSWORD 'a password'", text(name))).await;
        let user = server.login(name, "a password").await;
        user.sql(&format!("INSERT INTO app.t VALUES ({number})")).await;
        users.push(user);
    }
    for _ in 0..2 {
        for (number, user) in users.iter().enumerate() {
            assert_eq!(user.rows("SELECT id FROM app.t").await, json!([[number.to_string()]]), "{}", ODD[number]);
        }
        server.flush("app.t").await;
    }
    is_regular(&server);
}

#[tokio::test]
async fn names_up_to_their_limit_work_and_longer_ones_are_refused_with_it() {
    let server = Server::with_tables("").await;
    let name = "n".repeat(64);
    server.sql(&format!("CREATE SHARED TABLE app.{name} ({name} BIGINT); INSERT INTO app.{name} VALUES (1)")).await;
    server.flush(&format!("app.{name}")).await;
    assert_eq!(server.rows(&format!("SELECT {name} FROM app.{name}")).await, json!([["1"]]));
    let long = "n".repeat(300);
    for sql in [
        format!("CREATE NAMESPACE {long}"),
        format!("CREATE SHARED TABLE app.{long} (id BIGINT)"),
        format!("CREATE SHARED TABLE app.t ({long} BIGINT)"),
    ] {
        let message = server.refused(&sql, 400, "INVALID_INPUT").await;
        assert!(message.contains("at most 64"), "{message}");
    }
}

#[tokio::test]
async fn user_ids_up_to_their_limit_have_files_and_longer_ones_are_refused_with_it() {
    let server = Server::with_tables("CREATE USER TABLE app.t (id BIGINT)").await;
    // The escaped form of the second is longer than a file system's names.
    for name in ["n".repeat(255), "ü".repeat(127)] {
        let user = server.user(&name).await;
        user.sql("INSERT INTO app.t VALUES (1)").await;
        server.flush("app.t").await;
        assert_eq!(user.rows("SELECT id FROM app.t").await, json!([["1"]]));
    }
    let sql = format!("CREATE USER '{}' WITH PASSWORD 'a password'", "n".repeat(300));
    let message = server.refused(&sql, 400, "INVALID_INPUT").await;
    assert!(message.contains("at most 255"), "{message}");
}

#[tokio::test]
async fn empty_names_and_control_characters_are_refused() {
    let server = Server::with_tables("").await;
    for name in ["", "a\0b", "a\nb"] {
        for sql in [
            format!("CREATE NAMESPACE {}", quoted(name)),
            format!("CREATE SHARED TABLE app.{} (id BIGINT)", quoted(name)),
            format!("CREATE SHARED TABLE app.t ({} BIGINT)", quoted(name)),
            format!("CREATE USER {} WITH PASSWORD 'a password'", text(name)),
        ] {
            let reply = server.ask(&sql).await;
            let (status, code, _) = reply.error();
            assert!(status == 400 && ["INVALID_INPUT", "INVALID_SQL"].contains(&code), "{sql:?}: {reply:?}");
        }
    }
}

#[tokio::test]
async fn logins_with_odd_names_are_refused_like_any_other() {
    let server = Server::start().await;
    for name in ["", "../x", "a\0b", &"n".repeat(300)] {
        let reply = server.post("/v1/api/auth/login", &json!({"user": name, "password": "a password"})).await;
        assert_eq!(reply.status, 401, "{name:?}: {reply:?}");
    }
}
