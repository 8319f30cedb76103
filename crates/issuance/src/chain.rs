//! Bundles as operators paste them, and chains among a set of certificates.

use crate::{Certificate, CertificateError, KeyError, PrivateKey, Signer, pem};

/// The certificates and keys of one PEM text, in the order they stood.
#[derive(Debug)]
pub struct ImportedBundle {
    /// Certificates of authorities.
    pub certificates: Vec<Certificate>,
    /// Private keys.
    pub keys: Vec<PrivateKey>,
}

/// Why a bundle was refused. The sentences are the client's.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BundleError {
    /// Something stands behind the last block that is none.
    #[error("error when parsing block {block}: invalid PEM data")]
    NotPem {
        /// Its number, from one.
        block: usize,
    },
    /// It has keys, and only certificates were asked for.
    #[error("private keys found in the PEM bundle but not allowed by the path; use /issuers/import/bundle")]
    KeysNotAllowed,
    /// One of its certificates.
    #[error("Error parsing issuer {index}: {error}\n{pem}")]
    Certificate {
        /// Which of the certificates, from zero.
        index: usize,
        /// What is wrong with it.
        error: CertificateError,
        /// The certificate, so that it can be found among many.
        pem: String,
    },
    /// One of its keys.
    #[error("Error parsing key {index}: {error}")]
    Key {
        /// Which of the keys, from zero.
        index: usize,
        /// What is wrong with it.
        error: KeyError,
    },
}

impl ImportedBundle {
    /// Takes a PEM text apart: certificates and, if they are allowed, keys in any order.
    ///
    /// Text before and between the blocks is skipped, as are revocation lists and the parameters
    /// that OpenSSL writes before an EC key. As on the peer, a block of any other kind counts as a
    /// key, and what follows the last block must be blank: a block that was cut off is not passed over.
    ///
    /// # Errors
    /// The first thing in it that cannot be imported.
    pub fn from_pem(text: &str, keys_allowed: bool) -> Result<Self, BundleError> {
        let (blocks, rest) = pem::blocks_and_rest(text);
        if !rest.trim_ascii().is_empty() {
            return Err(BundleError::NotPem { block: blocks.len() + 1 });
        }
        let skipped = ["CRL", "X509 CRL", "EC PARAMS", "EC PARAMETERS"];
        let (certificates, others): (Vec<_>, Vec<_>) = blocks
            .into_iter()
            .filter(|block| !skipped.contains(&block.label))
            .partition(|block| crate::certificate::is_certificate_label(block.label));
        if !keys_allowed && !others.is_empty() {
            return Err(BundleError::KeysNotAllowed);
        }
        let key = |(index, block): (usize, &pem::Block<'_>)| {
            PrivateKey::from_block(block)
                .unwrap_or(Err(KeyError::Missing))
                .map_err(|error| BundleError::Key { index, error })
        };
        let certificate = |(index, block): (usize, &pem::Block<'_>)| {
            authority(&block.der).map_err(|error| {
                let pem = pem::encode(block.label, &block.der);
                BundleError::Certificate { index, error, pem }
            })
        };
        Ok(Self {
            keys: others.iter().enumerate().map(key).collect::<Result<_, _>>()?,
            certificates: certificates.iter().enumerate().map(certificate).collect::<Result<_, _>>()?,
        })
    }

    /// The index of the key that belongs to a certificate.
    pub fn key_of(&self, certificate: &Certificate) -> Option<usize> {
        self.keys.iter().position(|key| Some(key.public_key()) == certificate.public_key())
    }
}

/// A certificate that can be an issuer's.
fn authority(der: &[u8]) -> Result<Certificate, CertificateError> {
    let certificate = Certificate::from_der(der)?;
    if !certificate.is_ca() {
        return Err(CertificateError::NotAnAuthority);
    }
    if certificate.public_key().is_none() {
        return Err(CertificateError::UnknownPublicKey);
    }
    Ok(certificate)
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
