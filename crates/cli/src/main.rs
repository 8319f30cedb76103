//! The chancery binary: everything is in the library.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// For the C libraries too (feature `override`).
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    chancery_cli::main()
}
