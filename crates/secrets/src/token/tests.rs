//! The token store and the `auth/token/` mount over the memory backend, without the pipeline.

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

#[tokio::test]
async fn a_token_is_found_by_text_and_accessor_until_it_ends() {
    let store = store().await;
    let created = store.create(new(), start()).await.unwrap();
    assert!(created.text.expose().starts_with("s.") && created.text.expose().len() == 30);
    for _ in 0..2 {
        let found = store.lookup(&created.text, after(3599)).await.unwrap().unwrap();
        assert_eq!(found.key, created.entry.key);
        let found = store.by_accessor(&created.accessor, after(3599)).await.unwrap().unwrap();
        assert_eq!(found.key, created.entry.key);
        // The second round reads the record again.
        store.cache.clear();
    }
    assert!(store.lookup(&created.text, after(3600)).await.unwrap().is_none());
    assert!(
        store.lookup(&Secret::new(format!("{}x", created.text.expose())), start()).await.unwrap().is_none()
    );
    assert!(store.lookup(&Secret::new(created.accessor.as_str()), start()).await.unwrap().is_none());
}

#[tokio::test]
async fn a_login_costs_one_commit_of_two_records() {
    let commits = Arc::new(AtomicUsize::new(0));
    let changes = Arc::new(AtomicUsize::new(0));
    let (seen, sum) = (Arc::clone(&commits), Arc::clone(&changes));
    let memory = Memory::new().with_faults(move |batch: &Batch| {
        seen.fetch_add(1, Ordering::Relaxed);
        sum.fetch_add(batch.changes().len(), Ordering::Relaxed);
        Fault::None
    });
    let root = root_view(&memory).await;
    let store = TokenStore::open(root.clone()).await.unwrap();
    let before = (commits.load(Ordering::Relaxed), changes.load(Ordering::Relaxed));
    let mount = mount(&root);
    let login = Login {
        policies: vec!["web".to_owned()],
        renewable: true,
        alias: Some("role-1".to_owned()),
        ..Login::default()
    };
    let created = store.login(login, &mount, "auth/approle/", "auth/approle/login", start()).await.unwrap();
    assert_eq!(commits.load(Ordering::Relaxed) - before.0, 1);
    assert_eq!(changes.load(Ordering::Relaxed) - before.1, 2);
    assert_eq!(created.entry.policies, ["default", "web"]);
    assert_eq!(created.entry.display_name, "approle");
    assert_eq!(created.auth().lease_duration, 768 * 3600);
    assert_eq!(created.entry.entity_id, store.entity_id(&mount.accessor, "role-1"));
    assert!(created.auth().orphan);
}

#[tokio::test]
async fn auth_methods_cannot_make_root_tokens() {
    let root = root_view(&Memory::new()).await;
    let store = TokenStore::open(root.clone()).await.unwrap();
    for policy in ["root", "response-wrapping"] {
        let login = Login { policies: vec![policy.to_owned()], ..Login::default() };
        assert!(store.login(login, &mount(&root), "auth/a/", "auth/a/login", start()).await.is_err());
    }
}

#[tokio::test]
async fn tokens_survive_a_restart_and_a_chosen_text_is_taken_once() {
    let root = root_view(&Memory::new()).await;
    let store = TokenStore::open(root.clone()).await.unwrap();
    let chosen = NewToken {
        text: Some(Secret::new("root")),
        policies: vec!["root".to_owned()],
        ttl: Ttl::ZERO,
        ..new()
    };
    store.create(chosen.clone(), start()).await.unwrap();
    let again = store.create(chosen, start()).await.unwrap_err();
    assert_eq!(again.message(), "cannot create a token with a duplicate ID");
    let store = TokenStore::open(root).await.unwrap();
    let found = store.lookup(&Secret::new("root"), after(1_000_000)).await.unwrap().unwrap();
    assert!(found.is_root() && found.expires.is_none() && found.key.born == 0);
}

#[tokio::test]
async fn the_founding_token_opens_with_the_founding_keys() {
    let root = root_view(&Memory::new()).await;
    for chosen in [None, Some(Secret::new("dev"))] {
        let root = if chosen.is_some() { root_view(&Memory::new()).await } else { root.clone() };
        let mut first = Writes::new();
        let text = TokenStore::found(&root, &mut first, chosen, start()).unwrap();
        root.commit(first).await.unwrap();
        let store = TokenStore::open(root).await.unwrap();
        assert!(store.lookup(&text, start()).await.unwrap().unwrap().is_root());
    }
}

#[tokio::test]
async fn uses_are_counted_exactly_even_side_by_side() {
    let store = Arc::new(store().await);
    let created = store.create(NewToken { num_uses: 5, ..new() }, start()).await.unwrap();
    let tasks: Vec<_> = (0..20)
        .map(|_| {
            let (store, entry) = (Arc::clone(&store), Arc::clone(&created.entry));
            tokio::spawn(async move { store.spend(&entry, start()).await.unwrap() })
        })
        .collect();
    let mut outcomes = Vec::new();
    for task in tasks {
        outcomes.push(task.await.unwrap());
    }
    let of = |spend| outcomes.iter().filter(|outcome| **outcome == spend).count();
    assert_eq!((of(Spend::Spent), of(Spend::Last), of(Spend::None)), (4, 1, 15));
    assert!(store.lookup(&created.text, start()).await.unwrap().is_none());
    assert_eq!(store.record(created.entry.key).await.unwrap().unwrap().state, TokenState::Spent);
}

#[tokio::test]
async fn a_token_without_uses_left_is_removed_although_nobody_came_back() {
    let store = store().await;
    let endless = NewToken { num_uses: 1, ttl: Ttl::ZERO, policies: vec!["root".to_owned()], ..new() };
    let created = store.create(endless, start()).await.unwrap();
    assert_eq!(store.spend(&created.entry, start()).await.unwrap(), Spend::Last);
    attend(&store, after(10)).await;
    assert_eq!(count(&store.root, TOKENS).await, 1);
    attend(&store, after(3600)).await;
    assert_eq!((count(&store.root, TOKENS).await, count(&store.root, EXPIRIES).await), (0, 0));
}

#[tokio::test]
async fn a_renewal_moves_the_end_and_its_marker() {
    let store = store().await;
    let created = store.create(new(), start()).await.unwrap();
    let renewed = store.renew(created.entry.key, Ttl::hours(2), after(1800)).await.unwrap().unwrap();
    assert_eq!((renewed.granted, renewed.renewed), (Ttl::hours(2), Some(after(1800))));
    assert!(store.lookup(&created.text, after(1800 + 7199)).await.unwrap().is_some());
    attend(&store, after(3601)).await;
    assert!(store.lookup(&created.text, after(3601)).await.unwrap().is_some());
    attend(&store, after(1800 + 7200)).await;
    assert_eq!((count(&store.root, TOKENS).await, count(&store.root, EXPIRIES).await), (0, 0));
    assert!(store.renew(created.entry.key, Ttl::hours(2), after(9001)).await.unwrap().is_none());
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

#[tokio::test]
async fn revocation_takes_the_whole_tree_and_leaves_nothing_behind() {
    let store = store().await;
    let (parent, below) = family(&store, 3).await;
    let other = store.create(new(), start()).await.unwrap();
    assert!(store.revoke_tree(parent.entry.key, after(1)).await.unwrap());
    for token in below.iter().chain([&parent]) {
        assert!(store.lookup(&token.text, after(1)).await.unwrap().is_none());
    }
    assert!(store.lookup(&other.text, after(1)).await.unwrap().is_some());
    let left = (
        count(&store.root, TOKENS).await,
        count(&store.root, EXPIRIES).await,
        count(&store.root, OWNED).await,
    );
    assert_eq!(left, (1, 1, 0));
    assert!(!store.revoke_tree(parent.entry.key, after(1)).await.unwrap());
}

#[tokio::test]
async fn a_wide_tree_is_taken_page_by_page() {
    let store = store().await;
    let parent = store.create(new(), start()).await.unwrap();
    for _ in 0..700 {
        store.create(NewToken { parent: Some(parent.entry.key), ..new() }, start()).await.unwrap();
    }
    store.revoke_tree(parent.entry.key, after(1)).await.unwrap();
    assert_eq!((count(&store.root, TOKENS).await, count(&store.root, OWNED).await), (0, 0));
}

#[tokio::test]
async fn a_page_of_tokens_ends_with_two_commits() {
    let commits = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&commits);
    let memory = Memory::new().with_faults(move |_: &Batch| {
        seen.fetch_add(1, Ordering::Relaxed);
        Fault::None
    });
    let store = TokenStore::open(root_view(&memory).await).await.unwrap();
    for _ in 0..100 {
        store.create(new(), start()).await.unwrap();
    }
    let before = commits.load(Ordering::Relaxed);
    attend(&store, after(3600)).await;
    assert_eq!(commits.load(Ordering::Relaxed) - before, 2);
    assert_eq!(count_all(&store).await, (0, 0, 0));
}

#[tokio::test]
async fn descendants_end_with_an_expired_parent() {
    let store = store().await;
    let parent = store.create(NewToken { ttl: Ttl::seconds(60), ..new() }, start()).await.unwrap();
    let child = store.create(NewToken { parent: Some(parent.entry.key), ..new() }, start()).await.unwrap();
    assert!(store.lookup(&child.text, after(59)).await.unwrap().is_some());
    assert!(store.lookup(&child.text, after(60)).await.unwrap().is_none());
    attend(&store, after(60)).await;
    assert_eq!(count(&store.root, TOKENS).await, 0);
}

#[tokio::test]
async fn children_of_a_token_revoked_alone_live_on_as_orphans() {
    let store = store().await;
    let (parent, below) = family(&store, 2).await;
    assert!(store.revoke_orphan(parent.entry.key, after(1)).await.unwrap());
    assert!(store.lookup(&parent.text, after(1)).await.unwrap().is_none());
    for token in &below {
        assert!(store.lookup(&token.text, after(1)).await.unwrap().is_some());
    }
    assert!(below.iter().any(|token| token.entry.parent == Some(parent.entry.key)));
    let child = store.lookup(&below[1].text, after(1)).await.unwrap().unwrap();
    assert_eq!(child.parent, None);
}

#[tokio::test]
async fn no_child_is_born_to_a_token_that_is_going() {
    let store = Arc::new(store().await);
    let parent = store.create(new(), start()).await.unwrap();
    let key = parent.entry.key;
    let births: Vec<_> = (0..50)
        .map(|_| {
            let store = Arc::clone(&store);
            tokio::spawn(async move { store.create(NewToken { parent: Some(key), ..new() }, start()).await })
        })
        .collect();
    store.revoke_tree(key, start()).await.unwrap();
    for birth in births {
        if let Err(error) = birth.await.unwrap() {
            assert_eq!(error.message(), "parent token lookup failed: no parent found");
        }
    }
    assert_eq!((count(&store.root, TOKENS).await, count(&store.root, OWNED).await), (0, 0));
}

#[tokio::test]
async fn a_revocation_wins_over_a_reader_who_was_slower() {
    let store = store().await;
    let created = store.create(new(), start()).await.unwrap();
    store.cache.clear();
    let guard = store.cache.get_value_or_guard_async(&created.entry.key).await.unwrap_err();
    store.cache.remove(&created.entry.key);
    assert!(guard.insert(Arc::clone(&created.entry)).is_err());
    assert!(store.cache.get(&created.entry.key).is_none());
    let guard = store.cache.get_value_or_guard_async(&created.entry.key).await.unwrap_err();
    let newer = Arc::new(TokenEntry { num_uses: 7, ..(*created.entry).clone() });
    store.cache.insert(created.entry.key, newer);
    assert!(guard.insert(Arc::clone(&created.entry)).is_err());
    assert_eq!(store.cache.get(&created.entry.key).unwrap().num_uses, 7);
}

#[tokio::test]
async fn a_batch_token_carries_itself_and_ends_with_its_parent() {
    let store = store().await;
    let parent = store.create(new(), start()).await.unwrap();
    let batch = NewToken { kind: TokenKind::Batch, parent: Some(parent.entry.key), ..new() };
    let created = store.create(batch, start()).await.unwrap();
    assert!(created.text.expose().starts_with("b."));
    assert_eq!((created.accessor.as_str(), created.entry.renewable), ("", false));
    assert_eq!(count(&store.root, TOKENS).await, 1);
    let found = store.lookup(&created.text, after(3599)).await.unwrap().unwrap();
    assert_eq!(found.policies, ["default"]);
    store.revoke_tree(parent.entry.key, after(1)).await.unwrap();
    assert!(store.lookup(&created.text, after(1)).await.unwrap().is_none());
}

#[tokio::test]
async fn every_write_can_fail_with_and_without_having_happened() {
    // Counts the commits of the whole story first, then lets each of them fail in both ways.
    async fn story(store: &TokenStore) -> Result<(), Error> {
        let parent = store.create(NewToken { num_uses: 0, ..new() }, start()).await?;
        let child = store.create(NewToken { parent: Some(parent.entry.key), ..new() }, start()).await?;
        store.create(NewToken { parent: Some(child.entry.key), ..new() }, start()).await?;
        store.renew(child.entry.key, Ttl::hours(2), after(1)).await?;
        let limited = store.create(NewToken { num_uses: 1, ..new() }, start()).await?;
        store.spend(&limited.entry, after(1)).await?;
        store.revoke_tree(limited.entry.key, after(1)).await?;
        store.revoke_tree(parent.entry.key, after(2)).await?;
        Ok(())
    }
    let mut position = 0;
    loop {
        for fault in [Fault::Fails, Fault::FailsAfterPersisting] {
            // Counts down to the commit that fails; unarmed while the server is being set up.
            let left = Arc::new(AtomicUsize::new(usize::MAX));
            let countdown = Arc::clone(&left);
            let memory =
                Memory::new().with_faults(move |_: &Batch| match countdown.load(Ordering::Relaxed) {
                    usize::MAX => Fault::None,
                    0 => {
                        countdown.store(usize::MAX, Ordering::Relaxed);
                        fault
                    }
                    more => {
                        countdown.store(more - 1, Ordering::Relaxed);
                        Fault::None
                    }
                });
            let root = root_view(&memory).await;
            let store = TokenStore::open(root.clone()).await.unwrap();
            left.store(position, Ordering::Relaxed);
            let outcome = story(&store).await;
            if left.swap(usize::MAX, Ordering::Relaxed) != usize::MAX {
                assert!(outcome.is_ok() && position > 8, "{position} commits");
                return;
            }
            assert!(outcome.is_err(), "commit {position} failed and nobody noticed");
            // After a restart, upkeep finishes whatever was begun, and at the end nothing is left.
            let store = TokenStore::open(root).await.unwrap();
            attend(&store, after(3)).await;
            attend(&store, after(100_000)).await;
            let left = (
                count(&store.root, TOKENS).await,
                count(&store.root, EXPIRIES).await,
                count(&store.root, OWNED).await,
            );
            assert_eq!(left, (0, 0, 0), "after commit {position}");
        }
        position += 1;
    }
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

#[tokio::test]
async fn a_root_token_makes_tokens_in_the_peers_words() {
    let api = Api::open().await;
    for (body, refusal) in [
        (json!({"id": "s.abc"}), "custom token ID cannot have the 's.' prefix"),
        (json!({"id": "hvs.abc"}), "custom token ID cannot have the 'hvs.' prefix"),
        (json!({"id": "x.y"}), "custom token ID cannot have a '.' in the value"),
        (json!({"id": "root"}), "cannot create a token with a duplicate ID"),
        (json!({"type": "batch"}), "batch tokens cannot be root tokens"),
        (json!({"type": "batch", "num_uses": 2}), "batch tokens cannot have \"num_uses\" set"),
        (json!({"type": "batch", "period": "1h"}), "batch tokens cannot have \"period\" set"),
        (
            json!({"type": "batch", "explicit_max_ttl": "1h"}),
            "batch tokens cannot have \"explicit_max_ttl\" set",
        ),
        (json!({"type": "other"}), "invalid 'token_type' value"),
        (json!({"num_uses": -1}), "number of uses cannot be negative"),
        (json!({"ttl": "abc"}), "time: invalid duration \"abc\""),
        (json!({"ttl": "-1s"}), "ttl must be positive"),
        (json!({"period": "-1s"}), "period must be positive"),
        (json!({"explicit_max_ttl": "-1s"}), "explicit_max_ttl must be positive"),
        (json!({"policies": ["response-wrapping"]}), "cannot assign policy \"response-wrapping\""),
        (json!({"entity_alias": "foo"}), "'entity_alias' is only allowed in combination with token role"),
    ] {
        assert_eq!(api.create("root", true, "create", body.clone()).await.unwrap_err(), refusal, "{body}");
    }
}

#[tokio::test]
async fn lifetimes_are_granted_within_limits_with_the_peers_warnings() {
    let api = Api::open().await;
    let capped = |what: &str, asked: &str, limit: &str, value: &str| {
        vec![format!(
            "{what} of \"{asked}\" exceeded the effective max_ttl of \"{limit}\"; {value} value is capped accordingly"
        )]
    };
    let none = Vec::<String>::new;
    for (body, seconds, renewable, warnings) in [
        (json!({}), 0, false, none()),
        (json!({"ttl": "1h"}), 3600, true, none()),
        (json!({"policies": ["sub"]}), 2_764_800, true, none()),
        (json!({"policies": ["sub"], "period": "1h"}), 3600, true, none()),
        (json!({"period": "1h"}), 3600, true, none()),
        (
            json!({"policies": ["sub"], "ttl": "9000h"}),
            2_764_800,
            true,
            capped("TTL", "9000h", "768h", "TTL"),
        ),
        (
            json!({"policies": ["sub"], "explicit_max_ttl": "1h"}),
            3600,
            true,
            capped("TTL", "768h", "1h", "TTL"),
        ),
        (
            json!({"policies": ["sub"], "period": "9000h"}),
            2_764_800,
            true,
            capped("period", "9000h", "768h", "period"),
        ),
        (json!({"policies": ["sub"], "ttl": "1h", "period": "30m"}), 1800, true, none()),
        (
            json!({"policies": ["sub"], "ttl": "1h", "explicit_max_ttl": "30m", "period": "2h"}),
            1800,
            true,
            capped("period", "2h", "30m", "period"),
        ),
        (json!({"policies": ["sub"], "lease": "1h"}), 3600, true, none()),
        (json!({"policies": ["sub"], "lease": "1h", "ttl": "2h"}), 7200, true, none()),
        (json!({"policies": ["sub"], "renewable": false}), 2_764_800, false, none()),
        (json!({"policies": ["sub"], "ttl": 0}), 2_764_800, true, none()),
        (json!({"policies": ["foo"]}), 2_764_800, true, vec!["Policy \"foo\" does not exist".to_owned()]),
    ] {
        let (auth, given) = api.create("root", true, "create", body.clone()).await.unwrap();
        assert_eq!(
            (&auth["lease_duration"], &auth["renewable"]),
            (&json!(seconds), &json!(renewable)),
            "{body}"
        );
        assert_eq!(given, warnings, "{body}");
    }
}

#[tokio::test]
async fn policies_of_a_child_follow_the_parent_and_sudo() {
    let api = Api::open().await;
    let sub = api.text("root", "create", json!({"policies": ["sub"], "ttl": "5h"})).await;
    for (sudo, body, expected) in [
        (false, json!({}), Ok(json!(["default", "sub"]))),
        (false, json!({"policies": ["sub"]}), Ok(json!(["default", "sub"]))),
        (false, json!({"policies": ["sub"], "no_default_policy": true}), Ok(json!(["sub"]))),
        (false, json!({"no_default_policy": true}), Ok(json!(["sub"]))),
        (false, json!({"policies": ["other"]}), Err("child policies must be subset of parent")),
        (false, json!({"policies": ["root"]}), Err("child policies must be subset of parent")),
        (false, json!({"id": "foo"}), Err("root or sudo privileges required to specify token id")),
        (false, json!({"no_parent": true}), Err("root or sudo privileges required to create orphan token")),
        (false, json!({"period": "1h"}), Err("root or sudo privileges required to create periodic token")),
        (true, json!({"policies": ["other"]}), Ok(json!(["default", "other"]))),
        (true, json!({"policies": "a,b"}), Ok(json!(["a,b", "default"]))),
        (
            true,
            json!({"policies": ["root"]}),
            Err("root tokens may not be created without parent token being root"),
        ),
        (true, json!({"id": "foo"}), Ok(json!(["default", "sub"]))),
    ] {
        let outcome =
            api.create(&sub, sudo, "create", body.clone()).await.map(|(auth, _)| auth["policies"].clone());
        assert_eq!(outcome, expected.map_err(str::to_owned), "{body}");
    }
    let (auth, _) = api.create(&sub, false, "create-orphan", json!({})).await.unwrap();
    assert_eq!(auth["orphan"], true);
}

#[tokio::test]
async fn some_tokens_cannot_make_others() {
    let api = Api::open().await;
    let limited = api.text("root", "create", json!({"policies": ["sub"], "num_uses": 10})).await;
    let refusal = api.create(&limited, false, "create", json!({})).await.unwrap_err();
    assert_eq!(refusal, "restricted use token cannot generate child tokens");
    let batch = api.text("root", "create", json!({"policies": ["sub"], "type": "batch"})).await;
    let refusal = api.create(&batch, false, "create", json!({})).await.unwrap_err();
    assert_eq!(refusal, "batch tokens cannot create more tokens");
    let mortal = api.text("root", "create", json!({"policies": ["root"], "ttl": "1h"})).await;
    let refusal = api.create(&mortal, true, "create", json!({})).await.unwrap_err();
    assert_eq!(refusal, "expiring root tokens cannot create non-expiring root tokens");
    assert!(api.create(&mortal, true, "create", json!({"ttl": "2h"})).await.is_ok());
}

#[tokio::test]
async fn roles_decide_policies_lifetimes_and_parents() {
    let api = Api::open().await;
    assert_eq!(api.create("root", true, "create/c", json!({})).await.unwrap_err(), "unknown role c");
    let sub = api.text("root", "create", json!({"policies": ["sub"], "ttl": "5h"})).await;
    let subset = |asked: &str, allowed: &str, globs: &str| {
        format!(
            "token policies ({asked}) must be subset of the role's allowed policies ({allowed}) or glob policies ({globs})"
        )
    };
    for (role, who, body, expected) in [
        (json!({"allowed_policies": "sub,foo"}), "root", json!({}), Ok(json!(["default", "foo", "sub"]))),
        (
            json!({"allowed_policies": "sub,foo"}),
            "root",
            json!({"policies": ["other"]}),
            Err(subset(r#"["default" "other"]"#, r#"["default" "foo" "sub"]"#, "[]")),
        ),
        (
            json!({"allowed_policies": "sub"}),
            "root",
            json!({"policies": ["root"]}),
            Err(subset(r#"["root"]"#, r#"["default" "sub"]"#, "[]")),
        ),
        (json!({"allowed_policies_glob": "s*"}), "root", json!({}), Ok(json!(["default"]))),
        (
            json!({"allowed_policies_glob": "s*"}),
            "root",
            json!({"policies": ["sub"]}),
            Ok(json!(["default", "sub"])),
        ),
        (
            json!({"disallowed_policies_glob": "s*"}),
            "root",
            json!({"policies": ["sub", "x"]}),
            Err("token policy \"sub\" is disallowed by this role".to_owned()),
        ),
        (json!({"disallowed_policies": "default"}), "root", json!({"policies": ["x"]}), Ok(json!(["x"]))),
        (
            json!({"disallowed_policies": "default"}),
            &*sub,
            json!({}),
            Err("token policy \"default\" is disallowed by this role".to_owned()),
        ),
        (
            json!({"disallowed_policies": "x"}),
            &*sub,
            json!({"policies": ["other"]}),
            Ok(json!(["default", "other"])),
        ),
        (json!({"allowed_policies": "other"}), &*sub, json!({}), Ok(json!(["default", "other"]))),
        (
            json!({"allowed_policies": "root"}),
            &*sub,
            json!({"policies": ["root"]}),
            Err("root tokens may not be created without parent token being root".to_owned()),
        ),
        (
            json!({}),
            &*sub,
            json!({"policies": ["other"]}),
            Err("child policies must be subset of parent".to_owned()),
        ),
        (
            json!({"allowed_policies": "sub", "token_no_default_policy": true}),
            "root",
            json!({}),
            Ok(json!(["sub"])),
        ),
    ] {
        api.role(role.clone()).await;
        let outcome = api.create(who, who == "root", "create/c", body.clone()).await;
        assert_eq!(outcome.map(|(auth, _)| auth["policies"].clone()), expected, "{role} {body}");
    }

    api.role(
        json!({"orphan": true, "path_suffix": "zzz", "token_period": "1h", "token_explicit_max_ttl": "2h",
        "token_num_uses": 3, "token_bound_cidrs": "127.0.0.1/32", "renewable": false}),
    )
    .await;
    let body = json!({"policies": ["sub"], "ttl": "30m", "period": "10m", "explicit_max_ttl": "15m", "num_uses": 10});
    let (auth, warnings) = api.create("root", true, "create/c", body).await.unwrap();
    assert_eq!(
        (&auth["lease_duration"], &auth["num_uses"], &auth["orphan"], &auth["renewable"]),
        (&json!(600), &json!(3), &json!(true), &json!(false))
    );
    assert_eq!(
        warnings,
        [
            "Explicit max TTL specified both during creation call and in role; using the lesser value of 900 seconds",
            "Period specified both during creation call and in role; using the lesser value of 600 seconds",
        ]
    );
    let text = api.text("root", "create/c", json!({"policies": ["sub"]})).await;
    let shown = api.data("root", "lookup", json!({"token": text})).await;
    assert_eq!(
        (
            &shown["path"],
            &shown["role"],
            &shown["bound_cidrs"],
            &shown["explicit_max_ttl"],
            shown.get("period")
        ),
        (&json!("auth/token/create/c/zzz"), &json!("c"), &json!(["127.0.0.1"]), &json!(0), None)
    );
}

#[tokio::test]
async fn a_role_names_callers_by_alias() {
    let api = Api::open().await;
    api.role(json!({"allowed_entity_aliases": "al,b*"})).await;
    let refused =
        api.create("root", true, "create/c", json!({"policies": ["sub"], "entity_alias": "zz"})).await;
    assert_eq!(refused.unwrap_err(), "invalid 'entity_alias' value");
    for alias in ["AL", "bob"] {
        let body = json!({"policies": ["sub"], "entity_alias": alias});
        let (auth, _) = api.create("root", true, "create/c", body).await.unwrap();
        assert_eq!(auth["entity_id"].as_str().map(str::len), Some(36));
    }
}

#[tokio::test]
async fn roles_are_read_back_as_written() {
    let api = Api::open().await;
    api.role(json!({"allowed_policies": "Foo,bar", "period": "1h", "bound_cidrs": "10.0.0.0/8", "token_num_uses": 3})).await;
    let read = async || -> Value {
        let response = api.ask("root", true, Operation::Read, "roles/c", Value::Null).await.unwrap();
        serde_json::from_str(response.data.unwrap().get()).unwrap()
    };
    assert_eq!(
        read().await,
        json!({"allowed_entity_aliases": null, "allowed_policies": ["bar", "foo"], "allowed_policies_glob": [],
            "bound_cidrs": ["10.0.0.0/8"], "disallowed_policies": [], "disallowed_policies_glob": [],
            "explicit_max_ttl": 0, "name": "c", "orphan": false, "path_suffix": "", "period": 3600, "renewable": true,
            "token_bound_cidrs": ["10.0.0.0/8"], "token_explicit_max_ttl": 0, "token_no_default_policy": false,
            "token_num_uses": 3, "token_period": 3600, "token_type": "default-service"})
    );
    let change = json!({"period": "3h", "token_period": "2h"});
    let response = api.ask("root", true, Operation::Update, "roles/c", change).await.unwrap();
    assert_eq!(
        response.warnings,
        ["Both 'token_period' and deprecated 'period' value supplied, ignoring the deprecated value"]
    );
    let role = read().await;
    assert_eq!((&role["period"], &role["token_period"]), (&json!(0), &json!(7200)));
    for (body, refusal) in [
        (
            json!({"path_suffix": "a/"}),
            r"given role path suffix contains invalid characters; must match \w[\w-.]+\w",
        ),
        (
            json!({"path_suffix": "zz"}),
            r"given role path suffix contains invalid characters; must match \w[\w-.]+\w",
        ),
        (json!({"token_type": "x"}), "invalid 'token_type' value \"x\""),
        (
            json!({"token_type": "batch"}),
            "'token_type' cannot be 'batch' when role is set to generate non-orphan tokens",
        ),
        (json!({"token_num_uses": -1}), "error parsing role fields: 'token_num_uses' cannot be negative"),
    ] {
        let refused = api.ask("root", true, Operation::Update, "roles/c", body.clone()).await.unwrap_err();
        assert_eq!(refused.message(), refusal, "{body}");
    }
    assert!(api.ask("root", true, Operation::Read, "roles/none", Value::Null).await.is_err());
}

#[tokio::test]
async fn renewals_follow_the_role_as_it_is_now() {
    let api = Api::open().await;
    api.role(json!({"token_explicit_max_ttl": "1h"})).await;
    let text = api.text("root", "create/c", json!({"policies": ["sub"], "ttl": "10m"})).await;
    let renew = async |now: Timestamp| {
        let body = json!({"token": text, "increment": "5h"});
        api.at(now, "root", true, Operation::Update, "renew", body)
            .await
            .map(|response| (response.auth.unwrap().lease_duration, response.warnings.len()))
    };
    assert_eq!(renew(after(60)).await.unwrap(), (3540, 1));
    api.role(json!({"token_period": "20m"})).await;
    assert_eq!(renew(after(120)).await.unwrap(), (1200, 0));
    api.ask("root", true, Operation::Delete, "roles/c", json!({})).await.unwrap();
    assert_eq!(
        renew(after(180)).await.unwrap_err().message(),
        "1 error occurred:\n\t* failed to renew entry: original token role \"c\" could not be found, not renewing\n\n"
    );
}

#[tokio::test]
async fn what_cannot_be_renewed_or_found_says_so() {
    let api = Api::open().await;
    let fixed = api.text("root", "create", json!({"policies": ["sub"], "renewable": false})).await;
    let batch = api.text("root", "create", json!({"policies": ["sub"], "type": "batch"})).await;
    for (who, path, body, refusal) in [
        ("root", "renew-self", json!({}), "lease is not renewable"),
        (&*fixed, "renew-self", json!({}), "lease is not renewable"),
        (&*batch, "renew-self", json!({}), "batch tokens cannot be renewed"),
        (&*batch, "revoke-self", json!({}), "batch tokens cannot be revoked"),
        ("root", "renew", json!({}), "missing token ID"),
        ("root", "renew", json!({"token": "nope"}), "token not found"),
        ("root", "lookup", json!({"token": "nope"}), "bad token"),
        ("root", "revoke", json!({}), "missing token ID"),
        ("root", "revoke-orphan", json!({"token": "nope"}), "token to revoke not found"),
        (
            "root",
            "lookup-accessor",
            json!({"accessor": "nope"}),
            "1 error occurred:\n\t* invalid accessor\n\n",
        ),
        ("root", "lookup-accessor", json!({}), "1 error occurred:\n\t* missing accessor\n\n"),
        (
            "root",
            "renew-accessor",
            json!({"accessor": "nope"}),
            "1 error occurred:\n\t* invalid accessor\n\n",
        ),
    ] {
        let refused = api.ask(who, true, Operation::Update, path, body.clone()).await.unwrap_err();
        assert_eq!(refused.message(), refusal, "{path} {body}");
    }
    let gone = api.ask("root", true, Operation::Update, "revoke", json!({"token": "nope"})).await.unwrap();
    assert!(gone.warnings.is_empty() && gone.data.is_none());
    let gone = api
        .ask("root", true, Operation::Update, "revoke-accessor", json!({"accessor": "nope"}))
        .await
        .unwrap();
    assert_eq!(gone.warnings, ["No token found with this accessor"]);
    let refused = api.ask(&fixed, false, Operation::Update, "revoke-orphan", json!({"token": fixed})).await;
    assert_eq!(refused.unwrap_err().message(), "root or sudo privileges required to revoke and orphan");
}

#[tokio::test]
async fn a_look_up_shows_the_peers_fields() {
    let api = Api::open().await;
    let body = json!({"policies": ["sub"], "num_uses": 10, "meta": {"a": "b"}, "period": "30m", "explicit_max_ttl": "2h",
        "display_name": "x y"});
    let text = api.text("root", "create", body).await;
    let mut shown = api.data("root", "lookup", json!({"token": text})).await;
    let accessor = shown["accessor"].take();
    assert_eq!(
        shown,
        json!({"accessor": null, "creation_time": 1_795_487_619, "creation_ttl": 1800, "display_name": "token-x-y",
            "entity_id": "", "expire_time": "2026-11-24T03:03:39Z", "explicit_max_ttl": 7200, "id": text,
            "issue_time": "2026-11-24T02:33:39Z", "meta": {"a": "b"}, "num_uses": 10, "orphan": false,
            "path": "auth/token/create", "period": 1800, "policies": ["default", "sub"], "renewable": true,
            "ttl": 1800, "type": "service"})
    );
    let shown = api.data("root", "lookup-accessor", json!({"accessor": accessor})).await;
    assert_eq!((&shown["id"], &shown["accessor"]), (&json!(""), &accessor));
    let shown = api.data("root", "lookup-self", json!({})).await;
    assert_eq!(
        (&shown["id"], &shown["expire_time"], &shown["ttl"]),
        (&json!("root"), &Value::Null, &json!(0))
    );
}

#[tokio::test]
async fn accessors_are_listed_while_their_tokens_live() {
    let api = Api::open().await;
    let mut expected = vec![api.tokens.keys.accessor(api.tokens.keys.key("root"))];
    for _ in 0..3 {
        let (auth, _) = api.create("root", true, "create", json!({"ttl": "1h"})).await.unwrap();
        expected.push(auth["accessor"].as_str().unwrap().to_owned());
    }
    let list = async |now| -> Vec<String> {
        let response = api.at(now, "root", true, Operation::List, "accessors", Value::Null).await.unwrap();
        let listed: BTreeMap<String, Vec<String>> =
            serde_json::from_str(response.data.unwrap().get()).unwrap();
        listed["keys"].clone()
    };
    let mut listed = list(start()).await;
    listed.sort();
    expected.sort();
    assert_eq!(listed, expected);
    assert_eq!(list(start() + Duration::from_secs(3600)).await.len(), 1);
}

#[tokio::test]
async fn tidy_removes_what_belongs_to_nothing() {
    let api = Api::open().await;
    let store = &api.tokens;
    let (parent, _) = family(store, 1).await;
    // As no code of ours does it: the record alone.
    let place = store.root.scan(TOKENS, Position::Start, 10).await.unwrap();
    let (name, _) = place.iter().find(|(name, _)| name.text() == parent.entry.key.text()).unwrap();
    store.root.delete(TOKENS, name).await.unwrap();
    store.cache.clear();
    assert!(store.tidy(start()).await.unwrap() > 0);
    assert_eq!((count(&store.root, TOKENS).await, count(&store.root, OWNED).await), (1, 0));
}
