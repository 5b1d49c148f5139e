//! One promise of DDL each.
