//! Server-side apply: who owns what.

use chancery_testkit::kubernetes::ApiServer;
use serde_json::{Value, json};

use crate::bed::{MAPS, REQUESTS, apply, ask, patch};

fn data(data: Value) -> Value {
    json!({ "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "m" }, "data": data })
}

#[tokio::test]
async fn what_is_not_applied_any_more_goes_and_what_others_own_stays() {
    let server = ApiServer::start().await;
    let path = format!("{MAPS}/m");
    apply(&path, "one", data(json!({ "a": "1", "b": "1" }))).good(&server).await;
    apply(&path, "two", data(json!({ "c": "1" }))).good(&server).await;
    patch(&format!("{path}?fieldManager=three"), "merge-patch", json!({ "data": { "d": "1" } }))
        .good(&server)
        .await;
    let left = apply(&path, "one", data(json!({ "a": "2" }))).good(&server).await;
    assert_eq!(left["data"], json!({ "a": "2", "c": "1", "d": "1" }));
    let fields = left["metadata"]["managedFields"].as_array().expect("fields");
    assert_eq!(fields.len(), 3);
    let one = fields.iter().find(|entry| entry["manager"] == "one").expect("one's");
    assert_eq!((&one["operation"], &one["fieldsV1"]), (&json!("Apply"), &json!({ "f:data": { "f:a": {} } })));
}

#[tokio::test]
async fn the_same_applied_again_changes_nothing() {
    let server = ApiServer::start().await;
    let path = format!("{MAPS}/m");
    let first = apply(&path, "one", data(json!({ "a": "1" }))).good(&server).await;
    let second = apply(&path, "one", data(json!({ "a": "1" }))).good(&server).await;
    assert_eq!(first["metadata"]["resourceVersion"], second["metadata"]["resourceVersion"]);
}

#[tokio::test]
async fn others_fields_are_conflicts_unless_taken_by_force() {
    let server = ApiServer::start().await;
    let path = format!("{MAPS}/m");
    apply(&path, "one", data(json!({ "a": "1", "b": "1" }))).good(&server).await;
    let (code, reason, message) = apply(&path, "two", data(json!({ "a": "2" }))).refused(&server).await;
    assert_eq!((code, reason.as_str()), (409, "Conflict"));
    assert_eq!(message, "Apply failed with 1 conflict: conflict with \"one\": .data.a");
    let forced = ask("PATCH", format!("{path}?fieldManager=two&force=true"))
        .with("content-type", "application/apply-patch+yaml")
        .body(data(json!({ "a": "2" })));
    assert_eq!(forced.good(&server).await["data"], json!({ "a": "2", "b": "1" }));
    // It is the other's now: leaving it out does not remove it.
    let left = apply(&path, "one", data(json!({ "b": "1" }))).good(&server).await;
    assert_eq!(left["data"], json!({ "a": "2", "b": "1" }));
    // The same value can be of both.
    apply(&path, "three", data(json!({ "b": "1" }))).good(&server).await;
    let left = apply(&path, "one", data(json!({}))).good(&server).await;
    assert_eq!(left["data"], json!({ "a": "2", "b": "1" }));
}

#[tokio::test]
async fn conditions_are_merged_by_their_type_when_status_is_applied() {
    let server = ApiServer::start().await;
    ask("POST", REQUESTS)
        .body(json!({ "metadata": { "name": "r" }, "spec": { "x": 1 } }))
        .good(&server)
        .await;
    let path = format!("{REQUESTS}/r/status");
    let status = |conditions: Value| {
        json!({
            "apiVersion": "cert-manager.io/v1", "kind": "CertificateRequest", "metadata": { "name": "r" },
            "spec": { "x": 2 }, "status": { "conditions": conditions },
        })
    };
    let approved = json!({ "type": "Approved", "status": "True" });
    apply(&path, "approver", status(json!([approved]))).good(&server).await;
    let ready = |reason: &str| json!([{ "type": "Ready", "status": "False", "reason": reason }]);
    apply(&path, "signer", status(ready("Pending"))).good(&server).await;
    let both = apply(&path, "signer", status(ready("Failed"))).good(&server).await;
    assert_eq!(both["status"]["conditions"], json!([approved, ready("Failed")[0]]));
    assert_eq!(both["spec"]["x"], 1);
    let one = apply(&path, "signer", status(json!([]))).good(&server).await;
    assert_eq!(one["status"]["conditions"], json!([approved]));
    let denied = status(json!([{ "type": "Approved", "status": "False" }]));
    let (code, _, message) = apply(&path, "signer", denied).refused(&server).await;
    assert_eq!(code, 409);
    assert!(message.ends_with(".status.conditions[type=\"Approved\"].status"), "{message}");
}

#[tokio::test]
async fn applications_need_a_manager() {
    let server = ApiServer::start().await;
    let path = format!("{MAPS}/m");
    let nobody =
        ask("PATCH", &path).with("content-type", "application/apply-patch+yaml").body(data(json!({})));
    assert_eq!(nobody.refused(&server).await.0, 400);
}
