//! The long-running parts of the demo, each a process of its own, ended whatever happens.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// How long a part may take until it is ready. Envoy takes a second on an idle machine.
const READY: Duration = Duration::from_secs(30);

/// The processes that run; clones are the same ones. `None` once they were ended: then none is started any more.
#[derive(Clone)]
pub(super) struct Running(Arc<Mutex<Option<Vec<Child>>>>);

impl Default for Running {
    fn default() -> Self {
        Self(Arc::new(Mutex::new(Some(Vec::new()))))
    }
}

/// A part that runs.
pub(super) struct Process {
    name: String,
    log: PathBuf,
    id: u32,
    running: Running,
}

impl Running {
    /// Starts a program; what it says goes to `NAME.log` in the folder.
    pub(super) fn start(
        &self,
        name: &str,
        program: &Path,
        args: &[String],
        variables: &[(&str, &str)],
        folder: &Path,
    ) -> Result<Process, String> {
        let failed = |error: std::io::Error| format!("{name}: {error}");
        let log = folder.join(format!("{name}.log"));
        let output = File::create(&log).map_err(failed)?;
        let errors = output.try_clone().map_err(failed)?;
        let mut command = Command::new(program);
        // Nothing of this terminal's settings of other servers and meshes.
        command.env_clear();
        for name in ["PATH", "HOME", "TMPDIR"] {
            if let Some(value) = std::env::var_os(name) {
                command.env(name, value);
            }
        }
        command.args(args).envs(variables.iter().copied()).current_dir(folder);
        command.stdin(Stdio::null()).stdout(output).stderr(errors);
        // Held until it is in the list: whoever ends them must see it.
        let mut children = self.lock();
        let children = children.as_mut().ok_or_else(|| format!("{name}: the demo is ending"))?;
        let child = command.spawn().map_err(failed)?;
        let id = child.id();
        children.push(child);
        Ok(Process { name: name.to_owned(), log, id, running: self.clone() })
    }

    /// Ends all of them.
    pub(super) fn end(&self) {
        for mut child in self.lock().take().unwrap_or_default() {
            // One that has ended already needs neither.
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Vec<Child>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Process {
    /// Waits until it is ready, as `ready` sees it, and says how long that took.
    pub(super) fn wait(&self, mut ready: impl FnMut() -> bool) -> Result<Duration, String> {
        let began = Instant::now();
        while !ready() {
            if self.has_ended() {
                return Err(format!("{} has ended: {}", self.name, self.last_words()));
            }
            if began.elapsed() > READY {
                return Err(format!("{} is not ready after {READY:?}: {}", self.name, self.last_words()));
            }
            sleep(Duration::from_millis(2));
        }
        Ok(began.elapsed())
    }

    fn has_ended(&self) -> bool {
        let mut children = self.running.lock();
        let child = children.iter_mut().flatten().find(|child| child.id() == self.id);
        child.is_none_or(|child| !matches!(child.try_wait(), Ok(None)))
    }

    /// The last lines of its log.
    fn last_words(&self) -> String {
        let log = fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines.get(lines.len().saturating_sub(5)..).unwrap_or_default().join("\n")
    }
}
