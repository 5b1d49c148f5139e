//! Deleting the files that compactions replaced.
//!
//! A manifest lists them as archived. A file goes when nobody holds it, the oldest interval first; then the manifest
//! forgets it. What is held, or what a crash left, is tried again by the periodic check while the partition is in use.

use std::sync::Arc;

use kalamdb_commons::Result;
use kalamdb_commons::manifest::BatchStatus;
use kalamdb_filestore::{Edit, PublishError};
use kalamdb_store::keys;

use crate::engine::Engine;
use crate::partition::Partition;
use crate::partition::view::ColdView;

/// Whether the newest manifest lists files to be deleted.
pub(crate) fn is_pending(view: &ColdView) -> bool {
    let listed = view.loaded().map_or(&[][..], |loaded| &loaded.manifest.batches);
    listed.iter().any(|batch| batch.status == BatchStatus::Archived)
}

/// Deletes what can be deleted. Returns how many files went. The caller holds the partition's maintenance.
pub(crate) async fn remove(engine: &Arc<Engine>, partition: &Arc<Partition>) -> Result<usize> {
    // Held, so that the end of the contents is not published in between.
    let point = engine.committer().readers().enter();
    partition.forget_old_views(engine.committer().readers().oldest());
    let exists = point.catalog().table_by_incarnation(partition.id().incarnation).is_some();
    let Some(view) = partition.newest_view().filter(|view| exists && is_pending(view)) else { return Ok(0) };
    let Some(loaded) = view.loaded() else { return Ok(0) };
    let mut record = partition.record();
    if record.manifest_version < loaded.manifest.version {
        record.manifest_version = loaded.manifest.version;
        let put = (keys::partition_record(partition.keys()), record.encode());
        // IMPORTANT: before any file goes: from now on a manifest that lists it as active is stale.
        engine.committer().records(vec![put], Vec::new()).await?;
        partition.recorded(record);
    }
    fail::fail_point!("compaction::before_removal");
    let manifests = engine.cold().manifests();
    let gone = manifests.remove_archived(partition.spec(), loaded).await?;
    fail::fail_point!("compaction::after_removal");
    if gone.is_empty() {
        return Ok(0);
    }
    let files = gone.len();
    let edit = Edit { forget: gone, ..Edit::default() };
    match manifests.publish(partition.spec(), loaded, edit).await {
        Ok(published) => {
            let next = engine.cold().relisted(&view, published).await;
            partition.replace_view(next, engine.committer().readers().oldest());
        }
        // Whoever published meanwhile lists them still, and they are forgotten the next time.
        Err(PublishError::Conflict) => {}
        Err(PublishError::Failed(error)) => return Err(error),
    }
    Ok(files)
}
