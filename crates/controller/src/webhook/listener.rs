//! The port: from `accept` to an answer.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::{Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Semaphore, SemaphorePermit, watch};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;

use super::authority::Leaf;
use super::judge::{Door, Judge};
use super::review;

/// The longest review. It has an object twice, and an API server takes none over 3 MiB.
const LONGEST: usize = 7 << 20;
/// Bytes of reviews that are in memory at a time. Anybody in the cluster can send some, and what is made of them takes several
/// times as much. Common reviews have ten thousand.
const ROOM: usize = 8 << 20;
/// Most connections at a time; API servers keep few.
const CONNECTIONS: usize = 128;
/// Most of a head, and of what a connection of HTTP/1.1 reads ahead.
const HEAD: usize = 64 << 10;
/// What a connection of HTTP/2 may send before it is read.
const WINDOW: u32 = 256 << 10;
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How long a connection of HTTP/1.1 may stay without a request.
const IDLE: Duration = Duration::from_secs(90);
/// How long one request may take. API servers give up after 30 s at the latest.
const REQUEST: Duration = Duration::from_secs(30);
/// How long requests under way may take once the webhook was told to stop.
const DRAIN: Duration = Duration::from_secs(5);

/// The certificate of the moment.
pub(crate) type Current = Arc<ArcSwapOption<Leaf>>;

/// Serves until told to stop.
pub(crate) async fn serve(
    socket: TcpListener,
    leaf: Current,
    judge: Arc<Judge>,
    mut stop: watch::Receiver<bool>,
) {
    let places = Arc::new(Semaphore::new(CONNECTIONS));
    let room = Arc::new(Semaphore::new(ROOM));
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        let accepted = tokio::select! {
            biased;
            _ = stop.wait_for(|stop| *stop) => break,
            accepted = async {
                let permit = Arc::clone(&places).acquire_owned().await;
                (permit, socket.accept().await)
            } => accepted,
        };
        let (Ok(permit), Ok((stream, _))) = accepted else {
            // Mostly too many open files: without a pause this loop would eat a core.
            sleep(Duration::from_millis(50)).await;
            continue;
        };
        let (leaf, judge, room) = (Arc::clone(&leaf), Arc::clone(&judge), Arc::clone(&room));
        let stop = stop.clone();
        connections.spawn(async move {
            connection(stream, &leaf, judge, room, stop).await;
            drop(permit);
        });
    }
    drop(socket);
    let all = async { while connections.join_next().await.is_some() {} };
    if timeout(DRAIN, all).await.is_err() {
        tracing::warn!("reviews still under way were cut off");
    }
    connections.shutdown().await;
}

async fn connection(
    stream: TcpStream,
    leaf: &ArcSwapOption<Leaf>,
    judge: Arc<Judge>,
    room: Arc<Semaphore>,
    mut stop: watch::Receiver<bool>,
) {
    // Until there is a certificate there is nothing to say.
    let Some(leaf) = leaf.load_full() else { return };
    let _ = stream.set_nodelay(true);
    let acceptor = TlsAcceptor::from(Arc::clone(&leaf.config));
    let stream = match timeout(HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => return tracing::debug!(%error, "TLS handshake failed"),
        Err(_) => return tracing::debug!("TLS handshake took too long"),
    };
    let service = service_fn(move |request| {
        let (judge, room) = (Arc::clone(&judge), Arc::clone(&room));
        async move {
            let answer = timeout(REQUEST, answer(request, &judge, &room)).await;
            let late = || plain(StatusCode::SERVICE_UNAVAILABLE, "it took too long");
            Ok::<_, Infallible>(answer.unwrap_or_else(|_| late()))
        }
    });
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(IDLE).max_buf_size(HEAD);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(100)
        .max_header_list_size(8 << 10)
        .initial_stream_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .keep_alive_interval(REQUEST)
        .keep_alive_timeout(HANDSHAKE);
    let connection = builder.serve_connection(TokioIo::new(stream), service);
    tokio::pin!(connection);
    let stopped = async { stop.wait_for(|stop| *stop).await.is_ok() };
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        _ = stopped => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%error, "connection ended with an error");
    }
}

async fn answer(request: Request<Incoming>, judge: &Judge, room: &Semaphore) -> Response<Full<Bytes>> {
    let door = match (request.method(), request.uri().path()) {
        (&Method::GET | &Method::HEAD, "/healthz" | "/livez" | "/readyz") => {
            return plain(StatusCode::OK, "ok");
        }
        (&Method::POST, "/mutate") => Door::Mutate,
        (&Method::POST, "/validate") => Door::Validate,
        (_, "/mutate" | "/validate") => {
            return plain(StatusCode::METHOD_NOT_ALLOWED, "an AdmissionReview is sent by POST");
        }
        _ => return plain(StatusCode::NOT_FOUND, "there is nothing here"),
    };
    // API servers say how long a review is. It keeps its place until it is answered.
    let length = request.body().size_hint().upper().and_then(|length| usize::try_from(length).ok());
    let Some(_place) = reserve(room, length.unwrap_or(LONGEST)).await else {
        return plain(StatusCode::SERVICE_UNAVAILABLE, "the webhook ends");
    };
    let body = match Limited::new(request.into_body(), LONGEST).collect().await {
        Ok(body) => body.to_bytes(),
        Err(error) if error.is::<LengthLimitError>() => {
            return plain(StatusCode::PAYLOAD_TOO_LARGE, &format!("the body is longer than {LONGEST} bytes"));
        }
        Err(error) => return plain(StatusCode::BAD_REQUEST, &format!("the body did not arrive: {error}")),
    };
    let review = match review::Request::parse(&body) {
        Ok(review) => review,
        Err(reason) => return plain(StatusCode::BAD_REQUEST, &reason),
    };
    drop(body);
    let answer = judge.judge(door, &review).await;
    if let Some(refusal) = &answer.refusal {
        tracing::debug!(
            kind = review.kind.kind,
            namespace = review.namespace,
            operation = review.operation,
            user = review.user_info.username,
            reason = refusal.message,
            "refused"
        );
    }
    let text = answer.into_review(&review.uid).to_string();
    let mut response = Response::new(Full::new(Bytes::from(text)));
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

/// Waits until there is room for so many bytes; more than the longest review may have are not read. `None`: there will be no
/// room any more.
async fn reserve(room: &Semaphore, length: usize) -> Option<SemaphorePermit<'_>> {
    room.acquire_many(u32::try_from(length.min(LONGEST)).ok()?).await.ok()
}

fn plain(status: StatusCode, text: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(format!("{text}\n"))));
    *response.status_mut() = status;
    let kind = header::HeaderValue::from_static("text/plain; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_longest_reviews_come_in_one_after_the_other_and_small_ones_beside() {
        let room = Semaphore::new(ROOM);
        let long = reserve(&room, LONGEST).await.expect("room");
        let small = reserve(&room, 10_000).await.expect("room beside it");
        let mut second = Box::pin(reserve(&room, LONGEST));
        assert!(now_or_never(second.as_mut()).await.is_none(), "both at once would be too much");
        drop((long, small));
        assert!(second.await.is_some());
    }

    /// What a future says without being waited for.
    async fn now_or_never<F: Future + Unpin>(mut future: F) -> Option<F::Output> {
        std::future::poll_fn(|context| match std::pin::Pin::new(&mut future).poll(context) {
            std::task::Poll::Ready(output) => std::task::Poll::Ready(Some(output)),
            std::task::Poll::Pending => std::task::Poll::Ready(None),
        })
        .await
    }
}
