//! A server over memory storage and a clock that stands still.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "a helper of tests fails as tests do")]

use std::sync::Arc;

use chancery_api::{FixedClock, Secret};
use chancery_secrets::error::Kind;
use chancery_secrets::{Answer, Core, CoreConfig, Error, Operation, Request};
use chancery_storage::{Barrier, Memory, Seal, ShareScheme};
use serde_json::Value;

/// A server with its clock and root token `root`.
pub struct Server {
    pub core: Arc<Core>,
    pub clock: Arc<FixedClock>,
    pub memory: Arc<Memory>,
    pub shares: Vec<Vec<u8>>,
}

impl Server {
    /// Initialised with one share, unsealed.
    pub async fn start() -> Self {
        Self::start_over(Arc::new(Memory::new())).await
    }

    /// As [`start`](Self::start), over an empty store.
    pub async fn start_over(memory: Arc<Memory>) -> Self {
        let mut server = Self::over(memory).await;
        let scheme = ShareScheme::new(1, 1).unwrap();
        let made = server.core.initialize(scheme, Some(Secret::new("root"))).await.unwrap();
        server.shares = made.shares.iter().map(|share| share.to_vec()).collect();
        server.unseal().await;
        server
    }

    /// A sealed server over a store.
    pub async fn over(memory: Arc<Memory>) -> Self {
        Self::with_seal(memory, None)
    }

    /// A sealed server over a store that an auto-unseal may open.
    pub fn with_seal(memory: Arc<Memory>, seal: Option<Arc<dyn Seal>>) -> Self {
        let clock = Arc::new(FixedClock::at("2026-06-01T12:00:00Z".parse().unwrap()));
        let barrier = Barrier::new(memory.clone(), seal);
        let core = Core::new(barrier, CoreConfig::default(), clock.clone());
        Self { core, clock, memory, shares: Vec::new() }
    }

    /// The same store after a restart, unsealed, without the faults that it had.
    pub async fn restarted(&self) -> Self {
        let mut again = Self::over(Arc::new(self.memory.reopened())).await;
        again.shares.clone_from(&self.shares);
        again.unseal().await;
        again
    }

    /// Gives the shares.
    pub async fn unseal(&self) {
        for share in &self.shares {
            self.core.unseal(share).await.unwrap();
        }
    }

    /// One request.
    pub async fn ask(
        &self,
        operation: Operation,
        path: &str,
        token: &str,
        body: Value,
    ) -> Result<Answer, Error> {
        let mut request = Request::new(operation, path);
        if !token.is_empty() {
            request = request.token(token);
        }
        if !body.is_null() {
            request = request.json(&body);
        }
        self.core.handle(request).await
    }

    /// A write as root that must succeed; its whole body.
    pub async fn write(&self, path: &str, body: Value) -> Value {
        self.json(self.ask(Operation::Update, path, "root", body).await)
    }

    /// A read as root that must succeed; its whole body.
    pub async fn read(&self, path: &str) -> Value {
        self.json(self.ask(Operation::Read, path, "root", Value::Null).await)
    }

    /// A list as root that must succeed; its whole body.
    pub async fn list(&self, path: &str) -> Value {
        self.json(self.ask(Operation::List, path, "root", Value::Null).await)
    }

    /// The body of an answer.
    pub fn json(&self, answer: Result<Answer, Error>) -> Value {
        let answer = answer.unwrap_or_else(|error| panic!("refused: {error:?}"));
        if !answer.has_body() {
            return Value::Null;
        }
        serde_json::from_slice(&answer.to_json().unwrap()).unwrap()
    }

    /// The kind and sentence of a refusal.
    pub async fn refusal(
        &self,
        operation: Operation,
        path: &str,
        token: &str,
        body: Value,
    ) -> (Kind, String) {
        match self.ask(operation, path, token, body).await {
            Ok(answer) => panic!("granted: {:?}", answer.to_json().map(String::from_utf8)),
            Err(error) => (error.kind, error.message()),
        }
    }
}
