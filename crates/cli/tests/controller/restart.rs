//! A controller that finds everything as it should be.

use std::time::Duration;

use tokio::time::Instant;

use crate::bed::{Bed, CONTROLLER, certificate, is_settled, until};

const CERTIFICATES: usize = 200;

pub(crate) async fn among_hundreds() {
    let bed = Bed::in_double("restart").await;
    let controller = bed.controller(&["-workers=16"]);
    bed.ready_ca_issuer().await;
    for number in 0..CERTIFICATES {
        bed.create(certificate(&format!("server-{number}"), "ca-issuer")).await;
    }
    bed.all_settled(CERTIFICATES).await;
    until("the authority's request is gone", async || {
        (bed.double().tally("certificaterequests", |_| true).0 == CERTIFICATES).then_some(())
    })
    .await;
    controller.kill().await;

    let double = bed.double();
    double.forget_requests();
    let versions = |plural| {
        let all = double.list(plural, Some("restart"));
        let versions = all.into_iter().map(|object| object["metadata"].clone());
        versions
            .filter(|metadata| !metadata["name"].as_str().is_some_and(|name| name.starts_with("last")))
            .collect::<Vec<_>>()
    };
    let before = ["secrets", "issuers", "certificates"].map(versions);
    let begun = Instant::now();
    let _controller = bed.controller(&[]);
    until("the cluster is read again", async || {
        (bed.log().matches("the cluster was read").count() == 2).then_some(())
    })
    .await;
    // It stands in line behind all others.
    bed.create(certificate("last", "ca-issuer")).await;
    bed.until("Certificate", "last", is_settled).await;
    let taken = begun.elapsed();
    assert!(taken < Duration::from_secs(10), "it worked only after {taken:?}");
    for (verb, resource) in [
        ("create", "certificaterequests"),
        ("update", "certificaterequests/status"),
        ("create", "secrets"),
        ("patch", "secrets"),
        ("create", "certificates"),
    ] {
        assert_eq!(double.count(verb, resource), 1, "{verb} {resource}\n{}", bed.log());
    }
    // Everything else that was written, too, is of the last one.
    for request in double.requests() {
        let is_read = ["get", "list", "watch"].contains(&request.verb.as_str());
        let is_last = request.name.as_ref().is_none_or(|name| name.starts_with("last"));
        assert!(is_read || is_last || request.resource == "events", "{request:?}");
    }
    assert_eq!(["secrets", "issuers", "certificates"].map(versions), before);
    // Of those that were there nothing was read one by one, and of what the issuer signs with, its Secret: to check the
    // issuer, and to sign.
    let reads: Vec<_> = double.requests().into_iter().filter(|request| request.verb == "get").collect();
    let reads: Vec<_> = reads.iter().filter(|request| request.user == CONTROLLER).collect();
    let about = |name: &str| {
        let named = reads.iter().filter_map(|request| request.name.as_deref());
        named.filter(|read| read.starts_with(name)).count()
    };
    assert_eq!(about("ca"), 2, "{reads:#?}");
    assert_eq!(about("ca") + about("last"), reads.len(), "{reads:#?}");
    // The last one is read whole, in four reads, only when a watch tells something of it: the Certificate made, and written
    // three times; its request made, and answered; the key made, and deleted; the Secret made. And once each: the request
    // when the issuance has begun, the key before it is deleted. How many of these come together is a matter of load.
    assert!(about("last") <= 9 * 4 + 2, "{reads:#?}");
}
