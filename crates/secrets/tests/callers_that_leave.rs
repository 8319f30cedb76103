//! Callers that go away while their request is under way.

#![allow(clippy::unwrap_used, reason = "a helper of tests fails as tests do")]

mod common;

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use chancery_api::{FixedClock, Secret};
use chancery_secrets::error::Kind;
use chancery_secrets::{Core, CoreConfig, Operation, Request};
use chancery_storage::{Backend, Barrier, Batch, Key, Memory, ShareScheme, StorageError};
use common::Server;
use serde_json::{Value, json};
use tokio::sync::Semaphore;

/// A store whose commits are durable and then do not return before the gate opens.
#[derive(Debug)]
struct Slow {
    memory: Arc<Memory>,
    gate: Arc<Semaphore>,
}

#[async_trait]
impl Backend for Slow {
    async fn get(&self, key: &Key) -> Result<Option<Vec<u8>>, StorageError> {
        self.memory.get(key).await
    }

    async fn keys(&self, prefix: &[u8], after: Option<&Key>, limit: usize) -> Result<Vec<Key>, StorageError> {
        self.memory.keys(prefix, after, limit).await
    }

    async fn scan(
        &self,
        prefix: &[u8],
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<(Key, Vec<u8>)>, StorageError> {
        self.memory.scan(prefix, after, limit).await
    }

    async fn commit(&self, batch: Batch) -> Result<(), StorageError> {
        self.memory.commit(batch).await?;
        let _open = self.gate.acquire().await.unwrap();
        Ok(())
    }
}

const OPEN: usize = 1_000;

/// An unsealed server over such a store, and its gate, which is open.
async fn server() -> (Server, Arc<Semaphore>) {
    let gate = Arc::new(Semaphore::new(OPEN));
    let memory = Arc::new(Memory::new());
    let store = Arc::new(Slow { memory: Arc::clone(&memory), gate: Arc::clone(&gate) });
    let clock = Arc::new(FixedClock::at("2026-06-01T12:00:00Z".parse().unwrap()));
    let core = Core::new(Barrier::new(store, None), CoreConfig::default(), clock.clone());
    let made = core.initialize(ShareScheme::new(1, 1).unwrap(), Some(Secret::new("root"))).await.unwrap();
    let server =
        Server { core, clock, memory, shares: made.shares.iter().map(|share| share.to_vec()).collect() };
    server.unseal().await;
    (server, gate)
}

/// Asks, goes away while the commit has not returned, and waits until all is over.
async fn ask_and_leave(server: &Server, gate: &Semaphore, request: Request) {
    gate.forget_permits(OPEN);
    let asked = server.core.handle(request);
    assert!(tokio::time::timeout(Duration::from_millis(50), asked).await.is_err(), "the gate must hold it");
    gate.add_permits(OPEN);
    server.core.settled().await;
}

#[tokio::test]
async fn a_token_is_revoked_although_its_holder_did_not_wait_for_it() {
    let (server, gate) = server().await;
    let made = server.write("auth/token/create", json!({ "policies": ["default"] })).await;
    let token = made["auth"]["client_token"].as_str().unwrap();
    let body = Value::Null;
    server.ask(Operation::Read, "auth/token/lookup-self", token, body.clone()).await.unwrap();
    let request = Request::new(Operation::Update, "auth/token/revoke-self").token(token);
    ask_and_leave(&server, &gate, request).await;
    let refused = server.refusal(Operation::Read, "auth/token/lookup-self", token, body).await;
    assert_eq!(refused.0, Kind::PermissionDenied);
    let errors = server.core.upkeep().await;
    assert!(errors.is_empty(), "{errors:?}");
}

#[tokio::test]
async fn a_policy_is_in_force_although_its_author_did_not_wait_for_it() {
    let (server, gate) = server().await;
    let policy = |path: &str| json!({ "policy": format!("path \"{path}\" {{ capabilities = [\"read\"] }}") });
    server.write("sys/policies/acl/p", policy("sys/mounts")).await;
    let made = server.write("auth/token/create", json!({ "policies": ["p"] })).await;
    let token = made["auth"]["client_token"].as_str().unwrap();
    server.ask(Operation::Read, "sys/mounts", token, Value::Null).await.unwrap();
    let request =
        Request::new(Operation::Update, "sys/policies/acl/p").token("root").json(&policy("sys/auth"));
    ask_and_leave(&server, &gate, request).await;
    let refused = server.refusal(Operation::Read, "sys/mounts", token, Value::Null).await;
    assert_eq!(refused.0, Kind::PermissionDenied);
    server.ask(Operation::Read, "sys/auth", token, Value::Null).await.unwrap();
}
