//! The chancery binary: everything is in the library.

use std::process::ExitCode;

use tikv_jemallocator::Jemalloc;

/// For the C libraries too (feature `unprefixed_malloc_on_supported_platforms`).
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

fn main() -> ExitCode {
    chancery_cli::main()
}
