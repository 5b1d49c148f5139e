//! kalamdb-auth
