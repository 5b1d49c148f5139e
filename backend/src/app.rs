//! What every request shares: the engine, the threads that it works on, and the limits.
//!
//! HTTP workers are single-threaded and must not be held up. Whatever the engine does runs on the engine's own
//! threads; a worker only waits for the answer.

use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use actix_web::http::header;
use actix_web::{HttpMessage, HttpRequest};
use bytes::{Bytes, BytesMut};
use futures::StreamExt;
use kalamdb_commons::clock::{Entropy, Stopwatch};
use kalamdb_commons::rate::{Bucket, Rate};
use kalamdb_commons::schema::{Actor, Role};
use kalamdb_commons::settings::Settings;
use kalamdb_commons::{Error, Result};
use parking_lot::Mutex;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::errors::Audience;
use crate::requests::RequestFigures;
use kalamdb_core::Engine;
use kalamdb_core::api::Origin;

/// How long the next bytes of a body may take.
const BODY_WAIT: Duration = Duration::from_secs(60);

/// Shared by all workers.
#[derive(Clone)]
pub(crate) struct App {
    /// The database.
    pub(crate) engine: Arc<Engine>,
    /// Where the engine works.
    pub(crate) runtime: Handle,
    /// All settings.
    pub(crate) settings: Arc<Settings>,
    entropy: Arc<dyn Entropy>,
    statements: Arc<Semaphore>,
    /// What is counted of HTTP.
    pub(crate) figures: RequestFigures,
    draining: CancellationToken,
}

/// How fast requests come on one connection.
#[derive(Debug, Default)]
pub(crate) struct ConnectionRate(Mutex<Bucket>);

/// A request that arrived: its name in the log, and since when it is here.
#[derive(Debug, Clone)]
pub(crate) struct Arrival {
    /// For the log, and for the client if something breaks.
    pub(crate) request_id: String,
    /// Runs since the request arrived.
    pub(crate) watch: Stopwatch,
}

impl Arrival {
    /// That of a request, which [`requests::handle`](crate::requests::handle) has noted.
    pub(crate) fn of(request: &HttpRequest) -> Self {
        let noted = request.extensions().get::<Self>().cloned();
        noted.unwrap_or_else(|| unreachable!("no request comes past its beginning"))
    }

    /// Whom errors are told to.
    pub(crate) fn audience(&self, role: Option<Role>) -> Audience<'_> {
        Audience { role, request_id: &self.request_id }
    }
}

impl App {
    pub(crate) fn new(
        engine: Arc<Engine>,
        runtime: Handle,
        settings: Arc<Settings>,
        entropy: Arc<dyn Entropy>,
    ) -> Self {
        let statements = Arc::new(Semaphore::new(settings.limits.concurrent_statements_max));
        let figures = RequestFigures::new(engine.metrics().registry());
        Self { engine, runtime, settings, entropy, statements, figures, draining: CancellationToken::new() }
    }

    /// Names a request that has just come.
    pub(crate) fn new_arrival(&self) -> Arrival {
        let mut id = [0; 8];
        self.entropy.fill(&mut id);
        Arrival { request_id: format!("{:016x}", u64::from_be_bytes(id)), watch: Stopwatch::start() }
    }

    /// Who sends a request, by its bearer token.
    pub(crate) fn authenticate(&self, request: &HttpRequest) -> Result<Actor> {
        self.check_connection(request)?;
        self.engine.authenticate(bearer(request)?).map(|grant| grant.actor)
    }

    /// Whether the connection may send another request now.
    pub(crate) fn check_connection(&self, request: &HttpRequest) -> Result<()> {
        let amount = self.settings.limits.connection_requests_per_second_max;
        let Some(connection) = request.conn_data::<ConnectionRate>().filter(|_| amount > 0) else { return Ok(()) };
        let taken = connection.0.lock().take(Rate { amount, per_ms: 1_000 }, self.engine.clock().now_ms());
        taken.map_err(|seconds| {
            Error::rate_limited(format!("over {amount} requests per second on one connection"), seconds)
        })
    }

    /// The right to run one request; at once or not at all.
    pub(crate) fn admit(&self) -> Result<OwnedSemaphorePermit> {
        Arc::clone(&self.statements).try_acquire_owned().map_err(|_| {
            let max = self.settings.limits.concurrent_statements_max;
            Error::overloaded(format!("{max} requests are running, which is the limit; try again later"))
        })
    }

    /// Runs something of the engine's on its threads.
    pub(crate) async fn on_engine<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T>> + Send + 'static,
    ) -> Result<T> {
        let outcome = self.runtime.spawn(work).await;
        outcome.unwrap_or_else(|panic| Err(Error::internal("a request broke down").with_source(panic)))
    }

    /// From now on requests are refused, and those that run come to their end.
    pub(crate) fn drain(&self) {
        self.draining.cancel();
    }

    /// Waits until the server is stopping.
    pub(crate) async fn drains(&self) {
        self.draining.cancelled().await;
    }

    /// Whether the server is stopping.
    pub(crate) fn is_draining(&self) -> bool {
        self.draining.is_cancelled()
    }

    /// Waits until nothing runs any more.
    pub(crate) async fn idle(&self) {
        let all = u32::try_from(self.settings.limits.concurrent_statements_max).unwrap_or(u32::MAX);
        let _all_ended = self.statements.acquire_many(all).await;
    }
}

/// Where a request came from. What the request says of itself is believed only where it makes the answer stricter:
/// one that a proxy passed on did not come from this machine, even if the proxy runs on it.
pub(crate) fn origin(request: &HttpRequest) -> Origin {
    let peer = request.peer_addr().map(|address| address.ip().to_canonical());
    let is_passed_on = ["forwarded", "x-forwarded-for", "x-real-ip", "via"];
    let is_passed_on = is_passed_on.iter().any(|name| request.headers().contains_key(*name));
    Origin {
        address: peer.map_or_else(String::new, counted_address),
        is_local: peer.is_some_and(|ip| ip.is_loopback()) && !is_passed_on,
    }
}

/// Whoever has one IPv6 address has the 2^64 of its network.
fn counted_address(ip: IpAddr) -> String {
    match ip {
        IpAddr::V4(ip) => ip.to_string(),
        IpAddr::V6(ip) => Ipv6Addr::from_bits(ip.to_bits() >> 64 << 64).to_string(),
    }
}

/// The address that a request came from, for the audit.
pub(crate) fn address_of(request: &HttpRequest) -> Option<String> {
    request.peer_addr().map(|address| address.ip().to_canonical().to_string())
}

/// The bearer token of a request. A request with two is refused: the server and a proxy before it might not choose
/// the same.
pub(crate) fn bearer(request: &HttpRequest) -> Result<&str> {
    let mut headers = request.headers().get_all(header::AUTHORIZATION);
    let header = headers.next().and_then(|value| value.to_str().ok());
    if headers.next().is_some() {
        return Err(kalamdb_auth::invalid_credentials());
    }
    let token = header.and_then(|value| {
        let (scheme, token) = value.trim().split_once(' ')?;
        scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
    });
    token.filter(|token| !token.is_empty()).ok_or_else(kalamdb_auth::missing_authorization)
}

/// Refuses a body that is compressed: its limits would not be the limits of what it unfolds to.
pub(crate) fn refuse_compressed(request: &HttpRequest) -> Result<()> {
    let encoding = request.headers().get(header::CONTENT_ENCODING).and_then(|value| value.to_str().ok());
    match encoding.map(str::trim) {
        None | Some("" | "identity") => Ok(()),
        Some(other) => {
            Err(Error::invalid_input(format!("Content-Encoding '{other}' is not supported; send the body as it is")))
        }
    }
}

/// A body of bounded length, piece by piece.
pub(crate) struct Body {
    payload: actix_web::web::Payload,
    left: usize,
    bytes_max: usize,
}

impl Body {
    /// A request's body. One that announces more than `bytes_max` is refused before any of it is read.
    pub(crate) fn new(request: &HttpRequest, payload: actix_web::web::Payload, bytes_max: usize) -> Result<Self> {
        refuse_compressed(request)?;
        let announced =
            request.headers().get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
        let body = Self { payload, left: bytes_max, bytes_max };
        if announced.is_some_and(|bytes: u64| bytes > bytes_max as u64) { Err(body.too_long()) } else { Ok(body) }
    }

    /// The next bytes; `None` at the end.
    pub(crate) async fn next(&mut self) -> Result<Option<Bytes>> {
        let next = tokio::time::timeout(BODY_WAIT, self.payload.next()).await;
        let piece = match next {
            Err(_) => return Err(Error::timeout(format!("no bytes came for {} seconds", BODY_WAIT.as_secs()))),
            Ok(None) => return Ok(None),
            Ok(Some(piece)) => piece.map_err(|cause| Error::invalid_input(format!("the body broke off: {cause}")))?,
        };
        self.left = self.left.checked_sub(piece.len()).ok_or_else(|| self.too_long())?;
        Ok(Some(piece))
    }

    /// All of it.
    pub(crate) async fn whole(mut self) -> Result<Bytes> {
        let Some(first) = self.next().await? else { return Ok(Bytes::new()) };
        let Some(second) = self.next().await? else { return Ok(first) };
        let mut all = BytesMut::from(&first[..]);
        all.extend_from_slice(&second);
        while let Some(piece) = self.next().await? {
            all.extend_from_slice(&piece);
        }
        Ok(all.freeze())
    }

    fn too_long(&self) -> Error {
        Error::too_large(format!("the body has over {} bytes, which is the limit", self.bytes_max))
    }
}

#[cfg(test)]
mod tests;
