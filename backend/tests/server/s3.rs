//! A real S3 server, which is moto in a process of its own, and a wire to it that can break.

use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};
use std::sync::Arc;

use parking_lot::Mutex;
use reqwest::Method;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::OnceCell;

use crate::server::python;

/// Moto believes any signature unless it is told otherwise, and takes a request without one for a stranger's.
const SIGNED: &str =
    "AWS4-HMAC-SHA256 Credential=tests/20260101/us-east-1/s3/aws4_request, SignedHeaders=host, Signature=0";

/// The server of all tests that do not harm theirs. It ends with this process, whose end closes its standard input.
static SHARED: OnceCell<S3> = OnceCell::const_new();

/// An S3 server. Dropping it kills it, and its objects with it.
#[derive(Debug)]
pub(crate) struct S3 {
    child: Mutex<Child>,
    pub(crate) url: String,
    pub(crate) key_id: String,
    pub(crate) secret: String,
    http: reqwest::Client,
}

impl Drop for S3 {
    fn drop(&mut self) {
        self.kill();
    }
}

impl S3 {
    pub(crate) async fn shared() -> &'static Self {
        SHARED.get_or_init(|| async { Self::start(0) }).await
    }

    /// A server on a port, or on a free one for 0.
    pub(crate) fn start(port: u16) -> Self {
        let mut command = python("s3.py");
        command.arg(port.to_string());
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let words: Vec<_> = line.split_whitespace().map(str::to_owned).collect();
        let [url, key_id, secret] = words.try_into().unwrap_or_else(|_| panic!("S3 did not start: run 'make setup'"));
        let http = reqwest::Client::builder().no_proxy().tls_built_in_root_certs(false).build().unwrap();
        Self { child: Mutex::new(child), url, key_id, secret, http }
    }

    pub(crate) fn port(&self) -> u16 {
        self.url.rsplit(':').next().unwrap().parse().unwrap()
    }

    /// SIGKILL.
    pub(crate) fn kill(&self) {
        let mut child = self.child.lock();
        let _ended_already = child.kill();
        let _ended_already = child.wait();
    }

    async fn request(&self, method: Method, path: &str, body: Vec<u8>) -> (u16, Vec<u8>) {
        let request = self.http.request(method, format!("{}/{path}", self.url)).header("Authorization", SIGNED);
        let response = request.header("Content-Type", "application/octet-stream").body(body).send().await.unwrap();
        (response.status().as_u16(), response.bytes().await.unwrap().to_vec())
    }

    pub(crate) async fn make_bucket(&self, bucket: &str) {
        let (status, body) = self.request(Method::PUT, bucket, Vec::new()).await;
        assert_eq!(status, 200, "{}", String::from_utf8_lossy(&body));
    }

    /// An object, `bucket/key`.
    pub(crate) async fn get(&self, path: &str) -> Option<Vec<u8>> {
        let (status, body) = self.request(Method::GET, path, Vec::new()).await;
        (status == 200).then_some(body)
    }

    pub(crate) async fn put(&self, path: &str, bytes: Vec<u8>) {
        assert_eq!(self.request(Method::PUT, path, bytes).await.0, 200);
    }

    pub(crate) async fn delete(&self, path: &str) {
        assert_eq!(self.request(Method::DELETE, path, Vec::new()).await.0, 204);
    }

    /// The keys of a bucket that begin with a prefix.
    pub(crate) async fn list(&self, bucket: &str, prefix: &str) -> Vec<String> {
        let (status, body) =
            self.request(Method::GET, &format!("{bucket}?list-type=2&prefix={prefix}"), Vec::new()).await;
        assert_eq!(status, 200);
        let text = String::from_utf8(body).unwrap();
        let keys = text.split("<Key>").skip(1).map(|rest| rest.split("</Key>").next().unwrap().to_owned());
        keys.collect()
    }

    /// From now on only requests with a known key and a right signature are answered.
    pub(crate) async fn ask_for_keys(&self) {
        assert_eq!(self.request(Method::POST, "moto-api/reset-auth", b"0".to_vec()).await.0, 200);
    }
}

/// What a wire does.
enum Mode {
    Whole,
    /// Breaks before a request that begins so is delivered.
    BreaksAt(String),
    /// Delivers a request that begins so, and breaks before its answer.
    LosesTheAnswerTo(String),
    /// Does this before a request that begins so is delivered, and goes on.
    Calls(String, Box<dyn FnOnce() + Send>),
    /// Takes what is sent and delivers nothing.
    Hangs,
    /// Takes the conditions out of requests, as a store does that does not know them.
    Unconditional,
    /// Nobody is at the other end.
    Broken,
}

/// A wire to a server.
#[derive(Clone)]
pub(crate) struct Wire {
    pub(crate) url: String,
    mode: Arc<Mutex<Mode>>,
}

/// What becomes of bytes.
enum Fate {
    Delivered,
    AnswerLost,
    Kept,
    Cut,
}

impl Wire {
    /// A wire to `http://host:port`. The test must have more than one thread, because starting a server blocks one.
    pub(crate) async fn to(url: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let wire = Self { url: format!("http://{address}"), mode: Arc::new(Mutex::new(Mode::Whole)) };
        let (taking, target) = (wire.clone(), url.strip_prefix("http://").unwrap().to_owned());
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                let (wire, target) = (taking.clone(), target.clone());
                tokio::spawn(async move { wire.carry(client, &target).await });
            }
        });
        wire
    }

    pub(crate) fn breaks_at(&self, request: &str) {
        *self.mode.lock() = Mode::BreaksAt(request.to_owned());
    }

    pub(crate) fn loses_the_answer_to(&self, request: &str) {
        *self.mode.lock() = Mode::LosesTheAnswerTo(request.to_owned());
    }

    pub(crate) fn calls(&self, request: &str, then: impl FnOnce() + Send + 'static) {
        *self.mode.lock() = Mode::Calls(request.to_owned(), Box::new(then));
    }

    pub(crate) fn hangs(&self) {
        *self.mode.lock() = Mode::Hangs;
    }

    pub(crate) fn ignores_conditions(&self) {
        *self.mode.lock() = Mode::Unconditional;
    }

    pub(crate) fn mend(&self) {
        *self.mode.lock() = Mode::Whole;
    }

    pub(crate) fn is_broken(&self) -> bool {
        matches!(*self.mode.lock(), Mode::Broken)
    }

    fn sent(&self, bytes: &[u8]) -> Fate {
        let mut mode = self.mode.lock();
        match &*mode {
            Mode::Broken => Fate::Cut,
            Mode::Hangs => Fate::Kept,
            Mode::BreaksAt(request) if bytes.starts_with(request.as_bytes()) => {
                *mode = Mode::Broken;
                Fate::Cut
            }
            Mode::LosesTheAnswerTo(request) if bytes.starts_with(request.as_bytes()) => Fate::AnswerLost,
            Mode::Calls(request, _) if bytes.starts_with(request.as_bytes()) => {
                if let Mode::Calls(_, then) = std::mem::replace(&mut *mode, Mode::Whole) {
                    then();
                }
                Fate::Delivered
            }
            _ => Fate::Delivered,
        }
    }

    async fn carry(&self, mut client: TcpStream, target: &str) {
        let Ok(mut server) = TcpStream::connect(target).await else { return };
        let (mut asked, mut answered) = (vec![0; 64 << 10], vec![0; 64 << 10]);
        let mut loses = false;
        loop {
            tokio::select! {
                read = client.read(&mut asked) => {
                    let Ok(length @ 1..) = read else { return };
                    if matches!(*self.mode.lock(), Mode::Unconditional) {
                        rename(&mut asked[..length], b"if-match:", b"x--match:");
                        rename(&mut asked[..length], b"if-none-match:", b"x--none-match:");
                    }
                    match self.sent(&asked[..length]) {
                        Fate::Cut => return,
                        Fate::Kept => continue,
                        Fate::AnswerLost => loses = true,
                        Fate::Delivered => {}
                    }
                    if server.write_all(&asked[..length]).await.is_err() {
                        return;
                    }
                }
                read = server.read(&mut answered) => {
                    let Ok(length @ 1..) = read else { return };
                    if loses {
                        *self.mode.lock() = Mode::Broken;
                    }
                    if self.is_broken() || client.write_all(&answered[..length]).await.is_err() {
                        return;
                    }
                }
            }
        }
    }
}

/// Puts `to` in the place of `from`, which is as long.
fn rename(bytes: &mut [u8], from: &[u8], to: &[u8]) {
    if let Some(at) = bytes.windows(from.len()).position(|window| window.eq_ignore_ascii_case(from)) {
        bytes[at..at + to.len()].copy_from_slice(to);
    }
}
