//! Every sync is needed, and the checks of the power cuts see that it is: with one kind of sync left out at a time,
//! something is lost.

use std::collections::BTreeSet;
use std::path::Path;

use serde_json::{Value, json};

use crate::disk::{Disk, Reached};
use crate::fail_points::unreferenced_files;
use crate::power_cut::is_of_a_lost_manifest;
use crate::server::{Home, Server};

/// What may be wrong after a power cut.
type Checked = Result<(), String>;

fn new_home(rule: Option<&str>) -> (Home, Disk) {
    let mut home = Home::new(&[("HOT__DURABILITY", "sync")]);
    let disk = Disk::under(&mut home);
    if let Some(rule) = rule {
        Disk::forget(&mut home, rule);
    }
    (home, disk)
}

async fn answers(server: &Server, sql: &str, expected: &Value) -> Checked {
    let reply = server.ask(sql).await;
    let rows = reply.body["results"].as_array().and_then(|results| results.last()).map(|result| &result["rows"]);
    if rows == Some(expected) { Ok(()) } else { Err(format!("{sql}: {}", reply.body)) }
}

/// What a server says that starts after the cut.
async fn check(home: &Home, questions: &[(&str, Value)]) -> Checked {
    let server = home.try_start().await.map_err(|ended| ended.words)?;
    for (sql, expected) in questions {
        answers(&server, sql, expected).await?;
    }
    let log = home.last_log();
    log.lines().find(|line| is_of_a_lost_manifest(line)).map_or(Ok(()), |line| Err(line.to_owned()))
}

/// Two lives with everything that is synced in them, of which the first is killed and the second loses power.
async fn two_lives(rule: Option<&str>) -> (Checked, Disk) {
    let (home, disk) = new_home(rule);
    let mut server = home.start().await;
    server
        .sql(
            "CREATE NAMESPACE app; CREATE SHARED TABLE app.t (id BIGINT PRIMARY KEY, n INT);
             CREATE SHARED TABLE app.gone (id BIGINT); INSERT INTO app.t VALUES (1, 1), (2, 2), (3, 3);
             INSERT INTO app.gone VALUES (1); STORAGE FLUSH ALL WAIT",
        )
        .await;
    server.kill();
    let mut server = home.start().await;
    server.sql("UPDATE app.t SET n = 20 WHERE id = 2; DELETE FROM app.t WHERE id = 3; STORAGE FLUSH ALL WAIT").await;
    server.sql("INSERT INTO app.t VALUES (4, 4); DROP TABLE app.gone").await;
    let removed = "SELECT status FROM system.jobs WHERE job_type = 'content_removal'";
    while server.rows(removed).await != json!([["completed"]]) {}
    server.kill();
    disk.cut(&home, &mut |_| Reached::Nothing);
    let left = unreferenced_files(&home);
    if !left.is_empty() {
        return (Err(format!("files that nothing refers to: {left:?}")), disk);
    }
    let questions = [
        ("SELECT id, n FROM app.t ORDER BY id", json!([["1", 1], ["2", 20], ["4", 4]])),
        ("SELECT table_name FROM system.tables WHERE namespace_id = 'app'", json!([["t"]])),
    ];
    (check(&home, &questions).await, disk)
}

/// The power goes out between the renaming of a manifest and the sync of its directory, and the disk has kept the new
/// manifest by itself.
async fn a_manifest_ahead_of_its_directory(rule: Option<&str>) -> (Checked, Disk) {
    let (home, disk) = new_home(rule);
    let mut server = home.with(&[("TESTING__FAIL_POINTS", "manifest::after_rename=exit")]).start().await;
    server.sql("CREATE NAMESPACE app; CREATE SHARED TABLE app.t (id BIGINT); INSERT INTO app.t VALUES (1)").await;
    server.attempt("STORAGE FLUSH TABLE app.t WAIT").await.unwrap_err();
    server.kill();
    let is_manifest = |path: &Path| path.file_name().is_some_and(|name| name == "manifest.json");
    disk.cut(&home, &mut |path| if is_manifest(path) { Reached::All } else { Reached::Nothing });
    (check(&home, &[("SELECT id FROM app.t", json!([["1"]]))]).await, disk)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_every_sync_nothing_is_lost() {
    two_lives(None).await.0.unwrap();
    a_manifest_ahead_of_its_directory(None).await.0.unwrap();
}

macro_rules! something_is_lost_without {
    ($($name:ident: $scene:ident, $rule:literal;)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let (checked, disk) = $scene(Some($rule)).await;
            assert!(disk.has_forgotten(), "no sync is of the kind {:?}", $rule);
            let lost = checked.unwrap_err();
            println!("{lost}");
        }
    )*};
}

// Left out here is the file of the hot tier's options, which is written for people and never read.
something_is_lost_without! {
    the_key_of_the_audit_log_is_synced: two_lives, "file */audit.key*";
    the_name_of_the_key_of_the_audit_log_is_synced: two_lives, "dir */data +audit.key";
    the_log_of_commits_is_synced: two_lives, "file */hot/*.log";
    the_files_of_the_hot_tier_are_synced: two_lives, "file */hot/*.sst";
    the_list_of_files_of_the_hot_tier_is_synced: two_lives, "file */hot/MANIFEST-*";
    the_pointer_to_that_list_is_synced: two_lives, "file */hot/0*.dbtmp";
    the_names_in_the_hot_tier_are_synced: two_lives, "dir */hot";
    the_names_of_new_logs_are_synced: two_lives, "dir */hot +*.log";
    the_name_of_the_hot_tier_is_synced: two_lives, "dir */data +hot";
    the_name_of_the_data_directory_is_synced: two_lives, "dir * +data";
    the_name_of_the_cold_tier_is_synced: two_lives, "dir */data +storage";
    the_name_of_a_namespace_is_synced: two_lives, "dir */storage +app";
    the_name_of_a_table_is_synced: two_lives, "dir */storage/app +t";
    the_name_of_a_partition_is_synced: two_lives, "dir */storage/app/t +shared";
    a_batch_file_is_synced: two_lives, "file */batch-*";
    the_name_of_a_batch_file_is_synced_before_the_manifest: a_manifest_ahead_of_its_directory, "dir */shared +batch-*";
    a_manifest_is_synced: two_lives, "file */manifest.json*";
    the_name_of_a_manifest_is_synced: two_lives, "dir */shared +manifest.json";
    the_removal_of_a_batch_file_is_synced: two_lives, "dir */shared -batch-*.parquet";
}

/// What is synced, with the test's directory and all numbers left out.
fn kind_of(sync: &str, root: &Path) -> String {
    let (kind, path) = sync.split_once(' ').unwrap();
    let within = Path::new(path).strip_prefix(root).map_or("above", |within| within.to_str().unwrap());
    format!("{kind} {}", within.replace(|c: char| c.is_ascii_digit(), ""))
}

/// A new kind of file or directory wants a line in the list above.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_kind_of_sync_is_known() {
    let (checked, disk) = two_lives(None).await;
    checked.unwrap();
    let syncs = disk.syncs();
    let root = syncs.iter().find_map(|sync| sync.strip_prefix("dir ")?.strip_suffix("/data/hot")).unwrap();
    let found: BTreeSet<String> = syncs.iter().map(|sync| kind_of(sync, Path::new(root))).collect();
    let known = [
        "dir ",
        "dir above",
        "dir data",
        "dir data/hot",
        "dir data/storage",
        "dir data/storage/app",
        "dir data/storage/app/gone",
        "dir data/storage/app/gone/shared",
        "dir data/storage/app/t",
        "dir data/storage/app/t/shared",
        "file data/audit.key.tmp",
        "file data/hot/.dbtmp",
        "file data/hot/.log",
        "file data/hot/.sst",
        "file data/hot/MANIFEST-",
        "file data/hot/OPTIONS-.dbtmp",
        "file data/storage/app/gone/shared/batch-.parquet.tmp--",
        "file data/storage/app/gone/shared/manifest.json.tmp--",
        "file data/storage/app/t/shared/batch-.parquet.tmp--",
        "file data/storage/app/t/shared/manifest.json.tmp--",
    ];
    assert_eq!(found.iter().map(String::as_str).collect::<Vec<_>>(), known);
}
