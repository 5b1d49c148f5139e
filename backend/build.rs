//! How the server is linked: the addresses that the loader fills in are stored packed, about a bit for each instead of 24
//! bytes. Unpacked they are nine megabytes, which every start reads and which stay resident.
//!
//! A loader understands that from version 2.36 of the C library. A server that is built where it is older, or for
//! another machine, is linked as ever.

use std::process::Command;

#[expect(clippy::disallowed_methods, reason = "cargo's words to this program, and no setting")]
fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let target = std::env::var("TARGET").unwrap_or_default();
    let is_own = std::env::var("HOST").is_ok_and(|host| host == target);
    if is_own && target.ends_with("-linux-gnu") && c_library().is_some_and(|version| version >= (2, 36)) {
        println!("cargo:rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
    }
}

/// The version of the C library of this machine.
fn c_library() -> Option<(u32, u32)> {
    let told = Command::new("getconf").arg("GNU_LIBC_VERSION").output().ok()?;
    let (major, minor) = std::str::from_utf8(&told.stdout).ok()?.trim().strip_prefix("glibc ")?.split_once('.')?;
    Some((major.parse().ok()?, minor.split('.').next()?.parse().ok()?))
}
