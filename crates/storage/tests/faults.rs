//! Every write of the barrier, made to fail and made to fail after it worked; then the store is reopened.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use chancery_storage::memory::Fault;
use chancery_storage::seal::{StaticKey, StaticSeal};
use chancery_storage::{
    Barrier, Memory, Position, Quorum, Seal, SealError, Share, ShareScheme, StorageError, Writes,
};

const NOW: SystemTime = UNIX_EPOCH;
const FAULTS: [Fault; 2] = [Fault::Fails, Fault::FailsAfterPersisting];

/// A store whose commits work until the switch is turned.
fn faulty(store: &Memory, fault: Fault) -> (Arc<Memory>, Arc<AtomicBool>) {
    let on = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&on);
    let store = store.with_faults(move |_| if on.load(Ordering::Relaxed) { fault } else { Fault::None });
    (Arc::new(store), switch)
}

/// The caller must be told which of the two it was: one may be retried, the other may not.
fn told_apart(error: &StorageError, fault: Fault) {
    match fault {
        Fault::FailsAfterPersisting => {
            assert!(matches!(error, StorageError::UnknownOutcome { .. }), "{error:?}")
        }
        _ => assert!(matches!(error, StorageError::Unavailable { .. }), "{error:?}"),
    }
}

fn cause(error: SealError) -> StorageError {
    match error {
        SealError::Storage(error) => error,
        error => panic!("{error:?}"),
    }
}

async fn founded(store: Arc<Memory>) -> (Barrier, Vec<Share>) {
    let barrier = Barrier::new(store, None);
    let founding = barrier.found(ShareScheme::new(3, 2).unwrap(), NOW).await.unwrap();
    let mut first = Writes::new();
    first.put(&founding.unsealed().view("m").unwrap(), "c", &"first".into(), b"1").unwrap();
    let (_, shares) = founding.commit(first).await.unwrap();
    (barrier, shares)
}

async fn reopened(store: &Memory, shares: &[Share]) -> Result<Barrier, SealError> {
    let barrier = Barrier::new(Arc::new(store.reopened()), None);
    for share in shares {
        barrier.provide_share(share).await?;
    }
    let view = barrier.unsealed()?.view("m")?;
    let first = view.get("c", &"first".into()).await?.unwrap();
    assert_eq!(**first.value, *b"1", "what was there before is still there");
    Ok(barrier)
}

async fn agreed(barrier: &Barrier, shares: &[Share]) -> Quorum {
    let mut collector = barrier.collect_shares().await.unwrap();
    collector.add(&shares[0]).unwrap();
    let combined = collector.add(&shares[1]).unwrap().unwrap();
    barrier.authorize(&combined).await.unwrap()
}

#[tokio::test]
async fn founding_happens_as_a_whole_or_not_at_all() {
    for fault in FAULTS {
        let store = Memory::new();
        let (faulty, switch) = faulty(&store, fault);
        let barrier = Barrier::new(faulty, None);
        let founding = barrier.found(ShareScheme::new(3, 2).unwrap(), NOW).await.unwrap();
        let mut first = Writes::new();
        first.put(&founding.unsealed().view("m").unwrap(), "c", &"first".into(), b"1").unwrap();
        switch.store(true, Ordering::Relaxed);
        told_apart(&cause(founding.commit(first).await.unwrap_err()), fault);
        assert!(barrier.is_sealed(), "no shares were handed out, so nothing may be written under these keys");

        let again = Barrier::new(Arc::new(store.reopened()), None);
        match fault {
            Fault::FailsAfterPersisting => {
                // The keys are stored but nobody has their shares. Founding anew would overwrite them: the
                // operator, who was told, empties the store.
                assert_eq!(store.dump().len(), 3);
                let error = again.found(ShareScheme::new(1, 1).unwrap(), NOW).await.unwrap_err();
                assert!(matches!(error, SealError::AlreadyInitialized));
            }
            _ => {
                assert!(store.dump().is_empty());
                founded(Arc::new(store.reopened())).await;
            }
        }
    }
}

#[tokio::test]
async fn a_put_is_there_or_not_and_the_caller_knows_when_it_does_not_know() {
    for fault in FAULTS {
        let store = Memory::new();
        let (faulty, switch) = faulty(&store, fault);
        let (barrier, shares) = founded(faulty).await;
        let view = barrier.unsealed().unwrap().view("m").unwrap();
        let mut writes = Writes::new();
        writes.put(&view, "c", &"one".into(), b"1").unwrap();
        writes.put(&view, "d", &"two".into(), b"2").unwrap();
        writes.delete(&view, "c", &"first".into()).unwrap();
        writes.put(&view, "c", &"first".into(), b"1").unwrap();
        switch.store(true, Ordering::Relaxed);
        told_apart(&view.commit(writes).await.unwrap_err(), fault);

        let again = reopened(&store, &shares).await.unwrap();
        let view = again.unsealed().unwrap().view("m").unwrap();
        let there = fault == Fault::FailsAfterPersisting;
        assert_eq!(view.get("c", &"one".into()).await.unwrap().is_some(), there);
        assert_eq!(view.get("d", &"two".into()).await.unwrap().is_some(), there);
        view.put("c", &"one".into(), b"again").await.unwrap();
    }
}

#[tokio::test]
async fn a_failed_rotation_leaves_every_record_readable() {
    for fault in FAULTS {
        let store = Memory::new();
        let (faulty, switch) = faulty(&store, fault);
        let (barrier, shares) = founded(faulty).await;
        let unsealed = barrier.unsealed().unwrap();
        switch.store(true, Ordering::Relaxed);
        told_apart(&unsealed.rotate(NOW).await.unwrap_err(), fault);
        switch.store(false, Ordering::Relaxed);
        // The process goes on under the old term, which is stored in either case.
        let view = unsealed.view("m").unwrap();
        view.put("c", &"later".into(), b"2").await.unwrap();

        let again = reopened(&store, &shares).await.unwrap();
        let terms = if fault == Fault::FailsAfterPersisting { 2 } else { 1 };
        let theirs = again.unsealed().unwrap();
        assert_eq!(theirs.key_status().unwrap().term, terms);
        theirs.view("m").unwrap().put("c", &"newest".into(), b"3").await.unwrap();
        assert_eq!(theirs.view("m").unwrap().scan("c", Position::Start, 9).await.unwrap().len(), 3);
        assert_eq!(view.scan("c", Position::Start, 9).await.unwrap().len(), 3);
        assert_eq!(
            unsealed.rotate(NOW).await.unwrap().term,
            terms + 1,
            "rotating again continues from what is stored"
        );
    }
}

#[tokio::test]
async fn after_a_failed_rekey_the_old_or_the_new_shares_unseal() {
    for fault in FAULTS {
        let store = Memory::new();
        let (faulty, switch) = faulty(&store, fault);
        let (barrier, old) = founded(faulty).await;
        let quorum = agreed(&barrier, &old).await;
        let rekeying = barrier.rekey(quorum, ShareScheme::new(5, 2).unwrap()).await.unwrap();
        let new = rekeying.shares().to_vec();
        switch.store(true, Ordering::Relaxed);
        told_apart(&cause(rekeying.commit(&barrier).await.unwrap_err()), fault);

        let new_in_force = fault == Fault::FailsAfterPersisting;
        assert_eq!(reopened(&store, &new[..2]).await.is_ok(), new_in_force);
        assert_eq!(reopened(&store, &old[..2]).await.is_ok(), !new_in_force);
    }
}

#[tokio::test]
async fn a_failed_move_to_a_new_static_key_can_be_repeated() {
    let key = |id: &str, byte| StaticKey::new(id, &[byte; 32]).unwrap();
    for fault in FAULTS {
        let store = Memory::new();
        let (faulty, switch) = faulty(&store, fault);
        let old: Arc<dyn Seal> = Arc::new(StaticSeal::new(key("a", 1), None).unwrap());
        let both: Arc<dyn Seal> = Arc::new(StaticSeal::new(key("b", 2), Some(key("a", 1))).unwrap());
        let founding = Barrier::new(Arc::clone(&faulty) as _, Some(old));
        let founding = founding.found(ShareScheme::new(1, 1).unwrap(), NOW).await.unwrap();
        founding.commit(Writes::new()).await.unwrap();

        switch.store(true, Ordering::Relaxed);
        let moving = Barrier::new(faulty, Some(Arc::clone(&both)));
        told_apart(&cause(moving.unseal_automatically().await.unwrap_err()), fault);
        assert!(moving.is_sealed());
        let again = Barrier::new(Arc::new(store.reopened()), Some(Arc::clone(&both)));
        again.unseal_automatically().await.unwrap();
    }
}
