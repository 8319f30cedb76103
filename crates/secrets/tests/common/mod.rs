//! A server over memory storage and a clock that stands still.

#![allow(dead_code, unreachable_pub, reason = "each test file uses its part")]
#![allow(clippy::panic, clippy::unwrap_used, reason = "a helper of tests fails as tests do")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use async_trait::async_trait;
use chancery_api::{FixedClock, Secret};
use chancery_secrets::error::Kind;
use chancery_secrets::{Answer, Core, CoreConfig, Error, Operation, Request};
use chancery_storage::{Backend, Barrier, Batch, Key, Memory, Seal, ShareScheme, StorageError};
use serde_json::Value;
use tokio::sync::Semaphore;

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
        Self::with_store(memory.clone(), memory, seal)
    }

    /// As [`with_seal`](Self::with_seal), over a store in front of `memory`.
    pub fn with_store(store: Arc<dyn Backend>, memory: Arc<Memory>, seal: Option<Arc<dyn Seal>>) -> Self {
        let clock = Arc::new(FixedClock::at("2026-06-01T12:00:00Z".parse().unwrap()));
        let barrier = Barrier::new(store, seal);
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

/// A store that lets others go first, counts how often it was listed, lists nothing while it is broken, and
/// whose commits are durable before they return, which they do when the gate opens.
#[derive(Debug)]
pub struct Slow {
    memory: Memory,
    pub listed: AtomicUsize,
    pub broken: AtomicBool,
    gate: Semaphore,
}

impl Slow {
    /// As many commits as no test has at a time.
    const OPEN: usize = 1_000;

    /// With its gate open.
    pub fn over(memory: Memory) -> Self {
        let (listed, broken) = (AtomicUsize::new(0), AtomicBool::new(false));
        Self { memory, listed, broken, gate: Semaphore::new(Self::OPEN) }
    }

    /// From now on no commit returns.
    pub fn close_gate(&self) {
        self.gate.forget_permits(Self::OPEN);
    }

    /// They return again.
    pub fn open_gate(&self) {
        self.gate.add_permits(Self::OPEN);
    }

    async fn list(&self) -> Result<(), StorageError> {
        self.listed.fetch_add(1, Ordering::Relaxed);
        tokio::task::yield_now().await;
        if self.broken.load(Ordering::Relaxed) {
            let source = Arc::new(std::io::Error::other("broken"));
            return Err(StorageError::Unavailable { what: "list".to_owned(), source });
        }
        Ok(())
    }
}

#[async_trait]
impl Backend for Slow {
    async fn get(&self, key: &Key) -> Result<Option<Vec<u8>>, StorageError> {
        tokio::task::yield_now().await;
        self.memory.get(key).await
    }

    async fn keys(&self, prefix: &[u8], after: Option<&Key>, limit: usize) -> Result<Vec<Key>, StorageError> {
        self.list().await?;
        self.memory.keys(prefix, after, limit).await
    }

    async fn scan(
        &self,
        prefix: &[u8],
        after: Option<&Key>,
        limit: usize,
    ) -> Result<Vec<(Key, Vec<u8>)>, StorageError> {
        self.list().await?;
        self.memory.scan(prefix, after, limit).await
    }

    async fn commit(&self, batch: Batch) -> Result<(), StorageError> {
        tokio::task::yield_now().await;
        self.memory.commit(batch).await?;
        let _open = self.gate.acquire().await.unwrap();
        Ok(())
    }
}
