use kalamdb_commons::clock::{ManualClock, SystemEntropy};
use kalamdb_commons::ids::JobId;
use kalamdb_commons::schema::{Actor, Role};
use serde_json::{Value, json};

use super::*;
use crate::api::SqlRequest;
use crate::jobs::{JobEnd, JobHandle, JobRecord};

mod hot_rows;

const PAGE: &str = include_str!("../../../../../../docs/jobs.md");
const START_NS: i64 = 1_800_000_000_000_000_000;

async fn engine(directory: &std::path::Path) -> Arc<Engine> {
    let mut settings = kalamdb_commons::settings::Settings::default();
    settings.storage.data_dir = directory.to_str().unwrap().to_owned();
    let (clock, entropy) = (Arc::new(ManualClock::at(START_NS)), Arc::new(SystemEntropy));
    Engine::open(Arc::new(settings), clock, entropy).await.unwrap()
}

async fn run(engine: &Arc<Engine>, sql: &str) {
    let request = SqlRequest {
        actor: Actor { user: UserId::new("root").unwrap(), role: Role::System },
        sql: sql.to_owned(),
        params: Vec::new(),
        namespace: None,
        as_user: None,
        request_id: "test".to_owned(),
        address: None,
        idempotency: None,
    };
    let mut execution = engine.execute(request).await.unwrap();
    while let Some(outcome) = execution.next().await {
        outcome.unwrap();
    }
}

/// The page shows a kind of job. This carries it out, as everything does that such a file needs no more than itself for.
#[tokio::test(flavor = "multi_thread")]
async fn the_kind_that_the_page_shows_is_one() {
    assert!(PAGE.contains(&format!("```rust\n{}```\n", include_str!("tests/hot_rows.rs"))));
    let directory = tempfile::tempdir().unwrap();
    let engine = engine(directory.path()).await;
    Box::pin(run(
        &engine,
        "CREATE NAMESPACE app; CREATE SHARED TABLE app.t (id BIGINT); INSERT INTO app.t VALUES (1), (2), (3)",
    ))
    .await;
    let mut kinds = Kinds::default();
    kinds.add(hot_rows::HotRows, &engine);
    let kind = kinds.require("hot_rows").unwrap();
    let stored = kind.accept(&json!({ "namespace": "app", "table": "t" })).unwrap();
    let record = json!({
        "job_id": JobId::new("HR-1").unwrap(), "job_type": "hot_rows", "status": "running", "parameters": stored,
        "created_at_ms": 1,
    });
    let job = JobHandle::of(&serde_json::from_value::<JobRecord>(record).unwrap());
    assert_eq!(kind.run(&stored, &job).await.unwrap(), JobEnd::Completed("3 rows".to_owned()));
    assert_eq!(job.handled().rows, 3);
    let told = |params: Value| kind.accept(&params).unwrap_err().message().to_owned();
    assert!(
        told(json!({})).contains(r#"field "namespace" is missing: it must be the name of a namespace, such as "app""#)
    );
    assert!(told(json!({ "namespace": "app", "rows_max": 0 })).contains("from 1 to 1000000"));
    assert!(told(json!({ "namespace": "absent" })).contains("absent"));
    engine.close().await.unwrap();
}

#[tokio::test]
async fn the_page_lists_every_kind_and_all_that_it_takes() {
    let directory = tempfile::tempdir().unwrap();
    let engine = engine(directory.path()).await;
    for kind in all(&engine).iter() {
        let name = format!("`{}`", kind.about().name);
        let line = PAGE.lines().find(|line| line.starts_with('|') && line.contains(&name));
        let line = line.unwrap_or_else(|| panic!("{name} is not on the page"));
        for field in kind.fields().iter().filter(|_| kind.about().is_submittable) {
            assert!(line.contains(&format!("`{}`", field.name)), "{name} takes {}", field.name);
        }
    }
    engine.close().await.unwrap();
}
