//! From settings to a running service, in one visible order, and back.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use chancery_api::{Clock, SystemClock};
use chancery_client::ConfigError;
use chancery_kubernetes::probes::{self, Page, whole};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::assemble;
use super::config::{Checked, Settings, SettingsError};
use super::health::{Check, Health};
use super::listener::Listener;
use super::measure;
use super::roots::{RootStore, RootsError, RootsWatch};
use super::serving::Serving;
use super::signer::{ObservedSigner, Signer};
use crate::proto::istio::istio_certificate_service_server::IstioCertificateService;
use crate::token::keys::JwksError;

/// Something that runs beside the service. It ends only when the service has to end with it, for this reason.
pub type Task = Pin<Box<dyn Future<Output = RunError> + Send>>;

/// Something that is to be done at the end, when no more calls come.
pub type Last = Pin<Box<dyn Future<Output = ()> + Send>>;

/// How long all of that may take, beside the time for calls under way.
const LAST: Duration = Duration::from_secs(5);

/// How long the lease may take to be given back: where the API server is gone it expires by itself.
const LEAVE: Duration = Duration::from_secs(3);

/// How often what was recorded is folded into its summaries; without this they would grow.
const UPKEEP: Duration = Duration::from_secs(5);

/// Why the service does not start, or has ended.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RunError {
    /// A setting.
    #[error(transparent)]
    Settings(#[from] SettingsError),
    /// A setting of the signer's client.
    #[error(transparent)]
    Client(#[from] ConfigError),
    /// The keys that tokens are held against.
    #[error("the keys of the token issuer: {0}")]
    Jwks(#[from] JwksError),
    /// The root bundle.
    #[error(transparent)]
    Roots(#[from] RootsError),
    /// A port.
    #[error("cannot listen on {address}: {source}")]
    Bind {
        /// Where.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// The process's signals.
    #[error("cannot catch signals: {0}")]
    Signals(io::Error),
    /// The signer will never sign again.
    #[error("the signer cannot be used any more: {0}")]
    Signer(String),
    /// Anything about Kubernetes.
    #[error("Kubernetes: {0}")]
    Kubernetes(String),
}

/// What answers, and what runs beside it.
pub struct Parts<S> {
    /// Answers calls.
    pub service: S,
    /// Runs as long as the service does.
    pub tasks: Vec<Task>,
    /// Done when the service has stopped.
    pub last: Vec<Last>,
    /// What else must hold for this replica to be ready.
    pub checks: Vec<Check>,
}

impl<S> Parts<S> {
    /// This, and nothing beside it.
    pub fn new(service: S) -> Self {
        Self { service, tasks: Vec::new(), last: Vec::new(), checks: Vec::new() }
    }
}

impl<S> std::fmt::Debug for Parts<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").field("tasks", &self.tasks.len()).finish_non_exhaustive()
    }
}

/// Where a service listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// Calls; taken from the start, served once there is a certificate.
    pub serving: SocketAddr,
    /// Probes.
    pub readiness: SocketAddr,
    /// Prometheus.
    pub metrics: Option<SocketAddr>,
}

/// A service whose ports are taken.
pub struct Running {
    addresses: Addresses,
    health: Health,
    serving: Arc<Serving>,
    stop: watch::Sender<bool>,
    listener: JoinSet<()>,
    /// Probes are answered to the end.
    probes: JoinSet<()>,
    beside: JoinSet<RunError>,
    last: Vec<Last>,
}

impl std::fmt::Debug for Running {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Running").field("addresses", &self.addresses).finish_non_exhaustive()
    }
}

/// Runs the service until it is told to stop, by SIGINT or SIGTERM.
///
/// # Errors
/// It does not start, or something without which it is no use has ended.
pub async fn run(settings: Settings) -> Result<(), RunError> {
    let checked = settings.check()?;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    // Caught from the beginning, so that none is lost while the service starts.
    let mut interrupt = signal(SignalKind::interrupt()).map_err(RunError::Signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(RunError::Signals)?;
    let mut hang_up = signal(SignalKind::hangup()).map_err(RunError::Signals)?;
    // Nobody but the leader's work keeps the other end, so that it can be seen when that is over.
    let (leave, leaving) = watch::channel(false);
    let kubernetes = assemble::kubernetes(&checked).await?;
    let (signer, beside) = assemble::signer(&checked, kubernetes.as_ref(), &clock)?;
    let mut running = start(checked.clone(), signer, Arc::clone(&clock), |signer, roots| async move {
        let mut parts = assemble::assemble(&checked, kubernetes.as_ref(), signer, roots, clock, leaving)?;
        parts.tasks.extend(beside.tasks);
        parts.last.extend(beside.last);
        Ok(parts)
    })
    .await?;
    let ended = loop {
        tokio::select! {
            _ = interrupt.recv() => break Ok(()),
            _ = terminate.recv() => break Ok(()),
            // Other programs read their files again then, and those who rotate files send it to all alike.
            _ = hang_up.recv() => tracing::info!("there is nothing to reload: files are followed"),
            error = running.failed() => break Err(error),
        }
    };
    tracing::info!("the service stops");
    running.health.listening.store(false, Ordering::Relaxed);
    leave.send_replace(true);
    drop(tokio::time::timeout(LEAVE, leave.closed()).await);
    running.shutdown().await;
    ended
}

/// Starts a service. When this returns its ports are taken and probes are answered; calls are answered once there is a
/// certificate to serve.
///
/// # Errors
/// The first thing that does not work; nothing keeps running then.
pub async fn start<S, F>(
    checked: Checked,
    signer: Arc<dyn Signer>,
    clock: Arc<dyn Clock>,
    parts: impl FnOnce(Arc<dyn Signer>, RootsWatch) -> F,
) -> Result<Running, RunError>
where
    S: IstioCertificateService,
    F: Future<Output = Result<Parts<S>, RunError>>,
{
    let Checked { serving, settings, .. } = checked;
    // Before anything that measures itself is made.
    let recorded = measure::install();
    // Ports are taken first: what is wrong with them shows before anything is asked of others.
    let address = settings.serving_address;
    let listener = Listener::bind(address, settings.listener.clone()).await;
    let listener = listener.map_err(|source| RunError::Bind { address, source })?;
    let readiness = bind(settings.readiness_address).await?;
    let metrics = match settings.metrics_address {
        Some(address) => Some(bind(address).await?),
        None => None,
    };
    let lost = |source| RunError::Bind { address, source };
    let addresses = Addresses {
        serving: listener.local_addr().map_err(lost)?,
        readiness: readiness.address().map_err(lost)?,
        metrics: metrics.as_ref().map(probes::Listener::address).transpose().map_err(lost)?,
    };

    let roots =
        RootStore::open(settings.root_ca_file.clone(), settings.allow_intermediate_root, clock.now())?;
    let roots = Arc::new(roots);
    let signer = Arc::new(ObservedSigner::new(signer, Arc::clone(&clock)));
    let shared: Arc<dyn Signer> = Arc::<ObservedSigner>::clone(&signer);
    let Parts { service, tasks, last, checks } = parts(Arc::clone(&shared), roots.subscribe()).await?;
    let serving = Arc::new(Serving::new(serving, shared, Arc::clone(&roots), Arc::clone(&clock)));

    let health = Health {
        serving: serving.subscribe(),
        roots: roots.subscribe(),
        signer,
        listening: Arc::new(AtomicBool::new(false)),
        further: checks.into(),
        clock: Arc::clone(&clock),
    };
    let (stop, stopped) = watch::channel(false);
    let mut probes = JoinSet::new();
    let asked = health.clone();
    probes.spawn(readiness.serve(Page::probes(&settings.readiness_path, move |uri| asked.ready(uri))));
    if let Some(metrics) = metrics {
        let recorded = recorded.clone();
        probes.spawn(metrics.serve(Page::metrics(move || whole(recorded.render()))));
    }

    let mut beside = JoinSet::new();
    for task in tasks {
        beside.spawn(task);
    }
    let keeper = Arc::clone(&serving);
    beside.spawn(async move {
        keeper.keep().await;
        std::future::pending().await
    });
    let follower = Arc::clone(&roots);
    beside.spawn(async move {
        follower.follow(clock.as_ref()).await;
        std::future::pending().await
    });
    beside.spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP).await;
            recorded.run_upkeep();
        }
    });

    let mut tasks = JoinSet::new();
    let (tls, listening, current) = (Arc::clone(&serving), Arc::clone(&health.listening), roots.subscribe());
    tasks.spawn(async move {
        // Not before there is something to serve: until then the kernel lets callers wait in its queue.
        let mut first = tls.subscribe();
        let mut told = stopped.clone();
        tokio::select! {
            biased;
            _ = told.wait_for(|stop| *stop) => return,
            ready = first.wait_for(Option::is_some) => if ready.is_err() { return },
        }
        listening.store(true, Ordering::Relaxed);
        tracing::info!(address = %addresses.serving, "certificates are given out");
        listener.serve(service, tls, current, stopped).await;
    });
    Ok(Running { addresses, health, serving, stop, listener: tasks, probes, beside, last })
}

async fn bind(address: SocketAddr) -> Result<probes::Listener, RunError> {
    probes::Listener::bind(address).await.map_err(|source| RunError::Bind { address, source })
}

impl Running {
    /// Where it really listens.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// What probes are told.
    pub fn health(&self) -> &Health {
        &self.health
    }

    /// Its TLS.
    pub fn serving(&self) -> &Arc<Serving> {
        &self.serving
    }

    /// Waits until something without which the service is no use has ended, and says why.
    pub async fn failed(&mut self) -> RunError {
        match self.beside.join_next().await {
            Some(Ok(error)) => error,
            Some(Err(error)) => RunError::Signer(format!("a task has ended: {error}")),
            None => std::future::pending().await,
        }
    }

    /// Ends in order: not ready, no new calls, those under way are answered, then the rest.
    pub async fn shutdown(mut self) {
        self.health.listening.store(false, Ordering::Relaxed);
        self.stop.send_replace(true);
        while self.listener.join_next().await.is_some() {}
        self.beside.shutdown().await;
        let last = async {
            for one in self.last.drain(..) {
                one.await;
            }
        };
        if tokio::time::timeout(LAST, last).await.is_err() {
            tracing::warn!("not all that was to be done at the end is done");
        }
        self.probes.shutdown().await;
    }
}
