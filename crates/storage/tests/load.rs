//! Durable commits per second, measured when asked: `cargo test --release -p chancery-storage --test load -- --ignored --nocapture`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant, UNIX_EPOCH};

use chancery_storage::{Barrier, Embedded, Name, Position, ShareScheme, Writes};

/// As a certificate: 1.5 kB under a name that is born in time order.
async fn commit_for(folder: &std::path::Path, clients: usize, length: Duration) {
    let opened = Instant::now();
    let barrier = Barrier::new(Arc::new(Embedded::open(folder).unwrap()), None);
    let founding = barrier.found(ShareScheme::new(1, 1).unwrap(), UNIX_EPOCH).await.unwrap();
    let (unsealed, _) = founding.commit(Writes::new()).await.unwrap();
    let opened = opened.elapsed();
    let view = unsealed.view("mount").unwrap();
    let serial = Arc::new(AtomicU64::new(1 << 40));
    let start = Instant::now();
    let tasks: Vec<_> = (0..clients)
        .map(|_| {
            let (view, serial) = (view.clone(), Arc::clone(&serial));
            tokio::spawn(async move {
                let value = vec![7; 1500];
                let mut latencies = Vec::new();
                while start.elapsed() < length {
                    let order = serial.fetch_add(1, Ordering::Relaxed);
                    let name = Name::ordered(order, format!("{order:016x}0123456789abcdef01234567"));
                    let asked = Instant::now();
                    view.put("certificates", &name, &value).await.unwrap();
                    latencies.push(asked.elapsed());
                }
                latencies
            })
        })
        .collect();
    let mut latencies = Vec::new();
    for task in tasks {
        latencies.extend(task.await.unwrap());
    }
    let seconds = start.elapsed().as_secs_f64();
    latencies.sort();
    let quantile = |part: f64| latencies[((latencies.len() - 1) as f64 * part) as usize];
    println!(
        "{clients:4} clients: {:7.0} commits/s, p50 {:?}, p99 {:?}, longest {:?}; founded in {opened:?}",
        latencies.len() as f64 / seconds,
        quantile(0.5),
        quantile(0.99),
        quantile(1.0),
    );
}

/// Processor time of this thread: what other work on the machine does not change.
fn busy() -> Duration {
    let schedstat = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    Duration::from_nanos(schedstat.split(' ').next().unwrap().parse().unwrap())
}

/// What one record costs besides the fsync, and how fast an existing store opens.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: needs a release build and a quiet machine"]
async fn single_operations() {
    let folder = tempfile::tempdir_in(".").unwrap();
    let count = 50_000_u64;
    let name = |i: u64| Name::ordered(i, format!("{i:016x}0123456789abcdef01234567"));
    let store = Arc::new(Embedded::open(folder.path()).unwrap());
    let barrier = Barrier::new(store, None);
    let founding = barrier.found(ShareScheme::new(1, 1).unwrap(), UNIX_EPOCH).await.unwrap();
    let (unsealed, shares) = founding.commit(Writes::new()).await.unwrap();
    let view = unsealed.view("mount").unwrap();
    let mut writes = Writes::new();
    let start = busy();
    for i in 0..count {
        writes.put(&view, "certificates", &name(i), &[7; 1500]).unwrap();
    }
    println!("encrypting a record of 1500 bytes: {:?}", (busy() - start) / 50_000);
    let start = Instant::now();
    view.commit(writes).await.unwrap();
    println!("inserting one of {count} records in one batch: {:?}", start.elapsed() / 50_000);
    let start = busy();
    for i in 0..count {
        view.get("certificates", &name(i * 7919 % count)).await.unwrap().unwrap();
    }
    println!("getting a record: {:?}", (busy() - start) / 50_000);
    let start = Instant::now();
    assert_eq!(view.list("certificates", Position::Start, usize::MAX).await.unwrap().len(), 50_000);
    println!("listing {count} names: {:?}", start.elapsed());
    let start = Instant::now();
    assert_eq!(view.list("certificates", &name(25_000), 100).await.unwrap().len(), 100);
    println!("listing a page of 100 in the middle: {:?}", start.elapsed());
    barrier.seal().await;
    drop((barrier, unsealed, view));
    let start = Instant::now();
    let barrier = Barrier::new(Arc::new(Embedded::open(folder.path()).unwrap()), None);
    assert!(barrier.provide_share(&shares[0]).await.unwrap());
    println!("opening and unsealing: {:?}", start.elapsed());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement: needs a release build and a quiet machine"]
async fn durable_commits_per_second() {
    for clients in [1, 8, 32, 100] {
        let folder = tempfile::tempdir_in(".").unwrap();
        commit_for(folder.path(), clients, Duration::from_secs(4)).await;
    }
}
