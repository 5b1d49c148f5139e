//! What is not read: batches that the manifest's ranges rule out, batches that a Bloom filter denies, and the bytes that a
//! lookup takes with these and without. The server counts and times them itself, in the `stats` of its answers.

use serde_json::Value;

use crate::client::Client;
use crate::data::{ARROW, arrow, create, id};
use crate::figures::median;
use crate::report::{Asked, Report};
use crate::server::Server;
use crate::{Result, Sizes};

const MANY: &str = "bench.many";
const BATCHES: u64 = 100;

/// The section.
pub(crate) fn measure(sizes: &Sizes, report: &mut Report) -> Result<()> {
    let server = Server::start()?;
    let mut client = server.client()?;
    elimination(&mut client, sizes, report)?;
    bytes(&mut client, sizes, report)
}

/// A counter of the answer to a statement.
fn counter(answer: &Value, name: &str) -> Result<f64> {
    answer["stats"][name].as_f64().ok_or_else(|| format!("an answer without the counter {name}: {answer}").into())
}

/// A thousand batches: what it takes to leave nine tenths of them out, and to ask each one's filter.
fn elimination(client: &mut Client, sizes: &Sizes, report: &mut Report) -> Result<()> {
    client.sql(&format!("CREATE SHARED TABLE {MANY} (n BIGINT, code TEXT) WITH (BLOOM_FILTER_COLUMNS = 'code')"))?;
    let batches = sizes.many_batches;
    for batch in 0..batches {
        client.sql(&format!("INSERT INTO {MANY} VALUES ({batch}, 'a'), ({batch}, 'c{batch}'), ({batch}, 'z')"))?;
        client.flush(MANY)?;
    }
    let late = format!("SELECT count(code) FROM {MANY} WHERE n >= {}", batches - batches / 10);
    let (mut pruning, mut testing) = (Vec::new(), Vec::new());
    for run in 0..=sizes.query_runs {
        let answer = client.sql(&late)?;
        if counter(&answer, "batches_pruned_by_manifest")? < (batches - batches / 10) as f64 {
            return Err(format!("fewer batches than nine tenths were pruned: {answer}").into());
        }
        let answer_to_bloom = client.sql(&format!("SELECT count(n) FROM {MANY} WHERE code = 'nobody {run}'"))?;
        // The first run brings ranges and filters into memory.
        if run > 0 {
            pruning.push(counter(&answer, "manifest_pruning_ns")? / 1e3);
            let tests = counter(&answer_to_bloom, "bloom_tests")?;
            testing.push(counter(&answer_to_bloom, "bloom_pruning_ns")? / 1e3 / tests);
        }
    }
    let what = format!("eliminating 90 % of {batches} batches by the manifest (FR-104, SC-019)");
    report.row(&what, "us", median(pruning), Asked::at_most(100.0).limit(5_000.0), None);
    let what = "Bloom test per batch file, filter cached (FR-105, SC-020)";
    report.row(what, "us", median(testing), Asked::at_most(0.5).limit(1_000.0), None);
    Ok(())
}

/// A hundred batches whose values are spread over the whole range: the bytes of a lookup, against a scan that nothing
/// can be left out of.
fn bytes(client: &mut Client, sizes: &Sizes, report: &mut Report) -> Result<()> {
    let tables = [
        ("bench.plain", create("bench.plain", false)),
        ("bench.filtered", format!("{} WITH (BLOOM_FILTER_COLUMNS = 'id')", create("bench.filtered", false))),
        ("bench.keyed", create("bench.keyed", true)),
    ];
    let mut since = 0;
    for (table, create) in &tables {
        client.sql(create)?;
        for batch in 0..BATCHES {
            let rows = batch * sizes.batch_rows..(batch + 1) * sizes.batch_rows;
            client.import(table, ARROW, sizes.batch_rows, &arrow(rows)?)?;
            client.flush(table)?;
            if batch + 11 == BATCHES && *table == "bench.plain" {
                let newest = client.sql(&format!("SELECT max(_seq) FROM {table}"))?;
                since = newest["results"][0]["rows"][0][0].as_str().ok_or("no _seq")?.parse::<i64>()?;
            }
        }
    }
    let wanted = id(BATCHES / 2 * sizes.batch_rows);
    // The whole is read twice, so that footers are in memory.
    let whole = "SELECT price FROM bench.plain WHERE id + 0 = ";
    client.sql(&format!("{whole}{wanted}"))?;
    let everything = counter(&client.sql(&format!("{whole}{wanted}"))?, "bytes_read")?;
    report.row("lookup in 100 batches, nothing left out", "KiB", everything / 1024.0, Asked::nothing(), None);
    let lookups = [
        ("ranges of batches and pages only", format!("SELECT price FROM bench.plain WHERE id = {wanted}"), false),
        ("Bloom filters too", format!("SELECT price FROM bench.filtered WHERE id = {wanted}"), true),
        ("by key, IN of two", format!("SELECT price FROM bench.keyed WHERE id IN ({wanted}, {})", wanted + 1), true),
        ("by key, the direct path", format!("SELECT price FROM bench.keyed WHERE id = {wanted}"), true),
    ];
    for (by, sql, promised) in lookups {
        for when in ["first", "again"] {
            let answer = client.sql(&sql)?;
            if answer["results"][0]["row_count"] != 1 {
                return Err(format!("'{sql}' should find 1 row; it answered {answer}").into());
            }
            let share = counter(&answer, "bytes_read")? / everything * 100.0;
            let asked = if promised && when == "again" { Asked::at_most(10.0) } else { Asked::nothing() };
            report.row(&format!("  {by}, {when} (SC-006)"), "% bytes", share, asked, None);
        }
    }
    let answer = client.sql(&format!("SELECT count(price) FROM bench.plain WHERE _seq > {since}"))?;
    let share = counter(&answer, "batches_read")? / counter(&answer, "batches_considered")? * 100.0;
    report.row("batches read for the newest tenth of the time (SC-005)", "%", share, Asked::at_most(20.0), None);
    Ok(())
}
