//! istiod's own certificate.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use chancery_issuance::{Certificate, PrivateKey, Signer as _, TrustDomain};
use chancery_mesh::ca::signer::{Purpose, SignedChain, Signer, SigningError, SigningRequest};
use chancery_mesh::kubernetes::{
    ActiveIssuer, IstiodCertificate, IstiodNames, IstiodSecret, KeyAlgorithm, run_istiod_certificate,
    run_istiod_secret,
};
use chancery_testkit::ca::Ca;
use chancery_testkit::kubernetes::{ApiServer, Fault};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::bed::{authority, background, clock, double, issuer, roots, until};

const HOME: &str = "istio-system";

fn names() -> IstiodNames {
    let domain = TrustDomain::new("cluster.local").expect("a trust domain");
    IstiodNames::new(&domain, HOME, &["default".into(), "canary".into()], &[]).expect("names")
}

#[tokio::test]
async fn the_certificate_is_created_repaired_and_moved_to_another_issuer() {
    let (server, client) = double().await;
    let active = Arc::new(ActiveIssuer::new(Some(issuer("first"))));
    let wanted = IstiodCertificate {
        name: "istiod-dynamic".into(),
        namespace: HOME.into(),
        names: names(),
        duration: Duration::from_secs(3600),
        renew_before: Duration::from_secs(1800),
        key: KeyAlgorithm::Rsa(2048),
        annotations: BTreeMap::new(),
    };
    server.inject("create", "certificates", Fault::Code(500), 1);
    let _running = background(run_istiod_certificate(client.clone(), wanted, active.subscribe()));
    let spec = || {
        server.get("certificates", HOME, "istiod-dynamic").map_or(Value::Null, |found| found["spec"].clone())
    };
    until("created", || spec()["issuerRef"]["name"] == "first").await;
    assert_eq!(spec()["secretName"], "istiod-tls");
    assert_eq!(spec()["dnsNames"], json!(["istiod.istio-system.svc", "istiod-canary.istio-system.svc"]));

    let mut broken = server.get("certificates", HOME, "istiod-dynamic").expect("a Certificate");
    broken["spec"]["duration"] = "2h".into();
    broken["spec"]["isCA"] = true.into();
    server.inject("update", "certificates", Fault::Race, 1);
    server.put("certificates", HOME, broken);
    until("repaired", || spec()["duration"] == "1h0m0s" && spec().get("isCA").is_none()).await;

    server.remove("certificates", HOME, "istiod-dynamic");
    until("made anew", || spec()["duration"] == "1h0m0s").await;

    server.namespace("cert-manager", &[]);
    let following = {
        let active = Arc::clone(&active);
        async move { active.follow_config_map(client, "cert-manager", "runtime").await }
    };
    let _following = background(following);
    server.put("configmaps", "cert-manager", json!({
        "metadata": { "name": "runtime" },
        "data": { "issuer-name": "second", "issuer-kind": "ClusterIssuer", "issuer-group": "cert-manager.io" },
    }));
    until("moved", || {
        spec()["issuerRef"]
            == json!({ "name": "second", "kind": "ClusterIssuer", "group": "cert-manager.io" })
    })
    .await;
}

/// Signs with an intermediate, as a server of ours would, and counts.
struct TestSigner {
    root: Ca,
    intermediate: Ca,
    life: Duration,
    signed: AtomicUsize,
    failing: AtomicUsize,
}

impl TestSigner {
    fn new(life: Duration) -> Arc<Self> {
        let root = authority("root");
        let intermediate = root.intermediate("intermediate");
        Arc::new(Self { root, intermediate, life, signed: AtomicUsize::new(0), failing: AtomicUsize::new(0) })
    }

    fn signed(&self) -> usize {
        self.signed.load(Ordering::SeqCst)
    }
}

#[async_trait]
impl Signer for TestSigner {
    async fn sign(&self, request: &SigningRequest) -> Result<SignedChain, SigningError> {
        if self.failing.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok() {
            return Err(SigningError::Unavailable("sealed".into()));
        }
        assert_eq!(request.purpose, Purpose::Serving);
        self.signed.fetch_add(1, Ordering::SeqCst);
        let leaf = self.intermediate.sign(&request.csr, self.life);
        let chain = [leaf.pem(), &self.root.pem(), &self.intermediate.pem()].map(str::trim_end).join("\n");
        Ok(SignedChain { chain, root: None })
    }
}

fn secret(life: Duration) -> IstiodSecret {
    let (namespace, names, key) = (HOME.to_owned(), names(), KeyAlgorithm::Ecdsa(256));
    IstiodSecret { namespace, names, duration: life, renew_before: life / 2, key }
}

fn text(server: &ApiServer, key: &str) -> Option<String> {
    let secret = server.get("secrets", HOME, "istiod-tls")?;
    let bytes = data_encoding::BASE64.decode(secret["data"][key].as_str()?.as_bytes()).expect("base64");
    Some(String::from_utf8(bytes).expect("text"))
}

#[tokio::test]
async fn the_secret_is_issued_once_kept_and_repaired() {
    let life = Duration::from_secs(3600);
    let (server, client) = double().await;
    let signer = TestSigner::new(life);
    signer.failing.store(1, Ordering::SeqCst);
    server.inject("create", "secrets", Fault::Code(500), 1);
    let (sender, receiver) = watch::channel(roots(&[&signer.root]));
    let run = || run_istiod_secret(client.clone(), secret(life), signer.clone(), receiver.clone(), clock());
    let running = background(run());
    until("issued", || text(&server, "tls.crt").is_some()).await;
    let stored = server.get("secrets", HOME, "istiod-tls").expect("a Secret");
    assert_eq!(stored["type"], "kubernetes.io/tls");
    let chain = Certificate::all_from_pem(&text(&server, "tls.crt").expect("a chain")).expect("certificates");
    assert_eq!(chain.len(), 2, "leaf and intermediate, no root");
    assert!(chain[0].is_signed_by(&chain[1]) && chain[1].is_signed_by(signer.root.certificate()));
    let key = PrivateKey::from_pem(&text(&server, "tls.key").expect("a key")).expect("a key");
    assert_eq!(chain[0].public_key(), Some(key.public_key()));
    assert_eq!(chain[0].common_name(), Some("istiod.istio-system.svc"));
    assert_eq!(text(&server, "ca.crt"), Some(signer.root.pem()));

    // Another leader finds it good.
    drop(running);
    let (signed, updates) = (signer.signed(), server.count("update", "secrets"));
    let looks = server.count("get", "secrets");
    let _running = background(run());
    until("looked at", || server.count("get", "secrets") > looks).await;
    let other = authority("other");
    sender.send_replace(roots(&[&signer.root, &other]));
    until("new roots", || text(&server, "ca.crt") == Some(signer.root.pem() + &other.pem())).await;
    assert_eq!(signer.signed(), signed, "roots need no new certificate");
    assert_eq!(server.count("update", "secrets"), updates + 1);

    let mut broken = server.get("secrets", HOME, "istiod-tls").expect("a Secret");
    broken["data"]["tls.key"] = "bm90IGEga2V5".into();
    broken["metadata"]["labels"] = json!({ "kept": "yes" });
    server.put("secrets", HOME, broken);
    until("repaired", || text(&server, "tls.key").is_some_and(|key| key.contains("PRIVATE KEY"))).await;
    let repaired = server.get("secrets", HOME, "istiod-tls").expect("a Secret");
    assert_eq!(repaired["metadata"]["labels"]["kept"], "yes");
    server.remove("secrets", HOME, "istiod-tls");
    until("made anew", || text(&server, "tls.crt").is_some()).await;
}

#[tokio::test]
async fn the_secret_is_renewed_before_its_certificate_ends() {
    // It begins half a minute before it is signed, so that a third of its life is over soon.
    let life = Duration::from_secs(4);
    let (server, client) = double().await;
    let signer = TestSigner::new(life);
    let (_sender, receiver) = watch::channel(roots(&[&signer.root]));
    let _running = background(run_istiod_secret(client, secret(life), signer.clone(), receiver, clock()));
    let begun = tokio::time::Instant::now();
    until("renewed twice", || signer.signed() >= 3).await;
    assert!(begun.elapsed() < life + life / 2, "each time before the end");
    let chain = Certificate::all_from_pem(&text(&server, "tls.crt").expect("a chain")).expect("certificates");
    assert!(chain[0].not_after().to_timestamp() > crate::bed::now());
    until("and written", || server.count("update", "secrets") >= 2).await;
}

#[tokio::test]
async fn what_does_not_lead_to_a_root_is_not_written() {
    let life = Duration::from_secs(3600);
    let (server, client) = double().await;
    let signer = TestSigner::new(life);
    let (_sender, receiver) = watch::channel(roots(&[&authority("other")]));
    let _running = background(run_istiod_secret(client, secret(life), signer.clone(), receiver, clock()));
    until("it was tried again", || signer.signed() >= 2).await;
    assert!(signer.signed() < 10, "with pauses");
    assert!(text(&server, "tls.crt").is_none());
}
