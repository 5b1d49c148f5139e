use super::*;

#[test]
fn the_form_is_known_from_the_name() {
    assert_eq!(format_of(Path::new("a/Flights.CSV")), Some(FileFormat::Csv));
    assert_eq!(format_of(Path::new("a.jsonl")), Some(FileFormat::Ndjson));
    assert_eq!(format_of(Path::new("a.parquet")), Some(FileFormat::Parquet));
    assert_eq!(format_of(Path::new("a.csv.gz")), None);
    assert_eq!(format_of(Path::new("-")), None);
}

#[test]
fn a_name_gets_the_namespace_that_it_lacks() {
    assert_eq!(full_name("t", Some("app")), "app.t");
    assert_eq!(full_name("x.t", Some("app")), "x.t");
    assert_eq!(full_name("\"a.b\"", Some("app")), "app.\"a.b\"");
    assert_eq!(full_name("\"x\".\"a.b\"", Some("app")), "\"x\".\"a.b\"");
    assert_eq!(full_name("t", None), "t");
}

#[test]
fn an_unknown_form_is_asked_for() {
    let import = Import {
        table: "a.b".to_owned(),
        file: "-".into(),
        format: None,
        null: None,
        as_user: None,
        resume: false,
        restart: false,
    };
    let Err(failure) = open(&import) else { panic!("opened") };
    assert_eq!(failure.exit_status(), 2);
    assert!(failure.to_string().contains("--format csv, ndjson, parquet or arrow"));
}

#[test]
fn a_missing_file_is_named() {
    let import = Import {
        table: "a.b".to_owned(),
        file: "no/such.csv".into(),
        format: None,
        null: None,
        as_user: None,
        resume: false,
        restart: false,
    };
    let Err(failure) = open(&import) else { panic!("opened") };
    assert!(failure.to_string().starts_with("no/such.csv: "));
}

#[test]
fn a_rate_needs_time() {
    assert_eq!(rate(100, 0.0), 100);
    assert_eq!(rate(100, 0.5), 200);
}

#[test]
fn a_text_for_null_is_for_csv() {
    let null = Some("NA".to_owned());
    let import = Import {
        table: "a.b".to_owned(),
        file: "x.parquet".into(),
        format: None,
        null,
        as_user: None,
        resume: false,
        restart: false,
    };
    let Err(failure) = open(&import) else { panic!("opened") };
    assert!(failure.to_string().contains("--null is for CSV"));
}
