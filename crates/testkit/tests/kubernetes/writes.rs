//! Versions, preconditions, patches, `status` apart.

use chancery_testkit::kubernetes::ApiServer;
use serde_json::json;

use crate::bed::{MAPS, REQUESTS, ask, map, patch};

#[tokio::test]
async fn a_name_is_taken_once() {
    let server = ApiServer::start().await;
    ask("POST", MAPS).body(map("m", "1")).good(&server).await;
    let (code, reason, _) = ask("POST", MAPS).body(map("m", "1")).refused(&server).await;
    assert_eq!((code, reason.as_str()), (409, "AlreadyExists"));
}

#[tokio::test]
async fn stale_versions_and_other_objects_of_the_name_are_conflicts_for_puts_and_patches() {
    let server = ApiServer::start().await;
    let made = ask("POST", MAPS).body(map("m", "1")).good(&server).await;
    let path = format!("{MAPS}/m");
    patch(&path, "merge-patch", json!({ "data": { "k": "2" } })).good(&server).await;
    assert_eq!(ask("PUT", &path).body(made.clone()).refused(&server).await.0, 409);
    let version = json!({ "metadata": { "resourceVersion": made["metadata"]["resourceVersion"] } });
    assert_eq!(patch(&path, "merge-patch", version).refused(&server).await.0, 409);
    let uid = json!({ "metadata": { "uid": "of another" } });
    let (code, _, message) = patch(&path, "merge-patch", uid).refused(&server).await;
    assert!(
        code == 409 && message.contains("Precondition failed: UID in precondition: of another"),
        "{message}"
    );
}

#[tokio::test]
async fn deletions_have_preconditions_and_collections_selectors() {
    let server = ApiServer::start().await;
    let made = ask("POST", MAPS).body(map("m", "1")).good(&server).await;
    let path = format!("{MAPS}/m");
    let wrong = json!({ "preconditions": { "uid": "of another" } });
    assert_eq!(ask("DELETE", &path).body(wrong).refused(&server).await.0, 409);
    let wrong = json!({ "preconditions": { "resourceVersion": "1" } });
    assert_eq!(ask("DELETE", &path).body(wrong).refused(&server).await.0, 409);
    let dry = ask("DELETE", format!("{path}?dryRun=All"));
    dry.good(&server).await;
    let right = json!({ "preconditions": { "uid": made["metadata"]["uid"] } });
    ask("DELETE", &path).body(right).good(&server).await;
    for (name, label) in [("a", "x"), ("b", "y")] {
        let labelled = json!({ "metadata": { "name": name, "labels": { "l": label } } });
        ask("POST", MAPS).body(labelled).good(&server).await;
    }
    ask("DELETE", format!("{MAPS}?labelSelector=l%3Dx")).good(&server).await;
    assert_eq!(server.tally("configmaps", |map| map["metadata"]["name"] == "b"), (1, 1));
}

#[tokio::test]
async fn every_form_of_patch_is_done_or_refused() {
    let server = ApiServer::start().await;
    ask("POST", MAPS).body(map("m", "1")).good(&server).await;
    let path = format!("{MAPS}/m");
    let operations = json!([{ "op": "test", "path": "/data/k", "value": "1" }, { "op": "add", "path": "/data/l", "value": "2" }]);
    let patched = patch(&path, "json-patch", operations.clone()).good(&server).await;
    assert_eq!(patched["data"], json!({ "k": "1", "l": "2" }));
    let other = json!([{ "op": "test", "path": "/data/k", "value": "2" }]);
    assert_eq!(patch(&path, "json-patch", other).refused(&server).await.0, 422);
    let finalizers = json!({ "metadata": { "finalizers": ["a/b"], "$setElementOrder/finalizers": ["a/b"] } });
    let patched = patch(&path, "strategic-merge-patch", finalizers).good(&server).await;
    assert_eq!(patched["metadata"]["finalizers"], json!(["a/b"]));
    assert_eq!(patch(&path, "unknown", json!({})).refused(&server).await.0, 415);
    ask("POST", REQUESTS).body(json!({ "metadata": { "name": "r" } })).good(&server).await;
    let custom = format!("{REQUESTS}/r");
    assert_eq!(patch(&custom, "strategic-merge-patch", json!({})).refused(&server).await.0, 415);
}

#[tokio::test]
async fn status_is_written_at_its_own_path_and_only_specs_make_generations() {
    let server = ApiServer::start().await;
    let object = json!({ "metadata": { "name": "r" }, "spec": { "x": 1 }, "status": { "a": 1 } });
    let made = ask("POST", REQUESTS).body(object).good(&server).await;
    assert!(made["status"].is_null() && made["metadata"]["generation"] == 1);
    let status = format!("{REQUESTS}/r/status");
    let both = json!({ "spec": { "x": 2 }, "status": { "a": 2 }, "metadata": { "labels": { "l": "v" } } });
    let patched = patch(&status, "merge-patch", both.clone()).good(&server).await;
    assert_eq!((&patched["spec"]["x"], &patched["status"]["a"]), (&json!(1), &json!(2)));
    assert_eq!(
        (&patched["metadata"]["labels"], &patched["metadata"]["generation"]),
        (&json!(null), &json!(1))
    );
    let path = format!("{REQUESTS}/r");
    let labels = json!({ "metadata": { "labels": { "l": "v" } }, "status": { "a": 3 } });
    let patched = patch(&path, "merge-patch", labels).good(&server).await;
    assert_eq!((&patched["status"]["a"], &patched["metadata"]["generation"]), (&json!(2), &json!(1)));
    let mut next = patch(&path, "merge-patch", both).good(&server).await;
    assert_eq!((&next["spec"]["x"], &next["metadata"]["generation"]), (&json!(2), &json!(2)));
    next["status"]["a"] = 9.into();
    let put = ask("PUT", &status).body(next).good(&server).await;
    assert_eq!((&put["status"]["a"], &put["metadata"]["generation"]), (&json!(9), &json!(2)));
}
