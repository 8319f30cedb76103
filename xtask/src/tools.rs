//! Other people's clients, installed under the target folder at pinned versions.
//!
//! Python's are listed in `compat/requirements.txt`, JavaScript's in `compat/node/package-lock.json`.
//! An installation is done once: a stamp file holds the list that it was made from.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail};

use crate::report::Step;
use crate::{root, target_dir};

/// Where the clients are once installed.
#[derive(Debug, Clone)]
pub(crate) struct Tools {
    /// A Python virtual environment; also holds `bao`.
    pub(crate) python: PathBuf,
    /// A `node_modules` folder, or `None` where there is no npm.
    pub(crate) node_modules: Option<PathBuf>,
}

impl Tools {
    /// Installs what is missing. Python, `bao` and openssl must be had; Node may be absent.
    pub(crate) fn install() -> Result<Self> {
        let folder = target_dir().join("compat");
        fs::create_dir_all(&folder).with_context(|| format!("creating {}", folder.display()))?;
        let folder = folder.canonicalize().with_context(|| format!("finding {}", folder.display()))?;
        if !succeeds(Command::new("openssl").arg("version")) {
            bail!("openssl must be installed: the suites verify certificates with it");
        }
        Ok(Self { python: install_python(&folder)?, node_modules: install_node(&folder)? })
    }

    /// The OpenBao binary: its command line and the peer server.
    pub(crate) fn bao(&self) -> PathBuf {
        self.python.join("bin/bao")
    }

    /// The `PATH` on which the clients are found first.
    pub(crate) fn path(&self) -> OsString {
        let mut path = OsString::from(self.python.join("bin"));
        path.push(":");
        path.push(std::env::var_os("PATH").unwrap_or_default());
        path
    }
}

fn install_python(folder: &Path) -> Result<PathBuf> {
    let list = root().join("compat/requirements.txt");
    let environment = folder.join("python");
    let stamp = Stamp::new(&list, folder.join("python.installed"))?;
    if stamp.is_current() {
        return Ok(environment);
    }
    let step = Step::begin("installing compat/requirements.txt");
    must(
        Command::new("python3").args(["-m", "venv", "--clear"]).arg(&environment),
        "making a Python environment",
    )?;
    must(
        Command::new(environment.join("bin/python"))
            .args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check", "-r"])
            .arg(&list),
        "installing compat/requirements.txt with pip",
    )?;
    stamp.write()?;
    step.end("ok", "");
    Ok(environment)
}

fn install_node(folder: &Path) -> Result<Option<PathBuf>> {
    if !succeeds(Command::new("npm").arg("--version")) {
        return Ok(None);
    }
    let source = root().join("compat/node");
    let modules = folder.join("node/node_modules");
    let stamp = Stamp::new(&source.join("package-lock.json"), folder.join("node.installed"))?;
    if stamp.is_current() {
        return Ok(Some(modules));
    }
    let step = Step::begin("installing compat/node/package.json");
    fs::create_dir_all(folder.join("node"))?;
    for file in ["package.json", "package-lock.json"] {
        fs::copy(source.join(file), folder.join("node").join(file))
            .with_context(|| format!("copying {file}"))?;
    }
    let arguments = ["ci", "--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"];
    must(
        Command::new("npm").args(arguments).current_dir(folder.join("node")),
        "installing compat/node with npm",
    )?;
    stamp.write()?;
    step.end("ok", "");
    Ok(Some(modules))
}

/// Remembers from which list an installation was made.
struct Stamp {
    wanted: String,
    file: PathBuf,
}

impl Stamp {
    fn new(list: &Path, file: PathBuf) -> Result<Self> {
        let wanted = fs::read_to_string(list).with_context(|| format!("reading {}", list.display()))?;
        Ok(Self { wanted, file })
    }

    fn is_current(&self) -> bool {
        fs::read_to_string(&self.file).is_ok_and(|made_from| made_from == self.wanted)
    }

    fn write(&self) -> Result<()> {
        fs::write(&self.file, &self.wanted).with_context(|| format!("writing {}", self.file.display()))
    }
}

/// Whether the command can be started and exits with 0; its output is dropped.
pub(crate) fn succeeds(command: &mut Command) -> bool {
    command.output().is_ok_and(|output| output.status.success())
}

/// Runs the command to its end and, if it fails, says what it printed.
pub(crate) fn must(command: &mut Command, doing: &str) -> Result<String> {
    let output =
        command.output().with_context(|| format!("{doing}: starting {:?}", command.get_program()))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        bail!("{doing}: {} said: {}", command.get_program().display(), said.trim());
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
