//! Certificates of authorities: roots, intermediates, and the requests for them.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::{
    AiaUrls, Certificate, Issuer, MountLimits, Prepared, Refusal, RequestedNames, SerialNumber, SignError,
    Signer, Subject, VerifiedCsr,
};

/// What a root or an intermediate should say.
#[derive(Debug, Clone)]
pub struct CaRequest {
    /// Names: the common name may be empty. Every name goes, as on the peer.
    pub names: RequestedNames,
    /// C, O, OU, L, ST, street and postal code; its common name, serial number and user ids are
    /// those of `names`.
    pub subject: Subject,
    /// Lifetime; `None` for the mount's default.
    pub ttl: Option<Duration>,
    /// Absolute start, RFC 3339; empty for none.
    pub not_before: String,
    /// Absolute end, RFC 3339; empty for none.
    pub not_after: String,
    /// How far back the certificate begins.
    pub not_before_duration: Duration,
    /// The mount's lifetimes.
    pub limits: MountLimits,
    /// `max_path_length`; -1 (or `None`) for none of one's own.
    pub max_path_length: Option<i64>,
    /// `permitted_dns_domains`
    pub permitted_dns_domains: Vec<String>,
    /// Key usages by the API's names; empty for an authority's usual ones.
    pub key_usage: Vec<String>,
    /// Extended key usages by the API's names.
    pub ext_key_usage: Vec<String>,
    /// Further extended key usages, dotted.
    pub ext_key_usage_oids: Vec<String>,
    /// 0, 256, 384 or 512; matters only to RSA signing keys.
    pub signature_bits: u32,
    /// RSA keys sign with PSS.
    pub use_pss: bool,
    /// Subject, SANs and extensions are the CSR's (only for intermediates).
    pub use_csr_values: bool,
    /// The subject key identifier to use, in hexadecimal; empty for the key's own.
    pub skid: String,
}

impl CaRequest {
    /// A request with this common name, the peer's defaults, and everything else empty.
    pub fn new(common_name: impl Into<String>, limits: MountLimits) -> Self {
        Self {
            names: RequestedNames { common_name: common_name.into(), ..RequestedNames::default() },
            subject: Subject::default(),
            ttl: None,
            not_before: String::new(),
            not_after: String::new(),
            not_before_duration: Duration::from_secs(30),
            limits,
            max_path_length: None,
            permitted_dns_domains: Vec::new(),
            key_usage: Vec::new(),
            ext_key_usage: Vec::new(),
            ext_key_usage_oids: Vec::new(),
            signature_bits: 0,
            use_pss: false,
            use_csr_values: false,
            skid: String::new(),
        }
    }
}

/// Decides everything about a self-signed root.
///
/// # Errors
/// The first rule that the request breaks.
pub fn prepare_root(
    request: &CaRequest,
    signer: &Arc<dyn Signer>,
    urls: &AiaUrls,
    serial: SerialNumber,
    now: Timestamp,
) -> Result<Prepared<'static>, Refusal> {
    let _ = (request, signer, urls, serial, now);
    Err(Refusal::Unsupported { what: "preparing roots".to_owned() })
}

/// Decides everything about an intermediate's certificate.
///
/// # Errors
/// The first rule that the request or the issuer breaks.
pub fn prepare_intermediate<'a>(
    request: &CaRequest,
    csr: &VerifiedCsr,
    issuer: &'a Issuer,
    serial: SerialNumber,
    now: Timestamp,
) -> Result<Prepared<'a>, Refusal> {
    let _ = (request, csr, issuer, serial, now);
    Err(Refusal::Unsupported { what: "preparing intermediates".to_owned() })
}

/// Decides everything about another authority's self-issued certificate, signed anew by this
/// issuer: the same subject, key, lifetime, serial number and extensions, with this issuer's
/// name, key identifier and URLs.
///
/// # Errors
/// The certificate is not an authority's, or not self-issued.
pub fn prepare_self_issued<'a>(
    certificate: &Certificate,
    issuer: &'a Issuer,
    now: Timestamp,
) -> Result<Prepared<'a>, Refusal> {
    let _ = (certificate, issuer, now);
    Err(Refusal::Unsupported { what: "signing self-issued certificates".to_owned() })
}

/// What a request for an intermediate should say.
#[derive(Debug, Clone, Default)]
pub struct CsrRequest {
    /// Names: the common name may be empty.
    pub names: RequestedNames,
    /// As in [`CaRequest`].
    pub subject: Subject,
    /// Ask for a CA certificate in the request itself.
    pub add_basic_constraints: bool,
    /// 0, 256, 384 or 512; matters only to RSA keys.
    pub signature_bits: u32,
    /// RSA keys sign with PSS.
    pub use_pss: bool,
}

/// A signed CSR.
#[derive(Debug, Clone)]
pub struct SignedCsr {
    /// DER.
    pub der: Vec<u8>,
    /// PEM with lines of 64 characters and a final newline.
    pub pem: String,
}

/// Why a CSR was not made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CsrError {
    /// The request cannot be met.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The key failed.
    #[error(transparent)]
    Sign(#[from] SignError),
}

/// Makes and signs a CSR.
///
/// # Errors
/// A name that cannot be read, or a key that refuses.
pub fn create_csr(request: &CsrRequest, signer: &dyn Signer) -> Result<SignedCsr, CsrError> {
    let _ = (request, signer);
    Err(CsrError::Refused(Refusal::Unsupported { what: "creating CSRs".to_owned() }))
}
