//! What is left when a write fails, and what the store gets to see.

use super::*;
use crate::auth::approle::{role, store};

/// What an operator and a client see of a mount with the role `web` and the secret id `chosen`.
async fn seen(bed: &Bed) -> Vec<String> {
    let shown = |outcome: Result<Value, Error>| match outcome {
        Ok(value) => value.to_string(),
        Err(error) => format!("{error:?}"),
    };
    let lookup = bed.write("role/web/secret-id/lookup", json!({ "secret_id": "chosen" })).await;
    let mut listed = bed.list("role/web/secret-id", json!({})).await.map(|keys| keys.len());
    if matches!(&listed, Err(error) if error.kind == Kind::NotFound) {
        listed = Ok(0);
    }
    let properties = lookup.map(|response| {
        let data = data(&response);
        json!([data["secret_id_num_uses"], data["creation_time"]])
    });
    vec![
        shown(bed.read("role/web").await),
        shown(bed.read("role/web/role-id").await),
        shown(properties),
        format!("{listed:?}"),
    ]
}

#[tokio::test]
async fn every_write_either_happens_or_does_not_and_memory_agrees_with_the_store() {
    type Step = (Operation, &'static str, Value);
    let setup: Vec<Step> = vec![
        (Operation::Update, "role/web", json!({ "role_id": "one" })),
        (
            Operation::Update,
            "role/web/custom-secret-id",
            json!({ "secret_id": "chosen", "num_uses": 2, "ttl": "1h" }),
        ),
    ];
    let writes: Vec<(usize, Step)> = vec![
        (0, (Operation::Update, "role/web", json!({ "role_id": "one" }))),
        (1, (Operation::Update, "role/web", json!({ "token_ttl": "1h" }))),
        (1, (Operation::Update, "role/web/role-id", json!({ "role_id": "two" }))),
        (1, (Operation::Update, "role/web/token-ttl", json!({ "token_ttl": "1h" }))),
        (1, (Operation::Delete, "role/web", json!({}))),
        (1, (Operation::Update, "role/web/custom-secret-id", json!({ "secret_id": "chosen" }))),
        (2, (Operation::Update, "login", json!({ "role_id": "one", "secret_id": "chosen" }))),
        (2, (Operation::Update, "role/web/secret-id/destroy", json!({ "secret_id": "chosen" }))),
        (2, (Operation::Delete, "role/web", json!({}))),
    ];
    for (prepared, (operation, path, body)) in writes {
        for fault in [Fault::Fails, Fault::FailsAfterPersisting] {
            let (faulty, expected) = (Bed::new().await, Bed::new().await);
            for (operation, path, body) in setup.iter().take(prepared) {
                faulty.ask(*operation, path, body.clone()).await.unwrap();
                expected.ask(*operation, path, body.clone()).await.unwrap();
            }
            // Copies of everything are in memory before the write.
            assert_eq!(seen(&faulty).await, seen(&expected).await);
            if fault == Fault::FailsAfterPersisting {
                expected.ask(operation, path, body.clone()).await.unwrap();
            }
            faulty.next_commit(fault);
            let outcome = faulty.ask(operation, path, body.clone()).await;
            assert_eq!(outcome.unwrap_err().kind, Kind::Internal, "{path} {fault:?}");
            assert_eq!(seen(&faulty).await, seen(&expected).await, "{path} {fault:?}");
            assert_eq!(
                seen(&faulty.restarted().await).await,
                seen(&expected).await,
                "{path} {fault:?} after a restart"
            );
        }
    }
}

#[tokio::test]
async fn upkeep_that_fails_is_done_by_the_next_one() {
    for fault in [Fault::Fails, Fault::FailsAfterPersisting] {
        let mut bed = Bed::new().await;
        bed.role("web", json!({})).await;
        let empty = bed.memory.dump().len();
        bed.secret_id("web", json!({ "ttl": "1h" })).await;
        bed.pass(3600);
        bed.next_commit(fault);
        Arc::clone(&bed.engine).tick(bed.now).await.unwrap_err();
        Arc::clone(&bed.engine).tick(bed.now).await.unwrap();
        assert_eq!(bed.memory.dump().len(), empty);
    }
}

#[tokio::test]
async fn the_store_never_sees_a_secret_id_and_the_key_survives_a_failed_first_opening() {
    let memory = Memory::new();
    let barrier = Barrier::new(Arc::new(memory.clone()), None);
    let founding = barrier.found(ShareScheme::new(1, 1).unwrap(), epoch()).await.unwrap();
    let (unsealed, _) = founding.commit(Writes::new()).await.unwrap();
    let view = unsealed.view("mount").unwrap();
    let first = store::Store::open(view.clone()).await.unwrap();
    let second = store::Store::open(view).await.unwrap();
    let role: role::Role = serde_json::from_value(json!({
        "name": "web", "uuid": "u", "role_id": "r", "bind_secret_id": true, "secret_id_num_uses": 0,
        "secret_id_ttl": 0, "secret_id_bound_cidrs": null, "local_secret_ids": false, "token": {},
        "old_policies": false, "old_period": false,
    }))
    .unwrap();
    let text = "chosen".into();
    assert_eq!(first.hash(&role, &text).place(), second.hash(&role, &text).place());
    assert_ne!(first.hash(&role, &text).place(), first.hash(&role, &"other".into()).place());
    let elsewhere = role::Role { uuid: "v".into(), ..role.clone() };
    assert_ne!(first.hash(&role, &text).place(), first.hash(&elsewhere, &text).place());
}
