//! kalamdb-sql
