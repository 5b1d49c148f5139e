//! A USER table with as many partitions as users: whether what a query costs depends on how many there are, and what a
//! start and an unused partition cost.

use kalamdb_commons::clock::Stopwatch;

use crate::client::Client;
use crate::figures::median;
use crate::report::{Asked, Report};
use crate::server::{PASSWORD, Server};
use crate::{Result, Sizes};

const TABLE: &str = "bench.own";
/// Statements in one request.
const STATEMENTS: u64 = 50;
/// Users that ask.
const ASKING: u64 = 20;
/// How often each of them asks each thing.
const TIMES: usize = 25;

/// Passwords that cost nothing: there are as many as users, and they are not what is measured.
const SETTINGS: [(&str, &str); 3] = [
    ("KALAMDB_AUTH__ARGON2_MEMORY_KIB", "64"),
    ("KALAMDB_AUTH__ARGON2_PASSES", "1"),
    ("KALAMDB_HOT__DURABILITY", "buffered"),
];

/// What was measured with some number of partitions.
struct Costs {
    select_us: f64,
    count_us: f64,
    update_us: f64,
    start_ms: f64,
    memory_mib: f64,
}

/// The section.
pub(crate) fn measure(sizes: &Sizes, report: &mut Report) -> Result<()> {
    let (few, many) = sizes.partitions;
    let mut server = Server::start_with(&SETTINGS)?;
    server.client()?.sql(&format!("CREATE USER TABLE {TABLE} (id BIGINT PRIMARY KEY, body TEXT)"))?;
    fill(&server, 0..few)?;
    let before = costs(&mut server, few)?;
    let watch = Stopwatch::start();
    let flushed_s = fill(&server, few..many)?;
    let what = format!("making and flushing {} partitions", many - few);
    report.row(&what, "s", watch.elapsed().as_secs_f64(), Asked::nothing(), None);
    report.row("  a flush of each", "ms", flushed_s * 1e3 / (many - few) as f64, Asked::nothing(), None);
    let after = costs(&mut server, many)?;
    for (what, before, after) in [
        ("point SELECT by key in one", before.select_us, after.select_us),
        ("count(*) of one", before.count_us, after.count_us),
        ("UPDATE by key in one", before.update_us, after.update_us),
    ] {
        let named = format!("{what} of {many} partitions, `took` p50");
        report.row(&named, "us", after, Asked::nothing(), None);
        report.row(&format!("  against {few} partitions"), "x", after / before, Asked::at_most(1.2), None);
    }
    report.row(&format!("start with {few} partitions, all flushed"), "ms", before.start_ms, Asked::nothing(), None);
    report.row(&format!("start with {many} partitions, all flushed"), "ms", after.start_ms, Asked::nothing(), None);
    let each = (after.memory_mib - before.memory_mib) * 1024.0 / (many - few) as f64;
    report.row("  memory of a partition that is not used, and of its user", "KiB", each, Asked::nothing(), None);
    write(&server, 0..many, "'hot'", 2)?;
    let start = server.restart()?;
    report.row(&format!("start with {many} partitions, a hot row in each"), "ms", start, Asked::nothing(), None);
    Ok(())
}

/// Makes users with a row of history each. Returns how long the flush took, in seconds.
fn fill(server: &Server, users: std::ops::Range<u64>) -> Result<f64> {
    let mut client = server.client()?;
    for start in users.clone().step_by(STATEMENTS as usize) {
        let some = start..users.end.min(start + STATEMENTS);
        let create = some.map(|user| format!("CREATE USER 'u{user}' WITH PASSWORD '{PASSWORD}' ROLE 'user'"));
        client.sql(&create.collect::<Vec<_>>().join("; "))?;
    }
    write(server, users, "'cold'", 1)?;
    let watch = Stopwatch::start();
    client.flush(TABLE)?;
    Ok(watch.elapsed().as_secs_f64())
}

fn write(server: &Server, users: std::ops::Range<u64>, body: &str, id: u64) -> Result<()> {
    let mut client = server.client()?;
    for start in users.clone().step_by(STATEMENTS as usize) {
        let some = start..users.end.min(start + STATEMENTS);
        let insert = some.map(|user| format!("INSERT INTO {TABLE} AS USER 'u{user}' VALUES ({id}, {body})"));
        client.sql(&insert.collect::<Vec<_>>().join("; "))?;
    }
    Ok(())
}

fn costs(server: &mut Server, partitions: u64) -> Result<Costs> {
    let start_ms = server.restart()?;
    let memory_mib = server.memory_mib("VmRSS")?;
    let users = (0..ASKING).map(|at| format!("u{}", at * (partitions / ASKING)));
    let mut clients = users.map(|user| server.client_of(&user)).collect::<Result<Vec<Client>>>()?;
    let mut asked = |sql: &str| -> Result<f64> {
        let mut times = Vec::new();
        for client in &mut clients {
            // The first one loads the manifest.
            client.exactly(1, sql)?;
            for _ in 0..TIMES {
                times.push(client.exactly(1, sql)? * 1e3);
            }
        }
        Ok(median(times))
    };
    let select_us = asked(&format!("SELECT body FROM {TABLE} WHERE id = 1"))?;
    let count_us = asked(&format!("SELECT count(*) FROM {TABLE}"))?;
    let update_us = asked(&format!("UPDATE {TABLE} SET body = 'changed' WHERE id = 1"))?;
    server.client()?.flush(TABLE)?;
    Ok(Costs { select_us, count_us, update_us, start_ms, memory_mib })
}
