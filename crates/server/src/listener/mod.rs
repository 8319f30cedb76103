//! Sockets and connections: from `accept` to a request with all that is known of its sender.

mod possession;
pub mod tls;

use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use chancery_secrets::Connection;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::server::graceful::{GracefulShutdown, Watcher};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_rustls::TlsAcceptor;

use crate::config::{Bind, ListenerConfig};
use crate::http::Service;
use tls::ReloadingTls;

/// Most connections at a time on one listener; more wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 16 * 1024;

/// The longest request head that is read.
const MAX_HEAD: usize = 256 * 1024;

/// Most requests at a time on one HTTP/2 connection.
const MAX_STREAMS: u32 = 256;

/// Where a listener really listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Address {
    /// A port; known even if the configuration asked for port 0.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(path) => path.display().fmt(f),
        }
    }
}

/// Why a listener does not start.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address is taken, or is not ours.
    #[error("cannot listen on {address}: {source}")]
    Socket {
        /// As configured.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// The certificate or its key.
    #[error("listener on {address}: {source}")]
    Tls {
        /// As configured.
        address: String,
        /// Why.
        source: tls::TlsError,
    },
}

/// A listener that has its socket and does not accept yet: ports are known early, service starts late.
pub(crate) struct Bound {
    config: Arc<ListenerConfig>,
    socket: Socket,
    tls: Option<Arc<ReloadingTls>>,
    address: Address,
}

enum Socket {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Bound {
    pub(crate) async fn bind(config: ListenerConfig) -> Result<Self, BindError> {
        let name = match &config.bind {
            Bind::Tcp(address) => address.clone(),
            Bind::Unix { path, .. } => path.display().to_string(),
        };
        let tls = match &config.tls {
            Some(tls) => match ReloadingTls::load(tls.clone()) {
                Ok(tls) => Some(Arc::new(tls)),
                Err(source) => return Err(BindError::Tls { address: name, source }),
            },
            None => None,
        };
        let (socket, address) =
            open(&config.bind).await.map_err(|source| BindError::Socket { address: name, source })?;
        Ok(Self { config: Arc::new(config), socket, tls, address })
    }

    pub(crate) fn address(&self) -> &Address {
        &self.address
    }

    pub(crate) fn tls(&self) -> Option<&Arc<ReloadingTls>> {
        self.tls.as_ref()
    }

    /// Accepts until told to stop, then waits for the requests under way, but not longer than `drain`.
    pub(crate) async fn serve(self, service: Arc<Service>, mut stop: watch::Receiver<bool>, drain: Duration) {
        let graceful = GracefulShutdown::new();
        let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            while connections.try_join_next().is_some() {}
            let accepted = tokio::select! {
                biased;
                _ = stop.wait_for(|stop| *stop) => break,
                accepted = self.accept(&room) => accepted,
            };
            let (stream, peer, permit) = match accepted {
                Ok(accepted) => accepted,
                Err(error) => {
                    // Mostly too many open files: without a pause this loop would eat a core.
                    tracing::warn!(%error, address = %self.address, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(50)).await;
                    continue;
                }
            };
            let incoming = Accepted {
                config: Arc::clone(&self.config),
                tls: self.tls.clone(),
                peer,
                service: Arc::clone(&service),
                watcher: graceful.watcher(),
            };
            connections.spawn(async move {
                incoming.run(stream).await;
                drop(permit);
            });
        }
        if let Address::Unix(path) = &self.address {
            let _ = std::fs::remove_file(path);
        }
        drop(self.socket);
        if tokio::time::timeout(drain, graceful.shutdown()).await.is_err() {
            tracing::warn!(address = %self.address, "requests still under way were cut off");
        }
        connections.shutdown().await;
    }

    async fn accept(
        &self,
        room: &Arc<Semaphore>,
    ) -> io::Result<(Stream, Option<SocketAddr>, tokio::sync::OwnedSemaphorePermit)> {
        let permit = Arc::clone(room).acquire_owned().await.map_err(io::Error::other)?;
        match &self.socket {
            Socket::Tcp(listener) => {
                let (stream, peer) = listener.accept().await?;
                // Answers are small and written whole: waiting for more only adds latency.
                stream.set_nodelay(true)?;
                Ok((Stream::Tcp(stream), Some(peer), permit))
            }
            Socket::Unix(listener) => {
                let (stream, _) = listener.accept().await?;
                Ok((Stream::Unix(stream), None, permit))
            }
        }
    }
}

async fn open(bind: &Bind) -> io::Result<(Socket, Address)> {
    match bind {
        Bind::Tcp(address) => {
            // A bare port or an empty host means every address, as in Go.
            let address = if address.starts_with(':') { format!("[::]{address}") } else { address.clone() };
            let listener = TcpListener::bind(&address).await?;
            let address = listener.local_addr()?;
            Ok((Socket::Tcp(listener), Address::Tcp(address)))
        }
        Bind::Unix { path, mode } => {
            use std::os::unix::fs::{FileTypeExt, PermissionsExt};
            // What a process that was killed left behind is in the way: nobody answers there. A socket of a
            // running process stays, and so does anything but a socket.
            if std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
                // Not the standard library's, which would wait for room in the queue of a busy process.
                match tokio::net::UnixStream::connect(path).await {
                    Ok(_) => {
                        let message = "Address already in use: another process answers there";
                        return Err(io::Error::new(io::ErrorKind::AddrInUse, message));
                    }
                    Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                        std::fs::remove_file(path)?;
                    }
                    // Nobody knows whose it is; binding will say that the name is taken.
                    Err(_) => {}
                }
            }
            let listener = UnixListener::bind(path)?;
            if let Some(mode) = mode {
                std::fs::set_permissions(path, std::fs::Permissions::from_mode(*mode))?;
            }
            Ok((Socket::Unix(listener), Address::Unix(path.clone())))
        }
    }
}

enum Stream {
    Tcp(tokio::net::TcpStream),
    Unix(tokio::net::UnixStream),
}

/// A connection before its handshake.
struct Accepted {
    config: Arc<ListenerConfig>,
    tls: Option<Arc<ReloadingTls>>,
    peer: Option<SocketAddr>,
    service: Arc<Service>,
    watcher: Watcher,
}

impl Accepted {
    async fn run(self, stream: Stream) {
        match stream {
            Stream::Tcp(stream) => self.secure(stream).await,
            Stream::Unix(stream) => self.secure(stream).await,
        }
    }

    async fn secure<IO: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, stream: IO) {
        let mut connection = Connection {
            address: self.peer.map(|peer| peer.ip().to_canonical()),
            port: self.peer.map_or(0, |peer| peer.port()),
            ..Connection::default()
        };
        let Some(tls) = &self.tls else {
            return self.serve(stream, connection, false).await;
        };
        let acceptor = TlsAcceptor::from(tls.config());
        let stream = match tokio::time::timeout(self.config.handshake_timeout, acceptor.accept(stream)).await
        {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) => {
                tracing::debug!(%error, peer = ?self.peer, "TLS handshake failed");
                return;
            }
            Err(_) => {
                tracing::debug!(peer = ?self.peer, "TLS handshake took too long");
                return;
            }
        };
        connection.tls = true;
        let http2 = stream.get_ref().1.alpn_protocol() == Some(b"h2");
        if let Some(chain) = stream.get_ref().1.peer_certificates() {
            connection.certificates = chain.iter().map(|certificate| certificate.to_vec()).collect();
        }
        self.serve(stream, connection, http2).await;
    }

    /// Answers requests until the connection ends. Which HTTP it speaks was agreed in the TLS handshake; without
    /// TLS it is version 1.1. Guessing from the first bytes would wait for them without a limit of time.
    async fn serve<IO: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        self,
        stream: IO,
        connection: Connection,
        http2: bool,
    ) {
        let Self { config, service, watcher, peer, .. } = self;
        let builder = auto::Builder::new(TokioExecutor::new());
        let mut builder = if http2 { builder.http2_only() } else { builder.http1_only() };
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(config.idle_timeout)
            .max_buf_size(MAX_HEAD);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEAD as u32)
            .keep_alive_interval(config.idle_timeout)
            .keep_alive_timeout(Duration::from_secs(20));
        let answer = service_fn(move |request| {
            let answer = Arc::clone(&service).answer(request, connection.clone(), Arc::clone(&config));
            async move { Ok::<_, std::convert::Infallible>(answer.await) }
        });
        let served = builder.serve_connection(TokioIo::new(stream), answer).into_owned();
        if let Err(error) = watcher.watch(served).await {
            tracing::debug!(error, peer = ?peer, "connection ended with an error");
        }
    }
}
