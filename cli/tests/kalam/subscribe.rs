//! `kalam subscribe` against a real server.

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Stdio};

use serde_json::Value;

use crate::server::Server;

/// A `kalam subscribe` that goes on. Dropping it kills it.
struct Subscriber {
    child: Child,
    lines: BufReader<ChildStdout>,
}

impl Drop for Subscriber {
    fn drop(&mut self) {
        let _ended_already = self.child.kill();
        let _ended_already = self.child.wait();
    }
}

impl Subscriber {
    fn of(server: &Server, sql: &str) -> Self {
        Self::with(server, &[sql])
    }

    fn with(server: &Server, arguments: &[&str]) -> Self {
        let mut command = server.command(&[&["--format", "json", "subscribe"], arguments].concat());
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::null()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap());
        Self { child, lines }
    }

    /// The next line: what happened, and the named column.
    fn next(&mut self, column: &str) -> (String, Value) {
        let mut line = String::new();
        assert!(self.lines.read_line(&mut line).unwrap() > 0, "it ended");
        let line: Value = serde_json::from_str(&line).unwrap();
        (line["change"].as_str().unwrap().to_owned(), line["row"][column].clone())
    }
}

fn happened(what: &str, value: impl Into<Value>) -> (String, Value) {
    (what.to_owned(), value.into())
}

#[test]
fn it_goes_on_by_itself_after_the_server_was_killed_and_repeats_and_leaves_out_nothing() {
    let server = Server::start(&[]);
    server.says(&["-c", "CREATE NAMESPACE app; CREATE SHARED TABLE app.t (k INT PRIMARY KEY, v TEXT)"]);
    server.says(&["-c", "INSERT INTO app.t VALUES (1, 'one'), (2, 'two')"]);
    let mut subscriber = Subscriber::of(&server, "SELECT k, v FROM app.t WHERE k < 10");
    assert_eq!([subscriber.next("v"), subscriber.next("v")], [happened("row", "one"), happened("row", "two")]);
    server.says(&["-c", "UPDATE app.t SET v = 'uno' WHERE k = 1; UPDATE app.t SET k = 20 WHERE k = 2"]);
    assert_eq!(subscriber.next("v"), happened("update", "uno"));
    assert_eq!(subscriber.next("k"), happened("delete", 2));
    let server = server.killed_and_started_again();
    server.says(&["-c", "INSERT INTO app.t VALUES (3, 'three'); DELETE FROM app.t WHERE k = 1"]);
    assert_eq!([subscriber.next("v"), subscriber.next("k")], [happened("insert", "three"), happened("delete", 1)]);
    let server = server.killed_and_started_again();
    server.says(&["-c", "INSERT INTO app.t VALUES (4, 'four')"]);
    assert_eq!(subscriber.next("v"), happened("insert", "four"));
}

#[test]
fn it_ends_after_so_many_lines_and_with_a_reason_if_the_query_cannot_be_live() {
    let server = Server::start(&[]);
    server.says(&["-c", "CREATE NAMESPACE app; CREATE SHARED TABLE app.t (k INT PRIMARY KEY)"]);
    server.says(&["-c", "INSERT INTO app.t VALUES (1), (2), (3)"]);
    let said = server.says(&["subscribe", "SELECT k FROM app.t", "--lines", "2"]);
    assert_eq!(said, "  k=1\n  k=2\n");
    let (_, words) = server.fails(&["subscribe", "SELECT count(*) FROM app.t"]);
    assert!(words.contains("count() looks at other rows"), "{words}");
    let from = server.rows("SELECT max(_seq) FROM app.t WHERE k < 3").remove(0);
    let said = server.says(&["subscribe", "SELECT k FROM app.t", "--from", &from, "--lines", "1"]);
    assert_eq!(said, "+ k=3\n");
}

#[test]
fn it_goes_on_after_a_failure_that_passes_says_when_all_begins_again_and_ends_when_it_is_killed() {
    let server = Server::start(&[]);
    server.says(&["-c", "CREATE NAMESPACE app; CREATE SHARED TABLE app.t (k INT PRIMARY KEY, v TEXT)"]);
    server.says(&["-c", "INSERT INTO app.t VALUES (1, 'one')"]);
    let mut subscriber = Subscriber::with(&server, &["SELECT k, v FROM app.t", "--from", "1"]);
    assert_eq!([subscriber.next("k"), subscriber.next("k")], [happened("resync", Value::Null), happened("row", 1)]);
    for (k, column) in [(2, "a"), (3, "b")] {
        server.says(&["-c", &format!("ALTER TABLE app.t ADD COLUMN {column} INT")]);
        server.says(&["-c", &format!("INSERT INTO app.t (k) VALUES ({k})")]);
        assert_eq!(subscriber.next("k"), happened("insert", k));
    }
    // It has begun again by the time that it printed the row.
    let id = server.rows("SELECT live_id FROM system.live").remove(0);
    server.says(&["-c", &format!("KILL LIVE QUERY '{id}'")]);
    assert_eq!(subscriber.child.wait().unwrap().code(), Some(1));
}
