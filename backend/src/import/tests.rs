use std::sync::Mutex;

use arrow::array::AsArray;
use arrow::datatypes::Int64Type;
use kalamdb_commons::ErrorKind;

use super::*;

/// The columns that the decoders' tests import into.
pub(super) fn target(chunk_rows: usize) -> Target {
    let schema = Schema::new(vec![
        ColumnType::BigInt.field("id", true),
        ColumnType::Text.field("name", true),
        ColumnType::Double.field("size", true),
        ColumnType::Timestamp.field("at", true),
        ColumnType::Json.field("extra", true),
        ColumnType::Uuid.field("uuid", true),
    ]);
    Target::new(Arc::new(schema), &LimitSettings { chunk_rows, ..LimitSettings::default() })
}

/// Feeds a decoder the body in pieces, and gives what came out and how it ended.
pub(super) fn decoded(decoder: impl Decode, body: &[u8], piece_bytes: usize) -> (Vec<RecordBatch>, Result<()>) {
    let mut decoder = decoder;
    let mut out = Vec::new();
    for piece in body.chunks(piece_bytes) {
        if let Err(error) = decoder.feed(Bytes::copy_from_slice(piece), &mut out) {
            return (out, Err(error));
        }
    }
    let outcome = decoder.finish(&mut out);
    (out, outcome)
}

/// Batches as lines, to compare them whatever their sizes.
pub(super) fn shown(batches: &[RecordBatch]) -> Vec<String> {
    let mut lines = Vec::new();
    for batch in batches {
        let writer = crate::encode::RowWriter::new(&batch.schema(), batch).unwrap();
        for row in 0..writer.rows() {
            let mut line = Vec::new();
            writer.write(row, &mut line);
            lines.push(String::from_utf8(line).unwrap());
        }
    }
    lines
}

/// A table that remembers what it was given, and refuses from the n-th chunk on.
#[derive(Default)]
struct Table {
    chunks: Mutex<Vec<RecordBatch>>,
    refuse_from: Option<usize>,
}

impl Rows for Table {
    async fn write(&mut self, chunk: RecordBatch) -> Result<u64> {
        tokio::task::yield_now().await;
        let mut chunks = self.chunks.lock().unwrap();
        if self.refuse_from.is_some_and(|n| chunks.len() >= n) {
            return Err(Error::execution("CHECK violated"));
        }
        let rows = chunk.num_rows() as u64;
        chunks.push(chunk);
        Ok(rows)
    }
}

/// Imports pieces, the last of which may be missing.
async fn imported(table: &mut Table, format: Format, pieces: Vec<Piece>) -> Imported {
    let (sender, receiver) = mpsc::channel(1);
    let feeding = tokio::spawn(async move {
        for piece in pieces {
            if sender.send(piece).await.is_err() {
                return;
            }
        }
    });
    let spool = tempfile::tempdir().unwrap();
    let outcome = run(table, target(10), format, receiver, &spool.path().join("tmp")).await;
    feeding.await.unwrap();
    outcome
}

fn csv_rows(count: i64) -> String {
    let rows: String = (0..count).map(|n| format!("{n},x\n")).collect();
    format!("id,name\n{rows}")
}

fn in_pieces(body: &str) -> Vec<Piece> {
    let mut pieces: Vec<Piece> =
        body.as_bytes().chunks(7).map(|piece| Piece::Data(Bytes::copy_from_slice(piece))).collect();
    pieces.push(Piece::End);
    pieces
}

#[tokio::test]
async fn chunks_are_committed_in_order() {
    let mut table = Table::default();
    let outcome = imported(&mut table, Format::Csv, in_pieces(&csv_rows(35))).await;
    assert!(outcome.failure.is_none());
    assert_eq!(outcome.rows, 35);
    let chunks = table.chunks.into_inner().unwrap();
    assert_eq!(chunks.iter().map(RecordBatch::num_rows).collect::<Vec<_>>(), [10, 10, 10, 5]);
    let ids: Vec<i64> =
        chunks.iter().flat_map(|chunk| chunk.column(0).as_primitive::<Int64Type>().values().to_vec()).collect();
    assert_eq!(ids, (0..35).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_bad_row_leaves_the_chunks_before_it() {
    let body = csv_rows(25).replace("\n23,", "\nbad,");
    let mut table = Table::default();
    let outcome = imported(&mut table, Format::Csv, in_pieces(&body)).await;
    assert_eq!(outcome.rows, 20);
    assert_eq!(outcome.rows_in(), "rows 1 to 20 were imported");
    let failure = outcome.failure.unwrap();
    assert_eq!(failure.message(), "row 24, column 'id': 'bad' does not convert to BIGINT");
    assert_eq!(failure.kind(), ErrorKind::Execution);
}

#[tokio::test]
async fn a_refused_chunk_ends_the_import() {
    let mut table = Table { refuse_from: Some(1), ..Table::default() };
    let outcome = imported(&mut table, Format::Csv, in_pieces(&csv_rows(1_000))).await;
    assert_eq!((outcome.rows, outcome.failure.unwrap().message()), (10, "CHECK violated"));
}

#[tokio::test]
async fn a_body_that_breaks_off_does_not_commit_what_it_had_begun() {
    let mut pieces = in_pieces(&csv_rows(15));
    pieces.pop();
    let mut table = Table::default();
    let outcome = imported(&mut table, Format::Csv, pieces).await;
    assert_eq!((outcome.rows, outcome.failure.unwrap().kind()), (10, ErrorKind::Cancelled));

    let mut pieces = in_pieces(&csv_rows(5));
    *pieces.last_mut().unwrap() = Piece::Broken(Error::too_large("too long"));
    let outcome = imported(&mut Table::default(), Format::Csv, pieces).await;
    assert_eq!((outcome.rows, outcome.failure.as_ref().unwrap().kind()), (0, ErrorKind::TooLarge));
    assert_eq!(outcome.rows_in(), "no rows were imported");
}

#[tokio::test]
async fn parquet_is_imported_from_its_spool() {
    let schema = Arc::new(Schema::new(vec![ColumnType::BigInt.field("id", true)]));
    let ids: ArrayRef = Arc::new(arrow::array::Int64Array::from_iter_values(0..35));
    let batch = RecordBatch::try_new(Arc::clone(&schema), vec![ids]).unwrap();
    let mut file = Vec::new();
    let mut writer = parquet::arrow::ArrowWriter::try_new(&mut file, schema, None).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
    let mut table = Table::default();
    let outcome = imported(&mut table, Format::Parquet, vec![Piece::Data(file.clone().into()), Piece::End]).await;
    assert!(outcome.failure.is_none(), "{outcome:?}");
    assert_eq!(outcome.rows, 35);
    assert_eq!(table.chunks.lock().unwrap().len(), 4);

    file.truncate(file.len() / 2);
    let outcome = imported(&mut table, Format::Parquet, vec![Piece::Data(file.into()), Piece::End]).await;
    assert_eq!(outcome.failure.unwrap().kind(), ErrorKind::InvalidInput);
}

#[test]
fn bodies_are_told_apart_by_their_type() {
    assert_eq!(Format::of_content_type("Text/CSV; charset=utf-8").unwrap(), Format::Csv);
    assert_eq!(Format::of_content_type("application/x-ndjson").unwrap(), Format::Ndjson);
    assert_eq!(Format::of_content_type("application/vnd.apache.arrow.stream").unwrap(), Format::ArrowStream);
    assert_eq!(Format::of_content_type("application/vnd.apache.parquet").unwrap(), Format::Parquet);
    for bad in ["", "application/json"] {
        let error = Format::of_content_type(bad).expect_err(bad);
        assert!(error.message().contains("text/csv"), "{error}");
    }
}

#[test]
fn columns_are_the_tables_and_the_servers_are_refused() {
    let target = target(10);
    assert!(target.columns(&["name", "id"]).is_ok());
    let unknown = target.columns(&["nom"]).expect_err("unknown");
    assert!(unknown.message().contains("'nom'") && unknown.message().contains("id, name, size"), "{unknown}");
    assert!(target.columns(&["_updated"]).expect_err("system").message().contains("_updated"));
    assert!(target.columns(&["id", "id"]).expect_err("twice").message().contains("twice"));
}
