//! The server that the demo talks to.

use std::path::Path;
use std::time::{Duration, Instant};

use chancery_api::Secret;
use chancery_server::Running;
use chancery_server::config::{Bind, Config, ListenerConfig, StorageConfig};
use tokio::runtime::Runtime;

/// A server in this process, or one elsewhere.
pub(super) struct DemoServer {
    /// What goes into `VAULT_ADDR`.
    pub(super) address: String,
    /// The token that may do everything; empty until a new server is initialised.
    pub(super) token: Secret,
    /// Whether it was started here and must be initialised.
    pub(super) is_new: bool,
    /// From the start of the start until ports answered.
    pub(super) start_time: Duration,
    running: Option<(Running, Runtime)>,
}

impl DemoServer {
    /// A server on an embedded store at `store`, on a free port of this machine.
    pub(super) fn start(store: &Path) -> Result<Self, String> {
        let began = Instant::now();
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        let runtime = runtime.map_err(|error| format!("no runtime: {error}"))?;
        let mut config = Config::new(StorageConfig::Embedded { path: store.to_owned() });
        config.listeners = vec![ListenerConfig::new(Bind::Tcp("127.0.0.1:0".to_owned()))];
        let running = runtime.block_on(chancery_server::start(config));
        let running = running.map_err(|error| format!("the server does not start: {error}"))?;
        Ok(Self {
            address: running.url(),
            token: Secret::default(),
            is_new: true,
            start_time: began.elapsed(),
            running: Some((running, runtime)),
        })
    }

    /// A server that runs already.
    pub(super) fn elsewhere(address: String, token: Secret) -> Self {
        Self { address, token, is_new: false, start_time: Duration::ZERO, running: None }
    }
}

impl Drop for DemoServer {
    fn drop(&mut self) {
        if let Some((running, runtime)) = self.running.take() {
            runtime.block_on(running.shutdown());
        }
    }
}
