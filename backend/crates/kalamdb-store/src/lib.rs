//! kalamdb-store
