//! What an entry calls a statement: its kind, and the names that it is about. Never a value, and never its text, which
//! may hold passwords and other people's data.

use kalamdb_commons::ids::NamespaceId;
use kalamdb_sql::ast::Query;
use kalamdb_sql::{
    Chore, Compact, Flush, InsertSource, Parsed, Show, Statement, StorageTarget, TableName, Tidy, UserChange,
};

use crate::catalog::ddl::tables_of_query;

/// The most characters of an object or a subject: names come from whoever asks.
const CHARS_MAX: usize = 300;

/// A text within its limit.
pub(crate) fn shortened(text: String) -> String {
    match text.char_indices().nth(CHARS_MAX) {
        None => text,
        Some((at, _)) => format!("{}...", &text[..at]),
    }
}

/// A statement's kind.
pub(crate) fn kind(statement: &Statement) -> &'static str {
    use Statement as S;
    match statement {
        S::Query(_) => "SELECT",
        S::Explain { .. } => "EXPLAIN",
        S::Insert(_) => "INSERT",
        S::Update(_) => "UPDATE",
        S::Delete(_) => "DELETE",
        S::Begin => "BEGIN",
        S::Commit => "COMMIT",
        S::Rollback => "ROLLBACK",
        S::CreateNamespace { .. } => "CREATE NAMESPACE",
        S::DropNamespace { .. } => "DROP NAMESPACE",
        S::AlterNamespace { .. } => "ALTER NAMESPACE",
        S::CreateTable(_) => "CREATE TABLE",
        S::AlterTable { .. } => "ALTER TABLE",
        S::DropTable { .. } => "DROP TABLE",
        S::Truncate { .. } => "TRUNCATE",
        S::CreateIndex(_) => "CREATE INDEX",
        S::DropIndex { .. } => "DROP INDEX",
        S::CreateView(_) => "CREATE VIEW",
        S::DropView { .. } => "DROP VIEW",
        S::Use { .. } => "USE",
        S::Show(_) => "SHOW",
        S::Describe { .. } => "DESCRIBE",
        S::Flush(_) => "STORAGE FLUSH",
        S::Compact(_) => "STORAGE COMPACT",
        S::Tidy(Tidy { chore: Chore::EvictManifests, .. }) => "STORAGE EVICT MANIFESTS",
        S::Tidy(Tidy { chore: Chore::RemoveOrphans, .. }) => "STORAGE REMOVE ORPHANS",
        S::Backup(_) => "BACKUP DATABASE",
        S::ExportUser(_) => "EXPORT USER DATA",
        S::Restore(_) => "RESTORE DATABASE",
        S::CheckTable(_) => "CHECK TABLE",
        S::CreateStorage(_) => "CREATE STORAGE",
        S::AlterStorage { .. } => "ALTER STORAGE",
        S::DropStorage { .. } => "DROP STORAGE",
        S::CheckStorage { .. } => "STORAGE CHECK",
        S::CreateUser(_) => "CREATE USER",
        S::AlterUser { change: UserChange::Password(_), .. } => "ALTER USER SET PASSWORD",
        S::AlterUser { change: UserChange::Role(_), .. } => "ALTER USER SET ROLE",
        S::AlterUser { change: UserChange::Email(_), .. } => "ALTER USER SET EMAIL",
        S::AlterUser { change: UserChange::Limit(..), .. } => "ALTER USER SET LIMIT",
        S::DropUser { .. } => "DROP USER",
        S::EraseUser { .. } => "ERASE USER",
        S::KillJob { .. } => "KILL JOB",
        S::VerifyAudit => "VERIFY AUDIT",
        S::Subscribe { .. } => "SUBSCRIBE TO",
        S::KillLive { .. } => "KILL LIVE QUERY",
    }
}

/// What a statement is about, with `namespace` for names without one.
pub(crate) fn object(parsed: &Parsed, namespace: &NamespaceId) -> String {
    let mut objects = objects(&parsed.statement, namespace);
    objects.extend(parsed.all_users.iter().map(|name| format!("all users of {}", full(name, namespace))));
    objects.join(", ")
}

fn full(name: &TableName, namespace: &NamespaceId) -> String {
    format!("{}.{}", name.namespace.as_deref().unwrap_or(namespace.as_str()), name.name)
}

fn read_by(query: &Query, namespace: &NamespaceId) -> Vec<String> {
    tables_of_query(query, namespace).iter().map(ToString::to_string).collect()
}

fn objects(statement: &Statement, namespace: &NamespaceId) -> Vec<String> {
    use Statement as S;
    let one = |name: &TableName| vec![full(name, namespace)];
    let all = |names: &[TableName]| names.iter().map(|name| full(name, namespace)).collect();
    match statement {
        S::Query(query) => read_by(query, namespace),
        S::Explain { statement, .. } => objects(statement, namespace),
        S::Insert(insert) => {
            let from = match &insert.source {
                InsertSource::Query(query) => read_by(query, namespace),
                InsertSource::Values(_) | InsertSource::DefaultValues => Vec::new(),
            };
            one(&insert.table).into_iter().chain(from).collect()
        }
        S::Update(update) => one(&update.table),
        S::Delete(delete) => one(&delete.table),
        S::Begin | S::Commit | S::Rollback | S::VerifyAudit | S::Tidy(_) | S::Subscribe { .. } => Vec::new(),
        S::KillLive { live } => vec![live.clone()],
        S::CreateNamespace { name, .. } | S::DropNamespace { name, .. } | S::AlterNamespace { name, .. } => {
            vec![name.clone()]
        }
        S::CreateTable(create) => one(&create.name),
        S::AlterTable { table, .. } | S::Describe { table } => one(table),
        S::DropTable { tables, .. } | S::Truncate { tables } => all(tables),
        S::CreateIndex(create) => one(&create.table),
        S::DropIndex { name, .. } => one(name),
        S::CreateView(create) => one(&create.name),
        S::DropView { views, .. } => all(views),
        S::Use { namespace } => vec![namespace.clone()],
        S::Show(Show::Columns { table } | Show::StatsForTable { table }) => one(table),
        S::Show(Show::Manifest { table }) => table.iter().map(|name| full(name, namespace)).collect(),
        S::Show(Show::Tables { .. } | Show::Namespaces | Show::Storages | Show::All | Show::ManifestCache) => {
            Vec::new()
        }
        S::Flush(Flush { target, .. }) | S::Compact(Compact { target, .. }) => match target {
            StorageTarget::Table(name) => one(name),
            StorageTarget::Namespace(name) => vec![name.clone()],
            StorageTarget::All => Vec::new(),
        },
        S::ExportUser(export) => vec![export.name.clone(), export.to.clone()],
        S::Backup(backup) => vec![backup.namespace.clone(), backup.to.clone()],
        S::Restore(restore) => vec![restore.namespace.clone(), restore.from.clone()],
        S::CheckTable(check) => one(&check.table),
        S::CreateStorage(create) => vec![create.id.clone()],
        S::AlterStorage { id, .. } | S::DropStorage { id, .. } | S::CheckStorage { id, .. } => vec![id.clone()],
        S::CreateUser(create) => vec![create.name.clone()],
        S::AlterUser { name, change: UserChange::Role(role) } => vec![name.clone(), role.as_str().to_owned()],
        S::AlterUser { name, .. } | S::DropUser { name, .. } | S::EraseUser { name } => vec![name.clone()],
        S::KillJob { job } => vec![job.clone()],
    }
}
