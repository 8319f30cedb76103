//! The scenarios that a real API server can play too, so that the double does not drift from it.
//!
//! With `KUBEBUILDER_ASSETS`, a folder with `kube-apiserver` and `etcd`, both are started for the test.

use std::sync::Arc;
use std::time::Duration;

use chancery_mesh::Workload;
use chancery_mesh::ca::authenticate::TokenReviewer;
use chancery_mesh::ca::signer::{Purpose, Signer, SigningRequest};
use chancery_mesh::kubernetes::{
    ActiveIssuer, CONFIG_MAP, CertificateRequest, CertificateRequestSettings, CertificateRequestSigner,
    ClusterReviewer, LabelSelector, PodIndex, RootConfigMapSettings,
};
use chancery_testkit::kubernetes::{ApiServer, RealApiServer};
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod, ServiceAccount};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{DeleteParams, ListParams, ObjectMeta, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt};
use serde_json::json;
use tokio::time::{Instant, sleep};

use crate::bed::{PATIENCE, authority, background, clock, issuer, roots};
use crate::{double, election, root_config_maps};

/// A scenario runs in a namespace of its own.
async fn scenarios(client: Client) {
    for namespace in ["versions", "watches", "election", "signing", "pods"] {
        let metadata = ObjectMeta { name: Some(namespace.into()), ..ObjectMeta::default() };
        let object = Namespace { metadata, ..Namespace::default() };
        let api: Api<Namespace> = Api::all(client.clone());
        api.create(&PostParams::default(), &object).await.expect("a namespace");
    }
    double::versions(client.clone(), "versions").await;
    double::watches(client.clone(), "watches").await;
    election::hand_over(client.clone(), "election").await;
    signing(client.clone()).await;
    distribution(client.clone()).await;
    pods(client).await;
}

/// Waits until something is so that has to be asked for.
async fn until<Asked: Future<Output = bool>>(what: &str, holds: impl Fn() -> Asked) {
    let begun = Instant::now();
    while !holds().await {
        assert!(begun.elapsed() < PATIENCE, "in vain: {what}");
        sleep(Duration::from_millis(50)).await;
    }
}

async fn signing(client: Client) {
    let api: Api<CertificateRequest> = Api::namespaced(client.clone(), "signing");
    let controller = api.clone();
    let _controller = background(async move {
        loop {
            for request in controller.list(&ListParams::default()).await.expect("a list") {
                if request.status.is_some() {
                    continue;
                }
                let status = json!({
                    "conditions": [{ "type": "Ready", "status": "True", "reason": "Issued", "message": "" }],
                    "certificate": request.spec.request,
                });
                let status = Patch::Merge(json!({ "status": status }));
                // It may be deleted meanwhile.
                let _ = controller.patch_status(&request.name_any(), &PatchParams::default(), &status).await;
            }
            sleep(Duration::from_millis(20)).await;
        }
    });
    let active = ActiveIssuer::new(Some(issuer("istio-ca")));
    let settings = CertificateRequestSettings::new("signing");
    let signer = CertificateRequestSigner::start(client, settings, active.subscribe(), clock());
    for number in 0..10 {
        let wanted = SigningRequest {
            csr: format!("csr {number}"),
            identities: vec!["spiffe://d/ns/a/sa/b".into()],
            duration: Duration::from_secs(3600),
            purpose: Purpose::Workload,
        };
        assert_eq!(signer.sign(&wanted).await.expect("signed").chain, wanted.csr);
    }
    signer.shut_down(PATIENCE).await;
    until("all are deleted", || async {
        api.list(&ListParams::default()).await.expect("a list").items.is_empty()
    })
    .await;
}

async fn distribution(client: Client) {
    let selector = LabelSelector::parse("kubernetes.io/metadata.name=signing").expect("a selector");
    let settings = RootConfigMapSettings { selector, at_once: 2, allow_intermediates: false };
    let root = authority("root");
    let (_roots, _running) = root_config_maps::running(client.clone(), settings, roots(&[&root]));
    let api: Api<ConfigMap> = Api::namespaced(client, "signing");
    let pem = async || {
        let map = api.get_opt(CONFIG_MAP).await.expect("an answer")?;
        map.data?.remove("root-cert.pem")
    };
    until("there", || async { pem().await == Some(root.pem()) }).await;
    let broken = Patch::Merge(json!({ "data": { "root-cert.pem": "wrong", "foreign": "data" } }));
    api.patch(CONFIG_MAP, &PatchParams::default(), &broken).await.expect("patched");
    until("repaired", || async { pem().await == Some(root.pem()) }).await;
    api.delete(CONFIG_MAP, &DeleteParams::default()).await.expect("deleted");
    until("made anew", || async { pem().await == Some(root.pem()) }).await;
}

async fn pods(client: Client) {
    let pod: Pod = serde_json::from_value(json!({
        "metadata": { "name": "p" },
        "spec": { "serviceAccountName": "web", "nodeName": "n", "containers": [{ "name": "c", "image": "i" }] },
    }))
    .expect("a pod");
    let api: Api<Pod> = Api::namespaced(client.clone(), "pods");
    let index = Arc::new(PodIndex::default());
    let _running = background({
        let index = Arc::clone(&index);
        async move { index.run(client).await }
    });
    api.create(&PostParams::default(), &pod).await.expect("created");
    let workload = Workload { namespace: "pods".into(), service_account: "web".into() };
    until("it is seen", || async { index.runs_on(&workload, "n") }).await;
    api.delete("p", &DeleteParams::default().grace_period(0)).await.expect("deleted");
    until("its end is seen", || async { !index.runs_on(&workload, "n") }).await;
}

#[tokio::test]
async fn the_double_plays_the_scenarios() {
    let server = ApiServer::start().await;
    scenarios(crate::bed::client(&server.url()).await).await;
}

#[tokio::test]
async fn a_real_api_server_plays_the_same_scenarios() {
    let Some(real) = RealApiServer::start().await else { return };
    let client = real.client().await;
    define(&client, "certificaterequests", "CertificateRequest").await;
    token_review(&client).await;
    scenarios(client).await;
}

/// Defines a kind of cert-manager's that takes whatever is written.
async fn define(client: &Client, plural: &str, kind: &str) {
    let definition: CustomResourceDefinition = serde_json::from_value(json!({
        "metadata": { "name": format!("{plural}.cert-manager.io") },
        "spec": {
            "group": "cert-manager.io",
            "scope": "Namespaced",
            "names": { "plural": plural, "kind": kind },
            "versions": [{
                "name": "v1", "served": true, "storage": true,
                "subresources": { "status": {} },
                "schema": { "openAPIV3Schema": {
                    "type": "object", "x-kubernetes-preserve-unknown-fields": true,
                }},
            }],
        },
    }))
    .expect("a definition");
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    api.create(&PostParams::default(), &definition).await.expect("defined");
    let served: Api<CertificateRequest> = Api::all(client.clone());
    until("it is served", || async { served.list(&ListParams::default()).await.is_ok() }).await;
}

/// A token that the API server made itself, reviewed.
async fn token_review(client: &Client) {
    let api: Api<ServiceAccount> = Api::namespaced(client.clone(), "default");
    let metadata = ObjectMeta { name: Some("web".into()), ..ObjectMeta::default() };
    let account = ServiceAccount { metadata, ..ServiceAccount::default() };
    api.create(&PostParams::default(), &account).await.expect("created");
    let wanted = json!({ "spec": { "audiences": ["istio-ca"], "expirationSeconds": 600 } });
    let wanted = serde_json::from_value(wanted).expect("a request");
    let token = api.create_token_request("web", &PostParams::default(), &wanted).await.expect("a token");
    let token = token.status.expect("a status").token;
    let reviewer = ClusterReviewer::new("Kubernetes", client.clone());
    let verdict = |audience: &str| {
        let audiences = [audience.to_owned()];
        let (reviewer, token) = (&reviewer, &token);
        async move { reviewer.review(None, token, &audiences).await.expect("a verdict") }
    };
    let good = verdict("istio-ca").await;
    assert_eq!(good.user.expect("a user").username.as_deref(), Some("system:serviceaccount:default:web"));
    assert_ne!(verdict("other").await.authenticated, Some(true));
}
