//! Backups of a namespace: BACKUP DATABASE and RESTORE DATABASE.
//!
//! # What a backup is
//!
//! A place ([`place`]: a directory of the machine, or a part of a storage) with files and descriptions:
//!
//! ```text
//! backups/<id>.json                                       a description, sealed with its own SHA-256, written last
//! files/<incarnation>/<namespace>/<table>/<scope>/batch-0001.parquet   batch files as they were published
//! hot/<id>/<incarnation>/<namespace>/<table>/<scope>/batch-0001.parquet   what was hot, as a flush would have written it
//! hot/<id>/<incarnation>/<namespace>/<table>/<scope>/rows.bin   the rows of a STREAM table's partition
//! ```
//!
//! Everything is the state at one commit time U: a backup reads at one read point, so writers, flushes and compactions go
//! on beside it. Of a partition it takes the batch files of the view at U, and writes the hot rows up to U into one more
//! batch. Batch files never change and no number comes twice, so a file that an earlier backup in the same place has is
//! not copied again. A backup without a description is none; what it left is used by the next one.
//!
//! # What a restore does
//!
//! It reads the newest description and **every file that it names, before anything changes**, and compares sums. Then it
//! records the lives of the tables to be as dropped ones: whatever happens from here on before the end, the next start
//! removes what was written. It writes each batch again, row for row, as a batch of the new table, publishes the manifests,
//! and in one last edit of the catalog the tables and views are there. Ids and commit times are those of the backup.
//!
//! | module | does |
//! |---|---|
//! | [`place`] | where backups lie |
//! | [`description`] | what a backup consists of, and its stored form |
//! | [`write`] | BACKUP |
//! | [`restore`] | RESTORE |
//! | [`stream`] | the rows of STREAM tables, which have no batch files |

pub(crate) mod description;
pub(crate) mod place;
pub(crate) mod restore;
pub(crate) mod stream;
pub(crate) mod write;

use kalamdb_commons::Result;

use crate::jobs::JobHandle;

/// Counts bytes that were handled, and ends the work if it is to end.
pub(crate) fn paced(job: &JobHandle) -> impl FnMut(u64) -> Result<()> + '_ {
    |bytes| {
        job.progress(0, bytes);
        job.check()
    }
}
