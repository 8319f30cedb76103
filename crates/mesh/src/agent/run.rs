//! All of the agent, until it is told to stop.

use std::io;
use std::sync::Arc;

use chancery_api::{Clock, SystemClock};
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::issue::Issuer;
use super::output::Output;
use super::renewal::{Renewal, keep_current};
use super::resources::{ResourceError, Resources};
use super::secret::{Content, KeyPair};
use super::settings::{CaSettings, Settings};
use super::socket::{Socket, SocketError, Stop, serve};
use super::status::{self, Health};
use super::store::Store;

/// Why the agent does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AgentError {
    /// There is no socket.
    #[error(transparent)]
    Socket(#[from] SocketError),
    /// The port of readiness and measurements cannot be had.
    #[error("status port {port}: {source}")]
    StatusPort {
        /// The port.
        port: u16,
        /// Why.
        source: io::Error,
    },
    /// There are too many files.
    #[error(transparent)]
    Resources(#[from] ResourceError),
}

/// Runs the agent until `stopped` is over.
///
/// If another provider answers on the workload's socket, that is left to it: the agent then serves files only, on a
/// socket of their own, and calls no CA.
///
/// # Errors
/// It does not start. Once it has, it goes on: a CA that does not answer is asked again, for ever.
pub async fn run(mut settings: Settings, stopped: impl Future<Output = ()>) -> Result<(), AgentError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let socket = bind(&mut settings).await?;
    let store = settings.ca.as_ref().map(|_| Arc::new(Store::default()));
    let resources = Arc::new(Resources::new(&settings, store.clone()));
    let mut tasks = JoinSet::new();

    if let Some(port) = settings.status_port {
        let measured = status::record();
        let listener =
            status::listen(port).await.map_err(|source| AgentError::StatusPort { port, source })?;
        let health = Health::new(&resources, Arc::clone(&clock))?;
        tasks.spawn(status::serve(listener, health, measured));
    }
    if let (Some(ca), Some(store)) = (settings.ca.clone(), store) {
        tasks.spawn(issue(ca, settings.clone(), clock, store));
    }
    tracing::info!(socket = %socket.path().display(), "the agent serves");
    let stop = watch::Sender::new(false);
    let serving = serve(socket, resources, Stop::on(&stop));
    tokio::join!(serving, async move {
        stopped.await;
        tracing::info!("the agent stops");
        stop.send_replace(true);
    });
    Ok(())
}

/// The socket to serve on; with it, whether certificates are issued at all.
async fn bind(settings: &mut Settings) -> Result<Socket, AgentError> {
    let taken = |path: &std::path::Path| SocketError {
        path: path.to_owned(),
        reason: "another process answers there".to_owned(),
    };
    if settings.socket_is_foreign {
        if !Socket::answers(&settings.socket).await {
            let reason =
                "WORKLOAD_IDENTITY_SOCKET_FILE says that another provider is there, and nobody answers";
            let path = settings.socket.clone();
            return Err(SocketError { path, reason: reason.to_owned() }.into());
        }
    } else if let Some(socket) = Socket::bind(&settings.socket).await? {
        return Ok(socket);
    }
    let path = &settings.files_socket;
    tracing::info!(foreign = %settings.socket.display(), files = %path.display(),
        "another provider serves the workload's identity; files only are served");
    let socket = Socket::bind(path).await?.ok_or_else(|| taken(path))?;
    settings.ca = None;
    Ok(socket)
}

/// Keeps `store` current, and the folder of output with it.
async fn issue(ca: CaSettings, settings: Settings, clock: Arc<dyn Clock>, store: Arc<Store>) {
    let renewal = Renewal { ratio: settings.ratio, jitter: settings.jitter };
    let output = settings.output.clone().map(|folder| Output::new(folder, settings.output_readable));
    let issuer = Arc::new(Issuer::new(ca, &settings, Arc::clone(&clock)));
    let ask = || {
        let (issuer, current) = (Arc::clone(&issuer), store.key_pair().borrow().clone());
        async move { issuer.issue(key_pair(current.as_deref())).await }
    };
    let put = |issued| {
        if let Some(output) = &output
            && let Err(error) = output.write(&issued)
        {
            tracing::warn!(%error, "the certificate cannot be written to the folder of output");
        }
        store.put(issued);
    };
    keep_current(renewal, &*clock, fraction, ask, put).await;
}

fn key_pair(content: Option<&Content>) -> Option<&KeyPair> {
    match content {
        Some(Content::KeyPair(pair)) => Some(pair),
        _ => None,
    }
}

/// Between 0 and 1, at random.
pub(super) fn fraction() -> f64 {
    let mut random = [0; 4];
    // Without randomness nothing is spread, and all else goes on.
    if aws_lc_rs::rand::fill(&mut random).is_err() {
        return 0.5;
    }
    f64::from(u32::from_le_bytes(random)) / f64::from(u32::MAX)
}
