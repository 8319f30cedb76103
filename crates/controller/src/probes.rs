//! What probes and Prometheus ask, over plain HTTP on ports of their own.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};

use crate::context::Context;
use crate::health::Health;
use crate::metrics::{SharedRows, page};

/// Most connections at a time; probes need two or three.
const MAX_CONNECTIONS: usize = 64;

/// How long a request's head may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a connection may last: whoever reads slowly holds memory.
const LONGEST: Duration = Duration::from_secs(60);

const PLAIN: &str = "text/plain; charset=utf-8";

type Answer = Response<UnsyncBoxBody<Bytes, Infallible>>;

/// What a port answers.
pub(crate) enum Page {
    /// `/livez`, `/readyz`, and `/healthz` for the former.
    Probes(Arc<Health>),
    /// `/metrics` in Prometheus' text format.
    Metrics(Box<Context>, SharedRows),
}

impl Page {
    fn answer<B>(&self, request: &Request<B>) -> Answer {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered\n".to_owned());
        }
        match (self, request.uri().path()) {
            // A process that answers here is alive: what ails the API server, a restart does not cure.
            (Self::Probes(_), "/livez" | "/healthz") => text(StatusCode::OK, "ok".to_owned()),
            (Self::Probes(health), "/readyz") => ready(&health.missing()),
            (Self::Metrics(context, shared), "/metrics") => {
                let mut answer = Response::new(page(context, shared).boxed_unsync());
                let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
                answer.headers_mut().insert(CONTENT_TYPE, kind);
                answer
            }
            _ => text(StatusCode::NOT_FOUND, "not found\n".to_owned()),
        }
    }
}

fn ready(missing: &[String]) -> Answer {
    if missing.is_empty() {
        return text(StatusCode::OK, "ok".to_owned());
    }
    let lines: String = missing.iter().map(|what| format!("[-]{what}\n")).collect();
    text(StatusCode::SERVICE_UNAVAILABLE, format!("{lines}readyz check failed\n"))
}

fn text(status: StatusCode, text: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(text)).boxed_unsync());
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(PLAIN));
    answer
}

/// A port for probes or metrics.
#[derive(Debug)]
pub(crate) struct Listener(TcpListener);

impl Listener {
    /// Takes the port.
    pub(crate) async fn bind(address: SocketAddr) -> io::Result<Self> {
        TcpListener::bind(address).await.map(Self)
    }

    /// Where it really listens.
    pub(crate) fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Answers until it is dropped.
    pub(crate) async fn serve(self, page: Page) {
        let page = Arc::new(page);
        let mut connections = JoinSet::new();
        // The oldest first.
        let mut open: VecDeque<AbortHandle> = VecDeque::new();
        loop {
            while connections.try_join_next().is_some() {}
            let Ok((stream, _)) = self.0.accept().await else {
                // Out of files, most likely.
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
                    let answer = page.answer(&request);
                    async move { Ok::<_, Infallible>(answer) }
                });
                let mut builder = http1::Builder::new();
                builder.timer(TokioTimer::new()).header_read_timeout(HEAD_TIMEOUT);
                builder.keep_alive(false).max_buf_size(16 * 1024);
                let connection = builder.serve_connection(TokioIo::new(stream), answer);
                if let Ok(Err(error)) = tokio::time::timeout(LONGEST, connection).await {
                    tracing::debug!(%error, "a probe's connection ended with an error");
                }
            }));
        }
    }
}
