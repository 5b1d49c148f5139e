//! BACKUP DATABASE and RESTORE DATABASE: what comes back is what was there at the backup's commit time, row for row; and a
//! backup that is not whole changes nothing.

use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};

use kalamdb_commons::ErrorKind;
use kalamdb_commons::schema::Role;

use crate::db::{Db, Said, names_in};

const USERS: [&str; 3] = ["al", "ali", "zoë"];

/// A namespace with everything: tables of each kind, rows in both tiers, several schema versions, keys, a view.
async fn world() -> Db {
    let db = Db::new().await;
    fill(&db).await;
    db
}

async fn fill(db: &Db) {
    db.said("CREATE NAMESPACE app WITH (colour = 'red')").await;
    for sql in [
        "CREATE USER TABLE app.u (id BIGINT PRIMARY KEY, word TEXT, code INT UNIQUE)",
        "CREATE SHARED TABLE app.s (id BIGINT PRIMARY KEY, n INT DEFAULT 7, CHECK (n < 1000)) WITH (ACCESS_LEVEL = 'public')",
        "CREATE STREAM TABLE app.feed (id BIGINT PRIMARY KEY, word TEXT) TTL 1000000",
        "CREATE SHARED TABLE app.empty (id BIGINT)",
        "CREATE INDEX word_idx ON app.u (word)",
        "CREATE VIEW app.short AS SELECT s.id, n FROM app.s WHERE n > 1",
        "CREATE VIEW app.shorter AS SELECT id FROM short",
        "CREATE USER 'ali' WITH PASSWORD 'long enough'",
    ] {
        db.said(sql).await;
    }
    for user in USERS {
        as_user(
            db,
            user,
            "INSERT INTO app.u VALUES (1, 'cold', 11), (2, 'cold', 12), (3, 'cold', 13), (4, 'gone', 14)",
        )
        .await;
        as_user(db, user, "INSERT INTO app.feed VALUES (1, 'now'), (2, 'then')").await;
    }
    db.said("INSERT INTO app.s SELECT value, value FROM generate_series(1, 300)").await;
    db.flush("app.u").await;
    db.flush("app.s").await;
    db.said("ALTER TABLE app.u ADD COLUMN more TEXT DEFAULT 'since'").await;
    for user in USERS {
        as_user(db, user, "UPDATE app.u SET word = 'cold again' WHERE id = 2; DELETE FROM app.u WHERE id = 4").await;
    }
    db.flush("app.u").await;
    db.said("UPDATE app.s SET n = n + 1 WHERE id % 3 = 0; DELETE FROM app.s WHERE id % 7 = 0").await;
    db.said("INSERT INTO app.s SELECT value, 5 FROM generate_series(301, 310)").await;
    as_user(db, "al", "UPDATE app.u SET word = 'hot' WHERE id = 1; INSERT INTO app.u VALUES (9, 'hot', 19, 'x')").await;
    as_user(db, "al", "UPDATE app.feed SET word = 'later' WHERE id = 2; DELETE FROM app.feed WHERE id = 1").await;
}

async fn as_user(db: &Db, user: &str, sql: &str) {
    db.run_as(Db::user(user), sql, vec![]).await.unwrap_or_else(|error| panic!("{sql}: {error}"));
}

/// All that a namespace shows, to everybody.
async fn contents(db: &Db, namespace: &str) -> Vec<Vec<String>> {
    let mut found = Vec::new();
    for table in ["u", "feed"] {
        for user in USERS {
            let all = format!("SELECT *, _seq FROM {namespace}.{table} ORDER BY _id");
            found.push(db.lines_as(Db::actor(user, Role::User), &all).await);
        }
    }
    for user in USERS {
        let deleted = format!("SELECT *, _seq FROM {namespace}.u WHERE _deleted ORDER BY _id");
        found.push(db.lines_as(Db::user(user), &deleted).await);
    }
    for query in [
        "* , _seq FROM {}.s ORDER BY _id",
        "count(*) FROM {}.empty",
        "* FROM {}.short ORDER BY id",
        "sum(id) FROM {}.shorter",
    ] {
        found.push(db.lines(&format!("SELECT {}", query.replace("{}", namespace))).await);
    }
    let tables = format!(
        "SELECT table_name, table_type, schema_version, options, columns, access_level, indexes, checks FROM system.schemas WHERE namespace_id = '{namespace}' ORDER BY 1, 3"
    );
    found.push(db.lines(&tables).await);
    found
}

fn place(db: &Db, name: &str) -> PathBuf {
    db.directory.path().with_file_name(format!("{}-{name}", db.directory.path().file_name().unwrap().to_str().unwrap()))
}

/// A directory beside the data directory that goes with the test.
struct Beside(PathBuf);

impl Drop for Beside {
    fn drop(&mut self) {
        drop(std::fs::remove_dir_all(&self.0));
    }
}

fn beside(db: &Db, name: &str) -> Beside {
    Beside(place(db, name))
}

async fn back_up(db: &Db, to: &Path) -> String {
    told(db, &format!("BACKUP DATABASE app TO '{}' WAIT", to.display())).await
}

async fn restore(db: &Db, namespace: &str, from: &Path) -> String {
    told(db, &format!("RESTORE DATABASE {namespace} FROM '{}' WAIT", from.display())).await
}

async fn told(db: &Db, sql: &str) -> String {
    match db.said(sql).await {
        Said::Message(message) => message,
        other => panic!("{sql}: {other:?}"),
    }
}

fn files_in(directory: &Path) -> Vec<PathBuf> {
    let (mut found, mut waiting) = (Vec::new(), vec![directory.to_owned()]);
    while let Some(directory) = waiting.pop() {
        let Ok(entries) = std::fs::read_dir(directory) else { continue };
        for entry in entries {
            let path = entry.unwrap().path();
            if path.is_dir() { &mut waiting } else { &mut found }.push(path);
        }
    }
    found.sort();
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn what_comes_back_is_what_was_there_row_for_row() {
    let db = world().await;
    let to = beside(&db, "backup");
    let before = contents(&db, "app").await;
    back_up(&db, &to.0).await;
    let message = restore(&db, "copy", &to.0).await;
    assert!(message.contains("4 table(s)"), "{message}");
    let copied = |mut of: Vec<Vec<String>>| {
        of.iter_mut().flatten().for_each(|line| *line = line.replace("copy", "app"));
        of
    };
    assert_eq!(copied(contents(&db, "copy").await), before);
    let options = "SELECT options FROM system.namespaces WHERE name = 'copy'";
    assert!(db.lines(options).await.concat().contains("red"));
    // It is a namespace like any other: keys hold, writes, flushes, compaction and a restart go on.
    assert!(db.error("INSERT INTO copy.s VALUES (1, 1)").await.message().contains("already exists"));
    let taken = db.run_as(Db::user("al"), "INSERT INTO copy.u VALUES (50, 'x', 12, 'y')", vec![]).await.unwrap_err();
    assert!(taken.message().contains("(code) = (12)"), "{taken}");
    let taken = db.run_as(Db::user("ali"), "INSERT INTO copy.feed VALUES (1, 'x')", vec![]).await.unwrap_err();
    assert!(taken.message().contains("already exists"), "{taken}");
    for table in ["u", "s"] {
        let report = db.lines(&format!("CHECK TABLE copy.{table}")).await;
        assert!(report.iter().all(|line| line.contains("ok:")), "{report:?}");
    }
    for namespace in ["app", "copy"] {
        for sql in [
            "UPDATE {}.s SET n = n + 1 WHERE id < 20",
            "DELETE FROM {}.s WHERE id = 30",
            "INSERT INTO {}.s VALUES (900, 1)",
        ] {
            db.said(&sql.replace("{}", namespace)).await;
        }
        as_user(&db, "zoë", &format!("UPDATE {namespace}.u SET word = 'changed'")).await;
    }
    let sums = async |db: &Db, namespace: &str| {
        let mut found = db.lines(&format!("SELECT id, n FROM {namespace}.s ORDER BY id")).await;
        found.extend(
            db.lines_as(Db::user("zoë"), &format!("SELECT id, word, code, more FROM {namespace}.u ORDER BY id")).await,
        );
        found
    };
    let changed = sums(&db, "app").await;
    assert_eq!(sums(&db, "copy").await, changed);
    db.said("STORAGE FLUSH ALL WAIT; STORAGE COMPACT ALL WAIT").await;
    let db = db.restart().await;
    assert_eq!(sums(&db, "copy").await, changed);
    assert_eq!(sums(&db, "app").await, changed);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_server_restores_it_and_goes_on_behind_it() {
    let db = world().await;
    let to = beside(&db, "backup");
    db.clock.step(3_600_000_000_000);
    as_user(
        &db,
        "al",
        "UPDATE app.u SET word = 'an hour later' WHERE id = 3; INSERT INTO app.feed VALUES (3, 'an hour later')",
    )
    .await;
    let before = contents(&db, "app").await;
    back_up(&db, &to.0).await;
    let other = Db::new().await;
    restore(&other, "app", &to.0).await;
    for _ in 0..2 {
        assert_eq!(contents(&other, "app").await, before);
        other.said("STORAGE FLUSH ALL WAIT").await;
    }
    let other = other.restart().await;
    assert_eq!(contents(&other, "app").await, before);
    // Its clock is an hour behind, and what it writes is newer all the same.
    let newest = other.number("SELECT max(_seq) FROM app.s").await;
    other.said("INSERT INTO app.s VALUES (2000, 1)").await;
    as_user(&other, "al", "INSERT INTO app.u VALUES (2000, 'new', 2000, 'new')").await;
    assert!(other.number("SELECT _seq FROM app.s WHERE id = 2000").await > newest);
    let last = "SELECT id FROM app.u ORDER BY _id DESC LIMIT 1";
    assert_eq!(other.lines_as(Db::user("al"), last).await, ["2000"]);
    // The other database's backups are another's.
    let error = other.error(&format!("BACKUP DATABASE app TO '{}' WAIT", to.0.display())).await;
    assert!(error.message().contains("of another database"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_next_backup_copies_what_is_new_and_each_can_be_restored() {
    let db = world().await;
    let to = beside(&db, "backup");
    let first = back_up(&db, &to.0).await;
    assert!(first.contains(" 0 file(s) kept"), "{first}");
    let files = files_in(&to.0.join("files")).len();
    let second = back_up(&db, &to.0).await;
    assert!(second.contains(&format!(" {files} file(s) kept")), "{second}");
    assert_eq!(files_in(&to.0.join("files")).len(), files);
    db.said("INSERT INTO app.s VALUES (5000, 1)").await;
    db.flush("app.s").await;
    let third = back_up(&db, &to.0).await;
    assert!(third.contains(&format!(" {files} file(s) kept")), "{third}");
    assert_eq!(files_in(&to.0.join("files")).len(), files + 1);
    db.compact("app.s").await;
    let before = contents(&db, "app").await;
    back_up(&db, &to.0).await;
    db.said("DROP NAMESPACE app CASCADE").await;
    let done = async {
        while db
            .lines("SELECT job_id FROM system.jobs WHERE job_type = 'content_removal' AND status = 'completed'")
            .await
            .len()
            < 4
        {
            tokio::task::yield_now().await;
        }
    };
    done.await;
    restore(&db, "app", &to.0).await;
    assert_eq!(contents(&db, "app").await, before);
}

/// Writers change two tables in one transaction each, and write down what they did: at any commit time all three agree.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_backup_under_load_is_the_state_at_one_commit_time() {
    let db = Db::new().await;
    db.said("CREATE NAMESPACE app; CREATE USER TABLE app.t (id BIGINT PRIMARY KEY, n BIGINT)").await;
    db.said("CREATE SHARED TABLE app.sums (id TEXT PRIMARY KEY, n BIGINT); CREATE SHARED TABLE app.log (who TEXT, id BIGINT, n BIGINT)").await;
    let to = beside(&db, "backup");
    let stop = AtomicBool::new(false);
    let write = |user: &'static str| {
        let (db, stop) = (&db, &stop);
        async move {
            let actor = || Db::actor(user, Role::Service);
            db.run_as(actor(), &format!("INSERT INTO sums VALUES ('{user}', 0)"), vec![]).await.unwrap();
            for n in 1i64.. {
                if stop.load(Ordering::SeqCst) {
                    return;
                }
                let id = n % 17;
                let sql = format!(
                    "BEGIN; INSERT INTO t VALUES ({id}, {n}) ON CONFLICT (id) DO UPDATE SET n = excluded.n;
                     UPDATE sums SET n = {n} WHERE id = '{user}'; INSERT INTO log VALUES ('{user}', {id}, {n}); COMMIT"
                );
                db.run_as(actor(), &sql, vec![]).await.unwrap();
            }
        }
    };
    let flush = async {
        while !stop.load(Ordering::SeqCst) {
            db.said("STORAGE FLUSH ALL WAIT; STORAGE COMPACT ALL WAIT").await;
            tokio::task::yield_now().await;
        }
    };
    let mut copies = Vec::new();
    let backups = async {
        for copy in 0..4 {
            while db.number("SELECT count(*) FROM log").await < 60 * (copy + 1) {
                // A statement that waits for nothing would leave the writers no turn.
                tokio::task::yield_now().await;
            }
            back_up(&db, &to.0).await;
            let name = format!("copy{copy}");
            restore(&db, &name, &to.0).await;
            copies.push(name);
        }
        stop.store(true, Ordering::SeqCst);
    };
    tokio::join!(write("al"), write("bo"), flush, backups);
    for copy in copies {
        let newest = "SELECT who, max(n) FROM {}.log GROUP BY who ORDER BY 1".replace("{}", &copy);
        assert_eq!(
            db.lines(&format!("SELECT id, n FROM {copy}.sums ORDER BY 1")).await,
            db.lines(&newest).await,
            "{copy}"
        );
        let rows = format!("SELECT _user, id, n FROM ALL USERS OF {copy}.t ORDER BY 1, 2");
        let logged = format!("SELECT who, id, max(n) FROM {copy}.log GROUP BY who, id ORDER BY 1, 2");
        assert_eq!(db.lines(&rows).await, db.lines(&logged).await, "{copy}");
        // The log only grows: what is in the copy is its beginning, with the same ids and times.
        let through = db.number(&format!("SELECT max(_seq) FROM {copy}.log")).await;
        let all = format!("SELECT *, _seq FROM {{}}.log WHERE _seq <= {through} ORDER BY _seq");
        assert_eq!(db.lines(&all.replace("{}", &copy)).await, db.lines(&all.replace("{}", "app")).await, "{copy}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_that_is_not_whole_is_refused_before_anything_changes() {
    let db = world().await;
    let to = beside(&db, "backup");
    back_up(&db, &to.0).await;
    let files = files_in(&to.0);
    assert!(files.len() > 8, "{files:?}");
    let storage = || files_in(&db.storage());
    let catalog = async || db.lines("SELECT * FROM system.tables ORDER BY 1, 2").await;
    let (stored, tables) = (storage(), catalog().await);
    let refused = async |why: &str, file: &Path| {
        let error = db.error(&format!("RESTORE DATABASE copy FROM '{}' WAIT", to.0.display())).await;
        assert!(error.message().contains("backup"), "{why} {file:?}: {error}");
        assert_eq!((storage(), catalog().await), (stored.clone(), tables.clone()), "{why} {file:?}");
        assert!(db.lines("SHOW NAMESPACES").await.iter().all(|line| !line.contains("copy")), "{why} {file:?}");
    };
    for file in &files {
        let whole = std::fs::read(file).unwrap();
        let mut changed = whole.clone();
        changed[whole.len() / 2] ^= 1;
        std::fs::write(file, &changed).unwrap();
        refused("a byte was changed in", file).await;
        std::fs::write(file, &whole[..whole.len() - 1]).unwrap();
        refused("the last byte is missing from", file).await;
        std::fs::write(file, [whole.as_slice(), b"x"].concat()).unwrap();
        refused("a byte was added to", file).await;
        std::fs::remove_file(file).unwrap();
        let is_description = file.extension().is_some_and(|extension| extension == "json");
        if is_description {
            let error = db.error(&format!("RESTORE DATABASE copy FROM '{}' WAIT", to.0.display())).await;
            assert!(error.message().contains("there is no backup"), "{error}");
        } else {
            refused("gone is", file).await;
        }
        std::fs::write(file, &whole).unwrap();
    }
    restore(&db, "copy", &to.0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_fit_is_refused_in_words() {
    let db = world().await;
    let to = beside(&db, "backup");
    let text = to.0.display().to_string();
    for (sql, words) in [
        (format!("RESTORE DATABASE copy FROM '{text}' WAIT"), "there is no directory"),
        (format!("BACKUP DATABASE never TO '{text}' WAIT"), "does not exist"),
        (format!("BACKUP DATABASE app TO '{}/storage/x' WAIT", db.directory.path().display()), "data directory"),
        ("BACKUP DATABASE app TO '/a/../b' WAIT".to_owned(), "without '..'"),
        ("BACKUP DATABASE app TO 'nowhere/x' WAIT".to_owned(), "there is no storage 'nowhere'"),
        ("BACKUP DATABASE app TO 'local/../x' WAIT".to_owned(), "no place for backups"),
        ("RESTORE DATABASE copy FROM 'local/none' WAIT".to_owned(), "there is no backup"),
        ("RESTORE DATABASE system FROM 'local/none' WAIT".to_owned(), ""),
    ] {
        let error = db.error(&sql).await;
        assert!(error.message().contains(words) && error.kind() != ErrorKind::Internal, "{sql}: {error}");
    }
    back_up(&db, &to.0).await;
    let error = db.error(&format!("RESTORE DATABASE app FROM '{text}' WAIT")).await;
    assert!(error.message().contains("is not empty"), "{error}");
    db.said("CREATE NAMESPACE b").await;
    let error = db.error(&format!("BACKUP DATABASE b TO '{text}' WAIT")).await;
    assert!(error.message().contains("has backups of namespace 'app'"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn backups_lie_in_a_storage_beside_its_tables() {
    let db = world().await;
    let before = contents(&db, "app").await;
    told(&db, "BACKUP DATABASE app TO 'local/weekly/app' WAIT").await;
    assert!(names_in(&db.storage()).contains(&"kalamdb.backups".to_owned()));
    told(&db, "BACKUP DATABASE app TO 'local/weekly/app' WAIT").await;
    db.said("CREATE NAMESPACE app2").await;
    told(&db, "RESTORE DATABASE app2 FROM 'local/weekly/app' WAIT").await;
    let mut found = contents(&db, "app2").await;
    found.iter_mut().flatten().for_each(|line| *line = line.replace("app2", "app"));
    assert_eq!(found, before);
    // Upkeep leaves them alone.
    db.said("STORAGE FLUSH ALL WAIT; STORAGE COMPACT ALL WAIT; CHECK TABLE app.s REPAIR").await;
    told(&db, "RESTORE DATABASE app3 FROM 'local/weekly/app' WAIT").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn backing_up_and_restoring_are_logged() {
    let db = world().await;
    let to = beside(&db, "backup");
    back_up(&db, &to.0).await;
    restore(&db, "copy", &to.0).await;
    let text = to.0.display().to_string();
    assert_eq!(
        db.lines("SELECT kind, object, outcome FROM system.audit_log ORDER BY entry_id DESC LIMIT 2").await,
        [format!("RESTORE DATABASE|copy, {text}|ok"), format!("BACKUP DATABASE|app, {text}|ok")]
    );
}
