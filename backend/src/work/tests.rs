use std::thread::{self, ThreadId};

use kalamdb_core::threads::leave;
use tokio::runtime::{Builder, Handle, Runtime};

use super::begin_here;
use crate::answer::JSON;
use crate::reply::{Head, channel};

fn engine() -> Runtime {
    Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap()
}

/// Waits here for the answer of work that runs `steps` and answers with the thread that it ended on.
fn ends_on(engine: &Runtime, steps: impl Future<Output = ()> + Send + 'static) -> Option<ThreadId> {
    let (mut reply, mut incoming) = channel(1_024, JSON);
    let (ended, end) = std::sync::mpsc::sync_channel(1);
    let work = async move {
        steps.await;
        ended.send(thread::current().id()).unwrap();
        reply.buffer().extend_from_slice(b"{}");
        reply.finish(200).await;
    };
    let here = Builder::new_current_thread().build().unwrap();
    let head = here.block_on(begin_here(engine.handle(), work, &mut incoming))?;
    assert!(matches!(head, Head::Whole { status: 200, .. }));
    end.try_recv().ok()
}

#[test]
fn what_takes_no_time_is_done_here_and_what_leaves_is_done_among_the_threads_of_the_engine() {
    let engine = engine();
    let here = thread::current().id();
    assert_eq!(ends_on(&engine, async {}), Some(here));
    assert_eq!(ends_on(&engine, tokio::task::yield_now()), Some(here), "waiting is no reason to leave");
    assert_ne!(ends_on(&engine, leave()).unwrap(), here);
}

#[test]
fn work_that_panics_is_told_as_one_that_broke_down() {
    assert_eq!(ends_on(&engine(), async { panic!("on purpose") }), None);
}

#[test]
fn an_answer_that_streams_goes_on_among_the_threads_of_the_engine() {
    let (engine, here) = (engine(), thread::current().id());
    let (mut reply, mut incoming) = channel(1, JSON);
    let (ended, end) = std::sync::mpsc::sync_channel(1);
    let work = async move {
        for _ in 0..10 {
            reply.buffer().resize(100_000, b' ');
            reply.flow().await.unwrap();
        }
        reply.finish(200).await;
        ended.send(thread::current().id()).unwrap();
    };
    let waiting = Builder::new_current_thread().build().unwrap();
    let bytes = waiting.block_on(async {
        let head = begin_here(engine.handle(), work, &mut incoming).await;
        assert!(matches!(head, Some(Head::Streaming { .. })));
        let pieces = futures::TryStreamExt::try_collect::<Vec<_>>(incoming.pieces()).await.unwrap();
        pieces.iter().map(bytes::Bytes::len).sum::<usize>()
    });
    assert_eq!(bytes, 1_000_000);
    assert_ne!(end.recv().unwrap(), here);
}

#[test]
fn work_that_is_dropped_ends_within_the_runtime_of_the_engine() {
    struct Ends(std::sync::mpsc::SyncSender<bool>, Handle);
    impl Drop for Ends {
        fn drop(&mut self) {
            self.0.send(Handle::current().id() == self.1.id()).unwrap();
        }
    }
    let engine = engine();
    let (ended, end) = std::sync::mpsc::sync_channel(1);
    let ends = Ends(ended, engine.handle().clone());
    let (reply, mut incoming) = channel(1_024, JSON);
    let work = async move {
        let _held = (ends, reply);
        std::future::pending::<()>().await;
    };
    let here = Builder::new_current_thread().build().unwrap();
    here.block_on(async {
        let mut begun = Box::pin(begin_here(engine.handle(), work, &mut incoming));
        assert!(futures::poll!(&mut begun).is_pending());
    });
    assert_eq!(end.try_recv(), Ok(true));
}
