//! Whether a stored manifest, its files and their footers say the same: for CHECK TABLE. Nothing is changed.

use std::collections::BTreeMap;

use kalamdb_commons::ids::CommitTime;
use kalamdb_commons::manifest::{Batch, BatchStatus, MANIFEST_FILE, Manifest, batch_file_number};
use kalamdb_commons::{ErrorKind, Result};

use super::service::{ATTEMPTS_MAX, ManifestService, Recorded, Stored, changes_too_fast};
use super::validate::{self, Verdict};
use crate::batch::file::read_footer;
use crate::io::IoCounters;
use crate::partition::PartitionSpec;

/// Something that is not as it should be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The file in question, in the partition's directory.
    pub file: String,
    /// What is wrong.
    pub problem: String,
    /// Whether a manifest made from the footers would be right.
    pub is_rebuildable: bool,
}

impl Finding {
    fn of_manifest(problem: impl Into<String>) -> Self {
        Self { file: MANIFEST_FILE.to_owned(), problem: problem.into(), is_rebuildable: true }
    }
}

impl ManifestService {
    /// What is wrong with the stored manifest of a partition and with the files that it lists as active. Publications
    /// and removals may go on meanwhile.
    ///
    /// # Errors
    /// `Overloaded` if the manifest is replaced all the time. If storage fails, or the manifest is of a later format.
    pub async fn examine(&self, spec: &PartitionSpec, recorded: Option<Recorded>) -> Result<Vec<Finding>> {
        let storage = self.storages().get(&spec.storage)?;
        for _ in 0..ATTEMPTS_MAX {
            let stored = self.read(&storage, spec).await?;
            let findings = self.examine_stored(spec, &stored, recorded).await?;
            // Files go only after the manifest that names them as active was replaced: what was found of one that has
            // not been is so.
            if findings.is_empty() || stored.is_current(&storage, spec).await? {
                return Ok(findings);
            }
        }
        Err(changes_too_fast(spec))
    }

    async fn examine_stored(
        &self,
        spec: &PartitionSpec,
        stored: &Stored,
        recorded: Option<Recorded>,
    ) -> Result<Vec<Finding>> {
        let Some((bytes, _)) = &stored.manifest else {
            let is_needed = recorded.is_some_and(|recorded| recorded.flushed_through > CommitTime::ZERO)
                || stored.files.keys().any(|name| batch_file_number(name).is_some());
            return Ok(is_needed.then(|| Finding::of_manifest("it is missing")).into_iter().collect());
        };
        match validate::judge(spec, bytes, &stored.files, recorded)? {
            Verdict::Sound(manifest) => self.examine_files(spec, &manifest, &stored.files).await,
            Verdict::OtherIncarnation(_) => {
                let is_lost = recorded.is_some_and(|recorded| recorded.flushed_through > CommitTime::ZERO);
                let lost = is_lost.then(|| Finding::of_manifest("it is of another incarnation"));
                Ok(lost.into_iter().collect())
            }
            Verdict::Damaged(_, why) => Ok(vec![Finding::of_manifest(why)]),
        }
    }

    async fn examine_files(
        &self,
        spec: &PartitionSpec,
        manifest: &Manifest,
        files: &BTreeMap<String, u64>,
    ) -> Result<Vec<Finding>> {
        let storage = self.storages().get(&spec.storage)?;
        let (path, counters) = (spec.path(), IoCounters::default());
        let mut findings = Vec::new();
        for batch in manifest.active() {
            let bytes = files.get(&batch.path).copied().unwrap_or(batch.byte_size);
            let problem = match read_footer(&storage, path.as_str(), &batch.path, bytes, &counters).await {
                Ok(footer) if footer.about.scope != spec.scope || footer.about.table_id != spec.table_id => {
                    Some(("its footer is another partition's".to_owned(), false))
                }
                Ok(footer) if !says_the_same(batch, &footer.about.entry) => {
                    Some(("the manifest says other things of it than its footer".to_owned(), true))
                }
                Ok(_) => None,
                Err(error) if error.kind() == ErrorKind::Corrupt => Some((error.message().to_owned(), false)),
                Err(error) => return Err(error),
            };
            findings.extend(problem.map(|(problem, is_rebuildable)| Finding {
                file: batch.path.clone(),
                problem,
                is_rebuildable,
            }));
        }
        Ok(findings)
    }
}

/// Whether two entries agree in all but the status, which the file does not know.
fn says_the_same(listed: &Batch, footer: &Batch) -> bool {
    Batch { status: BatchStatus::Active, ..listed.clone() } == Batch { status: BatchStatus::Active, ..footer.clone() }
}
