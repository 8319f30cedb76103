//! What is kept of objects that may be many.

use std::collections::BTreeMap;
use std::time::Duration;

use chancery_kubernetes::cert_manager::{
    Bytes, CertificateRequest, Condition, ConditionStatus, GROUP, IssuerReference, KeyUsage, READY, condition,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Key;

/// SHA-256.
pub type Digest = [u8; 32];

/// What is kept of a CertificateRequest.
#[derive(Debug, Clone, PartialEq)]
pub struct RequestFacts {
    /// Its namespace and name.
    pub key: Key,
    /// `metadata.uid`
    pub uid: String,
    /// UID of the Certificate that controls it.
    pub owner: Option<String>,
    /// `cert-manager.io/certificate-revision`, if it is a number.
    pub revision: Option<u32>,
    /// `cert-manager.io/private-key-secret-name`
    pub private_key_secret: Option<String>,
    /// `metadata.resourceVersion`
    pub resource_version: String,
    /// When it was created.
    pub created: Option<Timestamp>,
    /// Whether its deletion has begun.
    pub is_deleting: bool,
    /// Who shall sign.
    pub issuer_ref: IssuerReference,
    /// Its conditions.
    pub conditions: Vec<Condition>,
    /// When it failed.
    pub failure_time: Option<Timestamp>,
    /// Whether `status.certificate` is there.
    pub has_certificate: bool,
    /// Of subject and names in its CSR; `None`: the CSR does not parse.
    pub names: Option<Digest>,
    /// Of the CSR's SubjectPublicKeyInfo.
    pub public_key: Option<Digest>,
    /// As written.
    pub usages: Vec<KeyUsage>,
    /// As written; absent is false.
    pub is_ca: bool,
    /// As written.
    pub duration: Option<Duration>,
    /// What only signing needs; `None` once the request has ended.
    pub unsigned: Option<UnsignedFacts>,
}

/// What is kept of a CertificateRequest until it has ended, so that nothing must be read to sign it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnsignedFacts {
    /// `spec.request`: the CSR in PEM, as it stands there.
    pub csr: Bytes,
    /// Annotations of `cert-manager.io` and what is below it.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

impl UnsignedFacts {
    /// Of a request that somebody may still sign; `None`: it was signed, refused, or denied.
    pub fn unless_ended(request: &CertificateRequest) -> Option<Self> {
        let ready = condition(request.conditions(), READY);
        let has_ended = ready.is_some_and(|ready| {
            ready.status == ConditionStatus::True || matches!(ready.reason.as_str(), "Failed" | "Denied")
        });
        (!has_ended).then(|| Self::of(request))
    }

    /// Of any request.
    pub fn of(request: &CertificateRequest) -> Self {
        // Others may be long: what kubectl applied last is the whole object once more.
        let is_ours = |name: &str| {
            let domain = name.split('/').next().unwrap_or_default();
            domain == GROUP || domain.strip_suffix(GROUP).is_some_and(|parent| parent.ends_with('.'))
        };
        let annotations = request.metadata.annotations.iter().flatten();
        let annotations = annotations.filter(|(name, _)| is_ours(name));
        let annotations = annotations.map(|(name, value)| (name.clone(), value.clone())).collect();
        Self { csr: request.spec.request.clone(), annotations }
    }
}

/// What is kept of a Secret with the label `controller.cert-manager.io/fao` or `cert-manager.io/next-private-key`.
#[derive(Debug, Clone, PartialEq)]
pub struct SecretFacts {
    /// Its namespace and name.
    pub key: Key,
    /// `metadata.uid`
    pub uid: String,
    /// UID of the Certificate that controls it.
    pub owner: Option<String>,
    /// `metadata.resourceVersion`
    pub resource_version: String,
    /// `type`
    pub kind: String,
    /// Whether it holds the key of an issuance that is under way.
    pub is_next_private_key: bool,
    /// Of the public half of `tls.key`; `None`: absent or unreadable, as `data` tells.
    pub private_key: Option<Digest>,
    /// The first certificate of `tls.crt`.
    pub certificate: Option<CertificateFacts>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations that begin with `cert-manager.io/`.
    pub annotations: BTreeMap<String, String>,
    /// Digests of all its data by key.
    pub data: BTreeMap<String, Digest>,
}

/// What is kept of a certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFacts {
    /// From when it is valid.
    pub not_before: Timestamp,
    /// Until when it is valid.
    pub not_after: Timestamp,
    /// Of its SubjectPublicKeyInfo.
    pub public_key: Digest,
    /// Its subject's common name; perhaps empty.
    pub common_name: String,
    /// Its DNS names.
    pub dns_names: Vec<String>,
    /// Its IP addresses as text.
    pub ip_addresses: Vec<String>,
    /// Its URIs.
    pub uris: Vec<String>,
    /// Its e-mail addresses.
    pub email_addresses: Vec<String>,
}
