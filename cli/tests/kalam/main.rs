//! The command line as its users have it: the real program against the real server.
//!
//! | module | promises |
//! |---|---|
//! | [`commands`] | files out and in, what broke off and goes on, jobs, doctor, remembered passwords |
//! | [`subscribe`] | what is printed as it changes, over the end of the server |
//! | [`terminal`] | what is typed at the prompt, and what stands on the screen then |
//! | [`guides`] | the pages of `docs/guides`, carried out as they are written |
//! | [`tour`] | the tours of the README and of the page for beginners, on the real input |
//!
//! [`server`] starts the server and `kalam`.
#![expect(clippy::unwrap_used, reason = "tests")]

mod commands;
mod guides;
mod server;
mod subscribe;
mod terminal;
mod tour;
