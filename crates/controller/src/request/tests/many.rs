use std::collections::HashSet;
use std::time::Instant;

use chancery_kubernetes::follow;
use chancery_kubernetes::queue::{Backoff, Queue, Verdict};
use chancery_testkit::kubernetes::Fault;
use kube::Api;
use kube::runtime::watcher::{Config, Event};
use tokio::sync::watch;

use super::*;

/// Feeds the cache from a watch, and works on what changes, as the controller does.
async fn run(context: Context, signer: Arc<TestSigner>, workers: usize, stop: watch::Receiver<bool>) {
    let queue = Queue::new(Backoff { first: Duration::from_secs(1), max: Duration::from_secs(5) });
    let told = queue.clone();
    context.cache.requests.listen(move |change| told.add(change.key.clone()));
    let api: Api<CertificateRequest> = Api::all(context.client.clone());
    let cache = Arc::clone(&context.cache);
    let feed = follow(api, Config::default(), REQUESTS, move |event| match event {
        Event::Apply(request) | Event::InitApply(request) => {
            let facts = facts(&request);
            cache.requests.apply(facts.key.clone(), facts);
        }
        Event::Delete(request) => cache.requests.delete(&key(&request.metadata.name.unwrap_or_default())),
        Event::Init | Event::InitDone => {}
    });
    let work = queue.run(workers, stop, move |key| {
        let (context, signer) = (context.clone(), Arc::clone(&signer));
        async move {
            match reconcile(&context, &*signer, &key).await {
                Ok(Next::Done) => Verdict::Done,
                Ok(Next::After(pause)) => Verdict::After(pause),
                Err(_) => Verdict::Failed,
            }
        }
    });
    tokio::select! {
        () = feed => {}
        () = work => {}
    }
}

async fn all_end(count: usize, faults: &[(Fault, usize)]) -> Duration {
    let bed = Bed::new().await;
    for (fault, times) in faults {
        bed.server.inject("update", STATUS, fault.clone(), *times);
    }
    let (stop, stopped) = watch::channel(false);
    let running = tokio::spawn(run(bed.context.clone(), Arc::clone(&bed.signer), 256, stopped));
    let begin = Instant::now();
    for number in 0..count {
        bed.server.put(REQUESTS, NAMESPACE, request(&format!("r-{number}")));
    }
    let under_way = &bed.context.cache.requests_under_way;
    let issued = || {
        let all = bed.server.list(REQUESTS, None);
        all.iter().filter(|one| one["status"]["certificate"].is_string()).count()
    };
    // Looking at them all costs more than what is measured.
    while bed.signer.counts().1 < count || under_way.answers() > 0 || issued() < count {
        assert!(begin.elapsed() < Duration::from_secs(100), "not all were signed: {:?}", bed.signer.counts());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let took = begin.elapsed();
    stop.send(true).expect("somebody listens");
    running.await.expect("it ends");
    let signed = bed.signer.signed.lock().expect("a lock").clone();
    let distinct: HashSet<_> = signed.iter().collect();
    assert_eq!((signed.len(), distinct.len()), (count, count), "signed twice");
    let certificates: HashSet<_> =
        bed.server.list(REQUESTS, None).iter().map(|one| one["status"]["certificate"].to_string()).collect();
    assert_eq!(certificates.len(), count);
    assert_eq!(bed.context.cache.requests_under_way.answers(), 0);
    took
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn of_five_thousand_at_once_none_is_lost_and_none_is_signed_twice() {
    let took = all_end(5000, &[]).await;
    eprintln!("5000 in {took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nor_while_the_api_server_fails_in_every_way() {
    let faults = [
        (Fault::Race, 60),
        (Fault::LoseAnswer, 60),
        (Fault::Code(429), 40),
        (Fault::Code(500), 60),
        (Fault::Drop, 60),
        (Fault::Delay(Duration::from_millis(50)), 60),
    ];
    all_end(500, &faults).await;
}
