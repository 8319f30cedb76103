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
    /// More in it than is taken at once.
    #[error("{found} {what} found in the PEM bundle, of which at most {most} can be imported at once")]
    TooMany {
        /// `certificates` or `private keys`.
        what: &'static str,
        /// How many there are.
        found: usize,
        /// How many there may be.
        most: usize,
    },
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
    /// How many certificates, and how many keys, are taken at once: reading a key takes milliseconds.
    pub const MOST: usize = 100;

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
        for (what, found) in [("certificates", certificates.len()), ("private keys", others.len())] {
            if found > Self::MOST {
                return Err(BundleError::TooMany { what, found, most: Self::MOST });
            }
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

/// The longest chain that is built. No verifier follows one that long.
const LONGEST_CHAIN: usize = 32;

/// For each certificate, its chain among all of them as indices: itself first, then its issuers
/// up to a root if one is there. A chain of more than 32 certificates ends with the 32nd.
///
/// Where a certificate has several issuers (one name and key, certified more than once), the
/// chain goes on with a self-signed one if there is one, and the other ways up follow behind it.
pub fn build_chains(certificates: &[&Certificate]) -> Vec<Vec<usize>> {
    let roots: Vec<bool> = certificates.iter().map(|one| one.is_self_signed()).collect();
    let issuers: Vec<Vec<usize>> = certificates
        .iter()
        .zip(&roots)
        .map(|(one, is_root)| if *is_root { Vec::new() } else { issuers_of(one, certificates, &roots) })
        .collect();
    (0..certificates.len()).map(|start| climb(start, &issuers)).collect()
}

/// Depth first; each certificate is visited once, so cross-signed circles end.
fn climb(start: usize, issuers: &[Vec<usize>]) -> Vec<usize> {
    let mut chain = Vec::new();
    let mut ahead = vec![start];
    while let Some(at) = ahead.pop() {
        if chain.contains(&at) {
            continue;
        }
        chain.push(at);
        if chain.len() == LONGEST_CHAIN {
            break;
        }
        ahead.extend(issuers.get(at).into_iter().flatten().rev());
    }
    chain
}

/// Those whose name and key made this certificate, which is no root; self-signed ones first.
fn issuers_of(certificate: &Certificate, all: &[&Certificate], roots: &[bool]) -> Vec<usize> {
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
    issuers.sort_by_key(|index| roots.get(*index) != Some(&true));
    issuers
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_chain_visits_each_certificate_once_and_ends_with_the_32nd() {
        let ladder: Vec<Vec<usize>> = (0..100_000).map(|index| vec![index + 1]).collect();
        assert_eq!(climb(7, &ladder), (7..39).collect::<Vec<_>>());
        assert_eq!(climb(99_999, &ladder), [99_999, 100_000]);
        // The first way up is followed to its end before the second.
        let crossed = [vec![1, 2], vec![3], vec![4, 0], vec![], vec![1]];
        assert_eq!(climb(0, &crossed), [0, 1, 3, 2, 4]);
        assert_eq!(climb(2, &crossed), [2, 4, 1, 3, 0]);
    }

    #[test]
    fn a_bundle_of_very_many_is_refused_before_they_are_read() {
        let block = |label: &str| pem::encode(label, &[0x30, 0]);
        let refused = |label: &str, count| {
            ImportedBundle::from_pem(&block(label).repeat(count), true).unwrap_err().to_string()
        };
        assert_eq!(
            refused("CERTIFICATE", 101),
            "101 certificates found in the PEM bundle, of which at most 100 can be imported at once"
        );
        assert_eq!(
            refused("PRIVATE KEY", 5000),
            "5000 private keys found in the PEM bundle, of which at most 100 can be imported at once"
        );
        assert!(refused("CERTIFICATE", 100).starts_with("Error parsing issuer 0"));
        assert!(refused("PRIVATE KEY", 100).starts_with("Error parsing key 0"));
    }
}
