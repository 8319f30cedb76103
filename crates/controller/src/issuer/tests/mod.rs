//! What the tests of issuers share: authorities, CSRs, a cluster, and a server of the Vault API that does as it is told.

mod bao;
mod checks;
mod local;
mod real;
mod vault;
mod vault_double;

use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use chancery_api::{Clock, SystemClock};
use chancery_issuance::{
    AiaUrls, Certificate, CsrRequest, Curve, Issuer as Signing, IssuerOptions, KeyForm, KeyPolicy, KeySpec,
    PlainRequest, PlainSigner, PrivateKey, RequestedNames, SerialNumber, Signer, VerifiedCsr, create_csr,
    prepare_plain,
};
use chancery_kubernetes::cert_manager::{ClusterIssuer, Issuer};
use chancery_kubernetes::{ClientOptions, connect};
use chancery_testkit::kubernetes::ApiServer;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::*;
use crate::Next;

const DAY: Duration = Duration::from_secs(24 * 3600);

pub(super) fn now() -> Timestamp {
    static NOW: LazyLock<Timestamp> = LazyLock::new(|| SystemClock.now());
    *NOW
}

fn serial() -> SerialNumber {
    let mut random = [0; 14];
    aws_lc_rs::rand::fill(&mut random).unwrap();
    SerialNumber::generate(now(), random)
}

/// A key in PEM and a CSR.
pub(super) fn csr_with(common_name: &str, dns: &[&str], ip: &[&str], uri: &[&str]) -> (PrivateKey, String) {
    let key = PrivateKey::generate(KeySpec::Ec(Curve::P256)).unwrap();
    let owned = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    let names = RequestedNames {
        common_name: common_name.into(),
        alt_names: owned(dns),
        ip_sans: owned(ip),
        uri_sans: owned(uri),
        exclude_cn_from_sans: true,
        ..RequestedNames::default()
    };
    let csr = create_csr(&CsrRequest { names, ..CsrRequest::default() }, &key).unwrap();
    (key, csr.pem)
}

pub(super) fn csr(dns: &str) -> (PrivateKey, String) {
    csr_with("", &[dns], &[], &[])
}

pub(super) fn order_of(csr_pem: &str) -> Order<'_> {
    static KEY: LazyLock<IssuerKey> = LazyLock::new(|| key("issuer"));
    static REQUEST: LazyLock<Key> =
        LazyLock::new(|| Key { namespace: "default".into(), name: "request".into() });
    static ANNOTATIONS: BTreeMap<String, String> = BTreeMap::new();
    Order {
        issuer: &KEY,
        request: &REQUEST,
        csr_pem,
        duration: None,
        is_ca: false,
        usages: &[],
        annotations: &ANNOTATIONS,
    }
}

pub(super) fn key(name: &str) -> IssuerKey {
    IssuerKey::Namespaced { namespace: "default".into(), name: name.into() }
}

/// An authority with its key.
pub(super) struct Authority {
    pub(super) key: Arc<PrivateKey>,
    pub(super) certificate: Certificate,
    csr: VerifiedCsr,
}

impl Authority {
    pub(super) fn root(name: &str) -> Self {
        let (key, csr) = csr_with(name, &[], &[], &[]);
        let csr = VerifiedCsr::from_pem(&csr, &KeyPolicy::any()).unwrap();
        let key = Arc::new(key);
        let signer: Arc<dyn Signer> = Arc::clone(&key) as _;
        let urls = AiaUrls::default();
        let certificate = made(&Self::request(), &csr, PlainSigner::Itself(&signer, &urls));
        Self { key, certificate, csr }
    }

    fn request() -> PlainRequest {
        PlainRequest { is_ca: true, ttl: 3650 * DAY, ..PlainRequest::default() }
    }

    fn signing(&self) -> Signing {
        let signer: Arc<dyn Signer> = Arc::clone(&self.key) as _;
        Signing::new(self.certificate.clone(), signer, IssuerOptions::default()).unwrap()
    }

    pub(super) fn below(&self, name: &str) -> Self {
        let (key, csr) = csr_with(name, &[], &[], &[]);
        let csr = VerifiedCsr::from_pem(&csr, &KeyPolicy::any()).unwrap();
        let request = PlainRequest { ttl: 365 * DAY, ..Self::request() };
        let certificate = made(&request, &csr, PlainSigner::Issuer(&self.signing()));
        Self { key: Arc::new(key), certificate, csr }
    }

    /// Certifies another authority's name and key.
    pub(super) fn certify(&self, other: &Self) -> Certificate {
        let request = PlainRequest { ttl: 365 * DAY, ..Self::request() };
        made(&request, &other.csr, PlainSigner::Issuer(&self.signing()))
    }

    pub(super) fn leaf(&self, dns: &str) -> (PrivateKey, Certificate) {
        let (key, csr) = csr(dns);
        (key, self.sign(&csr, 3600))
    }

    pub(super) fn sign(&self, csr: &str, seconds: u64) -> Certificate {
        let csr = VerifiedCsr::from_pem(csr, &KeyPolicy::any()).unwrap();
        let request = PlainRequest { ttl: Duration::from_secs(seconds), ..PlainRequest::default() };
        made(&request, &csr, PlainSigner::Issuer(&self.signing()))
    }

    /// A Secret's data.
    pub(super) fn secret(&self, above: &[&Certificate]) -> Value {
        let mut pem = self.certificate.pem().to_owned();
        above.iter().for_each(|one| pem.push_str(one.pem()));
        json!({ "tls.crt": base64(&pem), "tls.key": base64(&self.key.to_pem(KeyForm::Pkcs8)) })
    }
}

fn made(request: &PlainRequest, csr: &VerifiedCsr, signer: PlainSigner<'_>) -> Certificate {
    prepare_plain(request, csr, signer, serial(), now()).unwrap().sign().unwrap().certificate().unwrap()
}

pub(super) fn base64(text: &str) -> Value {
    serde_json::to_value(k8s_openapi::ByteString(text.as_bytes().to_vec())).unwrap()
}

/// How many certificates a PEM text has.
pub(super) fn count(pem: &[u8]) -> usize {
    std::str::from_utf8(pem).unwrap().matches("BEGIN CERTIFICATE").count()
}

/// A cluster with a controller's context.
pub(super) struct Bed {
    pub(super) api: ApiServer,
    pub(super) context: Context,
    events: JoinHandle<()>,
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.events.abort();
    }
}

impl Bed {
    pub(super) async fn new() -> Self {
        let api = ApiServer::start().await;
        let options = ClientOptions { server: Some(api.url()), ..ClientOptions::default() };
        let client = connect(&options).await.unwrap();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let mut issuers = Issuers::new();
        issuers.vaults.limit = Duration::from_secs(2);
        let (context, write) = Context::new(client, Settings::default(), clock);
        let context = Context { issuers: Arc::new(issuers), ..context };
        context.issuers.attach(&context);
        Self { api, context, events: tokio::spawn(write) }
    }

    pub(super) fn secret(&self, name: &str, data: &Value) {
        self.api.put("secrets", "default", json!({ "metadata": { "name": name }, "data": data }));
    }

    /// Makes or changes the issuer `issuer`, as a user would and the watch tells.
    pub(super) fn issuer(&self, spec: &Value) {
        let object = json!({ "metadata": { "name": "issuer" }, "spec": spec });
        self.api.put("issuers", "default", object);
        self.watch();
    }

    /// What the watch would tell.
    pub(super) fn watch(&self) {
        if let Some(found) = self.api.get("issuers", "default", "issuer") {
            let issuer: Issuer = serde_json::from_value(found).unwrap();
            self.context.cache.issuers.apply(key("issuer"), issuer);
        }
        if let Some(found) = self.api.get("clusterissuers", "", "issuer") {
            let issuer: ClusterIssuer = serde_json::from_value(found).unwrap();
            let key = IssuerKey::Cluster { name: "issuer".into() };
            self.context.cache.issuers.apply(key, issuer.into());
        }
    }

    pub(super) async fn reconcile(&self) -> Result<Next, crate::Error> {
        let next = reconcile(&self.context, key("issuer")).await;
        self.watch();
        next
    }

    /// Status, reason and message of `Ready`.
    pub(super) fn ready(&self) -> (String, String, String) {
        let issuer = self.api.get("issuers", "default", "issuer").unwrap();
        let ready = &issuer["status"]["conditions"][0];
        let text = |field: &str| ready[field].as_str().unwrap_or_default().to_owned();
        assert_eq!(text("type"), "Ready");
        (text("status"), text("reason"), text("message"))
    }

    pub(super) async fn sign(&self, csr: &str) -> Result<Signed, SignError> {
        self.context.issuers.sign(&order_of(csr)).await
    }

    /// Waits for an event of this reason.
    pub(super) async fn event(&self, reason: &str) -> Value {
        for _ in 0..500 {
            let events = self.api.list("events", None);
            if let Some(found) = events.into_iter().find(|event| event["reason"] == reason) {
                return found;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("no event {reason}");
    }
}
