//! Clients of live queries that mean harm, or are broken: they are told so or cut off, cost bounded memory, and nobody
//! else notices.

use std::io::Write;
use std::sync::Arc;

use flate2::Compression;
use flate2::write::GzEncoder;
use futures::{SinkExt, StreamExt};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{Connector, connect_async_tls_with_config};

use crate::server::{Home, ROOT_PASSWORD, Reply, Server};
use crate::tls::Certificate;
use crate::wire::{PATIENCE, Raw, Wire};

const TABLE: &str = "CREATE SHARED TABLE app.t (k INT PRIMARY KEY, v TEXT) WITH (ACCESS_LEVEL='public')";
const ALL: &str = "SELECT k, v FROM app.t";
/// What hostile clients may cost together, in MiB: far less than what is thrown at the server.
const MEMORY_MIB_MAX: u64 = 96;

/// A server, and somebody who watches a table and must not notice anything.
struct Bystander {
    server: Server,
    wire: Wire,
    written: i64,
}

impl Bystander {
    async fn with(settings: &[(&str, &str)]) -> Self {
        let server = Server::with(settings).await;
        server.sql(&format!("CREATE NAMESPACE app; {TABLE}")).await;
        let mut wire = Wire::signed_in(&server).await;
        wire.subscribe("bystander", ALL, Value::Null).await;
        assert_eq!(wire.next().await["type"], "subscription_ack");
        Self { server, wire, written: 0 }
    }

    /// What is written arrives.
    async fn goes_on(&mut self) {
        self.written += 1;
        self.server.sql(&format!("INSERT INTO app.t VALUES ({}, 'all is well')", 1_000_000 + self.written)).await;
        while self.wire.next().await["rows"][0]["v"] != "all is well" {}
    }

    /// Waits until only the bystander's subscription is left.
    async fn is_alone(&self) {
        while self.server.rows("SELECT subscription_id FROM system.live").await != json!([["bystander"]]) {}
    }
}

/// Waits for something, answering pings meanwhile, as every client does while it listens.
async fn listening_until<T>(wire: &mut Wire, what: impl Future<Output = T>) {
    let listening = async { while wire.next().await["type"] != "never" {} };
    tokio::select! {
        () = listening => {}
        _ = what => {}
    }
}

#[tokio::test]
async fn what_is_malformed_gets_an_error_and_leaves_the_connection_open() {
    let mut bystander = Bystander::with(&[]).await;
    let subscribe = |subscription: Value| json!({"type": "subscribe", "subscription": subscription}).to_string();
    for said in [
        String::new(),
        "{{{{".to_owned(),
        "null".to_owned(),
        "[".repeat(100_000),
        "{\"type\":".repeat(10_000),
        "\u{0}\u{1}\u{7f}".to_owned(),
        json!({"type": "shout"}).to_string(),
        json!({"type": "subscribe"}).to_string(),
        subscribe(json!({"id": 7, "sql": ALL})),
        subscribe(json!({"id": "s", "sql": null})),
        subscribe(json!({"id": "", "sql": ALL})),
        subscribe(json!({"id": "x".repeat(10_000), "sql": ALL})),
        subscribe(json!({"id": "s", "sql": ALL, "options": {"batch_size": -1}})),
        subscribe(json!({"id": "s", "sql": ALL, "options": {"from": "one"}})),
        subscribe(json!({"id": "s", "sql": ALL, "options": {"from": 1e300}})),
        subscribe(json!({"id": "s", "sql": "SELECT ((((".repeat(1_000)})),
        subscribe(
            json!({"id": "s", "sql": format!("SELECT k FROM app.t WHERE {}k{}", "(".repeat(5_000), ")".repeat(5_000))}),
        ),
    ] {
        let mut wire = Wire::signed_in(&bystander.server).await;
        wire.socket.send(Message::text(said.clone())).await.unwrap();
        let shown = &said[..said.len().min(80)];
        assert_eq!(wire.next().await["type"], "error", "{shown}");
        wire.subscribe("s", ALL, Value::Null).await;
        assert_eq!(wire.next().await["type"], "subscription_ack", "{shown}");
    }
    bystander.goes_on().await;
}

#[tokio::test]
async fn cursors_and_sizes_that_make_no_sense_harm_nothing() {
    let mut bystander = Bystander::with(&[]).await;
    bystander.goes_on().await;
    for from in [i64::MIN, -1, 0, 1, i64::MAX - 1, i64::MAX] {
        let mut wire = Wire::signed_in(&bystander.server).await;
        wire.subscribe("s", ALL, json!({"from": from, "batch_size": 0, "last_rows": 0})).await;
        let mut heard = vec![wire.next().await];
        while heard.last().unwrap()["type"] != "initial_data_batch" {
            heard.push(wire.next().await);
        }
        assert!(heard.iter().any(|message| message["code"] == "RESYNC_REQUIRED"), "{from}: {heard:?}");
    }
    for options in [json!({"batch_size": 0}), json!({"batch_size": u64::MAX}), json!({"last_rows": u64::MAX})] {
        let mut wire = Wire::signed_in(&bystander.server).await;
        wire.subscribe("s", ALL, options).await;
        assert_eq!(wire.next().await["type"], "subscription_ack");
        assert_eq!(wire.next().await["rows"][0]["v"], "all is well");
    }
    bystander.goes_on().await;
}

#[tokio::test]
async fn those_who_go_on_are_closed() {
    let settings = [("LIVE__MESSAGE_BYTES_MAX", "10000"), ("LIVE__MESSAGES_PER_SECOND_MAX", "20")];
    let mut bystander = Bystander::with(&settings).await;
    let server = &bystander.server;
    let mut rubbish = Wire::signed_in(server).await;
    for _ in 0..20 {
        // The connection may be closed already.
        drop(rubbish.socket.send(Message::text("{{{{")).await);
    }
    assert_eq!(rubbish.next().await["code"], "PROTOCOL");
    assert_eq!(rubbish.closed().await.code, Some(1008));
    let mut large = Wire::signed_in(server).await;
    for _ in 0..9 {
        large.socket.send(Message::text(format!("\"{}\"", "x".repeat(20_000)))).await.unwrap();
        assert_eq!(large.next().await["code"], "MESSAGE_TOO_LARGE");
        large.subscribe("s", ALL, Value::Null).await;
        assert_eq!(large.next().await["type"], "subscription_ack", "one that is too large is an error, and no more");
    }
    large.socket.send(Message::text("x".repeat(20_000))).await.unwrap();
    assert_eq!(large.closed().await.code, Some(1009));
    let mut far_too_large = Wire::signed_in(server).await;
    // What is not read any more may not be taken either.
    drop(far_too_large.socket.send(Message::text("x".repeat(200_000))).await);
    assert_eq!(far_too_large.next().await["code"], "MESSAGE_TOO_LARGE");
    assert_eq!(far_too_large.closed().await.code, Some(1009));
    let subscribe = json!({"type": "subscribe", "subscription": {"id": "s", "sql": ALL, "options": null}}).to_string();
    for flood in [Message::text(subscribe), Message::Ping(vec![0; 100].into()), Message::Pong(vec![0; 100].into())] {
        let mut wire = Wire::signed_in(server).await;
        for _ in 0..1_000 {
            if wire.socket.send(flood.clone()).await.is_err() {
                break;
            }
        }
        let mut ends = wire.hear().await;
        while let Ok(message) = &ends {
            if message["code"] == "RATE_LIMIT_EXCEEDED" && matches!(flood, Message::Text(_)) {
                assert_eq!(message["subscription_id"], "s");
            }
            ends = wire.hear().await;
        }
        assert_eq!(ends.unwrap_err().code, Some(1008), "{flood:?}");
    }
    bystander.is_alone().await;
    bystander.goes_on().await;
}

#[tokio::test]
async fn frames_that_break_the_protocol_end_the_connection() {
    let mut bystander =
        Bystander::with(&[("LIVE__MESSAGE_BYTES_MAX", "100000"), ("LIVE__IDLE_TIMEOUT_SECONDS", "5")]).await;
    let before = bystander.server.memory_mib();
    let huge = [&[0x82, 0xff][..], &(1u64 << 62).to_be_bytes(), &[0; 4]].concat();
    let masked = |first: u8, payload: &[u8]| {
        let length = u16::try_from(payload.len()).unwrap().to_be_bytes();
        [&[first, 0x80 | 126][..], &length, &[0; 4], payload].concat()
    };
    let endless = [masked(0x01, b"{"), masked(0x00, &[b' '; 1_000]).repeat(2_000)].concat();
    let broken = [
        // Not masked; a reserved opcode; a ping of 200 bytes; a continuation of nothing; 4 EiB announced.
        vec![0x81, 2, b'h', b'i'],
        vec![0x83, 0x80, 0, 0, 0, 0],
        masked(0x89, &[0; 200]),
        vec![0x80, 0x80, 0, 0, 0, 0],
        huge,
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0; 10_000],
        // A message that never ends, and one that is no text.
        endless,
        masked(0x81, &[0xff, 0xfe, 0xfd]),
    ];
    let server = &bystander.server;
    let ends = broken.iter().map(|bytes| async move {
        let mut raw = Raw::open(server).await;
        raw.send(bytes).await;
        raw.ended().await;
    });
    listening_until(&mut bystander.wire, futures::future::join_all(ends)).await;
    let grown = bystander.server.memory_mib().saturating_sub(before);
    assert!(grown < MEMORY_MIB_MAX, "{grown} MiB");
    bystander.goes_on().await;
}

#[tokio::test]
async fn what_unfolds_to_far_more_than_a_message_is_refused() {
    let mut bystander = Bystander::with(&[]).await;
    let before = bystander.server.memory_mib();
    let mut bomb = GzEncoder::new(Vec::new(), Compression::best());
    for _ in 0..256 {
        bomb.write_all(&vec![b' '; 1 << 20]).unwrap();
    }
    let mut wire = Wire::signed_in(&bystander.server).await;
    wire.socket.send(Message::binary(bomb.finish().unwrap())).await.unwrap();
    assert_eq!(wire.next().await["code"], "UNSUPPORTED_DATA");
    let mut packed = Wire::open(&bystander.server, "?serialization=msgpack").await;
    assert_eq!(packed.next().await["type"], "auth_success");
    // An array that announces 4 294 967 295 elements, arrays in arrays, and nothing at all.
    for bytes in [vec![0xdd, 0xff, 0xff, 0xff, 0xff], vec![0x91; 500_000], vec![]] {
        packed.socket.send(Message::binary(bytes)).await.unwrap();
        assert_eq!(packed.next().await["code"], "UNSUPPORTED_DATA");
    }
    let grown = bystander.server.memory_mib().saturating_sub(before);
    assert!(grown < MEMORY_MIB_MAX, "{grown} MiB");
    bystander.goes_on().await;
}

#[tokio::test]
async fn thousands_of_subscriptions_come_and_go_and_leave_nothing() {
    let mut bystander = Bystander::with(&[("LIVE__MESSAGES_PER_SECOND_MAX", "1000000")]).await;
    let mut wire = Wire::signed_in(&bystander.server).await;
    let mut grown = Vec::new();
    for _ in 0..3 {
        for number in 0..2_000 {
            let (id, sql) = (format!("s{}", number % 7), format!("{ALL} WHERE k = {number}"));
            wire.subscribe(&id, &sql, if number % 2 == 0 { json!({}) } else { Value::Null }).await;
            if number % 3 == 0 {
                wire.say(&json!({"type": "unsubscribe", "subscription_id": id})).await;
            }
        }
        wire.subscribe("last", "SELECT nothing FROM app.t", Value::Null).await;
        while wire.next().await["subscription_id"] != "last" {}
        grown.push(bystander.server.memory_mib());
    }
    drop(wire);
    bystander.is_alone().await;
    assert!(grown[2] < grown[0] + MEMORY_MIB_MAX / 2, "{grown:?} MiB");
    bystander.goes_on().await;
}

#[tokio::test]
async fn who_takes_nothing_is_cut_and_costs_bounded_memory() {
    let mut bystander = Bystander::with(&[("LIVE__SEND_TIMEOUT_SECONDS", "1"), ("LIVE__QUEUE_ROWS_MAX", "50")]).await;
    let before = bystander.server.memory_mib();
    let mut stuck = Raw::open(&bystander.server).await;
    stuck.subscribe("SELECT * FROM app.t WHERE k = 1").await;
    let server = &bystander.server;
    server.sql("INSERT INTO app.t VALUES (1, '')").await;
    let live = || async { server.rows("SELECT live_id FROM system.live").await.as_array().unwrap().len() };
    while live().await < 2 {}
    let text = "x".repeat(100_000);
    let (mut written, mut grown) = (0, 0);
    while live().await > 1 {
        server.sql(&format!("UPDATE app.t SET v = '{written}{text}' WHERE k = 1")).await;
        bystander.wire.next().await;
        written += 1;
        grown = grown.max(server.memory_mib().saturating_sub(before));
        assert!(written < 5_000, "it was never cut");
    }
    stuck.ended().await;
    assert!(grown < 2 * MEMORY_MIB_MAX, "{grown} MiB after {written} writes");
    bystander.goes_on().await;
}

#[tokio::test]
async fn who_asks_for_much_on_one_connection_and_reads_nothing_costs_bounded_memory() {
    let mut bystander = Bystander::with(&[("LIVE__MESSAGES_PER_SECOND_MAX", "1000000")]).await;
    let text = "x".repeat(100_000);
    for row in 0..40 {
        bystander.server.sql(&format!("INSERT INTO app.t VALUES ({row}, '{text}')")).await;
        bystander.wire.next().await;
    }
    let before = bystander.server.memory_mib();
    let mut stuck = Raw::open(&bystander.server).await;
    for number in 0..300 {
        stuck.subscribe_as(&format!("s{number}"), ALL).await;
    }
    let server = &bystander.server;
    let live = || async { server.rows("SELECT live_id FROM system.live").await.as_array().unwrap().len() };
    while live().await < 301 {}
    let mut grown = 0;
    // Long enough for the server to make ready what it is going to.
    for _ in 0..200 {
        bystander.goes_on().await;
        grown = grown.max(bystander.server.memory_mib().saturating_sub(before));
    }
    assert!(grown < MEMORY_MIB_MAX, "{grown} MiB");
    drop(stuck);
    bystander.is_alone().await;
    bystander.goes_on().await;
}

#[tokio::test]
async fn a_frame_that_is_announced_and_never_ends_is_not_collected() {
    let mut bystander = Bystander::with(&[("LIVE__IDLE_TIMEOUT_SECONDS", "5")]).await;
    let before = bystander.server.memory_mib();
    let announced = [&[0x82, 0xff][..], &(1u64 << 33).to_be_bytes(), &[0; 4]].concat();
    let mut raw = Raw::open(&bystander.server).await;
    raw.send(&announced).await;
    for _ in 0..256 {
        raw.send(&vec![b' '; 1 << 20]).await;
    }
    let grown = bystander.server.memory_mib().saturating_sub(before);
    assert!(grown < MEMORY_MIB_MAX, "{grown} MiB");
    listening_until(&mut bystander.wire, raw.ended()).await;
    bystander.goes_on().await;
}

#[tokio::test]
async fn who_has_gone_without_a_word_is_noticed() {
    let mut bystander = Bystander::with(&[("LIVE__IDLE_TIMEOUT_SECONDS", "3")]).await;
    let mut half_open = Raw::open(&bystander.server).await;
    half_open.subscribe(ALL).await;
    listening_until(&mut bystander.wire, half_open.ended()).await;
    bystander.is_alone().await;
    bystander.goes_on().await;
}

#[tokio::test]
async fn who_takes_nothing_is_cut_under_tls_too() {
    let certificate = Certificate::new();
    let settings = [&certificate.settings()[..], &[("LIVE__SEND_TIMEOUT_SECONDS", "1")]].concat();
    let server = Home::new(&settings).start_anonymous();
    let trusted = reqwest::Certificate::from_pem(certificate.pem.as_bytes()).unwrap();
    let http = reqwest::Client::builder().no_proxy().add_root_certificate(trusted).build().unwrap();
    let login = json!({"user": "root", "password": ROOT_PASSWORD});
    let login = Reply::of(http.post(format!("{}/v1/api/auth/login", server.url)).json(&login)).await.unwrap();
    let mut root = server.with_token(login.body["access_token"].as_str());
    root.http = http;
    root.sql(&format!("CREATE NAMESPACE app; {TABLE}; INSERT INTO app.t VALUES (1, '')")).await;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(CertificateDer::from_pem_slice(certificate.pem.as_bytes()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = config.with_root_certificates(roots).with_no_client_auth();
    let mut request = format!("{}/v1/ws", server.url.replacen("https", "wss", 1)).into_client_request().unwrap();
    request.headers_mut().insert("Authorization", format!("Bearer {}", root.token().unwrap()).parse().unwrap());
    let connector = Some(Connector::Rustls(Arc::new(config)));
    let (mut stuck, _) = connect_async_tls_with_config(request, None, false, connector).await.unwrap();
    let subscription = json!({"id": "s", "sql": ALL, "options": {}});
    let subscribe = json!({"type": "subscribe", "subscription": subscription}).to_string();
    stuck.send(Message::text(subscribe)).await.unwrap();
    let live = || async { root.rows("SELECT live_id FROM system.live").await.as_array().unwrap().len() };
    while live().await == 0 {}
    let text = "x".repeat(100_000);
    while live().await > 0 {
        root.sql(&format!("UPDATE app.t SET v = '{text}' WHERE k = 1")).await;
    }
    let rest = async { while let Some(Ok(_)) = stuck.next().await {} };
    tokio::time::timeout(PATIENCE, rest).await.expect("the connection was never cut");
}
