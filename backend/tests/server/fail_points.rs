//! The server ends itself at each fail point in turn, under load: between every two durable steps. What was acknowledged
//! is there once, what was in flight is there wholly or not at all, flushing goes on, and no file is left over.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use kalamdb_commons::manifest::{MANIFEST_FILE, Manifest};

use crate::backups;
use crate::compaction;
use crate::disk::{Disk, Reached};
use crate::load::{Dice, End, Kept, Kind, Load, say};
use crate::power_cut::{assert_no_manifest_was_lost, some};
use crate::purge;
use crate::server::{Home, Server};
use crate::{rebuilds, removals};

/// Every fail point there is but those of [`backups`], [`compaction`], [`purge`], [`rebuilds`] and [`removals`], and how often it may be passed before the server ends there, at most: often enough that
/// there is something to lose, and seldom enough that it is reached.
const POINTS: &[(&str, u64)] = &[
    ("commit::after_write", 60),
    ("commit::before_write", 60),
    ("flush::after_batch", 4),
    ("flush::after_batch_durable", 4),
    ("flush::after_manifest", 4),
    ("flush::after_number", 4),
    ("flush::before_batch_sync", 4),
    ("flush::before_removal", 4),
    ("manifest::after_durable", 4),
    ("manifest::after_rename", 4),
    ("manifest::before_rename", 4),
    ("manifest_cache::after_entry", 4),
    ("manifest_cache::after_memory", 4),
    ("manifest_cache::before_entry", 4),
    ("manifest_cache::entry_fails", 4),
    ("storage::before_directory_sync", 4),
    ("storage::write", 6),
    ("store::after_commit", 60),
    ("store::before_commit", 60),
    ("store::sync_fails", 60),
];

/// Acknowledged statements by which a fail point must have been reached.
const STATEMENTS_MAX: u64 = 5_000;
/// How long orphan removal, which runs every second, may take.
const CLEAN_WITHIN: Duration = Duration::from_secs(30);

fn sources(directory: &Path, found: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            sources(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            found.push(path);
        }
    }
}

#[test]
fn every_fail_point_of_the_source_is_driven() {
    let (mut files, mut found) = (Vec::new(), BTreeSet::new());
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    sources(&root.join("src"), &mut files);
    for entry in std::fs::read_dir(root.join("crates")).unwrap() {
        sources(&entry.unwrap().path().join("src"), &mut files);
    }
    for file in files {
        let text = std::fs::read_to_string(file).unwrap();
        let after = text.split("fail_point!(").skip(1);
        found.extend(after.map(|rest| rest.split('"').nth(1).unwrap().to_owned()));
    }
    let under_load = POINTS.iter().map(|(name, _)| *name);
    let driven: BTreeSet<String> = under_load
        .chain([compaction::POINTS, purge::POINTS, rebuilds::POINTS, removals::POINTS].concat())
        .chain(backups::POINTS.concat())
        .map(ToOwned::to_owned)
        .collect();
    assert_eq!(found, driven);
}

/// Files of the local storage that no manifest names; one that cannot be read names none.
fn unreferenced(directory: &Path, found: &mut Vec<PathBuf>) {
    let manifest = std::fs::read(directory.join(MANIFEST_FILE)).unwrap_or_default();
    let manifest = serde_json::from_slice::<Manifest>(&manifest).ok();
    let named: Vec<String> =
        manifest.into_iter().flat_map(|manifest| manifest.batches).map(|batch| batch.path).collect();
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for entry in entries {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        if entry.file_type().unwrap().is_dir() {
            unreferenced(&entry.path(), found);
        } else if name != MANIFEST_FILE && !named.contains(&name) {
            found.push(entry.path());
        }
    }
}

/// The same of a whole data directory.
pub(crate) fn unreferenced_files(home: &Home) -> Vec<PathBuf> {
    let mut found = Vec::new();
    unreferenced(&home.partition(""), &mut found);
    found
}

/// Waits until every file is one that a manifest names.
pub(crate) async fn assert_becomes_clean(server: &Server) {
    let left = || unreferenced_files(&server.home);
    let clean = async {
        while !left().is_empty() {
            server.rows("SELECT count(*) FROM system.jobs").await;
        }
    };
    let done = tokio::time::timeout(CLEAN_WITHIN, clean).await;
    assert!(done.is_ok(), "files that nothing refers to: {:#?}", left());
}

struct Crash {
    home: Home,
    dice: Dice,
    load: Load,
}

impl Crash {
    async fn prepare(home: Home) -> (Self, Server) {
        let (mut dice, server) = (Dice::thrown(), home.start().await);
        let load = Load::prepare(&server, &mut dice, Kept::Acknowledged).await;
        (Self { home, dice, load }, server)
    }

    /// A life that ends at the point, in which tables of one kind are flushed.
    async fn live_until(&mut self, point: &str, passes: u64, kind: Kind) {
        let nth = 1 + self.dice.below(passes);
        say(&format!("{point}, time {nth}, {kind:?}"));
        let armed = self.home.with(&[("TESTING__FAIL_POINTS", &format!("{point}=exit({nth})"))]);
        // What the start itself does reaches some of them.
        if let Ok(mut server) = armed.try_start().await {
            let end = self.load.run(&mut server, &[kind], STATEMENTS_MAX).await;
            assert_eq!(end, End::Itself, "{point} was not reached");
        }
    }
}

async fn end_at_each_point(kind: Kind) {
    let home = Home::new(&[("HOT__DURABILITY", "sync"), ("JOBS__ORPHAN_INTERVAL_SECONDS", "1")]);
    let (mut crash, server) = Crash::prepare(home).await;
    server.stop();
    for (point, passes) in POINTS {
        crash.live_until(point, *passes, kind).await;
        let server = crash.home.start().await;
        crash.load.verify(&server).await;
        crash.load.verify_flushed(&server).await;
        assert_no_manifest_was_lost(&server);
        assert_becomes_clean(&server).await;
        crash.load.verify(&server).await;
        server.stop();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_ends_at_any_fail_point_loses_nothing_of_shared_tables() {
    end_at_each_point(Kind::Shared).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_ends_at_any_fail_point_loses_nothing_of_user_tables() {
    end_at_each_point(Kind::User).await;
}

async fn lose_power_at_each_point(luck: fn(&mut Dice, &Path) -> Reached) {
    let mut home = Home::new(&[("HOT__DURABILITY", "sync"), ("JOBS__ORPHAN_INTERVAL_SECONDS", "1")]);
    let disk = Disk::under(&mut home);
    let (mut crash, server) = Crash::prepare(home).await;
    drop(server);
    for (point, passes) in POINTS {
        for kind in Kind::BOTH {
            crash.live_until(point, *passes, kind).await;
            disk.cut(&crash.home, &mut |path| luck(&mut crash.dice, path));
            let server = crash.home.start().await;
            crash.load.verify(&server).await;
            assert_no_manifest_was_lost(&server);
        }
    }
    let server = crash.home.start().await;
    crash.load.verify_flushed(&server).await;
    assert_becomes_clean(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_at_any_fail_point_loses_nothing() {
    lose_power_at_each_point(|_, _| Reached::Nothing).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_power_cut_at_any_fail_point_loses_nothing_whatever_else_reached_the_disk() {
    lose_power_at_each_point(some).await;
}
