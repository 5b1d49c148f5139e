//! One promise of DDL each.

mod accounts;
mod alter;
mod objects;
mod tables;
