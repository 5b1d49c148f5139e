//! The life of a connection: signing in, three loops, and the end.

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use actix_ws::{AggregatedMessage, AggregatedMessageStream, CloseCode, CloseReason, ProtocolError, Session};
use kalamdb_commons::clock::Stopwatch;
use kalamdb_commons::{Error, ErrorKind};
use kalamdb_core::live::{LiveCode, LiveDelivery, LiveError, LiveEvent, LiveSession};

use super::inbound::{self, Allowance, Message};
use super::outbound::{Format, Frame, LiveWord, Protocol};
use super::socket::Socket;
use crate::app::{App, Arrival};

/// How long a client has to sign in.
const SIGN_IN_WAIT: Duration = Duration::from_secs(3);
/// How often rights are looked at while they go on changing: they must end within a second.
const CHECK_EVERY: Duration = Duration::from_millis(400);
/// The shortest sleep between two looks at the clock.
const WAIT_MIN: Duration = Duration::from_millis(1);
/// How many messages that are not understood, or too many, a client may send.
const STRIKES_MAX: u32 = 10;
/// After so long without one they are forgotten.
const STRIKES_LAST: Duration = Duration::from_secs(60);
/// How long a client may take to read why it is closed.
const FAREWELL_WAIT: Duration = Duration::from_secs(5);

/// Who connects, as far as the upgrade says.
pub(super) struct Visitor {
    /// The bearer token.
    pub(super) token: Option<String>,
    /// From where, for the audit log.
    pub(super) address: Option<String>,
    pub(super) socket: Option<Arc<Socket>>,
}

/// Why a connection ends.
#[derive(Debug)]
enum End {
    /// The client has gone.
    Gone,
    /// It is told why.
    Closed(CloseCode, String),
    /// It takes nothing, so it cannot be told.
    Stuck,
}

fn policy(reason: impl Into<String>) -> End {
    End::Closed(CloseCode::Policy, reason.into())
}

fn stopping() -> End {
    End::Closed(CloseCode::Away, "the server is stopping".to_owned())
}

/// A connection that is signed in.
struct Connection {
    app: App,
    arrival: Arrival,
    live: LiveSession,
    protocol: Protocol,
    session: Session,
    last_heard: Cell<Stopwatch>,
}

/// Serves a connection until it ends.
pub(super) async fn run(
    app: App,
    from: Visitor,
    protocol: Protocol,
    mut session: Session,
    mut messages: AggregatedMessageStream,
) {
    let (arrival, socket) = (app.new_arrival(), from.socket.clone());
    let end = match sign_in(&app, from, protocol, &mut session, &mut messages).await {
        Ok((live, protocol)) => {
            let last_heard = Cell::new(Stopwatch::start());
            let mut connection = Connection { app, arrival, live, protocol, session: session.clone(), last_heard };
            connection.serve(&mut messages).await
        }
        Err(end) => end,
    };
    let told = match end {
        End::Gone => true,
        End::Stuck => false,
        End::Closed(code, reason) => {
            tracing::debug!(reason, "a live connection is closed");
            let closing = session.close(Some(CloseReason { code, description: Some(reason) }));
            tokio::time::timeout(FAREWELL_WAIT, closing).await.is_ok()
        }
    };
    if let (false, Some(socket)) = (told, socket) {
        socket.cut();
    }
}

/// Waits for credentials, unless the upgrade carried them, and answers them.
async fn sign_in(
    app: &App,
    from: Visitor,
    protocol: Protocol,
    session: &mut Session,
    messages: &mut AggregatedMessageStream,
) -> Result<(LiveSession, Protocol), End> {
    let Visitor { token, address, .. } = from;
    let (token, protocol) = match token {
        Some(token) => (token, protocol),
        None => match tokio::time::timeout(SIGN_IN_WAIT, credentials(messages, protocol)).await {
            Ok(Ok(given)) => given,
            Ok(Err(Some(message))) => return Err(refused(session, &message).await),
            Ok(Err(None)) => return Err(End::Gone),
            Err(_) => return Err(refused(session, "no credentials came within 3 seconds").await),
        },
    };
    match app.engine.open_live(&token, address) {
        Ok(live) => {
            send(session, protocol.auth_success(live.actor())).await?;
            Ok((live, protocol))
        }
        Err(error) if error.kind() == ErrorKind::Overloaded => {
            drop(send(session, Protocol::auth_error(error.message())).await);
            Err(End::Closed(CloseCode::Again, error.message().to_owned()))
        }
        Err(error) => Err(refused(session, error.message()).await),
    }
}

async fn refused(session: &mut Session, message: &str) -> End {
    // Whoever has gone needs no answer.
    drop(send(session, Protocol::auth_error(message)).await);
    policy(message)
}

/// The first message, which must be credentials. `Err(None)` if the client went away.
async fn credentials(
    messages: &mut AggregatedMessageStream,
    protocol: Protocol,
) -> Result<(String, Protocol), Option<String>> {
    loop {
        let message = match messages.recv().await {
            None | Some(Ok(AggregatedMessage::Close(_)) | Err(_)) => return Err(None),
            Some(Ok(AggregatedMessage::Text(text))) => inbound::json(text.as_bytes()),
            Some(Ok(AggregatedMessage::Binary(bytes))) if protocol.format == Format::MessagePack => {
                inbound::message_pack(&bytes)
            }
            Some(Ok(AggregatedMessage::Binary(_))) => Err("the first message must be authenticate".to_owned()),
            Some(Ok(_)) => continue,
        };
        return match message.map_err(Some)? {
            Message::Authenticate { method, token, protocol: wish } if method == "jwt" => {
                let protocol = match wish {
                    Some(wish) => {
                        super::Wishes { serialization: wish.serialization, compression: wish.compression }.protocol()
                    }
                    None => protocol,
                };
                Ok((token, protocol))
            }
            Message::Authenticate { .. } => Err(Some("the one method of authentication here is jwt".to_owned())),
            _ => Err(Some("the first message must be authenticate".to_owned())),
        };
    }
}

async fn send(session: &mut Session, frame: Frame) -> Result<(), End> {
    let sent = match frame {
        Frame::Text(text) => session.text(text).await,
        Frame::Binary(bytes) => session.binary(bytes).await,
    };
    sent.map_err(|_closed| End::Gone)
}

impl Connection {
    async fn serve(&mut self, messages: &mut AggregatedMessageStream) -> End {
        let (reading, writing, watching) = (self.session.clone(), self.session.clone(), self.session.clone());
        let this = &*self;
        tokio::select! {
            end = this.read(messages, reading) => end,
            end = this.write(writing) => end,
            end = this.watch(watching) => end,
        }
    }

    /// Takes what the client says.
    async fn read(&self, messages: &mut AggregatedMessageStream, mut session: Session) -> End {
        let settings = &self.app.settings.live;
        let mut allowance = Allowance::new(settings.messages_per_second_max);
        let (mut strikes, mut last_strike) = (0, Stopwatch::start());
        loop {
            let message = match messages.recv().await {
                None => return End::Gone,
                Some(Err(ProtocolError::Overflow)) => return self.too_large(session).await,
                Some(Err(error)) => return End::Closed(CloseCode::Protocol, error.to_string()),
                Some(Ok(message)) => message,
            };
            self.last_heard.set(Stopwatch::start());
            let is_allowed = allowance.take();
            let understood = match message {
                AggregatedMessage::Close(_) => return End::Gone,
                _ if !is_allowed => {
                    let max = settings.messages_per_second_max;
                    Err((
                        "RATE_LIMIT_EXCEEDED",
                        format!("more than {max} messages a second (live.messages_per_second_max)"),
                    ))
                }
                AggregatedMessage::Pong(_) => continue,
                AggregatedMessage::Ping(bytes) => match session.pong(&bytes).await {
                    Ok(()) => continue,
                    Err(_closed) => return End::Gone,
                },
                AggregatedMessage::Text(text) if self.protocol.format == Format::Json => {
                    inbound::json(text.as_bytes()).map_err(|message| ("PROTOCOL", message))
                }
                AggregatedMessage::Text(_) => {
                    Err(("UNSUPPORTED_DATA", "messages here are binary MessagePack".to_owned()))
                }
                AggregatedMessage::Binary(bytes) => match self.protocol.format {
                    Format::Json => inbound::gzip(&bytes, settings.message_bytes_max),
                    Format::MessagePack => inbound::message_pack(&bytes),
                }
                .map_err(|message| ("UNSUPPORTED_DATA", message)),
            };
            let outcome = match understood {
                Ok(message) => self.carry_out(message, &mut session).await,
                Err((code, message)) => {
                    strikes = if last_strike.elapsed() > STRIKES_LAST { 1 } else { strikes + 1 };
                    last_strike = Stopwatch::start();
                    if strikes >= STRIKES_MAX {
                        return policy(message);
                    }
                    self.complain(&mut session, "", code, &message).await
                }
            };
            if let Err(end) = outcome {
                return end;
            }
        }
    }

    async fn too_large(&self, mut session: Session) -> End {
        let max = self.app.settings.live.message_bytes_max;
        let message = format!("a message has more than {max} bytes (live.message_bytes_max)");
        match self.complain(&mut session, "", "MESSAGE_TOO_LARGE", &message).await {
            Ok(()) => End::Closed(CloseCode::Size, message),
            Err(end) => end,
        }
    }

    async fn carry_out(&self, message: Message, session: &mut Session) -> Result<(), End> {
        let (id, refused) = match message {
            Message::Ping => return Ok(()),
            Message::Authenticate { .. } => {
                return self.complain(session, "", "PROTOCOL", "the connection is signed in already").await;
            }
            Message::Subscribe { subscription } => {
                let options = subscription.options.map(Into::into);
                (subscription.id.clone(), self.live.subscribe(&subscription.id, &subscription.sql, options))
            }
            Message::NextBatch { subscription_id } => {
                let outcome = self.live.next_batch(&subscription_id);
                (subscription_id, outcome)
            }
            Message::Unsubscribe { subscription_id } => {
                self.live.unsubscribe(&subscription_id);
                return Ok(());
            }
        };
        match refused {
            Ok(()) => Ok(()),
            Err(error) => send(session, self.error(&id, &error)?).await,
        }
    }

    async fn complain(&self, session: &mut Session, id: &str, code: &str, message: &str) -> Result<(), End> {
        let frame = self.protocol.error(id, code, message).map_err(|error| self.broken(&error))?;
        send(session, frame).await
    }

    fn error(&self, id: &str, error: &LiveError) -> Result<Frame, End> {
        let message = self.arrival.audience(Some(self.live.actor().role)).message(&error.error);
        self.protocol.error(id, error.code.word(), &message).map_err(|error| self.broken(&error))
    }

    fn broken(&self, error: &Error) -> End {
        End::Closed(CloseCode::Error, self.arrival.audience(None).message(error))
    }

    /// Sends what the subscriptions have.
    async fn write(&self, mut session: Session) -> End {
        loop {
            let delivery = self.live.next().await;
            if let Err(end) = self.deliver(&mut session, delivery).await {
                return end;
            }
        }
    }

    async fn deliver(&self, session: &mut Session, delivery: LiveDelivery) -> Result<(), End> {
        let LiveDelivery { subscription: id, event } = delivery;
        let frame = match &event {
            LiveEvent::Ack { total_rows, control, schema, flags } => {
                self.protocol.ack(&id, *total_rows, *control, schema, flags)
            }
            LiveEvent::Batch { rows, control } => self.protocol.batch(&id, rows, *control),
            LiveEvent::ResyncRequired => {
                let message = "what came after the cursor is not all there any more; a full snapshot follows";
                self.protocol.error(&id, LiveCode::ResyncRequired.word(), message)
            }
            LiveEvent::Ended(error) => Ok(self.error(&id, error)?),
            LiveEvent::Changes(changes) => {
                for change in changes.iter() {
                    let frame = self.protocol.change(&id, change).map_err(|error| self.broken(&error))?;
                    self.send_in_time(session, frame).await?;
                }
                return Ok(());
            }
        };
        self.send_in_time(session, frame.map_err(|error| self.broken(&error))?).await
    }

    /// Sends a frame, unless the client takes nothing. Each frame has its own wait: a long list to a slow client is
    /// progress.
    async fn send_in_time(&self, session: &mut Session, frame: Frame) -> Result<(), End> {
        let wait = Duration::from_secs(self.app.settings.live.send_timeout_seconds);
        tokio::time::timeout(wait, send(session, frame)).await.unwrap_or_else(|_| {
            tracing::info!(user = %self.live.actor().user, "a live connection takes nothing and is cut");
            Err(End::Stuck)
        })
    }

    /// Sees to it that the connection ends in time: with its rights, with its client, with the server. It sleeps until
    /// one of them may have to do with it, so that a connection where nothing happens costs nothing.
    async fn watch(&self, mut session: Session) -> End {
        let mut rights = self.live.rights();
        let mut pinged = Stopwatch::start();
        loop {
            if let Err(error) = self.live.check() {
                return self.signed_out(session, &error).await;
            }
            let checked = Stopwatch::start();
            let wait = match self.ping(&mut session, &mut pinged).await {
                Ok(wait) => wait.min(self.live.expires_in()).max(WAIT_MIN),
                Err(end) => return end,
            };
            tokio::select! {
                () = self.app.drains() => return stopping(),
                changed = tokio::time::timeout(wait, rights.changed()) => {
                    // Many changes are looked at together.
                    let rest = CHECK_EVERY.saturating_sub(checked.elapsed());
                    if changed.is_ok() && tokio::time::timeout(rest, self.app.drains()).await.is_ok() {
                        return stopping();
                    }
                }
            }
        }
    }

    /// Asks a client that is silent whether it is there. Returns when to ask again.
    async fn ping(&self, session: &mut Session, pinged: &mut Stopwatch) -> Result<Duration, End> {
        let idle_max = Duration::from_secs(self.app.settings.live.idle_timeout_seconds);
        let idle = self.last_heard.get().elapsed();
        if idle >= idle_max {
            return Err(policy(format!("nothing was heard for {} s (live.idle_timeout_seconds)", idle_max.as_secs())));
        }
        if idle >= idle_max / 3 && pinged.elapsed() >= idle_max / 3 {
            *pinged = Stopwatch::start();
            // A client that takes nothing is the writer's to judge; its silence is judged here.
            let ping = tokio::time::timeout(CHECK_EVERY, session.ping(b""));
            if let Ok(Err(_closed)) = ping.await {
                return Err(End::Gone);
            }
        }
        let until_ping = (idle_max / 3).saturating_sub(idle.min(pinged.elapsed()));
        Ok(until_ping.min(idle_max.saturating_sub(idle)))
    }

    async fn signed_out(&self, mut session: Session, error: &Error) -> End {
        let told = self.complain(&mut session, "", LiveCode::Unauthorized.word(), error.message());
        match tokio::time::timeout(CHECK_EVERY, told).await {
            Ok(Err(end)) => end,
            Ok(Ok(())) | Err(_) => policy(error.message().to_owned()),
        }
    }
}
