//! A gRPC client's connection over a unix socket.

#![allow(dead_code, unreachable_pub, reason = "each of those who include it uses a part")]

use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::task::{Context, Poll};

use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo};
use tokio::net::UnixStream;
use tonic::body::Body;

#[derive(Clone)]
pub struct Channel(SendRequest<Body>);

impl Channel {
    /// Connects; `None` if nobody is there.
    pub async fn to(path: &Path) -> Option<Self> {
        let stream = UnixStream::connect(path).await.ok()?;
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.ok()?;
        tokio::spawn(connection);
        Some(Self(sender))
    }
}

impl tower_service::Service<http::Request<Body>> for Channel {
    type Response = http::Response<Incoming>;
    type Error = hyper::Error;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        // As tonic's own channel adds it: HTTP/2 wants a whole address.
        let path = request.uri().path_and_query().map(ToString::to_string).unwrap_or_default();
        if let Ok(uri) = format!("http://localhost{path}").parse() {
            *request.uri_mut() = uri;
        }
        Box::pin(self.0.send_request(request))
    }
}
