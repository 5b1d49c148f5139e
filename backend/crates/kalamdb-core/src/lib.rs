//! The engine.

pub mod api;
pub mod catalog;
pub mod functions;
pub mod jobs;
pub mod stats;
pub mod system;
