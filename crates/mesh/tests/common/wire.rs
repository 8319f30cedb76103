//! The service behind a real HTTP/2 connection, in memory, and what stands around it.
#![allow(dead_code, reason = "each test uses its own part")]
#![allow(clippy::unwrap_used, reason = "a helper of tests fails as tests do")]

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use chancery_api::FixedClock;
use chancery_issuance::{Certificate, KeyPolicy, PrivateKey, TrustDomain, VerifiedCsr};
use chancery_mesh::Workload;
use chancery_mesh::ca::authenticate::{
    Authenticator, Authenticators, Caller, CertificateAuthenticator, ClusterIds, Credentials, Denial,
    PeerCertificates, ReviewError, TokenReviewAuthenticator, TokenReviewer, TrustDomains,
};
use chancery_mesh::ca::impersonate::{NodeAuthorizer, Pod, Pods, PodsError};
use chancery_mesh::ca::roots::Roots;
use chancery_mesh::ca::service::{Service, ServiceOptions};
use chancery_mesh::ca::signer::{SignedChain, Signer, SigningError, SigningRequest};
use chancery_mesh::proto::istio::istio_certificate_service_client::IstioCertificateServiceClient;
use chancery_mesh::proto::istio::{IstioCertificateRequest, IstioCertificateResponse};
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use k8s_openapi::api::authentication::v1::{TokenReviewStatus, UserInfo};
use rustls::pki_types::CertificateDer;
use tokio::sync::watch;
use tonic::Status;
use tonic::body::Body;
use tonic::metadata::{MetadataMap, MetadataValue};

use super::common::{self, Authority, NOW, Template};

/// What the signer does with the next requests.
#[derive(Clone)]
pub(crate) enum Behaviour {
    Sign,
    Refuse,
    /// So many times; then it signs.
    Unavailable(usize),
    Hang,
    /// Whatever is asked.
    Answer(String),
    /// Signs, with this done to the certificate.
    Twist(fn(&mut Template)),
}

/// An intermediate that signs what it is asked, and notes it.
pub(crate) struct TestSigner {
    pub(crate) root: Authority,
    pub(crate) intermediate: Authority,
    pub(crate) behaviour: Mutex<Behaviour>,
    pub(crate) seen: Mutex<Vec<SigningRequest>>,
    pub(crate) calls: Mutex<usize>,
}

impl TestSigner {
    fn new() -> Self {
        let root = Authority::root("root");
        let intermediate = root.intermediate("intermediate");
        let (behaviour, seen, calls) = (Mutex::new(Behaviour::Sign), Mutex::default(), Mutex::default());
        Self { root, intermediate, behaviour, seen, calls }
    }

    fn certificate(&self, request: &SigningRequest, twist: fn(&mut Template)) -> SignedChain {
        let csr = VerifiedCsr::from_pem(&request.csr, &KeyPolicy::any()).unwrap();
        let names: Vec<&str> = csr.sans().uri.iter().map(String::as_str).collect();
        let mut template = Template::leaf(&names);
        template.not_after = NOW + i64::try_from(request.duration.as_secs()).unwrap();
        twist(&mut template);
        let leaf = self.intermediate.sign_spki(&template, csr.public_key().spki_der());
        let chain = format!("{}{}{}", leaf.pem(), self.intermediate.pem(), self.root.pem());
        SignedChain { chain, root: None }
    }
}

#[tonic::async_trait]
impl Signer for TestSigner {
    async fn sign(&self, request: &SigningRequest) -> Result<SignedChain, SigningError> {
        *self.calls.lock().unwrap() += 1;
        self.seen.lock().unwrap().push(request.clone());
        let behaviour = self.behaviour.lock().unwrap().clone();
        match behaviour {
            Behaviour::Sign => Ok(self.certificate(request, |_| ())),
            Behaviour::Twist(twist) => Ok(self.certificate(request, twist)),
            Behaviour::Answer(chain) => Ok(SignedChain { chain, root: None }),
            Behaviour::Refuse => Err(SigningError::Refused("the role forbids it".to_owned())),
            Behaviour::Unavailable(0) => Ok(self.certificate(request, |_| ())),
            Behaviour::Unavailable(left) => {
                *self.behaviour.lock().unwrap() = Behaviour::Unavailable(left - 1);
                Err(SigningError::Unavailable("sealed".to_owned()))
            }
            Behaviour::Hang => std::future::pending().await,
        }
    }
}

/// An API server that knows some tokens.
pub(crate) struct Tokens(HashMap<&'static str, TokenReviewStatus>);

#[tonic::async_trait]
impl TokenReviewer for Tokens {
    async fn review(
        &self,
        _: Option<&str>,
        token: &str,
        audiences: &[String],
    ) -> Result<TokenReviewStatus, ReviewError> {
        assert_eq!(audiences, ["istio-ca"]);
        match token {
            "hangs" => return std::future::pending().await,
            "unavailable" => return Err(ReviewError::Unavailable("connection refused".to_owned())),
            "forbidden" => return Err(ReviewError::Refused("RBAC".to_owned())),
            _ => {}
        }
        let refused = || TokenReviewStatus { error: Some("invalid token".to_owned()), ..Default::default() };
        Ok(self.0.get(token).cloned().unwrap_or_else(refused))
    }
}

fn token_of(username: &str, pod: &str, uid: &str) -> TokenReviewStatus {
    let extra = [("pod-name", pod), ("pod-uid", uid)]
        .map(|(key, value)| (format!("authentication.kubernetes.io/{key}"), vec![value.to_owned()]));
    TokenReviewStatus {
        authenticated: Some(true),
        audiences: Some(vec!["istio-ca".to_owned()]),
        error: None,
        user: Some(UserInfo {
            username: Some(format!("system:serviceaccount:{username}")),
            groups: Some(vec!["system:serviceaccounts".to_owned()]),
            extra: Some(extra.into()),
            uid: None,
        }),
    }
}

/// Proxies `z1` on node `n1` and `z2` on node `n2`; `sandbox/httpbin` runs on `n1` only.
struct Cluster;

#[tonic::async_trait]
impl Pods for Cluster {
    async fn pod(&self, namespace: &str, name: &str) -> Result<Option<Pod>, PodsError> {
        let pod = |node: &str| Pod {
            uid: format!("uid-{name}"),
            service_account: "ztunnel".to_owned(),
            node: node.to_owned(),
        };
        Ok(match (namespace, name) {
            ("istio-system", "z1") => Some(pod("n1")),
            ("istio-system", "z2") => Some(pod("n2")),
            _ => None,
        })
    }

    async fn runs_on(&self, workload: &Workload, node: &str) -> Result<bool, PodsError> {
        Ok(workload.to_string() == "sandbox/httpbin" && node == "n1")
    }
}

/// Knows callers by the header `identities`.
pub(crate) struct ByHeader;

#[tonic::async_trait]
impl Authenticator for ByHeader {
    fn name(&self) -> &'static str {
        "header"
    }

    async fn authenticate(&self, credentials: &Credentials<'_>) -> Result<Option<Caller>, Denial> {
        let Some(value) = credentials.metadata.get("identities") else { return Ok(None) };
        let list = value.to_str().unwrap().split(',').filter(|id| !id.is_empty());
        Ok(Some(Caller { identities: list.map(str::to_owned).collect(), pod: None, by: "header" }))
    }
}

/// The client's end of a connection.
#[derive(Clone)]
pub(crate) struct Connection(SendRequest<Body>);

impl tower_service::Service<http::Request<Body>> for Connection {
    type Response = http::Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

/// A mesh: the service and everything around it.
pub(crate) struct Mesh {
    pub(crate) signer: Arc<TestSigner>,
    pub(crate) clock: Arc<FixedClock>,
    pub(crate) roots: watch::Sender<Arc<Roots>>,
    pub(crate) key: PrivateKey,
    service:
        chancery_mesh::proto::istio::istio_certificate_service_server::IstioCertificateServiceServer<Service>,
}

pub(crate) fn roots(certificates: &[&Certificate]) -> Arc<Roots> {
    let pem = certificates.iter().map(|one| one.pem()).collect();
    Arc::new(Roots { certificates: certificates.iter().map(|one| (*one).clone()).collect(), pem })
}

impl Mesh {
    pub(crate) fn new() -> Self {
        Self::with(ServiceOptions::default(), "istio-system/ztunnel,istio-system/other")
    }

    pub(crate) fn with(options: ServiceOptions, trusted: &str) -> Self {
        super::log::install();
        let signer = Arc::new(TestSigner::new());
        let clock = Arc::new(FixedClock::at(jiff::Timestamp::from_second(NOW).unwrap()));
        let (sender, receiver) = watch::channel(roots(&[&signer.root.certificate]));
        let domain = TrustDomain::new("cluster.local").unwrap();
        let tokens = HashMap::from([
            ("httpbin", token_of("sandbox:httpbin", "h", "uid-h")),
            ("ztunnel", token_of("istio-system:ztunnel", "z1", "uid-z1")),
            ("elsewhere", token_of("istio-system:ztunnel", "z2", "uid-z2")),
            ("replaced", token_of("istio-system:ztunnel", "z1", "uid-before")),
            ("gone", token_of("istio-system:ztunnel", "z9", "uid-z9")),
            ("other", token_of("istio-system:other", "z1", "uid-z1")),
        ]);
        let clusters = Arc::new(ClusterIds::new(["Kubernetes".to_owned(), "east".to_owned()]));
        let review = TokenReviewAuthenticator::new(
            Arc::new(Tokens(tokens)),
            vec!["istio-ca".to_owned()],
            domain.clone(),
            clusters,
        );
        let certificate = CertificateAuthenticator::new(
            TrustDomains::new(domain.clone()),
            Arc::<FixedClock>::clone(&clock),
        );
        let ways: Vec<Arc<dyn Authenticator>> =
            vec![Arc::new(certificate), Arc::new(review), Arc::new(ByHeader)];
        let nodes = NodeAuthorizer::new(NodeAuthorizer::trusted_accounts(trusted), domain, Arc::new(Cluster));
        let service = Service::new(
            options,
            Authenticators::new(ways),
            Some(nodes),
            Arc::<TestSigner>::clone(&signer),
            receiver,
            Arc::<FixedClock>::clone(&clock),
        );
        Self { signer, clock, roots: sender, key: common::new_key(), service: service.into_server() }
    }

    /// A new connection by a client that showed these certificates.
    pub(crate) async fn connect(
        &self,
        certificates: &[&Certificate],
    ) -> IstioCertificateServiceClient<Connection> {
        let (client, server) = tokio::io::duplex(64 * 1024);
        let shown: Vec<_> = certificates.iter().map(|one| CertificateDer::from(one.der().to_vec())).collect();
        let (shown, service) = (PeerCertificates(shown.into()), self.service.clone());
        let handler = hyper::service::service_fn(move |mut request: http::Request<hyper::body::Incoming>| {
            request.extensions_mut().insert(shown.clone());
            let mut service = service.clone();
            async move { tower_service::Service::call(&mut service, request).await }
        });
        tokio::spawn(
            hyper::server::conn::http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(server), handler),
        );
        let io = TokioIo::new(client);
        let (sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), io).await.unwrap();
        tokio::spawn(connection);
        let origin = http::Uri::from_static("http://istio-ca.test");
        IstioCertificateServiceClient::with_origin(Connection(sender), origin)
    }

    pub(crate) async fn ask(&self, ask: Ask<'_>) -> Result<IstioCertificateResponse, Status> {
        let mut client = self.connect(&ask.certificates).await;
        let answer = client.create_certificate(ask.request(&self.key)).await;
        answer.map(tonic::Response::into_inner)
    }

    /// What the service sent to the signer, once.
    pub(crate) fn signed(&self) -> SigningRequest {
        let seen = self.signer.seen.lock().unwrap();
        let [only] = seen.as_slice() else { panic!("{} requests reached the signer", seen.len()) };
        only.clone()
    }

    pub(crate) fn behave(&self, behaviour: Behaviour) {
        *self.signer.behaviour.lock().unwrap() = behaviour;
    }

    pub(crate) fn calls(&self) -> usize {
        *self.signer.calls.lock().unwrap()
    }
}

/// A call as an agent makes it.
pub(crate) struct Ask<'a> {
    pub(crate) metadata: Vec<(&'static str, String)>,
    pub(crate) certificates: Vec<&'a Certificate>,
    pub(crate) csr: Option<String>,
    pub(crate) seconds: i64,
    pub(crate) impersonated: Option<&'a str>,
    pub(crate) patience: Option<Duration>,
}

impl Default for Ask<'_> {
    /// The agent of `sandbox/httpbin`.
    fn default() -> Self {
        Self::by("httpbin")
    }
}

impl Ask<'_> {
    pub(crate) fn by(token: &str) -> Self {
        Self {
            metadata: vec![
                ("authorization", format!("Bearer {token}")),
                ("clusterid", "Kubernetes".to_owned()),
            ],
            certificates: Vec::new(),
            csr: None,
            seconds: 3600,
            impersonated: None,
            patience: None,
        }
    }

    fn request(self, key: &PrivateKey) -> tonic::Request<IstioCertificateRequest> {
        let text = |text: &str| {
            let kind = Some(prost_types::value::Kind::StringValue(text.to_owned()));
            prost_types::Value { kind }
        };
        // Agents always send this key, mostly empty.
        let mut fields = std::collections::BTreeMap::from([("CertSigner".to_owned(), text(""))]);
        fields.extend(self.impersonated.map(|id| ("ImpersonatedIdentity".to_owned(), text(id))));
        let metadata = Some(prost_types::Struct { fields });
        let mut request = tonic::Request::new(IstioCertificateRequest {
            csr: self.csr.unwrap_or_else(|| common::csr(key, &[common::ME])),
            validity_duration: self.seconds,
            metadata,
        });
        let headers: &mut MetadataMap = request.metadata_mut();
        for (name, value) in self.metadata {
            headers.append(name, MetadataValue::try_from(value).unwrap());
        }
        if let Some(patience) = self.patience {
            request.set_timeout(patience);
        }
        request
    }
}
