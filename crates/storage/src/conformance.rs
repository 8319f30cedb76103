//! The promises of [`Backend`] as one suite that every implementation passes.
//!
//! For tests only: it panics with the promise that was broken.

#![allow(
    clippy::missing_panics_doc,
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test suite fails by panicking"
)]

use std::sync::Arc;

use crate::StorageError;
use crate::backend::{Backend, Batch, Expect, Key};

/// Checks every promise.
///
/// `open` opens the store of a name. The same name again is the same store, reopened: the suite has
/// dropped the first by then, as a restart of the server would.
pub async fn exercise<B: Backend + 'static>(open: impl AsyncFn(&str) -> B) {
    reads_what_was_written(&open("reads").await).await;
    batches_are_atomic_and_ordered(&open("batches").await).await;
    expectations_guard_the_whole_batch(&open("expectations").await).await;
    ranges_are_in_byte_order(&open("ranges").await).await;
    pages_are_complete(&open("pages").await).await;
    odd_sizes_survive(&open("sizes").await).await;
    one_of_many_concurrent_writers_wins(Arc::new(open("concurrent").await)).await;
    contents_survive_reopening(&open).await;
}

async fn reads_what_was_written<B: Backend>(store: &B) {
    assert_eq!(store.get(&"a".into()).await.unwrap(), None, "an empty store has no keys");
    assert!(store.scan(b"", None, 10).await.unwrap().is_empty(), "an empty store has no keys");
    store.commit(Batch::new()).await.unwrap();
    put(store, "a", b"1").await;
    assert_eq!(read(store, "a").await.as_deref(), Some(&b"1"[..]), "a value is read back");
    put(store, "a", b"2").await;
    assert_eq!(read(store, "a").await.as_deref(), Some(&b"2"[..]), "a value is replaced");
    let mut batch = Batch::new();
    batch.delete("a".into());
    batch.delete("never was".into());
    store.commit(batch).await.unwrap();
    assert_eq!(read(store, "a").await, None, "a deleted key is gone");
}

async fn batches_are_atomic_and_ordered<B: Backend>(store: &B) {
    let mut batch = Batch::new();
    batch.put("a".into(), b"first".to_vec());
    batch.put("a".into(), b"last".to_vec());
    batch.put("b".into(), b"gone".to_vec());
    batch.delete("b".into());
    batch.delete("c".into());
    batch.put("c".into(), b"stays".to_vec());
    store.commit(batch).await.unwrap();
    assert_eq!(read(store, "a").await.as_deref(), Some(&b"last"[..]), "the last change to a key wins");
    assert_eq!(read(store, "b").await, None, "the last change to a key wins");
    assert_eq!(read(store, "c").await.as_deref(), Some(&b"stays"[..]), "the last change to a key wins");
}

async fn expectations_guard_the_whole_batch<B: Backend>(store: &B) {
    put(store, "a", b"version 1").await;
    let held = [
        vec![Expect::Absent("b".into())],
        vec![Expect::BeginsWith("a".into(), b"version 1".to_vec())],
        vec![Expect::BeginsWith("a".into(), b"version".to_vec()), Expect::Absent("b".into())],
        vec![Expect::BeginsWith("a".into(), Vec::new())],
    ];
    for expectations in held {
        let mut batch = Batch::new();
        expectations.iter().for_each(|expectation| batch.expect(expectation.clone()));
        // Expectations are about the state before the batch, whatever it does itself.
        batch.put("b".into(), b"made".to_vec());
        batch.delete("b".into());
        store.commit(batch).await.unwrap();
    }
    let broken = [
        vec![Expect::Absent("a".into())],
        vec![Expect::BeginsWith("a".into(), b"version 2".to_vec())],
        vec![Expect::BeginsWith("a".into(), b"version 1 and more".to_vec())],
        vec![Expect::BeginsWith("b".into(), Vec::new())],
        vec![Expect::Absent("b".into()), Expect::Absent("a".into())],
    ];
    for expectations in broken {
        let mut batch = Batch::new();
        batch.put("c".into(), b"made".to_vec());
        batch.delete("a".into());
        expectations.iter().for_each(|expectation| batch.expect(expectation.clone()));
        let outcome = store.commit(batch).await;
        assert!(matches!(outcome, Err(StorageError::Conflict)), "{outcome:?}");
        assert_eq!(read(store, "c").await, None, "a refused batch writes nothing");
        assert!(read(store, "a").await.is_some(), "a refused batch deletes nothing");
    }
}

/// A prefix, a key to begin after, and the keys that there are.
type RangeCase<'a> = (&'a [u8], Option<&'a [u8]>, &'a [&'a [u8]]);

async fn ranges_are_in_byte_order<B: Backend>(store: &B) {
    let keys: [&[u8]; 9] =
        [b"\0", b"a", b"a\0", b"a\0\0", b"a\x01", b"a\xff", b"a\xff\xff", b"b", b"\xff\xff"];
    let mut batch = Batch::new();
    for key in keys.iter().rev() {
        batch.put(Key::from(*key), key.to_vec());
    }
    store.commit(batch).await.unwrap();
    let cases: [RangeCase<'_>; 10] = [
        (b"", None, &keys),
        (b"a", None, &keys[1..7]),
        (b"a\0", None, &keys[2..4]),
        (b"a\xff", None, &keys[5..7]),
        (b"\xff", None, &keys[8..]),
        (b"c", None, &[]),
        (b"a", Some(b"a"), &keys[2..7]),
        (b"a", Some(b"a\0\xff"), &keys[4..7]),
        (b"a", Some(b"\0"), &keys[1..7]),
        (b"a", Some(b"b"), &[]),
    ];
    for (prefix, after, expected) in cases {
        let after = after.map(Key::from);
        for limit in [1, 2, 100] {
            let expected: Vec<Key> = expected.iter().take(limit).map(|key| Key::from(*key)).collect();
            let found = store.keys(prefix, after.as_ref(), limit).await.unwrap();
            assert_eq!(found, expected, "keys of {prefix:?} after {after:?}");
            let found = store.scan(prefix, after.as_ref(), limit).await.unwrap();
            assert!(found.iter().all(|(key, value)| key.as_bytes() == value), "each key has its own value");
            assert_eq!(found.into_iter().map(|(key, _)| key).collect::<Vec<_>>(), expected, "scan as keys");
        }
        assert!(store.keys(prefix, after.as_ref(), 0).await.unwrap().is_empty(), "limit 0 is nothing");
    }
}

async fn pages_are_complete<B: Backend>(store: &B) {
    let keys: Vec<Key> = (0..2500).map(|i| Key::from(format!("page/{i:05}").as_str())).collect();
    for chunk in keys.chunks(1000) {
        let mut batch = Batch::new();
        chunk.iter().for_each(|key| batch.put(key.clone(), b"x".to_vec()));
        store.commit(batch).await.unwrap();
    }
    for limit in [7, 500, 5000] {
        let mut found: Vec<Key> = Vec::new();
        loop {
            let page = store.keys(b"page/", found.last(), limit).await.unwrap();
            let end = page.len() < limit;
            found.extend(page);
            if end {
                break;
            }
        }
        assert_eq!(found, keys, "pages of {limit}");
    }
}

async fn odd_sizes_survive<B: Backend>(store: &B) {
    let large: Vec<u8> = (0..3_000_000_u32).flat_map(|i| i.to_le_bytes().into_iter().take(1)).collect();
    let long_key = "k".repeat(5000);
    for (key, value) in [("empty", &b""[..]), ("large", &large), (&long_key, b"long key"), ("zero", b"\0\0")]
    {
        put(store, key, value).await;
        assert_eq!(read(store, key).await.as_deref(), Some(value), "a value of {} bytes", value.len());
    }
    assert_eq!(store.scan(b"", None, 10).await.unwrap().len(), 4, "an empty value is a value");
}

async fn one_of_many_concurrent_writers_wins<B: Backend + 'static>(store: Arc<B>) {
    let writers = 32;
    let tasks: Vec<_> = (0..writers)
        .map(|writer| {
            let store = Arc::clone(&store);
            tokio::spawn(async move {
                let mut batch = Batch::new();
                batch.expect(Expect::Absent("one".into()));
                batch.put("one".into(), vec![writer]);
                batch.put(Key::from(format!("own/{writer:03}").as_str()), vec![writer]);
                match store.commit(batch).await {
                    Ok(()) => Some(writer),
                    Err(StorageError::Conflict) => None,
                    Err(error) => panic!("{error:?}"),
                }
            })
        })
        .collect();
    let mut winners = Vec::new();
    for task in tasks {
        winners.extend(task.await.unwrap());
    }
    let [winner] = winners.as_slice() else { panic!("exactly one writer must win: {winners:?}") };
    assert_eq!(read(&*store, "one").await, Some(vec![*winner]), "the winner's value is there");
    assert_eq!(store.keys(b"own/", None, 100).await.unwrap().len(), 1, "the losers wrote nothing");
}

async fn contents_survive_reopening<B: Backend>(open: &impl AsyncFn(&str) -> B) {
    for round in 0..3_u8 {
        let store = open("reopened").await;
        let expected = (0..round).map(|i| (Key::from(&[b'r', i][..]), vec![i])).collect::<Vec<_>>();
        assert_eq!(store.scan(b"r", None, 10).await.unwrap(), expected, "round {round}");
        put_bytes(&store, &[b'r', round], &[round]).await;
    }
}

async fn put<B: Backend>(store: &B, key: &str, value: &[u8]) {
    put_bytes(store, key.as_bytes(), value).await;
}

async fn put_bytes<B: Backend>(store: &B, key: &[u8], value: &[u8]) {
    let mut batch = Batch::new();
    batch.put(Key::from(key), value.to_vec());
    store.commit(batch).await.unwrap();
}

async fn read<B: Backend>(store: &B, key: &str) -> Option<Vec<u8>> {
    store.get(&key.into()).await.unwrap()
}
