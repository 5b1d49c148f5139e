//! The only part of the command line that knows HTTP. It looks synchronous from outside: a request blocks until
//! its answer begins, and the answer is read as it arrives.

use std::error::Error;
use std::fmt::Write as _;
use std::io::{self, Read};
use std::time::Duration;

use bytes::{Buf, Bytes};
use reqwest::{RequestBuilder, Response, StatusCode};
use serde_json::{Value, json};
use tokio::runtime::Runtime;
use tokio::sync::mpsc;

mod live;

pub(crate) use live::{Heard, Live};

use crate::answer::{self, Closing, Results};
use crate::failure::Failure;

/// How long to wait for a connection. Answers have no limit of ours: the server has one.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Pieces of a body that may wait between network and disk or screen.
const PIECES_WAITING_MAX: usize = 8;
/// Bytes of one piece of an upload.
const PIECE_BYTES: usize = 256 * 1024;

/// Where to connect and as whom.
#[derive(Clone)]
pub(crate) struct Login {
    /// The server, as in `http://127.0.0.1:8080`.
    pub(crate) url: String,
    /// The user.
    pub(crate) user: String,
    /// Their password.
    pub(crate) password: String,
}

/// A connection to a server, logged in.
pub(crate) struct Client {
    runtime: Runtime,
    http: reqwest::Client,
    login: Login,
    token: String,
    /// Whether Ctrl-C ends the request and not the program.
    pub(crate) interruptible: bool,
}

/// What an import reads.
pub(crate) struct Upload {
    /// Its name in messages.
    pub(crate) name: String,
    /// The bytes.
    pub(crate) source: Box<dyn Read + Send>,
    /// How many there are, if that is known: then the server can refuse too many before they are sent.
    pub(crate) size: Option<u64>,
    /// Their form, as HTTP names it.
    pub(crate) content_type: &'static str,
    /// Under which the import can be repeated: rows that are in already are passed over.
    pub(crate) key: Option<String>,
}

/// A short answer.
#[derive(Debug)]
pub(crate) struct Answered {
    /// Whether it is a success.
    pub(crate) is_success: bool,
    /// Its status, as HTTP has it.
    pub(crate) status: u16,
    /// What it says.
    pub(crate) body: Value,
}

impl Client {
    /// Connects and logs in.
    pub(crate) fn connect(login: Login) -> Result<Self, Failure> {
        let mut client = Self::anonymous(login)?;
        client.log_in()?;
        Ok(client)
    }

    /// A client that has not logged in yet.
    pub(crate) fn anonymous(login: Login) -> Result<Self, Failure> {
        let unusable = |error: &dyn Error| Failure::Usage(format!("cannot start: {}", chain(error)));
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(|error| unusable(&error))?;
        // A database is spoken to directly: a proxy that is set for web pages would not reach it.
        let http = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT).no_proxy().build();
        let http = http.map_err(|error| unusable(&error))?;
        Ok(Self { runtime, http, login, token: String::new(), interruptible: false })
    }

    /// Asks an endpoint.
    pub(crate) fn get(&self, path: &str) -> Result<Answered, Failure> {
        self.answered(self.http.get(self.url(path)))
    }

    /// Sends JSON to an endpoint.
    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Answered, Failure> {
        self.answered(self.http.post(self.url(path)).json(body))
    }

    fn answered(&self, request: RequestBuilder) -> Result<Answered, Failure> {
        let request = if self.token.is_empty() { request } else { request.bearer_auth(&self.token) };
        let response = self.send(request)?;
        let (is_success, status) = (response.status().is_success(), response.status().as_u16());
        Ok(Answered { is_success, status, body: self.value(response)? })
    }

    /// The rows of a query as an Arrow IPC stream, whole.
    pub(crate) fn arrow(&self, sql: &str, namespace: Option<&str>) -> Result<Vec<u8>, Failure> {
        let mut body = json!({"sql": sql});
        if let Some(namespace) = namespace {
            body["namespace_id"] = namespace.into();
        }
        let request = self.http.post(self.url("/v1/api/sql")).bearer_auth(&self.token).json(&body);
        let response = self.send(request.header("Accept", "application/vnd.apache.arrow.stream"))?;
        let status = response.status();
        if !status.is_success() {
            return Err(self.refused(status, &self.value(response)?));
        }
        let mut arriving = self.receive(response);
        let mut bytes = Vec::new();
        match arriving.read_to_end(&mut bytes) {
            Ok(_) => Ok(bytes),
            Err(error) => Err(arriving.broken.take().unwrap_or_else(|| Failure::Protocol(error.to_string()))),
        }
    }

    /// The same of a short answer.
    pub(crate) fn refused_as(&self, answer: &Answered) -> Failure {
        self.refused(StatusCode::from_u16(answer.status).unwrap_or_default(), &answer.body)
    }

    /// What an answer that is no success says.
    fn refused(&self, status: StatusCode, body: &Value) -> Failure {
        let refusal = serde_json::from_value(body["error"].clone());
        refusal.map_or_else(|_| self.not_ours(status), Failure::Refused)
    }

    /// Who is logged in and where.
    pub(crate) fn login(&self) -> &Login {
        &self.login
    }

    /// Logs in.
    pub(crate) fn log_in(&mut self) -> Result<(), Failure> {
        let body = json!({"user": self.login.user, "password": self.login.password});
        let response = self.send(self.http.post(self.url("/v1/api/auth/login")).json(&body))?;
        let status = response.status();
        let answer = self.value(response)?;
        let failed = |message: &str| Failure::Login { user: self.login.user.clone(), message: message.to_owned() };
        match answer["access_token"].as_str() {
            Some(token) if status.is_success() => self.token = token.to_owned(),
            _ => return Err(failed(answer["message"].as_str().unwrap_or(&format!("HTTP {status}")))),
        }
        Ok(())
    }

    /// Carries out the statements of one request and hands on their results. Returns the server's time in
    /// milliseconds. A token that has expired is replaced once.
    pub(crate) fn sql(
        &mut self,
        sql: &str,
        namespace: Option<&str>,
        results: &mut dyn Results,
    ) -> Result<f64, Failure> {
        let mut body = json!({"sql": sql});
        if let Some(namespace) = namespace {
            body["namespace_id"] = namespace.into();
        }
        let mut closing = self.ask(&body, results)?;
        if closing.error.as_ref().is_some_and(|error| error.code == "TOKEN_EXPIRED") {
            self.log_in()?;
            closing = self.ask(&body, results)?;
        }
        match closing.error {
            None => Ok(closing.took_ms),
            Some(refusal) => Err(Failure::Refused(refusal)),
        }
    }

    fn ask(&self, body: &Value, results: &mut dyn Results) -> Result<Closing, Failure> {
        let response = self.send(self.http.post(self.url("/v1/api/sql")).bearer_auth(&self.token).json(body))?;
        let status = response.status();
        let mut arriving = self.receive(response);
        let outcome = answer::read(&mut arriving, results);
        arriving.explain(status, &self.login.url, outcome)
    }

    /// Sends rows into a table and returns how many went in.
    pub(crate) fn import(&self, table: &str, as_user: Option<&str>, upload: Upload) -> Result<u64, Failure> {
        let Upload { name, source, size, content_type, key } = upload;
        let (sender, mut pieces) = mpsc::channel(PIECES_WAITING_MAX);
        let reading = std::thread::spawn(move || read_pieces(source, &sender));
        let body = futures::stream::poll_fn(move |context| pieces.poll_recv(context));
        let mut query = vec![("table", table)];
        query.extend(as_user.map(|user| ("as_user", user)));
        let mut request = self.http.post(self.url("/v1/api/import")).query(&query).bearer_auth(&self.token);
        request = request.header("Content-Type", content_type);
        if let Some(size) = size {
            request = request.header("Content-Length", size);
        }
        if let Some(key) = key {
            request = request.header("Idempotency-Key", key);
        }
        let outcome = self.send(request.body(reqwest::Body::wrap_stream(body)));
        // A file that cannot be read explains a broken request better than the request does.
        if let Ok(Err(source)) = reading.join() {
            return Err(Failure::File { path: name, source });
        }
        self.imported(outcome?)
    }

    fn imported(&self, response: Response) -> Result<u64, Failure> {
        let status = response.status();
        let answer = self.value(response)?;
        if let (true, Some(rows)) = (status.is_success(), answer["row_count"].as_u64()) {
            return Ok(rows);
        }
        Err(self.refused(status, &answer))
    }

    fn url(&self, path: &str) -> String {
        format!("{}{path}", self.login.url.trim_end_matches('/'))
    }

    fn not_ours(&self, status: StatusCode) -> Failure {
        Failure::Protocol(format!("{} answered HTTP {status}, but not as a KalamDB server does", self.login.url))
    }

    /// Sends and waits for the answer to begin.
    fn send(&self, request: RequestBuilder) -> Result<Response, Failure> {
        let outcome = self.runtime.block_on(async {
            tokio::select! {
                biased;
                () = interrupt(self.interruptible) => None,
                outcome = request.send() => Some(outcome),
            }
        });
        outcome.ok_or(Failure::Interrupted)?.map_err(|error| self.lost(error))
    }

    fn lost(&self, error: reqwest::Error) -> Failure {
        Failure::Connection { url: self.login.url.clone(), reason: chain(&error.without_url()) }
    }

    /// A short answer, whole.
    fn value(&self, response: Response) -> Result<Value, Failure> {
        let status = response.status();
        let mut arriving = self.receive(response);
        let outcome = serde_json::from_reader(&mut arriving).map_err(answer::AnswerError::from);
        arriving.explain(status, &self.login.url, outcome)
    }

    fn receive(&self, response: Response) -> Arriving {
        let (sender, pieces) = mpsc::channel(PIECES_WAITING_MAX);
        self.runtime.spawn(forward(response, sender, self.interruptible));
        Arriving { pieces, piece: Bytes::new(), broken: None }
    }
}

/// A piece of an answer, or why there is none.
type Piece = Result<Bytes, Failure>;

/// Passes an answer's pieces on until it ends, nobody wants them, or somebody presses Ctrl-C. Dropping the
/// response closes the connection, by which the server knows that it may stop.
async fn forward(mut response: Response, pieces: mpsc::Sender<Piece>, interruptible: bool) {
    let url = response.url().to_string();
    loop {
        let next = tokio::select! {
            biased;
            () = interrupt(interruptible) => Err(Failure::Interrupted),
            chunk = response.chunk() => chunk.map_err(|error| broken_off(&url, error)),
        };
        let Some(piece) = next.transpose() else { return };
        let is_last = piece.is_err();
        if pieces.send(piece).await.is_err() || is_last {
            return;
        }
    }
}

fn broken_off(url: &str, error: reqwest::Error) -> Failure {
    Failure::Protocol(format!("{url}: the answer broke off: {}", chain(&error.without_url())))
}

/// Waits for Ctrl-C if it is to be caught, and for ever if not.
async fn interrupt(is_caught: bool) {
    if !is_caught || tokio::signal::ctrl_c().await.is_err() {
        std::future::pending::<()>().await;
    }
}

/// An answer as it arrives.
struct Arriving {
    pieces: mpsc::Receiver<Piece>,
    piece: Bytes,
    broken: Option<Failure>,
}

impl Arriving {
    /// What was read, or the reason that lies deepest: the connection, then a server that is not ours, then text
    /// that cannot be read.
    fn explain<T>(self, status: StatusCode, url: &str, outcome: Result<T, answer::AnswerError>) -> Result<T, Failure> {
        match (self.broken, outcome) {
            (Some(broken), _) => Err(broken),
            (None, Err(answer::AnswerError::Answer(_))) if !status.is_success() => {
                Err(Failure::Protocol(format!("{url} answered HTTP {status}, but not as a KalamDB server does")))
            }
            (None, outcome) => Ok(outcome?),
        }
    }
}

impl Read for Arriving {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            match self.pieces.blocking_recv() {
                None => return Ok(0),
                Some(Ok(piece)) => self.piece = piece,
                Some(Err(failure)) => {
                    self.broken = Some(failure);
                    return Err(io::Error::other("the answer broke off"));
                }
            }
        }
        let length = self.piece.len().min(buffer.len());
        self.piece.copy_to_slice(&mut buffer[..length]);
        Ok(length)
    }
}

/// Reads a source in pieces until its end, or until nobody wants more.
fn read_pieces(mut source: impl Read, pieces: &mpsc::Sender<io::Result<Bytes>>) -> io::Result<()> {
    loop {
        let mut piece = Vec::with_capacity(PIECE_BYTES);
        let outcome = source.by_ref().take(PIECE_BYTES as u64).read_to_end(&mut piece);
        if let Err(error) = outcome {
            // The stream must end in an error too, or the server would take the half for the whole.
            let copy = io::Error::new(error.kind(), error.to_string());
            drop(pieces.blocking_send(Err(copy)));
            return Err(error);
        }
        if piece.is_empty() || pieces.blocking_send(Ok(piece.into())).is_err() {
            return Ok(());
        }
    }
}

/// An error with its causes, of which the last says most.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let said = next.to_string();
        if !text.contains(&said) {
            let _ = write!(text, ": {said}");
        }
        cause = next.source();
    }
    text
}

#[cfg(test)]
mod tests;
