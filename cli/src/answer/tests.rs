use super::*;

/// Writes down what it is told.
#[derive(Default)]
struct Log {
    lines: Vec<String>,
    fails_at_row: bool,
}

impl Results for Log {
    fn begin(&mut self, columns: Vec<Column>) -> io::Result<()> {
        let names: Vec<_> = columns.iter().map(|column| format!("{} {}", column.name, column.data_type)).collect();
        self.lines.push(names.join(", "));
        Ok(())
    }

    fn row(&mut self, cells: Vec<Value>) -> io::Result<()> {
        if self.fails_at_row {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        self.lines.push(Value::from(cells).to_string());
        Ok(())
    }

    fn end(&mut self, summary: Summary) -> io::Result<()> {
        self.lines.push(format!("{} {}", summary.row_count, summary.message.unwrap_or_default()));
        Ok(())
    }
}

fn log(text: &str) -> (Vec<String>, Closing) {
    let mut log = Log::default();
    let closing = read(text.as_bytes(), &mut log).expect("an answer");
    (log.lines, closing)
}

#[test]
fn results_come_in_order() {
    let (lines, closing) = log(r#"{"status":"success","results":[
        {"schema":[{"name":"a","data_type":"BigInt","index":0,"flags":["pk"]},
                   {"name":"d","data_type":{"Decimal":{"precision":9,"scale":2}},"index":1}],
         "rows":[["1","0.10"],[null,"2.00"]],"row_count":2,"as_user":"root"},
        {"row_count":3,"message":"Inserted 3 row(s)"}],"took":1.5,"stats":{"hot_rows":1}}"#);
    assert_eq!(
        lines,
        [
            r#"a "BigInt", d {"Decimal":{"precision":9,"scale":2}}"#,
            r#"["1","0.10"]"#,
            r#"[null,"2.00"]"#,
            "2 ",
            "3 Inserted 3 row(s)"
        ]
    );
    assert!(closing.error.is_none() && closing.took_ms == 1.5);
}

#[test]
fn fields_come_in_any_order() {
    let (lines, _) = log(
        r#"{"took":1,"results":[{"row_count":1,"rows":[[true]],"message":null,"schema":[{"index":0,"data_type":"Boolean","name":"b"}]}],"status":"success"}"#,
    );
    assert_eq!(lines, [r#"b "Boolean""#, "[true]", "1 "]);
}

#[test]
fn a_late_error_follows_the_rows() {
    let (lines, closing) = log(
        r#"{"results":[{"schema":[{"name":"b","data_type":"Int"}],"rows":[[1]],"row_count":1}],"status":"error","error":{"code":"SQL_EXECUTION_ERROR","message":"Statement 1 failed: divide by zero"},"took":1}"#,
    );
    assert_eq!(lines.len(), 3);
    assert_eq!(closing.error.expect("an error").code, "SQL_EXECUTION_ERROR");
}

#[test]
fn both_shapes_of_error_are_understood() {
    let (_, closing) = log(r#"{"error":"unauthorized","message":"Invalid credentials"}"#);
    let error = closing.error.expect("an error");
    assert_eq!((error.code.as_str(), error.message.as_str()), ("unauthorized", "Invalid credentials"));
    assert!(log(r#"{"status":"success","error":null,"results":[]}"#).1.error.is_none());
}

#[test]
fn an_answer_that_is_cut_off_is_an_error() {
    let cut = r#"{"results":[{"schema":[{"name":"b","data_type":"Int"}],"rows":[[1],[2"#;
    assert!(matches!(read(cut.as_bytes(), &mut Log::default()), Err(AnswerError::Answer(_))));
}

#[test]
fn an_output_that_is_closed_is_told_apart() {
    let text = r#"{"results":[{"schema":[{"name":"b","data_type":"Int"}],"rows":[[1],[2]]}]}"#;
    let mut log = Log { fails_at_row: true, ..Log::default() };
    match read(text.as_bytes(), &mut log) {
        Err(AnswerError::Output(error)) => assert_eq!(error.kind(), io::ErrorKind::BrokenPipe),
        other => panic!("{other:?}"),
    }
}
