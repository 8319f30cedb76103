//! The mesh's roots, in every namespace.

use std::sync::Arc;
use std::time::Duration;

use chancery_mesh::ca::roots::Roots;
use chancery_mesh::kubernetes::{
    CONFIG_MAP, LabelSelector, NotPublishable, RootConfigMapSettings, publishable, run_root_config_maps,
};
use chancery_testkit::kubernetes::{ApiServer, Fault};
use kube::Client;
use serde_json::{Value, json};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::bed::{authority, background, clock, double, now, roots, until};

const MAPS: &str = "configmaps";

fn settings(selector: &str) -> RootConfigMapSettings {
    let selector = LabelSelector::parse(selector).expect("a selector");
    RootConfigMapSettings { selector, at_once: 1, allow_intermediates: false }
}

pub(crate) fn running(
    client: Client,
    settings: RootConfigMapSettings,
    roots: Arc<Roots>,
) -> (watch::Sender<Arc<Roots>>, JoinSet<()>) {
    let (sender, receiver) = watch::channel(roots);
    (sender, background(run_root_config_maps(client, settings, receiver, clock())))
}

fn data(server: &ApiServer, namespace: &str) -> Value {
    server.get(MAPS, namespace, CONFIG_MAP).map_or(Value::Null, |map| map["data"].clone())
}

fn has(server: &ApiServer, namespace: &str, pem: &str) -> bool {
    data(server, namespace) == json!({ "root-cert.pem": pem })
}

#[tokio::test]
async fn every_namespace_gets_the_roots_also_those_that_come_later() {
    let (server, client) = double().await;
    let ca = authority("root");
    let (_roots, _running) = running(client, settings(""), roots(&[&ca]));
    for namespace in ["default", "kube-system", "istio-system"] {
        until(namespace, || has(&server, namespace, &ca.pem())).await;
    }
    let made = server.get(MAPS, "default", CONFIG_MAP).expect("a ConfigMap");
    assert_eq!(made["metadata"]["labels"], json!({ "istio.io/config": "true" }));
    server.namespace("later", &[]);
    until("later", || has(&server, "later", &ca.pem())).await;
    assert_eq!(server.count("create", MAPS), 4);
    assert_eq!(server.count("update", MAPS), 0);
}

#[tokio::test]
async fn what_others_change_or_delete_is_repaired_and_their_labels_are_kept() {
    let (server, client) = double().await;
    let ca = authority("root");
    let (_roots, _running) = running(client, settings(""), roots(&[&ca]));
    until("there", || has(&server, "default", &ca.pem())).await;

    for broken in [
        json!({ "root-cert.pem": "wrong" }),
        json!({ "root-cert.pem": ca.pem(), "foreign": "data" }),
        json!({}),
    ] {
        server.put(
            MAPS,
            "default",
            json!({
                "metadata": {
                    "name": CONFIG_MAP, "labels": { "other": "label" }, "annotations": { "an": "annotation" },
                },
                "data": broken,
            }),
        );
        until("repaired", || {
            let map = server.get(MAPS, "default", CONFIG_MAP).expect("a ConfigMap");
            let labels = json!({ "other": "label", "istio.io/config": "true" });
            has(&server, "default", &ca.pem())
                && map["metadata"]["labels"] == labels
                && map["metadata"]["annotations"]["an"] == "annotation"
        })
        .await;
    }
    server.remove(MAPS, "default", CONFIG_MAP);
    until("made anew", || has(&server, "default", &ca.pem())).await;
}

#[tokio::test]
async fn a_map_that_is_right_is_not_written() {
    let (server, client) = double().await;
    let ca = authority("root");
    for namespace in ["default", "kube-system", "istio-system"] {
        server.put(
            MAPS,
            namespace,
            json!({
                "metadata": { "name": CONFIG_MAP, "labels": { "istio.io/config": "true", "other": "label" } },
                "data": { "root-cert.pem": ca.pem() },
            }),
        );
    }
    let (_roots, _running) = running(client, settings(""), roots(&[&ca]));
    until("all were looked at", || server.count("get", MAPS) >= 3).await;
    server.namespace("later", &[]);
    until("later", || has(&server, "later", &ca.pem())).await;
    assert_eq!((server.count("create", MAPS), server.count("update", MAPS)), (1, 0));
}

#[tokio::test]
async fn namespaces_that_are_not_chosen_or_going_away_get_nothing_and_lose_nothing() {
    let (server, client) = double().await;
    let ca = authority("root");
    server.namespace("chosen", &[("istio", "on")]);
    server.namespace("going", &[("istio", "on")]);
    server.put("namespaces", "", json!({
        "metadata": { "name": "going", "labels": { "istio": "on" } }, "status": { "phase": "Terminating" },
    }));
    let (sender, _running) = running(client, settings("istio=on"), roots(&[&ca]));
    until("chosen", || has(&server, "chosen", &ca.pem())).await;
    server.namespace("default", &[("istio", "on")]);
    until("chosen later", || has(&server, "default", &ca.pem())).await;
    // No longer chosen: it keeps what it has, and gets nothing new.
    server.namespace("chosen", &[("istio", "off")]);
    // What comes later is seen later.
    server.namespace("barrier", &[("istio", "on")]);
    until("the change was seen", || has(&server, "barrier", &ca.pem())).await;
    let other = authority("other");
    sender.send_replace(roots(&[&ca, &other]));
    until("changed", || has(&server, "default", &(ca.pem() + &other.pem()))).await;
    assert!(has(&server, "chosen", &ca.pem()));
    for namespace in ["going", "kube-system", "istio-system"] {
        assert_eq!(data(&server, namespace), Value::Null, "{namespace}");
    }
}

#[tokio::test]
async fn new_roots_reach_every_namespace() {
    let (server, client) = double().await;
    let (old, new) = (authority("old"), authority("new"));
    for number in 0..50 {
        server.namespace(&format!("n{number}"), &[]);
    }
    let settings = RootConfigMapSettings { at_once: 8, ..settings("") };
    let (sender, _running) = running(client, settings, roots(&[&old]));
    let everywhere = |pem: &str| (0..50).all(|number| has(&server, &format!("n{number}"), pem));
    until("the old root is everywhere", || everywhere(&old.pem())).await;
    sender.send_replace(roots(&[&old, &new]));
    until("both are everywhere", || everywhere(&(old.pem() + &new.pem()))).await;
    sender.send_replace(roots(&[&new]));
    until("the new root is everywhere", || everywhere(&new.pem())).await;
}

#[tokio::test]
async fn nothing_is_written_before_roots_are_known() {
    let (server, client) = double().await;
    let ca = authority("root");
    let (sender, _running) = running(client, settings(""), roots(&[]));
    until("namespaces are watched", || server.count("watch", "namespaces") > 0).await;
    assert_eq!((server.count("create", MAPS), server.count("update", MAPS)), (0, 0));
    sender.send_replace(roots(&[&ca]));
    until("known", || has(&server, "default", &ca.pem())).await;
}

#[tokio::test]
async fn an_intermediate_is_not_given_out_unless_that_is_allowed() {
    let root = authority("root");
    let intermediate = root.intermediate("intermediate");
    let both = roots(&[&root, &intermediate]);
    let refused = publishable(&both, false, now()).expect_err("refused");
    assert!(matches!(refused, NotPublishable::Intermediate(_)));
    assert!(refused.to_string().contains("\"intermediate\""), "{refused}");
    let warnings = publishable(&both, true, now()).expect("allowed");
    assert!(warnings[0].contains("is an intermediate"), "{warnings:?}");
    assert_eq!(publishable(&roots(&[&root]), false, now()), Ok(Vec::new()));
    assert_eq!(publishable(&roots(&[]), false, now()), Err(NotPublishable::None));

    let (server, client) = double().await;
    let (sender, _running) = running(client, settings(""), roots(&[&root]));
    until("the root is there", || has(&server, "default", &root.pem())).await;
    sender.send_replace(roots(&[&intermediate]));
    server.namespace("later", &[]);
    until("what was given out goes on being given out", || has(&server, "later", &root.pem())).await;
    assert!(has(&server, "default", &root.pem()));
}

#[test]
fn leaves_and_expired_roots_are_not_given_out() {
    let root = authority("root");
    let late = now().checked_add(Duration::from_secs(2000 * 3600)).expect("an instant");
    assert!(matches!(publishable(&roots(&[&root]), false, late), Err(NotPublishable::Expired(_))));
    let csr = chancery_issuance::CsrRequest {
        names: chancery_issuance::RequestedNames {
            common_name: "leaf.example.com".into(),
            ..chancery_issuance::RequestedNames::default()
        },
        critical_names: true,
        ..chancery_issuance::CsrRequest::default()
    };
    let csr = chancery_issuance::create_csr(&csr, &**root.key()).expect("a CSR");
    let leaf = root.sign(&csr.pem, Duration::from_secs(60));
    let leaf = Roots { pem: leaf.pem().to_owned(), certificates: vec![leaf] };
    assert!(matches!(publishable(&leaf, true, now()), Err(NotPublishable::NotAuthority(_))));
}

#[tokio::test]
async fn trouble_with_the_api_server_is_overcome() {
    let (server, client) = double().await;
    let ca = authority("root");
    for (verb, fault) in [
        ("create", Fault::Code(500)),
        ("create", Fault::LoseAnswer),
        ("get", Fault::Drop),
        ("list", Fault::Code(503)),
    ] {
        server.inject(verb, MAPS, fault, 2);
    }
    server.inject("list", "namespaces", Fault::Code(500), 1);
    let (_roots, _running) = running(client, settings(""), roots(&[&ca]));
    let everywhere = || {
        ["default", "kube-system", "istio-system"].iter().all(|namespace| has(&server, namespace, &ca.pem()))
    };
    until("everywhere in spite of all", everywhere).await;
    // Somebody else writes between our look and our update.
    server.inject("update", MAPS, Fault::Race, 1);
    server.put(
        MAPS,
        "default",
        json!({ "metadata": { "name": CONFIG_MAP }, "data": { "root-cert.pem": "wrong" } }),
    );
    until("repaired after a conflict", || has(&server, "default", &ca.pem())).await;
    // What is broken while nobody watches is found when the watch begins anew.
    server.inject("watch", MAPS, Fault::Code(500), 1);
    server.drop_watches();
    server.remove(MAPS, "kube-system", CONFIG_MAP);
    server.compact();
    until("made anew behind a broken watch", everywhere).await;
}

#[tokio::test]
async fn a_namespace_that_goes_away_while_it_is_written_to_is_no_failure() {
    let (server, client) = double().await;
    let ca = authority("root");
    // Its end is not yet known here when the ConfigMap is written.
    server.deny("watch", "namespaces");
    let (sender, _running) = running(client, settings(""), roots(&[&ca]));
    until("there", || has(&server, "default", &ca.pem())).await;
    server.put(
        "namespaces",
        "",
        json!({ "metadata": { "name": "default" }, "status": { "phase": "Terminating" } }),
    );
    server.remove(MAPS, "default", CONFIG_MAP);
    let tried = || {
        server
            .requests()
            .iter()
            .filter(|one| one.verb == "create" && one.namespace.as_deref() == Some("default"))
            .count()
    };
    until("it was tried", || tried() >= 2).await;
    let other = authority("other");
    sender.send_replace(roots(&[&other]));
    until("the others go on", || has(&server, "istio-system", &other.pem())).await;
    // Once for each event, at most; a failure would be tried again and again in this time.
    sleep(Duration::from_secs(1)).await;
    assert!(tried() <= 4, "{}", tried());
}
