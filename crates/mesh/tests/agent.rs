//! The agent as its clients see it, over its real socket, against a double of the CA.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failure of a test is a panic"
)]

#[path = "common/ca_double.rs"]
mod ca_double;
#[path = "common/channel.rs"]
mod channel;
#[path = "common/test_ca.rs"]
mod test_ca;

use std::collections::BTreeMap;
use std::future::Future;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use chancery_api::SystemClock;
use chancery_issuance::{Certificate, KeyForm, KeySpec, PrivateKey, Signer as _};
use chancery_mesh::agent::{Issuer, KeyPair, Settings, run};
use chancery_mesh::proto::SECRET_TYPE;
use chancery_mesh::proto::envoy::discovery::{
    DeltaDiscoveryRequest, DiscoveryRequest, DiscoveryResponse, Node, Status as Refused,
};
use chancery_mesh::proto::envoy::secret::secret_discovery_service_client::SecretDiscoveryServiceClient;
use chancery_mesh::proto::envoy::tls::data_source::Specifier;
use chancery_mesh::proto::envoy::tls::secret::Type;
use chancery_mesh::proto::envoy::tls::{DataSource, Secret};
use chancery_mesh::proto::workload::spiffe_workload_api_client::SpiffeWorkloadApiClient;
use chancery_mesh::proto::workload::{JwtsvidRequest, X509BundlesRequest, X509svidRequest};
use prost::Message as _;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Request, Status, Streaming};

use ca_double::CaDouble;
use channel::Channel;
use test_ca::Ca;

const ID: &str = "spiffe://cluster.local/ns/sandbox/sa/httpbin";

/// A CA, the files of a pod, and perhaps an agent.
struct World {
    folder: tempfile::TempDir,
    double: CaDouble,
    variables: BTreeMap<String, String>,
}

struct Agent {
    socket: PathBuf,
    stop: oneshot::Sender<()>,
    task: JoinHandle<()>,
}

impl World {
    async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let ca = Ca::new("root");
        let path = |name: &str| folder.path().join(name).to_str().unwrap().to_owned();
        std::fs::write(path("roots.pem"), ca.root_pem()).unwrap();
        std::fs::write(path("token"), " the token\n").unwrap();
        let double = CaDouble::start(ca, "127.0.0.1:0").await;
        let variables = [
            ("CA_ADDR", double.address.to_string()),
            ("CA_ROOT_CA", path("roots.pem")),
            ("CHANCERY_AGENT_TOKEN_FILE", path("token")),
            ("CHANCERY_AGENT_CERTS", path("certs")),
            ("CHANCERY_AGENT_SOCKET", path("run/socket")),
            ("CHANCERY_AGENT_FILES_SOCKET", path("run/files-socket")),
            ("POD_NAMESPACE", "sandbox".to_owned()),
            ("SERVICE_ACCOUNT", "httpbin".to_owned()),
            ("ISTIO_META_CLUSTER_ID", "Kubernetes".to_owned()),
            ("CA_HEADER_X-REGION", "eu".to_owned()),
        ];
        let variables = variables.map(|(name, value)| (name.to_owned(), value)).into();
        Self { folder, double, variables }
    }

    fn set(&mut self, name: &str, value: &str) {
        self.variables.insert(name.to_owned(), value.to_owned());
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn settings(&self) -> Settings {
        let settings = Settings::read(&self.variables).unwrap();
        Settings { poll: Duration::from_millis(20), ..settings }
    }

    fn issuer(&self) -> Issuer {
        let settings = self.settings();
        Issuer::new(settings.ca.clone().unwrap(), &settings, Arc::new(SystemClock))
    }

    async fn agent(&self) -> Agent {
        self.agent_at(self.settings().socket).await
    }

    async fn agent_at(&self, socket: PathBuf) -> Agent {
        let (stop, stopped) = oneshot::channel();
        let settings = self.settings();
        let task = tokio::spawn(async move {
            run(settings, async move { drop(stopped.await) }).await.expect("it must start");
        });
        until(|| Channel::to(&socket), Option::is_some).await;
        Agent { socket, stop, task }
    }
}

impl Agent {
    async fn sds(&self) -> SecretDiscoveryServiceClient<Channel> {
        SecretDiscoveryServiceClient::new(Channel::to(&self.socket).await.unwrap())
    }

    async fn workload(&self) -> SpiffeWorkloadApiClient<Channel> {
        SpiffeWorkloadApiClient::new(Channel::to(&self.socket).await.unwrap())
    }

    /// A stream that has sent this request.
    async fn stream(&self, names: &[&str]) -> Stream {
        let (send, requests) = mpsc::channel(4);
        send.send(asks(names, "")).await.unwrap();
        let answers =
            self.sds().await.stream_secrets(ReceiverStream::new(requests)).await.unwrap().into_inner();
        Stream { send, answers }
    }

    async fn stop(self) {
        self.stop.send(()).unwrap();
        timeout(Duration::from_secs(5), self.task).await.expect("it must stop").unwrap();
    }
}

struct Stream {
    send: mpsc::Sender<DiscoveryRequest>,
    answers: Streaming<DiscoveryResponse>,
}

impl Stream {
    async fn next(&mut self) -> Result<DiscoveryResponse, Status> {
        timeout(Duration::from_secs(10), self.answers.message())
            .await
            .expect("it must answer")
            .map(Option::unwrap)
    }

    async fn is_quiet(&mut self) -> bool {
        timeout(Duration::from_millis(200), self.answers.message()).await.is_err()
    }
}

async fn until<T, F: Future<Output = T>>(mut look: impl FnMut() -> F, wanted: impl Fn(&T) -> bool) -> T {
    timeout(Duration::from_secs(10), async {
        loop {
            let seen = look().await;
            if wanted(&seen) {
                return seen;
            }
            sleep(Duration::from_millis(5)).await;
        }
    })
    .await
    .expect("it must come to that")
}

fn asks(names: &[&str], nonce: &str) -> DiscoveryRequest {
    DiscoveryRequest {
        node: Some(Node { id: "sidecar~10.0.0.1~httpbin".to_owned(), ..Node::default() }),
        resource_names: names.iter().map(|name| (*name).to_owned()).collect(),
        type_url: SECRET_TYPE.to_owned(),
        response_nonce: nonce.to_owned(),
        ..DiscoveryRequest::default()
    }
}

fn text(source: Option<DataSource>) -> String {
    match source.unwrap().specifier.unwrap() {
        Specifier::InlineBytes(bytes) => String::from_utf8(bytes.to_vec()).unwrap(),
        other => panic!("{other:?}"),
    }
}

/// The secrets of an answer: names, and chains or roots.
fn secrets(answer: &DiscoveryResponse) -> Vec<(String, String)> {
    let read = |any: &prost_types::Any| {
        assert_eq!(any.type_url, SECRET_TYPE);
        let secret = Secret::decode(any.value.as_slice()).unwrap();
        let pem = match secret.r#type.unwrap() {
            Type::TlsCertificate(certificate) => {
                let chain = text(certificate.certificate_chain);
                let key = PrivateKey::from_pem(&text(certificate.private_key)).unwrap();
                assert_eq!(Certificate::from_pem(&chain).unwrap().public_key(), Some(key.public_key()));
                chain
            }
            Type::ValidationContext(context) => text(context.trusted_ca),
        };
        (secret.name, pem)
    };
    answer.resources.iter().map(read).collect()
}

// The call of the CA.

#[tokio::test]
async fn a_call_brings_what_istio_brings_with_the_token_of_the_moment() {
    let world = World::new().await;
    let issuer = world.issuer();
    let issued = issuer.issue(None).await.unwrap();
    assert_eq!(issued.roots.pem, world.double.ca().root_pem());
    assert_eq!(issued.key_pair.certificates.len(), 2);
    std::fs::write(world.path("token"), "another").unwrap();
    issuer.issue(None).await.unwrap();

    let calls = world.double.calls();
    let header =
        |call: usize, name: &str| calls[call].metadata.get(name).map(|value| value.to_str().unwrap());
    assert_eq!(header(0, "authorization"), Some("Bearer the token"));
    assert_eq!(header(1, "authorization"), Some("Bearer another"));
    assert_eq!(header(0, "clusterid"), Some("Kubernetes"));
    assert_eq!(header(0, "x-region"), Some("eu"));
    assert_eq!(calls[0].request.validity_duration, 86400);
    let metadata = calls[0].request.metadata.as_ref().unwrap();
    assert!(metadata.fields.contains_key("CertSigner"));
    assert!(!calls[0].certificate);
    // A new key each time.
    assert_ne!(calls[0].request.csr, calls[1].request.csr);
}

#[tokio::test]
async fn what_may_go_away_is_asked_again_and_a_refusal_is_not() {
    let world = World::new().await;
    let issuer = world.issuer();
    let refuse = |codes: &[Code]| {
        world.double.state.calls.lock().unwrap().clear();
        *world.double.state.refusals.lock().unwrap() = codes.iter().copied().collect();
    };
    refuse(&[Code::Unavailable, Code::Internal, Code::ResourceExhausted, Code::Aborted]);
    issuer.issue(None).await.unwrap();
    assert_eq!(world.double.calls().len(), 5);

    refuse(&[Code::Unavailable; 6]);
    let error = issuer.issue(None).await.expect_err("five are enough");
    assert!(error.to_string().contains("Unavailable") && error.to_string().contains('5'), "{error}");
    assert_eq!(world.double.calls().len(), 5);

    for code in [Code::Unauthenticated, Code::InvalidArgument, Code::PermissionDenied, Code::Unknown] {
        refuse(&[code]);
        issuer.issue(None).await.expect_err("refused");
        assert_eq!(world.double.calls().len(), 1, "{code:?}");
    }
}

#[tokio::test]
async fn an_answer_without_roots_is_no_answer() {
    let world = World::new().await;
    *world.double.state.leaf_only.lock().unwrap() = true;
    let error = world.issuer().issue(None).await.expect_err("one element");
    assert!(error.to_string().contains("1 elements"), "{error}");
}

#[tokio::test]
async fn a_ca_that_the_roots_do_not_vouch_for_is_not_called() {
    let world = World::new().await;
    std::fs::write(world.path("roots.pem"), Ca::new("another").root_pem()).unwrap();
    let issuer = world.issuer();
    let error = issuer.issue(None).await.expect_err("another's certificate");
    assert!(error.to_string().contains("certificate"), "{error}");
    assert!(world.double.calls().is_empty());
    // The roots are read anew for each connection.
    std::fs::write(world.path("roots.pem"), world.double.ca().root_pem()).unwrap();
    issuer.issue(None).await.unwrap();
}

#[tokio::test]
async fn without_a_token_the_workloads_own_certificate_vouches() {
    let world = World::new().await;
    let issuer = world.issuer();
    let first = issuer.issue(None).await.unwrap();
    issuer.issue(Some(&first.key_pair)).await.unwrap();
    std::fs::remove_file(world.path("token")).unwrap();
    issuer.issue(Some(&first.key_pair)).await.unwrap();
    let calls = world.double.calls();
    let seen: Vec<_> =
        calls.iter().map(|call| (call.metadata.contains_key("authorization"), call.certificate)).collect();
    assert_eq!(seen, [(true, false), (true, false), (false, true)]);
}

#[tokio::test]
async fn a_provisioned_certificate_is_shown() {
    let mut world = World::new().await;
    let folder = world.path("provisioned");
    std::fs::create_dir(&folder).unwrap();
    let (leaf, key) = world.double.ca().leaf(ID);
    std::fs::write(folder.join("cert-chain.pem"), leaf).unwrap();
    std::fs::write(folder.join("key.pem"), key.as_bytes()).unwrap();
    world.set("PROV_CERT", folder.to_str().unwrap());
    world.issuer().issue(None).await.unwrap();
    assert!(world.double.calls()[0].certificate);
}

#[tokio::test]
async fn keys_are_of_the_kind_and_form_that_is_set() {
    let mut world = World::new().await;
    for (kind, pkcs8, spec, label) in [
        ("p384", "false", KeySpec::new("ec", 384).unwrap(), "-----BEGIN EC PRIVATE KEY-----"),
        ("rsa2048", "false", KeySpec::Rsa(2048), "-----BEGIN RSA PRIVATE KEY-----"),
        ("p256", "true", KeySpec::new("ec", 256).unwrap(), "-----BEGIN PRIVATE KEY-----"),
    ] {
        world.set("CHANCERY_AGENT_KEY", kind);
        world.set("PKCS8_KEY", pkcs8);
        let pair: KeyPair = world.issuer().issue(None).await.unwrap().key_pair;
        assert!(pair.key.starts_with(label), "{kind}");
        assert_eq!(PrivateKey::from_pem(&pair.key).unwrap().spec(), spec);
    }
}

// Secret discovery.

#[tokio::test]
async fn envoys_two_secrets_are_delivered_and_pushed_at_each_renewal() {
    let world = World::new().await;
    // Half a second, the least that there is, after each issuance.
    *world.double.state.life.lock().unwrap() = Some(Duration::from_secs(2));
    let agent = world.agent().await;
    let mut default = agent.stream(&["default"]).await;
    let mut roots = agent.stream(&["ROOTCA"]).await;

    let first = default.next().await.unwrap();
    let [(name, chain)] = &secrets(&first)[..] else { panic!("one secret") };
    assert_eq!(name, "default");
    assert!(chain.ends_with(&world.double.ca().root_pem()));
    assert_eq!(secrets(&roots.next().await.unwrap()), [("ROOTCA".to_owned(), world.double.ca().root_pem())]);
    default.send.send(asks(&["default"], &first.nonce)).await.unwrap();

    let second = default.next().await.unwrap();
    assert_ne!(second.version_info, first.version_info);
    assert_ne!(secrets(&second), secrets(&first));
    // The roots are the same, and nobody hears of them.
    assert!(roots.is_quiet().await);

    // A new root beside the old one.
    let old = world.double.ca().root_pem();
    *world.double.state.ca.lock().unwrap() = Arc::new(Ca::new("new"));
    old.clone_into(&mut world.double.state.further_roots.lock().unwrap());
    let both = roots.next().await.unwrap();
    let [(_, bundle)] = &secrets(&both)[..] else { panic!("one secret") };
    assert!(bundle.contains(&old) && bundle.contains(&world.double.ca().root_pem()));
    agent.stop().await;
    assert!(!world.path("run/socket").exists());
}

#[tokio::test]
async fn certificates_are_renewed_though_nobody_is_there() {
    let world = World::new().await;
    *world.double.state.life.lock().unwrap() = Some(Duration::from_secs(1));
    let agent = world.agent().await;
    until(|| async { world.double.calls().len() }, |calls| *calls >= 3).await;
    agent.stop().await;
}

#[tokio::test]
async fn who_asks_before_there_is_a_certificate_gets_it_when_it_comes() {
    let world = World::new().await;
    world.double.state.refusals.lock().unwrap().push_back(Code::Unauthenticated);
    let agent = world.agent().await;
    let mut both = agent.stream(&["default", "ROOTCA"]).await;
    // The CA refuses the first call, and is asked again half a second later.
    let mut names = Vec::new();
    while names.len() < 2 {
        names.extend(secrets(&both.next().await.unwrap()).into_iter().map(|(name, _)| name));
    }
    names.sort();
    assert_eq!(names, ["ROOTCA", "default"]);
    assert!(both.is_quiet().await);
    // Once both are there, one answer has both.
    let mut both = agent.stream(&["default", "ROOTCA"]).await;
    assert_eq!(secrets(&both.next().await.unwrap()).len(), 2);
    agent.stop().await;
}

#[tokio::test]
async fn an_unknown_name_ends_its_own_stream_and_no_other() {
    let world = World::new().await;
    let agent = world.agent().await;
    let mut good = agent.stream(&["default"]).await;
    good.next().await.unwrap();
    let status = agent.stream(&["kubernetes://gateway"]).await.next().await.expect_err("unknown");
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("kubernetes://gateway"));
    let mut anonymous = agent.stream(&[]).await;
    anonymous.send.send(asks(&["default"], "")).await.unwrap();
    anonymous.next().await.unwrap();

    let (send, requests) = mpsc::channel(4);
    send.send(DiscoveryRequest { node: None, ..asks(&["default"], "") }).await.unwrap();
    let answers = agent.sds().await.stream_secrets(ReceiverStream::new(requests)).await.unwrap().into_inner();
    let status = Stream { send, answers }.next().await.expect_err("nobody");
    assert_eq!((status.code(), status.message()), (Code::InvalidArgument, "missing node information"));

    good.send.send(asks(&["default"], "")).await.unwrap();
    good.next().await.unwrap();
    agent.stop().await;
}

#[tokio::test]
async fn a_refused_secret_is_not_sent_again_until_it_changes() {
    let world = World::new().await;
    let agent = world.agent().await;
    let mut stream = agent.stream(&["default"]).await;
    let first = stream.next().await.unwrap();
    let refused = Some(Refused { code: 13, message: "no PEM".to_owned(), details: Vec::new() });
    let refusal = DiscoveryRequest { error_detail: refused, ..asks(&["default"], &first.nonce) };
    stream.send.send(refusal).await.unwrap();
    assert!(stream.is_quiet().await);
    stream.send.send(asks(&["default", "ROOTCA"], &first.nonce)).await.unwrap();
    assert_eq!(secrets(&stream.next().await.unwrap())[0].0, "ROOTCA");
    agent.stop().await;
}

#[tokio::test]
async fn the_incremental_variant_knows_what_the_client_has() {
    let world = World::new().await;
    let agent = world.agent().await;
    let ask = |names: &[&str], versions: &[(&str, &str)]| DeltaDiscoveryRequest {
        node: asks(&[], "").node,
        type_url: SECRET_TYPE.to_owned(),
        resource_names_subscribe: names.iter().map(|name| (*name).to_owned()).collect(),
        initial_resource_versions: versions.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect(),
        ..DeltaDiscoveryRequest::default()
    };
    let begin = async |request| {
        let (send, requests) = mpsc::channel(4);
        send.send(request).await.unwrap();
        let answers = agent.sds().await.delta_secrets(ReceiverStream::new(requests)).await.unwrap();
        (send, answers.into_inner())
    };
    let (_send, mut answers) = begin(ask(&["default", "ROOTCA"], &[])).await;
    let mut versions = BTreeMap::new();
    for _ in 0..2 {
        let answer = answers.message().await.unwrap().unwrap();
        let [resource] = &answer.resources[..] else { panic!("one resource") };
        versions.insert(resource.name.clone(), resource.version.clone());
    }
    assert_eq!(versions.keys().collect::<Vec<_>>(), ["ROOTCA", "default"]);

    let known = [("default", versions["default"].as_str()), ("ROOTCA", "old")];
    let (_send, mut answers) = begin(ask(&["default", "ROOTCA"], &known)).await;
    assert_eq!(answers.message().await.unwrap().unwrap().resources[0].name, "ROOTCA");
    assert!(timeout(Duration::from_millis(200), answers.message()).await.is_err());
    agent.stop().await;
}

#[tokio::test]
async fn a_single_answer_has_all_names_and_files_among_them() {
    let world = World::new().await;
    let agent = world.agent().await;
    let file = format!("file-root:{}", world.path("roots.pem").display());
    let answer = agent.sds().await.fetch_secrets(asks(&["default", &file, "ROOTCA"], "")).await.unwrap();
    let names: Vec<_> = secrets(answer.get_ref()).into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["default", &file, "ROOTCA"]);
    for (names, code) in [(&["other"][..], Code::InvalidArgument), (&[], Code::InvalidArgument)] {
        assert_eq!(agent.sds().await.fetch_secrets(asks(names, "")).await.expect_err("no").code(), code);
    }
    agent.stop().await;
}

#[tokio::test]
async fn a_client_that_never_reads_keeps_nobody_else_waiting_and_nothing_of_it_is_kept() {
    let world = World::new().await;
    let agent = world.agent().await;
    agent.stream(&["default"]).await.next().await.unwrap();
    let flood = agent.stream(&["default"]).await;
    // Each of these asks for everything again; after what the windows hold nothing more is taken.
    let mut sent = 0_u32;
    while sent < 50_000
        && let Ok(Ok(())) = timeout(Duration::from_millis(500), flood.send.send(asks(&["default"], ""))).await
    {
        sent += 1;
    }
    assert!(sent < 20_000, "{sent} requests were taken");
    agent.stream(&["default"]).await.next().await.unwrap();
    agent.stop().await;
}

#[tokio::test]
async fn files_are_served_without_a_ca_and_followed() {
    let mut world = World::new().await;
    world.set("FILE_MOUNTED_CERTS", "true");
    let certs = world.path("certs");
    std::fs::create_dir(&certs).unwrap();
    let ca = world.double.ca();
    let write = |chain: &str, key: &str| {
        std::fs::write(certs.join("cert-chain.pem"), chain).unwrap();
        std::fs::write(certs.join("key.pem"), key).unwrap();
    };
    let agent = world.agent().await;
    let mut default = agent.stream(&["default"]).await;
    assert!(default.is_quiet().await);
    let (first, key) = ca.leaf(ID);
    write(&first, &key);
    assert_eq!(secrets(&default.next().await.unwrap())[0].1, first);
    let (second, key) = ca.leaf(ID);
    write(&second, &key);
    assert_eq!(secrets(&default.next().await.unwrap())[0].1, second);
    assert!(world.double.calls().is_empty());
    agent.stop().await;
}

#[tokio::test]
async fn issued_certificates_are_written_out() {
    let mut world = World::new().await;
    let folder = world.path("certs");
    world.set("OUTPUT_CERTS", folder.to_str().unwrap());
    let agent = world.agent().await;
    let chain = secrets(&agent.stream(&["default"]).await.next().await.unwrap())[0].1.clone();
    assert_eq!(std::fs::read_to_string(folder.join("cert-chain.pem")).unwrap(), chain);
    let key = PrivateKey::from_pem(&std::fs::read_to_string(folder.join("key.pem")).unwrap()).unwrap();
    assert_eq!(Certificate::from_pem(&chain).unwrap().public_key(), Some(key.public_key()));
    agent.stop().await;
}

#[tokio::test]
async fn another_providers_socket_is_left_to_it() {
    let world = World::new().await;
    let provider = world.agent().await;
    let files = world.agent_at(world.path("run/files-socket")).await;
    let name = format!("file-root:{}", world.path("roots.pem").display());
    let answer = files.stream(&[&name]).await.next().await.unwrap();
    assert_eq!(secrets(&answer)[0].1, world.double.ca().root_pem());
    provider.stream(&["default"]).await.next().await.unwrap();
    files.stop().await;
    provider.stream(&["default"]).await.next().await.unwrap();
    provider.stop().await;
}

// The Workload API.

fn spiffe<T>(message: T) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("workload.spiffe.io", "true".parse().unwrap());
    request
}

#[tokio::test]
async fn spiffe_clients_get_the_same_identity_without_the_root_in_the_chain() {
    let world = World::new().await;
    *world.double.state.life.lock().unwrap() = Some(Duration::from_secs(2));
    let agent = world.agent().await;
    let mut client = agent.workload().await;
    let mut svids = client.fetch_x509svid(spiffe(X509svidRequest {})).await.unwrap().into_inner();
    let first = svids.message().await.unwrap().unwrap();
    let [svid] = &first.svids[..] else { panic!("one identity") };
    assert_eq!(svid.spiffe_id, ID);
    let leaf = Certificate::from_der(&svid.x509_svid).unwrap();
    let key = PrivateKey::from_der(&svid.x509_svid_key).unwrap();
    assert_eq!(leaf.public_key(), Some(key.public_key()));
    assert_eq!(*key.to_der(KeyForm::Pkcs8), svid.x509_svid_key);
    assert_eq!(svid.bundle, world.double.ca().root().der());

    let mut bundles = client.fetch_x509_bundles(spiffe(X509BundlesRequest {})).await.unwrap().into_inner();
    let bundle = bundles.message().await.unwrap().unwrap().bundles;
    assert_eq!(bundle.len(), 1);
    assert_eq!(bundle["spiffe://cluster.local"], world.double.ca().root().der());

    // A renewal is news for the first, and none for the second.
    let second = timeout(Duration::from_secs(10), svids.message()).await.unwrap().unwrap().unwrap();
    assert_ne!(second.svids[0].x509_svid, svid.x509_svid);
    assert!(timeout(Duration::from_millis(100), bundles.message()).await.is_err());
    agent.stop().await;
}

#[tokio::test]
async fn the_workload_api_wants_its_header_and_has_no_tokens() {
    let world = World::new().await;
    let agent = world.agent().await;
    let mut client = agent.workload().await;
    let status = client.fetch_x509svid(X509svidRequest {}).await.expect_err("no header");
    assert_eq!(status.code(), Code::InvalidArgument);
    let status = client.fetch_x509_bundles(X509BundlesRequest {}).await.expect_err("no header");
    assert_eq!(status.code(), Code::InvalidArgument);
    let status = client.fetch_jwtsvid(JwtsvidRequest::default()).await.expect_err("no header");
    assert_eq!(status.code(), Code::InvalidArgument);
    let status = client.fetch_jwtsvid(spiffe(JwtsvidRequest::default())).await.expect_err("no tokens");
    assert_eq!(status.code(), Code::Unimplemented);
    agent.stop().await;
}

#[tokio::test]
async fn without_an_identity_spiffe_clients_are_told_to_come_again() {
    let world = World::new().await;
    *world.double.state.hang.lock().unwrap() = true;
    let agent = world.agent().await;
    let status = agent.workload().await.fetch_x509svid(spiffe(X509svidRequest {})).await.expect_err("none");
    assert_eq!(status.code(), Code::Unavailable);
    agent.stop().await;
}

#[tokio::test]
async fn a_stopped_agent_leaves_no_socket_and_the_next_one_serves() {
    let world = World::new().await;
    let first = world.agent().await;
    let mut stream = first.stream(&["default"]).await;
    stream.next().await.unwrap();
    first.stop().await;
    assert!(!Path::new(&world.path("run/socket")).exists());
    assert_eq!(stream.next().await.expect_err("it stopped").code(), Code::Unavailable);
    let second = world.agent().await;
    second.stream(&["default"]).await.next().await.unwrap();
    second.stop().await;
}
