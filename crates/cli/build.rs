//! How the program is linked: functions whose code is the same are kept once, which makes it a good part smaller.

fn main() {
    println!("cargo::rerun-if-changed=build.rs");
    let release = std::env::var("PROFILE").is_ok_and(|profile| profile == "release");
    let linux = std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "linux");
    // The linker of the toolchain for Linux understands it; others may not.
    if release && linux {
        println!("cargo::rustc-link-arg-bins=-Wl,--icf=all");
    }
}
