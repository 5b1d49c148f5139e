//! Live queries over WebSocket (wire-protocol.md, section 4): `GET /v1/ws`.
//!
//! A connection is three loops that end together: one takes what the client says, one sends what its subscriptions
//! have for it, one looks at the clock: whether the client is still there and still has its rights. What waits for a
//! client that is slow is bounded by the engine; a client that takes nothing at all is cut off.
//!
//! | module | holds |
//! |---|---|
//! | [`connection`] | the life of a connection |
//! | [`inbound`] | what clients say, and how much of it they may |
//! | [`outbound`] | what they are told, in JSON and MessagePack |
//! | [`sieve`], [`outflow`] | the frames under both: too large ones, and those that the socket has not taken |
//! | [`demo`] | the page `/live-demo` |
//! | [`socket`] | the way to cut a connection that cannot be closed in order |

mod connection;
pub(crate) mod demo;
mod inbound;
mod outbound;
mod outflow;
mod sieve;
pub(crate) mod socket;

use std::sync::Arc;

use actix_web::dev::{Payload, ServiceRequest};
use actix_web::{FromRequest, HttpRequest, HttpResponse, web};
use serde::Deserialize;

use crate::app::{App, address_of, bearer};
use crate::routes::refuse;
use connection::{Inflow, Visitor};
use outbound::{Format, Protocol};
use outflow::Outflow;
use sieve::Sieve;
use socket::Socket;

/// Where connections are made.
const PATH: &str = "/v1/ws";

#[derive(Debug, Default, Deserialize)]
struct Wishes {
    #[serde(default)]
    serialization: Option<String>,
    #[serde(default)]
    compression: Option<String>,
}

impl Wishes {
    fn protocol(&self) -> Protocol {
        Protocol {
            format: match self.serialization.as_deref() {
                Some("msgpack") => Format::MessagePack,
                _ => Format::Json,
            },
            compresses: self.compression.as_deref() != Some("none"),
        }
    }
}

/// Ties the endpoint to its address. It is no request with an answer, so the document of the interface leaves it out.
pub(crate) fn configure(config: &mut web::ServiceConfig) {
    config.route(PATH, web::get().to(connect));
}

/// A request has come on a connection. What serves anything else keeps no second handle on its socket.
pub(crate) fn note(request: &ServiceRequest) {
    if request.path() != PATH
        && let Some(socket) = request.conn_data::<Arc<Socket>>()
    {
        socket.let_go();
    }
}

/// `GET /v1/ws`.
async fn connect(app: web::Data<App>, request: HttpRequest, payload: web::Payload) -> HttpResponse {
    if let Err(error) = app.check_connection(&request) {
        return refuse(&error, &app.new_arrival(), None, None);
    }
    // Before it is known who it is: who does not sign in takes a place too.
    let place = match app.engine.connect_live() {
        Ok(place) => place,
        Err(error) => return refuse(&error, &app.new_arrival(), None, None),
    };
    let wishes = web::Query::<Wishes>::from_query(request.query_string()).map_or_else(|_| Wishes::default(), |q| q.0);
    let bytes_max = app.settings.live.message_bytes_max;
    let sieve = Sieve::new(payload.into_inner(), bytes_max);
    let held_back = sieve.held_back();
    let opened = match web::Payload::from_request(&request, &mut Payload::Stream { payload: Box::pin(sieve) }).await {
        Ok(payload) => actix_ws::handle(&request, payload),
        Err(error) => Err(error),
    };
    let (response, session, messages) = match opened {
        Ok(opened) => opened,
        Err(refused) => return refused.error_response(),
    };
    let from = Visitor {
        token: bearer(&request).ok().map(ToOwned::to_owned),
        address: address_of(&request),
        socket: request.conn_data::<Arc<Socket>>().cloned(),
        place,
    };
    let messages = messages.max_frame_size(bytes_max).aggregate_continuations().max_continuation_size(bytes_max);
    let (out, response) = Outflow::of(session, response);
    let app = app.get_ref().clone();
    actix_web::rt::spawn(connection::run(app, from, wishes.protocol(), out, Inflow { messages, held_back }));
    response
}
