//! The server as its users have it: the real binary, a data directory of its own, and HTTP.
//!
//! | module | promises |
//! |---|---|
//! | [`accounts`] | logging in and out, sessions, the first start, guessing |
//! | [`answers`] | the exact shapes of answers |
//! | [`refusals`] | status, code and words of errors, and limits |
//! | [`repeats`] | `Idempotency-Key` |
//! | [`imports`] | bodies of rows |
//! | [`isolation`] | nobody learns of another's rows |
//! | [`names`] | odd names work or are refused, and never leave their directory |
//! | [`lives`] | start, stop, and start again |
//! | [`kills`] | `kill -9` under load |
//! | [`damage`] | damaged and missing files |
//! | [`settings`] | settings that are wrong |
//! | [`storages`] | history in an object store |
#![expect(clippy::unwrap_used, reason = "tests")]

mod accounts;
mod answers;
mod damage;
mod imports;
mod isolation;
mod kills;
mod lives;
mod names;
mod refusals;
mod repeats;
mod s3;
mod server;
mod settings;
mod storages;
