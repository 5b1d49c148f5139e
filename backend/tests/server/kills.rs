//! `kill -9` under load: what was acknowledged is there once, what was deleted stays away, and what was in flight
//! happened wholly or not at all. Others read the same from the files.

use std::collections::BTreeMap;

use crate::load::{Dice, End, Kept, Kind, Load, Rows};
use crate::server::{Home, python};

const ROUNDS: usize = 20;
/// Acknowledged statements after which a round may be killed, at most.
const ACKNOWLEDGED_MAX: u64 = 120;

/// FR-001 to FR-012, SC-008.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sc_008_every_acknowledged_write_outlives_kill_9_twenty_times() {
    let mut dice = Dice::thrown();
    let home = Home::new(&[("HOT__DURABILITY", "sync"), ("JOBS__ORPHAN_INTERVAL_SECONDS", "1")]);
    let mut server = home.start().await;
    let mut load = Load::prepare(&server, &mut dice, Kept::Acknowledged).await;
    for round in 0..ROUNDS {
        let kill_at = 1 + dice.below(ACKNOWLEDGED_MAX);
        println!("round {round}: killed after {kill_at} statements");
        assert_eq!(load.run(&mut server, &Kind::BOTH, kill_at).await, End::Killed);
        server = home.start().await;
        if round % 2 == 1 {
            // What is read is the same while it becomes history.
            server.sql("STORAGE FLUSH ALL").await;
        }
        load.verify(&server).await;
    }
    load.verify_flushed(&server).await;
    assert_eq!(rows_read_by_others(&home), load.tables());
}

/// What pyarrow and DuckDB find in the files of history, by table: each has rows in one partition.
fn rows_read_by_others(home: &Home) -> BTreeMap<String, Rows> {
    let read = python("read_history.py").arg(home.partition("")).args(["id", "n"]).output().unwrap();
    assert!(read.status.success(), "{}", String::from_utf8_lossy(&read.stderr));
    let partitions: BTreeMap<String, Vec<(u64, u64)>> = serde_json::from_slice(&read.stdout).unwrap();
    let table = |partition: &str| partition.rsplit_once('/').unwrap().0.to_owned();
    let filled = partitions.into_iter().filter(|(_, rows)| !rows.is_empty());
    filled.map(|(partition, rows)| (table(&partition), rows.into_iter().collect())).collect()
}
