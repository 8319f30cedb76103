use std::path::{Path, PathBuf};

use super::*;

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../deploy/helm/chancery-controller/files/crds")
}

fn schema_of(kind: &str) -> Value {
    let found =
        definitions().into_iter().find(|definition| definition.object["spec"]["names"]["kind"] == kind);
    found.expect(kind).object["spec"]["versions"][0]["schema"]["openAPIV3Schema"].clone()
}

/// Every schema within a schema, with its path.
fn walk(path: &str, schema: &Value, see: &mut impl FnMut(&str, &Value)) {
    see(path, schema);
    if let Some(Value::Object(properties)) = schema.get("properties") {
        for (name, property) in properties {
            walk(&format!("{path}.{name}"), property, see);
        }
    }
    for inner in ["items", "additionalProperties"] {
        if let Some(inner) = schema.get(inner) {
            walk(&format!("{path}[]"), inner, see);
        }
    }
}

#[test]
fn the_files_are_what_the_types_say() {
    let folder = folder();
    for definition in definitions() {
        let (path, text) = (folder.join(&definition.file), definition.yaml().expect("YAML"));
        if std::env::var_os("UPDATE_GOLDEN").is_some() {
            std::fs::create_dir_all(&folder).expect("a folder");
            std::fs::write(&path, &text).expect("written");
        }
        let found = std::fs::read_to_string(&path).unwrap_or_default();
        assert_eq!(found, text, "{}: cargo xtask gen crds", path.display());
        let read: Value = serde_saphyr::from_str(&text).expect("YAML");
        assert_eq!(read, definition.object, "{}", definition.file);
    }
}

#[test]
fn names_and_columns_are_those_that_users_type_and_see() {
    let all: Vec<String> = definitions()
        .iter()
        .map(|definition| {
            let spec = &definition.object["spec"];
            let names = &spec["names"];
            let texts = |list: &Value| -> Vec<String> {
                list.as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(|text| text.as_str().map(str::to_owned))
                    .collect()
            };
            let columns = spec["versions"][0]["additionalPrinterColumns"].as_array().expect("columns").iter();
            let columns: Vec<String> = columns
                .map(|column| {
                    let priority =
                        column.get("priority").map(|priority| format!("({priority})")).unwrap_or_default();
                    format!("{}{priority}", column["name"].as_str().expect("a name"))
                })
                .collect();
            format!(
                "{} {}/{} {} {}: {}",
                spec["scope"].as_str().expect("a scope"),
                names["plural"].as_str().expect("a plural"),
                names["singular"].as_str().expect("a singular"),
                texts(&names["shortNames"]).join(","),
                texts(&names["categories"]).join(","),
                columns.join(" "),
            )
        })
        .collect();
    assert_eq!(
        all,
        [
            "Namespaced certificates/certificate cert,certs cert-manager: Ready Secret Issuer(1) Status(1) Expiration(1) Age",
            "Namespaced certificaterequests/certificaterequest cr,crs cert-manager: \
             Approved Denied Ready Issuer Requester Status(1) Age",
            "Cluster clusterissuers/clusterissuer ciss cert-manager: Ready Status(1) Age",
            "Namespaced issuers/issuer iss cert-manager: Ready Status(1) Age",
        ]
    );
}

#[test]
fn columns_look_where_the_conditions_are() {
    let definitions = definitions();
    let columns = &definitions[1].object["spec"]["versions"][0]["additionalPrinterColumns"];
    assert_eq!(columns[0]["jsonPath"], r#".status.conditions[?(@.type == "Approved")].status"#);
    assert_eq!(columns[5]["jsonPath"], r#".status.conditions[?(@.type == "Ready")].message"#);
    assert_eq!(
        columns[6],
        json!({ "name": "Age", "jsonPath": ".metadata.creationTimestamp", "type": "date" })
    );
    for (at, count) in [(0, 3), (1, 3), (2, 0), (3, 0)] {
        let version = &definitions[at].object["spec"]["versions"][0];
        assert_eq!(version["selectableFields"].as_array().map_or(0, Vec::len), count);
        assert_eq!(version["subresources"], json!({ "status": {} }));
    }
}

#[test]
fn exactly_the_fields_that_nothing_works_without_are_required() {
    let required = |kind: &str| {
        let mut found = Vec::new();
        walk("", &schema_of(kind), &mut |path, schema| {
            let Some(Value::Array(names)) = schema.get("required") else { return };
            let mut names: Vec<&str> = names.iter().filter_map(Value::as_str).collect();
            names.sort_unstable();
            found.push(format!("{path}: {}", names.join(" ")));
        });
        found.sort();
        found
    };
    assert_eq!(
        required("Certificate"),
        [
            ".spec.additionalOutputFormats[]: type",
            ".spec.issuerRef: name",
            ".spec.keystores.jks.passwordSecretRef: name",
            ".spec.keystores.jks: create",
            ".spec.keystores.pkcs12.passwordSecretRef: name",
            ".spec.keystores.pkcs12: create",
            ".spec.otherNames[]: oid utf8Value",
            ".spec.renewal.windows[]: cron windowDuration",
            ".spec: issuerRef secretName",
            ".status.conditions[]: status type",
            ": spec",
        ]
    );
    assert_eq!(
        required("CertificateRequest"),
        [".spec.issuerRef: name", ".spec: issuerRef request", ".status.conditions[]: status type", ": spec"]
    );
    let issuer = required("Issuer");
    assert_eq!(
        issuer,
        [
            ".spec.ca: secretName",
            ".spec.vault.auth.appRole.secretRef: name",
            ".spec.vault.auth.appRole: path roleId secretRef",
            ".spec.vault.auth.aws.serviceAccountRef: name",
            ".spec.vault.auth.aws: role",
            ".spec.vault.auth.kubernetes.secretRef: name",
            ".spec.vault.auth.kubernetes.serviceAccountRef: name",
            ".spec.vault.auth.kubernetes: role",
            ".spec.vault.auth.tokenSecretRef: name",
            ".spec.vault.caBundleSecretRef: name",
            ".spec.vault.clientCertSecretRef: name",
            ".spec.vault.clientKeySecretRef: name",
            ".spec.vault: auth path server",
            ".status.conditions[]: status type",
            ": spec",
        ]
    );
    assert_eq!(required("ClusterIssuer"), issuer);
}

#[test]
fn schemas_are_structural_and_have_no_defaults() {
    let known = ["byte", "date-time", "int32", "int64"];
    for kind in ["Certificate", "CertificateRequest", "ClusterIssuer", "Issuer"] {
        walk("", &schema_of(kind), &mut |path, schema| {
            let fields =
                schema.as_object().unwrap_or_else(|| panic!("{kind}{path} has no schema of its own"));
            assert!(fields.get("type").is_some_and(Value::is_string), "{kind}{path}: {schema}");
            for name in ["default", "nullable", "anyOf", "oneOf", "allOf", "$ref", "$defs", "const", "title"]
            {
                assert!(!fields.contains_key(name), "{kind}{path}: {name}");
            }
            if let Some(format) = fields.get("format").and_then(Value::as_str) {
                assert!(known.contains(&format), "{kind}{path}: {format}");
            }
            if fields["type"] == "array" {
                let is_conditions = path.ends_with(".conditions");
                assert_eq!(
                    fields["x-kubernetes-list-type"],
                    if is_conditions { "map" } else { "atomic" },
                    "{path}"
                );
            }
            let is_described =
                fields.contains_key("description") || path.ends_with("[]") || path == ".metadata";
            assert!(is_described || path == ".spec.extra", "{kind}{path} has no description");
        });
    }
}

#[test]
fn what_is_not_carried_out_is_kept_as_it_is() {
    for pointer in [
        "/properties/spec/properties/acme",
        "/properties/spec/properties/venafi",
        "/properties/status/properties/acme",
    ] {
        let schema = schema_of("Issuer");
        let part = schema.pointer(pointer).unwrap_or_else(|| panic!("{pointer}"));
        assert_eq!(part["x-kubernetes-preserve-unknown-fields"], true, "{pointer}");
    }
    let text = json!({
        "apiVersion": "cert-manager.io/v1", "kind": "Issuer", "metadata": { "name": "a" },
        "spec": { "acme": { "server": "https://acme.example", "solvers": [{ "http01": {} }] } },
    });
    let issuer: super::super::Issuer = serde_json::from_value(text.clone()).expect("an issuer");
    assert_eq!(serde_json::to_value(issuer).expect("JSON"), text);
}

#[test]
fn every_field_of_a_certificate_survives_reading_and_writing() {
    let text = json!({
        "apiVersion": "cert-manager.io/v1", "kind": "Certificate",
        "metadata": { "name": "a", "namespace": "b" },
        "spec": {
            "secretName": "s", "issuerRef": { "name": "i", "kind": "ClusterIssuer", "group": "cert-manager.io" },
            "commonName": "c", "dnsNames": ["d"], "ipAddresses": ["10.0.0.1"], "uris": ["spiffe://a/b"],
            "emailAddresses": ["a@b"], "otherNames": [{ "oid": "1.2.3", "utf8Value": "u" }],
            "subject": {
                "organizations": ["o"], "countries": ["DE"], "organizationalUnits": ["u"], "localities": ["l"],
                "provinces": ["p"], "streetAddresses": ["s"], "postalCodes": ["1"], "serialNumber": "2",
            },
            "literalSubject": "CN=a", "duration": "1h0m0s", "renewBefore": "30m0s", "renewBeforePercentage": 30,
            "renewal": {
                "policy": "RenewBefore",
                "windows": [{ "cron": "0 1 * * *", "windowDuration": "2h", "timezone": "UTC" }],
            },
            "usages": ["server auth", "s/mime"], "encodeUsagesInRequest": false, "isCA": true,
            "privateKey": { "algorithm": "ECDSA", "size": 256, "encoding": "PKCS8", "rotationPolicy": "Never" },
            "signatureAlgorithm": "ECDSAWithSHA256", "revisionHistoryLimit": 3,
            "secretTemplate": { "annotations": { "a": "b" }, "labels": { "c": "d" } },
            "keystores": {
                "jks": { "create": true, "alias": "x", "passwordSecretRef": { "name": "p", "key": "k" } },
                "pkcs12": { "create": true, "profile": "Modern2023", "password": "changeit" },
            },
            "additionalOutputFormats": [{ "type": "DER" }, { "type": "CombinedPEM" }],
            "nameConstraints": {
                "critical": true,
                "permitted": { "dnsDomains": ["a"], "ipRanges": ["10.0.0.0/8"] },
                "excluded": { "emailAddresses": ["b"], "uriDomains": ["c"] },
            },
        },
        "status": {
            "conditions": [{
                "type": "Ready", "status": "True", "reason": "Ready", "message": "m",
                "lastTransitionTime": "2026-01-01T00:00:00Z", "observedGeneration": 2,
            }],
            "lastFailureTime": "2026-01-01T00:00:00Z", "failedIssuanceAttempts": 2,
            "notBefore": "2026-01-01T00:00:00Z", "notAfter": "2026-01-02T00:00:00Z",
            "renewalTime": "2026-01-01T12:00:00Z", "revision": 4, "nextPrivateKeySecretName": "a-x",
        },
    });
    let certificate: super::super::Certificate = serde_json::from_value(text.clone()).expect("a certificate");
    assert_eq!(serde_json::to_value(certificate).expect("JSON"), text);
}
