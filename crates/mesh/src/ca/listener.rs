//! The port: from `accept` to a call, with all that is known of its sender.

use std::future::poll_fn;
use std::io;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use chancery_client::jitter;
use hyper::body::Incoming;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tonic::Status;
use tower_service::Service;

use super::authenticate::PeerCertificates;
use super::gather::gathering;
use super::metering;
use super::roots::{Roots, RootsWatch};
use super::service::MAX_REQUEST_BYTES;
use super::serving::Serving;
use crate::proto::istio::istio_certificate_service_server::{
    IstioCertificateService, IstioCertificateServiceServer,
};

/// The address of a call's sender, among each request's [`http::Extensions`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeerAddress(pub SocketAddr);

/// What one caller may take.
#[derive(Debug, Clone)]
pub struct ListenerSettings {
    /// Most connections at a time; more wait in the kernel's queue. Default 16,384.
    pub max_connections: usize,
    /// How long a TLS handshake may take. Default 10 s.
    pub handshake_timeout: Duration,
    /// A connection without a call for so long is asked to end, up to as much later: agents keep theirs for the half
    /// hour until their next certificate, and thousands of them would be memory for nothing. Default 60 s.
    pub idle_timeout: Duration,
    /// When a connection is asked to end, so that the replicas share their clients anew; up to a tenth later.
    /// Default 1 h.
    pub max_connection_age: Duration,
    /// How long a call may take, from its headers on: the service's own deadline begins only once the message is there.
    /// Default 40 s.
    pub call_timeout: Duration,
    /// Most calls at a time on one connection. Default 100.
    pub max_streams: u32,
    /// The longest list of headers, in bytes; a token may have 16 KiB. Default 64 KiB.
    pub max_header_bytes: u32,
    /// The longest message, in bytes. Default 64 KiB.
    pub max_message_bytes: usize,
    /// How long calls under way may take once the service was told to stop. Default 10 s.
    pub drain: Duration,
}

impl Default for ListenerSettings {
    fn default() -> Self {
        Self {
            max_connections: 16 * 1024,
            handshake_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_secs(60),
            max_connection_age: Duration::from_secs(60 * 60),
            call_timeout: Duration::from_secs(40),
            max_streams: 100,
            max_header_bytes: 64 * 1024,
            max_message_bytes: MAX_REQUEST_BYTES,
            drain: Duration::from_secs(10),
        }
    }
}

/// How often a silent connection is asked whether somebody is there, and how long the answer may take.
const PING: (Duration, Duration) = (Duration::from_secs(30), Duration::from_secs(20));

/// How long, beside the drain, a connection that was asked to end may take for the calls on it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A port that is taken and not served yet.
#[derive(Debug)]
pub struct Listener {
    socket: TcpListener,
    settings: ListenerSettings,
}

impl Listener {
    /// Takes the port.
    ///
    /// # Errors
    /// It is taken, or the address is not ours.
    pub async fn bind(address: SocketAddr, settings: ListenerSettings) -> io::Result<Self> {
        Ok(Self { socket: TcpListener::bind(address).await?, settings })
    }

    /// Where it really listens.
    ///
    /// # Errors
    /// The system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.socket.local_addr()
    }

    /// Serves until told to stop, then waits for the calls under way, but not longer than `drain`.
    pub async fn serve<S: IstioCertificateService>(
        self,
        service: S,
        serving: Arc<Serving>,
        roots: RootsWatch,
        mut stop: watch::Receiver<bool>,
    ) {
        let Self { socket, settings } = self;
        let room = Arc::new(Semaphore::new(settings.max_connections));
        let service =
            IstioCertificateServiceServer::new(service).max_decoding_message_size(settings.max_message_bytes);
        let settings = Arc::new(settings);
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let accepted = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                accepted = accept(&socket, &room) => accepted,
            };
            let (stream, peer, permit) = match accepted {
                Ok(accepted) => accepted,
                // Its sender has gone again before it was looked at.
                Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => continue,
                Err(error) => {
                    // Mostly too many open files: without a pause this loop would eat a core.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let connection = Connection {
                service: service.clone(),
                serving: Arc::clone(&serving),
                roots: roots.clone(),
                stop: stop.clone(),
                settings: Arc::clone(&settings),
                peer,
            };
            connections.spawn(async move {
                metrics::gauge!("cert_manager_istio_csr_connections").increment(1.0);
                connection.run(stream).await;
                metrics::gauge!("cert_manager_istio_csr_connections").decrement(1.0);
                drop(permit);
            });
        }
        drop(socket);
        let all = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(settings.drain, all).await.is_err() {
            tracing::warn!("calls still under way were cut off");
        }
        connections.shutdown().await;
    }
}

async fn accept(
    socket: &TcpListener,
    room: &Arc<Semaphore>,
) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
    let permit = Arc::clone(room).acquire_owned().await.map_err(io::Error::other)?;
    let (stream, peer) = socket.accept().await?;
    // Answers are small and written whole: waiting for more only adds latency.
    stream.set_nodelay(true)?;
    Ok((stream, peer, permit))
}

/// A connection before its handshake.
struct Connection<S> {
    service: IstioCertificateServiceServer<S>,
    serving: Arc<Serving>,
    roots: RootsWatch,
    stop: watch::Receiver<bool>,
    settings: Arc<ListenerSettings>,
    peer: SocketAddr,
}

impl<S: IstioCertificateService> Connection<S> {
    async fn run(self, stream: TcpStream) {
        // The listener opens only once there is a certificate.
        let Some(taken) = self.serving.handshake() else { return };
        let acceptor = TlsAcceptor::from(Arc::clone(&taken.config));
        let handshake = tokio::time::timeout(self.settings.handshake_timeout, acceptor.accept(stream));
        let reason = match handshake.await {
            Ok(Ok(stream)) if stream.get_ref().1.alpn_protocol() == Some(b"h2") => {
                return self.serve(stream, &taken.roots).await;
            }
            Ok(Ok(_)) => "the client does not speak HTTP/2".to_owned(),
            Ok(Err(error)) => error.to_string(),
            Err(_) => "it took too long".to_owned(),
        };
        metrics::counter!("cert_manager_istio_csr_tls_handshake_failures_total").increment(1);
        tracing::debug!(reason, peer = %self.peer, "TLS handshake failed");
    }

    /// Answers calls until the connection ends, or has to.
    async fn serve(self, stream: TlsStream<TcpStream>, verified_by: &Arc<Roots>) {
        let Self { service, mut roots, mut stop, settings, peer, .. } = self;
        let chain = stream.get_ref().1.peer_certificates();
        let chain: Option<PeerCertificates> = chain.map(|chain| PeerCertificates(chain.into()));
        let certified = chain.is_some();
        let calls = Arc::new(Calls::default());
        let begun = Arc::clone(&calls);
        let limit = settings.call_timeout;
        let answer = service_fn(move |mut request: http::Request<Incoming>| {
            let under_way = UnderWay::begin(&begun);
            let mut service = service.clone();
            let extensions = request.extensions_mut();
            extensions.insert(PeerAddress(peer));
            if let Some(chain) = &chain {
                extensions.insert(chain.clone());
            }
            // It says itself what it did, in the log and in metrics. Its deadline does not bound a sender that stalls in
            // the middle of the message, and whose half of it would stay in memory.
            let answer = tokio::time::timeout(limit, service.call(request));
            async move {
                let answer = answer.await;
                drop(under_way);
                answer.unwrap_or_else(|_| {
                    metering::stalled();
                    tracing::debug!(?limit, %peer, "a call was cut off");
                    Ok(Status::deadline_exceeded("no whole message within the deadline").into_http())
                })
            }
        });
        let mut builder = http2::Builder::new(TokioExecutor::new());
        builder
            .timer(TokioTimer::new())
            .max_concurrent_streams(settings.max_streams)
            .max_header_list_size(settings.max_header_bytes)
            .keep_alive_interval(PING.0)
            .keep_alive_timeout(PING.1);
        let (stream, turn) = gathering(stream);
        let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), answer));
        let age = settings.max_connection_age.mul_f64(1.0 + 0.1 * jitter());
        let mut patience = PATIENCE;
        // A turn of the connection, and what it has to say.
        let run = |connection: Pin<&mut http2::Connection<_, _, _>>, context: &mut Context<'_>| {
            let ended = connection.poll(context).map_err(io::Error::other);
            if ended.is_ready() {
                return ended;
            }
            ready!(turn.end(context))?;
            Poll::Pending
        };
        let reason = tokio::select! {
            ended = poll_fn(|context| run(connection.as_mut(), context)) => return log_end(ended, peer),
            _ = stop.wait_for(|stop| *stop) => {
                patience = Duration::ZERO;
                "the service stops"
            }
            () = tokio::time::sleep(age) => "it is old",
            () = calls.end_for(settings.idle_timeout) => "nothing is asked",
            // Whoever is known by a certificate of the roots of before must show it again.
            Ok(_) = roots.wait_for(|now| !Arc::ptr_eq(now, verified_by)), if certified => "the roots have changed",
        };
        tracing::debug!(reason, %peer, "the connection is asked to end");
        connection.as_mut().graceful_shutdown();
        let enough = async {
            drop(tokio::time::timeout(patience, stop.wait_for(|stop| *stop)).await);
            tokio::time::sleep(settings.drain).await;
        };
        tokio::select! {
            ended = poll_fn(|context| run(connection.as_mut(), context)) => log_end(ended, peer),
            () = enough => tracing::debug!(%peer, "the connection was cut off"),
        }
    }
}

/// The calls of one connection.
#[derive(Default)]
struct Calls {
    under_way: AtomicUsize,
    /// One has begun since somebody looked.
    begun: AtomicBool,
}

impl Calls {
    /// Returns when none was under way for this long, or up to twice as long.
    async fn end_for(&self, limit: Duration) {
        loop {
            tokio::time::sleep(limit).await;
            if !self.begun.swap(false, Ordering::Relaxed) && self.under_way.load(Ordering::Relaxed) == 0 {
                return;
            }
        }
    }
}

/// A call, until it is answered or given up.
struct UnderWay(Arc<Calls>);

impl UnderWay {
    fn begin(calls: &Arc<Calls>) -> Self {
        calls.begun.store(true, Ordering::Relaxed);
        calls.under_way.fetch_add(1, Ordering::Relaxed);
        Self(Arc::clone(calls))
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.0.under_way.fetch_sub(1, Ordering::Relaxed);
    }
}

fn log_end(ended: io::Result<()>, peer: SocketAddr) {
    if let Err(error) = ended {
        tracing::debug!(%error, %peer, "connection ended with an error");
    }
}
