//! Live queries over WebSocket: the exact shapes.

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::CloseFrame;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;

use crate::server::Server;
use crate::wire::Wire;

const TABLE: &str = "CREATE SHARED TABLE app.t (k INT PRIMARY KEY, v TEXT) WITH (ACCESS_LEVEL='public')";
const ALL: &str = "SELECT k, v FROM app.t";

#[tokio::test]
async fn a_token_in_the_upgrade_or_in_the_first_message_signs_in_and_a_bad_one_does_not() {
    let server = Server::with_tables(TABLE).await;
    let success = json!({
        "type": "auth_success", "user": "root", "role": "system",
        "protocol": {"serialization": "json", "compression": "gzip"},
    });
    assert_eq!(Wire::open(&server, "").await.next().await, success);
    let anonymous = server.with_token(None);
    let mut wire = Wire::open(&anonymous, "").await;
    wire.say(&json!({"type": "authenticate", "method": "jwt", "token": server.token()})).await;
    assert_eq!(wire.next().await, success);
    let mut bad = Wire::open(&server.with_token(Some("nonsense")), "").await;
    assert_eq!(bad.next().await["type"], "auth_error");
    assert_eq!(bad.closed().await.code, Some(1008));
    let mut wrong = Wire::open(&anonymous, "").await;
    wrong.subscribe("s", ALL, json!({})).await;
    let required = wrong.next().await;
    assert_eq!((&required["subscription_id"], &required["code"]), (&json!("s"), &json!("AUTH_REQUIRED")));
    assert_eq!(wrong.next().await["type"], "auth_error");
    assert_eq!(wrong.closed().await.code, Some(1008));
    let mut silent = Wire::open(&anonymous, "").await;
    assert_eq!(silent.next().await["type"], "auth_error");
    assert_eq!(silent.closed().await.code, Some(1008));
}

/// What a subscriber of `ALL` hears, with every `_seq` and `_id` replaced.
async fn conversation(server: &Server, query: &str) -> Vec<Value> {
    server.sql("DELETE FROM app.t").await;
    server.sql("INSERT INTO app.t VALUES (1, 'one'), (2, NULL)").await;
    let mut wire = Wire::open(server, query).await;
    let mut heard = vec![wire.next().await];
    wire.subscribe("s", ALL, json!({"batch_size": 1})).await;
    heard.extend([wire.next().await, wire.next().await]);
    wire.say(&json!({"type": "next_batch", "subscription_id": "s"})).await;
    heard.push(wire.next().await);
    for sql in
        ["UPDATE app.t SET v = 'uno' WHERE k = 1", "DELETE FROM app.t WHERE k = 2", "INSERT INTO app.t VALUES (3, 'x')"]
    {
        server.sql(sql).await;
        heard.push(wire.next().await);
    }
    heard.iter_mut().for_each(anonymised);
    heard
}

fn anonymised(value: &mut Value) {
    match value {
        Value::Object(fields) => fields.iter_mut().for_each(|(name, value)| match name.as_str() {
            "_seq" | "_id" => {
                assert!(value.as_str().is_some_and(|text| text.parse::<i64>().is_ok()), "{value}");
                *value = json!("#");
            }
            "last_seq_id" => {
                assert!(value.is_i64());
                *value = json!(0);
            }
            _ => anonymised(value),
        }),
        Value::Array(values) => values.iter_mut().for_each(anonymised),
        _ => {}
    }
}

#[tokio::test]
async fn messages_have_exactly_these_shapes_in_both_formats() {
    let server = Server::with_tables(TABLE).await;
    let heard = conversation(&server, "").await;
    let control = |number: u64, has_more: bool, status: &str| json!({"batch_num": number, "has_more": has_more, "status": status, "last_seq_id": 0});
    let schema = json!([
        {"name": "k", "data_type": "Int", "index": 0, "flags": ["pk", "nn"]},
        {"name": "v", "data_type": "Text", "index": 1},
        {"name": "_seq", "data_type": "BigInt", "index": 2},
    ]);
    let expected = json!([
        {"type": "subscription_ack", "subscription_id": "s", "total_rows": 2, "schema": schema,
         "batch_control": {"batch_num": 0, "has_more": true, "status": "loading"}},
        {"type": "initial_data_batch", "subscription_id": "s", "rows": [{"k": 1, "v": "one", "_seq": "#"}],
         "batch_control": control(0, true, "loading")},
        {"type": "initial_data_batch", "subscription_id": "s", "rows": [{"k": 2, "v": null, "_seq": "#"}],
         "batch_control": control(1, false, "ready")},
        {"type": "change", "subscription_id": "s", "change_type": "update",
         "rows": [{"k": 1, "v": "uno", "_seq": "#"}], "old_values": [{"k": 1, "_id": "#", "v": "one", "_seq": "#"}]},
        {"type": "change", "subscription_id": "s", "change_type": "delete",
         "old_values": [{"k": 2, "_id": "#", "_seq": "#"}]},
        {"type": "change", "subscription_id": "s", "change_type": "insert", "rows": [{"k": 3, "v": "x", "_seq": "#"}]},
    ]);
    assert_eq!(json!(heard[1..]), expected);
    let packed = conversation(&server, "?serialization=msgpack").await;
    assert_eq!(packed[0]["protocol"]["serialization"], "msgpack");
    assert_eq!(json!(packed[1..]), expected);
}

#[tokio::test]
async fn values_of_every_type_are_those_of_an_answer_in_rows_changes_and_old_values() {
    let columns = "k INT PRIMARY KEY, b BIGINT, d DECIMAL(20, 2), x BYTES, t TIMESTAMP, dt DATETIME, da DATE, ti TIME, \
                   u UUID, j JSON, f DOUBLE, z BOOLEAN";
    let server = Server::with_tables(&format!("CREATE SHARED TABLE app.v ({columns})")).await;
    let values = |k: i32| {
        format!(
            "INSERT INTO app.v VALUES ({k}, 9007199254740993, 123456789012345678.90, X'00ff10', \
             '2024-02-03 04:05:06.123456', '2024-02-03 04:05:06.123456', '2024-02-03', '04:05:06.123456', \
             '0190a6e0-0000-7000-8000-000000000001', '{{\"a\": [1, 2]}}', 0.5, true)"
        )
    };
    let all = "SELECT b, d, x, t, dt, da, ti, u, j, f, z FROM app.v";
    let changed = "UPDATE app.v SET b = -9007199254740993, d = -0.01, x = X'01', t = '1969-12-31 23:59:59.999999', \
                   dt = NULL, da = '1969-12-31', ti = '00:00:00', u = NULL, j = 'null', f = 'NaN', z = NULL WHERE k = 2";
    server.sql(&values(1)).await;
    for query in ["", "?serialization=msgpack"] {
        let mut wire = Wire::open(&server, query).await;
        wire.next().await;
        wire.subscribe("s", all, json!({})).await;
        wire.next().await;
        let batch = wire.next().await["rows"][0].clone();
        server.sql(&values(2)).await;
        let inserted = wire.next().await["rows"][0].clone();
        server.sql(changed).await;
        let update = wire.next().await;
        let answered = async |k: i32| server.rows(&format!("{all} WHERE k = {k}")).await[0].as_array().unwrap().clone();
        let cells = |row: &Value| {
            let names = ["b", "d", "x", "t", "dt", "da", "ti", "u", "j", "f", "z"];
            names.map(|name| row.get(name).unwrap_or_else(|| panic!("{name} is not in {row}")).clone()).to_vec()
        };
        let expected = answered(1).await;
        assert_eq!(
            expected[..4],
            [
                json!("9007199254740993"),
                json!("123456789012345678.90"),
                json!("AP8Q"),
                json!(1_706_933_106_123_456_i64)
            ]
        );
        assert_eq!(expected[7], "0190a6e0-0000-7000-8000-000000000001");
        assert_eq!(cells(&batch), expected, "{query}");
        assert_eq!(cells(&inserted), expected, "{query}");
        assert_eq!(cells(&update["old_values"][0]), expected, "{query}");
        assert_eq!(cells(&update["rows"][0]), answered(2).await, "{query}");
        server.sql("DELETE FROM app.v WHERE k = 2").await;
    }
}

#[tokio::test]
async fn a_long_message_is_compressed_unless_the_client_does_not_want_that() {
    let server = Server::with_tables(TABLE).await;
    server.sql(&format!("INSERT INTO app.t VALUES (1, '{}')", "x".repeat(8_192))).await;
    let mut batches = Vec::new();
    for query in ["", "?compression=none"] {
        let mut wire = Wire::open(&server, query).await;
        wire.next().await;
        wire.subscribe("s", ALL, json!({})).await;
        wire.next().await;
        let frame = wire.socket.next().await.unwrap().unwrap();
        assert_eq!(frame.is_binary(), query.is_empty(), "{query}");
        batches.push(match frame {
            Message::Binary(packed) => {
                assert!(packed.len() < 1_000, "{} bytes", packed.len());
                serde_json::from_reader(flate2::read::GzDecoder::new(&packed[..])).unwrap()
            }
            other => serde_json::from_str::<Value>(other.to_text().unwrap()).unwrap(),
        });
    }
    assert_eq!(batches[0]["type"], "initial_data_batch");
    assert_eq!(batches[0], batches[1]);
}

#[tokio::test]
async fn changes_only_is_the_default_and_an_id_that_comes_again_replaces() {
    let server = Server::with_tables(TABLE).await;
    server.sql("INSERT INTO app.t VALUES (1, 'one')").await;
    let mut wire = Wire::signed_in(&server).await;
    wire.subscribe("s", ALL, Value::Null).await;
    let ack = wire.next().await;
    assert_eq!(ack["batch_control"]["status"], "ready");
    assert!(ack["batch_control"]["last_seq_id"].is_i64(), "from here one can resume");
    wire.subscribe("s", "SELECT k FROM app.t WHERE k > 5", Value::Null).await;
    assert_eq!(wire.next().await["type"], "subscription_ack");
    server.sql("INSERT INTO app.t VALUES (2, 'two'), (6, 'six')").await;
    let change = wire.next().await;
    assert_eq!(change["rows"][0]["k"], 6);
    wire.say(&json!({"type": "unsubscribe", "subscription_id": "s"})).await;
    wire.subscribe("other", "SELECT k FROM app.t WHERE k > 50", Value::Null).await;
    assert_eq!(wire.next().await["subscription_id"], "other");
    server.sql("INSERT INTO app.t VALUES (7, 'seven'), (60, 'sixty')").await;
    assert_eq!(wire.next().await["rows"][0]["k"], 60);
}

#[tokio::test]
async fn errors_have_their_codes_and_leave_the_connection_open() {
    let server = Server::with_tables(TABLE).await;
    let mut wire = Wire::signed_in(&server).await;
    for (sql, code) in [
        ("SELECT * FROM app.absent", "NOT_FOUND"),
        ("SELECT count(*) FROM app.t", "UNSUPPORTED"),
        ("SELEKT", "INVALID_SQL"),
    ] {
        wire.subscribe("s", sql, json!({})).await;
        let error = wire.next().await;
        assert_eq!(
            (&error["type"], &error["subscription_id"], &error["code"]),
            (&json!("error"), &json!("s"), &json!(code))
        );
    }
    wire.say(&json!({"type": "next_batch", "subscription_id": "nobody"})).await;
    assert_eq!(wire.next().await["code"], "INVALID_SUBSCRIPTION_ID");
    wire.subscribe("", ALL, json!({})).await;
    assert_eq!(wire.next().await["code"], "INVALID_SUBSCRIPTION_ID");
    wire.say(&json!({"type": "shout"})).await;
    assert_eq!(wire.next().await["code"], "PROTOCOL");
    wire.subscribe("which", ALL, json!({"batch_size": -1})).await;
    let error = wire.next().await;
    assert_eq!((&error["subscription_id"], &error["code"]), (&json!("which"), &json!("PROTOCOL")));
    wire.socket.send(Message::binary(vec![1, 2, 3])).await.unwrap();
    assert_eq!(wire.next().await["code"], "UNSUPPORTED_DATA");
    wire.say(&json!({"type": "ping"})).await;
    wire.subscribe("s", ALL, json!({})).await;
    assert_eq!(wire.next().await["type"], "subscription_ack");
}

#[tokio::test]
async fn a_close_is_answered_with_its_code_whether_its_client_is_signed_in_or_not() {
    let server = Server::with_tables(TABLE).await;
    for client in [server.with_token(None), server.with_token(server.token())] {
        let mut wire = Wire::open(&client, "").await;
        let going = CloseFrame { code: CloseCode::Library(4321), reason: "for a reason".into() };
        wire.socket.send(Message::Close(Some(going))).await.unwrap();
        assert_eq!(wire.closed().await.code, Some(4321));
    }
}

#[tokio::test]
async fn each_next_batch_asks_for_one_more_and_the_same_place_is_asked_for_once() {
    let server = Server::with_tables(TABLE).await;
    server.sql("INSERT INTO app.t SELECT value, 'x' FROM generate_series(1, 6)").await;
    let mut wire = Wire::signed_in(&server).await;
    wire.subscribe("s", ALL, json!({"batch_size": 1})).await;
    wire.next().await;
    let first = wire.next().await["batch_control"]["last_seq_id"].clone();
    let more = |after: Value| json!({"type": "next_batch", "subscription_id": "s", "last_seq_id": after});
    for after in [json!(null), json!(null), first.clone(), first.clone(), json!(first.to_string())] {
        wire.say(&more(after)).await;
    }
    for number in 1..=3 {
        assert_eq!(wire.next().await["batch_control"]["batch_num"], number);
    }
    wire.subscribe("other", "SELECT k FROM app.t WHERE k > 50", Value::Null).await;
    assert_eq!(wire.next().await["subscription_id"], "other", "no further batch was asked for");
}

#[tokio::test]
async fn more_connections_than_may_be_open_are_refused_whether_the_others_are_signed_in_or_not() {
    let server = Server::with(&[("LIVE__CONNECTIONS_MAX", "2")]).await;
    let signed_in = Wire::signed_in(&server).await;
    let anonymous = Wire::open(&server.with_token(None), "").await;
    let refused = Wire::try_open(&server, "").await.map(|_| ()).unwrap_err();
    let tokio_tungstenite::tungstenite::Error::Http(answer) = refused else { panic!("{refused:?}") };
    assert_eq!(answer.status(), 503);
    let body: Value = serde_json::from_slice(answer.body().as_ref().unwrap()).unwrap();
    assert_eq!(body["error"]["code"], "OVERLOADED");
    drop((signed_in, anonymous));
    while Wire::try_open(&server, "").await.is_err() {}
}

#[tokio::test]
async fn what_is_sent_and_what_ends_is_counted() {
    let server = Server::with_tables(TABLE).await;
    server.sql("INSERT INTO app.t VALUES (1, 'one')").await;
    let figure = async |name: &str| {
        let served = server.request(reqwest::Method::GET, "/metrics").send().await.unwrap().text().await.unwrap();
        let value = served.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        value.map_or(0, |value| value.parse::<u64>().unwrap())
    };
    let mut wire = Wire::signed_in(&server).await;
    wire.subscribe("s", ALL, json!({})).await;
    let mut heard = vec![wire.next().await, wire.next().await];
    server.sql("INSERT INTO app.t VALUES (2, 'two'), (3, 'three')").await;
    server.sql("DELETE FROM app.t WHERE k = 2").await;
    for _ in 0..3 {
        heard.push(wire.next().await);
    }
    wire.say(&json!({"type": "unsubscribe", "subscription_id": "s"})).await;
    wire.subscribe("killed", ALL, Value::Null).await;
    heard.push(wire.next().await);
    let id = server.rows("SELECT live_id FROM system.live").await[0][0].as_str().unwrap().to_owned();
    server.sql(&format!("KILL LIVE QUERY '{id}'")).await;
    heard.push(wire.next().await);
    wire.subscribe("failed", "SELECT * FROM app.absent", Value::Null).await;
    heard.push(wire.next().await);
    let bytes = heard.iter().map(|message| message.to_string().len() as u64).sum::<u64>();
    assert_eq!(figure("kalamdb_live_changes_sent_total").await, 3);
    assert_eq!(figure("kalamdb_live_messages_sent_total").await, heard.len() as u64);
    assert_eq!(figure("kalamdb_live_sent_bytes_total").await, bytes);
    assert_eq!(figure("kalamdb_live_waiting").await, 0);
    for (reason, count) in [("client", 1), ("killed", 1), ("NOT_FOUND", 1)] {
        assert_eq!(figure(&format!("kalamdb_live_ended_total{{reason=\"{reason}\"}}")).await, count, "{reason}");
    }
    wire.socket.close(None).await.unwrap();
    wire.closed().await;
    while figure("kalamdb_live_connections_ended_total{reason=\"client\"}").await < 1 {}
}

#[tokio::test]
async fn what_one_user_writes_reaches_no_other() {
    let server = Server::with_tables("CREATE USER TABLE app.own (v TEXT)").await;
    let (ann, bob) = (server.user("ann").await, server.user("bob").await);
    let mut wires = [Wire::signed_in(&ann).await, Wire::signed_in(&bob).await];
    for wire in &mut wires {
        wire.subscribe("s", "SELECT v FROM app.own", Value::Null).await;
        wire.next().await;
    }
    ann.sql("INSERT INTO app.own VALUES ('ann''s')").await;
    bob.sql("INSERT INTO app.own VALUES ('bob''s')").await;
    let [for_ann, for_bob] = &mut wires;
    assert_eq!(for_ann.next().await["rows"][0]["v"], "ann's");
    assert_eq!(for_bob.next().await["rows"][0]["v"], "bob's");
}

#[tokio::test]
async fn a_connection_ends_with_its_user_and_a_subscription_with_its_table() {
    let server = Server::with_tables(TABLE).await;
    let ann = server.user("ann").await;
    let mut hers = Wire::signed_in(&ann).await;
    hers.subscribe("s", ALL, Value::Null).await;
    hers.next().await;
    let mut roots = Wire::signed_in(&server).await;
    roots.subscribe("s", ALL, Value::Null).await;
    roots.next().await;
    server.sql("ALTER TABLE app.t SET ACCESS LEVEL restricted").await;
    assert_eq!(hers.next().await["code"], "UNAUTHORIZED");
    server.sql("DROP TABLE app.t").await;
    assert_eq!(roots.next().await["code"], "NOT_FOUND");
    server.sql("DROP USER 'ann'").await;
    assert_eq!(hers.next().await["code"], "UNAUTHORIZED");
    assert_eq!(hers.closed().await.code, Some(1008));
}

#[tokio::test]
async fn sql_says_how_to_subscribe_shows_what_is_live_and_ends_it() {
    let server = Server::with_tables(TABLE).await;
    let how = server.rows("SUBSCRIBE TO app.t WHERE k > 1").await;
    assert_eq!(how[0][1], format!("{}/v1/ws", server.url.replacen("http", "ws", 1)), "the port that it took");
    assert_eq!(how[0][2], "SELECT * FROM app.t WHERE k > 1");
    let ann = server.user("ann").await;
    let mut wire = Wire::signed_in(&ann).await;
    wire.subscribe("hers", ALL, json!({})).await;
    wire.next().await;
    wire.next().await;
    let columns = "live_id, subscription_id, namespace_id, table_name, user_id, query, changes";
    let live = ann.rows(&format!("SELECT {columns} FROM system.live")).await;
    assert_eq!(live.as_array().unwrap().len(), 1);
    assert_eq!(live[0].as_array().unwrap()[1..], ["hers", "app", "t", "ann", ALL, "0"].map(Value::from));
    let bob = server.user("bob").await;
    assert_eq!(bob.rows("SELECT * FROM system.live").await, json!([]));
    let id = live[0][0].as_str().unwrap();
    bob.refused(&format!("KILL LIVE QUERY '{id}'"), 400, "TABLE_NOT_FOUND").await;
    server.sql(&format!("KILL LIVE QUERY '{id}'")).await;
    assert_eq!(wire.next().await["code"], "SUBSCRIPTION_FAILED");
}

#[tokio::test]
async fn behind_a_proxy_the_address_to_subscribe_at_is_the_proxys() {
    let server = Server::with(&[("SERVER__PUBLIC_URL", "https://db.example.com/")]).await;
    server.sql(&format!("CREATE NAMESPACE app; {TABLE}")).await;
    assert_eq!(server.rows("SUBSCRIBE TO app.t").await[0][1], "wss://db.example.com/v1/ws");
}

#[tokio::test]
async fn a_server_that_stops_says_so_and_the_client_goes_on_at_the_next() {
    let server = Server::with_tables(TABLE).await;
    let mut wire = Wire::signed_in(&server).await;
    wire.subscribe("s", ALL, json!({})).await;
    wire.next().await;
    let cursor = wire.next().await["batch_control"]["last_seq_id"].clone();
    server.terminate();
    let closed = wire.closed().await;
    assert_eq!((closed.code, closed.reason.as_str()), (Some(1001), "the server is stopping"));
    let server = server.ended().start().await;
    server.sql("INSERT INTO app.t VALUES (1, 'after')").await;
    let mut wire = Wire::signed_in(&server).await;
    wire.subscribe("s", ALL, json!({"from": cursor})).await;
    assert_eq!(wire.next().await["type"], "subscription_ack");
    assert_eq!(wire.next().await["rows"], json!([]));
    assert_eq!(wire.next().await["rows"][0]["v"], "after");
}
