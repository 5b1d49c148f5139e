//! System tables, SHOW and DESCRIBE: what the server says of itself, as far as the actor may hear it.

use std::sync::Arc;

use arrow::array::RecordBatch;
use kalamdb_commons::ids::{CommitTime, Scope, TableRef};
use kalamdb_commons::schema::Table;
use kalamdb_commons::{Error, Result};
use kalamdb_filestore::{CachedManifest, Found};
use kalamdb_sql::{Show, TableName};

use super::Engine;
use crate::access::{Access, sees_everything};
use crate::partition::Partition;
use crate::partition::view::recorded;
use crate::query::StatementScope;
use crate::system::show::{describe, needs, show};
use crate::system::{self, Needs, StorageInfo, SystemView};

impl Engine {
    /// The rows of a system table.
    pub(crate) async fn system_rows(&self, scope: &StatementScope, namespace: &str, name: &str) -> Result<RecordBatch> {
        let absent = || scope.not_found(&format!("{namespace}.{name}"));
        let resolved = TableRef::new(namespace, name).map_err(|_| absent())?;
        let table =
            system::table(&resolved).filter(|table| table.readable_by(scope.subject().role)).ok_or_else(absent)?;
        let view = self.view(scope, table.needs, None).await?;
        table.rows(&view)
    }

    /// The answer to a SHOW.
    pub(crate) async fn show(&self, scope: &StatementScope, statement: &Show) -> Result<RecordBatch> {
        let only = match statement {
            Show::Manifest { table: Some(table) } | Show::StatsForTable { table } => {
                Some(table.resolve(scope.namespace.as_str())?)
            }
            _ => None,
        };
        let mut view = self.view(scope, needs(statement), only.as_ref()).await?;
        if let Show::StatsForTable { table } = statement {
            view.table_stats = self.table_stats(scope, table)?;
        }
        show(&view, statement, Some(&scope.namespace))
    }

    /// The answer to DESCRIBE.
    pub(crate) fn describe(&self, scope: &StatementScope, table: &TableName) -> Result<RecordBatch> {
        let view = SystemView::new(scope.catalog().clone(), scope.subject().clone(), self.settings().clone());
        describe(&view, &table.resolve(scope.namespace.as_str())?)
    }

    async fn view(&self, scope: &StatementScope, needs: Needs, only: Option<&TableRef>) -> Result<SystemView> {
        let mut view = SystemView::new(scope.catalog().clone(), scope.subject().clone(), self.settings().clone());
        view.setting_sources = self.setting_sources.lock().clone();
        match needs {
            Needs::Nothing => {}
            Needs::Jobs => view.jobs = self.jobs().records(),
            Needs::Storages => view.storages = self.storage_infos(),
            Needs::Stats => view.stats = self.stats().await,
            Needs::Live => view.live = self.live_infos(scope),
            Needs::Manifests => view.manifests = self.manifests(scope, only).await?,
            Needs::ManifestCache => view.manifest_cache = self.manifest_cache(scope).await?,
            Needs::Usage => {
                let subject = scope.subject();
                view.usage = self.usage_infos((!sees_everything(subject.role)).then_some(&subject.user)).await?;
            }
        }
        Ok(view)
    }

    fn storage_infos(&self) -> Vec<StorageInfo> {
        let (storages, catalog) = (self.cold().manifests().storages().list(), self.catalog());
        let described = storages.into_iter().map(|(id, about)| StorageInfo {
            name: catalog.storage(&id).map_or_else(|| id.to_string(), |storage| storage.name.clone()),
            id,
            storage_type: about.kind.to_owned(),
            base_directory: about.base,
        });
        described.collect()
    }

    /// The manifests of the partitions that the actor may see, of one table or of all.
    async fn manifests(
        &self,
        scope: &StatementScope,
        only: Option<&TableRef>,
    ) -> Result<Vec<(TableRef, Scope, String)>> {
        let mut manifests = Vec::new();
        for table in scope.catalog().tables() {
            if !table.kind.has_history() || only.is_some_and(|only| *only != table.name) {
                continue;
            }
            for partition in self.shown_partitions(scope, table) {
                // Not through its view: a look at all partitions would open all of them.
                let record = partition.record();
                if record.reserved_batch == 0 {
                    continue;
                }
                let found = self.cold().manifests().look_up(partition.spec(), recorded(&record)).await?;
                let loaded = match found {
                    Found::Ready(loaded, _) => Some(loaded),
                    // Through the view after all, so that the footers are read once.
                    Found::Lost(_) => partition.view_at(CommitTime::MAX, self.cold()).await?.loaded().cloned(),
                };
                let Some(loaded) = loaded else { continue };
                let json = serde_json::to_string(&*loaded.manifest)
                    .map_err(|error| Error::internal("a manifest").with_source(error))?;
                manifests.push((table.name.clone(), partition.id().scope.clone(), json));
            }
        }
        manifests.sort_by(|a, b| (&a.0, &a.1).cmp(&(&b.0, &b.1)));
        Ok(manifests)
    }

    /// The partitions of a table whose cold tier the actor may look into: all for a `dba`, one's own for others.
    fn shown_partitions(&self, scope: &StatementScope, table: &Table) -> Vec<Arc<Partition>> {
        if sees_everything(scope.subject().role) {
            return self.partitions().of(table.incarnation);
        }
        let own = own_scope(scope, table);
        own.and_then(|own| self.partitions().find(table.incarnation, &own)).into_iter().collect()
    }

    /// The entries of the manifest cache that the actor may see.
    async fn manifest_cache(&self, scope: &StatementScope) -> Result<Vec<CachedManifest>> {
        let manifests = self.cold().manifests();
        if sees_everything(scope.subject().role) {
            return manifests.cached().await;
        }
        let mut entries = Vec::new();
        for table in scope.catalog().tables().filter(|table| table.kind.has_history()) {
            if let Some(own) = own_scope(scope, table) {
                entries.extend(manifests.cached_of(&table.name, &own).await?);
            }
        }
        Ok(entries)
    }

    /// What the hot tier holds of a table, in the partitions that the actor may see.
    fn table_stats(&self, scope: &StatementScope, name: &TableName) -> Result<Vec<(String, String)>> {
        let table = scope.table(name, Access::Read)?;
        let all = sees_everything(scope.subject().role);
        let own = scope.scope_in(&table);
        let partitions = self.partitions().of(table.incarnation);
        let (mut count, mut rows, mut bytes, mut garbage, mut kills) = (0, 0, 0, 0, 0);
        for partition in partitions.iter().filter(|partition| all || partition.id().scope == own) {
            let hot = partition.hot();
            count += 1;
            rows += hot.rows;
            bytes += hot.bytes;
            garbage += hot.garbage;
            kills += partition.overlay_len() as u64;
        }
        Ok(named([
            ("partitions", count),
            ("hot_rows", rows),
            ("hot_row_bytes", bytes),
            ("hot_rows_awaiting_removal", garbage),
            ("hot_versions_that_replace", kills),
        ]))
    }
}

/// The actor's own partition, if a table has one for each user.
fn own_scope(scope: &StatementScope, table: &Table) -> Option<Scope> {
    Some(scope.scope_in(table)).filter(|own| own.user().is_some())
}

fn named<const N: usize>(pairs: [(&str, u64); N]) -> Vec<(String, String)> {
    pairs.into_iter().map(|(name, value)| (name.to_owned(), value.to_string())).collect()
}
