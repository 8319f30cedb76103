//! Rules, one by one.

use std::collections::BTreeMap;

use chancery_issuance::{Curve, KeySpec, PrivateKey};
use chancery_kubernetes::cert_manager::{
    Certificate, CertificateSpec, CertificateStatus, IssuerReference, KeyUsage,
};
use kube::api::ObjectMeta;
use serde_json::{Value, json};

use super::world::start_time;
use crate::Key;
use crate::cache::{CertificateFacts, SecretFacts};
use crate::certificate::matching;
use crate::certificate::policy::{Current, Evidence, owner_of};
use crate::certificate::request;

fn spec(changes: &Value) -> CertificateSpec {
    let mut spec = json!({
        "secretName": "s", "commonName": "a.example", "dnsNames": ["a.example", "b.example"],
        "privateKey": { "algorithm": "ECDSA" }, "issuerRef": { "name": "i" },
    });
    for (field, value) in changes.as_object().into_iter().flatten() {
        spec[field] = value.clone();
    }
    serde_json::from_value(spec).expect("a spec")
}

fn certificate_facts() -> CertificateFacts {
    let now = start_time().as_second();
    let at = |second| jiff::Timestamp::from_second(second).expect("an instant");
    CertificateFacts {
        not_before: at(now - 30),
        not_after: at(now + 3600),
        public_key: [7; 32],
        common_name: "a.example".into(),
        dns_names: vec!["b.example".into(), "a.example".into()],
        ip_addresses: Vec::new(),
        uris: Vec::new(),
        email_addresses: Vec::new(),
    }
}

fn secret() -> SecretFacts {
    SecretFacts {
        key: Key { namespace: "n".into(), name: "s".into() },
        uid: "u".into(),
        owner: None,
        resource_version: "1".into(),
        kind: "kubernetes.io/tls".into(),
        is_next_private_key: false,
        private_key: Some([7; 32]),
        private_key_spec: Some(KeySpec::Ec(Curve::P256)),
        certificate: Some(certificate_facts()),
        labels: BTreeMap::new(),
        annotations: BTreeMap::from([
            ("cert-manager.io/issuer-name".into(), "i".into()),
            ("cert-manager.io/certificate-name".into(), "c".into()),
        ]),
        data: ["ca.crt", "tls.key", "tls.crt"].map(|key| (key.to_owned(), [1; 32])).into(),
        applied: None,
    }
}

fn found(
    secret: Option<&SecretFacts>,
    spec: &CertificateSpec,
    current: Option<&Current>,
) -> Option<(&'static str, String)> {
    let status = CertificateStatus::default();
    let evidence = Evidence { name: "c", spec, status: &status, secret, current, now: start_time() };
    evidence.must_issue().map(|finding| (finding.reason, finding.message))
}

#[test]
fn each_rule_has_its_reason_and_message_and_the_first_that_holds_decides() {
    type Change = fn(&mut SecretFacts);
    let rules: [(Change, &str, &str); 9] = [
        (
            |secret| secret.data.clear(),
            "MissingData",
            "Issuing certificate as Secret does not contain any data",
        ),
        (
            |secret| secret.data.retain(|key, _| key != "tls.key"),
            "MissingData",
            "Issuing certificate as Secret does not contain a private key",
        ),
        (
            |secret| secret.data.retain(|key, _| key != "tls.crt"),
            "MissingData",
            "Issuing certificate as Secret does not contain a certificate",
        ),
        (
            |secret| secret.private_key = None,
            "InvalidKeyPair",
            "Issuing certificate as Secret contains invalid private key data: error decoding private key PEM block",
        ),
        (
            |secret| secret.certificate = None,
            "InvalidCertificate",
            "Issuing certificate as Secret contains an invalid certificate: error decoding certificate PEM block: no valid \
             certificates found",
        ),
        (
            |secret| secret.private_key = Some([8; 32]),
            "InvalidKeyPair",
            "Issuing certificate as Secret contains a private key that does not match the certificate",
        ),
        (
            |secret| {
                drop(secret.annotations.insert("cert-manager.io/issuer-kind".into(), "ClusterIssuer".into()))
            },
            "IncorrectIssuer",
            "Issuing certificate as Secret was previously issued by \"ClusterIssuer.cert-manager.io/i\"",
        ),
        (
            |secret| drop(secret.annotations.insert("cert-manager.io/certificate-name".into(), "d".into())),
            "IncorrectCertificate",
            "Secret was issued for \"d\". If this message is not transient, you might have two conflicting Certificates \
             pointing to the same secret.",
        ),
        (
            |secret| secret.private_key_spec = Some(KeySpec::Ec(Curve::P384)),
            "SecretMismatch",
            "Existing private key is not up to date for spec: [spec.privateKey.size]",
        ),
    ];
    let spec = spec(&json!({}));
    assert_eq!(found(Some(&secret()), &spec, None), None);
    assert_eq!(found(None, &spec, None).map(|found| found.0), Some("DoesNotExist"));
    let mut all = secret();
    // From the last rule to the first: each goes before those that hold already.
    for (change, reason, message) in rules.iter().rev() {
        let mut one = secret();
        change(&mut one);
        assert_eq!(found(Some(&one), &spec, None), Some((*reason, (*message).to_owned())));
        if *reason != "InvalidKeyPair" || message.ends_with("the certificate") {
            change(&mut all);
            assert_eq!(found(Some(&all), &spec, None), Some((*reason, (*message).to_owned())));
        }
    }
}

#[test]
fn the_current_request_decides_before_dates_do() {
    let spec = spec(&json!({}));
    let mut secret = secret();
    if let Some(certificate) = &mut secret.certificate {
        certificate.not_after = start_time();
    }
    let current = |key: Option<[u8; 32]>, violations: &[&'static str]| Current {
        public_key: key,
        violations: violations.to_vec(),
    };
    let reason = |current: &Current| found(Some(&secret), &spec, Some(current));
    assert_eq!(reason(&current(None, &[])).map(|found| found.0), Some("InvalidCertificateRequest"));
    assert_eq!(
        reason(&current(Some([9; 32]), &["spec.duration"])),
        Some((
            "SecretMismatch",
            "Secret contains a private key that does not match the current CertificateRequest".into()
        ))
    );
    assert_eq!(
        reason(&current(Some([7; 32]), &["spec.dnsNames", "spec.duration"])),
        Some((
            "RequestChanged",
            "Fields on existing CertificateRequest resource not up to date: [spec.dnsNames spec.duration]"
                .into()
        ))
    );
    assert_eq!(reason(&current(Some([7; 32]), &[])).map(|found| found.0), Some("Renewing"));
}

#[test]
fn without_a_request_the_certificate_itself_is_compared_loosely() {
    let loose = |changes: Value, change: fn(&mut CertificateFacts)| {
        let mut certificate = certificate_facts();
        change(&mut certificate);
        matching::loose_violations(&spec(&changes), &certificate)
    };
    assert!(loose(json!({}), |_| {}).is_empty());
    assert!(loose(json!({ "dnsNames": ["b.example"] }), |_| {}).is_empty());
    assert!(loose(json!({ "commonName": null }), |_| {}).is_empty());
    assert!(loose(json!({}), |found| found.common_name.clear()).is_empty());
    assert_eq!(loose(json!({ "commonName": "c.example" }), |_| {}), ["spec.commonName"]);
    assert_eq!(loose(json!({ "dnsNames": ["c.example"] }), |_| {}), ["spec.dnsNames"]);
    assert_eq!(loose(json!({ "ipAddresses": ["::1"] }), |_| {}), ["spec.ipAddresses"]);
    assert!(
        loose(json!({ "ipAddresses": ["0:0::1"] }), |found| found.ip_addresses = vec!["::1".into()])
            .is_empty()
    );
    assert_eq!(loose(json!({ "uris": ["spiffe://a/b"] }), |_| {}), ["spec.uris"]);
    assert_eq!(loose(json!({ "emailAddresses": ["a@b.example"] }), |_| {}), ["spec.emailAddresses"]);
}

#[test]
fn a_request_made_for_a_spec_matches_it_and_every_field_that_changes_is_named() {
    let key = PrivateKey::generate(KeySpec::Ed25519).expect("a key");
    let full = json!({
        "ipAddresses": ["10.0.0.1", "0:0::1"], "uris": ["spiffe://a/b"], "emailAddresses": ["a@b.example"],
        "duration": "1h", "usages": ["server auth", "client auth"], "isCA": true,
        "subject": { "organizations": ["O2", "O1"], "countries": ["CH"], "serialNumber": "7", "postalCodes": ["1"],
            "organizationalUnits": ["U"], "localities": ["L"], "provinces": ["P"], "streetAddresses": ["S"] },
    });
    let asked = Certificate::new(ObjectMeta { name: Some("c".into()), ..ObjectMeta::default() }, spec(&full));
    let csr = request::csr(&asked.spec, &key).expect("a CSR");
    let made = request::request(&asked, 1, "k", &csr, &[]);
    let parsed = super::super::facts::csr_of(&made).expect("a CSR");
    let differs = |field: &str, value: Value| {
        let mut changed = full.clone();
        if let Some(part) = field.strip_prefix("subject.") {
            changed["subject"][part] = value;
        } else {
            changed[field] = value;
        }
        matching::violations(&spec(&changed), &made.spec, &parsed)
    };
    assert_eq!(differs("duration", json!("60m")), Vec::<&str>::new());
    assert_eq!(differs("duration", Value::Null), Vec::<&str>::new());
    assert_eq!(differs("dnsNames", json!(["b.example", "a.example"])), Vec::<&str>::new());
    assert_eq!(differs("issuerRef", json!({ "name": "i", "kind": "Issuer" })), Vec::<&str>::new());
    for (field, value, expected) in [
        ("ipAddresses", json!(["10.0.0.2"]), "spec.ipAddresses"),
        ("uris", json!([]), "spec.uris"),
        ("emailAddresses", json!([]), "spec.emailAddresses"),
        ("dnsNames", json!(["a.example"]), "spec.dnsNames"),
        ("commonName", Value::Null, "spec.commonName"),
        ("subject.organizations", json!(["O1"]), "spec.subject.organizations"),
        ("subject.countries", json!([]), "spec.subject.countries"),
        ("subject.organizationalUnits", json!([]), "spec.subject.organizationalUnits"),
        ("subject.localities", json!([]), "spec.subject.localities"),
        ("subject.provinces", json!([]), "spec.subject.provinces"),
        ("subject.streetAddresses", json!([]), "spec.subject.streetAddresses"),
        ("subject.postalCodes", json!([]), "spec.subject.postCodes"),
        ("subject.serialNumber", Value::Null, "spec.subject.serialNumber"),
        ("isCA", json!(false), "spec.isCA"),
        ("usages", json!(["server auth"]), "spec.usages"),
        ("duration", json!("2h"), "spec.duration"),
        ("issuerRef", json!({ "name": "i", "kind": "ClusterIssuer" }), "spec.issuerRef"),
    ] {
        assert_eq!(differs(field, value), [expected]);
    }
    let facts = crate::cache::RequestFacts::of(&made).expect("facts");
    assert_eq!(matching::kept_violations(&asked.spec, &facts), Vec::<&str>::new());
}

#[test]
fn the_csr_asks_for_usages_unless_told_not_to() {
    let key = PrivateKey::generate(KeySpec::Ed25519).expect("a key");
    let asked = |changes: Value| {
        let text = request::csr(&spec(&changes), &key).expect("a CSR");
        let made =
            request::request(&Certificate::new(ObjectMeta::default(), spec(&changes)), 1, "k", &text, &[]);
        let csr = super::super::facts::csr_of(&made).expect("a CSR");
        let bits: Vec<_> = csr.key_usage().map(|usage| usage.names().collect()).unwrap_or_default();
        (bits, csr.requested_extensions().count())
    };
    assert_eq!(asked(json!({})), (vec!["DigitalSignature", "KeyEncipherment"], 2));
    assert_eq!(asked(json!({ "isCA": true })), (vec!["DigitalSignature", "KeyEncipherment", "CertSign"], 2));
    assert_eq!(asked(json!({ "usages": [KeyUsage::ServerAuth.as_str()] })), (vec![], 2));
    assert_eq!(asked(json!({ "encodeUsagesInRequest": false })), (vec![], 1));
}

#[test]
fn a_secret_belongs_to_the_certificate_it_names_else_to_the_oldest() {
    let named = |name: &str, second: i64| {
        let metadata = ObjectMeta {
            name: Some(name.into()),
            creation_timestamp: k8s_openapi::jiff::Timestamp::from_second(second)
                .ok()
                .map(k8s_openapi::apimachinery::pkg::apis::meta::v1::Time),
            ..ObjectMeta::default()
        };
        Certificate::new(metadata, CertificateSpec::default())
    };
    let all = [named("c", 20), named("b", 10), named("a", 10)];
    assert_eq!(owner_of(&all, None), Some("a"));
    assert_eq!(owner_of(&all, Some(&secret())), Some("c"));
    let mut gone = secret();
    gone.annotations.insert("cert-manager.io/certificate-name".into(), "gone".into());
    assert_eq!(owner_of(&all, Some(&gone)), Some("a"));
}

#[test]
fn names_of_requests_follow_from_certificate_and_revision_also_where_they_are_cut() {
    assert_eq!(request::name("istiod", 4), "istiod-4");
    let long = |last: char| format!("{}{last}", "a".repeat(240));
    let (one, two) = (request::name(&long('x'), 1), request::name(&long('y'), 1));
    assert_ne!(one, two);
    assert_eq!((one.len(), one == request::name(&long('x'), 1)), (235, true));
}

#[test]
fn annotations_are_copied_but_for_those_of_tools() {
    let all: BTreeMap<String, String> =
        ["a.example/x", "kubectl.kubernetes.io/last-applied-configuration", "argocd.argoproj.io/y"]
            .map(|name| (name.to_owned(), "1".to_owned()))
            .into();
    let copied = |prefixes: &[&str]| {
        let prefixes: Vec<String> = prefixes.iter().map(|&prefix| prefix.to_owned()).collect();
        request::copied_annotations(&all, &prefixes).into_keys().collect::<Vec<_>>()
    };
    let settings = crate::Settings::default().copied_annotation_prefixes;
    assert_eq!(request::copied_annotations(&all, &settings).into_keys().collect::<Vec<_>>(), ["a.example/x"]);
    assert_eq!(copied(&["argocd"]), ["argocd.argoproj.io/y"]);
    assert!(copied(&[]).is_empty());
    assert_eq!(IssuerReference::default().kind(), "Issuer");
}
