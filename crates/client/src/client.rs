//! Sends requests, again where that helps, and says in the words of Vault's clients what came of them.

use std::error::Error as StdError;
use std::fmt;
use std::io::ErrorKind;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use bytes::Bytes;
use chancery_api::Secret;
use http::header::{AUTHORIZATION, HeaderName, HeaderValue, USER_AGENT};
use http::{HeaderMap, Uri};
use http_body_util::{BodyExt, Full, LengthLimitError, Limited};
use serde::Deserialize;
use tokio::time::Instant;
use url::Url;

use crate::session::jitter;
use crate::transport::Transport;
use crate::{Answer, Config, ConfigError, Error, Loss, Method, Prepared, Request};

/// Who asks.
const AGENT: HeaderValue = HeaderValue::from_static(concat!("chancery/", env!("CARGO_PKG_VERSION")));
/// How often a request is sent again at once because the server closed the shared connection without having seen it.
const UNSEEN: usize = 2;

/// A client of one server. Cheap to clone; clones share connections and the token.
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    config: Config,
    /// Made of the files that the settings name.
    transport: RwLock<Transport>,
    token: RwLock<Option<Secret>>,
    pace: tokio::sync::Mutex<Option<Instant>>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("address", &self.shared.config.address).finish_non_exhaustive()
    }
}

/// An answer as it came over the wire.
#[derive(Debug, Clone)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
    method: &'static str,
    url: String,
}

impl Client {
    /// A client with these settings. Reads the certificates they name, opens no connection.
    ///
    /// # Errors
    /// A certificate or key cannot be read, or a setting cannot be used.
    pub fn new(config: Config) -> Result<Self, ConfigError> {
        let transport = RwLock::new(Transport::new(&config)?);
        let token = RwLock::new(config.token.clone());
        let pace = tokio::sync::Mutex::new(None);
        Ok(Self { shared: Arc::new(Shared { config, transport, token, pace }) })
    }

    /// Reads the certificates again that the settings name, and makes new connections from now on, in all clones:
    /// for programs that outlive their certificates. After an error the old ones stay.
    ///
    /// # Errors
    /// As [`Self::new`].
    pub async fn reload(&self) -> Result<(), ConfigError> {
        let shared = Arc::clone(&self.shared);
        // Files may take their time.
        let made = tokio::task::spawn_blocking(move || Transport::new(&shared.config)).await;
        let made = made.map_err(|error| ConfigError::Http(error.to_string()))??;
        *self.shared.transport.write().unwrap_or_else(PoisonError::into_inner) = made;
        Ok(())
    }

    /// The settings.
    pub fn config(&self) -> &Config {
        &self.shared.config
    }

    /// The token sent with requests that bring none of their own.
    pub fn token(&self) -> Option<Secret> {
        self.shared.token.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Uses another token from now on, in all clones.
    pub fn set_token(&self, token: Option<Secret>) {
        *self.shared.token.write().unwrap_or_else(PoisonError::into_inner) = token;
    }

    /// The exact URL, headers and bytes that [`Self::send`] would send.
    pub fn prepare(&self, request: &Request) -> Prepared {
        request.prepare(&self.shared.config, self.token().as_ref())
    }

    /// Sends a request, with repetitions as configured.
    ///
    /// A 412, 429 or 503 and a connection that could not be made are repeated after growing pauses of a
    /// second or so, or after what `Retry-After` says; a read also after any other 5xx but 501, and if its
    /// answer was lost. A write is not repeated then: it may have worked. All of this together takes no
    /// longer than the configured timeout.
    ///
    /// # Errors
    /// The server refused (4xx, 5xx), or there is no answer.
    pub async fn send(&self, request: &Request) -> Result<Response, Error> {
        let prepared = self.prepare(request);
        let limit = self.shared.config.timeout;
        if limit.is_zero() {
            return self.repeat(request, &prepared).await;
        }
        let ended = tokio::time::timeout(limit, self.repeat(request, &prepared)).await;
        ended.unwrap_or_else(|_| Err(lost(&prepared, "context deadline exceeded".to_owned(), Loss::Timeout)))
    }

    async fn repeat(&self, request: &Request, prepared: &Prepared) -> Result<Response, Error> {
        let mut attempts = 0;
        loop {
            self.pace().await;
            let result = self.exchange(prepared).await;
            let pause = match &result {
                Ok(response) if is_worth_repeating(request, response.status) => {
                    backoff(Some(response), attempts)
                }
                Err(Error::Transport { kind: Loss::Connect, .. }) => backoff(None, attempts),
                Err(Error::Transport { kind: Loss::Other, .. }) if request.is_read() => {
                    backoff(None, attempts)
                }
                _ => return result.and_then(Response::accepted),
            };
            if attempts >= self.shared.config.max_retries {
                return result.and_then(Response::accepted);
            }
            attempts += 1;
            tracing::debug!(path = request.path(), attempts, "the request is repeated");
            tokio::time::sleep(pause).await;
        }
    }

    /// Sends a request and decodes the answer: `None` if there is nothing there (a 404 to a read) or
    /// nothing to say (204).
    ///
    /// # Errors
    /// As [`Self::send`], and if the answer is no JSON in Vault's frame.
    pub async fn answer(&self, request: &Request) -> Result<Option<Answer>, Error> {
        match self.send(request).await {
            Ok(response) => response.answer(),
            Err(error) => nothing_there(request, error),
        }
    }

    /// One exchange, and a second one if the first ended in a redirect.
    async fn exchange(&self, prepared: &Prepared) -> Result<Response, Error> {
        let response = self.once(prepared, None).await?;
        let redirect = matches!(response.status, 301 | 302 | 307 | 308);
        if !redirect || self.shared.config.disable_redirects {
            return Ok(response);
        }
        let location = response.headers.get(http::header::LOCATION).and_then(|value| value.to_str().ok());
        let target = location.and_then(|location| prepared.url.join(location).ok());
        let Some(target) = target else { return Ok(response) };
        // A redirect must not carry the token out of TLS.
        if prepared.url.scheme() == "https" && target.scheme() != "https" {
            let reason = "redirect would cause protocol downgrade".to_owned();
            return Err(lost(prepared, reason, Loss::Other));
        }
        self.once(prepared, Some(target)).await
    }

    async fn once(&self, prepared: &Prepared, elsewhere: Option<Url>) -> Result<Response, Error> {
        let transport = self.transport();
        let url = elsewhere.as_ref().unwrap_or(&prepared.url);
        let mut again = 0;
        let answered = loop {
            match transport.send(outgoing(prepared, url)?).await {
                Err(error) if again < UNSEEN && is_unseen(&error) => again += 1,
                answered => break answered,
            }
        };
        let incoming = answered.map_err(|error| classify(prepared, &error, error.is_connect()))?;
        let (head, body) = incoming.into_parts();
        let most = self.shared.config.max_answer;
        let body = Limited::new(body, most).collect().await.map_err(|error| {
            if !error.is::<LengthLimitError>() {
                return classify(prepared, error.as_ref(), false);
            }
            // Asking again would bring the same.
            let (method, url) = (prepared.method.as_str(), shown(&prepared.url));
            Error::Decode(format!("the answer of {method} {url} is longer than {most} bytes"))
        })?;
        Ok(Response {
            status: head.status.as_u16(),
            headers: head.headers,
            body: body.to_bytes(),
            method: prepared.method.as_str(),
            url: shown(&prepared.url),
        })
    }

    fn transport(&self) -> Transport {
        self.shared.transport.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Waits until the rate limit permits another request.
    async fn pace(&self) {
        let Some((rate, burst)) = self.shared.config.rate_limit else { return };
        let gap = Duration::from_secs_f64(1.0 / rate);
        let credit = gap.saturating_mul(burst.saturating_sub(1));
        let due = {
            let mut next = self.shared.pace.lock().await;
            let now = Instant::now();
            let due = next.unwrap_or(now).max(now.checked_sub(credit).unwrap_or(now));
            *next = Some(due + gap);
            due
        };
        tokio::time::sleep_until(due).await;
    }
}

/// The request as it is sent to `url`.
fn outgoing(prepared: &Prepared, url: &Url) -> Result<http::Request<Full<Bytes>>, Error> {
    let mut headers = HeaderMap::with_capacity(prepared.headers.list.len() + 4);
    headers.insert(USER_AGENT, AGENT);
    for (name, value) in &prepared.headers.list {
        let bad = |reason: String| Error::Decode(format!("header {name:?}: {reason}"));
        let name = HeaderName::try_from(name.as_str()).map_err(|error| bad(error.to_string()))?;
        headers.append(name, HeaderValue::try_from(value).map_err(|error| bad(error.to_string()))?);
    }
    if let Some(token) = &prepared.headers.token {
        let unprintable = "configured Vault token contains non-printable characters and cannot be used";
        let value = HeaderValue::try_from(token.expose());
        let mut value = value.map_err(|_| Error::Decode(unprintable.to_owned()))?;
        value.set_sensitive(true);
        headers.insert("X-Vault-Token", value);
    }
    let method = match prepared.method {
        Method::Get => http::Method::GET,
        Method::Post => http::Method::POST,
        Method::Put => http::Method::PUT,
        Method::Patch => http::Method::PATCH,
        Method::Delete => http::Method::DELETE,
    };
    let mut request = http::Request::new(Full::new(prepared.body.clone().unwrap_or_default()));
    *request.method_mut() = method;
    *request.uri_mut() = target(url, &mut headers)?;
    *request.headers_mut() = headers;
    Ok(request)
}

/// The URL as it may be told: without a password, which stands there as Go writes it.
fn shown(url: &Url) -> String {
    let mut url = url.clone();
    if url.password().is_some() {
        // Fails only for addresses without a host.
        let _ = url.set_password(Some("xxxxx"));
    }
    url.into()
}

/// What to ask for. A name and password in the address are no part of that, but a header.
fn target(url: &Url, headers: &mut HeaderMap) -> Result<Uri, Error> {
    let bad = |reason: String| Error::Decode(format!("address {}: {reason}", shown(url)));
    let mut anonymous = None;
    if !url.username().is_empty() || url.password().is_some() {
        let decoded = |text: &str| percent_encoding::percent_decode_str(text).collect::<Vec<u8>>();
        let credentials = [decoded(url.username()), decoded(url.password().unwrap_or_default())].join(&b':');
        let credentials = format!("Basic {}", data_encoding::BASE64.encode(&credentials));
        let mut value = HeaderValue::try_from(credentials).map_err(|error| bad(error.to_string()))?;
        value.set_sensitive(true);
        headers.insert(AUTHORIZATION, value);
        let mut without = url.clone();
        // Both fail only for addresses without a host.
        let _ = without.set_username("");
        let _ = without.set_password(None);
        anonymous = Some(without);
    }
    let url = anonymous.as_ref().unwrap_or(url);
    Uri::try_from(url.as_str()).map_err(|error| bad(error.to_string()))
}

impl Response {
    /// The frame, if there is a body.
    ///
    /// # Errors
    /// The body is no JSON in Vault's frame.
    pub fn answer(&self) -> Result<Option<Answer>, Error> {
        if self.status == 204 || self.body.is_empty() {
            return Ok(None);
        }
        let unreadable = |error: serde_json::Error| {
            Error::Decode(format!(
                "the answer of {} {} is not in Vault's frame: {error}",
                self.method, self.url
            ))
        };
        let mut answer: Answer = serde_json::from_slice(&self.body).map_err(unreadable)?;
        if answer.is_unframed() {
            // Health, seal status and their like answer without a frame: the whole body is the data.
            answer.data = serde_json::from_slice(&self.body).ok();
        }
        Ok(Some(answer))
    }

    /// The body read into a type.
    ///
    /// # Errors
    /// The body has another shape.
    pub fn json<T: for<'de> Deserialize<'de>>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body)
            .map_err(|error| Error::Decode(format!("error decoding the answer of {}: {error}", self.url)))
    }

    /// The body's `data` read into a type, or the body itself where the answer has no frame.
    ///
    /// # Errors
    /// The data has another shape.
    pub fn data<T: for<'de> Deserialize<'de>>(&self) -> Result<T, Error> {
        #[derive(Deserialize)]
        struct Frame<T> {
            data: Option<T>,
        }
        match serde_json::from_slice::<Frame<T>>(&self.body) {
            Ok(Frame { data: Some(data) }) => Ok(data),
            _ => self.json(),
        }
    }

    /// The response itself, unless the server refused.
    fn accepted(self) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Refusal {
            errors: Vec<String>,
        }
        if self.status < 400 {
            return Ok(self);
        }
        let (errors, raw) = match serde_json::from_slice::<Refusal>(&self.body) {
            Ok(refusal) => (refusal.errors, None),
            // Some answers say "nothing there" with a frame of warnings; the caller may want it.
            Err(_) => (Vec::new(), Some(String::from_utf8_lossy(&self.body).into_owned())),
        };
        let method = self.method.to_owned();
        Err(Error::Api { method, url: self.url, status: self.status, errors, raw })
    }
}

/// A 404 to a read is no error: nothing is there. It may still carry warnings.
fn nothing_there(request: &Request, error: Error) -> Result<Option<Answer>, Error> {
    if !request.is_read() || !error.is_not_found() {
        return Err(error);
    }
    if let Error::Api { raw: Some(raw), .. } = &error {
        let answer = serde_json::from_str::<Answer>(raw).ok();
        return Ok(answer.filter(|answer| answer.warnings.is_some() || answer.data.is_some()));
    }
    Ok(None)
}

/// By 412, 429 and 503 the server says that it did not act. Any other 5xx, its own or that of a proxy, leaves
/// open what came of the request; to a read that does not matter.
fn is_worth_repeating(request: &Request, status: u16) -> bool {
    matches!(status, 412 | 429 | 503) || (request.is_read() && status >= 500 && status != 501)
}

/// What the server asks for, at most a minute; else one to one and a half seconds for each attempt so far,
/// at random, so that clients who lost the same server do not all come back at once.
fn backoff(response: Option<&Response>, attempt: u32) -> Duration {
    let asked = response.and_then(|response| response.headers.get(http::header::RETRY_AFTER));
    let asked = asked.and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok());
    if let Some(seconds) = asked {
        return Duration::from_secs(seconds.min(60));
    }
    Duration::from_secs_f64(1.0 + 0.5 * jitter()).saturating_mul(attempt.saturating_add(1))
}

fn lost(prepared: &Prepared, reason: String, kind: Loss) -> Error {
    let (method, url) = (prepared.method.as_str().to_owned(), shown(&prepared.url));
    Error::Transport { method, url, reason, kind }
}

/// Whether the server said of an HTTP/2 request that it has not looked at it: it goes away, or has too many.
fn is_unseen(error: &(dyn StdError + 'static)) -> bool {
    if let Some(error) = error.downcast_ref::<h2::Error>() {
        let leaves = error.is_go_away() && error.reason() == Some(h2::Reason::NO_ERROR);
        let refuses = error.is_reset() && error.reason() == Some(h2::Reason::REFUSED_STREAM);
        return error.is_remote() && (leaves || refuses);
    }
    error.source().is_some_and(is_unseen)
}

/// Names a loss in the words that users of Vault's clients know.
fn classify(prepared: &Prepared, error: &(dyn StdError + 'static), unconnected: bool) -> Error {
    let host = prepared.url.host_str().unwrap_or_default();
    let port = prepared.url.port_or_known_default().unwrap_or_default();
    let mut kind = if unconnected { Loss::Connect } else { Loss::Other };
    let mut source = error.source();
    let mut reason = error.to_string();
    while let Some(cause) = source {
        reason = cause.to_string();
        let io = cause.downcast_ref::<std::io::Error>();
        if let Some(tls) = tls_error(cause) {
            (reason, kind) = explain_tls(tls);
            break;
        }
        if io.is_some_and(|io| io.kind() == ErrorKind::ConnectionRefused) {
            reason = format!("dial tcp {host}:{port}: connect: connection refused");
            break;
        }
        if io.is_some_and(|io| io.kind() == ErrorKind::NotFound)
            && prepared.url.host_str() == Some("localhost")
        {
            reason = format!("dial unix: connect: {reason}");
            break;
        }
        // The TLS layer's errors arrive in several wrappings; this one has a plain cause.
        if reason.contains("InvalidContentType") {
            (reason, kind) = (PLAIN_HTTP.to_owned(), Loss::PlainHttp);
            break;
        }
        source = cause.source();
    }
    lost(prepared, reason, kind)
}

/// The TLS layer's own error, in however many errors of input and output it is wrapped: their `source` skips
/// what they hold.
fn tls_error<'a>(cause: &'a (dyn StdError + 'static)) -> Option<&'a rustls::Error> {
    cause.downcast_ref().or_else(|| tls_error(cause.downcast_ref::<std::io::Error>()?.get_ref()?))
}

const PLAIN_HTTP: &str = "http: server gave HTTP response to HTTPS client";

fn explain_tls(error: &rustls::Error) -> (String, Loss) {
    use rustls::CertificateError as Certificate;
    match error {
        rustls::Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType) => {
            (PLAIN_HTTP.to_owned(), Loss::PlainHttp)
        }
        rustls::Error::InvalidCertificate(certificate) => {
            let what = match certificate {
                Certificate::UnknownIssuer => "x509: certificate signed by unknown authority".to_owned(),
                Certificate::Expired | Certificate::ExpiredContext { .. } => {
                    "x509: certificate has expired or is not yet valid".to_owned()
                }
                Certificate::NotValidForNameContext { expected, presented } => {
                    // Each is written with its kind: `DnsName("a.example")`.
                    let name = |text: &'_ str| text.split('"').nth(1).unwrap_or(text).to_owned();
                    let names: Vec<String> = presented.iter().map(|text| name(text)).collect();
                    format!("x509: certificate is valid for {}, not {}", names.join(", "), expected.to_str())
                }
                other => format!("x509: {other}"),
            };
            (format!("tls: failed to verify certificate: {what}"), Loss::Tls)
        }
        other => (format!("tls: {other}"), Loss::Tls),
    }
}
