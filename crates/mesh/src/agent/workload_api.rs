//! The SPIFFE Workload API: the same identity for any process, not only Envoy.
//!
//! Whoever reaches the socket is this pod's workload, so that nobody is asked who he is. As the specification of the
//! Workload Endpoint has it (section 5.3), each call carries the metadata `workload.spiffe.io: true`: a program that
//! can be made to send requests to arbitrary places cannot be made to send that.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chancery_issuance::{Certificate, KeyForm, PrivateKey, SpiffeId};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::Stream;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status};

use super::issue::uri_names;
use super::resources::{ResourceName, Resources};
use super::secret::{Content, KeyPair, TrustBundle};
use super::socket::Stop;
use super::store::Follower;
use crate::proto::workload::spiffe_workload_api_server::SpiffeWorkloadApi;
use crate::proto::workload::{
    JwtBundlesRequest, JwtBundlesResponse, JwtsvidRequest, JwtsvidResponse, ValidateJwtsvidRequest,
    ValidateJwtsvidResponse, X509BundlesRequest, X509BundlesResponse, X509svid, X509svidRequest,
    X509svidResponse,
};

/// Who comes before there is an identity waits so long for it.
const PATIENCE: Duration = Duration::from_secs(1);

/// The service.
#[derive(Debug)]
pub struct WorkloadApi {
    resources: Arc<Resources>,
    stop: Stop,
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl WorkloadApi {
    /// Serves `resources`; its streams end with `stop`.
    pub fn new(resources: Arc<Resources>, stop: Stop) -> Self {
        Self { resources, stop }
    }

    /// Sends `answer` of the identity now, and again whenever `version` changes.
    async fn follow<T, R: Send + 'static>(
        &self,
        request: &Request<T>,
        version: fn(&Identity) -> String,
        answer: fn(&Identity) -> Result<R, Status>,
    ) -> Result<Response<Answers<R>>, Status> {
        check_metadata(request)?;
        let place = self.resources.place().map_err(|error| Status::resource_exhausted(error.to_string()))?;
        let follow =
            |name| self.resources.follow(&name).map_err(|error| Status::unavailable(error.to_string()));
        let mut pair = follow(ResourceName::Default)?;
        let mut roots = follow(ResourceName::RootCa)?;
        let first = timeout(PATIENCE, Identity::wait(&mut pair, &mut roots)).await;
        let first = first.map_err(|_| Status::unavailable("there is no identity yet"))??;
        let (out, answers) = mpsc::channel(1);
        let mut stop = self.stop.clone();
        tokio::spawn(async move {
            let _place = place;
            let mut sent = version(&first);
            let mut news = Some(first);
            let ended = loop {
                if let Some(identity) = news.take() {
                    let answer = match answer(&identity) {
                        Ok(answer) => answer,
                        Err(status) => break status,
                    };
                    if out.send(Ok(answer)).await.is_err() {
                        return;
                    }
                }
                let changed = tokio::select! {
                    () = out.closed() => return,
                    () = stop.wait() => break Status::unavailable("the agent stops"),
                    changed = pair.changed() => changed,
                    changed = roots.changed() => changed,
                };
                if changed.is_err() {
                    break Status::unavailable("the agent stops");
                }
                match Identity::wait(&mut pair, &mut roots).await {
                    Ok(identity) if version(&identity) == sent => {}
                    Ok(identity) => {
                        sent = version(&identity);
                        news = Some(identity);
                    }
                    Err(status) => break status,
                }
            };
            // Nobody may be there any more to be told.
            let _ = out.send(Err(ended)).await;
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(answers))))
    }
}

/// The workload's identity with all that belongs to it.
struct Identity {
    id: SpiffeId,
    pair: Arc<Content>,
    roots: Arc<Content>,
}

impl Identity {
    /// The current one, once there is one.
    async fn wait(pair: &mut Follower, roots: &mut Follower) -> Result<Self, Status> {
        let gone = |_| Status::unavailable("the agent stops");
        let pair = pair.wait_for(Option::is_some).await.map_err(gone)?.clone();
        let roots = roots.wait_for(Option::is_some).await.map_err(gone)?.clone();
        let none = || Status::permission_denied("no identity issued");
        let (pair, roots) = pair.zip(roots).ok_or_else(none)?;
        let names = parts(&pair, &roots).and_then(|(pair, _)| pair.leaf()).map(uri_names).unwrap_or_default();
        match names.as_slice() {
            // A certificate of files need not be an X.509-SVID.
            [name] => Ok(Self { id: SpiffeId::parse(name).map_err(|_| none())?, pair, roots }),
            _ => Err(none()),
        }
    }

    fn svid(&self) -> Result<X509svid, Status> {
        let internal = || Status::internal("the identity cannot be written");
        let (pair, roots) = parts(&self.pair, &self.roots).ok_or_else(internal)?;
        let key = PrivateKey::from_pem(&pair.key).map_err(|_| internal())?;
        // What verifies it is in the bundle; the chain leads there (X.509-SVID, section 5).
        let chain = pair.certificates.iter().filter(|certificate| !roots.contains(certificate));
        Ok(X509svid {
            spiffe_id: self.id.as_str().to_owned(),
            x509_svid: der(chain),
            x509_svid_key: Bytes::from_owner(key.to_der(KeyForm::Pkcs8)),
            bundle: der(&roots.certificates),
            hint: String::new(),
        })
    }

    fn bundles(&self) -> Result<HashMap<String, Bytes>, Status> {
        let internal = || Status::internal("the bundle cannot be written");
        let (_, roots) = parts(&self.pair, &self.roots).ok_or_else(internal)?;
        Ok([(format!("spiffe://{}", self.id.trust_domain()), der(&roots.certificates))].into())
    }
}

fn parts<'a>(pair: &'a Content, roots: &'a Content) -> Option<(&'a KeyPair, &'a TrustBundle)> {
    match (pair, roots) {
        (Content::KeyPair(pair), Content::Roots(roots)) => Some((pair, roots)),
        _ => None,
    }
}

fn der<'a>(certificates: impl IntoIterator<Item = &'a Certificate>) -> Bytes {
    certificates.into_iter().flat_map(|certificate| certificate.der().iter().copied()).collect()
}

fn check_metadata<T>(request: &Request<T>) -> Result<(), Status> {
    let header = request.metadata().get("workload.spiffe.io");
    if header.is_some_and(|value| value.as_bytes() == b"true") {
        return Ok(());
    }
    Err(Status::invalid_argument("security header missing from request"))
}

fn no_jwt<T, R>(request: &Request<T>) -> Result<R, Status> {
    check_metadata(request)?;
    Err(Status::unimplemented("there are no JWT-SVIDs here"))
}

#[async_trait]
impl SpiffeWorkloadApi for WorkloadApi {
    type FetchX509SVIDStream = Answers<X509svidResponse>;
    type FetchX509BundlesStream = Answers<X509BundlesResponse>;
    type FetchJWTBundlesStream = Answers<JwtBundlesResponse>;

    async fn fetch_x509svid(
        &self,
        request: Request<X509svidRequest>,
    ) -> Result<Response<Self::FetchX509SVIDStream>, Status> {
        let version =
            |identity: &Identity| format!("{}.{}", identity.pair.version(), identity.roots.version());
        let answer = |identity: &Identity| {
            Ok(X509svidResponse { svids: vec![identity.svid()?], ..X509svidResponse::default() })
        };
        self.follow(&request, version, answer).await
    }

    async fn fetch_x509_bundles(
        &self,
        request: Request<X509BundlesRequest>,
    ) -> Result<Response<Self::FetchX509BundlesStream>, Status> {
        let version =
            |identity: &Identity| format!("{}.{}", identity.id.trust_domain(), identity.roots.version());
        let answer = |identity: &Identity| {
            Ok(X509BundlesResponse { bundles: identity.bundles()?, ..X509BundlesResponse::default() })
        };
        self.follow(&request, version, answer).await
    }

    async fn fetch_jwtsvid(
        &self,
        request: Request<JwtsvidRequest>,
    ) -> Result<Response<JwtsvidResponse>, Status> {
        no_jwt(&request)
    }

    async fn fetch_jwt_bundles(
        &self,
        request: Request<JwtBundlesRequest>,
    ) -> Result<Response<Self::FetchJWTBundlesStream>, Status> {
        no_jwt(&request)
    }

    async fn validate_jwtsvid(
        &self,
        request: Request<ValidateJwtsvidRequest>,
    ) -> Result<Response<ValidateJwtsvidResponse>, Status> {
        no_jwt(&request)
    }
}
