//! `kalam doctor`: what may be wrong between here and the server, and in the server, a line for each thing looked at.
//!
//! What needs rights is left out, and said, for whoever has none. The exit status is 1 if anything has failed.

use std::io::{self, Write};

use kalamdb_commons::clock::{Clock, Stopwatch, SystemClock};
use serde_json::Value;

use crate::answer::{Column, Refusal, Results, Summary};
use crate::client::Client;
use crate::failure::Failure;
use crate::output::harmless;

/// A clock that is off by more leaves `NOW()` and tokens looking odd.
const SKEW_WARN_MS: f64 = 1_000.0;
const SKEW_FAIL_MS: f64 = 60_000.0;
/// An answer that takes longer comes from far away, or from a server that is busy.
const ROUND_TRIP_WARN_MS: f64 = 100.0;
/// Free bytes of the disk that holds the data.
const DISK_WARN_BYTES: f64 = 10.0 * 1_073_741_824.0;
const DISK_FAIL_BYTES: f64 = 1_073_741_824.0;
/// Of the hot tier's hard limit.
const HOT_WARN: f64 = 0.8;

/// How something is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum State {
    Ok,
    Skipped,
    Warning,
    Failed,
}

impl State {
    fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Skipped => "skipped",
            Self::Warning => "warning",
            Self::Failed => "FAILED",
        }
    }
}

/// What was found.
struct Findings<'a> {
    out: &'a mut dyn Write,
    worst: State,
}

impl Findings<'_> {
    fn say(&mut self, state: State, what: &str, found: &str) -> Result<(), Failure> {
        self.worst = self.worst.max(state);
        writeln!(self.out, "{:<8} {what}: {}", state.as_str(), harmless(found)).map_err(Failure::output)
    }
}

/// Looks at everything, and fails if anything has failed.
pub(crate) fn run(client: &mut Client, out: &mut dyn Write) -> Result<(), Failure> {
    let mut findings = Findings { out, worst: State::Ok };
    if connection(client, &mut findings)? && login(client, &mut findings)? {
        clocks(client, &mut findings)?;
        figures(client, &mut findings)?;
        settings(client, &mut findings)?;
        jobs(client, &mut findings)?;
    }
    match findings.worst {
        State::Failed => Err(Failure::Unhealthy),
        _ => Ok(()),
    }
}

/// Whether there is a server that answers.
fn connection(client: &Client, findings: &mut Findings<'_>) -> Result<bool, Failure> {
    let url = client.login().url.clone();
    let watch = Stopwatch::start();
    let answer = match client.get("/health") {
        Ok(answer) => answer,
        Err(failure) => {
            findings.say(State::Failed, "connection", &failure.to_string())?;
            return Ok(false);
        }
    };
    let version = answer.body["version"].as_str().unwrap_or("unknown");
    findings.say(State::Ok, "connection", &format!("{url}, {:.1} ms to connect and answer", watch.elapsed_ms()))?;
    let ours = env!("CARGO_PKG_VERSION");
    let (state, note) = if version == ours { (State::Ok, "as kalam") } else { (State::Warning, "kalam is another") };
    findings.say(state, "version", &format!("{version}, {note} ({ours})"))?;
    let watch = Stopwatch::start();
    let ready = client.get("/health/ready")?;
    let took = watch.elapsed_ms();
    let state = if took > ROUND_TRIP_WARN_MS { State::Warning } else { State::Ok };
    findings.say(state, "round trip", &format!("{took:.1} ms"))?;
    match ready.is_success {
        true => findings.say(State::Ok, "readiness", "ready")?,
        false => findings.say(State::Failed, "readiness", ready.body["reason"].as_str().unwrap_or("not ready"))?,
    }
    Ok(true)
}

fn login(client: &mut Client, findings: &mut Findings<'_>) -> Result<bool, Failure> {
    match client.log_in() {
        Ok(()) => {
            let me = client.get("/v1/api/auth/me")?;
            let role = me.body["user"]["role"].as_str().unwrap_or("?").to_owned();
            let user = client.login().user.clone();
            findings.say(State::Ok, "login", &format!("{user}, whose role is {role}"))?;
            Ok(true)
        }
        Err(failure) => {
            findings.say(State::Failed, "login", &failure.to_string())?;
            Ok(false)
        }
    }
}

/// The server's time is compared with the middle of the request.
fn clocks(client: &mut Client, findings: &mut Findings<'_>) -> Result<(), Failure> {
    let before = SystemClock.now_ns();
    let told = rows(client, "SELECT NOW()")?;
    let after = SystemClock.now_ns();
    let Some(server_us) = told.first().and_then(|row| row.first()).and_then(Value::as_i64) else {
        return findings.say(State::Failed, "clock", "the server did not tell its time");
    };
    let skew_ms = server_us as f64 / 1e3 - (before / 2 + after / 2) as f64 / 1e6;
    let state = grade(skew_ms.abs(), SKEW_WARN_MS, SKEW_FAIL_MS);
    findings.say(state, "clock", &format!("the server's is {skew_ms:+.0} ms from this machine's"))
}

/// Low is good.
fn grade(value: f64, warn: f64, fail: f64) -> State {
    if value > fail {
        State::Failed
    } else if value > warn {
        State::Warning
    } else {
        State::Ok
    }
}

fn figures(client: &mut Client, findings: &mut Findings<'_>) -> Result<(), Failure> {
    let sql = "SELECT metric_name, metric_value FROM system.stats";
    let Some(found) = allowed(rows(client, sql))? else {
        return findings.say(State::Skipped, "disk, memory, store", "system.stats is for dba and above");
    };
    let figure = |name: &str| {
        let row = found.iter().find(|row| row.first().and_then(Value::as_str) == Some(name));
        row.and_then(|row| row.get(1)?.as_str()?.parse::<f64>().ok())
    };
    if let (Some(free), Some(all)) = (figure("kalamdb_disk_available_bytes"), figure("kalamdb_disk_bytes")) {
        let share = if all > 0.0 { free / all } else { 0.0 };
        let state = grade(-free, -DISK_WARN_BYTES, -DISK_FAIL_BYTES);
        findings.say(state, "disk", &format!("{} free of {} ({:.0} %)", bytes(free), bytes(all), share * 100.0))?;
    }
    if figure("kalamdb_hot_writable") == Some(0.0) {
        findings.say(State::Failed, "store", "it takes no writes: one has failed, and it has not reopened yet")?;
    } else {
        findings.say(State::Ok, "store", "it takes writes")?;
    }
    let limit = rows(client, "SELECT value FROM system.settings WHERE name = 'hot.hard_limit_mib'")?;
    let limit = limit.first().and_then(|row| row.first()?.as_str()?.parse::<f64>().ok()).map(|mib| mib * 1_048_576.0);
    if let (Some(used), Some(limit)) = (figure("kalamdb_hot_row_bytes"), limit) {
        let state = grade(used / limit, HOT_WARN, 1.0);
        findings.say(state, "hot tier", &format!("{} of {} (hot.hard_limit_mib)", bytes(used), bytes(limit)))?;
    }
    if let Some(memory) = figure("process_resident_memory_bytes") {
        findings.say(State::Ok, "memory", &format!("{} resident", bytes(memory)))?;
    }
    Ok(())
}

/// Settings that are sound in tests and seldom elsewhere.
fn settings(client: &mut Client, findings: &mut Findings<'_>) -> Result<(), Failure> {
    let Some(found) = allowed(rows(client, "SELECT name, value FROM system.settings"))? else {
        return findings.say(State::Skipped, "settings", "system.settings is for dba and above");
    };
    let value = |name: &str| {
        let row = found.iter().find(|row| row.first().and_then(Value::as_str) == Some(name));
        row.and_then(|row| row.get(1)?.as_str()).unwrap_or_default()
    };
    let odd = [
        (value("hot.durability") == "buffered", "hot.durability = buffered: a power cut loses the last moments"),
        (
            value("server.allow_plaintext_remote") == "true" && value("server.tls_cert_file").is_empty(),
            "server.allow_plaintext_remote without TLS: passwords cross the network in the clear unless a proxy has TLS",
        ),
        (!value("testing.fail_points").is_empty(), "testing.fail_points is set: this server is made to fail"),
        (
            value("clock.accept_jump") == "true",
            "clock.accept_jump is still set: a wrong clock is followed at each start",
        ),
        (
            value("auth.argon2_memory_kib").parse().is_ok_and(|kib: u64| kib < 7_168),
            "auth.argon2_memory_kib is low: stolen hashes of passwords are cheap to guess",
        ),
    ];
    let mut is_sound = true;
    for (_, words) in odd.iter().filter(|(is_odd, _)| *is_odd) {
        is_sound = false;
        findings.say(State::Warning, "settings", words)?;
    }
    if is_sound { findings.say(State::Ok, "settings", "nothing odd") } else { Ok(()) }
}

fn jobs(client: &mut Client, findings: &mut Findings<'_>) -> Result<(), Failure> {
    let sql = "SELECT job_type, message FROM system.jobs WHERE status = 'failed' \
        AND finished_at > NOW() - INTERVAL '24 hours' ORDER BY finished_at DESC";
    let Some(failed) = allowed(rows(client, sql))? else {
        return findings.say(State::Skipped, "jobs", "system.jobs is for dba and above");
    };
    let Some(newest) = failed.first() else { return findings.say(State::Ok, "jobs", "none has failed in 24 hours") };
    let word = |index: usize| newest.get(index).and_then(Value::as_str).unwrap_or("?");
    let words = format!("{} failed in 24 hours, the last a {}: {}", failed.len(), word(0), word(1));
    findings.say(State::Warning, "jobs", &words)
}

/// None for what the user may not see.
fn allowed<T>(outcome: Result<T, Failure>) -> Result<Option<T>, Failure> {
    let is_right = |refusal: &Refusal| matches!(refusal.code.as_str(), "PERMISSION_DENIED" | "TABLE_NOT_FOUND");
    match outcome {
        Err(Failure::Refused(refusal)) if is_right(&refusal) => Ok(None),
        outcome => outcome.map(Some),
    }
}

fn rows(client: &mut Client, sql: &str) -> Result<Vec<Vec<Value>>, Failure> {
    let mut rows = Rows::default();
    client.sql(sql, None, &mut rows)?;
    Ok(rows.0)
}

/// All rows.
#[derive(Default)]
struct Rows(Vec<Vec<Value>>);

impl Results for Rows {
    fn begin(&mut self, _: Vec<Column>) -> io::Result<()> {
        Ok(())
    }

    fn row(&mut self, cells: Vec<Value>) -> io::Result<()> {
        self.0.push(cells);
        Ok(())
    }

    fn end(&mut self, _: Summary) -> io::Result<()> {
        Ok(())
    }
}

fn bytes(n: f64) -> String {
    indicatif::HumanBytes(n as u64).to_string()
}

#[cfg(test)]
mod tests;
