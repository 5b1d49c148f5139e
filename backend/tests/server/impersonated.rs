//! SC-009 over `kill -9`: the audit log and what was done on somebody's behalf tell one story, statement by statement.
//!
//! Each writer acts for a subject of their own, one statement at a time, so that what the log must say of that subject is
//! known in order: everything that was acknowledged, then perhaps the one statement that was in flight. If that one
//! writes, its rows decide whether it is there.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::load::{Dice, say};
use crate::server::{Client, Home, Reply, Server};

const WRITERS: u64 = 4;
const LIVES: u64 = 6;
/// Acknowledged statements after which a life may be killed.
const STATEMENTS: (u64, u64) = (300, 400);
const PASSWORD: &str = "a password";

type Rows = BTreeMap<u64, String>;

/// How a statement is sent.
enum Sent {
    /// By the service.
    Sql(String),
    /// By the service, with the subject around the whole request.
    Whole(String),
    /// By the service, as a body of rows.
    Import(String),
    /// By somebody who may not.
    Refused(String),
}

/// A statement, what the log has to say of it, and the rows that it leaves.
struct Step {
    sent: Sent,
    trace: Vec<String>,
    rows: Rows,
}

/// Somebody who acts for one subject, and remembers.
struct Writer {
    number: u64,
    dice: Dice,
    next: u64,
    rows: Rows,
    /// What was acknowledged, as the log has it.
    trace: Vec<String>,
    in_flight: Option<Step>,
}

/// Who sends it.
#[derive(Clone)]
struct Senders {
    service: Client,
    nobody: Client,
}

impl Writer {
    fn new(number: u64, dice: &mut Dice) -> Self {
        let dice = Dice::new(dice.below(u64::MAX));
        Self { number, dice, next: 0, rows: Rows::new(), trace: Vec::new(), in_flight: None }
    }

    fn subject(&self) -> String {
        format!("subject{}", self.number)
    }

    /// New rows, and their VALUES.
    fn fresh(&mut self, count: u64, word: &str) -> (Rows, String) {
        let ids = self.next..self.next + count;
        self.next += count;
        let values: Vec<String> = ids.clone().map(|id| format!("({id}, '{word}')")).collect();
        (ids.map(|id| (id, word.to_owned())).collect(), values.join(", "))
    }

    fn step(&mut self) -> Step {
        let (subject, word) = (self.subject(), format!("w{}", self.trace.len()));
        let mut rows = self.rows.clone();
        let some = self.rows.keys().copied().nth(self.dice.below(self.rows.len().max(1) as u64) as usize);
        let count = 1 + self.dice.below(3);
        let ok = |kind: &str, count: u64| vec![format!("{kind}|ok|{count}")];
        let (sent, trace) = match (self.dice.below(12), some) {
            (0..=2, _) | (_, None) => {
                let (new, values) = self.fresh(count, &word);
                rows.extend(new);
                (Sent::Sql(format!("INSERT INTO app.t AS USER '{subject}' VALUES {values}")), ok("INSERT", count))
            }
            (3, _) => {
                let (new, values) = self.fresh(count, &word);
                rows.extend(new);
                (Sent::Whole(format!("INSERT INTO app.t VALUES {values}")), ok("INSERT", count))
            }
            (4, _) => {
                let (new, _) = self.fresh(count, &word);
                let lines: String = new.iter().map(|(id, word)| format!("{id},{word}\n")).collect();
                rows.extend(new);
                (Sent::Import(format!("id,word\n{lines}")), ok("IMPORT", count))
            }
            (5, Some(from)) => {
                let changed = rows.range_mut(from..from + 5).map(|(_, old)| old.clone_from(&word)).count();
                let range = format!("id >= {from} AND id < {}", from + 5);
                let sql = format!("UPDATE app.t AS USER '{subject}' SET word = '{word}' WHERE {range}");
                (Sent::Sql(sql), ok("UPDATE", changed as u64))
            }
            (6, Some(id)) => {
                rows.remove(&id);
                let sql = format!("EXECUTE AS USER '{subject}' (DELETE FROM app.t WHERE id = {id})");
                (Sent::Sql(sql), ok("DELETE", 1))
            }
            (7, Some(id)) => {
                let sql = format!("EXECUTE AS USER '{subject}' (SELECT word FROM app.t WHERE id = {id})");
                (Sent::Sql(sql), vec!["SELECT|ok|null".to_owned()])
            }
            (8, Some(id)) => {
                let sql = format!("INSERT INTO app.t AS USER '{subject}' VALUES ({id}, 'again')");
                (Sent::Sql(sql), vec!["INSERT|failed|null".to_owned()])
            }
            (9, Some(id)) => {
                let sql = format!("DELETE FROM app.t AS USER '{subject}' WHERE id = {id}");
                (Sent::Refused(sql), vec!["DELETE|refused|null".to_owned()])
            }
            (10, Some(id)) => {
                let (new, values) = self.fresh(count, &word);
                rows.extend(new);
                rows.insert(id, word.clone());
                let insert = format!("INSERT INTO app.t AS USER '{subject}' VALUES {values}");
                let update = format!("UPDATE app.t AS USER '{subject}' SET word = '{word}' WHERE id = {id}");
                let trace = [ok("INSERT", count), ok("UPDATE", 1)].concat();
                (Sent::Sql(format!("BEGIN; {insert}; {update}; COMMIT")), trace)
            }
            (_, Some(id)) => {
                let sql = format!("BEGIN; DELETE FROM app.t AS USER '{subject}' WHERE id = {id}; ROLLBACK");
                (Sent::Sql(sql), vec!["DELETE|rolled_back|1".to_owned()])
            }
        };
        Step { sent, trace, rows }
    }

    /// Sends one statement after the other until the server is gone.
    async fn write(&mut self, senders: &Senders, progress: &Progress) {
        loop {
            let step = self.step();
            let reply = send(&step.sent, &self.subject(), senders).await;
            self.in_flight = Some(step);
            let Ok(reply) = reply else { return };
            let Some(step) = self.in_flight.take() else { return };
            let is_fine = step.trace.iter().all(|line| !line.contains("failed") && !line.contains("refused"));
            assert_eq!(reply.status == 200, is_fine, "{:?}: {reply:?}", step.trace);
            self.rows = step.rows;
            self.trace.extend(step.trace);
            progress.acknowledge();
        }
    }

    /// Compares with what a server that started again says, and takes that for what there is.
    async fn settle(&mut self, server: &Server) {
        let subject = self.subject();
        let (found, logged) = (rows_of(server, &subject).await, log_of(server, &subject).await);
        let (known, more) = logged.split_at(self.trace.len().min(logged.len()));
        assert_eq!(known, self.trace, "{subject}: what was acknowledged is in the log, once and in order");
        let step = self.in_flight.take();
        let (trace, rows) = step.map_or((Vec::new(), self.rows.clone()), |step| (step.trace, step.rows));
        if rows == self.rows {
            assert!(
                trace.starts_with(more),
                "{subject}: {more:?} is of nothing that was sent; {trace:?} was in flight"
            );
            assert_eq!(found, self.rows, "{subject}");
        } else if found == self.rows {
            assert!(more.is_empty(), "{subject}: {more:?} without a commit");
        } else {
            assert_eq!(found, rows, "{subject}");
            assert_eq!(more, trace, "{subject}: a commit without its entries");
        }
        self.rows = found;
        self.trace = logged;
    }
}

async fn send(sent: &Sent, subject: &str, senders: &Senders) -> reqwest::Result<Reply> {
    let post = |path: &str| senders.service.request(reqwest::Method::POST, path);
    match sent {
        Sent::Sql(sql) => senders.service.attempt(sql).await,
        Sent::Refused(sql) => senders.nobody.attempt(sql).await,
        Sent::Whole(sql) => {
            let body = json!({ "sql": sql, "impersonationContext": { "subjectUserId": subject } });
            Reply::of(post("/v1/api/sql").json(&body)).await
        }
        Sent::Import(csv) => {
            let request = post(&format!("/v1/api/import?table=app.t&as_user={subject}"));
            Reply::of(request.header("Content-Type", "text/csv").body(csv.clone())).await
        }
    }
}

/// Acknowledged statements, and who waits for how many.
struct Progress {
    acknowledged: AtomicU64,
    kill_at: u64,
    reached: Notify,
}

impl Progress {
    fn acknowledge(&self) {
        if self.acknowledged.fetch_add(1, Ordering::SeqCst) + 1 >= self.kill_at {
            self.reached.notify_one();
        }
    }
}

fn cell(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), ToOwned::to_owned)
}

async fn rows_of(server: &Server, subject: &str) -> Rows {
    let rows = server.rows(&format!("SELECT id, word FROM ALL USERS OF app.t WHERE _user = '{subject}'")).await;
    rows.as_array().unwrap().iter().map(|row| (cell(&row[0]).parse().unwrap(), cell(&row[1]))).collect()
}

async fn log_of(server: &Server, subject: &str) -> Vec<String> {
    let log = "SELECT kind, outcome, row_count FROM system.audit_log";
    let rows = server.rows(&format!("{log} WHERE subject = '{subject}' AND object = 'app.t' ORDER BY entry_id")).await;
    let line = |row: &Value| row.as_array().unwrap().iter().map(cell).collect::<Vec<_>>().join("|");
    rows.as_array().unwrap().iter().map(line).collect()
}

async fn assert_verified(server: &Server) {
    let report = server.rows("VERIFY AUDIT").await;
    assert_eq!((report.as_array().unwrap().len(), &report[0][0]), (1, &json!("ok")), "{report}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sc_009_every_acknowledged_statement_is_audited_once_and_none_without_its_commit_over_kill_9() {
    let mut dice = Dice::thrown();
    let home = Home::new(&[("HOT__DURABILITY", "sync"), ("AUDIT__REFUSALS_PER_MINUTE_MAX", "1000000")]);
    let mut server = home.start().await;
    server.sql("CREATE NAMESPACE app; CREATE USER TABLE app.t (id BIGINT PRIMARY KEY, word TEXT)").await;
    server.sql(&format!("CREATE USER 'bot' WITH PASSWORD '{PASSWORD}' ROLE service")).await;
    server.user("nobody").await;
    let mut writers: Vec<Writer> = (0..WRITERS).map(|number| Writer::new(number, &mut dice)).collect();
    for writer in &writers {
        server.user(&writer.subject()).await;
    }
    for life in 0..LIVES {
        let kill_at = STATEMENTS.0 + dice.below(STATEMENTS.1);
        say(&format!("life {life}: killed after {kill_at} statements"));
        let senders =
            Senders { service: server.login("bot", PASSWORD).await, nobody: server.login("nobody", PASSWORD).await };
        let progress = Arc::new(Progress { acknowledged: AtomicU64::new(0), kill_at, reached: Notify::new() });
        let mut writing = JoinSet::new();
        for mut writer in writers.drain(..) {
            let (senders, progress) = (senders.clone(), progress.clone());
            writing.spawn(async move {
                writer.write(&senders, &progress).await;
                writer
            });
        }
        let flushing = async { while server.attempt("STORAGE FLUSH TABLE app.t WAIT").await.is_ok() {} };
        tokio::select! {
            () = progress.reached.notified() => {}
            () = flushing => {}
        }
        server.kill();
        writers = writing.join_all().await;
        server = home.start().await;
        for writer in &mut writers {
            writer.settle(&server).await;
        }
        assert_verified(&server).await;
    }
    let statements: usize = writers.iter().map(|writer| writer.trace.len()).sum();
    assert!(statements as u64 >= LIVES * STATEMENTS.0, "{statements} statements");
}
