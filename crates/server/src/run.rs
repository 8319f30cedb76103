//! From a configuration to a running server, in one visible order, and back.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chancery_api::SystemClock;
use chancery_secrets::Error;
use chancery_secrets::core::{Core, CoreConfig};
use chancery_secrets::engine::SystemLimits;
use chancery_storage::{Backend, Barrier, Embedded, Memory, Seal, StorageError};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::{Config, SealConfig, StorageConfig};
use crate::http::Service;
use crate::listener::tls::ReloadingTls;
use crate::listener::{Address, BindError, Bound};
use crate::metrics::Metrics;
use crate::probe::Outside;

/// How long requests under way may take once the server was told to stop.
const DRAIN: Duration = Duration::from_secs(10);

/// Why a server does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// A listener.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The storage: not there, not ours, or used by another process.
    #[error("storage: {0}")]
    Storage(#[from] StorageError),
    /// Unsealing by itself, or bringing a development server up.
    #[error("cannot unseal: {0}")]
    Unseal(Error),
    /// A file that the configuration names.
    #[error("{path}: {source}", path = path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// Something about a development server.
    #[error("{0}")]
    Dev(String),
}

/// A server that accepts requests. Dropping it leaves its tasks to the runtime; [`Running::shutdown`]
/// ends it in order.
pub struct Running {
    core: Arc<Core>,
    addresses: Vec<Address>,
    certificates: Vec<Arc<ReloadingTls>>,
    secure: bool,
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
    pid_file: Option<PathBuf>,
}

/// Starts a server. When this returns, its ports answer.
///
/// # Errors
/// The first thing that does not work; nothing keeps running then.
pub async fn start(config: Config) -> Result<Running, StartError> {
    // Ports are taken first and served last: what is wrong with them shows before anything is opened,
    // and nobody is answered by half a server.
    let mut listeners = Vec::with_capacity(config.listeners.len());
    for listener in config.listeners.clone() {
        listeners.push(Bound::bind(listener).await?);
    }
    let addresses: Vec<_> = listeners.iter().map(|listener| listener.address().clone()).collect();
    let certificates: Vec<_> = listeners.iter().filter_map(|listener| listener.tls().cloned()).collect();
    let secure = listeners.first().is_some_and(|listener| listener.tls().is_some());

    // Before anything that measures itself is made.
    let prometheus = config.telemetry.prometheus;
    let metrics = Metrics::install(&config.telemetry.metrics_prefix);

    let backend = backend(&config.storage)?;
    let seal: Option<Arc<dyn Seal>> = match &config.seal {
        SealConfig::Shamir => None,
        SealConfig::Static(seal) => Some(Arc::new((**seal).clone())),
    };
    let barrier = Barrier::new(backend, seal.clone());
    let initialized = barrier.is_initialized().await?;
    let core = Core::new(barrier, core_config(&config, &addresses, secure), Arc::new(SystemClock));
    if seal.is_some() && initialized {
        core.unseal_automatically().await.map_err(StartError::Unseal)?;
    }

    core.show_measurements(metrics.rendered(prometheus));
    let service = Arc::new(Service { core: Arc::clone(&core), metrics, ui: config.ui });
    let (stop, stopped) = watch::channel(false);
    let mut tasks: Vec<_> = listeners
        .into_iter()
        .map(|listener| tokio::spawn(listener.serve(Arc::clone(&service), stopped.clone(), DRAIN)))
        .collect();
    tasks.push(tokio::spawn(upkeep(service, stopped)));
    if let Some(path) = &config.pid_file {
        let number = std::process::id().to_string();
        std::fs::write(path, number).map_err(|source| StartError::File { path: path.clone(), source })?;
    }
    Ok(Running { core, addresses, certificates, secure, stop, tasks, pid_file: config.pid_file })
}

impl Running {
    /// The secrets server itself.
    #[must_use]
    pub fn core(&self) -> &Arc<Core> {
        &self.core
    }

    /// Where the listeners really listen, in the order of the configuration.
    #[must_use]
    pub fn addresses(&self) -> &[Address] {
        &self.addresses
    }

    /// What a client on this machine writes into `VAULT_ADDR`.
    #[must_use]
    pub fn url(&self) -> String {
        url(self.addresses.first(), self.secure)
    }

    /// Reads the files again that may change while the server runs: certificates and their keys. What
    /// cannot be read stays as it was, and the log says so. Audit files are opened anew, so that they
    /// can be rotated.
    pub fn reload(&self) {
        self.core.reopen_audit();
        for certificate in &self.certificates {
            match certificate.reload() {
                Ok(()) => tracing::info!("TLS certificate reloaded"),
                Err(error) => tracing::error!(%error, "TLS certificate not reloaded"),
            }
        }
    }

    /// Stops accepting, answers what is under way, seals, and gives the storage back.
    pub async fn shutdown(self) {
        let Self { core, tasks, stop, pid_file, addresses: _, certificates: _, secure: _ } = self;
        stop.send_replace(true);
        for task in tasks {
            if let Err(error) = task.await {
                tracing::error!(%error, "a task ended badly");
            }
        }
        // Requests outlive their connections: what was begun is finished.
        if tokio::time::timeout(DRAIN, core.settled()).await.is_err() {
            tracing::warn!("requests were still under way when the server was sealed");
        }
        core.seal().await;
        if let Some(path) = pid_file {
            let _ = std::fs::remove_file(path);
        }
    }
}

fn backend(storage: &StorageConfig) -> Result<Arc<dyn Backend>, StorageError> {
    Ok(match storage {
        StorageConfig::Memory => Arc::new(Memory::new()),
        StorageConfig::Embedded { path } => Arc::new(Embedded::open(path)?),
    })
}

fn core_config(config: &Config, addresses: &[Address], secure: bool) -> CoreConfig {
    let defaults = CoreConfig::default();
    CoreConfig {
        limits: SystemLimits {
            default_lease_ttl: config.default_lease_ttl,
            max_lease_ttl: config.max_lease_ttl,
        },
        cluster_name: config.cluster_name.clone().unwrap_or(defaults.cluster_name),
        api_address: config.api_addr.clone().unwrap_or_else(|| url(addresses.first(), secure)),
        storage_type: config.storage.name().to_owned(),
        ui: config.ui,
        prober: Arc::new(Outside::new(config.acme.clone())),
    }
}

/// A listener's address as a client on this machine reaches it.
fn url(address: Option<&Address>, secure: bool) -> String {
    let scheme = if secure { "https" } else { "http" };
    match address {
        Some(Address::Tcp(address)) => {
            let mut address = *address;
            if address.ip().is_unspecified() {
                address.set_ip(std::net::Ipv4Addr::LOCALHOST.into());
            }
            format!("{scheme}://{address}")
        }
        Some(Address::Unix(path)) => format!("unix://{}", path.display()),
        None => String::new(),
    }
}

/// What has to be done from time to time: expiry, and folding measurements.
async fn upkeep(service: Arc<Service>, mut stop: watch::Receiver<bool>) {
    let mut seconds = tokio::time::interval(Duration::from_secs(1));
    seconds.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            _ = seconds.tick() => {}
        }
        for error in service.core.upkeep().await {
            tracing::error!(?error, "upkeep failed");
        }
        service.metrics.upkeep(service.core.is_sealed());
    }
}
