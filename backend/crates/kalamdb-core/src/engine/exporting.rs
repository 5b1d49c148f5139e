//! EXPORT USER DATA: what a user has, in files that anybody can read.
//!
//! A directory named after the user gets `<namespace>/<table>.ndjson` for each of the user's partitions that has rows, as
//! `SELECT *` shows them to the user, `account.json` without secrets, and last `export.json`, which lists the files with
//! their rows and SHA-256. All of it is the state at one commit time.

use std::sync::Arc;

use arrow::array::RecordBatch;
use arrow::json::LineDelimitedWriter;
use futures::StreamExt;
use kalamdb_commons::digest::Checksum;
use kalamdb_commons::ids::{UserId, escape_component};
use kalamdb_commons::schema::{Actor, Role, Table, TableKind};
use kalamdb_commons::settings::LimitSettings;
use kalamdb_commons::{Error, Result};
use kalamdb_filestore::storage::FileSum;
use kalamdb_sql::{ExportUser, Statement};
use serde_json::{Value, json};

use super::Engine;
use crate::backup::place::Place;
use crate::query::scope::Caller;
use crate::query::{self, StatementScope, arrow_error};
use crate::system::receipt;

impl Engine {
    /// Carries out EXPORT USER DATA, and says what was written.
    pub(crate) async fn export_user(&self, scope: &StatementScope, export: &ExportUser) -> Result<RecordBatch> {
        let user = UserId::new(&export.name)?;
        let account = scope.catalog().user(&user).cloned();
        let account = account.ok_or_else(|| Error::not_found(format!("user '{user}' does not exist")))?;
        let place = Place::open(self, &export.to, true)?;
        let directory = escape_component(user.as_str());
        if place.storage.exists(&place.at(&format!("{directory}/export.json"))).await? {
            return Err(Error::already_exists(format!("there is an export of user '{user}' in that place already")));
        }
        // The user's own view of the rows, whatever the user may do now.
        let subject = Actor { user: user.clone(), role: Role::User };
        let scope = StatementScope { caller: Caller::own(&subject), ..scope.clone() };
        let (mut files, mut told) = (Vec::new(), Vec::new());
        let catalog = scope.catalog().clone();
        for table in catalog.tables().filter(|table| table.kind != TableKind::Shared) {
            let name = &table.name;
            let (namespace, short) = (escape_component(name.namespace.as_str()), escape_component(name.table.as_str()));
            let path = format!("{directory}/{namespace}/{short}.ndjson");
            if let Some((rows, sum)) = self.export_table(&scope, table, &place, &path).await? {
                files.push(json!({ "table": name.to_string(), "path": path, "rows": rows, "sha256": sum.sha256 }));
                told.push((name.to_string(), "rows", rows));
            }
        }
        let about = json!({
            "user_id": user, "role": account.role.as_str(), "email": account.email,
            "created_at_ms": account.created_at_ms, "updated_at_ms": account.updated_at_ms,
            "deleted_at_ms": account.deleted_at_ms,
        });
        write_json(&place, &format!("{directory}/account.json"), &about).await?;
        let export = json!({ "user_id": user, "commit_time": scope.point.through(), "files": files });
        // IMPORTANT: last: an export without it did not come to its end.
        write_json(&place, &format!("{directory}/export.json"), &export).await?;
        receipt(told)
    }

    /// Writes the rows of one table; `None` if there are none.
    async fn export_table(
        &self,
        scope: &StatementScope,
        table: &Arc<Table>,
        place: &Place,
        path: &str,
    ) -> Result<Option<(u64, FileSum)>> {
        let quoted = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
        let name = format!("{}.{}", quoted(table.name.namespace.as_str()), quoted(table.name.table.as_str()));
        let sql = format!("SELECT * FROM {name} ORDER BY 1");
        let parsed = kalamdb_sql::parse(&sql, &LimitSettings::default())?.pop().map(|parsed| parsed.statement);
        let Some(Statement::Query(query)) = parsed else { return Err(Error::internal("a query of a table")) };
        let plan = self.planner().plan(scope, *query).await?;
        let mut batches = query::stream::run(scope, &plan).await?;
        let (mut upload, mut sum, mut rows, mut bytes) = (None, Checksum::default(), 0, 0);
        while let Some(batch) = batches.next().await {
            let batch = batch?;
            if batch.num_rows() == 0 {
                continue;
            }
            let mut lines = LineDelimitedWriter::new(Vec::new());
            lines.write(&batch).and_then(|()| lines.finish()).map_err(arrow_error)?;
            let lines = lines.into_inner();
            sum.add(&lines);
            rows += batch.num_rows() as u64;
            bytes += lines.len() as u64;
            if upload.is_none() {
                upload = Some(place.storage.create_exclusive(&place.at(path)).await?);
            }
            if let Some(upload) = &mut upload {
                upload.write(lines.into()).await?;
            }
        }
        let Some(upload) = upload else { return Ok(None) };
        upload.finish().await?;
        Ok(Some((rows, FileSum { sha256: sum.finish(), bytes })))
    }
}

async fn write_json(place: &Place, path: &str, value: &Value) -> Result<()> {
    place.storage.write_new(&place.at(path), format!("{value:#}\n").into()).await
}
