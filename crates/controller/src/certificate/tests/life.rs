//! What a Certificate goes through in good times.

use std::time::Duration;

use chancery_issuance::{Certificate as X509, PrivateKey, Signer as _};
use data_encoding::BASE64;
use serde_json::{Value, json};

use super::world::{Mood, NAMESPACE, World, of};
use crate::Next;

fn bytes(secret: &Value, key: &str) -> String {
    let text = secret["data"][key].as_str().unwrap_or_default();
    String::from_utf8(BASE64.decode(text.as_bytes()).expect("base64")).expect("text")
}

#[tokio::test]
async fn a_new_certificate_is_issued_into_its_secret_and_nothing_is_left_behind() {
    let world = World::new().await;
    world.apply("istiod", &json!({}));
    let next = world.settle("istiod").await;
    assert_eq!(next, Next::After(Duration::from_secs(1801)));
    assert_eq!(world.names("secrets"), ["istiod-tls"]);
    assert_eq!(world.names("certificaterequests"), ["istiod-1"]);

    let secret = world.secret("istiod-tls").expect("the Secret");
    assert_eq!(secret["type"], "kubernetes.io/tls");
    assert_eq!(secret["metadata"]["labels"], json!({ "controller.cert-manager.io/fao": "true" }));
    assert_eq!(
        secret["metadata"]["annotations"],
        json!({
            "cert-manager.io/alt-names": "istiod.istio-system.svc",
            "cert-manager.io/certificate-name": "istiod",
            "cert-manager.io/common-name": "istiod.istio-system.svc",
            "cert-manager.io/ip-sans": "",
            "cert-manager.io/issuer-group": "cert-manager.io",
            "cert-manager.io/issuer-kind": "Issuer",
            "cert-manager.io/issuer-name": "vault-issuer",
            "cert-manager.io/uri-sans": "spiffe://cluster.local/ns/istio-system/sa/istiod-service-account",
        })
    );
    let data = secret["data"].as_object().expect("data");
    assert_eq!(data.keys().collect::<Vec<_>>(), ["ca.crt", "tls.crt", "tls.key"]);
    assert!(bytes(&secret, "tls.key").starts_with("-----BEGIN EC PRIVATE KEY-----"));
    let key = PrivateKey::from_pem(&bytes(&secret, "tls.key")).expect("a key");
    let leaf = X509::from_pem(&bytes(&secret, "tls.crt")).expect("a leaf");
    assert_eq!(
        leaf.public_key().map(|key| key.spki_der().to_vec()),
        Some(key.public_key().spki_der().to_vec())
    );

    let mut status = world.status("istiod");
    let conditions = status["conditions"].take();
    assert_eq!(
        status,
        json!({
            "conditions": null, "revision": 1, "notBefore": "2026-11-24T00:20:00Z",
            "notAfter": "2026-11-24T01:20:30Z", "renewalTime": "2026-11-24T00:50:30Z",
        })
    );
    assert_eq!(
        conditions,
        json!([{
            "type": "Ready", "status": "True", "reason": "Ready", "observedGeneration": 1,
            "message": "Certificate is up to date and has not expired", "lastTransitionTime": "2026-11-24T00:20:30Z",
        }])
    );

    let request = world.server.get("certificaterequests", NAMESPACE, "istiod-1").expect("the request");
    let annotations = &request["metadata"]["annotations"];
    let key_secret = annotations["cert-manager.io/private-key-secret-name"].as_str().expect("a name");
    assert_eq!(annotations["cert-manager.io/certificate-revision"], "1");
    assert_eq!(annotations["cert-manager.io/certificate-name"], "istiod");
    let owner = &request["metadata"]["ownerReferences"][0];
    assert_eq!((&owner["controller"], &owner["blockOwnerDeletion"]), (&json!(true), &json!(true)));
    assert_eq!((&owner["kind"], &owner["name"]), (&json!("Certificate"), &json!("istiod")));
    assert_eq!(request["spec"]["duration"], "1h0m0s");
    assert!(request["spec"].get("usages").is_none() && request["spec"].get("isCA").is_none());
    assert_eq!(
        world.events(4).await,
        [
            "trigger Normal Issuing: Issuing certificate as Secret does not exist".to_owned(),
            format!(
                "key-manager Normal Generated: Stored new private key in temporary Secret resource \"{key_secret}\""
            ),
            "request-manager Normal Requested: Created new CertificateRequest resource \"istiod-1\""
                .to_owned(),
            "issuing Normal Issuing: The certificate has been successfully issued".to_owned(),
        ]
    );
}

#[tokio::test]
async fn a_certificate_that_is_as_it_should_be_costs_no_request_at_all() {
    let world = World::new().await;
    world.apply(
        "istiod",
        &json!({ "secretTemplate": { "labels": { "a": "b" }, "annotations": { "c": "d" } } }),
    );
    world.settle("istiod").await;
    world.events(4).await;
    let before = world.server.requests().len();
    assert!(matches!(world.reconcile("istiod").await, Ok(Next::After(_))));
    assert_eq!(world.server.requests().len(), before);
}

#[tokio::test]
async fn an_issuance_that_waits_for_its_issuer_costs_no_request_at_all() {
    let mut world = World::new().await;
    world.mood = Mood::Sleeps;
    world.apply("istiod", &json!({}));
    world.settle("istiod").await;
    assert_eq!(world.condition("istiod", "Issuing")["status"], "True");
    world.events(3).await;
    let before = world.server.requests().len();
    assert_eq!(world.reconcile("istiod").await.expect("done"), Next::Done);
    assert_eq!(world.server.requests().len(), before);
}

#[tokio::test]
async fn a_key_that_a_lagging_watch_still_shows_is_neither_deleted_again_nor_a_reason_to_read() {
    let mut world = World::new().await;
    world.mood = Mood::Sleeps;
    world.apply("istiod", &json!({}));
    world.settle("istiod").await;
    let key = of(world.status("istiod")["nextPrivateKeySecretName"].as_str().expect("a key"));
    let shown = world.context.cache.secrets.get(&key).expect("known");
    world.mood = Mood::Signs(Duration::from_secs(3600));
    world.sign();
    world.settle("istiod").await;
    assert_eq!(world.server.count("delete", "secrets"), 1);
    world.events(4).await;
    world.context.cache.secrets.apply(key, crate::cache::SecretFacts::clone(&shown));
    let before = world.server.requests().len();
    let Ok(Next::After(pause)) = world.reconcile("istiod").await else { panic!("nobody would look again") };
    assert!(pause <= Duration::from_secs(300), "{pause:?}");
    assert_eq!(world.server.requests().len(), before);
}

#[tokio::test]
async fn secret_deleted_names_changed_and_renewed_by_hand_each_make_a_revision() {
    let world = World::new().await;
    world.apply("istiod", &json!({}));
    world.settle("istiod").await;

    world.server.remove("secrets", NAMESPACE, "istiod-tls");
    world.settle("istiod").await;
    assert_eq!(world.status("istiod")["revision"], 2);
    assert_eq!(world.names("certificaterequests"), ["istiod-2"]);

    world.apply("istiod", &json!({ "dnsNames": ["istiod.istio-system.svc", "more.istio-system.svc"] }));
    world.settle("istiod").await;
    assert_eq!(world.status("istiod")["revision"], 3);
    let events = world.events(9).await;
    let changed = "trigger Normal Issuing: Fields on existing CertificateRequest resource not up to date: [spec.dnsNames]";
    assert!(events.iter().any(|event| event == changed), "{events:?}");

    let key = bytes(&world.secret("istiod-tls").expect("the Secret"), "tls.key");
    let mut status = world.status("istiod");
    status["conditions"].as_array_mut().expect("conditions").push(json!({
        "type": "Issuing", "status": "True", "reason": "ManuallyTriggered",
        "message": "Certificate re-issuance manually triggered", "observedGeneration": 2,
        "lastTransitionTime": "2026-11-24T00:20:30Z",
    }));
    assert!(world.server.set_status("certificates", NAMESPACE, "istiod", status));
    world.settle("istiod").await;
    assert_eq!(world.status("istiod")["revision"], 4);
    assert_eq!(world.condition("istiod", "Issuing"), Value::Null);
    assert_ne!(bytes(&world.secret("istiod-tls").expect("the Secret"), "tls.key"), key);
    assert_eq!(world.names("certificaterequests"), ["istiod-4"]);
    assert_eq!(world.names("secrets"), ["istiod-tls"]);
}

#[tokio::test]
async fn a_certificate_is_renewed_when_its_time_comes_and_is_ready_meanwhile() {
    let mut world = World::new().await;
    world.apply("istiod", &json!({}));
    world.settle("istiod").await;
    world.clock.advance(Duration::from_secs(1799));
    world.settle("istiod").await;
    assert_eq!(world.status("istiod")["revision"], 1);
    world.clock.advance(Duration::from_secs(1));
    world.mood = Mood::Sleeps;
    world.settle("istiod").await;
    let issuing = world.condition("istiod", "Issuing");
    assert_eq!(issuing["reason"], "Renewing");
    assert_eq!(
        issuing["message"],
        "Renewing certificate as renewal was scheduled at 2026-11-24 00:50:30 +0000 UTC"
    );
    assert_eq!(world.condition("istiod", "Ready")["status"], "True");
    world.mood = Mood::Signs(Duration::from_secs(3600));
    world.server.remove("certificaterequests", NAMESPACE, "istiod-2");
    let next = world.settle("istiod").await;
    assert_eq!(next, Next::After(Duration::from_secs(1801)));
    assert_eq!(world.status("istiod")["revision"], 2);
    assert_eq!(world.status("istiod")["renewalTime"], "2026-11-24T01:20:30Z");
}

#[tokio::test]
async fn a_certificate_that_nobody_renews_is_told_to_have_expired() {
    let mut world = World::new().await;
    world.apply("istiod", &json!({}));
    world.settle("istiod").await;
    world.mood = Mood::Sleeps;
    world.clock.advance(Duration::from_secs(3601));
    world.settle("istiod").await;
    let ready = world.condition("istiod", "Ready");
    assert_eq!((&ready["status"], &ready["reason"]), (&json!("False"), &json!("Expired")));
    assert_eq!(ready["message"], "Certificate expired on Tue, 24 Nov 2026 01:20:30 UTC");
}

#[tokio::test]
async fn a_secret_that_was_damaged_is_issued_anew_under_its_own_type() {
    let world = World::new().await;
    world.apply("istiod", &json!({}));
    world.settle("istiod").await;
    let mut secret = world.secret("istiod-tls").expect("the Secret");
    secret["data"]["tls.crt"] = BASE64.encode(b"nothing").into();
    world.server.put("secrets", NAMESPACE, secret);
    world.settle("istiod").await;
    assert_eq!(world.status("istiod")["revision"], 2);
    let events = world.events(6).await;
    let damaged = "trigger Normal Issuing: Issuing certificate as Secret contains an invalid certificate: error decoding \
                   certificate PEM block: no valid certificates found";
    assert!(events.iter().any(|event| event == damaged), "{events:?}");
}

#[tokio::test]
async fn labels_annotations_and_forms_follow_the_certificate_without_an_issuance() {
    let world = World::new().await;
    let template =
        |labels: Value| json!({ "secretTemplate": { "labels": labels, "annotations": { "x": "y" } } });
    world.apply("istiod", &template(json!({ "one": "1", "two": "2" })));
    world.settle("istiod").await;
    let metadata = |world: &World| world.secret("istiod-tls").expect("the Secret")["metadata"].clone();
    assert_eq!(metadata(&world)["labels"]["two"], "2");
    let mut changed = template(json!({ "one": "3" }));
    changed["additionalOutputFormats"] = json!([{ "type": "DER" }, { "type": "CombinedPEM" }]);
    world.apply("istiod", &changed);
    world.settle("istiod").await;
    let labels = metadata(&world)["labels"].clone();
    assert_eq!(labels, json!({ "one": "3", "controller.cert-manager.io/fao": "true" }));
    assert_eq!(metadata(&world)["annotations"]["x"], "y");
    let secret = world.secret("istiod-tls").expect("the Secret");
    let combined = format!("{}\n{}", bytes(&secret, "tls.key"), bytes(&secret, "tls.crt"));
    assert_eq!(bytes(&secret, "tls-combined.pem"), combined);
    assert!(secret["data"]["key.der"].is_string());
    world.apply("istiod", &json!({}));
    world.settle("istiod").await;
    let secret = world.secret("istiod-tls").expect("the Secret");
    assert!(secret["data"].get("key.der").is_none() && secret["metadata"]["annotations"].get("x").is_none());
    assert_eq!(world.status("istiod")["revision"], 1);
}

#[tokio::test]
async fn the_key_is_kept_where_it_must_not_rotate() {
    let world = World::new().await;
    let never = |size: u32| json!({ "privateKey": { "rotationPolicy": "Never", "algorithm": "ECDSA", "size": size } });
    world.apply("istiod", &never(256));
    world.settle("istiod").await;
    let key = bytes(&world.secret("istiod-tls").expect("the Secret"), "tls.key");
    let mut changed = never(256);
    changed["dnsNames"] = json!(["other.istio-system.svc"]);
    world.apply("istiod", &changed);
    world.settle("istiod").await;
    assert_eq!(world.status("istiod")["revision"], 2);
    assert_eq!(bytes(&world.secret("istiod-tls").expect("the Secret"), "tls.key"), key);
    let events = world.events(7).await;
    let reused =
        "key-manager Normal Reused: Reusing private key stored in existing Secret resource \"istiod-tls\"";
    assert!(events.iter().any(|event| event == reused), "{events:?}");
    world.apply("istiod", &never(384));
    world.sync();
    world.reconcile("istiod").await.expect("done");
    let events = world.events(9).await;
    assert!(
        events.iter().any(|event| event.starts_with("key-manager Warning CannotRegenerateKey: ")),
        "{events:?}"
    );
    assert_eq!(world.status("istiod")["revision"], 2);
}

#[tokio::test]
async fn a_life_that_the_issuer_cut_below_renew_before_is_told_and_makes_no_loop() {
    let mut world = World::new().await;
    world.mood = Mood::Signs(Duration::from_secs(1770));
    world.apply("istiod", &json!({ "renewBefore": "29m59s" }));
    world.settle("istiod").await;
    assert_eq!(world.status("istiod")["revision"], 1);
    assert_eq!(world.status("istiod")["renewalTime"], "2026-11-24T00:40:00Z");
    let events = world.events(5).await;
    assert!(
        events.iter().any(|event| event.starts_with("issuing Warning LifetimeCut: ")
            && event.contains("spec.renewBefore of 29m59s cannot be kept to")),
        "{events:?}"
    );
}

#[tokio::test]
async fn a_secret_is_owned_by_its_certificate_only_where_that_is_chosen() {
    let settings = crate::Settings { owner_references: true, ..crate::Settings::default() };
    let world = World::with(settings).await;
    world.apply("istiod", &json!({}));
    world.settle("istiod").await;
    let secret = world.secret("istiod-tls").expect("the Secret");
    assert_eq!(secret["metadata"]["ownerReferences"][0]["name"], "istiod");
    world.events(4).await;
    let before = world.server.requests().len();
    world.reconcile("istiod").await.expect("done");
    assert_eq!(world.server.requests().len(), before);
}
