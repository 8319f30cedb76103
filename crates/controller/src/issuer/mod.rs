//! Issuers: whether they are ready, and how they sign.
//!
//! - `check.rs` writes the condition. `vault/` has issuers behind the Vault API, `ca.rs` those with a key pair in a Secret,
//!   `self_signed.rs` those that have each key sign for itself; `local.rs` is what the last two have in common.
//! - `chain.rs` orders what an authority answered. `secret.rs` reads Secrets.

mod ca;
mod chain;
mod check;
mod local;
mod secret;
mod self_signed;
#[cfg(test)]
mod tests;
mod vault;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use async_trait::async_trait;
use chancery_api::Clock;
use chancery_kubernetes::cert_manager::{
    CLUSTER_ISSUER, ISSUER, Issuer, IssuerReference, IssuerSpec, KeyUsage,
};
use chancery_kubernetes::events::{EventType, Recorder};
use k8s_openapi::api::core::v1::ObjectReference;
use tokio::time::Instant;

pub(crate) use self::check::reconcile;
use crate::Key;
use crate::cache::Cache;
use crate::context::Context;
use crate::metrics::Metrics;
use crate::settings::Settings;

/// The lifetime of a certificate whose request asks for none.
const DEFAULT_DURATION: Duration = Duration::from_secs(90 * 24 * 3600);

/// When a request is looked at again that waits for something nobody watches.
const RETRY: Duration = Duration::from_secs(15);

/// An issuer.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum IssuerKey {
    /// An Issuer.
    Namespaced {
        /// Its namespace.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// A ClusterIssuer.
    Cluster {
        /// Its name.
        name: String,
    },
}

impl std::fmt::Display for IssuerKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Namespaced { namespace, name } => write!(f, "{namespace}/{name}"),
            Self::Cluster { name } => f.write_str(name),
        }
    }
}

impl IssuerKey {
    /// The issuer that an object of this namespace refers to; `None`: another controller's.
    pub fn of(reference: &IssuerReference, namespace: &str) -> Option<Self> {
        let name = reference.name.clone();
        match reference.kind() {
            _ if !reference.is_ours() => None,
            ISSUER => Some(Self::Namespaced { namespace: namespace.to_owned(), name }),
            CLUSTER_ISSUER => Some(Self::Cluster { name }),
            _ => None,
        }
    }
}

/// What shall be signed.
#[derive(Debug, Clone)]
pub struct Order<'a> {
    /// Who signs.
    pub issuer: &'a IssuerKey,
    /// The CertificateRequest.
    pub request: &'a Key,
    /// Its CSR in PEM.
    pub csr_pem: &'a str,
    /// The lifetime that is asked for.
    pub duration: Option<Duration>,
    /// Whether an authority is asked for.
    pub is_ca: bool,
    /// As written; none means the default pair.
    pub usages: &'a [KeyUsage],
    /// Annotations of the CertificateRequest.
    pub annotations: &'a BTreeMap<String, String>,
}

/// What was signed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signed {
    /// PEM: the leaf, then what stands between it and the root.
    pub certificate: Vec<u8>,
    /// PEM of the root, as far as it is known.
    pub ca: Option<Vec<u8>>,
}

/// Why nothing was signed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SignError {
    /// It may be signed later.
    #[error("{message}")]
    Pending {
        /// The event's reason.
        reason: &'static str,
        /// The condition's message.
        message: String,
        /// When to try again of itself; `None`: when something changes.
        retry_after: Option<Duration>,
    },
    /// It will never be.
    #[error("{message}")]
    Failed {
        /// The event's reason.
        reason: &'static str,
        /// The condition's message.
        message: String,
    },
    /// The issuer is of a type that is left to others.
    #[error("the issuer is of a type that is left to others")]
    Foreign,
}

/// Signs.
#[async_trait]
pub trait Sign: Send + Sync {
    /// Signs once.
    ///
    /// # Errors
    /// As [`SignError`] says, with what to do next.
    async fn sign(&self, order: &Order<'_>) -> Result<Signed, SignError>;
}

/// All issuers with their connections.
#[derive(Default)]
pub struct Issuers {
    surroundings: OnceLock<Surroundings>,
    vaults: vault::Vaults,
    pairs: ca::KeyPairs,
}

/// What signing needs of the context; the context itself holds the issuers.
struct Surroundings {
    client: kube::Client,
    settings: Arc<Settings>,
    clock: Arc<dyn Clock>,
    recorder: Recorder,
    cache: Arc<Cache>,
}

impl std::fmt::Debug for Issuers {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issuers").finish_non_exhaustive()
    }
}

impl Issuers {
    /// No issuer is known yet.
    pub fn new() -> Self {
        Self::default()
    }

    /// Gives them their surroundings, once: what has none signs nothing.
    pub fn attach(&self, context: &Context) {
        self.surroundings.get_or_init(|| Surroundings {
            client: context.client.clone(),
            settings: Arc::clone(&context.settings),
            clock: Arc::clone(&context.clock),
            recorder: context.recorder.clone(),
            cache: Arc::clone(&context.cache),
        });
    }

    /// Ends all connections, and the tokens of their logins: the controller stops.
    pub async fn stop(&self) {
        self.vaults.stop().await;
    }

    async fn sign_with(
        &self,
        around: &Surroundings,
        issuer: &Issuer,
        order: &Order<'_>,
    ) -> Result<Signed, SignError> {
        let Surroundings { client, settings, clock, .. } = around;
        let (key, now) = (order.issuer, clock.now());
        let namespace = namespace_of_secrets(key, settings);
        let IssuerSpec { ca, self_signed, vault, acme, venafi } = &issuer.spec;
        match (vault, ca, self_signed) {
            _ if acme.is_some() || venafi.is_some() => Err(SignError::Foreign),
            (Some(spec), None, None) => {
                let place = vault::Place { client, namespace, key, issuer, spec };
                self.vaults.sign(place, order, now).await
            }
            (None, Some(spec), None) => ca::sign(&self.pairs, client, namespace, spec, order, now).await,
            (None, None, Some(spec)) => {
                let signed = self_signed::sign(client, spec, order, now).await;
                if signed.is_ok() && has_no_subject(order.csr_pem) {
                    around.warn_of_empty_subject(order.request);
                }
                signed
            }
            _ => Err(pending("IssuerTypeMissing", "Missing issuer type: exactly one is needed", None)),
        }
    }
}

#[async_trait]
impl Sign for Issuers {
    async fn sign(&self, order: &Order<'_>) -> Result<Signed, SignError> {
        let Some(around) = self.surroundings.get() else {
            let moment = Some(Duration::from_secs(1));
            return Err(pending("IssuerNotReady", "Issuers are not looked at yet", moment));
        };
        let Some(issuer) = around.cache.issuers.get(order.issuer) else {
            let message = format!("Referenced issuer not found: {}", order.issuer);
            return Err(pending("IssuerNotFound", &message, None));
        };
        let begun = Instant::now();
        let signed = self.sign_with(around, &issuer, order).await;
        if let Some(outcome) = outcome(&signed) {
            Metrics::default().signed(order.issuer, outcome, begun.elapsed());
        }
        signed
    }
}

/// How an attempt to sign is counted; `None`: nobody was asked.
fn outcome(signed: &Result<Signed, SignError>) -> Option<&'static str> {
    match signed {
        Ok(_) => Some("ok"),
        Err(SignError::Failed { .. }) => Some("refused"),
        Err(SignError::Pending { .. }) => Some("unavailable"),
        Err(SignError::Foreign) => None,
    }
}

impl Surroundings {
    /// An issuer without a name breaks RFC 5280, 4.1.2.4, and some verifiers.
    fn warn_of_empty_subject(&self, request: &Key) {
        let facts = self.cache.requests.get(request);
        let object = ObjectReference {
            api_version: Some(chancery_kubernetes::cert_manager::API_VERSION.into()),
            kind: Some("CertificateRequest".into()),
            name: Some(request.name.clone()),
            namespace: Some(request.namespace.clone()),
            uid: facts.map(|facts| facts.uid.clone()),
            ..ObjectReference::default()
        };
        let message = "Certificate will be issued with an empty Issuer DN, which contravenes RFC 5280 and could break some \
                       strict clients";
        let component = "cert-manager-certificaterequests-issuer-selfsigned";
        self.recorder.record_reference(object, component, EventType::Warning, "BadConfig", message);
    }
}

/// The Secrets that an issuer names, all in the namespace of its Secrets: if one of them changes, the issuer is to be looked
/// at again.
pub fn secrets_of(issuer: &Issuer) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    names.extend(issuer.spec.ca.as_ref().map(|ca| ca.secret_name.as_str()));
    if let Some(vault) = &issuer.spec.vault {
        let auth = &vault.auth;
        let kubernetes = auth.kubernetes.as_ref();
        let references = [
            vault.ca_bundle_secret_ref.as_ref(),
            vault.client_cert_secret_ref.as_ref(),
            vault.client_key_secret_ref.as_ref(),
            auth.token_secret_ref.as_ref(),
            auth.app_role.as_ref().map(|role| &role.secret_ref),
            kubernetes.and_then(|login| login.secret_ref.as_ref()),
        ];
        names.extend(references.into_iter().flatten().map(|reference| reference.name.as_str()));
        let login = auth.client_certificate.as_ref();
        names.extend(login.and_then(|login| login.secret_name.as_deref()));
    }
    names.remove("");
    names
}

/// Where an issuer's Secrets are.
pub fn namespace_of_secrets<'a>(issuer: &'a IssuerKey, settings: &'a Settings) -> &'a str {
    match issuer {
        IssuerKey::Namespaced { namespace, .. } => namespace,
        IssuerKey::Cluster { .. } => &settings.cluster_resource_namespace,
    }
}

fn has_no_subject(csr: &str) -> bool {
    let csr = chancery_issuance::VerifiedCsr::from_pem(csr, &chancery_issuance::KeyPolicy::any());
    csr.is_ok_and(|csr| csr.subject_der() == [0x30, 0])
}

fn pending(reason: &'static str, message: &str, retry_after: Option<Duration>) -> SignError {
    SignError::Pending { reason, message: message.to_owned(), retry_after }
}
