//! The performance goals, measured: starts the real server on a directory of the build's disk, asks it over HTTP, and
//! prints what was measured beside the goal and the limit. It never fails because something is slow; it fails if an
//! answer is an error or is wrong.
//!
//! `cargo bench -p kalamdb-server --bench goals` runs everything. Behind `--` may stand `quick`, which takes sizes that
//! say nothing about speed and only show that everything runs, and names of sections: `ids`, `writes`, `cold`, `pruning`,
//! `batches`, `partitions`, `scans`, `versions`, `masks`, `streams`, `live`, `logins`, `memory`.
//!
//! Rates and ratios are medians of several runs. The load comes from this process, on the same cores as the server;
//! the column `load` says which part of the processor time of both was its. Flushes by policy and automatic
//! compaction are off except in `memory`: they happen where a section says so, outside of what is timed.
//!
//! | module | holds |
//! |---|---|
//! | [`server`], [`client`] | the server's process, and a connection to it |
//! | [`data`] | rows, as SQL text, CSV and Arrow |
//! | [`figures`], [`report`] | medians and percentiles; the table |
//! | [`writes`], [`cold`], [`pruning`], [`batches`], [`partitions`], [`scans`] | sections |
//! | [`masks`], [`streams`], [`live`], [`logins`], [`memory`] | more of them |

#![expect(clippy::print_stdout, reason = "the table is what it is for")]

mod batches;
mod client;
mod cold;
mod data;
mod figures;
mod live;
mod logins;
mod masks;
mod memory;
mod partitions;
mod pruning;
mod report;
mod scans;
mod server;
mod streams;
mod writes;

use std::error::Error;

use report::Report;

/// Why the run ends early.
type Failure = Box<dyn Error + Send + Sync>;
type Result<T, E = Failure> = std::result::Result<T, E>;

/// How much is done.
#[derive(Debug, Clone, Copy)]
struct Sizes {
    /// Runs of each measurement whose median counts.
    runs: usize,
    /// Ids drawn in one run.
    ids: usize,
    /// INSERT statements of 1 000 rows in one run.
    statements: usize,
    /// Rows imported in one run.
    import_rows: u64,
    /// Single-row INSERTs in one run, over all clients.
    single_inserts: usize,
    /// UPDATEs of one row in one run, over all clients.
    contended: usize,
    /// Rows in each of the cold batches.
    batch_rows: u64,
    /// Batches of the table that is pruned.
    many_batches: u64,
    /// Partitions of the table of many partitions, at first and in the end.
    partitions: (u64, u64),
    /// Point SELECTs.
    lookups: usize,
    /// UPDATEs, and as many DELETEs, by key.
    changes: u64,
    /// Rows imported in one run into the table with cold batches.
    keyed_rows: u64,
    /// Rows of the scanned table.
    scan_rows: u64,
    /// Runs of each query whose median counts.
    query_runs: usize,
    /// Rows of the table of many versions.
    version_rows: u64,
    /// Subscriptions at once, at most.
    subscriptions: usize,
    /// Connections, and subscriptions on all of them together.
    crowd: (usize, usize),
    /// Writes that subscribers wait for.
    live_writes: usize,
    /// Rows flushed before memory is measured.
    memory_rows: u64,
    /// Seconds before memory is called idle, at first and after the flush.
    settle_seconds: (u64, u64),
}

const FULL: Sizes = Sizes {
    runs: 5,
    ids: 5_000_000,
    statements: 200,
    import_rows: 500_000,
    single_inserts: 20_000,
    contended: 2_000,
    batch_rows: 10_000,
    many_batches: 1_000,
    partitions: (100, 10_000),
    lookups: 5_000,
    changes: 1_000,
    keyed_rows: 100_000,
    scan_rows: 1_000_000,
    query_runs: 15,
    version_rows: 10_000,
    subscriptions: 10_000,
    crowd: (1_000, 100_000),
    live_writes: 100,
    memory_rows: 1_000_000,
    settle_seconds: (5, 60),
};

const QUICK: Sizes = Sizes {
    runs: 1,
    ids: 100_000,
    statements: 4,
    import_rows: 10_000,
    single_inserts: 320,
    contended: 100,
    batch_rows: 100,
    many_batches: 50,
    partitions: (20, 200),
    lookups: 100,
    changes: 50,
    keyed_rows: 2_000,
    scan_rows: 20_000,
    query_runs: 3,
    version_rows: 200,
    subscriptions: 100,
    crowd: (20, 400),
    live_writes: 10,
    memory_rows: 20_000,
    settle_seconds: (1, 1),
};

/// A part of the run: its name, and what it does.
type Section = (&'static str, fn(&Sizes, &mut Report) -> Result<()>);

const SECTIONS: [Section; 13] = [
    ("ids", writes::ids),
    ("writes", writes::measure),
    ("cold", cold::measure),
    ("pruning", pruning::measure),
    ("batches", batches::measure),
    ("partitions", partitions::measure),
    ("scans", scans::superseded),
    ("versions", scans::versions),
    ("masks", masks::measure),
    ("streams", streams::measure),
    ("live", live::measure),
    ("logins", logins::measure),
    ("memory", memory::measure),
];

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    // Cargo says so when it is to be measured, and not when all targets are run as tests.
    if !arguments.iter().any(|argument| argument == "--bench") {
        println!("nothing is measured: run it with cargo bench");
        return Ok(());
    }
    let words: Vec<&str> = arguments.iter().map(String::as_str).filter(|word| !word.starts_with('-')).collect();
    let (quick, names): (Vec<&str>, Vec<&str>) = words.into_iter().partition(|word| *word == "quick");
    if let Some(unknown) = names.iter().find(|name| SECTIONS.iter().all(|(known, _)| known != *name)) {
        return Err(
            format!("'{unknown}' is not a section; they are {}", SECTIONS.map(|(name, _)| name).join(", ")).into()
        );
    }
    let sizes = if quick.is_empty() { FULL } else { QUICK };
    let mut report = Report::begin(!quick.is_empty());
    for (name, measure) in SECTIONS {
        if names.is_empty() || names.contains(&name) {
            measure(&sizes, &mut report).map_err(|error| format!("section {name}: {error}"))?;
        }
    }
    report.end();
    Ok(())
}
