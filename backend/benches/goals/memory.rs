//! Resident memory of a server with the settings of a fresh installation: idle, and after a million rows went through
//! it into history.

use crate::data::{ARROW, arrow, create};
use crate::report::{Asked, Report};
use crate::server::Server;
use crate::{Result, Sizes};

const IMPORT_ROWS: u64 = 100_000;

/// The section.
pub(crate) fn measure(sizes: &Sizes, report: &mut Report) -> Result<()> {
    let server = Server::with_defaults()?;
    let (before, after) = sizes.settle_seconds;
    server.rest(before)?;
    report.row("resident memory, idle after the start", "MiB", server.memory_mib("VmRSS")?, Asked::at_most(48.0), None);
    let mut client = server.client()?;
    client.sql(&create("bench.rows", false))?;
    for start in (0..sizes.memory_rows).step_by(IMPORT_ROWS as usize) {
        let end = sizes.memory_rows.min(start + IMPORT_ROWS);
        client.import("bench.rows", ARROW, end - start, &arrow(start..end)?)?;
    }
    client.flush("bench.rows")?;
    let rows = sizes.memory_rows;
    report.row(
        &format!("  right after flushing {rows} rows"),
        "MiB",
        server.memory_mib("VmRSS")?,
        Asked::nothing(),
        None,
    );
    server.rest(after)?;
    let what = format!("resident memory, {after} s after flushing {rows} rows");
    report.row(&what, "MiB", server.memory_mib("VmRSS")?, Asked::at_most(150.0), None);
    report.row("  the most it ever was", "MiB", server.memory_mib("VmHWM")?, Asked::nothing(), None);
    Ok(())
}
