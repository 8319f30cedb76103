//! Callers that go away while their request is under way.

#![allow(clippy::unwrap_used, reason = "a helper of tests fails as tests do")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use chancery_api::Secret;
use chancery_secrets::error::Kind;
use chancery_secrets::{Operation, Request};
use chancery_storage::{Memory, ShareScheme};
use common::{Server, Slow};
use serde_json::{Value, json};

/// An unsealed server over a store with a gate, which is open.
async fn server() -> (Server, Arc<Slow>) {
    let memory = Memory::new();
    let store = Arc::new(Slow::over(memory.clone()));
    let mut server = Server::with_store(store.clone(), Arc::new(memory), None);
    let scheme = ShareScheme::new(1, 1).unwrap();
    let made = server.core.initialize(scheme, Some(Secret::new("root"))).await.unwrap();
    server.shares = made.shares.iter().map(|share| share.to_vec()).collect();
    server.unseal().await;
    (server, store)
}

/// Asks, goes away while the commit has not returned, and waits until all is over.
async fn ask_and_leave(server: &Server, store: &Slow, request: Request) {
    store.close_gate();
    let asked = server.core.handle(request);
    assert!(tokio::time::timeout(Duration::from_millis(50), asked).await.is_err(), "the gate must hold it");
    store.open_gate();
    server.core.settled().await;
}

#[tokio::test]
async fn a_token_is_revoked_although_its_holder_did_not_wait_for_it() {
    let (server, store) = server().await;
    let made = server.write("auth/token/create", json!({ "policies": ["default"] })).await;
    let token = made["auth"]["client_token"].as_str().unwrap();
    let body = Value::Null;
    server.ask(Operation::Read, "auth/token/lookup-self", token, body.clone()).await.unwrap();
    let request = Request::new(Operation::Update, "auth/token/revoke-self").token(token);
    ask_and_leave(&server, &store, request).await;
    let refused = server.refusal(Operation::Read, "auth/token/lookup-self", token, body).await;
    assert_eq!(refused.0, Kind::PermissionDenied);
    let errors = server.core.upkeep().await;
    assert!(errors.is_empty(), "{errors:?}");
}

#[tokio::test]
async fn a_policy_is_in_force_although_its_author_did_not_wait_for_it() {
    let (server, store) = server().await;
    let policy = |path: &str| json!({ "policy": format!("path \"{path}\" {{ capabilities = [\"read\"] }}") });
    server.write("sys/policies/acl/p", policy("sys/mounts")).await;
    let made = server.write("auth/token/create", json!({ "policies": ["p"] })).await;
    let token = made["auth"]["client_token"].as_str().unwrap();
    server.ask(Operation::Read, "sys/mounts", token, Value::Null).await.unwrap();
    let request =
        Request::new(Operation::Update, "sys/policies/acl/p").token("root").json(&policy("sys/auth"));
    ask_and_leave(&server, &store, request).await;
    let refused = server.refusal(Operation::Read, "sys/mounts", token, Value::Null).await;
    assert_eq!(refused.0, Kind::PermissionDenied);
    server.ask(Operation::Read, "sys/auth", token, Value::Null).await.unwrap();
}
