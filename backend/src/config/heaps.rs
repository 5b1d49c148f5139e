//! How many heaps the C library keeps, which it reads from the environment and only at its start.

use std::os::unix::process::CommandExt;
use std::process::Command;

const VARIABLE: &str = "MALLOC_ARENA_MAX";

/// Starts this program again, in its place, with a C library that keeps few heaps. By default each thread has one of its
/// own, and what the storage engine frees in them stays resident: a third of the memory after a large import.
#[expect(clippy::disallowed_methods, reason = "it is no setting of ours, but of the C library's")]
pub(crate) fn limit() {
    if cfg!(not(all(target_os = "linux", target_env = "gnu"))) || std::env::var_os(VARIABLE).is_some() {
        return;
    }
    let mut arguments = std::env::args_os();
    let mut again = Command::new("/proc/self/exe");
    if let Some(name) = arguments.next() {
        again.arg0(name);
    }
    // It returns only if it fails, and then all that is lost is memory.
    let _ = again.args(arguments).env(VARIABLE, "2").exec();
}
