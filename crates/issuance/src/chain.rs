//! Bundles as operators paste them, and chains among a set of certificates.

use crate::{Certificate, CertificateError, KeyError, PrivateKey, Signer, pem};

/// The certificates and keys of one PEM text, in the order they stood.
#[derive(Debug)]
pub struct ImportedBundle {
    /// Certificates.
    pub certificates: Vec<Certificate>,
    /// Private keys.
    pub keys: Vec<PrivateKey>,
}

/// Why a bundle was refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// One of its certificates.
    #[error(transparent)]
    Certificate(#[from] CertificateError),
    /// One of its keys.
    #[error(transparent)]
    Key(#[from] KeyError),
}

impl ImportedBundle {
    /// Takes a PEM text apart: certificates and keys in any order, anything else skipped.
    ///
    /// # Errors
    /// A certificate or key in it that does not parse.
    pub fn from_pem(text: &str) -> Result<Self, BundleError> {
        let mut bundle = Self { certificates: Vec::new(), keys: Vec::new() };
        for block in pem::blocks(text) {
            if crate::certificate::is_certificate_label(block.label) {
                bundle.certificates.push(Certificate::from_der(&block.der)?);
            } else if let Some(key) = PrivateKey::from_block(&block) {
                bundle.keys.push(key?);
            }
        }
        Ok(bundle)
    }

    /// The index of the key that belongs to a certificate.
    pub fn key_of(&self, certificate: &Certificate) -> Option<usize> {
        self.keys.iter().position(|key| Some(key.public_key()) == certificate.public_key())
    }
}

/// For each certificate, its chain among all of them as indices: itself first, then its issuers
/// up to a root if one is there.
///
/// Where a certificate has several issuers (one name and key, certified more than once), the
/// chain goes on with a self-signed one if there is one, and the other ways up follow behind it.
pub fn build_chains(certificates: &[&Certificate]) -> Vec<Vec<usize>> {
    let issuers: Vec<Vec<usize>> = certificates.iter().map(|one| issuers_of(one, certificates)).collect();
    (0..certificates.len())
        .map(|start| {
            let mut chain = Vec::new();
            climb(start, &issuers, &mut chain);
            chain
        })
        .collect()
}

/// Depth first; each certificate is visited once, so cross-signed circles end.
fn climb(at: usize, issuers: &[Vec<usize>], chain: &mut Vec<usize>) {
    if chain.contains(&at) {
        return;
    }
    chain.push(at);
    for next in issuers.get(at).into_iter().flatten() {
        climb(*next, issuers, chain);
    }
}

/// Those whose name and key made this certificate, self-signed ones first; none for a root.
fn issuers_of(certificate: &Certificate, all: &[&Certificate]) -> Vec<usize> {
    if certificate.is_self_signed() {
        return Vec::new();
    }
    let made_it = |candidate: &Certificate| {
        let identifiers_agree = match (certificate.authority_key_id(), candidate.subject_key_id()) {
            (Some(authority), Some(subject)) => authority == subject,
            _ => true,
        };
        candidate.subject_der() == certificate.issuer_der()
            && identifiers_agree
            && certificate.is_signed_by(candidate)
    };
    let mut issuers: Vec<usize> =
        all.iter().enumerate().filter(|(_, candidate)| made_it(candidate)).map(|(index, _)| index).collect();
    issuers.sort_by_key(|index| all.get(*index).is_none_or(|issuer| !issuer.is_self_signed()));
    issuers
}
