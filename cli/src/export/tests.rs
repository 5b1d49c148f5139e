use super::*;

fn progress(condition: Option<&str>, last: Option<i64>) -> Progress {
    let wanted = Wanted {
        url: "http://127.0.0.1:8080".to_owned(),
        user: "root".to_owned(),
        table: "app.t".to_owned(),
        condition: condition.map(ToOwned::to_owned),
        format: "csv".to_owned(),
    };
    Progress { wanted, columns: vec!["id".to_owned(), "a \"b\"".to_owned()], last, rows: 0, length: 0 }
}

#[test]
fn each_page_begins_behind_the_last_row() {
    let first = page_query(&progress(None, None), 10);
    assert_eq!(first, format!("SELECT {ID}, \"id\", \"a \"\"b\"\"\" FROM app.t ORDER BY {ID} LIMIT 10"));
    let next = page_query(&progress(Some("x = 1 OR y = 2"), Some(7)), 10);
    assert!(next.contains(&format!(" WHERE {ID} > 7 AND (x = 1 OR y = 2) ORDER BY")), "{next}");
}

#[test]
fn progress_is_read_back_as_it_was_kept() {
    let directory = tempfile::tempdir().expect("a directory");
    let files = Files::of(&directory.path().join("rows.csv"));
    assert_eq!(files.progress().expect("none"), None);
    let kept = Progress { rows: 5, length: 77, ..progress(Some("x"), Some(9)) };
    files.keep(&kept).expect("kept");
    assert_eq!(files.progress().expect("kept"), Some(kept));
}
