use std::future::poll_fn;
use std::pin::pin;
use std::task::Poll;

use chancery_testkit::kubernetes::Fault;

use super::super::begin_to_lead;
use super::*;

fn certificate(bed: &Bed, name: &str) -> String {
    let certificate = bed.get(name)["status"]["certificate"].clone();
    let certificate = BASE64.decode(certificate.as_str().expect("a certificate").as_bytes()).expect("base64");
    String::from_utf8(certificate).expect("text").lines().next().unwrap_or_default().to_owned()
}

/// After each of these the request is looked at again, whatever the cache has by then.
#[tokio::test]
async fn a_write_that_fails_or_fails_after_it_worked_signs_nothing_twice() {
    let faults = [
        Fault::Code(429),
        Fault::Code(500),
        Fault::Code(503),
        Fault::Code(504),
        Fault::Drop,
        Fault::LoseAnswer,
        Fault::Race,
    ];
    for fault in faults {
        for times in [1, 3] {
            for learns in [false, true] {
                let name = format!("{fault:?} {times} times, the cache learns: {learns}");
                let bed = Bed::new().await;
                bed.create("a");
                bed.server.inject("update", STATUS, fault.clone(), times);
                let mut rounds = 0;
                while let Next::After(pause) = bed.reconcile("a").await.expect(&name) {
                    assert!(pause <= Duration::from_secs(30), "{name}: {pause:?}");
                    rounds += 1;
                    assert!(rounds <= 5, "{name}: no end");
                    if learns {
                        bed.learn();
                    }
                }
                assert_eq!(bed.signer.counts(), (1, 1), "{name}");
                assert_eq!(certificate(&bed, "a"), "signature 1", "{name}");
                assert_eq!(bed.context.cache.requests_under_way.answers(), 0, "{name}");
                let reasons: Vec<_> =
                    bed.events(2).await.into_iter().map(|event| (event.2, event.4)).collect();
                let once = |reason: &str| (reason.to_owned(), 1);
                assert_eq!(reasons, [once("cert-manager.io"), once("CertificateIssued")], "{name}");
                bed.settle("a").await;
                assert_eq!(bed.signer.counts(), (1, 1), "{name}");
            }
        }
    }
}

#[tokio::test]
async fn a_refused_write_is_an_error_that_keeps_what_was_signed() {
    let bed = Bed::new().await;
    bed.create("a");
    bed.server.deny("update", STATUS);
    for _ in 0..3 {
        let error = bed.reconcile("a").await.expect_err("refused");
        assert!(error.to_string().contains("cannot update resource"), "{error}");
    }
    assert_eq!((bed.signer.counts(), bed.context.cache.requests_under_way.answers()), ((1, 1), 1));
    // The certificate is there: an issuer that has gone since is no reason to keep it back.
    bed.issuer(false);
    bed.server.allow_all();
    bed.settle("a").await;
    assert_eq!(certificate(&bed, "a"), "signature 1");
    assert_eq!(bed.signer.counts(), (1, 1));
}

#[tokio::test]
async fn where_an_approval_was_refused_nothing_is_signed_before_the_next_is_accepted() {
    let bed = Bed::new().await;
    for name in ["a", "b"] {
        bed.create(name);
    }
    bed.server.deny("update", STATUS);
    bed.reconcile("a").await.expect_err("refused");
    assert_eq!(bed.signer.counts(), (1, 1));
    for _ in 0..2 {
        bed.reconcile("b").await.expect_err("refused");
        assert_eq!(bed.signer.counts(), (1, 1));
    }
    bed.server.allow_all();
    bed.settle("b").await;
    bed.settle("a").await;
    assert_eq!(
        (certificate(&bed, "a"), certificate(&bed, "b")),
        ("signature 1".into(), "signature 2".into())
    );
    // From now on with one write again.
    let before = bed.server.count("update", STATUS);
    bed.create("c");
    bed.settle("c").await;
    assert_eq!(bed.server.count("update", STATUS), before + 1);
    let reasons: Vec<_> = bed.events(6).await.into_iter().map(|event| event.2).collect();
    assert_eq!(reasons.iter().filter(|reason| *reason == "cert-manager.io").count(), 3, "{reasons:?}");
    assert_eq!(reasons.len(), 6);
}

#[tokio::test]
async fn a_cache_that_lags_or_goes_back_is_not_acted_upon() {
    let bed = Bed::new().await;
    bed.create("a");
    let old = bed.context.cache.requests.get(&key("a")).expect("known");
    bed.reconcile("a").await.expect("reconciled");
    // The watch has not told it yet.
    assert!(matches!(bed.reconcile("a").await, Ok(Next::After(_))));
    bed.settle("a").await;
    // A watch begins anew at a replica that lags.
    bed.context.cache.requests.apply(key("a"), RequestFacts::clone(&old));
    let next = bed.reconcile("a").await.expect("reconciled");
    assert!(matches!(next, Next::After(pause) if pause <= Duration::from_secs(30)));
    assert_eq!((bed.signer.counts(), bed.server.count("get", REQUESTS)), ((1, 1), 0));
    // A version that is no number says nothing of its age: the API server is asked.
    let facts = RequestFacts { resource_version: "x".into(), ..RequestFacts::clone(&old) };
    bed.context.cache.requests.apply(key("a"), facts);
    assert_eq!(bed.reconcile("a").await.expect("reconciled"), Next::Done);
    assert_eq!((bed.signer.counts(), bed.server.count("get", REQUESTS)), ((1, 1), 1));
    bed.server.remove(REQUESTS, NAMESPACE, "a");
    bed.settle("a").await;
    assert_eq!(bed.context.cache.requests_under_way.len(), 0);
}

#[tokio::test]
async fn a_cache_that_stays_behind_is_checked_after_a_while() {
    let bed = Bed::new().await;
    bed.create("a");
    let old = bed.context.cache.requests.get(&key("a")).expect("known");
    bed.reconcile("a").await.expect("reconciled");
    let under_way = &bed.context.cache.requests_under_way;
    let now = tokio::time::Instant::now();
    use super::super::under_way::View;
    assert_eq!(under_way.view(&old, now), View::Stale(Duration::from_secs(30)));
    assert_eq!(under_way.view(&old, now + Duration::from_secs(10)), View::Stale(Duration::from_secs(20)));
    assert_eq!(under_way.view(&old, now + Duration::from_secs(30)), View::Unknown);
    bed.learn();
    let new = bed.context.cache.requests.get(&key("a")).expect("known");
    assert_eq!(under_way.view(&new, now), View::Cached);
}

#[tokio::test]
async fn two_controllers_hand_out_one_certificate() {
    let one = Bed::new().await;
    one.create("a");
    let two = one.restarted().await;
    let (first, second) = tokio::join!(one.reconcile("a"), two.reconcile("a"));
    first.expect("reconciled");
    second.expect("reconciled");
    let kept = certificate(&one, "a");
    one.settle("a").await;
    two.settle("a").await;
    assert_eq!((certificate(&one, "a"), one.conditions("a").len()), (kept, 2));
    assert!(one.signer.counts().1 <= 2);
    for bed in [one, two] {
        assert_eq!(bed.context.cache.requests_under_way.answers(), 0);
    }
}

#[tokio::test]
async fn what_an_issuer_answers_after_the_next_leader_has_written_is_dropped() {
    let one = Bed::new().await;
    one.create("a");
    let two = one.restarted().await;
    let mut first = pin!(one.reconcile("a"));
    poll_fn(|cx| Poll::Ready(first.as_mut().poll(cx).is_pending())).await;
    assert_eq!(one.signer.counts(), (1, 0), "it is not signing");
    two.reconcile("a").await.expect("reconciled");
    let written = one.get("a");
    // It does not know yet that it leads no longer.
    assert_eq!(first.await.expect("reconciled"), Next::Done);
    assert_eq!(one.signer.counts(), (2, 2));
    assert_eq!((one.get("a"), certificate(&one, "a")), (written, "signature 1".to_owned()));
    assert_eq!(one.context.cache.requests_under_way.answers(), 0);
}

#[tokio::test]
async fn whoever_leads_again_signs_nothing_that_another_has_signed_meanwhile() {
    let one = Bed::new().await;
    for name in ["a", "b"] {
        one.create(name);
    }
    // Its work is dropped while an issuer signs, or before.
    assert!(!killed_after(1, one.reconcile("a")).await);
    let two = one.restarted().await;
    for name in ["a", "b"] {
        two.reconcile(name).await.expect("reconciled");
    }
    assert_eq!(one.signer.counts(), (3, 2));
    begin_to_lead(&one.context).await;
    for _ in 0..2 {
        for name in ["a", "b"] {
            one.reconcile(name).await.expect("reconciled");
        }
    }
    assert_eq!((one.signer.counts(), one.server.count("get", REQUESTS)), ((3, 2), 2));
}

#[tokio::test]
async fn a_new_leader_reads_once_what_it_finds_unsigned_and_nothing_that_is_made_later() {
    for namespaces in [&[][..], &[NAMESPACE, "kube-system"]] {
        let namespaces = namespaces.iter().map(|&name| name.to_owned()).collect();
        let bed = Bed::with(Settings { namespaces, ..Settings::default() }).await;
        for name in ["ended", "unsigned"] {
            bed.create(name);
        }
        bed.settle("ended").await;
        bed.server.inject("list", REQUESTS, Fault::Code(503), 1);
        begin_to_lead(&bed.context).await;
        for name in ["ended", "unsigned"] {
            bed.settle(name).await;
        }
        let read = || bed.server.count("get", REQUESTS);
        assert_eq!((read(), bed.signer.counts()), (1, (2, 2)));
        bed.create("later");
        bed.settle("later").await;
        assert_eq!((read(), bed.signer.counts()), (1, (3, 3)));
    }
}

#[test]
fn only_a_refusal_proves_that_nothing_was_written() {
    use chancery_kubernetes::ApiError;
    use kube::core::Status;

    use super::super::{is_refused_for_certain, retry_after};
    let refused = |code| ApiError::Refused(Box::new(Status { code, ..Status::default() }));
    for code in [400, 401, 403, 404, 409, 413, 422, 429] {
        assert!(is_refused_for_certain(&refused(code)), "{code}");
    }
    for code in [408, 500, 502, 503, 504] {
        assert!(!is_refused_for_certain(&refused(code)), "{code}");
    }
    assert!(!is_refused_for_certain(&ApiError::TimedOut(Duration::from_secs(30))));
    assert!(!is_refused_for_certain(&ApiError::Connection(kube::Error::LinesCodecMaxLineLengthExceeded)));
    let asks = |seconds| {
        let details = serde_json::from_value(json!({ "retryAfterSeconds": seconds })).expect("details");
        let status = Status { code: 429, details: Some(details), ..Status::default() };
        retry_after(&ApiError::Refused(Box::new(status)))
    };
    assert_eq!((asks(0), asks(7)), (Duration::ZERO, Duration::from_secs(7)));
    assert_eq!(asks(u32::MAX), Duration::from_secs(60), "nobody is let wait for years");
}

/// Polls a future so many times, and drops it then. Whether it was ready before.
async fn killed_after(polls: usize, future: impl Future) -> bool {
    let mut future = pin!(future);
    let mut left = polls;
    poll_fn(|cx| {
        if left == 0 {
            return Poll::Ready(false);
        }
        left -= 1;
        future.as_mut().poll(cx).map(|_| true)
    })
    .await
}

#[tokio::test]
async fn killed_between_any_two_steps_it_ends_in_the_same_state() {
    for restarts in [false, true] {
        for is_pending_first in [false, true] {
            let mut polls = 0;
            loop {
                let name = format!("{polls} polls, restarts: {restarts}, pending first: {is_pending_first}");
                let mut bed = Bed::new().await;
                bed.create("a");
                if is_pending_first {
                    bed.issuer(false);
                }
                let was_ready = killed_after(polls, bed.reconcile("a")).await;
                // What was on its way to the API server arrives, or does not.
                tokio::time::sleep(Duration::from_millis(3)).await;
                if restarts {
                    bed = bed.restarted().await;
                }
                bed.issuer(true);
                bed.settle("a").await;
                let conditions = bed.conditions("a");
                assert_eq!(conditions.len(), 2, "{name}: {conditions:?}");
                assert_eq!(conditions[1][2], "Issued", "{name}");
                let signatures = bed.signer.counts().1;
                assert_eq!(certificate(&bed, "a"), format!("signature {signatures}"), "{name}");
                assert!(signatures <= 1 + usize::from(restarts), "{name}: {signatures} signatures");
                assert_eq!(bed.context.cache.requests_under_way.answers(), 0, "{name}");
                if was_ready {
                    assert!(polls > 2, "nothing was cut short");
                    break;
                }
                polls += 1;
            }
        }
    }
}
