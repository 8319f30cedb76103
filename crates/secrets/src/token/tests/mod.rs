//! The token store and the `auth/token/` mount over the memory backend, without the pipeline.

mod creation;
mod life;
mod lookup;
mod roles;
mod trees;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use chancery_api::{Secret, Ttl};
use chancery_storage::memory::Fault;
use chancery_storage::{Barrier, Batch, Memory, Position, ShareScheme, View, Writes};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::store::{EXPIRIES, OWNED, TOKENS, millis};
use super::*;
use crate::engine::{AnyEngine, Call, Class, Mount, Mounted, SystemLimits, Tuning};
use crate::error::Error;
use crate::request::{Connection, Operation};
use crate::response::{Login, Response};

pub(crate) fn start() -> Timestamp {
    Timestamp::from_second(1_795_487_619).unwrap()
}

pub(crate) fn after(seconds: i64) -> Timestamp {
    start() + jiff::SignedDuration::from_secs(seconds)
}

pub(crate) async fn root_view(memory: &Memory) -> View {
    let barrier = Barrier::new(Arc::new(memory.clone()), None);
    let founding = barrier.found(ShareScheme::new(1, 1).unwrap(), UNIX_EPOCH).await.unwrap();
    let (unsealed, _) = founding.commit(Writes::new()).await.unwrap();
    unsealed.view("core").unwrap()
}

pub(crate) async fn store() -> TokenStore {
    TokenStore::open(root_view(&Memory::new()).await).await.unwrap()
}

fn new() -> NewToken {
    NewToken {
        policies: vec!["default".to_owned()],
        path: "auth/token/create".to_owned(),
        display_name: "token".to_owned(),
        ttl: Ttl::hours(1),
        renewable: true,
        ..NewToken::default()
    }
}

async fn count(view: &View, collection: &str) -> usize {
    view.scan(collection, Position::Start, usize::MAX).await.unwrap().len()
}

/// How many tokens, markers and places in the index there are.
pub(crate) async fn count_all(store: &TokenStore) -> (usize, usize, usize) {
    (count(&store.root, TOKENS).await, count(&store.root, EXPIRIES).await, count(&store.root, OWNED).await)
}

/// Attends to every marker that is due, as upkeep does.
async fn attend(store: &TokenStore, now: Timestamp) {
    loop {
        let markers = store.root.scan(EXPIRIES, Position::Start, 100).await.unwrap();
        let due: Vec<_> = markers.into_iter().filter(|(name, _)| name.order() <= millis(now)).collect();
        if due.is_empty() {
            return;
        }
        let due: Vec<_> = due
            .into_iter()
            .map(|(name, _)| (name.text().strip_prefix('t').and_then(TokenKey::parse).unwrap(), name.order()))
            .collect();
        assert!(store.attend(&due, now).await.is_empty());
    }
}

/// A parent, `width` children, and a grandchild below each.
async fn family(store: &TokenStore, width: usize) -> (Created, Vec<Created>) {
    let parent = store.create(new(), start()).await.unwrap();
    let mut below = Vec::new();
    for _ in 0..width {
        let child =
            store.create(NewToken { parent: Some(parent.entry.key), ..new() }, start()).await.unwrap();
        let grandchild = NewToken { parent: Some(child.entry.key), ttl: Ttl::ZERO, ..new() };
        below.push(store.create(grandchild, start()).await.unwrap());
        below.push(child);
    }
    (parent, below)
}

pub(crate) fn mount(root: &View) -> Mount {
    Mount::new(
        "uuid".to_owned(),
        "auth_token_1".to_owned(),
        Class::Auth,
        root.clone(),
        SystemLimits::default(),
        Tuning::default(),
    )
}

/// The mount with a store, asked as the pipeline would.
struct Api {
    engine: Mounted<TokenEngine>,
    tokens: Arc<TokenStore>,
}

impl Api {
    async fn open() -> Self {
        let root = root_view(&Memory::new()).await;
        let tokens = Arc::new(TokenStore::open(root.clone()).await.unwrap());
        let chosen = NewToken {
            text: Some(Secret::new("root")),
            policies: vec!["root".to_owned()],
            ttl: Ttl::ZERO,
            renewable: false,
            ..new()
        };
        tokens.create(chosen, start()).await.unwrap();
        let mount = Arc::new(mount(&root));
        let engine = Arc::new_cyclic(|engine: &std::sync::Weak<TokenEngine>| {
            let (engine, found) = (engine.clone(), Arc::clone(&mount));
            let outside = Outside {
                mount: Box::new(move |_| {
                    let engine: Arc<dyn AnyEngine> = Arc::new(Mounted(engine.upgrade()?));
                    Some((Arc::clone(&found), engine))
                }),
                has_policy: Box::new(|name| {
                    Box::pin(async move { Ok(matches!(name.as_str(), "default" | "sub" | "root")) })
                }),
            };
            TokenEngine::new(Arc::clone(&tokens), mount, outside)
        });
        Self { engine: Mounted(engine), tokens }
    }

    async fn ask(
        &self,
        who: &str,
        sudo: bool,
        operation: Operation,
        path: &str,
        body: Value,
    ) -> Result<Response, Error> {
        self.at(start(), who, sudo, operation, path, body).await
    }

    async fn at(
        &self,
        now: Timestamp,
        who: &str,
        sudo: bool,
        operation: Operation,
        path: &str,
        body: Value,
    ) -> Result<Response, Error> {
        let text = Secret::new(who);
        let token = self.tokens.lookup(&text, now).await.unwrap().expect("the caller must be known");
        let matched = self.engine.matching(path).expect("the path must have a route");
        let call = Call {
            request_id: "1".to_owned(),
            operation,
            path: path.to_owned(),
            captures: matched.captures.clone(),
            body: Bytes::from(body.to_string()),
            query: Vec::new(),
            connection: Connection::default(),
            mount_path: "auth/token/".to_owned(),
            authorized: Some(Authorized::new(token, text, sudo)),
            presented: None,
            now,
        };
        self.engine.dispatch(&matched, call).await
    }

    /// What `who` gets for a creation: the `auth` part and the warnings, or the refusal.
    async fn create(
        &self,
        who: &str,
        sudo: bool,
        path: &str,
        body: Value,
    ) -> Result<(Value, Vec<String>), String> {
        match self.ask(who, sudo, Operation::Update, path, body).await {
            Ok(response) => Ok((serde_json::to_value(response.auth.unwrap()).unwrap(), response.warnings)),
            Err(error) => Err(error.message()),
        }
    }

    async fn text(&self, who: &str, path: &str, body: Value) -> String {
        let (auth, _) = self.create(who, true, path, body).await.unwrap();
        auth["client_token"].as_str().unwrap().to_owned()
    }

    async fn role(&self, body: Value) {
        self.ask("root", true, Operation::Delete, "roles/c", json!({})).await.unwrap();
        self.ask("root", true, Operation::Update, "roles/c", body).await.unwrap();
    }

    async fn data(&self, who: &str, path: &str, body: Value) -> Value {
        let response = self.ask(who, true, Operation::Update, path, body).await.unwrap();
        serde_json::from_str(response.data.unwrap().get()).unwrap()
    }
}
