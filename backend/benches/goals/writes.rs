//! Ids, INSERT, import, and many clients at one row.

use std::sync::Arc;

use kalamdb_commons::clock::{Stopwatch, SystemClock};
use kalamdb_commons::system_columns::{Ceilings, SystemColumns};

use crate::client::Client;
use crate::data::{ARROW, CSV, arrow, create, csv, id, insert};
use crate::figures::{median, percentile};
use crate::report::{Asked, Report};
use crate::server::Server;
use crate::{Result, Sizes};

/// Rows in one INSERT statement.
const STATEMENT_ROWS: u64 = 1_000;
/// Ids drawn at once, as a statement of many rows draws them.
const IDS_AT_ONCE: usize = 1_000;
const SINGLE_CLIENTS: usize = 16;
const CONTENDING_CLIENTS: usize = 10;

/// Snowflake ids, in this process.
pub(crate) fn ids(sizes: &Sizes, report: &mut Report) -> Result<()> {
    let rate = |at_once: usize| -> Result<f64> {
        let ids = SystemColumns::new(Arc::new(SystemClock), "bench", Ceilings::default(), i64::MAX);
        // Ids may run ahead of the clock here as far as they like.
        ids.reserved(Ceilings { updated_ns: i64::MAX / 2, id_ms: i64::MAX / 2 });
        let watch = Stopwatch::start();
        let mut last = 0;
        for _ in 0..sizes.ids / at_once {
            last = ids.next_ids(at_once)?.0.max(last);
        }
        std::hint::black_box(last);
        Ok(sizes.ids as f64 / watch.elapsed().as_secs_f64())
    };
    let asked = Asked::at_least(4e6).limit(1e6);
    report.row("Snowflake ids, one at a time, in process", "ids/s", runs(sizes, || rate(1))?, asked, None);
    report.row("Snowflake ids, 1 000 at a time, in process", "ids/s", runs(sizes, || rate(IDS_AT_ONCE))?, asked, None);
    Ok(())
}

fn runs(sizes: &Sizes, mut run: impl FnMut() -> Result<f64>) -> Result<f64> {
    Ok(median((0..sizes.runs).map(|_| run()).collect::<Result<Vec<_>>>()?))
}

/// Everything that writes to the hot tier alone.
pub(crate) fn measure(sizes: &Sizes, report: &mut Report) -> Result<()> {
    let server = Server::start()?;
    let mut client = server.client()?;
    client.sql(&create("bench.inserted", false))?;
    for clients in [1, 4] {
        inserts(&server, clients, sizes, report)?;
    }
    client.sql(&create("bench.imported", false))?;
    let body = csv(0..sizes.import_rows)?;
    imports(&server, &mut client, ("CSV", CSV, &body), sizes, report)?;
    let body = arrow(0..sizes.import_rows)?;
    imports(&server, &mut client, ("Arrow IPC", ARROW, &body), sizes, report)?;
    client.sql(&create("bench.single", true))?;
    singles(&server, sizes, report)?;
    client.sql("CREATE SHARED TABLE bench.counter (id INT PRIMARY KEY, n BIGINT)")?;
    client.sql("INSERT INTO bench.counter (id, n) VALUES (1, 0)")?;
    contended(&server, &mut client, sizes, report)
}

fn inserts(server: &Server, clients: usize, sizes: &Sizes, report: &mut Report) -> Result<()> {
    let each = (sizes.statements / clients).max(1);
    let statements: Vec<Vec<String>> = (0..clients)
        .map(|client| {
            let first = |statement: usize| (client * each + statement) as u64 * STATEMENT_ROWS;
            (0..each)
                .map(|statement| insert("bench.inserted", first(statement)..first(statement) + STATEMENT_ROWS))
                .collect()
        })
        .collect::<Result<_>>()?;
    let (rate, load) = server.loaded(|| {
        runs(sizes, || {
            let (_, seconds) = server.together(clients, |number, client| {
                statements[number].iter().try_for_each(|sql| client.exactly(STATEMENT_ROWS, sql).map(drop))
            })?;
            server.client()?.flush("bench.inserted")?;
            Ok((clients * each) as f64 * STATEMENT_ROWS as f64 / seconds)
        })
    })?;
    let what = format!("INSERT, 1 000 rows x 5 columns a statement, no key, {clients} client(s)");
    report.row(&what, "rows/s", rate, Asked::at_least(80_000.0), Some(load));
    Ok(())
}

fn imports(
    server: &Server,
    client: &mut Client,
    (form, content_type, body): (&str, &str, &[u8]),
    sizes: &Sizes,
    report: &mut Report,
) -> Result<()> {
    let (rate, load) = server.loaded(|| {
        runs(sizes, || {
            let watch = Stopwatch::start();
            client.import("bench.imported", content_type, sizes.import_rows, body)?;
            let seconds = watch.elapsed().as_secs_f64();
            client.flush("bench.imported")?;
            Ok(sizes.import_rows as f64 / seconds)
        })
    })?;
    let what = format!("import, 5 columns, no key, {form}, 1 client");
    report.row(&what, "rows/s", rate, Asked::at_least(200_000.0), Some(load));
    Ok(())
}

fn singles(server: &Server, sizes: &Sizes, report: &mut Report) -> Result<()> {
    let each = sizes.single_inserts / SINGLE_CLIENTS;
    let mut run = 0;
    let mut waits = Vec::new();
    let (rate, load) = server.loaded(|| {
        runs(sizes, || {
            let first = (run * sizes.single_inserts) as u64;
            run += 1;
            let (times, seconds) = server.together(SINGLE_CLIENTS, |number, client| {
                let mut times = Vec::with_capacity(each);
                for n in 0..each {
                    let n = first + (number * each + n) as u64;
                    let sql = format!(
                        "INSERT INTO bench.single (id, kind, price, name, active) VALUES ({}, 7, 9.99, 'one', true)",
                        id(n)
                    );
                    let watch = Stopwatch::start();
                    client.exactly(1, &sql)?;
                    times.push(watch.elapsed_ms());
                }
                Ok(times)
            })?;
            waits.extend(times.into_iter().flatten());
            Ok((each * SINGLE_CLIENTS) as f64 / seconds)
        })
    })?;
    let what = "INSERT of one row, primary key, durable, 16 clients";
    report.row(what, "rows/s", rate, Asked::at_least(8_000.0), Some(load));
    report.row("  a client's wait, p50", "ms", percentile(waits.clone(), 50), Asked::nothing(), None);
    report.row("  a client's wait, p99", "ms", percentile(waits, 99), Asked::nothing(), None);
    Ok(())
}

/// One row, changed by one client and by ten, by turns. Every change must be there in the end.
fn contended(server: &Server, client: &mut Client, sizes: &Sizes, report: &mut Report) -> Result<()> {
    let rate = |clients: usize| -> Result<f64> {
        let each = sizes.contended / clients;
        let (_, seconds) = server.together(clients, |_, client| {
            (0..each).try_for_each(|_| client.exactly(1, "UPDATE bench.counter SET n = n + 1 WHERE id = 1").map(drop))
        })?;
        Ok((each * clients) as f64 / seconds)
    };
    let ((alone, crowded), load) = server.loaded(|| {
        let pairs = (0..sizes.runs).map(|_| Ok((rate(1)?, rate(CONTENDING_CLIENTS)?)));
        let pairs = pairs.collect::<Result<Vec<_>>>()?;
        let (alone, crowded) = pairs.into_iter().unzip();
        Ok((median(alone), median(crowded)))
    })?;
    let answer = client.sql("SELECT n FROM bench.counter WHERE id = 1")?;
    let expected =
        (sizes.runs * (sizes.contended + sizes.contended / CONTENDING_CLIENTS * CONTENDING_CLIENTS)).to_string();
    if answer["results"][0]["rows"][0][0] != expected.as_str() {
        return Err(format!("updates were lost: {answer} after {expected}").into());
    }
    report.row("UPDATE of one row, 1 client", "/s", alone, Asked::nothing(), None);
    report.row("UPDATE of one row, 10 clients", "/s", crowded, Asked::nothing(), None);
    let asked = Asked::at_least(1.0).limit(0.8);
    report.row("UPDATE of one row, 10 clients against 1", "x", crowded / alone, asked, Some(load));
    Ok(())
}
