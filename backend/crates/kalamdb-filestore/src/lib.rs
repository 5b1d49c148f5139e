//! kalamdb-filestore
