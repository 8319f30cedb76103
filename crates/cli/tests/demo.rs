//! The demo ends with a verified certificate, and leaves nothing behind, however it ends.

#![expect(clippy::expect_used, reason = "what a helper of a test expects is part of the test")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

const PROGRAM: &str = env!("CARGO_BIN_EXE_chancery");

fn demo(folder: &Path, flags: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("demo").args(flags).env_clear().env("TMPDIR", folder).env("HOME", folder);
    command.env("PATH", std::env::var_os("PATH").unwrap_or_default()).stdin(Stdio::null());
    command
}

fn is_empty(folder: &Path) -> bool {
    fs::read_dir(folder).expect("readable").next().is_none()
}

/// Reads lines until one holds `text`.
fn wait_for(child: &mut Child, text: &str) {
    let stdout = child.stdout.take().expect("piped");
    let mut lines = BufReader::new(stdout).lines();
    assert!(lines.any(|line| line.expect("text").contains(text)), "{text:?} was never said");
    // Who stops listening would end a program that cares; this one does not, and goes on.
    std::mem::forget(lines);
}

fn interrupt(child: &Child) {
    let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(status.expect("kill is there").success());
}

#[test]
fn the_demo_ends_with_a_verified_certificate_and_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let output = demo(folder.path(), &["-format=json"]).output().expect("it runs");
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(output.status.success(), "{told}{}", String::from_utf8_lossy(&output.stderr));
    let told: serde_json::Value = serde_json::from_str(&told).expect("JSON");
    assert_eq!(told["holds"], true);
    assert_eq!(told["certificate"]["spiffe_id"], "spiffe://cluster.local/ns/foo/sa/sleep");
    assert_eq!(told["verifiers"][0]["name"], "Chancery's own reader");
    let steps = told["steps"].as_array().expect("a list");
    assert!(steps.len() > 20 && steps.iter().all(|step| step["as_expected"] == true));
    assert!(is_empty(folder.path()));
}

#[test]
fn an_interrupt_on_the_way_removes_the_folder() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut child = demo(folder.path(), &[]).stdout(Stdio::piped()).spawn().expect("it runs");
    wait_for(&mut child, "Mount the PKI engine");
    interrupt(&child);
    let status = child.wait().expect("it ends");
    // On a slow day the demo is through before the signal arrives.
    assert!(matches!(status.code(), Some(130 | 0)), "{status}");
    assert!(is_empty(folder.path()));
}

#[test]
fn a_kept_server_answers_until_the_interrupt_and_then_leaves_nothing_behind() {
    let folder = tempfile::tempdir().expect("a folder");
    let mut child = demo(folder.path(), &["-keep"]).stdout(Stdio::piped()).spawn().expect("it runs");
    wait_for(&mut child, "The server keeps running");
    assert!(!is_empty(folder.path()));
    interrupt(&child);
    let status = child.wait().expect("it ends");
    assert_eq!(status.code(), Some(0));
    assert!(is_empty(folder.path()));
}
