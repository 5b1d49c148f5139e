use std::sync::atomic::AtomicUsize;

use async_trait::async_trait;
use bytes::Bytes;
use kalamdb_commons::clock::{ManualClock, SystemEntropy};
use kalamdb_commons::settings::HotSettings;
use kalamdb_store::{Batch, RocksShard, ShardStore};
use serde_json::json;
use tokio::sync::{Notify, oneshot};

use super::*;
use crate::catalog::fixture::Stored;

/// Records in memory, which can be made to fail.
#[derive(Debug, Default)]
struct Memory {
    stored: Mutex<Stored>,
    fails: std::sync::atomic::AtomicBool,
}

#[async_trait]
impl Records for Memory {
    async fn put(&self, puts: Vec<(Bytes, Bytes)>, deletes: Vec<Bytes>) -> Result<()> {
        if self.fails.load(Ordering::SeqCst) {
            return Err(Error::overloaded("the store is reopening"));
        }
        let mut stored = self.stored.lock();
        deletes.iter().for_each(|key| drop(stored.0.remove(key)));
        stored.0.extend(puts);
        Ok(())
    }
}

impl Memory {
    fn snapshot(&self) -> Stored {
        self.stored.lock().clone()
    }

    async fn records(&self) -> Vec<JobRecord> {
        record::load(&self.snapshot()).await.unwrap()
    }
}

fn settings(parallel_max: usize, queue_max: usize, history_max: usize) -> JobSettings {
    JobSettings { parallel_max, queue_max, history_max, ..JobSettings::default() }
}

async fn runner_over(memory: &Arc<Memory>, settings: &JobSettings) -> JobRunner {
    let records: Arc<dyn Records> = Arc::<Memory>::clone(memory);
    let clock = Arc::new(ManualClock::at(1_750_000_000_000_000_000));
    JobRunner::start(&memory.snapshot(), records, clock, Arc::new(SystemEntropy), settings, "node-1").await.unwrap()
}

async fn runner(settings: &JobSettings) -> (JobRunner, Arc<Memory>) {
    let memory = Arc::new(Memory::default());
    (runner_over(&memory, settings).await, memory)
}

/// A job that tells when it has begun and ends when it is told to.
fn gated()
-> (oneshot::Receiver<()>, oneshot::Sender<()>, impl FnOnce(JobHandle) -> BoxFuture<'static, Result<JobEnd>> + Send) {
    let (begun, has_begun) = oneshot::channel();
    let (open, gate) = oneshot::channel();
    let work = move |handle: JobHandle| {
        async move {
            begun.send(()).unwrap();
            tokio::select! {
                _ = gate => Ok(JobEnd::Completed("done".into())),
                () = handle.cancelled() => handle.check().map(|()| unreachable!("it was cancelled")),
            }
        }
        .boxed()
    };
    (has_begun, open, work)
}

fn done(message: &str) -> impl FnOnce(JobHandle) -> futures::future::Ready<Result<JobEnd>> + Send + use<> {
    let message = message.to_owned();
    move |_| futures::future::ready(Ok(JobEnd::Completed(message)))
}

#[tokio::test]
async fn a_job_is_recorded_before_it_runs_and_again_when_it_has_ended() {
    let (runner, memory) = runner(&settings(1, 10, 10)).await;
    let (has_begun, open, work) = gated();
    let id = runner.submit(JobKind::Flush, json!({ "table": "app.t" }), work).await.unwrap();
    assert!(id.as_str().starts_with("FL-"), "{id}");
    has_begun.await.unwrap();
    let stored = memory.records().await;
    assert_eq!((stored[0].status, stored[0].job_type.as_str()), (JobStatus::Running, "flush"));
    assert_eq!(stored[0].parameters, json!({ "table": "app.t" }));

    open.send(()).unwrap();
    let ended = runner.wait(&id).await.unwrap();
    assert_eq!((ended.status, ended.message.as_str()), (JobStatus::Completed, "done"));
    assert!(ended.started_at_ms.is_some() && ended.finished_at_ms.is_some());
    assert_eq!(memory.records().await, [ended]);
}

#[tokio::test]
async fn an_outcome_is_completed_skipped_or_failed() {
    let (runner, _) = runner(&settings(2, 10, 10)).await;
    let skipped = runner
        .submit(JobKind::Flush, json!({}), |_| async { Ok(JobEnd::Skipped("nothing to flush".into())) })
        .await
        .unwrap();
    let failed =
        runner.submit(JobKind::Flush, json!({}), |_| async { Err(Error::io("the disk is full")) }).await.unwrap();
    let skipped = runner.wait(&skipped).await.unwrap();
    let failed = runner.wait(&failed).await.unwrap();
    assert_eq!((skipped.status, skipped.message.as_str()), (JobStatus::Skipped, "nothing to flush"));
    assert_eq!((failed.status, failed.message.as_str()), (JobStatus::Failed, "the disk is full"));
}

#[tokio::test]
async fn a_panic_fails_its_job_alone() {
    let (runner, _) = runner(&settings(1, 10, 10)).await;
    let panics = runner.submit(JobKind::Flush, json!({}), |_| async { panic!("on purpose") }).await.unwrap();
    assert_eq!(runner.wait(&panics).await.unwrap().status, JobStatus::Failed);
    let next = runner.submit(JobKind::Flush, json!({}), done("well")).await.unwrap();
    assert_eq!(runner.wait(&next).await.unwrap().status, JobStatus::Completed);
}

#[tokio::test]
async fn progress_is_seen_while_a_job_runs_and_kept_when_it_has_ended() {
    let (runner, memory) = runner(&settings(1, 10, 10)).await;
    let counted = Arc::new(Notify::new());
    let go_on = Arc::new(Notify::new());
    let (tell, wait) = (Arc::clone(&counted), Arc::clone(&go_on));
    let id = runner
        .submit(JobKind::Flush, json!({}), move |handle| async move {
            handle.progress(10, 1_000);
            handle.progress(5, 500);
            tell.notify_one();
            wait.notified().await;
            Ok(JobEnd::Completed(String::new()))
        })
        .await
        .unwrap();
    counted.notified().await;
    assert_eq!(runner.record(&id).unwrap().progress, JobProgress { rows: 15, bytes: 1_500 });
    go_on.notify_one();
    runner.wait(&id).await.unwrap();
    assert_eq!(memory.records().await[0].progress, JobProgress { rows: 15, bytes: 1_500 });
}

#[tokio::test]
async fn no_more_than_parallel_max_run_at_once() {
    let (runner, _) = runner(&settings(2, 100, 100)).await;
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut ids = Vec::new();
    for _ in 0..20 {
        let (now, most) = (Arc::clone(&now), Arc::clone(&most));
        let work = move |_| async move {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            for _ in 0..5 {
                tokio::task::yield_now().await;
            }
            now.fetch_sub(1, Ordering::SeqCst);
            Ok(JobEnd::Completed(String::new()))
        };
        ids.push(runner.submit(JobKind::Flush, json!({}), work).await.unwrap());
    }
    for id in &ids {
        assert_eq!(runner.wait(id).await.unwrap().status, JobStatus::Completed);
    }
    assert_eq!(most.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn a_full_queue_refuses_at_once() {
    let (runner, _) = runner(&settings(1, 2, 10)).await;
    let (has_begun, open, work) = gated();
    runner.submit(JobKind::Flush, json!({}), work).await.unwrap();
    has_begun.await.unwrap();
    runner.submit(JobKind::Flush, json!({ "n": 1 }), done("")).await.unwrap();
    let last = runner.submit(JobKind::Flush, json!({ "n": 2 }), done("")).await.unwrap();
    let error = runner.submit(JobKind::Flush, json!({ "n": 3 }), done("")).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    assert!(error.message().contains("jobs.queue_max"), "{error}");
    assert!(runner.is_pending(JobKind::Flush, &json!({ "n": 2 })));
    open.send(()).unwrap();
    runner.wait(&last).await.unwrap();
    assert!(!runner.is_pending(JobKind::Flush, &json!({ "n": 2 })));
}

#[tokio::test]
async fn a_job_is_cancelled_while_it_waits_and_while_it_runs() {
    let (runner, memory) = runner(&settings(1, 10, 10)).await;
    let (has_begun, _open, work) = gated();
    let running = runner.submit(JobKind::Flush, json!({}), work).await.unwrap();
    has_begun.await.unwrap();
    let waiting = runner.submit(JobKind::Flush, json!({}), done("never")).await.unwrap();
    runner.cancel(&waiting).await.unwrap();
    let ended = runner.wait(&waiting).await.unwrap();
    assert_eq!((ended.status, ended.started_at_ms), (JobStatus::Cancelled, None));
    runner.cancel(&running).await.unwrap();
    assert_eq!(runner.wait(&running).await.unwrap().status, JobStatus::Cancelled);
    assert!(memory.records().await.iter().all(|record| record.status == JobStatus::Cancelled));
    assert_eq!(runner.cancel(&running).await.unwrap(), JobStatus::Cancelled);
}

#[tokio::test]
async fn an_unknown_job_is_not_found() {
    let (runner, _) = runner(&settings(1, 10, 10)).await;
    let nobody = JobId::new("FL-NOBODY").unwrap();
    assert_eq!(runner.wait(&nobody).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(runner.cancel(&nobody).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn ended_jobs_beyond_history_max_are_forgotten_oldest_first() {
    let (runner, memory) = runner(&settings(1, 10, 3)).await;
    let mut ids = Vec::new();
    for _ in 0..6 {
        let id = runner.submit(JobKind::Flush, json!({}), done("")).await.unwrap();
        runner.wait(&id).await.unwrap();
        ids.push(id);
    }
    assert!(runner.shutdown(Duration::from_secs(5)).await);
    let kept: Vec<JobId> = memory.records().await.into_iter().map(|record| record.job_id).collect();
    assert_eq!(kept, ids[3..]);
    assert_eq!(runner.records().len(), 3);
}

#[tokio::test]
async fn unfinished_jobs_are_failed_at_the_next_start() {
    let (first, memory) = runner(&settings(1, 10, 10)).await;
    let (has_begun, _open, work) = gated();
    first.submit(JobKind::Flush, json!({}), work).await.unwrap();
    has_begun.await.unwrap();
    first.submit(JobKind::Flush, json!({}), done("")).await.unwrap();

    let second = runner_over(&memory, &settings(1, 10, 10)).await;
    for records in [second.records(), memory.records().await] {
        assert_eq!(records.len(), 2);
        for record in records {
            assert_eq!((record.status, record.message.as_str()), (JobStatus::Failed, "interrupted by a restart"));
            assert!(record.finished_at_ms.is_some());
        }
    }
}

#[tokio::test]
async fn a_job_that_cannot_be_recorded_is_not_run() {
    let (runner, memory) = runner(&settings(1, 10, 10)).await;
    memory.fails.store(true, Ordering::SeqCst);
    let error = runner.submit(JobKind::Flush, json!({}), |_| async { panic!("must not run") }).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    assert_eq!(runner.records(), []);
}

#[tokio::test]
async fn shutdown_ends_what_waits_lets_finish_what_runs_and_takes_no_more() {
    let (runner, _) = runner(&settings(1, 10, 10)).await;
    let (has_begun, open, work) = gated();
    let running = runner.submit(JobKind::Flush, json!({}), work).await.unwrap();
    has_begun.await.unwrap();
    let waiting = runner.submit(JobKind::Flush, json!({}), done("never")).await.unwrap();
    let stopping = tokio::spawn({
        let runner = runner.clone();
        async move { runner.shutdown(Duration::from_secs(30)).await }
    });
    assert_eq!(runner.wait(&waiting).await.unwrap().status, JobStatus::Cancelled);
    let refused = runner.submit(JobKind::Flush, json!({}), done("")).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Overloaded);
    open.send(()).unwrap();
    assert!(stopping.await.unwrap());
    assert_eq!(runner.record(&running).unwrap().status, JobStatus::Completed);
}

#[tokio::test]
async fn shutdown_asks_jobs_to_stop_that_do_not_end_in_time() {
    let (runner, _) = runner(&settings(1, 10, 10)).await;
    let (has_begun, _open, work) = gated();
    let running = runner.submit(JobKind::Flush, json!({}), work).await.unwrap();
    has_begun.await.unwrap();
    assert!(runner.shutdown(Duration::from_millis(20)).await);
    assert_eq!(runner.record(&running).unwrap().status, JobStatus::Cancelled);
}

/// Commits straight to a store, as the committer does for the engine.
#[derive(Debug)]
struct Direct(Arc<RocksShard>);

#[async_trait]
impl Records for Direct {
    async fn put(&self, puts: Vec<(Bytes, Bytes)>, deletes: Vec<Bytes>) -> Result<()> {
        let mut batch = Batch::default();
        puts.into_iter().for_each(|(key, value)| batch.put(key, value));
        deletes.into_iter().for_each(|key| batch.delete(key));
        Ok(self.0.commit(self.0.token(), batch).await?)
    }
}

#[tokio::test]
async fn jobs_are_there_after_a_restart_of_a_real_store() {
    let directory = tempfile::tempdir().unwrap();
    let open = || RocksShard::open(directory.path(), &HotSettings::default()).unwrap();
    let start = |store: Arc<RocksShard>| async move {
        let snapshot = store.snapshot().await.unwrap();
        let clock = Arc::new(ManualClock::at(1_750_000_000_000_000_000));
        let records = Arc::new(Direct(store));
        JobRunner::start(&*snapshot, records, clock, Arc::new(SystemEntropy), &JobSettings::default(), "node-1")
            .await
            .unwrap()
    };
    let store = open();
    let runner = start(Arc::clone(&store)).await;
    let id = runner.submit(JobKind::OrphanRemoval, json!({ "n": 1 }), done("3 files removed")).await.unwrap();
    let ended = runner.wait(&id).await.unwrap();
    assert!(runner.shutdown(Duration::from_secs(5)).await);
    drop(runner);
    store.close().await.unwrap();
    drop(store);

    let runner = start(open()).await;
    assert_eq!(runner.records(), [ended]);
}
