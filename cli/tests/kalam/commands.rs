//! `kalam` without a terminal, against the real server: files out and in again, what broke off and goes on, jobs, doctor,
//! passwords that are remembered.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use crate::server::Server;

const TYPES: &str = "CREATE NAMESPACE app; CREATE SHARED TABLE app.types (id BIGINT PRIMARY KEY, b BOOLEAN, i INT, f DOUBLE, \
    dec DECIMAL(10, 2), t TEXT, d DATE, ti TIME, ts TIMESTAMP, u UUID, j JSON, bs BYTES)";
const ROWS: &str = "INSERT INTO app.types VALUES \
    (1, true, -7, 0.5, 12.34, 'a, \"b\"\nä', DATE '2013-01-02', TIME '10:11:12.5', TIMESTAMP '2013-01-01 10:00:00.000001', \
     '0190a6c0-0000-7000-8000-000000000001', '{\"a\": [1, 2]}', X'00ff'), \
    (9007199254740993, false, 2147483647, 0.1, -0.01, 'NULL', DATE '1969-12-31', TIME '00:00:00', \
     TIMESTAMP '1969-12-31 23:59:59', '0190a6c0-0000-7000-8000-000000000002', '[]', X'01'), \
    (3, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL, NULL)";

#[test]
fn every_type_comes_back_from_every_form() {
    let server = Server::start(&[]);
    server.says(&["-c", TYPES, "-c", ROWS]);
    let query = |table: &str| format!("SELECT * FROM app.{table} ORDER BY id");
    let columns = |table: &str| {
        let rows = server.says(&["--format", "json", "-c", &query(table)]);
        let mut rows: Vec<serde_json::Value> = serde_json::from_str(&rows).unwrap();
        for row in &mut rows {
            row.as_object_mut().unwrap().retain(|name, _| !name.starts_with('_'));
        }
        rows
    };
    let original = columns("types");
    assert_eq!(original.len(), 3);
    for form in ["ndjson", "parquet", "csv"] {
        let file = format!("rows.{form}");
        let said = server.says(&["export", "--table", "app.types", &file]);
        assert!(said.starts_with("Exported 3 rows in "), "{said}");
        let table = format!("from_{form}");
        server
            .says(&["-c", &TYPES.replace("CREATE NAMESPACE app; ", "").replace("app.types", &format!("app.{table}"))]);
        server.says(&["import", "--table", &format!("app.{table}"), &file]);
        assert_eq!(columns(&table), original, "{form}");
    }
    let left: Vec<String> = fs::read_dir(server.directory.path())
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("ing") || name.contains("partial"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

/// A table of so many rows.
fn numbers(server: &Server, rows: u32) {
    let sql = format!(
        "CREATE NAMESPACE app; CREATE SHARED TABLE app.n (n BIGINT, t TEXT); \
         INSERT INTO app.n SELECT value, 'x' || value FROM generate_series(1, {rows}) ORDER BY value"
    );
    server.says(&["-c", &sql]);
}

#[test]
fn an_export_that_broke_off_goes_on_where_it_was() {
    let server = Server::start(&[]);
    numbers(&server, 2_500);
    for form in ["csv", "ndjson", "parquet"] {
        let whole = format!("whole.{form}");
        server.says(&["export", "--table", "app.n", "--page-rows", "1000", &whole]);
        let file = server.file(&format!("part.{form}"));
        let name = file.display().to_string();
        let arguments = ["export", "--table", "app.n", "--page-rows", "1000", name.as_str()];
        broken_off(&server, &arguments, fs::metadata(server.file(&whole)).unwrap().len() * 9 / 10);
        let (status, words) = server.fails(&arguments);
        assert!(status == 2 && words.contains("--resume"), "{words}");
        let (status, words) = server.fails(&["export", "--table", "app.other", "--resume", &name]);
        assert!(status == 2 && words.contains("say the same again"), "{words}");
        let said = server.says(&[&arguments[..], &["--resume"]].concat());
        assert!(said.starts_with("Exported 2500 rows"), "{said}");
        if form == "parquet" {
            server.says(&["-c", "CREATE SHARED TABLE app.m (n BIGINT, t TEXT)"]);
            server.says(&["import", "--table", "app.m", &name]);
            assert_eq!(server.rows("SELECT count(*), count(DISTINCT n), sum(n) FROM app.m"), ["2500,2500,3126250"]);
        } else {
            assert_eq!(fs::read(&file).unwrap(), fs::read(server.file(&whole)).unwrap(), "{form}");
        }
    }
}

/// An export that the system kills in the middle of a write: none may make a file longer than this.
fn broken_off(server: &Server, arguments: &[&str], bytes_max: u64) {
    let kalam = server.command(arguments);
    let mut limited = Command::new("bash");
    let limit = format!("ulimit -c 0 -f {}; exec \"$0\" \"$@\"", bytes_max / 1024);
    limited.arg("-c").arg(limit).arg(kalam.get_program()).args(kalam.get_args());
    limited.envs(server.environment()).current_dir(server.directory.path());
    let output = limited.output().unwrap();
    assert!(output.status.signal().is_some(), "{output:?}");
}

#[test]
fn an_import_that_broke_off_goes_on_and_brings_each_row_in_once() {
    let server = Server::start(&[("LIMITS__CHUNK_ROWS", "100")]);
    server.says(&["-c", "CREATE NAMESPACE app; CREATE SHARED TABLE app.n (n BIGINT)"]);
    let file = server.file("n.csv");
    let csv = |bad: bool| {
        let rows = (1..=1_000).map(|n| if bad && n == 555 { "no\n".to_owned() } else { format!("{n}\n") });
        format!("n\n{}", rows.collect::<String>())
    };
    fs::write(&file, csv(true)).unwrap();
    let name = file.display().to_string();
    let (status, words) = server.fails(&["import", "--table", "app.n", &name]);
    assert!(status == 1 && words.contains("rows 1 to 500 were imported") && words.contains("--resume"), "{words}");
    fs::write(&file, csv(false)).unwrap();
    let (status, words) = server.fails(&["import", "--table", "app.n", &name]);
    assert!(status == 2 && words.contains("did not come to its end"), "{words}");
    let said = server.says(&["import", "--table", "app.n", "--resume", &name]);
    assert!(said.starts_with("Imported 1000 rows"), "{said}");
    assert_eq!(server.rows("SELECT count(*), count(DISTINCT n) FROM app.n"), ["1000,1000"]);
    server.says(&["import", "--table", "app.n", &name]);
    assert_eq!(server.rows("SELECT count(*) FROM app.n"), ["2000"], "another import is another import");
}

#[test]
fn a_password_is_remembered_until_it_is_forgotten() {
    let server = Server::start(&[]);
    let without = |arguments: &[&str]| server.command(arguments).env_remove("KALAM_PASSWORD").output().unwrap();
    let refused = without(&["-c", "SELECT 1"]);
    assert_eq!(refused.status.code(), Some(2));
    server.fails(&["login", "--password", "wrong one"]);
    assert!(!server.file(".kalam_credentials").exists(), "a wrong password is not remembered");
    server.says(&["login"]);
    let kept = server.file(".kalam_credentials");
    assert_eq!(fs::metadata(&kept).unwrap().permissions().mode() & 0o777, 0o600);
    assert!(without(&["-c", "SELECT 1"]).status.success());
    fs::set_permissions(&kept, fs::Permissions::from_mode(0o644)).unwrap();
    let loose = without(&["-c", "SELECT 1"]);
    let words = String::from_utf8_lossy(&loose.stderr).into_owned();
    assert!(loose.status.code() == Some(2) && words.contains("chmod 600"), "{words}");
    fs::set_permissions(&kept, fs::Permissions::from_mode(0o600)).unwrap();
    server.says(&["logout"]);
    assert_eq!(without(&["-c", "SELECT 1"]).status.code(), Some(2));
}

#[test]
fn jobs_are_listed_and_shown() {
    let server = Server::start(&[]);
    numbers(&server, 10);
    server.says(&["-c", "STORAGE FLUSH TABLE app.n WAIT"]);
    let listed = server.says(&["--format", "csv", "jobs"]);
    let line = listed.lines().find(|line| line.contains(",flush,completed,")).expect("the flush is listed");
    let id = line.split(',').next().unwrap();
    assert!(server.says(&["jobs", "show", id]).contains("10 rows in 1 partition(s)"));
    assert!(!server.says(&["jobs", "list", "--status", "failed"]).contains(id));
    let (status, words) = server.fails(&["jobs", "kill", "FL-nothing"]);
    assert!(status == 1 && words.contains("does not exist"), "{words}");
}

#[test]
fn a_job_is_started_once_under_a_key_and_a_wrong_one_is_told_so() {
    let server = Server::start(&[]);
    numbers(&server, 10);
    let run = ["jobs", "run", "flush", "--params", r#"{"namespace": "app"}"#, "--idempotency-key", "nightly"];
    let said = server.says(&run);
    let id = said.split(' ').next().unwrap();
    assert!(id.starts_with("FL-"), "{said}");
    while !server.says(&["jobs", "show", id]).contains("10 rows in 1 partition(s)") {}
    assert_eq!(server.says(&run), format!("{id} completed\n"));
    let (status, words) = server.fails(&["jobs", "run", "flush", "--params", r#"{"tabel": "n"}"#]);
    assert!(status == 1 && words.contains(r#"there is no field "tabel""#), "{words}");
    let (status, words) = server.fails(&["jobs", "run", "teleport"]);
    assert!(status == 1 && words.contains("There are: "), "{words}");
    let (status, words) = server.fails(&["jobs", "run", "flush", "--params", "{"]);
    assert!(status == 2 && words.contains("--params is not JSON"), "{words}");
}

#[test]
fn a_doctor_says_what_is_well_and_what_is_not() {
    let server = Server::start(&[]);
    let said = server.says(&["doctor"]);
    for words in [
        "ok       connection: ",
        "ok       version: ",
        "ok       readiness: ready",
        "ok       login: root",
        "clock: the server's is ",
        "disk: ",
        "ok       store: it takes writes",
        "warning  settings: hot.durability = buffered",
        "ok       jobs: ",
    ] {
        assert!(said.contains(words), "{words:?} is not in:\n{said}");
    }
    server.says(&["-c", "CREATE USER 'al' WITH PASSWORD 'a password' ROLE 'user'"]);
    let said = server.says(&["doctor", "--user", "al", "--password", "a password"]);
    assert!(said.contains("skipped  settings: system.settings is for dba and above"), "{said}");
    let (status, _) = server.fails(&["doctor", "--password", "wrong one"]);
    assert_eq!(status, 1);
    let nowhere = server.kalam(&["doctor", "--url", "http://127.0.0.1:9"]);
    assert_eq!(nowhere.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&nowhere.stdout).starts_with("FAILED   connection: no answer from"));
}

#[test]
fn variables_stand_in_scripts() {
    let server = Server::start(&[]);
    let said = server.says(&[
        "--format",
        "csv",
        "-v",
        "who=o'hara",
        "-v",
        "n=5",
        "-c",
        "SELECT :'who' AS a, :n + 1 AS b, ':n' AS c",
    ]);
    assert_eq!(said, "a,b,c\no'hara,6,:n\n");
    let (status, words) = server.fails(&["-v", "novalue", "-c", "SELECT 1"]);
    assert!(status == 2 && words.contains("name=value"), "{words}");
}
