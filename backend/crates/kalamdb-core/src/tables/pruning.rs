//! Which batches of a view a predicate rules out: by the manifest's ranges, and then by Bloom filters.
//!
//! Both only say where a matching row cannot be. What replaces what is decided elsewhere and by all batches: a batch
//! that is ruled out still supersedes rows of others. What cannot be decided is read; only a file whose filters cannot be
//! read fails the statement, as its rows would.

use std::collections::HashSet;
use std::sync::Arc;

use arrow::array::{Array, ArrayRef, BooleanArray};
use arrow::compute::{CastOptions, cast, cast_with_options, sort};
use arrow::datatypes::DataType;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::tree_node::{TreeNode, TreeNodeRecursion};
use datafusion::common::{Column as ColumnName, ScalarValue};
use datafusion::physical_expr::expressions::{CastExpr, InListExpr, Literal, NegativeExpr, TryCastExpr};
use datafusion::physical_expr::utils::{Guarantee, LiteralGuarantee};
use datafusion::physical_expr::{PhysicalExpr, conjunction, split_conjunction};
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use futures::{StreamExt, TryStreamExt};
use kalamdb_commons::Result;
use kalamdb_commons::ids::SchemaVersion;
use kalamdb_commons::schema::Table;
use kalamdb_commons::system_columns::{DELETED, ID, SEQ, SystemColumns, UPDATED};
use kalamdb_commons::types::{ColumnType, SchemaRef};
use kalamdb_filestore::{BatchColumn, BatchStatistics, ColumnStatistics, Sought};

use super::hot::Missing;
use crate::partition::lookup::PartitionRead;
use crate::partition::view::ColdBatch;

/// Lists of values up to this length are compared one by one by DataFusion; longer ones are searched here.
const VALUES_COMPARED_MAX: usize = 20;

/// The types between which a whole number keeps being itself.
const INTEGERS: [ColumnType; 3] = [ColumnType::SmallInt, ColumnType::Int, ColumnType::BigInt];
/// How many files are read for their filters at once.
const FILES_AT_ONCE: usize = 16;

/// The question which batches a predicate rules out.
pub(super) struct Pruning<'a> {
    pub(super) table: &'a Table,
    pub(super) schema: &'a SchemaRef,
    pub(super) read: &'a PartitionRead,
    pub(super) missing: &'a Missing,
    pub(super) predicate: &'a Arc<dyn PhysicalExpr>,
}

impl Pruning<'_> {
    /// For each batch of the view, whether the manifest leaves it.
    pub(super) fn by_manifest(&self) -> Vec<bool> {
        let all = || vec![true; self.read.view.batches().len()];
        let Some(statistics) = self.read.view.statistics() else { return all() };
        let parts: Vec<_> = split_conjunction(self.predicate).into_iter().filter(|part| keeps_order(part)).collect();
        let sound = conjunction(parts.into_iter().cloned());
        let builder = PruningPredicateBuilder::new().with_file_schema(self.schema.clone());
        // No predicate means that nothing of it says anything about ranges.
        let Some(pruning) = builder.build(sound) else { return all() };
        let ranges = ManifestRanges { table: self.table, statistics, missing: self.missing };
        pruning.prune(&ranges).unwrap_or_else(|error| {
            // A bound may belong to a dead row that an expression cannot be evaluated for.
            tracing::debug!(%error, "a predicate could not be compared with the manifest's ranges");
            all()
        })
    }

    /// Takes those batches out of `kept` whose Bloom filters deny every value that a column must have. Returns how
    /// many they are.
    pub(super) async fn by_filters(&self, kept: &mut [bool]) -> Result<u64> {
        let mut denied = 0;
        for required in LiteralGuarantee::analyze(self.predicate) {
            if required.guarantee != Guarantee::In {
                continue;
            }
            let Some(question) = self.question(&required) else { continue };
            let (mut open, mut form) = (Vec::new(), None);
            for (at, kept) in kept.iter_mut().enumerate().filter(|(_, kept)| **kept) {
                let batch = &self.read.view.batches()[at];
                // Neighbours are mostly of one version.
                let version = batch.entry.schema_version;
                if form.is_none_or(|(of, _)| of != version) {
                    form = Some((version, question.of(self.table, version)));
                }
                let Some((_, Some(sought))) = form else { continue };
                match batch.file.may_contain_by_memory(question.column, sought, self.read.io()) {
                    Some(may_hold) => *kept = may_hold,
                    None => open.push(self.ask(at, batch, question.column, sought)),
                }
                denied += u64::from(!*kept);
            }
            let mut answers = futures::stream::iter(open).buffer_unordered(FILES_AT_ONCE);
            while let Some((at, may_hold)) = answers.try_next().await? {
                kept[at] = may_hold;
                denied += u64::from(!may_hold);
            }
        }
        Ok(denied)
    }

    async fn ask(&self, at: usize, batch: &ColdBatch, column: BatchColumn, sought: &Sought) -> Result<(usize, bool)> {
        Ok((at, batch.file.may_contain(column, sought, self.read.io()).await?))
    }

    fn question(&self, required: &LiteralGuarantee) -> Option<Question> {
        let values = ScalarValue::iter_to_array(required.literals.iter().cloned()).ok()?;
        let name = required.column.name.as_str();
        let (column, now) = if name == ID {
            (BatchColumn::Id, ColumnType::BigInt)
        } else {
            let column = self.table.column(name)?;
            (BatchColumn::Column(column.id), column.column_type)
        };
        if *values.data_type() != now.arrow() {
            return None;
        }
        let types = match now {
            ColumnType::SmallInt | ColumnType::Int | ColumnType::BigInt => INTEGERS.to_vec(),
            now => vec![now],
        };
        // What a narrower type does not hold becomes NULL and is not looked for.
        let lenient = CastOptions { safe: true, ..CastOptions::default() };
        let form = |then: ColumnType| {
            let values = cast_with_options(&values, &then.arrow(), &lenient).ok()?;
            Some((then, Sought::new(&values).ok()?))
        };
        let forms = types.into_iter().map(form).collect::<Option<_>>()?;
        Some(Question { column, forms })
    }
}

/// The values that a column must have one of, in each type that batches may have them in.
struct Question {
    column: BatchColumn,
    forms: Vec<(ColumnType, Sought)>,
}

impl Question {
    /// The values as the filters of batches of a schema version know them; `None` if it is older than the column, or of
    /// a type whose values become those of today in another way.
    fn of(&self, table: &Table, version: SchemaVersion) -> Option<&Sought> {
        let then = match self.column {
            BatchColumn::Column(id) => {
                let columns = table.columns_at(version)?;
                columns.iter().find(|column| column.id == id)?.column_type
            }
            _ => ColumnType::BigInt,
        };
        self.forms.iter().find(|(form, _)| *form == then).map(|(_, sought)| sought)
    }
}

/// Whether a cast to this type may change the order: numbers are true on both sides of 0, a time of day comes again
/// every day, and a number's bytes begin with the lowest.
pub(super) fn breaks_order(target: &DataType) -> bool {
    use DataType::{Binary, BinaryView, Boolean, FixedSizeBinary, LargeBinary, Time32, Time64};
    matches!(target, Boolean | Time32(_) | Time64(_) | Binary | BinaryView | LargeBinary | FixedSizeBinary(_))
}

/// Whether all casts of an expression keep the order of what they cast, so that the ends of a range stay its ends,
/// nothing is negated, which the least number of a type does not survive, and no list has a zero with a fraction: its
/// two signs are one value to a comparison and two to a list. DataFusion takes all of it for granted.
pub(super) fn keeps_order(expr: &Arc<dyn PhysicalExpr>) -> bool {
    let mut sound = true;
    let target = |node: &Arc<dyn PhysicalExpr>| {
        let cast = node.downcast_ref::<CastExpr>().map(|cast| cast.cast_type().clone());
        cast.or_else(|| node.downcast_ref::<TryCastExpr>().map(|cast| cast.cast_type().clone()))
    };
    let visited = expr.apply(|node| {
        sound &= node.downcast_ref::<NegativeExpr>().is_none();
        sound &= !node.downcast_ref::<InListExpr>().is_some_and(|list| list.list().iter().any(is_real_zero));
        sound &= !target(node).is_some_and(|target| breaks_order(&target));
        Ok(if sound { TreeNodeRecursion::Continue } else { TreeNodeRecursion::Stop })
    });
    sound && visited.is_ok()
}

fn is_real_zero(expr: &Arc<dyn PhysicalExpr>) -> bool {
    let value = expr.downcast_ref::<Literal>().map(Literal::value);
    match value {
        Some(ScalarValue::Float32(Some(value))) => *value == 0.0,
        Some(ScalarValue::Float64(Some(value))) => *value == 0.0,
        _ => false,
    }
}

/// A view's statistics as DataFusion's pruning asks for them.
struct ManifestRanges<'a> {
    table: &'a Table,
    statistics: &'a BatchStatistics,
    missing: &'a Missing,
}

impl ManifestRanges<'_> {
    fn of(&self, column: &ColumnName) -> Option<ColumnStatistics> {
        match column.name.as_str() {
            ID => Some(self.statistics.ids().clone()),
            SEQ => Some(self.statistics.updated().clone()),
            DELETED => Some(self.statistics.deleted().clone()),
            UPDATED => {
                let updated = self.statistics.updated();
                let time = SystemColumns::updated_field().data_type().clone();
                Some(ColumnStatistics {
                    mins: cast(&updated.mins, &time).ok()?,
                    maxes: cast(&updated.maxes, &time).ok()?,
                    null_counts: updated.null_counts.clone(),
                })
            }
            name => {
                let known = self.table.column(name)?;
                let missing = self.missing.get(&known.id);
                self.statistics.column(known.id, known.column_type, &self.table.versions, missing)
            }
        }
    }
}

impl PruningStatistics for ManifestRanges<'_> {
    fn min_values(&self, column: &ColumnName) -> Option<ArrayRef> {
        self.of(column).map(|ranges| ranges.mins)
    }

    fn max_values(&self, column: &ColumnName) -> Option<ArrayRef> {
        self.of(column).map(|ranges| ranges.maxes)
    }

    fn num_containers(&self) -> usize {
        self.statistics.len()
    }

    fn null_counts(&self, column: &ColumnName) -> Option<ArrayRef> {
        self.of(column).map(|ranges| ranges.null_counts)
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(self.statistics.row_counts().clone()))
    }

    fn contained(&self, column: &ColumnName, values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        if values.len() <= VALUES_COMPARED_MAX {
            return None;
        }
        let ranges = self.of(column)?;
        let values = ScalarValue::iter_to_array(values.iter().filter(|value| !value.is_null()).cloned()).ok()?;
        if values.data_type() != ranges.mins.data_type() {
            return None;
        }
        let may_hold = ranges.may_hold(&sort(&values, None).ok()?).ok()?;
        // True would say that a batch holds nothing else, which no range can.
        Some(may_hold.iter().map(|may_hold| (may_hold == Some(false)).then_some(false)).collect())
    }
}
