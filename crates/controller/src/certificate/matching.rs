//! Whether a request asks for what a Certificate wants now.
//!
//! Names of fields in the answers are facts of `cert-manager.io/v1`, with the one odd one among them.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use chancery_issuance::{SanSet, Subject, VerifiedCsr};
use chancery_kubernetes::cert_manager::{CertificateRequestSpec, CertificateSpec, IssuerReference, KeyUsage};

use crate::cache::{CertificateFacts, Digest, RequestFacts, names_digest};

/// `[spec.dnsNames spec.duration]`
pub(crate) fn listed(violations: &[&str]) -> String {
    format!("[{}]", violations.join(" "))
}

/// Subject and names by kind, each kind a sorted set.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Names {
    common_name: String,
    ip_addresses: BTreeSet<String>,
    uris: BTreeSet<String>,
    email_addresses: BTreeSet<String>,
    dns_names: BTreeSet<String>,
    serial_number: String,
    organizations: BTreeSet<String>,
    countries: BTreeSet<String>,
    organizational_units: BTreeSet<String>,
    localities: BTreeSet<String>,
    provinces: BTreeSet<String>,
    street_addresses: BTreeSet<String>,
    postal_codes: BTreeSet<String>,
}

fn set<'a>(values: impl IntoIterator<Item = &'a String>) -> BTreeSet<String> {
    values.into_iter().cloned().collect()
}

/// As addresses are written in one way only.
fn ip(text: &str) -> String {
    text.parse().map_or_else(|_| text.to_owned(), |address: IpAddr| address.to_string())
}

impl Names {
    /// What a Certificate wants.
    pub(crate) fn wanted(spec: &CertificateSpec) -> Self {
        // An address that is none must differ from what a CSR can ask for.
        let ip_addresses = spec.ip_addresses.iter().map(|text| ip(text)).collect();
        Self { ip_addresses, ..Self::of(&subject(spec), &sans(spec)) }
    }

    /// What a CSR asks for.
    pub(crate) fn of_csr(csr: &VerifiedCsr) -> Self {
        Self::of(csr.subject(), csr.sans())
    }

    fn of(subject: &Subject, sans: &SanSet) -> Self {
        Self {
            common_name: subject.common_name.clone(),
            ip_addresses: sans.ip.iter().map(IpAddr::to_string).collect(),
            uris: set(&sans.uri),
            email_addresses: set(&sans.email),
            dns_names: set(&sans.dns),
            serial_number: subject.serial_number.clone(),
            organizations: set(&subject.organization),
            countries: set(&subject.country),
            organizational_units: set(&subject.ou),
            localities: set(&subject.locality),
            provinces: set(&subject.province),
            street_addresses: set(&subject.street_address),
            postal_codes: set(&subject.postal_code),
        }
    }

    /// Each set with the field it comes from, in the order in which differences are told.
    fn fields(&self) -> [(&'static str, Vec<&str>); 13] {
        let Self {
            common_name,
            ip_addresses,
            uris,
            email_addresses,
            dns_names,
            serial_number,
            organizations,
            countries,
            organizational_units,
            localities,
            provinces,
            street_addresses,
            postal_codes,
        } = self;
        fn all_of(values: &BTreeSet<String>) -> Vec<&str> {
            values.iter().map(String::as_str).collect()
        }
        [
            ("spec.ipAddresses", all_of(ip_addresses)),
            ("spec.uris", all_of(uris)),
            ("spec.emailAddresses", all_of(email_addresses)),
            ("spec.dnsNames", all_of(dns_names)),
            ("spec.commonName", vec![common_name.as_str()]),
            ("spec.subject.serialNumber", vec![serial_number.as_str()]),
            ("spec.subject.organizations", all_of(organizations)),
            ("spec.subject.countries", all_of(countries)),
            ("spec.subject.organizationalUnits", all_of(organizational_units)),
            ("spec.subject.localities", all_of(localities)),
            ("spec.subject.provinces", all_of(provinces)),
            ("spec.subject.streetAddresses", all_of(street_addresses)),
            ("spec.subject.postCodes", all_of(postal_codes)),
        ]
    }
}

/// One value for subject and names that a Certificate wants, the same as that of the CSR that is made for it.
fn wanted_digest(spec: &CertificateSpec) -> Digest {
    names_digest(&subject(spec), &sans(spec))
}

/// The subject that a Certificate wants.
pub(crate) fn subject(spec: &CertificateSpec) -> Subject {
    let subject = spec.subject.clone().unwrap_or_default();
    Subject {
        common_name: spec.common_name.clone().unwrap_or_default(),
        serial_number: subject.serial_number.unwrap_or_default(),
        country: subject.countries,
        organization: subject.organizations,
        ou: subject.organizational_units,
        locality: subject.localities,
        province: subject.provinces,
        street_address: subject.street_addresses,
        postal_code: subject.postal_codes,
        user_ids: Vec::new(),
    }
}

fn sans(spec: &CertificateSpec) -> SanSet {
    SanSet {
        dns: spec.dns_names.clone(),
        email: spec.email_addresses.clone(),
        ip: spec.ip_addresses.iter().filter_map(|address| address.parse().ok()).collect(),
        uri: spec.uris.clone(),
        other: Vec::new(),
    }
}

/// What a request says beside its CSR.
struct Terms<'a> {
    issuer_ref: &'a IssuerReference,
    is_ca: bool,
    usages: &'a [KeyUsage],
    duration: Option<Duration>,
}

impl Terms<'_> {
    fn violations(&self, spec: &CertificateSpec) -> Vec<&'static str> {
        let wanted = &spec.issuer_ref;
        let is_other_duration =
            matches!((self.duration, spec.duration), (Some(found), Some(wanted)) if found != wanted.0);
        let is_other_issuer =
            (self.issuer_ref.name.as_str(), self.issuer_ref.kind(), self.issuer_ref.group())
                != (wanted.name.as_str(), wanted.kind(), wanted.group());
        let usages: BTreeSet<_> = self.usages.iter().collect();
        [
            (self.is_ca != spec.is_ca.unwrap_or(false), "spec.isCA"),
            (usages != spec.usages.iter().collect(), "spec.usages"),
            (is_other_duration, "spec.duration"),
            (is_other_issuer, "spec.issuerRef"),
        ]
        .into_iter()
        .filter_map(|(differs, field)| differs.then_some(field))
        .collect()
    }
}

/// Fields in which a request differs from what a Certificate wants.
pub(crate) fn violations(
    spec: &CertificateSpec,
    request: &CertificateRequestSpec,
    csr: &VerifiedCsr,
) -> Vec<&'static str> {
    let (wanted, found) = (Names::wanted(spec), Names::of_csr(csr));
    let mut violations: Vec<_> = wanted
        .fields()
        .into_iter()
        .zip(found.fields())
        .filter_map(|((field, wanted), (_, found))| (wanted != found).then_some(field))
        .collect();
    let terms = Terms {
        issuer_ref: &request.issuer_ref,
        is_ca: request.is_ca.unwrap_or(false),
        usages: &request.usages,
        duration: request.duration.map(|duration| duration.0),
    };
    violations.extend(terms.violations(spec));
    violations
}

/// The same from what is kept of a request. Which names differ cannot be told from it, only whether.
pub(crate) fn kept_violations(spec: &CertificateSpec, request: &RequestFacts) -> Vec<&'static str> {
    let terms = Terms {
        issuer_ref: &request.issuer_ref,
        is_ca: request.is_ca,
        usages: &request.usages,
        duration: request.duration,
    };
    let mut violations = terms.violations(spec);
    if request.names != Some(wanted_digest(spec)) {
        violations.push("spec");
    }
    violations
}

/// Fields in which a certificate differs from what is wanted, where there is no request to compare with. A common name may
/// stand among the DNS names, and the reverse.
pub(crate) fn loose_violations(spec: &CertificateSpec, found: &CertificateFacts) -> Vec<&'static str> {
    let wanted = Names::wanted(spec);
    let mut violations = Vec::new();
    let found_dns = set(&found.dns_names);
    let common_name = &wanted.common_name;
    if !common_name.is_empty() && found.common_name != *common_name && !found_dns.contains(common_name) {
        violations.push("spec.commonName");
    }
    let mut wanted_dns = wanted.dns_names.clone();
    if found_dns.contains(common_name) {
        wanted_dns.insert(common_name.clone());
    }
    let mut has_dns = found_dns;
    if wanted_dns.contains(&found.common_name) {
        has_dns.insert(found.common_name.clone());
    }
    for (differs, field) in [
        (wanted_dns != has_dns, "spec.dnsNames"),
        (wanted.ip_addresses != found.ip_addresses.iter().map(|text| ip(text)).collect(), "spec.ipAddresses"),
        (wanted.uris != set(&found.uris), "spec.uris"),
        (wanted.email_addresses != set(&found.email_addresses), "spec.emailAddresses"),
    ] {
        if differs {
            violations.push(field);
        }
    }
    violations
}
