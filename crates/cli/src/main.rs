//! The chancery binary: everything is in the library.

use std::process::ExitCode;

fn main() -> ExitCode {
    chancery_cli::main()
}
