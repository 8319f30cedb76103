//! The decision: everything about a certificate is settled here, before the key is touched.

use std::collections::HashSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use crate::certificate::extension_oid;
use crate::check::Expected;
use crate::hostname::{glob, is_hostname, to_ascii};
use crate::tbs::{self, Extensions, Tbs};
use crate::{
    Certificate, CertificateError, Issuer, LeafNotAfter, LintPolicy, NotAfterBound, NotBeforeBound,
    OtherName, Profile, Refusal, RequestedNames, SanSet, SerialNumber, SignError, SignatureAlgorithm, Signer,
    Subject, SubjectKey, Time, VerifiedCsr, Warning, pem, uri,
};

/// The mount's own lifetimes, which stand in where the profile has none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MountLimits {
    /// Lifetime if nobody says anything.
    pub default_ttl: Duration,
    /// Longest lifetime if the profile has none.
    pub max_ttl: Duration,
}

/// What this one certificate should say.
#[derive(Debug, Clone)]
pub struct IssuanceRequest {
    subject: Subject,
    sans: SanSet,
    /// What the common name would add to the SANs if they were not the CSR's alone. As on the peer, it is judged
    /// like any other name.
    unwritten: SanSet,
    /// URIs as they were asked for, before they were brought into normal form.
    uris_as_asked: Vec<String>,
    display_name: String,
    /// For the sentences of refusals.
    sans_from: &'static str,
    csr_values: Option<CsrValues>,
    warnings: Vec<Warning>,
    ignored_basic_constraints: bool,
    /// Lifetime asked for; `None` or zero for the profile's.
    pub ttl: Option<Duration>,
    /// Absolute start, RFC 3339; empty for none.
    pub not_before: String,
    /// Absolute end, RFC 3339; empty for none.
    pub not_after: String,
    /// The mount's lifetimes.
    pub limits: MountLimits,
}

/// What a certificate takes from its CSR as it stands.
#[derive(Debug, Clone)]
pub(crate) struct CsrValues {
    pub(crate) subject: Vec<u8>,
    /// Whole extensions.
    pub(crate) extensions: Vec<Vec<u8>>,
}

impl CsrValues {
    /// All but basic constraints, which are the issuer's decision, and the authority key
    /// identifier, which is the issuer's own.
    pub(crate) fn of(csr: &VerifiedCsr, without_sans: bool) -> Self {
        let dropped = |oid: &[u8]| {
            oid == extension_oid::BASIC_CONSTRAINTS
                || oid == extension_oid::AUTHORITY_KEY_ID
                || (without_sans && oid == extension_oid::SUBJECT_ALT_NAME)
        };
        let kept = csr.extensions().iter().filter(|extension| !dropped(&extension.oid));
        Self {
            subject: csr.subject_der().to_vec(),
            extensions: kept.map(|extension| extension.raw.clone()).collect(),
        }
    }
}

impl IssuanceRequest {
    /// Joins what the client asks for with what its CSR says, as the profile prescribes.
    ///
    /// Nothing is permitted or refused by the profile's name rules yet; that is [`prepare`]'s.
    ///
    /// # Errors
    /// Names that cannot be read: not an IP address, not a URI, no ASCII form; or no common name
    /// where the profile demands one.
    pub fn new(
        names: &RequestedNames,
        csr: Option<&VerifiedCsr>,
        profile: &Profile,
        limits: MountLimits,
    ) -> Result<Self, Refusal> {
        let rules = profile.config();
        let named_by_csr = csr.filter(|_| rules.use_csr_common_name);
        let sans_by_csr = csr.filter(|_| rules.use_csr_sans);

        let mut warnings = Vec::new();
        if named_by_csr.is_some() && !names.common_name.is_empty() {
            warnings.push(Warning::CommonNameIgnored);
        }
        if sans_by_csr.is_some() && !names.alt_names.is_empty() {
            warnings.push(Warning::AltNamesIgnored);
        }

        let mut common_name = named_by_csr.map_or("", |csr| csr.subject().common_name.as_str());
        if common_name.is_empty() {
            common_name = &names.common_name;
        }
        if common_name.is_empty() && rules.require_cn {
            return Err(Refusal::CommonNameRequired);
        }

        let (mut sans, uris_as_asked) = match sans_by_csr {
            Some(csr) => (csr.sans().clone(), csr.sans().uri.clone()),
            None => (sans_of_body(names)?, names.uri_sans.clone()),
        };
        // The body's otherNames are added even to a CSR's, as on the peer.
        let mut other =
            names.other_sans.iter().map(|text| OtherName::parse(text)).collect::<Result<Vec<_>, _>>()?;
        other.append(&mut sans.other);
        sans.other = other;
        let repeated = !names.exclude_cn_from_sans && !common_name.is_empty();
        let mut unwritten = SanSet::default();
        if csr.is_some() && rules.use_csr_values {
            // With the CSR's values the SANs are exactly those it has.
            if repeated {
                add_name(&mut unwritten, common_name)?;
            }
        } else {
            if repeated {
                add_name(&mut sans, common_name)?;
            }
            if sans_by_csr.is_none() {
                for name in alt_names(&names.alt_names) {
                    add_name(&mut sans, name)?;
                }
            }
            keep_first_of_each(&mut sans.dns);
            sans.email.sort();
            sans.email.dedup();
        }

        Ok(Self {
            subject: subject(common_name, names, csr, profile),
            csr_values: csr
                .filter(|_| rules.use_csr_values)
                .map(|csr| CsrValues::of(csr, sans != *csr.sans() || !sans.other.is_empty())),
            sans,
            unwritten,
            uris_as_asked,
            display_name: names.display_name.clone(),
            sans_from: if sans_by_csr.is_some() { "CSR" } else { "the API" },
            warnings,
            ignored_basic_constraints: csr.is_some_and(|csr| csr.asks_for_ca().is_some())
                && !rules.basic_constraints_valid_for_non_ca,
            ttl: None,
            not_before: String::new(),
            not_after: String::new(),
            limits,
        })
    }

    /// The subject the certificate will carry.
    pub fn subject(&self) -> &Subject {
        &self.subject
    }

    /// The names the certificate will carry.
    pub fn sans(&self) -> &SanSet {
        &self.sans
    }

    pub(crate) fn csr_values(&self) -> Option<&CsrValues> {
        self.csr_values.as_ref()
    }

    pub(crate) fn drop_user_ids(&mut self) {
        self.subject.user_ids.clear();
    }

    /// Replaces subject and names by the CSR's own; otherNames of the body are kept beside them.
    pub(crate) fn take_csr_values(&mut self, csr: &VerifiedCsr) {
        let mut other = std::mem::take(&mut self.sans.other);
        self.csr_values = Some(CsrValues::of(csr, !other.is_empty()));
        self.sans = csr.sans().clone();
        other.append(&mut self.sans.other);
        self.sans.other = other;
    }
}

/// The body's IP addresses and URIs; its other kinds follow later.
fn sans_of_body(names: &RequestedNames) -> Result<SanSet, Refusal> {
    let ip = |text: &String| -> Result<IpAddr, Refusal> {
        let parsed: IpAddr = text.parse().map_err(|_| Refusal::NotAnIpAddress { value: text.clone() })?;
        Ok(parsed.to_canonical())
    };
    let uri = |text: &String| uri::normal_form(text).ok_or_else(|| Refusal::NotAUri { value: text.clone() });
    Ok(SanSet {
        ip: names.ip_sans.iter().map(ip).collect::<Result<_, _>>()?,
        uri: names.uri_sans.iter().map(uri).collect::<Result<_, _>>()?,
        ..SanSet::default()
    })
}

/// The alternative names that count: the peer trims the whole list but not its members, and
/// keeps the first of equal ones.
fn alt_names(raw: &[String]) -> impl Iterator<Item = &str> {
    let last = raw.len().saturating_sub(1);
    raw.iter()
        .enumerate()
        .map(move |(index, name)| {
            let name = if index == 0 { name.trim_start() } else { name };
            if index == last { name.trim_end() } else { name }
        })
        .filter(|name| !name.is_empty())
}

/// A name with an `@` is an e-mail address; any other is a DNS name if it looks like one, and is
/// otherwise left out, as on the peer.
fn add_name(sans: &mut SanSet, name: &str) -> Result<(), Refusal> {
    if name.contains('@') {
        sans.email.push(name.to_owned());
        return Ok(());
    }
    let ascii = to_ascii(name)?;
    if is_hostname(&ascii) {
        sans.dns.push(ascii);
    }
    Ok(())
}

fn keep_first_of_each(names: &mut Vec<String>) {
    let mut seen = HashSet::with_capacity(names.len());
    names.retain(|name| seen.insert(name.clone()));
}

fn subject(
    common_name: &str,
    names: &RequestedNames,
    csr: Option<&VerifiedCsr>,
    profile: &Profile,
) -> Subject {
    let mut subject = profile.subject.clone();
    common_name.clone_into(&mut subject.common_name);
    subject.serial_number.clone_from(&names.serial_number);
    subject.user_ids.clone_from(&names.user_ids);
    if let Some(csr) = csr {
        if subject.serial_number.is_empty() {
            subject.serial_number.clone_from(&csr.subject().serial_number);
        }
        if subject.user_ids.is_empty() {
            subject.user_ids.clone_from(&csr.subject().user_ids);
        }
    }
    subject
}

/// Decides everything; signs nothing.
///
/// # Errors
/// The first rule of the profile or the issuer that the request breaks.
pub fn prepare<'a>(
    request: &IssuanceRequest,
    key: &SubjectKey,
    profile: &Profile,
    issuer: &'a Issuer,
    serial: SerialNumber,
    now: Timestamp,
) -> Result<Prepared<'a>, Refusal> {
    profile.keys().check(key.public_key())?;
    check_names(request, profile)?;
    let mut warnings = request.warnings.clone();
    let lifetime = lifetime(request, profile, Some(issuer), now.into(), &mut warnings)?;
    check_user_ids(request, profile)?;
    if request.ignored_basic_constraints {
        warnings.push(Warning::BasicConstraintsIgnored);
    }

    let own_subject;
    let (subject, requested) = match request.csr_values() {
        Some(values) => (values.subject.as_slice(), values.extensions.iter().map(Vec::as_slice).collect()),
        None => {
            own_subject = request.subject.to_der()?;
            (own_subject.as_slice(), Vec::new())
        }
    };
    let key = key.public_key();
    let key_id = key.subject_key_id();
    let (policies, late_policies) = match profile.policies_have_qualifiers {
        false => (profile.policies_extension.as_slice(), &[][..]),
        true => (&[][..], profile.policies_extension.as_slice()),
    };
    let tbs = Tbs {
        serial,
        algorithm: issuer.algorithm(profile.config().signature_bits, profile.config().use_pss)?,
        issuer: issuer.certificate().subject_der(),
        subject,
        spki: key.spki_der(),
        not_before: lifetime.not_before,
        not_after: lifetime.not_after,
        extensions: Extensions {
            key_usage: &profile.key_usage_extension,
            ext_key_usage: &profile.ext_key_usage_extension,
            basic_constraints: &profile.basic_constraints_extension,
            subject_key_id: &key_id,
            authority_key_id: &issuer.authority_key_id,
            authority_info_access: &issuer.authority_info_access,
            sans: Some(&request.sans),
            // RFC 5280, 4.1.2.6: where the subject says nothing, the SANs must be understood.
            sans_critical: subject == EMPTY_NAME,
            policies,
            name_constraints: &[],
            crl_distribution_points: &issuer.crl_distribution_points,
            requested,
            late_policies,
            freshest_crl: &issuer.freshest_crl,
        },
    };
    let expected = Expected::of(&tbs, request.sans.clone(), false);
    Prepared::new(&tbs, SigningKey::Issuer(issuer), expected, issuer.options().lint, warnings)
}

/// A distinguished name without attributes, in DER.
pub(crate) const EMPTY_NAME: [u8; 2] = [0x30, 0];

/// Holds every name that will stand in the certificate against the profile.
pub(crate) fn check_names(request: &IssuanceRequest, profile: &Profile) -> Result<(), Refusal> {
    let Subject { common_name, serial_number, .. } = &request.subject;
    let SanSet { dns, email, ip, uri, other } = &request.sans;
    let rules = profile.config();

    if !common_name.is_empty() && !profile.permits_common_name(common_name, &request.display_name) {
        return Err(Refusal::CommonNameNotAllowed { name: common_name.clone() });
    }
    if !serial_number.is_empty() && !permits_subject_serial(&rules.allowed_serial_numbers, serial_number) {
        return Err(Refusal::SubjectSerialNotAllowed { value: serial_number.clone() });
    }
    let SanSet { dns: unwritten_dns, email: unwritten_email, .. } = &request.unwritten;
    if let Some(name) =
        dns.iter().chain(unwritten_dns).find(|name| !profile.permits_name(name, &request.display_name))
    {
        return Err(Refusal::DnsNameNotAllowed { name: name.clone() });
    }
    let mut emails = email.iter().chain(unwritten_email);
    if let Some(name) = emails.find(|name| !profile.permits_name(name, &request.display_name)) {
        return Err(Refusal::EmailNotAllowed { name: name.clone() });
    }
    // rfc822Name is an IA5String (RFC 5280, 4.2.1.6), so an internationalised address has no form.
    if let Some(name) = email.iter().find(|name| !name.bytes().all(|byte| (0x21..0x7f).contains(&byte))) {
        return Err(Refusal::Unencodable { field: "email address", value: name.clone() });
    }
    other.iter().try_for_each(|name| profile.other_sans.check(name))?;
    if !ip.is_empty() && !rules.allow_ip_sans {
        return Err(Refusal::IpSansNotAllowed { source_name: request.sans_from });
    }
    if !profile.networks.is_empty()
        && let Some(address) =
            ip.iter().find(|address| !profile.networks.iter().any(|network| network.contains(*address)))
    {
        return Err(Refusal::IpNotAllowed { address: address.to_string() });
    }
    if !uri.is_empty() && rules.allowed_uri_sans.is_empty() {
        return Err(Refusal::UriSansNotAllowed { source_name: request.sans_from });
    }
    // Both the URI as asked for and the one that will be written must be allowed.
    let permits_uri = |uri: &String| rules.allowed_uri_sans.iter().any(|pattern| glob(pattern, uri));
    if let Some(uri) = uri.iter().chain(&request.uris_as_asked).find(|uri| !permits_uri(uri)) {
        return Err(Refusal::UriNotAllowed { source_name: request.sans_from, uri: uri.clone() });
    }
    Ok(())
}

fn permits_subject_serial(patterns: &[String], value: &str) -> bool {
    patterns.iter().any(|pattern| !pattern.is_empty() && glob(pattern, value))
}

/// Exact ones without regard to case, patterns with it, as on the peer.
fn check_user_ids(request: &IssuanceRequest, profile: &Profile) -> Result<(), Refusal> {
    let patterns = &profile.config().allowed_user_ids;
    let permits = |value: &String| {
        patterns.iter().any(|pattern| {
            pattern.eq_ignore_ascii_case(value) || (pattern.contains('*') && glob(pattern, value))
        })
    };
    match request.subject.user_ids.iter().find(|value| !permits(value)) {
        Some(value) => Err(Refusal::UserIdNotAllowed { value: value.clone() }),
        None => Ok(()),
    }
}

/// From when until when.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Lifetime {
    pub(crate) not_before: Time,
    pub(crate) not_after: Time,
}

impl Lifetime {
    /// Refuses what the decoder that reads certificates back does not know.
    pub(crate) fn since_1970(self) -> Result<Self, Refusal> {
        for (field, time) in [("not_before", self.not_before), ("not_after", self.not_after)] {
            if time.as_second() < 0 {
                return Err(Refusal::Before1970 { field, time });
            }
        }
        Ok(self)
    }
}

/// The certificate's lifetime.
///
/// As the peer does, a ttl above the maximum is shortened with a warning, but an end beyond the
/// issuer's own is by default refused: once the issuer has expired the leaf no longer validates
/// (RFC 5280, 6.1.3), and the extra time would be an empty promise.
///
/// Without an issuer (a root, or an intermediate, which may outlive its issuer) the last rule
/// does not apply.
pub(crate) fn lifetime(
    request: &IssuanceRequest,
    profile: &Profile,
    issuer: Option<&Issuer>,
    now: Time,
    warnings: &mut Vec<Warning>,
) -> Result<Lifetime, Refusal> {
    let not_before = not_before(request, profile, now)?;
    let mut not_after = not_after(request, profile, now, warnings)?;

    if let Some(issuer) = issuer
        && not_after > issuer.not_after()
    {
        match issuer.options().leaf_not_after {
            LeafNotAfter::Permit => {}
            LeafNotAfter::Truncate => not_after = issuer.not_after(),
            LeafNotAfter::Err => {
                return Err(Refusal::EndsAfterIssuer { not_after, limit: issuer.not_after() });
            }
        }
    }
    if let NotAfterBound::At(limit) = profile.not_after_bound
        && not_after > limit
    {
        return Err(Refusal::EndsAfterBound { not_after, limit });
    }
    if not_before >= not_after {
        return Err(Refusal::EmptyLifetime { not_before, not_after });
    }
    Lifetime { not_before, not_after }.since_1970()
}

fn not_before(request: &IssuanceRequest, profile: &Profile, now: Time) -> Result<Time, Refusal> {
    let mut back = profile.config().not_before_duration;
    if back.is_zero() {
        back = Duration::from_secs(30);
    }
    if let Some(fixed) = profile.not_before {
        return Ok(fixed);
    }
    if request.not_before.is_empty() {
        return Ok(now.minus(back));
    }
    match profile.not_before_bound {
        NotBeforeBound::Permit => Time::parse(&request.not_before),
        NotBeforeBound::Forbid => Err(Refusal::BoundForbidden { field: "not_before" }),
        NotBeforeBound::Duration => {
            let duration = profile.config().not_before_duration;
            let not_before = Time::parse(&request.not_before)?;
            if not_before < now.minus(duration) {
                return Err(Refusal::BeginsTooEarly { not_before, duration });
            }
            Ok(not_before)
        }
    }
}

fn not_after(
    request: &IssuanceRequest,
    profile: &Profile,
    now: Time,
    warnings: &mut Vec<Warning>,
) -> Result<Time, Refusal> {
    let rules = profile.config();
    let asked_end = match (profile.not_after, request.not_after.as_str()) {
        (Some(_), _) | (None, "") => None,
        (None, _) if profile.not_after_bound == NotAfterBound::Forbid => {
            return Err(Refusal::BoundForbidden { field: "not_after" });
        }
        (None, text) => Some(Time::parse(text)?),
    };
    let asked_ttl = request.ttl.filter(|ttl| !ttl.is_zero());
    if asked_ttl.is_some() && (asked_end.is_some() || profile.not_after.is_some()) {
        return Err(Refusal::TtlAndNotAfter);
    }

    let or = |first: Duration, second: Duration| if first.is_zero() { second } else { first };
    let asked = asked_ttl.unwrap_or(or(rules.ttl, request.limits.default_ttl));
    let max = or(rules.max_ttl, request.limits.max_ttl);
    let ttl = asked.min(max);
    if ttl < asked {
        warnings.push(Warning::TtlCapped { asked, max });
    }
    if let Some(not_after) = asked_end
        && profile.not_after_bound == NotAfterBound::TtlLimited
        && not_after > now.plus(ttl)
    {
        return Err(Refusal::EndsAfterTtl { not_after, ttl });
    }
    Ok(profile.not_after.or(asked_end).unwrap_or_else(|| now.plus(ttl)))
}

/// Whose key signs.
#[derive(Debug)]
pub(crate) enum SigningKey<'a> {
    /// An issuer's.
    Issuer(&'a Issuer),
    /// The certificate's own.
    Itself(Arc<dyn Signer>),
}

impl SigningKey<'_> {
    fn signer(&self) -> &Arc<dyn Signer> {
        match self {
            Self::Issuer(issuer) => issuer.signer(),
            Self::Itself(signer) => signer,
        }
    }
}

/// The exact bytes that will be signed, and by whom. Can be signed once.
#[derive(Debug)]
#[must_use]
pub struct Prepared<'a> {
    tbs: Vec<u8>,
    algorithm: SignatureAlgorithm,
    key: SigningKey<'a>,
    expected: Expected,
    warnings: Vec<Warning>,
}

impl<'a> Prepared<'a> {
    /// The only way to one: the bytes are held against the standards here.
    pub(crate) fn new(
        tbs: &Tbs<'_>,
        key: SigningKey<'a>,
        expected: Expected,
        lint: LintPolicy,
        mut warnings: Vec<Warning>,
    ) -> Result<Self, Refusal> {
        let der = tbs.to_der();
        let findings = lint.judge(&der).map_err(Refusal::Lint)?;
        warnings.extend(findings.into_iter().map(Warning::Lint));
        Ok(Self { tbs: der, algorithm: tbs.algorithm, key, expected, warnings })
    }

    /// SHA-256 of the bytes to be signed: the record of the intent.
    pub fn tbs_sha256(&self) -> [u8; 32] {
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &self.tbs);
        *digest.as_ref().first_chunk().unwrap_or(&[0; 32])
    }

    /// What was granted in a reduced form.
    pub fn warnings(&self) -> &[Warning] {
        &self.warnings
    }

    /// The same on its own, so that it can be signed on another thread.
    pub fn detached(self) -> Prepared<'static> {
        let Self { tbs, algorithm, key, expected, warnings } = self;
        let key = SigningKey::Itself(Arc::clone(key.signer()));
        Prepared { tbs, algorithm, key, expected, warnings }
    }

    /// Who signs it.
    pub fn signer(&self) -> &Arc<dyn Signer> {
        self.key.signer()
    }

    /// The serial number it will have.
    pub fn serial_number(&self) -> SerialNumber {
        self.expected.serial
    }

    /// Signs, reads the result back with an independent decoder, and compares it with what was
    /// prepared.
    ///
    /// # Errors
    /// The key refused, or the result differs; nothing is released then.
    pub fn sign(self) -> Result<IssuedCertificate, SignError> {
        let signer: &dyn Signer = self.key.signer().as_ref();
        let signature = signer.sign(self.algorithm, &self.tbs)?;
        let der = tbs::signed(&self.tbs, self.algorithm, &signature);
        self.expected.compare(&der)?;
        // Authorities are few and precious: their signature is checked too. For leaves it would
        // cost more than making it.
        if self.expected.is_ca && !is_signed_by(&der, signer) {
            return Err(SignError::ReadBackDiffers { field: "signature" });
        }
        Ok(IssuedCertificate {
            pem: pem::encode("CERTIFICATE", &der),
            der,
            serial_number: self.expected.serial,
            not_before: self.expected.not_before,
            not_after: self.expected.not_after,
            warnings: self.warnings,
        })
    }
}

fn is_signed_by(der: &[u8], signer: &dyn Signer) -> bool {
    Certificate::from_der(der).is_ok_and(|certificate| certificate.is_signed_with(signer.public_key()))
}

/// A signed certificate that was read back and compared.
#[derive(Debug, Clone)]
pub struct IssuedCertificate {
    /// DER.
    pub der: Vec<u8>,
    /// PEM with lines of 64 characters and a final newline.
    pub pem: String,
    /// Its serial number.
    pub serial_number: SerialNumber,
    /// Start of its lifetime.
    pub not_before: Time,
    /// End of its lifetime.
    pub not_after: Time,
    /// What was granted in a reduced form.
    pub warnings: Vec<Warning>,
}

impl IssuedCertificate {
    /// The certificate in parsed form.
    ///
    /// # Errors
    /// None in practice: it was read back before it was released.
    pub fn certificate(&self) -> Result<Certificate, CertificateError> {
        Certificate::from_der(&self.der)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_of_each_name_is_kept_in_time_in_proportion() {
        let distinct: Vec<String> = (0..200_000).map(|number| format!("n{number}.example.com")).collect();
        let mut names = [distinct.as_slice(), distinct.as_slice()].concat();
        let begin = std::time::Instant::now();
        keep_first_of_each(&mut names);
        // Many minutes if each were compared with all others; far less than this limit otherwise.
        assert!(begin.elapsed() < Duration::from_secs(20));
        assert_eq!(names, distinct);
    }
}
