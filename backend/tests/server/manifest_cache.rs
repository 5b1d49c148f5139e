//! The manifest cache of the real server: a kill between any two of its writes, a write that fails, and what is logged.

use serde_json::json;

use crate::server::Home;

const ALL: &str = "SELECT id, n FROM app.t ORDER BY id";

/// A server with one batch of history, stopped.
async fn cold() -> Home {
    let server = Home::new(&[]).start().await;
    server.sql("CREATE NAMESPACE app; CREATE SHARED TABLE app.t (id BIGINT PRIMARY KEY, n INT)").await;
    server.sql("INSERT INTO app.t VALUES (1, 10), (2, 20)").await;
    server.flush("app.t").await;
    server.stop()
}

#[tokio::test]
async fn a_kill_between_the_writes_of_a_publication_loses_and_doubles_nothing() {
    // The first use after the start writes the entry that it compared, so a publication is the second to do so.
    for (point, time) in [
        ("manifest::after_durable", 1),
        ("manifest_cache::before_entry", 2),
        ("manifest_cache::after_entry", 2),
        ("manifest_cache::after_memory", 2),
    ] {
        let home = cold().await;
        let server = home.with(&[("TESTING__FAIL_POINTS", &format!("{point}=exit({time})"))]).start().await;
        server.sql("UPDATE app.t SET n = 21 WHERE id = 2; INSERT INTO app.t VALUES (3, 30)").await;
        server.attempt("STORAGE FLUSH TABLE app.t WAIT").await.expect_err(point);
        drop(server);
        let server = home.start().await;
        let all = json!([["1", 10], ["2", 21], ["3", 30]]);
        assert_eq!(server.rows(ALL).await, all, "{point}");
        server.sql("UPDATE app.t SET n = 31 WHERE id = 3").await;
        server.flush("app.t").await;
        let server = server.stop().start().await;
        assert_eq!(server.rows(ALL).await, json!([["1", 10], ["2", 21], ["3", 31]]), "{point}");
        let state = server.rows("SELECT sync_state FROM system.manifest_cache").await;
        assert_eq!(state, json!([["in_sync"]]), "{point}");
    }
}

#[tokio::test]
async fn fr_044_both_outcomes_of_writing_the_cache_are_logged_and_neither_fails_the_flush() {
    let home = cold().await;
    assert!(home.logs().contains("manifest_cache_sync_success"));
    let server = home.with(&[("TESTING__FAIL_POINTS", "manifest_cache::entry_fails=return")]).start().await;
    server.sql("INSERT INTO app.t VALUES (3, 30)").await;
    server.flush("app.t").await;
    assert_eq!(server.rows("SELECT sync_state FROM system.manifest_cache").await, json!([["error"]]));
    assert_eq!(server.rows("SELECT count(*) FROM app.t").await, json!([["3"]]));
    let home = server.stop();
    assert!(home.logs().contains("manifest_cache_sync_failure"));
    // The older entry that is left on disk is not believed.
    let server = home.start().await;
    assert_eq!(server.rows(ALL).await, json!([["1", 10], ["2", 20], ["3", 30]]));
}
