use super::*;
use crate::tests::{name, one, refuses};

#[test]
fn show_in_every_form() {
    let tables = |namespace: Option<&str>| Show::Tables { namespace: namespace.map(str::to_owned) };
    for (sql, expected) in [
        ("SHOW TABLES", tables(None)),
        ("show tables in Ns;", tables(Some("ns"))),
        ("SHOW TABLES FROM \"Ns\"", tables(Some("Ns"))),
        ("SHOW NAMESPACES", Show::Namespaces),
        ("SHOW SCHEMAS", Show::Namespaces),
        ("SHOW DATABASES", Show::Namespaces),
        ("SHOW STORAGES", Show::Storages),
        ("SHOW ALL", Show::All),
        ("SHOW COLUMNS FROM ns.t", Show::Columns { table: name("ns.t") }),
        ("SHOW COLUMNS IN t", Show::Columns { table: name("t") }),
        ("SHOW COLUMNS FROM t FROM ns", Show::Columns { table: name("ns.t") }),
        ("SHOW MANIFEST", Show::Manifest { table: None }),
        ("SHOW MANIFEST FOR TABLE ns.t", Show::Manifest { table: Some(name("ns.t")) }),
        ("SHOW MANIFEST FOR t", Show::Manifest { table: Some(name("t")) }),
        ("SHOW MANIFEST IN t", Show::Manifest { table: Some(name("t")) }),
        ("SHOW MANIFEST CACHE", Show::ManifestCache),
        ("SHOW STATS FOR TABLE ns.t", Show::StatsForTable { table: name("ns.t") }),
    ] {
        assert_eq!(one(sql), Statement::Show(expected), "{sql}");
    }
}

#[test]
fn describe_and_use_in_every_form() {
    for sql in ["DESCRIBE ns.t", "DESC ns.t", "describe table Ns.T;"] {
        assert_eq!(one(sql), Statement::Describe { table: name("ns.t") }, "{sql}");
    }
    for sql in ["USE ns", "use NS;", "USE NAMESPACE ns", "USE SCHEMA ns", "USE DATABASE ns", "USE \"ns\""] {
        assert_eq!(one(sql), Statement::Use { namespace: "ns".to_owned() }, "{sql}");
    }
    assert_eq!(one("USE namespace"), Statement::Use { namespace: "namespace".to_owned() });
}

#[test]
fn flush_in_every_form() {
    let table = || StorageTarget::Table(name("ns.t"));
    let namespace = || StorageTarget::Namespace("ns".to_owned());
    for (sql, target, wait) in [
        ("STORAGE FLUSH TABLE ns.t", table(), false),
        ("STORAGE FLUSH TABLE ns.t WAIT", table(), true),
        ("FLUSH TABLE ns.t", table(), false),
        ("FLUSH TABLE ns.t WAIT", table(), true),
        ("STORAGE FLUSH ALL", StorageTarget::All, false),
        ("STORAGE FLUSH ALL WAIT", StorageTarget::All, true),
        ("FLUSH ALL TABLES", StorageTarget::All, false),
        ("FLUSH ALL", StorageTarget::All, false),
        ("STORAGE FLUSH ALL IN ns", namespace(), false),
        ("STORAGE FLUSH ALL IN NAMESPACE ns WAIT", namespace(), true),
        ("FLUSH ALL TABLES IN ns WAIT", namespace(), true),
    ] {
        assert_eq!(one(sql), Statement::Flush(Flush { target, wait }), "{sql}");
    }
}

#[test]
fn compact_in_every_form() {
    let table = || StorageTarget::Table(name("ns.t"));
    let namespace = || StorageTarget::Namespace("ns".to_owned());
    for (sql, target, wait) in [
        ("STORAGE COMPACT TABLE ns.t", table(), false),
        ("storage compact table ns.t wait;", table(), true),
        ("STORAGE COMPACT ALL", StorageTarget::All, false),
        ("STORAGE COMPACT ALL TABLES WAIT", StorageTarget::All, true),
        ("STORAGE COMPACT ALL IN ns WAIT", namespace(), true),
        ("STORAGE COMPACT ALL IN NAMESPACE ns", namespace(), false),
    ] {
        assert_eq!(one(sql), Statement::Compact(Compact { target, wait }), "{sql}");
    }
}

#[test]
fn what_is_tidied_by_itself_is_tidied_on_demand() {
    for (sql, chore, wait) in [
        ("STORAGE EVICT MANIFESTS", Chore::EvictManifests, false),
        ("storage evict manifests wait;", Chore::EvictManifests, true),
        ("STORAGE REMOVE ORPHANS WAIT", Chore::RemoveOrphans, true),
    ] {
        assert_eq!(one(sql), Statement::Tidy(Tidy { chore, wait }), "{sql}");
    }
    refuses(&[("STORAGE EVICT", "MANIFESTS"), ("STORAGE REMOVE FILES", "ORPHANS")]);
}

#[test]
fn check_table_repairs_only_if_told_to() {
    for (sql, repair) in [("CHECK TABLE ns.t", false), ("check table ns.t repair;", true)] {
        assert_eq!(one(sql), Statement::CheckTable(CheckTable { table: name("ns.t"), repair }), "{sql}");
    }
}

#[test]
fn kill_job_takes_an_id_quoted_or_bare() {
    for sql in ["KILL JOB 'FL-7f3a'", "kill job FL-7f3a;", "KILL JOB \"FL-7f3a\""] {
        assert_eq!(one(sql), Statement::KillJob { job: "FL-7f3a".to_owned() }, "{sql}");
    }
    for id in ["FL-1e5", "FL-00a1-9z", "FL-12ab34", "7"] {
        assert_eq!(one(&format!("KILL JOB {id}")), Statement::KillJob { job: id.to_owned() });
    }
}

#[test]
fn kill_live_query_takes_an_id_quoted_or_bare() {
    for sql in ["KILL LIVE QUERY 'LQ-1f'", "kill live query LQ-1f;"] {
        assert_eq!(one(sql), Statement::KillLive { live: "LQ-1f".to_owned() }, "{sql}");
    }
}

#[test]
fn subscribe_takes_a_table_or_a_query() {
    let sql = |text: &str| match one(text) {
        Statement::Subscribe { sql } => sql,
        other => panic!("{other:?}"),
    };
    assert_eq!(sql("SUBSCRIBE TO app.t"), "SELECT * FROM app.t");
    assert_eq!(sql("subscribe to app.t where a = 1;"), "SELECT * FROM app.t where a = 1");
    assert_eq!(sql("SUBSCRIBE TO SELECT a FROM app.t WHERE a > 1"), "SELECT a FROM app.t WHERE a > 1");
}

#[test]
fn what_is_missing_or_not_implemented_is_named() {
    refuses(&[
        ("SHOW", "expected TABLES, NAMESPACES"),
        ("SHOW CREATE TABLE t", "SHOW CREATE is not implemented"),
        ("SHOW FUNCTIONS", "SHOW FUNCTIONS is not implemented"),
        ("SHOW search_path", "SHOW SEARCH_PATH is not implemented"),
        ("SHOW TABLES LIKE 'x%'", "LIKE in SHOW is not implemented"),
        ("SHOW TABLES WHERE a = 1", "WHERE in SHOW is not implemented"),
        ("SHOW COLUMNS", "expected IN or FROM and a table"),
        ("SHOW COLUMNS FROM ns.t FROM ns", "the namespace is said twice"),
        ("SHOW STATS", "expected FOR"),
        ("SHOW STATS FOR t", "expected TABLE"),
        ("DESCRIBE", "expected a table name"),
        ("DESCRIBE t EXTENDED", "EXTENDED in DESCRIBE is not implemented"),
        ("USE", "expected a namespace name"),
        ("USE a.b", "expected the end of USE, found '.'"),
        ("STORAGE", "expected FLUSH, COMPACT, EVICT, REMOVE or CHECK"),
        ("STORAGE COMPACT", "expected TABLE or ALL"),
        ("STORAGE COMPACT TABLE a, b", "expected the end of STORAGE COMPACT"),
        ("STORAGE FLUSH", "expected TABLE or ALL"),
        ("FLUSH TABLES", "expected TABLE or ALL, found TABLES"),
        ("FLUSH TABLE a, b", "expected the end of FLUSH"),
        ("FLUSH TABLE a FOR EXPORT", "FOR in FLUSH is not implemented"),
        ("KILL 5", "expected JOB"),
        ("KILL QUERY 5", "KILL QUERY is not implemented"),
        ("KILL JOB", "expected a job id"),
        ("CHECK", "expected TABLE"),
        ("CHECK TABLE t FOR UPGRADE", "FOR in CHECK TABLE is not implemented"),
        ("KILL LIVE", "expected QUERY"),
        ("KILL LIVE QUERY", "expected a live id"),
        ("SUBSCRIBE", "expected TO"),
        ("SUBSCRIBE TO", "expected a table name or a SELECT"),
    ]);
}
