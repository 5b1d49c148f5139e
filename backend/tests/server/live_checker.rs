//! Whatever happens between a write and its watchers: after quiet every watcher has what SELECT says, and heard of it in
//! commit order, each change once in the life of a subscription. Nobody is told to begin anew whose table keeps its deletions.
//!
//! Random writers, random filters and random batches; flushes, compactions, restarts and kills of the server;
//! connections cut anywhere by a proxy; watchers that stop reading for a while. The seed is printed.
//! `KALAMDB_LIVE_ROUNDS`, when the test is built, asks for more rounds, and `KALAMDB_LIVE_SEED` for a seed.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

use crate::load::Dice;
use crate::server::{Client, Home, Server};
use crate::wire::{PATIENCE, Wire};

const ROUNDS: u64 = 25;
const WATCHERS: u64 = 12;
const WRITERS: u64 = 4;
/// Statements of a writer in a round, at most.
const STATEMENTS_MAX: u64 = 40;
const KEYS: u64 = 60;
const USERS: [&str; 3] = ["root", "ann", "bob"];
/// Who reads and writes what: the partitions that take part.
const PARTITIONS: [(usize, &str); 4] = [(0, "app.t"), (1, "app.own"), (2, "app.own"), (1, "app.feed")];
const FILTERS: [&str; 7] = [
    "",
    " WHERE v >= 50",
    " WHERE room = 'a'",
    " WHERE room = 'b' AND v < 70",
    " WHERE v BETWEEN 20 AND 60 OR room = 'c'",
    " WHERE k % 3 = 0",
    " WHERE room IS NULL",
];

/// Where the server is now, and with which token each user comes.
#[derive(Debug)]
struct Reach {
    clients: Vec<Client>,
}

/// Passes connections on to wherever the server is, and cuts them when told to.
#[derive(Debug)]
struct Proxy {
    url: String,
    target: Arc<Mutex<String>>,
    cut: Arc<Notify>,
}

impl Proxy {
    async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (target, cut) = (Arc::new(Mutex::new(String::new())), Arc::new(Notify::new()));
        let (to, cutting) = (target.clone(), cut.clone());
        tokio::spawn(async move {
            while let Ok((mut near, _)) = listener.accept().await {
                let (to, cutting) = (to.lock().unwrap().clone(), cutting.clone());
                tokio::spawn(async move {
                    let Ok(mut far) = TcpStream::connect(to).await else { return };
                    tokio::select! {
                        _ = tokio::io::copy_bidirectional(&mut near, &mut far) => {}
                        () = cutting.notified() => {}
                    }
                });
            }
        });
        Self { url, target, cut }
    }

    fn point_at(&self, server: &Server) {
        *self.target.lock().unwrap() = server.url.trim_start_matches("http://").to_owned();
    }
}

/// What a watcher has, shared with whoever checks it.
#[derive(Debug, Default)]
struct Seen {
    rows: BTreeMap<i64, Value>,
    cursor: i64,
    lives: u64,
    resyncs: u64,
    changes: u64,
    fault: Option<String>,
}

/// Somebody who subscribes, again and again.
struct Watcher {
    user: usize,
    sql: String,
    dice: Dice,
    reach: Arc<Mutex<Reach>>,
    proxy: String,
    seen: Arc<Mutex<Seen>>,
    /// Told when something was heard.
    heard: Arc<Notify>,
    rest: Arc<Rest>,
}

/// Watchers that stop reading for a while.
#[derive(Debug, Default)]
struct Rest {
    /// Nobody rests now.
    quiet: AtomicBool,
    wake: Notify,
}

impl Rest {
    async fn take(&self) {
        let wake = self.wake.notified();
        tokio::pin!(wake);
        wake.as_mut().enable();
        if !self.quiet.load(Ordering::SeqCst) {
            wake.await;
        }
    }

    fn end(&self) {
        self.quiet.store(true, Ordering::SeqCst);
        self.wake.notify_waiters();
    }
}

fn seq(row: &Value) -> i64 {
    row["_seq"].as_str().unwrap().parse().unwrap()
}

fn id(row: &Value) -> i64 {
    row["_id"].as_str().unwrap().parse().unwrap()
}

/// A row as it is compared.
fn plain(row: &Value) -> Value {
    json!([row["k"], row["room"], row["v"]])
}

impl Watcher {
    async fn run(mut self) {
        loop {
            let client = self.reach.lock().unwrap().clients[self.user].at(&self.proxy);
            if let Ok(mut wire) = Wire::try_open(&client, "").await {
                self.live(&mut wire).await;
                if self.seen.lock().unwrap().fault.is_some() {
                    self.heard.notify_waiters();
                    return;
                }
            }
            // A server that is being started is looked for again soon.
            drop(tokio::time::timeout(Duration::from_millis(20), self.heard.notified()).await);
        }
    }

    /// One life of the subscription.
    async fn live(&mut self, wire: &mut Wire) {
        match wire.hear().await {
            Ok(message) if message["type"] == "auth_success" => {}
            _ => return,
        }
        let (cursor, fresh) = {
            let mut seen = self.seen.lock().unwrap();
            seen.lives += 1;
            (seen.cursor, seen.cursor == 0)
        };
        let mut options = json!({"batch_size": 1 + self.dice.below(20)});
        if fresh {
            self.seen.lock().unwrap().rows.clear();
        } else {
            options["from"] = json!(cursor.to_string());
        }
        let subscription = json!({"id": "s", "sql": self.sql, "options": options});
        if wire.try_say(&json!({"type": "subscribe", "subscription": subscription})).await.is_err() {
            return;
        }
        let mut last = cursor;
        loop {
            if self.dice.below(200) == 0 {
                self.rest.take().await;
            }
            let Ok(message) = wire.hear().await else { return };
            match message["type"].as_str().unwrap() {
                "initial_data_batch" => {
                    self.batch(&message, &mut last);
                    if message["batch_control"]["has_more"] == true {
                        let next = json!({"type": "next_batch", "subscription_id": "s"});
                        if wire.try_say(&next).await.is_err() {
                            return;
                        }
                    }
                }
                "change" => self.change(&message, &mut last),
                "error" if message["code"] == "RESYNC_REQUIRED" => {
                    let mut seen = self.seen.lock().unwrap();
                    seen.rows.clear();
                    seen.cursor = 0;
                    seen.resyncs += 1;
                    last = 0;
                }
                "error" => self.fault(format!("{message}")),
                _ => {}
            }
            self.heard.notify_waiters();
        }
    }

    fn fault(&self, fault: String) {
        self.seen.lock().unwrap().fault.get_or_insert(fault);
    }

    fn batch(&self, message: &Value, last: &mut i64) {
        for row in message["rows"].as_array().unwrap() {
            self.in_order(seq(row), last, row);
            self.seen.lock().unwrap().rows.insert(id(row), plain(row));
        }
    }

    fn change(&self, message: &Value, last: &mut i64) {
        let (now, before) = (&message["rows"][0], &message["old_values"][0]);
        let at = if now.is_null() { seq(before) } else { seq(now) };
        self.in_order(at, last, message);
        let mut seen = self.seen.lock().unwrap();
        seen.changes += 1;
        if !before.is_null() {
            seen.rows.remove(&id(before));
        }
        if !now.is_null() {
            seen.rows.insert(id(now), plain(now));
        }
    }

    fn in_order(&self, at: i64, last: &mut i64, what: &Value) {
        if at <= *last {
            self.fault(format!("{at} came after {last}: {what}"));
        }
        *last = at;
        let mut seen = self.seen.lock().unwrap();
        seen.cursor = seen.cursor.max(at);
    }
}

/// A statement on a table, as a seed decides.
fn statement(dice: &mut Dice, table: &str) -> String {
    let (key, v) = (dice.below(KEYS), dice.below(100));
    let room = ["'a'", "'b'", "'c'", "NULL"][dice.below(4) as usize];
    match dice.below(12) {
        0..=3 => format!(
            "INSERT INTO {table} (k, room, v) VALUES ({key}, {room}, {v}) \
             ON CONFLICT (k) DO UPDATE SET room = excluded.room, v = excluded.v"
        ),
        4..=5 => format!("UPDATE {table} SET v = {v} WHERE k = {key}"),
        6 => format!("UPDATE {table} SET room = {room} WHERE k >= {key} AND k < {}", key + 5),
        7 => format!("UPDATE {table} SET v = v + 1 WHERE v < {v}"),
        8..=9 => format!("DELETE FROM {table} WHERE k = {key}"),
        10 => format!("DELETE FROM {table} WHERE k > {} AND room = {room}", key.max(KEYS / 2)),
        _ => format!(
            "BEGIN; DELETE FROM {table} WHERE k = {key}; INSERT INTO {table} (k, room, v) VALUES ({key}, {room}, {v}); \
             UPDATE {table} SET v = 0 WHERE k = {}; COMMIT",
            (key + 1) % KEYS
        ),
    }
}

/// Everything that takes part.
struct Checker {
    home: Home,
    server: Option<Server>,
    proxy: Proxy,
    reach: Arc<Mutex<Reach>>,
    watchers: Vec<(usize, String, Arc<Mutex<Seen>>)>,
    heard: Arc<Notify>,
    rest: Arc<Rest>,
    dice: Dice,
}

impl Checker {
    async fn start(seed: u64) -> (Self, Vec<JoinHandle<()>>) {
        let settings = [
            ("HOT__CHANGE_LOG_RETENTION_SECONDS", "1"),
            ("HOT__CHANGE_LOG_TRIM_INTERVAL_SECONDS", "1"),
            ("LIVE__QUEUE_ROWS_MAX", "30"),
            ("LIVE__MESSAGES_PER_SECOND_MAX", "100000"),
            ("FLUSH__ROWS", "200"),
            ("FLUSH__CHECK_INTERVAL_SECONDS", "1"),
        ];
        let home = Home::new(&settings);
        let server = home.start().await;
        let columns = "k INT PRIMARY KEY, room TEXT, v INT";
        server.sql(&format!("CREATE NAMESPACE app; CREATE SHARED TABLE app.t ({columns})")).await;
        server.sql(&format!("CREATE USER TABLE app.own ({columns})")).await;
        server.sql(&format!("CREATE STREAM TABLE app.feed ({columns}) TTL 86400")).await;
        for user in &USERS[1..] {
            server.user(user).await;
        }
        let proxy = Proxy::start().await;
        let mut checker = Self {
            home,
            server: Some(server),
            proxy,
            reach: Arc::new(Mutex::new(Reach { clients: Vec::new() })),
            watchers: Vec::new(),
            heard: Arc::default(),
            rest: Arc::default(),
            dice: Dice::new(seed),
        };
        checker.reached().await;
        let tasks = (0..WATCHERS).map(|number| checker.watch(number, seed)).collect();
        (checker, tasks)
    }

    fn server(&self) -> &Server {
        self.server.as_ref().unwrap()
    }

    /// Tells everybody where the server is.
    async fn reached(&self) {
        let server = self.server();
        let mut clients: Vec<Client> = vec![(**server).clone()];
        for user in &USERS[1..] {
            clients.push(server.login(user, "a password").await);
        }
        self.reach.lock().unwrap().clients = clients;
        self.proxy.point_at(server);
    }

    fn watch(&mut self, number: u64, seed: u64) -> JoinHandle<()> {
        let (user, table) = PARTITIONS[number as usize % PARTITIONS.len()];
        let filter = FILTERS[self.dice.below(FILTERS.len() as u64) as usize];
        let sql = format!("SELECT _id, k, room, v FROM {table}{filter}");
        let seen: Arc<Mutex<Seen>> = Arc::default();
        self.watchers.push((user, sql.clone(), seen.clone()));
        let watcher = Watcher {
            user,
            sql,
            dice: Dice::new(seed ^ (number + 1).wrapping_mul(0xA076_1D64_78BD_642F)),
            reach: self.reach.clone(),
            proxy: self.proxy.url.clone(),
            seen,
            heard: self.heard.clone(),
            rest: self.rest.clone(),
        };
        tokio::spawn(watcher.run())
    }

    async fn round(&mut self) {
        let writers: Vec<JoinHandle<()>> = (0..WRITERS).map(|number| self.writer(number)).collect();
        for _ in 0..self.dice.below(4) {
            match self.dice.below(6) {
                0..=1 => self.proxy.cut.notify_waiters(),
                2..=3 => {
                    let table = PARTITIONS[self.dice.below(2) as usize].1;
                    self.server().flush(table).await;
                }
                4 => {
                    let table = PARTITIONS[self.dice.below(2) as usize].1;
                    // Nothing to merge is no failure.
                    drop(self.server().ask(&format!("STORAGE COMPACT TABLE {table} WAIT")).await);
                }
                _ => self.rest.wake.notify_waiters(),
            }
        }
        if self.dice.below(8) == 0 {
            self.again().await;
        }
        for writer in writers {
            writer.await.unwrap();
        }
        self.rest.end();
        self.agree().await;
        self.rest.quiet.store(false, Ordering::SeqCst);
    }

    /// Ends the server, in order or not, and starts it again.
    async fn again(&mut self) {
        let mut server = self.server.take().unwrap();
        if self.dice.below(2) == 0 {
            server.kill();
        } else {
            server.terminate();
            server.ended();
        }
        self.server = Some(self.home.start().await);
        self.reached().await;
    }

    fn writer(&mut self, number: u64) -> JoinHandle<()> {
        let (user, table) = PARTITIONS[number as usize % PARTITIONS.len()];
        let client = self.reach.lock().unwrap().clients[user].clone();
        let mut dice = Dice::new(self.dice.below(u64::MAX));
        let count = dice.below(STATEMENTS_MAX);
        tokio::spawn(async move {
            for _ in 0..count {
                // The server may be gone by now; what it has carried out counts, whatever it has answered.
                if client.attempt(&statement(&mut dice, table)).await.is_err() {
                    return;
                }
            }
        })
    }

    /// Waits until every watcher has what SELECT says.
    async fn agree(&self) {
        for (user, sql, seen) in &self.watchers {
            let client = self.reach.lock().unwrap().clients[*user].clone();
            let rows = client.rows(sql).await;
            let expected: BTreeMap<i64, Value> = rows
                .as_array()
                .unwrap()
                .iter()
                .map(|row| (row[0].as_str().unwrap().parse().unwrap(), json!([row[1], row[2], row[3]])))
                .collect();
            loop {
                let heard = self.heard.notified();
                tokio::pin!(heard);
                heard.as_mut().enable();
                {
                    let seen = seen.lock().unwrap();
                    assert_eq!(seen.fault, None, "{sql}");
                    if seen.rows == expected {
                        break;
                    }
                }
                let waited = tokio::time::timeout(PATIENCE, heard).await;
                assert!(waited.is_ok(), "{sql}: {:?} is not {expected:?}", seen.lock().unwrap());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_watcher_ends_up_with_what_select_says() {
    let seed = option_env!("KALAMDB_LIVE_SEED").and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| Dice::thrown().below(u64::MAX));
    println!("seed of the check {seed}");
    let rounds = option_env!("KALAMDB_LIVE_ROUNDS").and_then(|rounds| rounds.parse().ok()).unwrap_or(ROUNDS);
    let (mut checker, watchers) = Checker::start(seed).await;
    for _ in 0..rounds {
        checker.round().await;
    }
    let total =
        |of: fn(&Seen) -> u64| -> u64 { checker.watchers.iter().map(|(_, _, seen)| of(&seen.lock().unwrap())).sum() };
    println!(
        "{rounds} rounds, {} lives, {} changes, {} resynchronisations",
        total(|seen| seen.lives),
        total(|seen| seen.changes),
        total(|seen| seen.resyncs)
    );
    let kept = checker.watchers.iter().filter(|(_, sql, _)| !sql.contains("app.feed"));
    let resyncs: u64 = kept.map(|(_, _, seen)| seen.lock().unwrap().resyncs).sum();
    assert_eq!(resyncs, 0, "deletions are kept for a week, and no life began anew");
    assert!(total(|seen| seen.changes) > 0 && total(|seen| seen.lives) > WATCHERS, "nothing was tried");
    watchers.iter().for_each(JoinHandle::abort);
}
