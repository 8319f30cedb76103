//! The barrier over the memory backend: what is stored, who may read it, and in which order it is listed.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use chancery_storage::seal::{StaticKey, StaticSeal};
use chancery_storage::{
    Backend, Barrier, Batch, Memory, Name, Position, Seal, SealError, Share, ShareScheme, StorageError,
    Unsealed, Writes,
};

const NOW: SystemTime = UNIX_EPOCH;

fn scheme(shares: i64, threshold: i64) -> ShareScheme {
    ShareScheme::new(shares, threshold).unwrap()
}

async fn founded(store: &Memory) -> (Barrier, Arc<Unsealed>, Vec<Share>) {
    let barrier = Barrier::new(Arc::new(store.clone()), None);
    let founding = barrier.found(scheme(3, 2), NOW).await.unwrap();
    let (unsealed, shares) = founding.commit(Writes::new()).await.unwrap();
    (barrier, unsealed, shares)
}

#[tokio::test]
async fn a_record_is_read_back_and_listed() {
    let (_, unsealed, _) = founded(&Memory::new()).await;
    let view = unsealed.view("mount").unwrap();
    assert_eq!(view.get("roles", &"web".into()).await.unwrap(), None);
    view.put("roles", &"web".into(), b"one").await.unwrap();
    view.put_json("roles", &"api".into(), &vec![1, 2]).await.unwrap();
    assert_eq!(**view.get("roles", &"web".into()).await.unwrap().unwrap().value, *b"one");
    assert_eq!(view.get_json::<Vec<u32>>("roles", &"api".into()).await.unwrap(), Some(vec![1, 2]));
    assert_eq!(view.list("roles", Position::Start, 10).await.unwrap(), [Name::new("api"), Name::new("web")]);
    view.delete("roles", &"web".into()).await.unwrap();
    assert_eq!(view.get("roles", &"web".into()).await.unwrap(), None);
    assert_eq!(view.scan("roles", Position::Start, 10).await.unwrap().len(), 1);
}

#[tokio::test]
async fn scopes_and_collections_are_apart() {
    let (_, unsealed, _) = founded(&Memory::new()).await;
    let (one, two) = (unsealed.view("one").unwrap(), unsealed.view("two").unwrap());
    one.put("a", &"x".into(), b"1").await.unwrap();
    assert_eq!(one.get("b", &"x".into()).await.unwrap(), None);
    assert_eq!(two.get("a", &"x".into()).await.unwrap(), None);
    two.put("a", &"x".into(), b"2").await.unwrap();
    one.put("b", &"y".into(), b"3").await.unwrap();
    assert_eq!(one.delete_scope(1).await.unwrap(), 1);
    assert_eq!(one.delete_scope(1000).await.unwrap(), 1);
    assert_eq!(one.delete_scope(1000).await.unwrap(), 0);
    assert_eq!(**two.get("a", &"x".into()).await.unwrap().unwrap().value, *b"2");
}

#[tokio::test]
async fn listing_is_by_order_then_text_and_pages_are_complete() {
    let (_, unsealed, _) = founded(&Memory::new()).await;
    let view = unsealed.view("mount").unwrap();
    let mut names: Vec<Name> = (0..1300).map(|i| Name::new(format!("{:04}", (i * 7919) % 1300))).collect();
    names.extend((0..1300).map(|i| Name::ordered(1 + (i * 31) % 900, format!("n{i}"))));
    let mut writes = Writes::new();
    for name in &names {
        writes.put(&view, "c", name, name.text().as_bytes()).unwrap();
    }
    view.commit(writes).await.unwrap();
    names.sort();

    assert_eq!(view.list("c", Position::Start, usize::MAX).await.unwrap(), names);
    for limit in [1000, 512, 97] {
        let mut listed: Vec<Name> = Vec::new();
        loop {
            let page = view.list("c", listed.last(), limit).await.unwrap();
            listed.extend_from_slice(&page);
            if page.len() < limit {
                break;
            }
        }
        assert_eq!(listed, names, "limit {limit}");

        let mut scanned: Vec<Name> = Vec::new();
        loop {
            let page = view.scan("c", scanned.last(), limit).await.unwrap();
            let end = page.len() < limit;
            for (name, record) in page {
                assert_eq!(record.value.as_slice(), name.text().as_bytes());
                scanned.push(name);
            }
            if end {
                break;
            }
        }
        assert!(scanned.is_sorted_by_key(Name::order));
        scanned.sort();
        assert_eq!(scanned, names, "limit {limit}");
    }
    let from_500: Vec<Name> = names.iter().filter(|name| name.order() >= 500).cloned().collect();
    assert_eq!(view.list("c", Position::Order(500), usize::MAX).await.unwrap(), from_500);
    assert_eq!(view.scan("c", Position::Order(500), usize::MAX).await.unwrap().len(), from_500.len());
    assert_eq!(view.list("c", Position::Start, 0).await.unwrap(), []);
    let gone = Name::ordered(500, "zzz");
    let after: Vec<Name> = names.iter().filter(|name| **name > gone).take(5).cloned().collect();
    assert_eq!(view.list("c", &gone, 5).await.unwrap(), after);
    assert_eq!(view.delete_collection("c", 10_000).await.unwrap(), names.len());
    assert_eq!(view.list("c", Position::Start, 1).await.unwrap(), []);
}

#[tokio::test]
async fn nothing_readable_reaches_the_store() {
    let store = Memory::new();
    let (_, unsealed, shares) = founded(&store).await;
    let view = unsealed.view("mount-uuid").unwrap();
    view.put("certificates", &"cluster-local".into(), b"PRIVATE KEY").await.unwrap();
    for (key, value) in store.dump() {
        for secret in [&b"mount-uuid"[..], b"certificates", b"cluster-local", b"PRIVATE KEY", &shares[0]] {
            for bytes in [key.as_bytes(), &value] {
                assert!(!bytes.windows(secret.len()).any(|window| window == secret));
            }
        }
    }
}

#[tokio::test]
async fn writes_hold_together_with_their_expectations() {
    let (_, unsealed, _) = founded(&Memory::new()).await;
    let view = unsealed.view("mount").unwrap();
    let (web, api) = (Name::new("web"), Name::new("api"));
    let mut writes = Writes::new();
    writes.expect_absent(&view, "roles", &web).unwrap();
    writes.put(&view, "roles", &web, b"1").unwrap();
    view.commit(writes).await.unwrap();
    let first = view.get("roles", &web).await.unwrap().unwrap();

    let mut writes = Writes::new();
    writes.expect_absent(&view, "roles", &web).unwrap();
    writes.put(&view, "roles", &api, b"1").unwrap();
    assert!(matches!(view.commit(writes).await, Err(StorageError::Conflict)));
    assert_eq!(view.get("roles", &api).await.unwrap(), None);

    for succeeds in [true, false] {
        let mut writes = Writes::new();
        writes.expect_unchanged(&view, "roles", &web, &first.version).unwrap();
        // The same value again is another version all the same.
        writes.put(&view, "roles", &web, b"1").unwrap();
        assert_eq!(view.commit(writes).await.is_ok(), succeeds);
    }
}

#[tokio::test]
async fn sealing_closes_every_view_and_shares_open_it_again() {
    let store = Memory::new();
    let (barrier, unsealed, shares) = founded(&store).await;
    let view = unsealed.view("mount").unwrap();
    view.put("c", &"x".into(), b"value").await.unwrap();
    let mut late = Writes::new();
    late.put(&view, "c", &"late".into(), b"value").unwrap();

    barrier.seal().await;
    assert!(matches!(barrier.unsealed(), Err(StorageError::Sealed)));
    assert!(matches!(view.get("c", &"x".into()).await, Err(StorageError::Sealed)));
    assert!(matches!(view.put("c", &"x".into(), b"").await, Err(StorageError::Sealed)));
    assert!(matches!(view.list("c", Position::Start, 1).await, Err(StorageError::Sealed)));
    assert!(matches!(view.scan("c", Position::Start, 1).await, Err(StorageError::Sealed)));
    assert!(matches!(view.delete("c", &"x".into()).await, Err(StorageError::Sealed)));
    assert!(matches!(view.delete_scope(1).await, Err(StorageError::Sealed)));
    assert!(matches!(view.commit(late).await, Err(StorageError::Sealed)));
    assert!(matches!(unsealed.key_status(), Err(StorageError::Sealed)));
    assert!(matches!(unsealed.rotate(NOW).await, Err(StorageError::Sealed)));

    let again = Barrier::new(Arc::new(store.reopened()), None);
    assert!(!again.provide_share(&shares[2]).await.unwrap());
    let status = again.status().await.unwrap();
    assert_eq!((status.progress, status.nonce.len(), status.sealed), (1, 36, true));
    assert!(again.provide_share(&shares[0]).await.unwrap());
    for share in [shares[1].to_vec(), vec![7; 33]] {
        assert!(!again.provide_share(&share).await.unwrap(), "it was open before");
    }
    let view = again.unsealed().unwrap().view("mount").unwrap();
    assert_eq!(**view.get("c", &"x".into()).await.unwrap().unwrap().value, *b"value");
    assert_eq!(again.status().await.unwrap().progress, 0);
    assert_eq!(view.get("c", &"late".into()).await.unwrap(), None);
}

#[tokio::test]
async fn wrong_shares_are_refused_and_the_collection_starts_again() {
    let store = Memory::new();
    let (barrier, _, shares) = founded(&store).await;
    barrier.seal().await;
    let (_, _, foreign) = founded(&Memory::new()).await;
    assert!(!barrier.provide_share(&shares[0]).await.unwrap());
    let error = barrier.provide_share(&foreign[1]).await.unwrap_err();
    assert_eq!(error.to_string(), "invalid key: it does not open the root key of this store");
    assert_eq!(barrier.status().await.unwrap().progress, 0);
    assert!(!barrier.provide_share(&shares[0]).await.unwrap());
    barrier.reset_shares().await;
    assert!(!barrier.provide_share(&shares[1]).await.unwrap());
    assert!(barrier.provide_share(&shares[0]).await.unwrap());
}

#[tokio::test]
async fn a_store_is_founded_once() {
    let store = Memory::new();
    let empty = Barrier::new(Arc::new(store.clone()), None);
    assert!(!empty.is_initialized().await.unwrap());
    assert!(matches!(empty.provide_share(&[1; 33]).await, Err(SealError::NotInitialized)));
    let late = empty.found(scheme(1, 1), NOW).await.unwrap();
    founded(&store).await;
    assert!(matches!(late.commit(Writes::new()).await, Err(SealError::AlreadyInitialized)));
    assert!(empty.is_sealed());
    assert!(matches!(empty.found(scheme(1, 1), NOW).await, Err(SealError::AlreadyInitialized)));
}

#[tokio::test]
async fn rotation_keeps_old_records_readable_for_every_process() {
    let store = Memory::new();
    let (one, unsealed, shares) = founded(&store).await;
    let two = Barrier::new(Arc::new(store.reopened()), None);
    two.provide_share(&shares[0]).await.unwrap();
    two.provide_share(&shares[1]).await.unwrap();
    let (ours, theirs) = (unsealed.view("m").unwrap(), two.unsealed().unwrap().view("m").unwrap());

    ours.put("c", &"old".into(), b"1").await.unwrap();
    let later = NOW + Duration::from_secs(60);
    assert_eq!(unsealed.rotate(later).await.unwrap().term, 2);
    assert_eq!(unsealed.key_status().unwrap().installed_at, later);
    ours.put("c", &"new".into(), b"2").await.unwrap();
    assert_eq!(
        theirs.scan("c", Position::Start, 9).await.unwrap().len(),
        2,
        "the other process learns the new term"
    );
    assert_eq!(two.unsealed().unwrap().rotate(later).await.unwrap().term, 3);
    assert_eq!(one.unsealed().unwrap().rotate(later).await.unwrap().term, 4);
    assert_eq!(ours.scan("c", Position::Start, 9).await.unwrap().len(), 2);
}

#[tokio::test]
async fn new_shares_replace_the_old_ones() {
    let store = Memory::new();
    let (barrier, _, old) = founded(&store).await;
    assert!(matches!(barrier.rotate_root_key().await, Err(SealError::NotApplicable { kind: "shamir" })));
    let agree = async |shares: &[Share]| {
        let mut collector = barrier.collect_shares().await.unwrap();
        for share in shares {
            if let Some(combined) = collector.add(share).unwrap() {
                return barrier.authorize(&combined).await;
            }
        }
        panic!("not enough shares");
    };
    let (_, _, foreign) = founded(&Memory::new()).await;
    assert!(matches!(agree(&foreign).await, Err(SealError::WrongKey)));
    let rekeying = barrier.rekey(agree(&old).await.unwrap(), scheme(1, 1)).await.unwrap();
    let new = rekeying.shares().to_vec();
    assert!(rekeying.verifies(&new[0]));
    assert!(!rekeying.verifies(&[0; 32]));
    rekeying.commit(&barrier).await.unwrap();

    assert!(
        matches!(agree(&old[..1]).await, Err(SealError::WrongKey)),
        "a threshold of one takes the share as the key"
    );
    let again = Barrier::new(Arc::new(store.reopened()), None);
    assert!(again.provide_share(&old[0]).await.is_err());
    assert!(again.provide_share(&new[0]).await.unwrap());
}

#[tokio::test]
async fn a_static_seal_opens_by_itself_and_moves_to_a_new_key() {
    let key = |id: &str, byte| StaticKey::new(id, &[byte; 32]).unwrap();
    let seal = |seal: StaticSeal| Some(Arc::new(seal) as Arc<dyn Seal>);
    let store = Memory::new();
    let open = |auto| Barrier::new(Arc::new(store.reopened()), auto);

    let first = open(seal(StaticSeal::new(key("a", 1), None).unwrap()));
    let founding = first.found(scheme(3, 2), NOW).await.unwrap();
    let view = founding.unsealed().view("m").unwrap();
    let mut writes = Writes::new();
    writes.put(&view, "c", &"x".into(), b"first").unwrap();
    let (_, recovery) = founding.commit(writes).await.unwrap();
    assert!(matches!(
        first.provide_share(&recovery[0]).await,
        Err(SealError::NotApplicable { kind: "static" })
    ));
    let mut collector = first.collect_shares().await.unwrap();
    collector.add(&recovery[0]).unwrap();
    let combined = collector.add(&recovery[1]).unwrap().unwrap();
    let quorum = first.authorize(&combined).await.unwrap();
    assert!(matches!(first.authorize(&[0; 32]).await, Err(SealError::WrongKey)));
    first.rekey(quorum, scheme(1, 1)).await.unwrap().commit(&first).await.unwrap();
    assert!(matches!(first.authorize(&combined).await, Err(SealError::WrongKey)));
    first.rotate_root_key().await.unwrap();
    assert_eq!(first.unsealed().unwrap().rotate(NOW).await.unwrap().term, 2);

    let both = open(seal(StaticSeal::new(key("b", 2), Some(key("a", 1))).unwrap()));
    both.unseal_automatically().await.unwrap();
    let after = open(seal(StaticSeal::new(key("b", 2), None).unwrap()));
    let view = after.unseal_automatically().await.unwrap().view("m").unwrap();
    assert_eq!(**view.get("c", &"x".into()).await.unwrap().unwrap().value, *b"first");
    let old = open(seal(StaticSeal::new(key("a", 1), None).unwrap()));
    assert!(matches!(old.unseal_automatically().await, Err(SealError::UnknownKey { .. })));
    assert!(matches!(open(None).provide_share(&recovery[0]).await, Err(SealError::OtherSeal { .. })));
}

#[tokio::test]
async fn a_damaged_or_moved_record_is_refused_by_name() {
    let store = Memory::new();
    let (_, unsealed, _) = founded(&store).await;
    let view = unsealed.view("m").unwrap();
    view.put("roles", &"a".into(), b"value of a").await.unwrap();
    view.put("roles", &"b".into(), b"value of b").await.unwrap();
    let records: Vec<_> = store.dump().into_iter().filter(|(key, _)| key.as_bytes().len() >= 40).collect();
    let [(key_one, value_one), (_, value_two)] = records.as_slice() else { panic!("two records") };

    let write = async |value: Vec<u8>| {
        let mut batch = Batch::new();
        batch.put(key_one.clone(), value);
        store.commit(batch).await.unwrap();
    };
    let mut damaged: Vec<Vec<u8>> = (0..value_one.len())
        .map(|at| {
            let mut value = value_one.clone();
            value[at] ^= 0x40;
            value
        })
        .collect();
    damaged.extend([value_two.clone(), Vec::new(), value_one[..value_one.len() - 1].to_vec()]);
    for value in damaged {
        write(value).await;
        let error = view.scan("roles", Position::Start, 9).await.unwrap_err();
        assert!(matches!(error, StorageError::Corrupt { .. }), "{error:?}");
        assert!(error.to_string().contains("a record of collection \"roles\""), "{error}");
    }
    write(value_one.clone()).await;
    assert_eq!(view.scan("roles", Position::Start, 9).await.unwrap().len(), 2);
}
