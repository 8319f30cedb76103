//! What is handed out: a certificate with its key, or what to trust.

use std::collections::BTreeMap;

use aws_lc_rs::digest::{SHA256, digest};
use chancery_issuance::{Certificate, CertificateError, KeyError, PrivateKey, Signer as _};
use data_encoding::HEXLOWER;
use zeroize::Zeroizing;

/// Why something cannot be handed out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SecretError {
    /// The chain is none.
    #[error("the certificate chain: {0}")]
    Chain(#[from] CertificateError),
    /// The key is none.
    #[error("the private key: {0}")]
    Key(#[from] KeyError),
    /// They do not belong together.
    #[error("the private key is not that of the first certificate")]
    Mismatch,
    /// No root that could be read.
    #[error("there is no root certificate in it")]
    NoRoots,
}

/// One secret, checked. Its version changes exactly when what is handed out changes.
#[derive(Debug, PartialEq)]
pub enum Content {
    /// A certificate with its key.
    KeyPair(KeyPair),
    /// What to trust.
    Roots(TrustBundle),
}

impl Content {
    /// Tells this content from others, in a few characters.
    pub fn version(&self) -> &str {
        match self {
            Self::KeyPair(pair) => &pair.version,
            Self::Roots(roots) => &roots.version,
        }
    }
}

/// A certificate chain and the private key of its first certificate.
#[derive(PartialEq)]
pub struct KeyPair {
    /// The chain, the leaf first, none twice.
    pub certificates: Vec<Certificate>,
    /// The same in PEM, with a line end after each.
    pub chain: String,
    /// The key in PEM.
    pub key: Zeroizing<String>,
    version: String,
}

impl KeyPair {
    /// From a chain in PEM, in one text or in several, and a key in PEM.
    ///
    /// A certificate that comes again is left out: clients that are strict refuse a chain with a root twice.
    ///
    /// # Errors
    /// One of them cannot be read, or they do not belong together.
    pub fn new<T: AsRef<str>>(chain: &[T], key: Zeroizing<String>) -> Result<Self, SecretError> {
        let mut certificates: Vec<Certificate> = Vec::new();
        for element in chain {
            for block in blocks(element.as_ref()) {
                let certificate = match Certificate::from_pem(block) {
                    // What follows the last block.
                    Err(CertificateError::Missing) => continue,
                    read => read?,
                };
                if !certificates.iter().any(|known| known.der() == certificate.der()) {
                    certificates.push(certificate);
                }
            }
        }
        let leaf = certificates.first().ok_or(CertificateError::Missing)?;
        if leaf.public_key() != Some(PrivateKey::from_pem(&key)?.public_key()) {
            return Err(SecretError::Mismatch);
        }
        let chain = pem_of(&certificates);
        Ok(Self { version: version_of(&chain), chain, certificates, key })
    }

    /// The workload's own certificate.
    pub fn leaf(&self) -> Option<&Certificate> {
        self.certificates.first()
    }
}

impl std::fmt::Debug for KeyPair {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("KeyPair").field("chain", &self.chain).field("key", &"[redacted]").finish()
    }
}

/// Root certificates.
#[derive(Debug, Clone, PartialEq)]
pub struct TrustBundle {
    /// Each of them once, in the order of their PEM.
    pub certificates: Vec<Certificate>,
    /// All of them in PEM: the same text for the same set, in whichever order they came.
    pub pem: String,
    version: String,
}

impl TrustBundle {
    /// The certificates of a PEM text. One that cannot be read is passed over: a single bad root in a bundle must not
    /// take the trust in all others away.
    ///
    /// # Errors
    /// None could be read.
    pub fn from_pem(text: &str) -> Result<Self, SecretError> {
        let mut found = BTreeMap::new();
        for block in blocks(text) {
            if let Ok(certificate) = Certificate::from_pem(block) {
                found.insert(certificate.pem().to_owned(), certificate);
            }
        }
        if found.is_empty() {
            return Err(SecretError::NoRoots);
        }
        let certificates: Vec<Certificate> = found.into_values().collect();
        let pem = pem_of(&certificates);
        Ok(Self { version: version_of(&pem), certificates, pem })
    }

    /// Whether this certificate is one of the roots.
    pub fn contains(&self, certificate: &Certificate) -> bool {
        self.certificates.iter().any(|root| root.der() == certificate.der())
    }
}

/// A text cut behind each certificate, so that one may follow another without a line end between them.
fn blocks(text: &str) -> impl Iterator<Item = &str> {
    text.split_inclusive("-----END CERTIFICATE-----")
}

fn pem_of(certificates: &[Certificate]) -> String {
    certificates.iter().map(Certificate::pem).collect()
}

/// The key needs no part in it: a new key makes a new certificate.
fn version_of(pem: &str) -> String {
    let hash = digest(&SHA256, pem.as_bytes());
    HEXLOWER.encode(hash.as_ref().get(..16).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::super::test_ca::Ca;
    use super::*;

    #[test]
    fn a_bundle_is_the_same_whatever_the_order_and_passes_over_what_is_no_certificate() {
        // In `turned` there is no line end between the first and the second.
        let (one, other) = (Ca::new("one"), Ca::new("other"));
        let broken = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
        let bundle =
            TrustBundle::from_pem(&format!("{}{broken}{}", one.root_pem(), other.root_pem())).unwrap();
        let without_line_end = other.root_pem().trim_end().to_owned();
        let turned =
            TrustBundle::from_pem(&format!("{without_line_end}{}{}", one.root_pem(), one.root_pem()));
        assert_eq!(bundle.certificates.len(), 2);
        assert_eq!(Ok(&bundle), turned.as_ref());
        assert_eq!(bundle.version, turned.unwrap().version);
        assert_eq!(TrustBundle::from_pem(broken), Err(SecretError::NoRoots));
        assert_eq!(TrustBundle::from_pem(""), Err(SecretError::NoRoots));
    }

    #[test]
    fn a_pair_belongs_together_and_has_no_certificate_twice() {
        let ca = Ca::new("root");
        let (leaf, key) = ca.leaf("spiffe://d/ns/a/sa/b");
        let chain = [format!("{}{}", leaf.trim_end(), ca.root_pem()), ca.root_pem()];
        let pair = KeyPair::new(&chain, key.clone()).unwrap();
        assert_eq!(pair.certificates.len(), 2);
        assert_eq!(pair.chain, format!("{leaf}{}", ca.root_pem()));
        assert!(!format!("{pair:?}").contains("PRIVATE"));

        let (_, other) = ca.leaf("spiffe://d/ns/a/sa/b");
        assert_eq!(KeyPair::new(&chain, other), Err(SecretError::Mismatch));
        assert_eq!(
            KeyPair::new::<&str>(&[], key.clone()),
            Err(SecretError::Chain(CertificateError::Missing))
        );
        assert!(matches!(KeyPair::new(&chain, Zeroizing::new(String::new())), Err(SecretError::Key(_))));
        assert!(matches!(
            KeyPair::new(&["-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"], key),
            Err(SecretError::Chain(_))
        ));
    }
}
