use futures::StreamExt;

use super::*;

#[tokio::test]
async fn a_short_answer_is_whole_and_has_its_status() {
    let (mut reply, mut incoming) = channel(10, "x/y");
    reply.buffer().extend_from_slice(b"0123456789");
    reply.flow().await.unwrap();
    assert!(!reply.has_begun());
    reply.finish(418).await;
    match incoming.head().await {
        Some(Head::Whole { status: 418, content_type: "x/y", body, retry_after_seconds: None }) => {
            assert_eq!(body, "0123456789")
        }
        other => panic!("{other:?}"),
    }
}

#[tokio::test]
async fn a_long_answer_streams_and_is_not_altered() {
    let (mut reply, mut incoming) = channel(10, "x/y");
    reply.keep_copy(1 << 20);
    let writer = tokio::spawn(async move {
        for _ in 0..50_000 {
            reply.buffer().extend_from_slice(b"abc");
            reply.flow().await.unwrap();
        }
        reply.finish(500).await
    });
    assert!(matches!(incoming.head().await, Some(Head::Streaming { .. })));
    let mut pieces = Box::pin(incoming.pieces());
    let mut body = Vec::new();
    while let Some(piece) = pieces.next().await {
        body.extend_from_slice(&piece.unwrap());
    }
    assert_eq!(body, b"abc".repeat(50_000));
    assert_eq!(writer.await.unwrap().unwrap(), body);
}

#[tokio::test]
async fn a_copy_that_is_too_long_is_not_kept() {
    let (mut reply, _incoming) = channel(100, "x/y");
    reply.keep_copy(3);
    reply.buffer().extend_from_slice(b"abcd");
    assert_eq!(reply.finish(200).await, None);
}

#[tokio::test]
async fn the_writer_learns_that_nobody_waits() {
    let (mut reply, incoming) = channel(0, "x/y");
    let gone = reply.gone();
    drop(incoming);
    gone.await;
    reply.buffer().push(1);
    assert_eq!(reply.flow().await, Err(Gone));
}

#[tokio::test]
async fn a_copy_is_kept_although_the_client_is_gone() {
    let (mut reply, incoming) = channel(100, "x/y");
    drop(incoming);
    reply.keep_copy(10);
    reply.buffer().extend_from_slice(b"ok");
    assert_eq!(reply.finish(200).await.unwrap(), "ok");
}

#[tokio::test]
async fn an_answer_that_is_kept_is_written_to_its_end() {
    let (mut reply, incoming) = channel(0, "x/y");
    drop(incoming);
    reply.keep_copy(1 << 20);
    for _ in 0..1_000 {
        reply.buffer().extend_from_slice(&[1; 100]);
        reply.flow().await.unwrap();
    }
    assert_eq!(reply.finish(200).await.unwrap().len(), 100_000);
}

#[tokio::test]
async fn an_answer_without_its_end_is_cut_off() {
    let (mut reply, mut incoming) = channel(0, "x/y");
    reply.buffer().push(1);
    reply.flow().await.unwrap();
    drop(reply);
    incoming.head().await;
    let pieces: Vec<_> = incoming.pieces().collect().await;
    assert!(pieces[0].is_ok() && pieces[1].is_err());
}
