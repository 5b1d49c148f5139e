//! Live queries: from a write to the last who hears of it, what watching costs in memory, and what it costs writers.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use kalamdb_commons::clock::Stopwatch;
use parking_lot::{Condvar, Mutex};
use serde_json::json;

use crate::client::Client;
use crate::figures::{median, percentile};
use crate::report::{Asked, Report};
use crate::server::Server;
use crate::{Result, Sizes};

const CONNECTIONS_MAX: usize = 100;
/// Clients that write at once.
const WRITERS: usize = 8;
/// Subscriptions that a write of the routed measurement concerns.
const MATCHING: usize = 10;

/// Frames that came, and who waits for how many.
#[derive(Debug, Default)]
struct Heard {
    changes: AtomicU64,
    acks: AtomicU64,
    waiting: Mutex<()>,
    more: Condvar,
}

impl Heard {
    fn wait(&self, counter: &AtomicU64, count: u64) {
        let mut waiting = self.waiting.lock();
        while counter.load(Ordering::SeqCst) < count {
            self.more.wait(&mut waiting);
        }
    }

    fn count(&self, counter: &AtomicU64) {
        counter.fetch_add(1, Ordering::SeqCst);
        drop(self.waiting.lock());
        self.more.notify_all();
    }
}

/// Subscribers on connections of their own; they end with the server.
struct Audience {
    heard: Arc<Heard>,
    _readers: Vec<JoinHandle<()>>,
    sockets: Vec<TcpStream>,
}

impl Audience {
    /// `count` subscriptions, each to what `sql` makes of its number, over few connections.
    fn gather(server: &Server, count: usize, sql: impl Fn(usize) -> String) -> Result<Self> {
        Self::over(count.min(CONNECTIONS_MAX), server, count, sql)
    }

    /// The same over so many connections.
    fn over(connections: usize, server: &Server, count: usize, sql: impl Fn(usize) -> String) -> Result<Self> {
        let heard: Arc<Heard> = Arc::default();
        let (mut readers, mut sockets) = (Vec::new(), Vec::new());
        for connection in 0..connections {
            let mut socket = upgraded(server)?;
            let mut reading = BufReader::new(socket.try_clone()?);
            skip_head(&mut reading)?;
            let told = heard.clone();
            readers.push(std::thread::spawn(move || while listen(&mut reading, &told).is_ok() {}));
            for number in (connection..count).step_by(connections) {
                let subscription = json!({"id": number.to_string(), "sql": sql(number), "options": null});
                say(&mut socket, &json!({"type": "subscribe", "subscription": subscription}).to_string())?;
            }
            sockets.push(socket);
        }
        heard.wait(&heard.acks, count as u64);
        Ok(Self { heard, _readers: readers, sockets })
    }

    /// Milliseconds from sending each write to the last of `receivers` hearing of it.
    fn latencies(
        &self,
        client: &mut Client,
        writes: usize,
        receivers: usize,
        sql: impl Fn(usize) -> String,
    ) -> Result<Vec<f64>> {
        let mut taken = Vec::with_capacity(writes);
        for write in 0..writes {
            let expected = self.heard.changes.load(Ordering::SeqCst) + receivers as u64;
            let watch = Stopwatch::start();
            client.sql(&sql(write))?;
            self.heard.wait(&self.heard.changes, expected);
            taken.push(watch.elapsed_ms());
        }
        Ok(taken)
    }
}

impl Drop for Audience {
    fn drop(&mut self) {
        for socket in &self.sockets {
            // The reader ends with it.
            drop(socket.shutdown(std::net::Shutdown::Both));
        }
    }
}

fn upgraded(server: &Server) -> Result<TcpStream> {
    let mut socket = TcpStream::connect(server.address())?;
    socket.set_nodelay(true)?;
    write!(
        socket,
        "GET /v1/ws?compression=none HTTP/1.1\r\nHost: bench\r\nAuthorization: Bearer {}\r\nUpgrade: websocket\r\n\
         Connection: Upgrade\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n",
        server.token()
    )?;
    Ok(socket)
}

fn skip_head(reading: &mut impl BufRead) -> Result<()> {
    let mut line = String::new();
    loop {
        line.clear();
        if reading.read_line(&mut line)? == 0 {
            return Err("the server refused a WebSocket".into());
        }
        if line == "\r\n" {
            return Ok(());
        }
    }
}

/// A text frame, masked with zeros.
fn say(socket: &mut TcpStream, text: &str) -> Result<()> {
    let mut frame = vec![0x81, 0x80 | 126];
    frame.extend_from_slice(&u16::try_from(text.len())?.to_be_bytes());
    frame.extend_from_slice(&[0; 4]);
    frame.extend_from_slice(text.as_bytes());
    Ok(socket.write_all(&frame)?)
}

/// Reads a frame and counts it.
fn listen(reading: &mut impl Read, heard: &Heard) -> Result<()> {
    let mut head = [0; 2];
    reading.read_exact(&mut head)?;
    let length = match head[1] & 0x7f {
        126 => {
            let mut bytes = [0; 2];
            reading.read_exact(&mut bytes)?;
            u64::from(u16::from_be_bytes(bytes))
        }
        127 => {
            let mut bytes = [0; 8];
            reading.read_exact(&mut bytes)?;
            u64::from_be_bytes(bytes)
        }
        short => u64::from(short),
    };
    let mut payload = vec![0; usize::try_from(length)?];
    reading.read_exact(&mut payload)?;
    if payload.starts_with(br#"{"type":"change""#) {
        heard.count(&heard.changes);
    } else if payload.starts_with(br#"{"type":"subscription_ack""#) {
        heard.count(&heard.acks);
    }
    Ok(())
}

/// The clients of this program answer no pings, and make many accounts.
const SETTINGS: [(&str, &str); 4] = [
    ("KALAMDB_LIMITS__USER_SUBSCRIPTIONS_MAX", "0"),
    ("KALAMDB_LIVE__IDLE_TIMEOUT_SECONDS", "86400"),
    ("KALAMDB_AUTH__ARGON2_MEMORY_KIB", "64"),
    ("KALAMDB_AUTH__ARGON2_PASSES", "1"),
];

/// The section.
pub(crate) fn measure(sizes: &Sizes, report: &mut Report) -> Result<()> {
    let server = Server::start_with(&SETTINGS)?;
    let mut client = server.client()?;
    for table in ["watched", "routed", "idle", "other"] {
        client.sql(&format!("CREATE SHARED TABLE bench.{table} (k INT, v TEXT)"))?;
    }
    idle(&server, sizes, report)?;
    for count in counts(sizes) {
        all_match(&server, &mut client, count, sizes, report)?;
    }
    routed(&server, &mut client, sizes, report)?;
    partitions(&server, &mut client, sizes, report)?;
    crowd(sizes, report)
}

/// Many subscriptions on many connections, each waiting for a value of its own.
fn crowd(sizes: &Sizes, report: &mut Report) -> Result<()> {
    let server = Server::start_with(&SETTINGS)?;
    let mut client = server.client()?;
    client.sql("CREATE SHARED TABLE bench.crowd (k INT, v TEXT)")?;
    let (connections, count) = sizes.crowd;
    let before = server.memory_mib("VmRSS")?;
    let watch = Stopwatch::start();
    let filter = |number: usize| format!("SELECT k, v FROM bench.crowd WHERE k = {number}");
    let audience = Audience::over(connections, &server, count, filter)?;
    let rate = count as f64 / watch.elapsed().as_secs_f64();
    report.row(
        &format!("{count} subscriptions on {connections} connections, begun"),
        "1/s",
        rate,
        Asked::nothing(),
        None,
    );
    let each = (server.memory_mib("VmRSS")? - before).max(0.0) * 1024.0 / count as f64;
    report.row("  memory of each, with its part of a connection", "KiB", each, Asked::nothing(), None);
    let write = |number: usize| format!("INSERT INTO bench.crowd VALUES ({}, 'a message')", number * 7_919 % count);
    let (taken, load) = server.loaded(|| audience.latencies(&mut client, sizes.live_writes * 2, 1, write))?;
    report.row(
        "  INSERT sent to the one that it concerns, p50",
        "ms",
        percentile(taken.clone(), 50),
        Asked::nothing(),
        Some(load),
    );
    report.row("  p99", "ms", percentile(taken, 99), Asked::nothing(), Some(load));
    Ok(())
}

/// One, a tenth, and all.
fn counts(sizes: &Sizes) -> [usize; 3] {
    [1, sizes.subscriptions / 10, sizes.subscriptions]
}

fn all_match(server: &Server, client: &mut Client, count: usize, sizes: &Sizes, report: &mut Report) -> Result<()> {
    let is_all = count == sizes.subscriptions;
    let audience = Audience::gather(server, count, |_| "SELECT k, v FROM bench.watched".to_owned())?;
    let write = |number: usize| format!("INSERT INTO bench.watched VALUES ({number}, 'a message of some length')");
    // Enough that a percentile is not the slowest of them.
    let writes = sizes.live_writes * 4;
    let (taken, load) = server.loaded(|| audience.latencies(client, writes, count, write))?;
    let asked = |goal: Asked| if is_all { goal } else { Asked::nothing() };
    let what = format!("INSERT sent to the last of {count} subscribers, p50");
    report.row(&what, "ms", percentile(taken.clone(), 50), Asked::nothing(), Some(load));
    report.row("  p99", "ms", percentile(taken.clone(), 99), asked(Asked::at_most(150.0)), Some(load));
    let rate = count as f64 / (percentile(taken, 50) / 1e3);
    report.row("  frames", "1/s", rate, asked(Asked::at_least(100_000.0)), Some(load));
    Ok(())
}

fn routed(server: &Server, client: &mut Client, sizes: &Sizes, report: &mut Report) -> Result<()> {
    let (many, rooms) = (sizes.subscriptions, sizes.subscriptions / MATCHING);
    let filter = |number: usize| format!("SELECT k, v FROM bench.routed WHERE k = {}", number % rooms);
    let audience = Audience::gather(server, many, filter)?;
    let write = |number: usize| format!("INSERT INTO bench.routed VALUES ({}, 'a message')", number % rooms);
    let (taken, load) = server.loaded(|| audience.latencies(client, sizes.live_writes * 2, MATCHING, write))?;
    let what = format!("INSERT sent to the last of {MATCHING} that match, of {many} with a filter each, p50");
    report.row(&what, "ms", percentile(taken.clone(), 50), Asked::nothing(), Some(load));
    report.row("  p99", "ms", percentile(taken, 99), Asked::at_most(10.0), Some(load));
    Ok(())
}

/// The same with a partition for each subscription.
fn partitions(server: &Server, client: &mut Client, sizes: &Sizes, report: &mut Report) -> Result<()> {
    client.sql("CREATE USER TABLE bench.own (k INT, v TEXT)")?;
    let users: Vec<String> = (0..sizes.subscriptions).map(|number| format!("u{number}")).collect();
    for some in users.chunks(100) {
        let create = |user: &String| format!("CREATE USER '{user}' WITH PASSWORD 'of no use' ROLE 'user'");
        client.sql(&some.iter().map(create).collect::<Vec<_>>().join("; "))?;
    }
    for count in counts(sizes) {
        let sql = |number: usize| format!("EXECUTE AS USER 'u{number}' (SELECT k, v FROM bench.own)");
        let audience = Audience::gather(server, count, sql)?;
        let write = |number: usize| {
            format!("INSERT INTO bench.own AS USER 'u{}' VALUES ({number}, 'a message')", number * 7 % count)
        };
        let (taken, load) = server.loaded(|| audience.latencies(client, sizes.live_writes * 2, 1, write))?;
        let what = format!("INSERT sent to its subscriber, {count} partitions with one each, p50");
        report.row(&what, "ms", percentile(taken.clone(), 50), Asked::nothing(), Some(load));
        report.row("  p99", "ms", percentile(taken, 99), Asked::nothing(), Some(load));
    }
    Ok(())
}

fn idle(server: &Server, sizes: &Sizes, report: &mut Report) -> Result<()> {
    let many = sizes.subscriptions;
    let alone = Rates::measure(server, "other", sizes)?;
    let unwatched = Rates::measure(server, "idle", sizes)?;
    let before = server.memory_mib("VmRSS")?;
    let silent = (0..CONNECTIONS_MAX * 5).map(|_| silent(server)).collect::<Result<Vec<TcpStream>>>()?;
    let connected = server.memory_mib("VmRSS")?;
    let each = (connected - before).max(0.0) * 1024.0 / silent.len() as f64;
    report.row(&format!("memory of an idle connection, {}", silent.len()), "KiB", each, Asked::nothing(), None);
    drop(silent);
    let before = server.memory_mib("VmRSS")?;
    // No row that is written here has a number below nothing.
    let filter = |number: usize| format!("SELECT k, v FROM bench.idle WHERE k = -{}", number + 1);
    let audience = Audience::gather(server, many, filter)?;
    let after = server.memory_mib("VmRSS")?;
    let each = (after - before).max(0.0) * 1024.0 / many as f64;
    let what = format!("memory of an idle subscription, {many} with a filter each");
    report.row(&what, "KiB", each, Asked::at_most(2.0), None);
    let elsewhere = Rates::measure(server, "other", sizes)?;
    let missed = Rates::measure(server, "idle", sizes)?;
    drop(audience);
    let what = format!("INSERTs that nobody watches, with {many} subscribers elsewhere, against none");
    elsewhere.against(&alone, &what, Asked::at_least(0.9), report);
    let what = format!("INSERTs into a table with {many} filters that none matches, against none");
    missed.against(&unwatched, &what, Asked::nothing(), report);
    Ok(())
}

/// Rows that were inserted in a second, one at a time.
struct Rates {
    alone: f64,
    together: f64,
}

impl Rates {
    fn measure(server: &Server, table: &str, sizes: &Sizes) -> Result<Self> {
        let rate = |clients: usize| -> Result<f64> {
            let each = sizes.live_writes * 20 / clients;
            let (_, seconds) = server.together(clients, |writer, client| {
                (0..each).try_for_each(|number| {
                    let row = writer * each + number;
                    client.exactly(1, &format!("INSERT INTO bench.{table} VALUES ({row}, 'x')")).map(drop)
                })
            })?;
            Ok((each * clients) as f64 / seconds)
        };
        let of = |clients: usize| (0..sizes.runs).map(|_| rate(clients)).collect::<Result<Vec<_>>>().map(median);
        Ok(Self { alone: of(1)?, together: of(WRITERS)? })
    }

    fn against(&self, before: &Self, what: &str, asked: Asked, report: &mut Report) {
        report.row(&format!("{what}, 1 client"), "x", self.alone / before.alone, asked, None);
        let what = format!("  {WRITERS} clients");
        report.row(&what, "x", self.together / before.together, asked, None);
    }
}

/// A connection that is signed in and asks for nothing.
fn silent(server: &Server) -> Result<TcpStream> {
    let socket = upgraded(server)?;
    let mut reading = BufReader::new(socket.try_clone()?);
    skip_head(&mut reading)?;
    listen(&mut reading, &Heard::default())?;
    Ok(socket)
}
