//! What kinds there are, as clients ask before they ask for objects.

use std::collections::BTreeSet;
use std::sync::Arc;

use serde_json::{Value, json};

use super::kind::Kind;

/// The answer to a path of discovery; `None` if it is none.
pub(super) fn answer(path: &str, kinds: &[Arc<Kind>]) -> Option<Value> {
    let parts: Vec<&str> = path.trim_matches('/').split('/').collect();
    match parts[..] {
        ["api"] => {
            Some(json!({ "kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": [] }))
        }
        ["apis"] => {
            let groups: BTreeSet<_> =
                kinds.iter().filter(|kind| !kind.group.is_empty()).map(|kind| group(kind)).collect();
            let groups: Vec<Value> = groups.into_iter().map(describe).collect();
            Some(json!({ "kind": "APIGroupList", "apiVersion": "v1", "groups": groups }))
        }
        ["api", version] => Some(resources("", version, kinds)),
        ["apis", group, version] => Some(resources(group, version, kinds)),
        _ => None,
    }
}

fn group(kind: &Kind) -> (&str, &str) {
    (&kind.group, &kind.version)
}

fn describe((group, version): (&str, &str)) -> Value {
    let version = json!({ "groupVersion": format!("{group}/{version}"), "version": version });
    json!({ "name": group, "versions": [version], "preferredVersion": version })
}

fn resources(group: &str, version: &str, kinds: &[Arc<Kind>]) -> Value {
    const VERBS: [&str; 8] =
        ["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];
    let mut resources = Vec::new();
    for kind in kinds.iter().filter(|kind| kind.group == group && kind.version == version) {
        let Kind { plural, kind: name, namespaced, short_names, categories, .. } = &**kind;
        resources.push(json!({
            "name": plural, "singularName": name.to_lowercase(), "namespaced": namespaced, "kind": name,
            "verbs": VERBS, "shortNames": short_names, "categories": categories,
        }));
        if kind.status {
            resources.push(json!({
                "name": format!("{plural}/status"), "singularName": "", "namespaced": namespaced, "kind": name,
                "verbs": ["get", "patch", "update"],
            }));
        }
    }
    let group_version = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    json!({
        "kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": resources,
    })
}
