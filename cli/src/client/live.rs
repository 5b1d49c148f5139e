//! Live queries: a WebSocket that is opened again when it breaks.

use std::time::Duration;

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream, connect_async};

use super::{CONNECT_TIMEOUT, Client, chain};
use crate::failure::Failure;

/// The first wait before connecting again; each further one is twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(250);
/// The longest.
const WAIT_MAX: Duration = Duration::from_secs(10);
/// How often the server is told that somebody is there.
const PING_EVERY: Duration = Duration::from_secs(10);

/// An open connection.
pub(crate) struct Live(WebSocketStream<MaybeTlsStream<TcpStream>>);

/// What came over a connection.
pub(crate) enum Heard {
    /// A message.
    Message(Value),
    /// The end of the connection, in words.
    End(String),
}

impl Client {
    /// Opens a connection that is signed in. `Err` is why it could not be, in words; it may work later.
    pub(crate) fn open_live(&self) -> Result<Live, String> {
        let url = self.url("/v1/ws?compression=none").replacen("http", "ws", 1);
        let mut request = url.into_client_request().map_err(|error| chain(&error))?;
        let bearer = format!("Bearer {}", self.token).parse().map_err(|_| "the token is not a header".to_owned())?;
        request.headers_mut().insert("Authorization", bearer);
        let (socket, _) = self.runtime.block_on(async {
            let connected = tokio::time::timeout(CONNECT_TIMEOUT, connect_async(request)).await;
            connected.map_err(|_| "no answer in time".to_owned())?.map_err(|error| chain(&error))
        })?;
        let mut live = Live(socket);
        match self.hear(&mut live).map_err(|failure| failure.to_string())? {
            Heard::Message(message) if message["type"] == "auth_success" => Ok(live),
            Heard::Message(message) => Err(message["message"].as_str().unwrap_or("not signed in").to_owned()),
            Heard::End(reason) => Err(reason),
        }
    }

    /// Signs in again, for a connection that the server ended.
    pub(crate) fn sign_in_again(&mut self) -> Result<(), Failure> {
        self.log_in()
    }

    /// Waits before the attempt after `failed` that failed.
    pub(crate) fn wait_before_attempt(&self, failed: u32) -> Result<(), Failure> {
        let wait = FIRST_WAIT.saturating_mul(1 << failed.min(10)).min(WAIT_MAX);
        let interrupted = self
            .runtime
            .block_on(async { tokio::time::timeout(wait, super::interrupt(self.interruptible)).await.is_ok() });
        if interrupted { Err(Failure::Interrupted) } else { Ok(()) }
    }

    /// Says something. What is lost with the connection is noticed when listening.
    pub(crate) fn say(&self, live: &mut Live, message: &Value) {
        let _lost_with_the_connection = self.runtime.block_on(live.0.send(Message::text(message.to_string())));
    }

    /// Waits for the next message.
    pub(crate) fn hear(&self, live: &mut Live) -> Result<Heard, Failure> {
        self.runtime.block_on(async {
            let mut pings = tokio::time::interval(PING_EVERY);
            pings.reset();
            loop {
                let next = tokio::select! {
                    biased;
                    () = super::interrupt(self.interruptible) => return Err(Failure::Interrupted),
                    next = live.0.next() => next,
                    _ = pings.tick() => {
                        let ping = json!({"type": "ping"}).to_string();
                        let _noticed_when_listening = live.0.send(Message::text(ping)).await;
                        continue;
                    }
                };
                return Ok(match next {
                    None => Heard::End("the connection ended".to_owned()),
                    Some(Err(error)) => Heard::End(chain(&error)),
                    Some(Ok(Message::Close(frame))) => Heard::End(
                        frame.map_or_else(|| "the connection was closed".to_owned(), |f| f.reason.to_string()),
                    ),
                    Some(Ok(Message::Text(text))) => match serde_json::from_str(&text) {
                        Ok(message) => Heard::Message(message),
                        Err(error) => return Err(Failure::Protocol(format!("a message is not readable: {error}"))),
                    },
                    Some(Ok(_)) => continue,
                });
            }
        })
    }
}
