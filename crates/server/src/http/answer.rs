//! From what the pipeline says to an HTTP response.

use std::borrow::Cow;

use bytes::Bytes;
use chancery_secrets::{Answer, Error, Kind};
use http_body_util::Full;
use hyper::header::{
    CACHE_CONTROL, CONTENT_TYPE, HeaderMap, HeaderValue, IF_MODIFIED_SINCE, LAST_MODIFIED, LOCATION,
    RETRY_AFTER, STRICT_TRANSPORT_SECURITY,
};
use hyper::{Response, StatusCode};
use jiff::Timestamp;
use jiff::fmt::rfc2822::DateTimePrinter;
use serde::Serialize;

/// What goes over the wire.
pub(crate) type HttpResponse = Response<Full<Bytes>>;

const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A response with the headers that all of them have.
pub(crate) fn response(
    status: StatusCode,
    content_type: HeaderValue,
    body: impl Into<Bytes>,
) -> HttpResponse {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.reserve(4);
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(CONTENT_TYPE, content_type);
    let strict = HeaderValue::from_static("max-age=31536000; includeSubDomains");
    headers.insert(STRICT_TRANSPORT_SECURITY, strict);
    response
}

/// A response without a body, and so without a type.
pub(super) fn empty(status: StatusCode) -> HttpResponse {
    let mut response = response(status, JSON, Bytes::new());
    response.headers_mut().remove(CONTENT_TYPE);
    response
}

/// `{"errors": […]}`.
pub(crate) fn errors<T: AsRef<str>>(status: StatusCode, messages: &[T]) -> HttpResponse {
    with_warnings(status, messages, &[])
}

fn with_warnings<T: AsRef<str>>(status: StatusCode, messages: &[T], warnings: &[String]) -> HttpResponse {
    #[derive(Serialize)]
    struct Body<'a> {
        errors: Vec<&'a str>,
        #[serde(skip_serializing_if = "<[_]>::is_empty")]
        warnings: &'a [String],
    }
    let body = Body { errors: messages.iter().map(AsRef::as_ref).collect(), warnings };
    let mut text = serde_json::to_vec(&body).unwrap_or_else(|_| b"{\"errors\":[]}".to_vec());
    text.push(b'\n');
    response(status, JSON, text)
}

/// A request that means nothing; the pipeline is never asked.
#[derive(Debug)]
pub struct Refused {
    status: StatusCode,
    /// Empty where the peer gives none.
    message: Cow<'static, str>,
}

impl Refused {
    pub(super) fn new(status: StatusCode, message: impl Into<Cow<'static, str>>) -> Self {
        Self { status, message: message.into() }
    }

    /// 400 with a sentence.
    pub(super) fn bad_request(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, message)
    }

    /// 503, for now.
    pub(super) fn busy() -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "too many large requests at the moment; try again shortly")
    }

    pub(super) fn response(&self) -> HttpResponse {
        let messages = Some(&self.message).filter(|message| !message.is_empty());
        let mut response = errors(self.status, &messages.into_iter().collect::<Vec<_>>());
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
        }
        response
    }
}

/// The client shall ask elsewhere, in the same way.
pub(super) fn redirect(location: &str) -> HttpResponse {
    let mut response = empty(StatusCode::TEMPORARY_REDIRECT);
    match HeaderValue::from_str(location) {
        Ok(location) => {
            response.headers_mut().insert(LOCATION, location);
            response
        }
        // A path with bytes that no header can carry leads nowhere.
        Err(_) => errors::<&str>(StatusCode::NOT_FOUND, &[]),
    }
}

/// The only place that turns a kind of error into a status.
fn status(kind: Kind) -> StatusCode {
    match kind {
        Kind::InvalidRequest => StatusCode::BAD_REQUEST,
        Kind::PermissionDenied => StatusCode::FORBIDDEN,
        Kind::NotFound => StatusCode::NOT_FOUND,
        Kind::UnsupportedOperation => StatusCode::METHOD_NOT_ALLOWED,
        Kind::PreconditionFailed => StatusCode::PRECONDITION_FAILED,
        Kind::TooLarge => StatusCode::PAYLOAD_TOO_LARGE,
        Kind::TooManyRequests => StatusCode::TOO_MANY_REQUESTS,
        Kind::Sealed | Kind::Busy => StatusCode::SERVICE_UNAVAILABLE,
        Kind::Internal => StatusCode::INTERNAL_SERVER_ERROR,
    }
}

/// An error as the client sees it; what it must not see goes to the log.
pub(super) fn refusal(error: &Error) -> HttpResponse {
    if let Some(source) = &error.source {
        tracing::error!(kind = ?error.kind, message = %error, cause = %source, "request failed");
    }
    let mut response = with_warnings(status(error.kind), &error.messages, &error.warnings);
    if matches!(error.kind, Kind::TooManyRequests | Kind::Busy) {
        response.headers_mut().insert(RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// An answer as HTTP has it.
pub(super) fn answer(answer: &Answer, headers: &HeaderMap) -> HttpResponse {
    let mut response = plain(answer, headers);
    for (header, value) in &answer.response.headers {
        // A value that no header can carry is left out. `Link` may stand there several times.
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().append(header.name(), value);
        }
    }
    response
}

/// The answer without the headers of its own.
fn plain(answer: &Answer, headers: &HeaderMap) -> HttpResponse {
    let given = answer.response.status.and_then(|status| StatusCode::from_u16(status).ok());
    if let Some(raw) = answer.response.raw.as_deref().filter(|_| answer.wrap_info.is_none()) {
        let modified = raw.last_modified.and_then(|seconds| Timestamp::from_second(seconds).ok());
        let fresh = modified.filter(|modified| not_modified_since(*modified, headers)).is_some();
        // Bytes of a type that no header can carry are bytes.
        let content_type = HeaderValue::from_str(&raw.content_type)
            .unwrap_or_else(|_| HeaderValue::from_static("application/octet-stream"));
        let mut response = match (fresh, raw.body.is_empty()) {
            (true, _) => response(StatusCode::NOT_MODIFIED, content_type, Bytes::new()),
            (false, true) => response(given.unwrap_or(StatusCode::NO_CONTENT), content_type, Bytes::new()),
            (false, false) => response(given.unwrap_or(StatusCode::OK), content_type, raw.body.clone()),
        };
        if let Some(date) = modified.and_then(http_date) {
            response.headers_mut().insert(LAST_MODIFIED, date);
        }
        if raw.content_type.is_empty() {
            response.headers_mut().remove(CONTENT_TYPE);
        }
        return response;
    }
    if !answer.has_body() {
        return match given {
            Some(status) => response(status, JSON, Bytes::new()),
            None if answer.reads => errors::<&str>(StatusCode::NOT_FOUND, &[]),
            None => response(StatusCode::NO_CONTENT, JSON, Bytes::new()),
        };
    }
    match answer.to_json() {
        Ok(mut body) => {
            body.push(b'\n');
            response(given.unwrap_or(StatusCode::OK), JSON, body)
        }
        Err(error) => refusal(&error),
    }
}

fn not_modified_since(modified: Timestamp, headers: &HeaderMap) -> bool {
    let since = headers.get(IF_MODIFIED_SINCE).and_then(|value| value.to_str().ok());
    let since = since.and_then(|text| jiff::fmt::rfc2822::parse(text).ok());
    since.is_some_and(|since| modified.as_second() <= since.timestamp().as_second())
}

/// RFC 9110, 5.6.7.
fn http_date(time: Timestamp) -> Option<HeaderValue> {
    let text = DateTimePrinter::new().timestamp_to_rfc9110_string(&time).ok()?;
    HeaderValue::from_str(&text).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_of_error_has_the_status_of_the_peer() {
        let kinds = [
            (Kind::InvalidRequest, 400),
            (Kind::PermissionDenied, 403),
            (Kind::NotFound, 404),
            (Kind::UnsupportedOperation, 405),
            (Kind::PreconditionFailed, 412),
            (Kind::TooLarge, 413),
            (Kind::TooManyRequests, 429),
            (Kind::Internal, 500),
            (Kind::Sealed, 503),
            (Kind::Busy, 503),
        ];
        for (kind, expected) in kinds {
            assert_eq!(status(kind).as_u16(), expected, "{kind:?}");
        }
    }

    #[test]
    fn unchanged_content_is_not_sent_again() {
        let at = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(IF_MODIFIED_SINCE, text.parse().expect("a header"));
            headers
        };
        let modified = Timestamp::from_second(784_111_777).expect("in range");
        assert!(not_modified_since(modified, &at("Sun, 06 Nov 1994 08:49:37 GMT")));
        assert!(!not_modified_since(modified, &at("Sun, 06 Nov 1994 08:49:36 GMT")));
        assert!(!not_modified_since(modified, &at("yesterday")));
        assert!(!not_modified_since(modified, &HeaderMap::new()));
        assert_eq!(http_date(modified).expect("printable"), "Sun, 06 Nov 1994 08:49:37 GMT");
    }
}
