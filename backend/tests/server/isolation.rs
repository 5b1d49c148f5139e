//! No answer, error or list shows one user what is another's.

use serde_json::json;

use crate::server::{Client, Reply, Server};

const MINE: &str = "CREATE USER TABLE app.mine (id BIGINT PRIMARY KEY, word TEXT)";

async fn two_users() -> (Server, Client, Client) {
    let server = Server::with_tables(MINE).await;
    let (al, ali) = (server.user("al").await, server.user("ali").await);
    al.sql("INSERT INTO app.mine VALUES (1, 'of al'), (2, 'secret')").await;
    ali.sql("INSERT INTO app.mine VALUES (1, 'of ali')").await;
    (server, al, ali)
}

/// An error without how long it took.
fn told(reply: &Reply) -> (u16, String, String) {
    let (status, code, message) = reply.error();
    (status, code.to_owned(), message.to_owned())
}

#[tokio::test]
async fn users_read_their_own_rows_in_both_tiers() {
    let (server, al, ali) = two_users().await;
    for tier in ["hot", "cold"] {
        let all = "SELECT id, word FROM app.mine ORDER BY id";
        assert_eq!(al.rows(all).await, json!([["1", "of al"], ["2", "secret"]]), "{tier}");
        assert_eq!(ali.rows(all).await, json!([["1", "of ali"]]), "{tier}");
        assert_eq!(server.rows("SELECT id FROM app.mine").await, json!([]), "{tier}");
        server.flush("app.mine").await;
    }
}

#[tokio::test]
async fn users_change_their_own_rows_in_both_tiers() {
    let (server, al, ali) = two_users().await;
    for round in 0..2 {
        assert_eq!(ali.sql("UPDATE app.mine SET word = 'changed'").await["row_count"], 1, "{round}");
        assert_eq!(ali.sql("DELETE FROM app.mine WHERE id = 2").await["row_count"], 0, "{round}");
        assert_eq!(al.rows("SELECT word FROM app.mine ORDER BY id").await, json!([["of al"], ["secret"]]), "{round}");
        server.flush("app.mine").await;
    }
}

#[tokio::test]
async fn keys_are_unique_for_each_user_alone() {
    let (_server, _al, ali) = two_users().await;
    // The other's row with the key 2 neither hinders nor is mentioned.
    assert_eq!(ali.sql("INSERT INTO app.mine VALUES (2, 'x')").await["row_count"], 1);
    let message = ali.refused("INSERT INTO app.mine VALUES (1, 'y')", 400, "SQL_EXECUTION_ERROR").await;
    assert!(message.contains("(id) = (1)") && !message.contains("of al"), "{message}");
}

#[tokio::test]
async fn every_way_of_reading_stays_within_the_users_rows() {
    let (_server, _al, ali) = two_users().await;
    for sql in [
        "SELECT count(*) FROM app.mine WHERE word = 'secret'",
        "SELECT count(*) FROM app.mine a JOIN app.mine b ON a.id <> b.id",
        "WITH m AS (SELECT * FROM app.mine) SELECT count(*) FROM m WHERE id = 2",
        "SELECT count(*) FROM (SELECT * FROM app.mine WHERE _deleted OR NOT _deleted) WHERE word LIKE '%secret%'",
        "SELECT count(*) FROM app.mine WHERE id IN (SELECT id FROM app.mine WHERE id = 2)",
    ] {
        assert_eq!(ali.rows(sql).await, json!([["0"]]), "{sql}");
    }
    assert_eq!(ali.rows("SELECT word FROM app.mine WHERE id = 2").await, json!([]));
}

#[tokio::test]
async fn a_hidden_table_answers_like_an_absent_one() {
    let server = Server::with_tables("CREATE SHARED TABLE app.hidden (id BIGINT) WITH (ACCESS_LEVEL='private')").await;
    let al = server.user("al").await;
    for sql in [
        "SELECT * FROM app.{}",
        "SELECT id FROM app.{} WHERE id = 1",
        "SELECT nothing FROM app.{}",
        "INSERT INTO app.{} VALUES (1)",
        "INSERT INTO app.{} (nothing) VALUES (1)",
        "UPDATE app.{} SET id = 1",
        "DELETE FROM app.{}",
        "DESCRIBE app.{}",
        "EXPLAIN SELECT * FROM app.{}",
        "SELECT (SELECT max(id) FROM app.{})",
        "SHOW STATS FOR TABLE app.{}",
        "DROP TABLE app.{}",
        "TRUNCATE TABLE app.{}",
        "ALTER TABLE app.{} ADD COLUMN n INT",
        "CREATE SHARED TABLE app.{} (id BIGINT)",
        "STORAGE FLUSH TABLE app.{}",
    ] {
        let hidden = told(&al.ask(&sql.replace("{}", "hidden")).await);
        let absent = told(&al.ask(&sql.replace("{}", "absent")).await);
        assert_eq!(hidden, absent, "{sql}");
    }
}

#[tokio::test]
async fn an_import_into_a_hidden_table_answers_like_one_into_an_absent_one() {
    let server = Server::with_tables("CREATE SHARED TABLE app.hidden (id BIGINT) WITH (ACCESS_LEVEL='private')").await;
    let al = server.user("al").await;
    let hidden = al.import("app.hidden", "text/csv", "id\n1\n").await;
    let absent = al.import("app.absent", "text/csv", "id\n1\n").await;
    assert_eq!(told(&hidden), told(&absent));
    assert_eq!(hidden.refused(400, "TABLE_NOT_FOUND"), "Requested table is not available");
}

#[tokio::test]
async fn lists_leave_out_what_the_user_may_not_see() {
    let (server, al, _ali) = two_users().await;
    server.sql("CREATE SHARED TABLE app.hidden (id BIGINT) WITH (ACCESS_LEVEL='private')").await;
    server.sql("INSERT INTO app.hidden VALUES (1)").await;
    for sql in [
        "SHOW TABLES",
        "SELECT * FROM information_schema.tables",
        "SELECT * FROM information_schema.columns",
        "SELECT * FROM system.tables",
        "SELECT * FROM system.columns",
        "SELECT * FROM system.users",
        "SELECT * FROM system.manifest",
        "SELECT * FROM system.jobs",
    ] {
        let said = al.ask(sql).await.body.to_string();
        assert!(!said.contains("hidden") && !said.contains("\"ali\""), "{sql}: {said}");
    }
}

#[tokio::test]
async fn error_texts_show_no_rows_of_others() {
    let (_server, _al, ali) = two_users().await;
    for sql in [
        "SELECT CAST(word AS INT) FROM app.mine",
        "SELECT 1 / (id - 2) FROM app.mine",
        "UPDATE app.mine SET id = CAST(word AS BIGINT)",
        "INSERT INTO app.mine SELECT id, word FROM app.mine",
        "SELECT nothing FROM app.mine",
    ] {
        let said = ali.ask(sql).await.body.to_string();
        assert!(!said.contains("secret") && !said.contains("of al\"") && !said.contains("'of al'"), "{sql}: {said}");
    }
}

#[tokio::test]
async fn fr_065_users_may_not_act_as_another() {
    let (_server, _al, ali) = two_users().await;
    let words = "Permission denied: AS USER requires service/admin role";
    let body = json!({"sql": "SELECT * FROM app.mine", "impersonationContext": {"subjectUserId": "al"}});
    let reply = ali.post("/v1/api/sql", &body).await;
    assert_eq!(reply.refused(403, "PERMISSION_DENIED"), format!("Statement 1 failed: {words}"));
    let reply = ali.ask("EXECUTE AS USER 'al' (SELECT * FROM app.mine)").await;
    assert_eq!(reply.refused(403, "PERMISSION_DENIED"), format!("Statement 1 failed: {words}"));
    let reply = ali.import("app.mine&as_user=al", "text/csv", "id,word\n9,x\n").await;
    assert_eq!(reply.refused(403, "PERMISSION_DENIED"), words);
}

#[tokio::test]
async fn fr_062_a_service_acts_for_a_user_in_every_form() {
    let (server, al, _ali) = two_users().await;
    server.sql("CREATE USER 'bot' WITH PASSWORD 'a password' ROLE 'service'").await;
    let bot = server.login("bot", "a password").await;
    let answer = bot.sql("INSERT INTO app.mine AS USER 'al' VALUES (3, 'by bot')").await;
    assert_eq!((&answer["row_count"], &answer["as_user"]), (&json!(1), &json!("al")));
    let body = json!({"sql": "UPDATE app.mine SET word = $1 WHERE id = 2", "params": ["told"],
        "impersonationContext": {"subjectUserId": "al"}});
    assert_eq!(bot.post("/v1/api/sql", &body).await.results()[0]["as_user"], "al");
    let reply = bot.import("app.mine&as_user=al", "text/csv", "id,word\n4,imported\n").await;
    assert_eq!((reply.status, &reply.body["row_count"]), (200, &json!(1)));
    let all = "SELECT id, word FROM app.mine ORDER BY id";
    let rows = json!([["1", "of al"], ["2", "told"], ["3", "by bot"], ["4", "imported"]]);
    assert_eq!(bot.rows(&format!("EXECUTE AS USER 'al' ({all})")).await, rows);
    assert_eq!(al.rows(all).await, rows);
    assert_eq!(bot.rows(all).await, json!([]));
}
