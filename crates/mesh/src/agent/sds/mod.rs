//! Envoy's secret discovery: `envoy.service.secret.v3.SecretDiscoveryService`.
//!
//! What a request means is decided in `state.rs` and `delta.rs`, which know no streams; `stream.rs` reads, writes and
//! waits for changes. A client that does not read is not written to, and not read from either: what is kept for it is
//! one answer, whatever it sends.

mod delta;
mod state;
mod stream;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use prost::Message as _;
use tokio::time::timeout;
use tokio_stream::Stream;
use tonic::{Request, Response, Status, Streaming};

use self::stream::converse;
use super::resources::{ResourceError, ResourceName, Resources};
use super::secret::Content;
use super::socket::Stop;
use crate::proto::SECRET_TYPE;
use crate::proto::envoy::discovery::{
    DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
};
use crate::proto::envoy::secret::secret_discovery_service_server::SecretDiscoveryService;
use crate::proto::envoy::tls::data_source::Specifier;
use crate::proto::envoy::tls::secret::Type;
use crate::proto::envoy::tls::{CertificateValidationContext, DataSource, Secret, TlsCertificate};

pub use delta::DeltaSubscription;
pub use state::{Step, Subscription};

/// One stream asks for no more names.
const MOST_NAMES: usize = 100;
/// So long a single answer is waited for.
const FETCH: Duration = Duration::from_secs(10);

/// The service.
#[derive(Debug)]
pub struct Sds {
    resources: Arc<Resources>,
    stop: Stop,
}

impl Sds {
    /// Serves `resources`; its streams end with `stop`.
    pub fn new(resources: Arc<Resources>, stop: Stop) -> Self {
        Self { resources, stop }
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[async_trait]
impl SecretDiscoveryService for Sds {
    type DeltaSecretsStream = Answers<DeltaDiscoveryResponse>;
    type StreamSecretsStream = Answers<DiscoveryResponse>;

    async fn delta_secrets(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Self::DeltaSecretsStream>, Status> {
        let resources = Arc::clone(&self.resources);
        let answers =
            converse(DeltaSubscription::default(), resources, request.into_inner(), self.stop.clone())?;
        Ok(Response::new(Box::pin(answers)))
    }

    async fn stream_secrets(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Self::StreamSecretsStream>, Status> {
        let resources = Arc::clone(&self.resources);
        let answers = converse(Subscription::default(), resources, request.into_inner(), self.stop.clone())?;
        Ok(Response::new(Box::pin(answers)))
    }

    async fn fetch_secrets(
        &self,
        request: Request<DiscoveryRequest>,
    ) -> Result<Response<DiscoveryResponse>, Status> {
        let _place = self.resources.place().map_err(refusal)?;
        let mut subscription = Subscription::default();
        let names = match subscription.request(&request.into_inner())? {
            Step::Send { names, .. } => names,
            Step::Nothing => return Err(Status::invalid_argument("no secret is named")),
        };
        let mut found = Vec::new();
        for name in names {
            let mut follower = self.resources.follow(&name).map_err(refusal)?;
            let waited = timeout(FETCH, follower.wait_for(Option::is_some)).await;
            let content = waited.ok().and_then(|waited| waited.ok().and_then(|content| content.clone()));
            let content = content.ok_or_else(|| Status::unavailable(format!("{name} is not there yet")))?;
            found.push((name, content));
        }
        Ok(Response::new(subscription.answer(&found)))
    }
}

/// What a client is told of a name that gets no answer.
fn refusal(error: ResourceError) -> Status {
    match error {
        ResourceError::Unknown(_) => Status::invalid_argument(error.to_string()),
        ResourceError::TooMany | ResourceError::TooManyCalls => Status::resource_exhausted(error.to_string()),
    }
}

/// The names of a request, none twice.
fn names(texts: &[String]) -> Result<Vec<ResourceName>, Status> {
    if texts.len() > MOST_NAMES {
        return Err(Status::resource_exhausted(format!("more than {MOST_NAMES} secrets are asked for")));
    }
    let mut names = Vec::with_capacity(texts.len());
    for text in texts {
        let name = ResourceName::parse(text).map_err(refusal)?;
        if !names.contains(&name) {
            names.push(name);
        }
    }
    Ok(names)
}

/// The first message of a stream says who asks (`node`), and each of them for what.
fn check_head(first: bool, node: Option<&str>, type_url: &str) -> Result<(), Status> {
    if first && node.is_none_or(str::is_empty) {
        return Err(Status::invalid_argument("missing node information"));
    }
    if !type_url.is_empty() && type_url != SECRET_TYPE {
        let shown: String = type_url.chars().take(200).collect();
        return Err(Status::invalid_argument(format!("there are no resources of type {shown:?} here")));
    }
    Ok(())
}

/// Envoy refused what it was sent: the reason is its own, as far as it fits.
fn log_refused(node: &str, nonce: &str, status: &crate::proto::envoy::discovery::Status) {
    let reason: String = status.message.chars().take(1000).collect();
    let nonce: String = nonce.chars().take(100).collect();
    metrics::counter!("num_sds_rejections_total").increment(1);
    tracing::warn!(?node, ?nonce, code = status.code, ?reason, "Envoy refused a secret");
}

/// Envoy's form of a secret.
fn secret(name: &ResourceName, content: &Content) -> prost_types::Any {
    let inline = |text: &str| {
        Some(DataSource { specifier: Some(Specifier::InlineBytes(Bytes::copy_from_slice(text.as_bytes()))) })
    };
    let kind = match content {
        Content::KeyPair(pair) => Type::TlsCertificate(TlsCertificate {
            certificate_chain: inline(&pair.chain),
            private_key: inline(&pair.key),
        }),
        Content::Roots(roots) => Type::ValidationContext(CertificateValidationContext {
            trusted_ca: inline(&roots.pem),
            crl: None,
        }),
    };
    let secret = Secret { name: name.to_string(), r#type: Some(kind) };
    prost_types::Any { type_url: SECRET_TYPE.to_owned(), value: secret.encode_to_vec() }
}

/// A nonce: nobody guesses it, and none comes twice.
fn nonce() -> String {
    let mut random = [0; 16];
    // Without randomness they would still tell one answer of a stream from the one before it.
    let _ = aws_lc_rs::rand::fill(&mut random);
    data_encoding::HEXLOWER.encode(&random)
}
