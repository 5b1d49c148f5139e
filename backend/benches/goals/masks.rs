//! How dead positions are best left out of a file, in process: as a row selection, which Parquet's reader carries out by
//! skipping or by a mask of its own, or by reading everything and filtering by position. `docs/design/decisions.md` says
//! what was chosen from it.

use std::hint::black_box;
use std::sync::Arc;

use arrow::array::BooleanArray;
use arrow::buffer::BooleanBuffer;
use arrow::compute::filter_record_batch;
use arrow::ipc::reader::StreamReader;
use bytes::Bytes;
use kalamdb_commons::clock::Stopwatch;
use parquet::arrow::arrow_reader::{ParquetRecordBatchReaderBuilder, RowSelection, RowSelectionPolicy};
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::basic::Compression;
use parquet::file::properties::WriterProperties;

use crate::data::arrow;
use crate::figures::median;
use crate::report::{Asked, Report};
use crate::{Result, Sizes};

const BATCH_ROWS: usize = 8_192;
const ROW_GROUP_ROWS: usize = 131_072;
const PAGE_ROWS: usize = 4_096;
/// `kind`, `price` and `name`.
const COLUMNS: [usize; 3] = [1, 2, 3];

/// One of how many rows is dead.
const DEAD_ONE_OF: [usize; 4] = [10_000, 1_000, 100, 10];

fn file(rows: u64) -> Result<Bytes> {
    let body = arrow(0..rows)?;
    let reader = StreamReader::try_new(body.as_slice(), None)?;
    let properties = WriterProperties::builder()
        .set_compression(Compression::LZ4_RAW)
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .build();
    let mut writer = ArrowWriter::try_new(Vec::new(), reader.schema(), Some(properties))?;
    for batch in reader {
        writer.write(&batch?)?;
    }
    Ok(writer.into_inner()?.into())
}

/// Which rows live: the dead ones lie everywhere, or in one run at the beginning.
fn live(rows: usize, one_of: usize, scattered: bool) -> BooleanBuffer {
    let dead = rows / one_of;
    BooleanBuffer::collect_bool(rows, |row| if scattered { row % one_of != one_of / 2 } else { row >= dead })
}

/// Reads the file and returns the time, in ms; the rows must be as many as live.
fn read(file: &Bytes, live: &BooleanBuffer, way: Way) -> Result<f64> {
    let begin = Stopwatch::start();
    let mut builder = ParquetRecordBatchReaderBuilder::try_new(file.clone())?.with_batch_size(BATCH_ROWS);
    let columns = ProjectionMask::leaves(builder.parquet_schema(), COLUMNS);
    builder = builder.with_projection(columns);
    if let Way::Selection(policy) = way {
        let selection = RowSelection::from_filters(&[BooleanArray::new(live.clone(), None)]);
        builder = builder.with_row_selection(selection).with_row_selection_policy(policy);
    }
    let (mut position, mut rows) = (0, 0);
    for batch in builder.build()? {
        let mut batch = batch?;
        if let Way::Filter = way {
            let mask = live.slice(position, batch.num_rows());
            position += batch.num_rows();
            if mask.count_set_bits() < mask.len() {
                batch = filter_record_batch(&batch, &BooleanArray::new(mask, None))?;
            }
        }
        rows += black_box(&batch).num_rows();
    }
    let expected = if let Way::Everything = way { live.len() } else { live.count_set_bits() };
    if rows != expected {
        return Err(format!("{rows} rows were read instead of {expected}").into());
    }
    Ok(begin.elapsed().as_secs_f64() * 1_000.0)
}

#[derive(Clone, Copy)]
enum Way {
    /// Dead rows and all.
    Everything,
    /// A selection.
    Selection(RowSelectionPolicy),
    /// Everything, then a filter by position.
    Filter,
}

/// The section.
pub(crate) fn measure(sizes: &Sizes, report: &mut Report) -> Result<()> {
    let rows = sizes.scan_rows as usize;
    let file = Arc::new(file(sizes.scan_rows)?);
    let timed = |live: &BooleanBuffer, way: Way| -> Result<f64> {
        let times = (0..sizes.query_runs).map(|_| read(&file, live, way)).collect::<Result<Vec<f64>>>()?;
        Ok(median(times))
    };
    let everything = timed(&BooleanBuffer::new_set(rows), Way::Everything)?;
    report.row(&format!("{rows} rows, 3 columns, all read"), "ms", everything, Asked::nothing(), None);
    for (scattered, how) in [(true, "scattered"), (false, "in one run")] {
        for one_of in DEAD_ONE_OF {
            let live = live(rows, one_of, scattered);
            let share = 100.0 / one_of as f64;
            for (way, name) in [
                (Way::Selection(RowSelectionPolicy::default()), "selection, as the reader chooses"),
                (Way::Selection(RowSelectionPolicy::Selectors), "selection, skipping"),
                (Way::Selection(RowSelectionPolicy::Mask), "selection, masking"),
                (Way::Filter, "filter by position"),
            ] {
                let ratio = timed(&live, way)? / everything;
                report.row(&format!("  {share} % dead, {how}: {name}"), "x", ratio, Asked::nothing(), None);
            }
        }
    }
    Ok(())
}
