//! From a token's birth to its end.

use super::*;

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
