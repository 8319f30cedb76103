//! Facts made from objects.

use aws_lc_rs::digest;
use chancery_issuance::{Certificate, KeyPolicy, PrivateKey, SanSet, Signer, Subject, VerifiedCsr};
use chancery_kubernetes::cert_manager::{CertificateRequest, names};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;

use super::facts::{CertificateFacts, Digest, RequestFacts, SecretFacts, UnsignedFacts};
use crate::Key;

impl RequestFacts {
    /// What is kept of a request; `None` if it has no name.
    pub fn of(request: &CertificateRequest) -> Option<Self> {
        let metadata = &request.metadata;
        let annotation = |name| metadata.annotations.as_ref().and_then(|all| all.get(name));
        let csr = request.spec.request.as_str();
        let csr = csr.and_then(|text| VerifiedCsr::from_pem(text, &KeyPolicy::any()).ok());
        let status = request.status.as_ref();
        Some(Self {
            key: key(metadata)?,
            uid: metadata.uid.clone().unwrap_or_default(),
            owner: owner(metadata),
            revision: annotation(names::CERTIFICATE_REVISION).and_then(|text| text.parse().ok()),
            private_key_secret: annotation(names::PRIVATE_KEY_SECRET_NAME).cloned(),
            resource_version: metadata.resource_version.clone().unwrap_or_default(),
            created: created(metadata),
            is_deleting: metadata.deletion_timestamp.is_some(),
            issuer_ref: request.spec.issuer_ref.clone(),
            conditions: request.conditions().to_vec(),
            failure_time: status.and_then(|status| status.failure_time).map(|time| time.0),
            has_certificate: status
                .and_then(|status| status.certificate.as_ref())
                .is_some_and(|pem| !pem.is_empty()),
            names: csr.as_ref().map(|csr| names_digest(csr.subject(), csr.sans())),
            public_key: csr.as_ref().map(|csr| sha256(csr.public_key().spki_der())),
            usages: request.spec.usages.clone(),
            is_ca: request.spec.is_ca.unwrap_or_default(),
            duration: request.spec.duration.map(|duration| duration.0),
            unsigned: UnsignedFacts::unless_ended(request),
        })
    }
}

impl SecretFacts {
    /// What is kept of a Secret; `None` if it has no name.
    pub fn of(secret: &Secret) -> Option<Self> {
        let metadata = &secret.metadata;
        let data = secret.data.as_ref();
        let text =
            |name| data.and_then(|data| data.get(name)).and_then(|bytes| std::str::from_utf8(&bytes.0).ok());
        let private_key = text("tls.key").and_then(|text| PrivateKey::from_pem(text).ok());
        let certificate = text("tls.crt").and_then(|text| Certificate::from_pem(text).ok());
        let labels = metadata.labels.clone().unwrap_or_default();
        let annotations = metadata.annotations.iter().flatten();
        Some(Self {
            key: key(metadata)?,
            uid: metadata.uid.clone().unwrap_or_default(),
            owner: owner(metadata),
            resource_version: metadata.resource_version.clone().unwrap_or_default(),
            kind: secret.type_.clone().unwrap_or_default(),
            is_next_private_key: labels.get(names::NEXT_PRIVATE_KEY).is_some_and(|value| value == "true"),
            private_key_spec: private_key.as_ref().map(PrivateKey::spec),
            private_key: private_key.map(|key| sha256(key.public_key().spki_der())),
            certificate: certificate.as_ref().and_then(CertificateFacts::of),
            labels,
            annotations: annotations
                .filter(|(name, _)| name.starts_with("cert-manager.io/"))
                .map(|(name, value)| (name.clone(), value.clone()))
                .collect(),
            data: data.into_iter().flatten().map(|(name, bytes)| (name.clone(), sha256(&bytes.0))).collect(),
            applied: crate::certificate::applied(secret),
        })
    }
}

impl CertificateFacts {
    /// What is kept of a certificate; `None` if its key is of a kind that is not read here. Names are left out if they are
    /// malformed.
    pub fn of(certificate: &Certificate) -> Option<Self> {
        let sans = certificate.sans().unwrap_or_default();
        Some(Self {
            not_before: certificate.not_before().to_timestamp(),
            not_after: certificate.not_after().to_timestamp(),
            public_key: sha256(certificate.public_key()?.spki_der()),
            common_name: certificate.common_name().unwrap_or_default().to_owned(),
            dns_names: sans.dns,
            ip_addresses: sans.ip.iter().map(ToString::to_string).collect(),
            uris: sans.uri,
            email_addresses: sans.email,
        })
    }
}

pub(super) fn key(metadata: &ObjectMeta) -> Option<Key> {
    let name = metadata.name.clone()?;
    Some(Key { namespace: metadata.namespace.clone().unwrap_or_default(), name })
}

/// The UID of the Certificate that controls an object.
fn owner(metadata: &ObjectMeta) -> Option<String> {
    let mut owners = metadata.owner_references.iter().flatten();
    let owner = owners.find(|owner| {
        owner.controller == Some(true)
            && owner.kind == "Certificate"
            && owner.api_version.starts_with("cert-manager.io/")
    });
    owner.map(|owner| owner.uid.clone())
}

fn created(metadata: &ObjectMeta) -> Option<Timestamp> {
    let seconds = metadata.creation_timestamp.as_ref()?.0.as_second();
    Timestamp::from_second(seconds).ok()
}

/// The SHA-256 of something.
pub(crate) fn sha256(bytes: &[u8]) -> Digest {
    let mut found = Digest::default();
    found.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    found
}

/// A digest of a subject and names: equal if and only if they are, in whatever order they stand.
pub(crate) fn names_digest(subject: &Subject, sans: &SanSet) -> Digest {
    let Subject {
        common_name,
        serial_number,
        country,
        organization,
        ou,
        locality,
        province,
        street_address,
        postal_code,
        user_ids,
    } = subject;
    let SanSet { dns, email, ip, uri, other } = sans;
    let one = |text: &String| vec![text.clone()];
    let ip = ip.iter().map(ToString::to_string).collect();
    let other = other.iter().map(|name| format!("{}:{}", name.oid, name.value)).collect();
    let mut context = digest::Context::new(&digest::SHA256);
    for mut values in [
        one(common_name),
        one(serial_number),
        country.clone(),
        organization.clone(),
        ou.clone(),
        locality.clone(),
        province.clone(),
        street_address.clone(),
        postal_code.clone(),
        user_ids.clone(),
        dns.clone(),
        email.clone(),
        ip,
        uri.clone(),
        other,
    ] {
        values.sort();
        values.dedup();
        // Lengths keep apart what would read alike when written one after the other.
        context.update(&(values.len() as u64).to_be_bytes());
        for value in values {
            context.update(&(value.len() as u64).to_be_bytes());
            context.update(value.as_bytes());
        }
    }
    let mut found = Digest::default();
    found.copy_from_slice(context.finish().as_ref());
    found
}
