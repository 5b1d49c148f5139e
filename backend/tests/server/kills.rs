//! `kill -9` under load: what was acknowledged is there once, what was deleted stays away, and what was in flight
//! happened wholly or not at all.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kalamdb_commons::clock::{Entropy, SystemEntropy};
use serde_json::Value;
use tokio::sync::Notify;

use crate::server::{Client, Home};

const ROUNDS: usize = 20;
const WRITERS: u64 = 4;
/// Keys of each writer.
const KEYS: u64 = 24;
/// Acknowledged statements after which a round may be killed, at most.
const ACKNOWLEDGED_MAX: u64 = 120;

/// Rows by key.
type Rows = BTreeMap<u64, u64>;

/// Numbers that a seed decides (splitmix64).
struct Dice(u64);

impl Dice {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        (z ^ (z >> 31)) % end
    }
}

/// Acknowledged statements of a round, and who waits for how many.
struct Progress {
    acknowledged: AtomicU64,
    kill_at: u64,
    reached: Notify,
}

/// Somebody who writes to keys of their own, and remembers.
struct Writer {
    number: u64,
    dice: Dice,
    /// As acknowledged.
    sure: Rows,
    /// As it is if the statement in flight was carried out.
    perhaps: Rows,
    /// Makes every value different.
    value: u64,
}

impl Writer {
    fn new(number: u64, seed: u64) -> Self {
        let dice = Dice(seed ^ number.wrapping_mul(0xA076_1D64_78BD_642F));
        Self { number, dice, sure: Rows::new(), perhaps: Rows::new(), value: 0 }
    }

    fn key(&mut self) -> u64 {
        self.number * KEYS + self.dice.below(KEYS)
    }

    /// The next statement. `perhaps` becomes what it makes.
    fn statement(&mut self) -> String {
        self.value += 1;
        let (key, value) = (self.key(), self.value);
        match self.dice.below(10) {
            0..=4 => {
                // Two rows in one statement: in flight, both or none.
                let other = self.number * KEYS + (key + 1) % KEYS;
                self.perhaps.extend([(key, value), (other, value)]);
                format!(
                    "INSERT INTO app.t VALUES ({key}, {value}), ({other}, {value}) \
                     ON CONFLICT (id) DO UPDATE SET n = excluded.n"
                )
            }
            5..=7 => {
                self.perhaps.entry(key).and_modify(|n| *n = value);
                format!("UPDATE app.t SET n = {value} WHERE id = {key}")
            }
            _ => {
                self.perhaps.remove(&key);
                format!("DELETE FROM app.t WHERE id = {key}")
            }
        }
    }

    /// Writes until the server is gone.
    async fn write(&mut self, client: &Client, progress: &Progress) {
        loop {
            let sql = self.statement();
            let Ok(reply) = client.attempt(&sql).await else { return };
            reply.results();
            self.sure.clone_from(&self.perhaps);
            if progress.acknowledged.fetch_add(1, Ordering::SeqCst) + 1 >= progress.kill_at {
                progress.reached.notify_one();
            }
        }
    }

    /// Compares with what a server that started again says, and takes that for what is sure.
    fn verify(&mut self, found: &Rows) {
        let own: Rows = found.range(self.number * KEYS..(self.number + 1) * KEYS).map(|(key, n)| (*key, *n)).collect();
        assert!(
            own == self.sure || own == self.perhaps,
            "writer {}: found {own:?}\nacknowledged {:?}\nwith the statement in flight {:?}",
            self.number,
            self.sure,
            self.perhaps
        );
        self.sure.clone_from(&own);
        self.perhaps = own;
    }
}

/// The rows of the table, each key once.
async fn rows(client: &Client) -> Rows {
    let answer = client.rows("SELECT id, n FROM app.t").await;
    let number = |cell: &Value| cell.as_str().unwrap().parse::<u64>().unwrap();
    let mut rows = Rows::new();
    for row in answer.as_array().unwrap() {
        let twice = rows.insert(number(&row[0]), number(&row[1]));
        assert_eq!(twice, None, "the key {} is there twice", row[0]);
    }
    rows
}

/// Flushes over and over until the server is gone.
async fn flush(client: Client) {
    while let Ok(reply) = client.attempt("STORAGE FLUSH TABLE app.t WAIT").await {
        reply.results();
    }
}

/// FR-001 to FR-012, SC-008.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sc_008_every_acknowledged_write_outlives_kill_9_twenty_times() {
    let mut seed = [0; 8];
    SystemEntropy.fill(&mut seed);
    let seed = u64::from_be_bytes(seed);
    println!("seed {seed}");
    let mut dice = Dice(seed);
    let home = Home::new(&[("HOT__DURABILITY", "sync"), ("JOBS__ORPHAN_INTERVAL_SECONDS", "1")]);
    let mut server = home.start().await;
    server.sql("CREATE NAMESPACE app; CREATE SHARED TABLE app.t (id BIGINT PRIMARY KEY, n BIGINT)").await;
    let mut writers: Vec<Writer> = (0..WRITERS).map(|number| Writer::new(number, seed)).collect();
    for round in 0..ROUNDS {
        let kill_at = 1 + dice.below(ACKNOWLEDGED_MAX);
        let progress = Arc::new(Progress { acknowledged: AtomicU64::new(0), kill_at, reached: Notify::new() });
        let writing: Vec<_> = writers
            .drain(..)
            .map(|mut writer| {
                let (client, progress) = ((*server).clone(), progress.clone());
                tokio::spawn(async move {
                    writer.write(&client, &progress).await;
                    writer
                })
            })
            .collect();
        let flushing = tokio::spawn(flush((*server).clone()));
        progress.reached.notified().await;
        server.kill();
        for writer in writing {
            writers.push(writer.await.unwrap());
        }
        flushing.await.unwrap();
        server = home.start().await;
        let found = rows(&server).await;
        println!("round {round}: killed after {kill_at} statements, {} rows", found.len());
        for writer in &mut writers {
            writer.verify(&found);
        }
        for (key, n) in &found {
            let point = server.rows(&format!("SELECT n FROM app.t WHERE id = {key}")).await;
            assert_eq!(point, serde_json::json!([[n.to_string()]]), "the key {key} by itself");
        }
    }
    server.flush("app.t").await;
    let found = rows(&server).await;
    writers.iter_mut().for_each(|writer| writer.verify(&found));
}
