//! Other people's clients against our binary: `compat/suites/NAME/{README.md, 00-…, 01-…}`.
//!
//! A suite is a folder of numbered steps (bash, Python or JavaScript) which run in order in one temporary
//! folder against a server that is started for the suite and always torn down. Its README says in one line
//! which servers it needs (`Servers: target`), and why it exists in the others. With `Programs: kubernetes` it
//! gets the double of the Kubernetes API server, whose path is in the variable `KUBERNETES`, and our binary.
//!
//! A step fails by exiting with anything but 0; 77 means skipped. If its last line counts
//! (`N passed, N failed, N skipped`), the counts are added to the summary. After a failure the
//! rest of the suite is not run, and counted as failed.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::cargo::{build_binary, build_example};
use crate::report::{Step, heading};
use crate::tally::{Tally, counts};
use crate::target::{DEV_TOKEN, Kind, Server};
use crate::tools::Tools;
use crate::{root, target_dir};

/// The exit status of a step that cannot run here.
const SKIPPED: i32 = 77;

/// No step may take longer, unless `--minutes` says so.
const MINUTES: u64 = 10;

/// What the command line asked for.
struct Options {
    suites: Vec<String>,
    /// The server that the suites judge.
    kind: Kind,
    /// The Cargo profile of our binary.
    profile: &'static str,
    /// Leave the temporary folders behind.
    keep: bool,
    /// No step may take longer.
    minutes: u64,
}

/// Runs the named suites, or all.
pub(crate) fn run(arguments: &[String]) -> Result<Tally> {
    let options = options(arguments)?;
    heading("clients of other people");
    let tools = Tools::install()?;
    let suites = select(&options)?;
    let ours = binary(options.profile);
    let needs_ours = |suite: &Suite| suite.servers == Servers::Peer || suite.needs_kubernetes;
    if options.kind == Kind::Chancery || suites.iter().any(needs_ours) {
        build_binary(options.profile)?;
    }
    if suites.iter().any(|suite| suite.needs_kubernetes) {
        // The one that the tests have built already; nobody measures it.
        build_example("chancery-testkit", "kubernetes", "dev")?;
    }
    let mut tally = Tally::default();
    for suite in &suites {
        tally.add(run_suite(suite, &options, &tools, &ours)?);
    }
    Ok(tally)
}

/// Where Cargo puts our binary.
pub(crate) fn binary(profile: &str) -> PathBuf {
    let folder = if profile == "dev" { "debug" } else { profile };
    target_dir().join(folder).join("chancery")
}

fn options(arguments: &[String]) -> Result<Options> {
    let mut options = Options {
        suites: Vec::new(),
        kind: Kind::Chancery,
        profile: "release",
        keep: false,
        minutes: MINUTES,
    };
    let mut arguments = arguments.iter();
    while let Some(argument) = arguments.next() {
        match argument.as_str() {
            "--against" => match arguments.next().map(String::as_str) {
                Some("peer") => options.kind = Kind::OpenBao,
                other => bail!("--against takes 'peer', not {other:?}"),
            },
            "--against=peer" => options.kind = Kind::OpenBao,
            "--dev" => options.profile = "dev",
            "--keep" => options.keep = true,
            "--minutes" => {
                let minutes = arguments.next().and_then(|minutes| minutes.parse().ok());
                options.minutes = minutes.context("--minutes takes a number")?;
            }
            flag if flag.starts_with('-') => bail!("unknown flag {flag}"),
            suite => options.suites.push(suite.to_owned()),
        }
    }
    Ok(options)
}

/// The servers a suite asks for with the `Servers:` line of its README.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Servers {
    /// One in memory, of the kind under judgement.
    Target,
    /// One in memory of each kind, compared with one another.
    Both,
    /// The peer alone, in memory: our command line is under judgement.
    Peer,
    /// None: the steps start their own with `lib.sh`.
    Own,
}

struct Suite {
    name: String,
    folder: PathBuf,
    servers: Servers,
    /// Whether steps start the double of the Kubernetes API server.
    needs_kubernetes: bool,
    steps: Vec<PathBuf>,
}

impl Suite {
    fn read(name: &str) -> Result<Self> {
        let folder = root().join("compat/suites").join(name);
        let readme = fs::read_to_string(folder.join("README.md"))
            .with_context(|| format!("reading the README of suite {name}"))?;
        let servers = match readme.lines().find_map(|line| line.strip_prefix("Servers: ")) {
            Some("target") => Servers::Target,
            Some("both") => Servers::Both,
            Some("peer") => Servers::Peer,
            Some("own") => Servers::Own,
            other => bail!("suite {name}: `Servers: {other:?}` is not target, both, peer or own"),
        };
        let needs_kubernetes = match readme.lines().find_map(|line| line.strip_prefix("Programs: ")) {
            Some("kubernetes") => true,
            None => false,
            Some(other) => bail!("suite {name}: there is no program {other:?}, only kubernetes"),
        };
        let mut steps: Vec<PathBuf> = fs::read_dir(&folder)?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| name_of(path).starts_with(|c: char| c.is_ascii_digit()))
            .collect();
        steps.sort();
        Ok(Self { name: name.to_owned(), folder, servers, needs_kubernetes, steps })
    }
}

fn select(options: &Options) -> Result<Vec<Suite>> {
    let mut names: Vec<String> = fs::read_dir(root().join("compat/suites"))
        .context("listing compat/suites")?
        .filter_map(|entry| entry.ok()?.file_name().into_string().ok())
        .collect();
    names.sort();
    if !options.suites.is_empty() {
        if let Some(unknown) = options.suites.iter().find(|name| !names.contains(name)) {
            bail!("there is no suite {unknown}; there are {}", names.join(", "));
        }
        names.clone_from(&options.suites);
    }
    names.iter().map(|name| Suite::read(name)).collect()
}

fn run_suite(suite: &Suite, options: &Options, tools: &Tools, ours: &Path) -> Result<Tally> {
    heading(&format!("{} ({})", suite.name, options.kind.name()));
    let folder = tempfile::Builder::new().prefix(&format!("compat-{}-", suite.name)).tempdir()?;
    let mut tally = Tally::default();
    let mut servers = Vec::new();
    for kind in suite.servers.of(options.kind) {
        let binary = if kind == Kind::Chancery { ours } else { &tools.bao() };
        match Server::dev(kind, binary, folder.path()) {
            Ok(server) => servers.push(server),
            Err(error) => {
                println!("   FAIL  {error:#}");
                tally.fail(format!("{}: its server does not start", suite.name));
                return Ok(tally);
            }
        }
    }
    let mut remaining = suite.steps.iter();
    for path in remaining.by_ref() {
        let name = format!("{}/{}", suite.name, name_of(path));
        let step = Step::begin(&name);
        let log = folder.path().join(format!("{}.out", name_of(path)));
        let mut command = command(path);
        environment(&mut command, suite, options, tools, ours, folder.path(), &servers);
        let limit = Duration::from_secs(60 * options.minutes);
        let status = bounded(command.current_dir(folder.path()), &log, limit)?;
        let output =
            fs::read(&log).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default();
        let last = output.lines().rev().find(|line| !line.trim().is_empty()).unwrap_or_default();
        let counted = counts(last);
        match status.and_then(|status| status.code()) {
            Some(0) => step.end("ok", if counted.is_some() { last } else { "" }),
            Some(SKIPPED) => step.end("skip", last),
            _ if status.is_none() => {
                step.end("FAIL", &format!("took longer than {} minutes", options.minutes));
            }
            _ => step.end("FAIL", ""),
        }
        match (status.and_then(|status| status.code()), counted) {
            (Some(SKIPPED), _) => {
                tally.skip(format!("{name}: {last}"));
                continue;
            }
            (Some(0), Some(counts)) => tally.count(&name, counts),
            (Some(0), None) => tally.pass(),
            (_, Some(counts)) if counts[1] > 0 => tally.count(&name, counts),
            (_, _) => tally.fail(&name),
        }
        if status.is_none_or(|status| !status.success()) {
            println!("{}", tail(&output, 400));
            for server in &servers {
                println!("--- the end of {}'s log\n{}", server.kind.name(), server.log_tail());
            }
            break;
        }
    }
    for path in remaining {
        tally.fail(format!("{}/{}: not reached", suite.name, name_of(path)));
    }
    end_processes(folder.path());
    if options.keep {
        println!("         kept {}", folder.keep().display());
    }
    Ok(tally)
}

impl Servers {
    fn of(self, target: Kind) -> Vec<Kind> {
        match self {
            Self::Target => vec![target],
            Self::Both => vec![target, Kind::OpenBao],
            Self::Peer => vec![Kind::OpenBao],
            Self::Own => vec![],
        }
    }
}

fn command(step: &Path) -> Command {
    let program = match step.extension().and_then(OsStr::to_str) {
        Some("py") => "python3",
        Some("js" | "mjs" | "cjs") => "node",
        _ => "bash",
    };
    let mut command = Command::new(program);
    command.arg(step);
    command
}

fn environment(
    command: &mut Command,
    suite: &Suite,
    options: &Options,
    tools: &Tools,
    ours: &Path,
    folder: &Path,
    servers: &[Server],
) {
    for variable in
        ["VAULT_NAMESPACE", "BAO_NAMESPACE", "VAULT_FORMAT", "BAO_FORMAT", "VAULT_CACERT", "BAO_CACERT"]
    {
        command.env_remove(variable);
    }
    let bao = tools.bao();
    command
        .env("PATH", tools.path())
        .env("HOME", folder)
        .env("COMPAT", root().join("compat"))
        .env("SUITE", &suite.folder)
        .env("TARGET", options.kind.name())
        .env("SERVER", if options.kind == Kind::Chancery { ours } else { &bao })
        .env("CHANCERY", ours)
        .env("BAO", &bao)
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .env("PYTHONPATH", root().join("compat/lib"));
    if suite.needs_kubernetes {
        command.env("KUBERNETES", target_dir().join("debug/examples/kubernetes"));
    }
    if let Some(modules) = &tools.node_modules {
        command.env("NODE_PATH", modules);
    }
    if let Some(server) = servers.first() {
        for prefix in ["VAULT", "BAO"] {
            command.env(format!("{prefix}_ADDR"), server.url()).env(format!("{prefix}_TOKEN"), DEV_TOKEN);
        }
    }
    if let Some(peer) = servers.get(1) {
        command.env("PEER_ADDR", peer.url());
    }
}

/// Runs the command with its output in `log`. `None` means that it took too long and was ended.
fn bounded(command: &mut Command, log: &Path, limit: Duration) -> Result<Option<ExitStatus>> {
    let file = File::create(log).with_context(|| format!("creating {}", log.display()))?;
    let mut child = command
        .stdin(Stdio::null())
        .stdout(file.try_clone()?)
        .stderr(file)
        .spawn()
        .with_context(|| format!("starting {:?}", command.get_program()))?;
    let start = Instant::now();
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(Some(status));
        }
        if start.elapsed() > limit {
            child.kill()?;
            child.wait()?;
            return Ok(None);
        }
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Ends the servers that steps started themselves: `lib.sh` writes their process ids to `pids`.
fn end_processes(folder: &Path) {
    for pid in fs::read_to_string(folder.join("pids")).unwrap_or_default().lines() {
        // Those that a step has ended already are no error.
        let _ = Command::new("kill").args(["-9", pid]).stderr(Stdio::null()).status();
    }
}

fn tail(text: &str, lines: usize) -> String {
    let all: Vec<&str> = text.lines().collect();
    all.get(all.len().saturating_sub(lines)..).unwrap_or_default().join("\n")
}

fn name_of(path: &Path) -> &str {
    path.file_name().and_then(OsStr::to_str).unwrap_or_default()
}
