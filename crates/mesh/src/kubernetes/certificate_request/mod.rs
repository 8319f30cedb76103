//! Signing by cert-manager: a CertificateRequest is created, whoever may approves and signs it, and it is deleted.
//!
//! All requests share one watch of the namespace. It resumes where it broke and begins anew where it cannot; a request
//! that it stays silent about is asked for by name now and then.

mod discard;
mod outcome;
mod waiting;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use chancery_api::Clock;
use kube::api::{DynamicObject, ObjectMeta, PostParams};
use kube::runtime::watcher;
use kube::{Api, Client};
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use self::outcome::Outcome;
use self::waiting::Waiting;
use super::issuer::IssuerWatch;
use crate::ca::signer::{Purpose, SignedChain, Signer, SigningError, SigningRequest};
use chancery_kubernetes::cert_manager::{
    CertificateRequest, CertificateRequestSpec, IssuerReference, KeyUsage,
};
use chancery_kubernetes::{AT_ONCE, ApiError, follow, optional, request, untyped};

/// The annotation that names whom a request is for.
pub const IDENTITIES: &str = "istio.cert-manager.io/identities";

/// What stands there for the service's own certificate.
const SERVING: &str = "istio-csr-serving";

const GENERATE_NAME: &str = "istio-csr-";

/// The shared watch is opened anew this often, which bounds how long a dead connection goes unnoticed.
const WATCH_SECONDS: u32 = 60;

/// How long the watch may be silent about a request before the API server is asked for it; then twice as long, and so on.
const ASK_AFTER: Duration = Duration::from_secs(3);

/// How requests are made.
#[derive(Debug, Clone)]
pub struct CertificateRequestSettings {
    /// `--certificate-namespace`
    pub namespace: String,
    /// `--certificate-request-additional-annotations`; they go over ours.
    pub additional_annotations: BTreeMap<String, String>,
    /// `--preserve-certificate-requests`: none is deleted, leftovers neither.
    pub preserve: bool,
    /// How long a request may take, from its creation to its signature.
    pub deadline: Duration,
    /// From what age on a request is a leftover: longer than any deadline of any replica.
    pub leftover_age: Duration,
}

impl CertificateRequestSettings {
    /// The usual settings for a namespace.
    pub fn new(namespace: impl Into<String>) -> Self {
        Self {
            namespace: namespace.into(),
            additional_annotations: BTreeMap::new(),
            preserve: false,
            deadline: Duration::from_secs(30),
            leftover_age: Duration::from_secs(900),
        }
    }
}

/// Signs by CertificateRequests. What it does in the background ends when it is dropped.
#[derive(Debug)]
pub struct CertificateRequestSigner {
    api: Api<CertificateRequest>,
    /// To read them by: others' may be malformed.
    untyped: Api<DynamicObject>,
    settings: CertificateRequestSettings,
    issuer: IssuerWatch,
    waiting: Arc<Waiting>,
    creating: Semaphore,
    /// `None` once it was shut down.
    discarded: Mutex<Option<mpsc::Sender<String>>>,
    deletions: tokio::sync::Mutex<JoinSet<()>>,
    background: Mutex<JoinSet<()>>,
}

impl CertificateRequestSigner {
    /// Starts the shared watch, the deletions, and a clean-up of what was left behind.
    pub fn start(
        client: Client,
        settings: CertificateRequestSettings,
        issuer: IssuerWatch,
        clock: Arc<dyn Clock>,
    ) -> Self {
        let untyped = untyped::<CertificateRequest>(client.clone(), Some(&settings.namespace));
        let api: Api<CertificateRequest> = Api::namespaced(client, &settings.namespace);
        let waiting = Arc::new(Waiting::default());
        let (discarded, names) = mpsc::channel(discard::QUEUE);
        let (mut background, mut deletions) = (JoinSet::new(), JoinSet::new());
        let (watched, told) = (untyped.clone(), Arc::clone(&waiting));
        background.spawn(async move {
            let config = watcher::Config::default().timeout(WATCH_SECONDS);
            follow(watched, config, "certificate requests", |event| told.apply(event)).await;
        });
        deletions.spawn(discard::delete_all(untyped.clone(), names));
        if settings.preserve {
            tracing::warn!("CertificateRequests are kept: they pile up. This is for debugging only.");
        } else {
            let (api, queue, age) = (untyped.clone(), discarded.clone(), settings.leftover_age);
            background.spawn(discard::clean_up(api, queue, age, move || clock.now()));
        }
        let deletions = tokio::sync::Mutex::new(deletions);
        let creating = Semaphore::new(AT_ONCE);
        let (discarded, background) = (Mutex::new(Some(discarded)), Mutex::new(background));
        Self { api, untyped, settings, issuer, waiting, creating, discarded, deletions, background }
    }

    /// Ends it, but not before the deletions that are due are done, or this much time has passed.
    pub async fn shut_down(&self, patience: Duration) {
        // The deletions end when the last sender of names is gone; the clean-up has one.
        self.background.lock().unwrap_or_else(PoisonError::into_inner).abort_all();
        drop(self.discarded.lock().unwrap_or_else(PoisonError::into_inner).take());
        let mut deletions = self.deletions.lock().await;
        if timeout(patience, async { while deletions.join_next().await.is_some() {} }).await.is_err() {
            tracing::warn!("not all CertificateRequests could be deleted; the next clean-up will");
        }
    }

    async fn result(&self, name: &str) -> Outcome {
        let mut told = self.waiting.wait(name);
        let mut silence = ASK_AFTER;
        loop {
            tokio::select! {
                outcome = &mut told => {
                    let lost = || Err(SigningError::Unavailable("the wait was given up".into()));
                    return outcome.unwrap_or_else(|_| lost());
                }
                () = sleep(silence) => {
                    silence *= 2;
                    match optional(self.untyped.get(name)).await {
                        Ok(Some(found)) => self.waiting.observe(found),
                        Ok(None) => self.waiting.deleted(name),
                        Err(error) => tracing::debug!(name, %error, "a CertificateRequest cannot be read"),
                    }
                }
            }
        }
    }
}

#[async_trait]
impl Signer for CertificateRequestSigner {
    async fn sign(&self, wanted: &SigningRequest) -> Result<SignedChain, SigningError> {
        let issuer = self.issuer.borrow().clone();
        let Some(issuer) = issuer else {
            return Err(SigningError::Unavailable("no issuer is configured".into()));
        };
        let object = certificate_request(wanted, &issuer, &self.settings.additional_annotations);
        let created = {
            // It is never closed, so there always is a permit in the end.
            let _permit = self.creating.acquire().await;
            request(self.api.create(&PostParams::default(), &object)).await.map_err(not_created)?
        };
        let Some(name) = created.metadata.name.clone() else {
            return Err(SigningError::Unavailable("the API server created a request without a name".into()));
        };
        // From here on it is deleted, whether this ends well, badly, or in the middle because nobody waits any more.
        let _discard = Discard { signer: self, name: &name, issuer: &issuer };
        if let Some(outcome) = outcome::outcome(&created) {
            return outcome;
        }
        let Ok(outcome) = timeout(self.settings.deadline, self.result(&name)).await else {
            let pending = self.waiting.forget(&name).unwrap_or_else(|| "it was answered just now".into());
            let limit = self.settings.deadline;
            return Err(SigningError::Unavailable(format!(
                "CertificateRequest {name} for {issuer} was not signed within {limit:?}: {pending}"
            )));
        };
        outcome
    }
}

/// Deletes a request when its signing ends, however it ends.
struct Discard<'a> {
    signer: &'a CertificateRequestSigner,
    name: &'a str,
    issuer: &'a IssuerReference,
}

impl Drop for Discard<'_> {
    fn drop(&mut self) {
        let Self { signer, name, issuer } = self;
        // Whoever asked has gone, and nobody else will say what the request was stuck at.
        if let Some(pending) = signer.waiting.forget(name) {
            tracing::warn!(name, %issuer, pending, "a CertificateRequest was not signed as long as was waited for");
        }
        let discarded = signer.discarded.lock().unwrap_or_else(PoisonError::into_inner);
        let queue = |queue: &mpsc::Sender<String>| queue.try_send((*name).to_owned()).is_ok();
        if !signer.settings.preserve && !discarded.as_ref().is_some_and(queue) {
            tracing::warn!(name, "too many deletions are due; this one is left for the next clean-up");
        }
    }
}

/// What is sent to the API server.
fn certificate_request(
    wanted: &SigningRequest,
    issuer: &IssuerReference,
    additional: &BTreeMap<String, String>,
) -> CertificateRequest {
    let (identities, usages) = match wanted.purpose {
        Purpose::Workload => (wanted.identities.join(","), vec![KeyUsage::ClientAuth, KeyUsage::ServerAuth]),
        Purpose::Serving => (SERVING.to_owned(), vec![KeyUsage::ServerAuth]),
    };
    let mut annotations = BTreeMap::from([(IDENTITIES.to_owned(), identities)]);
    annotations.extend(additional.clone());
    CertificateRequest::new(
        ObjectMeta {
            generate_name: Some(GENERATE_NAME.to_owned()),
            annotations: Some(annotations),
            ..ObjectMeta::default()
        },
        CertificateRequestSpec {
            duration: Some(wanted.duration.into()),
            issuer_ref: issuer.clone(),
            is_ca: Some(false),
            request: wanted.csr.as_str().into(),
            usages,
            ..CertificateRequestSpec::default()
        },
    )
}

/// Whether a request that could not be created can be some other time.
fn not_created(error: ApiError) -> SigningError {
    let reason = format!("the CertificateRequest could not be created: {error}");
    // 404: neither the namespace nor cert-manager's definitions need be there yet.
    if error.is_transient() || error.is_not_found() {
        SigningError::Unavailable(reason)
    } else {
        SigningError::Refused(reason)
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_request_says_exactly_what_istio_csr_says() {
        let issuer = IssuerReference::new("istio-ca", "Issuer", "cert-manager.io");
        let mut wanted = SigningRequest {
            csr: "csr".into(),
            identities: vec!["spiffe://cluster.local/ns/sandbox/sa/httpbin".into()],
            duration: Duration::from_secs(3600),
            purpose: Purpose::Workload,
        };
        let additional = BTreeMap::from([("example.com/team".to_owned(), "mesh".to_owned())]);
        let workload = json!({
            "apiVersion": "cert-manager.io/v1",
            "kind": "CertificateRequest",
            "metadata": {
                "generateName": "istio-csr-",
                "annotations": {
                    "istio.cert-manager.io/identities": "spiffe://cluster.local/ns/sandbox/sa/httpbin",
                    "example.com/team": "mesh",
                },
            },
            "spec": {
                "duration": "1h0m0s",
                "isCA": false,
                "request": "Y3Ny",
                "usages": ["client auth", "server auth"],
                "issuerRef": { "name": "istio-ca", "kind": "Issuer", "group": "cert-manager.io" },
            },
        });
        let sent = serde_json::to_value(certificate_request(&wanted, &issuer, &additional)).expect("JSON");
        assert_eq!(sent, workload);

        wanted.purpose = Purpose::Serving;
        let sent = certificate_request(&wanted, &issuer, &BTreeMap::new());
        assert_eq!(sent.spec.usages, [KeyUsage::ServerAuth]);
        assert_eq!(sent.metadata.annotations.expect("annotations")[IDENTITIES], "istio-csr-serving");
        let over = BTreeMap::from([(IDENTITIES.to_owned(), "ours".to_owned())]);
        let sent = certificate_request(&wanted, &issuer, &over);
        assert_eq!(sent.metadata.annotations.expect("annotations")[IDENTITIES], "ours");
    }
}
