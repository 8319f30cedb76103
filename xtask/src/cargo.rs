//! The checks and tests that Cargo runs, with their results counted.

use std::io::{BufRead, BufReader};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::report::{Step, heading};
use crate::tally::{Tally, counts};
use crate::tools::succeeds;
use crate::{compat, layers, root};

/// What to run before a push. Under two minutes once everything is built.
pub(crate) fn check() -> Result<Tally> {
    let mut tally = static_checks()?;
    tally.add(workspace_tests()?);
    Ok(tally)
}

/// Everything: the checks, the tests of every crate, and every compat suite.
pub(crate) fn test() -> Result<Tally> {
    let mut tally = check()?;
    tally.add(compat::run(&[])?);
    Ok(tally)
}

/// The founding walkthrough with our own binary, in the release profile.
pub(crate) fn demo(arguments: &[String]) -> Result<Tally> {
    let mut command = cargo(&["run", "--release", "--package", "chancery", "--", "demo"]);
    let status = command.args(arguments).status().context("starting cargo")?;
    if !status.success() {
        bail!("the demo ended with {status}");
    }
    Ok(Tally::default())
}

/// Runs the tests whose expectations are kept in files and lets them write those files.
///
/// The difference is then reviewed with `git diff`, like any other change.
pub(crate) fn generate() -> Result<Tally> {
    heading("golden files, snapshots and transcripts");
    let mut command = cargo(&["test", "--workspace", "--no-fail-fast"]);
    command.env("UPDATE_GOLDEN", "1").env("INSTA_UPDATE", "always").env("TRYCMD", "overwrite");
    counted("cargo test (writing)", &mut command)
}

/// Runs every fuzz target for a while; says so where cargo-fuzz or a nightly compiler is missing.
pub(crate) fn fuzz(arguments: &[String]) -> Result<Tally> {
    let time: u32 = match arguments {
        [] => 10,
        [time] => time.trim_end_matches('s').parse().context("the argument is a number of seconds")?,
        _ => bail!("fuzz takes one argument, the seconds for each target"),
    };
    let mut tally = Tally::default();
    if !succeeds(Command::new("cargo").args(["+nightly", "fuzz", "--version"])) {
        tally.skip("fuzz: needs a nightly compiler and cargo-fuzz (cargo install cargo-fuzz)");
        return Ok(tally);
    }
    let mut names: Vec<String> = std::fs::read_dir(root().join("fuzz/fuzz_targets"))
        .context("listing fuzz/fuzz_targets")?
        .filter_map(|entry| entry.ok()?.path().file_stem()?.to_str().map(str::to_owned))
        .collect();
    names.sort();
    for name in names {
        let step = Step::begin(format!("fuzz {name} for {time} s"));
        let limit = format!("-max_total_time={time}");
        let run = Command::new("cargo")
            .args(["+nightly", "fuzz", "run", &name, "--", &limit, "-rss_limit_mb=2048"])
            .current_dir(root())
            .output()
            .context("starting cargo fuzz")?;
        if run.status.success() {
            tally.pass();
            step.end("ok", "");
        } else {
            step.end("FAIL", "");
            println!("{}", String::from_utf8_lossy(&run.stderr));
            tally.fail(format!("fuzz {name}"));
        }
    }
    Ok(tally)
}

/// Builds our binary in the given profile and returns nothing: its place is [`compat::binary`].
pub(crate) fn build_binary(profile: &str) -> Result<()> {
    let mut command = cargo(&["build", "--package", "chancery", "--profile", profile]);
    if !command.status().context("starting cargo")?.success() {
        bail!("the binary does not build");
    }
    Ok(())
}

fn static_checks() -> Result<Tally> {
    heading("checks");
    let mut tally = Tally::default();
    let clippy = ["clippy", "--workspace", "--all-targets", "--quiet", "--", "--deny", "warnings"];
    for (name, arguments) in [("format", &["fmt", "--all", "--check"][..]), ("clippy", &clippy)] {
        one(name, &mut cargo(arguments), &mut tally)?;
    }
    if succeeds(Command::new("cargo").args(["deny", "--version"])) {
        one(
            "licences, bans, sources",
            &mut cargo(&["deny", "check", "licenses", "bans", "sources"]),
            &mut tally,
        )?;
    } else {
        tally.skip("licences, bans, sources: needs cargo-deny (cargo install cargo-deny)");
    }
    tally.add(layers::run()?);
    Ok(tally)
}

fn one(name: &str, command: &mut Command, tally: &mut Tally) -> Result<()> {
    let step = Step::begin(name);
    let output = command.output().with_context(|| format!("starting {name}"))?;
    if output.status.success() {
        step.end("ok", "");
        tally.pass();
    } else {
        step.end("FAIL", "");
        println!("{}", String::from_utf8_lossy(&output.stdout));
        println!("{}", String::from_utf8_lossy(&output.stderr));
        tally.fail(name);
    }
    Ok(())
}

fn workspace_tests() -> Result<Tally> {
    heading("tests of every crate");
    let mut tally = Tally::default();
    if succeeds(Command::new("cargo").args(["nextest", "--version"])) {
        let arguments = ["nextest", "run", "--workspace", "--no-fail-fast", "--no-tests=pass"];
        let quiet = ["--status-level=fail", "--final-status-level=fail", "--hide-progress-bar"];
        tally.add(counted("cargo nextest", cargo(&arguments).args(quiet))?);
        heading("examples in the documentation");
        tally.add(counted("cargo test --doc", &mut cargo(&["test", "--workspace", "--doc", "--quiet"]))?);
    } else {
        tally.add(counted("cargo test", &mut cargo(&["test", "--workspace", "--no-fail-fast", "--quiet"]))?);
    }
    Ok(tally)
}

/// Runs the command with its output shown, and adds up the closing lines of the test runners in it.
fn counted(name: &str, command: &mut Command) -> Result<Tally> {
    let mut child = command
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {name}"))?;
    let streams: [Option<Box<dyn std::io::Read + Send>>; 2] = [
        child.stdout.take().map(|stream| Box::new(stream) as Box<_>),
        child.stderr.take().map(|stream| Box::new(stream) as Box<_>),
    ];
    let mut total = [0; 3];
    std::thread::scope(|scope| {
        let readers: Vec<_> = streams.into_iter().flatten().map(|s| scope.spawn(move || show(s))).collect();
        for reader in readers {
            for (sum, more) in total.iter_mut().zip(reader.join().unwrap_or_default()) {
                *sum += more;
            }
        }
    });
    let status = child.wait()?;
    let mut tally = Tally::default();
    tally.count(name, total);
    if !status.success() && tally.failed == 0 {
        tally.fail(format!("{name}: {status}, without a failed test (does it compile?)"));
    }
    Ok(tally)
}

fn show(stream: impl std::io::Read) -> [usize; 3] {
    let mut total = [0; 3];
    for line in BufReader::new(stream).lines().map_while(std::result::Result::ok) {
        if let Some(counts) = counts(&line) {
            for (sum, more) in total.iter_mut().zip(counts) {
                *sum += more;
            }
        }
        println!("{line}");
    }
    total
}

fn cargo(arguments: &[&str]) -> Command {
    let mut command = Command::new("cargo");
    command.args(arguments).current_dir(root());
    command
}
