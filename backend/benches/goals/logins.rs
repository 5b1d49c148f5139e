//! What logins cost others, and what an account costs to make: hashing passwords is slow by design. What it takes to
//! refuse AS USER: one synced entry of the audit log, and no more.

use std::fs::File;
use std::io::{Seek, Write};
use std::sync::atomic::{AtomicUsize, Ordering};

use kalamdb_commons::clock::Stopwatch;
use serde_json::json;

use crate::client::Client;
use crate::figures::percentile;
use crate::report::{Asked, Report};
use crate::server::{PASSWORD, Server};
use crate::{Result, Sizes};

const LOGINS: usize = 100;
const ACCOUNTS: usize = 20;
const REFUSALS: usize = 1_000;
/// A page, as a log writes it.
const PAGE_BYTES: usize = 4_096;

/// Measures requests without logins and during a hundred, CREATE USER, and refusals of AS USER.
pub(crate) fn measure(_: &Sizes, report: &mut Report) -> Result<()> {
    // Every refusal is written, and none is only counted.
    let server = Server::start_with(&[("KALAMDB_AUDIT__REFUSALS_PER_MINUTE_MAX", "1000000")])?;
    let mut client = server.client()?;
    client.sql("CREATE SHARED TABLE bench.asked (id INT PRIMARY KEY, n INT)")?;
    client.sql("INSERT INTO bench.asked (id, n) VALUES (1, 1)")?;
    let before = (0..2_000).map(|_| ask(&mut client)).collect::<Result<Vec<f64>>>()?;
    let ((during, seconds), load) = server.loaded(|| during_logins(&server))?;
    for percent in [50, 99] {
        let asked = Asked::nothing();
        let what = format!("point SELECT over HTTP, p{percent}, nobody logs in");
        report.row(&what, "ms", percentile(before.clone(), percent), asked, None);
        let what = format!("point SELECT over HTTP, p{percent}, during {LOGINS} logins at once");
        report.row(&what, "ms", percentile(during.clone(), percent), asked, Some(load));
    }
    report.row(&format!("{LOGINS} logins at once, to the last"), "s", seconds, Asked::nothing(), Some(load));
    let mut times = Vec::new();
    for number in 0..ACCOUNTS {
        let watch = Stopwatch::start();
        client.sql(&format!("CREATE USER 'user{number}' WITH PASSWORD 'the one of {number}' ROLE user"))?;
        times.push(watch.elapsed_ms());
    }
    report.row("CREATE USER, p99", "ms", percentile(times, 99), Asked::at_most(100.0).limit(100.0), None);
    client.sql(&format!("CREATE USER 'refused' WITH PASSWORD '{PASSWORD}' ROLE user"))?;
    refusals(&server, report)
}

/// A user names somebody else, over and over; a page of a file on the same disk is synced after each, so that both meet
/// the same disk in the same moments.
fn refusals(server: &Server, report: &mut Report) -> Result<()> {
    let mut client = server.client_of("refused")?;
    let body = json!({ "sql": "UPDATE bench.asked AS USER 'root' SET n = 2 WHERE id = 1" }).to_string();
    let mut file = File::create(server.directory().join("refused"))?;
    let ((refusals, syncs), load) = server.loaded(|| {
        let (mut refusals, mut syncs) = (Vec::new(), Vec::new());
        for _ in 0..REFUSALS {
            let watch = Stopwatch::start();
            client.refused(403, "/v1/api/sql", body.as_bytes())?;
            refusals.push(watch.elapsed_ms());
            file.rewind()?;
            let watch = Stopwatch::start();
            file.write_all(&[7; PAGE_BYTES])?;
            file.sync_data()?;
            syncs.push(watch.elapsed_ms());
        }
        Ok((refusals, syncs))
    })?;
    for (percent, limit) in [(50, None), (99, Some(10.0))] {
        let sync = percentile(syncs.clone(), percent);
        let what = format!("fdatasync of one page in the same run, p{percent}");
        report.row(&what, "ms", sync, Asked::nothing(), None);
        let asked = limit.into_iter().fold(Asked::at_most(sync + 1.0), Asked::limit);
        let what = format!("refused AS USER over HTTP, p{percent}");
        report.row(&what, "ms", percentile(refusals.clone(), percent), asked, Some(load));
    }
    Ok(())
}

fn ask(client: &mut Client) -> Result<f64> {
    let watch = Stopwatch::start();
    client.exactly(1, "SELECT n FROM bench.asked WHERE id = 1")?;
    Ok(watch.elapsed_ms())
}

/// The times of requests that one client sends while a hundred others log in, and how long that takes.
fn during_logins(server: &Server) -> Result<(Vec<f64>, f64)> {
    let left = AtomicUsize::new(LOGINS);
    let credentials = json!({ "user": "root", "password": PASSWORD }).to_string();
    let (times, seconds) = server.together(LOGINS + 1, |number, client| {
        let mut times = Vec::new();
        if number == 0 {
            while left.load(Ordering::SeqCst) > 0 {
                times.push(ask(client)?);
            }
        } else {
            let answer = client.post("/v1/api/auth/login", "application/json", credentials.as_bytes());
            left.fetch_sub(1, Ordering::SeqCst);
            answer?;
        }
        Ok(times)
    })?;
    Ok((times.into_iter().flatten().collect(), seconds))
}
