//! Which issuer signs.

use std::sync::Arc;

use chancery_mesh::kubernetes::{ActiveIssuer, IssuerReference};
use chancery_testkit::kubernetes::{ApiServer, Fault};
use serde_json::json;
use tokio::task::JoinSet;

use crate::bed::{background, double, issuer, until};

fn put(server: &ApiServer, name: &str, kind: &str) {
    server.put(
        "configmaps",
        "cert-manager",
        json!({
            "metadata": { "name": "runtime" },
            "data": { "issuer-name": name, "issuer-kind": kind, "issuer-group": "cert-manager.io" },
        }),
    );
}

async fn following(fixed: Option<IssuerReference>) -> (ApiServer, Arc<ActiveIssuer>, JoinSet<()>) {
    let (server, client) = double().await;
    server.namespace("cert-manager", &[]);
    let active = Arc::new(ActiveIssuer::new(fixed));
    let following = background({
        let active = Arc::clone(&active);
        async move { active.follow_config_map(client, "cert-manager", "runtime").await }
    });
    (server, active, following)
}

fn name(active: &ActiveIssuer) -> Option<String> {
    active.subscribe().borrow().as_ref().map(|issuer| issuer.name.clone())
}

#[tokio::test]
async fn the_config_map_decides_while_it_is_there() {
    let (server, active, _following) = following(Some(issuer("fixed"))).await;
    assert_eq!(name(&active).as_deref(), Some("fixed"));
    put(&server, "runtime", "ClusterIssuer");
    until("the ConfigMap decides", || name(&active).as_deref() == Some("runtime")).await;
    // What is incomplete is ignored: the last one that was complete goes on.
    put(&server, "", "ClusterIssuer");
    put(&server, "other", "ClusterIssuer");
    until("the next one decides", || name(&active).as_deref() == Some("other")).await;
    server.put(
        "configmaps",
        "cert-manager",
        json!({ "metadata": { "name": "somebody-elses" },
        "data": { "issuer-name": "x", "issuer-kind": "x", "issuer-group": "x" } }),
    );
    server.remove("configmaps", "cert-manager", "runtime");
    until("the fixed one is back", || name(&active).as_deref() == Some("fixed")).await;
}

#[tokio::test]
async fn without_a_fixed_issuer_there_is_none_until_the_config_map_comes() {
    let (server, active, _following) = following(None).await;
    assert_eq!(name(&active), None);
    put(&server, "runtime", "Issuer");
    until("there is one", || name(&active).as_deref() == Some("runtime")).await;
    server.remove("configmaps", "cert-manager", "runtime");
    until("there is none again", || name(&active).is_none()).await;
}

#[tokio::test]
async fn what_happens_while_the_watch_is_broken_is_noticed() {
    let (server, active, _following) = following(Some(issuer("fixed"))).await;
    put(&server, "runtime", "Issuer");
    until("the ConfigMap decides", || name(&active).as_deref() == Some("runtime")).await;
    server.inject("watch", "configmaps", Fault::Code(500), 1);
    server.drop_watches();
    server.remove("configmaps", "cert-manager", "runtime");
    server.compact();
    until("the fixed one is back", || name(&active).as_deref() == Some("fixed")).await;
}

#[tokio::test]
async fn after_a_restart_nothing_is_signed_by_the_issuer_that_the_config_map_replaces() {
    let (server, client) = double().await;
    server.namespace("cert-manager", &[]);
    put(&server, "runtime", "Issuer");
    let active = Arc::new(ActiveIssuer::undecided(Some(issuer("fixed"))));
    let mut seen = active.subscribe();
    assert_eq!(name(&active), None);
    let following = background({
        let active = Arc::clone(&active);
        let client = client.clone();
        async move { active.follow_config_map(client, "cert-manager", "runtime").await }
    });
    seen.changed().await.expect("a sender");
    assert_eq!(name(&active).as_deref(), Some("runtime"));
    drop(following);

    // One that is incomplete, or missing, leaves it to the fixed one.
    put(&server, "", "Issuer");
    for _ in 0..2 {
        let active = Arc::new(ActiveIssuer::undecided(Some(issuer("fixed"))));
        let _following = background({
            let (active, client) = (Arc::clone(&active), client.clone());
            async move { active.follow_config_map(client, "cert-manager", "runtime").await }
        });
        until("the fixed one signs", || name(&active).as_deref() == Some("fixed")).await;
        server.remove("configmaps", "cert-manager", "runtime");
    }
}
