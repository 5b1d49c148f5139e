//! A kind of job: what it is called, what it takes, what it does, and when it is due.
//!
//! A kind is one file in [`executors`](super::executors): a struct of parameters made by `params!`, and a type that
//! implements [`JobExecutor`] for it. [`Kinds`] holds all of them for the runner, which knows neither.

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::future::{self, Future};
use std::marker::PhantomData;
use std::sync::Arc;

use async_trait::async_trait;
use kalamdb_commons::ids::{Incarnation, NamespaceId, TableName, UserId};
use kalamdb_commons::settings::Settings;
use kalamdb_commons::{Error, Result};
use serde_json::Value;

use super::handle::{JobEnd, JobHandle};
use super::params::{self, Field, JobParams};
use crate::engine::{Engine, WeakEngine};

/// Whose places a job takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lane {
    /// Of what writers may come to wait for: `jobs.flush_parallel_max` places that nothing else takes.
    Flush,
    /// Of everything else: `jobs.parallel_max` places.
    Upkeep,
}

/// What becomes of a job that was running when the server ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AfterCrash {
    /// It is begun again: doing it twice is as doing it once.
    BeginAgain,
    /// It fails: whoever wants it asks again.
    Fail,
}

/// What the runner knows of a kind.
#[derive(Debug, Clone, Copy)]
pub struct About {
    /// Its name, as `job_type` has it.
    pub name: &'static str,
    /// What the ids of its jobs begin with.
    pub prefix: &'static str,
    /// Names under which older versions stored its jobs.
    pub former_names: &'static [&'static str],
    /// Whether people may submit it. Others only the server does.
    pub is_submittable: bool,
    /// Whose places it takes.
    pub lane: Lane,
    /// How many of the kind may run at once, whatever places there are.
    pub parallel_max: usize,
    /// How much more of it than of a kind of weight 1 somebody may have done before others come first.
    pub weight: u32,
    /// What becomes of it in a crash.
    pub after_crash: AfterCrash,
}

impl About {
    /// A kind of which one job runs at a time, which people may submit and a crash begins again.
    pub const fn new(name: &'static str, prefix: &'static str) -> Self {
        Self {
            name,
            prefix,
            former_names: &[],
            is_submittable: true,
            lane: Lane::Upkeep,
            parallel_max: 1,
            weight: 1,
            after_crash: AfterCrash::BeginAgain,
        }
    }
}

/// What a job is about. What is not named is all there is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Target {
    /// Of one namespace.
    pub namespace: Option<NamespaceId>,
    /// Of one table in it.
    pub table: Option<TableName>,
    /// Of one user.
    pub user: Option<UserId>,
    /// Of one life of a table that has ended.
    pub life: Option<Incarnation>,
}

impl Target {
    /// Whether some partition may be of both.
    pub fn overlaps(&self, other: &Self) -> bool {
        fn agree<T: PartialEq>(one: Option<&T>, other: Option<&T>) -> bool {
            one.zip(other).is_none_or(|(one, other)| one == other)
        }
        agree(self.namespace.as_ref(), other.namespace.as_ref())
            && agree(self.table.as_ref(), other.table.as_ref())
            && agree(self.user.as_ref(), other.user.as_ref())
            && agree(self.life.as_ref(), other.life.as_ref())
    }

    /// The table, if it is of one table alone.
    pub fn one_table(&self) -> Option<(&NamespaceId, &TableName)> {
        self.namespace.as_ref().zip(self.table.as_ref())
    }
}

/// A kind of job, with parameters of its own (FR-088).
pub(crate) trait JobExecutor<P: JobParams>: Send + Sync + Debug + 'static {
    /// What the runner must know of it.
    fn about(&self, settings: &Settings) -> About;

    /// Refuses parameters that are right one by one and wrong together, or that name what does not exist.
    fn accept(&self, _engine: &Engine, _params: &P) -> Result<()> {
        Ok(())
    }

    /// What a job is about: no two jobs of the kind whose targets overlap run at once.
    fn target(&self, _params: &P) -> Target {
        Target::default()
    }

    /// Does the work. It asks `job` between its steps whether it is to stop, and tells it what it has handled. What it
    /// has done when it is killed at any point must be such that running it again ends as running it once.
    ///
    /// # Errors
    /// `Overloaded`, `Io`, `Timeout`, `Conflict` and `OutcomeUnknown` are tried again, others are not.
    fn run(&self, engine: &Arc<Engine>, params: P, job: &JobHandle) -> impl Future<Output = Result<JobEnd>> + Send;

    /// How often it is looked whether it is due, in seconds; 0 if it is never due by itself.
    fn interval_seconds(&self, _settings: &Settings) -> u64 {
        0
    }

    /// The jobs that are due now.
    fn due(&self, _engine: &Arc<Engine>) -> impl Future<Output = Result<Vec<P>>> + Send {
        future::ready(Ok(Vec::new()))
    }
}

/// A kind as the runner sees it, whatever its parameters are.
#[async_trait]
pub trait Kind: Send + Sync + Debug {
    /// What the runner must know of it.
    fn about(&self) -> &About;

    /// What its parameters are.
    fn fields(&self) -> &'static [Field];

    /// Checks what somebody submits, and gives it as it is stored.
    fn accept(&self, submitted: &Value) -> Result<Value>;

    /// What a job with these stored parameters is about.
    fn target(&self, stored: &Value) -> Result<Target>;

    /// How often it is looked whether it is due, in seconds; 0 for never.
    fn interval_seconds(&self) -> u64;

    /// The parameters of the jobs that are due now.
    async fn due(&self) -> Result<Vec<Value>>;

    /// Does the work.
    async fn run(&self, stored: &Value, job: &JobHandle) -> Result<JobEnd>;
}

/// An executor with its engine.
#[derive(Debug)]
struct Bound<P, E> {
    executor: E,
    engine: WeakEngine,
    about: About,
    interval_seconds: u64,
    params: PhantomData<fn() -> P>,
}

impl<P, E> Bound<P, E> {
    fn engine(&self) -> Result<Arc<Engine>> {
        self.engine.upgrade().ok_or_else(|| Error::overloaded("the server is stopping"))
    }
}

#[async_trait]
impl<P: JobParams, E: JobExecutor<P>> Kind for Bound<P, E> {
    fn about(&self) -> &About {
        &self.about
    }

    fn fields(&self) -> &'static [Field] {
        P::FIELDS
    }

    fn accept(&self, submitted: &Value) -> Result<Value> {
        let params: P = params::read_submitted(self.about.name, submitted)?;
        self.executor.accept(self.engine()?.as_ref(), &params)?;
        Ok(params::to_stored(&params))
    }

    fn target(&self, stored: &Value) -> Result<Target> {
        Ok(self.executor.target(&params::read_stored(stored)?))
    }

    fn interval_seconds(&self) -> u64 {
        self.interval_seconds
    }

    async fn due(&self) -> Result<Vec<Value>> {
        let due = self.executor.due(&self.engine()?).await?;
        Ok(due.iter().map(params::to_stored).collect())
    }

    async fn run(&self, stored: &Value, job: &JobHandle) -> Result<JobEnd> {
        self.executor.run(&self.engine()?, params::read_stored(stored)?, job).await
    }
}

/// All kinds, by name.
#[derive(Debug, Default)]
pub struct Kinds(BTreeMap<&'static str, Arc<dyn Kind>>);

impl Kinds {
    /// Adds a kind of the engine's.
    pub(crate) fn add<P: JobParams>(&mut self, executor: impl JobExecutor<P>, engine: &Engine) {
        let (about, interval_seconds) =
            (executor.about(engine.settings()), executor.interval_seconds(engine.settings()));
        let engine = engine.weak();
        self.put(Arc::new(Bound { executor, engine, about, interval_seconds, params: PhantomData }));
    }

    /// Adds a kind.
    pub(super) fn put(&mut self, kind: Arc<dyn Kind>) {
        let names = [kind.about().name].into_iter().chain(kind.about().former_names.iter().copied());
        for name in names {
            let before = self.0.insert(name, Arc::clone(&kind));
            assert!(before.is_none(), "two kinds of jobs are called {name}");
        }
    }

    /// The kind of that name, or that had it once.
    pub fn find(&self, name: &str) -> Option<&Arc<dyn Kind>> {
        self.0.get(name)
    }

    /// Each kind once.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<dyn Kind>> {
        self.0.iter().filter(|(name, kind)| **name == kind.about().name).map(|(_, kind)| kind)
    }

    /// A kind by the name that somebody gave.
    ///
    /// # Errors
    /// `InvalidParameter`, which tells the names there are.
    pub fn require(&self, name: &str) -> Result<&Arc<dyn Kind>> {
        let known = || {
            let names = self.iter().filter(|kind| kind.about().is_submittable).map(|kind| kind.about().name);
            let names = names.collect::<Vec<_>>().join(", ");
            let name: String = name.chars().take(64).collect();
            Error::invalid_parameter(format!(
                "field \"job_type\" must be the name of a kind of job, such as \"flush\"; found \"{name}\". There are: {names}"
            ))
        };
        self.0.get(name).filter(|kind| kind.about().name == name).ok_or_else(known)
    }
}
