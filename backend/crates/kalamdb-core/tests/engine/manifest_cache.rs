//! The manifest cache by the names of its promises (FR-031 to FR-053), and what a restart, a stale entry and another
//! user may find in it. What is promised of the persistent level is looked up there, with the engine closed.

use std::time::Duration;

use bytes::Bytes;
use kalamdb_commons::manifest::MANIFEST_FILE;
use kalamdb_commons::settings::Settings;
use kalamdb_store::{NodeCache, RocksShard, ShardStore};
use serde_json::Value;

use crate::db::Db;

const KEY: &[u8] = b"app:t:shared";
const TTL_NS: i64 = 3_600_000_000_000;
/// How far time goes on between two looks.
const STEP_NS: i64 = 20_000_000;
const DEADLINE: Duration = Duration::from_secs(60);
const ALL: &str = "SELECT id, n FROM t ORDER BY id";

/// A SHARED table `t` with two rows in one batch.
async fn cold() -> Db {
    cold_with(|_| {}).await
}

async fn cold_with(change: impl FnOnce(&mut Settings)) -> Db {
    let db = Db::with(change).await;
    db.said("CREATE NAMESPACE app").await;
    db.said("CREATE SHARED TABLE app.t (id BIGINT PRIMARY KEY, n INT)").await;
    db.count("INSERT INTO t VALUES (1, 10), (2, 20)").await;
    db.flush("t").await;
    db
}

/// Closes the engine, looks into the cache's column family, and opens the engine again.
async fn with_entries<T>(db: Db, look: impl AsyncFnOnce(&RocksShard) -> T) -> (Db, T) {
    db.engine.close().await.unwrap();
    let hot = db.directory.path().join("hot");
    let shard = RocksShard::open(&hot, &db.settings.hot).unwrap();
    let seen = look(&shard).await;
    ShardStore::close(&*shard).await.unwrap();
    drop(shard);
    (db.reopened().await, seen)
}

async fn entry(db: Db, key: &'static [u8]) -> (Db, Option<Value>) {
    let (db, bytes) = with_entries(db, async |shard: &RocksShard| NodeCache::get(shard, key).await.unwrap()).await;
    (db, bytes.map(|bytes: Bytes| serde_json::from_slice(&bytes).unwrap()))
}

fn manifest_file(db: &Db) -> std::path::PathBuf {
    db.partition("t", "shared").join(MANIFEST_FILE)
}

/// Rewrites the stored manifest behind the server's back.
fn rewrite(db: &Db, change: impl FnOnce(&mut Value)) {
    let mut manifest: Value = serde_json::from_slice(&std::fs::read(manifest_file(db)).unwrap()).unwrap();
    change(&mut manifest);
    std::fs::write(manifest_file(db), manifest.to_string()).unwrap();
}

/// Partitions of a query that the cache answered, and for which storage was asked.
async fn asked(db: &Db) -> (u64, u64) {
    let stats = db.stats(ALL).await;
    (stats.manifest_cache_hits, stats.manifest_cache_misses)
}

/// One column of the entries.
async fn shown(db: &Db, column: &str) -> Vec<String> {
    db.lines(&format!("SELECT {column} FROM system.manifest_cache")).await
}

async fn figure(db: &Db, name: &str) -> i64 {
    db.number(&format!("SELECT metric_value FROM system.stats WHERE metric_name = 'kalamdb_{name}'")).await
}

async fn jobs(db: &Db) -> i64 {
    db.number("SELECT count(*) FROM system.jobs WHERE job_type = 'manifest_eviction' AND status = 'completed'").await
}

/// Waits for a query to give what it should.
async fn becomes(db: &Db, sql: &str, wanted: &[&str]) {
    let is_so = async {
        while db.lines(sql).await != wanted {
            db.clock.step(STEP_NS);
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, is_so).await.unwrap_or_else(|_| panic!("{sql}: not {wanted:?} in {DEADLINE:?}"));
}

/// Waits until so many evictions have ended.
async fn evicted(db: &Db, times: i64) {
    let are = async {
        while jobs(db).await < times {
            db.clock.step(STEP_NS);
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(DEADLINE, are).await.unwrap_or_else(|_| panic!("not {times} evictions in {DEADLINE:?}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_031_entries_lie_in_a_column_family_of_their_own() {
    let (_, keys) = with_entries(cold().await, async |shard: &RocksShard| {
        let page = NodeCache::iterate(shard, b"", 10).await.unwrap();
        page.entries.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    })
    .await;
    assert_eq!(keys, [KEY]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_032_the_cache_is_a_system_table_like_the_others() {
    let db = cold().await;
    let listed =
        "SELECT table_name FROM information_schema.tables WHERE table_schema = 'system' AND table_name LIKE 'mani%'";
    assert_eq!(db.lines(&format!("{listed} ORDER BY 1")).await, ["manifest", "manifest_cache"]);
    assert_eq!(db.lines("SHOW MANIFEST CACHE").await, db.lines("SELECT * FROM system.manifest_cache").await);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_033_entries_are_put_got_and_deleted() {
    let db = cold().await;
    assert_eq!(shown(&db, "\"table\"").await, ["t"]);
    db.said("DROP TABLE t").await;
    becomes(&db, "SELECT \"table\" FROM system.manifest_cache", &[]).await;
    let (_, gone) = entry(db, KEY).await;
    assert_eq!(gone, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_034_the_memory_level_answers_without_the_one_below() {
    let db = cold().await;
    assert_eq!(asked(&db).await, (1, 0));
    assert_eq!(figure(&db, "manifest_cache_misses_total").await, 0, "nothing was read since the flush wrote it");
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_035_the_key_is_namespace_table_and_user() {
    let db = Db::new().await;
    db.said("CREATE NAMESPACE app; CREATE USER TABLE app.u (id BIGINT)").await;
    for user in ["alice", "a:b/c"] {
        db.run_as(Db::user(user), "INSERT INTO u VALUES (1)", vec![]).await.unwrap();
    }
    db.flush("u").await;
    let (db, plain) = entry(db, b"app:u:user_alice").await;
    assert_eq!(plain.unwrap()["scope"]["user"], "alice");
    let (_, escaped) = entry(db, b"app:u:user_a%3Ab%2Fc").await;
    assert_eq!(escaped.unwrap()["scope"]["user"], "a:b/c");
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_036_an_entry_that_cannot_be_read_is_read_from_storage_again() {
    let (db, ()) = with_entries(cold().await, async |shard: &RocksShard| {
        NodeCache::put(shard, KEY, b"{\"of another kind\": []}").await.unwrap();
    })
    .await;
    assert_eq!(db.lines(ALL).await, ["1|10", "2|20"]);
    let (_, entry) = entry(db, KEY).await;
    assert_eq!(entry.unwrap()["manifest"]["max_batch"], 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_037_planning_asks_the_cache_before_storage() {
    let db = cold().await;
    std::fs::remove_file(manifest_file(&db)).unwrap();
    assert_eq!(asked(&db).await, (1, 0));
    assert_eq!(db.lines(ALL).await, ["1|10", "2|20"]);
    assert!(!manifest_file(&db).exists(), "nobody missed it");
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_038_a_fresh_entry_is_used_until_its_time_is_over() {
    let db = cold().await;
    db.clock.step(TTL_NS - 1_000_000_000);
    assert_eq!(asked(&db).await, (1, 0));
    db.clock.step(1_000_000_000);
    assert_eq!(asked(&db).await, (0, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_039_a_miss_reads_storage_once_and_fills_both_levels() {
    let (db, ()) = with_entries(cold().await, async |shard: &RocksShard| {
        NodeCache::delete(shard, KEY).await.unwrap();
    })
    .await;
    assert_eq!((asked(&db).await, asked(&db).await), ((0, 1), (1, 0)));
    let (_, entry) = entry(db, KEY).await;
    assert_eq!(entry.unwrap()["sync_state"], "in_sync");
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_039_readers_who_miss_at_once_read_storage_once() {
    let db = cold().await.restart().await;
    let queries = (0..8).map(|_| db.lines(ALL));
    futures::future::join_all(queries).await;
    assert_eq!(figure(&db, "manifest_cache_misses_total").await, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_040_an_expired_entry_is_compared_by_its_etag() {
    let db = cold().await;
    let etag = shown(&db, "etag").await;
    db.clock.step(TTL_NS);
    assert_eq!(shown(&db, "sync_state, ttl").await, ["stale|0"]);
    assert_eq!(asked(&db).await, (0, 1));
    assert_eq!(figure(&db, "manifest_cache_revalidated_total").await, 1);
    assert_eq!(shown(&db, "sync_state, ttl").await, ["in_sync|3600"]);
    assert_eq!(shown(&db, "etag").await, etag);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_041_a_stale_entry_is_read_again_and_replaced() {
    let db = cold().await;
    let etag = shown(&db, "etag").await;
    rewrite(&db, |manifest| manifest["generated_at"] = "2027-01-01T00:00:00Z".into());
    db.clock.step(TTL_NS);
    assert_eq!(db.lines(ALL).await, ["1|10", "2|20"]);
    assert_ne!(shown(&db, "etag").await, etag);
    assert_eq!(figure(&db, "manifest_cache_revalidated_total").await, 0);
    let (_, entry) = entry(db, KEY).await;
    assert_eq!(entry.unwrap()["manifest"]["generated_at"], "2027-01-01T00:00:00Z");
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_042_last_accessed_is_in_memory_only() {
    let db = cold().await;
    db.lines(ALL).await;
    assert_ne!(shown(&db, "last_accessed").await, ["NULL"]);
    let (db, entry) = entry(db, KEY).await;
    assert!(!entry.unwrap().to_string().contains("accessed"));
    assert_eq!(shown(&db, "last_accessed").await, ["NULL"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_043_a_flush_writes_storage_and_both_levels() {
    let db = cold().await;
    db.count("UPDATE t SET n = 21 WHERE id = 2").await;
    db.flush("t").await;
    assert_eq!(db.manifest("t", "shared").version, 2);
    assert_eq!(asked(&db).await, (1, 0));
    let (_, entry) = entry(db, KEY).await;
    assert_eq!(entry.unwrap()["manifest"]["version"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_045_after_a_flush_cache_and_storage_hold_the_same() {
    let db = cold().await;
    db.count("INSERT INTO t VALUES (3, 30)").await;
    db.flush("t").await;
    let stored: Value = serde_json::from_slice(&std::fs::read(manifest_file(&db)).unwrap()).unwrap();
    let (_, entry) = entry(db, KEY).await;
    assert_eq!(entry.unwrap()["manifest"], stored);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_046_show_manifest_cache_has_nine_columns() {
    let db = cold().await;
    let columns =
        ["namespace", "table", "user_id", "etag", "last_refreshed", "last_accessed", "ttl", "source", "sync_state"];
    assert_eq!(db.columns("SHOW MANIFEST CACHE").await, columns);
    let rows = db.rows("SHOW MANIFEST CACHE").await;
    assert_eq!(rows.len(), 1);
    assert_eq!(rows[0][..3], ["app", "t", "NULL"]);
    assert_eq!(rows[0][6..], ["3600", "local:app/t/shared/manifest.json", "in_sync"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_047_eviction_is_a_job_that_shows() {
    let db = cold_with(|settings| settings.manifest_cache.eviction_interval_seconds = 1).await;
    evicted(&db, 1).await;
    let said = db.lines("SELECT message FROM system.jobs WHERE job_type = 'manifest_eviction' LIMIT 1").await;
    assert_eq!(said, ["0 idle partition(s) closed, 0 manifest(s) out of memory, 0 entries removed, 1 left"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn eviction_can_be_asked_for() {
    let db = cold_with(|settings| settings.manifest_cache.last_accessed_memory_window = 60).await;
    db.clock.step(2 * TTL_NS);
    let said = db.message("STORAGE EVICT MANIFESTS WAIT").await;
    let done = "1 idle partition(s) closed, 1 manifest(s) out of memory, 1 entries removed, 0 left";
    assert!(said.starts_with(&format!("Manifest eviction completed: {done}. Job ID: ME-")), "{said}");
    assert_eq!(db.lines(ALL).await, ["1|10", "2|20"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_048_eviction_runs_every_so_many_seconds() {
    let db = cold_with(|settings| settings.manifest_cache.eviction_interval_seconds = 1).await;
    evicted(&db, 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_049_idle_partitions_close_and_entries_that_are_expired_too_go() {
    let db = cold_with(|settings| {
        settings.manifest_cache.eviction_interval_seconds = 1;
        settings.manifest_cache.last_accessed_memory_window = 60;
        // What these look at is not used.
        settings.compaction.check_interval_seconds = 1;
        settings.jobs.orphan_interval_seconds = 1;
        settings.jobs.deleted_row_retention_interval_seconds = 1;
    })
    .await;
    // Something is superseded, and too little for a compaction.
    db.count("INSERT INTO t SELECT value, 0 FROM generate_series(3, 100)").await;
    db.flush("t").await;
    db.count("UPDATE t SET n = 1 WHERE id = 100").await;
    db.flush("t").await;
    db.lines(ALL).await;
    let accessed = shown(&db, "last_accessed").await;
    assert!(figure(&db, "open_partition_bytes").await > 0);
    db.clock.step(61_000_000_000);
    becomes(&db, "SELECT metric_value FROM system.stats WHERE metric_name = 'kalamdb_open_partition_bytes'", &["0"])
        .await;
    assert_eq!(shown(&db, "sync_state").await, ["in_sync"], "on disk it stays while it is fresh");
    assert_eq!(shown(&db, "last_accessed").await, accessed);
    // The level on disk is fresh still, and seen by this process: storage is not asked.
    assert_eq!(asked(&db).await, (1, 0));
    db.clock.step(TTL_NS);
    becomes(&db, "SELECT \"table\" FROM system.manifest_cache", &[]).await;
    assert_eq!(db.lines("SELECT id, n FROM t WHERE id IN (1, 2, 100) ORDER BY id").await, ["1|10", "2|20", "100|1"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_050_beyond_max_entries_the_least_recently_used_go() {
    let db = Db::with(|settings| {
        settings.manifest_cache.eviction_interval_seconds = 1;
        settings.manifest_cache.max_entries = 2;
    })
    .await;
    db.said("CREATE NAMESPACE app; CREATE USER TABLE app.u (id BIGINT)").await;
    for user in ["a", "b", "c", "d"] {
        db.run_as(Db::user(user), "INSERT INTO u VALUES (1)", vec![]).await.unwrap();
    }
    db.flush("u").await;
    for user in ["d", "a"] {
        db.lines_as(Db::user(user), "SELECT * FROM u").await;
    }
    let done = jobs(&db).await;
    evicted(&db, done + 2).await;
    let (_, keys) = with_entries(db, async |shard: &RocksShard| {
        let page = NodeCache::iterate(shard, b"", 10).await.unwrap();
        page.entries.into_iter().map(|(key, _)| key).collect::<Vec<_>>()
    })
    .await;
    assert_eq!(keys, ["app:u:user_a", "app:u:user_d"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_051_the_cache_has_its_settings() {
    let db = Db::new().await;
    let named = "SELECT name, value FROM system.settings WHERE name LIKE 'manifest_cache.%' ORDER BY name";
    let shown = db.lines(named).await;
    for wanted in [
        "manifest_cache.ttl_seconds|3600",
        "manifest_cache.eviction_interval_seconds|300",
        "manifest_cache.max_entries|50000",
        "manifest_cache.last_accessed_memory_window|3600",
    ] {
        assert!(shown.contains(&wanted.to_owned()), "{wanted}: {shown:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_052_after_a_restart_an_entry_is_compared_before_it_is_used() {
    let db = cold().await.restart().await;
    assert_eq!(shown(&db, "sync_state").await, ["stale"]);
    assert_eq!(asked(&db).await, (0, 1));
    assert_eq!(figure(&db, "manifest_cache_revalidated_total").await, 1);
    assert_eq!(shown(&db, "sync_state").await, ["in_sync"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_052_a_manifest_that_changed_while_the_server_was_down_is_the_one_that_counts() {
    let db = cold().await;
    db.engine.close().await.unwrap();
    rewrite(&db, |manifest| manifest["generated_at"] = "2027-01-01T00:00:00Z".into());
    let db = db.reopened().await;
    assert!(db.lines("SHOW MANIFEST").await[0].contains("2027-01-01T00:00:00Z"));
    assert_eq!(figure(&db, "manifest_cache_revalidated_total").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn fr_053_the_memory_level_refills_on_first_use() {
    let db = cold().await.restart().await;
    assert_eq!(figure(&db, "open_partition_bytes").await, 0);
    assert_eq!((asked(&db).await, asked(&db).await), ((0, 1), (1, 0)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_start_reads_no_manifest() {
    let db = cold().await.restart().await;
    db.engine.close().await.unwrap();
    std::fs::rename(manifest_file(&db), db.storage().join("aside")).unwrap();
    let db = db.reopened().await;
    assert_eq!(figure(&db, "manifest_cache_misses_total").await, 0);
}

/// Both the stored manifest and the entry are of before the last flush, as if both writes had been lost.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_manifest_than_the_hot_tier_recorded_is_never_served() {
    let (db, before) =
        with_entries(cold().await, async |shard: &RocksShard| NodeCache::get(shard, KEY).await.unwrap()).await;
    let stored = std::fs::read(manifest_file(&db)).unwrap();
    db.count("UPDATE t SET n = 21 WHERE id = 2").await;
    db.flush("t").await;
    std::fs::write(manifest_file(&db), stored).unwrap();
    let before: Bytes = before.unwrap();
    let (db, ()) =
        with_entries(db, async |shard: &RocksShard| NodeCache::put(shard, KEY, &before).await.unwrap()).await;
    assert_eq!(db.lines(ALL).await, ["1|10", "2|21"]);
    db.mended().await;
    assert_eq!(db.manifest("t", "shared").batches.len(), 2);
}

/// The entry alone is older: its ETag is not the stored file's.
#[tokio::test(flavor = "multi_thread")]
async fn an_older_entry_is_replaced_by_what_is_stored() {
    let (db, before) =
        with_entries(cold().await, async |shard: &RocksShard| NodeCache::get(shard, KEY).await.unwrap()).await;
    db.count("INSERT INTO t VALUES (3, 30)").await;
    db.flush("t").await;
    let before: Bytes = before.unwrap();
    let (db, ()) =
        with_entries(db, async |shard: &RocksShard| NodeCache::put(shard, KEY, &before).await.unwrap()).await;
    assert_eq!(db.lines(ALL).await, ["1|10", "2|20", "3|30"]);
    let (_, entry) = entry(db, KEY).await;
    assert_eq!(entry.unwrap()["manifest"]["version"], 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_entry_whose_files_are_gone_is_not_believed() {
    let db = cold().await;
    db.engine.close().await.unwrap();
    std::fs::remove_file(db.partition("t", "shared").join("batch-0001.parquet")).unwrap();
    let db = db.reopened().await;
    assert!(db.error(ALL).await.message().contains("batch-0001.parquet"));
}

#[tokio::test(flavor = "multi_thread")]
async fn users_see_entries_and_manifests_of_their_own_partitions_only() {
    let db = cold().await;
    db.said("CREATE USER TABLE app.u (id BIGINT); CREATE SHARED TABLE app.p (id BIGINT) WITH (ACCESS_LEVEL='public')")
        .await;
    for user in ["alice", "bob"] {
        db.run_as(Db::user(user), "INSERT INTO u VALUES (1)", vec![]).await.unwrap();
    }
    db.count("INSERT INTO p VALUES (1)").await;
    db.said("STORAGE FLUSH ALL WAIT").await;
    for sql in
        ["SHOW MANIFEST CACHE", "SELECT * FROM system.manifest_cache", "SHOW MANIFEST", "SELECT * FROM system.manifest"]
    {
        let seen = db.lines_as(Db::user("alice"), sql).await;
        assert_eq!(seen.len(), 1, "{sql}: {seen:?}");
        assert!(seen[0].starts_with("app|u|alice|"), "{sql}: {seen:?}");
        assert_eq!(db.lines_as(Db::user("carol"), sql).await, Vec::<String>::new(), "{sql}");
        assert_eq!(db.lines(sql).await.len(), 4, "{sql}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn open_partitions_stay_within_their_memory() {
    let db = Db::with(|settings| settings.manifest_cache.memory_mib = 1).await;
    db.said("CREATE NAMESPACE app; CREATE USER TABLE app.u (id BIGINT, a INT, b INT, c INT, d INT, e INT)").await;
    let users: Vec<String> = (0..600).map(|user| format!("user{user}")).collect();
    for user in &users {
        db.run_as(Db::user(user), "INSERT INTO u VALUES (1, 1, 1, 1, 1, 1)", vec![]).await.unwrap();
    }
    db.flush("u").await;
    for user in &users {
        assert_eq!(db.lines_as(Db::user(user), "SELECT id FROM u").await, ["1"]);
    }
    let open = figure(&db, "open_partition_bytes").await;
    assert!((1..=(1 << 20) + 10_000).contains(&open), "{open}");
    assert_eq!(figure(&db, "manifest_cache_misses_total").await, 0, "what was closed is on disk, and fresh");
}
