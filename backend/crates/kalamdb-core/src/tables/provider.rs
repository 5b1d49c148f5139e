//! A partition as a table that DataFusion can scan.
//!
//! A scan is the union of the hot rows with `_updated > F` and of the active batches with their dead positions masked.
//! No row of it is superseded, so filters may be pushed anywhere, and nothing is sorted or merged. Batches that
//! the manifest proves irrelevant are not opened, those with every row dead are skipped, and `COUNT(*)` folds to
//! arithmetic because the statistics count live rows only.

use std::sync::Arc;

use arrow::compute::CastOptions;
use arrow::datatypes::{DataType, Field, Schema};
use async_trait::async_trait;
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::{Transformed, TransformedResult, TreeNode};
use datafusion::common::{DFSchema, ScalarValue, Statistics};
use datafusion::config::TableParquetOptions;
use datafusion::datasource::TableType;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::physical_plan::parquet::ParquetRowSelection;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::{DataFusionError, Result as DataFusionResult};
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::utils::conjunction;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown};
use datafusion::physical_expr::expressions::{CastExpr, Column as ColumnExpr, Literal};
use datafusion::physical_expr::{PhysicalExpr, conjunction_opt, split_conjunction};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::projection::ProjectionExec;
use datafusion::physical_plan::streaming::{PartitionStream, StreamingTableExec};
use datafusion::physical_plan::union::UnionExec;
use kalamdb_commons::clock::Stopwatch;
use kalamdb_commons::ids::{ColumnId, SchemaVersion};
use kalamdb_commons::schema::{Columns, Table};
use kalamdb_commons::system_columns::SystemColumns;
use kalamdb_commons::types::SchemaRef;
use kalamdb_store::rows::Projected;
use roaring::RoaringBitmap;

use super::cold::{AttachedBatch, BatchReaders, live_rows};
use super::hot::{HotScan, HotStream, Missing};
use super::pruning::{Pruning, breaks_order, keeps_order};
use crate::partition::lookup::PartitionRead;
use crate::partition::view::ColdBatch;
use crate::stats::StatementStats;

/// What of a table a statement may see besides its visible columns.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Exposure {
    /// `_seq`: the statement names it.
    pub(crate) seq: bool,
    /// `_born`: for the statements that look for rows to change.
    pub(crate) born: bool,
    /// Deleted rows that are still retained: the statement's own WHERE names `_deleted`.
    pub(crate) deleted_rows: bool,
}

/// A partition, read at one moment.
#[derive(Debug)]
pub(crate) struct PartitionTable {
    table: Arc<Table>,
    read: PartitionRead,
    missing: Missing,
    exposure: Exposure,
    fields: Vec<Projected>,
    schema: SchemaRef,
    stats: Arc<StatementStats>,
}

/// What the plans of one scan have in common.
struct Wanted<'a> {
    projection: &'a [Projected],
    predicate: Option<&'a Arc<dyn PhysicalExpr>>,
    state: &'a dyn Session,
}

/// The files of one schema version that are to be read.
struct VersionFiles {
    version: SchemaVersion,
    files: Vec<PartitionedFile>,
    live_rows: usize,
}

impl PartitionTable {
    pub(crate) fn new(
        table: Arc<Table>,
        read: PartitionRead,
        missing: Missing,
        exposure: Exposure,
        stats: Arc<StatementStats>,
    ) -> Self {
        let (fields, schema) = exposed(&table, exposure);
        Self { table, read, missing, exposure, fields, schema, stats }
    }

    async fn hot_plan(&self, projection: &[Projected]) -> DataFusionResult<Option<Arc<dyn ExecutionPlan>>> {
        if !self.read.may_have_hot_rows() {
            return Ok(None);
        }
        let scan = HotScan::new(
            self.table.clone(),
            self.read.clone(),
            projection.to_vec(),
            self.missing.clone(),
            self.exposure.deleted_rows,
            self.stats.clone(),
        );
        let scan = Arc::new(scan.map_err(external)?);
        let schema = scan.schema().clone();
        match scan.first().await.map_err(external)? {
            // What fits a page is read at once: its row count is then exact, and COUNT(*) needs no scan.
            (batches, None) if batches.is_empty() => Ok(None),
            (batches, None) => Ok(Some(MemorySourceConfig::try_new_exec(&[batches], schema, None)?)),
            (first, Some(next)) => {
                let stream: Arc<dyn PartitionStream> = Arc::new(HotStream { scan, first, next });
                Ok(Some(Arc::new(StreamingTableExec::try_new(schema, vec![stream], None, None, false, None)?)))
            }
        }
    }

    async fn cold_plans(&self, wanted: &Wanted<'_>) -> DataFusionResult<Vec<Arc<dyn ExecutionPlan>>> {
        let batches = self.read.view.batches();
        let kept = self.batches_to_read(wanted.predicate).await.map_err(external)?;
        let mut by_version: Vec<VersionFiles> = Vec::new();
        for (batch, dead) in batches.iter().zip(&kept).filter_map(|(batch, dead)| Some((batch, dead.as_ref()?))) {
            let file = scanned_file(batch, dead);
            let version = batch.entry.schema_version;
            let live_rows = (batch.entry.row_count - dead.len()) as usize;
            match by_version.iter_mut().find(|of| of.version == version) {
                Some(of) => {
                    of.files.push(file);
                    of.live_rows += live_rows;
                }
                None => by_version.push(VersionFiles { version, files: vec![file], live_rows }),
            }
        }
        by_version.into_iter().map(|files| self.version_plan(files, wanted)).collect()
    }

    /// For each batch of the view that has to be read, its dead positions.
    async fn batches_to_read(
        &self,
        predicate: Option<&Arc<dyn PhysicalExpr>>,
    ) -> kalamdb_commons::Result<Vec<Option<Arc<RoaringBitmap>>>> {
        let batches = self.read.view.batches();
        let (stats, watch) = (&self.stats, Stopwatch::start());
        let pruning = predicate.map(|predicate| Pruning {
            table: &self.table,
            schema: &self.schema,
            read: &self.read,
            missing: &self.missing,
            predicate,
        });
        let mut kept = match &pruning {
            Some(pruning) => pruning.by_manifest(),
            None => vec![true; batches.len()],
        };
        let left = |kept: &[bool]| kept.iter().filter(|kept| **kept).count() as u64;
        StatementStats::add_time(&stats.manifest_pruning_ns, &watch);
        StatementStats::add(&stats.batches_considered, batches.len() as u64);
        StatementStats::add(&stats.batches_pruned_by_manifest, batches.len() as u64 - left(&kept));
        let dead = self.dead_positions(&kept).await?;
        let before = left(&kept);
        for ((batch, dead), kept) in batches.iter().zip(&dead).zip(&mut kept) {
            *kept &= dead.len() < batch.entry.row_count;
        }
        StatementStats::add(&stats.batches_without_live_rows, before - left(&kept));
        if let Some(pruning) = &pruning {
            let watch = Stopwatch::start();
            let denied = pruning.by_filters(&mut kept).await?;
            StatementStats::add_time(&stats.bloom_pruning_ns, &watch);
            StatementStats::add(&stats.batches_pruned_by_bloom_filter, denied);
        }
        Ok(dead.into_iter().zip(kept).map(|(dead, kept)| kept.then_some(dead)).collect())
    }

    /// The dead positions of those batches that are `kept`, for this reader.
    async fn dead_positions(&self, kept: &[bool]) -> kalamdb_commons::Result<Vec<Arc<RoaringBitmap>>> {
        let view = &self.read.view;
        if !kept.contains(&true) {
            return Ok(vec![Arc::default(); kept.len()]);
        }
        let mut dead = view.killed_at(&self.read.partition, self.read.point.through(), self.read.io()).await?;
        for ((dead, batch), _) in dead.iter_mut().zip(view.batches()).zip(kept).filter(|(_, kept)| **kept) {
            for more in [Some(&batch.superseded), (!self.exposure.deleted_rows).then_some(&batch.tombstones)] {
                let Some(more) = more.filter(|more| !more.is_empty()) else { continue };
                if dead.is_empty() {
                    *dead = more.clone();
                } else {
                    *Arc::make_mut(dead) |= &**more;
                }
            }
        }
        if let Some(pending) = &self.read.pending {
            let replaced = pending.rows().filter(|change| change.replaces.is_some());
            let replaced: Vec<_> = replaced.map(|change| change.row).collect();
            for place in view.locate(&replaced, self.read.io()).await?.into_iter().flatten() {
                Arc::make_mut(&mut dead[place.batch]).insert(place.position);
            }
        }
        Ok(dead)
    }

    fn version_plan(&self, of: VersionFiles, wanted: &Wanted<'_>) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let columns = self.table.columns_at(of.version).ok_or_else(|| {
            DataFusionError::Internal(format!("schema version {} of {} is unknown", of.version, self.table.name))
        })?;
        let file_schema = file_schema(columns);
        let outputs: Vec<Output> = wanted.projection.iter().map(|field| self.output(*field, columns)).collect();
        let mut needed: Vec<usize> = outputs.iter().filter_map(Output::file_column).collect();
        needed.sort_unstable();
        needed.dedup();
        let mut global = wanted.state.config_options().execution.parquet.clone();
        // Row-group filters would be read anew for each query; keys have filters of ours in memory.
        global.bloom_filter_on_read = false;
        let converts =
            outputs.iter().any(|output| matches!(output, Output::File { cast: Some(to), .. } if breaks_order(to)));
        if converts || wanted.predicate.is_some_and(|predicate| !keeps_order(predicate)) {
            // The whole filter reaches the scan later, with the casts of which ranges say nothing.
            (global.pruning, global.enable_page_index) = (false, false);
        }
        let mut source = ParquetSource::new(file_schema.clone())
            .with_table_parquet_options(TableParquetOptions { global, ..Default::default() })
            .with_parquet_file_reader_factory(Arc::new(BatchReaders::new(self.stats.clone(), !needed.is_empty())));
        if let Some(predicate) = wanted.predicate.and_then(|predicate| self.in_file(predicate, columns, &file_schema)) {
            source = source.with_predicate(predicate);
        }
        let mut statistics = Statistics::new_unknown(&file_schema);
        statistics.num_rows = Precision::Exact(of.live_rows);
        let config = FileScanConfigBuilder::new(ObjectStoreUrl::local_filesystem(), Arc::new(source))
            .with_file_groups(grouped(of.files, wanted.state.config().target_partitions()))
            .with_statistics(statistics)
            .with_projection_indices(Some(needed.clone()))?
            .build();
        let scan: Arc<dyn ExecutionPlan> = DataSourceExec::from_data_source(config);
        self.project(scan, &outputs, wanted.projection, &needed, &file_schema)
    }

    /// What of a predicate can be said in the columns of a file.
    fn in_file(
        &self,
        predicate: &Arc<dyn PhysicalExpr>,
        columns: &Columns,
        file_schema: &SchemaRef,
    ) -> Option<Arc<dyn PhysicalExpr>> {
        let retyped = || DataFusionError::Plan("a column had another type".to_owned());
        let column = |node: Arc<dyn PhysicalExpr>| {
            let Some(column) = node.downcast_ref::<ColumnExpr>() else { return Ok(Transformed::no(node)) };
            let field = *self.fields.get(column.index()).ok_or_else(retyped)?;
            let stored = |at: usize| Arc::new(ColumnExpr::new(file_schema.field(at).name(), at));
            Ok(Transformed::yes(match self.output(field, columns) {
                Output::File { at, cast: None } => stored(at) as Arc<dyn PhysicalExpr>,
                Output::File { at, cast: Some(to) } if field == Projected::Seq => {
                    Arc::new(CastExpr::new(stored(at), to, None))
                }
                Output::File { .. } => return Err(retyped()),
                Output::Constant(value) => Arc::new(Literal::new(value)),
            }))
        };
        let parts = split_conjunction(predicate).into_iter().filter(|part| keeps_order(part));
        // IMPORTANT: from the leaves up: what a column has become names a column of the file, and is not to be translated
        // again.
        let said = parts.filter_map(|part| Arc::clone(part).transform_up(column).data().ok());
        conjunction_opt(said)
    }

    fn output(&self, field: Projected, columns: &Columns) -> Output {
        let system = |at: usize| Output::File { at, cast: None };
        match field {
            Projected::Id => system(0),
            Projected::Updated => system(columns.len() + 1),
            Projected::Deleted => system(columns.len() + 2),
            Projected::Born => system(columns.len() + 3),
            Projected::Seq => Output::File { at: columns.len() + 1, cast: Some(DataType::Int64) },
            Projected::Column(id) => {
                let current = self.table.column_by_id(id).map(|column| column.column_type.arrow());
                match columns.iter().position(|column| column.id == id) {
                    Some(at) => {
                        let cast = current.filter(|current| *current != columns[at].column_type.arrow());
                        Output::File { at: at + 1, cast }
                    }
                    None => Output::Constant(self.missing_value(id, current)),
                }
            }
        }
    }

    fn missing_value(&self, id: ColumnId, current: Option<DataType>) -> ScalarValue {
        let value = self.missing.get(&id).and_then(|value| ScalarValue::try_from_array(value, 0).ok());
        value.or_else(|| ScalarValue::try_from(&current?).ok()).unwrap_or(ScalarValue::Null)
    }

    /// Turns a file's columns into the columns of today.
    fn project(
        &self,
        scan: Arc<dyn ExecutionPlan>,
        outputs: &[Output],
        projection: &[Projected],
        needed: &[usize],
        file_schema: &SchemaRef,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let names: Vec<&str> = projection.iter().map(|field| self.name_of(*field)).collect();
        let plain = outputs.len() == needed.len()
            && outputs.iter().zip(needed).zip(projection).all(|((output, needed), field)| {
                matches!(output, Output::File { at, cast: None } if at == needed)
                    && file_schema.field(*needed) == self.field_of(*field)
            });
        if plain {
            return Ok(scan);
        }
        // What does not convert belongs to rows that are dead: live ones were verified when the type was changed.
        let lenient = CastOptions { safe: true, ..CastOptions::default() };
        let mut expressions: Vec<(Arc<dyn PhysicalExpr>, String)> = Vec::new();
        for (output, name) in outputs.iter().zip(&names) {
            let expression: Arc<dyn PhysicalExpr> = match output {
                Output::Constant(value) => Arc::new(Literal::new(value.clone())),
                Output::File { at, cast } => {
                    let within = needed.binary_search(at).unwrap_or_else(|_| unreachable!("it was listed"));
                    let column = Arc::new(ColumnExpr::new(file_schema.field(*at).name(), within));
                    match cast {
                        None => column,
                        Some(to) => Arc::new(CastExpr::new(column, to.clone(), Some(lenient.clone()))),
                    }
                }
            };
            expressions.push((expression, (*name).to_owned()));
        }
        // The schema of today goes along, because DataFusion compares the fields' metadata with the logical plan's.
        let schema = Schema::new(projection.iter().map(|field| self.field_of(*field).clone()).collect::<Vec<_>>());
        Ok(Arc::new(ProjectionExec::try_new_with_schema_metadata(expressions, scan, &schema)?))
    }

    fn name_of(&self, field: Projected) -> &str {
        self.field_of(field).name()
    }

    fn field_of(&self, field: Projected) -> &Field {
        let at = self.fields.iter().position(|known| *known == field).unwrap_or_else(|| unreachable!("it is a field"));
        self.schema.field(at)
    }
}

/// Where an output column of a scan comes from.
enum Output {
    /// A column of the file, by its index in the file's schema.
    File { at: usize, cast: Option<DataType> },
    /// The file's schema version did not have it yet.
    Constant(ScalarValue),
}

impl Output {
    fn file_column(&self) -> Option<usize> {
        match self {
            Self::File { at, .. } => Some(*at),
            Self::Constant(_) => None,
        }
    }
}

/// The columns that a table shows, and where each comes from.
pub(crate) fn exposed(table: &Table, exposure: Exposure) -> (Vec<Projected>, SchemaRef) {
    let mut fields = vec![(Projected::Id, SystemColumns::id_field())];
    for column in table.columns().iter() {
        fields.push((Projected::Column(column.id), column.column_type.field(&column.name, true)));
    }
    fields.push((Projected::Updated, SystemColumns::updated_field()));
    if table.kind.has_history() {
        fields.push((Projected::Deleted, SystemColumns::deleted_field()));
    }
    if exposure.seq {
        fields.push((Projected::Seq, SystemColumns::seq_field()));
    }
    if exposure.born {
        fields.push((Projected::Born, SystemColumns::born_field()));
    }
    let (fields, schema): (Vec<Projected>, Vec<Field>) = fields.into_iter().unzip();
    (fields, Arc::new(Schema::new(schema)))
}

/// One of them by its name, `_seq` among them.
pub(crate) fn exposed_column(table: &Table, name: &str) -> Option<(Projected, Field)> {
    if let Some(column) = table.column(name) {
        return Some((Projected::Column(column.id), column.column_type.field(&column.name, true)));
    }
    let (fields, schema) = exposed(table, Exposure { seq: true, ..Exposure::default() });
    let (at, field) = schema.column_with_name(name)?;
    Some((fields[at], field.clone()))
}

/// The columns of a batch file of a schema version, in order, as the planner is to see them.
fn file_schema(columns: &Columns) -> SchemaRef {
    let mut fields = vec![SystemColumns::id_field()];
    fields.extend(columns.iter().map(|column| column.column_type.field(&column.name, true)));
    fields.extend([SystemColumns::updated_field(), SystemColumns::deleted_field(), SystemColumns::born_field()]);
    Arc::new(Schema::new(fields))
}

fn scanned_file(batch: &ColdBatch, dead: &RoaringBitmap) -> PartitionedFile {
    let mut file = PartitionedFile::new(batch.entry.path.clone(), batch.entry.byte_size)
        .with_extension(AttachedBatch::new(batch.file.clone()));
    if let Some(live) = live_rows(dead, batch.entry.row_count) {
        file = file.with_extension(ParquetRowSelection::new(live));
    }
    file
}

/// Deals files out to as many groups as are read in parallel.
fn grouped(files: Vec<PartitionedFile>, target: usize) -> Vec<FileGroup> {
    let mut groups = vec![Vec::new(); files.len().min(target.max(1))];
    let count = groups.len();
    for (at, file) in files.into_iter().enumerate() {
        groups[at % count].push(file);
    }
    groups.into_iter().map(FileGroup::new).collect()
}

#[async_trait]
impl TableProvider for PartitionTable {
    fn schema(&self) -> SchemaRef {
        self.schema.clone()
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> DataFusionResult<Vec<TableProviderFilterPushDown>> {
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        state: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        _limit: Option<usize>,
    ) -> DataFusionResult<Arc<dyn ExecutionPlan>> {
        let projected: Vec<Projected> = match projection {
            Some(indices) => indices.iter().map(|index| self.fields[*index]).collect(),
            None => self.fields.clone(),
        };
        let predicate = match conjunction(filters.to_vec()) {
            Some(filter) => {
                let schema = DFSchema::try_from(self.schema.clone())?;
                Some(state.create_physical_expr(filter, &schema)?)
            }
            None => None,
        };
        let wanted = Wanted { projection: &projected, predicate: predicate.as_ref(), state };
        let mut plans = self.cold_plans(&wanted).await?;
        plans.extend(self.hot_plan(&projected).await?);
        if plans.is_empty() {
            let schema = match projection {
                Some(indices) => Arc::new(self.schema.project(indices)?),
                None => self.schema.clone(),
            };
            return Ok(Arc::new(EmptyExec::new(schema)));
        }
        UnionExec::try_new(plans)
    }
}

fn external(error: kalamdb_commons::Error) -> DataFusionError {
    DataFusionError::External(Box::new(error))
}
