//! Holds the name rules against what the peer answered, case by case.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail loudly"
)]

use std::sync::Arc;
use std::time::Duration;

use chancery_issuance::{
    CaRequest, Certificate, IssuanceRequest, Issuer, IssuerOptions, KeySpec, MountLimits, PrivateKey,
    Profile, ProfileConfig, RequestedNames, SanSet, SerialNumber, Signer, Subject, SubjectKey, prepare,
    prepare_root,
};
use jiff::Timestamp;

const LIMITS: MountLimits =
    MountLimits { default_ttl: Duration::from_secs(3600), max_ttl: Duration::from_secs(86_400) };

/// Cases in which this crate knowingly answers otherwise; `docs/divergences.md` has the reasons.
const DIVERGENCES: [(&str, &str); 1] = [(
    "common_name=host | other_sans=nonsense;UTF8:anything",
    "could not parse requested other SAN: \"nonsense\" is not an object identifier",
)];

#[test]
fn every_recorded_case_is_answered_as_the_peer_does() {
    let fixture = Fixture::new();
    let mut profile = None;
    let mut asked = "";
    let mut count = 0;
    let mut wrong = Vec::new();
    for line in include_str!("../testdata/name_rules.txt").lines() {
        if let Some(role) = line.strip_prefix("role: ") {
            profile = Some(Profile::new(config(role)).unwrap());
        } else if let Some(ask) = line.strip_prefix("ask: ") {
            asked = ask;
        } else if let Some(expected) = line.strip_prefix("got: ") {
            count += 1;
            let got = fixture.answer(profile.as_ref().unwrap(), asked);
            let expected =
                DIVERGENCES.iter().find(|(ask, _)| *ask == asked).map_or(expected, |(_, answer)| answer);
            if got.trim_end() != expected {
                wrong.push(format!("ask: {asked}\n  peer: {expected}\n  here: {got}"));
            }
        }
    }
    assert!(count > 150, "the recorded cases must be there");
    assert!(wrong.is_empty(), "{} of {count} differ:\n{}", wrong.len(), wrong.join("\n"));
}

struct Fixture {
    issuer: Issuer,
    key: PrivateKey,
    now: Timestamp,
}

impl Fixture {
    fn new() -> Self {
        let now = Timestamp::from_second(1_795_000_000).unwrap();
        let signer: Arc<dyn Signer> = Arc::new(PrivateKey::generate(KeySpec::Ed25519).unwrap());
        let request = CaRequest { ttl: Some(Duration::from_secs(86_400)), ..CaRequest::new("Root", LIMITS) };
        let serial = SerialNumber::generate(now, [7; 14]);
        let root = prepare_root(&request, &signer, &Default::default(), serial, now).unwrap().sign().unwrap();
        let certificate = Certificate::from_der(&root.der).unwrap();
        let issuer = Issuer::new(certificate, signer, IssuerOptions::default()).unwrap();
        let key = PrivateKey::generate(KeySpec::new("ec", 256).unwrap()).unwrap();
        Self { issuer, key, now }
    }

    fn answer(&self, profile: &Profile, ask: &str) -> String {
        let names = requested(ask);
        let key = SubjectKey::from(&self.key);
        let serial = SerialNumber::generate(self.now, [9; 14]);
        let result = IssuanceRequest::new(&names, None, profile, LIMITS).and_then(|request| {
            Ok((prepare(&request, &key, profile, &self.issuer, serial, self.now)?, request))
        });
        match result {
            Ok((prepared, request)) => {
                prepared.sign().unwrap();
                let critical = if *request.subject() == Subject::default() { " (critical)" } else { "" };
                format!("ok | {} | {}{critical}", subject_text(request.subject()), sans_text(request.sans()))
            }
            Err(refusal) => refusal.to_string(),
        }
    }
}

fn fields(text: &str) -> impl Iterator<Item = (&str, &str)> {
    text.split(" | ").map(|field| field.split_once('=').unwrap())
}

fn list(value: &str) -> Vec<String> {
    value.split(',').map(str::to_owned).collect()
}

fn config(role: &str) -> ProfileConfig {
    let mut config = ProfileConfig { key_type: "ec".to_owned(), ..ProfileConfig::default() };
    for (name, value) in fields(role) {
        match name {
            "allowed_domains" => config.allowed_domains = list(value),
            "allow_bare_domains" => config.allow_bare_domains = value == "true",
            "allow_subdomains" => config.allow_subdomains = value == "true",
            "allow_glob_domains" => config.allow_glob_domains = value == "true",
            "allow_wildcard_certificates" => config.allow_wildcard_certificates = value == "true",
            "allow_any_name" => config.allow_any_name = value == "true",
            "allow_localhost" => config.allow_localhost = value == "true",
            "allow_ip_sans" => config.allow_ip_sans = value == "true",
            "allowed_ip_sans_cidr" => config.allowed_ip_sans_cidr = list(value),
            "allowed_uri_sans" => config.allowed_uri_sans = list(value),
            "allowed_other_sans" => config.allowed_other_sans = list(value),
            "allowed_serial_numbers" => config.allowed_serial_numbers = list(value),
            "allowed_user_ids" => config.allowed_user_ids = list(value),
            "enforce_hostnames" => config.enforce_hostnames = value == "true",
            "require_cn" => config.require_cn = value == "true",
            "cn_validations" => config.cn_validations = list(value),
            "ou" => config.ou = list(value),
            "organization" => config.organization = list(value),
            "country" => config.country = list(value),
            "locality" => config.locality = list(value),
            "province" => config.province = list(value),
            "street_address" => config.street_address = list(value),
            "postal_code" => config.postal_code = list(value),
            other => panic!("{other} is not a field of a role here"),
        }
    }
    config
}

fn requested(ask: &str) -> RequestedNames {
    let mut names = RequestedNames::default();
    for (name, value) in fields(ask) {
        match name {
            "common_name" => value.clone_into(&mut names.common_name),
            "alt_names" => names.alt_names = list(value),
            "ip_sans" => names.ip_sans = list(value),
            "uri_sans" => names.uri_sans = list(value),
            "other_sans" => names.other_sans = list(value),
            "user_ids" => names.user_ids = list(value),
            "serial_number" => value.clone_into(&mut names.serial_number),
            "exclude_cn_from_sans" => names.exclude_cn_from_sans = value == "true",
            other => panic!("{other} is not a field of a request here"),
        }
    }
    names
}

/// As `openssl x509 -subject -nameopt oneline,utf8` writes it.
fn subject_text(subject: &Subject) -> String {
    let mut parts = Vec::new();
    let mut multi = |name: &str, values: &[String]| {
        let mut values = values.to_vec();
        // As in the SET OF: by length, then by bytes (those in UTF-8 have the smaller tag).
        values.sort_by_key(|value| (value.len(), value.clone()));
        values.dedup();
        if !values.is_empty() {
            let quoted =
                |value: &String| if value.contains(',') { format!("{value:?}") } else { value.clone() };
            let texts = values.iter().map(|value| format!("{name} = {}", quoted(value)));
            parts.push(texts.collect::<Vec<_>>().join(" + "));
        }
    };
    multi("C", &subject.country);
    multi("ST", &subject.province);
    multi("L", &subject.locality);
    multi("street", &subject.street_address);
    multi("postalCode", &subject.postal_code);
    multi("O", &subject.organization);
    multi("OU", &subject.ou);
    let one = |value: &String| if value.is_empty() { Vec::new() } else { vec![value.clone()] };
    multi("CN", &one(&subject.common_name));
    multi("serialNumber", &one(&subject.serial_number));
    for user_id in &subject.user_ids {
        multi("UID", std::slice::from_ref(user_id));
    }
    parts.join(", ")
}

/// As `openssl x509 -ext subjectAltName` writes it.
fn sans_text(sans: &SanSet) -> String {
    let other = sans.other.iter().map(|name| {
        let kind = if name.oid == "1.3.6.1.4.1.311.20.2.3" { "UPN" } else { &name.oid };
        format!("othername: {kind}::{}", name.value)
    });
    let dns = sans.dns.iter().map(|name| format!("DNS:{name}"));
    let email = sans.email.iter().map(|name| format!("email:{name}"));
    let ip = sans.ip.iter().map(|ip| match ip {
        std::net::IpAddr::V4(v4) => format!("IP Address:{v4}"),
        std::net::IpAddr::V6(v6) => {
            let parts: Vec<_> = v6.segments().iter().map(|part| format!("{part:X}")).collect();
            format!("IP Address:{}", parts.join(":"))
        }
    });
    let uri = sans.uri.iter().map(|name| format!("URI:{name}"));
    other.chain(dns).chain(email).chain(ip).chain(uri).collect::<Vec<_>>().join(", ")
}
