//! The double itself: what a client sees of it is what it would see of a real API server.

use k8s_openapi::api::core::v1::{ConfigMap, Namespace};
use kube::api::{
    DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams, WatchEvent, WatchParams,
};
use kube::core::Status;
use kube::{Api, Client};
use serde_json::json;
use tokio_stream::StreamExt;

use chancery_testkit::kubernetes::Fault;

use crate::bed::{client, double};

fn map(name: &str, value: &str) -> ConfigMap {
    let metadata = ObjectMeta { name: Some(name.into()), ..ObjectMeta::default() };
    ConfigMap { metadata, data: Some([("k".to_owned(), value.to_owned())].into()), ..ConfigMap::default() }
}

fn refusal<T: std::fmt::Debug>(answer: kube::Result<T>) -> Status {
    match answer {
        Err(kube::Error::Api(status)) => *status,
        other => panic!("{other:?}"),
    }
}

/// The scenario of versions and conflicts; a real API server plays it too.
pub(crate) async fn versions(client: Client, namespace: &str) {
    let api: Api<ConfigMap> = Api::namespaced(client, namespace);
    let post = PostParams::default();
    let missing = refusal(api.get("m").await);
    assert_eq!((missing.code, missing.message.as_str()), (404, "configmaps \"m\" not found"));
    let made = api.create(&post, &map("m", "1")).await.expect("created");
    assert!(made.metadata.uid.is_some() && made.metadata.creation_timestamp.is_some());
    let twice = refusal(api.create(&post, &map("m", "1")).await);
    assert!(twice.is_already_exists());
    assert_eq!(twice.message, "configmaps \"m\" already exists");

    let mut newer = made.clone();
    newer.data = map("m", "2").data;
    let newer = api.replace("m", &post, &newer).await.expect("replaced");
    assert_ne!(newer.metadata.resource_version, made.metadata.resource_version);
    let stale = refusal(api.replace("m", &post, &ConfigMap { data: map("m", "3").data, ..made }).await);
    assert!(stale.is_conflict());
    assert_eq!(
        stale.message,
        "Operation cannot be fulfilled on configmaps \"m\": the object has been modified; please apply your changes to the latest version and try again"
    );
    let same = api.replace("m", &post, &newer).await.expect("replaced by itself");
    assert_eq!(same.metadata.resource_version, newer.metadata.resource_version);

    let patch =
        Patch::Merge(json!({ "data": { "k": null, "l": "4" }, "metadata": { "labels": { "a": "b" } } }));
    let patched = api.patch("m", &PatchParams::default(), &patch).await.expect("patched");
    assert_eq!(patched.data, Some([("l".to_owned(), "4".to_owned())].into()));
    let applied = Patch::Apply(json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": { "name": "n" }, "data": { "k": "v" },
    }));
    api.patch("n", &PatchParams::apply("tests"), &applied).await.expect("applied");
    let names = async |list: ListParams| {
        let list = api.list(&list).await.expect("a list");
        list.items
            .into_iter()
            .filter_map(|map| map.metadata.name)
            .filter(|name| name != "kube-root-ca.crt")
            .collect::<Vec<_>>()
    };
    assert_eq!(names(ListParams::default()).await, ["m", "n"]);
    assert_eq!(names(ListParams::default().labels("a in (b)")).await, ["m"]);
    assert_eq!(names(ListParams::default().fields("metadata.name=n")).await, ["n"]);

    let generated = ConfigMap {
        metadata: ObjectMeta { generate_name: Some("g-".into()), ..ObjectMeta::default() },
        ..ConfigMap::default()
    };
    let name = api.create(&post, &generated).await.expect("created").metadata.name.expect("a name");
    assert!(name.starts_with("g-") && name.len() == 7, "{name}");
    let dry = PostParams { dry_run: true, ..PostParams::default() };
    api.create(&dry, &map("dry", "1")).await.expect("as if created");
    assert_eq!(refusal(api.get("dry").await).code, 404);
    for name in ["m", "n", &name] {
        api.delete(name, &DeleteParams::default()).await.expect("deleted");
    }
    assert_eq!(refusal(api.delete("m", &DeleteParams::default()).await).code, 404);
}

/// The scenario of watches; a real API server plays it too.
pub(crate) async fn watches(client: Client, namespace: &str) {
    let api: Api<ConfigMap> = Api::namespaced(client, namespace);
    let post = PostParams::default();
    let start =
        api.list(&ListParams::default()).await.expect("a list").metadata.resource_version.expect("a version");
    let chosen = WatchParams::default().labels("chosen=yes");
    let mut events = Box::pin(api.watch(&chosen, &start).await.expect("a watch"));
    let patch = |labels| Patch::Merge(json!({ "metadata": { "labels": labels } }));
    api.create(&post, &map("w", "1")).await.expect("created");
    for labels in [json!({ "chosen": "yes" }), json!({ "more": "yes" }), json!({ "chosen": null })] {
        api.patch("w", &PatchParams::default(), &patch(labels)).await.expect("patched");
    }
    api.delete("w", &DeleteParams::default()).await.expect("deleted");
    let mut seen = Vec::new();
    while seen.len() < 3 {
        match events.next().await.expect("an event").expect("no error") {
            WatchEvent::Added(_) => seen.push("added"),
            WatchEvent::Modified(_) => seen.push("modified"),
            WatchEvent::Deleted(_) => seen.push("deleted"),
            WatchEvent::Bookmark(_) => {}
            WatchEvent::Error(status) => panic!("{status:?}"),
        }
    }
    // What leaves the selection is deleted, to whoever sees only the selection.
    assert_eq!(seen, ["added", "modified", "deleted"]);
}

#[tokio::test]
async fn versions_conflicts_and_refusals_are_those_of_an_api_server() {
    let (_server, client) = double().await;
    versions(client, "default").await;
}

#[tokio::test]
async fn watches_tell_what_concerns_them() {
    let (_server, client) = double().await;
    watches(client, "default").await;
}

#[tokio::test]
async fn a_watch_from_forgotten_history_is_told_410() {
    let (server, client) = double().await;
    let api: Api<ConfigMap> = Api::namespaced(client, "default");
    let start =
        api.list(&ListParams::default()).await.expect("a list").metadata.resource_version.expect("a version");
    server.compact();
    let mut events = Box::pin(api.watch(&WatchParams::default(), &start).await.expect("a watch"));
    let Some(Ok(WatchEvent::Error(status))) = events.next().await else { panic!("no error") };
    assert_eq!((status.code, status.reason.as_str()), (410, "Expired"));
    assert!(events.next().await.is_none());
}

#[tokio::test]
async fn a_watch_is_told_how_far_it_is() {
    let (_server, client) = double().await;
    let api: Api<ConfigMap> = Api::namespaced(client, "default");
    let mut events = Box::pin(api.watch(&WatchParams::default(), "0").await.expect("a watch"));
    let Some(Ok(WatchEvent::Bookmark(bookmark))) = events.next().await else { panic!("no bookmark") };
    assert!(!bookmark.metadata.resource_version.is_empty());
}

#[tokio::test]
async fn faults_come_as_often_as_was_said_and_in_their_own_way() {
    let (server, client) = double().await;
    let api: Api<ConfigMap> = Api::namespaced(client, "default");
    let post = PostParams::default();
    server.inject("create", "configmaps", Fault::Code(429), 1);
    let refused = refusal(api.create(&post, &map("m", "1")).await);
    assert_eq!((refused.code, refused.reason.as_str()), (429, "TooManyRequests"));
    server.inject("create", "configmaps", Fault::Drop, 1);
    assert!(!matches!(api.create(&post, &map("m", "1")).await, Ok(_) | Err(kube::Error::Api(_))));
    assert!(server.get("configmaps", "default", "m").is_none());
    server.inject("create", "configmaps", Fault::LoseAnswer, 1);
    assert!(!matches!(api.create(&post, &map("m", "1")).await, Ok(_) | Err(kube::Error::Api(_))));
    let made = api.get("m").await.expect("it was created");
    server.inject("update", "configmaps", Fault::Race, 1);
    let late = refusal(api.replace("m", &post, &ConfigMap { data: map("m", "2").data, ..made }).await);
    assert!(late.is_conflict());
    assert_eq!(server.count("create", "configmaps"), 3);
}

#[tokio::test]
async fn what_rbac_denies_is_forbidden_in_its_words() {
    let (server, client) = double().await;
    server.deny("list", "configmaps");
    let api: Api<ConfigMap> = Api::all(client.clone());
    let refused = refusal(api.list(&ListParams::default()).await);
    assert_eq!(
        refused.message,
        "configmaps is forbidden: User \"system:serviceaccount:istio-system:chancery\" cannot list resource \"configmaps\" in API group \"\" at the cluster scope"
    );
    assert!(refused.is_forbidden());
    server.require_token("t");
    let api: Api<Namespace> = Api::all(client);
    assert_eq!(refusal(api.list(&ListParams::default()).await).code, 401);
}

#[tokio::test]
async fn nothing_is_created_in_a_namespace_that_is_going_away_or_not_there() {
    let (server, client) = double().await;
    let namespaces: Api<Namespace> = Api::all(client.clone());
    namespaces.delete("default", &DeleteParams::default()).await.expect("going away");
    let create = |namespace: &str| {
        let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
        async move { refusal(api.create(&PostParams::default(), &map("m", "1")).await) }
    };
    let going = create("default").await;
    assert_eq!(going.code, 403);
    assert_eq!(going.details.expect("details").causes[0].reason, "NamespaceTerminating");
    assert_eq!(create("absent").await.message, "namespaces \"absent\" not found");
    server.remove("namespaces", "", "default");
    assert!(namespaces.get_opt("default").await.expect("an answer").is_none());
}

#[tokio::test]
async fn a_token_file_is_used() {
    let (server, _) = double().await;
    server.require_token("secret");
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("token");
    std::fs::write(&path, "secret").expect("written");
    let options = chancery_mesh::kubernetes::ClientOptions {
        server: Some(server.url()),
        token_file: Some(path),
        ..Default::default()
    };
    let with = chancery_mesh::kubernetes::connect(&options).await.expect("a client");
    let api: Api<Namespace> = Api::all(with);
    assert_eq!(api.list(&ListParams::default()).await.expect("a list").items.len(), 3);
    let api: Api<Namespace> = Api::all(client(&server.url()).await);
    assert_eq!(refusal(api.list(&ListParams::default()).await).message, "Unauthorized");
}
