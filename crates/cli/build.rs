//! How the program is linked: functions whose code is the same are kept once, and addresses that are known only when it
//! starts are written down in little room. Both make it a good part smaller. What an agent runs lies together, which
//! keeps it small in memory.

use std::env;
use std::fs;
use std::io;
use std::path::Path;
use std::process::Command;

/// What an agent runs.
const NAMES: &str = "link/agent.names";

fn main() -> io::Result<()> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed={NAMES}");
    println!("cargo::rerun-if-env-changed=RUSTC_LINKER");
    println!("cargo::rerun-if-env-changed=CARGO_ENCODED_RUSTFLAGS");
    let release = env::var("PROFILE").is_ok_and(|profile| profile == "release");
    if release && linker_is_known() {
        println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
        if packed_addresses_are_read() {
            println!("cargo::rustc-link-arg-bins=-Wl,-z,pack-relative-relocs");
        }
        let script = Path::new(&env::var("OUT_DIR").map_err(io::Error::other)?).join("order.ld");
        fs::write(&script, order(&fs::read_to_string(NAMES)?))?;
        println!("cargo::rustc-link-arg-bins=-T{}", script.display());
    }
    Ok(())
}

/// Whether it is the one that the toolchain brings along, lld: so for this target, unless somebody has chosen another.
/// Others may not understand what is asked of it, and then link as they always do.
fn linker_is_known() -> bool {
    let target = env::var("TARGET").is_ok_and(|target| target == "x86_64-unknown-linux-gnu");
    let flags = env::var("CARGO_ENCODED_RUSTFLAGS").unwrap_or_default();
    target && env::var_os("RUSTC_LINKER").is_none() && !flags.contains("link") && !flags.contains("lld")
}

/// A linker script that is added to the linker's own: `.text` begins with what `names` says, in its order.
///
/// It stays one section of the program, as functions of different ones would not be compared by `--icf`.
fn order(names: &str) -> String {
    let mut script = String::from("SECTIONS { .text : {\n");
    for name in names.lines().filter(|line| !line.is_empty() && !line.starts_with('#')) {
        script.push_str(&match name.split_once(' ') {
            Some(("object", object)) => format!("*:*-{object}(.text .text.*)\n"),
            Some(("library", library)) => format!("*{library}-*:*(.text .text.*)\n"),
            _ => format!("*(.text.{name})\n"),
        });
    }
    script.push_str("*(.text .text.*)\n} }\nINSERT BEFORE .init;\n");
    script
}

/// Whether the C library that it is built with, and so those that it will run with, read `DT_RELR`: glibc from 2.36 on.
fn packed_addresses_are_read() -> bool {
    let told = Command::new("getconf").arg("GNU_LIBC_VERSION").output();
    let told = told.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    let version = told.strip_prefix("glibc ").and_then(|version| version.trim().split_once('.'));
    let version = version.and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)));
    version.is_some_and(|version: (u32, u32)| version >= (2, 36))
}
