//! Output that cannot be written is an error, and a reader that has gone away is none.

// Elsewhere there is no such device.
#![cfg(target_os = "linux")]
#![expect(clippy::expect_used, reason = "what a helper of a test expects is part of the test")]

use std::fs::File;
use std::process::{Command, Output, Stdio};

/// Runs a command that asks no server, with this as its standard output.
fn run(arguments: &[&str], stdout: impl Into<Stdio>) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_chancery"));
    command.args(arguments).env_clear().env("VAULT_TOKEN", "t").stdin(Stdio::null()).stdout(stdout);
    command.stderr(Stdio::piped()).output().expect("it runs")
}

#[test]
fn a_full_disk_under_the_output_fails_the_command_and_is_named() {
    let commands: [&[&str]; 5] =
        [&["version"], &["-version"], &["help"], &["read", "-h"], &["print", "token"]];
    for arguments in commands {
        let full = File::options().write(true).open("/dev/full").expect("the device is there");
        let output = run(arguments, full);
        let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{arguments:?}: {complaint}");
        assert_eq!(
            complaint, "Error writing output: No space left on device (os error 28)\n",
            "{arguments:?}"
        );
    }
}

#[test]
fn a_reader_that_has_gone_away_is_no_error() {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    let output = run(&["version"], writer);
    let complaint = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!((output.status.code(), complaint.as_str()), (Some(0), ""));
}
