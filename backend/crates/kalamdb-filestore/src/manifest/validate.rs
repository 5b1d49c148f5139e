//! Whether a manifest that was read may be believed.
//!
//! What is read is one of four: missing, of this incarnation and sound, of another incarnation, or damaged. Stale is
//! a kind of damage: what the hot tier recorded when it removed rows proves that a later manifest was published.

use std::collections::{BTreeMap, BTreeSet};

use kalamdb_commons::manifest::{FORMAT_VERSION, Manifest, batch_file_name};
use kalamdb_commons::{Error, Result};
use serde::Deserialize;

use super::service::Recorded;
use crate::partition::PartitionSpec;

/// What a stored manifest is worth.
#[derive(Debug)]
pub(crate) enum Verdict {
    /// To be used as it is.
    Sound(Manifest),
    /// Of another life of the table's contents: only its numbering goes on.
    OtherIncarnation(Manifest),
    /// Not to be used. What could be read of it, for the numbering, and what is wrong.
    Damaged(Option<Box<Manifest>>, String),
}

#[derive(Deserialize)]
struct Format {
    format_version: u32,
}

/// Judges the bytes of a manifest, given the files of its directory with their sizes.
///
/// # Errors
/// If the manifest is of a later format: then nothing about it may be guessed.
pub(crate) fn judge(
    spec: &PartitionSpec,
    bytes: &[u8],
    files: &BTreeMap<String, u64>,
    recorded: Option<Recorded>,
) -> Result<Verdict> {
    let format: Format = match serde_json::from_slice(bytes) {
        Ok(format) => format,
        Err(error) => return Ok(Verdict::Damaged(None, format!("it is not a manifest ({error})"))),
    };
    if format.format_version > FORMAT_VERSION {
        return Err(Error::corrupt(format!(
            "the manifest of {spec} has format version {}; this build reads up to {FORMAT_VERSION}",
            format.format_version
        )));
    }
    let manifest: Manifest = match serde_json::from_slice(bytes) {
        Ok(manifest) => manifest,
        Err(error) => return Ok(Verdict::Damaged(None, format!("it cannot be read ({error})"))),
    };
    if !is_of(spec, &manifest) {
        return Ok(Verdict::Damaged(None, "it is another partition's".to_owned()));
    }
    if manifest.incarnation != spec.incarnation {
        return Ok(Verdict::OtherIncarnation(manifest));
    }
    match problem(spec, &manifest, files, recorded) {
        None => Ok(Verdict::Sound(manifest)),
        Some(problem) => Ok(Verdict::Damaged(Some(Box::new(manifest)), problem)),
    }
}

/// Whether a manifest is the partition's, of whatever incarnation.
pub(crate) fn is_of(spec: &PartitionSpec, manifest: &Manifest) -> bool {
    manifest.scope == spec.scope && manifest.table == spec.table
}

/// What is wrong with a manifest of the right partition and incarnation.
pub(crate) fn problem(
    spec: &PartitionSpec,
    manifest: &Manifest,
    files: &BTreeMap<String, u64>,
    recorded: Option<Recorded>,
) -> Option<String> {
    if manifest.table_id != spec.table_id {
        return Some("it names another table".to_owned());
    }
    if let Some(recorded) = recorded.filter(|recorded| !recorded.is_reached_by(manifest)) {
        return Some(format!(
            "it is stale: version {} through {}, while version {} through {} was published",
            manifest.version, manifest.flushed_through, recorded.version, recorded.flushed_through
        ));
    }
    if !manifest.intervals_are_sound() {
        return Some("its batches do not cover what it says is flushed".to_owned());
    }
    let mut numbers = BTreeSet::new();
    for batch in &manifest.batches {
        if batch.path != batch_file_name(batch.number) || !numbers.insert(batch.number) {
            return Some(format!("it names batch {} '{}'", batch.number, batch.path));
        }
        if batch.number > manifest.max_batch || batch.incarnation != manifest.incarnation {
            return Some(format!("batch {} is not one that it can have", batch.number));
        }
    }
    manifest.active().find_map(|batch| match files.get(&batch.path) {
        None => Some(format!("'{}' is missing", batch.path)),
        Some(size) if *size != batch.byte_size => {
            Some(format!("'{}' has {size} bytes instead of {}", batch.path, batch.byte_size))
        }
        Some(_) => None,
    })
}
