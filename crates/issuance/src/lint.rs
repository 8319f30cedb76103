//! Lints: each certificate held against the standards before the key is touched.
//!
//! What is looked at are the very bytes that will be signed, wherever they came from: a profile, a CSR that is passed on
//! as it stands, another authority's certificate. A [`Lint`] is one sentence of RFC 5280 or of the X.509-SVID
//! specification with its place there; a [`LintPolicy`] says what becomes of a certificate that breaks one.
//! [`Prepared`](crate::Prepared) cannot be made without it, so that nothing is signed that was not looked at.

use std::fmt;

use crate::certificate::{BasicConstraints, KeyUsage, extension_oid};
use crate::emit::{Element, Malformed, Reader, tag};
use crate::{SpiffeId, Time};

/// Which standard a lint comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LintGroup {
    /// RFC 5280, for every certificate.
    Rfc5280,
    /// X.509-SVID, for certificates that name a SPIFFE id.
    Spiffe,
}

/// The standard's own word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LintSeverity {
    /// It says MUST: who breaks it has no conforming certificate.
    Must,
    /// It says SHOULD: never refused.
    Should,
}

/// One rule.
#[derive(Debug, PartialEq, Eq)]
pub struct Lint {
    /// Its name in messages.
    pub id: &'static str,
    /// Where it comes from.
    pub group: LintGroup,
    /// How much it matters.
    pub severity: LintSeverity,
    /// Standard and section.
    pub citation: &'static str,
    /// What it demands.
    pub says: &'static str,
}

/// A rule that a certificate breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The rule.
    pub lint: &'static Lint,
    /// What breaks it; may be empty.
    pub value: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { lint: Lint { id, citation, says, .. }, value } = self;
        write!(f, "{says} ({citation}; lint {id})")?;
        if value.is_empty() { Ok(()) } else { write!(f, ": {value}") }
    }
}

/// What becomes of a certificate that breaks rules of one group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum LintMode {
    /// Nobody looks.
    Off,
    /// It is made, and the answer warns.
    #[default]
    Warn,
    /// It is not made, if the rule is a MUST.
    Refuse,
}

impl LintMode {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Off, Self::Warn, Self::Refuse];

    /// The API's word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::Warn => "warn",
            Self::Refuse => "refuse",
        }
    }

    /// From the API's word.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|mode| mode.name() == name)
    }
}

/// A mode for each group.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LintPolicy {
    /// For [`LintGroup::Rfc5280`].
    pub rfc5280: LintMode,
    /// For [`LintGroup::Spiffe`].
    pub spiffe: LintMode,
}

impl LintPolicy {
    fn mode(self, lint: &Lint) -> LintMode {
        // Of what cannot be read nobody knows which rules it breaks.
        if lint == &rule::malformed {
            return self.rfc5280.max(self.spiffe);
        }
        match lint.group {
            LintGroup::Rfc5280 => self.rfc5280,
            LintGroup::Spiffe => self.spiffe,
        }
    }

    /// Holds a DER TBSCertificate against the rules: what there is to warn of, or what refuses it.
    pub(crate) fn judge(self, tbs: &[u8]) -> Result<Vec<Finding>, Finding> {
        let mut warnings = Vec::new();
        if self.rfc5280 == LintMode::Off && self.spiffe == LintMode::Off {
            return Ok(warnings);
        }
        for finding in findings(tbs) {
            match (self.mode(finding.lint), finding.lint.severity) {
                (LintMode::Off, _) => {}
                (LintMode::Refuse, LintSeverity::Must) => return Err(finding),
                _ => warnings.push(finding),
            }
        }
        Ok(warnings)
    }
}

/// The rules, under the names that messages carry.
#[expect(non_upper_case_globals, reason = "their names are the identifiers that messages carry")]
mod rule {
    use super::{Lint, LintGroup, LintSeverity};

    macro_rules! rules {
        ($($name:ident $group:ident $severity:ident $citation:literal $says:literal;)*) => {
            $(
                pub(super) static $name: Lint = Lint {
                    id: stringify!($name),
                    group: LintGroup::$group,
                    severity: LintSeverity::$severity,
                    citation: $citation,
                    says: $says,
                };
            )*

            impl Lint {
                /// Every rule.
                pub const ALL: &'static [&'static Self] = &[$(&$name),*];
            }
        };
    }

    rules! {
        malformed Rfc5280 Must "RFC 5280, 4.1" "a certificate is DER of the form that the standard gives it";
        serial_number Rfc5280 Must "RFC 5280, 4.1.2.2" "a serial number is positive and has at most 20 octets";
        validity_order Rfc5280 Must "RFC 5280, 4.1.2.5" "a certificate ends after it begins";
        validity_encoding Rfc5280 Must "RFC 5280, 4.1.2.5" "times are UTCTime through 2049 and GeneralizedTime from 2050";
        ca_subject_empty Rfc5280 Must "RFC 5280, 4.1.2.6" "an authority's subject is not empty";
        subject_attribute_length Rfc5280 Must "RFC 5280, A.1" "attributes of the subject are no longer than their upper bounds";
        subject_attribute_empty Rfc5280 Must "RFC 5280, A.1" "attributes of the subject are not empty";
        subject_attribute_encoding Rfc5280 Must "RFC 5280, 4.1.2.4" "attributes of the subject are strings of the kind that the standard gives them";
        subject_country Rfc5280 Must "RFC 5280, A.1" "a country has two letters";
        extension_repeated Rfc5280 Must "RFC 5280, 4.2" "no extension stands twice";
        extension_critical Rfc5280 Must "RFC 5280, 4.2" "key identifiers, access information and freshest CRLs are not critical";
        authority_key_id_missing Rfc5280 Must "RFC 5280, 4.2.1.1" "a certificate that another key signed names that key";
        subject_key_id_missing Rfc5280 Must "RFC 5280, 4.2.1.2" "an authority's certificate names its own key";
        key_usage_missing Rfc5280 Must "RFC 5280, 4.2.1.3" "an authority's certificate has key usages";
        key_usage_empty Rfc5280 Must "RFC 5280, 4.2.1.3" "at least one key usage is set";
        key_usage_not_critical Rfc5280 Should "RFC 5280, 4.2.1.3" "key usages are critical";
        policies_empty Rfc5280 Must "RFC 5280, 4.2.1.4" "certificate policies name at least one";
        policy_repeated Rfc5280 Must "RFC 5280, 4.2.1.4" "no certificate policy stands twice";
        san_missing Rfc5280 Must "RFC 5280, 4.2.1.6" "a certificate with an empty subject has alternative names, and they are critical";
        san_critical Rfc5280 Should "RFC 5280, 4.2.1.6" "alternative names beside a subject are not critical";
        san_empty Rfc5280 Must "RFC 5280, 4.2.1.6" "alternative names have at least one entry, and none is empty";
        san_not_ascii Rfc5280 Must "RFC 5280, 4.2.1.6" "DNS names, e-mail addresses and URIs are ASCII";
        san_dns_name Rfc5280 Must "RFC 5280, 4.2.1.6" "DNS names have labels of letters, digits and hyphens";
        san_email Rfc5280 Must "RFC 5280, 4.2.1.6" "an e-mail address has a local part and a host";
        san_uri Rfc5280 Must "RFC 5280, 4.2.1.6" "a URI has a scheme and something behind it";
        san_ip_address Rfc5280 Must "RFC 5280, 4.2.1.6" "IP addresses have 4 or 16 octets";
        basic_constraints_not_critical Rfc5280 Must "RFC 5280, 4.2.1.9" "an authority's basic constraints are critical";
        cert_sign_without_ca Rfc5280 Must "RFC 5280, 4.2.1.9" "only authorities sign certificates";
        path_length_without_ca Rfc5280 Must "RFC 5280, 4.2.1.9" "only authorities that sign certificates have a path length";
        name_constraints_without_ca Rfc5280 Must "RFC 5280, 4.2.1.10" "only authorities have name constraints";
        name_constraints_not_critical Rfc5280 Must "RFC 5280, 4.2.1.10" "name constraints are critical";
        name_constraints_empty Rfc5280 Must "RFC 5280, 4.2.1.10" "name constraints are not empty";
        ext_key_usage_empty Rfc5280 Must "RFC 5280, 4.2.1.12" "extended key usages have at least one entry";
        url_not_ascii Rfc5280 Must "RFC 5280, 4.2.1.13" "URLs of authorities and CRLs are ASCII";
        spiffe_uris Spiffe Must "X.509-SVID, 2" "an SVID has exactly one URI";
        spiffe_id Spiffe Must "SPIFFE-ID, 2" "the URI of an SVID is a SPIFFE id";
        spiffe_leaf_path Spiffe Must "X.509-SVID, 3.1" "a workload's SPIFFE id has a path";
        spiffe_signing_path Spiffe Must "X.509-SVID, 3.2" "an authority's SPIFFE id has no path";
        spiffe_key_usage Spiffe Must "X.509-SVID, 4.3" "an SVID has key usages, and they are critical";
        spiffe_leaf_key_usage Spiffe Must "X.509-SVID, 4.3" "a workload makes digital signatures and signs neither certificates nor CRLs";
        spiffe_signing_key_usage Spiffe Must "X.509-SVID, 4.3" "an authority signs certificates";
        spiffe_ext_key_usage Spiffe Should "X.509-SVID, 4.4" "the extended key usages of a workload are those of servers and clients";
    }
}

/// Every rule that a DER TBSCertificate breaks.
pub(crate) fn findings(tbs: &[u8]) -> Vec<Finding> {
    let mut linter = Linter { findings: Vec::new() };
    if let Err(Malformed(reason)) = linter.certificate(tbs) {
        linter.report(&rule::malformed, || reason.to_owned());
    }
    linter.findings
}

/// An extension's criticality and value.
#[derive(Clone, Copy)]
struct Extension<'a> {
    critical: bool,
    value: &'a [u8],
}

/// The extensions that there are rules for.
#[derive(Default)]
struct Extensions<'a> {
    key_usage: Option<Extension<'a>>,
    ext_key_usage: Option<Extension<'a>>,
    basic_constraints: Option<Extension<'a>>,
    subject_key_id: Option<Extension<'a>>,
    authority_key_id: Option<Extension<'a>>,
    authority_info_access: Option<Extension<'a>>,
    sans: Option<Extension<'a>>,
    policies: Option<Extension<'a>>,
    name_constraints: Option<Extension<'a>>,
    crl_distribution_points: Option<Extension<'a>>,
    freshest_crl: Option<Extension<'a>>,
}

impl<'a> Extensions<'a> {
    fn place(&mut self, oid: &[u8]) -> Option<&mut Option<Extension<'a>>> {
        Some(match oid {
            extension_oid::KEY_USAGE => &mut self.key_usage,
            extension_oid::EXTENDED_KEY_USAGE => &mut self.ext_key_usage,
            extension_oid::BASIC_CONSTRAINTS => &mut self.basic_constraints,
            extension_oid::SUBJECT_KEY_ID => &mut self.subject_key_id,
            extension_oid::AUTHORITY_KEY_ID => &mut self.authority_key_id,
            extension_oid::AUTHORITY_INFO_ACCESS => &mut self.authority_info_access,
            extension_oid::SUBJECT_ALT_NAME => &mut self.sans,
            extension_oid::CERTIFICATE_POLICIES => &mut self.policies,
            extension_oid::NAME_CONSTRAINTS => &mut self.name_constraints,
            extension_oid::CRL_DISTRIBUTION_POINTS => &mut self.crl_distribution_points,
            extension_oid::FRESHEST_CRL => &mut self.freshest_crl,
            _ => return None,
        })
    }
}

/// What the rules of several extensions need.
struct Facts {
    is_ca: bool,
    path_length: bool,
    usage: KeyUsage,
    /// Issuer and subject are one name.
    self_issued: bool,
    subject_empty: bool,
}

const CERT_SIGN: KeyUsage = KeyUsage(1 << 5);
const CRL_SIGN: KeyUsage = KeyUsage(1 << 6);
const DIGITAL_SIGNATURE: KeyUsage = KeyUsage(1);

struct Linter {
    findings: Vec<Finding>,
}

impl Linter {
    fn report(&mut self, lint: &'static Lint, value: impl FnOnce() -> String) {
        self.findings.push(Finding { lint, value: value() });
    }

    fn require(&mut self, lint: &'static Lint, holds: bool) {
        if !holds {
            self.report(lint, String::new);
        }
    }

    /// What was read; of what could not be read that is reported, and the other rules go on without it.
    fn readable<T: Default>(&mut self, read: Result<T, Malformed>) -> T {
        read.unwrap_or_else(|Malformed(reason)| {
            self.report(&rule::malformed, || reason.to_owned());
            T::default()
        })
    }

    fn certificate(&mut self, tbs: &[u8]) -> Result<(), Malformed> {
        let mut outer = Reader::new(tbs);
        let mut fields = outer.expect(tag::SEQUENCE)?.reader();
        outer.end()?;
        fields.expect(tag::constructed(0))?;
        let serial = fields.expect(tag::INTEGER)?.content;
        let positive =
            serial.iter().any(|byte| *byte != 0) && serial.first().is_some_and(|byte| byte & 0x80 == 0);
        self.require(&rule::serial_number, positive && serial.len() <= 20);
        fields.expect(tag::SEQUENCE)?;
        // That an issuer has no name is a fault of its own certificate, and was told when that was made.
        let issuer = fields.expect(tag::SEQUENCE)?;
        let validity = self.validity(fields.expect(tag::SEQUENCE)?.reader());
        self.readable(validity);
        let subject = fields.expect(tag::SEQUENCE)?;
        let names = self.subject(subject.reader());
        self.readable(names);
        fields.expect(tag::SEQUENCE)?;
        let mut wrapper = fields.expect(tag::constructed(3))?.reader();
        fields.end()?;
        let extensions = self.extensions(wrapper.expect(tag::SEQUENCE)?.reader())?;
        wrapper.end()?;

        let constraints = extensions
            .basic_constraints
            .map(|constraints| BasicConstraints::read(constraints.value))
            .transpose();
        let constraints = self.readable(constraints);
        let usage = extensions.key_usage.map(|usage| KeyUsage::read(usage.value)).transpose();
        let usage = self.readable(usage);
        let facts = Facts {
            is_ca: constraints.is_some_and(|constraints| constraints.is_ca),
            path_length: constraints.is_some_and(|constraints| constraints.path_length.is_some()),
            usage: usage.unwrap_or_default(),
            self_issued: issuer.raw == subject.raw,
            subject_empty: subject.content.is_empty(),
        };
        self.authorities(&facts, &extensions);
        let mut uris = Uris::default();
        let parts = [
            self.key_identifiers(&facts, &extensions),
            self.policies(&extensions),
            self.urls(&extensions),
            self.alternative_names(&facts, &extensions, &mut uris),
            self.spiffe(&facts, &extensions, &uris),
        ];
        parts.into_iter().for_each(|part| self.readable(part));
        Ok(())
    }

    fn validity(&mut self, mut times: Reader<'_>) -> Result<(), Malformed> {
        let (begin, end) = (times.next()?, times.next()?);
        times.end()?;
        let (not_before, not_after) = (Time::read(begin)?, Time::read(end)?);
        self.require(&rule::validity_order, not_before <= not_after);
        /// 2050-01-01T00:00:00Z
        const FROM_2050: i64 = 2_524_608_000;
        let late = |time: Time| time.as_second() >= FROM_2050;
        let encoded = |element: Element<'_>, time: Time| (element.tag == tag::GENERALIZED_TIME) == late(time);
        self.require(&rule::validity_encoding, encoded(begin, not_before) && encoded(end, not_after));
        Ok(())
    }

    fn subject(&mut self, mut names: Reader<'_>) -> Result<(), Malformed> {
        while !names.is_empty() {
            let mut set = names.expect(tag::SET)?.reader();
            while !set.is_empty() {
                let mut fields = set.expect(tag::SEQUENCE)?.reader();
                let oid = fields.expect(tag::OID)?.content;
                let value = fields.next()?;
                fields.end()?;
                self.attribute(oid, value);
            }
        }
        Ok(())
    }

    fn attribute(&mut self, oid: &[u8], value: Element<'_>) {
        use tag::{BMP_STRING, IA5_STRING, PRINTABLE_STRING, UTF8_STRING};
        let known = ATTRIBUTES.iter().find(|(known, ..)| *known == oid);
        let Some((_, name, bound, kind)) = known else { return };
        let length = match value.tag {
            UTF8_STRING => {
                std::str::from_utf8(value.content).map_or(value.content.len(), |text| text.chars().count())
            }
            BMP_STRING => value.content.len() / 2,
            _ => value.content.len(),
        };
        let encoded = match kind {
            Kind::Directory => matches!(value.tag, UTF8_STRING | PRINTABLE_STRING),
            Kind::Printable => value.tag == PRINTABLE_STRING,
            Kind::Ia5 => value.tag == IA5_STRING,
        };
        if length == 0 {
            self.report(&rule::subject_attribute_empty, || (*name).to_owned());
        } else if *name == "countryName" {
            self.require(&rule::subject_country, length == 2);
        } else if length > *bound {
            self.report(&rule::subject_attribute_length, || format!("{name} of {length}, beyond {bound}"));
        }
        if !encoded {
            self.report(&rule::subject_attribute_encoding, || (*name).to_owned());
        }
    }

    fn extensions<'a>(&mut self, mut list: Reader<'a>) -> Result<Extensions<'a>, Malformed> {
        let mut found = Extensions::default();
        let mut kinds: Vec<&[u8]> = Vec::with_capacity(16);
        while !list.is_empty() {
            let mut fields = list.expect(tag::SEQUENCE)?.reader();
            let oid = fields.expect(tag::OID)?.content;
            let critical = fields.optional(tag::BOOLEAN)?.is_some_and(|flag| flag.content == [0xff]);
            let value = fields.expect(tag::OCTET_STRING)?.content;
            fields.end()?;
            kinds.push(oid);
            if let Some(place) = found.place(oid) {
                *place = Some(Extension { critical, value });
            }
        }
        kinds.sort_unstable();
        let repeated = kinds.windows(2).any(|pair| matches!(pair, [one, other] if one == other));
        self.require(&rule::extension_repeated, !repeated);
        Ok(found)
    }

    /// The rules that tell authorities from others.
    fn authorities(&mut self, facts: &Facts, extensions: &Extensions<'_>) {
        let Facts { is_ca, path_length, usage, subject_empty, .. } = *facts;
        let signs = usage.contains(CERT_SIGN);
        self.require(&rule::ca_subject_empty, !(is_ca && subject_empty));
        self.require(&rule::key_usage_missing, !is_ca || extensions.key_usage.is_some());
        self.require(&rule::key_usage_empty, extensions.key_usage.is_none() || !usage.is_empty());
        self.require(&rule::key_usage_not_critical, extensions.key_usage.is_none_or(|usage| usage.critical));
        let critical = extensions.basic_constraints.is_none_or(|constraints| constraints.critical);
        self.require(&rule::basic_constraints_not_critical, !is_ca || critical);
        self.require(&rule::cert_sign_without_ca, is_ca || !signs);
        // Without key usages nothing is forbidden to the key.
        let may_sign = is_ca && (signs || extensions.key_usage.is_none());
        self.require(&rule::path_length_without_ca, !path_length || may_sign);
        if let Some(constraints) = extensions.name_constraints {
            self.require(&rule::name_constraints_without_ca, is_ca);
            self.require(&rule::name_constraints_not_critical, constraints.critical);
            let empty = Reader::new(constraints.value).next().is_ok_and(|list| list.content.is_empty());
            self.require(&rule::name_constraints_empty, !empty);
        }
    }

    fn key_identifiers(&mut self, facts: &Facts, extensions: &Extensions<'_>) -> Result<(), Malformed> {
        let never_critical = [
            extensions.authority_key_id,
            extensions.subject_key_id,
            extensions.authority_info_access,
            extensions.freshest_crl,
        ];
        let critical = never_critical.iter().flatten().any(|extension| extension.critical);
        self.require(&rule::extension_critical, !critical);
        self.require(&rule::subject_key_id_missing, !facts.is_ca || extensions.subject_key_id.is_some());
        let named = match extensions.authority_key_id {
            Some(id) => {
                Reader::new(id.value).expect(tag::SEQUENCE)?.reader().optional(tag::context(0))?.is_some()
            }
            None => false,
        };
        self.require(&rule::authority_key_id_missing, named || facts.self_issued);
        Ok(())
    }

    fn policies(&mut self, extensions: &Extensions<'_>) -> Result<(), Malformed> {
        if let Some(usages) = extensions.ext_key_usage {
            let empty = Reader::new(usages.value).expect(tag::SEQUENCE)?.content.is_empty();
            self.require(&rule::ext_key_usage_empty, !empty);
        }
        let Some(policies) = extensions.policies else { return Ok(()) };
        let mut list = Reader::new(policies.value).expect(tag::SEQUENCE)?.reader();
        self.require(&rule::policies_empty, !list.is_empty());
        let mut oids = Vec::new();
        while !list.is_empty() {
            oids.push(list.expect(tag::SEQUENCE)?.reader().expect(tag::OID)?.content);
        }
        oids.sort_unstable();
        let repeated = oids.windows(2).any(|pair| matches!(pair, [one, other] if one == other));
        self.require(&rule::policy_repeated, !repeated);
        Ok(())
    }

    fn urls(&mut self, extensions: &Extensions<'_>) -> Result<(), Malformed> {
        let lists =
            [extensions.authority_info_access, extensions.crl_distribution_points, extensions.freshest_crl];
        let mut ascii = true;
        for extension in lists.iter().flatten() {
            let mut list = Reader::new(extension.value).expect(tag::SEQUENCE)?.reader();
            while !list.is_empty() {
                ascii &= urls_are_ascii(list.expect(tag::SEQUENCE)?.reader(), 2)?;
            }
        }
        self.require(&rule::url_not_ascii, ascii);
        Ok(())
    }

    /// Notes the URIs that are, or mean to be, SPIFFE ids, and how many URIs there are.
    fn alternative_names<'a>(
        &mut self,
        facts: &Facts,
        extensions: &Extensions<'a>,
        uris: &mut Uris<'a>,
    ) -> Result<(), Malformed> {
        let Some(sans) = extensions.sans else {
            // An authority without a subject lacks that, whatever else it has.
            self.require(&rule::san_missing, !facts.subject_empty || facts.is_ca);
            return Ok(());
        };
        self.require(&rule::san_missing, !facts.subject_empty || sans.critical);
        self.require(&rule::san_critical, facts.subject_empty || !sans.critical);
        let mut list = Reader::new(sans.value).expect(tag::SEQUENCE)?.reader();
        let mut empty = list.is_empty();
        while !list.is_empty() {
            let name = list.next()?;
            empty |= name.content.is_empty();
            self.general_name(name);
            if name.tag == URI {
                uris.count += 1;
                let scheme = name.content.get(..7).unwrap_or_default();
                if scheme.eq_ignore_ascii_case(b"spiffe:") {
                    uris.spiffe.get_or_insert(name.content);
                }
            }
        }
        self.require(&rule::san_empty, !empty);
        Ok(())
    }

    fn general_name(&mut self, name: Element<'_>) {
        let is_text = matches!(name.tag, RFC822_NAME | DNS_NAME | URI);
        if name.content.is_empty() {
            return;
        }
        if is_text && !name.content.is_ascii() {
            self.report(&rule::san_not_ascii, || String::from_utf8_lossy(name.content).into_owned());
            return;
        }
        let (lint, holds) = match name.tag {
            DNS_NAME => (&rule::san_dns_name, is_dns_name(name.content)),
            RFC822_NAME => (&rule::san_email, is_email(name.content)),
            URI => (&rule::san_uri, is_absolute(name.content)),
            IP_ADDRESS => (&rule::san_ip_address, matches!(name.content.len(), 4 | 16)),
            _ => return,
        };
        if !holds {
            self.report(lint, || String::from_utf8_lossy(name.content).into_owned());
        }
    }

    fn spiffe(
        &mut self,
        facts: &Facts,
        extensions: &Extensions<'_>,
        uris: &Uris<'_>,
    ) -> Result<(), Malformed> {
        let Some(uri) = uris.spiffe else { return Ok(()) };
        let Facts { is_ca, usage, .. } = *facts;
        self.require(&rule::spiffe_uris, uris.count == 1);
        match std::str::from_utf8(uri).map(SpiffeId::parse) {
            Ok(Ok(id)) if is_ca => self.require(&rule::spiffe_signing_path, id.path().is_empty()),
            Ok(Ok(id)) => self.require(&rule::spiffe_leaf_path, !id.path().is_empty()),
            Ok(Err(error)) => self.report(&rule::spiffe_id, || error.to_string()),
            Err(_) => self.report(&rule::spiffe_id, String::new),
        }
        self.require(&rule::spiffe_key_usage, extensions.key_usage.is_some_and(|usage| usage.critical));
        if is_ca {
            self.require(&rule::spiffe_signing_key_usage, usage.contains(CERT_SIGN));
            return Ok(());
        }
        let signs_others = usage.contains(CERT_SIGN) || usage.contains(CRL_SIGN);
        self.require(&rule::spiffe_leaf_key_usage, usage.contains(DIGITAL_SIGNATURE) && !signs_others);
        if let Some(usages) = extensions.ext_key_usage {
            let mut list = Reader::new(usages.value).expect(tag::SEQUENCE)?.reader();
            let (mut server, mut client) = (false, false);
            while !list.is_empty() {
                match list.expect(tag::OID)?.content {
                    SERVER_AUTH => server = true,
                    CLIENT_AUTH => client = true,
                    _ => {}
                }
            }
            self.require(&rule::spiffe_ext_key_usage, server && client);
        }
        Ok(())
    }
}

/// The URIs among the alternative names.
#[derive(Default)]
struct Uris<'a> {
    count: usize,
    /// The first of the scheme `spiffe`.
    spiffe: Option<&'a [u8]>,
}

/// Tags of a GeneralName (RFC 5280, 4.2.1.6).
const RFC822_NAME: u8 = tag::context(1);
const DNS_NAME: u8 = tag::context(2);
const URI: u8 = tag::context(6);
const IP_ADDRESS: u8 = tag::context(7);

/// id-kp-serverAuth and id-kp-clientAuth.
const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
const CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];

/// What kind of string an attribute is.
enum Kind {
    Directory,
    Printable,
    Ia5,
}

/// Attributes of names with their upper bounds (RFC 5280, A.1 and A.2).
const ATTRIBUTES: &[(&[u8], &str, usize, Kind)] = &[
    (&[0x55, 4, 3], "commonName", 64, Kind::Directory),
    (&[0x55, 4, 4], "surname", 32_768, Kind::Directory),
    (&[0x55, 4, 5], "serialNumber", 64, Kind::Printable),
    (&[0x55, 4, 6], "countryName", 2, Kind::Printable),
    (&[0x55, 4, 7], "localityName", 128, Kind::Directory),
    (&[0x55, 4, 8], "stateOrProvinceName", 128, Kind::Directory),
    (&[0x55, 4, 9], "streetAddress", usize::MAX, Kind::Directory),
    (&[0x55, 4, 10], "organizationName", 64, Kind::Directory),
    (&[0x55, 4, 11], "organizationalUnitName", 64, Kind::Directory),
    (&[0x55, 4, 12], "title", 64, Kind::Directory),
    (&[0x55, 4, 17], "postalCode", usize::MAX, Kind::Directory),
    (&[0x09, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25], "domainComponent", 63, Kind::Ia5),
    (&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 9, 1], "emailAddress", 255, Kind::Ia5),
];

/// Whether the URLs of a distribution point or an access description are ASCII: they stand up to `depth` frames deep.
fn urls_are_ascii(mut fields: Reader<'_>, depth: u8) -> Result<bool, Malformed> {
    const FRAME: u8 = tag::constructed(0);
    while !fields.is_empty() {
        let field = fields.next()?;
        let ascii = match (field.tag, depth.checked_sub(1)) {
            (URI, _) => field.content.is_ascii(),
            (FRAME, Some(depth)) => urls_are_ascii(field.reader(), depth)?,
            _ => true,
        };
        if !ascii {
            return Ok(false);
        }
    }
    Ok(true)
}

/// RFC 1034, 3.5 as changed by RFC 1123, 2.1; a `*` may stand for the first label.
fn is_dns_name(name: &[u8]) -> bool {
    let rest = name.strip_prefix(b"*.").unwrap_or(name);
    let is_label = |label: &[u8]| {
        let inside = label.iter().all(|byte| byte.is_ascii_alphanumeric() || *byte == b'-');
        (1..=63).contains(&label.len())
            && inside
            && label.first() != Some(&b'-')
            && label.last() != Some(&b'-')
    };
    name.len() <= 253 && rest.split(|byte| *byte == b'.').all(is_label)
}

/// RFC 5321, 4.1.2: a local part, and a host or an address in brackets.
fn is_email(address: &[u8]) -> bool {
    let at = address.iter().rposition(|byte| *byte == b'@');
    let parts = at.and_then(|at| Some((address.get(..at)?, address.get(at + 1..)?)));
    parts.is_some_and(|(local, host)| {
        let literal = matches!(host, [b'[', inside @ .., b']'] if !inside.is_empty());
        !local.is_empty() && (literal || is_dns_name(host))
    })
}

/// RFC 3986, 3: a scheme, a colon, and more.
fn is_absolute(uri: &[u8]) -> bool {
    let colon = uri.iter().position(|byte| *byte == b':');
    let parts = colon.and_then(|at| Some((uri.get(..at)?, uri.get(at + 1..)?)));
    parts.is_some_and(|(scheme, rest)| {
        let allowed = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'+' | b'-' | b'.');
        scheme.first().is_some_and(u8::is_ascii_alphabetic) && scheme.iter().all(allowed) && !rest.is_empty()
    })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::emit::{self, Emitter};
    use crate::{AiaUrls, Subject, extension};

    /// The parts of a TBSCertificate, each in DER.
    struct Parts {
        serial: Vec<u8>,
        issuer: Vec<u8>,
        times: [Vec<u8>; 2],
        subject: Vec<u8>,
        extensions: Vec<Vec<u8>>,
        behind: Vec<u8>,
    }

    fn time(second: i64) -> Vec<u8> {
        let mut out = Emitter::new(20);
        Time::from_second(second).emit(&mut out);
        out.finish()
    }

    fn name(common_name: &str) -> Vec<u8> {
        Subject::from_common_name(common_name).to_der().unwrap()
    }

    /// A name of one attribute.
    fn attribute(oid: &[u8], tag: u8, value: &[u8]) -> Vec<u8> {
        emit::build(64, tag::SEQUENCE, |out| {
            out.element(tag, value);
            out.element(tag::OID, oid);
            out.close(tag::SEQUENCE, 0);
            out.close(tag::SET, 0);
        })
    }

    fn whole(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
        let mut out = Emitter::new(64);
        out.raw(value);
        extension::close(&mut out, 0, oid, critical);
        out.finish()
    }

    fn usages(names: &[&str]) -> Vec<u8> {
        extension::key_usage(KeyUsage::from_names(names))
    }

    fn ext_usages(oids: &[&[u8]]) -> Vec<u8> {
        extension::ext_key_usage(&oids.iter().map(|oid| oid.to_vec()).collect::<Vec<_>>())
    }

    /// Alternative names of these tags and contents.
    fn sans(critical: bool, names: &[(u8, &[u8])]) -> Vec<u8> {
        let list = emit::build(64, tag::SEQUENCE, |out| {
            names.iter().rev().for_each(|(tag, content)| out.element(*tag, content));
        });
        whole(extension_oid::SUBJECT_ALT_NAME, critical, &list)
    }

    fn subject_key_id() -> Vec<u8> {
        whole(extension_oid::SUBJECT_KEY_ID, false, &[4, 2, 1, 2])
    }

    impl Parts {
        fn leaf() -> Self {
            Self {
                serial: vec![7; 20],
                issuer: name("issuer"),
                times: [time(1_800_000_000), time(1_900_000_000)],
                subject: name("a.example"),
                extensions: vec![
                    usages(&["DigitalSignature"]),
                    ext_usages(&[SERVER_AUTH, CLIENT_AUTH]),
                    subject_key_id(),
                    extension::authority_key_id(&[3, 4]),
                    sans(false, &[(DNS_NAME, b"a.example"), (IP_ADDRESS, &[127, 0, 0, 1])]),
                ],
                behind: Vec::new(),
            }
        }

        fn authority() -> Self {
            Self {
                extensions: vec![
                    usages(&["CertSign", "CRLSign"]),
                    extension::basic_constraints(true, Some(0)),
                    subject_key_id(),
                    extension::authority_key_id(&[3, 4]),
                ],
                ..Self::leaf()
            }
        }

        fn workload() -> Self {
            let mut parts = Self::leaf();
            parts.subject = vec![0x30, 0];
            parts.put(sans(true, &[(URI, b"spiffe://td/ns/a/sa/b")]));
            parts
        }

        fn remove(&mut self, oid: &[u8]) {
            self.extensions.retain(|whole| extension::oid_of(whole) != Some(oid));
        }

        /// In place of another of its kind.
        fn put(&mut self, whole: Vec<u8>) {
            let oid = extension::oid_of(&whole).unwrap().to_vec();
            self.remove(&oid);
            self.extensions.push(whole);
        }

        fn to_der(&self) -> Vec<u8> {
            emit::build(512, tag::SEQUENCE, |out| {
                out.raw(&self.behind);
                let mark = out.mark();
                self.extensions.iter().rev().for_each(|whole| out.raw(whole));
                out.close(tag::SEQUENCE, mark);
                out.close(tag::constructed(3), mark);
                out.raw(&[0x30, 3, 2, 1, 7]);
                out.raw(&self.subject);
                let mark = out.mark();
                self.times.iter().rev().for_each(|time| out.raw(time));
                out.close(tag::SEQUENCE, mark);
                out.raw(&self.issuer);
                out.raw(&[0x30, 2, 5, 0]);
                out.element(tag::INTEGER, &self.serial);
                out.raw(&[0xa0, 3, 2, 1, 2]);
            })
        }
    }

    type Base = fn() -> Parts;
    type Change = fn(&mut Parts);

    /// For each rule a certificate that breaks it: what it is but for a change, and all that is found.
    const BROKEN: &[(Base, Change, &[&str])] = &[
        (Parts::leaf, |p| p.behind = vec![5, 0], &["malformed"]),
        (Parts::leaf, |p| p.extensions = vec![vec![5, 0]], &["malformed"]),
        (Parts::leaf, |p| p.serial = vec![0], &["serial_number"]),
        (Parts::leaf, |p| p.serial = vec![0x80; 20], &["serial_number"]),
        (Parts::leaf, |p| p.serial = vec![7; 21], &["serial_number"]),
        (Parts::leaf, |p| p.times.reverse(), &["validity_order"]),
        (Parts::leaf, |p| p.times[1] = b"\x18\x0f20300101000000Z".to_vec(), &["validity_encoding"]),
        (Parts::authority, |p| p.subject = vec![0x30, 0], &["ca_subject_empty"]),
        (Parts::leaf, |p| p.subject = name(&"a".repeat(65)), &["subject_attribute_length"]),
        (
            Parts::leaf,
            |p| p.subject = attribute(&[0x55, 4, 7], tag::UTF8_STRING, "ü".repeat(129).as_bytes()),
            &["subject_attribute_length"],
        ),
        (
            Parts::leaf,
            |p| p.subject = attribute(&[0x55, 4, 10], tag::UTF8_STRING, &[]),
            &["subject_attribute_empty"],
        ),
        (
            Parts::leaf,
            |p| p.subject = attribute(&[0x55, 4, 10], tag::TELETEX_STRING, b"x"),
            &["subject_attribute_encoding"],
        ),
        (
            Parts::leaf,
            |p| p.subject = attribute(&[0x55, 4, 6], tag::PRINTABLE_STRING, b"Germany"),
            &["subject_country"],
        ),
        (Parts::leaf, |p| p.extensions.push(subject_key_id()), &["extension_repeated"]),
        (
            Parts::leaf,
            |p| p.put(whole(extension_oid::SUBJECT_KEY_ID, true, &[4, 1, 1])),
            &["extension_critical"],
        ),
        (Parts::leaf, |p| p.remove(extension_oid::AUTHORITY_KEY_ID), &["authority_key_id_missing"]),
        (
            Parts::leaf,
            |p| p.put(whole(extension_oid::AUTHORITY_KEY_ID, false, &[0x30, 0])),
            &["authority_key_id_missing"],
        ),
        (Parts::authority, |p| p.remove(extension_oid::SUBJECT_KEY_ID), &["subject_key_id_missing"]),
        (Parts::authority, |p| p.remove(extension_oid::KEY_USAGE), &["key_usage_missing"]),
        (Parts::leaf, |p| p.put(whole(extension_oid::KEY_USAGE, true, &[3, 1, 0])), &["key_usage_empty"]),
        (
            Parts::leaf,
            |p| p.put(whole(extension_oid::KEY_USAGE, false, &[3, 2, 7, 0x80])),
            &["key_usage_not_critical"],
        ),
        (
            Parts::leaf,
            |p| p.put(whole(extension_oid::CERTIFICATE_POLICIES, false, &[0x30, 0])),
            &["policies_empty"],
        ),
        (
            Parts::leaf,
            |p| {
                let twice = [0x30, 10, 0x30, 3, 6, 1, 42, 0x30, 3, 6, 1, 42];
                p.put(whole(extension_oid::CERTIFICATE_POLICIES, false, &twice));
            },
            &["policy_repeated"],
        ),
        (Parts::leaf, |p| p.subject = vec![0x30, 0], &["san_missing"]),
        (Parts::workload, |p| p.remove(extension_oid::SUBJECT_ALT_NAME), &["san_missing"]),
        (Parts::leaf, |p| p.put(sans(true, &[(DNS_NAME, b"a.example")])), &["san_critical"]),
        (Parts::leaf, |p| p.put(sans(false, &[])), &["san_empty"]),
        (Parts::leaf, |p| p.put(sans(false, &[(DNS_NAME, b"")])), &["san_empty"]),
        (Parts::leaf, |p| p.put(sans(false, &[(DNS_NAME, "ü.example".as_bytes())])), &["san_not_ascii"]),
        (Parts::leaf, |p| p.put(sans(false, &[(DNS_NAME, b"a_b.example")])), &["san_dns_name"]),
        (Parts::leaf, |p| p.put(sans(false, &[(DNS_NAME, b"a..example")])), &["san_dns_name"]),
        (Parts::leaf, |p| p.put(sans(false, &[(DNS_NAME, b"a.*.example")])), &["san_dns_name"]),
        (Parts::leaf, |p| p.put(sans(false, &[(DNS_NAME, &[b'a'; 64])])), &["san_dns_name"]),
        (Parts::leaf, |p| p.put(sans(false, &[(RFC822_NAME, b"user@")])), &["san_email"]),
        (Parts::leaf, |p| p.put(sans(false, &[(URI, b"/a/b")])), &["san_uri"]),
        (Parts::leaf, |p| p.put(sans(false, &[(IP_ADDRESS, &[1; 5])])), &["san_ip_address"]),
        (
            Parts::authority,
            |p| p.put(whole(extension_oid::BASIC_CONSTRAINTS, false, &[0x30, 3, 1, 1, 0xff])),
            &["basic_constraints_not_critical"],
        ),
        (Parts::leaf, |p| p.put(usages(&["DigitalSignature", "CertSign"])), &["cert_sign_without_ca"]),
        (Parts::leaf, |p| p.put(extension::basic_constraints(false, Some(1))), &["path_length_without_ca"]),
        (Parts::authority, |p| p.put(usages(&["CRLSign"])), &["path_length_without_ca"]),
        (
            Parts::leaf,
            |p| p.put(extension::permitted_dns(&["example".to_owned()])),
            &["name_constraints_without_ca"],
        ),
        (
            Parts::authority,
            |p| p.put(whole(extension_oid::NAME_CONSTRAINTS, false, &[0x30, 2, 0xa0, 0])),
            &["name_constraints_not_critical"],
        ),
        (
            Parts::authority,
            |p| p.put(whole(extension_oid::NAME_CONSTRAINTS, true, &[0x30, 0])),
            &["name_constraints_empty"],
        ),
        (
            Parts::leaf,
            |p| p.put(whole(extension_oid::EXTENDED_KEY_USAGE, false, &[0x30, 0])),
            &["ext_key_usage_empty"],
        ),
        (
            Parts::leaf,
            |p| p.put(extension::crl_distribution_points(&["http://ü/crl".to_owned()])),
            &["url_not_ascii"],
        ),
        (
            Parts::leaf,
            |p| {
                let urls = AiaUrls { ocsp_servers: vec!["http://ü/".to_owned()], ..AiaUrls::default() };
                p.put(extension::authority_info_access(&urls));
            },
            &["url_not_ascii"],
        ),
        (
            Parts::workload,
            |p| p.put(sans(true, &[(URI, b"spiffe://td/a"), (URI, b"https://a.example/")])),
            &["spiffe_uris"],
        ),
        (Parts::workload, |p| p.put(sans(true, &[(URI, b"spiffe://Td/a")])), &["spiffe_id"]),
        (Parts::workload, |p| p.put(sans(true, &[(URI, b"SPIFFE://td/a")])), &["spiffe_id"]),
        (Parts::workload, |p| p.put(sans(true, &[(URI, b"spiffe://td/a//b")])), &["spiffe_id"]),
        (Parts::workload, |p| p.put(sans(true, &[(URI, b"spiffe://td")])), &["spiffe_leaf_path"]),
        (Parts::authority, |p| p.put(sans(false, &[(URI, b"spiffe://td/a")])), &["spiffe_signing_path"]),
        (
            Parts::workload,
            |p| p.remove(extension_oid::KEY_USAGE),
            &["spiffe_key_usage", "spiffe_leaf_key_usage"],
        ),
        (Parts::workload, |p| p.put(usages(&["KeyAgreement"])), &["spiffe_leaf_key_usage"]),
        (Parts::workload, |p| p.put(usages(&["DigitalSignature", "CRLSign"])), &["spiffe_leaf_key_usage"]),
        (
            Parts::authority,
            |p| {
                p.put(sans(false, &[(URI, b"spiffe://td")]));
                p.put(extension::basic_constraints(true, None));
                p.put(usages(&["CRLSign"]));
            },
            &["spiffe_signing_key_usage"],
        ),
        (Parts::workload, |p| p.put(ext_usages(&[SERVER_AUTH])), &["spiffe_ext_key_usage"]),
    ];

    fn found(parts: &Parts) -> Vec<&'static str> {
        findings(&parts.to_der()).iter().map(|finding| finding.lint.id).collect()
    }

    #[test]
    fn each_rule_has_a_certificate_that_breaks_it() {
        for (index, (base, change, ids)) in BROKEN.iter().enumerate() {
            let mut parts = base();
            assert_eq!(found(&parts), [""; 0], "{index}");
            change(&mut parts);
            assert_eq!(found(&parts), *ids, "{index}");
        }
        let broken: BTreeSet<&str> = BROKEN.iter().flat_map(|(_, _, ids)| ids.iter().copied()).collect();
        let all: BTreeSet<&str> = Lint::ALL.iter().map(|lint| lint.id).collect();
        assert_eq!(broken, all);
    }

    #[test]
    fn what_is_unusual_and_conforms_is_not_found() {
        let fine: [(Base, Change); 8] = [
            (Parts::leaf, |p| p.times = [time(2_524_607_999), time(2_524_608_000)]),
            (Parts::leaf, |p| p.serial = vec![1]),
            (Parts::leaf, |p| p.put(sans(false, &[(DNS_NAME, b"*.a.example"), (0x82, b"localhost")]))),
            (Parts::leaf, |p| p.put(sans(false, &[(RFC822_NAME, b"a@b@[192.0.2.1]"), (URI, b"urn:a:b")]))),
            (Parts::leaf, |p| p.remove(extension_oid::SUBJECT_KEY_ID)),
            (Parts::workload, |p| p.remove(extension_oid::EXTENDED_KEY_USAGE)),
            (Parts::authority, |p| p.put(sans(false, &[(URI, b"spiffe://td")]))),
            // A root does not name the key that signed it.
            (Parts::authority, |p| {
                p.subject.clone_from(&p.issuer);
                p.remove(extension_oid::AUTHORITY_KEY_ID);
            }),
        ];
        for (index, (base, change)) in fine.iter().enumerate() {
            let mut parts = base();
            change(&mut parts);
            assert_eq!(found(&parts), [""; 0], "{index}");
        }
    }

    #[test]
    fn the_policy_says_what_becomes_of_findings() {
        let mut parts = Parts::workload();
        parts.serial = vec![0];
        parts.put(sans(true, &[(URI, b"spiffe://td")]));
        parts.put(ext_usages(&[SERVER_AUTH]));
        let der = parts.to_der();
        let judged = |rfc5280, spiffe| {
            let ids = |findings: Vec<Finding>| findings.iter().map(|finding| finding.lint.id).collect();
            LintPolicy { rfc5280, spiffe }.judge(&der).map(ids).map_err(|finding| finding.lint.id)
        };
        let all: Vec<&str> = vec!["serial_number", "spiffe_leaf_path", "spiffe_ext_key_usage"];
        assert_eq!(judged(LintMode::Warn, LintMode::Warn), Ok(all));
        assert_eq!(judged(LintMode::Off, LintMode::Off), Ok(vec![]));
        assert_eq!(judged(LintMode::Warn, LintMode::Off), Ok(vec!["serial_number"]));
        assert_eq!(judged(LintMode::Refuse, LintMode::Off), Err("serial_number"));
        assert_eq!(judged(LintMode::Off, LintMode::Refuse), Err("spiffe_leaf_path"));
        // What merely should be is never refused.
        parts.put(sans(true, &[(URI, b"spiffe://td/a")]));
        let refuse = LintPolicy { rfc5280: LintMode::Off, spiffe: LintMode::Refuse };
        assert_eq!(refuse.judge(&parts.to_der()).unwrap()[0].lint.id, "spiffe_ext_key_usage");
    }

    #[test]
    fn what_cannot_be_read_hides_no_rule_and_is_refused_by_either_group() {
        let mut parts = Parts::workload();
        parts.put(sans(true, &[(URI, b"spiffe://td")]));
        parts.extensions.push(whole(extension_oid::CERTIFICATE_POLICIES, false, &[5, 0]));
        assert_eq!(found(&parts), ["spiffe_leaf_path", "malformed"]);
        let judged = |parts: &Parts, rfc5280, spiffe| {
            let outcome = LintPolicy { rfc5280, spiffe }.judge(&parts.to_der());
            outcome.map_err(|finding| finding.lint.id).map(|warned| warned.len())
        };
        assert_eq!(judged(&parts, LintMode::Refuse, LintMode::Off), Err("malformed"));
        assert_eq!(judged(&parts, LintMode::Warn, LintMode::Off), Ok(1));
        assert_eq!(judged(&parts, LintMode::Off, LintMode::Refuse), Err("spiffe_leaf_path"));
        parts.put(sans(true, &[(URI, b"spiffe://td/a")]));
        assert_eq!(judged(&parts, LintMode::Off, LintMode::Refuse), Err("malformed"));
        // Nor does a name that cannot be read hide the one before it.
        parts.remove(extension_oid::CERTIFICATE_POLICIES);
        parts.put(whole(extension_oid::SUBJECT_ALT_NAME, true, b"\x30\x0f\x86\x0bspiffe://td\x30\x05"));
        assert_eq!(found(&parts), ["spiffe_leaf_path", "malformed"]);
    }

    #[test]
    fn a_finding_names_rule_and_citation() {
        let mut parts = Parts::leaf();
        parts.subject = name(&"a".repeat(65));
        assert_eq!(
            findings(&parts.to_der())[0].to_string(),
            "attributes of the subject are no longer than their upper bounds (RFC 5280, A.1; lint subject_attribute_length): \
             commonName of 65, beyond 64"
        );
    }

    #[test]
    fn frames_within_frames_end() {
        let mut deep = Vec::new();
        for _ in 0..50_000 {
            deep = emit::build(deep.len() + 8, tag::constructed(0), |out| out.raw(&deep));
            if deep.len() > 60_000 {
                break;
            }
        }
        let mut parts = Parts::leaf();
        let points = emit::build(deep.len() + 16, tag::SEQUENCE, |out| {
            out.raw(&deep);
            out.close(tag::SEQUENCE, 0);
        });
        parts.put(whole(extension_oid::CRL_DISTRIBUTION_POINTS, false, &points));
        assert_eq!(found(&parts), [""; 0]);
    }

    #[test]
    fn a_leaf_is_judged_in_microseconds() {
        let der = Parts::workload().to_der();
        let begin = std::time::Instant::now();
        for _ in 0..10_000 {
            assert_eq!(LintPolicy::default().judge(&der), Ok(Vec::new()));
        }
        let each = begin.elapsed() / 10_000;
        println!("a leaf of {} bytes takes {each:?}", der.len());
        // Far more than it takes, even unoptimised on a busy machine; far less than a signature's check.
        assert!(each < std::time::Duration::from_micros(500));
    }
}
