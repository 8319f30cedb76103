//! CertificateRequest: a CSR to sign, and what became of it.

use std::collections::BTreeMap;

use k8s_openapi::NamespaceResourceScope;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::condition::Condition;
use super::issuer::object;
use super::value::{Bytes, GoDuration, IssuerReference, KeyUsage, Time};

object!(
    /// A CSR that an issuer shall sign.
    CertificateRequest, "CertificateRequest", "certificaterequests", NamespaceResourceScope,
    CertificateRequestSpec, CertificateRequestStatus
);

/// What is asked for; it never changes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificateRequestSpec {
    /// Lifetime that is asked for; the issuer decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration: Option<GoDuration>,
    /// Who signs.
    pub issuer_ref: IssuerReference,
    /// Whether a certificate authority is asked for.
    #[serde(default, rename = "isCA", skip_serializing_if = "Option::is_none")]
    pub is_ca: Option<bool>,
    /// The CSR in PEM.
    pub request: Bytes,
    /// What the certificate may be used for; digital signature and key encipherment if absent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub usages: Vec<KeyUsage>,
    /// Who created the request; filled in at its creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub username: Option<String>,
    /// The creator's UID; filled in at its creation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<String>,
    /// The creator's groups; filled in at its creation.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<String>,
    /// More about the creator; filled in at its creation.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub extra: BTreeMap<String, Vec<String>>,
}

/// What became of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct CertificateRequestStatus {
    /// Types are Ready, Approved, Denied and InvalidRequest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The certificate in PEM with what stands between it and the root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<Bytes>,
    /// The root in PEM, as far as it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ca: Option<Bytes>,
    /// When the request failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_time: Option<Time>,
}
