//! Admission webhooks.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use chancery_testkit::kubernetes::ApiServer;
use http_body_util::{BodyExt, Full};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::bed::{MAPS, ask, map, patch};

/// A webhook that answers the same to everything, and remembers what it was asked.
async fn webhook(response: Value) -> (SocketAddr, Arc<Mutex<Vec<Value>>>) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
    let address = listener.local_addr().expect("an address");
    let asked = Arc::new(Mutex::new(Vec::new()));
    let seen = Arc::clone(&asked);
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (seen, response) = (Arc::clone(&seen), response.clone());
            let service = service_fn(move |request: http::Request<hyper::body::Incoming>| {
                let (seen, mut response) = (Arc::clone(&seen), response.clone());
                async move {
                    let body = request.into_body().collect().await?.to_bytes();
                    let review: Value = serde_json::from_slice(&body).expect("JSON");
                    response["uid"] = review["request"]["uid"].clone();
                    seen.lock().expect("a lock").push(review["request"].clone());
                    let answer = json!({
                        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview", "response": response,
                    });
                    Ok::<_, hyper::Error>(http::Response::new(Full::new(Bytes::from(answer.to_string()))))
                }
            });
            tokio::spawn(
                hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service),
            );
        }
    });
    (address, asked)
}

fn configure(server: &ApiServer, which: &str, address: SocketAddr, more: &Value) {
    let mut webhook = json!({
        "name": "hook.example.com", "clientConfig": { "url": format!("http://{address}/hook") },
        "rules": [{
            "apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE", "UPDATE"], "resources": ["configmaps"],
        }],
        "admissionReviewVersions": ["v1"], "sideEffects": "None",
    });
    for (field, value) in more.as_object().into_iter().flatten() {
        webhook[field] = value.clone();
    }
    let object = json!({ "metadata": { "name": "hook" }, "webhooks": [webhook] });
    server.put(which, "", object);
}

const VALIDATING: &str = "validatingwebhookconfigurations";
const MUTATING: &str = "mutatingwebhookconfigurations";

#[tokio::test]
async fn a_denial_is_told_in_the_servers_words_and_nothing_is_written() {
    let server = ApiServer::start().await;
    server.user("a", "alice", &["dev"]);
    let (address, asked) =
        webhook(json!({ "allowed": false, "status": { "code": 403, "message": "no" } })).await;
    configure(&server, VALIDATING, address, &json!({}));
    let (code, _, message) = ask("POST", MAPS).bearer("a").body(map("m", "1")).refused(&server).await;
    assert_eq!(
        (code, message.as_str()),
        (403, "admission webhook \"hook.example.com\" denied the request: no")
    );
    assert!(server.get("configmaps", "default", "m").is_none());
    let asked = asked.lock().expect("a lock").clone();
    assert_eq!((&asked[0]["operation"], &asked[0]["name"]), (&json!("CREATE"), &json!("m")));
    assert_eq!(asked[0]["userInfo"]["username"], "alice");
    assert_eq!((&asked[0]["object"]["data"]["k"], &asked[0]["oldObject"]), (&json!("1"), &json!(null)));
}

#[tokio::test]
async fn what_a_webhook_patches_is_written() {
    let server = ApiServer::start().await;
    let operations = json!([{ "op": "add", "path": "/data/by", "value": "hook" }]).to_string();
    let encoded = data_encoding::BASE64.encode(operations.as_bytes());
    let response =
        json!({ "allowed": true, "patchType": "JSONPatch", "patch": encoded, "warnings": ["careful"] });
    let (address, asked) = webhook(response).await;
    configure(&server, MUTATING, address, &json!({}));
    let answer = ask("POST", MAPS).body(map("m", "1")).open(&server).await.expect("an answer");
    assert_eq!(answer.headers()["warning"], "299 - \"careful\"");
    assert_eq!(
        server.get("configmaps", "default", "m").expect("written")["data"],
        json!({ "k": "1", "by": "hook" })
    );
    patch(&format!("{MAPS}/m"), "merge-patch", json!({ "data": { "k": "2" } })).good(&server).await;
    let asked = asked.lock().expect("a lock").clone();
    assert_eq!(
        (&asked[1]["oldObject"]["data"]["k"], &asked[1]["object"]["data"]["k"]),
        (&json!("1"), &json!("2"))
    );
}

#[tokio::test]
async fn only_what_rules_and_selectors_name_is_shown() {
    let server = ApiServer::start().await;
    let (address, asked) = webhook(json!({ "allowed": false })).await;
    let selector = json!({ "matchExpressions": [{
        "key": "kubernetes.io/metadata.name", "operator": "NotIn", "values": ["default"],
    }]});
    configure(&server, VALIDATING, address, &json!({ "namespaceSelector": selector }));
    ask("POST", MAPS).body(map("m", "1")).good(&server).await;
    ask("POST", "/api/v1/namespaces/kube-system/secrets").body(map("m", "1")).good(&server).await;
    let refused =
        ask("POST", "/api/v1/namespaces/kube-system/configmaps").body(map("m", "1")).refused(&server).await;
    assert_eq!(refused.2, "admission webhook \"hook.example.com\" denied the request without explanation");
    assert_eq!(asked.lock().expect("a lock").len(), 1);
    let all = json!({ "rules": [{ "apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*/*"] }] });
    configure(&server, VALIDATING, address, &all);
    assert_eq!(ask("DELETE", format!("{MAPS}/m")).refused(&server).await.0, 400);
}

#[tokio::test]
async fn a_webhook_that_cannot_be_asked_refuses_unless_it_is_to_be_ignored() {
    let server = ApiServer::start().await;
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
    configure(&server, VALIDATING, nowhere, &json!({}));
    let (code, _, message) = ask("POST", MAPS).body(map("m", "1")).refused(&server).await;
    assert_eq!(code, 500);
    assert!(message.contains("failed calling webhook \"hook.example.com\""), "{message}");
    configure(&server, VALIDATING, nowhere, &json!({ "failurePolicy": "Ignore" }));
    ask("POST", MAPS).body(map("m", "1")).good(&server).await;
}
