//! Rows to Arrow batches.

use std::collections::{BTreeMap, HashMap};
use std::fmt;
use std::sync::Arc;

use arrow::array::{
    ArrayBuilder, ArrayRef, BinaryBuilder, BooleanBuilder, Date32Builder, Decimal128Builder, Float32Builder,
    Float64Builder, Int16Builder, Int32Builder, Int64Builder, RecordBatch, RecordBatchOptions, StringBuilder,
    Time64MicrosecondBuilder, TimestampMicrosecondBuilder, TimestampNanosecondBuilder,
};
use arrow::datatypes::{Field, Schema};
use kalamdb_commons::ids::{ColumnId, RowId, SchemaVersion};
use kalamdb_commons::schema::{Column, Columns, Table};
use kalamdb_commons::system_columns::SystemColumns;
use kalamdb_commons::types::{ColumnType, SchemaRef};

use super::layout::{Damaged, Layout, Slot};
use super::{RowEncoder, RowHeader, header};
use crate::error::{Result, StoreError};
use crate::rows::convert::convert;

/// A column of a decoded batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Projected {
    /// `_id`.
    Id,
    /// `_updated`.
    Updated,
    /// `_deleted`.
    Deleted,
    /// `_seq`.
    Seq,
    /// `_born`.
    Born,
    /// A column of the table's current version.
    Column(ColumnId),
}

/// Decodes rows of any schema versions of a table into batches of its current version.
///
/// Only projected columns are touched. A value goes straight into the builder of its column; where a column's type
/// has changed, values of the old type are kept apart and converted together at the end.
pub struct RowDecoder {
    schema: SchemaRef,
    outputs: Vec<Output>,
    versions: BTreeMap<SchemaVersion, Columns>,
    readings: HashMap<SchemaVersion, Arc<Reading>>,
    /// The reading of the last row, which most likely is that of the next.
    reading: Option<(SchemaVersion, Arc<Reading>)>,
    rows: usize,
}

/// How rows of one version are read.
struct Reading {
    layout: Layout,
    /// For each user column of the projection, where it lies; `None` if the version lacks it.
    sources: Vec<Option<Slot>>,
}

enum Output {
    Id(Int64Builder),
    Updated(TimestampNanosecondBuilder),
    Deleted(BooleanBuilder),
    Seq(Int64Builder),
    Born(Int64Builder),
    Column(Box<ColumnOutput>),
}

/// A user column being built.
struct ColumnOutput {
    column: Column,
    /// What rows of versions that lack the column hold, as the bytes of a slot; `None` for NULL.
    missing: Option<Vec<u8>>,
    /// Values by the type that they were written with. The first one has the current type.
    parts: Vec<(ColumnType, Builder)>,
    /// For each row its part and its place there; empty as long as there is one part only.
    order: Vec<(usize, usize)>,
}

impl fmt::Debug for RowDecoder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RowDecoder").field("schema", &self.schema).field("rows", &self.rows).finish_non_exhaustive()
    }
}

impl RowDecoder {
    /// A decoder for some columns of a table, in this order. All of the user's columns come out nullable.
    ///
    /// `missing` holds, for columns that old versions lack, what their rows read as: arrays of length one and of
    /// the column's current type. A column that is not in it reads as NULL there. `capacity` is the number of
    /// rows to make room for.
    pub fn new(
        table: &Table,
        projection: Vec<Projected>,
        missing: &HashMap<ColumnId, ArrayRef>,
        capacity: usize,
    ) -> Result<Self> {
        let mut fields = Vec::with_capacity(projection.len());
        let mut outputs = Vec::with_capacity(projection.len());
        for projected in projection {
            let (field, output) = output(table, projected, missing, capacity)?;
            fields.push(field);
            outputs.push(output);
        }
        Ok(Self {
            schema: Arc::new(Schema::new(fields)),
            outputs,
            versions: table.versions.clone(),
            readings: HashMap::new(),
            reading: None,
            rows: 0,
        })
    }

    /// The schema of the batches.
    pub fn schema(&self) -> &SchemaRef {
        &self.schema
    }

    /// How many rows were pushed since the last batch.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether no row was pushed since the last batch.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// Adds a row. After an error the decoder is not to be used again.
    pub fn push(&mut self, id: RowId, value: &[u8]) -> Result<()> {
        let header = header(value)?;
        if self.reading.as_ref().is_none_or(|(version, _)| *version != header.schema_version) {
            self.change_reading(header.schema_version)?;
        }
        let Some((_, reading)) = &self.reading else { unreachable!("it was just set") };
        if !reading.layout.fits(value) {
            return Err(damaged_row(id, &header, value));
        }
        let mut sources = reading.sources.iter();
        for output in &mut self.outputs {
            match output {
                Output::Id(builder) => builder.append_value(id.0),
                Output::Updated(builder) => builder.append_value(header.updated.0),
                Output::Deleted(builder) => builder.append_value(header.deleted),
                Output::Seq(builder) => builder.append_value(header.updated.0),
                Output::Born(builder) => builder.append_value(header.born.0),
                Output::Column(column) => {
                    let source = sources.next().and_then(Option::as_ref);
                    let pushed = column.push(&reading.layout, source, value, self.rows);
                    pushed.map_err(|problem| problem.of_row(id, &header, value))?;
                }
            }
        }
        self.rows += 1;
        Ok(())
    }

    /// The rows since the last batch as a batch. The decoder is empty afterwards, and ready for more.
    pub fn finish(&mut self) -> Result<RecordBatch> {
        let columns = self.outputs.iter_mut().map(Output::finish).collect::<Result<Vec<_>>>()?;
        let options = RecordBatchOptions::new().with_row_count(Some(self.rows));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&self.schema), columns, &options);
        self.rows = 0;
        batch.map_err(|e| StoreError::corrupt(format!("hot rows: {e}")))
    }

    #[cold]
    fn change_reading(&mut self, version: SchemaVersion) -> Result<()> {
        let reading = match self.readings.get(&version) {
            Some(reading) => Arc::clone(reading),
            None => {
                let columns = self.versions.get(&version).ok_or_else(|| {
                    StoreError::corrupt(format!("a row of schema version {version}, which the table never had"))
                })?;
                let reading = Arc::new(Reading::new(columns, &self.outputs));
                self.readings.insert(version, Arc::clone(&reading));
                reading
            }
        };
        self.reading = Some((version, reading));
        Ok(())
    }
}

impl Reading {
    fn new(columns: &[Column], outputs: &[Output]) -> Self {
        let layout = Layout::new(columns);
        let source = |output: &Output| match output {
            Output::Column(output) => Some(layout.slot(output.column.id)),
            _ => None,
        };
        Self { sources: outputs.iter().filter_map(source).collect(), layout }
    }
}

fn output(
    table: &Table,
    projected: Projected,
    missing: &HashMap<ColumnId, ArrayRef>,
    capacity: usize,
) -> Result<(Field, Output)> {
    Ok(match projected {
        Projected::Id => (SystemColumns::id_field(), Output::Id(Int64Builder::with_capacity(capacity))),
        Projected::Updated => {
            (SystemColumns::updated_field(), Output::Updated(TimestampNanosecondBuilder::with_capacity(capacity)))
        }
        Projected::Deleted => {
            (SystemColumns::deleted_field(), Output::Deleted(BooleanBuilder::with_capacity(capacity)))
        }
        Projected::Seq => (SystemColumns::seq_field(), Output::Seq(Int64Builder::with_capacity(capacity))),
        Projected::Born => (SystemColumns::born_field(), Output::Born(Int64Builder::with_capacity(capacity))),
        Projected::Column(id) => {
            let column = table
                .column_by_id(id)
                .ok_or_else(|| StoreError::schema(format!("table {} has no column with id {id}", table.name)))?;
            // Nullable: a deletion keeps its last values, which may be older than a NOT NULL.
            let field = column.column_type.field(&column.name, true);
            (field, Output::Column(Box::new(ColumnOutput::new(column, missing.get(&id), capacity)?)))
        }
    })
}

impl Output {
    fn finish(&mut self) -> Result<ArrayRef> {
        Ok(match self {
            Self::Id(builder) | Self::Seq(builder) | Self::Born(builder) => Arc::new(builder.finish()),
            Self::Updated(builder) => Arc::new(builder.finish()),
            Self::Deleted(builder) => Arc::new(builder.finish()),
            Self::Column(column) => return column.finish(),
        })
    }
}

impl ColumnOutput {
    fn new(column: &Column, missing: Option<&ArrayRef>, capacity: usize) -> Result<Self> {
        let missing = missing.map(|array| slot_bytes(column, array)).transpose()?.flatten();
        let part = (column.column_type, Builder::new(column.column_type, capacity));
        Ok(Self { column: column.clone(), missing, parts: vec![part], order: Vec::new() })
    }

    #[inline]
    fn push(&mut self, layout: &Layout, source: Option<&Slot>, row: &[u8], rows: usize) -> Result<(), Problem> {
        let Some(slot) = source else {
            self.place(0, rows);
            let (_, builder) = &mut self.parts[0];
            return builder.append(self.missing.as_deref());
        };
        let value = layout.value(row, slot)?;
        let part = self.part(slot.column_type);
        self.place(part, rows);
        self.parts[part].1.append(value)
    }

    #[inline]
    fn part(&mut self, column_type: ColumnType) -> usize {
        if self.parts[0].0 == column_type {
            return 0;
        }
        self.parts.iter().position(|(of, _)| *of == column_type).unwrap_or_else(|| {
            self.parts.push((column_type, Builder::new(column_type, 0)));
            self.parts.len() - 1
        })
    }

    /// Notes where the next row's value goes, once there is more than one place.
    #[inline]
    fn place(&mut self, part: usize, rows: usize) {
        if self.parts.len() > 1 {
            if self.order.is_empty() {
                self.order.extend((0..rows).map(|row| (0, row)));
            }
            self.order.push((part, self.parts[part].1.len()));
        }
    }

    fn finish(&mut self) -> Result<ArrayRef> {
        let to = self.column.column_type;
        let mut arrays = Vec::with_capacity(self.parts.len());
        for (from, builder) in &mut self.parts {
            arrays.push(convert(&self.column.name, &builder.finish(*from)?, *from, to)?);
        }
        self.parts.truncate(1);
        let order = std::mem::take(&mut self.order);
        if arrays.len() == 1 {
            return Ok(arrays.swap_remove(0));
        }
        let arrays: Vec<_> = arrays.iter().map(|array| &**array).collect();
        arrow::compute::interleave(&arrays, &order).map_err(|e| StoreError::Internal { what: e.to_string() })
    }
}

/// A constant as the bytes of a slot: encoded as a row of its own, and cut out of it.
fn slot_bytes(column: &Column, array: &ArrayRef) -> Result<Option<Vec<u8>>> {
    if array.len() != 1 {
        let (name, len) = (&column.name, array.len());
        return Err(StoreError::schema(format!("column '{name}' has {len} values for rows that lack it, not one")));
    }
    let columns = std::slice::from_ref(column);
    let row = RowEncoder::new(columns, SchemaVersion(0)).columns(std::slice::from_ref(array))?.row(0, false)?;
    let layout = Layout::new(columns);
    let value = layout.slots.first().map(|slot| layout.value(&row, slot));
    Ok(value.and_then(|value| value.unwrap_or_else(|Damaged| unreachable!("just encoded"))).map(<[u8]>::to_vec))
}

/// Why a value could not be appended.
enum Problem {
    Damaged,
    TooLarge,
}

impl From<Damaged> for Problem {
    fn from(_: Damaged) -> Self {
        Self::Damaged
    }
}

impl Problem {
    #[cold]
    fn of_row(self, id: RowId, header: &RowHeader, value: &[u8]) -> StoreError {
        match self {
            Self::Damaged => damaged_row(id, header, value),
            Self::TooLarge => StoreError::TooLarge { what: "a column of a batch of rows" },
        }
    }
}

#[cold]
fn damaged_row(id: RowId, header: &RowHeader, value: &[u8]) -> StoreError {
    let (len, version, updated) = (value.len(), header.schema_version, header.updated);
    StoreError::corrupt(format!(
        "the hot row {id}, updated {updated}: {len} bytes are no row of schema version {version}"
    ))
}

/// Arrow counts the bytes of a text column in 31 bits.
const VARIABLE_BYTES_MAX: usize = i32::MAX as usize;

/// The builder of a column, by what its values look like in a row.
enum Builder {
    Boolean(BooleanBuilder),
    SmallInt(Int16Builder),
    Int(Int32Builder),
    BigInt(Int64Builder),
    Float(Float32Builder),
    Double(Float64Builder),
    Decimal(Decimal128Builder),
    Date(Date32Builder),
    Time(Time64MicrosecondBuilder),
    Timestamp(TimestampMicrosecondBuilder),
    Text(StringBuilder),
    Bytes(BinaryBuilder),
}

macro_rules! each {
    ($self:expr, $builder:ident => $body:expr) => {
        match $self {
            Builder::Boolean($builder) => $body,
            Builder::SmallInt($builder) => $body,
            Builder::Int($builder) => $body,
            Builder::BigInt($builder) => $body,
            Builder::Float($builder) => $body,
            Builder::Double($builder) => $body,
            Builder::Decimal($builder) => $body,
            Builder::Date($builder) => $body,
            Builder::Time($builder) => $body,
            Builder::Timestamp($builder) => $body,
            Builder::Text($builder) => $body,
            Builder::Bytes($builder) => $body,
        }
    };
}

impl Builder {
    fn new(column_type: ColumnType, rows: usize) -> Self {
        match column_type {
            ColumnType::Boolean => Self::Boolean(BooleanBuilder::with_capacity(rows)),
            ColumnType::SmallInt => Self::SmallInt(Int16Builder::with_capacity(rows)),
            ColumnType::Int => Self::Int(Int32Builder::with_capacity(rows)),
            ColumnType::BigInt => Self::BigInt(Int64Builder::with_capacity(rows)),
            ColumnType::Float => Self::Float(Float32Builder::with_capacity(rows)),
            ColumnType::Double => Self::Double(Float64Builder::with_capacity(rows)),
            ColumnType::Decimal(..) => {
                Self::Decimal(Decimal128Builder::with_capacity(rows).with_data_type(column_type.arrow()))
            }
            ColumnType::Date => Self::Date(Date32Builder::with_capacity(rows)),
            ColumnType::Time => Self::Time(Time64MicrosecondBuilder::with_capacity(rows)),
            ColumnType::Timestamp | ColumnType::DateTime => {
                Self::Timestamp(TimestampMicrosecondBuilder::with_capacity(rows))
            }
            ColumnType::Text | ColumnType::Uuid | ColumnType::Json => {
                Self::Text(StringBuilder::with_capacity(rows, rows * 16))
            }
            ColumnType::Bytes => Self::Bytes(BinaryBuilder::with_capacity(rows, rows * 16)),
        }
    }

    fn len(&self) -> usize {
        each!(self, builder => builder.len())
    }

    #[inline]
    fn append(&mut self, value: Option<&[u8]>) -> Result<(), Problem> {
        let Some(bytes) = value else {
            each!(self, builder => builder.append_null());
            return Ok(());
        };
        macro_rules! put {
            ($builder:expr, $number:ty) => {
                $builder.append_value(<$number>::from_le_bytes(bytes.try_into().map_err(|_| Damaged)?))
            };
        }
        match self {
            Self::Boolean(builder) => match bytes {
                [0] => builder.append_value(false),
                [1] => builder.append_value(true),
                _ => return Err(Problem::Damaged),
            },
            Self::SmallInt(builder) => put!(builder, i16),
            Self::Int(builder) => put!(builder, i32),
            Self::BigInt(builder) => put!(builder, i64),
            Self::Float(builder) => put!(builder, f32),
            Self::Double(builder) => put!(builder, f64),
            Self::Decimal(builder) => put!(builder, i128),
            Self::Date(builder) => put!(builder, i32),
            Self::Time(builder) => put!(builder, i64),
            Self::Timestamp(builder) => put!(builder, i64),
            Self::Text(builder) => {
                let text = std::str::from_utf8(bytes).map_err(|_| Damaged)?;
                if builder.values_slice().len() + bytes.len() > VARIABLE_BYTES_MAX {
                    return Err(Problem::TooLarge);
                }
                builder.append_value(text);
            }
            Self::Bytes(builder) => {
                if builder.values_slice().len() + bytes.len() > VARIABLE_BYTES_MAX {
                    return Err(Problem::TooLarge);
                }
                builder.append_value(bytes);
            }
        }
        Ok(())
    }

    fn finish(&mut self, column_type: ColumnType) -> Result<ArrayRef> {
        let array: ArrayRef = each!(self, builder => Arc::new(builder.finish()));
        if *array.data_type() == column_type.arrow() {
            return Ok(array);
        }
        Err(StoreError::Internal { what: format!("built {} for {column_type}", array.data_type()) })
    }
}
