//! What is kept of objects that may be many.

use std::collections::BTreeMap;
use std::time::Duration;

use chancery_issuance::KeySpec;
use chancery_kubernetes::cert_manager::{
    Bytes, CertificateRequest, Condition, ConditionStatus, GROUP, IssuerReference, KeyUsage, READY, condition,
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::Key;

/// SHA-256.
pub type Digest = [u8; 32];

/// What is kept of a CertificateRequest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RequestFacts {
    /// Its namespace and name.
    pub key: Key,
    /// `metadata.uid`
    pub uid: String,
    /// UID of the Certificate that controls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// `cert-manager.io/certificate-revision`, if it is a number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revision: Option<u32>,
    /// `cert-manager.io/private-key-secret-name`
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub private_key_secret: Option<String>,
    /// `metadata.resourceVersion`
    pub resource_version: String,
    /// When it was created.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<Timestamp>,
    /// Whether its deletion has begun.
    pub is_deleting: bool,
    /// Who shall sign.
    pub issuer_ref: IssuerReference,
    /// Its conditions.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// When it failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failure_time: Option<Timestamp>,
    /// Whether `status.certificate` is there.
    pub has_certificate: bool,
    /// Of subject and names in its CSR; `None`: the CSR does not parse.
    #[serde(default, with = "maybe_digest", skip_serializing_if = "Option::is_none")]
    pub names: Option<Digest>,
    /// Of the CSR's SubjectPublicKeyInfo.
    #[serde(default, with = "maybe_digest", skip_serializing_if = "Option::is_none")]
    pub public_key: Option<Digest>,
    /// As written.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub usages: Vec<KeyUsage>,
    /// As written; absent is false.
    pub is_ca: bool,
    /// As written.
    #[serde(default, skip_serializing_if = "Option::is_none")]
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
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SecretFacts {
    /// Its namespace and name.
    pub key: Key,
    /// `metadata.uid`
    pub uid: String,
    /// UID of the Certificate that controls it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<String>,
    /// `metadata.resourceVersion`
    pub resource_version: String,
    /// `type`
    pub kind: String,
    /// Whether it holds the key of an issuance that is under way.
    pub is_next_private_key: bool,
    /// Of the public half of `tls.key`; `None`: absent or unreadable, as `data` tells.
    #[serde(default, with = "maybe_digest", skip_serializing_if = "Option::is_none")]
    pub private_key: Option<Digest>,
    /// Algorithm and size of that key.
    #[serde(default, with = "maybe_key_spec", skip_serializing_if = "Option::is_none")]
    pub private_key_spec: Option<KeySpec>,
    /// The first certificate of `tls.crt`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<CertificateFacts>,
    /// Labels.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations that begin with `cert-manager.io/`.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// Digests of all its data by key.
    #[serde(default, with = "digests", skip_serializing_if = "BTreeMap::is_empty")]
    pub data: BTreeMap<String, Digest>,
    /// Of what `cert-manager-certificates-issuing` applied beside names of certificates and issuers: labels, other
    /// annotations, keys of data, owner; as it stands now. `None`: it applied nothing.
    #[serde(default, with = "maybe_digest", skip_serializing_if = "Option::is_none")]
    pub applied: Option<Digest>,
}

/// What is kept of a certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CertificateFacts {
    /// From when it is valid.
    pub not_before: Timestamp,
    /// Until when it is valid.
    pub not_after: Timestamp,
    /// Of its SubjectPublicKeyInfo.
    #[serde(with = "one_digest")]
    pub public_key: Digest,
    /// Its subject's common name; perhaps empty.
    pub common_name: String,
    /// Its DNS names.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub dns_names: Vec<String>,
    /// Its IP addresses as text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ip_addresses: Vec<String>,
    /// Its URIs.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub uris: Vec<String>,
    /// Its e-mail addresses.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub email_addresses: Vec<String>,
}

/// Digests as base64: a third of what a list of numbers takes.
mod one_digest {
    use data_encoding::BASE64_NOPAD;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serializer};

    use super::Digest;

    pub(super) fn serialize<S: Serializer>(digest: &Digest, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&BASE64_NOPAD.encode(digest))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Digest, D::Error> {
        let text = <&str>::deserialize(deserializer)?;
        let bytes = BASE64_NOPAD.decode(text.as_bytes()).map_err(D::Error::custom)?;
        bytes.try_into().map_err(|_| D::Error::custom("not 32 bytes"))
    }
}

mod maybe_digest {
    use serde::{Deserialize, Deserializer, Serializer};

    use super::{Digest, Packed};

    #[allow(clippy::ref_option, reason = "serde calls it so")]
    pub(super) fn serialize<S: Serializer>(
        digest: &Option<Digest>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match digest {
            Some(digest) => super::one_digest::serialize(digest, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Digest>, D::Error> {
        Ok(Option::<Packed>::deserialize(deserializer)?.map(|packed| packed.0))
    }
}

mod digests {
    use std::collections::BTreeMap;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::{Digest, Packed};

    pub(super) fn serialize<S: Serializer>(
        all: &BTreeMap<String, Digest>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        serializer.collect_map(all.iter().map(|(name, digest)| (name, Packed(*digest))))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<BTreeMap<String, Digest>, D::Error> {
        let all = BTreeMap::<String, Packed>::deserialize(deserializer)?;
        Ok(all.into_iter().map(|(name, packed)| (name, packed.0)).collect())
    }
}

#[derive(Serialize, Deserialize)]
struct Packed(#[serde(with = "one_digest")] Digest);

mod maybe_key_spec {
    use chancery_issuance::KeySpec;
    use serde::de::Error;
    use serde::{Deserialize, Deserializer, Serialize, Serializer};

    #[allow(clippy::ref_option, reason = "serde calls it so")]
    pub(super) fn serialize<S: Serializer>(spec: &Option<KeySpec>, serializer: S) -> Result<S::Ok, S::Error> {
        spec.map(|spec| (spec.key_type().name(), spec.bits())).serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<KeySpec>, D::Error> {
        let Some((kind, bits)) = Option::<(&str, u32)>::deserialize(deserializer)? else { return Ok(None) };
        KeySpec::new(kind, bits).map(Some).map_err(D::Error::custom)
    }
}
