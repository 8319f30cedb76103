//! Certificates of issuers without a profile: subject and names as the CSR has them, usages as they are asked for.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::check::Expected;
use crate::emit::oid_content;
use crate::prepare::{EMPTY_NAME, Lifetime, SigningKey};
use crate::tbs::{Extensions, Tbs};
use crate::{
    AiaUrls, ExtendedKeyUsage, Issuer, KeyPolicy, KeyUsage, LeafNotAfter, LintPolicy, Prepared, Refusal,
    SerialNumber, SignatureAlgorithm, Signer, Time, VerifiedCsr, extension,
};

/// What is asked for beside the CSR.
#[derive(Debug, Clone, Default)]
pub struct PlainRequest {
    /// Key usages; none leaves the extension out. An authority also gets keyCertSign.
    pub key_usage: KeyUsage,
    /// Extended key usages; none leaves the extension out.
    pub ext_key_usage: Vec<ExtendedKeyUsage>,
    /// Whether it is an authority's.
    pub is_ca: bool,
    /// Lifetime from now on.
    pub ttl: Duration,
}

/// Who signs.
#[derive(Debug, Clone, Copy)]
pub enum PlainSigner<'a> {
    /// An issuer.
    Issuer(&'a Issuer),
    /// The subject itself, with the key of the CSR.
    Itself(&'a Arc<dyn Signer>, &'a AiaUrls),
}

/// Decides everything; signs nothing. Whoever asks has decided already that these names may be had.
///
/// It begins now. Where the issuer says so ([`LeafNotAfter`]) it ends with its issuer at the latest.
///
/// # Errors
/// A weak key, a name that cannot be written, a lifetime that is empty or beyond the issuer's, an authority where the
/// issuer may have none below it (RFC 5280, 4.2.1.9), or a key that is not the CSR's.
pub fn prepare_plain<'a>(
    request: &PlainRequest,
    csr: &VerifiedCsr,
    signer: PlainSigner<'a>,
    serial: SerialNumber,
    now: Timestamp,
) -> Result<Prepared<'a>, Refusal> {
    let PlainRequest { key_usage, ext_key_usage, is_ca, ttl } = request;
    let key = csr.public_key();
    KeyPolicy::any().check(key)?;
    let lifetime = lifetime(*ttl, signer, now.into())?;
    let usage = if *is_ca { key_usage.union(KeyUsage::from_names(&["CertSign"])) } else { *key_usage };
    let extended: Vec<Vec<u8>> = ext_key_usage.iter().filter_map(|usage| oid_content(usage.oid)).collect();
    let key_id = key.subject_key_id();
    let own;
    let (algorithm, issuer, urls, authority_key_id, inherited) = match signer {
        PlainSigner::Issuer(issuer) => {
            let below = match (is_ca, issuer.certificate().path_length()) {
                (true, Some(0)) => return Err(Refusal::PathLengthExhausted),
                (true, Some(length)) => Some(length - 1),
                _ => None,
            };
            let algorithm = issuer.algorithm(0, false)?;
            let subject = issuer.certificate().subject_der();
            (algorithm, subject, &issuer.options().urls, issuer.authority_key_id.as_slice(), below)
        }
        PlainSigner::Itself(signer, urls) => {
            if signer.public_key() != key {
                return Err(crate::CertificateError::KeyMismatch.into());
            }
            own = extension::authority_key_id(&key_id);
            let algorithm = SignatureAlgorithm::choose(key.spec(), 0, false)?;
            (algorithm, csr.subject_der(), urls, own.as_slice(), None)
        }
    };
    let subject = csr.subject_der();
    let tbs = Tbs {
        serial,
        algorithm,
        issuer,
        subject,
        spki: key.spki_der(),
        not_before: lifetime.not_before,
        not_after: lifetime.not_after,
        extensions: Extensions {
            key_usage: &extension::key_usage(usage),
            ext_key_usage: &extension::ext_key_usage(&extended),
            basic_constraints: &extension::basic_constraints(*is_ca, inherited),
            subject_key_id: &key_id,
            authority_key_id,
            authority_info_access: &extension::authority_info_access(urls),
            sans: Some(csr.sans()),
            // RFC 5280, 4.1.2.6: where the subject says nothing, the SANs must be understood.
            sans_critical: subject == EMPTY_NAME,
            crl_distribution_points: &extension::crl_distribution_points(&urls.crl_distribution_points),
            freshest_crl: &extension::freshest_crl(&urls.delta_crl_distribution_points),
            ..Extensions::default()
        },
    };
    let expected = Expected::of(&tbs, csr.sans().clone(), *is_ca);
    let (key, lint) = match signer {
        PlainSigner::Issuer(issuer) => (SigningKey::Issuer(issuer), issuer.options().lint),
        PlainSigner::Itself(signer, _) => (SigningKey::Itself(Arc::clone(signer)), LintPolicy::default()),
    };
    Prepared::new(&tbs, key, expected, lint, Vec::new())
}

fn lifetime(ttl: Duration, signer: PlainSigner<'_>, not_before: Time) -> Result<Lifetime, Refusal> {
    let mut not_after = not_before.plus(ttl);
    if let PlainSigner::Issuer(issuer) = signer
        && not_after > issuer.not_after()
    {
        let limit = issuer.not_after();
        match issuer.options().leaf_not_after {
            LeafNotAfter::Permit => {}
            LeafNotAfter::Truncate => not_after = limit,
            LeafNotAfter::Err => return Err(Refusal::EndsAfterIssuer { not_after, limit }),
        }
    }
    if not_before >= not_after {
        return Err(Refusal::EmptyLifetime { not_before, not_after });
    }
    Lifetime { not_before, not_after }.since_1970()
}
