//! The data of another version is refused, by words that say what to do, and is not changed. What is packaged works.

use std::path::Path;

use kalamdb_commons::settings::HotSettings;
use kalamdb_store::{Batch, RocksShard, ShardStore, keys};

use super::server::{Home, Server};

/// Writes another version into a data directory whose server has ended.
async fn set_version(home: &Home, version: u64) {
    let store = RocksShard::open(home.data().join("hot"), &HotSettings::default()).unwrap();
    let mut batch = Batch::default();
    batch.put(keys::system("shard", "format"), version.to_le_bytes().to_vec());
    store.commit(store.token(), batch).await.unwrap();
    store.close().await.unwrap();
}

#[tokio::test]
async fn data_of_another_version_is_refused() {
    for (version, words) in [
        (2, "has version 2, and this server reads versions up to 1: a newer server has written it"),
        (0, "has version 0, and this server reads versions from 1: upgrade it with the servers in between"),
    ] {
        let home = Server::start().await.stop();
        set_version(&home, version).await;
        let ended = home.refused();
        assert!(!ended.status.success() && ended.words.contains(words), "{}", ended.words);
    }
}

fn packaged(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../packaging").join(name);
    std::fs::read_to_string(path).unwrap()
}

/// The settings that a packaged file sets by environment, without the prefix.
fn settings_in(text: &str) -> Vec<(&str, &str)> {
    let words = text.split_whitespace().map(|word| word.trim_start_matches("Environment="));
    let settings = words.filter_map(|word| word.strip_prefix("KALAMDB_")?.split_once('='));
    settings.filter(|(name, _)| name.contains("__")).collect()
}

#[test]
fn the_unit_and_the_image_start_the_server_with_settings_that_it_takes() {
    let unit = packaged("kalamdb.service");
    let starts: Vec<&str> =
        unit.lines().filter_map(|line| line.strip_prefix("ExecStart=/usr/bin/kalamdb-server ")).collect();
    assert_eq!(starts, ["--config /etc/kalamdb/server.toml"]);
    assert!(unit.contains("ExecStartPre=/usr/bin/kalamdb-server --config /etc/kalamdb/server.toml --check-config\n"));
    for text in [unit, packaged("Dockerfile")] {
        let settings = settings_in(&text);
        assert!(settings.len() > 1, "{text}");
        let checked = Home::new(&settings).run(&["--check-config"]);
        assert!(checked.status.success(), "{settings:?}: {}", String::from_utf8_lossy(&checked.stderr));
    }
}
