//! The life of a connection: signing in, three loops, and the end.

use std::cell::Cell;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix_ws::{AggregatedMessage, AggregatedMessageStream, CloseCode, CloseReason, Closed, ProtocolError};
use kalamdb_commons::Error;
use kalamdb_commons::clock::Stopwatch;
use kalamdb_core::live::{LiveCode, LiveDelivery, LiveError, LiveEvent, LivePlace, LiveSession};

use super::inbound::{self, Allowance, Message, Misunderstood};
use super::outbound::{Format, Frame, Protocol};
use super::outflow::{Outflow, Stuck};
use super::sieve::HeldBack;
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
/// The same for one that may no longer read what is on its way to it: what is left of a second.
const SIGNED_OUT_WAIT: Duration = Duration::from_millis(300);

/// Who connects, as far as the upgrade says.
pub(super) struct Visitor {
    /// The bearer token.
    pub(super) token: Option<String>,
    /// From where, for the audit log.
    pub(super) address: Option<String>,
    pub(super) socket: Option<Arc<Socket>>,
    /// Among the connections that may be open.
    pub(super) place: LivePlace,
}

/// What a client sends.
pub(super) struct Inflow {
    pub(super) messages: AggregatedMessageStream,
    pub(super) held_back: Rc<HeldBack>,
}

/// What came of it.
enum Came {
    Message(AggregatedMessage),
    /// A message that was too large, and was dropped.
    TooLarge,
    /// The same, and nothing comes after it.
    FarTooLarge,
    /// What breaks the rules of WebSocket.
    Broken(ProtocolError),
    /// The client has gone.
    Nothing,
}

impl Inflow {
    async fn next(&mut self) -> Came {
        let next = tokio::select! {
            biased;
            next = self.messages.recv() => next,
            () = self.held_back.next() => return Came::TooLarge,
        };
        match next {
            None => Came::Nothing,
            Some(Ok(message)) => Came::Message(message),
            Some(Err(_)) if self.held_back.is_final() => Came::FarTooLarge,
            Some(Err(error)) => Came::Broken(error),
        }
    }
}

/// Why a connection ends.
#[derive(Debug)]
enum End {
    /// The client has gone.
    Gone,
    /// It has said that it goes.
    Left(Option<CloseReason>),
    /// It is told why.
    Closed(CloseCode, String),
    /// It has lost its rights, and is told so with a last message.
    SignedOut(Frame, String),
    /// The same after it said nothing for too long.
    Silent(String),
    /// It takes nothing, so it cannot be told.
    Stuck,
}

impl End {
    /// As metrics say it.
    fn word(&self) -> &'static str {
        match self {
            Self::Gone => "gone",
            Self::Left(_) => "client",
            Self::SignedOut(..) => "signed_out",
            Self::Silent(_) => "idle",
            Self::Stuck => "stuck",
            Self::Closed(CloseCode::Away, _) => "stopping",
            Self::Closed(CloseCode::Error, _) => "failed",
            Self::Closed(..) => "misbehaved",
        }
    }
}

impl From<Closed> for End {
    fn from(_: Closed) -> Self {
        Self::Gone
    }
}

impl From<Stuck> for End {
    fn from(_: Stuck) -> Self {
        Self::Stuck
    }
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
    out: Outflow,
    last_heard: Cell<Stopwatch>,
}

/// Serves a connection until it ends.
pub(super) async fn run(app: App, from: Visitor, protocol: Protocol, mut out: Outflow, mut inflow: Inflow) {
    let (arrival, socket) = (app.new_arrival(), from.socket.clone());
    let (end, why) = match sign_in(&from, protocol, &mut out, &mut inflow).await {
        Ok((live, protocol)) => {
            let last_heard = Cell::new(Stopwatch::start());
            let connection = Connection { app, arrival, live, protocol, out: out.clone(), last_heard };
            let end = connection.serve(&mut inflow).await;
            let why = end.word();
            (end, why)
        }
        Err(end) => (end, "refused"),
    };
    from.place.ends(why);
    if !farewell(end, out).await
        && let Some(socket) = socket
    {
        socket.cut();
    }
}

/// Ends a connection in order. Whether its client has taken that.
async fn farewell(end: End, mut out: Outflow) -> bool {
    let closing = |code, description| Some(CloseReason { code, description: Some(description) });
    let (reason, wait, last) = match end {
        End::Gone => return true,
        End::Stuck => return false,
        // Its own code comes back, as the protocol wants it.
        End::Left(reason) => (reason.map(|reason| reason.code.into()), FAREWELL_WAIT, None),
        End::Closed(code, reason) => (closing(code, reason), FAREWELL_WAIT, None),
        End::Silent(reason) => (closing(CloseCode::Policy, reason), FAREWELL_WAIT, None),
        End::SignedOut(last, reason) => (closing(CloseCode::Policy, reason), SIGNED_OUT_WAIT, Some(last)),
    };
    tracing::debug!(?reason, "a live connection is closed");
    let words = async {
        if let Some(last) = last
            && out.send(last).await.is_err()
        {
            return;
        }
        out.close(reason).await;
    };
    tokio::time::timeout(wait, words).await.is_ok()
}

/// Waits for credentials, unless the upgrade carried them, and answers them.
async fn sign_in(
    from: &Visitor,
    protocol: Protocol,
    out: &mut Outflow,
    inflow: &mut Inflow,
) -> Result<(LiveSession, Protocol), End> {
    let (token, protocol) = match from.token.clone() {
        Some(token) => (token, protocol),
        None => match tokio::time::timeout(SIGN_IN_WAIT, credentials(inflow, protocol)).await {
            Ok(Ok(given)) => given,
            Ok(Err(Stranger::Leaves(end))) => return Err(end),
            Ok(Err(Stranger::Asks(refused))) => {
                let Misunderstood { subscription, reason } = &refused;
                if !subscription.is_empty()
                    && let Ok(frame) = protocol.error(subscription, "AUTH_REQUIRED", reason)
                {
                    out.send(frame).await?;
                }
                return Err(refusal(out, reason).await);
            }
            Err(_) => return Err(refusal(out, "no credentials came within 3 seconds").await),
        },
    };
    match from.place.sign_in(&token, from.address.clone()) {
        Ok(live) => {
            out.send(protocol.auth_success(live.actor())).await?;
            Ok((live, protocol))
        }
        Err(error) => Err(refusal(out, error.message()).await),
    }
}

async fn refusal(out: &mut Outflow, message: &str) -> End {
    // Whoever has gone needs no answer.
    drop(out.send(Protocol::auth_error(message)).await);
    policy(message)
}

/// Who does not sign in.
enum Stranger {
    /// Goes, or breaks the rules.
    Leaves(End),
    /// Wants something else, of a subscription or not.
    Asks(Misunderstood),
}

impl Stranger {
    fn asks(reason: &str) -> Self {
        Self::Asks(Misunderstood { subscription: String::new(), reason: reason.to_owned() })
    }
}

/// The first message, which must be credentials.
async fn credentials(inflow: &mut Inflow, protocol: Protocol) -> Result<(String, Protocol), Stranger> {
    const FIRST: &str = "the first message must be authenticate";
    loop {
        let message = match inflow.next().await {
            Came::Nothing | Came::Broken(_) => return Err(Stranger::Leaves(End::Gone)),
            Came::TooLarge | Came::FarTooLarge => return Err(Stranger::asks(FIRST)),
            Came::Message(AggregatedMessage::Close(reason)) => return Err(Stranger::Leaves(End::Left(reason))),
            Came::Message(AggregatedMessage::Text(text)) => inbound::json(text.as_bytes()),
            Came::Message(AggregatedMessage::Binary(bytes)) if protocol.format == Format::MessagePack => {
                inbound::message_pack(&bytes)
            }
            Came::Message(AggregatedMessage::Binary(_)) => return Err(Stranger::asks(FIRST)),
            Came::Message(_) => continue,
        };
        return match message.map_err(Stranger::Asks)? {
            Message::Authenticate { method, token, protocol: wish } if method == "jwt" => {
                let protocol = match wish {
                    Some(wish) => {
                        super::Wishes { serialization: wish.serialization, compression: wish.compression }.protocol()
                    }
                    None => protocol,
                };
                Ok((token, protocol))
            }
            Message::Authenticate { .. } => Err(Stranger::asks("the one method of authentication here is jwt")),
            other => {
                let subscription = other.subscription().unwrap_or_default().to_owned();
                Err(Stranger::Asks(Misunderstood { subscription, reason: FIRST.to_owned() }))
            }
        };
    }
}

/// What of a client's messages is not carried out, and why.
struct Refused {
    subscription: String,
    code: &'static str,
    message: String,
    /// How the connection is closed if that goes on.
    close: CloseCode,
}

impl Refused {
    fn of(code: &'static str, Misunderstood { subscription, reason }: Misunderstood) -> Self {
        Self { subscription, code, message: reason, close: CloseCode::Policy }
    }
}

impl Connection {
    async fn serve(&self, inflow: &mut Inflow) -> End {
        tokio::select! {
            end = self.read(inflow) => end,
            end = self.write() => end,
            end = self.watch() => end,
        }
    }

    /// Takes what the client says.
    async fn read(&self, inflow: &mut Inflow) -> End {
        let mut out = self.out.clone();
        let mut allowance = Allowance::new(self.app.settings.live.messages_per_second_max);
        let (mut strikes, mut last_strike) = (0, Stopwatch::start());
        loop {
            let came = inflow.next().await;
            self.last_heard.set(Stopwatch::start());
            let is_allowed = allowance.take();
            let understood = match came {
                Came::Nothing => return End::Gone,
                Came::Broken(error) => return End::Closed(CloseCode::Protocol, error.to_string()),
                Came::FarTooLarge => return self.far_too_large(out).await,
                Came::TooLarge => Err(self.too_large()),
                Came::Message(AggregatedMessage::Close(reason)) => return End::Left(reason),
                Came::Message(AggregatedMessage::Pong(_)) if is_allowed => continue,
                Came::Message(AggregatedMessage::Ping(bytes)) if is_allowed => match out.pong(&bytes).await {
                    Ok(()) => continue,
                    Err(closed) => return closed.into(),
                },
                Came::Message(message) if is_allowed => self.understand(&message),
                Came::Message(message) => Err(self.too_many(&message)),
            };
            let outcome = match understood {
                Ok(message) => self.carry_out(message, &mut out).await,
                Err(refused) => {
                    strikes = if last_strike.elapsed() > STRIKES_LAST { 1 } else { strikes + 1 };
                    last_strike = Stopwatch::start();
                    if strikes >= STRIKES_MAX {
                        return End::Closed(refused.close, refused.message);
                    }
                    self.complain(&mut out, &refused.subscription, refused.code, &refused.message).await
                }
            };
            if let Err(end) = outcome {
                return end;
            }
        }
    }

    fn understand(&self, message: &AggregatedMessage) -> Result<Message, Refused> {
        let (code, understood) = match (message, self.protocol.format) {
            (AggregatedMessage::Text(text), Format::Json) => ("PROTOCOL", inbound::json(text.as_bytes())),
            (AggregatedMessage::Binary(bytes), Format::Json) => {
                ("UNSUPPORTED_DATA", inbound::gzip(bytes, self.app.settings.live.message_bytes_max))
            }
            (AggregatedMessage::Binary(bytes), Format::MessagePack) => {
                ("UNSUPPORTED_DATA", inbound::message_pack(bytes))
            }
            _ => {
                let reason = "messages here are binary MessagePack".to_owned();
                ("UNSUPPORTED_DATA", Err(Misunderstood { subscription: String::new(), reason }))
            }
        };
        understood.map_err(|misunderstood| Refused::of(code, misunderstood))
    }

    fn too_many(&self, message: &AggregatedMessage) -> Refused {
        let max = self.app.settings.live.messages_per_second_max;
        let reason = format!("more than {max} messages a second (live.messages_per_second_max)");
        // Read all the same, for the client must know what was not done.
        let subscription = match self.understand(message) {
            Ok(message) => message.subscription().unwrap_or_default().to_owned(),
            Err(refused) => refused.subscription,
        };
        Refused::of("RATE_LIMIT_EXCEEDED", Misunderstood { subscription, reason })
    }

    fn too_large(&self) -> Refused {
        let max = self.app.settings.live.message_bytes_max;
        let message = format!("a message has more than {max} bytes (live.message_bytes_max)");
        Refused { subscription: String::new(), code: "MESSAGE_TOO_LARGE", message, close: CloseCode::Size }
    }

    async fn far_too_large(&self, mut out: Outflow) -> End {
        let Refused { code, message, close, .. } = self.too_large();
        match self.complain(&mut out, "", code, &message).await {
            Ok(()) => End::Closed(close, message),
            Err(end) => end,
        }
    }

    async fn carry_out(&self, message: Message, out: &mut Outflow) -> Result<(), End> {
        let (id, refused) = match message {
            Message::Ping => return Ok(()),
            Message::Authenticate { .. } => {
                return self.complain(out, "", "PROTOCOL", "the connection is signed in already").await;
            }
            Message::Subscribe { subscription } => {
                let options = subscription.options.map(Into::into);
                (subscription.id.clone(), self.live.subscribe(&subscription.id, &subscription.sql, options))
            }
            Message::NextBatch { subscription_id, last_seq_id } => {
                let outcome = self.live.next_batch(&subscription_id, last_seq_id);
                (subscription_id, outcome)
            }
            Message::Unsubscribe { subscription_id } => {
                self.live.unsubscribe(&subscription_id);
                return Ok(());
            }
        };
        match refused {
            Ok(()) => Ok(()),
            Err(error) => Ok(out.send(self.error(&id, &error)?).await?),
        }
    }

    async fn complain(&self, out: &mut Outflow, id: &str, code: &str, message: &str) -> Result<(), End> {
        let frame = self.protocol.error(id, code, message).map_err(|error| self.broken(&error))?;
        Ok(out.send(frame).await?)
    }

    fn error(&self, id: &str, error: &LiveError) -> Result<Frame, End> {
        let message = self.arrival.audience(Some(self.live.actor().role)).message(&error.error);
        self.protocol.error(id, error.code.as_str(), &message).map_err(|error| self.broken(&error))
    }

    fn broken(&self, error: &Error) -> End {
        End::Closed(CloseCode::Error, self.arrival.audience(None).message(error))
    }

    /// Sends what the subscriptions have.
    async fn write(&self) -> End {
        let mut out = self.out.clone();
        loop {
            // Before it is taken: what is taken is made ready.
            if let Err(end) = self.room(&out).await {
                return end;
            }
            let delivery = self.live.next().await;
            if let Err(end) = self.deliver(&mut out, &delivery).await {
                return end;
            }
        }
    }

    /// Waits until the client has taken most of what was sent, unless it takes nothing.
    async fn room(&self, out: &Outflow) -> Result<(), End> {
        let patience = Duration::from_secs(self.app.settings.live.send_timeout_seconds);
        out.room(patience).await.inspect_err(|_| self.takes_nothing()).map_err(End::from)
    }

    fn takes_nothing(&self) {
        tracing::info!(user = %self.live.actor().user, "a live connection takes nothing and is cut");
    }

    async fn deliver(&self, out: &mut Outflow, delivery: &LiveDelivery) -> Result<(), End> {
        let id = &delivery.subscription;
        let frame = match &delivery.event {
            LiveEvent::Ack { total_rows, control, schema, flags } => {
                self.protocol.ack(id, *total_rows, *control, schema, flags)
            }
            LiveEvent::Batch { rows, control } => self.protocol.batch(id, rows, *control),
            LiveEvent::ResyncRequired => {
                let message = "what came after the cursor is not all there any more; a full snapshot follows";
                self.protocol.error(id, LiveCode::ResyncRequired.as_str(), message)
            }
            LiveEvent::Ended(error) => Ok(self.error(id, error)?),
            LiveEvent::Changes(changes) => {
                for change in changes.iter() {
                    self.room(out).await?;
                    if delivery.is_void() {
                        return Ok(());
                    }
                    let frame = self.protocol.change(id, change).map_err(|error| self.broken(&error))?;
                    self.send_in_time(out, delivery, frame).await?;
                }
                return Ok(());
            }
        };
        self.send_in_time(out, delivery, frame.map_err(|error| self.broken(&error))?).await
    }

    /// Sends a frame, unless the client takes nothing. Each frame has its own wait: a long list to a slow client is
    /// progress.
    async fn send_in_time(&self, out: &mut Outflow, delivery: &LiveDelivery, frame: Frame) -> Result<(), End> {
        let wait = Duration::from_secs(self.app.settings.live.send_timeout_seconds);
        let bytes = frame.bytes();
        match tokio::time::timeout(wait, out.send(frame)).await {
            Ok(sent) => sent?,
            Err(_) => {
                self.takes_nothing();
                return Err(End::Stuck);
            }
        }
        delivery.sent(bytes);
        Ok(())
    }

    /// Sees to it that the connection ends in time: with its rights, with its client, with the server. It sleeps until
    /// one of them may have to do with it, so that a connection where nothing happens costs nothing.
    async fn watch(&self) -> End {
        let mut out = self.out.clone();
        let mut rights = self.live.rights();
        let mut pinged = Stopwatch::start();
        loop {
            if let Err(error) = self.live.check() {
                return self.signed_out(&error);
            }
            let checked = Stopwatch::start();
            let wait = match self.ping(&mut out, &mut pinged).await {
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
    async fn ping(&self, out: &mut Outflow, pinged: &mut Stopwatch) -> Result<Duration, End> {
        let idle_max = Duration::from_secs(self.app.settings.live.idle_timeout_seconds);
        let idle = self.last_heard.get().elapsed();
        if idle >= idle_max {
            let seconds = idle_max.as_secs();
            return Err(End::Silent(format!("nothing was heard for {seconds} s (live.idle_timeout_seconds)")));
        }
        if idle >= idle_max / 3 && pinged.elapsed() >= idle_max / 3 {
            *pinged = Stopwatch::start();
            // A client that takes nothing is the writer's to judge; its silence is judged here.
            let ping = tokio::time::timeout(CHECK_EVERY, out.ping());
            if let Ok(Err(closed)) = ping.await {
                return Err(closed.into());
            }
        }
        let until_ping = (idle_max / 3).saturating_sub(idle.min(pinged.elapsed()));
        Ok(until_ping.min(idle_max.saturating_sub(idle)))
    }

    fn signed_out(&self, error: &Error) -> End {
        match self.protocol.error("", LiveCode::Unauthorized.as_str(), error.message()) {
            Ok(last) => End::SignedOut(last, error.message().to_owned()),
            Err(error) => self.broken(&error),
        }
    }
}
