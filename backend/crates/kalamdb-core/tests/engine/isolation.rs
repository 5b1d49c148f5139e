//! One user learns nothing of another: non-interference.
//!
//! The same statements are run by the user `al` in three worlds that differ in what is not al's only: in one `ali` and the
//! administrators have rows, hidden objects, jobs and a storage, in one ali has nothing, in one there is no ali. Whatever
//! al is told must be the same to the letter: rows, ids and times, messages, errors, and what statements count as their
//! cost. The statements are generated, of every kind there is; names, keys, row ids, commit times, jobs and files of ali's
//! are among what they ask for. It is done with the rows hot, flushed, compacted, and after a restart.
//!
//! Ids and times are al's own in all worlds, because the clock is set by hand before everything that al does: nothing has
//! to be left out of the comparison but what real time made.

use kalamdb_commons::Result;
use kalamdb_commons::clock::Clock;
use kalamdb_commons::schema::Actor;
use kalamdb_core::api::OutcomeResult;
use kalamdb_core::stats::StatsSnapshot;
use proptest::prelude::*;
use proptest::test_runner::{FileFailurePersistence, TestRunner};

use crate::db::{Db, START_NS, texts};

const CASES: u32 = 6;
const STATEMENTS: std::ops::RangeInclusive<usize> = 20..=40;
const STACK_BYTES: usize = 32 << 20;
const MINUTE_NS: i64 = 60_000_000_000;
/// Al's statements begin a minute apart.
const ROUND_MINUTES: i64 = 100;

/// What there is besides al.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Others {
    /// Ali has rows in all states, and there are hidden tables, a job and a storage.
    Rich,
    /// Ali has an account.
    Poor,
    /// There is no ali.
    Absent,
}

struct World {
    others: Others,
    db: Db,
    /// For a storage of the others'.
    elsewhere: tempfile::TempDir,
}

/// What ali's rows and jobs are called in the rich world, for al to guess.
struct Guesses {
    row_id: String,
    seq: String,
    job: String,
}

fn al() -> Actor {
    Db::user("al")
}

fn ali() -> Actor {
    Db::user("ali")
}

impl World {
    async fn new(others: Others) -> Self {
        let db = Db::with(|settings| {
            // Nothing happens by itself.
            settings.flush.check_interval_seconds = 365 * 86_400;
            settings.compaction.check_interval_seconds = 365 * 86_400;
            settings.jobs.orphan_interval_seconds = 365 * 86_400;
        })
        .await;
        let world = Self { others, db, elsewhere: tempfile::tempdir().unwrap() };
        world.db.said("CREATE NAMESPACE app; CREATE USER 'al' WITH PASSWORD 'long enough' ROLE 'user'").await;
        for sql in [
            "CREATE USER TABLE mine (id BIGINT PRIMARY KEY, word TEXT, code INT UNIQUE, owner TEXT DEFAULT CURRENT_USER())",
            "CREATE INDEX word_idx ON mine (word)",
            "CREATE STREAM TABLE feed (id BIGINT, word TEXT) TTL 1000000",
            "CREATE SHARED TABLE open (id BIGINT PRIMARY KEY, word TEXT) WITH (ACCESS_LEVEL = 'public')",
            "CREATE SHARED TABLE house (id BIGINT, word TEXT)",
            "CREATE VIEW seen AS SELECT id, word FROM mine",
            "INSERT INTO open VALUES (1, 'everybody''s')",
        ] {
            world.db.said(sql).await;
        }
        for sql in [
            "INSERT INTO mine (id, word, code) VALUES (1, 'mine', 11), (2, 'common', 12), (3, 'mine too', 13)",
            "INSERT INTO feed VALUES (1, 'mine'), (2, 'common')",
            "DELETE FROM mine WHERE id = 3",
        ] {
            world.db.run_as(al(), sql, vec![]).await.unwrap();
        }
        if others != Others::Absent {
            world.at(10);
            world.db.said("CREATE USER 'ali' WITH PASSWORD 'long enough' ROLE 'user'").await;
        }
        world.others_move_in().await;
        world.at(20);
        world.same_moment().await;
        world
    }

    /// Makes the newest commit of the server the same in all worlds: through when a partition is flushed is a time of the
    /// server's, not of its user's.
    async fn same_moment(&self) {
        let now_ns = self.db.clock.now_ns();
        self.db.said(&format!("ALTER NAMESPACE app SET (moment = '{now_ns}')")).await;
    }

    /// Sets the clock to so many minutes after the beginning.
    fn at(&self, minutes: i64) {
        self.db.clock.step(START_NS + minutes * MINUTE_NS - self.db.clock.now_ns());
    }

    async fn others_move_in(&self) {
        if self.others != Others::Rich {
            return;
        }
        for sql in [
            "INSERT INTO mine (id, word, code) VALUES (2, 'secret', 12), (3, 'common', 14), (4, 'secret four', 11)",
            "INSERT INTO mine (id, word) SELECT value, 'secret many' FROM generate_series(1000, 1200)",
            "INSERT INTO feed VALUES (2, 'secret'), (9, 'secret')",
        ] {
            self.db.run_as(ali(), sql, vec![]).await.unwrap();
        }
        self.db.said("INSERT INTO mine AS USER 'ali' (id, word) VALUES (5, 'secret of root')").await;
        for sql in ["UPDATE mine SET word = 'secret new' WHERE id = 4", "DELETE FROM mine WHERE id = 2"] {
            self.db.run_as(ali(), sql, vec![]).await.unwrap();
        }
        for sql in [
            "CREATE SHARED TABLE hidden (id BIGINT, word TEXT); INSERT INTO hidden VALUES (1, 'secret')",
            "INSERT INTO house VALUES (1, 'secret'), (2, 'secret')",
            "CREATE VIEW hidden_view AS SELECT * FROM hidden",
            "CREATE NAMESPACE cellar; CREATE SHARED TABLE cellar.t (id BIGINT) WITH (ACCESS_LEVEL = 'restricted')",
            "ALTER USER 'ali' SET LIMIT requests_per_second 1000",
            "STORAGE FLUSH TABLE hidden WAIT",
        ] {
            self.db.said(sql).await;
        }
        let place = self.elsewhere.path().display();
        self.db.said(&format!("CREATE STORAGE elsewhere TYPE 'filesystem' PATH '{place}'")).await;
    }

    /// What the others do while al looks on.
    async fn others_go_on(&self, round: i64) {
        if self.others == Others::Rich {
            let sql = format!(
                "INSERT INTO mine (id, word) VALUES ({0}, 'secret'); UPDATE mine SET word = 'secret {0}' WHERE id = 3",
                50 + round
            );
            self.db.run_as(ali(), &sql, vec![]).await.unwrap();
            self.db.said(&format!("INSERT INTO house VALUES ({round}, 'secret'); CREATE NAMESPACE n{round}")).await;
        }
    }

    async fn guesses(&self) -> Guesses {
        let one = async |sql: &str| self.db.lines(sql).await.concat();
        let of_ali = "FROM ALL USERS OF mine WHERE _user = 'ali' AND id = 4";
        Guesses {
            row_id: one(&format!("SELECT _id {of_ali}")).await,
            seq: one(&format!("SELECT _seq {of_ali}")).await,
            job: one("SELECT min(job_id) FROM system.jobs").await,
        }
    }

    /// Everything that al is told.
    async fn told(&self, sql: &str, minutes: i64) -> Told {
        self.at(minutes);
        let directory = self.db.directory.path().to_str().unwrap();
        let sql = sql.replace("<dir>", directory);
        let (outcomes, cost) = self.run(&sql).await;
        let outcomes = without_times(&format!("{outcomes:#?}").replace(directory, "<dir>"));
        Told {
            outcomes,
            cost: StatsSnapshot {
                execution_ms: 0.0,
                manifest_pruning_ns: 0,
                bloom_pruning_ns: 0,
                bytes_read: 0,
                ..cost
            },
        }
    }

    async fn run(&self, sql: &str) -> (Vec<Result<String>>, StatsSnapshot) {
        let mut execution = match self.db.begin(al(), sql, vec![]).await {
            Ok(execution) => execution,
            Err(error) => return (vec![Err(error)], StatsSnapshot::default()),
        };
        let mut outcomes = Vec::new();
        while let Some(outcome) = execution.next().await {
            let told = match outcome.map(|outcome| outcome.result) {
                Ok(OutcomeResult::Rows(rows) | OutcomeResult::Affected { returning: Some(rows), .. }) => {
                    let schema = format!("{:?} {:?}", rows.schema, rows.flags);
                    texts(rows).await.map(|mut rows| {
                        // Without ORDER BY any order is right; with it al's own rows have it.
                        rows.sort();
                        format!("{schema} {rows:#?}")
                    })
                }
                Ok(OutcomeResult::Affected { verb, rows, .. }) => Ok(format!("{verb:?} {rows}")),
                Ok(OutcomeResult::Done { message }) => Ok(message),
                Err(error) => Err(error),
            };
            outcomes.push(told);
        }
        (outcomes, execution.stats().snapshot())
    }
}

#[derive(Debug, Clone, PartialEq)]
struct Told {
    outcomes: String,
    cost: StatsSnapshot,
}

/// Without DataFusion's own metrics of EXPLAIN ANALYZE, which depend on the order in which threads run. What we count
/// ourselves stands in its last row.
fn without_metrics(text: &str) -> String {
    let mut pieces = text.split("metrics=[");
    let mut kept = pieces.next().unwrap_or_default().to_owned();
    for piece in pieces {
        kept.push_str(piece.split_once(']').map_or("", |(_, after)| after));
    }
    kept
}

/// Without what real time made: how long something took.
fn without_times(text: &str) -> String {
    let mut kept = String::new();
    for line in without_metrics(&text.replace("\\n", "\n")).lines() {
        let name = line.trim_start().trim_start_matches(['"', '\\']);
        if ["execution_ms:", "manifest_pruning_ns:", "bloom_pruning_ns:", "bytes_read:"]
            .iter()
            .any(|own| name.starts_with(own))
        {
            continue;
        }
        let mut rest = line;
        while let Some(at) = rest.find(|c: char| c.is_ascii_digit()) {
            let (before, number) = rest.split_at(at);
            let end = number.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(number.len());
            let (number, after) = number.split_at(end);
            let is_time = ["ns", "µs", "ms", "s,", "s]"].iter().any(|unit| after.starts_with(unit));
            kept.push_str(before);
            kept.push_str(if is_time { "#" } else { number });
            rest = after;
        }
        kept.push_str(rest);
        kept.push('\n');
    }
    kept
}

fn key() -> impl Strategy<Value = String> {
    prop_oneof![(0i64..7).prop_map(|key| key.to_string()), Just("1000".to_owned()), Just("11".to_owned())]
}

fn word() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "'mine'",
        "'common'",
        "'secret'",
        "'secret four'",
        "'%s%'",
        "NULL",
        "CURRENT_USER()",
        "'1'",
    ])
}

/// Names of tables: al's own, everybody's, hidden ones, ones that exist nowhere, and the server's.
fn table() -> impl Strategy<Value = &'static str> {
    let own = prop::sample::select(vec!["mine", "app.mine", "feed", "seen", "open"]);
    let hidden = prop::sample::select(vec![
        "house",
        "hidden",
        "hidden_view",
        "cellar.t",
        "never",
        "n1.t",
        "app.\"mine/user_ali\"",
        "\"../user_ali\"",
        "'<dir>/storage/app/mine/user_ali/batch-0001.parquet'",
        "\"<dir>/storage/app/mine/user_ali/manifest.json\"",
        "ALL USERS OF mine",
    ]);
    let of_the_server = prop::sample::select(vec![
        "system.users",
        "system.namespaces",
        "system.tables",
        "system.schemas",
        "system.columns",
        "system.storages",
        "system.jobs",
        "system.manifest",
        "system.manifest_cache",
        "system.audit_log",
        "system.user_usage",
        "system.stats",
        "system.settings",
        "system.cluster",
        "system.live",
        "system.never",
        "information_schema.tables",
        "information_schema.columns",
    ]);
    prop_oneof![6 => own, 3 => hidden, 3 => of_the_server]
}

fn filter() -> impl Strategy<Value = String> {
    prop_oneof![
        4 => key().prop_map(|key| format!("id = {key}")),
        2 => word().prop_map(|word| format!("word = {word}")),
        2 => word().prop_map(|word| format!("word LIKE {word}")),
        2 => prop::sample::select(vec![
            "_id = <row>", "_id IN (<row>, 1)", "_seq = <seq>", "_seq > <seq>", "_updated < now()",
            "_deleted OR NOT _deleted", "code = 14", "owner = 'ali'", "CAST(word AS INT) = 1", "1 / (id - 4) = 0",
            "secret = 1", "true", "user_id = 'ali'", "job_id = '<job>'", "table_name LIKE '%hidden%'",
        ]).prop_map(ToOwned::to_owned),
        1 => (table(), key()).prop_map(|(table, key)| format!("id IN (SELECT id FROM {table} WHERE id >= {key})")),
        1 => (table(), word()).prop_map(|(table, word)| format!("EXISTS (SELECT 1 FROM {table} x WHERE x.word = {word})")),
    ]
}

fn query() -> impl Strategy<Value = String> {
    let columns = prop::sample::select(vec![
        "*",
        "count(*)",
        "*, _seq",
        "id, word",
        "min(word), max(word), count(DISTINCT word)",
        "min(_id), max(_seq)",
        "CAST(word AS INT)",
        "sum(1 / (id - 4))",
        "_user, word",
    ]);
    prop_oneof![
        6 => (columns, table(), filter()).prop_map(|(columns, table, filter)| format!("SELECT {columns} FROM {table} WHERE {filter}")),
        2 => table().prop_map(|table| format!("SELECT * FROM {table}")),
        1 => (table(), table()).prop_map(|(a, b)| format!("SELECT count(*) FROM {a} a JOIN {b} b ON a.id = b.id")),
        1 => (table(), filter()).prop_map(|(table, filter)| format!("WITH x AS (SELECT * FROM {table}) SELECT * FROM x WHERE {filter}")),
        1 => (table(), table()).prop_map(|(a, b)| format!("SELECT id FROM {a} EXCEPT SELECT id FROM {b}")),
        1 => (table(), filter()).prop_map(|(table, filter)| format!("SELECT (SELECT max(id) FROM {table} WHERE {filter})")),
    ]
}

fn change() -> impl Strategy<Value = String> {
    let returning = prop::sample::select(vec!["", " RETURNING *", " RETURNING _id, _seq, id", " RETURNING secret"]);
    let conflict = prop::sample::select(vec![
        "",
        " ON CONFLICT DO NOTHING",
        " ON CONFLICT (id) DO UPDATE SET word = excluded.word || '!'",
    ]);
    prop_oneof![
        (table(), key(), word(), conflict, returning.clone()).prop_map(|(table, key, word, conflict, returning)| {
            format!("INSERT INTO {table} (id, word) VALUES ({key}, {word}){conflict}{returning}")
        }),
        key().prop_map(|key| format!(
            "INSERT INTO mine (id, word, code) VALUES (70{key}, 'coded', 1{key}) ON CONFLICT DO NOTHING RETURNING *"
        )),
        (table(), query()).prop_map(|(table, query)| format!("INSERT INTO {table} (id, word) {query}")),
        (table(), word(), filter(), returning.clone()).prop_map(|(table, word, filter, returning)| {
            format!("UPDATE {table} SET word = {word} WHERE {filter}{returning}")
        }),
        (table(), filter(), returning)
            .prop_map(|(table, filter, returning)| format!("DELETE FROM {table} WHERE {filter}{returning}")),
    ]
}

/// What takes a name: every other kind of statement.
fn about(name: &str) -> Vec<String> {
    let of = [
        "DESCRIBE {}",
        "SHOW COLUMNS FROM {}",
        "SHOW MANIFEST FOR {}",
        "SHOW STATS FOR TABLE {}",
        "TRUNCATE TABLE {}",
        "DROP TABLE {}",
        "DROP TABLE IF EXISTS {}",
        "DROP VIEW {}",
        "DROP INDEX {}",
        "CREATE SHARED TABLE {} (id BIGINT)",
        "CREATE USER TABLE IF NOT EXISTS {} AS SELECT 1 AS a",
        "CREATE VIEW {} AS SELECT 1 AS a",
        "CREATE INDEX i ON {} (id)",
        "ALTER TABLE {} ADD COLUMN n INT",
        "ALTER TABLE {} SET ACCESS LEVEL public",
        "STORAGE FLUSH TABLE {}",
        "STORAGE COMPACT TABLE {} WAIT",
        "CHECK TABLE {}",
        "EXECUTE AS USER 'ali' (SELECT * FROM {})",
        "INSERT INTO {} AS USER 'ali' (id) VALUES (1)",
        "UPDATE {} AS USER 'ali' SET id = 1",
        "DELETE FROM {} AS USER 'ali'",
        "EXECUTE AS USER 'al' (SELECT * FROM {})",
    ];
    of.iter().map(|sql| sql.replace("{}", name)).collect()
}

/// What names no table.
const ELSE: [&str; 44] = [
    "SHOW TABLES",
    "SHOW TABLES IN app",
    "SHOW TABLES IN cellar",
    "SHOW NAMESPACES",
    "SHOW STORAGES",
    "SHOW ALL",
    "SHOW MANIFEST",
    "SHOW MANIFEST CACHE",
    "USE cellar",
    "USE app; SHOW TABLES",
    "CREATE NAMESPACE cellar",
    "DROP NAMESPACE cellar CASCADE",
    "ALTER NAMESPACE cellar SET (a = 1)",
    "CREATE USER 'ali' WITH PASSWORD 'long enough' ROLE 'user'",
    "CREATE USER IF NOT EXISTS 'ali' WITH PASSWORD 'long enough' ROLE 'user'",
    "ALTER USER 'ali' SET PASSWORD 'long enough'",
    "ALTER USER 'ali' SET ROLE dba",
    "ALTER USER 'ali' SET EMAIL 'a@b.c'",
    "ALTER USER 'ali' SET LIMIT requests_per_second 1",
    "DROP USER 'ali'",
    "DROP USER IF EXISTS 'ali'",
    "CREATE STORAGE elsewhere TYPE 'filesystem' PATH '<dir>/elsewhere'",
    "ALTER STORAGE elsewhere SET NAME 'x'",
    "DROP STORAGE IF EXISTS elsewhere",
    "STORAGE CHECK elsewhere",
    "STORAGE FLUSH ALL",
    "STORAGE COMPACT ALL IN cellar",
    "KILL JOB '<job>'",
    "KILL JOB 'FL-none'",
    "VERIFY AUDIT",
    "BEGIN; ROLLBACK",
    "EXECUTE AS USER 'ali' (SELECT 1)",
    "EXECUTE AS USER 'ali' (SHOW MANIFEST)",
    "EXECUTE AS USER 'nobody' (SELECT 1)",
    "EXECUTE AS USER 'root' (SELECT 1)",
    "SELECT CURRENT_USER(), now()",
    "SELECT * FROM generate_series(1, 3)",
    "SELECT * FROM read_parquet('<dir>/storage/app/mine/user_ali/batch-0001.parquet')",
    "CREATE EXTERNAL TABLE x STORED AS PARQUET LOCATION '<dir>/storage/app/mine/user_ali/'",
    "COPY (SELECT 1) TO '<dir>/storage/app/mine/user_ali/batch-0001.parquet'",
    "COPY mine FROM '<dir>/storage/app/mine/user_ali/batch-0001.parquet'",
    "SET datafusion.catalog.location = '<dir>'",
    "SELECT 'unfinished",
    "SELECT 1; SELECT * FROM hidden; SELECT 2",
];

fn statement() -> impl Strategy<Value = String> {
    let named: Vec<String> =
        ["mine", "feed", "open", "house", "hidden", "hidden_view", "cellar.t", "never", "system.users", "word_idx"]
            .iter()
            .flat_map(|name| about(name))
            .collect();
    let explained = prop::sample::select(vec!["EXPLAIN", "EXPLAIN ANALYZE", "EXPLAIN VERBOSE"]);
    let end = prop::sample::select(vec!["COMMIT", "ROLLBACK"]);
    prop_oneof![
        6 => query(),
        3 => change(),
        2 => (explained, query()).prop_map(|(explained, query)| format!("{explained} {query}")),
        3 => prop::sample::select(named),
        3 => prop::sample::select(ELSE.to_vec()).prop_map(ToOwned::to_owned),
        1 => (change(), query(), change(), end).prop_map(|(a, b, c, end)| format!("BEGIN; {a}; {b}; {c}; {end}")),
    ]
}

/// What happens to everybody's rows between two rounds of al's statements.
const ROUNDS: [&str; 4] = ["hot", "flushed", "compacted", "restarted"];

async fn worlds() -> (Vec<World>, Guesses) {
    let mut worlds = Vec::new();
    for others in [Others::Rich, Others::Poor, Others::Absent] {
        worlds.push(World::new(others).await);
    }
    let mut guesses = Vec::new();
    for world in &worlds {
        // Asked in all of them: asking opens partitions.
        guesses.push(world.guesses().await);
    }
    (worlds, guesses.swap_remove(0))
}

async fn next_round(world: World, round: &str, minutes: i64) -> World {
    world.at(minutes);
    world.others_go_on(minutes / ROUND_MINUTES).await;
    world.at(minutes + 5);
    world.same_moment().await;
    match round {
        "flushed" => drop(world.db.said("STORAGE FLUSH ALL WAIT").await),
        "compacted" => {
            world.at(minutes + 10);
            world.db.run_as(al(), "UPDATE mine SET word = word || '+' WHERE id = 1", vec![]).await.unwrap();
            world.same_moment().await;
            world.db.said("STORAGE FLUSH ALL WAIT; STORAGE COMPACT ALL WAIT").await;
        }
        "restarted" => return World { db: world.db.restart().await, ..world },
        _ => {}
    }
    world
}

/// The cost without what background work after a start may have read already.
fn after_restart(told: Told) -> Told {
    let cost = StatsSnapshot {
        manifest_cache_hits: 0,
        manifest_cache_misses: 0,
        cache_hits: 0,
        cache_misses: 0,
        bytes_read: 0,
        storage_requests: 0,
        ..told.cost
    };
    Told { cost, ..told }
}

async fn compare(statements: &[String]) {
    let (mut worlds, guesses) = worlds().await;
    for (round, minutes) in ROUNDS.iter().zip((1..).map(|round| round * ROUND_MINUTES)) {
        let mut next = Vec::new();
        for world in worlds {
            next.push(next_round(world, round, minutes).await);
        }
        worlds = next;
        for (sql, minutes) in statements.iter().zip(minutes + 20..) {
            let sql =
                sql.replace("<row>", &guesses.row_id).replace("<seq>", &guesses.seq).replace("<job>", &guesses.job);
            let mut told = Vec::new();
            for world in &worlds {
                let heard = world.told(&sql, minutes).await;
                told.push(if *round == "restarted" { after_restart(heard) } else { heard });
            }
            for (world, heard) in worlds.iter().zip(&told).skip(1) {
                assert_eq!(told[0], *heard, "{round}, {:?} against {:?}: {sql}", worlds[0].others, world.others);
            }
        }
    }
    for world in worlds {
        world.db.engine.close().await.unwrap();
    }
}

fn config() -> ProptestConfig {
    let asked = ProptestConfig::default();
    // The library's own default means that nobody asked.
    let cases = if asked.cases == 256 { CASES } else { asked.cases };
    let seeds = FileFailurePersistence::Direct("tests/engine/isolation.seeds");
    ProptestConfig {
        cases,
        max_shrink_iters: 60,
        failure_persistence: Some(Box::new(seeds)),
        source_file: Some(file!()),
        ..asked
    }
}

/// On a thread of its own: making statements that are nested as deeply as these may be, and running them, takes more
/// stack than tests have when nothing is optimised.
fn with_room(work: impl FnOnce() + Send) {
    std::thread::scope(|scope| {
        let running = std::thread::Builder::new().stack_size(STACK_BYTES).spawn_scoped(scope, work).unwrap();
        if let Err(panic) = running.join() {
            std::panic::resume_unwind(panic);
        }
    });
}

fn run(statements: &[String]) {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .thread_stack_size(STACK_BYTES)
        .enable_all()
        .build()
        .unwrap();
    runtime.block_on(compare(statements));
}

#[test]
fn whatever_al_asks_the_answer_is_the_same_whatever_the_others_have() {
    with_room(|| {
        let any = prop::collection::vec(statement(), STATEMENTS);
        let ran = TestRunner::new(config()).run(&any, |statements| {
            run(&statements);
            Ok(())
        });
        ran.unwrap();
    });
}

/// Each kind once, so that none is left to chance.
#[test]
fn no_kind_of_statement_shows_what_others_have() {
    let named = ["mine", "hidden", "house", "never"].iter().flat_map(|name| about(name));
    let tables =
        ["system.tables", "system.namespaces", "system.manifest", "system.manifest_cache", "system.user_usage"];
    let read = tables.iter().map(|table| format!("SELECT * FROM {table}"));
    let statements: Vec<String> = named.chain(ELSE.iter().map(|sql| (*sql).to_owned())).chain(read).collect();
    with_room(|| statements.chunks(70).for_each(run));
}

/// The comparison sees what it is there for: the administrator's view of the worlds differs.
#[tokio::test(flavor = "multi_thread")]
async fn the_worlds_differ_for_those_who_may_see() {
    let (worlds, guesses) = worlds().await;
    assert!(guesses.row_id.len() > 10 && guesses.seq.len() > 10 && guesses.job.starts_with("FL-"));
    let mut seen = Vec::new();
    for world in &worlds {
        seen.push(world.db.lines("SELECT _user, id, word FROM ALL USERS OF mine ORDER BY 1, 2").await);
    }
    assert!(seen[0].len() > 200 && seen[1] == seen[2] && seen[1].len() == 2, "{seen:?}");
}
