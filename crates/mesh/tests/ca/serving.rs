//! The service as a whole: its certificate, its handshakes, its probes.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use chancery_api::{Clock, FixedClock, SystemClock};
use chancery_client::{Config, Login};
use chancery_issuance::{Certificate, KeyForm, KeySpec, PrivateKey};
use chancery_mesh::ca::authenticate::PeerCertificates;
use chancery_mesh::ca::config::Settings;
use chancery_mesh::ca::listener::PeerAddress;
use chancery_mesh::ca::run::{Parts, Running, start};
use chancery_mesh::ca::signer::Signer;
use chancery_mesh::proto::istio::istio_certificate_service_client::IstioCertificateServiceClient;
use chancery_mesh::proto::istio::istio_certificate_service_server::IstioCertificateService;
use chancery_mesh::proto::istio::{IstioCertificateRequest, IstioCertificateResponse};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tonic::{Code, Request, Response, Status};

use crate::support::{Authority, Vault, csr, until};

const NAME: &str = "istio-csr.cert-manager.svc";
const HTTPBIN: &str = "spiffe://cluster.local/ns/sandbox/sa/httpbin";

/// Says whom it sees: a placeholder for the real service.
pub(crate) struct Mirror;

#[async_trait]
impl IstioCertificateService for Mirror {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        if request.extensions().get::<PeerAddress>().is_none() {
            return Err(Status::internal("no address"));
        }
        let csr = request.get_ref().csr.clone();
        if let Some(milliseconds) = csr.strip_prefix("sleep ") {
            tokio::time::sleep(Duration::from_millis(milliseconds.parse().unwrap())).await;
        }
        let Some(PeerCertificates(chain)) = request.extensions().get() else {
            return Err(Status::unauthenticated("request authenticate failure"));
        };
        let names = Certificate::from_der(&chain[0]).unwrap().sans().unwrap().uri;
        Ok(Response::new(IstioCertificateResponse { cert_chain: names }))
    }
}

pub(crate) struct Service {
    authority: Arc<Authority>,
    pub(crate) running: Running,
    _folder: tempfile::TempDir,
    roots: std::path::PathBuf,
}

pub(crate) fn settings(roots: &std::path::Path) -> Settings {
    let login = Login::Token(chancery_api::Secret::from("unused").into());
    let mut settings = Settings::new(Config::new("http://127.0.0.1:1".parse().unwrap()), login);
    let any = SocketAddr::from(([127, 0, 0, 1], 0));
    (settings.serving_address, settings.readiness_address) = (any, any);
    settings.metrics_address = Some(any);
    settings.root_ca_file = Some(roots.to_owned());
    settings.serving.dns_names = vec![NAME.to_owned()];
    settings.listener.handshake_timeout = Duration::from_millis(500);
    settings
}

pub(crate) async fn launch(settings: Settings, signer: Arc<dyn Signer>) -> Running {
    launch_at(settings, signer, Arc::new(SystemClock)).await
}

async fn launch_at(settings: Settings, signer: Arc<dyn Signer>, clock: Arc<dyn Clock>) -> Running {
    let parts = |_, _| async { Ok(Parts::new(Mirror)) };
    start(settings.check().unwrap(), signer, clock, parts).await.unwrap()
}

impl Service {
    pub(crate) async fn start(authority: Authority) -> Self {
        Self::start_with(authority, |_| {}).await
    }

    pub(crate) async fn start_with(authority: Authority, change: impl FnOnce(&mut Settings)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let roots = folder.path().join("ca.pem");
        std::fs::write(&roots, &authority.root).unwrap();
        let authority = Arc::new(authority);
        let mut settings = settings(&roots);
        change(&mut settings);
        let running = launch(settings, Arc::<Authority>::clone(&authority)).await;
        Self { authority, running, _folder: folder, roots }
    }

    async fn ready(&self) -> (u16, String) {
        get(self.running.addresses().readiness, "/readyz?verbose").await
    }

    pub(crate) async fn until_ready(&self) {
        until("readiness", || async { self.ready().await.0 == 200 }).await;
    }

    /// A client that believes the service's root, and shows these if any.
    pub(crate) async fn connect(&self, identity: Option<(&PrivateKey, &str)>) -> Result<Client, String> {
        Client::connect(self.running.addresses().serving, &self.authority.root, identity).await
    }

    /// A certificate of the mesh for this name.
    fn workload(&self, name: &str) -> (PrivateKey, String) {
        let (key, csr) = csr(&[name]);
        (key, self.authority.sign(&csr, Duration::from_secs(3600)))
    }
}

pub(crate) async fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let stream = TcpStream::connect(address).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let request = http::Request::get(path).header("host", "probe").body(Empty::<Bytes>::new()).unwrap();
    let response = sender.send_request(request).await.unwrap();
    let status = response.status().as_u16();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

/// One HTTP/2 connection.
pub(crate) struct Client {
    pub(crate) sender: http2::SendRequest<tonic::body::Body>,
    /// The leaf that the service showed.
    leaf: Vec<u8>,
    version: Option<rustls::ProtocolVersion>,
    kind: Option<rustls::HandshakeKind>,
}

/// A client's TLS that believes this root, and shows this identity.
fn tls(
    root: &str,
    identity: Option<(&PrivateKey, &str)>,
    versions: &[&'static rustls::SupportedProtocolVersion],
) -> Arc<ClientConfig> {
    let der = |pem: &str| {
        let all = Certificate::all_from_pem(pem).unwrap();
        all.iter().map(|one| CertificateDer::from(one.der().to_vec())).collect::<Vec<_>>()
    };
    let mut roots = RootCertStore::empty();
    for root in der(root) {
        roots.add(root).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    let config = config.with_root_certificates(roots);
    let mut config = match identity {
        None => config.with_no_client_auth(),
        Some((key, chain)) => {
            let key = PrivateKeyDer::Pkcs8(key.to_der(KeyForm::Pkcs8).to_vec().into());
            config.with_client_auth_cert(der(chain), key).unwrap()
        }
    };
    config.alpn_protocols = vec![b"h2".to_vec()];
    Arc::new(config)
}

impl Client {
    pub(crate) async fn connect(
        address: SocketAddr,
        root: &str,
        identity: Option<(&PrivateKey, &str)>,
    ) -> Result<Self, String> {
        Self::connect_with(address, tls(root, identity, rustls::ALL_VERSIONS)).await
    }

    async fn connect_with(address: SocketAddr, config: Arc<ClientConfig>) -> Result<Self, String> {
        let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
        let name = ServerName::try_from(NAME).unwrap();
        let stream = TlsConnector::from(config).connect(name, stream).await;
        let stream = stream.map_err(|error| error.to_string())?;
        let session = stream.get_ref().1;
        let leaf = session.peer_certificates().unwrap()[0].to_vec();
        let (version, kind) = (session.protocol_version(), session.handshake_kind());
        let (sender, connection) = http2::handshake(TokioExecutor::new(), TokioIo::new(stream))
            .await
            .map_err(|error| error.to_string())?;
        tokio::spawn(connection);
        Ok(Self { sender, leaf, version, kind })
    }

    async fn ask(&self, csr: &str) -> Result<Vec<String>, Status> {
        let sender = self.sender.clone();
        let service = tower_sender(sender);
        let mut client = IstioCertificateServiceClient::with_origin(service, "https://ca".parse().unwrap());
        let request = IstioCertificateRequest { csr: csr.to_owned(), ..IstioCertificateRequest::default() };
        client.create_certificate(request).await.map(|answer| answer.into_inner().cert_chain)
    }
}

/// A connection as tonic's clients want it.
fn tower_sender(sender: http2::SendRequest<tonic::body::Body>) -> Sender {
    Sender(sender)
}

#[derive(Clone)]
struct Sender(http2::SendRequest<tonic::body::Body>);

impl tower_service::Service<http::Request<tonic::body::Body>> for Sender {
    type Response = http::Response<hyper::body::Incoming>;
    type Error = hyper::Error;
    type Future = std::pin::Pin<Box<dyn Future<Output = Result<Self::Response, hyper::Error>> + Send>>;

    fn poll_ready(
        &mut self,
        context: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Result<(), hyper::Error>> {
        self.0.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<tonic::body::Body>) -> Self::Future {
        Box::pin(self.0.send_request(request))
    }
}

#[tokio::test]
async fn a_client_without_certificate_is_heard_and_one_with_a_certificate_of_the_mesh_is_known() {
    let below = Authority::new("root").intermediate("below", true);
    let service = Service::start_with(below, |settings| {
        settings.trust_domain_aliases = vec!["cluster.before".to_owned()];
    })
    .await;
    service.until_ready().await;
    let plain = service.connect(None).await.unwrap();
    assert_eq!(plain.ask("").await.unwrap_err().code(), Code::Unauthenticated);
    for name in [HTTPBIN, "spiffe://cluster.before/ns/sandbox/sa/httpbin"] {
        let (key, leaf) = service.workload(name);
        let chain = format!("{leaf}{}", service.authority.certificate().pem());
        let known = service.connect(Some((&key, &chain))).await.unwrap();
        assert_eq!(known.ask("").await.unwrap(), [name]);
    }
    service.running.shutdown().await;
}

#[tokio::test]
async fn certificates_of_others_and_of_no_workload_are_refused_in_the_handshake() {
    let service = Service::start(Authority::new("root")).await;
    service.until_ready().await;
    let other = Authority::new("root");
    let (key, csr_of_other) = csr(&[HTTPBIN]);
    let stranger = other.sign(&csr_of_other, Duration::from_secs(3600));
    let mut identities = vec![(key, stranger)];
    for name in ["spiffe://elsewhere/ns/a/sa/b", "spiffe://cluster.local/other/form", "a.cluster.svc"] {
        identities.push(service.workload(name));
    }
    for (key, leaf) in &identities {
        // In TLS 1.3 the client learns of it with its first request.
        let refused = match service.connect(Some((key, leaf))).await {
            Err(_) => true,
            Ok(client) => client.ask("").await.is_err_and(|status| status.code() != Code::Unauthenticated),
        };
        assert!(refused, "{leaf}");
    }
    service.running.shutdown().await;
}

#[tokio::test]
async fn the_certificate_changes_under_open_connections() {
    let authority = Authority::new("root");
    // Renewed after about two seconds.
    authority.lifetime.store(3, Ordering::SeqCst);
    let service = Service::start(authority).await;
    service.until_ready().await;
    let (key, leaf) = service.workload(HTTPBIN);
    let first = service.connect(Some((&key, &leaf))).await.unwrap();
    assert_eq!(first.ask("").await.unwrap(), [HTTPBIN]);
    let begun = service.authority.signed.load(Ordering::SeqCst);
    until("a renewal", || async { service.authority.signed.load(Ordering::SeqCst) > begun }).await;
    // Calls that were begun before and after go on over the old connection.
    let second = service.connect(None).await.unwrap();
    assert_ne!(first.leaf, second.leaf);
    assert_eq!(first.ask("").await.unwrap(), [HTTPBIN]);
    service.running.shutdown().await;
}

#[tokio::test]
async fn a_signer_that_is_away_is_waited_for_and_probes_tell_the_truth() {
    let authority = Authority::new("root");
    authority.broken.store(true, Ordering::SeqCst);
    let service = Service::start(authority).await;
    until("a first attempt", || async { service.ready().await.1.contains("[ ]signer unavailable") }).await;
    let (status, text) = service.ready().await;
    assert_eq!(status, 500);
    assert!(text.contains("[-]tls_provider failed: there is no serving certificate yet\n"), "{text}");
    assert!(text.contains("[-]grpc_server failed") && text.contains("[+]roots ok"), "{text}");
    assert!(!text.contains("out for lunch"));
    let probes = service.running.addresses().readiness;
    assert_eq!(get(probes, "/healthz").await, (200, "ok".to_owned()));
    assert_eq!(get(probes, "/livez").await.0, 200);
    assert_eq!(get(probes, "/else").await.0, 404);

    service.authority.broken.store(false, Ordering::SeqCst);
    service.until_ready().await;
    assert_eq!(get(probes, "/readyz").await, (200, "ok".to_owned()));
    let metrics = service.running.addresses().metrics.unwrap();
    assert_eq!(get(metrics, "/metrics").await.0, 200);
    assert_eq!(get(metrics, "/").await.0, 404);
    service.running.shutdown().await;
}

#[tokio::test]
async fn a_service_whose_certificate_has_expired_is_not_ready() {
    let authority = Authority::new("root");
    authority.lifetime.store(3, Ordering::SeqCst);
    let service = Service::start(authority).await;
    service.until_ready().await;
    service.authority.broken.store(true, Ordering::SeqCst);
    until("expiry", || async {
        service.ready().await.1.contains("[-]tls_provider failed: the serving certificate expired")
    })
    .await;
    service.running.shutdown().await;
}

#[tokio::test]
async fn new_roots_count_at_once_for_clients_and_end_the_connections_of_those_known_by_the_old() {
    let service = Service::start(Authority::new("root")).await;
    service.until_ready().await;
    let (key, leaf) = service.workload(HTTPBIN);
    let other = Authority::new("other");
    let (other_key, other_csr) = csr(&[HTTPBIN]);
    let other_leaf = other.sign(&other_csr, Duration::from_secs(3600));
    let known = service.connect(Some((&key, &leaf))).await.unwrap();
    let plain = service.connect(None).await.unwrap();
    assert_eq!(known.ask("").await.unwrap(), [HTTPBIN]);
    let refused = service.connect(Some((&other_key, &other_leaf))).await;
    assert!(match refused {
        Err(_) => true,
        Ok(client) => client.ask("").await.is_err(),
    });
    std::fs::write(&service.roots, &other.root).unwrap();
    until("the other root", || async {
        match service.connect(Some((&other_key, &other_leaf))).await {
            Err(_) => false,
            Ok(client) => client.ask("").await.is_ok(),
        }
    })
    .await;
    let (status, text) = service.ready().await;
    assert_eq!(status, 500);
    let sentence = "[-]tls_provider failed: the serving certificate leads to none of the mesh's roots";
    assert!(text.contains(sentence), "{text}");
    until("the old connection's end", || async { known.sender.is_closed() }).await;
    assert_eq!(plain.ask("").await.unwrap_err().code(), Code::Unauthenticated);
    service.running.shutdown().await;
}

#[tokio::test]
async fn without_a_root_file_the_signers_root_is_trusted_unless_it_is_none() {
    let folder = tempfile::tempdir().unwrap();
    let mut with = settings(folder.path());
    with.root_ca_file = None;
    let root = Authority::new("root");
    let running = launch(with.clone(), Arc::new(root.intermediate("below", true))).await;
    until("readiness", || async { get(running.addresses().readiness, "/readyz").await.0 == 200 }).await;
    running.shutdown().await;

    let below = Arc::new(root.intermediate("below", false));
    let running = launch(with, Arc::<Authority>::clone(&below)).await;
    until("an attempt", || async { below.signed.load(Ordering::SeqCst) > 0 }).await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    let (status, text) = get(running.addresses().readiness, "/readyz").await;
    assert_eq!(status, 500);
    assert!(text.contains("[-]roots failed: the mesh's roots are not known yet"), "{text}");
    running.shutdown().await;
}

#[tokio::test]
async fn calls_under_way_are_answered_when_the_service_stops() {
    let service = Service::start(Authority::new("root")).await;
    service.until_ready().await;
    let (key, leaf) = service.workload(HTTPBIN);
    let client = service.connect(Some((&key, &leaf))).await.unwrap();
    let address = service.running.addresses().serving;
    let (answer, ()) = tokio::join!(client.ask("sleep 400"), async {
        tokio::time::sleep(Duration::from_millis(100)).await;
        service.running.shutdown().await;
    });
    assert_eq!(answer.unwrap(), [HTTPBIN]);
    assert!(TcpStream::connect(address).await.is_err());
}

#[tokio::test]
async fn silent_connections_do_not_keep_others_out() {
    let service = Service::start_with(Authority::new("root"), |settings| {
        settings.listener.max_connections = 1;
        settings.listener.idle_timeout = Duration::from_millis(300);
    })
    .await;
    service.until_ready().await;
    // One that never shakes hands, then one that shakes hands and asks nothing.
    let _mute = TcpStream::connect(service.running.addresses().serving).await.unwrap();
    let _idle = service.connect(None).await.unwrap();
    let client = tokio::time::timeout(Duration::from_secs(5), service.connect(None)).await.unwrap().unwrap();
    assert_eq!(client.ask("").await.unwrap_err().code(), Code::Unauthenticated);
    service.running.shutdown().await;
}

#[tokio::test]
async fn a_connection_ends_when_nothing_is_asked_any_more_but_not_under_a_call() {
    let service = Service::start_with(Authority::new("root"), |settings| {
        settings.listener.idle_timeout = Duration::from_millis(500);
    })
    .await;
    service.until_ready().await;
    let (key, leaf) = service.workload(HTTPBIN);
    let client = service.connect(Some((&key, &leaf))).await.unwrap();
    // Calls one after the other, and one that takes longer than all that.
    for _ in 0..5 {
        assert_eq!(client.ask("sleep 250").await.unwrap(), [HTTPBIN]);
    }
    assert_eq!(client.ask("sleep 1300").await.unwrap(), [HTTPBIN]);
    assert!(!client.sender.is_closed());
    let ended = async {
        while !client.sender.is_closed() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(5), ended).await.unwrap();
    service.running.shutdown().await;
}

#[tokio::test]
async fn messages_and_headers_beyond_the_limits_are_refused() {
    let service = Service::start(Authority::new("root")).await;
    service.until_ready().await;
    let client = service.connect(None).await.unwrap();
    let long = client.ask(&"x".repeat(65 * 1024)).await.unwrap_err();
    assert_eq!(long.code(), Code::OutOfRange, "{long:?}");

    let path = "https://ca/istio.v1.auth.IstioCertificateService/CreateCertificate";
    let with = |length: usize| {
        let request = http::Request::post(path).header("authorization", "x".repeat(length));
        request.header("content-type", "application/grpc").body(tonic::body::Body::empty()).unwrap()
    };
    let mut sender = client.sender.clone();
    let answer = sender.send_request(with(16 * 1024)).await.unwrap();
    assert_eq!(answer.status(), 200);
    let refused = sender.send_request(with(80 * 1024)).await;
    assert!(refused.is_err() || refused.is_ok_and(|answer| answer.status() == 431));
    service.running.shutdown().await;
}

#[tokio::test]
async fn both_versions_of_tls_are_spoken_and_no_session_is_resumed() {
    use rustls::version::{TLS12, TLS13};
    let service = Service::start(Authority::new("root")).await;
    service.until_ready().await;
    let (key, leaf) = service.workload(HTTPBIN);
    for version in [&TLS12, &TLS13] {
        let config = tls(&service.authority.root, Some((&key, &leaf)), &[version]);
        for _ in 0..2 {
            let address = service.running.addresses().serving;
            let client = Client::connect_with(address, Arc::clone(&config)).await.unwrap();
            assert_eq!(client.ask("").await.unwrap(), [HTTPBIN]);
            assert_eq!(
                (client.version, client.kind),
                (Some(version.version), Some(rustls::HandshakeKind::Full))
            );
        }
    }
    service.running.shutdown().await;

    let newest = Service::start_with(Authority::new("root"), |settings| {
        settings.serving.tls_min_version = "VersionTLS13".to_owned();
    })
    .await;
    newest.until_ready().await;
    let config = tls(&newest.authority.root, None, &[&TLS12]);
    assert!(Client::connect_with(newest.running.addresses().serving, config).await.is_err());
    newest.running.shutdown().await;
}

#[tokio::test]
async fn rsa_keys_serve_too() {
    let service = Service::start_with(Authority::new("root"), |settings| {
        settings.serving.signature_algorithm = "RSA".to_owned();
    })
    .await;
    service.until_ready().await;
    let client = service.connect(None).await.unwrap();
    let leaf = Certificate::from_der(&client.leaf).unwrap();
    assert_eq!(leaf.public_key().unwrap().spec(), KeySpec::Rsa(2048));
    service.running.shutdown().await;
}

#[tokio::test]
async fn expired_roots_and_certificates_make_the_service_unready() {
    let folder = tempfile::tempdir().unwrap();
    let roots = folder.path().join("ca.pem");
    let authority = Authority::new("root");
    std::fs::write(&roots, &authority.root).unwrap();
    let clock = Arc::new(FixedClock::at(SystemClock.now()));
    let running = launch_at(settings(&roots), Arc::new(authority), Arc::<FixedClock>::clone(&clock)).await;
    let readiness = running.addresses().readiness;
    until("readiness", || async { get(readiness, "/readyz").await.0 == 200 }).await;
    let day = Duration::from_secs(24 * 3600);
    clock.advance(day);
    let (status, text) = get(readiness, "/readyz").await;
    assert_eq!(status, 500);
    assert!(text.contains("[-]tls_provider failed: the serving certificate expired at"), "{text}");
    assert!(text.contains("[+]roots ok"), "{text}");
    clock.advance(day * 365);
    let (_, text) = get(readiness, "/readyz").await;
    assert!(text.contains("[-]roots failed: the last of the mesh's roots expired at"), "{text}");
    running.shutdown().await;
}

#[tokio::test]
async fn a_port_that_is_taken_is_named() {
    let taken = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = taken.local_addr().unwrap();
    let mut settings = settings(std::path::Path::new("/absent"));
    settings.serving_address = address;
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    let parts = |_, _| async { Ok(Parts::new(Mirror)) };
    let signer = Arc::new(Authority::new("root"));
    let error = start(settings.check().unwrap(), signer, clock, parts).await.unwrap_err().to_string();
    assert!(error.starts_with(&format!("cannot listen on {address}: ")), "{error}");
}

#[tokio::test]
async fn the_real_server_signs_the_services_own_certificate() {
    let vault = Vault::start().await;
    let folder = tempfile::tempdir().unwrap();
    let roots = folder.path().join("ca.pem");
    std::fs::write(&roots, &vault.root).unwrap();
    let running = launch(settings(&roots), Arc::new(vault.signer(vault.address()))).await;
    until("readiness", || async { get(running.addresses().readiness, "/readyz").await.0 == 200 }).await;
    let client = Client::connect(running.addresses().serving, &vault.root, None).await.unwrap();
    assert_eq!(client.ask("").await.unwrap_err().code(), Code::Unauthenticated);
    assert_eq!(Certificate::from_der(&client.leaf).unwrap().sans().unwrap().dns, [NAME]);
    running.shutdown().await;
}
