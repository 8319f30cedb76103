//! The temporary folder and the processes that work in it, and that all of it goes whatever happens.

use std::io;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::{Arc, Mutex, PoisonError};

use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::signal::unix::{SignalKind, signal};

use super::processes::Running;

/// The demo's folder and processes. They go when this is dropped, and on SIGINT, SIGTERM and SIGHUP, which
/// then end this process.
pub(super) struct Workshop {
    path: PathBuf,
    running: Running,
    folder: Arc<Mutex<Option<TempDir>>>,
    /// Whether an interrupt is what we are waiting for.
    waiting: Arc<Mutex<bool>>,
    _signals: Runtime,
}

impl Workshop {
    /// A new folder, for this user only.
    pub(super) fn open() -> io::Result<Self> {
        let folder = tempfile::Builder::new().prefix("chancery-demo-").tempdir()?;
        let path = folder.path().to_owned();
        let folder = Arc::new(Mutex::new(Some(folder)));
        let waiting = Arc::new(Mutex::new(false));
        let running = Running::default();
        let signals = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        for kind in [SignalKind::interrupt(), SignalKind::terminate(), SignalKind::hangup()] {
            let mut arrivals = {
                let _guard = signals.enter();
                signal(kind)?
            };
            let (folder, waiting, running) = (Arc::clone(&folder), Arc::clone(&waiting), running.clone());
            signals.spawn(async move {
                arrivals.recv().await;
                let expected = *waiting.lock().unwrap_or_else(PoisonError::into_inner);
                running.end();
                // Dropping the folder would remove it; exiting does not drop it.
                if let Some(folder) = folder.lock().unwrap_or_else(PoisonError::into_inner).take() {
                    remove(&folder.keep());
                }
                process::exit(if expected { 0 } else { 130 });
            });
        }
        Ok(Self { path, running, folder, waiting, _signals: signals })
    }

    /// The processes that go with it.
    pub(super) fn running(&self) -> &Running {
        &self.running
    }

    /// Where it is.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// From here on an interrupt is the end that was asked for. Said before the invitation to press
    /// Ctrl-C is printed: somebody may be quick.
    pub(super) fn expect_interrupt(&self) {
        *self.waiting.lock().unwrap_or_else(PoisonError::into_inner) = true;
    }

    /// Blocks until a signal ends the process.
    pub(super) fn wait_for_interrupt(&self) -> ! {
        loop {
            std::thread::park();
        }
    }
}

/// The server may still be writing there, so that a first attempt finds the folder filled again.
fn remove(folder: &Path) {
    for _ in 0..20 {
        if std::fs::remove_dir_all(folder).is_ok() || !folder.exists() {
            return;
        }
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
}

impl Drop for Workshop {
    fn drop(&mut self) {
        self.running.end();
        drop(self.folder.lock().unwrap_or_else(PoisonError::into_inner).take());
    }
}
