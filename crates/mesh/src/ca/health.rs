//! What probes and Prometheus ask, over plain HTTP on ports of their own.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::fmt::Write as _;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use bytes::Bytes;
use chancery_api::Clock;
use http::{Method, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::{AbortHandle, JoinSet};

use super::roots::RootsWatch;
use super::serving::ServingCertificate;
use super::signer::ObservedSigner;

/// Most connections at a time; probes need two or three.
const MAX_CONNECTIONS: usize = 64;
/// How long a request's head may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(2);

/// What the probes look at.
#[derive(Clone)]
pub struct Health {
    /// The service's own certificate.
    pub serving: watch::Receiver<Option<Arc<ServingCertificate>>>,
    /// The mesh's roots.
    pub roots: RootsWatch,
    /// The signer's last answers.
    pub signer: Arc<ObservedSigner>,
    /// Whether calls are taken.
    pub listening: Arc<AtomicBool>,
    /// What else must hold.
    pub further: Arc<[Check]>,
    /// The time.
    pub clock: Arc<dyn Clock>,
}

impl std::fmt::Debug for Health {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Health").field("checks", &self.checks()).finish_non_exhaustive()
    }
}

/// A check's name and what is wrong, if something is.
pub type Checked = (&'static str, Result<(), String>);

/// A check of a part that not every service has.
pub struct Check {
    name: &'static str,
    look: Box<dyn Fn() -> Result<(), String> + Send + Sync>,
}

impl Check {
    /// Under this name; `look` says what is wrong.
    pub fn new(name: &'static str, look: impl Fn() -> Result<(), String> + Send + Sync + 'static) -> Self {
        Self { name, look: Box::new(look) }
    }
}

impl Health {
    /// All that must hold for this replica to be given calls.
    ///
    /// The signer is not among them: it is the same for all replicas, and a service without traffic would never learn
    /// that the signer is back.
    pub fn checks(&self) -> Vec<Checked> {
        let now = self.clock.now();
        let serving = match &*self.serving.borrow() {
            None => Err("there is no serving certificate yet".to_owned()),
            Some(certificate) if certificate.not_after <= now => {
                Err(format!("the serving certificate expired at {}", certificate.not_after))
            }
            Some(certificate) if !certificate.leads_to(&self.roots.borrow(), now) => {
                Err("the serving certificate leads to none of the mesh's roots".to_owned())
            }
            Some(_) => Ok(()),
        };
        let roots = match self.roots.borrow().end() {
            None => Err("the mesh's roots are not known yet".to_owned()),
            Some(end) if end.as_second() <= now.as_second() => {
                Err(format!("the last of the mesh's roots expired at {end}"))
            }
            Some(_) => Ok(()),
        };
        let listening = self.listening.load(Ordering::Relaxed);
        let server = if listening { Ok(()) } else { Err("the server is not listening".to_owned()) };
        let mut checks = vec![("tls_provider", serving), ("grpc_server", server), ("roots", roots)];
        checks.extend(self.further.iter().map(|check| (check.name, (check.look)())));
        checks
    }

    /// The status and text for `/readyz`.
    fn ready(&self, verbose: bool) -> (StatusCode, String) {
        let checks = self.checks();
        let healthy = checks.iter().all(|(_, check)| check.is_ok());
        let status = if healthy { StatusCode::OK } else { StatusCode::INTERNAL_SERVER_ERROR };
        if healthy && !verbose {
            return (status, "ok".to_owned());
        }
        let mut text = String::new();
        for (name, check) in checks {
            // Writing to a string cannot fail.
            let _ = match check {
                Ok(()) => writeln!(text, "[+]{name} ok"),
                Err(reason) => writeln!(text, "[-]{name} failed: {reason}"),
            };
        }
        let signer = self.signer.state();
        let _ = match (signer.unavailable, signer.signed) {
            (Some((at, _)), _) => {
                writeln!(text, "[ ]signer unavailable at {at}; the reason is in the log (not counted)")
            }
            (None, Some(at)) => writeln!(text, "[+]signer ok at {at}"),
            (None, None) => writeln!(text, "[ ]signer not asked yet (not counted)"),
        };
        let _ = writeln!(text, "readyz check {}", if healthy { "passed" } else { "failed" });
        (status, text)
    }
}

/// What a port answers.
#[derive(Debug, Clone)]
pub enum Page {
    /// Readiness at this path, `/healthz` and `/livez`.
    Probes {
        /// `/readyz`, or as configured.
        ready_path: String,
        /// What it says.
        health: Health,
    },
    /// `/metrics` in Prometheus' text format.
    Metrics(MetricsPage),
}

/// What was recorded.
#[derive(Clone)]
pub struct MetricsPage(pub PrometheusHandle);

impl std::fmt::Debug for MetricsPage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("MetricsPage")
    }
}

impl Page {
    fn answer<B>(&self, request: &Request<B>) -> Response<Full<Bytes>> {
        let (status, kind, text) = match self {
            _ if request.method() != Method::GET && request.method() != Method::HEAD => {
                (StatusCode::METHOD_NOT_ALLOWED, PLAIN, "only GET is answered\n".to_owned())
            }
            Self::Probes { ready_path, health } => {
                let path = request.uri().path();
                let verbose = request.uri().query().is_some_and(|query| {
                    query.split('&').any(|part| part == "verbose" || part.starts_with("verbose="))
                });
                // A process that answers here is alive: what ails the certificate, a restart does not cure.
                let (status, text) = match path {
                    path if path == ready_path => health.ready(verbose),
                    "/healthz" | "/livez" => (StatusCode::OK, "ok".to_owned()),
                    _ => (StatusCode::NOT_FOUND, "not found\n".to_owned()),
                };
                (status, PLAIN, text)
            }
            Self::Metrics(MetricsPage(handle)) if request.uri().path() == "/metrics" => {
                (StatusCode::OK, "text/plain; version=0.0.4; charset=utf-8", handle.render())
            }
            Self::Metrics(_) => (StatusCode::NOT_FOUND, PLAIN, "not found\n".to_owned()),
        };
        let mut response = Response::new(Full::new(Bytes::from(text)));
        *response.status_mut() = status;
        response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
        response
    }
}

const PLAIN: &str = "text/plain; charset=utf-8";

/// A port for probes or metrics.
#[derive(Debug)]
pub struct HealthListener(TcpListener);

impl HealthListener {
    /// Takes the port.
    ///
    /// # Errors
    /// It is taken, or the address is not ours.
    pub async fn bind(address: SocketAddr) -> io::Result<Self> {
        TcpListener::bind(address).await.map(Self)
    }

    /// Where it really listens.
    ///
    /// # Errors
    /// The system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Answers until told to stop.
    pub async fn serve(self, page: Page, mut stop: watch::Receiver<bool>) {
        let page = Arc::new(page);
        let mut connections = JoinSet::new();
        // The oldest first.
        let mut open: VecDeque<AbortHandle> = VecDeque::new();
        loop {
            while connections.try_join_next().is_some() {}
            let accepted = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                accepted = self.0.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            };
            // When all places are taken the oldest connection ends: a probe asks at once, so an old one is no probe, and
            // whoever only holds connections keeps no probe out.
            open.retain(|connection| !connection.is_finished());
            if open.len() >= MAX_CONNECTIONS
                && let Some(oldest) = open.pop_front()
            {
                oldest.abort();
            }
            let page = Arc::clone(&page);
            open.push_back(connections.spawn(async move {
                let answer = service_fn(move |request| {
                    let response = page.answer(&request);
                    async move { Ok::<_, Infallible>(response) }
                });
                let mut builder = http1::Builder::new();
                builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
                builder.keep_alive(false).max_buf_size(16 * 1024);
                if let Err(error) = builder.serve_connection(TokioIo::new(stream), answer).await {
                    tracing::debug!(%error, "a probe's connection ended with an error");
                }
            }));
        }
        connections.shutdown().await;
    }
}
