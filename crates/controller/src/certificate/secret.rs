//! The Secret that a certificate is kept in: what it shall hold, and whether it does.

use std::collections::BTreeMap;
use std::net::IpAddr;

use chancery_issuance::{Certificate as X509, PrivateKey};
use chancery_kubernetes::cert_manager::{Certificate, CertificateSpec, IssuerReference, OutputFormat, names};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use kube::api::ObjectMeta;

use super::facts::{Applied, certificate_of, private_key_of};
use super::key;
use crate::cache::{CertificateFacts, SecretFacts};

/// `type` of a Secret that is made here.
const TLS: &str = "kubernetes.io/tls";

/// Key, certificate and root, as they go into a Secret.
#[derive(Debug)]
pub(crate) struct Content<'a> {
    /// PEM: the leaf, then what stands between it and the root.
    pub(crate) chain: &'a [u8],
    /// Its key.
    pub(crate) key: &'a PrivateKey,
    /// `tls.key` as it stands already; `None`: in the form that the Certificate asks for.
    pub(crate) key_pem: Option<&'a [u8]>,
    /// PEM of the root; perhaps empty.
    pub(crate) ca: &'a [u8],
    /// Who signed.
    pub(crate) issuer: &'a IssuerReference,
}

/// The Secret with this content, to be applied; `existing` is what stands in its place. `None`: the chain begins with no
/// certificate.
pub(crate) fn wanted(
    certificate: &Certificate,
    content: &Content<'_>,
    existing: Option<&Secret>,
    owner_references: bool,
) -> Option<Secret> {
    let spec = &certificate.spec;
    let name = certificate.metadata.name.clone().unwrap_or_default();
    let leaf = X509::from_pem(std::str::from_utf8(content.chain).ok()?).ok()?;
    let template = spec.secret_template.clone().unwrap_or_default();
    let mut labels = template.labels;
    labels.insert(names::FAO.to_owned(), "true".to_owned());
    let mut annotations = template.annotations;
    annotations.extend(certificate_annotations(&leaf));
    annotations.extend(origin_annotations(&name, content.issuer));
    Some(Secret {
        metadata: ObjectMeta {
            name: Some(spec.secret_name.clone()),
            namespace: certificate.metadata.namespace.clone(),
            // What was read may not be overwritten unseen: whoever was quicker is read again.
            uid: existing.and_then(|secret| secret.metadata.uid.clone()),
            resource_version: existing.and_then(|secret| secret.metadata.resource_version.clone()),
            labels: Some(labels),
            annotations: Some(annotations),
            owner_references: owner_references.then(|| vec![key::owner(certificate)]),
            ..ObjectMeta::default()
        },
        type_: existing.and_then(|secret| secret.type_.clone()).or_else(|| Some(TLS.to_owned())),
        data: Some(data(spec, content)),
        ..Secret::default()
    })
}

/// The Secret as it shall be with the key and the certificate that are in it.
pub(crate) fn kept(certificate: &Certificate, existing: &Secret, owner_references: bool) -> Option<Secret> {
    let key = private_key_of(existing)?;
    let data = existing.data.as_ref()?;
    let content = Content {
        chain: &data.get("tls.crt")?.0,
        key: &key,
        key_pem: Some(&data.get("tls.key")?.0),
        ca: data.get("ca.crt").map_or(&[], |ca| &ca.0),
        issuer: &certificate.spec.issuer_ref,
    };
    certificate_of(existing)?;
    wanted(certificate, &content, Some(existing), owner_references)
}

fn data(spec: &CertificateSpec, content: &Content<'_>) -> BTreeMap<String, ByteString> {
    let form = key::form(spec);
    let key_pem = match content.key_pem {
        Some(pem) => pem.to_vec(),
        None => content.key.to_pem(form).as_bytes().to_vec(),
    };
    let mut data = BTreeMap::new();
    for output in &spec.additional_output_formats {
        let (name, bytes) = match output.kind {
            OutputFormat::Der => (KEY_DER, content.key.to_der(form).to_vec()),
            OutputFormat::CombinedPem => (COMBINED, [key_pem.as_slice(), b"\n", content.chain].concat()),
        };
        data.insert(name.to_owned(), ByteString(bytes));
    }
    data.insert("tls.key".to_owned(), ByteString(key_pem));
    data.insert("tls.crt".to_owned(), ByteString(content.chain.to_vec()));
    if !content.ca.is_empty() {
        data.insert("ca.crt".to_owned(), ByteString(content.ca.to_vec()));
    }
    data
}

const KEY_DER: &str = "key.der";
const COMBINED: &str = "tls-combined.pem";

/// What a Secret says of the certificate in it.
fn certificate_annotations(leaf: &X509) -> BTreeMap<String, String> {
    let sans = leaf.sans().unwrap_or_default();
    let subject = leaf.subject_name().unwrap_or_default();
    let ips: Vec<String> = sans.ip.iter().map(IpAddr::to_string).collect();
    let common_name = leaf.common_name().unwrap_or_default();
    let mut annotations = name_annotations(common_name, &sans.dns, &ips, &sans.uri);
    let serial_number: Vec<String> =
        Some(subject.serial_number).filter(|number| !number.is_empty()).into_iter().collect();
    for (name, values) in [
        (names::EMAIL_SANS.to_owned(), &sans.email),
        (format!("{}organizations", names::SUBJECT_PREFIX), &subject.organization),
        (format!("{}organizationalunits", names::SUBJECT_PREFIX), &subject.ou),
        (format!("{}countries", names::SUBJECT_PREFIX), &subject.country),
        (format!("{}provinces", names::SUBJECT_PREFIX), &subject.province),
        (format!("{}localities", names::SUBJECT_PREFIX), &subject.locality),
        (format!("{}streetaddresses", names::SUBJECT_PREFIX), &subject.street_address),
        (format!("{}postalcodes", names::SUBJECT_PREFIX), &subject.postal_code),
        (format!("{}serialnumber", names::SUBJECT_PREFIX), &serial_number),
    ] {
        if !values.is_empty() {
            annotations.insert(name, csv(values));
        }
    }
    annotations
}

/// Those that are always there.
fn name_annotations(
    common_name: &str,
    dns: &[String],
    ips: &[String],
    uris: &[String],
) -> BTreeMap<String, String> {
    [
        (names::COMMON_NAME, common_name.to_owned()),
        (names::ALT_NAMES, csv(dns)),
        (names::IP_SANS, csv(ips)),
        (names::URI_SANS, csv(uris)),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .into()
}

/// Of which Certificate and issuer it is.
fn origin_annotations(name: &str, issuer: &IssuerReference) -> BTreeMap<String, String> {
    [
        (names::CERTIFICATE_NAME, name),
        (names::ISSUER_NAME, &issuer.name),
        (names::ISSUER_KIND, issuer.kind.as_deref().unwrap_or_default()),
        (names::ISSUER_GROUP, issuer.group.as_deref().unwrap_or_default()),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .into()
}

/// One line of comma-separated values (RFC 4180), quoted where they must be.
fn csv(values: &[String]) -> String {
    let quoted: Vec<String> = values
        .iter()
        .map(|value| {
            let must = value.contains([',', '"', '\r', '\n']) || value.starts_with(char::is_whitespace);
            if must { format!("\"{}\"", value.replace('"', "\"\"")) } else { value.clone() }
        })
        .collect();
    quoted.join(",")
}

/// Whether labels, annotations, forms and owner of a Secret are as a Certificate wants them.
pub(crate) fn is_kept(certificate: &Certificate, secret: &SecretFacts, owner_references: bool) -> bool {
    let Some(found) = &secret.certificate else { return false };
    let spec = &certificate.spec;
    let template = spec.secret_template.clone().unwrap_or_default();
    let CertificateFacts { common_name, dns_names, ip_addresses, uris, .. } = found;
    let mut annotations: BTreeMap<String, String> = template
        .annotations
        .iter()
        .filter(|(name, _)| name.starts_with("cert-manager.io/"))
        .map(|(name, value)| (name.clone(), value.clone()))
        .collect();
    annotations.extend(name_annotations(common_name, dns_names, ip_addresses, uris));
    let name = certificate.metadata.name.clone().unwrap_or_default();
    annotations.extend(origin_annotations(&name, &spec.issuer_ref));
    if annotations.iter().any(|(name, value)| secret.annotations.get(name) != Some(value)) {
        return false;
    }
    let mut keys = vec!["tls.crt".to_owned(), "tls.key".to_owned()];
    for output in &spec.additional_output_formats {
        let key = match output.kind {
            OutputFormat::Der => KEY_DER,
            OutputFormat::CombinedPem => COMBINED,
        };
        keys.push(key.to_owned());
    }
    let mut labels = template.labels;
    labels.insert(names::FAO.to_owned(), "true".to_owned());
    let uid = certificate.metadata.uid.clone();
    let owners = if owner_references { uid.into_iter().collect() } else { Vec::new() };
    let applied = Applied { labels, annotations: template.annotations, keys, owners };
    secret.applied == Some(applied.digest())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_in_annotations_are_quoted_where_they_must_be() {
        let csv_of = |values: &[&str]| csv(&values.iter().map(|&value| value.to_owned()).collect::<Vec<_>>());
        assert_eq!(csv_of(&[]), "");
        assert_eq!(csv_of(&["a", "b c"]), "a,b c");
        assert_eq!(csv_of(&["Example, Inc.", "a \"b\""]), "\"Example, Inc.\",\"a \"\"b\"\"\"");
    }
}
