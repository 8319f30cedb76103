//! `CreateCertificate` at the CA, over HTTP/2 and TLS, tried again where that can help.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use chancery_api::Secret;
use http::uri::{PathAndQuery, Scheme, Uri};
use http_body_util::BodyExt as _;
use http_body_util::combinators::MapErr;
use hyper::body::Incoming;
use hyper::client::conn::http2::{self, SendRequest};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use jiff::Timestamp;
use prost_types::value::Kind;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep, timeout, timeout_at};
use tokio_rustls::TlsConnector;
use tonic::body::Body;
use tonic::metadata::{AsciiMetadataKey, AsciiMetadataValue, MetadataValue};
use tonic::{Code, Request, Status};

use super::ca_tls::client_config;
use super::secret::KeyPair;
use super::settings::CaSettings;
use crate::proto::istio::IstioCertificateRequest;
use crate::proto::istio::istio_certificate_service_client::IstioCertificateServiceClient;

/// How often one issuance asks, and how long it waits before the second time; then twice as long each time.
const ATTEMPTS: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(100);

/// A connection must stand after this.
const CONNECT: Duration = Duration::from_secs(5);
/// One attempt takes no longer: signing may take a while, and a CA that hangs is asked again.
const ATTEMPT: Duration = Duration::from_secs(30);
/// All attempts together take no longer.
const ALL: Duration = Duration::from_secs(60);

/// A token, or a file in its place, is not longer than this.
const TOKEN: usize = 64 << 10;
/// A chain with its roots is not longer than this.
const ANSWER: usize = 1 << 20;

/// Why the CA gave no certificate.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{code:?}: {message}, after {attempts} attempts")]
pub struct CaError {
    /// gRPC's word for it.
    pub code: Code,
    /// The CA's own, or what is wrong with the connection.
    pub message: String,
    /// How often it was asked.
    pub attempts: u32,
}

/// Asks a CA for certificates.
#[derive(Debug)]
pub struct CaClient {
    settings: CaSettings,
}

impl CaClient {
    /// For the CA of these settings.
    pub fn new(settings: CaSettings) -> Self {
        Self { settings }
    }

    /// Has a CSR signed: the elements of the answer, the leaf first, the roots last.
    ///
    /// Each issuance connects anew, with the roots and the token that are there now, and again after each attempt that
    /// failed. `current` is shown to the CA if there is no token.
    ///
    /// # Errors
    /// The last attempt's, when the CA refuses, or all attempts are used up.
    pub async fn certificate(
        &self,
        csr: &str,
        validity: Duration,
        current: Option<&KeyPair>,
        now: Timestamp,
    ) -> Result<Vec<String>, CaError> {
        let begin = Instant::now();
        let deadline = begin + ALL;
        let mut wait = FIRST_WAIT;
        let mut attempts = 0;
        metrics::counter!("num_outgoing_requests", "request_type" => "csr").increment(1);
        let result = loop {
            attempts += 1;
            let attempt = self.attempt(csr, validity, current, now);
            let limit = deadline.min(Instant::now() + ATTEMPT);
            let status = match timeout_at(limit, attempt).await {
                Ok(Ok(chain)) => break Ok(chain),
                Ok(Err(status)) => status,
                Err(_) => Status::deadline_exceeded("the CA did not answer in time"),
            };
            let over =
                attempts == ATTEMPTS || !can_be_repeated(status.code()) || Instant::now() + wait >= deadline;
            if over {
                break Err(CaError { code: status.code(), message: status.message().to_owned(), attempts });
            }
            metrics::counter!("num_outgoing_retries", "request_type" => "csr").increment(1);
            tracing::debug!(code = ?status.code(), message = status.message(), attempts, "the CA is asked again");
            sleep(wait.mul_f64(1.0 + 0.1 * (2.0 * super::run::fraction() - 1.0))).await;
            wait *= 2;
        };
        let took = begin.elapsed().as_secs_f64() * 1000.0;
        metrics::histogram!("outgoing_latency", "request_type" => "csr").record(took);
        if result.is_err() {
            metrics::counter!("num_failed_outgoing_requests", "request_type" => "csr").increment(1);
        }
        result
    }

    async fn attempt(
        &self,
        csr: &str,
        validity: Duration,
        current: Option<&KeyPair>,
        now: Timestamp,
    ) -> Result<Vec<String>, Status> {
        let token = self.token();
        let channel = self.connect(token.is_some(), current, now).await?;
        let scheme = if self.settings.plaintext { Scheme::HTTP } else { Scheme::HTTPS };
        let origin = Uri::builder()
            .scheme(scheme)
            .authority(self.settings.address.as_str())
            .path_and_query(PathAndQuery::from_static("/"))
            .build()
            .map_err(|error| Status::invalid_argument(format!("{}: {error}", self.settings.address)))?;
        let mut client =
            IstioCertificateServiceClient::with_origin(channel, origin).max_decoding_message_size(ANSWER);
        let request = self.request(csr, validity, token.as_ref())?;
        Ok(client.create_certificate(request).await?.into_inner().cert_chain)
    }

    fn request(
        &self,
        csr: &str,
        validity: Duration,
        token: Option<&Secret>,
    ) -> Result<Request<IstioCertificateRequest>, Status> {
        let signer = Kind::StringValue(self.settings.cert_signer.clone());
        let fields = BTreeMap::from([("CertSigner".to_owned(), prost_types::Value { kind: Some(signer) })]);
        let mut request = Request::new(IstioCertificateRequest {
            csr: csr.to_owned(),
            validity_duration: i64::try_from(validity.as_secs()).unwrap_or(i64::MAX),
            metadata: Some(prost_types::Struct { fields }),
        });
        let metadata = request.metadata_mut();
        let cluster = AsciiMetadataValue::try_from(self.settings.cluster_id.as_str());
        metadata.insert("clusterid", cluster.map_err(|_| Status::invalid_argument("the cluster's name"))?);
        if let Some(token) = token {
            let bearer = zeroize::Zeroizing::new(format!("Bearer {}", token.expose()));
            let value = AsciiMetadataValue::try_from(bearer.as_str());
            let mut value: MetadataValue<_> =
                value.map_err(|_| Status::invalid_argument("the token is none"))?;
            value.set_sensitive(true);
            metadata.insert("authorization", value);
        }
        for (name, value) in &self.settings.headers {
            let name = AsciiMetadataKey::from_bytes(name.as_str().as_bytes());
            let value = AsciiMetadataValue::try_from(value.as_bytes());
            if let (Ok(name), Ok(value)) = (name, value) {
                metadata.insert(name, value);
            }
        }
        Ok(request)
    }

    /// The token that is in its file now: whoever projects it replaces it. Without one a certificate may vouch.
    fn token(&self) -> Option<Secret> {
        let path = self.settings.token.as_deref()?;
        match std::fs::read_to_string(path).map(zeroize::Zeroizing::new) {
            Ok(text) if text.len() > TOKEN => {
                tracing::warn!(path = %path.display(), limit = TOKEN, "the file is too long for a token");
                None
            }
            Ok(text) => Some(text.trim()).filter(|token| !token.is_empty()).map(Secret::from),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "the token cannot be read");
                None
            }
        }
    }

    async fn connect(
        &self,
        has_token: bool,
        current: Option<&KeyPair>,
        now: Timestamp,
    ) -> Result<Channel, Status> {
        let settings = &self.settings;
        let failed =
            |error: &dyn std::fmt::Display| Status::unavailable(format!("{}: {error}", settings.address));
        let connected = async {
            let stream = TcpStream::connect(settings.address.as_str()).await?;
            stream.set_nodelay(true)?;
            if settings.plaintext {
                return Channel::over(stream).await.map_err(io::Error::other);
            }
            let config = client_config(settings, has_token, current, now)?;
            let name = ServerName::try_from(settings.server_name.clone()).map_err(io::Error::other)?;
            let stream = TlsConnector::from(config).connect(name, stream).await?;
            Channel::over(stream).await.map_err(io::Error::other)
        };
        match timeout(CONNECT, connected).await {
            Ok(Ok(channel)) => Ok(channel),
            Ok(Err(error)) => Err(failed(&error)),
            Err(_) => Err(failed(&"no connection in time")),
        }
    }
}

/// What may go away by itself. A refusal does not.
fn can_be_repeated(code: Code) -> bool {
    matches!(
        code,
        Code::Cancelled
            | Code::DeadlineExceeded
            | Code::ResourceExhausted
            | Code::Aborted
            | Code::Internal
            | Code::Unavailable
    )
}

/// One connection, as tonic's clients want it. Its failures are `Unavailable`.
#[derive(Clone)]
struct Channel(SendRequest<Body>);

type AnswerBody = MapErr<Incoming, fn(hyper::Error) -> Status>;

impl Channel {
    async fn over<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(
        stream: S,
    ) -> Result<Self, hyper::Error> {
        let (sender, connection) = http2::Builder::new(TokioExecutor::new())
            .timer(TokioTimer::new())
            .keep_alive_interval(Some(Duration::from_secs(10)))
            .keep_alive_timeout(Duration::from_secs(10))
            .max_header_list_size(16 << 10)
            .handshake(TokioIo::new(stream))
            .await?;
        // It ends with the last sender.
        tokio::spawn(async move {
            if let Err(error) = connection.await {
                tracing::debug!(%error, "the connection to the CA broke off");
            }
        });
        Ok(Self(sender))
    }
}

fn unavailable(error: hyper::Error) -> Status {
    let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}")).unwrap_or_default();
    Status::unavailable(format!("{error}{cause}"))
}

impl tower_service::Service<http::Request<Body>> for Channel {
    type Response = http::Response<AnswerBody>;
    type Error = Status;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Status>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Status>> {
        self.0.poll_ready(context).map_err(unavailable)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let answer = self.0.send_request(request);
        Box::pin(async move {
            let answer = answer.await.map_err(unavailable)?;
            Ok(answer.map(|body| body.map_err(unavailable as fn(hyper::Error) -> Status)))
        })
    }
}
