//! What logins cost others, and what an account costs to make: hashing passwords is slow by design.

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

/// Measures requests without logins and during a hundred, and CREATE USER.
pub(crate) fn measure(_: &Sizes, report: &mut Report) -> Result<()> {
    let server = Server::start()?;
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
