//! What is done for every request, whatever its endpoint: it gets an id, is counted, and is refused while the server
//! drains.
//!
//! The id is the server's own. It is in the answer's header `X-Request-Id`, in the log and in the audit log.

use actix_web::body::{BoxBody, MessageBody};
use actix_web::dev::{ServiceRequest, ServiceResponse};
use actix_web::http::header::{HeaderName, HeaderValue};
use actix_web::http::{ConnectionType, Method};
use actix_web::middleware::Next;
use actix_web::{HttpMessage, web};
use kalamdb_commons::Error;
use kalamdb_core::metrics::registered;
use prometheus::{HistogramVec, IntCounterVec, IntGauge, Registry};

use crate::app::{App, Arrival};
use crate::{live, routes};

/// The header that names a request.
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// What an endpoint that does not exist is counted as: no label has a value that a client chooses.
const NOWHERE: &str = "other";
/// When to try again at a server that is stopping: by then another one may have taken its place.
pub(crate) const DRAIN_RETRY_SECONDS: u32 = 5;

/// The figures of HTTP.
#[derive(Debug, Clone)]
pub(crate) struct RequestFigures {
    requests: IntCounterVec,
    seconds: HistogramVec,
    running: IntGauge,
    connections: IntGauge,
}

impl RequestFigures {
    /// Registers them.
    pub(crate) fn new(registry: &Registry) -> Self {
        let (route, by_status) = (["route"], ["route", "method", "status"]);
        Self {
            requests: registered(
                registry,
                "kalamdb_http_requests_total",
                "HTTP requests, by route, method and status.",
                &by_status,
            ),
            seconds: registered(
                registry,
                "kalamdb_http_request_seconds",
                "How long HTTP requests took until their answer began, by route.",
                &route,
            ),
            running: registered(
                registry,
                "kalamdb_http_requests_running",
                "HTTP requests whose answer has not begun yet.",
                &[],
            ),
            connections: registered(registry, "kalamdb_http_connections", "HTTP connections that are open.", &[]),
        }
    }

    /// A connection that counts until it is dropped.
    pub(crate) fn connected(&self) -> Counted {
        Counted::begin(&self.connections)
    }
}

/// What counts until it is dropped: a connection that is open, a request whose client may go away.
#[derive(Debug)]
pub(crate) struct Counted(IntGauge);

impl Counted {
    fn begin(gauge: &IntGauge) -> Self {
        gauge.inc();
        Self(gauge.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// Handles a request.
pub(crate) async fn handle(
    request: ServiceRequest,
    next: Next<impl MessageBody + 'static>,
) -> Result<ServiceResponse<BoxBody>, actix_web::Error> {
    let Some(app) = request.app_data::<web::Data<App>>().cloned() else {
        unreachable!("every request has it");
    };
    live::note(&request);
    let arrival = app.new_arrival();
    let figures = app.figures.clone();
    request.extensions_mut().insert(arrival.clone());
    let running = Counted::begin(&figures.running);
    let outcome = if app.is_draining() && !routes::is_about_health(request.path()) {
        let error =
            Error::overloaded("the server is stopping; try again").with_retry_after_seconds(DRAIN_RETRY_SECONDS);
        let refusal = routes::refusal_at(request.path(), &error, &arrival);
        Ok(request.into_response(refusal))
    } else {
        next.call(request).await.map(ServiceResponse::map_into_boxed_body)
    };
    drop(running);
    let mut response = outcome?;
    note(&figures, &arrival, &response);
    let id = HeaderValue::from_str(&arrival.request_id).unwrap_or_else(|_| unreachable!("hexadecimal digits"));
    response.headers_mut().insert(REQUEST_ID, id);
    if app.is_draining() {
        response.response_mut().head_mut().set_connection_type(ConnectionType::Close);
    }
    Ok(response)
}

/// Counts an answer that begins, and logs it.
fn note(figures: &RequestFigures, arrival: &Arrival, response: &ServiceResponse<BoxBody>) {
    let request = response.request();
    let route = request.match_pattern();
    let route = route.as_deref().unwrap_or(NOWHERE);
    let (method, status) = (method(request.method()), response.status().as_u16());
    figures.requests.with_label_values(&[route, method, &status.to_string()]).inc();
    figures.seconds.with_label_values(&[route]).observe(arrival.watch.elapsed().as_secs_f64());
    tracing::debug!(
        target: "kalamdb::access",
        request_id = arrival.request_id,
        method,
        route,
        status,
        took_ms = arrival.watch.elapsed_ms(),
        "request"
    );
}

fn method(method: &Method) -> &'static str {
    let known = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH"];
    known.into_iter().find(|known| *known == method.as_str()).unwrap_or(NOWHERE)
}
