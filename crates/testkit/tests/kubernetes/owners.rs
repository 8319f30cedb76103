//! Garbage collection.

use chancery_testkit::kubernetes::ApiServer;
use serde_json::{Value, json};

use crate::bed::{MAPS, ask, map};

async fn owned(server: &ApiServer, name: &str, owners: &[&Value]) -> Value {
    let reference = |owner: &&Value| {
        json!({
            "apiVersion": "v1", "kind": "ConfigMap", "name": owner["metadata"]["name"],
            "uid": owner["metadata"]["uid"], "controller": true, "blockOwnerDeletion": true,
        })
    };
    let references: Vec<Value> = owners.iter().map(reference).collect();
    let object = json!({ "metadata": { "name": name, "ownerReferences": references } });
    ask("POST", MAPS).body(object).good(server).await
}

#[tokio::test]
async fn dependents_go_with_their_last_owner_all_the_way_down() {
    let server = ApiServer::start().await;
    let one = ask("POST", MAPS).body(map("one", "")).good(&server).await;
    let two = ask("POST", MAPS).body(map("two", "")).good(&server).await;
    let child = owned(&server, "child", &[&one]).await;
    owned(&server, "grandchild", &[&child]).await;
    owned(&server, "shared", &[&one, &two]).await;
    ask("DELETE", format!("{MAPS}/one")).good(&server).await;
    assert_eq!(server.list("configmaps", None).len(), 2);
    let shared = server.get("configmaps", "default", "shared").expect("it has an owner left");
    assert_eq!(shared["metadata"]["ownerReferences"].as_array().map(Vec::len), Some(1));
    ask("DELETE", format!("{MAPS}/two")).good(&server).await;
    assert!(server.list("configmaps", None).is_empty());
}

#[tokio::test]
async fn a_dependent_of_somebody_who_is_gone_does_not_stay() {
    let server = ApiServer::start().await;
    let one = ask("POST", MAPS).body(map("one", "")).good(&server).await;
    ask("DELETE", format!("{MAPS}/one")).good(&server).await;
    owned(&server, "late", &[&one]).await;
    assert!(server.list("configmaps", None).is_empty());
}

#[tokio::test]
async fn orphans_stay_and_so_does_everything_when_nothing_is_collected() {
    let server = ApiServer::start().await;
    let one = ask("POST", MAPS).body(map("one", "")).good(&server).await;
    owned(&server, "child", &[&one]).await;
    ask("DELETE", format!("{MAPS}/one?propagationPolicy=Orphan")).good(&server).await;
    assert!(server.get("configmaps", "default", "child").is_some());
    server.collect_garbage(false);
    let two = ask("POST", MAPS).body(map("two", "")).good(&server).await;
    owned(&server, "other", &[&two]).await;
    ask("DELETE", format!("{MAPS}/two")).good(&server).await;
    assert!(server.get("configmaps", "default", "other").is_some());
}
