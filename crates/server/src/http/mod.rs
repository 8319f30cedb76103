//! HTTP on one side, [`chancery_secrets::Request`] and [`chancery_secrets::Answer`] on the other.
//!
//! Nothing is decided here but what a request means; who may do it is for the pipeline to say.

pub(crate) mod answer;
mod forwarded;
mod path;
mod vault;

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use chancery_secrets::core::Core;
use chancery_secrets::{Connection, Operation, Request};
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::header::{HOST, HeaderMap};
use hyper::http::request::Parts;
use hyper::{Method, StatusCode, Version};

use tokio::sync::{Semaphore, SemaphorePermit};

use crate::config::ListenerConfig;
use crate::metrics::Metrics;
pub(crate) use answer::HttpResponse;
pub use answer::Refused;
use path::Target;
pub use vault::body_as_json;

/// What the head of an HTTP request asks for.
#[derive(Debug)]
pub enum Asked {
    /// Something of the pipeline; the body is still missing.
    Pipeline(Request),
    /// An unclean path: the same in a cleaner form, where the client shall ask.
    Elsewhere(String),
    /// `/`.
    FrontDoor,
    /// Whether anybody is there at all (RFC 9110, 9.3.7).
    Presence,
}

/// Reads the head of an HTTP request that came over `connection`, under the rules of its listener.
///
/// # Errors
/// A head that means nothing, or that its sender may not send.
pub fn asked(head: &Parts, mut connection: Connection, listener: &ListenerConfig) -> Result<Asked, Refused> {
    let hosts = head.headers.get_all(HOST).iter().count();
    if head.version == Version::HTTP_11 && hosts != 1 {
        // RFC 9112, 3.2: none or several must be refused.
        return Err(Refused::bad_request(format!("a request has one Host header, not {hosts}")));
    }
    if head.method == Method::OPTIONS && head.uri.path() == "*" {
        return Ok(Asked::Presence);
    }
    connection.open_measurements = listener.unauthenticated_metrics;
    if let Some(rules) = &listener.forwarded {
        connection.address =
            forwarded::caller(rules, connection.address, &head.headers).map_err(Refused::bad_request)?;
    }
    let path = match path::target(head.uri.path()) {
        Target::Api(path) => path,
        Target::Redirect(clean) => {
            let query = head.uri.query().map(|query| format!("?{query}")).unwrap_or_default();
            return Ok(Asked::Elsewhere(format!("{clean}{query}")));
        }
        Target::Root => return Ok(Asked::FrontDoor),
        Target::Nothing => return Err(Refused::new(StatusCode::NOT_FOUND, "")),
        Target::Refused(reason) => return Err(Refused::bad_request(reason)),
    };
    let mut request = vault::request(head, path)?;
    request.connection = connection;
    Ok(Asked::Pipeline(request))
}

/// All that is needed to answer a request.
pub(crate) struct Service {
    pub(crate) core: Arc<Core>,
    pub(crate) metrics: Metrics,
    pub(crate) ui: bool,
}

impl Service {
    /// Answers one request from this connection, under the limits of its listener.
    pub(crate) async fn answer(
        self: Arc<Self>,
        request: hyper::Request<Incoming>,
        connection: Connection,
        listener: Arc<ListenerConfig>,
    ) -> HttpResponse {
        let in_flight = self.metrics.in_flight();
        let response = match self.route(request, connection, &listener).await {
            Ok(response) => response,
            Err(refused) => refused.response(),
        };
        drop(in_flight);
        self.metrics.answered(response.status());
        response
    }

    async fn route(
        &self,
        request: hyper::Request<Incoming>,
        connection: Connection,
        listener: &ListenerConfig,
    ) -> Result<HttpResponse, Refused> {
        let (head, body) = request.into_parts();
        let mut request = match asked(&head, connection, listener)? {
            Asked::Pipeline(request) => request,
            Asked::Elsewhere(location) => return Ok(answer::redirect(&location)),
            Asked::FrontDoor if self.ui => return Ok(answer::redirect("/ui/")),
            Asked::FrontDoor => return Err(Refused::new(StatusCode::NOT_FOUND, "")),
            Asked::Presence => return Ok(answer::empty(StatusCode::OK)),
        };
        request.headers = vault::audited_headers(&head, &self.core.audited_headers());
        let mut room = None;
        if matches!(request.operation, Operation::Update | Operation::Patch) {
            let body = read(body, listener, &mut room).await?;
            request.body = body_as_json(&head.headers, body);
        }
        let mut response = self.ask(request, &head.headers).await;
        drop(room);
        if head.method == Method::HEAD
            && response.status() == StatusCode::NO_CONTENT
            && head.uri.path().ends_with("/acme/new-nonce")
        {
            // RFC 8555, 7.2: 200, where a GET is answered 204.
            *response.status_mut() = StatusCode::OK;
        }
        Ok(response)
    }

    async fn ask(&self, request: Request, headers: &HeaderMap) -> HttpResponse {
        match self.core.handle(request).await {
            Ok(answer) => answer::answer(&answer, headers),
            Err(error) => answer::refusal(&error),
        }
    }
}

/// Bytes of bodies that may be in memory at a time, whoever sends them: they are read before it is known
/// whether their sender may ask for anything.
const BODIES: usize = 256 << 20;

static ROOM: Semaphore = Semaphore::const_new(BODIES);

/// The body, within the listener's bounds of size and time. Its `room` is given back when that is dropped.
async fn read(
    mut body: Incoming,
    listener: &ListenerConfig,
    room: &mut Option<SemaphorePermit<'static>>,
) -> Result<Bytes, Refused> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    let too_large = || Refused::new(StatusCode::PAYLOAD_TOO_LARGE, "http: request body too large");
    let announced = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if announced > listener.max_request_size {
        return Err(too_large());
    }
    let reading = async {
        let mut parts = Gathered::default();
        while let Some(frame) = body.frame().await {
            let frame = frame.map_err(|_| Refused::bad_request("the request body broke off"))?;
            // Anything else is trailers.
            let Ok(part) = frame.into_data() else { continue };
            if part.len() > listener.max_request_size.saturating_sub(parts.size) {
                return Err(too_large());
            }
            let more = u32::try_from(part.len()).ok().and_then(|size| ROOM.try_acquire_many(size).ok());
            let more = more.ok_or_else(Refused::busy)?;
            match room {
                Some(room) => room.merge(more),
                None => *room = Some(more),
            }
            parts.push(part);
        }
        Ok(parts.whole())
    };
    tokio::time::timeout(listener.max_request_duration, reading)
        .await
        .unwrap_or_else(|_| Err(Refused::new(StatusCode::REQUEST_TIMEOUT, "the request body took too long")))
}

/// A body as it comes. Most come in one part, which is not copied.
#[derive(Default)]
struct Gathered {
    first: Bytes,
    more: BytesMut,
    size: usize,
}

impl Gathered {
    fn push(&mut self, part: Bytes) {
        if self.size == 0 {
            self.size = part.len();
            self.first = part;
            return;
        }
        if self.more.is_empty() {
            self.more.extend_from_slice(&self.first);
        }
        self.size += part.len();
        self.more.extend_from_slice(&part);
    }

    fn whole(self) -> Bytes {
        if self.more.is_empty() { self.first } else { self.more.freeze() }
    }
}
