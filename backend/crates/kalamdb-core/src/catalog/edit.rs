//! [`CatalogEdit`]: one change of the catalog, ready to be verified and committed.

use std::sync::Arc;

use bytes::Bytes;
use kalamdb_commons::ids::{ColumnId, Incarnation, NamespaceId, StorageId, TableId, TableRef, UserId};
use kalamdb_commons::schema::{Check, Table};
use kalamdb_commons::types::ColumnType;

use super::model::{Dropped, Namespace, StorageDefinition, User, View};
use super::records;
use super::snapshot::Catalog;

/// One change of the catalog. Nothing of it holds before `puts` and `deletes` are committed, and they must not be
/// committed before `expressions` and `checks` were found good against the data as it is then.
#[derive(Debug, Clone)]
pub struct CatalogEdit {
    /// The catalog after the edit.
    pub next: Arc<Catalog>,
    /// The records to store. A key comes once, and not in `deletes` as well.
    pub puts: Vec<(Bytes, Bytes)>,
    /// The records to delete.
    pub deletes: Vec<Bytes>,
    /// What the answer to the statement says.
    pub message: String,
    /// Facts about existing data that must hold.
    pub checks: Vec<DataCheck>,
    /// Expressions that are new with this edit and must plan, with the type that they must give.
    pub expressions: Vec<NewExpression>,
    /// Tables that are created, changed, emptied or dropped: their plans and caches are stale, and statements that
    /// planned against them plan again.
    pub affected: Vec<TableRef>,
    /// Contents that the edit ends and that are to be removed afterwards.
    pub dropped: Vec<Dropped>,
}

/// A fact about existing data. Tables are those of the catalog before the edit, columns are theirs, and data means
/// live rows of all partitions, hot and cold.
#[derive(Debug, Clone, PartialEq)]
pub enum DataCheck {
    /// No row is NULL in the column.
    NotNull {
        /// The table.
        table: TableRef,
        /// The column.
        column: ColumnId,
    },
    /// Every value of the column converts to the type.
    Converts {
        /// The table.
        table: TableRef,
        /// The column.
        column: ColumnId,
        /// The new type.
        to: ColumnType,
    },
    /// The table has no rows.
    Empty {
        /// The table.
        table: TableRef,
        /// What else the statement cannot do: `cannot add column 'c' as NOT NULL without a constant default`.
        otherwise: String,
    },
    /// No row violates the check when it is read through the table of [`CatalogEdit::next`].
    Holds {
        /// The table.
        table: TableRef,
        /// The new check.
        check: Check,
    },
}

/// An SQL expression that an edit puts into the catalog.
#[derive(Debug, Clone, PartialEq)]
pub struct NewExpression {
    /// The table, as it will be: the columns that a CHECK may name.
    pub table: Arc<Table>,
    /// What the expression is for.
    pub role: ExpressionRole,
    /// Its text.
    pub text: String,
}

/// What an expression is for.
#[derive(Debug, Clone, PartialEq)]
pub enum ExpressionRole {
    /// The default of a column: no columns, and a value that can be stored as the column's type.
    Default(ColumnId),
    /// What older rows read in the column: a constant, which must convert to the column's type, and must not be NULL
    /// if the column is NOT NULL.
    Missing(ColumnId),
    /// A CHECK: over the user's columns, BOOLEAN.
    Check(String),
}

impl NewExpression {
    /// For messages: `the default of column 'c'`.
    pub fn describe(&self) -> String {
        let column = |id: &ColumnId| self.table.column_by_id(*id).map_or("?", |column| &*column.name).to_owned();
        match &self.role {
            ExpressionRole::Default(id) | ExpressionRole::Missing(id) => {
                format!("the default of column '{}'", column(id))
            }
            ExpressionRole::Check(name) => format!("check constraint '{name}'"),
        }
    }
}

/// A catalog in the making. Each method changes the maps and notes the record.
#[derive(Debug)]
pub struct Draft {
    next: Catalog,
    puts: Vec<(Bytes, Bytes)>,
    deletes: Vec<Bytes>,
    /// See [`CatalogEdit::checks`].
    pub checks: Vec<DataCheck>,
    /// See [`CatalogEdit::expressions`].
    pub expressions: Vec<NewExpression>,
    affected: Vec<TableRef>,
    dropped: Vec<Dropped>,
}

impl Draft {
    /// Begins with what there is.
    pub fn new(catalog: &Catalog) -> Self {
        Self {
            next: catalog.clone(),
            puts: Vec::new(),
            deletes: Vec::new(),
            checks: Vec::new(),
            expressions: Vec::new(),
            affected: Vec::new(),
            dropped: Vec::new(),
        }
    }

    /// The catalog as it is so far.
    pub fn catalog(&self) -> &Catalog {
        &self.next
    }

    /// Draws a table id.
    pub fn draw_table_id(&mut self) -> TableId {
        let id = self.next.counters.next_table;
        self.next.counters.next_table = TableId(id.0 + 1);
        id
    }

    /// Draws an incarnation.
    pub fn draw_incarnation(&mut self) -> Incarnation {
        let incarnation = self.next.counters.next_incarnation;
        self.next.counters.next_incarnation = Incarnation(incarnation.0 + 1);
        incarnation
    }

    fn put(&mut self, key: Bytes, value: Bytes) {
        self.forget(&key);
        self.puts.push((key, value));
    }

    fn delete(&mut self, key: Bytes) {
        self.forget(&key);
        self.deletes.push(key);
    }

    /// The last word about a key is the only one.
    fn forget(&mut self, key: &Bytes) {
        self.puts.retain(|(put, _)| put != key);
        self.deletes.retain(|deleted| deleted != key);
    }

    fn affect(&mut self, table: &TableRef) {
        if !self.affected.contains(table) {
            self.affected.push(table.clone());
        }
    }

    /// Adds or replaces a namespace.
    pub fn put_namespace(&mut self, namespace: Namespace) {
        self.put(records::namespace_key(&namespace.id), records::encode(&namespace));
        Arc::make_mut(&mut self.next.namespaces).insert(namespace.id.clone(), Arc::new(namespace));
    }

    /// Removes a namespace.
    pub fn delete_namespace(&mut self, id: &NamespaceId) {
        self.delete(records::namespace_key(id));
        Arc::make_mut(&mut self.next.namespaces).remove(id);
    }

    /// Adds or replaces a table, and returns it as it is now shared.
    pub fn put_table(&mut self, table: Table) -> Arc<Table> {
        let table = Arc::new(table);
        self.put(records::table_key(&table.name), records::encode(&*table));
        self.affect(&table.name);
        let by_incarnation = Arc::make_mut(&mut self.next.by_incarnation);
        if let Some(old) = Arc::make_mut(&mut self.next.tables).insert(table.name.clone(), Arc::clone(&table)) {
            by_incarnation.remove(&old.incarnation);
        }
        by_incarnation.insert(table.incarnation, Arc::clone(&table));
        table
    }

    /// Removes a table and notes that its contents are to go.
    pub fn drop_table(&mut self, name: &TableRef) {
        let Some(table) = Arc::make_mut(&mut self.next.tables).remove(name) else { return };
        Arc::make_mut(&mut self.next.by_incarnation).remove(&table.incarnation);
        self.delete(records::table_key(name));
        self.affect(name);
        let successor = self.draw_incarnation();
        self.end_contents(table, successor);
    }

    /// Gives a table a new, empty life and notes that the contents of the old one are to go.
    pub fn truncate_table(&mut self, table: &Arc<Table>) {
        let incarnation = self.draw_incarnation();
        self.put_table(Table { incarnation, ..Table::clone(table) });
        self.end_contents(Arc::clone(table), incarnation);
    }

    fn end_contents(&mut self, table: Arc<Table>, successor: Incarnation) {
        let dropped = Dropped { incarnation: table.incarnation, table, successor };
        self.dropped.push(dropped.clone());
        self.put_dropped(dropped);
    }

    /// Notes contents that are to go.
    pub fn put_dropped(&mut self, dropped: Dropped) {
        self.put(records::dropped_key(dropped.incarnation), records::encode(&dropped));
        Arc::make_mut(&mut self.next.dropped).insert(dropped.incarnation, Arc::new(dropped));
    }

    /// Notes that contents are gone.
    pub fn delete_dropped(&mut self, incarnation: Incarnation) {
        self.delete(records::dropped_key(incarnation));
        Arc::make_mut(&mut self.next.dropped).remove(&incarnation);
    }

    /// Adds or replaces a view.
    pub fn put_view(&mut self, view: View) {
        self.put(records::view_key(&view.name), records::encode(&view));
        self.affect(&view.name);
        Arc::make_mut(&mut self.next.views).insert(view.name.clone(), Arc::new(view));
    }

    /// Removes a view.
    pub fn delete_view(&mut self, name: &TableRef) {
        self.delete(records::view_key(name));
        self.affect(name);
        Arc::make_mut(&mut self.next.views).remove(name);
    }

    /// Adds or replaces a user.
    pub fn put_user(&mut self, user: User) {
        self.put(records::user_key(&user.id), records::encode(&user));
        Arc::make_mut(&mut self.next.users).insert(user.id.clone(), Arc::new(user));
    }

    /// Removes a user.
    pub fn delete_user(&mut self, id: &UserId) {
        self.delete(records::user_key(id));
        Arc::make_mut(&mut self.next.users).remove(id);
    }

    /// Adds or replaces a storage.
    pub fn put_storage(&mut self, storage: StorageDefinition) {
        self.put(records::storage_key(&storage.id), records::encode(&storage));
        Arc::make_mut(&mut self.next.storages).insert(storage.id.clone(), Arc::new(storage));
    }

    /// Removes a storage.
    pub fn delete_storage(&mut self, id: &StorageId) {
        self.delete(records::storage_key(id));
        Arc::make_mut(&mut self.next.storages).remove(id);
    }

    /// The catalog alone, at the version that it began with.
    pub(super) fn into_catalog(self) -> Catalog {
        self.next
    }

    /// The edit, one version on.
    pub fn finish(mut self, message: impl Into<String>) -> CatalogEdit {
        self.next.counters.version += 1;
        self.put(records::counters_key(), records::encode(&self.next.counters));
        CatalogEdit {
            next: Arc::new(self.next),
            puts: self.puts,
            deletes: self.deletes,
            message: message.into(),
            checks: self.checks,
            expressions: self.expressions,
            affected: self.affected,
            dropped: self.dropped,
        }
    }
}

impl CatalogEdit {
    /// Notes that the contents of a dropped life are gone.
    pub fn contents_removed(catalog: &Catalog, incarnation: Incarnation) -> Self {
        let mut draft = Draft::new(catalog);
        draft.delete_dropped(incarnation);
        draft.finish(format!("contents of incarnation {incarnation} removed"))
    }

    /// Adds or replaces users without a statement: `root` at the first start, a login that strengthens a hash.
    pub fn put_users(catalog: &Catalog, users: impl IntoIterator<Item = User>) -> Self {
        let mut draft = Draft::new(catalog);
        users.into_iter().for_each(|user| draft.put_user(user));
        draft.finish("users changed")
    }

    /// Adds a namespace without a statement, for the first start.
    pub fn put_namespace(catalog: &Catalog, id: NamespaceId, created_at_ms: i64) -> Self {
        let mut draft = Draft::new(catalog);
        draft.put_namespace(Namespace { id, options: serde_json::Map::new(), created_at_ms });
        draft.finish("namespace created")
    }

    /// The user as the edit leaves it.
    pub fn user(&self, id: &UserId) -> Option<&Arc<User>> {
        self.next.user(id)
    }
}
