//! Scenarios against a double of the API server, with a double of the issuer.

mod faults;
mod many;
mod outcomes;

use std::collections::VecDeque;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use chancery_api::FixedClock;
use chancery_issuance::{
    AiaUrls, CaRequest, CsrRequest, Curve, KeySpec, MountLimits, PrivateKey, RequestedNames, SerialNumber,
    Signer, create_csr, prepare_root,
};
use chancery_kubernetes::cert_manager::{CertificateRequest, Issuer};
use chancery_kubernetes::{ClientOptions, connect};
use chancery_testkit::kubernetes::ApiServer;
use data_encoding::BASE64;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use super::Reconciler;
use crate::cache::{RequestFacts, UnsignedFacts};
use crate::context::Context;
use crate::issuer::{IssuerKey, Order, Sign, SignError, Signed};
use crate::settings::Settings;
use crate::{Error, Key, Next};

const REQUESTS: &str = "certificaterequests";
const STATUS: &str = "certificaterequests/status";
const NAMESPACE: &str = "istio-system";

/// A CSR, and a certificate for its key.
struct Pair {
    csr: String,
    certificate: String,
}

static OURS: LazyLock<Pair> = LazyLock::new(pair);
static ANOTHERS: LazyLock<Pair> = LazyLock::new(pair);

fn pair() -> Pair {
    let key: Arc<dyn Signer> = Arc::new(PrivateKey::generate(KeySpec::Ec(Curve::P256)).expect("a key"));
    let request = CsrRequest {
        names: RequestedNames {
            uri_sans: vec!["spiffe://cluster.local/ns/a/sa/b".into()],
            ..RequestedNames::default()
        },
        critical_names: true,
        ..CsrRequest::default()
    };
    let csr = create_csr(&request, &*key).expect("a CSR").pem;
    let day = Duration::from_secs(86_400);
    let root = CaRequest::new("test", MountLimits { default_ttl: day, max_ttl: day });
    let serial = SerialNumber::generate(start(), [7; 14]);
    let root = prepare_root(&root, &key, &AiaUrls::default(), serial, start()).expect("a root");
    Pair { csr, certificate: root.sign().expect("signed").pem }
}

fn start() -> Timestamp {
    "2026-11-24T00:22:45.5Z".parse().expect("an instant")
}

/// An issuer's double. It signs unless its script says otherwise; each signature says which one it is.
#[derive(Default)]
struct TestSigner {
    script: Mutex<VecDeque<SignError>>,
    signed: Mutex<Vec<Key>>,
    asked: Mutex<usize>,
    meanwhile: Mutex<Option<Box<dyn FnOnce() + Send>>>,
    certificate: Mutex<Option<String>>,
}

impl TestSigner {
    fn fails(&self, error: SignError) {
        self.script.lock().expect("a lock").push_back(error);
    }

    /// Something happens while it signs.
    fn meanwhile(&self, happens: impl FnOnce() + Send + 'static) {
        *self.meanwhile.lock().expect("a lock") = Some(Box::new(happens));
    }

    /// How often it was asked, and how often it has signed.
    fn counts(&self) -> (usize, usize) {
        (*self.asked.lock().expect("a lock"), self.signed.lock().expect("a lock").len())
    }
}

#[async_trait]
impl Sign for TestSigner {
    async fn sign(&self, order: &Order<'_>) -> Result<Signed, SignError> {
        *self.asked.lock().expect("a lock") += 1;
        assert_eq!(order.csr_pem, OURS.csr);
        if let Some(happens) = self.meanwhile.lock().expect("a lock").take() {
            happens();
        }
        tokio::task::yield_now().await;
        if let Some(error) = self.script.lock().expect("a lock").pop_front() {
            return Err(error);
        }
        let mut signed = self.signed.lock().expect("a lock");
        signed.push(order.request.clone());
        let certificate = self.certificate.lock().expect("a lock").clone();
        let certificate = certificate.unwrap_or_else(|| OURS.certificate.clone());
        Ok(Signed {
            certificate: format!("signature {}\n{certificate}", signed.len()).into_bytes(),
            ca: Some(b"the root".to_vec()),
        })
    }
}

/// A cluster with a ready issuer, and a controller that knows what it is told.
struct Bed {
    server: Arc<ApiServer>,
    signer: Arc<TestSigner>,
    clock: Arc<FixedClock>,
    context: Context,
    events: JoinHandle<()>,
}

impl Drop for Bed {
    fn drop(&mut self) {
        self.events.abort();
    }
}

impl Bed {
    async fn new() -> Self {
        Self::with(Settings::default()).await
    }

    async fn with(settings: Settings) -> Self {
        let server = Arc::new(ApiServer::start().await);
        let bed = Self::beside(server, Arc::default(), settings).await;
        bed.issuer(true);
        bed
    }

    /// A controller that knows nothing yet.
    async fn beside(server: Arc<ApiServer>, signer: Arc<TestSigner>, settings: Settings) -> Self {
        let options = ClientOptions { server: Some(server.url()), ..ClientOptions::default() };
        let client = connect(&options).await.expect("a client");
        let clock = Arc::new(FixedClock::at(start()));
        let (context, write) = Context::new(client, settings, clock.clone());
        Self { server, signer, clock, context, events: tokio::spawn(write) }
    }

    /// The same controller after a restart.
    async fn restarted(&self) -> Self {
        let settings = Settings::clone(&self.context.settings);
        let bed = Self::beside(Arc::clone(&self.server), Arc::clone(&self.signer), settings).await;
        bed.learn();
        bed
    }

    fn issuer(&self, is_ready: bool) {
        let status = if is_ready { "True" } else { "False" };
        let object = json!({
            "metadata": { "name": "vault-issuer" },
            "spec": { "vault": { "server": "http://vault", "path": "istioca/sign/cluster-local", "auth": {} } },
            "status": { "conditions": [{ "type": "Ready", "status": status }] },
        });
        self.server.put("issuers", NAMESPACE, object);
        self.learn();
    }

    fn create(&self, name: &str) -> Value {
        let object = request(name);
        let created = self.server.put(REQUESTS, NAMESPACE, object);
        self.learn();
        created
    }

    /// The cache becomes what the API server has.
    fn learn(&self) {
        learn(&self.server, &self.context);
    }

    async fn reconcile(&self, name: &str) -> Result<Next, Error> {
        reconcile(&self.context, &*self.signer, &key(name)).await
    }

    /// Learns and reconciles, as often as something changes.
    async fn settle(&self, name: &str) {
        loop {
            self.learn();
            let before = self.server.get(REQUESTS, NAMESPACE, name);
            self.reconcile(name).await.expect("reconciled");
            if before == self.server.get(REQUESTS, NAMESPACE, name) {
                return;
            }
        }
    }

    fn get(&self, name: &str) -> Value {
        self.server.get(REQUESTS, NAMESPACE, name).expect("a request")
    }

    /// Type, status, reason and message of all its conditions.
    fn conditions(&self, name: &str) -> Vec<[String; 4]> {
        let object = self.get(name);
        let conditions = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let fields = ["type", "status", "reason", "message"];
        conditions.iter().map(|condition| fields.map(|field| text(&condition[field]))).collect()
    }

    /// Component, type, reason, message and count of the events of an object, in order, once so many are there.
    async fn events(&self, count: usize) -> Vec<(String, String, String, String, u64)> {
        let found = || self.server.list("events", Some(NAMESPACE));
        for _ in 0..400 {
            if found().len() >= count {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        // One more could come late.
        tokio::time::sleep(Duration::from_millis(20)).await;
        let mut events = found();
        let version = |event: &Value| {
            event["metadata"]["resourceVersion"].as_str().and_then(|version| version.parse::<u64>().ok())
        };
        events.sort_by_key(version);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let read = |event: &Value| {
            (
                text(&event["source"]["component"]),
                text(&event["type"]),
                text(&event["reason"]),
                text(&event["message"]),
                event["count"].as_u64().unwrap_or_default(),
            )
        };
        events.iter().map(read).collect()
    }
}

async fn reconcile(context: &Context, signer: &dyn Sign, key: &Key) -> Result<Next, Error> {
    Reconciler { context, signer }.reconcile(key).await
}

fn learn(server: &ApiServer, context: &Context) {
    let issuers = server.list("issuers", None).into_iter().map(|object| {
        let issuer: Issuer = serde_json::from_value(object).expect("an issuer");
        let name = issuer.metadata.name.clone().expect("a name");
        (IssuerKey::Namespaced { namespace: NAMESPACE.into(), name }, issuer)
    });
    context.cache.issuers.replace(issuers);
    let requests = server.list(REQUESTS, None).into_iter().map(|object| {
        let facts = facts(&serde_json::from_value(object).expect("a request"));
        (facts.key.clone(), facts)
    });
    context.cache.requests.replace(requests);
}

fn key(name: &str) -> Key {
    Key { namespace: NAMESPACE.into(), name: name.into() }
}

fn request(name: &str) -> Value {
    json!({
        "metadata": {
            "name": name,
            "annotations": {
                "istio.cert-manager.io/identities": "spiffe://cluster.local/ns/a/sa/b",
                "kubectl.kubernetes.io/last-applied-configuration": "{}",
            },
        },
        "spec": {
            "request": BASE64.encode(OURS.csr.as_bytes()),
            "issuerRef": { "name": "vault-issuer" },
            "duration": "1h0m0s",
            "usages": ["client auth", "server auth"],
        },
    })
}

fn facts(request: &CertificateRequest) -> RequestFacts {
    let metadata = &request.metadata;
    let status = request.status.clone().unwrap_or_default();
    RequestFacts {
        key: key(metadata.name.as_deref().expect("a name")),
        uid: metadata.uid.clone().expect("a UID"),
        owner: None,
        revision: None,
        private_key_secret: None,
        resource_version: metadata.resource_version.clone().expect("a version"),
        created: None,
        is_deleting: metadata.deletion_timestamp.is_some(),
        issuer_ref: request.spec.issuer_ref.clone(),
        conditions: status.conditions.clone(),
        failure_time: status.failure_time.map(|time| time.0),
        has_certificate: status.certificate.is_some(),
        names: None,
        public_key: None,
        usages: request.spec.usages.clone(),
        is_ca: request.spec.is_ca.unwrap_or_default(),
        duration: request.spec.duration.map(|duration| duration.0),
        unsigned: UnsignedFacts::unless_ended(request),
    }
}
