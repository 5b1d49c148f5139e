//! A partition of a thousand batches that were never compacted, with a key whose values lie all over each of them: what
//! flushes, planning, lookups, changes and a start cost.

use kalamdb_commons::clock::Stopwatch;

use crate::client::Client;
use crate::data::id;
use crate::figures::{median, percentile};
use crate::report::{Asked, Report};
use crate::server::Server;
use crate::{Result, Sizes};

const TABLE: &str = "bench.batches";
const BATCH_ROWS: u64 = 10;
/// A prime that no size here is a multiple of.
const STRIDE: u64 = 7_919;
/// Cold rows that are changed.
const CHANGES: u64 = 200;

/// The section.
pub(crate) fn measure(sizes: &Sizes, report: &mut Report) -> Result<()> {
    let batches = sizes.many_batches;
    let mut server = Server::start()?;
    let mut client = server.client()?;
    client.sql(&format!("CREATE SHARED TABLE {TABLE} (id BIGINT PRIMARY KEY, n BIGINT, name TEXT)"))?;
    let mut flushes = Vec::new();
    for batch in 0..batches {
        let rows = batch * BATCH_ROWS..(batch + 1) * BATCH_ROWS;
        let rows: Vec<String> = rows.map(|row| format!("({}, {batch}, 'name {row}')", id(row))).collect();
        client.sql(&format!("INSERT INTO {TABLE} VALUES {}", rows.join(", ")))?;
        let watch = Stopwatch::start();
        client.flush(TABLE)?;
        flushes.push(watch.elapsed_ms());
    }
    let last = flushes.split_off(flushes.len() / 10 * 9);
    let what = format!("a small flush, the first nine tenths of {batches} batches, p50");
    report.row(&what, "ms", median(flushes), Asked::nothing(), None);
    report.row("  the same, the last tenth", "ms", median(last), Asked::nothing(), None);
    warm(&mut client, sizes, report)?;
    report.row("  resident memory", "MiB", server.memory_mib("VmRSS")?, Asked::nothing(), None);
    // A start opens the partitions that have hot rows by itself.
    client.flush(TABLE)?;
    restarted(&mut server, sizes, report)
}

/// The key of a row, far from the one asked for before.
fn key(at: u64, sizes: &Sizes) -> i64 {
    id(at * STRIDE % (sizes.many_batches * BATCH_ROWS))
}

fn select(at: u64, sizes: &Sizes) -> String {
    format!("SELECT name FROM {TABLE} WHERE id = {}", key(at, sizes))
}

fn warm(client: &mut Client, sizes: &Sizes, report: &mut Report) -> Result<()> {
    let batches = sizes.many_batches;
    let newest = format!("EXPLAIN SELECT name FROM {TABLE} WHERE n >= {}", batches - batches / 10);
    let plans = (0..sizes.query_runs).map(|_| client.sql(&newest)?["took"].as_f64().ok_or_else(|| "no `took`".into()));
    let plans = median(plans.collect::<Result<Vec<f64>>>()?);
    let what = format!("planning over {batches} batches of which a tenth is read, EXPLAIN, `took`");
    report.row(&what, "ms", plans, Asked::at_most(5.0), None);
    // The first ones bring filters into memory.
    for at in 0..20 {
        client.exactly(1, &select(at, sizes))?;
    }
    let times = (20..20 + sizes.lookups as u64).map(|at| Ok(client.exactly(1, &select(at, sizes))? * 1e3));
    let times = times.collect::<Result<Vec<f64>>>()?;
    let what = format!("point SELECT by key, cold in {batches} batches, `took` p50");
    report.row(&what, "us", median(times.clone()), Asked::at_most(1_000.0), None);
    report.row("  the same, p99", "us", percentile(times, 99), Asked::nothing(), None);
    let changes = CHANGES.min(batches * BATCH_ROWS);
    let set = |at| format!("UPDATE {TABLE} SET n = n + 1 WHERE id = {}", key(at, sizes));
    let times = (0..changes).map(|at| client.exactly(1, &set(at))).collect::<Result<Vec<f64>>>()?;
    let what = format!("UPDATE by key of a cold row, {batches} batches, `took` p50 (FR-106)");
    report.row(&what, "ms", median(times.clone()), Asked::nothing().limit(10.0), None);
    report.row("  the same, p99", "ms", percentile(times, 99), Asked::nothing().limit(10.0), None);
    Ok(())
}

fn restarted(server: &mut Server, sizes: &Sizes, report: &mut Report) -> Result<()> {
    let started = server.restart()?;
    report.row("start on it, until the server listens", "ms", started, Asked::nothing(), None);
    let mut client = server.client()?;
    let first = client.exactly(1, &select(5, sizes))?;
    report.row("  the first lookup by key after it, `took`", "ms", first, Asked::nothing(), None);
    let again = client.exactly(1, &select(6, sizes))?;
    report.row("  the next", "ms", again, Asked::nothing(), None);
    report.row("  resident memory then", "MiB", server.memory_mib("VmRSS")?, Asked::nothing(), None);
    let damaged = server.directory().join("data/storage/bench/batches/shared/manifest.json");
    server.restart()?;
    std::fs::remove_file(damaged)?;
    let first = server.client()?.exactly(1, &select(7, sizes))?;
    report.row("  the first lookup when the manifest is lost, `took`", "ms", first, Asked::nothing(), None);
    Ok(())
}
