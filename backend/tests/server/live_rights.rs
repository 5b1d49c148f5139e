//! Rights that end while a subscription runs: the connection or the subscription ends, with a code, at once, and nothing
//! is delivered afterwards.

use std::time::Duration;

use serde_json::{Value, json};

use crate::server::{Client, Server};
use crate::wire::{Raw, Wire};

const PASSWORD: &str = "a password";
const OWN: &str = "SELECT v FROM app.own";
const OPEN: &str = "SELECT v FROM app.open";
const HOUSE: &str = "SELECT v FROM app.house";

async fn world() -> Server {
    let server = Server::start().await;
    server.sql("CREATE NAMESPACE app; CREATE USER TABLE app.own (v TEXT)").await;
    server.sql("CREATE SHARED TABLE app.open (v TEXT) WITH (ACCESS_LEVEL='public')").await;
    server.sql("CREATE SHARED TABLE app.house (v TEXT)").await;
    server.sql("CREATE USER 'ann' WITH PASSWORD 'a password' ROLE 'user'").await;
    server.sql("CREATE USER 'bot' WITH PASSWORD 'a password' ROLE 'service'").await;
    server
}

/// What comes when a right has gone: within a second.
async fn told(wire: &mut Wire, change: &str) -> Value {
    let told = tokio::time::timeout(Duration::from_secs(1), wire.next()).await;
    told.unwrap_or_else(|_| panic!("{change}: a second has passed"))
}

async fn subscribed(client: &Client, sql: &str) -> Wire {
    let mut wire = Wire::signed_in(client).await;
    wire.subscribe("s", sql, Value::Null).await;
    let ack = wire.next().await;
    assert_eq!(ack["type"], "subscription_ack", "{sql}: {ack}");
    wire
}

#[tokio::test]
async fn a_connection_ends_when_its_account_does_not_mean_what_it_did() {
    for change in [
        "DROP USER 'bot'",
        "ALTER USER 'bot' SET ROLE 'user'",
        "ALTER USER 'bot' SET ROLE 'dba'",
        "ALTER USER 'bot' SET PASSWORD 'another password'",
    ] {
        let server = world().await;
        let bot = server.login("bot", PASSWORD).await;
        let mut wire = subscribed(&bot, HOUSE).await;
        server.sql(change).await;
        let ended = told(&mut wire, change).await;
        assert_eq!((&ended["type"], &ended["code"]), (&json!("error"), &json!("UNAUTHORIZED")), "{change}");
        assert_eq!(wire.closed().await.code, Some(1008), "{change}");
        assert_eq!(server.rows("SELECT * FROM system.live").await, json!([]), "{change}");
    }
}

#[tokio::test]
async fn a_connection_ends_with_its_token() {
    let server = world().await;
    let ann = server.login("ann", PASSWORD).await;
    let other = server.login("ann", PASSWORD).await;
    let (mut wire, mut stays) = (subscribed(&ann, OWN).await, subscribed(&other, OWN).await);
    assert_eq!(ann.post("/v1/api/auth/logout", &json!({})).await.status, 200);
    assert_eq!(told(&mut wire, "logout").await["code"], "UNAUTHORIZED");
    assert_eq!(wire.closed().await.code, Some(1008));
    other.sql("INSERT INTO app.own VALUES ('of the other session')").await;
    assert_eq!(stays.next().await["rows"][0]["v"], "of the other session");
}

#[tokio::test]
async fn a_connection_ends_when_its_token_expires() {
    let server = Server::with(&[("AUTH__ACCESS_TOKEN_SECONDS", "2")]).await;
    let mut wire = Wire::open(&server, "").await;
    assert_eq!(wire.next().await["type"], "auth_success");
    let within = tokio::time::timeout(Duration::from_secs(3), wire.next()).await;
    assert_eq!(within.expect("within a second of the two")["code"], "UNAUTHORIZED");
    assert_eq!(wire.closed().await.code, Some(1008));
}

#[tokio::test]
async fn a_subscription_ends_with_its_table_and_with_the_right_to_read_it() {
    for (who, sql, change, code) in [
        ("ann", OPEN, "ALTER TABLE app.open SET ACCESS LEVEL private", "UNAUTHORIZED"),
        ("bot", HOUSE, "ALTER TABLE app.house SET ACCESS LEVEL restricted", "UNAUTHORIZED"),
        ("ann", OPEN, "DROP TABLE app.open", "NOT_FOUND"),
        ("ann", OWN, "DROP NAMESPACE app CASCADE", "NOT_FOUND"),
        ("ann", OWN, "TRUNCATE TABLE app.own", "NOT_FOUND"),
        ("ann", OWN, "ALTER TABLE app.own ADD COLUMN w INT", "SUBSCRIPTION_FAILED"),
        ("ann", OWN, "ALTER TABLE app.own RENAME COLUMN v TO w", "SUBSCRIPTION_FAILED"),
        ("bot", "EXECUTE AS USER 'ann' (SELECT v FROM app.own)", "DROP USER 'ann'", "UNAUTHORIZED"),
        ("bot", "EXECUTE AS USER 'ann' (SELECT v FROM app.own)", "ALTER USER 'ann' SET ROLE 'dba'", "UNAUTHORIZED"),
    ] {
        let server = world().await;
        let client = server.login(who, PASSWORD).await;
        let mut wire = subscribed(&client, sql).await;
        server.sql(change).await;
        let ended = told(&mut wire, change).await;
        assert_eq!((&ended["subscription_id"], &ended["code"]), (&json!("s"), &json!(code)), "{change}");
        assert_eq!(server.rows("SELECT * FROM system.live").await, json!([]), "{change}");
        // The connection goes on.
        wire.subscribe("none", "SELECT * FROM app.absent", Value::Null).await;
        assert_eq!(wire.next().await["code"], "NOT_FOUND", "{change}");
    }
}

#[tokio::test]
async fn nothing_is_delivered_after_the_right_has_gone() {
    let server = world().await;
    let ann = server.login("ann", PASSWORD).await;
    let mut wire = subscribed(&ann, OPEN).await;
    server.sql("ALTER TABLE app.open SET ACCESS LEVEL restricted").await;
    server.sql("INSERT INTO app.open VALUES ('a secret')").await;
    assert_eq!(wire.next().await["code"], "UNAUTHORIZED");
    server.sql("ALTER TABLE app.open SET ACCESS LEVEL public").await;
    wire.subscribe("s", OPEN, Value::Null).await;
    assert_eq!(wire.next().await["type"], "subscription_ack");
    server.sql("INSERT INTO app.open VALUES ('no secret')").await;
    assert_eq!(wire.next().await["rows"][0]["v"], "no secret");
}

#[tokio::test]
async fn a_client_that_does_not_keep_up_gets_nothing_more_when_its_token_is_revoked() {
    let server = Server::with(&[("LIVE__QUEUE_ROWS_MAX", "100000")]).await;
    server.sql("CREATE NAMESPACE app; CREATE USER TABLE app.own (v TEXT)").await;
    server.sql("CREATE USER 'ann' WITH PASSWORD 'a password' ROLE 'user'").await;
    let ann = server.login("ann", PASSWORD).await;
    let mut slow = Raw::open(&ann).await;
    slow.subscribe(OWN).await;
    while server.rows("SELECT status FROM system.live").await != json!([["live"]]) {}
    let text = "x".repeat(100_000);
    for _ in 0..200 {
        ann.sql(&format!("INSERT INTO app.own VALUES ('{text}')")).await;
    }
    ann.post("/v1/api/auth/logout", &json!({})).await;
    let connections = "SELECT metric_value FROM system.stats WHERE metric_name = 'kalamdb_live_connections'";
    let cut = async { while server.rows(connections).await != json!([["0"]]) {} };
    // A second, and what asking takes on a machine with much to do.
    tokio::time::timeout(Duration::from_secs(3), cut).await.expect("it was not cut");
    let got = tokio::time::timeout(Duration::from_secs(1), slow.ended()).await.expect("it was not cut");
    assert!(got < 200 * text.len(), "{got} bytes: all of it was sent");
}

#[tokio::test]
async fn no_row_is_sent_after_a_subscription_has_ended() {
    let server = Server::with(&[("LIVE__QUEUE_ROWS_MAX", "100000")]).await;
    server.sql("CREATE NAMESPACE app; CREATE USER TABLE app.own (v TEXT)").await;
    let mut wire = Wire::signed_in(&server).await;
    wire.subscribe("s", OWN, Value::Null).await;
    assert_eq!(wire.next().await["type"], "subscription_ack");
    // At least sixteen are read from the log at once: far more than a connection takes without being read.
    server.sql("INSERT INTO app.own SELECT repeat('x', 2000000) FROM generate_series(1, 20)").await;
    let id = server.rows("SELECT live_id FROM system.live").await[0][0].as_str().unwrap().to_owned();
    server.sql(&format!("KILL LIVE QUERY '{id}'")).await;
    let mut rows = 0;
    loop {
        let message = wire.next().await;
        if message["type"] == "error" {
            break;
        }
        rows += 1;
    }
    assert!(rows < 16, "all of {rows} were sent although it had ended");
}

#[tokio::test]
async fn whoever_may_still_read_goes_on() {
    let server = world().await;
    let bot = server.login("bot", PASSWORD).await;
    let mut wire = subscribed(&bot, OPEN).await;
    server.sql("ALTER TABLE app.open SET ACCESS LEVEL private").await;
    server.sql("ALTER TABLE app.house ADD COLUMN w INT; DROP USER 'ann'").await;
    server.sql("INSERT INTO app.open VALUES ('for services')").await;
    assert_eq!(wire.next().await["rows"][0]["v"], "for services");
}

#[tokio::test]
async fn as_user_shows_the_subjects_rows_and_is_audited_once() {
    let server = world().await;
    let (ann, bot) = (server.login("ann", PASSWORD).await, server.login("bot", PASSWORD).await);
    let mut wire = subscribed(&bot, "EXECUTE AS USER 'ann' (SELECT v FROM app.own)").await;
    bot.sql("INSERT INTO app.own VALUES ('of bot')").await;
    for text in ["first", "second"] {
        ann.sql(&format!("INSERT INTO app.own VALUES ('{text}')")).await;
        assert_eq!(wire.next().await["rows"][0]["v"], text);
    }
    let audited = "SELECT actor, subject, outcome FROM system.audit_log WHERE kind = 'SUBSCRIBE'";
    assert_eq!(server.rows(audited).await, json!([["bot", "ann", "ok"]]));
    let mut hers = Wire::signed_in(&ann).await;
    hers.subscribe("s", "EXECUTE AS USER 'bot' (SELECT v FROM app.own)", Value::Null).await;
    assert_eq!(hers.next().await["code"], "UNAUTHORIZED");
    hers.subscribe("s", HOUSE, Value::Null).await;
    let hidden = hers.next().await;
    hers.subscribe("s", "SELECT v FROM app.absent", Value::Null).await;
    assert_eq!(hidden, hers.next().await, "what is hidden answers like what is absent");
}

#[tokio::test]
async fn subscriptions_are_limited_for_a_user_and_for_a_connection() {
    let server = Server::with(&[("LIVE__SUBSCRIPTIONS_PER_CONNECTION_MAX", "2")]).await;
    server.sql("CREATE NAMESPACE app; CREATE USER TABLE app.own (v TEXT)").await;
    let ann = server.user("ann").await;
    server.sql("ALTER USER 'ann' SET LIMIT subscriptions 3").await;
    let (mut one, mut two) = (Wire::signed_in(&ann).await, Wire::signed_in(&ann).await);
    for id in ["a", "b", "c"] {
        one.subscribe(id, OWN, Value::Null).await;
    }
    let mut heard = Vec::new();
    for _ in 0..3 {
        let message = one.next().await;
        heard.push((message["subscription_id"].as_str().unwrap().to_owned(), message["code"].clone()));
    }
    heard.sort_by_key(|(id, _)| id.clone());
    let limit = json!("SUBSCRIPTION_LIMIT_EXCEEDED");
    assert_eq!(heard, [("a".to_owned(), Value::Null), ("b".to_owned(), Value::Null), ("c".to_owned(), limit.clone())]);
    two.subscribe("c", OWN, Value::Null).await;
    assert_eq!(two.next().await["type"], "subscription_ack");
    two.subscribe("d", OWN, Value::Null).await;
    assert_eq!(two.next().await["code"], limit);
    let used = "SELECT subscriptions FROM system.user_usage WHERE user_id = 'ann'";
    assert_eq!(server.rows(used).await, json!([["3"]]));
    one.say(&json!({"type": "unsubscribe", "subscription_id": "a"})).await;
    one.subscribe("again", OWN, Value::Null).await;
    assert_eq!(one.next().await["type"], "subscription_ack");
}

#[tokio::test]
async fn rights_end_for_those_who_are_being_loaded_too() {
    let server = world().await;
    server.sql("INSERT INTO app.open VALUES ('a'), ('b'), ('c')").await;
    let ann = server.login("ann", PASSWORD).await;
    let mut wire = Wire::signed_in(&ann).await;
    wire.subscribe("s", OPEN, json!({"batch_size": 1})).await;
    assert_eq!(wire.next().await["type"], "subscription_ack");
    assert_eq!(wire.next().await["batch_control"]["has_more"], true);
    server.sql("ALTER TABLE app.open SET ACCESS LEVEL private").await;
    assert_eq!(told(&mut wire, "private").await["code"], "UNAUTHORIZED");
    wire.say(&json!({"type": "next_batch", "subscription_id": "s"})).await;
    assert_eq!(wire.next().await["code"], "INVALID_SUBSCRIPTION_ID");
}
