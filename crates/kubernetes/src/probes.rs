//! What Kubernetes' probes and Prometheus ask of a process in a pod, over plain HTTP on ports of their own.

use std::collections::VecDeque;
use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderValue, Method, Request, Response, StatusCode, Uri};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::TcpListener;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::timeout;

/// Most connections at a time; probes need two or three.
const MAX_CONNECTIONS: usize = 64;

/// How long a request's head may take.
const HEAD_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a connection may last: whoever reads slowly holds memory.
const LONGEST: Duration = Duration::from_secs(60);

const PLAIN: &str = "text/plain; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// A body, whole or in pieces.
pub type Body = UnsyncBoxBody<Bytes, Infallible>;

type Answer = Response<Body>;

/// What a port answers.
pub struct Page {
    path: String,
    is_of_probes: bool,
    answer: Box<dyn Fn(&Uri) -> Answer + Send + Sync>,
}

impl std::fmt::Debug for Page {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Page").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Page {
    /// Readiness at this path, in status and words; and `/livez` and `/healthz`, which say that the process is there.
    pub fn probes(
        path: impl Into<String>,
        ready: impl Fn(&Uri) -> (StatusCode, String) + Send + Sync + 'static,
    ) -> Self {
        let answer = move |uri: &Uri| {
            let (status, words) = ready(uri);
            text(status, words)
        };
        Self { path: path.into(), is_of_probes: true, answer: Box::new(answer) }
    }

    /// `/metrics` in Prometheus' text format.
    pub fn metrics(render: impl Fn() -> Body + Send + Sync + 'static) -> Self {
        let answer = move |_: &Uri| answer(StatusCode::OK, PROMETHEUS, render());
        Self { path: "/metrics".to_owned(), is_of_probes: false, answer: Box::new(answer) }
    }

    fn answer<B>(&self, request: &Request<B>) -> Answer {
        if request.method() != Method::GET && request.method() != Method::HEAD {
            return text(StatusCode::METHOD_NOT_ALLOWED, "only GET is answered\n".to_owned());
        }
        match request.uri().path() {
            path if path == self.path => (self.answer)(request.uri()),
            // A process that answers here is alive: what ails it otherwise, a restart does not cure.
            "/livez" | "/healthz" if self.is_of_probes => text(StatusCode::OK, "ok".to_owned()),
            _ => text(StatusCode::NOT_FOUND, "not found\n".to_owned()),
        }
    }
}

/// A body that is there whole.
pub fn whole(text: String) -> Body {
    Full::new(Bytes::from(text)).boxed_unsync()
}

fn text(status: StatusCode, text: String) -> Answer {
    answer(status, PLAIN, whole(text))
}

fn answer(status: StatusCode, kind: &'static str, body: Body) -> Answer {
    let mut answer = Response::new(body);
    *answer.status_mut() = status;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(kind));
    answer
}

/// A port for probes or metrics.
#[derive(Debug)]
pub struct Listener(TcpListener);

impl Listener {
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
    pub fn address(&self) -> io::Result<SocketAddr> {
        self.0.local_addr()
    }

    /// Answers until it is dropped.
    pub async fn serve(self, page: Page) {
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
                if let Ok(Err(error)) = timeout(LONGEST, connection).await {
                    tracing::debug!(%error, "a probe's connection ended with an error");
                }
            }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(page: &Page, method: Method, path: &str) -> u16 {
        let request = Request::builder().method(method).uri(path).body(()).expect("a request");
        page.answer(&request).status().as_u16()
    }

    #[test]
    fn a_page_answers_its_own_paths_and_reads_only() {
        let probes = Page::probes("/ready", |_| (StatusCode::SERVICE_UNAVAILABLE, String::new()));
        let metrics = Page::metrics(|| whole("a 1\n".to_owned()));
        for (path, of_probes, of_metrics) in [
            ("/ready", 503, 404),
            ("/ready?verbose", 503, 404),
            ("/livez", 200, 404),
            ("/healthz", 200, 404),
            ("/metrics", 404, 200),
            ("/readyz", 404, 404),
        ] {
            assert_eq!(asked(&probes, Method::GET, path), of_probes, "{path}");
            assert_eq!(asked(&metrics, Method::HEAD, path), of_metrics, "{path}");
            assert_eq!(asked(&probes, Method::POST, path), 405, "{path}");
        }
    }
}
