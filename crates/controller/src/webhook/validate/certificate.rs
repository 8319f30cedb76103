//! Certificate.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use chancery_kubernetes::cert_manager::names::ALLOW_DIRECT_INJECTION;
use chancery_kubernetes::cert_manager::{
    CertificatePrivateKey, CertificateSpec, GoDuration, KeyAlgorithm, Keystores, NameConstraintItem,
    NameConstraints, Renewal, RenewalPolicy, SecretKeySelector, SignatureAlgorithm, Subject,
};
use chancery_kubernetes::{is_dns_subdomain, is_key};

use super::issuer_reference;
use super::subject::literal_attributes;
use crate::webhook::field::{Errors, Path};

const LEAST_DURATION: Duration = Duration::from_secs(3600);
const LEAST_RENEW_BEFORE: Duration = Duration::from_secs(300);
const DEFAULT_DURATION: Duration = Duration::from_secs(90 * 24 * 3600);

/// ub-common-name (RFC 5280, appendix A.1).
const LONGEST_COMMON_NAME: usize = 64;

/// What is wrong with a Certificate.
pub(crate) fn certificate(spec: &CertificateSpec) -> Errors {
    let path = Path::new("spec");
    let mut errors = Errors::default();
    check_secret_name(&spec.secret_name, &path.child("secretName"), &mut errors);
    issuer_reference(&spec.issuer_ref, &path, &mut errors);
    check_names(spec, &path, &mut errors);
    if let Some(key) = &spec.private_key {
        check_private_key(key, &path.child("privateKey"), &mut errors);
    }
    check_signature_algorithm(spec, &path, &mut errors);
    check_durations(spec, &path, &mut errors);
    if let Some(renewal) = &spec.renewal {
        check_renewal(renewal, &path.child("renewal"), &mut errors);
    }
    if let Some(limit) = spec.revision_history_limit
        && limit < 1
    {
        errors.invalid_plain(&path.child("revisionHistoryLimit"), limit, "must not be less than 1");
    }
    check_secret_template(spec, &path.child("secretTemplate"), &mut errors);
    let mut formats = BTreeSet::new();
    for format in &spec.additional_output_formats {
        if !formats.insert(format.kind) {
            let path = path.child("additionalOutputFormats").key("type");
            errors.duplicate(&path, format.kind.as_str());
        }
    }
    if let Some(keystores) = &spec.keystores {
        check_keystores(keystores, &path.child("keystores"), &mut errors);
    }
    if let Some(constraints) = &spec.name_constraints {
        check_constraints(constraints, spec.is_ca, &path.child("nameConstraints"), &mut errors);
    }
    errors
}

fn check_secret_name(name: &str, path: &Path, errors: &mut Errors) {
    if name.is_empty() {
        errors.required(path, "must be specified");
    } else if !is_dns_subdomain(name) {
        errors.invalid(
            path,
            name,
            "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start \
             and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
             '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')",
        );
    }
}

fn check_names(spec: &CertificateSpec, path: &Path, errors: &mut Errors) {
    let common_name = spec.common_name.as_deref().unwrap_or_default();
    let literal = spec.literal_subject.as_deref().unwrap_or_default();
    let mut literal_common_name = None;
    if !literal.is_empty() {
        if !common_name.is_empty() {
            errors.invalid(
                &path.child("commonName"),
                common_name,
                "When providing a `LiteralSubject` no `commonName` may be provided.",
            );
        }
        if spec.subject.as_ref().is_some_and(|subject| *subject != Subject::default()) {
            errors.invalid(
                &path.child("subject"),
                "<snip>",
                "When providing a `LiteralSubject` no `Subject` properties may be provided.",
            );
        }
        let path = path.child("literalSubject");
        match literal_attributes(literal) {
            Ok(attributes) => {
                let mut names = attributes
                    .into_iter()
                    .filter(|(kind, _)| kind.eq_ignore_ascii_case("CN") || kind == "2.5.4.3");
                literal_common_name = names.next().map(|(_, value)| value);
            }
            Err(reason) => errors.invalid(&path, literal, reason),
        }
    }
    let has_name = !common_name.is_empty()
        || literal_common_name.as_ref().is_some_and(|name| !name.is_empty())
        || !spec.dns_names.is_empty()
        || !spec.uris.is_empty()
        || !spec.email_addresses.is_empty()
        || !spec.ip_addresses.is_empty()
        || !spec.other_names.is_empty();
    if !has_name {
        errors.invalid(
            path,
            "",
            "at least one of commonName (from the commonName field or from a literalSubject), dnsNames, emailSANs, \
             ipAddresses, otherNames, or uriSANs must be set",
        );
    }
    if common_name.len() > LONGEST_COMMON_NAME {
        errors.too_long(&path.child("commonName"), LONGEST_COMMON_NAME);
    }
    if literal_common_name.is_some_and(|name| name.len() > LONGEST_COMMON_NAME) {
        errors.too_long(&path.child("literalSubject"), LONGEST_COMMON_NAME);
    }
    for (index, address) in spec.ip_addresses.iter().enumerate() {
        if address.parse::<IpAddr>().is_err() {
            errors.invalid(&path.child("ipAddresses").index(index), address, "invalid IP address");
        }
    }
    for (index, address) in spec.email_addresses.iter().enumerate() {
        if !is_bare_address(address) {
            errors.invalid(
                &path.child("emailAddresses").index(index),
                address,
                "invalid email address: make sure the supplied value only contains the email address itself",
            );
        }
    }
    for (index, name) in spec.other_names.iter().enumerate() {
        let path = path.child("otherNames").index(index);
        if name.oid.is_empty() {
            errors.required(&path.child("oid"), "must be specified");
        } else if !is_object_identifier(&name.oid) {
            errors.invalid(&path.child("oid"), &name.oid, "invalid oid syntax");
        }
        if name.utf8_value.is_empty() {
            errors.required(&path.child("utf8Value"), "must be set to a valid non-empty UTF8 string");
        }
    }
}

/// `local@domain`, with no display name, angle brackets or blanks.
fn is_bare_address(address: &str) -> bool {
    let Some((local, domain)) = address.rsplit_once('@') else { return false };
    let is_plain = |c: char| c.is_ascii_graphic() && !"<>()[],;:\"\\@".contains(c);
    let is_plain = |text: &str| !text.is_empty() && text.chars().all(|c| is_plain(c) || !c.is_ascii());
    is_plain(local) && is_plain(domain)
}

/// `1.2.840…` (X.660, 7.6): the first arc is 0, 1 or 2, and the second below 40 under the first two.
fn is_object_identifier(text: &str) -> bool {
    let arcs: Option<Vec<u64>> = text
        .split('.')
        .map(|arc| {
            let is_number = !arc.is_empty() && arc.bytes().all(|byte| byte.is_ascii_digit());
            is_number.then(|| arc.parse().ok())?
        })
        .collect();
    matches!(arcs.as_deref(), Some([0 | 1, 0..40, ..] | [2, _, ..]))
}

fn algorithm(spec: &CertificateSpec) -> KeyAlgorithm {
    spec.private_key.as_ref().and_then(|key| key.algorithm).unwrap_or(KeyAlgorithm::Rsa)
}

fn check_private_key(key: &CertificatePrivateKey, path: &Path, errors: &mut Errors) {
    let size = key.size.unwrap_or(0);
    match key.algorithm.unwrap_or(KeyAlgorithm::Rsa) {
        KeyAlgorithm::Rsa if size != 0 && !(2048..=8192).contains(&size) => {
            errors.invalid_plain(
                &path.child("size"),
                size,
                "must be between 2048 and 8192 for rsa keyAlgorithm",
            );
        }
        KeyAlgorithm::Ecdsa if !matches!(size, 0 | 256 | 384 | 521) => {
            errors.unsupported(&path.child("size"), size, &["256", "384", "521"]);
        }
        KeyAlgorithm::Rsa | KeyAlgorithm::Ecdsa | KeyAlgorithm::Ed25519 => {}
    }
}

fn check_signature_algorithm(spec: &CertificateSpec, path: &Path, errors: &mut Errors) {
    use SignatureAlgorithm as Signature;
    let Some(signature) = spec.signature_algorithm else { return };
    let key = algorithm(spec);
    let allowed: &[Signature] = match key {
        KeyAlgorithm::Rsa => &[Signature::Sha256WithRsa, Signature::Sha384WithRsa, Signature::Sha512WithRsa],
        KeyAlgorithm::Ecdsa => {
            &[Signature::EcdsaWithSha256, Signature::EcdsaWithSha384, Signature::EcdsaWithSha512]
        }
        KeyAlgorithm::Ed25519 => &[Signature::PureEd25519],
    };
    if !allowed.contains(&signature) {
        let allowed: Vec<&str> = allowed.iter().map(|one| one.as_str()).collect();
        let allowed = allowed.join(" ");
        let detail = format!("for key algorithm {key} the allowed signature algorithms are [{allowed}]");
        errors.invalid(&path.child("signatureAlgorithm"), signature.as_str(), detail);
    }
}

fn check_durations(spec: &CertificateSpec, path: &Path, errors: &mut Errors) {
    let duration = spec.duration.map_or(DEFAULT_DURATION, |duration| duration.0);
    let shown = GoDuration(duration);
    if duration < LEAST_DURATION {
        let detail = format!("certificate duration must be greater than {}", GoDuration(LEAST_DURATION));
        errors.invalid_plain(&path.child("duration"), shown, detail);
    }
    let (before, percentage) = (spec.renew_before, spec.renew_before_percentage);
    let least = GoDuration(LEAST_RENEW_BEFORE);
    match (before, percentage) {
        (Some(before), Some(percentage)) => {
            let detail =
                "renewBefore and renewBeforePercentage are mutually exclusive and cannot both be set";
            errors.invalid_plain(&path.child("renewBefore"), before, detail);
            errors.invalid_plain(&path.child("renewBeforePercentage"), percentage, detail);
        }
        (Some(before), None) => {
            let path = path.child("renewBefore");
            if before.0 < LEAST_RENEW_BEFORE {
                let detail = format!("certificate renewBefore must be greater than {least}");
                errors.invalid_plain(&path, before, detail);
            }
            if before.0 >= duration {
                let detail =
                    format!("certificate duration {shown} must be greater than renewBefore {before}");
                errors.invalid_plain(&path, before, detail);
            }
        }
        (None, Some(percentage)) => {
            let path = path.child("renewBeforePercentage");
            match u32::try_from(percentage) {
                Ok(part @ 1..=99) if duration / 100 * part < LEAST_RENEW_BEFORE => {
                    let detail = format!(
                        "certificate renewBeforePercentage must result in a renewBefore greater than {least}"
                    );
                    errors.invalid_plain(&path, percentage, detail);
                }
                Ok(1..=99) => {}
                _ => errors.invalid_plain(&path, percentage, "must be between 1 and 99"),
            }
        }
        (None, None) => {}
    }
}

fn check_renewal(renewal: &Renewal, path: &Path, errors: &mut Errors) {
    let windows = path.child("windows");
    if renewal.policy == Some(RenewalPolicy::Disabled) && !renewal.windows.is_empty() {
        errors.forbidden(&windows, "windows cannot be set when `renewal.policy` is set to Disabled");
    }
    for (index, window) in renewal.windows.iter().enumerate() {
        let path = windows.index(index);
        let fields = window.cron.split_whitespace().count();
        if fields != 5 && !window.cron.starts_with('@') {
            errors.invalid(
                &path.child("cron"),
                &window.cron,
                "must have five fields: minute hour day month weekday",
            );
        }
        if window.window_duration.parse::<GoDuration>().is_ok_and(|duration| !duration.0.is_zero()) {
            continue;
        }
        errors.invalid(
            &path.child("windowDuration"),
            &window.window_duration,
            "must be a duration such as 2h30m",
        );
    }
}

fn check_secret_template(spec: &CertificateSpec, path: &Path, errors: &mut Errors) {
    let Some(template) = &spec.secret_template else { return };
    let annotations = path.child("annotations");
    for key in template.annotations.keys() {
        if key.starts_with("cert-manager.io/") && key != ALLOW_DIRECT_INJECTION {
            errors.invalid(&annotations, key, "cert-manager.io/* annotations are not allowed");
        }
        if !is_key(&key.to_lowercase()) {
            errors.invalid(
                &annotations,
                key,
                "must be a qualified name, with an optional DNS subdomain before a slash",
            );
        }
    }
    let labels = path.child("labels");
    for (key, value) in &template.labels {
        if !is_key(key) {
            errors.invalid(
                &labels,
                key,
                "must be a qualified name, with an optional DNS subdomain before a slash",
            );
        }
        if !is_label_value(value) {
            errors.invalid(
                &labels,
                value,
                "a label's value has at most 63 letters, digits, '-', '_' and '.', with a letter or digit at both ends",
            );
        }
    }
}

fn is_label_value(value: &str) -> bool {
    let is_end = |byte: Option<&u8>| byte.is_none_or(u8::is_ascii_alphanumeric);
    let bytes = value.as_bytes();
    bytes.len() <= 63
        && is_end(bytes.first())
        && is_end(bytes.last())
        && bytes.iter().all(|byte| byte.is_ascii_alphanumeric() || b"-_.".contains(byte))
}

fn check_keystores(keystores: &Keystores, path: &Path, errors: &mut Errors) {
    let mut check = |field: &str,
                     kind: &str,
                     create: bool,
                     reference: Option<&SecretKeySelector>,
                     password: Option<&str>| {
        if !create {
            return;
        }
        let path = path.child(field);
        let reference = reference.filter(|reference| !reference.name.is_empty());
        match (reference, password) {
                (None, None) => errors.forbidden(
                    &path,
                    &format!("must set exactly one of passwordSecretRef and password must for {kind} keystores"),
                ),
                (Some(_), Some(_)) => errors.forbidden(
                    &path,
                    &format!(
                        "exactly one of passwordSecretRef and password must be provided for {kind} keystores; cannot \
                         set both"
                    ),
                ),
                (Some(reference), None) if reference.key_or("").is_empty() => {
                    errors.required(&path.child("passwordSecretRef").child("key"), "secret key is required");
                }
                _ => {}
            }
        if password == Some("") {
            let detail = format!("literal password cannot be empty if set on {kind} keystores");
            errors.forbidden(&path.child("password"), &detail);
        }
    };
    if let Some(jks) = &keystores.jks {
        check("jks", "JKS", jks.create, jks.password_secret_ref.as_ref(), jks.password.as_deref());
    }
    if let Some(store) = &keystores.pkcs12 {
        let password = store.password.as_deref();
        check("pkcs12", "PKCS#12", store.create, store.password_secret_ref.as_ref(), password);
    }
}

fn check_constraints(constraints: &NameConstraints, is_ca: Option<bool>, path: &Path, errors: &mut Errors) {
    let NameConstraints { critical: _, permitted, excluded } = constraints;
    if is_ca != Some(true) {
        errors.invalid(path, "<snip>", "isCa should be true when nameConstraints is set");
    }
    let is_empty = |item: &Option<NameConstraintItem>| {
        item.as_ref().is_none_or(|item| *item == NameConstraintItem::default())
    };
    if is_empty(permitted) && is_empty(excluded) {
        errors.invalid(path, "<snip>", "either permitted or excluded must be set");
    }
    for (name, item) in [("permitted", permitted), ("excluded", excluded)] {
        let ranges = item.iter().flat_map(|item| &item.ip_ranges).enumerate();
        for (index, range) in ranges.filter(|(_, range)| !is_range(range)) {
            let path = path.child(name).child("ipRanges").index(index);
            errors.invalid(&path, range, "must be an IP range in CIDR notation, such as 10.0.0.0/8");
        }
    }
}

fn is_range(text: &str) -> bool {
    let Some((address, length)) = text.split_once('/') else { return false };
    let most = match address.parse::<IpAddr>() {
        Ok(IpAddr::V4(_)) => 32,
        Ok(IpAddr::V6(_)) => 128,
        Err(_) => return false,
    };
    length.parse::<u8>().is_ok_and(|length| length <= most)
}

#[cfg(test)]
#[path = "certificate_tests.rs"]
mod tests;
