//! Private keys: what a Certificate asks for, and the Secret in which the key of an issuance waits for its certificate.

use std::collections::BTreeMap;

use chancery_issuance::{Curve, KeyError, KeyForm, KeySpec, PrivateKey};
use chancery_kubernetes::cert_manager::{
    Certificate, CertificateSpec, KeyAlgorithm, KeyEncoding, RotationPolicy, SignatureAlgorithm, names,
};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::ObjectMeta;

/// The algorithm, where none is written RSA.
pub(crate) fn algorithm(spec: &CertificateSpec) -> KeyAlgorithm {
    spec.private_key.as_ref().and_then(|key| key.algorithm).unwrap_or(KeyAlgorithm::Rsa)
}

/// The size in bits; 0 for keys that have one only.
pub(crate) fn size(spec: &CertificateSpec) -> i64 {
    let written = spec.private_key.as_ref().and_then(|key| key.size).filter(|size| *size != 0);
    match algorithm(spec) {
        KeyAlgorithm::Rsa => written.unwrap_or(2048).into(),
        KeyAlgorithm::Ecdsa => written.unwrap_or(256).into(),
        KeyAlgorithm::Ed25519 => 0,
    }
}

/// Whether each issuance has a new key.
pub(crate) fn rotates(spec: &CertificateSpec) -> bool {
    spec.private_key.as_ref().and_then(|key| key.rotation_policy) != Some(RotationPolicy::Never)
}

/// The form of the key in the Secret.
pub(crate) fn form(spec: &CertificateSpec) -> KeyForm {
    match spec.private_key.as_ref().and_then(|key| key.encoding) {
        Some(KeyEncoding::Pkcs8) => KeyForm::Pkcs8,
        _ => KeyForm::Traditional,
    }
}

/// The key that is asked for; `None`: none that is made here.
fn wanted(spec: &CertificateSpec) -> Option<KeySpec> {
    match (algorithm(spec), size(spec)) {
        (KeyAlgorithm::Rsa, 2048) => Some(KeySpec::Rsa(2048)),
        (KeyAlgorithm::Rsa, 3072) => Some(KeySpec::Rsa(3072)),
        (KeyAlgorithm::Rsa, 4096) => Some(KeySpec::Rsa(4096)),
        (KeyAlgorithm::Rsa, 8192) => Some(KeySpec::Rsa(8192)),
        (KeyAlgorithm::Ecdsa, 256) => Some(KeySpec::Ec(Curve::P256)),
        (KeyAlgorithm::Ecdsa, 384) => Some(KeySpec::Ec(Curve::P384)),
        (KeyAlgorithm::Ecdsa, 521) => Some(KeySpec::Ec(Curve::P521)),
        (KeyAlgorithm::Ed25519, _) => Some(KeySpec::Ed25519),
        _ => None,
    }
}

/// What about the key cannot be had; with what can.
pub(crate) fn unsupported(spec: &CertificateSpec) -> Option<String> {
    let Some(wanted) = wanted(spec) else {
        let can =
            if algorithm(spec) == KeyAlgorithm::Rsa { "2048, 3072, 4096 or 8192" } else { "256, 384 or 521" };
        return Some(format!("spec.privateKey.size of {} is not supported; use {can}", size(spec)));
    };
    let asked = spec.signature_algorithm?;
    let fits = match wanted {
        KeySpec::Rsa(_) => matches!(
            asked,
            SignatureAlgorithm::Sha256WithRsa
                | SignatureAlgorithm::Sha384WithRsa
                | SignatureAlgorithm::Sha512WithRsa
        ),
        KeySpec::Ec(Curve::P384) => asked == SignatureAlgorithm::EcdsaWithSha384,
        KeySpec::Ec(Curve::P521) => asked == SignatureAlgorithm::EcdsaWithSha512,
        KeySpec::Ec(_) => asked == SignatureAlgorithm::EcdsaWithSha256,
        _ => asked == SignatureAlgorithm::PureEd25519,
    };
    (!fits).then(|| {
        format!("spec.signatureAlgorithm {asked} does not fit the private key; remove it, and the key's own is used")
    })
}

/// Makes a key. It takes a while for RSA.
pub(crate) fn generate(spec: &CertificateSpec) -> Result<PrivateKey, KeyError> {
    PrivateKey::generate(wanted(spec).unwrap_or(KeySpec::Rsa(2048)))
}

/// The Certificate as the owner of what is made for it.
pub(crate) fn owner(certificate: &Certificate) -> OwnerReference {
    OwnerReference {
        api_version: chancery_kubernetes::cert_manager::API_VERSION.to_owned(),
        kind: "Certificate".to_owned(),
        name: certificate.metadata.name.clone().unwrap_or_default(),
        uid: certificate.metadata.uid.clone().unwrap_or_default(),
        controller: Some(true),
        block_owner_deletion: Some(true),
    }
}

/// The Secret in which a key waits for its certificate. The API server gives it a name that nobody knows before.
pub(crate) fn next_private_key(certificate: &Certificate, key: &PrivateKey) -> Secret {
    let pem = key.to_pem(KeyForm::Pkcs8);
    let label = |name: &str| (name.to_owned(), "true".to_owned());
    Secret {
        metadata: ObjectMeta {
            generate_name: certificate.metadata.name.as_ref().map(|name| format!("{name}-")),
            namespace: certificate.metadata.namespace.clone(),
            labels: Some(BTreeMap::from([label(names::NEXT_PRIVATE_KEY), label(names::FAO)])),
            owner_references: Some(vec![owner(certificate)]),
            ..ObjectMeta::default()
        },
        type_: Some("Opaque".to_owned()),
        data: Some(BTreeMap::from([("tls.key".to_owned(), ByteString(pem.as_bytes().to_vec()))])),
        ..Secret::default()
    }
}
