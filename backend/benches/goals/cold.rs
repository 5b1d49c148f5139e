//! A table with a random key and a hundred batches of history: point SELECT, UPDATE, DELETE, import.

use std::fs::File;
use std::io::{Seek, Write};

use kalamdb_commons::clock::Stopwatch;

use crate::client::Client;
use crate::data::{ARROW, arrow, create, id};
use crate::figures::{median, percentile};
use crate::report::{Asked, Report};
use crate::server::Server;
use crate::{Result, Sizes};

const TABLE: &str = "bench.cold";
const BATCHES: u64 = 100;
/// A prime that no size here is a multiple of: steps of it visit every number once, far apart.
const STRIDE: u64 = 7_919;
/// A page, as a log writes it.
const PAGE_BYTES: usize = 4_096;

/// The section.
pub(crate) fn measure(sizes: &Sizes, report: &mut Report) -> Result<()> {
    let server = Server::start()?;
    let mut client = server.client()?;
    client.sql(&create(TABLE, true))?;
    for batch in 0..BATCHES {
        let rows = batch * sizes.batch_rows..(batch + 1) * sizes.batch_rows;
        client.import(TABLE, ARROW, sizes.batch_rows, &arrow(rows)?)?;
        client.flush(TABLE)?;
    }
    let cold_rows = BATCHES * sizes.batch_rows;
    lookups(&server, &mut client, ("cold in 100 batches", 1_000.0), 0..cold_rows, sizes, report)?;
    let hot = cold_rows..cold_rows + sizes.batch_rows;
    client.import(TABLE, ARROW, sizes.batch_rows, &arrow(hot.clone())?)?;
    lookups(&server, &mut client, ("hot", 100.0), hot.clone(), sizes, report)?;
    let set = |id| format!("UPDATE {TABLE} SET price = price + 1 WHERE id = {id}");
    changes(&server, &mut client, ("UPDATE", 10.0, 0), set, sizes, report)?;
    let delete = |id| format!("DELETE FROM {TABLE} WHERE id = {id}");
    changes(&server, &mut client, ("DELETE", 50.0, 1), delete, sizes, report)?;
    random_keys(&server, &mut client, hot.end, sizes, report)
}

fn lookups(
    server: &Server,
    client: &mut Client,
    (where_to, goal_us): (&str, f64),
    among: std::ops::Range<u64>,
    sizes: &Sizes,
    report: &mut Report,
) -> Result<()> {
    let count = among.end - among.start;
    let (times, load) = server.loaded(|| {
        let row = |at: usize| among.start + at as u64 * STRIDE % count;
        let select = |at| format!("SELECT kind, price, name FROM {TABLE} WHERE id = {}", id(row(at)));
        (0..sizes.lookups).map(|at| Ok(client.exactly(1, &select(at))? * 1e3)).collect::<Result<Vec<f64>>>()
    })?;
    let what = format!("point SELECT by key, {where_to}, `took` p50");
    report.row(&what, "us", median(times.clone()), Asked::at_most(goal_us), Some(load));
    report.row("  the same, p99", "us", percentile(times, 99), Asked::nothing(), None);
    Ok(())
}

/// Changes cold rows one by one, and syncs a page of a file on the same disk after each, so that both meet the same
/// disk in the same moments.
fn changes(
    server: &Server,
    client: &mut Client,
    (verb, limit_ms, offset): (&str, f64, u64),
    statement: impl Fn(i64) -> String,
    sizes: &Sizes,
    report: &mut Report,
) -> Result<()> {
    let apart = BATCHES * sizes.batch_rows / sizes.changes;
    let mut file = File::create(server.directory().join("synced"))?;
    let page = [7; PAGE_BYTES];
    let (times, load) = server.loaded(|| {
        let (mut changes, mut syncs) = (Vec::new(), Vec::new());
        for at in 0..sizes.changes {
            let row = at * STRIDE % sizes.changes * apart + offset;
            let sql = statement(id(row));
            let watch = Stopwatch::start();
            client.exactly(1, &sql)?;
            changes.push(watch.elapsed_ms());
            file.rewind()?;
            let watch = Stopwatch::start();
            file.write_all(&page)?;
            file.sync_data()?;
            syncs.push(watch.elapsed_ms());
        }
        Ok((changes, syncs))
    })?;
    let (changes, syncs) = times;
    let sync_p99 = percentile(syncs.clone(), 99);
    report.row("fdatasync of one page in the same run, p50", "ms", median(syncs), Asked::nothing(), None);
    report.row("fdatasync of one page in the same run, p99", "ms", sync_p99, Asked::nothing(), None);
    let what = format!("{verb} by key of a cold row, 100 batches, 1 client, p50");
    report.row(&what, "ms", median(changes.clone()), Asked::nothing(), None);
    let what = format!("{verb} by key of a cold row, 100 batches, 1 client, p99");
    let asked = Asked::at_most(sync_p99 + 2.0).limit(limit_ms);
    report.row(&what, "ms", percentile(changes, 99), asked, Some(load));
    Ok(())
}

/// Imports rows whose keys every batch must be asked for, and none has.
fn random_keys(server: &Server, client: &mut Client, first: u64, sizes: &Sizes, report: &mut Report) -> Result<()> {
    let bodies = (0..sizes.runs as u64).map(|run| {
        let start = first + run * sizes.keyed_rows;
        arrow(start..start + sizes.keyed_rows)
    });
    let bodies = bodies.collect::<Result<Vec<_>>>()?;
    let (rates, load) = server.loaded(|| {
        let rates = bodies.iter().map(|body| {
            let watch = Stopwatch::start();
            client.import(TABLE, ARROW, sizes.keyed_rows, body)?;
            Ok(sizes.keyed_rows as f64 / watch.elapsed().as_secs_f64())
        });
        rates.collect::<Result<Vec<f64>>>()
    })?;
    let what = "import, Arrow IPC, random unique keys, into 100 cold batches";
    report.row(what, "rows/s", median(rates), Asked::at_least(50_000.0), Some(load));
    Ok(())
}
