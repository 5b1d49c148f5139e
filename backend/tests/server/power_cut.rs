//! Power cuts under load: of what nobody asked the disk to keep, nothing is there afterwards, or some of it. What was
//! acknowledged is there once all the same, with `durability = "sync"`; with `"buffered"`, a beginning of it.

use std::path::Path;

use crate::disk::{Disk, Reached};
use crate::load::{Dice, End, Kept, Kind, Load, say};
use crate::server::{Home, Server};

/// Acknowledged statements after which a round ends, at most.
const ACKNOWLEDGED_MAX: u64 = 150;

/// The last server found every manifest that it had published.
pub(crate) fn assert_no_manifest_was_lost(server: &Server) {
    let log = server.home.last_log();
    let lost: Vec<&str> = log.lines().filter(|line| is_of_a_lost_manifest(line)).collect();
    assert!(lost.is_empty(), "{lost:#?}");
}

/// A batch file that was never published has no manifest that could be lost.
pub(crate) fn is_of_a_lost_manifest(line: &str) -> bool {
    let is_new = line.contains("it is missing") && line.contains("recorded=0");
    line.contains("the manifest is rebuilt") && !is_new
}

async fn cut_and_verify(rounds: usize, durability: &str, kept: Kept, luck: fn(&mut Dice, &Path) -> Reached) {
    let mut dice = Dice::thrown();
    let mut home = Home::new(&[("HOT__DURABILITY", durability), ("JOBS__ORPHAN_INTERVAL_SECONDS", "1")]);
    let disk = Disk::under(&mut home);
    let mut server = home.start().await;
    let mut load = Load::prepare(&server, &mut dice, kept).await;
    if kept == Kept::Beginning {
        server.stop();
        disk.sync(&home);
        server = home.start().await;
    }
    for round in 0..rounds {
        let kill_at = 1 + dice.below(ACKNOWLEDGED_MAX);
        say(&format!("round {round}: cut after {kill_at} statements"));
        assert_eq!(load.run(&mut server, &Kind::BOTH, kill_at).await, End::Killed);
        disk.cut(&home, &mut |path| luck(&mut dice, path));
        server = home.start().await;
        load.verify(&server).await;
        assert_no_manifest_was_lost(&server);
    }
    load.verify_flushed(&server).await;
}

/// Some of what was not synced.
pub(crate) fn some(dice: &mut Dice, _: &Path) -> Reached {
    [Reached::Nothing, Reached::Part, Reached::All][usize::try_from(dice.below(3)).unwrap()]
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_write_outlives_a_power_cut_that_leaves_only_what_was_synced() {
    cut_and_verify(10, "sync", Kept::Acknowledged, |_, _| Reached::Nothing).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_acknowledged_write_outlives_a_power_cut_whatever_else_reached_the_disk() {
    cut_and_verify(10, "sync", Kept::Acknowledged, some).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_buffered_store_loses_its_last_moments_at_most() {
    cut_and_verify(6, "buffered", Kept::Beginning, |_, _| Reached::Nothing).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_buffered_store_loses_its_last_moments_at_most_whatever_else_reached_the_disk() {
    cut_and_verify(6, "buffered", Kept::Beginning, some).await;
}
