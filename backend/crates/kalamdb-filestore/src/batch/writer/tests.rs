use kalamdb_commons::ErrorKind;
use kalamdb_commons::ids::Incarnation;

use super::*;
use crate::io::IoCounters;
use crate::testing::*;

#[tokio::test]
async fn the_entry_counts_what_was_written() {
    let world = World::new();
    let (storage, spec, columns) = (world.storage("local"), spec("local", 3), all_columns());
    let made = some_rows(1, 357, 1000, 5000);
    let entry = write(&storage, &spec, 12, meta(&columns, 1000, 5000), &rows(&columns, 1, &made)).await;
    let path = spec.path().file("batch-0012.parquet");
    assert_eq!(Some(entry.byte_size), storage.size(&path).await.unwrap());
    assert_eq!((entry.number, entry.path.as_str(), entry.status), (12, "batch-0012.parquet", BatchStatus::Active));
    assert_eq!((entry.from, entry.through), (CommitTime(1000), CommitTime(5000)));
    assert_eq!((entry.row_count, entry.incarnation), (357, Incarnation(3)));
    assert_eq!(entry.tombstone_count, made.iter().filter(|row| row.deleted).count() as u64);
    assert_eq!(entry.superseding_count, made.iter().filter(|row| row.born <= 1000).count() as u64);
    assert_eq!(entry.min_id, made.first().map(|row| RowId(row.id)));
    assert_eq!(entry.max_id, made.last().map(|row| RowId(row.id)));
    assert_eq!(entry.min_updated, made.iter().map(|row| CommitTime(row.updated)).min());
    assert_eq!(entry.max_updated, made.iter().map(|row| CommitTime(row.updated)).max());
    let comparable = columns.iter().filter(|column| column.column_type.is_comparable()).map(|column| column.id);
    assert_eq!(entry.columns.keys().copied().collect::<Vec<_>>(), {
        let mut ids: Vec<_> = comparable.collect();
        ids.sort();
        ids
    });
    let file = crate::BatchFile::open(&storage, spec.path().as_str(), &entry);
    let footer = file.footer(&IoCounters::default()).await.unwrap();
    assert_eq!(footer.about.entry, entry);
    let places = |wanted: fn(&Row) -> bool| -> RoaringBitmap {
        made.iter().enumerate().filter(|(_, row)| wanted(row)).map(|(at, _)| at as u32).collect()
    };
    assert_eq!(footer.tombstones, places(|row| row.deleted));
    assert_eq!(footer.superseding, places(|row| row.born <= 1000));
}

#[tokio::test]
async fn wrong_rows_are_refused_and_leave_no_file() {
    let world = World::new();
    let (storage, spec, columns) = (world.storage("local"), spec("local", 1), small_columns());
    let row = |id, updated| Row { id, updated, deleted: false, born: updated };
    let wrong = [
        vec![row(1, 20), row(1, 30)],
        vec![row(2, 20), row(1, 30)],
        vec![row(1, 10)],
        vec![row(1, 41)],
        vec![row(1, 20), row(2, 5)],
    ];
    for made in wrong {
        let mut writer = BatchWriter::create(&storage, &spec, 1, meta(&columns, 10, 40)).await.unwrap();
        let error = writer.write(&rows(&columns, 1, &made)).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Internal, "{made:?}");
        assert!(writer.write(&rows(&columns, 1, &[row(9, 20)])).await.is_err(), "a failed writer goes on");
        assert!(writer.finish().await.is_err());
    }
    let mut writer = BatchWriter::create(&storage, &spec, 1, meta(&columns, 10, 40)).await.unwrap();
    writer.write(&rows(&columns, 1, &[row(5, 20)])).await.unwrap();
    assert!(writer.write(&rows(&columns, 1, &[row(5, 20)])).await.is_err(), "order holds between pieces");
    drop(writer);
    let mut writer = BatchWriter::create(&storage, &spec, 1, meta(&columns, 10, 40)).await.unwrap();
    let other = all_columns();
    assert!(writer.write(&rows(&other, 1, &[row(5, 20)])).await.is_err(), "other columns");
    writer.abort().await;
    assert!(storage.list(spec.path().as_str()).await.unwrap().is_empty());
}

#[tokio::test]
async fn impossible_files_are_not_begun() {
    let world = World::new();
    let (storage, spec, columns) = (world.storage("local"), spec("local", 1), small_columns());
    let (backwards, empty) = (meta(&columns, 40, 10), meta(&columns, 10, 10));
    let beyond = BatchMeta { group: Group { position: 3, size: 2 }, ..meta(&columns, 0, 10) };
    let before = BatchMeta { group: Group { position: 3, size: 3 }, ..meta(&columns, 0, 10) };
    let unknown = BatchMeta { unique_keys: vec![vec![ColumnId(99)]], ..meta(&columns, 0, 10) };
    for meta in [backwards, empty, beyond, before, unknown] {
        assert!(BatchWriter::create(&storage, &spec, 1, meta).await.is_err());
    }
    write_small(&storage, &spec, 1, 0, 10, Group::ALONE).await;
    let again = BatchWriter::create(&storage, &spec, 1, meta(&columns, 0, 10)).await.unwrap_err();
    assert_eq!(again.kind(), ErrorKind::AlreadyExists);
}

#[tokio::test]
async fn what_is_in_memory_does_not_grow_with_the_file() {
    let world = World::new();
    let (storage, spec) = (world.storage("local"), spec("local", 1));
    let columns = small_columns();
    let mut writer = BatchWriter::create(&storage, &spec, 1, meta(&columns, 0, 10)).await.unwrap();
    for piece in 0..50 {
        let made: Vec<_> = (0..100).map(|n| Row { id: piece * 100 + n, updated: 5, deleted: false, born: 5 }).collect();
        writer.write(&rows(&columns, 1, &made)).await.unwrap();
        // Each piece fills a row group, which has then gone to the storage.
        assert!(writer.sink.0.lock().is_empty());
        let encoder = writer.encoder.as_ref().unwrap().writer.as_ref().unwrap();
        assert_eq!(encoder.in_progress_rows(), 0);
        assert!(encoder.bytes_written() as u64 - writer.bytes_written <= 8 << 10, "a small buffer stays");
    }
    assert_eq!(writer.finish().await.unwrap().row_count, 5000);
}
