//! One among several leads.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chancery_mesh::kubernetes::{Elector, LEASE, LeaseTimings};
use chancery_testkit::kubernetes::{ApiServer, Fault};
use kube::Client;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep};

use crate::bed::{client, clock, double, until};

/// Seconds, because leases count in seconds.
const TIMINGS: LeaseTimings = LeaseTimings {
    lease: Duration::from_secs(2),
    renew_deadline: Duration::from_millis(1200),
    retry: Duration::from_millis(100),
};

struct Candidate {
    leads: watch::Receiver<bool>,
    shutdown: watch::Sender<bool>,
    task: JoinHandle<()>,
}

impl Candidate {
    /// Counts itself among the working while it leads.
    fn start(client: Client, namespace: &str, identity: &str, working: &Arc<AtomicUsize>) -> Self {
        let elector = Elector::new(client, namespace, LEASE, identity, TIMINGS, clock());
        let (leads, working) = (elector.leads(), Arc::clone(working));
        let (shutdown, stop) = watch::channel(false);
        let task = tokio::spawn(async move {
            let work = || async {
                let _here = Here::enter(&working);
                std::future::pending::<()>().await;
            };
            elector.run(stop, work).await;
        });
        Self { leads, shutdown, task }
    }

    fn leads(&self) -> bool {
        *self.leads.borrow()
    }

    async fn stop(self) {
        self.shutdown.send_replace(true);
        self.task.await.expect("no panic");
    }
}

struct Here<'a>(&'a AtomicUsize);

impl<'a> Here<'a> {
    fn enter(working: &'a AtomicUsize) -> Self {
        working.fetch_add(1, Ordering::SeqCst);
        Self(working)
    }
}

impl Drop for Here<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

fn holder(server: &ApiServer) -> String {
    let lease = server.get("leases", "istio-system", LEASE).expect("a lease");
    lease["spec"]["holderIdentity"].as_str().expect("a holder").to_owned()
}

/// The scenario of a hand-over; a real API server plays it too.
pub(crate) async fn hand_over(client: Client, namespace: &str) {
    let working = Arc::default();
    let first = Candidate::start(client.clone(), namespace, "first", &working);
    until("the first leads", || first.leads()).await;
    let second = Candidate::start(client, namespace, "second", &working);
    sleep(TIMINGS.lease * 2).await;
    assert!(first.leads() && !second.leads(), "whoever leads goes on leading");
    let begun = Instant::now();
    first.stop().await;
    until("the second leads", || second.leads()).await;
    assert!(begun.elapsed() < TIMINGS.lease, "a lease that is given back is taken at once");
    second.stop().await;
    assert_eq!(working.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_leader_that_shuts_down_hands_over_at_once() {
    let (server, client) = double().await;
    hand_over(client, "istio-system").await;
    assert_eq!(holder(&server), "");
    let lease = server.get("leases", "istio-system", LEASE).expect("a lease");
    assert_eq!(lease["spec"]["leaseTransitions"], 1);
}

#[tokio::test]
async fn two_that_begin_together_do_not_both_lead() {
    let (server, client) = double().await;
    let working: Arc<AtomicUsize> = Arc::default();
    let candidates: Vec<_> = (0..5)
        .map(|number| Candidate::start(client.clone(), "istio-system", &number.to_string(), &working))
        .collect();
    until("one leads", || candidates.iter().any(Candidate::leads)).await;
    let begun = Instant::now();
    while begun.elapsed() < TIMINGS.lease {
        assert!(working.load(Ordering::SeqCst) <= 1);
        sleep(Duration::from_millis(5)).await;
    }
    let leader = candidates.iter().position(Candidate::leads).expect("a leader");
    assert_eq!(holder(&server), leader.to_string());
}

#[tokio::test]
async fn a_leader_that_cannot_renew_stops_its_work_before_another_begins() {
    let (server, to_first) = double().await;
    let to_second = client(&server.url()).await;
    let working: Arc<AtomicUsize> = Arc::default();
    let first = Candidate::start(to_first, "istio-system", "first", &working);
    until("the first leads", || first.leads()).await;
    // Nobody can write: the leader must give up by itself.
    server.deny("update", "leases");
    let second = Candidate::start(to_second, "istio-system", "second", &working);
    until("the first gave up", || !first.leads()).await;
    assert_eq!(working.load(Ordering::SeqCst), 0);
    assert_eq!(holder(&server), "first");
    server.allow_all();
    until("somebody leads", || first.leads() || second.leads()).await;
    until("and works", || working.load(Ordering::SeqCst) == 1).await;
}

#[tokio::test]
async fn a_leader_that_vanishes_is_followed_after_its_lease() {
    let (server, client) = double().await;
    let working = Arc::default();
    let first = Candidate::start(client.clone(), "istio-system", "first", &working);
    until("the first leads", || first.leads()).await;
    first.task.abort();
    let begun = Instant::now();
    let second = Candidate::start(client, "istio-system", "second", &working);
    until("the second leads", || second.leads()).await;
    assert!(begun.elapsed() >= TIMINGS.lease - Duration::from_millis(200), "not before its time");
    assert_eq!(holder(&server), "second");
}

#[tokio::test]
async fn short_troubles_and_conflicts_cost_no_leadership() {
    let (server, client) = double().await;
    let working: Arc<AtomicUsize> = Arc::default();
    let first = Candidate::start(client, "istio-system", "first", &working);
    until("the first leads", || first.leads()).await;
    let mut changes = first.leads.clone();
    changes.mark_unchanged();
    for (verb, fault) in [
        ("update", Fault::Code(500)),
        ("update", Fault::Race),
        ("get", Fault::Drop),
        ("update", Fault::LoseAnswer),
        ("get", Fault::Code(429)),
    ] {
        server.inject(verb, "leases", fault, 1);
    }
    let renewals = server.count("update", "leases");
    until("it renewed often", || server.count("update", "leases") > renewals + 15).await;
    assert!(first.leads() && !changes.has_changed().expect("it lives"));
    assert_eq!(working.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn a_candidate_that_stops_in_the_middle_gives_back_what_it_may_have() {
    let (server, client) = double().await;
    server.inject("create", "leases", Fault::LoseAnswer, 1);
    // It never learns that it leads.
    let timings = LeaseTimings { retry: Duration::from_secs(600), ..TIMINGS };
    let elector = Elector::new(client, "istio-system", LEASE, "only", timings, clock());
    let (leads, (shutdown, stop)) = (elector.leads(), watch::channel(false));
    let task = tokio::spawn(async move { elector.run(stop, std::future::pending::<()>).await });
    until("a lease", || server.get("leases", "istio-system", LEASE).is_some()).await;
    assert_eq!(holder(&server), "only");
    sleep(Duration::from_millis(50)).await;
    assert!(!*leads.borrow());
    shutdown.send_replace(true);
    task.await.expect("no panic");
    assert_eq!(holder(&server), "");
    // Nobody is left who could give anything back.
    assert!(shutdown.is_closed());
}
