//! The CustomResourceDefinitions, made from the types.
//!
//! They are put together here and not by a derive macro: two kinds share one spec, and the schema is the one that clients of
//! `cert-manager.io` know: no defaults (they would change objects that nobody touched), no nullable fields, no formats that
//! an API server refuses.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, SchemaGenerator};
use serde_json::{Map, Value, json};

use super::{
    CertificateRequestSpec, CertificateRequestStatus, CertificateSpec, CertificateStatus, GROUP, IssuerSpec,
    IssuerStatus,
};

/// Where what a value says is looked for in `status.conditions`.
macro_rules! of_condition {
    ($kind:literal, $field:literal) => {
        concat!(".status.conditions[?(@.type == \"", $kind, "\")].", $field)
    };
}

/// A CustomResourceDefinition.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    /// Its file's name, such as `cert-manager.io_issuers.yaml`.
    pub file: String,
    /// The object.
    pub object: Value,
}

impl Definition {
    /// The object as it stands in its file.
    ///
    /// # Errors
    /// It is no YAML, which the tests rule out.
    pub fn yaml(&self) -> Result<String, serde_saphyr::ser::Error> {
        let text = serde_saphyr::to_string(&self.object)?;
        Ok(format!("# Made from crates/kubernetes/src/cert_manager by `cargo xtask gen crds`.\n{text}"))
    }
}

/// How a kind is shown and found.
struct Names {
    kind: &'static str,
    singular: &'static str,
    plural: &'static str,
    short: &'static [&'static str],
    scope: &'static str,
    description: &'static str,
    columns: Vec<Value>,
    selectable: &'static [&'static str],
}

/// The four definitions: Certificate, CertificateRequest, ClusterIssuer, Issuer.
pub fn definitions() -> Vec<Definition> {
    let ready = column("Ready", of_condition!("Ready", "status"), 0);
    let status = column("Status", of_condition!("Ready", "message"), 1);
    let age = json!({ "name": "Age", "jsonPath": ".metadata.creationTimestamp", "type": "date" });
    let issuer = |priority| column("Issuer", ".spec.issuerRef.name", priority);
    let by_issuer = &[".spec.issuerRef.group", ".spec.issuerRef.kind", ".spec.issuerRef.name"];
    let mut observes_no_generation = schema::<CertificateRequestStatus>();
    remove_at(&mut observes_no_generation, "/properties/conditions/items/properties", "observedGeneration");
    vec![
        definition(
            Names {
                kind: "Certificate",
                singular: "certificate",
                plural: "certificates",
                short: &["cert", "certs"],
                scope: "Namespaced",
                description: "A certificate that is kept in a Secret, and renewed.",
                columns: vec![
                    ready.clone(),
                    column("Secret", ".spec.secretName", 0),
                    issuer(1),
                    status.clone(),
                    column("Expiration", ".status.notAfter", 1),
                    age.clone(),
                ],
                selectable: by_issuer,
            },
            schema::<CertificateSpec>(),
            schema::<CertificateStatus>(),
        ),
        definition(
            Names {
                kind: "CertificateRequest",
                singular: "certificaterequest",
                plural: "certificaterequests",
                short: &["cr", "crs"],
                scope: "Namespaced",
                description: "A CSR that an issuer shall sign. Its spec never changes.",
                columns: vec![
                    column("Approved", of_condition!("Approved", "status"), 0),
                    column("Denied", of_condition!("Denied", "status"), 0),
                    ready.clone(),
                    issuer(0),
                    column("Requester", ".spec.username", 0),
                    status.clone(),
                    age.clone(),
                ],
                selectable: by_issuer,
            },
            schema::<CertificateRequestSpec>(),
            observes_no_generation,
        ),
        definition(
            Names {
                kind: "ClusterIssuer",
                singular: "clusterissuer",
                plural: "clusterissuers",
                short: &["ciss"],
                scope: "Cluster",
                description: "Signs for the CertificateRequests of all namespaces.",
                columns: vec![ready.clone(), status.clone(), age.clone()],
                selectable: &[],
            },
            schema::<IssuerSpec>(),
            schema::<IssuerStatus>(),
        ),
        definition(
            Names {
                kind: "Issuer",
                singular: "issuer",
                plural: "issuers",
                short: &["iss"],
                scope: "Namespaced",
                description: "Signs for the CertificateRequests of its namespace.",
                columns: vec![ready, status, age],
                selectable: &[],
            },
            schema::<IssuerSpec>(),
            schema::<IssuerStatus>(),
        ),
    ]
}

fn column(name: &str, path: &str, priority: u8) -> Value {
    let mut column = json!({ "name": name, "jsonPath": path, "type": "string" });
    if let (Some(column), 1..) = (column.as_object_mut(), priority) {
        column.insert("priority".into(), priority.into());
    }
    column
}

fn definition(names: Names, spec: Value, status: Value) -> Definition {
    let Names { kind, singular, plural, short, scope, description, columns, selectable } = names;
    let schema = json!({
        "description": description,
        "type": "object",
        "required": ["spec"],
        "properties": {
            "apiVersion": { "type": "string", "description": "Version of the schema of this object." },
            "kind": { "type": "string", "description": "Kind of this object." },
            "metadata": { "type": "object" },
            "spec": spec,
            "status": status,
        },
    });
    let mut version = json!({
        "name": "v1",
        "served": true,
        "storage": true,
        "additionalPrinterColumns": columns,
        "schema": { "openAPIV3Schema": schema },
        "subresources": { "status": {} },
    });
    if let (Some(version), false) = (version.as_object_mut(), selectable.is_empty()) {
        let fields = selectable.iter().map(|path| json!({ "jsonPath": path })).collect();
        version.insert("selectableFields".into(), Value::Array(fields));
    }
    let object = json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": { "name": format!("{plural}.{GROUP}") },
        "spec": {
            "group": GROUP,
            "names": {
                "kind": kind,
                "listKind": format!("{kind}List"),
                "plural": plural,
                "singular": singular,
                "shortNames": short,
                "categories": ["cert-manager"],
            },
            "scope": scope,
            "versions": [version],
        },
    });
    Definition { file: format!("{GROUP}_{plural}.yaml"), object }
}

/// The schema of a type as an API server takes it.
fn schema<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    let mut schema = SchemaGenerator::new(settings).into_root_schema_for::<T>().to_value();
    make_structural(&mut schema);
    schema
}

/// Turns a JSON schema into a structural one (apiextensions.k8s.io/v1), without defaults and nullable fields.
fn make_structural(schema: &mut Value) {
    let Value::Object(fields) = schema else { return };
    unwrap_optional(fields);
    for field in ["default", "title", "$schema", "nullable"] {
        fields.remove(field);
    }
    if let Some(Value::String(text)) = fields.get_mut("description") {
        *text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    }
    match fields.get("type").and_then(Value::as_str) {
        Some("array") => {
            let is_conditions =
                fields.get("items").and_then(|items| items.pointer("/properties/type")).is_some()
                    && fields.get("items").and_then(|items| items.pointer("/properties/status")).is_some();
            if is_conditions {
                fields.insert("x-kubernetes-list-type".into(), "map".into());
                fields.insert("x-kubernetes-list-map-keys".into(), json!(["type"]));
            } else {
                fields.insert("x-kubernetes-list-type".into(), "atomic".into());
            }
        }
        Some("integer") => {
            // A bound of the Rust type, not of the field.
            let is_known = matches!(fields.get("format").and_then(Value::as_str), Some("int32" | "int64"));
            if !is_known {
                fields.remove("format");
            }
        }
        _ => {}
    }
    for (name, value) in fields.iter_mut() {
        match (name.as_str(), value) {
            ("properties", Value::Object(properties)) => {
                properties.values_mut().for_each(make_structural);
            }
            ("items" | "additionalProperties", value) => make_structural(value),
            _ => {}
        }
    }
}

/// An `Option` is its value's schema or null; what remains is the value's.
fn unwrap_optional(fields: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = fields.get("type") {
        let value = types.iter().find(|kind| *kind != "null").cloned();
        if let Some(value) = value {
            fields.insert("type".into(), value);
        }
    }
    if let Some(Value::Array(words)) = fields.get_mut("enum") {
        words.retain(|word| !word.is_null());
    }
    let Some(Value::Array(choices)) = fields.remove("anyOf") else { return };
    let value = choices.into_iter().find(|choice| choice.get("type").is_none_or(|kind| kind != "null"));
    if let Some(Value::Object(inner)) = value {
        for (name, value) in inner {
            // The field's own description counts, not its type's.
            fields.entry(name).or_insert(value);
        }
        unwrap_optional(fields);
    }
}

fn remove_at(schema: &mut Value, pointer: &str, name: &str) {
    if let Some(fields) = schema.pointer_mut(pointer).and_then(Value::as_object_mut) {
        fields.remove(name);
    }
}

#[cfg(test)]
#[path = "definition_tests.rs"]
mod tests;
