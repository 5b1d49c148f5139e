//! The state machine of jobs.
