//! Everything, started in order, and ended in order.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use chancery_api::Clock;
use chancery_kubernetes::Elector;
use chancery_kubernetes::probes::{Listener, Page};
use chancery_kubernetes::queue::Verdict;
use http_body_util::BodyExt as _;
use kube::Client;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::cache::feed;
use crate::context::{Context, Queues};
use crate::health::Health;
use crate::issuer::IssuerKey;
use crate::metrics::{SharedRows, page};
use crate::settings::Settings;
use crate::{Error, Next, certificate, issuer, request, webhook};

/// How long what is being worked on may take at the end. A pod is killed 30 s after it is told to stop.
const GRACE: Duration = Duration::from_secs(15);

/// CertificateRequests that are worked on at a time: almost all of it is waiting for an issuer.
const REQUESTS: usize = 256;

/// How long the webhook still takes connections after the controller was told to stop: API servers hear a moment later that
/// its pod is going.
const LINGER: Duration = Duration::from_secs(3);

/// How long issuers may take to revoke their tokens, and then the last events to be written.
const LAST: Duration = Duration::from_secs(5);

/// How often what was recorded is folded into its summaries; without this they would grow.
const UPKEEP: Duration = Duration::from_secs(10);

/// A controller whose ports are taken.
pub struct Controller {
    client: Client,
    settings: Settings,
    clock: Arc<dyn Clock>,
    probes: Listener,
    metrics: Listener,
}

impl std::fmt::Debug for Controller {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Controller").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Runs the controller until `shutdown` says true or is dropped.
///
/// # Errors
/// An address cannot be listened at.
pub async fn run(
    client: Client,
    settings: Settings,
    clock: Arc<dyn Clock>,
    shutdown: watch::Receiver<bool>,
) -> Result<(), Error> {
    Controller::bind(client, settings, clock).await?.run(shutdown).await
}

impl Controller {
    /// Takes the ports.
    ///
    /// # Errors
    /// One is taken, or its address is not ours.
    pub async fn bind(client: Client, settings: Settings, clock: Arc<dyn Clock>) -> Result<Self, Error> {
        let (probes, metrics) =
            (listen(settings.health_address).await?, listen(settings.metrics_address).await?);
        Ok(Self { client, settings, clock, probes, metrics })
    }

    /// Where probes are answered, and where metrics are.
    ///
    /// # Errors
    /// The system does not say.
    pub fn addresses(&self) -> Result<(SocketAddr, SocketAddr), Error> {
        let failed = |error| Error::Other(format!("the system does not say where it listens: {error}"));
        Ok((self.probes.address().map_err(failed)?, self.metrics.address().map_err(failed)?))
    }

    /// Runs until `shutdown` says true or is dropped: reads the cluster, stands for election, and works while it leads.
    /// The webhook, probes and metrics are served in any case.
    ///
    /// # Errors
    /// The webhook's address cannot be listened at.
    pub async fn run(self, shutdown: watch::Receiver<bool>) -> Result<(), Error> {
        let Self { client, settings, clock, probes, metrics } = self;
        let (context, write_events) = Context::new(client, settings, clock);
        context.metrics.install();
        context.issuers.attach(&context);
        let health = Arc::new(Health::default());
        let events = tokio::spawn(write_events);
        // Whatever runs beside the work ends when this is dropped.
        let mut beside = JoinSet::new();
        let asked = Arc::clone(&health);
        beside.spawn(probes.serve(Page::probes("/readyz", move |_| asked.ready())));
        let (measured, shared) = (context.clone(), SharedRows::default());
        beside.spawn(metrics.serve(Page::metrics(move || page(&measured, &shared).boxed_unsync())));
        beside.spawn(upkeep(context.clone()));
        beside.spawn(feed(context.clone(), Arc::clone(&health)));
        let work = async {
            let stopped = shutdown.clone();
            tokio::select! {
                () = health.filled() => {}
                () = told(stopped) => return,
            }
            tracing::info!("the cluster was read");
            lead(&context, shutdown.clone()).await;
        };
        let ended = match context.settings.webhook_address {
            None => {
                work.await;
                Ok(())
            }
            Some(_) => {
                let (stop_webhook, stopped) = watch::channel(false);
                let webhook = webhook::run(context.clone(), stopped);
                tokio::pin!(webhook);
                let linger = async {
                    told(shutdown.clone()).await;
                    sleep(LINGER).await;
                };
                tokio::select! {
                    ended = &mut webhook => ended,
                    // It judges for other replicas too, and so it is the last to go.
                    ((), ()) = async { tokio::join!(work, linger) } => {
                        stop_webhook.send_replace(true);
                        webhook.await
                    }
                }
            }
        };
        if timeout(LAST, context.issuers.stop()).await.is_err() {
            tracing::warn!("not all tokens could be revoked in time; they end by themselves");
        }
        beside.shutdown().await;
        drop(context);
        // Their writer ends when it has written what was told, and nobody is left to tell more.
        if timeout(LAST, events).await.is_err() {
            tracing::warn!("not all events could be written in time");
        }
        ended
    }
}

async fn listen(address: SocketAddr) -> Result<Listener, Error> {
    Listener::bind(address)
        .await
        .map_err(|error| Error::Other(format!("cannot listen on {address}: {error}")))
}

/// Waits to be told to stop.
async fn told(mut shutdown: watch::Receiver<bool>) {
    // An error means that nobody is left who could say it.
    let _ = shutdown.wait_for(|stop| *stop).await;
}

async fn upkeep(context: Context) {
    let recorded = context.metrics.install();
    loop {
        sleep(UPKEEP).await;
        recorded.run_upkeep();
    }
}

/// Works while this replica leads, and to the end of what is being worked on.
async fn lead(context: &Context, shutdown: watch::Receiver<bool>) {
    let settings = &context.settings;
    if !settings.leader_election {
        metrics::gauge!(crate::metrics::LEADS).set(1.0);
        let late = async {
            told(shutdown.clone()).await;
            sleep(GRACE).await;
        };
        tokio::select! {
            () = work(context, shutdown.clone()) => {}
            () = late => {}
        }
        return;
    }
    let elector = Elector::new(
        context.client.clone(),
        &settings.lease_namespace,
        &settings.lease_name,
        identity(),
        settings.lease_timings,
        Arc::clone(&context.clock),
    );
    let leads = elector.leads();
    let (stop, stopped) = watch::channel(false);
    // The lease is kept until what is being worked on is done.
    let late = async {
        told(shutdown.clone()).await;
        if *leads.borrow() {
            sleep(GRACE).await;
        }
        stop.send_replace(true);
        std::future::pending::<()>().await;
    };
    let works = || async {
        metrics::gauge!(crate::metrics::LEADS).set(1.0);
        let _lost = Lost;
        tokio::select! {
            () = request::begin_to_lead(context) => {}
            () = told(shutdown.clone()) => return,
        }
        work(context, shutdown.clone()).await;
    };
    tokio::select! {
        () = elector.run(stopped, works) => {}
        () = late => {}
    }
}

/// Says, when it is dropped, that this replica no longer leads.
struct Lost;

impl Drop for Lost {
    fn drop(&mut self) {
        metrics::gauge!(crate::metrics::LEADS).set(0.0);
    }
}

/// This process's name among the replicas: the pod's, and something that a restarted pod does not have again.
fn identity() -> String {
    let host = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    let mut random = [0_u8; 8];
    // Without randomness the process's number must do: it differs from that of others on the same host.
    if aws_lc_rs::rand::fill(&mut random).is_err() {
        random = u64::from(std::process::id()).to_be_bytes();
    }
    format!("{}_{}", host.trim(), data_encoding::HEXLOWER.encode(&random))
}

/// Works on all queues until it is told to stop; then until what is being worked on is done.
async fn work(context: &Context, shutdown: watch::Receiver<bool>) {
    let workers = context.settings.workers;
    let Queues { issuers, requests, certificates } = &context.queues;
    tokio::join!(
        issuers.run(workers, shutdown.clone(), |key| {
            let context = context.clone();
            async move {
                let controller = match &key {
                    IssuerKey::Namespaced { .. } => "issuers",
                    IssuerKey::Cluster { .. } => "clusterissuers",
                };
                let next = issuer::reconcile(&context, key.clone()).await;
                verdict(&context, controller, &key, next)
            }
        }),
        requests.run(workers.max(REQUESTS), shutdown.clone(), |key| {
            let context = context.clone();
            async move {
                let next = request::reconcile(&context, key.clone()).await;
                verdict(&context, "certificaterequests", &key, next)
            }
        }),
        certificates.run(workers, shutdown.clone(), |key| {
            let context = context.clone();
            async move {
                let next = certificate::reconcile(&context, key.clone()).await;
                verdict(&context, "certificates", &key, next)
            }
        }),
    );
}

fn verdict(
    context: &Context,
    controller: &'static str,
    key: &impl std::fmt::Debug,
    next: Result<Next, Error>,
) -> Verdict {
    context.metrics.synced(controller, next.is_err());
    match next {
        Ok(Next::Done) => Verdict::Done,
        Ok(Next::After(delay)) => Verdict::After(delay),
        // Somebody wrote the same object at the same time: nothing to wake anybody for.
        Err(Error::Api(error)) if error.is_conflict() => {
            tracing::debug!(controller, ?key, %error, "somebody else was quicker; it is tried again");
            Verdict::Failed
        }
        Err(error) => {
            tracing::warn!(controller, ?key, %error, "it is tried again");
            Verdict::Failed
        }
    }
}

#[cfg(test)]
mod tests {
    use chancery_api::SystemClock;
    use chancery_testkit::kubernetes::ApiServer;
    use tokio::net::{TcpListener, TcpStream};

    use super::*;

    #[tokio::test]
    async fn the_webhook_takes_connections_a_little_longer_than_the_controller_works() {
        let double = ApiServer::start().await;
        let client = webhook::test_client(&double.url()).await;
        let local = |port| SocketAddr::from(([127, 0, 0, 1], port));
        let free = TcpListener::bind(local(0)).await.expect("a port").local_addr().expect("an address");
        let settings = Settings {
            leader_election: false,
            metrics_address: local(0),
            health_address: local(0),
            webhook_address: Some(free),
            ..Settings::default()
        };
        let (stop, stopped) = watch::channel(false);
        let running = tokio::spawn(run(client, settings, Arc::new(SystemClock), stopped));
        while TcpStream::connect(free).await.is_err() {
            assert!(!running.is_finished(), "it ended");
            sleep(Duration::from_millis(20)).await;
        }
        stop.send_replace(true);
        sleep(Duration::from_millis(500)).await;
        assert!(TcpStream::connect(free).await.is_ok(), "API servers do not know yet");
        timeout(Duration::from_secs(20), running).await.expect("it ends").expect("it ran").expect("in order");
        assert!(TcpStream::connect(free).await.is_err());
    }
}
