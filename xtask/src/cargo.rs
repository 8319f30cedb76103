//! The checks and tests that Cargo runs, with their results counted.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};

use anyhow::{Context, Result, bail};

use crate::report::{Step, heading};
use crate::tally::{Tally, counts};
use crate::tools::{must, succeeds};
use crate::{compat, layers, root, target_dir};

/// What to run before a push. Under two minutes once everything is built.
pub(crate) fn check() -> Result<Tally> {
    let mut tally = static_checks()?;
    tally.add(workspace_tests()?);
    Ok(tally)
}

/// Everything: the checks, the tests of every crate, and every compat suite.
pub(crate) fn test() -> Result<Tally> {
    // The last pass over all crates takes minutes of one processor; meanwhile the others check and test.
    let building = Building::start("release")?;
    let mut tally = check()?;
    tally.add(mutated_input()?);
    building.end()?;
    tally.add(compat::run(&[])?);
    Ok(tally)
}

/// The binary, while it is built beside other work; dropped, the build is given up.
struct Building(Child);

impl Building {
    fn start(profile: &str) -> Result<Self> {
        let mut command = Command::new("nice");
        command.args(["cargo", "build", "--quiet", "--package", "chancery", "--profile", profile]);
        command.current_dir(root()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        Ok(Self(command.spawn().context("starting cargo")?))
    }

    /// Waits for it. What went wrong is told by whoever builds it again.
    fn end(mut self) -> Result<()> {
        let step = Step::begin("the binary of the release");
        let status = self.0.wait().context("waiting for cargo")?;
        step.end(if status.success() { "ok" } else { "FAIL" }, "");
        Ok(())
    }
}

impl Drop for Building {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Every parser of strangers' input under mutated input for ten seconds. `fuzz` is the same guided by coverage, which
/// needs another compiler.
fn mutated_input() -> Result<Tally> {
    heading("mutated input, ten seconds for each parser");
    // The whole workspace is named, since dependencies of a part of it would be built again for other features.
    let mut command = cargo(&["test", "--quiet", "--workspace", "--test", "mutated_input"]);
    counted("mutated input", command.env("CHANCERY_FUZZ_SECONDS", "10"))
}

/// The scenarios that tests play with the double of the Kubernetes API server, played by a real one. What needs the
/// double is left out, and said.
pub(crate) fn envtest() -> Result<Tally> {
    let assets = std::env::var_os("KUBEBUILDER_ASSETS")
        .map(std::path::PathBuf::from)
        .context("KUBEBUILDER_ASSETS must name a folder with kube-apiserver and etcd")?;
    for program in ["kube-apiserver", "etcd"] {
        if !assets.join(program).is_file() {
            bail!("there is no {program} in {}, which KUBEBUILDER_ASSETS names", assets.display());
        }
    }
    heading("a real Kubernetes API server");
    let mut tally = Tally::default();
    for (package, test) in [("chancery", "controller"), ("chancery-mesh", "kubernetes")] {
        let name = format!("{package}: {test}");
        let arguments =
            ["test", "--package", package, "--test", test, "--", "--nocapture", "a_real_api_server"];
        tally.add(counted(&name, &mut cargo(&arguments))?);
    }
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

/// Writes the Rust of the `.proto` files anew. The program that does so is no part of the workspace: no build waits for it.
pub(crate) fn generate_proto() -> Result<Tally> {
    heading("code of .proto files");
    let manifest = root().join("crates/mesh/proto/generate/Cargo.toml");
    let mut command = cargo(&["run", "--quiet", "--manifest-path"]);
    counted("generate", command.arg(manifest))
}

/// Writes the CustomResourceDefinitions anew from the types.
pub(crate) fn generate_crds() -> Result<Tally> {
    heading("CustomResourceDefinitions");
    let mut command =
        cargo(&["test", "-p", "chancery-kubernetes", "--lib", "the_files_are_what_the_types_say"]);
    counted("cargo test (writing)", command.env("UPDATE_GOLDEN", "1"))
}

/// Runs fuzz targets, each for a while: all, or those that are named. Says so where there is no nightly compiler.
pub(crate) fn fuzz(arguments: &[String]) -> Result<Tally> {
    let is_number = |argument: &&String| argument.starts_with(|c: char| c.is_ascii_digit());
    let time: u32 = match arguments.iter().find(is_number) {
        Some(time) => time.trim_end_matches('s').parse().context("seconds are a whole number")?,
        None => 10,
    };
    let mut names: Vec<String> = std::fs::read_dir(root().join("fuzz/fuzz_targets"))
        .context("listing fuzz/fuzz_targets")?
        .filter_map(|entry| entry.ok()?.path().file_stem()?.to_str().map(str::to_owned))
        .collect();
    names.sort();
    let wanted: Vec<&String> = arguments.iter().filter(|argument| !is_number(argument)).collect();
    if let Some(unknown) = wanted.iter().find(|name| !names.contains(name)) {
        bail!("there is no fuzz target {unknown}; there are {}", names.join(", "));
    }
    names.retain(|name| wanted.is_empty() || wanted.contains(&name));

    heading("fuzz targets");
    let mut tally = Tally::default();
    if !succeeds(Command::new("cargo").args(["+nightly", "--version"])) {
        tally.skip("fuzz: needs a nightly compiler (rustup toolchain install nightly)");
        return Ok(tally);
    }
    let path = install_cargo_fuzz()?;
    // Without unsafe code of ours, a sanitizer would find little and cost half the speed.
    let cargo_fuzz = |action: &str| {
        let mut command = Command::new("cargo");
        command.args(["+nightly", "fuzz", action, "--sanitizer", "none", "--target-dir"]);
        command.arg(target_dir().join("fuzz")).current_dir(root()).env("PATH", &path);
        command
    };
    let step = Step::begin("building");
    must(&mut cargo_fuzz("build"), "building the fuzz targets")?;
    step.end("ok", "");
    for name in names {
        let step = Step::begin(format!("{name} for {time} s"));
        // Finds are kept in the first folder, so that the next run begins where this one ends.
        let corpus = root().join("fuzz/corpus").join(&name);
        std::fs::create_dir_all(&corpus).with_context(|| format!("creating {}", corpus.display()))?;
        let run = cargo_fuzz("run")
            .arg(&name)
            .arg(corpus)
            .arg(root().join("fuzz/seeds").join(&name))
            .args(["--", &format!("-max_total_time={time}"), "-rss_limit_mb=2048", "-timeout=60"])
            .output()
            .context("starting cargo fuzz")?;
        let said = String::from_utf8_lossy(&run.stderr);
        if run.status.success() {
            tally.pass();
            let done = said.lines().rev().find(|line| line.starts_with("Done "));
            step.end("ok", done.unwrap_or_default());
        } else {
            step.end("FAIL", "");
            println!("{said}");
            tally.fail(format!("fuzz {name}"));
        }
    }
    Ok(tally)
}

/// Installs cargo-fuzz under the target folder, once, and returns the `PATH` on which it is found.
fn install_cargo_fuzz() -> Result<OsString> {
    const VERSION: &str = "0.13.2";
    let tools = target_dir().join("tools");
    let folder = tools.join("bin");
    if !folder.join("cargo-fuzz").exists() {
        let step = Step::begin(format!("installing cargo-fuzz {VERSION}"));
        let arguments = ["install", "cargo-fuzz", "--version", VERSION, "--locked", "--quiet", "--root"];
        must(cargo(&arguments).arg(&tools), "installing cargo-fuzz")?;
        step.end("ok", "");
    }
    let others = std::env::var_os("PATH").unwrap_or_default();
    let all = std::iter::once(folder).chain(std::env::split_paths(&others));
    std::env::join_paths(all).context("the target folder's name cannot stand in PATH")
}

/// Builds our binary in the given profile and returns nothing: its place is [`compat::binary`].
pub(crate) fn build_binary(profile: &str) -> Result<()> {
    let mut command = cargo(&["build", "--package", "chancery", "--profile", profile]);
    if !command.status().context("starting cargo")?.success() {
        bail!("the binary does not build");
    }
    Ok(())
}

/// Builds an example of a crate, with the given profile.
pub(crate) fn build_example(package: &str, example: &str, profile: &str) -> Result<()> {
    let mut command = cargo(&["build", "--package", package, "--example", example, "--profile", profile]);
    if !command.status().context("starting cargo")?.success() {
        bail!("the example {example} does not build");
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
    if std::env::var_os("CI").is_some() {
        // Nobody builds there a second time, and what a second build would need takes gigabytes.
        command.env("CARGO_INCREMENTAL", "0");
    }
    command
}
