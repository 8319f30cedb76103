//! CustomResourceDefinitions: kinds that are served because objects say so.

use serde_json::{Value, json};

use std::sync::Arc;

use super::kind::Kind;
use super::store::{Store, text};
use super::write::now;

/// Writes into a definition what the server says of one that it accepted.
pub(super) fn establish(definition: &mut Value) {
    let since = match definition["status"]["conditions"][0]["lastTransitionTime"].as_str() {
        Some(since) => since.to_owned(),
        None => now(),
    };
    let condition = |kind: &str, reason: &str, message: &str| {
        json!({
            "type": kind, "status": "True", "reason": reason, "message": message, "lastTransitionTime": since,
        })
    };
    let versions = definition["spec"]["versions"].as_array().into_iter().flatten();
    let stored: Vec<Value> = versions
        .filter(|version| version["storage"] == true)
        .map(|version| version["name"].clone())
        .collect();
    definition["status"] = json!({
        "acceptedNames": definition["spec"]["names"],
        "storedVersions": stored,
        "conditions": [
            condition("NamesAccepted", "NoConflicts", "no conflicts found"),
            condition("Established", "InitialNamesAccepted", "the initial names have been accepted"),
        ],
    });
}

/// The kinds that a definition makes known: one for each version that is served.
pub(super) fn kinds(definition: &Value) -> Vec<Kind> {
    let spec = &definition["spec"];
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let words = |value: &Value| value.as_array().into_iter().flatten().map(word).collect::<Vec<_>>();
    let served =
        spec["versions"].as_array().into_iter().flatten().filter(|version| version["served"] == true);
    let kinds = served.map(|version| {
        let fields = version["selectableFields"].as_array().into_iter().flatten();
        let selectable = fields.map(|field| word(&field["jsonPath"]).trim_start_matches('.').to_owned());
        let schema = &version["schema"]["openAPIV3Schema"];
        Kind {
            group: word(&spec["group"]),
            version: word(&version["name"]),
            plural: word(&spec["names"]["plural"]),
            kind: word(&spec["names"]["kind"]),
            namespaced: spec["scope"] != "Cluster",
            status: version["subresources"].get("status").is_some(),
            custom: true,
            short_names: words(&spec["names"]["shortNames"]),
            categories: words(&spec["names"]["categories"]),
            selectable: selectable.collect(),
            schema: (!schema.is_null()).then(|| Arc::new(schema.clone())),
        }
    });
    kinds.collect()
}

impl Store {
    /// A definition came, changed or went.
    pub(super) fn learn(&mut self, definition: &Value) {
        let kinds = kinds(definition);
        let place = (String::new(), text(definition, "name").to_owned());
        let is_there = self.find("customresourcedefinitions.apiextensions.k8s.io", &place).is_some();
        let of_it = |kind: &Arc<Kind>| kinds.iter().any(|one| one.qualified() == kind.qualified());
        if !is_there {
            // With a definition go the objects.
            if let Some(kind) = self.kinds.iter().find(|kind| of_it(kind)).cloned() {
                let places: Vec<_> = self
                    .tables
                    .get(&kind.qualified())
                    .into_iter()
                    .flat_map(|table| table.objects.keys().cloned())
                    .collect();
                for place in places {
                    self.commit(&kind, place, None, false);
                }
            }
        }
        self.kinds.retain(|kind| !of_it(kind));
        if is_there {
            kinds.into_iter().for_each(|kind| self.define(kind));
        }
    }
}
