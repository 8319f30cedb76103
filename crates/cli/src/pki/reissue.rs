//! `pki reissue`: an intermediate like one that there is.

use std::collections::BTreeMap;
use std::time::Duration;

use chancery_client::{Value, format_duration};
use chancery_issuance::{Certificate, Hash, SignatureAlgorithm};

use super::issue::issue;
use super::issuer::read_issuer;
use super::{pairs, ready, told};
use crate::command::{Call, Failure, Outcome};

pub(super) fn run(call: &mut Call<'_>) -> Outcome {
    if call.args.len() < 3 {
        let sentence = "Not enough arguments: expected parent issuer and child-mount location and some key_value argument";
        return Err(Failure::Local(sentence.to_owned()));
    }
    let given = pairs(call, 3)?;
    ready(call)?;
    let (parent, template, mount) = (call.path(0), call.path(1), call.path(2));
    let known = read_issuer(call, &template).map_err(|failure| {
        told(failure, |text| format!("Error fetching template certificate {template} : {text}"))
    })?;
    let existing = call.flags.text("type") == Some("existing");
    if existing && known.key_id.is_empty() {
        return Err(Failure::Local(format!(
            "Template issuer {template} did not have a key id field set in response which is required"
        )));
    }
    let key_id = existing.then_some(known.key_id.as_str());
    let data = merged(parameters(&known.certificate, key_id), given);
    issue(call, &parent, &mount, data)
}

/// What was given comes before what the template says, and drives out what would contradict it.
fn merged(mut template: BTreeMap<String, Value>, given: BTreeMap<String, Value>) -> BTreeMap<String, Value> {
    if given.contains_key("not_after") {
        template.remove("ttl");
    }
    // The size of one kind of key is none of another.
    if given.get("key_type").is_some_and(|kind| template.get("key_type") != Some(kind)) {
        template.remove("key_bits");
    }
    template.extend(given);
    template
}

/// The parameters that make a certificate like this one, under the key with that id or a new one.
fn parameters(certificate: &Certificate, key_id: Option<&str>) -> BTreeMap<String, Value> {
    let subject = certificate.subject_name().unwrap_or_default();
    let names = certificate.sans().unwrap_or_default();
    let joined = |texts: &[String]| Value::from(texts.join(","));
    let list = |texts: Vec<String>| match texts.is_empty() {
        true => Value::Null,
        false => Value::Array(texts.into_iter().map(Value::from).collect()),
    };
    let (bits, pss) = signature(certificate.signature_algorithm());
    let common_name = subject.common_name;
    let is_san = names.dns.contains(&common_name) || names.email.contains(&common_name);
    let addresses: Vec<String> = names.ip.iter().map(ToString::to_string).collect();
    let domains = certificate.permitted_dns_domains().unwrap_or_default();
    let path_length = certificate.path_length().map_or_else(|| "-1".to_owned(), |length| length.to_string());
    let mut parameters: BTreeMap<&str, Value> = [
        ("alt_names", Value::from(format!("{},{}", names.dns.join(","), names.email.join(",")))),
        ("ip_sans", joined(&addresses)),
        ("uri_sans", joined(&names.uri)),
        ("signature_bits", Value::Number(bits.to_owned())),
        ("exclude_cn_from_sans", Value::from(!common_name.is_empty() && !is_san)),
        ("common_name", Value::from(common_name)),
        ("ou", list(subject.ou)),
        ("organization", list(subject.organization)),
        ("country", list(subject.country)),
        ("locality", list(subject.locality)),
        ("province", list(subject.province)),
        ("street_address", list(subject.street_address)),
        ("postal_code", list(subject.postal_code)),
        ("serial_number", Value::from(subject.serial_number)),
        ("ttl", Value::from(lifetime(certificate))),
        ("max_path_length", Value::Number(path_length)),
        ("permitted_dns_domains", joined(&domains)),
        ("use_pss", Value::from(pss)),
    ]
    .into();
    match key_id {
        Some(key_id) => {
            let skid = certificate.subject_key_id().unwrap_or_default();
            parameters.insert(
                "skid",
                Value::from(skid.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
            );
            parameters.insert("key_ref", Value::from(key_id));
        }
        None => {
            let spec = certificate.public_key().map(|key| key.spec());
            let kind = spec.map_or("", |spec| spec.key_type().name());
            parameters.insert("key_type", Value::from(kind));
            parameters.insert("key_bits", Value::from(u64::from(spec.map_or(0, |spec| spec.bits()))));
        }
    }
    parameters.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// `signature_bits` and `use_pss`; -1 for what is not made any more.
fn signature(algorithm: Option<SignatureAlgorithm>) -> (&'static str, bool) {
    let bits = |hash: Hash| match hash {
        Hash::Sha256 => "256",
        Hash::Sha384 => "384",
        Hash::Sha512 => "512",
    };
    match algorithm {
        Some(SignatureAlgorithm::RsaPkcs1(hash) | SignatureAlgorithm::Ecdsa(hash)) => (bits(hash), false),
        Some(SignatureAlgorithm::RsaPss(hash)) => (bits(hash), true),
        Some(SignatureAlgorithm::Ed25519 | SignatureAlgorithm::MlDsa(_)) => ("0", false),
        None => ("-1", false),
    }
}

fn lifetime(certificate: &Certificate) -> String {
    let seconds = certificate.not_after().as_second() - certificate.not_before().as_second();
    // The longest that the peer's durations can be, of 292 years.
    let seconds = u64::try_from(seconds).unwrap_or_default().min(9_223_372_036);
    format_duration(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_given_drives_out_what_would_contradict_it() {
        let value = |text: &str| Value::from(text);
        let template = || -> BTreeMap<String, Value> {
            [("ttl", "1h"), ("key_type", "ec"), ("key_bits", "256"), ("common_name", "a")]
                .into_iter()
                .map(|(name, text)| (name.to_owned(), value(text)))
                .collect()
        };
        let merge = |given: &[(&str, &str)]| {
            let given = given.iter().map(|(name, text)| ((*name).to_owned(), value(text))).collect();
            merged(template(), given).into_keys().collect::<Vec<_>>()
        };
        assert_eq!(merge(&[("not_after", "x")]), ["common_name", "key_bits", "key_type", "not_after"]);
        assert_eq!(merge(&[("key_type", "rsa")]), ["common_name", "key_type", "ttl"]);
        assert_eq!(merge(&[("key_type", "ec")]), ["common_name", "key_bits", "key_type", "ttl"]);
    }

    #[test]
    fn the_template_is_read_into_parameters() {
        let pem = include_str!("../../tests/data/pki/intermediate.pem");
        let certificate = Certificate::from_pem(pem).expect("a certificate");
        let json = |key: Option<&str>| serde_json::to_string(&parameters(&certificate, key)).expect("JSON");
        let common =
            r#""alt_names":"x.ca.example,mail@ca.example","common_name":"int.ca.example","country":null,"#
                .to_owned()
                + r#""exclude_cn_from_sans":true,"ip_sans":"127.0.0.1,::1","#;
        let rest = r#""locality":null,"max_path_length":0,"organization":null,"ou":["A","B"],"#.to_owned()
            + r#""permitted_dns_domains":"","postal_code":null,"province":null,"serial_number":"7","#
            + r#""signature_bits":256,"#;
        let end = r#""street_address":null,"ttl":"80000h0m30s","uri_sans":"spiffe://a/b","use_pss":false}"#;
        assert_eq!(json(None), format!(r#"{{{common}"key_bits":2048,"key_type":"rsa",{rest}{end}"#));
        let skid = r#""skid":"cd094dd462cecff6af0cc867d6d0d6928a48b570","#;
        assert_eq!(json(Some("k")), format!(r#"{{{common}"key_ref":"k",{rest}{skid}{end}"#));
    }
}
