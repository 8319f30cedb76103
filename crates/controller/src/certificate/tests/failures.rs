//! What a Certificate goes through in bad times.

use std::time::Duration;

use serde_json::{Value, json};

use super::world::{Mood, NAMESPACE, World};
use crate::Next;

const PREFIX: &str = "The certificate request has failed to complete and will be retried: ";

fn failed(world: &World) -> (Value, Value, Value, Value) {
    let (status, issuing) = (world.status("istiod"), world.condition("istiod", "Issuing"));
    let part = |value: &Value, field: &str| value[field].clone();
    (
        part(&issuing, "status"),
        part(&issuing, "reason"),
        part(&issuing, "message"),
        part(&status, "failedIssuanceAttempts"),
    )
}

#[tokio::test]
async fn a_refusal_is_counted_and_tried_again_later_and_later() {
    let mut world = World::new().await;
    world.mood = Mood::Refuses;
    world.apply("istiod", &json!({}));
    let next = world.settle("istiod").await;
    assert_eq!(next, Next::After(Duration::from_secs(60)));
    let message = json!(format!("{PREFIX}no such name"));
    assert_eq!(failed(&world), (json!("False"), json!("Failed"), message.clone(), json!(1)));
    assert_eq!(world.status("istiod")["lastFailureTime"], "2026-11-24T00:20:30Z");
    assert_eq!(world.names("secrets"), Vec::<String>::new());
    assert!(world.status("istiod").get("nextPrivateKeySecretName").is_none());
    let events = world.events(4).await;
    assert_eq!(events[3], format!("issuing Warning Failed: {PREFIX}no such name"));

    let before = world.server.requests().len();
    assert_eq!(world.reconcile("istiod").await.expect("done"), Next::After(Duration::from_secs(60)));
    assert_eq!(world.server.requests().len(), before);

    world.clock.advance(Duration::from_secs(60));
    let next = world.settle("istiod").await;
    assert_eq!((next, failed(&world).3), (Next::After(Duration::from_secs(120)), json!(2)));
    world.mood = Mood::Signs(Duration::from_secs(3600));
    world.clock.advance(Duration::from_secs(120));
    world.settle("istiod").await;
    let status = world.status("istiod");
    assert_eq!(status["revision"], 1);
    assert!(status.get("failedIssuanceAttempts").is_none() && status.get("lastFailureTime").is_none());
}

#[tokio::test]
async fn after_a_refusal_a_changed_spec_is_tried_at_once() {
    let mut world = World::new().await;
    world.apply("istiod", &json!({}));
    world.settle("istiod").await;
    world.mood = Mood::Refuses;
    world.apply("istiod", &json!({ "dnsNames": ["foo.example.com"] }));
    world.settle("istiod").await;
    assert_eq!(failed(&world).3, json!(1));
    assert_eq!(world.status("istiod")["revision"], 1);
    world.mood = Mood::Signs(Duration::from_secs(3600));
    world.apply("istiod", &json!({ "dnsNames": ["istiod.istio-system.svc", "ok.istio-system.svc"] }));
    world.settle("istiod").await;
    assert_eq!(world.status("istiod")["revision"], 2);
    assert_eq!(world.condition("istiod", "Ready")["status"], "True");
    assert_eq!(world.condition("istiod", "Issuing"), Value::Null);
    assert_eq!(world.names("certificaterequests"), ["istiod-2"]);
}

#[tokio::test]
async fn a_refused_renewal_is_tried_often_enough_before_the_certificate_ends() {
    let mut world = World::new().await;
    world.apply("istiod", &json!({}));
    world.settle("istiod").await;
    world.mood = Mood::Refuses;
    world.clock.advance(Duration::from_secs(1800));
    let mut tries = 0;
    let mut left = 1800;
    while left > 60 {
        let Next::After(pause) = world.settle("istiod").await else { panic!("it gave up") };
        assert!(pause.as_secs() <= (left / 3).max(10), "{pause:?} of {left}");
        world.clock.advance(pause);
        left = left.saturating_sub(pause.as_secs());
        tries += 1;
    }
    assert!(tries >= 7, "{tries}");
    assert_eq!(world.condition("istiod", "Ready")["status"], "True");
}

#[tokio::test]
async fn a_wish_from_outside_is_honoured_also_while_it_backs_off() {
    let mut world = World::new().await;
    world.mood = Mood::Refuses;
    world.apply("istiod", &json!({}));
    world.settle("istiod").await;
    world.mood = Mood::Signs(Duration::from_secs(3600));
    let mut status = world.status("istiod");
    for one in status["conditions"].as_array_mut().expect("conditions") {
        if one["type"] == "Issuing" {
            one["status"] = "True".into();
            one["reason"] = "ManuallyTriggered".into();
            one["lastTransitionTime"] = "2026-11-24T00:20:30Z".into();
        }
    }
    assert!(world.server.set_status("certificates", NAMESPACE, "istiod", status));
    world.settle("istiod").await;
    assert_eq!(world.status("istiod")["revision"], 1);
}

#[tokio::test]
async fn a_denial_fails_with_the_reason_of_whoever_denied() {
    let mut world = World::new().await;
    world.mood = Mood::Denies;
    world.apply("istiod", &json!({}));
    world.settle("istiod").await;
    let message = json!(format!("{PREFIX}not today"));
    assert_eq!(failed(&world), (json!("False"), json!("Somebody"), message, json!(1)));
}

#[tokio::test]
async fn a_denial_by_a_clock_that_is_behind_is_not_taken_for_one_of_an_earlier_try() {
    let mut world = World::new().await;
    world.mood = Mood::Sleeps;
    world.apply("istiod", &json!({}));
    world.settle("istiod").await;
    let uid = |world: &World| {
        let request = world.server.get("certificaterequests", NAMESPACE, "istiod-1").expect("the request");
        request["metadata"]["uid"].clone()
    };
    let before = uid(&world);
    let status = json!({ "conditions": [{
        "type": "Denied", "status": "True", "reason": "Somebody", "message": "not today",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }] });
    assert!(world.server.set_status("certificaterequests", NAMESPACE, "istiod-1", status));
    world.settle("istiod").await;
    let message = json!(format!("{PREFIX}not today"));
    assert_eq!(failed(&world), (json!("False"), json!("Somebody"), message, json!(1)));
    assert_eq!(uid(&world), before, "who denied it looks for it in vain");
    // At the next try it is denied no more.
    world.mood = Mood::Signs(Duration::from_secs(3600));
    world.clock.advance(Duration::from_secs(60));
    world.settle("istiod").await;
    assert_eq!(world.status("istiod")["revision"], 1);
}

#[tokio::test]
async fn a_certificate_for_another_key_an_expired_one_and_none_at_all_are_not_stored() {
    let other = "Issuer returned a certificate with a public key that does not match the CSR. This usually indicates a \
                 misconfigured issuer.";
    let expired = "Issuer returned an already expired certificate (notAfter: 2026-11-24T00:20:40Z). This usually \
                   indicates an expired CA certificate in the issuer.";
    for (mood, expected) in
        [(Mood::WrongKey, other), (Mood::Signs(Duration::from_secs(10)), expired), (Mood::Garbage, "")]
    {
        let mut world = World::new().await;
        world.mood = Mood::Sleeps;
        world.apply("istiod", &json!({}));
        world.settle("istiod").await;
        world.mood = mood.clone();
        world.sign();
        world.clock.advance(Duration::from_secs(11));
        world.mood = Mood::Sleeps;
        world.settle("istiod").await;
        let (status, reason, message, attempts) = failed(&world);
        assert_eq!((status, reason), (json!("False"), json!("InvalidCertificate")), "{mood:?}");
        assert!(
            message.as_str().is_some_and(|message| message.starts_with(&format!("{PREFIX}{expected}"))),
            "{message}"
        );
        assert_eq!(attempts, json!(1));
        assert!(world.secret("istiod-tls").is_none());
    }
}

#[tokio::test]
async fn of_two_certificates_with_one_secret_only_the_older_writes_it() {
    let world = World::new().await;
    world.apply("a", &json!({ "secretName": "shared" }));
    world.apply("b", &json!({ "secretName": "shared", "dnsNames": ["b.istio-system.svc"] }));
    for _ in 0..3 {
        world.settle("a").await;
        assert_eq!(world.settle("b").await, Next::After(Duration::from_secs(180)));
    }
    assert_eq!(world.status("a")["revision"], 1);
    assert!(world.status("b").get("revision").is_none());
    assert_eq!(world.condition("a", "Ready")["status"], "True");
    let ready = world.condition("b", "Ready");
    assert_eq!(ready["reason"], "IncorrectCertificate");
    assert_eq!(
        ready["message"],
        "Secret was issued for \"a\". If this message is not transient, you might have two conflicting Certificates \
         pointing to the same secret."
    );
    assert_eq!(world.names("secrets"), ["shared"]);
    // When the owner goes, the other takes over.
    world.server.remove("certificates", NAMESPACE, "a");
    world.settle("b").await;
    assert_eq!(world.status("b")["revision"], 1);
}

#[tokio::test]
async fn what_cannot_be_made_is_refused_with_a_condition_and_without_a_request() {
    for (change, expected) in [
        (json!({ "literalSubject": "CN=a", "commonName": null }), "spec.literalSubject is not supported"),
        (json!({ "otherNames": [{ "oid": "1.2.3", "utf8Value": "a" }] }), "spec.otherNames is not supported"),
        (json!({ "nameConstraints": { "critical": true } }), "spec.nameConstraints is not supported"),
        (json!({ "keystores": { "jks": { "create": true } } }), "spec.keystores is not supported"),
        (json!({ "privateKey": { "size": 2049 } }), "spec.privateKey.size of 2049 is not supported"),
        (
            json!({ "signatureAlgorithm": "SHA256WithRSA" }),
            "spec.signatureAlgorithm SHA256WithRSA does not fit",
        ),
        (json!({ "commonName": null, "dnsNames": [], "uris": [] }), "at least one of commonName"),
    ] {
        let world = World::new().await;
        world.apply("istiod", &change);
        assert_eq!(world.settle("istiod").await, Next::Done, "{change}");
        let ready = world.condition("istiod", "Ready");
        assert_eq!((&ready["status"], &ready["reason"]), (&json!("False"), &json!("Unsupported")));
        let message = ready["message"].as_str().unwrap_or_default();
        assert!(message.starts_with(expected), "{message}");
        assert_eq!(world.condition("istiod", "Issuing")["message"], message);
        assert_eq!(world.names("certificaterequests").len() + world.names("secrets").len(), 0);
        world.events(1).await;
        let before = world.server.requests().len();
        world.reconcile("istiod").await.expect("done");
        assert_eq!(world.server.requests().len(), before, "{change}");
        world.apply("istiod", &json!({}));
        world.settle("istiod").await;
        assert_eq!(world.status("istiod")["revision"], 1, "{change}");
    }
}

#[tokio::test]
async fn names_that_a_csr_would_write_otherwise_are_refused_instead_of_issued_for_ever() {
    let world = World::new().await;
    world.apply("istiod", &json!({ "uris": ["spiffe://cluster.local/a b"] }));
    let next = world.settle("istiod").await;
    assert!(matches!(next, Next::After(_)), "{next:?}");
    assert_eq!(world.condition("istiod", "Issuing")["reason"], "RequestFailed");
    assert_eq!(world.names("certificaterequests").len(), 0);
    world.apply("istiod", &json!({}));
    world.settle("istiod").await;
    assert_eq!(world.status("istiod")["revision"], 1);
}

#[tokio::test]
async fn requests_and_secrets_of_others_in_the_way_are_left_alone() {
    let world = World::new().await;
    let request = json!({
        "metadata": { "name": "istiod-1" },
        "spec": { "request": "bm90aGluZw==", "issuerRef": { "name": "vault-issuer" } },
        "status": { "conditions": [{ "type": "Ready", "status": "False", "reason": "Pending" }] },
    });
    world.server.put("certificaterequests", NAMESPACE, request);
    world.apply("istiod", &json!({}));
    world.settle("istiod").await;
    let request = world.server.get("certificaterequests", NAMESPACE, "istiod-1").expect("still there");
    assert_eq!(request["spec"]["request"], "bm90aGluZw==");
    let events = world.events(3).await;
    assert!(
        events.iter().any(|event| event.starts_with("request-manager Warning RequestFailed: ")),
        "{events:?}"
    );
    world.server.remove("certificaterequests", NAMESPACE, "istiod-1");
    world.settle("istiod").await;
    assert_eq!(world.status("istiod")["revision"], 1);
}
