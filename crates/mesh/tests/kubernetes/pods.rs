//! Who runs where.

use std::sync::Arc;

use chancery_mesh::Workload;
use chancery_mesh::kubernetes::PodIndex;
use chancery_testkit::kubernetes::{ApiServer, Fault};
use serde_json::json;

use crate::bed::{background, double, until};

fn put(server: &ApiServer, namespace: &str, name: &str, account: &str, node: &str, phase: &str) {
    server.put("pods", namespace, json!({
        "metadata": { "name": name },
        "spec": { "serviceAccountName": account, "nodeName": node, "containers": [{ "name": "c", "image": "i" }] },
        "status": { "phase": phase, "podIP": "10.0.0.1" },
    }));
}

fn workload(namespace: &str, account: &str) -> Workload {
    Workload { namespace: namespace.into(), service_account: account.into() }
}

#[tokio::test]
async fn the_index_follows_pods_through_broken_watches_and_forgotten_history() {
    let (server, client) = double().await;
    put(&server, "default", "a", "web", "n1", "Running");
    let index = Arc::new(PodIndex::default());
    let _running = background({
        let index = Arc::clone(&index);
        async move { index.run(client).await }
    });
    until("all pods were seen", || index.is_complete()).await;
    assert!(index.runs_on(&workload("default", "web"), "n1"));
    assert!(!index.runs_on(&workload("kube-system", "web"), "n1"));
    let uid = server.get("pods", "default", "a").expect("a pod")["metadata"]["uid"].clone();
    assert_eq!(*index.pod("default", "a").expect("a pod").uid, *uid.as_str().expect("a UID"));

    put(&server, "default", "b", "db", "n2", "Pending");
    until("a new pod is seen", || index.runs_on(&workload("default", "db"), "n2")).await;

    server.inject("watch", "pods", Fault::Code(500), 1);
    server.drop_watches();
    server.remove("pods", "default", "b");
    until("a deletion behind a broken watch is seen", || index.pod("default", "b").is_none()).await;

    server.inject("watch", "pods", Fault::Drop, 1);
    server.drop_watches();
    server.remove("pods", "default", "a");
    server.compact();
    until("a deletion behind forgotten history is seen", || {
        !index.runs_on(&workload("default", "web"), "n1")
    })
    .await;

    put(&server, "default", "c", "job", "n1", "Running");
    until("a new pod is seen", || index.runs_on(&workload("default", "job"), "n1")).await;
    put(&server, "default", "c", "job", "n1", "Succeeded");
    until("its end is seen", || !index.runs_on(&workload("default", "job"), "n1")).await;
}

#[tokio::test]
async fn more_pods_than_fit_a_page_are_all_seen() {
    let (server, client) = double().await;
    for number in 0..1201 {
        put(&server, "default", &format!("p{number}"), "web", &format!("n{number}"), "Running");
    }
    let index = Arc::new(PodIndex::default());
    let _running = background({
        let index = Arc::clone(&index);
        async move { index.run(client).await }
    });
    until("all pods were seen", || index.is_complete()).await;
    assert_eq!(server.count("list", "pods"), 3);
    for number in 0..1201 {
        assert!(index.runs_on(&workload("default", "web"), &format!("n{number}")), "{number}");
    }
}

#[tokio::test]
async fn a_server_that_no_longer_knows_the_version_of_the_watch_is_read_anew() {
    let (server, client) = double().await;
    put(&server, "default", "a", "web", "n1", "Running");
    let index = Arc::new(PodIndex::default());
    let _running = background({
        let index = Arc::clone(&index);
        async move { index.run(client).await }
    });
    until("all pods were seen", || index.is_complete()).await;
    // As after a restored backup: the watch is refused without a 410 in it, whatever it is asked for.
    server.inject("watch", "pods", Fault::Code(504), usize::MAX);
    server.drop_watches();
    server.remove("pods", "default", "a");
    until("the list alone tells", || index.pod("default", "a").is_none()).await;
    assert_eq!(server.count("list", "pods"), 2);
    put(&server, "default", "b", "web", "n1", "Running");
    server.heal();
    until("and the watch is back", || index.pod("default", "b").is_some()).await;
}
