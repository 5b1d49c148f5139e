//! A client of `/v1/ws`.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use crate::server::Client;

/// Long enough for anything that is going to happen.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// A connection.
pub(crate) struct Wire {
    pub(crate) socket: WebSocketStream<MaybeTlsStream<TcpStream>>,
    packed: bool,
}

/// How a connection ended.
#[derive(Debug)]
pub(crate) struct Closed {
    pub(crate) code: Option<u16>,
    pub(crate) reason: String,
}

impl Wire {
    /// Connects, with the client's token in the upgrade if it has one.
    pub(crate) async fn open(client: &Client, query: &str) -> Self {
        Self::try_open(client, query).await.unwrap()
    }

    pub(crate) async fn try_open(client: &Client, query: &str) -> Result<Self, tokio_tungstenite::tungstenite::Error> {
        let url = format!("{}/v1/ws{query}", client.url.replacen("http", "ws", 1));
        let mut request = url.into_client_request()?;
        if let Some(token) = client.token() {
            request.headers_mut().insert("Authorization", format!("Bearer {token}").parse().unwrap());
        }
        let (socket, _) = connect_async(request).await?;
        Ok(Self { socket, packed: query.contains("msgpack") })
    }

    /// The same, past `auth_success`.
    pub(crate) async fn signed_in(client: &Client) -> Self {
        let mut wire = Self::open(client, "?compression=none").await;
        assert_eq!(wire.next().await["type"], "auth_success");
        wire
    }

    pub(crate) async fn say(&mut self, message: &Value) {
        self.try_say(message).await.unwrap();
    }

    /// The same over a connection that may be gone.
    pub(crate) async fn try_say(&mut self, message: &Value) -> Result<(), tokio_tungstenite::tungstenite::Error> {
        let frame = match self.packed {
            true => Message::binary(rmp_serde::to_vec_named(message).unwrap()),
            false => Message::text(message.to_string()),
        };
        self.socket.send(frame).await
    }

    pub(crate) async fn subscribe(&mut self, id: &str, sql: &str, options: Value) {
        self.say(&json!({"type": "subscribe", "subscription": {"id": id, "sql": sql, "options": options}})).await;
    }

    /// The next message, or how the connection ended.
    pub(crate) async fn hear(&mut self) -> Result<Value, Closed> {
        loop {
            let next = tokio::time::timeout(PATIENCE, self.socket.next()).await;
            match next.expect("nothing came") {
                None | Some(Err(_)) => return Err(Closed { code: None, reason: String::new() }),
                Some(Ok(Message::Close(frame))) => {
                    let (code, reason) = frame.map(|frame| (frame.code.into(), frame.reason.to_string())).unzip();
                    return Err(Closed { code, reason: reason.unwrap_or_default() });
                }
                Some(Ok(Message::Text(text))) => return Ok(serde_json::from_str(&text).unwrap()),
                Some(Ok(Message::Binary(bytes))) if self.packed => return Ok(rmp_serde::from_slice(&bytes).unwrap()),
                Some(Ok(Message::Binary(bytes))) => {
                    return Ok(serde_json::from_reader(flate2::read::GzDecoder::new(&bytes[..])).unwrap());
                }
                Some(Ok(_)) => {}
            }
        }
    }

    pub(crate) async fn next(&mut self) -> Value {
        self.hear().await.unwrap()
    }

    /// Waits for the end, and says how it was.
    pub(crate) async fn closed(&mut self) -> Closed {
        loop {
            if let Err(closed) = self.hear().await {
                return closed;
            }
        }
    }
}

/// A connection whose client makes its frames by hand, and reads only when it is told to.
pub(crate) struct Raw(TcpStream);

impl Raw {
    /// Upgrades with the client's token, and reads nothing of the answer.
    pub(crate) async fn open(client: &Client) -> Self {
        let host = client.url.trim_start_matches("http://");
        let mut stream = TcpStream::connect(host).await.unwrap();
        let upgrade = format!(
            "GET /v1/ws HTTP/1.1\r\nHost: {host}\r\nAuthorization: Bearer {}\r\nUpgrade: websocket\r\n\
             Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
            client.token().unwrap()
        );
        stream.write_all(upgrade.as_bytes()).await.unwrap();
        Self(stream)
    }

    /// Sends bytes, unless the connection is gone.
    pub(crate) async fn send(&mut self, bytes: &[u8]) {
        drop(self.0.write_all(bytes).await);
    }

    /// A whole frame, masked with zeros.
    pub(crate) async fn frame(&mut self, first: u8, payload: &[u8]) {
        let mut frame = vec![first];
        match u16::try_from(payload.len()) {
            Ok(short) if short < 126 => frame.push(0x80 | short as u8),
            Ok(length) => {
                frame.push(0x80 | 126);
                frame.extend_from_slice(&length.to_be_bytes());
            }
            Err(_) => {
                frame.push(0x80 | 127);
                frame.extend_from_slice(&(payload.len() as u64).to_be_bytes());
            }
        }
        frame.extend_from_slice(&[0; 4]);
        frame.extend_from_slice(payload);
        self.send(&frame).await;
    }

    pub(crate) async fn subscribe(&mut self, sql: &str) {
        self.subscribe_as("s", sql).await;
    }

    pub(crate) async fn subscribe_as(&mut self, id: &str, sql: &str) {
        let subscription = json!({"id": id, "sql": sql, "options": {}});
        self.frame(0x81, json!({"type": "subscribe", "subscription": subscription}).to_string().as_bytes()).await;
    }

    /// Reads whatever comes until the server ends the connection. How many bytes that was.
    pub(crate) async fn ended(mut self) -> usize {
        let mut sink = vec![0; 65_536];
        let all = async {
            let mut got = 0;
            loop {
                match self.0.read(&mut sink).await {
                    Ok(0) | Err(_) => return got,
                    Ok(bytes) => got += bytes,
                }
            }
        };
        tokio::time::timeout(PATIENCE, all).await.expect("the server never ended the connection")
    }
}
