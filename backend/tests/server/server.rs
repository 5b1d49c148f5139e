//! A server that runs, its data directory, and its clients.

use std::io::{BufRead, BufReader};
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, ExitStatus, Stdio};
use std::sync::Arc;

use serde_json::{Value, json};
use tempfile::TempDir;

pub(crate) const ROOT_PASSWORD: &str = "correct horse";
const READY: &str = "KalamDB listening on ";

/// A data directory and the settings that servers on it run with.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    directory: Arc<TempDir>,
    settings: Vec<(String, String)>,
    /// Variables that are no settings.
    environment: Vec<(String, PathBuf)>,
    /// The command that runs the binary, if it is not run directly.
    runner: Vec<String>,
}

/// One of the scripts in `scripts`, under the Python that `scripts/setup.sh tests` installs.
pub(crate) fn python(script: &str) -> Command {
    let scripts = Path::new(env!("CARGO_MANIFEST_DIR")).join("../scripts");
    let target = Path::new(env!("CARGO_BIN_EXE_kalamdb-server")).ancestors().nth(2).unwrap();
    let mut command = Command::new(scripts.join("python"));
    command.arg(scripts.join(script)).env("CARGO_TARGET_DIR", target);
    command
}

/// A process that ended instead of listening.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    /// What it wrote to its standard error.
    pub(crate) words: String,
}

impl Home {
    /// A new directory. Fast rather than safe from power cuts; settings are `SECTION__KEY`.
    pub(crate) fn new(settings: &[(&str, &str)]) -> Self {
        let fast = [("AUTH__ARGON2_MEMORY_KIB", "64"), ("HOT__DURABILITY", "buffered"), ("SERVER__PORT", "0")];
        let settings = fast.iter().chain(settings).map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Self {
            directory: Arc::new(tempfile::tempdir().unwrap()),
            settings: settings.collect(),
            environment: Vec::new(),
            runner: Vec::new(),
        }
    }

    /// Sets a variable that is no setting, for the servers that are started from now on.
    pub(crate) fn set_variable(&mut self, name: &str, value: impl Into<PathBuf>) {
        self.environment.push((name.to_owned(), value.into()));
    }

    /// Has another command run the servers that are started from now on.
    pub(crate) fn run_by(&mut self, runner: &[&str]) {
        self.runner = runner.iter().map(|word| (*word).to_owned()).collect();
    }

    /// The directory of the test, which the data directory is in.
    pub(crate) fn root(&self) -> &Path {
        self.directory.path()
    }

    /// The same directory with more settings.
    pub(crate) fn with(&self, settings: &[(&str, &str)]) -> Self {
        let more = settings.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Self { settings: self.settings.iter().cloned().chain(more).collect(), ..self.clone() }
    }

    /// What all servers on the directory have logged.
    pub(crate) fn logs(&self) -> String {
        let logs = (1..).map(|number| self.directory.path().join(format!("log-{number}")));
        logs.map_while(|log| std::fs::read_to_string(log).ok()).collect()
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// The directory of a partition in the local storage.
    pub(crate) fn partition(&self, path: &str) -> PathBuf {
        self.data().join("storage").join(path)
    }

    /// The one partition of the SHARED table `app.<table>`.
    pub(crate) fn shared(&self, table: &str) -> PathBuf {
        self.partition(&format!("app/{table}/shared"))
    }

    /// Everything in the directory of the test, relative to it, directories included.
    pub(crate) fn everything(&self) -> Vec<String> {
        let (mut found, mut waiting) = (Vec::new(), vec![self.directory.path().to_owned()]);
        while let Some(directory) = waiting.pop() {
            for entry in std::fs::read_dir(directory).unwrap() {
                let path = entry.unwrap().path();
                found.push(path.strip_prefix(self.directory.path()).unwrap().to_string_lossy().into_owned());
                if path.is_dir() {
                    waiting.push(path);
                }
            }
        }
        found.sort();
        found
    }

    fn command(&self) -> Command {
        let words: Vec<&str> =
            self.runner.iter().map(String::as_str).chain([env!("CARGO_BIN_EXE_kalamdb-server")]).collect();
        let mut command = Command::new(words[0]);
        command.args(&words[1..]);
        // Neither the machine's settings nor a server.toml that happens to be there.
        command.env_clear().current_dir(self.directory.path());
        command.env("KALAMDB_STORAGE__DATA_DIR", self.data()).env("KALAMDB_ROOT_PASSWORD", ROOT_PASSWORD);
        command.envs(self.settings.iter().map(|(key, value)| (format!("KALAMDB_{key}"), value)));
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command
    }

    /// Runs the binary to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> std::process::Output {
        self.command().args(arguments).output().unwrap()
    }

    fn log(&self, number: usize) -> PathBuf {
        self.directory.path().join(format!("log-{number}"))
    }

    fn lives(&self) -> usize {
        (1..).find(|number| !self.log(*number).exists()).unwrap() - 1
    }

    /// What the last server said in its log.
    pub(crate) fn last_log(&self) -> String {
        std::fs::read_to_string(self.log(self.lives())).unwrap()
    }

    #[expect(clippy::zombie_processes, reason = "whoever gets the child stops it and waits for it")]
    fn launch(&self) -> Result<Launched, Ended> {
        let log = self.log(self.lives() + 1);
        let mut command = self.command();
        command.stdout(Stdio::piped()).stderr(std::fs::File::create_new(&log).unwrap());
        let mut child = command.spawn().unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap());
        let mut said = Vec::new();
        loop {
            let mut line = String::new();
            if lines.read_line(&mut line).unwrap() == 0 {
                let status = child.wait().unwrap();
                return Err(Ended { status, words: std::fs::read_to_string(&log).unwrap() });
            }
            if let Some(url) = line.trim().strip_prefix(READY) {
                return Ok(Launched { child, stdout: lines, url: url.to_owned(), said });
            }
            said.push(line.trim().to_owned());
        }
    }

    /// Starts a server and logs nobody in.
    pub(crate) fn start_anonymous(&self) -> Server {
        self.try_start_anonymous().unwrap_or_else(|ended| panic!("the server did not start: {ended:?}"))
    }

    fn try_start_anonymous(&self) -> Result<Server, Ended> {
        let Launched { child, stdout, url, said } = self.launch()?;
        Ok(Server { child, _stdout: stdout, home: self.clone(), root: Client::anonymous(url), said })
    }

    /// Starts a server and logs in as root.
    pub(crate) async fn start(&self) -> Server {
        self.try_start().await.unwrap_or_else(|ended| panic!("the server did not start: {ended:?}"))
    }

    /// Starts a server, which may end before root has logged in.
    pub(crate) async fn try_start(&self) -> Result<Server, Ended> {
        let mut server = self.try_start_anonymous()?;
        match server.root.try_login("root", ROOT_PASSWORD).await {
            Ok(root) => server.root = root,
            Err(_) => return Err(Ended { status: server.kill(), words: self.last_log() }),
        }
        Ok(server)
    }

    /// Starts a server that is expected to refuse.
    pub(crate) fn refused(&self) -> Ended {
        match self.launch() {
            Err(ended) => ended,
            Ok(Launched { mut child, .. }) => {
                child.kill().unwrap();
                child.wait().unwrap();
                panic!("the server started")
            }
        }
    }
}

/// A process that listens.
struct Launched {
    child: Child,
    stdout: BufReader<ChildStdout>,
    url: String,
    said: Vec<String>,
}

/// A server that listens. Its methods are those of root's client. Dropping it kills it.
#[derive(Debug)]
pub(crate) struct Server {
    child: Child,
    /// Open, so that the server may go on writing to it.
    _stdout: BufReader<ChildStdout>,
    pub(crate) home: Home,
    root: Client,
    /// The lines that it wrote to its standard output before it listened.
    pub(crate) said: Vec<String>,
}

impl Deref for Server {
    type Target = Client;

    fn deref(&self) -> &Client {
        &self.root
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _ended_already = self.child.wait();
    }
}

impl Server {
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    pub(crate) async fn with(settings: &[(&str, &str)]) -> Self {
        Home::new(settings).start().await
    }

    /// With the namespace `app` and what `sql` makes in it.
    pub(crate) async fn with_tables(sql: &str) -> Self {
        let server = Self::start().await;
        server.sql(&format!("CREATE NAMESPACE app; {sql}")).await;
        server
    }

    /// SIGTERM, and the orderly end that follows.
    pub(crate) fn stop(self) -> Home {
        self.terminate();
        self.ended()
    }

    /// Waits for the orderly end of a server that was told to stop.
    pub(crate) fn ended(mut self) -> Home {
        let status = self.child.wait().unwrap();
        assert!(status.success(), "{status}");
        self.home.clone()
    }

    /// Sends SIGTERM.
    pub(crate) fn terminate(&self) {
        let kill = Command::new("sh").args(["-c", &format!("kill -TERM {}", self.child.id())]).status().unwrap();
        assert!(kill.success());
    }

    /// What it has in memory, in MiB.
    pub(crate) fn memory_mib(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() / 1_024
    }

    /// SIGKILL. How it ended: it may have done so before.
    pub(crate) fn kill(&mut self) -> ExitStatus {
        self.child.kill().unwrap();
        self.child.wait().unwrap()
    }

    /// Makes a user and logs in as them.
    pub(crate) async fn user(&self, name: &str) -> Client {
        let password = "a password";
        self.sql(&format!("CREATE USER '{name}' WITH PASSWORD '{password}' ROLE 'user'")).await;
        self.login(name, password).await
    }

    /// Flushes and waits.
    pub(crate) async fn flush(&self, table: &str) -> String {
        let answer = self.sql(&format!("STORAGE FLUSH TABLE {table} WAIT")).await;
        answer["message"].as_str().unwrap().to_owned()
    }
}

/// An answer.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) headers: reqwest::header::HeaderMap,
    pub(crate) body: Value,
}

impl Reply {
    pub(crate) async fn of(request: reqwest::RequestBuilder) -> reqwest::Result<Self> {
        let response = request.send().await?;
        let headers = response.headers().clone();
        Ok(Self { status: response.status().as_u16(), headers, body: response.json().await? })
    }

    /// Status and code of an error, and its message.
    pub(crate) fn error(&self) -> (u16, &str, &str) {
        let text = |name: &str| self.body["error"][name].as_str().unwrap_or_else(|| panic!("no error: {self:?}"));
        assert_eq!(self.body["status"], "error", "{self:?}");
        (self.status, text("code"), text("message"))
    }

    /// Asserts status and code, and gives the message.
    pub(crate) fn refused(&self, status: u16, code: &str) -> &str {
        let (found_status, found_code, message) = self.error();
        assert_eq!((found_status, found_code), (status, code), "{message}");
        message
    }

    /// The results of a success.
    pub(crate) fn results(&self) -> &Vec<Value> {
        assert_eq!((self.status, &self.body["status"]), (200, &json!("success")), "{self:?}");
        self.body["results"].as_array().unwrap()
    }
}

/// Somebody who sends requests.
#[derive(Debug, Clone)]
pub(crate) struct Client {
    pub(crate) http: reqwest::Client,
    pub(crate) url: String,
    token: Option<String>,
}

impl Client {
    fn anonymous(url: String) -> Self {
        let http = reqwest::Client::builder().no_proxy().tls_built_in_root_certs(false).build().unwrap();
        Self { http, url, token: None }
    }

    /// The same server with another token, or none.
    pub(crate) fn with_token(&self, token: Option<&str>) -> Self {
        Self { token: token.map(ToOwned::to_owned), ..self.clone() }
    }

    /// The token.
    pub(crate) fn token(&self) -> Option<&str> {
        self.token.as_deref()
    }

    /// The same token at another server.
    pub(crate) fn at(&self, url: &str) -> Self {
        Self { url: url.to_owned(), ..self.clone() }
    }

    /// A request to a path of the server.
    pub(crate) fn request(&self, method: reqwest::Method, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.request(method, format!("{}{path}", self.url));
        match &self.token {
            Some(token) => request.bearer_auth(token),
            None => request,
        }
    }

    pub(crate) async fn get(&self, path: &str) -> Reply {
        Reply::of(self.request(reqwest::Method::GET, path)).await.unwrap()
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Reply {
        Reply::of(self.request(reqwest::Method::POST, path).json(body)).await.unwrap()
    }

    /// Logs in.
    pub(crate) async fn login(&self, user: &str, password: &str) -> Self {
        self.try_login(user, password).await.unwrap()
    }

    /// Logs in at a server that may go away.
    pub(crate) async fn try_login(&self, user: &str, password: &str) -> reqwest::Result<Self> {
        let request = self.request(reqwest::Method::POST, "/v1/api/auth/login");
        let reply = Reply::of(request.json(&json!({"user": user, "password": password}))).await?;
        assert_eq!(reply.status, 200, "{reply:?}");
        Ok(self.with_token(reply.body["access_token"].as_str()))
    }

    /// A request that may break off.
    pub(crate) async fn attempt(&self, sql: &str) -> reqwest::Result<Reply> {
        Reply::of(self.request(reqwest::Method::POST, "/v1/api/sql").json(&json!({"sql": sql}))).await
    }

    /// Whatever the answer is.
    pub(crate) async fn ask(&self, sql: &str) -> Reply {
        self.attempt(sql).await.unwrap_or_else(|error| panic!("{sql}: {error:?}"))
    }

    pub(crate) async fn ask_with(&self, sql: &str, params: Value) -> Reply {
        self.post("/v1/api/sql", &json!({"sql": sql, "params": params})).await
    }

    /// The result of the last statement, which succeeds.
    pub(crate) async fn sql(&self, sql: &str) -> Value {
        let reply = self.ask(sql).await;
        assert_eq!((reply.status, &reply.body["status"]), (200, &json!("success")), "{sql}: {reply:?}");
        reply.results().last().unwrap().clone()
    }

    /// The rows of the last statement.
    pub(crate) async fn rows(&self, sql: &str) -> Value {
        self.sql(sql).await["rows"].take()
    }

    /// The message of a refusal with this status and code.
    pub(crate) async fn refused(&self, sql: &str, status: u16, code: &str) -> String {
        let reply = self.ask(sql).await;
        let (found_status, found_code, message) = reply.error();
        assert_eq!((found_status, found_code), (status, code), "{sql}: {message}");
        message.to_owned()
    }

    /// Sends a body of rows.
    pub(crate) async fn import(&self, table: &str, content_type: &str, body: impl Into<reqwest::Body>) -> Reply {
        let request = self.request(reqwest::Method::POST, &format!("/v1/api/import?table={table}"));
        Reply::of(request.header("Content-Type", content_type).body(body)).await.unwrap()
    }

    /// A request with an `Idempotency-Key`.
    pub(crate) async fn keyed(&self, key: &str, sql: &str) -> Reply {
        let request = self.request(reqwest::Method::POST, "/v1/api/sql").header("Idempotency-Key", key);
        Reply::of(request.json(&json!({"sql": sql}))).await.unwrap()
    }
}
