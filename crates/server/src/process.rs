//! The server as a process of its own: logs, signals, and what is printed at the start.

use std::io::Write;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::config::Config;
use crate::dev::{DevOptions, start_dev};
use crate::logging;
use crate::run::{Running, StartError, start};

/// Runs a server until it is told to stop, by SIGINT or SIGTERM. SIGHUP reloads its certificates.
///
/// # Errors
/// If it does not start.
pub async fn run(config: Config, dev: Option<DevOptions>) -> Result<(), StartError> {
    logging::init(&config)
        .map_err(|source| StartError::File { path: config.log_file.clone().unwrap_or_default(), source })?;
    for warning in &config.warnings {
        tracing::warn!("{warning}");
    }
    raise_open_files();
    let signals = Signals::install()?;
    let summary = Summary::of(&config);
    let (running, banner, made) = match dev {
        None => (start(config).await?, String::new(), None),
        Some(options) => {
            let server = start_dev(&options, config).await?;
            let banner = server.banner();
            let (running, made) = server.into_parts();
            (running, banner, made)
        }
    };
    let started = "==> Chancery server started! Log data will stream in below:\n\n";
    print(&format!("{}{started}{banner}", summary.lines(&running)));
    signals.wait(&running).await;
    print("==> Chancery shutdown triggered\n");
    running.shutdown().await;
    drop(made);
    Ok(())
}

/// Takes as many open files as the system grants. Each connection is one, and the 1024 that a process has at
/// first are for programs that cannot count further.
pub fn raise_open_files() {
    let limit = getrlimit(Resource::Nofile);
    if limit.current == limit.maximum {
        return;
    }
    if let Err(error) = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }) {
        tracing::warn!(%error, limit = ?limit.current, "cannot raise the limit of open files");
    }
}

fn print(text: &str) {
    // Nobody may be reading; the server runs all the same.
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes());
    let _ = out.flush();
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
    hang_up: Signal,
}

impl Signals {
    /// Caught from the beginning, so that none is lost while the server starts.
    fn install() -> Result<Self, StartError> {
        let install =
            |kind| signal(kind).map_err(|error| StartError::Dev(format!("cannot catch signals: {error}")));
        Ok(Self {
            interrupt: install(SignalKind::interrupt())?,
            terminate: install(SignalKind::terminate())?,
            hang_up: install(SignalKind::hangup())?,
        })
    }

    async fn wait(mut self, running: &Running) {
        loop {
            tokio::select! {
                _ = self.interrupt.recv() => return,
                _ = self.terminate.recv() => return,
                _ = self.hang_up.recv() => running.reload(),
            }
        }
    }
}

/// The table at the start.
struct Summary {
    log_level: &'static str,
    storage: &'static str,
}

impl Summary {
    fn of(config: &Config) -> Self {
        Self { log_level: config.log_level.name(), storage: config.storage.name() }
    }

    fn lines(&self, running: &Running) -> String {
        let mut lines = vec![("Api Address".to_owned(), running.url())];
        for (index, address) in running.addresses().iter().enumerate() {
            lines.push((format!("Listener {}", index + 1), address.to_string()));
        }
        lines.push(("Log Level".to_owned(), self.log_level.to_owned()));
        lines.push(("Storage".to_owned(), self.storage.to_owned()));
        lines.push(("Version".to_owned(), format!("Chancery v{}", env!("CARGO_PKG_VERSION"))));
        let mut text = "==> Chancery server configuration:\n\n".to_owned();
        for (name, value) in lines {
            text.push_str(&format!("{name:>24}: {value}\n"));
        }
        text.push('\n');
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn as_many_files_as_the_system_grants_may_be_open() {
        let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
        // Only a little lower, for the sake of the other tests in this process.
        let lower = Rlimit { current: maximum.map(|most| most - 1), maximum };
        setrlimit(Resource::Nofile, lower).expect("lowered");
        raise_open_files();
        assert_eq!(getrlimit(Resource::Nofile).current, maximum);
        raise_open_files();
        assert_eq!(getrlimit(Resource::Nofile).current, maximum);
    }
}
