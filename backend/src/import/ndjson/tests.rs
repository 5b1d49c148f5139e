use proptest::prelude::*;

use super::super::tests::{decoded, shown, target};
use super::*;

fn read(body: &str) -> (Vec<RecordBatch>, Result<()>) {
    decoded(Ndjson::new(target(1_000)), body.as_bytes(), 5)
}

fn refusal(body: &str) -> String {
    read(body).1.expect_err(body).message().to_owned()
}

fn names(batch: &RecordBatch) -> Vec<String> {
    batch.schema().fields().iter().map(|field| field.name().clone()).collect()
}

#[test]
fn members_are_columns_in_any_order() {
    let (batches, outcome) = read("{\"id\":1,\"name\":\"a\\u00e9\"}\r\n\n{\"name\":null,\"id\":\"2\"}");
    outcome.unwrap();
    assert_eq!(shown(&batches), [r#"["1","aé"]"#, r#"["2",null]"#]);
}

#[test]
fn json_columns_take_any_value_as_it_is_written() {
    let (batches, outcome) = read("{\"extra\":{\"a\": [1, \"x\"]}}\n{\"extra\":7}\n{\"extra\":null}\n");
    outcome.unwrap();
    assert_eq!(shown(&batches), [r#"["{\"a\": [1, \"x\"]}"]"#, r#"["7"]"#, "[null]"]);
}

/// A column takes its default until a line names it, and NULL in the lines after that leave it out.
#[test]
fn columns_join_when_they_are_first_named() {
    let (batches, outcome) = read("{\"id\":1}\n{\"id\":2}\n{\"id\":3,\"name\":\"c\"}\n{\"id\":4}\n{}\n");
    outcome.unwrap();
    assert_eq!(batches.iter().map(names).collect::<Vec<_>>(), [vec!["id"], vec!["id", "name"]]);
    assert_eq!(shown(&batches), [r#"["1"]"#, r#"["2"]"#, r#"["3","c"]"#, r#"["4",null]"#, "[null,null]"]);
}

#[test]
fn what_does_not_fit_is_named() {
    assert!(refusal("{\"id\":1}\n{\"nom\":1}").starts_with("row 2: the table has no column 'nom'"));
    assert!(refusal("{\"_deleted\":true}").contains("_deleted"));
    assert_eq!(refusal("{\"id\":1}\n{\"id\":1.5}"), "row 2, column 'id': '1.5' does not convert to BIGINT");
    assert_eq!(refusal("{\"name\":{}}"), "row 1, column 'name': '{}' does not convert to TEXT");
    assert!(refusal("{\"id\":1,\"id\":2}").contains("names the column 'id' twice"));
    assert!(refusal("{\"id\":1}\n[1]\n").starts_with("row 2: the body is not a valid JSON object"));
    assert!(refusal("{\"id\":1} {\"id\":2}").starts_with("row 1: the body is not a valid JSON object"));
    assert!(refusal("{\"id\":").starts_with("row 1: "));
}

#[test]
fn chunks_are_cut_where_they_are_full() {
    let body: String = (0..25).map(|n| format!("{{\"id\":{n}}}\n")).collect();
    let (batches, outcome) = decoded(Ndjson::new(target(10)), body.as_bytes(), 64);
    outcome.unwrap();
    assert_eq!(batches.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [10, 10, 5]);
}

#[test]
fn a_bad_value_in_a_later_chunk_is_counted_from_the_first() {
    let mut body: String = (0..12).map(|n| format!("{{\"id\":{n}}}\n")).collect();
    body.push_str("{\"id\":true}\n");
    let (batches, outcome) = decoded(Ndjson::new(target(10)), body.as_bytes(), 64);
    assert_eq!(batches.len(), 1);
    assert_eq!(outcome.expect_err("bad").message(), "row 13, column 'id': 'true' does not convert to BIGINT");
}

#[test]
fn a_line_without_end_is_refused_before_memory_runs_out() {
    let mut ndjson = Ndjson::new(Target { row_bytes_max: 100, ..target(10) });
    let error = ndjson.feed(Bytes::from(vec![b' '; 101]), &mut Vec::new()).expect_err("too long");
    assert_eq!(error.message(), "row 1 has over 100 bytes");
}

proptest! {
    /// However the body is cut into pieces and chunks, the rows are the same.
    #[test]
    fn pieces_and_chunks_do_not_matter(
        texts in proptest::collection::vec(".{0,6}", 0..40),
        piece_bytes in 1..50usize,
        chunk_rows in 1..10usize,
    ) {
        let line = |(n, name): (usize, &String)| format!("{}\n", serde_json::json!({"id": n, "name": name}));
        let body: String = texts.iter().enumerate().map(line).collect();
        let (batches, outcome) = decoded(Ndjson::new(target(chunk_rows)), body.as_bytes(), piece_bytes);
        outcome.unwrap();
        let expected: Vec<String> = texts.iter().enumerate()
            .map(|(n, name)| format!("[\"{n}\",{}]", serde_json::to_string(name).unwrap())).collect();
        prop_assert_eq!(shown(&batches), expected);
    }

    #[test]
    fn no_text_panics(body in ".{0,100}") {
        let _any = decoded(Ndjson::new(target(3)), body.as_bytes(), 11);
    }
}
