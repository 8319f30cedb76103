//! How the program is linked: functions whose code is the same are kept once, and addresses that are known only when it
//! starts are written down in little room. Both make it a good part smaller.

use std::process::Command;

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let linux = std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "linux");
    // The linker of the toolchain for Linux understands them; others may not.
    if release && linux {
        println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
        if packed_addresses_are_read() {
            println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
        }
    }
}

/// Whether the C library that it is built with, and so those that it will run with, read `DT_RELR`: glibc from 2.36 on.
fn packed_addresses_are_read() -> bool {
    let told = Command::new("getconf").arg("GNU_LIBC_VERSION").output();
    let told = told.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let version = told.strip_prefix("glibc ").and_then(|version| version.trim().split_once('.'));
    let version = version.and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    version.is_some_and(|version: (u32, u32)| version >= (2, 36))
}
