//! cert-manager.io/v1, as far as it is written and read here.

use std::collections::BTreeMap;

use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::ObjectMeta;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Makes a struct with `metadata` a resource of version `v1`.
macro_rules! resource {
    ($type:ty, $group:literal, $kind:literal, $plural:literal, $scope:ty) => {
        impl kube::Resource for $type {
            type DynamicType = ();
            type Scope = $scope;

            fn kind((): &()) -> std::borrow::Cow<'_, str> {
                $kind.into()
            }
            fn group((): &()) -> std::borrow::Cow<'_, str> {
                $group.into()
            }
            fn version((): &()) -> std::borrow::Cow<'_, str> {
                "v1".into()
            }
            fn plural((): &()) -> std::borrow::Cow<'_, str> {
                $plural.into()
            }
            fn meta(&self) -> &kube::api::ObjectMeta {
                &self.metadata
            }
            fn meta_mut(&mut self) -> &mut kube::api::ObjectMeta {
                &mut self.metadata
            }
        }
    };
}
pub(crate) use resource;

/// Which issuer signs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IssuerReference {
    /// Its name.
    pub name: String,
    /// `Issuer`, `ClusterIssuer`, or a kind of somebody else's.
    #[serde(default = "issuer")]
    pub kind: String,
    /// `cert-manager.io`, or somebody else's.
    #[serde(default = "group")]
    pub group: String,
}

fn issuer() -> String {
    "Issuer".into()
}

fn group() -> String {
    "cert-manager.io".into()
}

impl std::fmt::Display for IssuerReference {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}.{} {}", self.kind, self.group, self.name)
    }
}

/// What stands in `apiVersion` of all of these.
const API_VERSION: &str = "cert-manager.io/v1";

/// A request to sign a CSR, and what became of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateRequest {
    /// `cert-manager.io/v1`
    #[serde(default)]
    pub api_version: String,
    /// `CertificateRequest`
    #[serde(default)]
    pub kind: String,
    /// Names, annotations.
    pub metadata: ObjectMeta,
    /// What is asked for; it never changes.
    pub spec: CertificateRequestSpec,
    /// What became of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<CertificateRequestStatus>,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateRequestSpec {
    /// In Go's words: `1h0m0s`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<String>,
    /// Who signs.
    pub issuer_ref: IssuerReference,
    /// Whether an authority is asked for.
    #[serde(default, rename = "isCA")]
    pub is_ca: bool,
    /// The CSR in PEM, in base64.
    pub request: String,
    /// In cert-manager's words: `client auth`.
    #[serde(default)]
    pub usages: Vec<String>,
}

/// What became of a request.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct CertificateRequestStatus {
    /// `Approved`, `Denied`, `InvalidRequest`, `Ready`.
    pub conditions: Vec<Condition>,
    /// The chain in PEM, in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub certificate: Option<String>,
    /// The root in PEM, in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ca: Option<String>,
}

/// A condition.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Condition {
    /// Which.
    #[serde(rename = "type")]
    pub kind: String,
    /// `True`, `False`, `Unknown`.
    pub status: String,
    /// A word.
    pub reason: String,
    /// A sentence.
    pub message: String,
}

resource!(
    CertificateRequest,
    "cert-manager.io",
    "CertificateRequest",
    "certificaterequests",
    NamespaceResourceScope
);

impl CertificateRequest {
    /// A request that is not sent yet.
    pub fn new(metadata: ObjectMeta, spec: CertificateRequestSpec) -> Self {
        let (api_version, kind) = (API_VERSION.to_owned(), "CertificateRequest".to_owned());
        Self { api_version, kind, metadata, spec, status: None }
    }
}

/// A certificate that cert-manager keeps in a Secret.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Certificate {
    /// `cert-manager.io/v1`
    #[serde(default)]
    pub api_version: String,
    /// `Certificate`
    #[serde(default)]
    pub kind: String,
    /// Names, annotations.
    pub metadata: ObjectMeta,
    /// What it shall be.
    pub spec: CertificateSpec,
    /// cert-manager's own notes.
    #[serde(default, skip_serializing_if = "Value::is_null")]
    pub status: Value,
}

/// What a certificate shall be.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct CertificateSpec {
    /// The subject's common name.
    #[serde(default)]
    pub common_name: String,
    /// DNS names.
    #[serde(default)]
    pub dns_names: Vec<String>,
    /// URIs.
    #[serde(default)]
    pub uris: Vec<String>,
    /// The Secret.
    pub secret_name: String,
    /// In Go's words.
    #[serde(default)]
    pub duration: String,
    /// In Go's words.
    #[serde(default)]
    pub renew_before: String,
    /// The key.
    #[serde(default)]
    pub private_key: PrivateKeySpec,
    /// How many requests are kept.
    #[serde(default)]
    pub revision_history_limit: i32,
    /// Who signs.
    pub issuer_ref: IssuerReference,
    /// What else stands there.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

/// What a certificate's key shall be.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct PrivateKeySpec {
    /// `Always`, `Never`.
    pub rotation_policy: String,
    /// `RSA`, `ECDSA`, `Ed25519`.
    pub algorithm: String,
    /// Bits.
    pub size: u32,
    /// What else stands there.
    #[serde(flatten)]
    pub other: BTreeMap<String, Value>,
}

resource!(Certificate, "cert-manager.io", "Certificate", "certificates", NamespaceResourceScope);

impl Certificate {
    /// A certificate that is not sent yet.
    pub fn new(metadata: ObjectMeta, spec: CertificateSpec) -> Self {
        let (api_version, kind) = (API_VERSION.to_owned(), "Certificate".to_owned());
        Self { api_version, kind, metadata, spec, status: Value::Null }
    }
}

/// A field of a ConfigMap's data.
pub(crate) fn datum<'a>(map: &'a ConfigMap, key: &str) -> Option<&'a str> {
    map.data.as_ref()?.get(key).map(String::as_str)
}
