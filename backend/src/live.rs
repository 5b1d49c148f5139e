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
//! | [`demo`] | the page `/live-demo` |
//! | [`socket`] | the way to cut a connection that cannot be closed in order |

mod connection;
pub(crate) mod demo;
mod inbound;
mod outbound;
pub(crate) mod socket;

use std::sync::Arc;

use actix_web::dev::ServiceRequest;
use actix_web::{HttpRequest, HttpResponse, web};
use serde::Deserialize;

use crate::app::{App, address_of, bearer};
use crate::routes::refuse;
use connection::Visitor;
use outbound::{Format, Protocol};
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
    let wishes = web::Query::<Wishes>::from_query(request.query_string()).map_or_else(|_| Wishes::default(), |q| q.0);
    let (response, session, messages) = match actix_ws::handle(&request, payload) {
        Ok(opened) => opened,
        Err(refused) => return refused.error_response(),
    };
    let from = Visitor {
        token: bearer(&request).ok().map(ToOwned::to_owned),
        address: address_of(&request),
        socket: request.conn_data::<Arc<Socket>>().cloned(),
    };
    let bytes_max = app.settings.live.message_bytes_max;
    let messages = messages.max_frame_size(bytes_max).aggregate_continuations().max_continuation_size(bytes_max);
    let app = app.get_ref().clone();
    actix_web::rt::spawn(connection::run(app, from, wishes.protocol(), session, messages));
    response
}
