use std::sync::Arc;

use arrow::array::{Int64Array, RecordBatch};
use arrow::datatypes::Schema;
use futures::stream;
use kalamdb_commons::ids::UserId;
use kalamdb_commons::types::ColumnType;
use serde_json::Value;

use super::*;
use crate::reply::{Head, channel};

fn rows(batches: Vec<Result<Vec<i64>>>) -> OutcomeResult {
    let schema = Arc::new(Schema::new(vec![ColumnType::BigInt.field("n", false)]));
    let of = Arc::clone(&schema);
    let batches = batches.into_iter().map(move |values| {
        values.map(|values| RecordBatch::try_new(Arc::clone(&of), vec![Arc::new(Int64Array::from(values))]).unwrap())
    });
    OutcomeResult::Rows(Rows { schema, flags: Vec::new(), batches: stream::iter(batches.collect::<Vec<_>>()).boxed() })
}

fn outcome(result: OutcomeResult) -> Outcome {
    Outcome { result, as_user: UserId::new("alice").unwrap() }
}

/// What the statements are said to have cost.
fn cost() -> StatsSnapshot {
    StatsSnapshot { hot_rows_read: 7, ..StatsSnapshot::default() }
}

const AUDIENCE: Audience<'_> = Audience { role: None, request_id: "r" };

/// What the client gets: the status, and the body.
async fn answer(hold_bytes: usize, outcomes: Vec<OutcomeResult>) -> (u16, Value) {
    let (reply, mut incoming) = channel(hold_bytes, JSON);
    let writer = tokio::spawn(async move {
        let mut answer = SqlAnswer::begin(reply, Stopwatch::start());
        for result in outcomes {
            match answer.add(outcome(result)).await {
                Ok(()) => {}
                Err(Stop::Failed(error)) => {
                    let error = of_statement(answer.statements() + 1, error);
                    answer.fail(&error, AUDIENCE, &cost()).await;
                    return;
                }
                Err(Stop::Gone) => return,
            }
        }
        answer.succeed(&cost()).await;
    });
    let (status, body) = match incoming.head().await.unwrap() {
        Head::Whole { status, body, .. } => (status, body.to_vec()),
        Head::Streaming { .. } => {
            let pieces: Vec<_> = incoming.pieces().map(|piece| piece.unwrap()).collect().await;
            (200, pieces.concat())
        }
    };
    writer.await.unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn each_statement_has_its_result_in_order() {
    let affected = OutcomeResult::Affected { verb: Verb::Update, rows: 3, returning: None };
    let done = OutcomeResult::Done { message: "Table created".to_owned() };
    let (status, body) = answer(1 << 20, vec![done, affected, rows(vec![Ok(vec![1, 2]), Ok(vec![3])])]).await;
    assert_eq!((status, &body["status"]), (200, &json!("success")));
    assert_eq!(
        body["results"],
        json!([
            {"row_count": 0, "message": "Table created", "as_user": "alice"},
            {"row_count": 3, "message": "Updated 3 row(s)", "as_user": "alice"},
            {"schema": [{"name": "n", "data_type": "BigInt", "index": 0}], "rows": [["1"], ["2"], ["3"]], "row_count": 3,
             "as_user": "alice"},
        ])
    );
    assert!(body["took"].is_number() && body["stats"]["hot_rows_read"] == 7);
    assert!(body.get("error").is_none());
}

#[tokio::test]
async fn an_empty_result_has_its_schema() {
    let (_, body) = answer(1 << 20, vec![rows(vec![])]).await;
    assert_eq!(body["results"][0]["rows"], json!([]));
    assert_eq!(body["results"][0]["row_count"], json!(0));
    assert_eq!(body["results"][0]["schema"][0]["name"], json!("n"));
}

#[tokio::test]
async fn returning_has_rows_and_the_message() {
    let OutcomeResult::Rows(returning) = rows(vec![Ok(vec![7])]) else { unreachable!() };
    let inserted = OutcomeResult::Affected { verb: Verb::Insert, rows: 1, returning: Some(returning) };
    let (_, body) = answer(1 << 20, vec![inserted]).await;
    assert_eq!(body["results"][0]["message"], json!("Inserted 1 row(s)"));
    assert_eq!(body["results"][0]["rows"], json!([["7"]]));
}

#[tokio::test]
async fn an_early_failure_has_its_status_and_leaves_the_earlier_results() {
    let failure = rows(vec![Ok(vec![1]), Err(Error::conflict("changed meanwhile"))]);
    let (status, body) = answer(1 << 20, vec![rows(vec![Ok(vec![9])]), failure]).await;
    assert_eq!(status, 409);
    assert_eq!((&body["status"], &body["stats"]["hot_rows_read"]), (&json!("error"), &json!(7)));
    assert_eq!(body["results"].as_array().unwrap().len(), 1);
    assert_eq!(body["error"], json!({"code": "CONFLICT", "message": "Statement 2 failed: changed meanwhile"}));
}

#[tokio::test]
async fn a_late_failure_is_told_in_a_200() {
    let failure = rows(vec![Ok((0..1_000).collect()), Err(Error::execution("overflow"))]);
    let (status, body) = answer(64, vec![failure]).await;
    assert_eq!((status, &body["status"]), (200, &json!("error")));
    assert_eq!(body["results"][0]["row_count"], json!(1_000));
    assert_eq!(body["error"]["message"], json!("Statement 1 failed: overflow"));
}

#[tokio::test]
async fn a_result_beyond_the_buffer_is_the_same_as_one_within() {
    let numbers = || rows((0..50).map(|n| Ok((n * 1_000..(n + 1) * 1_000).collect())).collect());
    let (_, whole) = answer(usize::MAX, vec![numbers(), numbers()]).await;
    let (_, streamed) = answer(0, vec![numbers(), numbers()]).await;
    assert_eq!(whole["results"], streamed["results"]);
    assert_eq!(whole["results"][1]["rows"].as_array().unwrap().len(), 50_000);
}

#[tokio::test]
async fn rows_stop_when_the_client_goes_away() {
    let (reply, incoming) = channel(0, JSON);
    let mut answer = SqlAnswer::begin(reply, Stopwatch::start());
    drop(incoming);
    let endless = rows((0..1_000_000).map(|n| Ok(vec![n])).collect());
    assert!(matches!(answer.add(outcome(endless)).await, Err(Stop::Gone)));
}

#[tokio::test]
async fn one_select_streams_as_arrow() {
    let OutcomeResult::Rows(rows) = rows(vec![Ok(vec![1, 2]), Ok(vec![3])]) else { unreachable!() };
    let (mut reply, mut incoming) = channel(1 << 20, JSON);
    arrow_stream(rows, &mut reply).await.unwrap();
    reply.finish(200).await;
    let Some(Head::Whole { content_type: ARROW_STREAM, body, .. }) = incoming.head().await else { panic!("whole") };
    let batches = arrow::ipc::reader::StreamReader::try_new(std::io::Cursor::new(body), None).unwrap();
    let counts: Vec<usize> = batches.map(|batch| batch.unwrap().num_rows()).collect();
    assert_eq!(counts, [2, 1]);
}
