//! What is read out of Secrets and requests.

use std::collections::BTreeMap;

use chancery_issuance::{Certificate as X509, KeyPolicy, PrivateKey, VerifiedCsr};
use chancery_kubernetes::cert_manager::CertificateRequest;
use k8s_openapi::api::core::v1::Secret;
use serde_json::Value;

use crate::cache::{Digest, sha256};

/// Whose name stands on what is applied to Secrets.
pub(crate) const APPLIER: &str = "cert-manager-certificates-issuing";

const OURS: &str = "cert-manager.io/";

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
        sha256(all.to_string().as_bytes())
    }
}

/// What stands in a Secret's managed fields as ours, with its values of now.
pub(crate) fn applied(secret: &Secret) -> Option<Applied> {
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
    let owners =
        part("/f:metadata/f:ownerReferences").as_object().into_iter().flat_map(|owners| owners.keys());
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
