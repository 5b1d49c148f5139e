use std::collections::BTreeSet;

use arrow::array::{AsArray, RecordBatch};
use arrow::datatypes::Int64Type;
use arrow::util::pretty::pretty_format_batches;
use datafusion::prelude::{SessionConfig, SessionContext};
use kalamdb_commons::clock::{ManualClock, SystemEntropy};
use kalamdb_commons::ids::UserId;
use kalamdb_commons::settings::LimitSettings;
use kalamdb_commons::system_columns::Ceilings;
use kalamdb_sql::Statement;

use super::*;

pub(super) fn session(user: Option<&str>) -> SessionContext {
    let clock = Arc::new(ManualClock::at(1_750_000_000_000_000_000));
    let rows = SystemColumns::new(Arc::<ManualClock>::clone(&clock), "node-1", Ceilings::default(), i64::MAX);
    rows.reserved(rows.reserve().unwrap());
    let ids = Arc::new(TimeOrdered::new(clock, Arc::new(SystemEntropy)));
    let mut config = SessionConfig::new().with_target_partitions(1);
    if let Some(user) = user {
        set_current_user(config.options_mut(), &UserId::new(user).unwrap());
    }
    let builder = SessionStateBuilder::new().with_config(config).with_default_features();
    SessionContext::new_with_state(register(builder, Arc::new(rows), ids).build())
}

/// Parses as a request would be, so that operators have the precedence and functions the spelling that users get.
pub(super) async fn plan(context: &SessionContext, sql: &str) -> Result<LogicalPlan> {
    let parsed = kalamdb_sql::parse(sql, &LimitSettings::default()).unwrap().remove(0);
    let Statement::Query(query) = parsed.statement else { panic!("{sql} is not a query") };
    let statement = datafusion::sql::parser::Statement::Statement(Box::new(kalamdb_sql::ast::Statement::Query(query)));
    context.state().statement_to_plan(statement).await
}

pub(super) async fn query(context: &SessionContext, sql: &str) -> Result<Vec<RecordBatch>> {
    context.execute_logical_plan(plan(context, sql).await?).await?.collect().await
}

/// The one value of a query, as text.
pub(super) async fn value(context: &SessionContext, sql: &str) -> String {
    let batches = query(context, sql).await.unwrap();
    let text = arrow::util::display::array_value_to_string(batches[0].column(0), 0).unwrap();
    if batches[0].column(0).is_null(0) { "NULL".to_owned() } else { text }
}

#[tokio::test]
async fn snowflake_ids_are_another_for_each_row_and_grow() {
    let context = session(None);
    let batches = query(&context, "SELECT snowflake_id() AS id FROM generate_series(1, 20000)").await.unwrap();
    let ids: Vec<i64> =
        batches.iter().flat_map(|batch| batch.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
    assert_eq!(ids.len(), 20_000);
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
}

#[tokio::test]
async fn text_ids_are_another_for_each_row_and_grow() {
    let context = session(None);
    for function in ["uuid_v7", "ulid"] {
        let sql = format!("SELECT {function}() AS id FROM generate_series(1, 1000)");
        let batches = query(&context, &sql).await.unwrap();
        let ids: Vec<String> = batches
            .iter()
            .flat_map(|batch| {
                batch.column(0).as_string::<i32>().iter().map(|id| id.unwrap().to_owned()).collect::<Vec<_>>()
            })
            .collect();
        assert_eq!(ids.len(), 1_000);
        assert!(ids.windows(2).all(|pair| pair[0] < pair[1]), "{function}");
    }
}

#[tokio::test]
async fn two_calls_in_one_row_are_two_ids() {
    let batches =
        query(&session(None), "SELECT ULID() AS a, ULID() AS b, SNOWFLAKE_ID() = SNOWFLAKE_ID()").await.unwrap();
    let ids: BTreeSet<&str> = (0..2).map(|at| batches[0].column(at).as_string::<i32>().value(0)).collect();
    assert_eq!(ids.len(), 2);
    assert!(!batches[0].column(2).as_boolean().value(0));
}

#[tokio::test]
async fn current_user_is_whom_the_engine_set() {
    let alice = session(Some("alice"));
    assert_eq!(value(&alice, "SELECT CURRENT_USER()").await, "alice");
    assert_eq!(value(&alice, "SELECT current_user").await, "alice");
    assert_eq!(value(&alice, "SELECT CURRENT_USER() = 'alice'").await, "true");
    let quoted = session(Some("o'b\"; DROP"));
    assert_eq!(value(&quoted, "SELECT CURRENT_USER()").await, "o'b\"; DROP");
}

#[tokio::test]
async fn current_user_fails_without_one() {
    let error = query(&session(None), "SELECT CURRENT_USER()").await.unwrap_err();
    assert!(error.to_string().contains("current_user"), "{error}");
}

#[tokio::test]
async fn nobody_becomes_somebody_else_by_set() {
    let context = session(Some("alice"));
    assert!(context.sql("SET kalamdb_statement.user = 'bob'").await.is_err());
}

#[tokio::test]
async fn now_is_one_time_in_a_statement() {
    let context = session(None);
    let sql = "SELECT count(DISTINCT t) FROM (SELECT NOW() AS t FROM generate_series(1, 20000) \
               UNION ALL SELECT CURRENT_TIMESTAMP AS t FROM generate_series(1, 20000))";
    assert_eq!(value(&context, sql).await, "1");
}

#[tokio::test]
async fn statements_that_must_be_planned_anew_are_told_apart() {
    let context = session(Some("alice"));
    for (sql, varies) in [
        ("SELECT 1", false),
        ("SELECT ULID()", false),
        ("SELECT upper('a')", false),
        ("SELECT NOW()", true),
        ("SELECT CURRENT_DATE", true),
        ("SELECT 1 WHERE 'x' = CURRENT_USER()", true),
        ("SELECT 1 WHERE 'x' IN (SELECT CURRENT_USER())", true),
        ("SELECT (SELECT max(x) FROM (SELECT NOW() AS x) AS s)", true),
    ] {
        assert_eq!(varies_by_statement(&plan(&context, sql).await.unwrap()).unwrap(), varies, "{sql}");
    }
}

#[tokio::test]
async fn casts_hold_times_as_columns_do() {
    let context = session(None);
    let sql = "SELECT CAST('3000-01-01 10:00:00.123456' AS TIMESTAMP) AS a, CAST('2024-01-02' AS DATETIME) AS b, \
               CAST('10:11:12.5' AS TIME) AS c, CAST('ab' AS BYTES) AS d, TIMESTAMP '2024-01-01 00:00:00' AS e";
    let batches = query(&context, sql).await.unwrap();
    let types: Vec<String> = batches[0].schema().fields().iter().map(|field| field.data_type().to_string()).collect();
    assert_eq!(types, ["Timestamp(µs)", "Timestamp(µs)", "Time64(µs)", "Binary", "Timestamp(µs)"]);
    let shown = pretty_format_batches(&batches).unwrap().to_string();
    assert!(shown.contains("3000-01-01T10:00:00.123456"), "{shown}");
}
