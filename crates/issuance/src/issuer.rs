//! Issuers: a CA certificate, its key, and what its leaves repeat.

use std::sync::Arc;

use crate::{
    Certificate, CertificateError, KeyError, LintPolicy, SignatureAlgorithm, Signer, Time, extension,
};

/// Where relying parties find the issuer's certificate and revocation state.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AiaUrls {
    /// caIssuers (RFC 5280, 4.2.2.1)
    pub issuing_certificates: Vec<String>,
    /// CRL distribution points (RFC 5280, 4.2.1.13)
    pub crl_distribution_points: Vec<String>,
    /// Freshest CRL (RFC 5280, 4.2.1.15)
    pub delta_crl_distribution_points: Vec<String>,
    /// OCSP (RFC 5280, 4.2.2.1)
    pub ocsp_servers: Vec<String>,
}

/// What to do with a leaf that would outlive its issuer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum LeafNotAfter {
    /// Refuse.
    #[default]
    Err,
    /// End it with the issuer.
    Truncate,
    /// Let it be.
    Permit,
}

/// What an operator sets on an issuer.
#[derive(Debug, Clone, Default)]
pub struct IssuerOptions {
    /// URLs that go into its leaves.
    pub urls: AiaUrls,
    /// `leaf_not_after_behavior`
    pub leaf_not_after: LeafNotAfter,
    /// What becomes of certificates that break a standard.
    pub lint: LintPolicy,
}

/// A CA certificate and its key, with the parts that every leaf repeats encoded once.
#[derive(Debug)]
pub struct Issuer {
    certificate: Certificate,
    signer: Arc<dyn Signer>,
    options: IssuerOptions,
    /// Whole extensions; empty for none.
    pub(crate) authority_key_id: Vec<u8>,
    pub(crate) authority_info_access: Vec<u8>,
    pub(crate) crl_distribution_points: Vec<u8>,
    pub(crate) freshest_crl: Vec<u8>,
}

impl Issuer {
    /// Joins a CA certificate with its key.
    ///
    /// # Errors
    /// Not an authority's certificate, or not its key.
    pub fn new(
        certificate: Certificate,
        signer: Arc<dyn Signer>,
        options: IssuerOptions,
    ) -> Result<Self, CertificateError> {
        if !certificate.is_ca() {
            return Err(CertificateError::NotACa);
        }
        if certificate.public_key() != Some(signer.public_key()) {
            return Err(CertificateError::KeyMismatch);
        }
        let urls = &options.urls;
        Ok(Self {
            authority_key_id: certificate
                .subject_key_id()
                .map(extension::authority_key_id)
                .unwrap_or_default(),
            authority_info_access: extension::authority_info_access(urls),
            crl_distribution_points: extension::crl_distribution_points(&urls.crl_distribution_points),
            freshest_crl: extension::freshest_crl(&urls.delta_crl_distribution_points),
            certificate,
            signer,
            options,
        })
    }

    /// The CA certificate.
    pub fn certificate(&self) -> &Certificate {
        &self.certificate
    }

    /// The key.
    pub fn signer(&self) -> &Arc<dyn Signer> {
        &self.signer
    }

    /// What the operator set.
    pub fn options(&self) -> &IssuerOptions {
        &self.options
    }

    /// The end of the CA certificate's lifetime.
    pub fn not_after(&self) -> Time {
        self.certificate.not_after()
    }

    /// The signature algorithm for the API's `signature_bits` and `use_pss`.
    ///
    /// # Errors
    /// Unsupported `signature_bits`.
    pub fn algorithm(&self, signature_bits: u32, use_pss: bool) -> Result<SignatureAlgorithm, KeyError> {
        SignatureAlgorithm::choose(self.signer.public_key().spec(), signature_bits, use_pss)
    }
}
