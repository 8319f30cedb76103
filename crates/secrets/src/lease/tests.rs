use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use chancery_storage::memory::Fault;
use chancery_storage::{Batch, Memory};

use super::*;
use crate::engine::{Call, RenewTerms};
use crate::response::Response;
use crate::route::{BoxFuture, Matched, RouteSchema};
use crate::token::NewToken;
use crate::token::tests::{after, count_all, mount, root_view, start};

/// An engine that remembers what it was told to take back, and fails while it is told to.
#[derive(Default)]
struct Taker {
    taken: Mutex<Vec<String>>,
    fails: AtomicBool,
}

impl Taker {
    fn taken(&self) -> Vec<String> {
        self.taken.lock().unwrap().clone()
    }
}

impl AnyEngine for Taker {
    fn matching(&self, _: &str) -> Option<Matched> {
        None
    }

    fn exists(&self, _: &Matched, _: Call) -> BoxFuture<Result<bool, Error>> {
        Box::pin(async { Ok(false) })
    }

    fn dispatch(&self, _: &Matched, _: Call) -> BoxFuture<Result<Response, Error>> {
        Box::pin(async { Ok(Response::empty()) })
    }

    fn counted(&self) -> Vec<&'static str> {
        Vec::new()
    }

    fn describe(&self) -> Vec<RouteSchema> {
        Vec::new()
    }

    fn tick(&self, _: Timestamp) -> BoxFuture<Result<(), Error>> {
        Box::pin(async { Ok(()) })
    }

    fn revoke(&self, internal: BTreeMap<String, String>, _: Timestamp) -> BoxFuture<Result<(), Error>> {
        if self.fails.load(Ordering::Relaxed) {
            return Box::pin(async { Err(Error::invalid("not now")) });
        }
        self.taken.lock().unwrap().push(internal.get("serial").cloned().unwrap_or_default());
        Box::pin(async { Ok(()) })
    }

    fn renew_lease(&self, _: BTreeMap<String, String>, _: Timestamp) -> BoxFuture<Result<LeaseTerms, Error>> {
        Box::pin(async { Ok(LeaseTerms { renewable: true, ..LeaseTerms::default() }) })
    }

    fn renew_token(&self, _: Arc<TokenEntry>, _: Timestamp) -> BoxFuture<Result<RenewTerms, Error>> {
        Box::pin(async { Ok(RenewTerms::default()) })
    }
}

struct Scene {
    leases: Leases,
    tokens: Arc<TokenStore>,
    mount: Arc<Mount>,
    engine: Arc<Taker>,
}

impl Scene {
    async fn over(memory: &Memory) -> Self {
        let root = root_view(memory).await;
        let tokens = Arc::new(TokenStore::open(root.clone()).await.unwrap());
        let leases = Leases::open(Arc::clone(&tokens));
        Self { leases, tokens, mount: Arc::new(mount(&root)), engine: Arc::new(Taker::default()) }
    }

    async fn open() -> Self {
        Self::over(&Memory::new()).await
    }

    fn find(&self) -> impl Fn(&str) -> Option<(Arc<Mount>, Arc<dyn AnyEngine>)> + Send + Sync {
        |path| {
            let engine: Arc<dyn AnyEngine> = Arc::<Taker>::clone(&self.engine);
            path.starts_with("pki/").then(|| (Arc::clone(&self.mount), engine))
        }
    }

    async fn token(&self, ttl: Ttl) -> Arc<TokenEntry> {
        let new = NewToken { ttl, path: "auth/approle/login".to_owned(), ..NewToken::default() };
        self.tokens.create(new, start()).await.unwrap().entry
    }

    async fn lease(&self, token: &TokenEntry, serial: &str) -> Result<Lease, Error> {
        let terms = LeaseTerms {
            ttl: Ttl::hours(1),
            max_ttl: Ttl::hours(3),
            renewable: true,
            internal: BTreeMap::from([("serial".to_owned(), serial.to_owned())]),
        };
        self.leases.register(terms, &self.mount, "pki/issue/web", token, start()).await
    }

    async fn expire(&self, now: Timestamp) -> usize {
        let (_, errors) = self.leases.expire_due(now, &self.find()).await.unwrap();
        errors.len()
    }

    async fn left(&self) -> (usize, (usize, usize, usize)) {
        let leases = self.tokens.root.scan(LEASES, Position::Start, usize::MAX).await.unwrap().len();
        (leases, count_all(&self.tokens).await)
    }
}

#[tokio::test]
async fn a_lease_is_shown_until_it_ends_and_then_taken_back() {
    let scene = Scene::open().await;
    let token = scene.token(Ttl::hours(5)).await;
    let lease = scene.lease(&token, "17").await.unwrap();
    assert!(lease.id.starts_with("pki/issue/web/") && lease.renewable && lease.ttl == Ttl::hours(1));
    let shown = scene.leases.lookup(&lease.id, after(600)).await.unwrap().unwrap();
    assert_eq!((shown.path.as_str(), shown.ttl), ("pki/issue/web", Ttl::seconds(3000)));
    assert_eq!(shown.expire_time, Some(after(3600)));
    let (_, name) = lease.id.rsplit_once('/').unwrap();
    assert_eq!(scene.leases.lookup(&format!("pki/issue/other/{name}"), start()).await.unwrap(), None);
    assert_eq!(scene.leases.lookup("nope", start()).await.unwrap(), None);
    scene.expire(after(3599)).await;
    assert!(scene.engine.taken().is_empty());
    scene.expire(after(3600)).await;
    assert_eq!(scene.engine.taken(), ["17"]);
    assert_eq!(scene.left().await, (0, (1, 1, 0)));
}

#[tokio::test]
async fn leases_go_when_their_token_goes() {
    let scene = Scene::open().await;
    let token = scene.token(Ttl::hours(5)).await;
    for serial in ["1", "2", "3"] {
        scene.lease(&token, serial).await.unwrap();
    }
    scene.tokens.revoke_tree(token.key, after(1)).await.unwrap();
    scene.expire(after(1)).await;
    let mut taken = scene.engine.taken();
    taken.sort();
    assert_eq!(taken, ["1", "2", "3"]);
    assert_eq!(scene.left().await, (0, (0, 0, 0)));
}

#[tokio::test]
async fn what_is_given_to_a_token_that_has_gone_is_taken_back() {
    let scene = Scene::open().await;
    let token = scene.token(Ttl::hours(5)).await;
    scene.tokens.revoke_tree(token.key, after(1)).await.unwrap();
    assert!(scene.lease(&token, "17").await.is_err());
    scene.expire(after(1)).await;
    assert_eq!(scene.engine.taken(), ["17"]);
}

#[tokio::test]
async fn what_a_batch_token_gets_ends_with_it() {
    let scene = Scene::open().await;
    let new = NewToken { kind: TokenKind::Batch, ttl: Ttl::seconds(600), ..NewToken::default() };
    let token = scene.tokens.create(new, start()).await.unwrap().entry;
    assert_eq!(scene.lease(&token, "1").await.unwrap().ttl, Ttl::seconds(600));
}

#[tokio::test]
async fn what_a_batch_token_gets_goes_with_its_parent() {
    let scene = Scene::open().await;
    let parent = scene.token(Ttl::hours(5)).await;
    let new = NewToken {
        kind: TokenKind::Batch,
        ttl: Ttl::hours(4),
        parent: Some(parent.key),
        ..NewToken::default()
    };
    let token = scene.tokens.create(new, start()).await.unwrap().entry;
    scene.lease(&token, "1").await.unwrap();
    scene.tokens.revoke_tree(parent.key, after(1)).await.unwrap();
    scene.expire(after(1)).await;
    assert_eq!(scene.engine.taken(), ["1"]);
    assert!(scene.lease(&token, "2").await.is_err(), "a request that was under way meanwhile");
    scene.expire(after(1)).await;
    assert_eq!(scene.engine.taken(), ["1", "2"]);
    assert_eq!(scene.left().await, (0, (0, 0, 0)));
}

#[tokio::test]
async fn a_token_is_revoked_by_its_whole_lease_id_alone() {
    let scene = Scene::open().await;
    let token = scene.token(Ttl::hours(5)).await;
    let id = scene.tokens.lease_id(&token);
    let (_, name) = id.rsplit_once('/').unwrap();
    for path in ["auth/approle", "pki/issue/web", ""] {
        for sync in [true, false] {
            let other = format!("{path}/{name}");
            scene.leases.revoke(&other, sync, after(1), &scene.find()).await.unwrap();
            assert!(scene.tokens.find(token.key, after(1)).await.unwrap().is_some(), "{other}");
        }
    }
    scene.leases.revoke(&id, false, after(1), &scene.find()).await.unwrap();
    assert!(scene.tokens.find(token.key, after(1)).await.unwrap().is_none());
    scene.leases.revoke(&id, true, after(1), &scene.find()).await.unwrap();
    assert_eq!(scene.left().await, (0, (0, 0, 0)), "one that is on its way out already");
}

#[tokio::test]
async fn an_engine_that_fails_is_asked_again_after_growing_pauses() {
    let scene = Scene::open().await;
    let token = scene.token(Ttl::hours(5)).await;
    let lease = scene.lease(&token, "17").await.unwrap();
    scene.engine.fails.store(true, Ordering::Relaxed);
    assert!(scene.leases.revoke(&lease.id, true, start(), &scene.find()).await.is_err());
    let shown = scene.leases.lookup(&lease.id, start()).await.unwrap().unwrap();
    assert_eq!((shown.revoke_error.as_str(), shown.renewable), ("not now", false));
    let irrevocable = scene.leases.irrevocable(|_| "pki/".to_owned()).await.unwrap();
    assert_eq!((irrevocable.lease_count, irrevocable.counts["pki/"]), (1, 1));
    assert_eq!(scene.expire(after(9)).await, 0);
    assert_eq!(scene.expire(after(10)).await, 1);
    assert_eq!(scene.expire(after(29)).await, 0);
    scene.engine.fails.store(false, Ordering::Relaxed);
    assert_eq!(scene.expire(after(30)).await, 0);
    assert_eq!(scene.engine.taken(), ["17"]);
    assert_eq!(scene.left().await, (0, (1, 1, 0)));
}

#[tokio::test]
async fn force_forgets_what_an_engine_will_not_take_back() {
    let scene = Scene::open().await;
    let token = scene.token(Ttl::hours(5)).await;
    scene.lease(&token, "17").await.unwrap();
    scene.engine.fails.store(true, Ordering::Relaxed);
    assert!(scene.leases.revoke_prefix("pki", true, start(), &scene.find()).await.is_err());
    scene.leases.revoke_force("pki", start(), &scene.find()).await.unwrap();
    assert_eq!(scene.left().await, (0, (1, 1, 0)));
}

#[tokio::test]
async fn prefixes_end_at_slashes_and_reach_tokens_too() {
    let scene = Scene::open().await;
    let token = scene.token(Ttl::hours(5)).await;
    let lease = scene.lease(&token, "17").await.unwrap();
    let (_, name) = lease.id.rsplit_once('/').unwrap();
    let token_name = scene.tokens.lease_id(&token);
    let token_name = token_name.strip_prefix("auth/approle/login/").unwrap();
    for (prefix, names) in [
        ("", vec!["auth/", "pki/"]),
        ("pki", vec!["issue/"]),
        ("pki/issue/", vec!["web/"]),
        ("pki/issue/web", vec![name]),
        ("pki/iss", vec![]),
        ("auth/approle/login", vec![token_name]),
    ] {
        assert_eq!(scene.leases.list(prefix).await.unwrap(), names, "{prefix}");
    }
    scene.leases.revoke_prefix("pk", true, start(), &scene.find()).await.unwrap();
    assert!(scene.engine.taken().is_empty());
    scene.leases.revoke_prefix("pki/issue", true, start(), &scene.find()).await.unwrap();
    assert_eq!(scene.engine.taken(), ["17"]);
    scene.leases.revoke_prefix("auth/approle", true, start(), &scene.find()).await.unwrap();
    assert_eq!(scene.left().await, (0, (0, 0, 0)));
}

#[tokio::test]
async fn revoking_later_is_durable_now() {
    let scene = Scene::open().await;
    let token = scene.token(Ttl::hours(5)).await;
    let lease = scene.lease(&token, "17").await.unwrap();
    scene.leases.revoke(&lease.id, false, after(1), &scene.find()).await.unwrap();
    let id = scene.tokens.lease_id(&token);
    assert!(scene.leases.lookup(&id, after(1)).await.unwrap().is_some());
    scene.leases.revoke(&id, false, after(1), &scene.find()).await.unwrap();
    assert!(scene.leases.lookup(&id, after(1)).await.unwrap().is_none());
    assert!(scene.engine.taken().is_empty());
    let restarted = Leases::open(Arc::new(TokenStore::open(scene.tokens.root.clone()).await.unwrap()));
    restarted.expire_due(after(1), &scene.find()).await.unwrap();
    assert_eq!(scene.engine.taken(), ["17"]);
    assert_eq!(scene.left().await, (0, (0, 0, 0)));
    restarted.revoke("nope", true, after(1), &scene.find()).await.unwrap();
}

#[tokio::test]
async fn a_prefix_is_revoked_later_with_few_commits_and_durably() {
    let commits = Arc::new(AtomicUsize::new(0));
    let seen = Arc::clone(&commits);
    let memory = Memory::new().with_faults(move |_: &Batch| {
        seen.fetch_add(1, Ordering::Relaxed);
        Fault::None
    });
    let scene = Scene::over(&memory).await;
    let holder = scene.token(Ttl::hours(5)).await;
    let mut ids = Vec::new();
    for serial in 0..20 {
        ids.push(scene.lease(&holder, &serial.to_string()).await.unwrap().id);
        scene.token(Ttl::hours(5)).await;
    }
    let before = commits.load(Ordering::Relaxed);
    for prefix in ["pki", "auth/approle"] {
        scene.leases.revoke_prefix(prefix, false, after(1), &scene.find()).await.unwrap();
    }
    assert_eq!(commits.load(Ordering::Relaxed) - before, 2, "one for the leases, one for the tokens");
    assert!(scene.engine.taken().is_empty(), "nobody waited for the engine");
    assert!(scene.tokens.find(holder.key, after(1)).await.unwrap().is_none(), "refused at once");
    let renewed = scene.leases.renew(&ids[0], Ttl::hours(1), after(1), &scene.find()).await;
    assert_eq!(renewed.unwrap_err().message(), "lease is not renewable");

    let restarted = Leases::open(Arc::new(TokenStore::open(scene.tokens.root.clone()).await.unwrap()));
    restarted.expire_due(after(1), &scene.find()).await.unwrap();
    assert_eq!(scene.engine.taken().len(), 20);
    assert_eq!(scene.left().await, (0, (0, 0, 0)));
}

#[tokio::test]
async fn a_lease_is_irrevocable_until_it_is_taken_back_or_forgotten() {
    let scene = Scene::open().await;
    let token = scene.token(Ttl::hours(5)).await;
    let first = scene.lease(&token, "1").await.unwrap();
    let second = scene.lease(&token, "2").await.unwrap();
    scene.lease(&token, "3").await.unwrap();
    let irrevocable = async || {
        let found = scene.leases.irrevocable(|_| "pki/".to_owned()).await.unwrap();
        found.leases.into_iter().map(|(id, _)| id).collect::<BTreeSet<_>>()
    };
    assert_eq!(irrevocable().await, BTreeSet::new());
    scene.engine.fails.store(true, Ordering::Relaxed);
    for id in [&first.id, &second.id] {
        assert!(scene.leases.revoke(id, true, after(1), &scene.find()).await.is_err());
    }
    assert_eq!(irrevocable().await, BTreeSet::from([first.id.clone(), second.id.clone()]));
    scene.engine.fails.store(false, Ordering::Relaxed);
    scene.leases.revoke(&first.id, true, after(2), &scene.find()).await.unwrap();
    assert_eq!(irrevocable().await, BTreeSet::from([second.id.clone()]));
    scene.engine.fails.store(true, Ordering::Relaxed);
    scene.leases.revoke_force("pki/issue", after(3), &scene.find()).await.unwrap();
    assert_eq!(irrevocable().await, BTreeSet::new());
    let entries = scene.tokens.root.scan(IRREVOCABLE, Position::Start, usize::MAX).await.unwrap();
    assert!(entries.is_empty());
}

#[tokio::test]
async fn a_renewal_is_capped_from_the_issue_on() {
    let scene = Scene::open().await;
    let token = scene.token(Ttl::hours(5)).await;
    let lease = scene.lease(&token, "17").await.unwrap();
    let renew = async |id: &str, hours, now| {
        scene.leases.renew(id, Ttl::hours(hours), now, &scene.find()).await.map_err(|error| error.message())
    };
    let (renewed, warnings) = renew(&lease.id, 5, after(600)).await.unwrap();
    assert_eq!((renewed.ttl, warnings.len()), (Ttl::seconds(3 * 3600 - 600), 1));
    let (renewed, warnings) = renew(&lease.id, 1, after(1200)).await.unwrap();
    assert_eq!((renewed.ttl, warnings.len()), (Ttl::hours(1), 0));
    scene.expire(after(3600)).await;
    assert!(scene.engine.taken().is_empty());
    assert_eq!(renew("nope", 1, after(1)).await.unwrap_err(), "lease not found");
    let id = scene.tokens.lease_id(&token);
    assert_eq!(renew(&id, 1, after(1)).await.unwrap_err(), "lease is not renewable");
    scene.leases.revoke(&lease.id, false, after(3601), &scene.find()).await.unwrap();
    assert_eq!(renew(&lease.id, 1, after(3601)).await.unwrap_err(), "lease is not renewable");
}

/// Has each commit of `story` fail, and fail after it persisted; then upkeep must bring everything to an
/// end. `story` makes two leases.
async fn each_commit_fails(story: impl AsyncFn(&Scene) -> Result<(), Error>, least: usize) {
    let mut position = 0;
    loop {
        for fault in [Fault::Fails, Fault::FailsAfterPersisting] {
            let left = Arc::new(AtomicUsize::new(usize::MAX));
            let countdown = Arc::clone(&left);
            let memory = Memory::new().with_faults(move |_: &Batch| {
                let now = countdown.load(Ordering::Relaxed);
                countdown.store(
                    if now == 0 { usize::MAX } else { now.saturating_sub(usize::from(now != usize::MAX)) },
                    Ordering::Relaxed,
                );
                if now == 0 { fault } else { Fault::None }
            });
            let scene = Scene::over(&memory).await;
            left.store(position, Ordering::Relaxed);
            let outcome = story(&scene).await;
            if left.swap(usize::MAX, Ordering::Relaxed) != usize::MAX {
                assert!(outcome.is_ok() && position >= least, "{position} commits: {outcome:?}");
                return;
            }
            assert!(outcome.is_err(), "commit {position} failed and nobody noticed");
            scene.engine.fails.store(false, Ordering::Relaxed);
            let registered = scene.engine.taken().len() + scene.left().await.0;
            scene.expire(after(5)).await;
            scene.expire(after(100_000)).await;
            assert_eq!(scene.left().await, (0, (0, 0, 0)), "after commit {position}");
            let listed = scene.tokens.root.scan(IRREVOCABLE, Position::Start, usize::MAX).await.unwrap();
            assert!(listed.is_empty(), "after commit {position}");
            assert!(scene.engine.taken().len() >= registered.min(2), "after commit {position}");
        }
        position += 1;
    }
}

#[tokio::test]
async fn every_write_can_fail_with_and_without_having_happened() {
    each_commit_fails(
        async |scene| {
            let new = NewToken { ttl: Ttl::hours(5), ..NewToken::default() };
            let token = scene.tokens.create(new, start()).await?.entry;
            let one = scene.lease(&token, "1").await?;
            scene.lease(&token, "2").await?;
            scene.leases.renew(&one.id, Ttl::hours(2), after(1), &scene.find()).await?;
            scene.leases.revoke(&one.id, true, after(2), &scene.find()).await?;
            scene.tokens.revoke_tree(token.key, after(3)).await?;
            let (_, errors) = scene.leases.expire_due(after(4), &scene.find()).await?;
            errors.into_iter().next().map_or(Ok(()), Err)
        },
        9,
    )
    .await;
}

#[tokio::test]
async fn every_write_about_what_an_engine_will_not_take_back_can_fail_too() {
    each_commit_fails(
        async |scene| {
            let path = "auth/approle/login".to_owned();
            let new = NewToken { ttl: Ttl::hours(5), path, ..NewToken::default() };
            let token = scene.tokens.create(new, start()).await?.entry;
            let one = scene.lease(&token, "1").await?;
            scene.lease(&token, "2").await?;
            scene.engine.fails.store(true, Ordering::Relaxed);
            match scene.leases.revoke(&one.id, true, after(1), &scene.find()).await {
                Err(error) if error.message() == "not now" => {}
                other => other?,
            }
            scene.engine.fails.store(false, Ordering::Relaxed);
            scene.leases.revoke_prefix("pki", false, after(2), &scene.find()).await?;
            scene.leases.revoke_prefix("auth", false, after(2), &scene.find()).await?;
            let (_, errors) = scene.leases.expire_due(after(60), &scene.find()).await?;
            errors.into_iter().next().map_or(Ok(()), Err)
        },
        8,
    )
    .await;
}
