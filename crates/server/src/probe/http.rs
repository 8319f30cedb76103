//! `http-01`: a small file at a known place, perhaps after redirects (RFC 8555, 8.3).

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use chancery_secrets::probe::{Host, ProbeError};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::header::{ACCEPT, CONNECTION, HOST, HeaderValue, LOCATION, USER_AGENT};
use hyper::{Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite};
use url::Url;

use super::{Outside, tls};

/// As the peer and the large public authorities do.
const MOST_REDIRECTS: usize = 10;

/// A key authorization has 76 bytes or so.
const LARGEST_BODY: usize = 4096;

/// The most that is read of an answer's head.
const LARGEST_HEAD: usize = 16 << 10;

/// The longest place that a redirect leads to.
const LONGEST_LOCATION: usize = 2048;

/// The content at the place that belongs to `token`.
pub(super) async fn proof(
    outside: &Outside,
    host: &Host,
    token: &str,
    resolver: Option<SocketAddr>,
) -> Result<Vec<u8>, ProbeError> {
    let authority = match host {
        Host::Address(IpAddr::V6(address)) => format!("[{address}]"),
        other => other.to_string(),
    };
    let port = outside.config.http_port;
    let first = format!("http://{authority}:{port}/.well-known/acme-challenge/{token}");
    let mut url = Url::parse(&first).map_err(|error| ProbeError::Response(format!("{first}: {error}")))?;
    for _ in 0..=MOST_REDIRECTS {
        let answer = ask(outside, &url, resolver).await?;
        match answer.status() {
            StatusCode::OK => return body(answer, &url).await,
            status if status.is_redirection() => url = next(&answer, &url)?,
            status => return Err(ProbeError::Response(format!("{url} answers {}", status.as_u16()))),
        }
    }
    Err(ProbeError::Response(format!("{first} is more than {MOST_REDIRECTS} redirects away")))
}

async fn ask(
    outside: &Outside,
    url: &Url,
    resolver: Option<SocketAddr>,
) -> Result<Response<Incoming>, ProbeError> {
    let config = &outside.config;
    let host = match url.host() {
        Some(url::Host::Domain(name)) => Host::Name(name.trim_end_matches('.').to_owned()),
        Some(url::Host::Ipv4(address)) => Host::Address(address.into()),
        Some(url::Host::Ipv6(address)) => Host::Address(address.into()),
        None => return Err(ProbeError::Response(format!("{url} names no host"))),
    };
    let port = url.port_or_known_default().unwrap_or(0);
    if ![80, 443, config.http_port, config.tls_port].contains(&port) {
        return Err(ProbeError::Forbidden(format!("{url} leads to port {port}; only 80 and 443 are asked")));
    }
    if !url.username().is_empty() || url.password().is_some() {
        return Err(ProbeError::Forbidden(
            "a redirect with a user name or a password is not followed".to_owned(),
        ));
    }
    let stream = outside.connect(&host, port, resolver).await?;
    match url.scheme() {
        "http" => send(stream, url).await,
        "https" => send(tls::shake_hands(stream, &host, &[b"http/1.1"]).await?, url).await,
        other => Err(ProbeError::Forbidden(format!("a redirect to {other} is not followed"))),
    }
}

async fn send(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    url: &Url,
) -> Result<Response<Incoming>, ProbeError> {
    let failed = |error: hyper::Error| ProbeError::Connection(format!("asking {url}: {error}"));
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(LARGEST_HEAD)
        .handshake(TokioIo::new(stream))
        .await
        .map_err(failed)?;
    // Ends with the answer, which is dropped in time.
    tokio::spawn(connection);
    let authority = match url.port() {
        Some(port) => format!("{}:{port}", url.host_str().unwrap_or_default()),
        None => url.host_str().unwrap_or_default().to_owned(),
    };
    let path = url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()));
    let request = Request::get(path)
        .header(HOST, authority)
        .header(USER_AGENT, HeaderValue::from_static("chancery-acme"))
        .header(ACCEPT, HeaderValue::from_static("*/*"))
        .header(CONNECTION, HeaderValue::from_static("close"))
        .body(Empty::<Bytes>::new())
        .map_err(|error| ProbeError::Response(format!("{url}: {error}")))?;
    sender.send_request(request).await.map_err(failed)
}

/// Where a redirect leads.
fn next(answer: &Response<Incoming>, url: &Url) -> Result<Url, ProbeError> {
    let location = answer.headers().get(LOCATION).and_then(|location| location.to_str().ok());
    let location =
        location.ok_or_else(|| ProbeError::Response(format!("{url} leads elsewhere, but not where")))?;
    if location.len() > LONGEST_LOCATION {
        let reason =
            format!("the redirect has {} bytes; at most {LONGEST_LOCATION} are followed", location.len());
        return Err(ProbeError::Response(reason));
    }
    url.join(location).map_err(|error| {
        ProbeError::Response(format!("{url} leads to {location:?}, which is no URL: {error}"))
    })
}

async fn body(answer: Response<Incoming>, url: &Url) -> Result<Vec<u8>, ProbeError> {
    let mut incoming = answer.into_body();
    let mut body = Vec::new();
    while let Some(frame) = incoming.frame().await {
        let frame = frame.map_err(|error| ProbeError::Connection(format!("reading {url}: {error}")))?;
        let Ok(part) = frame.into_data() else { continue };
        if body.len().saturating_add(part.len()) > LARGEST_BODY {
            return Err(ProbeError::Response(format!("{url} answers more than {LARGEST_BODY} bytes")));
        }
        body.extend_from_slice(&part);
    }
    Ok(body)
}
