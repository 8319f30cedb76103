//! Two controllers, one of which leads, and its end in the middle of work.

use std::collections::BTreeMap;
use std::time::Duration;

use chancery_testkit::kubernetes::Fault;
use serde_json::Value;
use tokio::time::{Instant, sleep};

use crate::bed::{Bed, Controller, certificate, condition, name, until};
use crate::requests::{new_key, quick_workload};

/// CertificateRequests of others.
const REQUESTS: usize = 60;
/// Certificates, each of which has a request of its own.
const CERTIFICATES: usize = 20;
const ALL: usize = REQUESTS + CERTIFICATES;

const ELECTED: &[&str] = &["-leader-elect=true", "-leader-election-namespace=replicas"];

fn holder(bed: &Bed) -> String {
    let lease = bed.double().get("leases", "replicas", "cert-manager-controller").unwrap_or_default();
    lease["spec"]["holderIdentity"].as_str().unwrap_or_default().to_owned()
}

/// The requests that have a certificate, with it.
fn recorded(bed: &Bed) -> BTreeMap<String, Value> {
    let requests = bed.double().list("certificaterequests", None);
    let certificates =
        requests.iter().map(|request| (name(request), request["status"]["certificate"].clone()));
    certificates.filter(|(_, certificate)| !certificate.is_null()).collect()
}

/// Two controllers, the first of which leads and is in the middle of much work.
async fn in_the_middle(bed: &Bed, timings: &[&str]) -> [Controller; 2] {
    let flags = [ELECTED, timings].concat();
    let leader = bed.controller(&flags);
    until("one leads", async || (!holder(bed).is_empty()).then_some(())).await;
    let other = bed.controller(&flags);
    until("the other waits", async || bed.log().contains("another replica leads").then_some(())).await;
    bed.ready_quick_issuer().await;
    // Work takes its time, so that there is a middle.
    bed.double().inject(
        "update",
        "certificaterequests/status",
        Fault::Delay(Duration::from_millis(100)),
        1000,
    );
    let key = new_key();
    for number in 0..REQUESTS {
        bed.create(quick_workload(&format!("workload-{number}"), &key)).await;
        if number % (REQUESTS / CERTIFICATES) == 0 {
            bed.create(certificate(&format!("server-{number}"), "quick-issuer")).await;
        }
    }
    until("a part is done", async || (recorded(bed).len() >= ALL / 4).then_some(())).await;
    [leader, other]
}

/// What must be at the end, if so many signatures were made for nobody.
async fn all_done(bed: &Bed, before: &BTreeMap<String, Value>, lost: usize) {
    until("every request is answered", async || (recorded(bed).len() == ALL).then_some(())).await;
    bed.all_settled(CERTIFICATES).await;
    let after = recorded(bed);
    for (name, certificate) in before {
        assert_eq!(&after[name], certificate, "{name} was answered twice");
    }
    assert_eq!(bed.vault.signed().await, ALL + lost, "{}", bed.log());
    assert_eq!(bed.names("CertificateRequest").await.len(), ALL);
    // Those of the Certificates and that of the issuer: no key was left behind.
    assert_eq!(bed.names("Secret").await.len(), CERTIFICATES + 1);
    for certificate in bed.list("Certificate").await {
        assert_eq!(certificate["status"]["revision"], 1, "{certificate}");
    }
}

/// What was signed, and not recorded when the leader was killed, is signed once more. Everything else is signed once.
pub(crate) async fn killed() {
    let bed = Bed::in_double("replicas").await;
    let timings = [
        "-leader-election-lease-duration=3s",
        "-leader-election-renew-deadline=2s",
        "-leader-election-retry-period=300ms",
    ];
    let [leader, other] = in_the_middle(&bed, &timings).await;
    let first = holder(&bed);
    // So that what the leader left behind can be counted.
    other.signal("STOP");
    leader.kill().await;
    bed.double().heal();
    let mut left = (0, BTreeMap::new());
    until("nothing that the leader began arrives any more", async || {
        sleep(Duration::from_millis(200)).await;
        let now = (bed.vault.signed().await, recorded(&bed));
        (std::mem::replace(&mut left, now.clone()) == now).then_some(())
    })
    .await;
    let (signed, before) = left;
    assert!(before.len() < ALL, "the leader was done before it was killed");
    let in_flight = signed - before.len();
    assert_eq!(holder(&bed), first);
    other.signal("CONT");
    all_done(&bed, &before, in_flight).await;
    assert_ne!(holder(&bed), first);
}

/// Requests that are left unsigned until the leader is about to go.
const LEFT: usize = 8;

/// The watch of the one that takes over shows as unsigned what the leader before it has signed.
pub(crate) async fn behind() {
    let bed = Bed::in_double("replicas").await;
    let double = bed.double();
    let leader = bed.controller_of("first", ELECTED);
    until("one leads", async || (!holder(&bed).is_empty()).then_some(())).await;
    let _other = bed.controller_of("second", ELECTED);
    until("the other waits", async || bed.log().contains("another replica leads").then_some(())).await;
    let key = new_key();
    for number in 0..LEFT {
        bed.create(quick_workload(&format!("workload-{number}"), &key)).await;
    }
    let pending = |request: &Value| condition(request, "Ready")["reason"] == "Pending";
    until("they wait for their issuer", async || {
        (double.tally("certificaterequests", pending) == (LEFT, LEFT)).then_some(())
    })
    .await;
    double.hold_watches("second", "certificaterequests");
    bed.ready_quick_issuer().await;
    until("the leader has signed them", async || (recorded(&bed).len() == LEFT).then_some(())).await;
    let before = recorded(&bed);
    leader.stop().await;

    // It knows them as they were before.
    let read = || double.count_of("second", "get", "certificaterequests");
    until("the other has looked at them", async || (read() == LEFT).then_some(())).await;
    double.release_watches();
    bed.create(quick_workload("workload-new", &key)).await;
    bed.until_condition("CertificateRequest", "workload-new", ["Ready", "True", "Issued"]).await;
    assert_eq!(bed.vault.signed().await, LEFT + 1, "{}", bed.log());
    for (name, certificate) in before {
        assert_eq!(recorded(&bed)[&name], certificate, "{name} was answered twice");
    }
    // Each was read once, and what came to be under the new leader was not.
    assert_eq!(read(), LEFT);
    assert_eq!(double.count_of("second", "update", "certificaterequests/status"), 1);
}

pub(crate) async fn stopped() {
    let bed = Bed::in_double("replicas").await;
    // Nothing but the return of the Lease can have it taken over so soon: it is held for a minute.
    let [leader, _other] = in_the_middle(&bed, &[]).await;
    let first = holder(&bed);
    leader.stop().await;
    let ended = Instant::now();
    // The other may lead already.
    assert_ne!(holder(&bed), first, "the Lease was not given back");
    assert!(bed.log().contains("the lease was given back"), "{}", bed.log());
    until("the other leads", async || (!["", first.as_str()].contains(&holder(&bed).as_str())).then_some(()))
        .await;
    let taken = ended.elapsed();
    assert!(taken < Duration::from_secs(5), "taken over after {taken:?}");
    bed.double().heal();
    all_done(&bed, &BTreeMap::new(), 0).await;
}
