//! Whether a certificate must be issued, and whether it is ready: one chain of rules, the first that holds decides.
//!
//! Reasons and messages are what clients and people know; they are facts of `cert-manager.io/v1`.

use std::cmp::Reverse;

use chancery_issuance::{Curve, KeySpec};
use chancery_kubernetes::cert_manager::{
    Certificate, CertificateSpec, CertificateStatus, IssuerReference, KeyAlgorithm, names,
};
use jiff::Timestamp;

use super::key;
use super::matching;
use super::renewal;
use crate::cache::{Digest, SecretFacts, sha256};

/// `reason` of a Certificate that asks for what cannot be made here.
pub(crate) const UNSUPPORTED: &str = "Unsupported";

/// Why a condition is as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finding {
    /// A word.
    pub(crate) reason: &'static str,
    /// A sentence.
    pub(crate) message: String,
}

impl Finding {
    fn new(reason: &'static str, message: impl Into<String>) -> Option<Self> {
        Some(Self { reason, message: message.into() })
    }
}

/// What is known of the request of the current revision.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Current {
    /// Of its CSR's key; `None`: the CSR does not parse.
    pub(crate) public_key: Option<Digest>,
    /// Fields of the Certificate that it does not have; see [`matching`].
    pub(crate) violations: Vec<&'static str>,
}

/// What the chain is held against.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Evidence<'a> {
    /// Name of the Certificate.
    pub(crate) name: &'a str,
    /// What it shall be.
    pub(crate) spec: &'a CertificateSpec,
    /// What became of it so far.
    pub(crate) status: &'a CertificateStatus,
    /// Its Secret, if there is one.
    pub(crate) secret: Option<&'a SecretFacts>,
    /// The request of the current revision, if there is one.
    pub(crate) current: Option<&'a Current>,
    /// What time it is.
    pub(crate) now: Timestamp,
}

impl Evidence<'_> {
    /// Why it must be issued; `None`: it need not be.
    pub(crate) fn must_issue(&self) -> Option<Finding> {
        self.is_wrong().or_else(|| self.is_due())
    }

    /// Why it is not ready; `None`: it is.
    pub(crate) fn is_unready(&self) -> Option<Finding> {
        self.is_wrong().or_else(|| self.is_expired())
    }

    fn is_wrong(&self) -> Option<Finding> {
        let Some(secret) = self.secret else {
            return Finding::new("DoesNotExist", "Issuing certificate as Secret does not exist");
        };
        is_incomplete(secret)
            .or_else(|| is_damaged(secret))
            .or_else(|| self.is_of_another_issuer(secret))
            .or_else(|| self.is_of_another_certificate(secret))
            .or_else(|| self.has_another_key(secret))
            .or_else(|| self.is_outdated(secret))
    }

    fn is_of_another_issuer(&self, secret: &SecretFacts) -> Option<Finding> {
        let found = issuer_of(secret);
        let wanted = &self.spec.issuer_ref;
        if (found.name.as_str(), found.kind(), found.group())
            == (&*wanted.name, wanted.kind(), wanted.group())
        {
            return None;
        }
        let found = format!("{}.{}/{}", found.kind(), found.group(), found.name);
        Finding::new(
            "IncorrectIssuer",
            format!("Issuing certificate as Secret was previously issued by \"{found}\""),
        )
    }

    fn is_of_another_certificate(&self, secret: &SecretFacts) -> Option<Finding> {
        let other = secret.annotations.get(names::CERTIFICATE_NAME).filter(|name| *name != self.name)?;
        Finding::new(
            "IncorrectCertificate",
            format!(
                "Secret was issued for \"{other}\". If this message is not transient, you might have two conflicting \
                 Certificates pointing to the same secret."
            ),
        )
    }

    fn has_another_key(&self, secret: &SecretFacts) -> Option<Finding> {
        let violations = key_violations(self.spec, secret.private_key_spec?);
        if violations.is_empty() {
            return None;
        }
        let message =
            format!("Existing private key is not up to date for spec: {}", matching::listed(&violations));
        Finding::new("SecretMismatch", message)
    }

    fn is_outdated(&self, secret: &SecretFacts) -> Option<Finding> {
        let Some(current) = self.current else {
            let certificate = secret.certificate.as_ref()?;
            let violations = matching::loose_violations(self.spec, certificate);
            if violations.is_empty() {
                return None;
            }
            let listed = matching::listed(&violations);
            let message =
                format!("Issuing certificate as Existing issued Secret is not up to date for spec: {listed}");
            return Finding::new("SecretMismatch", message);
        };
        if current.public_key.is_none() {
            let message =
                "Issuing certificate as the current CertificateRequest holds no CSR that can be read";
            return Finding::new("InvalidCertificateRequest", message);
        }
        if current.public_key != secret.private_key {
            let message = "Secret contains a private key that does not match the current CertificateRequest";
            return Finding::new("SecretMismatch", message);
        }
        if !current.violations.is_empty() {
            let listed = matching::listed(&current.violations);
            let message = format!("Fields on existing CertificateRequest resource not up to date: {listed}");
            return Finding::new("RequestChanged", message);
        }
        None
    }

    fn is_due(&self) -> Option<Finding> {
        let certificate = self.secret?.certificate.as_ref()?;
        let due = renewal::renewal_time(certificate.not_before, certificate.not_after, self.spec)?;
        if self.now < due {
            return None;
        }
        let told = self.status.renewal_time.map_or(due, |time| time.0);
        let told = told.strftime("%Y-%m-%d %H:%M:%S +0000 UTC");
        Finding::new("Renewing", format!("Renewing certificate as renewal was scheduled at {told}"))
    }

    fn is_expired(&self) -> Option<Finding> {
        let end = self.secret?.certificate.as_ref()?.not_after;
        if self.now <= end {
            return None;
        }
        let told = end.strftime("%a, %d %b %Y %H:%M:%S UTC");
        Finding::new("Expired", format!("Certificate expired on {told}"))
    }
}

/// The issuer that a Secret says it is of; what is missing means the usual.
fn issuer_of(secret: &SecretFacts) -> IssuerReference {
    let of = |name: &str| secret.annotations.get(name).cloned();
    IssuerReference {
        name: of(names::ISSUER_NAME).unwrap_or_default(),
        kind: of(names::ISSUER_KIND),
        group: of(names::ISSUER_GROUP),
    }
}

fn is_incomplete(secret: &SecretFacts) -> Option<Finding> {
    let has = |key: &str| secret.data.get(key).is_some_and(|digest| *digest != sha256(&[]));
    let missing = match () {
        () if secret.data.is_empty() => "any data",
        () if !has("tls.key") => "a private key",
        () if !has("tls.crt") => "a certificate",
        () => return None,
    };
    Finding::new("MissingData", format!("Issuing certificate as Secret does not contain {missing}"))
}

fn is_damaged(secret: &SecretFacts) -> Option<Finding> {
    let Some(key) = secret.private_key else {
        return Finding::new(
            "InvalidKeyPair",
            "Issuing certificate as Secret contains invalid private key data: error decoding private key PEM block",
        );
    };
    let Some(certificate) = &secret.certificate else {
        return Finding::new(
            "InvalidCertificate",
            "Issuing certificate as Secret contains an invalid certificate: error decoding certificate PEM block: no \
             valid certificates found",
        );
    };
    if certificate.public_key != key {
        return Finding::new(
            "InvalidKeyPair",
            "Issuing certificate as Secret contains a private key that does not match the certificate",
        );
    }
    None
}

/// Fields of `spec.privateKey` that a key does not have.
pub(crate) fn key_violations(spec: &CertificateSpec, found: KeySpec) -> Vec<&'static str> {
    let same_algorithm = matches!(
        (key::algorithm(spec), found),
        (KeyAlgorithm::Rsa, KeySpec::Rsa(_))
            | (KeyAlgorithm::Ecdsa, KeySpec::Ec(_))
            | (KeyAlgorithm::Ed25519, KeySpec::Ed25519)
    );
    if !same_algorithm {
        return vec!["spec.privateKey.algorithm"];
    }
    let found = match found {
        KeySpec::Rsa(bits) => bits,
        KeySpec::Ec(curve) => Curve::bits(curve),
        _ => return Vec::new(),
    };
    if key::size(spec) == i64::from(found) { Vec::new() } else { vec!["spec.privateKey.size"] }
}

/// What a Certificate asks for and cannot have; with what to do about it.
pub(crate) fn unsupported(spec: &CertificateSpec) -> Option<Finding> {
    let refused = |field: &str| format!("spec.{field} is not supported; remove it");
    let creates = spec.keystores.as_ref().is_some_and(|keystores| {
        keystores.jks.as_ref().is_some_and(|jks| jks.create)
            || keystores.pkcs12.as_ref().is_some_and(|pkcs12| pkcs12.create)
    });
    let is_empty = spec.common_name.as_ref().is_none_or(String::is_empty)
        && spec.dns_names.is_empty()
        && spec.uris.is_empty()
        && spec.email_addresses.is_empty()
        && spec.ip_addresses.is_empty();
    let message = if spec.literal_subject.as_ref().is_some_and(|literal| !literal.is_empty()) {
        "spec.literalSubject is not supported; use spec.commonName and spec.subject".to_owned()
    } else if !spec.other_names.is_empty() {
        refused("otherNames")
    } else if spec.name_constraints.is_some() {
        refused("nameConstraints")
    } else if creates {
        refused("keystores") + ", and read tls.key and tls.crt"
    } else if is_empty {
        "at least one of commonName (from the commonName field or from a literalSubject), dnsNames, emailSANs, \
         ipAddresses, otherNames, or uriSANs must be set"
            .to_owned()
    } else {
        key::unsupported(spec)?
    };
    Finding::new(UNSUPPORTED, message)
}

/// Name of the Certificate that may write a Secret, of all that name it: the one that the Secret says it is of, else the
/// oldest.
pub(crate) fn owner_of<'a>(
    claimants: impl IntoIterator<Item = &'a Certificate>,
    secret: Option<&SecretFacts>,
) -> Option<&'a str> {
    let mut claimants: Vec<&Certificate> =
        claimants.into_iter().filter(|one| one.metadata.deletion_timestamp.is_none()).collect();
    let said = secret.and_then(|secret| secret.annotations.get(names::CERTIFICATE_NAME));
    let name = |one: &&'a Certificate| one.metadata.name.as_deref().unwrap_or_default();
    if let Some(said) = said
        && let Some(found) = claimants.iter().find(|one| one.metadata.name.as_ref() == Some(said))
    {
        return Some(name(found));
    }
    claimants.sort_by_key(|one| {
        let created = one.metadata.creation_timestamp.as_ref().map(|time| time.0.as_second());
        (Reverse(created.is_some()), created, one.metadata.name.clone())
    });
    claimants.first().map(name)
}
