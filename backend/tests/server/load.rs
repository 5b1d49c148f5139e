//! A load that runs until the server is gone, and what may be found afterwards: writers on rows of their own in a SHARED
//! and in a USER table, a founder who makes and drops namespaces and tables, and flushes over and over.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Debug;
use std::os::unix::process::ExitStatusExt;
use std::process::ExitStatus;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kalamdb_commons::clock::{Entropy, SystemEntropy};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::server::{Client, Server};

/// Writers on each table.
const WRITERS: u64 = 2;
/// Keys of each writer.
const KEYS: u64 = 24;
/// Places that the founder makes in one life of the server, at most.
const PLACES_MAX: u64 = 3;
const USER: &str = "al";
const PASSWORD: &str = "a password";

/// Rows by key.
pub(crate) type Rows = BTreeMap<u64, u64>;
/// The namespaces that the founder made, and the rows of the table in each that has one.
type Places = BTreeMap<u64, Option<Rows>>;

/// Numbers that a seed decides (splitmix64).
#[derive(Debug, Clone)]
pub(crate) struct Dice(u64);

impl Dice {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// With a seed that is printed.
    pub(crate) fn thrown() -> Self {
        let mut seed = [0; 8];
        SystemEntropy.fill(&mut seed);
        let seed = u64::from_be_bytes(seed);
        say(&format!("seed {seed}"));
        Self(seed)
    }

    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % end
    }
}

/// Tells what a failure is to be understood with.
#[expect(clippy::print_stdout, reason = "shown with a failed test")]
pub(crate) fn say(words: &str) {
    println!("{words}");
}

/// What the end of a server may take away.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kept {
    /// At most what was not acknowledged.
    Acknowledged,
    /// The last of what was done, acknowledged or not.
    Beginning,
}

/// The two kinds of table.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Shared,
    User,
}

impl Kind {
    pub(crate) const BOTH: [Self; 2] = [Self::Shared, Self::User];

    fn table(self) -> &'static str {
        match self {
            Self::Shared => "app.t",
            Self::User => "app.u",
        }
    }

    fn word(self) -> &'static str {
        match self {
            Self::Shared => "SHARED",
            Self::User => "USER",
        }
    }
}

/// What somebody has done, one statement at a time.
#[derive(Debug)]
struct History<S> {
    /// What there was before the first statement and after each.
    states: Vec<S>,
    /// How many statements were acknowledged.
    acknowledged: usize,
}

impl<S: Clone + Debug + PartialEq> History<S> {
    fn new(state: S) -> Self {
        Self { states: vec![state], acknowledged: 0 }
    }

    fn newest(&self) -> &S {
        &self.states[self.states.len() - 1]
    }

    /// A statement is sent that makes this of it.
    fn send(&mut self, state: S) {
        self.states.push(state);
    }

    fn acknowledge(&mut self) {
        self.acknowledged = self.states.len() - 1;
    }

    /// Compares with what a server that started again says, and takes that for what there is.
    fn settle(&mut self, who: &str, found: S, kept: Kept) {
        let first = if kept == Kept::Acknowledged { self.acknowledged } else { 0 };
        assert!(
            self.states[first..].contains(&found),
            "{who} found {found:?}\nacknowledged {:?}\nand perhaps {:?}",
            self.states[self.acknowledged],
            &self.states[self.acknowledged + 1..],
        );
        *self = Self::new(found);
    }
}

/// Somebody who writes to keys of their own, and remembers.
struct Writer {
    kind: Kind,
    number: u64,
    dice: Dice,
    history: History<Rows>,
    /// Makes every value different.
    value: u64,
}

impl Writer {
    fn new(kind: Kind, number: u64, dice: &mut Dice) -> Self {
        let dice = Dice::new(dice.below(u64::MAX));
        Self { kind, number, dice, history: History::new(Rows::new()), value: 0 }
    }

    /// The next statement, and what it makes.
    fn statement(&mut self) -> (String, Rows) {
        self.value += 1;
        let first = self.number * KEYS;
        let (table, key, value) = (self.kind.table(), first + self.dice.below(KEYS), self.value);
        let mut rows = self.history.newest().clone();
        // A second row in the same statement or transaction: in flight, both or none.
        let other = first + (key + 1) % KEYS;
        let upsert = |key: u64| {
            format!("INSERT INTO {table} VALUES ({key}, {value}) ON CONFLICT (id) DO UPDATE SET n = excluded.n")
        };
        let sql = match self.dice.below(10) {
            0..=3 => {
                rows.extend([(key, value), (other, value)]);
                format!(
                    "INSERT INTO {table} VALUES ({key}, {value}), ({other}, {value}) \
                     ON CONFLICT (id) DO UPDATE SET n = excluded.n"
                )
            }
            4 => {
                rows.remove(&other);
                rows.insert(key, value);
                format!("BEGIN; {}; DELETE FROM {table} WHERE id = {other}; COMMIT", upsert(key))
            }
            5..=7 => {
                rows.entry(key).and_modify(|n| *n = value);
                format!("UPDATE {table} SET n = {value} WHERE id = {key}")
            }
            _ => {
                rows.remove(&key);
                format!("DELETE FROM {table} WHERE id = {key}")
            }
        };
        (sql, rows)
    }

    async fn write(&mut self, client: &Client, progress: &Progress) {
        loop {
            let (sql, rows) = self.statement();
            self.history.send(rows);
            if !progress.send(client, &sql).await {
                return;
            }
            self.history.acknowledge();
        }
    }

    fn verify(&mut self, found: &Rows, kept: Kept) {
        let own = found.range(self.number * KEYS..(self.number + 1) * KEYS).map(|(key, n)| (*key, *n)).collect();
        self.history.settle(&format!("writer {} of {}", self.number, self.kind.table()), own, kept);
    }
}

/// Somebody who makes namespaces, with a table each, and drops some of the tables.
struct Founder {
    dice: Dice,
    history: History<Places>,
    next: u64,
}

impl Founder {
    async fn found(&mut self, client: &Client, kinds: &[Kind], progress: &Progress) {
        for place in self.next..self.next + PLACES_MAX {
            self.next = place + 1;
            let kind = kinds[usize::try_from(self.dice.below(kinds.len() as u64)).unwrap()].word();
            let create = format!("CREATE {kind} TABLE place{place}.t (id BIGINT PRIMARY KEY, n BIGINT)");
            let insert = |key: u64| format!("INSERT INTO place{place}.t VALUES ({key}, {key})");
            let flush = format!("STORAGE FLUSH TABLE place{place}.t WAIT");
            let rows = |keys: &[u64]| Some(keys.iter().map(|key| (*key, *key)).collect::<Rows>());
            let mut steps = vec![
                (format!("CREATE NAMESPACE place{place}"), None),
                (create.clone(), rows(&[])),
                (insert(1), rows(&[1])),
                (flush.clone(), rows(&[1])),
            ];
            if self.dice.below(2) == 0 {
                let again = [(create, rows(&[])), (insert(2), rows(&[2])), (flush, rows(&[2]))];
                steps.push((format!("DROP TABLE place{place}.t"), None));
                steps.extend(again);
            }
            for (sql, table) in steps {
                let mut places = self.history.newest().clone();
                places.insert(place, table);
                self.history.send(places);
                if !progress.send(client, &sql).await {
                    return;
                }
                self.history.acknowledge();
            }
        }
    }

    /// What there is of the places.
    async fn seen(server: &Server) -> Places {
        let mut places = Places::new();
        for row in server.rows("SELECT name FROM system.namespaces").await.as_array().unwrap() {
            if let Some(place) = row[0].as_str().unwrap().strip_prefix("place") {
                places.insert(place.parse().unwrap(), None);
            }
        }
        let tables = server.rows("SELECT namespace_id FROM system.tables WHERE table_name = 't' AND is_latest").await;
        for row in tables.as_array().unwrap() {
            if let Some(place) = row[0].as_str().unwrap().strip_prefix("place") {
                let rows = rows(server, &format!("place{place}.t")).await;
                assert!(places.insert(place.parse().unwrap(), Some(rows)).is_some(), "a table without its namespace");
            }
        }
        places
    }
}

/// Acknowledged statements, and who waits for how many.
struct Progress {
    acknowledged: AtomicU64,
    kill_at: u64,
    reached: Notify,
}

impl Progress {
    /// Sends a statement, which the server carries out if it lives. Whether it did.
    async fn send(&self, client: &Client, sql: &str) -> bool {
        let Ok(reply) = client.attempt(sql).await else { return false };
        assert_eq!(reply.status, 200, "{sql}: {reply:?}");
        if self.acknowledged.fetch_add(1, Ordering::SeqCst) + 1 >= self.kill_at {
            self.reached.notify_one();
        }
        true
    }
}

/// How a server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// It was killed.
    Killed,
    /// It ended itself, at a fail point.
    Itself,
}

/// The writers and the founder, from one life of the server to the next.
pub(crate) struct Load {
    kept: Kept,
    writers: Vec<Writer>,
    founder: Founder,
}

impl Load {
    /// Makes the tables. Nothing is lost that is made before the first run.
    pub(crate) async fn prepare(server: &Server, dice: &mut Dice, kept: Kept) -> Self {
        server.user(USER).await;
        server
            .sql(
                "CREATE NAMESPACE app; CREATE SHARED TABLE app.t (id BIGINT PRIMARY KEY, n BIGINT);
                 CREATE USER TABLE app.u (id BIGINT PRIMARY KEY, n BIGINT)",
            )
            .await;
        let mut writers = Vec::new();
        for kind in Kind::BOTH {
            writers.extend((0..WRITERS).map(|number| Writer::new(kind, number, dice)));
        }
        let founder = Founder { dice: Dice::new(dice.below(u64::MAX)), history: History::new(Places::new()), next: 0 };
        Self { kept, writers, founder }
    }

    /// Writes, founds, and flushes tables of these kinds until the server is gone, and kills it after so many
    /// acknowledged statements.
    pub(crate) async fn run(&mut self, server: &mut Server, flushed: &[Kind], kill_at: u64) -> End {
        let progress = Arc::new(Progress { acknowledged: AtomicU64::new(0), kill_at, reached: Notify::new() });
        let Ok(user) = server.try_login(USER, PASSWORD).await else { return end(server.kill()) };
        let (mut writing, mut flushing) = (JoinSet::new(), JoinSet::new());
        for mut writer in self.writers.drain(..) {
            let client = if writer.kind == Kind::User { user.clone() } else { (**server).clone() };
            let progress = progress.clone();
            writing.spawn(async move {
                writer.write(&client, &progress).await;
                writer
            });
        }
        for kind in flushed {
            flushing.spawn(flush((**server).clone(), kind.table()));
        }
        let ended = async {
            self.founder.found(server, flushed, &progress).await;
            while flushing.join_next().await.is_some() {}
        };
        tokio::select! {
            () = progress.reached.notified() => {}
            () = ended => {}
        }
        let status = server.kill();
        self.writers = writing.join_all().await;
        flushing.join_all().await;
        end(status)
    }

    /// Asserts what a server that started again says, and takes that for what there is.
    pub(crate) async fn verify(&mut self, server: &Server) {
        let user = server.login(USER, PASSWORD).await;
        for kind in Kind::BOTH {
            let client = if kind == Kind::User { &user } else { server };
            let found = rows(client, kind.table()).await;
            let writers = self.writers.iter_mut().filter(|writer| writer.kind == kind);
            writers.for_each(|writer| writer.verify(&found, self.kept));
        }
        self.founder.history.settle("the founder", Founder::seen(server).await, self.kept);
    }

    /// The rows of each table that has any, as they were last verified, by the table's directory.
    pub(crate) fn tables(&self) -> BTreeMap<String, Rows> {
        let mut tables: BTreeMap<String, Rows> = BTreeMap::new();
        for writer in &self.writers {
            let table = tables.entry(writer.kind.table().replace('.', "/")).or_default();
            table.extend(writer.history.newest().iter().map(|(key, n)| (*key, *n)));
        }
        for (place, rows) in self.founder.history.newest() {
            tables.insert(format!("place{place}/t"), rows.clone().unwrap_or_default());
        }
        tables.retain(|_, rows| !rows.is_empty());
        tables
    }

    /// Flushes all tables and asserts that nothing changes.
    pub(crate) async fn verify_flushed(&mut self, server: &Server) {
        server.sql("STORAGE FLUSH ALL WAIT").await;
        self.verify(server).await;
    }
}

fn end(status: ExitStatus) -> End {
    if status.signal() == Some(9) { End::Killed } else { End::Itself }
}

/// The rows of a table, each key once, and each key by itself the same.
async fn rows(client: &Client, table: &str) -> Rows {
    let answer = client.rows(&format!("SELECT id, n, _seq FROM {table}")).await;
    let number = |cell: &Value| cell.as_str().unwrap().parse::<u64>().unwrap();
    let mut versions: BTreeMap<u64, &Value> = BTreeMap::new();
    for row in answer.as_array().unwrap() {
        let twice = versions.insert(number(&row[0]), row);
        assert_eq!(twice, None, "the key {} is in {table} twice; the other is {row}", row[0]);
    }
    let rows: Rows = versions.into_iter().map(|(key, row)| (key, number(&row[1]))).collect();
    let keys: BTreeSet<u64> = rows.keys().copied().chain(0..WRITERS * KEYS).collect();
    let questions: Vec<String> = keys.iter().map(|key| format!("SELECT n FROM {table} WHERE id = {key}")).collect();
    let reply = client.ask(&questions.join("; ")).await;
    for (key, answer) in keys.iter().zip(reply.results()) {
        let expected = rows.get(key).map_or(json!([]), |n| json!([[n.to_string()]]));
        assert_eq!(answer["rows"], expected, "the key {key} of {table} by itself");
    }
    rows
}

/// Flushes a table over and over until the server is gone.
async fn flush(client: Client, table: &'static str) {
    while let Ok(reply) = client.attempt(&format!("STORAGE FLUSH TABLE {table} WAIT")).await {
        reply.results();
    }
}
