use super::*;
use crate::answer::Refusal;

const URL: &str = "http://127.0.0.1:8080";

fn import(file: &Path, resume: bool, restart: bool) -> Import {
    Import {
        table: "app.t".to_owned(),
        file: file.to_owned(),
        format: None,
        null: None,
        as_user: None,
        resume,
        restart,
    }
}

fn refused(details: &str) -> Result<u64, Failure> {
    let (code, message) = ("SQL_EXECUTION_ERROR".to_owned(), "bad row".to_owned());
    Err(Failure::Refused(Refusal { code, message, details: Some(details.into()) }))
}

#[test]
fn an_import_that_broke_off_is_gone_on_with_under_its_key() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("rows.csv");
    let first = Attempt::begin(&import(&file, false, false), URL, "app.t").expect("allowed").expect("kept");
    let key = first.key().to_owned();
    assert!(first.end(&refused("rows 1 to 20 were imported")));
    let forgotten = Attempt::begin(&import(&file, false, false), URL, "app.t").expect_err("it did not end").to_string();
    assert!(forgotten.contains("--resume") && forgotten.contains("--restart"), "{forgotten}");
    let other = Attempt::begin(&import(&file, true, false), URL, "app.u").expect_err("another table").to_string();
    assert!(other.contains("into app.t"), "{other}");
    let again = Attempt::begin(&import(&file, true, false), URL, "app.t").expect("allowed").expect("kept");
    assert_eq!(again.key(), key);
    assert!(!again.end(&Ok(40)));
    Attempt::begin(&import(&file, true, false), URL, "app.t").expect_err("it has ended");
}

#[test]
fn an_import_without_rows_leaves_nothing() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("rows.csv");
    for outcome in [refused("no rows were imported"), Ok(1)] {
        let attempt = Attempt::begin(&import(&file, false, false), URL, "app.t").expect("allowed").expect("kept");
        assert!(!attempt.end(&outcome));
    }
}

#[test]
fn beginning_anew_has_another_key() {
    let directory = tempfile::tempdir().expect("a directory");
    let file = directory.path().join("rows.csv");
    let begin = |restart| Attempt::begin(&import(&file, false, restart), URL, "app.t").expect("allowed").expect("kept");
    assert_ne!(begin(false).key().to_owned(), begin(true).key().to_owned());
}
