//! Who may do what: `docs/roles.md`, carried out cell by cell.

use kalamdb_commons::schema::Role;
use kalamdb_commons::{Error, ErrorKind};
use kalamdb_core::api::JobRequest;

use crate::db::{Db, Said};

const ROLES: [Role; 4] = [Role::User, Role::Service, Role::Dba, Role::System];
const DOCUMENT: &str = include_str!("../../../../../docs/roles.md");

/// The statements of the table, each with its cells in the order of [`ROLES`].
fn documented() -> Vec<(String, [String; 4])> {
    let rows = DOCUMENT.lines().filter(|line| line.starts_with("| `"));
    let parsed = rows.map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split(" | ").map(str::trim).collect();
        let [statement, cells @ ..] = cells.as_slice() else { panic!("{line}") };
        let statement = statement.split('`').nth(1).unwrap().to_owned();
        let cells: [&str; 4] = cells.try_into().unwrap_or_else(|_| panic!("{line}: not four roles"));
        (statement, cells.map(ToOwned::to_owned))
    });
    parsed.collect()
}

/// What the document says is there.
async fn world() -> Db {
    let db = Db::new().await;
    db.said("CREATE NAMESPACE app; CREATE NAMESPACE spare").await;
    for (kind, name, options) in [
        ("USER", "mine", ""),
        ("STREAM", "feed", "TTL 3600"),
        ("SHARED", "open", "WITH (ACCESS_LEVEL = 'public')"),
        ("SHARED", "house", ""),
        ("SHARED", "vault", "WITH (ACCESS_LEVEL = 'restricted')"),
    ] {
        db.said(&format!("CREATE {kind} TABLE app.{name} (id BIGINT, word TEXT) {options}")).await;
    }
    db.said("CREATE VIEW app.seen AS SELECT id FROM app.vault").await;
    for (user, role) in [("ann", "user"), ("bot", "service"), ("adm", "dba"), ("sys", "system"), ("gone", "user")] {
        db.said(&format!("CREATE USER '{user}' WITH PASSWORD 'long enough' ROLE '{role}'")).await;
    }
    db.said("DROP USER 'gone'").await;
    db.said("INSERT INTO app.mine AS USER 'ann' VALUES (1, 'of ann')").await;
    db
}

/// Carries out a statement, or a job that is submitted.
async fn carried_out(db: &Db, role: Role, statement: &str) -> Result<Vec<Said>, Error> {
    let actor = Db::actor("me", role);
    let Some(job) = statement.strip_prefix("POST /v1/api/jobs ") else {
        return db.run_as(actor, statement, Vec::new()).await;
    };
    let mut job: serde_json::Value = serde_json::from_str(job).unwrap();
    let request = JobRequest {
        actor,
        job_type: job["job_type"].as_str().unwrap().to_owned(),
        params: job["params"].take(),
        idempotency_key: None,
        request_id: "test".to_owned(),
        address: None,
    };
    db.engine.submit_job(request).await.map(|_| Vec::new())
}

fn cell(outcome: Result<Vec<Said>, Error>) -> String {
    match outcome {
        Ok(_) => "yes".to_owned(),
        Err(error) => match error.kind() {
            ErrorKind::PermissionDenied => "refused".to_owned(),
            ErrorKind::NotFound => "hidden".to_owned(),
            kind => format!("{kind:?}: {error}"),
        },
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_cell_of_the_table_of_rights_is_what_happens() {
    let documented = documented();
    assert!(documented.len() > 70, "{} statements were found", documented.len());
    let mut wrong = Vec::new();
    for (at, role) in ROLES.into_iter().enumerate() {
        let db = world().await;
        for (statement, cells) in &documented {
            let found = cell(carried_out(&db, role, statement).await);
            if found != cells[at] {
                wrong.push(format!("{} {statement}: documented {}, found {found}", role.as_str(), cells[at]));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_hidden_answers_like_what_is_absent() {
    let documented = documented();
    let db = world().await;
    for (at, role) in ROLES.into_iter().enumerate() {
        for (statement, cells) in documented.iter().filter(|(_, cells)| cells[at] == "hidden") {
            let names = [
                "house",
                "vault",
                "seen",
                "users",
                "jobs",
                "storages",
                "settings",
                "stats",
                "manifest",
                "cluster",
                "audit_log",
            ];
            let without = |text: &str| {
                names.iter().fold(text.to_owned(), |text, name| text.replace(&format!(".{name}"), ".never"))
            };
            let told = |error: Error| (error.kind(), without(error.message()));
            let hidden = told(carried_out(&db, role, statement).await.unwrap_err());
            let never = told(carried_out(&db, role, &without(statement)).await.unwrap_err());
            assert_eq!(hidden, never, "{statement} {cells:?}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_across_users_says_whose_each_row_is() {
    let db = world().await;
    for (user, id) in [("ann", 2), ("bot", 1), ("adm", 1)] {
        db.said(&format!("INSERT INTO app.mine AS USER '{user}' VALUES ({id}, 'w{id}')")).await;
    }
    let all = "SELECT _user, id, word FROM ALL USERS OF app.mine ORDER BY _user, id";
    let rows = ["adm|1|w1", "ann|1|of ann", "ann|2|w2", "bot|1|w1"];
    for tier in ["hot", "cold", "after a restart"] {
        assert_eq!(db.lines(all).await, rows, "{tier}");
        assert_eq!(db.lines("SELECT count(*) FROM ALL USERS OF mine").await, ["4"], "{tier}");
        assert_eq!(db.lines("SELECT word FROM ALL USERS OF mine m WHERE m._user = 'bot'").await, ["w1"], "{tier}");
        assert_eq!(db.lines("SELECT max(mine.id) FROM ALL USERS OF mine WHERE mine._user < 'b'").await, ["2"]);
        assert_eq!(
            db.lines("SELECT _user, count(*) FROM ALL USERS OF mine WHERE _seq > 0 GROUP BY _user ORDER BY 1").await,
            ["adm|1", "ann|2", "bot|1"]
        );
        db.flush("app.mine").await;
    }
    let columns = db.columns("SELECT * FROM ALL USERS OF mine").await;
    assert_eq!(columns, ["_user", "_id", "id", "word", "_updated", "_deleted"]);
    // Without the words it stays one's own rows.
    assert_eq!(db.lines("SELECT id FROM mine").await, Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_read_across_users_is_of_user_and_stream_tables() {
    let db = world().await;
    db.said("INSERT INTO app.feed AS USER 'ann' VALUES (1, 'x')").await;
    assert_eq!(db.lines("SELECT _user, word FROM ALL USERS OF feed").await, ["ann|x"]);
    db.said("INSERT INTO app.open VALUES (1, 'x')").await;
    assert!(db.error("SELECT * FROM ALL USERS OF open").await.message().contains("USER and STREAM tables"));
    assert_eq!(db.error("SELECT * FROM ALL USERS OF seen").await.kind(), ErrorKind::NotFound);
    assert!(db.error("CREATE USER TABLE app.u (_user TEXT)").await.message().contains("belong to the server"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_of_hidden_tables_is_hidden_to_use_too() {
    let db = world().await;
    db.said("CREATE NAMESPACE cellar; CREATE SHARED TABLE cellar.t (a INT) WITH (ACCESS_LEVEL = 'restricted')").await;
    let told = |error: Error| error.message().replace("cellar", "never");
    let hidden = told(db.run_as(Db::user("me"), "USE cellar", Vec::new()).await.unwrap_err());
    assert_eq!(hidden, told(db.run_as(Db::user("me"), "USE never", Vec::new()).await.unwrap_err()));
    db.run_as(Db::user("me"), "USE app", Vec::new()).await.unwrap();
}
