//! Certificates of authorities: roots, intermediates, and the requests for them.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::certificate::extension_oid;
use crate::check::Expected;
use crate::emit::{self, Emitter, Malformed, tag};
use crate::prepare::{EMPTY_NAME, Lifetime, SigningKey, check_names, lifetime};
use crate::tbs::{self, Extensions, Tbs};
use crate::{
    AiaUrls, Certificate, CertificateError, ExtendedKeyUsage, IssuanceRequest, Issuer, KeyPolicy, KeyUsage,
    LintPolicy, MountLimits, Prepared, Profile, ProfileConfig, ProfileError, PublicKey, Refusal,
    RequestedNames, SanSet, SerialNumber, SignError, SignatureAlgorithm, Signer, Subject, VerifiedCsr,
    Warning, extension, pem,
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
    /// Key usages by the API's names, beside keyCertSign and cRLSign.
    pub key_usage: Vec<String>,
    /// Extended key usages by the API's names. They bind what stands below (RFC 5280, 4.2.1.12
    /// leaves that open, verifiers do it).
    pub ext_key_usage: Vec<String>,
    /// 0, 256, 384 or 512; matters only to RSA signing keys.
    pub signature_bits: u32,
    /// RSA keys sign with PSS.
    pub use_pss: bool,
    /// Subject, SANs and extensions are the CSR's (only for intermediates).
    pub use_csr_values: bool,
    /// The subject key identifier to use, in hexadecimal; empty for the key's own.
    pub skid: String,
    /// What becomes of a root that breaks a standard. For an intermediate the issuer says it.
    pub lint: LintPolicy,
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
            signature_bits: 0,
            use_pss: false,
            use_csr_values: false,
            skid: String::new(),
            lint: LintPolicy::default(),
        }
    }
}

impl CaRequest {
    /// The profile that authorities' certificates are made under: every name goes, what the
    /// request says stands.
    ///
    /// An intermediate without a common name of its own is named by its CSR.
    fn profile(&self, use_csr_common_name: bool) -> Result<Profile, ProfileError> {
        let subject = &self.subject;
        Profile::new(ProfileConfig {
            ou: subject.ou.clone(),
            organization: subject.organization.clone(),
            country: subject.country.clone(),
            locality: subject.locality.clone(),
            province: subject.province.clone(),
            street_address: subject.street_address.clone(),
            postal_code: subject.postal_code.clone(),
            not_before_duration: self.not_before_duration,
            ext_key_usage: self.ext_key_usage.clone(),
            use_csr_common_name,
            ..authority_profile()
        })
    }

    fn issuance_request(
        &self,
        csr: Option<&VerifiedCsr>,
        profile: &Profile,
    ) -> Result<IssuanceRequest, Refusal> {
        let mut request = IssuanceRequest::new(&self.names, csr, profile, self.limits)?;
        request.ttl = self.ttl;
        request.not_before.clone_from(&self.not_before);
        request.not_after.clone_from(&self.not_after);
        Ok(request)
    }

    /// An authority signs certificates and CRLs, whatever else it may do.
    fn key_usage(&self) -> KeyUsage {
        KeyUsage::CA.union(KeyUsage::from_names(&self.key_usage))
    }

    /// The identifier asked for, or the key's own.
    fn subject_key_id(&self, key: &PublicKey) -> Result<Vec<u8>, Refusal> {
        let digits: String = self.skid.chars().filter(|c| !matches!(c, ':' | '-' | ' ')).collect();
        if digits.is_empty() {
            return Ok(key.subject_key_id().to_vec());
        }
        if let Some(other) = digits.bytes().find(|byte| !byte.is_ascii_hexdigit()) {
            let reason = format!("encoding/hex: invalid byte: U+{other:04X} '{}'", char::from(other));
            return Err(Refusal::MalformedSubjectKeyId { reason });
        }
        data_encoding::HEXLOWER_PERMISSIVE.decode(digits.as_bytes()).map_err(|_| {
            Refusal::MalformedSubjectKeyId { reason: "encoding/hex: odd length hex string".into() }
        })
    }
}

/// Every name goes, and nothing is taken from a CSR but its key.
fn authority_profile() -> ProfileConfig {
    ProfileConfig {
        use_csr_values: false,
        use_csr_common_name: false,
        use_csr_sans: false,
        basic_constraints_valid_for_non_ca: true,
        ..ProfileConfig::verbatim()
    }
}

/// `None` for no constraint.
fn path_length(asked: i64) -> Result<Option<u32>, ProfileError> {
    match asked {
        -1 => Ok(None),
        length => u32::try_from(length).map(Some).map_err(|_| ProfileError::BadPathLength { value: length }),
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
    let profile = request.profile(false)?;
    let names = request.issuance_request(None, &profile)?;
    check_names(&names, &profile)?;
    let mut warnings = Vec::new();
    let lifetime = lifetime(&names, &profile, None, now.into(), &mut warnings)?;
    let path_length = path_length(request.max_path_length.unwrap_or(-1))?;
    if path_length == Some(0) {
        warnings.push(Warning::PathLengthZero { made: "generated" });
    }

    let key = signer.public_key();
    let key_id = key.subject_key_id();
    let subject = names.subject().to_der()?;
    let tbs = Tbs {
        serial,
        algorithm: SignatureAlgorithm::choose(key.spec(), request.signature_bits, request.use_pss)?,
        issuer: &subject,
        subject: &subject,
        spki: key.spki_der(),
        not_before: lifetime.not_before,
        not_after: lifetime.not_after,
        extensions: Extensions {
            key_usage: &extension::key_usage(request.key_usage()),
            ext_key_usage: &profile.ext_key_usage_extension,
            basic_constraints: &extension::basic_constraints(true, path_length),
            subject_key_id: &key_id,
            authority_key_id: &extension::authority_key_id(&key_id),
            authority_info_access: &extension::authority_info_access(urls),
            sans: Some(names.sans()),
            sans_critical: subject == EMPTY_NAME,
            name_constraints: &permitted_dns(&request.permitted_dns_domains)?,
            crl_distribution_points: &extension::crl_distribution_points(&urls.crl_distribution_points),
            freshest_crl: &extension::freshest_crl(&urls.delta_crl_distribution_points),
            ..Extensions::default()
        },
    };
    let expected = Expected::of(&tbs, names.sans().clone(), true);
    Prepared::new(&tbs, SigningKey::Itself(Arc::clone(signer)), expected, request.lint, warnings)
}

/// Decides everything about an intermediate's certificate.
///
/// Unlike a leaf, it may outlive its issuer, with a warning: it may be signed anew by another.
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
    let profile = request.profile(request.names.common_name.is_empty())?;
    let mut names = request.issuance_request(Some(csr), &profile)?;
    // As on the peer: user ids are for leaves, so a CSR's are not passed on.
    names.drop_user_ids();
    check_names(&names, &profile)?;
    if request.use_csr_values {
        names.take_csr_values(csr);
        check_names(&names, &profile)?;
    }
    let mut capped = Vec::new();
    let lifetime = lifetime(&names, &profile, None, now.into(), &mut capped)?;

    // RFC 5280, 4.2.1.9: the constraint counts the authorities below the one that carries it.
    let inherited = match issuer.certificate().path_length() {
        Some(0) => return Err(Refusal::PathLengthExhausted),
        Some(length) => i64::from(length) - 1,
        None => -1,
    };
    let path_length = path_length(request.max_path_length.unwrap_or(inherited))?;
    let mut warnings = Vec::new();
    if lifetime.not_after > issuer.not_after() {
        warnings.push(Warning::OutlivesIssuer);
    }
    if path_length == Some(0) {
        warnings.push(Warning::PathLengthZero { made: "signed" });
    }
    warnings.append(&mut capped);

    let key = csr.public_key();
    let key_id = request.subject_key_id(key)?;
    let own_subject;
    let (subject, requested) = match names.csr_values() {
        Some(values) => (values.subject.as_slice(), values.extensions.iter().map(Vec::as_slice).collect()),
        None => {
            own_subject = names.subject().to_der()?;
            (own_subject.as_slice(), Vec::new())
        }
    };
    let tbs = Tbs {
        serial,
        algorithm: issuer.algorithm(request.signature_bits, request.use_pss)?,
        issuer: issuer.certificate().subject_der(),
        subject,
        spki: key.spki_der(),
        not_before: lifetime.not_before,
        not_after: lifetime.not_after,
        extensions: Extensions {
            key_usage: &extension::key_usage(request.key_usage()),
            ext_key_usage: &profile.ext_key_usage_extension,
            basic_constraints: &extension::basic_constraints(true, path_length),
            subject_key_id: &key_id,
            authority_key_id: &issuer.authority_key_id,
            authority_info_access: &issuer.authority_info_access,
            sans: Some(names.sans()),
            sans_critical: subject == EMPTY_NAME,
            name_constraints: &permitted_dns(&request.permitted_dns_domains)?,
            crl_distribution_points: &issuer.crl_distribution_points,
            requested,
            freshest_crl: &issuer.freshest_crl,
            ..Extensions::default()
        },
    };
    let expected = Expected::of(&tbs, names.sans().clone(), true);
    Prepared::new(&tbs, SigningKey::Issuer(issuer), expected, issuer.options().lint, warnings)
}

/// dNSName subtrees are IA5Strings.
fn permitted_dns(domains: &[String]) -> Result<Vec<u8>, Refusal> {
    match domains.iter().find(|domain| !domain.is_ascii()) {
        Some(domain) => Err(Refusal::Unencodable { field: "permitted_dns_domains", value: domain.clone() }),
        None => Ok(extension::permitted_dns(domains)),
    }
}

/// Decides everything about another authority's self-issued certificate, signed anew by this
/// issuer: the same subject, key, lifetime, serial number and extensions, with this issuer's
/// name, key identifier and URLs.
///
/// Expired ones are signed too, as on the peer: their lifetime stays what it was.
///
/// # Errors
/// The certificate is not an authority's, not self-issued, has a key of an unknown kind or one that
/// is too weak, or is not signed by it: nobody has shown then that the key is the subject's. Or the
/// issuer may not have further authorities below it.
pub fn prepare_self_issued<'a>(
    certificate: &Certificate,
    issuer: &'a Issuer,
) -> Result<Prepared<'a>, Refusal> {
    if !certificate.is_ca() {
        return Err(CertificateError::NotACa.into());
    }
    if !certificate.is_self_issued() {
        return Err(CertificateError::NotSelfIssued.into());
    }
    let key = certificate.public_key().ok_or(Refusal::UnknownPublicKey)?;
    KeyPolicy::any().check(key)?;
    if !certificate.is_signed_with(key) {
        return Err(CertificateError::NotSelfSigned.into());
    }
    if issuer.certificate().path_length() == Some(0) {
        return Err(Refusal::PathLengthExhausted);
    }
    let lifetime = Lifetime { not_before: certificate.not_before(), not_after: certificate.not_after() };
    let Lifetime { not_before, not_after } = lifetime.since_1970()?;
    let replaced = [
        extension_oid::AUTHORITY_KEY_ID,
        extension_oid::AUTHORITY_INFO_ACCESS,
        extension_oid::CRL_DISTRIBUTION_POINTS,
        extension_oid::FRESHEST_CRL,
    ];
    let malformed = |Malformed(reason)| CertificateError::Malformed { reason: reason.to_owned() };
    let extensions = certificate.extensions().map_err(malformed)?;
    let kept = extensions.iter().filter(|extension| !replaced.contains(&extension.oid));
    let sans = extensions
        .iter()
        .find(|extension| extension.oid == extension_oid::SUBJECT_ALT_NAME)
        .map_or(Ok(SanSet::default()), |extension| SanSet::read(extension.value))
        .map_err(malformed)?;
    let tbs = Tbs {
        serial: certificate.serial_number(),
        algorithm: issuer.algorithm(0, false)?,
        issuer: issuer.certificate().subject_der(),
        subject: certificate.subject_der(),
        spki: key.spki_der(),
        not_before,
        not_after,
        extensions: Extensions {
            authority_key_id: &issuer.authority_key_id,
            authority_info_access: &issuer.authority_info_access,
            crl_distribution_points: &issuer.crl_distribution_points,
            requested: kept.map(|extension| extension.raw).collect(),
            freshest_crl: &issuer.freshest_crl,
            ..Extensions::default()
        },
    };
    let expected = Expected::of(&tbs, sans, true);
    Prepared::new(&tbs, SigningKey::Issuer(issuer), expected, issuer.options().lint, Vec::new())
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
    /// Mark the names as critical, as they must be in a certificate without a subject (RFC 5280, 4.2.1.6): some
    /// authorities copy the extension as it is, or refuse it otherwise.
    pub critical_names: bool,
    /// 0, 256, 384 or 512; matters only to RSA keys.
    pub signature_bits: u32,
    /// RSA keys sign with PSS.
    pub use_pss: bool,
    /// Key usages to ask for, as a critical extension; empty for none (RFC 5280, 4.2.1.3).
    pub key_usage: KeyUsage,
    /// Extended key usages to ask for; empty for none (RFC 5280, 4.2.1.12).
    pub extended_key_usage: Vec<ExtendedKeyUsage>,
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
    /// The content of extensionRequest's identifier (RFC 2985, 5.4.2).
    const EXTENSION_REQUEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x0e];

    let names = CaRequest { subject: request.subject.clone(), ..CaRequest::new("", NO_LIMITS) };
    let profile = names.profile(false).map_err(Refusal::from)?;
    let names = IssuanceRequest::new(&request.names, None, &profile, NO_LIMITS)?;
    check_names(&names, &profile)?;
    let subject = names.subject().to_der()?;
    let key = signer.public_key();
    let algorithm = SignatureAlgorithm::choose(key.spec(), request.signature_bits, request.use_pss)
        .map_err(Refusal::from)?;

    let mut out = Emitter::new(256 + key.spki_der().len() + subject.len());
    if request.add_basic_constraints {
        out.raw(&extension::basic_constraints(true, None));
    }
    if !request.extended_key_usage.is_empty() {
        let usages = request.extended_key_usage.iter().filter_map(|usage| emit::oid_content(usage.oid));
        out.raw(&extension::ext_key_usage(&usages.collect::<Vec<_>>()));
    }
    if !request.key_usage.is_empty() {
        out.raw(&extension::key_usage(request.key_usage));
    }
    if !names.sans().is_empty() {
        let mark = out.mark();
        names.sans().emit(&mut out);
        extension::close(&mut out, mark, extension_oid::SUBJECT_ALT_NAME, request.critical_names);
    }
    // What is written later stands earlier: names, key usage, extended key usage, basic constraints.
    if out.mark() > 0 {
        out.close(tag::SEQUENCE, 0);
        out.close(tag::SET, 0);
        out.element(tag::OID, EXTENSION_REQUEST);
        out.close(tag::SEQUENCE, 0);
    }
    // The set of attributes is written even if it is empty (RFC 2986, 4.1).
    out.close(tag::constructed(0), 0);
    out.raw(key.spki_der());
    out.raw(&subject);
    out.unsigned(&[0]);
    out.close(tag::SEQUENCE, 0);
    let info = out.finish();

    let signature = signer.sign(algorithm, &info)?;
    let der = tbs::signed(&info, algorithm, &signature);
    // What nobody would accept is not handed out.
    VerifiedCsr::from_der(&der, &KeyPolicy::any())?;
    Ok(SignedCsr { pem: pem::encode("CERTIFICATE REQUEST", &der), der })
}

/// A CSR has no lifetime.
const NO_LIMITS: MountLimits = MountLimits { default_ttl: Duration::ZERO, max_ttl: Duration::ZERO };

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{IssuerOptions, KeySpec, PrivateKey, Time};

    fn ed25519() -> PrivateKey {
        PrivateKey::generate(KeySpec::Ed25519).unwrap()
    }

    /// A self-signed root, good but for what is given.
    fn root(key: &PrivateKey, serial: &[u8], begin: i64, path_length: Option<u32>) -> Certificate {
        let subject = Subject::from_common_name("root").to_der().unwrap();
        let tbs = Tbs {
            serial: SerialNumber::or_zero(serial).unwrap(),
            algorithm: SignatureAlgorithm::Ed25519,
            issuer: &subject,
            subject: &subject,
            spki: key.public_key().spki_der(),
            not_before: Time::from_second(begin),
            not_after: Time::from_second(4_000_000_000),
            extensions: Extensions {
                basic_constraints: &extension::basic_constraints(true, path_length),
                ..Extensions::default()
            },
        };
        let content = tbs.to_der();
        let signature = key.sign(SignatureAlgorithm::Ed25519, &content).unwrap();
        Certificate::from_der(&tbs::signed(&content, SignatureAlgorithm::Ed25519, &signature)).unwrap()
    }

    fn issuer(path_length: Option<u32>) -> Issuer {
        let key = ed25519();
        let certificate = root(&key, &[1], 0, path_length);
        Issuer::new(certificate, Arc::new(key), IssuerOptions::default()).unwrap()
    }

    #[test]
    fn a_request_asks_for_usages_in_the_extensions_of_a_certificate() {
        let request = CsrRequest {
            key_usage: KeyUsage::from_names(&["DigitalSignature", "KeyEncipherment"]),
            extended_key_usage: ["ServerAuth", "ClientAuth"]
                .iter()
                .filter_map(|name| ExtendedKeyUsage::from_name(name))
                .collect(),
            names: RequestedNames { alt_names: vec!["a.example".into()], ..RequestedNames::default() },
            ..CsrRequest::default()
        };
        let signed = create_csr(&request, &ed25519()).unwrap();
        let csr = VerifiedCsr::from_der(&signed.der, &KeyPolicy::any()).unwrap();
        assert_eq!(csr.key_usage(), Some(request.key_usage));
        let kinds: Vec<&[u8]> = csr.requested_extensions().map(|(oid, _)| oid).collect();
        assert_eq!(
            kinds,
            [extension_oid::SUBJECT_ALT_NAME, extension_oid::KEY_USAGE, extension_oid::EXTENDED_KEY_USAGE]
        );
        let (_, usages) = csr.requested_extensions().nth(2).unwrap();
        assert_eq!(usages.len(), 2 + 10 + 10);
    }

    #[test]
    fn a_root_is_signed_anew_only_if_its_own_key_signed_it() {
        let good = root(&ed25519(), &[7], 0, None);
        assert_eq!(
            prepare_self_issued(&good, &issuer(None)).unwrap().sign().unwrap().serial_number.as_bytes(),
            [7]
        );
        let mut damaged = good.der().to_vec();
        *damaged.last_mut().unwrap() ^= 1;
        let damaged = Certificate::from_der(&damaged).unwrap();
        assert_eq!(
            prepare_self_issued(&damaged, &issuer(None)).unwrap_err().to_string(),
            "given certificate is not signed by its own key"
        );
    }

    #[test]
    fn an_issuer_without_room_below_it_signs_no_root_anew() {
        let other = root(&ed25519(), &[7], 0, None);
        let refused = prepare_self_issued(&other, &issuer(Some(0))).unwrap_err();
        assert_eq!(refused, Refusal::PathLengthExhausted);
        assert!(prepare_self_issued(&other, &issuer(Some(1))).unwrap().sign().is_ok());
    }

    #[test]
    fn a_root_with_the_serial_number_zero_or_a_long_path_is_signed_anew() {
        let zero = root(&ed25519(), &[0], 0, Some(300));
        let signed = prepare_self_issued(&zero, &issuer(None)).unwrap().sign().unwrap();
        assert_eq!(signed.serial_number.to_string(), "00");
        assert_eq!(signed.certificate().unwrap().path_length(), Some(300));
    }

    #[test]
    fn a_root_from_before_1970_is_refused_before_anything_is_signed() {
        let old = root(&ed25519(), &[7], -1, None);
        assert_eq!(
            prepare_self_issued(&old, &issuer(None)).unwrap_err().to_string(),
            "cannot satisfy request, as not_before of 1969-12-31T23:59:59Z is before 1970-01-01T00:00:00Z"
        );
    }
}
