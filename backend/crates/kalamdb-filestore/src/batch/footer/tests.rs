use kalamdb_commons::ids::RowId;
use parquet::file::metadata::FileMetaData;
use proptest::prelude::*;
use std::sync::Arc;

use super::*;
use crate::batch::{BatchFile, BatchMeta};
use crate::io::IoCounters;
use crate::testing::*;

/// A file's metadata and footer, and its size.
async fn written() -> (Arc<ParquetMetaData>, BatchFooter, u64) {
    let (world, spec, columns) = (World::new(), spec("memory", 1), all_columns());
    let keys = vec![vec![columns[6].id], vec![columns[6].id, columns[1].id]];
    let meta = BatchMeta { unique_keys: keys, ..meta(&columns, 10, 900) };
    let rows = rows(&columns, 1, &some_rows(1, 250, 10, 900));
    let entry = write(&world.storage("memory"), &spec, 4, meta, &rows).await;
    let file = BatchFile::open(&world.storage("memory"), spec.path().as_str(), &entry);
    let counters = IoCounters::default();
    let footer = file.footer(&counters).await.unwrap();
    (file.metadata(&counters).await.unwrap(), BatchFooter::clone(&footer), entry.byte_size)
}

/// The same file with other key-value metadata.
fn with_pairs(metadata: &ParquetMetaData, pairs: Option<Vec<KeyValue>>) -> ParquetMetaData {
    let file = metadata.file_metadata();
    let file = FileMetaData::new(file.version(), file.num_rows(), None, pairs, file.schema_descr_ptr(), None);
    ParquetMetaData::new(file, metadata.row_groups().to_vec())
}

#[tokio::test]
async fn a_footer_is_read_as_it_was_written() {
    let (metadata, footer, bytes) = written().await;
    let again = BatchFooter::parse(&with_pairs(&metadata, Some(footer.encode())), bytes).unwrap();
    assert_eq!(again, footer);
    assert_eq!(footer.about.keys.len(), 2);
    assert!(footer.about.keys[0].filter.is_none() && footer.about.keys[1].filter.is_some());
    let columns = all_columns();
    assert_eq!(footer.key_section(&[columns[6].id, columns[1].id]), Some(1));
    assert_eq!(footer.key_section(&[columns[1].id, columns[6].id]), None, "the order of columns is part of a key");
    assert_eq!(footer.column(columns[2].id), Some(&columns[2]));
    assert_eq!(footer.column(ColumnId(9999)), None);
}

#[tokio::test]
async fn a_footer_that_contradicts_the_file_is_not_believed() {
    type Change = fn(&mut BatchFooter);
    let changes: [(&str, Change); 18] = [
        ("name", |footer| footer.about.entry.path = "batch-0005.parquet".into()),
        ("number", |footer| footer.about.entry.number = 5),
        ("backwards", |footer| footer.about.entry.through = CommitTime(10)),
        ("before time", |footer| footer.about.entry.from = CommitTime(-1)),
        ("group of none", |footer| footer.about.group = Group { position: 0, size: 0 }),
        ("beyond the group", |footer| footer.about.group = Group { position: 3, size: 2 }),
        ("before the numbers", |footer| footer.about.group = Group { position: 9, size: 9 }),
        ("row count", |footer| footer.about.entry.row_count += 1),
        ("no range of ids", |footer| footer.about.entry.min_id = None::<RowId>),
        ("tombstone count", |footer| footer.about.entry.tombstone_count += 1),
        ("tombstone beyond the end", |footer| {
            let last = footer.tombstones.max().unwrap();
            footer.tombstones.remove(last);
            footer.tombstones.insert(250);
        }),
        ("superseding", |footer| {
            footer.superseding.insert(u32::MAX);
        }),
        ("a column fewer", |footer| drop(footer.about.columns.pop())),
        ("another column", |footer| footer.about.columns[3].id = ColumnId(9999)),
        ("another name", |footer| footer.about.columns[3].name = "x".into()),
        ("a key of no column", |footer| footer.about.keys[0].columns = vec![ColumnId(9999)]),
        ("an index beyond the end", |footer| footer.about.keys[0].entries_at = u64::MAX - 3),
        ("more keys than rows", |footer| footer.about.keys[1].entries = u64::MAX),
    ];
    let (metadata, footer, bytes) = written().await;
    for (what, change) in changes {
        let mut changed = footer.clone();
        change(&mut changed);
        let read = BatchFooter::parse(&with_pairs(&metadata, Some(changed.encode())), bytes);
        assert!(matches!(read, Err(FooterError::Contradiction(_))), "{what}: {read:?}");
    }
}

#[tokio::test]
async fn other_files_and_later_formats_are_named() {
    let (metadata, footer, bytes) = written().await;
    let parse = |pairs| BatchFooter::parse(&with_pairs(&metadata, pairs), bytes);
    assert!(matches!(parse(None), Err(FooterError::Missing(FORMAT_KEY))));
    let later = footer.encode().into_iter().map(|mut pair| {
        if pair.key == FORMAT_KEY {
            pair.value = Some("2".into());
        }
        pair
    });
    assert!(matches!(parse(Some(later.collect())), Err(FooterError::Newer(2))));
    for missing in [BATCH_KEY, TOMBSTONES_KEY, SUPERSEDING_KEY] {
        let pairs = footer.encode().into_iter().filter(|pair| pair.key != missing).collect();
        assert!(matches!(parse(Some(pairs)), Err(FooterError::Missing(key)) if key == missing));
    }
}

proptest! {
    #[test]
    fn no_text_makes_a_footer_panic(which in 0usize..4, text in ".{0,80}", cut in any::<prop::sample::Index>()) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let (metadata, footer, bytes) = runtime.block_on(written());
        for replaces in [true, false] {
            let mut pairs = footer.encode();
            let value = pairs[which].value.clone().unwrap();
            let at = value.floor_char_boundary(cut.index(value.len() + 1));
            pairs[which].value = Some(if replaces { text.clone() } else { value[..at].to_owned() });
            BatchFooter::parse(&with_pairs(&metadata, Some(pairs)), bytes).ok();
        }
    }
}
