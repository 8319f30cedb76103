//! Each rule of a Certificate, by a fault.

use serde_json::{Value, json};

use super::*;

fn spec(change: Value) -> CertificateSpec {
    let mut spec = json!({
        "secretName": "istiod-tls", "issuerRef": { "name": "vault-issuer" },
        "dnsNames": ["istiod.istio-system.svc"], "duration": "1h", "renewBefore": "30m",
    });
    if let (Some(spec), Value::Object(change)) = (spec.as_object_mut(), change) {
        spec.extend(change);
    }
    serde_json::from_value(spec).expect("a spec")
}

#[test]
fn each_fault_of_a_certificate_is_named_with_its_field() {
    let none = "spec: Invalid value: \"\": at least one of commonName (from the commonName field or from a \
                literalSubject), dnsNames, emailSANs, ipAddresses, otherNames, or uriSANs must be set";
    let both = "[spec.renewBefore: Invalid value: 30m0s: renewBefore and renewBeforePercentage are mutually exclusive and \
                cannot both be set, spec.renewBeforePercentage: Invalid value: 50: renewBefore and \
                renewBeforePercentage are mutually exclusive and cannot both be set]";
    let constraints = "[spec.nameConstraints: Invalid value: \"<snip>\": isCa should be true when nameConstraints is set, \
                       spec.nameConstraints: Invalid value: \"<snip>\": either permitted or excluded must be set]";
    for (change, refusal) in [
        (json!({}), "[]"),
        (json!({ "secretName": "" }), "spec.secretName: Required value: must be specified"),
        (json!({ "issuerRef": { "name": "" } }), "spec.issuerRef.name: Required value: must be specified"),
        (json!({ "dnsNames": [] }), none),
        (json!({ "dnsNames": [], "literalSubject": "O=example" }), none),
        (json!({ "dnsNames": [], "literalSubject": "CN=a,O=example" }), "[]"),
        (json!({ "dnsNames": [], "uris": ["spiffe://cluster.local/ns/a/sa/b"] }), "[]"),
        (json!({ "commonName": "a".repeat(64) }), "[]"),
        (json!({ "commonName": "a".repeat(65) }), "spec.commonName: Too long: may not be more than 64 bytes"),
        (
            json!({ "ipAddresses": ["::1", "10.0.0"] }),
            "spec.ipAddresses[1]: Invalid value: \"10.0.0\": invalid IP address",
        ),
        (json!({ "emailAddresses": ["a@example.com"] }), "[]"),
        (
            json!({ "emailAddresses": ["A <a@example.com>"] }),
            "spec.emailAddresses[0]: Invalid value: \"A <a@example.com>\": invalid email address: make sure the supplied \
             value only contains the email address itself",
        ),
        (json!({ "otherNames": [{ "oid": "1.3.6.1.4.1.311.20.2.3", "utf8Value": "u" }] }), "[]"),
        (
            json!({ "otherNames": [{ "oid": "1.x", "utf8Value": "" }] }),
            "[spec.otherNames[0].oid: Invalid value: \"1.x\": invalid oid syntax, spec.otherNames[0].utf8Value: Required \
             value: must be set to a valid non-empty UTF8 string]",
        ),
        (
            json!({ "literalSubject": "CN=a", "commonName": "b" }),
            "spec.commonName: Invalid value: \"b\": When providing a `LiteralSubject` no `commonName` may be \
             provided.",
        ),
        (
            json!({ "literalSubject": "CN=a", "subject": { "organizations": ["o"] } }),
            "spec.subject: Invalid value: \"<snip>\": When providing a `LiteralSubject` no `Subject` properties may \
             be provided.",
        ),
        (
            json!({ "literalSubject": "nonsense" }),
            "spec.literalSubject: Invalid value: \"nonsense\": an attribute has no value (RFC 4514)",
        ),
        (json!({ "privateKey": { "size": 4096 } }), "[]"),
        (
            json!({ "privateKey": { "size": 1024 } }),
            "spec.privateKey.size: Invalid value: 1024: must be between 2048 and 8192 for rsa keyAlgorithm",
        ),
        (
            json!({ "privateKey": { "algorithm": "ECDSA", "size": 2048 } }),
            "spec.privateKey.size: Unsupported value: 2048: supported values: \"256\", \"384\", \"521\"",
        ),
        (json!({ "privateKey": { "algorithm": "Ed25519", "size": 7 } }), "[]"),
        (
            json!({ "signatureAlgorithm": "ECDSAWithSHA256" }),
            "spec.signatureAlgorithm: Invalid value: \"ECDSAWithSHA256\": for key algorithm RSA the allowed \
             signature algorithms are [SHA256WithRSA SHA384WithRSA SHA512WithRSA]",
        ),
        (json!({ "privateKey": { "algorithm": "ECDSA" }, "signatureAlgorithm": "ECDSAWithSHA256" }), "[]"),
        (
            json!({ "duration": "59m" }),
            "spec.duration: Invalid value: 59m0s: certificate duration must be greater than 1h0m0s",
        ),
        (
            json!({ "renewBefore": "1m" }),
            "spec.renewBefore: Invalid value: 1m0s: certificate renewBefore must be greater than 5m0s",
        ),
        (
            json!({ "renewBefore": "1h" }),
            "spec.renewBefore: Invalid value: 1h0m0s: certificate duration 1h0m0s must be greater than renewBefore 1h0m0s",
        ),
        (json!({ "renewBeforePercentage": 50 }), both),
        (json!({ "renewBefore": null, "renewBeforePercentage": 50 }), "[]"),
        (
            json!({ "renewBefore": null, "renewBeforePercentage": 100 }),
            "spec.renewBeforePercentage: Invalid value: 100: must be between 1 and 99",
        ),
        (
            json!({ "renewBefore": null, "renewBeforePercentage": 5 }),
            "spec.renewBeforePercentage: Invalid value: 5: certificate renewBeforePercentage must result in a renewBefore \
             greater than 5m0s",
        ),
        (
            json!({ "renewal": { "policy": "Disabled", "windows": [{ "cron": "0 2 * * *", "windowDuration": "2h" }] } }),
            "spec.renewal.windows: Forbidden: windows cannot be set when `renewal.policy` is set to Disabled",
        ),
        (
            json!({ "renewal": { "windows": [{ "cron": "0 2", "windowDuration": "2d" }] } }),
            "[spec.renewal.windows[0].cron: Invalid value: \"0 2\": must have five fields: minute hour day month weekday, \
             spec.renewal.windows[0].windowDuration: Invalid value: \"2d\": must be a duration such as 2h30m]",
        ),
        (
            json!({ "revisionHistoryLimit": 0 }),
            "spec.revisionHistoryLimit: Invalid value: 0: must not be less than 1",
        ),
        (
            json!({ "secretTemplate": { "annotations": { "cert-manager.io/allow-direct-injection": "true", "Example.com/A": "" } } }),
            "[]",
        ),
        (
            json!({ "secretTemplate": { "annotations": { "cert-manager.io/x": "" } } }),
            "spec.secretTemplate.annotations: Invalid value: \"cert-manager.io/x\": cert-manager.io/* annotations are not \
             allowed",
        ),
        (
            json!({ "secretTemplate": { "labels": { "a": "-" } } }),
            "spec.secretTemplate.labels: Invalid value: \"-\": a label's value has at most 63 letters, digits, '-', '_' \
             and '.', with a letter or digit at both ends",
        ),
        (
            json!({ "additionalOutputFormats": [{ "type": "DER" }, { "type": "CombinedPEM" }, { "type": "DER" }] }),
            "spec.additionalOutputFormats[type]: Duplicate value: \"DER\"",
        ),
        (json!({ "keystores": { "jks": { "create": false } } }), "[]"),
        (
            json!({ "keystores": { "pkcs12": { "create": true } } }),
            "spec.keystores.pkcs12: Forbidden: must set exactly one of passwordSecretRef and password must for PKCS#12 keystores",
        ),
        (
            json!({ "keystores": { "jks": { "create": true, "password": "p", "passwordSecretRef": { "name": "a", "key": "b" } } } }),
            "spec.keystores.jks: Forbidden: exactly one of passwordSecretRef and password must be provided for JKS keystores; \
             cannot set both",
        ),
        (json!({ "nameConstraints": {} }), constraints),
        (
            json!({ "isCA": true, "nameConstraints": { "permitted": { "dnsDomains": ["example.com"] } } }),
            "[]",
        ),
        (
            json!({ "isCA": true, "nameConstraints": { "excluded": { "ipRanges": ["10.0.0.0/8", "10.0.0.0/33"] } } }),
            "spec.nameConstraints.excluded.ipRanges[1]: Invalid value: \"10.0.0.0/33\": must be an IP range in CIDR \
             notation, such as 10.0.0.0/8",
        ),
    ] {
        assert_eq!(certificate(&spec(change.clone())).to_string(), refusal, "{change}");
    }
    let name = certificate(&spec(json!({ "secretName": "Bad_Name" }))).to_string();
    assert!(
        name.starts_with("spec.secretName: Invalid value: \"Bad_Name\": a lowercase RFC 1123 subdomain"),
        "{name}"
    );
}
