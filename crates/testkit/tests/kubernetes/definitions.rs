//! Kinds that are served because a CustomResourceDefinition says so.

use chancery_testkit::kubernetes::ApiServer;
use serde_json::{Value, json};

use crate::bed::ask;

const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";
const THINGS: &str = "/apis/example.com/v1/namespaces/default/things";

fn definition() -> Value {
    json!({
        "metadata": { "name": "things.example.com" },
        "spec": {
            "group": "example.com", "scope": "Namespaced",
            "names": { "plural": "things", "singular": "thing", "kind": "Thing", "shortNames": ["th"] },
            "versions": [{
                "name": "v1", "served": true, "storage": true, "subresources": { "status": {} },
                "selectableFields": [{ "jsonPath": ".spec.issuerRef.name" }],
                "schema": { "openAPIV3Schema": { "type": "object", "required": ["spec"], "properties": {
                    "spec": { "type": "object", "required": ["issuerRef"], "properties": {
                        "issuerRef": { "type": "object", "properties": { "name": { "type": "string", "minLength": 1 } } },
                        "size": { "type": "integer", "default": 3, "minimum": 1 },
                        "usages": { "type": "array", "items": { "type": "string", "enum": ["signing", "any"] } },
                    }},
                }}},
            }],
        },
    })
}

#[tokio::test]
async fn a_definition_makes_its_kind_served_and_takes_it_along() {
    let server = ApiServer::start().await;
    assert_eq!(ask("GET", THINGS).refused(&server).await.0, 404);
    let made = ask("POST", DEFINITIONS).body(definition()).good(&server).await;
    let conditions = made["status"]["conditions"].as_array().expect("conditions");
    assert!(conditions.iter().any(|one| one["type"] == "Established" && one["status"] == "True"));
    let found = ask("GET", "/apis/example.com/v1").good(&server).await;
    assert_eq!(found["resources"][0]["shortNames"], json!(["th"]));
    assert_eq!(found["resources"][1]["name"], "things/status");
    for name in ["a", "b"] {
        let thing = json!({ "metadata": { "name": name }, "spec": { "issuerRef": { "name": name } } });
        let thing = ask("POST", THINGS).body(thing).good(&server).await;
        assert_eq!((&thing["spec"]["size"], &thing["kind"]), (&json!(3), &json!("Thing")));
    }
    let chosen = ask("GET", format!("{THINGS}?fieldSelector=spec.issuerRef.name%3Db")).good(&server).await;
    assert_eq!(chosen["items"].as_array().map(Vec::len), Some(1));
    ask("DELETE", format!("{DEFINITIONS}/things.example.com")).good(&server).await;
    assert_eq!(ask("GET", THINGS).refused(&server).await.0, 404);
}

#[tokio::test]
async fn what_the_schema_does_not_allow_is_invalid_in_the_servers_words() {
    let server = ApiServer::start().await;
    ask("POST", DEFINITIONS).body(definition()).good(&server).await;
    let refused = async |spec: Value| {
        let thing = json!({ "metadata": { "name": "a" }, "spec": spec });
        let (code, reason, message) = ask("POST", THINGS).body(thing).refused(&server).await;
        assert_eq!((code, reason.as_str()), (422, "Invalid"));
        message.strip_prefix("Thing.example.com \"a\" is invalid: ").expect("the usual words").to_owned()
    };
    assert_eq!(refused(json!({})).await, "spec.issuerRef: Required value");
    assert_eq!(
        refused(json!({ "issuerRef": { "name": "" }, "size": 0 })).await,
        "[spec.issuerRef.name: Invalid value: \"\": spec.issuerRef.name in body should be at least 1 chars long, \
         spec.size: Invalid value: 0: spec.size in body should be greater than or equal to 1]"
    );
    assert_eq!(
        refused(json!({ "issuerRef": { "name": 5 } })).await,
        "spec.issuerRef.name: Invalid value: \"integer\": spec.issuerRef.name in body must be of type string: \"integer\""
    );
    assert_eq!(
        refused(json!({ "issuerRef": {}, "usages": ["any", "none"] })).await,
        "spec.usages[1]: Unsupported value: \"none\": supported values: \"signing\", \"any\""
    );
}
