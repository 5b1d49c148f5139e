//! `kill -9` under load: what was acknowledged is there once, what was deleted stays away, and what was in flight
//! happened wholly or not at all.

use crate::load::{Dice, End, Kept, Kind, Load};
use crate::server::Home;

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
        load.verify(&server).await;
    }
    load.verify_flushed(&server).await;
}
