//! Traces, received by a collector in this process.

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

use super::server::Server;

/// A request that a collector got.
#[derive(Debug)]
struct Received {
    head: String,
    body: Vec<u8>,
}

/// Takes one request, and answers it as collectors do.
async fn receive(listener: &TcpListener) -> Received {
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut bytes = Vec::new();
    loop {
        let mut piece = [0; 4_096];
        let count = stream.read(&mut piece).await.unwrap();
        assert!(count > 0, "the request broke off: {}", String::from_utf8_lossy(&bytes));
        bytes.extend_from_slice(&piece[..count]);
        let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8(bytes[..end].to_vec()).unwrap().to_lowercase();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse::<usize>().ok());
        if bytes.len() - end - 4 == length.expect("it says its length") {
            let answer = "HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n";
            stream.write_all(answer.as_bytes()).await.unwrap();
            return Received { head, body: bytes[end + 4..].to_vec() };
        }
    }
}

fn holds(body: &[u8], text: &str) -> bool {
    body.windows(text.len()).any(|window| window == text.as_bytes())
}

#[tokio::test]
async fn a_collector_gets_the_spans_of_a_request_under_its_id() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let endpoint = format!("http://{}", listener.local_addr().unwrap());
    let settings = [("TRACING__OTLP_ENDPOINT", endpoint.as_str()), ("TRACING__SERVICE_NAME", "a-service")];
    let server = Server::with(&settings).await;
    let reply = server.ask("SELECT 'my own words'").await;
    let id = reply.headers["x-request-id"].to_str().unwrap().to_owned();
    server.terminate();
    let received = receive(&listener).await;
    server.ended();
    assert!(received.head.starts_with("post /v1/traces http/1.1"), "{}", received.head);
    assert!(received.head.contains("content-type: application/x-protobuf"), "{}", received.head);
    for text in ["a-service", "service.instance.id", "sql", "statement", "request_id", &id, "SELECT"] {
        assert!(holds(&received.body, text), "{text} is not in what was sent");
    }
    assert!(!holds(&received.body, "my own words"), "what a user wrote was sent");
}

#[tokio::test]
async fn a_collector_that_is_away_costs_spans_and_nothing_else() {
    let free = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap();
    let server = Server::with(&[("TRACING__OTLP_ENDPOINT", &format!("http://{free}"))]).await;
    assert_eq!(server.rows("SELECT 1").await, serde_json::json!([["1"]]));
    let log = server.stop().logs();
    assert!(log.contains("traces could not be sent"), "{log}");
}
