//! Killed anywhere, refused anywhere, overtaken anywhere: the end is the same.

use std::time::Duration;

use chancery_testkit::kubernetes::Fault;
use serde_json::{Value, json};

use super::world::{Mood, NAMESPACE, World};
use crate::settings::Settings;

/// What must not depend on the way.
fn end(world: &World) -> Value {
    let status = world.status("istiod");
    json!({
        "secrets": world.names("secrets"),
        "requests": world.names("certificaterequests"),
        "revision": status["revision"],
        "next": status.get("nextPrivateKeySecretName"),
        "attempts": status.get("failedIssuanceAttempts"),
        "ready": world.condition("istiod", "Ready")["reason"],
        "issuing": world.condition("istiod", "Issuing")["reason"],
    })
}

/// Kills the controller after each of its requests in turn, as often as it takes to come to the end in one go.
async fn survives(begin: impl AsyncFn(&mut World), expected: Value) {
    for requests in 1..60 {
        let mut world = World::new().await;
        world.silence_events();
        begin(&mut world).await;
        let mut is_over = true;
        // The issuer goes on while the controller begins again and again.
        for _ in 0..2 {
            world.sync();
            is_over &= world.killed_after("istiod", requests).await;
            world.sign();
        }
        world.settle("istiod").await;
        assert_eq!(end(&world), expected, "killed after {requests}");
        if is_over {
            assert!(requests > 5, "there was hardly anything to interrupt: {requests}");
            return;
        }
    }
    panic!("it never came to its end");
}

#[tokio::test]
async fn a_first_issuance_survives_a_death_after_each_request() {
    let begin = async |world: &mut World| world.apply("istiod", &json!({}));
    let expected = json!({
        "secrets": ["istiod-tls"], "requests": ["istiod-1"], "revision": 1, "next": null, "attempts": null,
        "ready": "Ready", "issuing": null,
    });
    survives(begin, expected).await;
}

#[tokio::test]
async fn a_renewal_survives_a_death_after_each_request() {
    let begin = async |world: &mut World| {
        world.apply("istiod", &json!({}));
        world.settle("istiod").await;
        world.clock.advance(Duration::from_secs(1800));
    };
    let expected = json!({
        "secrets": ["istiod-tls"], "requests": ["istiod-2"], "revision": 2, "next": null, "attempts": null,
        "ready": "Ready", "issuing": null,
    });
    survives(begin, expected).await;
}

#[tokio::test]
async fn a_failure_is_counted_once_however_often_the_controller_dies() {
    let begin = async |world: &mut World| {
        world.mood = Mood::Refuses;
        world.apply("istiod", &json!({}));
    };
    let expected = json!({
        "secrets": [], "requests": ["istiod-1"], "revision": null, "next": null, "attempts": 1,
        "ready": "DoesNotExist", "issuing": "Failed",
    });
    survives(begin, expected).await;
}

#[tokio::test]
async fn refusals_lost_answers_and_other_writers_change_nothing_in_the_end() {
    for (verb, resource) in [
        ("get", "certificates"),
        ("update", "certificates/status"),
        ("create", "secrets"),
        ("patch", "secrets"),
        ("delete", "secrets"),
        ("create", "certificaterequests"),
        ("get", "certificaterequests"),
    ] {
        for fault in [Fault::Code(500), Fault::Code(429), Fault::Drop, Fault::LoseAnswer, Fault::Race] {
            let world = World::new().await;
            world.apply("istiod", &json!({}));
            world.server.inject(verb, resource, fault.clone(), 2);
            world.settle("istiod").await;
            world.server.heal();
            world.settle("istiod").await;
            let context = format!("{verb} {resource} {fault:?}");
            assert_eq!(world.status("istiod")["revision"], 1, "{context}");
            assert_eq!(world.names("secrets"), ["istiod-tls"], "{context}");
            assert_eq!(world.names("certificaterequests"), ["istiod-1"], "{context}");
        }
    }
}

#[tokio::test]
async fn a_cache_that_lags_behind_makes_no_second_request_and_no_second_secret() {
    let mut world = World::new().await;
    world.silence_events();
    world.apply("istiod", &json!({}));
    world.sync();
    // It never learns what it wrote.
    for _ in 0..4 {
        world.reconcile("istiod").await.expect("done");
        world.sign();
    }
    assert_eq!(world.status("istiod")["revision"], 1);
    assert_eq!(world.names("certificaterequests"), ["istiod-1"]);
    assert_eq!(world.names("secrets"), ["istiod-tls"]);
    assert_eq!(world.server.count("create", "certificaterequests"), 1);
    let keys = world.server.count("create", "secrets");
    assert_eq!(keys, 1);
    let gone = world.server.get("secrets", NAMESPACE, "istiod-tls");
    assert!(gone.is_some());
}

#[tokio::test]
async fn the_status_never_names_a_key_that_somebody_else_could_still_put_there() {
    for requests in 1..60 {
        let mut world = World::new().await;
        world.silence_events();
        world.mood = Mood::Sleeps;
        world.apply("istiod", &json!({}));
        world.sync();
        let is_over = world.killed_after("istiod", requests).await;
        if let Some(named) = world.status("istiod")["nextPrivateKeySecretName"].as_str() {
            assert!(world.names("secrets").contains(&named.to_owned()), "killed after {requests}");
        }
        if is_over {
            return;
        }
    }
    panic!("it never came to its end");
}

#[tokio::test]
async fn a_key_that_was_planted_is_neither_used_nor_kept() {
    let mut world = World::new().await;
    world.silence_events();
    world.mood = Mood::Sleeps;
    world.apply("istiod", &json!({}));
    let uid = world.server.get("certificates", NAMESPACE, "istiod").expect("it")["metadata"]["uid"].clone();
    // Somebody asks for an issuance, and has a key ready.
    world.server.set_status(
        "certificates",
        NAMESPACE,
        "istiod",
        json!({ "conditions": [{ "type": "Issuing", "status": "True", "reason": "ManuallyTriggered", "message": "" }] }),
    );
    world.server.put(
        "secrets",
        NAMESPACE,
        json!({
            "metadata": {
                "name": "istiod-mine", "labels": { "cert-manager.io/next-private-key": "true" },
                "ownerReferences": [{ "apiVersion": "cert-manager.io/v1", "kind": "Certificate", "name": "istiod",
                    "uid": uid, "controller": true }],
            },
            "data": { "tls.key": "" },
        }),
    );
    world.settle("istiod").await;
    assert_ne!(world.status("istiod")["nextPrivateKeySecretName"], "istiod-mine");
    world.mood = Mood::Signs(Duration::from_secs(3600));
    world.settle("istiod").await;
    assert_eq!(world.names("secrets"), ["istiod-tls"]);
}

#[tokio::test]
async fn a_template_that_makes_the_secret_look_like_a_key_does_not_have_it_deleted_for_ever() {
    let settings = Settings { owner_references: true, ..Settings::default() };
    let mut world = World::with(settings).await;
    world.silence_events();
    let template = json!({ "labels": { "cert-manager.io/next-private-key": "true" } });
    world.apply("istiod", &json!({ "secretTemplate": template }));
    world.settle("istiod").await;
    assert_eq!(world.names("secrets"), ["istiod-tls"]);
    assert_eq!(world.status("istiod")["revision"], 1);
}
