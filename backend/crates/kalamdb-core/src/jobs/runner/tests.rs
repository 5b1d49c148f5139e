use std::collections::VecDeque;
use std::future::Future;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use kalamdb_commons::clock::{ManualClock, SystemEntropy};
use kalamdb_commons::ids::{NamespaceId, TableName};
use kalamdb_commons::settings::HotSettings;
use kalamdb_store::{Batch, RocksShard, ShardStore};
use serde_json::json;
use tokio::sync::oneshot;

use super::*;
use crate::catalog::fixture::Stored;
use crate::jobs::handle::JobEnd;
use crate::jobs::kind::{About, AfterCrash, Lane};
use crate::jobs::params::Field;

const START_NS: i64 = 1_750_000_000_000_000_000;
const SECOND_NS: i64 = 1_000_000_000;

/// Records in memory, which can be made to fail.
#[derive(Debug, Default)]
struct Memory {
    stored: Mutex<Stored>,
    fails: AtomicBool,
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

type Work = Box<dyn FnOnce(JobHandle) -> BoxFuture<'static, Result<JobEnd>> + Send>;

/// A kind that does what a test told it for the job's `n`, one attempt after the other; nothing, if it was told nothing.
struct Scripted {
    about: About,
    interval_seconds: u64,
    works: Mutex<HashMap<u64, VecDeque<Work>>>,
}

impl std::fmt::Debug for Scripted {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.about.name)
    }
}

impl Scripted {
    fn new(about: About) -> Arc<Self> {
        Arc::new(Self { about, interval_seconds: 0, works: Mutex::default() })
    }

    fn will<F>(&self, n: u64, work: impl FnOnce(JobHandle) -> F + Send + 'static)
    where
        F: Future<Output = Result<JobEnd>> + Send + 'static,
    {
        self.works.lock().entry(n).or_default().push_back(Box::new(move |job| work(job).boxed()));
    }
}

#[async_trait]
impl Kind for Arc<Scripted> {
    fn about(&self) -> &About {
        &self.about
    }

    fn fields(&self) -> &'static [Field] {
        &[]
    }

    fn accept(&self, submitted: &Value) -> Result<Value> {
        match submitted.get("wrong") {
            Some(_) => Err(Error::invalid_parameter("it is wrong")),
            None => Ok(submitted.clone()),
        }
    }

    fn target(&self, stored: &Value) -> Result<Target> {
        if stored.is_array() {
            return Err(Error::invalid_parameter("the stored parameters cannot be read"));
        }
        let text = |name: &str| stored.get(name).and_then(Value::as_str);
        Ok(Target {
            namespace: text("table").map(|_| NamespaceId::new("app").unwrap()),
            table: text("table").map(|name| TableName::new(name).unwrap()),
            user: text("user").map(|name| UserId::new(name).unwrap()),
            life: None,
        })
    }

    fn interval_seconds(&self) -> u64 {
        self.interval_seconds
    }

    async fn due(&self) -> Result<Vec<Value>> {
        Ok(vec![json!({ "user": "due" })])
    }

    async fn run(&self, stored: &Value, job: &JobHandle) -> Result<JobEnd> {
        let n = stored.get("n").and_then(Value::as_u64).unwrap_or(0);
        let work = self.works.lock().get_mut(&n).and_then(VecDeque::pop_front);
        match work {
            Some(work) => work(job.clone()).await,
            None => Ok(JobEnd::Completed("done".into())),
        }
    }
}

/// A runner with two kinds: `fast`, on the flush lane, and `slow`, of which any number may run.
struct Bench {
    runner: JobRunner,
    memory: Arc<Memory>,
    clock: ManualClock,
    slow: Arc<Scripted>,
}

fn settings(parallel_max: usize, queue_max: usize, history_max: usize) -> JobSettings {
    let table_parallel_max = 100;
    JobSettings { parallel_max, queue_max, history_max, table_parallel_max, ..JobSettings::default() }
}

impl Bench {
    async fn new(settings: &JobSettings) -> Self {
        Self::over(Arc::default(), ManualClock::at(START_NS), settings).await
    }

    async fn over(memory: Arc<Memory>, clock: ManualClock, settings: &JobSettings) -> Self {
        let records: Arc<dyn Records> = Arc::<Memory>::clone(&memory);
        let (shared, entropy) = (Arc::new(clock.clone()), Arc::new(SystemEntropy));
        let runner = JobRunner::start(&memory.snapshot(), records, shared, entropy, settings, "node-1").await.unwrap();
        let fast = Scripted::new(About { lane: Lane::Flush, parallel_max: 100, ..About::new("fast", "FA") });
        let slow = Scripted::new(About { former_names: &["sluggish"], parallel_max: 100, ..About::new("slow", "SL") });
        let mut kinds = Kinds::default();
        kinds.put(Arc::new(fast));
        kinds.put(Arc::new(Arc::clone(&slow)));
        kinds.put(Arc::new(Scripted::new(About { after_crash: AfterCrash::Fail, ..About::new("once", "ON") })));
        runner.begin(kinds).await.unwrap();
        Self { runner, memory, clock, slow }
    }

    /// What a start finds after the process was killed now.
    async fn killed(&self, settings: &JobSettings) -> Self {
        let memory = Memory { stored: Mutex::new(self.memory.snapshot()), ..Memory::default() };
        Self::over(Arc::new(memory), self.clock.clone(), settings).await
    }

    /// A job of the kind `slow` for a user of its own, so that it is alike with no other.
    async fn slow(&self, n: u64) -> JobId {
        self.submit("slow", json!({ "n": n, "user": format!("user {n}") })).await
    }

    async fn submit(&self, kind: &str, params: Value) -> JobId {
        self.runner.submit(Submission::own(kind, params)).await.unwrap()
    }

    async fn status(&self, id: &JobId) -> JobStatus {
        self.runner.wait(id).await.unwrap().status
    }
}

/// Work that tells when it has begun and ends when it is told to.
fn gated() -> (oneshot::Receiver<()>, oneshot::Sender<()>, Work) {
    let (begun, has_begun) = oneshot::channel();
    let (open, gate) = oneshot::channel();
    let work: Work = Box::new(move |job: JobHandle| {
        async move {
            begun.send(()).unwrap();
            tokio::select! {
                _ = gate => Ok(JobEnd::Completed("done".into())),
                () = job.cancelled() => job.check().map(|()| unreachable!("it was cancelled")),
            }
        }
        .boxed()
    });
    (has_begun, open, work)
}

async fn fails(_: JobHandle) -> Result<JobEnd> {
    Err(Error::io("the storage does not answer"))
}

#[tokio::test]
async fn a_job_is_recorded_before_it_runs_and_again_when_it_has_ended() {
    let bench = Bench::new(&settings(1, 10, 10)).await;
    let (has_begun, open, work) = gated();
    bench.slow.will(1, work);
    let id = bench.slow(1).await;
    assert!(id.as_str().starts_with("SL-"), "{id}");
    has_begun.await.unwrap();
    let stored = bench.memory.records().await;
    assert_eq!((stored[0].status, stored[0].job_type.as_str()), (JobStatus::Running, "slow"));
    assert_eq!((stored[0].attempts, &stored[0].parameters), (1, &json!({ "n": 1, "user": "user 1" })));

    open.send(()).unwrap();
    let ended = bench.runner.wait(&id).await.unwrap();
    assert_eq!((ended.status, ended.message.as_str()), (JobStatus::Completed, "done"));
    assert!(ended.started_at_ms.is_some() && ended.finished_at_ms.is_some());
    assert_eq!(bench.memory.records().await, [ended]);
}

#[tokio::test]
async fn an_outcome_is_completed_skipped_or_failed() {
    let bench = Bench::new(&settings(2, 10, 10)).await;
    bench.slow.will(1, async |_| Ok(JobEnd::Skipped("nothing to do".into())));
    bench.slow.will(2, async |_| Err(Error::execution("it makes no sense")));
    let (skipped, failed) = (bench.slow(1).await, bench.slow(2).await);
    let (skipped, failed) = (bench.runner.wait(&skipped).await.unwrap(), bench.runner.wait(&failed).await.unwrap());
    assert_eq!((skipped.status, skipped.message.as_str()), (JobStatus::Skipped, "nothing to do"));
    assert_eq!((failed.status, failed.message.as_str()), (JobStatus::Failed, "it makes no sense"));
    let counts = bench.runner.counts()["slow"];
    assert_eq!((counts.skipped, counts.failed, counts.completed, counts.running, counts.queued), (1, 1, 0, 0, 0));
}

#[tokio::test]
async fn what_is_wrong_is_refused_before_anything_is_recorded() {
    let bench = Bench::new(&settings(2, 10, 10)).await;
    let wrong = bench.runner.submit(Submission::own("slow", json!({ "wrong": 1 }))).await.unwrap_err();
    assert_eq!(wrong.message(), "it is wrong");
    for name in ["slwo", "sluggish", ""] {
        let unknown = bench.runner.submit(Submission::own(name, json!({}))).await.unwrap_err();
        assert_eq!(unknown.kind(), ErrorKind::InvalidParameter);
        assert!(unknown.message().ends_with("There are: fast, once, slow"), "{unknown}");
    }
    assert_eq!(bench.memory.records().await, []);
}

#[tokio::test]
async fn a_panic_fails_its_job_alone() {
    let bench = Bench::new(&settings(1, 10, 10)).await;
    bench.slow.will(1, async |_| panic!("on purpose"));
    let (panics, next) = (bench.slow(1).await, bench.slow(2).await);
    assert_eq!(bench.status(&panics).await, JobStatus::Failed);
    assert_eq!(bench.status(&next).await, JobStatus::Completed);
}

#[tokio::test]
async fn progress_is_seen_while_a_job_runs_and_kept_when_it_has_ended() {
    let bench = Bench::new(&settings(1, 10, 10)).await;
    let (has_begun, open, work) = gated();
    bench.slow.will(1, move |job| {
        job.progress(10, 1_000);
        job.progress(5, 500);
        work(job)
    });
    let id = bench.slow(1).await;
    has_begun.await.unwrap();
    let handled = JobProgress { rows: 15, bytes: 1_500 };
    assert_eq!(bench.runner.record(&id).unwrap().progress, handled);
    open.send(()).unwrap();
    bench.runner.wait(&id).await.unwrap();
    assert_eq!(bench.memory.records().await[0].progress, handled);
    let counts = bench.runner.counts()["slow"];
    assert_eq!((counts.rows, counts.bytes), (15, 1_500));
}

#[tokio::test]
async fn no_more_than_parallel_max_run_at_once() {
    let bench = Bench::new(&settings(2, 100, 100)).await;
    let (now, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut ids = Vec::new();
    for n in 0..20 {
        let (now, most) = (Arc::clone(&now), Arc::clone(&most));
        bench.slow.will(n, async move |_| {
            most.fetch_max(now.fetch_add(1, Ordering::SeqCst) + 1, Ordering::SeqCst);
            for _ in 0..5 {
                tokio::task::yield_now().await;
            }
            now.fetch_sub(1, Ordering::SeqCst);
            Ok(JobEnd::Completed(String::new()))
        });
        ids.push(bench.slow(n).await);
    }
    for id in &ids {
        assert_eq!(bench.status(id).await, JobStatus::Completed);
    }
    assert_eq!(most.load(Ordering::SeqCst), 2);
}

#[tokio::test]
async fn flushes_begin_whatever_else_runs_and_waits() {
    let bench = Bench::new(&settings(2, 2, 10)).await;
    let mut gates = Vec::new();
    for n in [1, 2] {
        let (has_begun, open, work) = gated();
        bench.slow.will(n, work);
        bench.submit("slow", json!({ "n": n, "table": "t", "user": format!("user {n}") })).await;
        has_begun.await.unwrap();
        gates.push(open);
    }
    bench.slow(3).await;
    bench.slow(4).await;
    let full = bench.runner.submit(Submission::own("slow", json!({ "n": 5 }))).await.unwrap_err();
    assert_eq!(full.kind(), ErrorKind::Overloaded);
    assert!(full.message().contains("jobs.queue_max"), "{full}");
    for table in [json!({ "table": "t" }), json!({})] {
        let flush = bench.submit("fast", table).await;
        assert_eq!(bench.status(&flush).await, JobStatus::Completed);
    }
    assert_eq!(bench.runner.counts()["slow"].completed, 0);
}

#[tokio::test]
async fn a_user_with_a_hundred_jobs_does_not_keep_others_from_theirs() {
    let bench = Bench::new(&settings(1, 1_000, 1_000)).await;
    let (has_begun, open, work) = gated();
    bench.slow.will(0, work);
    bench.slow(0).await;
    has_begun.await.unwrap();
    let order = Arc::new(Mutex::new(Vec::new()));
    let users = (0..100).map(|_| "heavy").chain(["al", "bo", "cy"]);
    for (n, user) in (1..).zip(users) {
        let order = Arc::clone(&order);
        bench.slow.will(n, async move |job| {
            order.lock().push(user);
            job.progress(if user == "heavy" { 1_000_000 } else { 10 }, 0);
            Ok(JobEnd::Completed(String::new()))
        });
        bench.submit("slow", json!({ "n": n, "user": user, "table": format!("t{n}") })).await;
    }
    open.send(()).unwrap();
    bench.runner.idle().await;
    let order = order.lock();
    assert_eq!(order.len(), 103);
    let last = order.iter().rposition(|user| *user != "heavy").unwrap();
    assert!(last < 5, "{order:?}");
}

#[tokio::test]
async fn a_job_is_cancelled_while_it_waits_and_while_it_runs() {
    let bench = Bench::new(&settings(1, 10, 10)).await;
    let (has_begun, _open, work) = gated();
    bench.slow.will(1, work);
    let running = bench.slow(1).await;
    has_begun.await.unwrap();
    let waiting = bench.slow(2).await;
    assert_eq!(bench.runner.cancel(&waiting).await.unwrap(), JobStatus::Queued);
    let ended = bench.runner.wait(&waiting).await.unwrap();
    assert_eq!((ended.status, ended.started_at_ms), (JobStatus::Cancelled, None));
    assert_eq!(bench.runner.cancel(&running).await.unwrap(), JobStatus::Running);
    assert_eq!(bench.status(&running).await, JobStatus::Cancelled);
    assert!(bench.memory.records().await.iter().all(|record| record.status == JobStatus::Cancelled));
    assert_eq!(bench.runner.cancel(&running).await.unwrap(), JobStatus::Cancelled);
    let nobody = JobId::new("FL-NOBODY").unwrap();
    assert_eq!(bench.runner.cancel(&nobody).await.unwrap_err().kind(), ErrorKind::NotFound);
    assert_eq!(bench.runner.wait(&nobody).await.unwrap_err().kind(), ErrorKind::NotFound);
}

#[tokio::test]
async fn what_was_told_to_stop_is_not_taken_up_again() {
    let bench = Bench::new(&settings(1, 10, 10)).await;
    let (begun, has_begun) = oneshot::channel();
    bench.slow.will(1, async move |_| {
        begun.send(()).unwrap();
        std::future::pending().await
    });
    let deaf = bench.slow(1).await;
    has_begun.await.unwrap();
    bench.runner.cancel(&deaf).await.unwrap();
    let next = bench.killed(&settings(1, 10, 10)).await;
    assert_eq!(next.status(&deaf).await, JobStatus::Cancelled);
}

#[tokio::test]
async fn a_failure_that_may_pass_is_tried_again_later_each_time_and_then_given_up() {
    let bench = Bench::new(&JobSettings { attempts_max: 3, retry_seconds: 10, ..JobSettings::default() }).await;
    for _ in 0..3 {
        bench.slow.will(1, fails);
    }
    let id = bench.slow(1).await;
    for (attempt, least) in [(1, 7), (2, 15)] {
        bench.runner.idle().await;
        let record = bench.runner.record(&id).unwrap();
        let told = format!("attempt {attempt} of 3 failed: the storage does not answer");
        assert_eq!((record.status, record.attempts, record.message), (JobStatus::Retrying, attempt, told));
        bench.clock.step(least * SECOND_NS);
        bench.runner.tick().await;
        assert_eq!(bench.runner.record(&id).unwrap().status, JobStatus::Retrying, "not before its time");
        bench.clock.step(2 * least * SECOND_NS);
        bench.runner.tick().await;
    }
    let ended = bench.runner.wait(&id).await.unwrap();
    assert_eq!((ended.status, ended.attempts), (JobStatus::Failed, 3));
    assert_eq!(bench.runner.counts()["slow"].retries, 2);
}

#[tokio::test]
async fn an_attempt_that_succeeds_ends_the_trying() {
    let bench = Bench::new(&settings(1, 10, 10)).await;
    bench.slow.will(1, fails);
    let id = bench.slow(1).await;
    bench.runner.idle().await;
    bench.clock.step(60 * SECOND_NS);
    bench.runner.tick().await;
    let ended = bench.runner.wait(&id).await.unwrap();
    assert_eq!((ended.status, ended.attempts, ended.message.as_str()), (JobStatus::Completed, 2, "done"));
}

#[tokio::test]
async fn a_job_that_waits_for_its_next_attempt_can_be_cancelled() {
    let bench = Bench::new(&settings(1, 10, 10)).await;
    bench.slow.will(1, fails);
    let id = bench.slow(1).await;
    bench.runner.idle().await;
    assert_eq!(bench.runner.cancel(&id).await.unwrap(), JobStatus::Retrying);
    assert_eq!(bench.status(&id).await, JobStatus::Cancelled);
    bench.clock.step(600 * SECOND_NS);
    bench.runner.tick().await;
    assert_eq!(bench.status(&id).await, JobStatus::Cancelled);
}

#[tokio::test]
async fn a_key_gives_its_job_again_and_no_other() {
    let bench = Bench::new(&settings(1, 10, 10)).await;
    let keyed = |n: u64, by: &str| Submission {
        submitted_by: Some(UserId::new(by).unwrap()),
        idempotency_key: Some("nightly".into()),
        ..Submission::own("slow", json!({ "n": n }))
    };
    let (one, again) = tokio::join!(bench.runner.submit(keyed(1, "al")), bench.runner.submit(keyed(1, "al")));
    let id = one.unwrap();
    assert_eq!(again.unwrap(), id, "at once");
    bench.runner.wait(&id).await.unwrap();
    assert_eq!(bench.runner.submit(keyed(1, "al")).await.unwrap(), id, "when it has ended");
    assert_ne!(bench.runner.submit(keyed(1, "bo")).await.unwrap(), id, "somebody else's key is another one");
    assert_eq!(bench.runner.submit(keyed(2, "al")).await.unwrap_err().kind(), ErrorKind::Conflict);
    bench.runner.idle().await;
    let next = bench.killed(&settings(1, 10, 10)).await;
    assert_eq!(next.runner.submit(keyed(1, "al")).await.unwrap(), id, "after a restart");
    for bad in ["", "a\nb", &"x".repeat(256)] {
        let refused = next.runner.submit(Submission { idempotency_key: Some(bad.into()), ..keyed(1, "al") }).await;
        assert!(refused.unwrap_err().message().contains("\"idempotency_key\" must be text of 1 to 255 bytes"));
    }
}

#[tokio::test]
async fn ended_jobs_beyond_history_max_are_forgotten_oldest_first() {
    let bench = Bench::new(&settings(1, 10, 3)).await;
    let mut ids = Vec::new();
    for n in 0..6 {
        let id = bench.slow(n).await;
        bench.runner.wait(&id).await.unwrap();
        ids.push(id);
        bench.clock.step(SECOND_NS);
    }
    assert!(bench.runner.shutdown(Duration::from_secs(5)).await);
    let kept: Vec<JobId> = bench.memory.records().await.into_iter().map(|record| record.job_id).collect();
    assert_eq!(kept, ids[3..]);
    assert_eq!(bench.runner.records().len(), 3);
    let since = bench.runner.record(&ids[4]).unwrap().finished_at_ms.unwrap();
    assert_eq!(bench.runner.forget_ended_before(since).await.unwrap(), 1);
    assert_eq!(bench.memory.records().await.len(), 2);
}

/// A hundred jobs that a server left, in all states: each ends as `recovery` says.
#[tokio::test]
async fn at_a_start_each_job_goes_the_way_of_its_state() {
    use JobStatus as S;
    let memory = Arc::new(Memory::default());
    // State, kind, attempts so far, whether it was told to stop; and how it ends.
    let rules: [(JobStatus, &str, u32, bool, JobStatus, u32); 14] = [
        (S::New, "slow", 0, false, S::Completed, 1),
        (S::Queued, "slow", 0, false, S::Completed, 1),
        (S::Queued, "fast", 1, false, S::Completed, 2),
        (S::Queued, "slow", 0, true, S::Cancelled, 0),
        (S::Running, "slow", 1, false, S::Completed, 2),
        (S::Running, "sluggish", 1, false, S::Completed, 2),
        (S::Running, "slow", 5, false, S::Failed, 5),
        (S::Running, "once", 1, false, S::Failed, 1),
        (S::Running, "slow", 1, true, S::Cancelled, 1),
        (S::Retrying, "once", 1, false, S::Completed, 2),
        (S::Queued, "forgotten_kind", 0, false, S::Failed, 0),
        (S::Completed, "slow", 1, false, S::Completed, 1),
        (S::Failed, "slow", 1, false, S::Failed, 1),
        (S::Skipped, "slow", 1, false, S::Skipped, 1),
    ];
    let mut wanted = Vec::new();
    for at in 0..100 {
        let (status, kind, attempts, cancel_requested, ends, begun) = rules[at % rules.len()];
        let job_id = JobId::new(&format!("XX-{at:03}")).unwrap();
        let old = json!({
            "job_id": job_id, "job_type": kind, "status": status, "parameters": { "user": format!("u{at}") },
            "created_at_ms": at, "attempts": attempts, "cancel_requested": cancel_requested,
            "next_attempt_at_ms": START_NS / 1_000_000 + 5_000,
        });
        let entry = (record::key(&job_id), Bytes::from(serde_json::to_vec(&old).unwrap()));
        memory.put(vec![entry], Vec::new()).await.unwrap();
        wanted.push((job_id, ends, begun));
    }
    let unreadable = JobRecord { parameters: json!([1]), ..memory.records().await[1].clone() };
    let unreadable = JobRecord { job_id: JobId::new("XX-unreadable").unwrap(), ..unreadable };
    memory.put(vec![record::entry(&unreadable)], Vec::new()).await.unwrap();
    wanted.push((unreadable.job_id.clone(), S::Failed, 0));

    let bench = Bench::over(memory, ManualClock::at(START_NS), &settings(3, 1_000, 1_000)).await;
    bench.runner.idle().await;
    let retrying = bench.runner.records().iter().filter(|record| record.status == S::Retrying).count();
    assert_eq!(retrying, 7, "they wait for the time that was set");
    bench.clock.step(6 * SECOND_NS);
    bench.runner.tick().await;
    bench.runner.idle().await;
    for (id, ends, begun) in wanted {
        let record = bench.runner.record(&id).unwrap();
        assert_eq!((record.status, record.attempts), (ends, begun), "{record:?}");
    }
    assert!(bench.memory.records().await.iter().all(|record| record.status.is_final()));
}

#[tokio::test]
async fn a_job_that_cannot_be_recorded_is_not_run() {
    let bench = Bench::new(&settings(1, 10, 10)).await;
    bench.memory.fails.store(true, Ordering::SeqCst);
    bench.slow.will(1, async |_| panic!("must not run"));
    let error = bench.runner.submit(Submission::own("slow", json!({ "n": 1 }))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Overloaded);
    assert_eq!(bench.runner.records(), []);
}

#[tokio::test]
async fn a_stop_lets_finish_what_runs_and_leaves_what_waits_to_the_next_start() {
    let bench = Bench::new(&settings(1, 10, 10)).await;
    let (has_begun, open, work) = gated();
    bench.slow.will(1, work);
    let running = bench.slow(1).await;
    has_begun.await.unwrap();
    let waiting = bench.slow(2).await;
    let stopping = tokio::spawn({
        let runner = bench.runner.clone();
        async move { runner.shutdown(Duration::from_secs(30)).await }
    });
    assert_eq!(bench.runner.wait(&waiting).await.unwrap_err().kind(), ErrorKind::Overloaded);
    let refused = bench.runner.submit(Submission::own("fast", json!({}))).await.unwrap_err();
    assert_eq!(refused.kind(), ErrorKind::Overloaded);
    open.send(()).unwrap();
    assert!(stopping.await.unwrap());
    assert_eq!(bench.runner.record(&running).unwrap().status, JobStatus::Completed);
    let next = bench.killed(&settings(1, 10, 10)).await;
    assert_eq!(next.status(&waiting).await, JobStatus::Completed);
}

#[tokio::test]
async fn a_stop_interrupts_what_does_not_end_in_time_and_the_next_start_takes_it_up() {
    let bench = Bench::new(&settings(1, 10, 10)).await;
    let (has_begun, _open, work) = gated();
    bench.slow.will(1, work);
    let running = bench.slow(1).await;
    has_begun.await.unwrap();
    assert!(bench.runner.shutdown(Duration::from_millis(20)).await);
    assert_eq!(bench.runner.wait(&running).await.unwrap_err().kind(), ErrorKind::Overloaded);
    let next = bench.killed(&settings(1, 10, 10)).await;
    let ended = next.runner.wait(&running).await.unwrap();
    assert_eq!((ended.status, ended.attempts), (JobStatus::Completed, 1), "the end of the server costs no attempt");
}

#[tokio::test]
async fn what_is_due_is_submitted_every_interval_unless_it_is_pending() {
    let memory: Arc<Memory> = Arc::default();
    let clock = ManualClock::at(START_NS);
    let settings = JobSettings { jitter_percent: 0, ..settings(1, 10, 100) };
    let (shared, entropy) = (Arc::new(clock.clone()), Arc::new(SystemEntropy));
    let runner =
        JobRunner::start(&memory.snapshot(), memory.clone(), shared, entropy, &settings, "node-1").await.unwrap();
    let kind = Arc::new(Scripted { about: About::new("often", "OF"), interval_seconds: 60, works: Mutex::default() });
    let mut kinds = Kinds::default();
    kinds.put(Arc::new(Arc::clone(&kind)));
    runner.begin(kinds).await.unwrap();
    for _ in 0..=3_600 {
        runner.tick().await;
        runner.idle().await;
        clock.step(SECOND_NS);
    }
    assert_eq!(runner.records().len(), 60);
    let (has_begun, open, work) = gated();
    kind.will(0, work);
    for _ in 0..300 {
        runner.tick().await;
        clock.step(SECOND_NS);
    }
    has_begun.await.unwrap();
    assert_eq!(runner.records().len(), 61);
    open.send(()).unwrap();
    runner.idle().await;
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
        let (clock, entropy) = (Arc::new(ManualClock::at(START_NS)), Arc::new(SystemEntropy));
        let records = Arc::new(Direct(store));
        let settings = JobSettings::default();
        let runner = JobRunner::start(&*snapshot, records, clock, entropy, &settings, "node-1").await.unwrap();
        let mut kinds = Kinds::default();
        kinds.put(Arc::new(Scripted::new(About::new("slow", "SL"))));
        runner.begin(kinds).await.unwrap();
        runner
    };
    let store = open();
    let runner = start(Arc::clone(&store)).await;
    let id = runner.submit(Submission::own("slow", json!({ "n": 1 }))).await.unwrap();
    let ended = runner.wait(&id).await.unwrap();
    assert!(runner.shutdown(Duration::from_secs(5)).await);
    drop(runner);
    store.close().await.unwrap();
    drop(store);

    let runner = start(open()).await;
    assert_eq!(runner.records(), [ended]);
}
