use kalamdb_commons::ErrorKind;
use proptest::prelude::*;

use super::super::tests::{decoded, shown, target};
use super::*;

fn read(body: &str) -> (Vec<String>, Result<()>) {
    let (batches, outcome) = decoded(Csv::new(target(1_000)), body.as_bytes(), 5);
    (shown(&batches), outcome)
}

fn refusal(body: &str) -> Error {
    read(body).1.expect_err(body)
}

#[test]
fn columns_are_found_by_name_in_any_order() {
    let (rows, outcome) = read("size,name,id\n1.5,ann,1\n2,\"b, \"\"b\"\"\",2\n");
    outcome.unwrap();
    assert_eq!(rows, [r#"[1.5,"ann","1"]"#, r#"[2.0,"b, \"b\"","2"]"#]);
}

#[test]
fn nothing_between_commas_is_null() {
    let (rows, outcome) = read("id,name,at\n,,\n1,,2013-01-01T00:00:00Z\n");
    outcome.unwrap();
    assert_eq!(rows, ["[null,null,null]", "[\"1\",null,1356998400000000]"]);
}

#[test]
fn line_ends_marks_and_missing_last_line_ends_do_not_matter() {
    for body in ["id,name\r\n1,a\r\n2,b", "\u{feff}id,name\n1,a\n2,b\n", "id,name\n1,a\n\n2,b\n\n"] {
        let (rows, outcome) = read(body);
        outcome.unwrap();
        assert_eq!(rows, [r#"["1","a"]"#, r#"["2","b"]"#], "{body:?}");
    }
}

#[test]
fn a_quoted_field_may_have_lines_even_in_the_header() {
    let (rows, outcome) = read("\"name\",id\n\"a\nb\",1\n");
    outcome.unwrap();
    assert_eq!(rows, [r#"["a\nb","1"]"#]);
    assert!(refusal("\"na\nme\",id\n").message().contains("na\nme"));
}

#[test]
fn a_header_alone_has_no_rows_and_nothing_has_no_header() {
    let (rows, outcome) = read("id,name");
    outcome.unwrap();
    assert_eq!(rows, Vec::<String>::new());
    assert!(refusal("").message().contains("header row"));
    assert!(refusal("\n1,2\n").message().contains("header row"));
}

#[test]
fn what_does_not_fit_is_named() {
    assert!(refusal("id,nom\n").message().contains("no column 'nom'"));
    assert!(refusal("id,_id\n").message().contains("_id"));
    assert_eq!(refusal("id\n1\nx\n").message(), "row 2, column 'id': 'x' does not convert to BIGINT");
    assert_eq!(refusal("extra\n{\n").message(), "row 1, column 'extra': '{' does not convert to JSON");
    let ragged = refusal("id,name\n1,a\n2\n");
    assert_eq!(ragged.kind(), ErrorKind::InvalidInput);
    assert!(ragged.message().contains("line 3"), "{ragged}");
    for open in ["id,name\n1,\"open\n", "id,name\n1,\"open", "id,name\n1,\""] {
        let error = refusal(open);
        assert_eq!(error.kind(), ErrorKind::InvalidInput);
        assert!(error.message().contains("row 1 ends inside quotes"), "{error}");
    }
}

#[test]
fn a_row_without_end_is_refused_before_memory_runs_out() {
    let mut csv = Csv::new(Target { row_bytes_max: 1_000, ..target(10) });
    let mut out = Vec::new();
    csv.feed(Bytes::from_static(b"id,name\n1,\""), &mut out).unwrap();
    let endless = Bytes::from(vec![b'x'; 600]);
    csv.feed(endless.clone(), &mut out).unwrap();
    let error = csv.feed(endless, &mut out).expect_err("too long");
    assert_eq!((error.kind(), error.message()), (ErrorKind::TooLarge, "row 1 has over 1000 bytes"));
}

proptest! {
    /// However the body is cut into pieces and chunks, the rows are the same.
    #[test]
    fn pieces_and_chunks_do_not_matter(
        names in proptest::collection::vec("[a-z\",\n é]{0,6}", 0..40),
        piece_bytes in 1..50usize,
        chunk_rows in 1..10usize,
    ) {
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let rows: String = names.iter().enumerate().map(|(n, name)| format!("{n},{}\n", quoted(name))).collect();
        let (batches, outcome) =
            decoded(Csv::new(target(chunk_rows)), format!("id,name\n{rows}").as_bytes(), piece_bytes);
        outcome.unwrap();
        let expected: Vec<String> = names.iter().enumerate().map(|(n, name)| {
            let name = if name.is_empty() { "null".to_owned() } else { serde_json::to_string(name).unwrap() };
            format!("[\"{n}\",{name}]")
        }).collect();
        prop_assert_eq!(shown(&batches), expected);
        prop_assert!(batches.iter().all(|batch| batch.num_rows() <= chunk_rows));
    }

    #[test]
    fn no_bytes_panic(body in proptest::collection::vec(any::<u8>(), 0..200)) {
        let _any = decoded(Csv::new(target(3)), &body, 11);
    }
}
