//! Tokens that came from tokens, and how they end together.

use super::*;

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
async fn a_marker_goes_only_if_the_record_itself_disagrees() {
    let store = store().await;
    let created = store.create(new(), start()).await.unwrap();
    let (key, due) = (created.entry.key, created.entry.due);
    let old = TokenEntry { due: due - 1, ..(*created.entry).clone() };
    store.cache.insert(key, Arc::new(old));
    assert!(store.attend(&[(key, due)], after(3600)).await.is_empty());
    assert_eq!(count_all(&store).await, (1, 1, 0), "only the copy disagreed");
    attend(&store, after(3600)).await;
    assert_eq!(count_all(&store).await, (0, 0, 0), "the next round saw the record");

    let created = store.create(new(), start()).await.unwrap();
    let (key, due) = (created.entry.key, created.entry.due);
    store.root.put(EXPIRIES, &store::marker(due - 1, key), &[]).await.unwrap();
    assert!(store.attend(&[(key, due - 1)], after(3599)).await.is_empty());
    assert_eq!(count_all(&store).await, (1, 1, 0), "left behind by somebody");
    assert!(store.lookup(&created.text, after(3599)).await.unwrap().is_some());
}

#[tokio::test]
async fn tidy_spares_a_token_that_became_an_orphan_meanwhile() {
    let store = store().await;
    let parent = store.create(new(), start()).await.unwrap();
    let child = store.create(NewToken { parent: Some(parent.entry.key), ..new() }, start()).await.unwrap();
    // Whoever read the child before this sees a child whose parent has gone.
    store.revoke_orphan(parent.entry.key, after(1)).await.unwrap();
    assert!(!store.revoke_child(child.entry.key, parent.entry.key, after(1)).await.unwrap());
    assert!(store.lookup(&child.text, after(1)).await.unwrap().is_some());
    assert_eq!(store.tidy(after(1)).await.unwrap(), 0);

    let grandchild =
        store.create(NewToken { parent: Some(child.entry.key), ..new() }, start()).await.unwrap();
    store.root.delete(TOKENS, &store::name(child.entry.key)).await.unwrap();
    store.cache.clear();
    assert_eq!(store.tidy(after(1)).await.unwrap(), 1, "one whose parent is really gone");
    assert!(store.record(grandchild.entry.key).await.unwrap().is_none());
}
