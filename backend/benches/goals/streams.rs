//! Imports into a STREAM table: `buffered`, because that is what such tables are for.

use kalamdb_commons::clock::Stopwatch;

use crate::data::{ARROW, CSV, arrow, csv};
use crate::figures::median;
use crate::report::{Asked, Report};
use crate::server::Server;
use crate::{Result, Sizes};

/// Rows that are seen for an hour, longer than this takes.
const CREATE: &str =
    "CREATE STREAM TABLE bench.events (id BIGINT, kind INT, price DOUBLE, name TEXT, active BOOLEAN) TTL 3600";

/// One client's imports, each run into the same partition.
pub(crate) fn measure(sizes: &Sizes, report: &mut Report) -> Result<()> {
    for (form, content_type, body) in
        [("CSV", CSV, csv(0..sizes.import_rows)?), ("Arrow IPC", ARROW, arrow(0..sizes.import_rows)?)]
    {
        let server = Server::start_with(&[("KALAMDB_HOT__DURABILITY", "buffered")])?;
        let mut client = server.client()?;
        client.sql(CREATE)?;
        let (rate, load) = server.loaded(|| {
            let run = |_| -> Result<f64> {
                let watch = Stopwatch::start();
                client.import("bench.events", content_type, sizes.import_rows, &body)?;
                Ok(sizes.import_rows as f64 / watch.elapsed().as_secs_f64())
            };
            Ok(median((0..sizes.runs).map(run).collect::<Result<Vec<_>>>()?))
        })?;
        let what = format!("import into a STREAM table, 5 columns, buffered, {form}, 1 client");
        report.row(&what, "rows/s", rate, Asked::at_least(100_000.0), Some(load));
        let expected = (sizes.import_rows * sizes.runs as u64).to_string();
        let answer = client.sql("SELECT count(*) FROM bench.events")?;
        if answer["results"][0]["rows"][0][0] != expected.as_str() {
            return Err(format!("{answer} after {expected} rows").into());
        }
    }
    Ok(())
}
