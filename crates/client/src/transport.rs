//! The one place that opens a socket: to the server, to a proxy before it, or in the file system. Connections are kept
//! and shared by the library's pool.

use std::fmt;
use std::future::{Future, ready};
use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http::header::PROXY_AUTHORIZATION;
use http::uri::Scheme;
use http::{HeaderMap, Uri};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::rt::{Read, ReadBufCursor, Write};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::connect::proxy::Tunnel;
use hyper_util::client::legacy::connect::{Connected, Connection, HttpConnector};
use hyper_util::client::legacy::{Client, Error};
use hyper_util::client::proxy::matcher::{Intercept, Matcher};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use rustls::pki_types::ServerName;
use tokio::net::UnixStream;
use tower_service::Service;

use crate::trust::client_config;
use crate::{Config, ConfigError};

/// How often an HTTP/2 connection with requests on it is asked whether its other end is there, and how long the
/// answer may take.
const PING: (Duration, Duration) = (Duration::from_secs(10), Duration::from_secs(5));
/// The same for every connection, by the system: after how long without a word, how often, and after how many
/// unanswered ones it is given up.
const KEEPALIVE: (Duration, Duration, u32) = (Duration::from_secs(15), Duration::from_secs(15), 3);
/// How long what was sent may go unacknowledged.
const UNACKNOWLEDGED: Duration = Duration::from_secs(30);

type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// Sends requests over kept connections. Clones share them.
#[derive(Clone)]
pub(crate) struct Transport {
    client: Client<HttpsConnector<Connector>, Full<Bytes>>,
    proxies: Option<Arc<Matcher>>,
}

impl Transport {
    /// Reads the certificates that the settings name; opens no connection.
    pub(crate) fn new(config: &Config) -> Result<Self, ConfigError> {
        let tls = client_config(config)?;
        let proxies = proxies(config)?.map(Arc::new);
        let connector = match config.address.socket() {
            Some(socket) => Connector::Socket(socket.into()),
            None => match &proxies {
                None => Connector::Network(network()),
                Some(proxies) => {
                    let proxy = HttpsConnectorBuilder::new().with_tls_config(tls.clone()).https_or_http();
                    let proxy = proxy.enable_http1().wrap_connector(network());
                    Connector::Proxied { proxies: Arc::clone(proxies), proxy, direct: network() }
                }
            },
        };
        let mut builder = HttpsConnectorBuilder::new().with_tls_config(tls).https_or_http();
        if let Some(name) = config.tls_server_name.as_deref().filter(|_| config.address.is_tls()) {
            let name = ServerName::try_from(name.to_owned()).map_err(|error| ConfigError::Value {
                name: "TLS server name".into(),
                reason: format!("{name:?}: {error}"),
            })?;
            builder = builder.with_server_name_resolver(FixedServerNameResolver::new(name));
        }
        let client = Client::builder(TokioExecutor::new())
            .timer(TokioTimer::new())
            .pool_timer(TokioTimer::new())
            .pool_max_idle_per_host(config.idle_connections)
            // All requests share one HTTP/2 connection: if its other end vanishes without a word, they would all
            // wait for it, and those after them too.
            .http2_keep_alive_interval(PING.0)
            .http2_keep_alive_timeout(PING.1)
            .build(builder.enable_all_versions().wrap_connector(connector));
        Ok(Self { client, proxies })
    }

    /// Sends one request. The answer's body is still to come.
    pub(crate) async fn send(
        &self,
        mut request: http::Request<Full<Bytes>>,
    ) -> Result<http::Response<Incoming>, Error> {
        if let Some(proxies) = &self.proxies
            && request.uri().scheme() == Some(&Scheme::HTTP)
            && let Some(proxy) = proxies.intercept(request.uri())
        {
            // Through a tunnel the proxy has seen it when the tunnel was made.
            authorize(&proxy, request.headers_mut());
        }
        self.client.request(request).await
    }
}

impl fmt::Debug for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transport").finish_non_exhaustive()
    }
}

/// Which requests go through a proxy; `None` is none at all.
fn proxies(config: &Config) -> Result<Option<Matcher>, ConfigError> {
    if let Some(proxy) = &config.proxy {
        // Without a scheme it is taken for http, as Go and curl take it.
        let uri = proxy.parse::<Uri>().ok().filter(|uri| uri.host().is_some_and(|host| !host.is_empty()));
        let scheme = uri.as_ref().and_then(Uri::scheme_str).unwrap_or("http");
        if uri.is_none() || !matches!(scheme, "http" | "https") {
            // Before the last @ may be a password.
            let shown = proxy.rsplit('@').next().unwrap_or_default();
            let reason = format!("{shown:?} is not the address of an HTTP proxy");
            return Err(ConfigError::Value { name: "proxy".into(), reason });
        }
        return Ok(Some(Matcher::builder().all(proxy.as_str()).build()));
    }
    // HTTP_PROXY and its like are about other machines, as Go's clients have it.
    Ok((!config.address.is_local()).then(Matcher::from_env))
}

fn authorize(proxy: &Intercept, headers: &mut HeaderMap) {
    if let Some(credentials) = proxy.basic_auth() {
        let mut credentials = credentials.clone();
        credentials.set_sensitive(true);
        headers.insert(PROXY_AUTHORIZATION, credentials);
    }
}

fn network() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.enforce_http(false);
    connector.set_nodelay(true);
    connector.set_keepalive(Some(KEEPALIVE.0));
    connector.set_keepalive_interval(Some(KEEPALIVE.1));
    connector.set_keepalive_retries(Some(KEEPALIVE.2));
    connector.set_tcp_user_timeout(Some(UNACKNOWLEDGED));
    connector
}

/// Below TLS: how the other end is reached.
#[derive(Clone)]
enum Connector {
    Network(HttpConnector),
    Socket(Arc<Path>),
    Proxied { proxies: Arc<Matcher>, proxy: HttpsConnector<HttpConnector>, direct: HttpConnector },
}

impl Service<Uri> for Connector {
    type Response = Wire;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Wire, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        // None of them has anything to wait for.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, target: Uri) -> Self::Future {
        match self {
            Self::Network(network) => Wire::opened(network.call(target), false),
            Self::Socket(path) => {
                let path = Arc::clone(path);
                let opening = async move { UnixStream::connect(path).await.map(TokioIo::new) };
                Wire::opened(opening, false)
            }
            Self::Proxied { proxies, proxy, direct } => match proxies.intercept(&target) {
                None => Wire::opened(direct.call(target), false),
                Some(found) if matches!(found.uri().scheme_str(), Some("http" | "https")) => {
                    if target.scheme() == Some(&Scheme::HTTPS) {
                        let mut tunnel = Tunnel::new(found.uri().clone(), proxy.clone());
                        if let Some(credentials) = found.basic_auth() {
                            tunnel = tunnel.with_auth(credentials.clone());
                        }
                        Wire::opened(tunnel.call(target), false)
                    } else {
                        Wire::opened(proxy.call(found.uri().clone()), true)
                    }
                }
                Some(found) => {
                    let scheme = found.uri().scheme_str().unwrap_or_default();
                    Box::pin(ready(Err(format!("a proxy of the kind {scheme:?} is not supported").into())))
                }
            },
        }
    }
}

/// What bytes travel over.
struct Wire {
    stream: Box<dyn Stream>,
    /// At its other end is a proxy that must be told the whole address.
    proxied: bool,
}

trait Stream: Read + Write + Send + Unpin {}

impl<T: Read + Write + Send + Unpin> Stream for T {}

impl Wire {
    fn opened<T, E>(
        opening: impl Future<Output = Result<T, E>> + Send + 'static,
        proxied: bool,
    ) -> Pin<Box<dyn Future<Output = Result<Self, BoxError>> + Send>>
    where
        T: Stream + 'static,
        E: Into<BoxError>,
    {
        Box::pin(async move {
            let stream = opening.await.map_err(Into::into)?;
            Ok(Self { stream: Box::new(stream), proxied })
        })
    }
}

impl Connection for Wire {
    fn connected(&self) -> Connected {
        Connected::new().proxy(self.proxied)
    }
}

impl Read for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: ReadBufCursor<'_>,
    ) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl Write for Wire {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[std::io::IoSlice<'_>],
    ) -> Poll<std::io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, slices)
    }
}
