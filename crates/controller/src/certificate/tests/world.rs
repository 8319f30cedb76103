//! The world of these tests: an API server, the controller's cache as its watches would fill it, an issuer, a clock.

use std::pin::pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use chancery_api::{Clock as _, FixedClock};
use chancery_issuance::{
    AiaUrls, CaRequest, IssuanceRequest, Issuer, IssuerOptions, KeyPolicy, KeySpec, MountLimits, PrivateKey,
    Profile, ProfileConfig, RequestedNames, SerialNumber, Signer, VerifiedCsr, create_csr, prepare,
    prepare_root,
};
use chancery_kubernetes::ClientOptions;
use chancery_kubernetes::cert_manager::{Certificate, CertificateRequest};
use chancery_testkit::kubernetes::ApiServer;
use data_encoding::BASE64;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use tokio::task::JoinHandle;

use crate::cache::{RequestFacts, SecretFacts};
use crate::context::Context;
use crate::settings::Settings;
use crate::{Error, Key, Next, certificate};

pub(super) const NAMESPACE: &str = "istio-system";

const LIMITS: MountLimits =
    MountLimits { default_ttl: Duration::from_secs(3600), max_ttl: Duration::from_secs(10 * 365 * 86400) };

/// How the issuer of these tests answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Mood {
    /// With a certificate of this life.
    Signs(Duration),
    /// Not at all.
    Sleeps,
    /// It refuses for ever.
    Refuses,
    /// A person denies.
    Denies,
    /// With a certificate for another key.
    WrongKey,
    /// With bytes that are no certificate.
    Garbage,
}

pub(super) struct World {
    pub(super) server: ApiServer,
    pub(super) context: Context,
    pub(super) clock: Arc<FixedClock>,
    pub(super) mood: Mood,
    issuer: Issuer,
    events: Option<JoinHandle<()>>,
}

pub(super) fn start_time() -> Timestamp {
    "2026-11-24T00:20:30Z".parse().expect("an instant")
}

impl World {
    pub(super) async fn new() -> Self {
        Self::with(Settings::default()).await
    }

    pub(super) async fn with(settings: Settings) -> Self {
        let server = ApiServer::start().await;
        let options = ClientOptions { server: Some(server.url()), ..ClientOptions::default() };
        let client = chancery_kubernetes::connect(&options).await.expect("a client");
        let clock = Arc::new(FixedClock::at(start_time()));
        let (context, events) = Context::new(client, settings, clock.clone());
        let events = Some(tokio::spawn(events));
        let mood = Mood::Signs(Duration::from_secs(3600));
        Self { server, context, clock, mood, issuer: root(), events }
    }

    /// Without anybody who writes events: every request then is the controller's own.
    pub(super) fn silence_events(&mut self) {
        if let Some(events) = self.events.take() {
            events.abort();
        }
    }

    /// Sets the clock, perhaps back.
    pub(super) fn set_clock(&mut self, now: Timestamp) {
        self.clock = Arc::new(FixedClock::at(now));
        self.context.clock = self.clock.clone();
    }

    /// The time as it stands in objects.
    pub(super) fn clock_text(&self) -> String {
        self.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    /// The Certificate of the founding walkthrough, with changes to its spec.
    pub(super) fn apply(&self, name: &str, changes: &Value) {
        let mut spec = json!({
            "secretName": format!("{name}-tls"),
            "commonName": "istiod.istio-system.svc",
            "dnsNames": ["istiod.istio-system.svc"],
            "uris": ["spiffe://cluster.local/ns/istio-system/sa/istiod-service-account"],
            "duration": "1h", "renewBefore": "30m",
            "privateKey": { "rotationPolicy": "Always", "algorithm": "ECDSA", "size": 256 },
            "issuerRef": { "name": "vault-issuer", "kind": "Issuer", "group": "cert-manager.io" },
        });
        for (field, value) in changes.as_object().into_iter().flatten() {
            spec[field] = value.clone();
        }
        let existing = self.server.get("certificates", NAMESPACE, name);
        let metadata =
            existing.map_or_else(|| json!({ "name": name }), |existing| existing["metadata"].clone());
        self.server.put("certificates", NAMESPACE, json!({ "metadata": metadata, "spec": spec }));
    }

    pub(super) fn status(&self, name: &str) -> Value {
        self.server.get("certificates", NAMESPACE, name).expect("a Certificate")["status"].clone()
    }

    pub(super) fn condition(&self, name: &str, kind: &str) -> Value {
        let status = self.status(name);
        let conditions = status["conditions"].as_array().cloned().unwrap_or_default();
        conditions.into_iter().find(|one| one["type"] == kind).unwrap_or(Value::Null)
    }

    pub(super) fn secret(&self, name: &str) -> Option<Value> {
        self.server.get("secrets", NAMESPACE, name)
    }

    pub(super) fn names(&self, plural: &str) -> Vec<String> {
        let all = self.server.list(plural, Some(NAMESPACE));
        all.iter().map(|one| one["metadata"]["name"].as_str().unwrap_or_default().to_owned()).collect()
    }

    /// Fills the cache as watches that have caught up would.
    pub(super) fn sync(&self) {
        let cache = &self.context.cache;
        let list = |plural| self.server.list(plural, None);
        let certificates = list("certificates").into_iter().map(|one| (key(&one), read::<Certificate>(one)));
        cache.certificates.replace(certificates);
        let requests = list("certificaterequests")
            .into_iter()
            .map(|one| (key(&one), RequestFacts::of(&read::<CertificateRequest>(one)).expect("facts")));
        cache.requests.replace(requests);
        let labelled = |one: &Value| {
            let labels = &one["metadata"]["labels"];
            labels["controller.cert-manager.io/fao"] == "true"
                || labels["cert-manager.io/next-private-key"] == "true"
        };
        let secrets = list("secrets")
            .into_iter()
            .filter(labelled)
            .map(|one| (key(&one), SecretFacts::of(&read::<Secret>(one)).expect("facts")));
        cache.secrets.replace(secrets);
    }

    pub(super) async fn reconcile(&self, name: &str) -> Result<Next, Error> {
        certificate::reconcile(&self.context, of(name)).await
    }

    /// Lets the controller and the issuer work until nothing moves any more; says when the Certificate is due again.
    pub(super) async fn settle(&self, name: &str) -> Next {
        let mut last = Err(Error::Other("not yet".to_owned()));
        for _ in 0..40 {
            let before = self.versions();
            self.sync();
            last = self.reconcile(name).await;
            self.sign();
            if let Ok(next) = last
                && self.versions() == before
            {
                return next;
            }
        }
        panic!("it never comes to rest: {last:?}");
    }

    pub(super) fn versions(&self) -> Vec<String> {
        ["certificates", "certificaterequests", "secrets"]
            .iter()
            .flat_map(|plural| self.server.list(plural, None))
            .map(|one| format!("{}/{}", one["metadata"]["uid"], one["metadata"]["resourceVersion"]))
            .collect()
    }

    /// Reconciles until so many requests have arrived, and not a step further: what the last one answered is never seen.
    /// Says whether it came to its end before.
    pub(super) async fn killed_after(&self, name: &str, requests: usize) -> bool {
        let begin = self.server.requests().len();
        let mut work = pin!(self.reconcile(name));
        std::future::poll_fn(|context| {
            if self.server.requests().len() - begin >= requests {
                return Poll::Ready(false);
            }
            work.as_mut().poll(context).map(|_| true)
        })
        .await
    }

    /// The issuer and the approver do their part.
    pub(super) fn sign(&self) {
        for one in self.server.list("certificaterequests", None) {
            if one["status"]["conditions"].is_array() {
                continue;
            }
            let name = one["metadata"]["name"].as_str().expect("a name").to_owned();
            let request: CertificateRequest = read(one);
            let csr = request.spec.request.as_str().expect("text").to_owned();
            let now = self.clock_text();
            let ready = |status: &str, reason: &str, message: &str| json!({ "type": "Ready", "status": status, "reason": reason, "message": message, "lastTransitionTime": now });
            let issued = |chain: &[u8]| {
                let root = self.issuer.certificate().pem();
                json!({
                    "conditions": [ready("True", "Issued", "Certificate fetched from issuer successfully")],
                    "certificate": BASE64.encode(chain), "ca": BASE64.encode(root.as_bytes()),
                })
            };
            let status = match &self.mood {
                Mood::Sleeps => continue,
                Mood::Signs(life) => issued(self.signed(&csr, *life).as_bytes()),
                Mood::WrongKey => {
                    let key = PrivateKey::generate(KeySpec::Ed25519).expect("a key");
                    let other = create_csr(&chancery_issuance::CsrRequest::default(), &key).expect("a CSR");
                    issued(self.signed(&other.pem, Duration::from_secs(3600)).as_bytes())
                }
                Mood::Garbage => issued(b"nothing"),
                Mood::Refuses => json!({
                    "conditions": [ready("False", "Failed", "no such name")], "failureTime": now,
                }),
                Mood::Denies => json!({ "conditions": [{
                    "type": "Denied", "status": "True", "reason": "Somebody", "message": "not today",
                    "lastTransitionTime": now,
                }] }),
            };
            assert!(self.server.set_status("certificaterequests", NAMESPACE, &name, status));
        }
    }

    fn signed(&self, csr: &str, life: Duration) -> String {
        let csr = VerifiedCsr::from_pem(csr, &KeyPolicy::any()).expect("a CSR");
        let profile = Profile::new(ProfileConfig {
            require_cn: false,
            basic_constraints_valid_for_non_ca: true,
            use_csr_values: false,
            not_before_duration: Duration::from_secs(30),
            ..ProfileConfig::verbatim()
        })
        .expect("a profile");
        let mut request = IssuanceRequest::new(&RequestedNames::default(), Some(&csr), &profile, LIMITS)
            .expect("a request");
        request.ttl = Some(life);
        let now = self.clock.now();
        let prepared =
            prepare(&request, &csr.key(), &profile, &self.issuer, serial(now), now).expect("a leaf");
        prepared.sign().expect("a leaf").pem
    }

    /// Type, reason and message of the events so far, once as many are written.
    pub(super) async fn events(&self, at_least: usize) -> Vec<String> {
        for _ in 0..200 {
            let found = self.server.list("events", Some(NAMESPACE));
            if found.len() >= at_least {
                let mut found = found;
                found.sort_by_key(|one| {
                    one["metadata"]["resourceVersion"]
                        .as_str()
                        .and_then(|version| version.parse::<u64>().ok())
                });
                let text = |one: &Value, field: &str| one[field].as_str().unwrap_or_default().to_owned();
                return found
                    .iter()
                    .map(|one| {
                        let component = one["source"]["component"].as_str().unwrap_or_default();
                        let component = component.trim_start_matches("cert-manager-certificates-");
                        format!(
                            "{component} {} {}: {}",
                            text(one, "type"),
                            text(one, "reason"),
                            text(one, "message")
                        )
                    })
                    .collect();
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        panic!("there are not as many events: {:?}", self.server.list("events", Some(NAMESPACE)));
    }
}

pub(super) fn of(name: &str) -> Key {
    Key { namespace: NAMESPACE.to_owned(), name: name.to_owned() }
}

fn key(object: &Value) -> Key {
    let text = |field: &str| object["metadata"][field].as_str().unwrap_or_default().to_owned();
    Key { namespace: text("namespace"), name: text("name") }
}

fn read<T: DeserializeOwned>(object: Value) -> T {
    serde_json::from_value(object).expect("an object that can be read")
}

fn serial(now: Timestamp) -> SerialNumber {
    let mut random = [0; 14];
    aws_lc_rs::rand::fill(&mut random).expect("randomness");
    SerialNumber::generate(now, random)
}

fn root() -> Issuer {
    let key: Arc<dyn Signer> =
        Arc::new(PrivateKey::generate(KeySpec::new("ec", 256).expect("a key")).expect("a key"));
    let request =
        CaRequest { ttl: Some(Duration::from_secs(5 * 365 * 86400)), ..CaRequest::new("root", LIMITS) };
    let now = start_time();
    let prepared = prepare_root(&request, &key, &AiaUrls::default(), serial(now), now).expect("a root");
    let certificate = prepared.sign().expect("a root").certificate().expect("a root");
    Issuer::new(certificate, key, IssuerOptions::default()).expect("an issuer")
}
