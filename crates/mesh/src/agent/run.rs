//! All of the agent, until it is told to stop.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chancery_api::{Clock, SystemClock};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::files::{FileResource, Files};
use super::issue::Issuer;
use super::output::Output;
use super::renewal::{Renewal, keep_current};
use super::resources::{ResourceError, Resources};
use super::secret::{Content, KeyPair};
use super::settings::{CaRoots, CaSettings, Settings};
use super::socket::{Socket, SocketError, Stop, serve};
use super::status::{self, Health};
use super::store::{Follower, Store};

/// Why the agent does not start, or does not go on.
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
    /// Who served the workload's identity is gone; an agent that starts anew can take over.
    #[error("the other provider's socket {}: nobody answers any more", .0.display())]
    ProviderGone(PathBuf),
    /// A part of the agent has ended, which it never does.
    #[error("a part of the agent ended: {0}")]
    Ended(String),
}

/// So many looks in a row that find nobody: a provider may be restarted.
const LOOKS: u32 = 3;

/// Runs the agent until `stopped` is over.
///
/// If another provider answers on the workload's socket, that is left to it: the agent then serves files only, on a
/// socket of their own, and calls no CA.
///
/// # Errors
/// It does not start. Once it has, it goes on: a CA that does not answer is asked again, for ever. It ends with an error
/// if the other provider is gone, or if a part of it has failed as it must not.
pub async fn run(mut settings: Settings, stopped: impl Future<Output = ()>) -> Result<(), AgentError> {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let (socket, foreign) = bind(&mut settings).await?;
    let store = settings.ca.as_ref().map(|_| Arc::new(Store::default()));
    let resources = Arc::new(Resources::new(&settings, store.clone()));
    let mut tasks: JoinSet<AgentError> = JoinSet::new();
    let ended = |what: &str| AgentError::Ended(what.to_owned());

    if let Some(port) = settings.status_port {
        let measured = status::record();
        let listener =
            status::listen(port).await.map_err(|source| AgentError::StatusPort { port, source })?;
        let health = Health::new(&resources, Arc::clone(&clock), foreign.is_some())?;
        tasks.spawn(async move {
            status::serve(listener, health, measured).await;
            ended("readiness and measurements")
        });
    }
    if let (Some(ca), Some(store)) = (settings.ca.clone(), store) {
        if let Some(folder) = settings.output.clone() {
            let (output, store) = (Output::new(folder, settings.in_pod), Arc::clone(&store));
            tasks.spawn(async move {
                output.follow(&store).await;
                ended("the output of certificates")
            });
        }
        let settings = settings.clone();
        tasks.spawn(async move {
            issue(ca, settings, clock, store).await;
            ended("issuance")
        });
    }
    if let Some(path) = foreign {
        let look = settings.look;
        tasks.spawn(async move {
            is_gone(&path, look).await;
            AgentError::ProviderGone(path)
        });
    }
    tracing::info!(socket = %socket.path().display(), "the agent serves");
    let stop = watch::Sender::new(false);
    let serving = serve(socket, resources, Stop::on(&stop));
    let ((), end) = tokio::join!(serving, async move {
        let end = end(stopped, tasks).await;
        tracing::info!("the agent stops");
        stop.send_replace(true);
        end
    });
    end
}

/// Waits until the agent is told to stop, or until one of its parts ends, which none does of itself.
async fn end(stopped: impl Future<Output = ()>, mut tasks: JoinSet<AgentError>) -> Result<(), AgentError> {
    tokio::select! {
        () = stopped => Ok(()),
        Some(ended) = tasks.join_next() => {
            Err(ended.unwrap_or_else(|error| AgentError::Ended(error.to_string())))
        }
    }
}

/// Waits until nobody answers any more.
async fn is_gone(path: &Path, look: Duration) {
    let mut missed = 0;
    while missed < LOOKS {
        sleep(look).await;
        // Who cannot be asked is not gone for that.
        missed = if Socket::answers(path).await.unwrap_or(true) { 0 } else { missed + 1 };
    }
}

/// The socket to serve on, and the other provider's, if there is one; then no certificates are issued.
async fn bind(settings: &mut Settings) -> Result<(Socket, Option<PathBuf>), AgentError> {
    let taken = |path: &Path| SocketError {
        path: path.to_owned(),
        reason: "another process answers there".to_owned(),
    };
    if settings.socket_is_foreign {
        let why = match Socket::answers(&settings.socket).await {
            Ok(true) => None,
            Ok(false) => Some("nobody answers".to_owned()),
            Err(error) => Some(error.to_string()),
        };
        if let Some(why) = why {
            let reason =
                format!("WORKLOAD_IDENTITY_SOCKET_FILE says that another provider is there, and {why}");
            return Err(SocketError { path: settings.socket.clone(), reason }.into());
        }
    } else if let Some(socket) = Socket::bind(&settings.socket, settings.in_pod).await? {
        return Ok((socket, None));
    }
    let path = &settings.files_socket;
    tracing::info!(foreign = %settings.socket.display(), files = %path.display(),
        "another provider serves the workload's identity; files only are served");
    let socket = Socket::bind(path, settings.in_pod).await?.ok_or_else(|| taken(path))?;
    settings.ca = None;
    Ok((socket, Some(settings.socket.clone())))
}

/// Keeps `store` current.
async fn issue(ca: CaSettings, settings: Settings, clock: Arc<dyn Clock>, store: Arc<Store>) {
    let renewal = Renewal { ratio: settings.ratio, jitter: settings.jitter };
    let roots = RootChange::new(&ca, &settings);
    let issuer = Arc::new(Issuer::new(ca, &settings, Arc::clone(&clock)));
    let ask = || {
        let (issuer, current) = (Arc::clone(&issuer), store.key_pair().borrow().clone());
        async move { issuer.issue(key_pair(current.as_deref())).await }
    };
    let early = Notify::new();
    let keep = keep_current(renewal, &*clock, fraction, ask, |issued| store.put(issued), &early);
    let follow = async {
        if let Some(roots) = roots {
            roots.follow(&early).await;
        }
    };
    tokio::join!(keep, follow);
}

/// Follows the file of the CA's roots. Where the mesh's roots are published there, a new one is a reason to ask for what
/// is given out under it.
struct RootChange {
    follower: Follower,
    known: Option<Arc<Content>>,
    spread: Duration,
}

impl RootChange {
    fn new(ca: &CaSettings, settings: &Settings) -> Option<Self> {
        let CaRoots::File(path) = &ca.roots else { return None };
        if ca.plaintext {
            return None;
        }
        let resource = FileResource::Roots(path.clone());
        let known = resource.read().ok().map(Arc::new);
        let follower = Files::new(settings.poll, settings.debounce).follow(resource)?;
        Some(Self { follower, known, spread: settings.spread })
    }

    /// Notifies `early` of each change, for ever.
    async fn follow(mut self, early: &Notify) {
        loop {
            let known = self.known.as_ref();
            let changed = self.follower.wait_for(|content| content.is_some() && content.as_ref() != known);
            let Ok(content) = changed.await.map(|content| content.clone()) else { return };
            tracing::info!("the file of the CA's roots changed");
            self.known = content;
            sleep(self.spread.mul_f64(fraction())).await;
            early.notify_one();
        }
    }
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

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};

    use super::*;

    #[tokio::test]
    async fn a_part_that_fails_ends_the_agent_with_an_error() {
        let mut tasks = JoinSet::new();
        assert!(end(ready(()), JoinSet::new()).await.is_ok());
        tasks.spawn(pending());
        tasks.spawn(async { panic!("it fails") });
        let ended = tokio::time::timeout(Duration::from_secs(5), end(pending(), tasks)).await;
        assert!(matches!(ended.expect("it must end"), Err(AgentError::Ended(_))));
    }
}
