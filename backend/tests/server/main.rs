//! The server as its users have it: the real binary, a data directory of its own, and HTTP.
//!
//! | module | promises |
//! |---|---|
//! | [`accounts`] | logging in and out, sessions, the first start, guessing |
//! | [`answers`] | the exact shapes of answers |
//! | [`refusals`] | status, code and words of errors, and limits |
//! | [`repeats`] | `Idempotency-Key` |
//! | [`fairness`] | limits of users and connections |
//! | [`impersonated`] | the audit log and what was done on somebody's behalf, over kills |
//! | [`imports`] | bodies of rows |
//! | [`isolation`] | nobody learns of another's rows |
//! | [`names`] | odd names work or are refused, and never leave their directory |
//! | [`live`], [`wire`] | live queries over WebSocket; a client of them |
//! | [`live_hostile`] | clients of live queries that mean harm |
//! | [`live_rights`] | rights and limits of live queries |
//! | [`live_checker`] | whatever happens, watchers end up with what SELECT says |
//! | [`live_demo`], [`browser`] | `/live-demo` in a real browser |
//! | [`lives`] | start, stop, and start again |
//! | [`kills`] | `kill -9` under load |
//! | [`power_cut`] | the same when what was not synced is lost |
//! | [`fail_points`] | an end between any two durable steps |
//! | [`backups`] | backups, restores and erasures cut short |
//! | [`purge`] | the purge of a dropped user, cut short |
//! | [`jobs`] | jobs submitted, stopped, killed with the server and done again |
//! | [`compaction`] | history compacted, cut short, and by itself |
//! | [`rebuilds`] | lost manifests made again, cut short |
//! | [`removals`] | dropped contents and orphan files removed, cut short |
//! | [`damage`] | damaged and missing files |
//! | [`full_disk`] | a disk without space |
//! | [`syncs`] | each sync is needed: without it a power cut is noticed |
//! | [`openapi`] | the document of the interface |
//! | [`operations`] | figures, ids of requests, slow statements, health, draining |
//! | [`settings`] | settings that are wrong |
//! | [`statistics`] | what a request has cost, in every answer |
//! | [`tls`] | TLS, and listening beyond loopback |
//! | [`traces`] | spans to a collector |
//! | [`upgrades`] | data of other versions; what is packaged |
//! | [`storages`] | history in an object store |
//! | [`storage_statements`] | storages that SQL makes |
//!
//! [`server`] starts them, [`load`] writes to them, and [`disk`] is one that loses power.
#![expect(clippy::unwrap_used, reason = "tests")]

mod accounts;
mod answers;
mod backups;
mod browser;
mod compaction;
mod damage;
mod disk;
mod fail_points;
mod fairness;
mod full_disk;
mod impersonated;
mod imports;
mod isolation;
mod jobs;
mod kills;
mod live;
mod live_checker;
mod live_demo;
mod live_hostile;
mod live_rights;
mod lives;
mod load;
mod manifest_cache;
mod names;
mod openapi;
mod operations;
mod power_cut;
mod purge;
mod rebuilds;
mod refusals;
mod removals;
mod repeats;
mod s3;
mod server;
mod settings;
mod statistics;
mod storage_statements;
mod storages;
mod syncs;
mod tls;
mod traces;
mod upgrades;
mod wire;
