//! The webhook over TLS, as an API server calls it.

mod approvers;

use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use chancery_api::{Clock, SystemClock};
use chancery_issuance::{
    AiaUrls, CaRequest, Certificate, CsrRequest, Curve, KeySpec, MountLimits, PrivateKey, RequestedNames,
    SerialNumber, Signer, create_csr, prepare_root,
};
use chancery_kubernetes::cert_manager::{CertificateRequest, Issuer};
use chancery_kubernetes::{ClientOptions, connect};
use chancery_testkit::kubernetes::{ApiServer, Fault, Grant};
use data_encoding::BASE64;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use kube::Api;
use kube::api::PostParams;
use rustls::pki_types::{CertificateDer, ServerName};
use serde_json::{Value, json};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsConnector;

use approvers::Approvers;

use super::authority::agree;
use super::judge::Judge;
use super::listener::{self, Current};
use super::{dns_names, serve};
use crate::Key;
use crate::operator::check::check;
use crate::operator::decide::{Decision, decide};
use crate::settings::Settings;

pub(super) fn now() -> Timestamp {
    SystemClock.now()
}

pub(crate) async fn client(url: &str) -> kube::Client {
    let options = ClientOptions { server: Some(url.to_owned()), ..ClientOptions::default() };
    connect(&options).await.expect("a client")
}

/// A CSR as Istio's agents make it: one URI, no extensions beside. It is always the same.
pub(super) fn csr_pem() -> String {
    static CSR: LazyLock<String> = LazyLock::new(make_csr);
    CSR.clone()
}

fn make_csr() -> String {
    let key = PrivateKey::generate(KeySpec::Ec(Curve::P256)).expect("a key");
    let names = RequestedNames {
        uri_sans: vec!["spiffe://cluster.local/ns/foo/sa/sleep".into()],
        ..RequestedNames::default()
    };
    create_csr(&CsrRequest { names, critical_names: true, ..CsrRequest::default() }, &key).expect("a CSR").pem
}

/// A root made for a test.
pub(super) fn root() -> Certificate {
    let key: Arc<dyn Signer> = Arc::new(PrivateKey::generate(KeySpec::Ec(Curve::P256)).expect("a key"));
    let life = Duration::from_secs(3600);
    let limits = MountLimits { default_ttl: life, max_ttl: life };
    let request = CaRequest::new("root", limits);
    let serial = SerialNumber::generate(now(), [7; 14]);
    let root = prepare_root(&request, &key, &AiaUrls::default(), serial, now()).expect("a root");
    root.sign().expect("signed").certificate().expect("a certificate")
}

const SECRET: &str = "cert-manager-webhook-ca";
const NAME: &str = "cert-manager-webhook.kube-system.svc";

fn settings() -> Settings {
    Settings { webhook_namespace: "kube-system".into(), ..Settings::default() }
}

/// Sends a request as an API server does: over TLS, held against the bundle.
async fn send(
    address: SocketAddr,
    bundle: &str,
    request: Request<Full<Bytes>>,
) -> Result<(u16, String), String> {
    let mut roots = rustls::RootCertStore::empty();
    for root in Certificate::all_from_pem(bundle).expect("certificates") {
        roots.add(CertificateDer::from(root.der().to_vec())).expect("a root");
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let name = ServerName::try_from(NAME).expect("a name");
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await;
    let stream = TokioIo::new(stream.map_err(|error| error.to_string())?);
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(stream).await.map_err(|error| error.to_string())?;
    let connection = tokio::spawn(connection);
    let answer = sender.send_request(request).await.map_err(|error| error.to_string())?;
    let code = answer.status().as_u16();
    let body = answer.into_body().collect().await.map_err(|error| error.to_string())?.to_bytes();
    connection.abort();
    Ok((code, String::from_utf8_lossy(&body).into_owned()))
}

fn post(path: &str, body: impl Into<Bytes>) -> Request<Full<Bytes>> {
    Request::post(path).header("host", NAME).body(Full::new(body.into())).expect("a request")
}

/// The webhook, with somebody to ask who may approve.
struct Bed {
    address: SocketAddr,
    bundle: String,
    approvers: Approvers,
    _double: ApiServer,
    _stop: watch::Sender<bool>,
    _tasks: JoinSet<()>,
}

impl Bed {
    async fn new() -> Self {
        let double = ApiServer::start().await;
        let secrets: Api<Secret> = Api::namespaced(client(&double.url()).await, "kube-system");
        let authority = agree(&secrets, SECRET, now()).await.expect("an authority");
        let leaf = Current::default();
        leaf.store(Some(Arc::new(authority.leaf(&dns_names(&settings()), now()).expect("a leaf"))));
        let mut tasks = JoinSet::new();
        let approvers = Approvers::default();
        let judge = Judge::new(client(&approvers.clone().serve(&mut tasks).await).await);
        let socket = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let address = socket.local_addr().expect("an address");
        let (stop, stopped) = watch::channel(false);
        tasks.spawn(listener::serve(socket, leaf, Arc::new(judge), stopped));
        let bundle = authority.bundle;
        Self { address, bundle, approvers, _double: double, _stop: stop, _tasks: tasks }
    }

    async fn send(&self, request: Request<Full<Bytes>>) -> (u16, String) {
        send(self.address, &self.bundle, request).await.expect("an answer")
    }

    /// The response of a review.
    async fn review(&self, path: &str, request: Value) -> Value {
        let review =
            json!({ "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "request": request });
        let (code, text) = self.send(post(path, review.to_string())).await;
        assert_eq!(code, 200, "{text}");
        let answer: Value = serde_json::from_str(&text).expect("JSON");
        assert_eq!(
            (&answer["kind"], &answer["response"]["uid"]),
            (&json!("AdmissionReview"), &request["uid"])
        );
        answer["response"].clone()
    }
}

fn certificate_request(username: Option<&str>) -> Value {
    let mut spec =
        json!({ "issuerRef": { "name": "vault-issuer" }, "request": BASE64.encode(csr_pem().as_bytes()) });
    if let Some(username) = username {
        spec["username"] = username.into();
        spec["groups"] = json!(["system:authenticated"]);
    }
    json!({ "apiVersion": "cert-manager.io/v1", "kind": "CertificateRequest",
        "metadata": { "name": "r", "namespace": "istio-system" }, "spec": spec })
}

fn creation(kind: &str, object: Value) -> Value {
    json!({ "uid": "0b4c2f1e", "operation": "CREATE", "namespace": "istio-system", "object": object, "oldObject": null,
        "kind": { "group": "cert-manager.io", "version": "v1", "kind": kind },
        "userInfo": { "username": "ann", "groups": ["system:authenticated"] } })
}

/// Somebody writes a condition into the status of a request for this issuer.
fn decision(user: &str, issuer: Value, kind: &str) -> Value {
    let mut old = certificate_request(Some("ann"));
    old["spec"]["issuerRef"] = issuer;
    let mut new = old.clone();
    new["status"] =
        json!({ "conditions": [{ "type": kind, "status": "True", "reason": "R", "message": "M" }] });
    let mut review = creation("CertificateRequest", new);
    review["operation"] = "UPDATE".into();
    review["oldObject"] = old;
    review["subResource"] = "status".into();
    review["userInfo"] = json!({ "username": user });
    review
}

#[tokio::test]
async fn the_requester_is_written_into_a_request_and_then_believed() {
    let bed = Bed::new().await;
    let review = creation("CertificateRequest", certificate_request(None));
    let answer = bed.review("/mutate", review).await;
    assert_eq!((&answer["allowed"], &answer["patchType"]), (&json!(true), &json!("JSONPatch")));
    let patch = BASE64.decode(answer["patch"].as_str().expect("a patch").as_bytes()).expect("base64");
    assert_eq!(
        serde_json::from_slice::<Value>(&patch).expect("JSON"),
        json!([{ "op": "add", "path": "/spec/username", "value": "ann" },
            { "op": "add", "path": "/spec/groups", "value": ["system:authenticated"] }])
    );
    let good = creation("CertificateRequest", certificate_request(Some("ann")));
    assert_eq!(bed.review("/validate", good).await, json!({ "uid": "0b4c2f1e", "allowed": true }));
    let bad = creation("CertificateRequest", certificate_request(Some("root")));
    let answer = bed.review("/validate", bad).await;
    assert_eq!(
        answer["status"],
        json!({ "status": "Failure", "code": 406, "reason": "NotAcceptable",
            "message": "spec.username: Forbidden: username identity must be that of the requester" })
    );
}

#[tokio::test]
async fn every_kind_is_judged_and_others_are_let_through() {
    let bed = Bed::new().await;
    let refusal = async |kind: &str, object: Value| {
        let answer = bed.review("/validate", creation(kind, object)).await;
        answer["status"]["message"].as_str().map(str::to_owned)
    };
    let object = |spec: Value| json!({ "metadata": { "name": "a" }, "spec": spec });
    let issuer = object(json!({ "vault": { "server": "https://v", "path": "p", "auth": {} } }));
    for kind in ["Issuer", "ClusterIssuer"] {
        let message = refusal(kind, issuer.clone()).await.expect("a refusal");
        assert!(message.starts_with("spec.vault.auth: Required value: please supply one of: "), "{message}");
    }
    let certificate = object(json!({ "secretName": "s", "issuerRef": { "name": "i" } }));
    assert!(
        refusal("Certificate", certificate).await.expect("a refusal").contains("at least one of commonName")
    );
    assert_eq!(refusal("Gateway", json!(7)).await, None);
    let malformed = refusal("Certificate", json!({ "metadata": {}, "spec": 7 })).await.expect("a refusal");
    assert!(malformed.starts_with("the Certificate cannot be read: "), "{malformed}");
    let mut other = creation("Issuer", issuer.clone());
    other["kind"]["group"] = "acme.cert-manager.io".into();
    assert_eq!(bed.review("/validate", other).await["allowed"], true);
    // Labels of an object from before the rules.
    let mut kept = creation("Issuer", issuer.clone());
    kept["operation"] = "UPDATE".into();
    kept["oldObject"] = issuer;
    assert_eq!(bed.review("/validate", kept).await["allowed"], true);
    let warned = object(
        json!({ "vault": { "server": "http://v", "path": "p", "auth": { "tokenSecretRef": { "name": "t" } } } }),
    );
    let answer = bed.review("/validate", creation("Issuer", warned)).await;
    assert_eq!((&answer["allowed"], answer["warnings"].as_array().map(Vec::len)), (&json!(true), Some(1)));
}

#[tokio::test]
async fn only_approvers_of_its_issuer_decide_about_a_request() {
    let bed = Bed::new().await;
    let own = || json!({ "name": "vault-issuer" });
    let denied = bed.review("/validate", decision("eve", own(), "Approved")).await;
    assert_eq!(
        denied["status"]["message"],
        "status.conditions: Forbidden: user \"eve\" does not have permissions to set approved/denied conditions for issuer \
         {vault-issuer Issuer cert-manager.io}"
    );
    bed.approvers.allow("one", "issuers.cert-manager.io/istio-system.vault-issuer");
    bed.approvers.allow("all", "issuers.cert-manager.io/*");
    bed.approvers.allow("other", "issuers.cert-manager.io/default.vault-issuer");
    bed.approvers.allow("cluster", "clusterissuers.cert-manager.io/*");
    bed.approvers.allow("foreign", "signs.example.com/s");
    let cluster = || json!({ "name": "c", "kind": "ClusterIssuer" });
    let foreign = |name: &str| json!({ "name": name, "kind": "Sign", "group": "example.com" });
    for (user, issuer, allowed) in [
        ("one", own(), true),
        ("all", own(), true),
        ("other", own(), false),
        ("cluster", own(), false),
        ("cluster", cluster(), true),
        ("all", cluster(), false),
        ("foreign", foreign("s"), true),
        ("foreign", foreign("t"), false),
        ("all", json!({ "name": "s", "kind": "Sign", "group": "nowhere.example.com" }), false),
    ] {
        for kind in ["Approved", "Denied"] {
            let answer = bed.review("/validate", decision(user, issuer.clone(), kind)).await;
            assert_eq!(answer["allowed"], allowed, "{user} {issuer}: {answer}");
        }
    }
    // A status without a decision asks nobody.
    assert_eq!(bed.review("/validate", decision("eve", own(), "Ready")).await["allowed"], true);
}

#[tokio::test]
async fn who_may_approve_being_unknown_is_an_error_and_no_permission() {
    let bed = Bed::new().await;
    let judge = Judge::new(client("http://127.0.0.1:1").await);
    let review = decision("all", json!({ "name": "vault-issuer" }), "Approved");
    let review = serde_json::from_value(review).expect("a request");
    let answer = judge.judge(super::judge::Door::Validate, &review).await;
    let refusal = answer.refusal.expect("a refusal");
    assert_eq!((refusal.code, refusal.reason), (500, "InternalError"));
    drop(bed);
}

#[tokio::test]
async fn what_is_no_review_is_answered_and_does_no_harm() {
    let bed = Bed::new().await;
    let get = |path: &str| Request::get(path).header("host", NAME).body(Full::default()).expect("a request");
    for (request, code) in [
        (get("/healthz"), 200),
        (get("/validate"), 405),
        (get("/"), 404),
        (post("/elsewhere", "{}"), 404),
        (post("/validate", ""), 400),
        (post("/validate", "[[[["), 400),
        (post("/mutate", "{\"kind\":\"AdmissionReview\"}"), 400),
        (post("/validate", vec![0xff; 64]), 400),
        (post("/validate", "[".repeat(100_000)), 400),
        (post("/validate", vec![b' '; (7 << 20) + 1]), 413),
    ] {
        let path = request.uri().to_string();
        let (found, text) = bed.send(request).await;
        assert_eq!(found, code, "{path}: {text}");
    }
    // Every member missing, or of another kind.
    for request in [
        json!({ "uid": "u" }),
        json!({ "uid": "u", "operation": "CREATE", "kind": { "group": "cert-manager.io", "kind": "Issuer" } }),
        json!({ "uid": "u", "operation": "UPDATE", "object": [], "oldObject": 7,
            "kind": { "group": "cert-manager.io", "kind": "CertificateRequest" } }),
    ] {
        for path in ["/mutate", "/validate"] {
            bed.review(path, request.clone()).await;
        }
    }
    assert!(
        send(bed.address, root().pem(), get("/healthz")).await.is_err(),
        "another authority is not believed"
    );
}

/// A double that knows the configurations, as the chart makes them.
async fn cluster() -> ApiServer {
    let double = ApiServer::start().await;
    let configure = |kind: &str, path: &str, operations: &[&str], resources: &[&str]| {
        let service = json!({ "name": "cert-manager-webhook", "namespace": "kube-system", "path": path });
        let rule = json!({ "apiGroups": ["cert-manager.io"], "apiVersions": ["v1"], "operations": operations,
            "resources": resources, "scope": "*" });
        double.put(
            kind,
            "",
            json!({ "metadata": { "name": "cert-manager-webhook" }, "webhooks": [
                { "name": "webhook.cert-manager.io", "admissionReviewVersions": ["v1"], "sideEffects": "None",
                    "rules": [rule], "clientConfig": { "service": service } },
            ]}),
        );
    };
    configure("mutatingwebhookconfigurations", "/mutate", &["CREATE"], &["certificaterequests"]);
    configure("validatingwebhookconfigurations", "/validate", &["CREATE", "UPDATE"], &["*/*"]);
    double
}

async fn start(double: &ApiServer) -> (SocketAddr, watch::Sender<bool>, JoinHandle<()>) {
    let socket = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let address = socket.local_addr().expect("an address");
    double.service("kube-system", "cert-manager-webhook", address);
    let (stop, stopped) = watch::channel(false);
    let client = client(&double.url()).await;
    let running = serve(client, Arc::new(settings()), Arc::new(SystemClock), socket, stopped);
    (address, stop, tokio::spawn(running))
}

fn bundle_of(double: &ApiServer, plural: &str) -> String {
    let found = double.get(plural, "", "cert-manager-webhook").expect("a configuration");
    let bundle = found["webhooks"][0]["clientConfig"]["caBundle"].as_str().unwrap_or_default().to_owned();
    String::from_utf8(BASE64.decode(bundle.as_bytes()).expect("base64")).expect("PEM")
}

async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < Duration::from_secs(20), "in vain: {what}");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test]
async fn a_webhook_sets_itself_up_and_repairs_what_others_undo() {
    const VALIDATING: &str = "validatingwebhookconfigurations";
    let double = cluster().await;
    double.inject("create", "secrets", Fault::Code(500), 1);
    let (address, stop, running) = start(&double).await;
    let healthy = async || {
        let get = Request::get("/healthz").header("host", NAME).body(Full::default()).expect("a request");
        send(address, &bundle_of(&double, VALIDATING), get).await == Ok((200, "ok\n".into()))
    };
    until("API servers believe it", healthy).await;
    let both = async || bundle_of(&double, VALIDATING) == bundle_of(&double, "mutatingwebhookconfigurations");
    until("both configurations have it", both).await;
    // As an upgrade of the chart does.
    let mut wiped = double.get(VALIDATING, "", "cert-manager-webhook").expect("a configuration");
    wiped["webhooks"][0]["clientConfig"]["caBundle"] = Value::Null;
    double.put(VALIDATING, "", wiped);
    until("the bundle is back", async || !bundle_of(&double, VALIDATING).is_empty()).await;
    // As somebody does who wants a new authority.
    let before = bundle_of(&double, VALIDATING);
    double.remove("secrets", "kube-system", SECRET);
    until("there is another authority", async || bundle_of(&double, VALIDATING) != before).await;
    until("and it is served", healthy).await;
    let patches = double.count("patch", VALIDATING);
    tokio::time::sleep(Duration::from_millis(200)).await;
    assert_eq!(double.count("patch", VALIDATING), patches, "nothing is written that is there");
    stop.send(true).expect("it listens");
    tokio::time::timeout(Duration::from_secs(10), running).await.expect("it stops").expect("it ends");
}

/// A client of a user.
async fn client_of(double: &ApiServer, user: &str) -> kube::Client {
    double.user(user, user, &["system:authenticated"]);
    let mut file = tempfile::NamedTempFile::new().expect("a file");
    std::io::Write::write_all(&mut file, user.as_bytes()).expect("written");
    let (_, path) = file.keep().expect("kept");
    let options = ClientOptions {
        server: Some(double.url()),
        token_file: Some(path.clone()),
        ..ClientOptions::default()
    };
    let client = connect(&options).await.expect("a client");
    // It is read with the first request, and not again while it is fresh.
    drop(client.apiserver_version().await);
    drop(std::fs::remove_file(path));
    client
}

#[tokio::test]
async fn end_to_end_requests_are_named_judged_and_decided_by_those_who_may() {
    let double = cluster().await;
    let api = client(&double.url()).await;
    let ready = async || check(&api, "default").await;
    let missing = ready().await.expect_err("nothing listens").to_string();
    assert!(missing.starts_with("the cert-manager webhook deployment is not ready yet"), "{missing}");
    let (_, _stop, _running) = start(&double).await;
    until("the API is ready", async || ready().await.is_ok()).await;

    let requests: Api<CertificateRequest> = Api::namespaced(client_of(&double, "ann").await, "istio-system");
    let request: CertificateRequest =
        serde_json::from_value(certificate_request(Some("root"))).expect("a request");
    let made = requests.create(&PostParams::default(), &request).await.expect("created");
    assert_eq!(made.spec.username.as_deref(), Some("ann"), "whatever stood there");
    let mut changed = made.clone();
    changed.spec.is_ca = Some(true);
    let refused =
        requests.replace("r", &PostParams::default(), &changed).await.expect_err("it never changes");
    let refused = refused.to_string();
    let sentence = "admission webhook \"webhook.cert-manager.io\" denied the request: spec: Forbidden: cannot change spec \
                    after creation";
    assert!(refused.contains(sentence), "{refused}");

    let key = Key { namespace: "istio-system".into(), name: "r".into() };
    let approve = async |user: &str| {
        let client = client_of(&double, user).await;
        decide(&client, &key, Decision::Approve, ("R", "M"), now()).await
    };
    let refused = approve("eve").await.expect_err("she may not").to_string();
    assert!(
        refused.contains("user \"eve\" does not have permissions to set approved/denied conditions"),
        "{refused}"
    );
    let grant = Grant::new("bob", "approve", "cert-manager.io", "signers");
    double.grant(Grant { name: "issuers.cert-manager.io/istio-system.vault-issuer".into(), ..grant });
    assert!(approve("bob").await.expect("he may"));

    let issuers: Api<Issuer> = Api::namespaced(api.clone(), "default");
    let spec = json!({ "metadata": { "name": "i" }, "spec": { "vault": { "server": "https://v", "path": "p", "auth": {} } } });
    let issuer: Issuer = serde_json::from_value(spec).expect("an issuer");
    let refused =
        issuers.create(&PostParams::default(), &issuer).await.expect_err("there is no method").to_string();
    assert!(
        refused.contains("denied the request: spec.vault.auth: Required value: please supply one of"),
        "{refused}"
    );
}
