//! Tells API servers whom to believe: `caBundle` of the two configurations.

use chancery_kubernetes::{ApiError, optional, request};
use data_encoding::BASE64;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::{Api, Client};
use serde_json::{Value, json};

/// The two kinds of configurations.
pub(crate) const KINDS: [&str; 2] = ["MutatingWebhookConfiguration", "ValidatingWebhookConfiguration"];

/// Configurations of a kind; untyped, so that fields of newer API servers are kept.
pub(crate) fn api(client: &Client, kind: &str) -> Api<DynamicObject> {
    let kind = GroupVersionKind::gvk("admissionregistration.k8s.io", "v1", kind);
    Api::all_with(client.clone(), &ApiResource::from_gvk(&kind))
}

/// The webhooks of a configuration with this bundle; `None` if they have it.
fn with_bundle(configuration: &Value, bundle: &str) -> Option<Value> {
    let mut webhooks = configuration.get("webhooks")?.clone();
    let mut is_changed = false;
    for webhook in webhooks.as_array_mut()? {
        let client = webhook.as_object_mut()?.entry("clientConfig").or_insert_with(|| json!({}));
        let client = client.as_object_mut()?;
        if client.get("caBundle").and_then(Value::as_str) != Some(bundle) {
            client.insert("caBundle".to_owned(), bundle.into());
            is_changed = true;
        }
    }
    is_changed.then_some(webhooks)
}

/// Writes the bundle where it is not yet. A configuration that is not there is left so.
pub(crate) async fn inject(client: &Client, name: &str, bundle: &str) -> Result<(), ApiError> {
    let bundle = BASE64.encode(bundle.as_bytes());
    for kind in KINDS {
        let api = api(client, kind);
        let Some(found) = optional(api.get(name)).await? else {
            tracing::warn!(kind, name, "there is no such configuration, so nothing is asked of the webhook");
            continue;
        };
        let Some(webhooks) = with_bundle(&found.data, &bundle) else { continue };
        // With its version: a list is replaced as a whole, and nobody's change to it may be lost.
        let patch = json!({
            "metadata": { "resourceVersion": found.metadata.resource_version }, "webhooks": webhooks,
        });
        match request(api.patch(name, &PatchParams::default(), &Patch::Merge(patch))).await {
            Ok(_) => tracing::info!(kind, name, "the webhook's authority was written"),
            // Whoever was quicker is seen by the watch.
            Err(error) if error.is_conflict() => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_differs_is_written() {
        let configuration = json!({ "webhooks": [
            { "name": "webhook.cert-manager.io", "clientConfig": { "service": { "name": "s" } }, "unknown": 1 },
            { "name": "b", "clientConfig": { "caBundle": "YQ==" } },
        ]});
        let written = with_bundle(&configuration, "YQ==").expect("a change");
        assert_eq!(written[0]["clientConfig"], json!({ "service": { "name": "s" }, "caBundle": "YQ==" }));
        assert_eq!(written[0]["unknown"], 1);
        assert_eq!(with_bundle(&json!({ "webhooks": written }), "YQ=="), None);
        for odd in
            [json!({}), json!({ "webhooks": 1 }), json!({ "webhooks": [1] }), json!({ "webhooks": [] })]
        {
            assert_eq!(with_bundle(&odd, "YQ=="), None, "{odd}");
        }
    }
}
