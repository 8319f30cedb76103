//! Certification requests (RFC 2986) that parsed, hold, and carry an acceptable key.

use crate::{KeyPolicy, PublicKey, Refusal, SanSet, Subject, SubjectKey, pem};

/// A CSR that parsed, whose self-signature holds and whose key is acceptable.
#[derive(Debug, Clone)]
pub struct VerifiedCsr {
    subject: Subject,
    sans: SanSet,
    key: PublicKey,
}

impl VerifiedCsr {
    /// The first CSR in a PEM text, held against a key policy.
    ///
    /// # Errors
    /// Empty, no CSR, malformed, signed by another key, or a key the policy refuses.
    pub fn from_pem(text: &str, keys: &KeyPolicy) -> Result<Self, Refusal> {
        if text.is_empty() {
            return Err(Refusal::EmptyCsr);
        }
        let block = pem::blocks(text).next().ok_or(Refusal::CsrWithoutData)?;
        Self::from_der(&block.der, keys)
    }

    /// From DER.
    ///
    /// # Errors
    /// As [`VerifiedCsr::from_pem`].
    pub fn from_der(der: &[u8], keys: &KeyPolicy) -> Result<Self, Refusal> {
        let _ = (der, keys);
        Err(Refusal::Unsupported { what: "reading CSRs".to_owned() })
    }

    /// The subject by attribute.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// The subject alternative names.
    pub fn sans(&self) -> &SanSet {
        &self.sans
    }

    /// The key, now proved to be the requester's.
    pub fn key(&self) -> SubjectKey {
        SubjectKey::of_csr(self.key.clone())
    }

    /// The key.
    pub fn public_key(&self) -> &PublicKey {
        &self.key
    }
}
