//! CHECK TABLE says what is wrong with a table's history, and REPAIR mends what can be mended without a loss.

use kalamdb_commons::manifest::{MANIFEST_FILE, Manifest};

use crate::db::Db;

async fn history() -> Db {
    let db = Db::new().await;
    db.said("CREATE NAMESPACE app").await;
    db.said("CREATE SHARED TABLE app.t (id BIGINT PRIMARY KEY, n INT UNIQUE)").await;
    db.count("INSERT INTO t VALUES (1, 1), (2, 2), (3, 3)").await;
    db.flush("app.t").await;
    db.count("UPDATE t SET n = 20 WHERE id = 2").await;
    db.count("DELETE FROM t WHERE id = 3").await;
    db.count("INSERT INTO t VALUES (4, 4)").await;
    db.flush("app.t").await;
    db.count("UPDATE t SET n = 10 WHERE id = 1").await;
    db
}

const ROWS: [&str; 3] = ["1|10", "2|20", "4|4"];
const CHECK: &str = "CHECK TABLE app.t";
const REPAIR: &str = "CHECK TABLE app.t REPAIR";

fn write_manifest(db: &Db, change: impl FnOnce(&mut Manifest)) {
    let mut manifest = db.manifest("t", "shared");
    change(&mut manifest);
    let path = db.partition("t", "shared").join(MANIFEST_FILE);
    std::fs::write(path, serde_json::to_vec(&manifest).unwrap()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sound_table_is_said_to_be_sound_before_and_after_a_compaction() {
    let db = history().await;
    assert_eq!(db.lines(CHECK).await, ["shared|NULL|ok: 2 batches, 6 rows in them|NULL"]);
    db.compact("app.t").await;
    assert_eq!(db.lines(CHECK).await, ["shared|NULL|ok: 1 batches, 4 rows in them|NULL"]);
    let refused = db.run_as(Db::user("al"), CHECK, Vec::new()).await.unwrap_err();
    assert_eq!(refused.kind(), kalamdb_commons::ErrorKind::PermissionDenied);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_manifest_is_written_again_by_repair_and_by_nothing_less() {
    let db = history().await;
    let path = db.partition("t", "shared").join(MANIFEST_FILE);
    std::fs::remove_file(&path).unwrap();
    assert_eq!(db.lines(CHECK).await, ["shared|manifest.json|it is missing|false"]);
    assert!(!path.exists());
    assert_eq!(db.lines(REPAIR).await, ["shared|manifest.json|it is missing|true"]);
    assert_eq!(db.lines(CHECK).await, ["shared|NULL|ok: 2 batches, 6 rows in them|NULL"]);
    assert_eq!(db.lines("SELECT id, n FROM t ORDER BY id").await, ROWS);
    db.flush("app.t").await;
    let db = db.restart().await;
    assert_eq!(db.lines("SELECT id, n FROM t ORDER BY id").await, ROWS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_says_other_things_than_the_footers_is_mended() {
    let db = history().await;
    write_manifest(&db, |manifest| manifest.batches[1].superseding_count = 0);
    let problem = "shared|batch-0002.parquet|the manifest says other things of it than its footer";
    assert_eq!(db.lines(CHECK).await, [format!("{problem}|false")]);
    assert_eq!(db.lines(REPAIR).await, [format!("{problem}|true")]);
    assert_eq!(db.manifest("t", "shared").batches[1].superseding_count, 2);
    assert_eq!(db.lines("SELECT id, n FROM t ORDER BY id").await, ROWS);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_that_nothing_refers_to_is_found_and_removed() {
    let db = history().await;
    db.compact("app.t").await;
    let left = db.partition("t", "shared").join("batch-0001.parquet");
    std::fs::write(&left, "left by a crash").unwrap();
    assert_eq!(db.lines(CHECK).await, ["shared|batch-0001.parquet|nothing refers to it|false"]);
    assert_eq!(db.lines(REPAIR).await, ["shared|batch-0001.parquet|nothing refers to it|true"]);
    assert!(!left.exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_damaged_file_is_named_and_left_alone() {
    let db = history().await;
    let path = db.partition("t", "shared").join("batch-0001.parquet");
    let mut bytes = std::fs::read(&path).unwrap();
    let end = bytes.len();
    bytes[end - 6..].fill(0);
    std::fs::write(&path, &bytes).unwrap();
    let db = db.restart().await;
    let found = db.lines(REPAIR).await;
    assert!(found.iter().any(|line| line.contains("batch-0001.parquet") && line.ends_with("|false")), "{found:?}");
    assert_eq!(std::fs::read(&path).unwrap(), bytes);
    assert!(db.manifest("t", "shared").batches.iter().any(|batch| batch.number == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn orphans_are_removed_when_asked_for() {
    let db = history().await;
    db.compact("app.t").await;
    let directory = db.partition("t", "shared");
    for left in ["batch-0001.parquet", "batch-0007.parquet", "notes.txt"] {
        std::fs::write(directory.join(left), "left by somebody").unwrap();
    }
    let said = db.message("STORAGE REMOVE ORPHANS WAIT").await;
    assert!(said.starts_with("Orphan removal completed: 1 orphan file(s) removed. Job ID: OR-"), "{said}");
    // The seventh may yet be published, for all that the server knows, and notes are not its own.
    let left = db.files("t", "shared");
    assert_eq!(left, ["batch-0003.parquet", "batch-0007.parquet", "manifest.json", "notes.txt"]);
    assert_eq!(db.lines("SELECT id, n FROM t ORDER BY id").await, ROWS);
}
