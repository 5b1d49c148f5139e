use arrow::datatypes::{DataType, Field, Schema};
use arrow::util::display::array_value_to_string;
use kalamdb_commons::ErrorKind;
use kalamdb_commons::ids::{JobId, NamespaceId, UserId};
use kalamdb_commons::settings::LimitSettings;
use kalamdb_sql::Statement;

use super::*;
use crate::catalog::fixture::{Fixture, actor, table_ref};
use crate::jobs::{JobProgress, JobStatus};

fn fixture() -> Fixture {
    let mut fixture = Fixture::with(&[
        "CREATE USER TABLE mine (id INT PRIMARY KEY, note TEXT DEFAULT 'x', UNIQUE (note)) WITH (COMPRESSION='zstd')",
        "CREATE SHARED TABLE open (a INT) WITH (ACCESS_LEVEL='public')",
        "CREATE SHARED TABLE closed (a DECIMAL(10, 2))",
        "CREATE NAMESPACE vault",
        "CREATE SHARED TABLE vault.gold (a INT) WITH (ACCESS_LEVEL='restricted')",
        "ALTER TABLE open ADD COLUMN b JSON",
        "CREATE USER 'alice' WITH PASSWORD 'long enough' ROLE 'user' EMAIL 'a@example.org'",
    ]);
    fixture.query_schema(Schema::new(vec![Field::new("a", DataType::Int32, true)]));
    fixture.run("CREATE VIEW seen AS SELECT a FROM open");
    fixture.run("CREATE VIEW hidden AS SELECT a FROM vault.gold");
    fixture
}

fn view(fixture: &Fixture, role: Role) -> SystemView {
    let mut settings = Settings::default();
    settings.auth.token_secret = "a secret of more than 32 characters".to_owned();
    settings.storage.s3_bucket = "bucket".to_owned();
    let mut view = SystemView::new(fixture.catalog.clone(), actor("someone", role), Arc::new(settings));
    view.setting_sources.insert("storage.s3_bucket".to_owned(), "server.toml".to_owned());
    view
}

/// Rows as text, with `NULL` for NULL.
fn text(batch: &RecordBatch) -> Vec<Vec<String>> {
    let cell = |row: usize, at: usize| {
        let column = batch.column(at);
        if column.is_null(row) { "NULL".to_owned() } else { array_value_to_string(column, row).unwrap() }
    };
    (0..batch.num_rows()).map(|row| (0..batch.num_columns()).map(|at| cell(row, at)).collect()).collect()
}

fn rows(view: &SystemView, name: &str) -> Vec<Vec<String>> {
    text(&table(&table_ref(name)).unwrap().rows(view).unwrap())
}

fn first_columns(rows: &[Vec<String>], n: usize) -> Vec<String> {
    rows.iter().map(|row| row[..n].join(".")).collect()
}

fn run_show(view: &SystemView, sql: &str) -> Result<RecordBatch> {
    let app = NamespaceId::new("app")?;
    match kalamdb_sql::parse(sql, &LimitSettings::default())?.remove(0).statement {
        Statement::Show(statement) => show(view, &statement, Some(&app)),
        Statement::Describe { table } => describe(view, &crate::catalog::ddl::resolve(&table, Some(&app))?),
        other => panic!("{other:?}"),
    }
}

/// The columns that clients and tools rely on come first, in the published order.
#[test]
fn published_columns_come_first_and_in_order() {
    for (name, columns) in [
        ("system.users", "user_id, role, email, auth_type, created_at, updated_at, deleted_at"),
        ("system.namespaces", "namespace_id, name, options, table_count, created_at"),
        (
            "system.tables",
            "table_name, namespace_id, table_type, schema_version, is_latest, options, columns, access_level",
        ),
        (
            "system.schemas",
            "table_name, namespace_id, table_type, schema_version, is_latest, options, columns, access_level",
        ),
        (
            "system.columns",
            "namespace_id, table_name, column_name, column_id, data_type, nullable, default_value, is_primary_key, ordinal",
        ),
        (
            "system.storages",
            "storage_id, storage_name, storage_type, base_directory, shared_tables_template, user_tables_template",
        ),
        (
            "system.jobs",
            "job_id, job_type, status, parameters, message, progress, created_at, started_at, finished_at, node_id",
        ),
        ("system.manifest", "namespace_id, table_name, scope, manifest_json"),
        (
            "system.manifest_cache",
            "namespace, table, user_id, etag, last_refreshed, last_accessed, ttl, source, sync_state",
        ),
        ("system.stats", "metric_name, metric_value"),
        ("system.settings", "name, value, source, description"),
        ("system.cluster", "node_id, role, is_leader, is_self, api_addr"),
        ("information_schema.tables", "table_catalog, table_schema, table_name, table_type"),
        (
            "information_schema.columns",
            "table_catalog, table_schema, table_name, column_name, ordinal_position, column_default, is_nullable, data_type",
        ),
    ] {
        let schema = table(&table_ref(name)).unwrap_or_else(|| panic!("{name}")).schema();
        let names: Vec<&str> = schema.fields().iter().map(|field| field.name().as_str()).collect();
        assert!(names.join(", ").starts_with(columns), "{name}: {names:?}");
    }
}

#[test]
fn rows_fit_the_schema_for_every_table_and_role() {
    let fixture = fixture();
    for role in [Role::User, Role::Service, Role::Dba, Role::System] {
        for table in tables() {
            let batch = table.rows(&view(&fixture, role)).unwrap();
            assert_eq!(batch.schema(), table.schema(), "{}", table.name);
        }
    }
}

#[test]
fn tables_about_the_whole_server_do_not_exist_below_dba() {
    let fixture = fixture();
    for name in ["users", "jobs", "storages", "settings", "stats", "cluster"] {
        let table = table(&table_ref(&format!("system.{name}"))).unwrap();
        assert!(!table.readable_by(Role::User) && !table.readable_by(Role::Service) && table.readable_by(Role::Dba));
        assert_eq!(table.rows(&view(&fixture, Role::Service)).unwrap().num_rows(), 0, "{name}");
    }
}

#[test]
fn nobody_is_shown_what_they_may_not_see() {
    let fixture = fixture();
    let seen = |role| first_columns(&rows(&view(&fixture, role), "system.tables"), 1);
    assert_eq!(seen(Role::User), ["mine", "open", "seen"]);
    assert_eq!(seen(Role::Service), ["closed", "mine", "open", "seen"]);
    assert_eq!(seen(Role::Dba), ["closed", "mine", "open", "gold", "hidden", "seen"]);

    let user = view(&fixture, Role::User);
    assert_eq!(first_columns(&rows(&user, "system.namespaces"), 1), ["app"]);
    assert_eq!(rows(&user, "system.namespaces")[0][3], "2", "hidden tables are not counted");
    for name in ["system.columns", "system.schemas", "information_schema.tables", "information_schema.columns"] {
        let shown = format!("{:?}", rows(&user, name));
        assert!(!shown.contains("gold") && !shown.contains("closed") && !shown.contains("hidden"), "{name}");
    }
}

#[test]
fn secrets_are_masked() {
    let fixture = fixture();
    let view = view(&fixture, Role::System);
    let settings = rows(&view, "system.settings");
    let of = |name: &str| settings.iter().find(|row| row[0] == name).unwrap().clone();
    assert_eq!(of("auth.token_secret")[1], "***");
    assert_eq!(of("auth.root_password")[1], "", "an empty one is shown as empty");
    assert_eq!(of("storage.s3_bucket")[1..3], ["bucket", "server.toml"]);
    assert_eq!(of("server.port")[1..3], ["8080", "default"]);
    assert!(settings.iter().all(|row| !row[3].is_empty()), "every setting is documented");
    assert!(!format!("{:?}", rows(&view, "system.users")).contains("argon2"));
}

#[test]
fn tables_show_their_options_columns_and_access_level() {
    let fixture = fixture();
    let rows = rows(&view(&fixture, Role::Dba), "system.tables");
    let mine = rows.iter().find(|row| row[0] == "mine").unwrap();
    assert_eq!(mine[1..5], ["app", "user", "1", "true"]);
    let options: serde_json::Value = serde_json::from_str(&mine[5]).unwrap();
    assert_eq!((&options["TYPE"], &options["COMPRESSION"]), (&"USER".into(), &"zstd".into()));
    let columns: serde_json::Value = serde_json::from_str(&mine[6]).unwrap();
    assert_eq!((&columns[0]["name"], &columns[0]["primary_key"]), (&"id".into(), &true.into()));
    assert_eq!(mine[7], "NULL");
    assert_eq!(rows.iter().find(|row| row[0] == "open").unwrap()[7], "public");
}

#[test]
fn schemas_have_a_row_for_each_version() {
    let fixture = fixture();
    let rows = rows(&view(&fixture, Role::User), "system.schemas");
    let open: Vec<_> = rows.iter().filter(|row| row[0] == "open").map(|row| row[3..5].join(" ")).collect();
    assert_eq!(open, ["1 false", "2 true"]);
}

#[test]
fn columns_are_those_of_select_star() {
    let fixture = fixture();
    let rows = rows(&view(&fixture, Role::User), "system.columns");
    let mine: Vec<_> = rows.iter().filter(|row| row[1] == "mine").map(|row| row[2..].join(" ")).collect();
    assert_eq!(
        mine,
        [
            "_id NULL BIGINT false NULL false 1",
            "id 1 INT false NULL true 2",
            "note 2 TEXT true 'x' false 3",
            "_updated NULL TIMESTAMP false NULL false 4",
            "_deleted NULL BOOLEAN false NULL false 5",
        ]
    );
}

#[test]
fn the_information_schema_speaks_postgresql() {
    let fixture = fixture();
    let view = view(&fixture, Role::Dba);
    let tables = rows(&view, "information_schema.tables");
    assert!(tables.contains(&["kalamdb", "app", "mine", "BASE TABLE", "YES"].map(String::from).to_vec()));
    assert!(tables.contains(&["kalamdb", "app", "seen", "VIEW", "NO"].map(String::from).to_vec()));
    assert!(tables.contains(&["kalamdb", "system", "jobs", "SYSTEM VIEW", "NO"].map(String::from).to_vec()));
    let columns = rows(&view, "information_schema.columns");
    let closed = columns.iter().find(|row| row[2] == "closed" && row[3] == "a").unwrap();
    assert_eq!(closed[4..12], ["2", "NULL", "YES", "numeric", "NULL", "10", "10", "2"]);
    let generated = columns.iter().find(|row| row[2] == "closed" && row[3] == "_id").unwrap();
    assert_eq!(generated[13..], ["ALWAYS", "NO"]);
}

#[test]
fn jobs_show_progress_and_parameters() {
    let fixture = fixture();
    let mut view = view(&fixture, Role::Dba);
    view.jobs.push(JobRecord {
        job_id: JobId::new("FL-1").unwrap(),
        job_type: "flush".into(),
        status: JobStatus::Running,
        parameters: serde_json::json!({ "table": "app.mine" }),
        message: String::new(),
        progress: JobProgress { rows: 5, bytes: 70 },
        created_at_ms: 1_000,
        started_at_ms: Some(2_000),
        finished_at_ms: None,
        node_id: "node-1".into(),
        attempts: 2,
        attempts_max: None,
        next_attempt_at_ms: None,
        submitted_by: Some(UserId::new("adm").unwrap()),
        idempotency_key: None,
        cancel_requested: false,
    });
    assert_eq!(
        rows(&view, "system.jobs")[0],
        [
            "FL-1",
            "flush",
            "running",
            r#"{"table":"app.mine"}"#,
            "",
            r#"{"rows":5,"bytes":70}"#,
            "1970-01-01T00:00:01",
            "1970-01-01T00:00:02",
            "NULL",
            "node-1",
            "2",
            "NULL",
            "adm",
            "NULL"
        ]
    );
}

#[test]
fn show_tables_is_about_one_namespace() {
    let fixture = fixture();
    let dba = view(&fixture, Role::Dba);
    let shown = |sql: &str| first_columns(&text(&run_show(&dba, sql).unwrap()), 2);
    assert_eq!(shown("SHOW TABLES"), ["app.closed", "app.mine", "app.open", "app.hidden", "app.seen"]);
    assert_eq!(shown("SHOW TABLES IN vault"), ["vault.gold"]);
    assert!(shown("SHOW TABLES IN system").contains(&"system.jobs".to_owned()));
    assert_eq!(run_show(&dba, "SHOW TABLES IN nope").unwrap_err().kind(), ErrorKind::NotFound);

    let user = view(&fixture, Role::User);
    let absent = run_show(&user, "SHOW TABLES IN nope").unwrap_err();
    let hidden = run_show(&user, "SHOW TABLES IN vault").unwrap_err();
    assert_eq!(hidden.message().replace("vault", "nope"), absent.message(), "hidden and absent are one answer");
    let own = first_columns(&text(&run_show(&user, "SHOW TABLES IN system").unwrap()), 2);
    assert!(!own.contains(&"system.users".to_owned()), "{own:?}");
}

#[test]
fn show_namespaces_counts_their_tables() {
    let fixture = fixture();
    let shown = text(&run_show(&view(&fixture, Role::Dba), "SHOW NAMESPACES").unwrap());
    assert_eq!(first_columns(&shown, 2), ["app.3", "vault.1"]);
}

#[test]
fn describe_shows_tables_views_and_system_tables_alike() {
    let fixture = fixture();
    let user = view(&fixture, Role::User);
    let shown = text(&run_show(&user, "DESCRIBE mine").unwrap());
    assert_eq!(shown[1], ["id", "INT", "false", "NULL", "true", "true", "false", "2"]);
    assert_eq!(shown[2], ["note", "TEXT", "true", "'x'", "false", "true", "false", "3"]);
    assert_eq!(text(&run_show(&user, "SHOW COLUMNS FROM mine").unwrap()), shown);
    assert_eq!(text(&run_show(&user, "DESCRIBE seen").unwrap())[0][0], "a");
    assert_eq!(text(&run_show(&user, "DESCRIBE system.tables").unwrap())[0][0], "table_name");
    for hidden in ["vault.gold", "closed", "hidden", "system.users", "nope"] {
        let error = run_show(&user, &format!("DESCRIBE {hidden}")).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NotFound, "{hidden}");
    }
}

#[test]
fn statements_about_the_whole_server_need_dba() {
    let fixture = fixture();
    for sql in ["SHOW ALL", "SHOW STORAGES", "SHOW STATS FOR TABLE open"] {
        assert_eq!(
            run_show(&view(&fixture, Role::User), sql).unwrap_err().kind(),
            ErrorKind::PermissionDenied,
            "{sql}"
        );
        run_show(&view(&fixture, Role::Dba), sql).unwrap();
    }
}

#[test]
fn manifests_and_figures_are_those_of_the_table() {
    let fixture = fixture();
    let mut dba = view(&fixture, Role::Dba);
    let manifest = serde_json::json!({
        "version": 1, "format_version": 1, "generated_at": "2025-01-01T00:00:00Z", "max_batch": 1, "table_id": 1,
        "table": { "namespace": "app", "table": "mine" }, "incarnation": 1, "scope": "shared", "flushed_through": 5,
        "deletions_complete_from": 0, "batches": [{
            "path": "batch-0001.parquet", "number": 1, "status": "active", "from": 0, "through": 5, "min_updated": 1,
            "max_updated": 5, "min_id": 1, "max_id": 9, "row_count": 7, "tombstone_count": 2, "superseding_count": 1,
            "byte_size": 100, "schema_version": 1, "incarnation": 1, "columns": {}
        }]
    })
    .to_string();
    let alice = Scope::User(UserId::new("alice").unwrap());
    dba.manifests.push((table_ref("mine"), alice, manifest.clone()));
    dba.manifests.push((table_ref("open"), Scope::Shared, manifest));
    dba.table_stats.push(("hot_rows".to_owned(), "3".to_owned()));

    let shown = text(&run_show(&dba, "SHOW MANIFEST FOR TABLE mine").unwrap());
    assert_eq!(first_columns(&shown, 3), ["app.mine.alice"]);
    assert_eq!(text(&run_show(&dba, "SHOW MANIFEST").unwrap()).len(), 2);
    for hidden in ["closed", "vault.gold", "nope"] {
        let error = run_show(&view(&fixture, Role::User), &format!("SHOW MANIFEST FOR TABLE {hidden}")).unwrap_err();
        assert_eq!(error.message(), format!("table '{}' does not exist", hidden_name(hidden)));
    }
    let figures: BTreeMap<String, String> = text(&run_show(&dba, "SHOW STATS FOR TABLE mine").unwrap())
        .into_iter()
        .map(|row| (row[0].clone(), row[1].clone()))
        .collect();
    assert_eq!((figures["cold_rows"].as_str(), figures["cold_deletions"].as_str()), ("7", "2"));
    assert_eq!(figures["hot_rows"], "3");
    assert_eq!(run_show(&dba, "SHOW STATS FOR TABLE nope").unwrap_err().kind(), ErrorKind::NotFound);
}

fn hidden_name(name: &str) -> String {
    if name.contains('.') { name.to_owned() } else { format!("app.{name}") }
}

#[test]
fn json_columns_say_so() {
    let fixture = fixture();
    let batch = table(&table_ref("system.tables")).unwrap().rows(&view(&fixture, Role::Dba)).unwrap();
    assert_eq!(batch.num_rows(), 6);
    let field = batch.schema().field(5).clone();
    assert_eq!(field.metadata()[kalamdb_commons::types::COLUMN_TYPE_KEY], "JSON");
}
