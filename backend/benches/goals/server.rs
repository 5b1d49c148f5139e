//! The real server in a process of its own, with its data in a directory that goes with it.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::time::Duration;

use kalamdb_commons::clock::Stopwatch;
use serde_json::json;
use tempfile::TempDir;

use crate::client::Client;
use crate::{Failure, Result};

pub(crate) const PASSWORD: &str = "bench-password";
const READY: &str = "KalamDB listening on http://";
const START_WAIT: Duration = Duration::from_secs(60);

/// Settings that leave it to the benchmark when a flush or a compaction happens.
const NOTHING_BY_ITSELF: [(&str, &str); 3] = [
    ("KALAMDB_FLUSH__ROWS", "1000000000"),
    ("KALAMDB_FLUSH__INTERVAL_SECONDS", "315360000"),
    ("KALAMDB_COMPACTION__AUTOMATIC", "false"),
];

/// A running server. It is killed and its data removed when this is dropped.
pub(crate) struct Server {
    process: Child,
    lines: Receiver<String>,
    address: String,
    token: String,
    directory: TempDir,
    settings: Vec<(String, String)>,
}

impl Server {
    /// A server that flushes and compacts when it is told to.
    pub(crate) fn start() -> Result<Self> {
        Self::with(&NOTHING_BY_ITSELF)
    }

    /// The same with more settings.
    pub(crate) fn start_with(settings: &[(&str, &str)]) -> Result<Self> {
        Self::with(&[&NOTHING_BY_ITSELF, settings].concat())
    }

    /// A server with the settings of a fresh installation.
    pub(crate) fn with_defaults() -> Result<Self> {
        Self::with(&[])
    }

    fn with(settings: &[(&str, &str)]) -> Result<Self> {
        let directory = TempDir::new_in(env!("CARGO_TARGET_TMPDIR"))?;
        let settings: Vec<_> = settings.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let (process, lines) = launch(directory.path(), &settings)?;
        let mut server = Self { process, lines, address: String::new(), token: String::new(), directory, settings };
        server.address = server.announced()?;
        server.token = server.log_in("root")?;
        server.client()?.sql("CREATE NAMESPACE bench")?;
        Ok(server)
    }

    /// Stops the server in order, and starts it again on its data. Returns the time from the start of the process until it
    /// listens, in ms. Its clients have to connect again.
    pub(crate) fn restart(&mut self) -> Result<f64> {
        let asked = Command::new("kill").args(["-TERM", &self.process.id().to_string()]).status()?;
        if !asked.success() || !self.process.wait()?.success() {
            return Err("the server did not end in order".into());
        }
        let watch = Stopwatch::start();
        (self.process, self.lines) = launch(self.directory.path(), &self.settings)?;
        self.address = self.announced()?;
        let started_ms = watch.elapsed_ms();
        self.token = self.log_in("root")?;
        Ok(started_ms)
    }

    fn announced(&self) -> Result<String> {
        loop {
            let line = self.lines.recv_timeout(START_WAIT).map_err(|_| "the server did not start")?;
            if let Some(address) = line.strip_prefix(READY) {
                return Ok(address.trim().to_owned());
            }
        }
    }

    fn log_in(&self, user: &str) -> Result<String> {
        let credentials = json!({ "user": user, "password": PASSWORD }).to_string();
        let mut client = Client::connect(&self.address, "")?;
        let answer = client.post("/v1/api/auth/login", "application/json", credentials.as_bytes())?;
        Ok(answer["access_token"].as_str().ok_or("a login without a token")?.to_owned())
    }

    /// A new connection.
    pub(crate) fn client(&self) -> Result<Client> {
        Client::connect(&self.address, &self.token)
    }

    /// A new connection of a user whose password is the one of all.
    pub(crate) fn client_of(&self, user: &str) -> Result<Client> {
        Client::connect(&self.address, &self.log_in(user)?)
    }

    /// Where it listens, as `host:port`.
    pub(crate) fn address(&self) -> &str {
        &self.address
    }

    /// Root's access token.
    pub(crate) fn token(&self) -> &str {
        &self.token
    }

    /// The directory that the data lies in.
    pub(crate) fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// Leaves the server alone for a while.
    pub(crate) fn rest(&self, seconds: u64) -> Result<()> {
        let (watch, whole) = (Stopwatch::start(), Duration::from_secs(seconds));
        while let Some(left) = whole.checked_sub(watch.elapsed()) {
            if self.lines.recv_timeout(left) == Err(RecvTimeoutError::Disconnected) {
                return Err("the server has ended".into());
            }
        }
        Ok(())
    }

    /// A line of its `/proc/<pid>/status` that counts kB, in MiB: `VmRSS`, `VmHWM`.
    pub(crate) fn memory_mib(&self, line: &str) -> Result<f64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.process.id()))?;
        let value = status.lines().find_map(|found| found.strip_prefix(line)?.strip_prefix(':'));
        let kib: f64 = value.and_then(|value| value.split_whitespace().next()).ok_or("no such line")?.parse()?;
        Ok(kib / 1024.0)
    }

    /// Runs `work` and says which part of the processor time of both processes was this one's.
    pub(crate) fn loaded<T>(&self, work: impl FnOnce() -> Result<T>) -> Result<(T, f64)> {
        let (own, theirs) = (ticks("self")?, ticks(&self.process.id().to_string())?);
        let done = work()?;
        let own = (ticks("self")? - own) as f64;
        let theirs = (ticks(&self.process.id().to_string())? - theirs) as f64;
        Ok((done, own / (own + theirs).max(1.0)))
    }

    /// Runs `work` in as many clients at once, each on a thread of its own with its number. Returns what they gave and
    /// the seconds from the first to the last.
    pub(crate) fn together<T: Send>(
        &self,
        clients: usize,
        work: impl Fn(usize, &mut Client) -> Result<T> + Sync,
    ) -> Result<(Vec<T>, f64)> {
        let mut connections = (0..clients).map(|_| self.client()).collect::<Result<Vec<_>>>()?;
        let (watch, work) = (Stopwatch::start(), &work);
        let outcomes: Vec<Result<T>> = std::thread::scope(|scope| {
            let running: Vec<_> = connections
                .iter_mut()
                .enumerate()
                .map(|(number, client)| scope.spawn(move || work(number, client)))
                .collect();
            let ended = running.into_iter().map(|running| running.join());
            ended.map(|ended| ended.unwrap_or_else(|_| Err(Failure::from("a client broke down")))).collect()
        });
        let seconds = watch.elapsed().as_secs_f64();
        Ok((outcomes.into_iter().collect::<Result<Vec<T>>>()?, seconds))
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended already; then there is nothing to do.
        drop(self.process.kill());
        drop(self.process.wait());
    }
}

/// Starts the process; what it writes to its standard output comes line by line.
fn launch(directory: &Path, settings: &[(String, String)]) -> Result<(Child, Receiver<String>)> {
    let mut process = Command::new(env!("CARGO_BIN_EXE_kalamdb-server"))
        .env_clear()
        .env("KALAMDB_SERVER__PORT", "0")
        .env("KALAMDB_STORAGE__DATA_DIR", directory.join("data"))
        .env("KALAMDB_ROOT_PASSWORD", PASSWORD)
        .env("KALAMDB_AUTH__ACCESS_TOKEN_SECONDS", "86400")
        .env("KALAMDB_LOGGING__LEVEL", "warn")
        .envs(settings.iter().map(|(name, value)| (name, value)))
        .current_dir(directory)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()?;
    let output = process.stdout.take().ok_or("the server has no standard output")?;
    let (sender, lines) = sync_channel(16);
    std::thread::spawn(move || {
        for line in BufReader::new(output).lines().map_while(std::result::Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    Ok((process, lines))
}

/// The processor time of a process so far, user and system.
fn ticks(process: &str) -> Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // The name in parentheses may hold anything; what follows it does not. User and system time are fields 14 and 15.
    let (_, fields) = stat.rsplit_once(')').ok_or("no such process")?;
    let times = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>);
    Ok(times.collect::<Result<Vec<_>, _>>()?.into_iter().sum())
}
