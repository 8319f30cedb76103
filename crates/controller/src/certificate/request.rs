//! The CertificateRequest of an issuance, with its CSR.

use std::collections::BTreeMap;

use chancery_issuance::{
    CsrError, CsrRequest, ExtendedKeyUsage, KeySpec, KeyUsage as Bits, PrivateKey, RequestedNames, Subject,
    create_csr,
};
use chancery_kubernetes::cert_manager::{
    Bytes, Certificate, CertificateRequest, CertificateRequestSpec, CertificateSpec, ConditionStatus, DENIED,
    INVALID_REQUEST, KeyUsage, READY, SignatureAlgorithm, condition, names,
};
use jiff::Timestamp;
use kube::api::ObjectMeta;

use super::key;
use super::matching::subject;
use crate::cache::{RequestFacts, sha256};

/// No name of a request is longer before its revision.
const LONGEST: usize = 233;

/// A name that is at most so long: cut, with a part of its digest, if it is longer.
pub(crate) fn cut(name: &str, longest: usize) -> String {
    if name.len() <= longest {
        return name.to_owned();
    }
    let kept: String = name.chars().take(longest.saturating_sub(9)).collect();
    let digest: String = sha256(name.as_bytes()).iter().take(4).map(|byte| format!("{byte:02x}")).collect();
    format!("{}-{digest}", kept.trim_end_matches(['-', '.']))
}

/// Name of the request of a revision: always the same, so that there is one only.
pub(crate) fn name(certificate: &str, revision: i64) -> String {
    format!("{}-{revision}", cut(certificate, LONGEST))
}

/// Key usages and extended key usages; of none, the default pair.
fn usages(spec: &CertificateSpec) -> (Bits, Vec<ExtendedKeyUsage>) {
    const DEFAULT: [KeyUsage; 2] = [KeyUsage::DigitalSignature, KeyUsage::KeyEncipherment];
    let (mut bits, mut extended) = (Bits::default(), Vec::new());
    let usages = if spec.usages.is_empty() { &DEFAULT[..] } else { &spec.usages };
    for usage in usages {
        let (bit, name) = match usage {
            KeyUsage::Signing | KeyUsage::DigitalSignature => ("DigitalSignature", ""),
            KeyUsage::ContentCommitment => ("ContentCommitment", ""),
            KeyUsage::KeyEncipherment => ("KeyEncipherment", ""),
            KeyUsage::KeyAgreement => ("KeyAgreement", ""),
            KeyUsage::DataEncipherment => ("DataEncipherment", ""),
            KeyUsage::CertSign => ("CertSign", ""),
            KeyUsage::CrlSign => ("CRLSign", ""),
            KeyUsage::EncipherOnly => ("EncipherOnly", ""),
            KeyUsage::DecipherOnly => ("DecipherOnly", ""),
            KeyUsage::Any => ("", "Any"),
            KeyUsage::ServerAuth => ("", "ServerAuth"),
            KeyUsage::ClientAuth => ("", "ClientAuth"),
            KeyUsage::CodeSigning => ("", "CodeSigning"),
            KeyUsage::EmailProtection | KeyUsage::SMime => ("", "EmailProtection"),
            KeyUsage::IpsecEndSystem => ("", "IPSECEndSystem"),
            KeyUsage::IpsecTunnel => ("", "IPSECTunnel"),
            KeyUsage::IpsecUser => ("", "IPSECUser"),
            KeyUsage::Timestamping => ("", "TimeStamping"),
            KeyUsage::OcspSigning => ("", "OCSPSigning"),
            KeyUsage::MicrosoftSgc => ("", "MicrosoftServerGatedCrypto"),
            KeyUsage::NetscapeSgc => ("", "NetscapeServerGatedCrypto"),
        };
        bits = bits.union(Bits::from_names(&[bit]));
        if let Some(usage) = ExtendedKeyUsage::from_name(name)
            && !extended.contains(&usage)
        {
            extended.push(usage);
        }
    }
    if spec.is_ca == Some(true) {
        bits = bits.union(Bits::from_names(&["CertSign"]));
    }
    (bits, extended)
}

/// The hash of an RSA signature; other keys have their own.
fn signature_bits(spec: &CertificateSpec, key: KeySpec) -> u32 {
    match (spec.signature_algorithm, key) {
        (Some(SignatureAlgorithm::Sha256WithRsa), _) => 256,
        (Some(SignatureAlgorithm::Sha384WithRsa), _) => 384,
        (Some(SignatureAlgorithm::Sha512WithRsa), _) => 512,
        (_, KeySpec::Rsa(4096..)) => 512,
        (_, KeySpec::Rsa(3072..)) => 384,
        _ => 256,
    }
}

/// Makes the CSR, in PEM.
pub(crate) fn csr(spec: &CertificateSpec, key: &PrivateKey) -> Result<String, CsrError> {
    let mut subject = subject(spec);
    let is_nameless = subject == Subject::default();
    let (key_usage, extended_key_usage) =
        if spec.encode_usages_in_request == Some(false) { Default::default() } else { usages(spec) };
    let request = CsrRequest {
        names: RequestedNames {
            common_name: std::mem::take(&mut subject.common_name),
            serial_number: std::mem::take(&mut subject.serial_number),
            alt_names: spec.dns_names.iter().chain(&spec.email_addresses).cloned().collect(),
            ip_sans: spec.ip_addresses.clone(),
            uri_sans: spec.uris.clone(),
            exclude_cn_from_sans: true,
            ..RequestedNames::default()
        },
        subject,
        critical_names: is_nameless,
        signature_bits: signature_bits(spec, key.spec()),
        key_usage,
        extended_key_usage,
        ..CsrRequest::default()
    };
    Ok(create_csr(&request, key)?.pem)
}

/// Which annotations go from a Certificate to its requests: those with one of the prefixes (`*`: all), without those with
/// one that is excluded (`-prefix`).
pub(crate) fn copied_annotations(
    annotations: &BTreeMap<String, String>,
    prefixes: &[String],
) -> BTreeMap<String, String> {
    let is_copied = |name: &str| {
        let mut is_copied = false;
        for prefix in prefixes {
            match prefix.strip_prefix('-') {
                Some(excluded) if name.starts_with(excluded) => return false,
                Some(_) => {}
                None => is_copied |= prefix == "*" || name.starts_with(prefix.as_str()),
            }
        }
        is_copied
    };
    annotations.iter().filter(|(name, _)| is_copied(name)).map(|(k, v)| (k.clone(), v.clone())).collect()
}

/// The request of a revision.
pub(crate) fn request(
    certificate: &Certificate,
    revision: i64,
    private_key_secret: &str,
    csr: &str,
    prefixes: &[String],
) -> CertificateRequest {
    let (metadata, spec) = (&certificate.metadata, &certificate.spec);
    let name_of = metadata.name.clone().unwrap_or_default();
    let mut annotations = copied_annotations(&metadata.annotations.clone().unwrap_or_default(), prefixes);
    annotations.insert(names::CERTIFICATE_REVISION.to_owned(), revision.to_string());
    annotations.insert(names::PRIVATE_KEY_SECRET_NAME.to_owned(), private_key_secret.to_owned());
    annotations.insert(names::CERTIFICATE_NAME.to_owned(), name_of.clone());
    CertificateRequest::new(
        ObjectMeta {
            name: Some(name(&name_of, revision)),
            namespace: metadata.namespace.clone(),
            labels: metadata.labels.clone(),
            annotations: Some(annotations),
            owner_references: Some(vec![key::owner(certificate)]),
            ..ObjectMeta::default()
        },
        CertificateRequestSpec {
            duration: spec.duration,
            issuer_ref: spec.issuer_ref.clone(),
            is_ca: spec.is_ca,
            request: Bytes::from(csr),
            usages: spec.usages.clone(),
            ..CertificateRequestSpec::default()
        },
    )
}

/// How far a request has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It waits: for approval, for the issuer.
    Waiting,
    /// There is a certificate.
    Issued,
    /// There will be none.
    Failed {
        /// The condition's reason.
        reason: String,
        /// The condition's message.
        message: String,
        /// Since when.
        at: Option<Timestamp>,
    },
}

/// How far a request has come.
pub(crate) fn outcome(request: &RequestFacts) -> Outcome {
    let conditions = &request.conditions;
    let holds = |kind: &str| {
        condition(conditions, kind).filter(|condition| condition.status == ConditionStatus::True)
    };
    let ready = condition(conditions, READY);
    let refused = holds(DENIED)
        .or_else(|| holds(INVALID_REQUEST))
        .or_else(|| ready.filter(|ready| ready.reason == "Failed" || ready.reason == "Denied"));
    if let Some(refused) = refused {
        // Clocks of those who deny differ from ours; but nothing is denied before it is there.
        let denied = refused.last_transition_time.map(|time| time.0).max(request.created);
        return Outcome::Failed {
            reason: refused.reason.clone(),
            message: refused.message.clone(),
            at: request.failure_time.or(denied),
        };
    }
    let is_issued = ready.is_some_and(|ready| ready.reason == "Issued") && request.has_certificate;
    if is_issued { Outcome::Issued } else { Outcome::Waiting }
}
