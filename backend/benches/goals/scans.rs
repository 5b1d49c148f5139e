//! Queries over rows that have older versions, against the same query over the same number of rows that have none.

use serde_json::Value;

use crate::client::Client;
use crate::data::{ARROW, arrow, create};
use crate::figures::median;
use crate::report::{Asked, Report};
use crate::server::Server;
use crate::{Result, Sizes};

const IMPORT_ROWS: u64 = 100_000;

fn query(table: &str) -> String {
    format!("SELECT count(*), count(DISTINCT kind), sum(price), max(name) FROM {table} WHERE kind < 90")
}

/// Fills a table and makes it one batch.
fn fill(client: &mut Client, table: &str, rows: u64) -> Result<()> {
    client.sql(&create(table, false))?;
    for start in (0..rows).step_by(IMPORT_ROWS as usize) {
        let end = rows.min(start + IMPORT_ROWS);
        client.import(table, ARROW, end - start, &arrow(start..end)?)?;
    }
    client.flush(table)
}

/// The median of the server's own time, in ms, and the number of rows that the query counted.
fn timed(client: &mut Client, table: &str, sizes: &Sizes) -> Result<(f64, Value)> {
    let query = query(table);
    // Once before, so that every form of the table is measured with its files' footers in memory.
    let first = client.sql(&query)?;
    let times = (0..sizes.query_runs).map(|_| client.exactly(1, &query)).collect::<Result<Vec<f64>>>()?;
    Ok((median(times), first["results"][0]["rows"][0][0].clone()))
}

fn same_rows(expected: &Value, found: &Value) -> Result<()> {
    if expected == found { Ok(()) } else { Err(format!("a scan found {found} rows instead of {expected}").into()) }
}

/// A tenth of the rows, scattered, replaced: first hot, then flushed.
pub(crate) fn superseded(sizes: &Sizes, report: &mut Report) -> Result<()> {
    let server = Server::start()?;
    let mut client = server.client()?;
    let table = "bench.scanned";
    fill(&mut client, table, sizes.scan_rows)?;
    let ((plain, rows), load) = server.loaded(|| timed(&mut client, table, sizes))?;
    report.row("scan and aggregate, one batch, nothing superseded, `took`", "ms", plain, Asked::nothing(), Some(load));
    client.sql(&format!("UPDATE {table} SET price = price + 1 WHERE id % 10 = 3"))?;
    let (hot, found) = timed(&mut client, table, sizes)?;
    same_rows(&rows, &found)?;
    let what = "scan, 10 % superseded by hot rows, against none";
    report.row(what, "x", hot / plain, Asked::at_most(2.0), None);
    client.flush(table)?;
    let (flushed, found) = timed(&mut client, table, sizes)?;
    same_rows(&rows, &found)?;
    let what = "scan, 10 % superseded by flushed rows, against none";
    report.row(what, "x", flushed / plain, Asked::at_most(1.3), None);
    Ok(())
}

/// Every row changed and flushed again and again: with old batches left as they are, dead from end to end, and with
/// history compacted before it is asked.
pub(crate) fn versions(sizes: &Sizes, report: &mut Report) -> Result<()> {
    let server = Server::start()?;
    let mut client = server.client()?;
    rewritten(&mut client, "bench.versions", false, sizes, report)?;
    rewritten(&mut client, "bench.compacted", true, sizes, report)
}

fn rewritten(client: &mut Client, table: &str, compact: bool, sizes: &Sizes, report: &mut Report) -> Result<()> {
    fill(client, table, sizes.version_rows)?;
    let (one, rows) = timed(client, table, sizes)?;
    report.row("query, 1 version per row, `took`", "ms", one, Asked::nothing(), None);
    for version in 2..=100 {
        client.exactly(sizes.version_rows, &format!("UPDATE {table} SET price = price + 1"))?;
        client.flush(table)?;
        let goal = match version {
            10 => Asked::at_most(1.2).limit(2.0),
            100 => Asked::at_most(1.5),
            _ => continue,
        };
        let (asked, how) = if compact { (goal, "compaction settled") } else { (Asked::nothing(), "no compaction") };
        if compact {
            client.compact(table)?;
        }
        let (many, found) = timed(client, table, sizes)?;
        same_rows(&rows, &found)?;
        report.row(&format!("query, {version} versions per row, against 1, {how}"), "x", many / one, asked, None);
    }
    Ok(())
}
