//! Facts made from objects, as the cache keeps them.

use std::collections::BTreeMap;
use std::net::IpAddr;

use aws_lc_rs::digest::{SHA256, digest as hash};
use chancery_issuance::{Certificate as X509, KeyPolicy, PrivateKey, Signer as _, VerifiedCsr};
use chancery_kubernetes::cert_manager::{CertificateRequest, names};
use k8s_openapi::api::core::v1::Secret;
use kube::api::ObjectMeta;
use serde_json::Value;

use super::matching::Names;
use crate::Key;
use crate::cache::{CertificateFacts, Digest, RequestFacts, SecretFacts};

/// Whose name stands on what is applied to Secrets.
pub(crate) const APPLIER: &str = "cert-manager-certificates-issuing";

const OURS: &str = "cert-manager.io/";

/// SHA-256.
pub(crate) fn digest(bytes: &[u8]) -> Digest {
    let mut out = [0; 32];
    out.copy_from_slice(hash(&SHA256, bytes).as_ref());
    out
}

/// Namespace and name of an object.
pub(crate) fn key_of(metadata: &ObjectMeta) -> Key {
    Key {
        namespace: metadata.namespace.clone().unwrap_or_default(),
        name: metadata.name.clone().unwrap_or_default(),
    }
}

/// UID of the Certificate that controls an object.
pub(crate) fn controller_of(metadata: &ObjectMeta) -> Option<&str> {
    let owners = metadata.owner_references.as_deref().unwrap_or_default();
    owners.iter().find(|owner| owner.controller == Some(true)).map(|owner| owner.uid.as_str())
}

/// The private key in a Secret; `None`: there is none, or none that can be read.
pub(crate) fn private_key_of(secret: &Secret) -> Option<PrivateKey> {
    let bytes = &secret.data.as_ref()?.get("tls.key")?.0;
    PrivateKey::from_pem(std::str::from_utf8(bytes).ok()?).ok()
}

/// The first certificate in a Secret.
pub(crate) fn certificate_of(secret: &Secret) -> Option<X509> {
    let bytes = &secret.data.as_ref()?.get("tls.crt")?.0;
    X509::from_pem(std::str::from_utf8(bytes).ok()?).ok()
}

/// What is kept of a certificate.
pub(crate) fn certificate_facts(certificate: &X509) -> Option<CertificateFacts> {
    let sans = certificate.sans().unwrap_or_default();
    Some(CertificateFacts {
        not_before: certificate.not_before().to_timestamp(),
        not_after: certificate.not_after().to_timestamp(),
        public_key: digest(certificate.public_key()?.spki_der()),
        common_name: certificate.common_name().unwrap_or_default().to_owned(),
        dns_names: sans.dns,
        ip_addresses: sans.ip.iter().map(IpAddr::to_string).collect(),
        uris: sans.uri,
        email_addresses: sans.email,
    })
}

/// What is kept of a Secret.
pub(crate) fn secret_facts(secret: &Secret) -> SecretFacts {
    let metadata = &secret.metadata;
    let labels = metadata.labels.clone().unwrap_or_default();
    let annotations = metadata.annotations.clone().unwrap_or_default();
    let key = private_key_of(secret);
    SecretFacts {
        key: key_of(metadata),
        uid: metadata.uid.clone().unwrap_or_default(),
        owner: controller_of(metadata).map(str::to_owned),
        resource_version: metadata.resource_version.clone().unwrap_or_default(),
        kind: secret.type_.clone().unwrap_or_default(),
        is_next_private_key: labels.get(names::NEXT_PRIVATE_KEY).is_some_and(|value| value == "true"),
        private_key: key.as_ref().map(|key| digest(key.public_key().spki_der())),
        private_key_spec: key.as_ref().map(PrivateKey::spec),
        certificate: certificate_of(secret).as_ref().and_then(certificate_facts),
        annotations: annotations.into_iter().filter(|(name, _)| name.starts_with(OURS)).collect(),
        labels,
        data: secret.data.iter().flatten().map(|(key, value)| (key.clone(), digest(&value.0))).collect(),
        applied: applied(secret).map(|applied| applied.digest()),
    }
}

/// What was applied to a Secret, or shall be.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Applied {
    /// Labels.
    pub(crate) labels: BTreeMap<String, String>,
    /// Annotations, of which those of `cert-manager.io` do not count.
    pub(crate) annotations: BTreeMap<String, String>,
    /// Keys of data.
    pub(crate) keys: Vec<String>,
    /// UIDs of owners.
    pub(crate) owners: Vec<String>,
}

impl Applied {
    /// One value for all of it.
    pub(crate) fn digest(&self) -> Digest {
        let Self { labels, annotations, keys, owners } = self;
        let annotations: BTreeMap<_, _> =
            annotations.iter().filter(|(name, _)| !name.starts_with(OURS)).collect();
        // A root is there or not as the issuer gave one.
        let mut keys: Vec<_> = keys.iter().filter(|key| *key != "ca.crt").collect();
        keys.sort();
        let all = serde_json::json!([labels, annotations, keys, owners]);
        digest(all.to_string().as_bytes())
    }
}

/// What stands in a Secret's managed fields as ours, with its values of now.
fn applied(secret: &Secret) -> Option<Applied> {
    let entry = secret.metadata.managed_fields.iter().flatten().find(|entry| {
        entry.manager.as_deref() == Some(APPLIER) && entry.operation.as_deref() == Some("Apply")
    })?;
    let fields = &entry.fields_v1.as_ref()?.0;
    let names = |tree: &Value| -> Vec<String> {
        let names = tree.as_object().into_iter().flat_map(|tree| tree.keys());
        names.filter_map(|name| name.strip_prefix("f:")).map(str::to_owned).collect()
    };
    let valued = |tree: &Value, now: &Option<BTreeMap<String, String>>| -> BTreeMap<String, String> {
        let value = |name: String| {
            let value = now.as_ref()?.get(&name)?.clone();
            Some((name, value))
        };
        names(tree).into_iter().filter_map(value).collect()
    };
    let part = |path: &str| fields.pointer(path).unwrap_or(&Value::Null);
    let owners = part("/f:metadata/f:ownerReferences").as_object().into_iter().flat_map(|owners| owners.keys());
    Some(Applied {
        labels: valued(part("/f:metadata/f:labels"), &secret.metadata.labels),
        annotations: valued(part("/f:metadata/f:annotations"), &secret.metadata.annotations),
        keys: names(part("/f:data")),
        owners: owners
            .filter_map(|owner| serde_json::from_str::<Value>(owner.strip_prefix("k:")?).ok())
            .filter_map(|owner| owner.get("uid")?.as_str().map(str::to_owned))
            .collect(),
    })
}

/// The CSR of a request; `None`: it cannot be read.
pub(crate) fn csr_of(request: &CertificateRequest) -> Option<VerifiedCsr> {
    VerifiedCsr::from_pem(request.spec.request.as_str()?, &KeyPolicy::any()).ok()
}

/// What is kept of a request.
pub(crate) fn request_facts(request: &CertificateRequest) -> RequestFacts {
    let metadata = &request.metadata;
    let annotation = |name: &str| metadata.annotations.as_ref().and_then(|all| all.get(name));
    let csr = csr_of(request);
    let status = request.status.clone().unwrap_or_default();
    RequestFacts {
        key: key_of(metadata),
        uid: metadata.uid.clone().unwrap_or_default(),
        owner: controller_of(metadata).map(str::to_owned),
        revision: annotation(names::CERTIFICATE_REVISION).and_then(|revision| revision.parse().ok()),
        private_key_secret: annotation(names::PRIVATE_KEY_SECRET_NAME).cloned(),
        resource_version: metadata.resource_version.clone().unwrap_or_default(),
        created: metadata
            .creation_timestamp
            .as_ref()
            .and_then(|time| jiff::Timestamp::from_second(time.0.as_second()).ok()),
        is_deleting: metadata.deletion_timestamp.is_some(),
        issuer_ref: request.spec.issuer_ref.clone(),
        conditions: status.conditions,
        failure_time: status.failure_time.map(|time| time.0),
        has_certificate: status.certificate.is_some_and(|certificate| !certificate.is_empty()),
        names: csr.as_ref().map(|csr| Names::of_csr(csr).digest()),
        public_key: csr.as_ref().map(|csr| digest(csr.public_key().spki_der())),
        usages: request.spec.usages.clone(),
        is_ca: request.spec.is_ca.unwrap_or(false),
        duration: request.spec.duration.map(|duration| duration.0),
    }
}
