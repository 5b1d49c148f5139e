//! kalamdb-core
