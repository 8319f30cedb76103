//! Signing by CertificateRequests.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use chancery_mesh::ca::signer::{Purpose, SignedChain, Signer, SigningError, SigningRequest};
use chancery_mesh::kubernetes::{
    ActiveIssuer, CertificateRequestSettings, CertificateRequestSigner, IDENTITIES,
};
use chancery_testkit::kubernetes::{ApiServer, Fault};
use serde_json::{Value, json};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

use crate::bed::{PATIENCE, background, clock, double, issuer, until};

const REQUESTS: &str = "certificaterequests";
const HOME: &str = "istio-system";

fn wanted(identity: &str) -> SigningRequest {
    SigningRequest {
        csr: format!("csr of {identity}"),
        identities: vec![identity.to_owned()],
        duration: Duration::from_secs(3600),
        purpose: Purpose::Workload,
    }
}

struct Bed {
    server: Arc<ApiServer>,
    signer: Arc<CertificateRequestSigner>,
}

async fn bed(change: impl FnOnce(&mut CertificateRequestSettings)) -> Bed {
    let (server, client) = double().await;
    let mut settings = CertificateRequestSettings::new(HOME);
    settings.deadline = PATIENCE;
    change(&mut settings);
    let active = ActiveIssuer::new(Some(issuer("istio-ca")));
    let signer = CertificateRequestSigner::start(client, settings, active.subscribe(), clock());
    let (server, signer) = (Arc::new(server), Arc::new(signer));
    until("the shared watch is open", || server.count("watch", REQUESTS) > 0).await;
    Bed { server, signer }
}

impl Bed {
    /// Does to each request, once, what cert-manager would do.
    fn controller(&self, treat: impl Fn(&ApiServer, &Value) + Send + 'static) -> JoinSet<()> {
        let server = Arc::clone(&self.server);
        let mut changes = server.changes();
        background(async move {
            let mut seen = HashSet::new();
            loop {
                for request in server.list(REQUESTS, Some(HOME)) {
                    if seen.insert(name(&request).to_owned()) {
                        treat(&server, &request);
                    }
                }
                if changes.changed().await.is_err() {
                    return;
                }
            }
        })
    }

    async fn sign(&self, identity: &str) -> Result<SignedChain, SigningError> {
        timeout(PATIENCE, self.signer.sign(&wanted(identity))).await.expect("an end")
    }

    async fn is_empty(&self) {
        until("all requests are deleted", || self.server.list(REQUESTS, None).is_empty()).await;
    }
}

fn name(object: &Value) -> &str {
    object["metadata"]["name"].as_str().expect("a name")
}

fn base64(text: &str) -> String {
    data_encoding::BASE64.encode(text.as_bytes())
}

/// A certificate that says whose it is, so that mix-ups show.
fn signed(request: &Value) -> Value {
    let identity = request["metadata"]["annotations"][IDENTITIES].as_str().expect("identities");
    json!({
        "conditions": [{ "type": "Ready", "status": "True", "reason": "Issued", "message": "" }],
        "certificate": base64(&format!("certificate of {identity}")),
        "ca": base64("root"),
    })
}

fn sign(server: &ApiServer, request: &Value) {
    server.set_status(REQUESTS, HOME, name(request), signed(request));
}

fn condition(kind: &str, status: &str, reason: &str) -> Value {
    json!({ "conditions": [{ "type": kind, "status": status, "reason": reason, "message": "because" }] })
}

#[tokio::test]
async fn a_signed_request_gives_its_chain_and_root_and_is_deleted() {
    let bed = bed(|settings| {
        settings.additional_annotations = BTreeMap::from([("example.com/a".into(), "b".into())]);
    })
    .await;
    let _controller = bed.controller(|server, request| {
        assert_eq!(request["metadata"]["annotations"]["example.com/a"], "b");
        sign(server, request);
    });
    let chain = bed.sign("spiffe://d/ns/a/sa/b").await.expect("signed");
    assert_eq!(chain.chain, "certificate of spiffe://d/ns/a/sa/b");
    assert_eq!(chain.root.as_deref(), Some("root"));
    bed.is_empty().await;
}

#[tokio::test]
async fn hundreds_of_signings_share_one_watch_and_none_gets_anothers_certificate() {
    const MANY: usize = 400;
    let bed = bed(|_| {}).await;
    let _controller = bed.controller(sign);
    let mut signings = JoinSet::new();
    for number in 0..MANY {
        let signer = Arc::clone(&bed.signer);
        signings.spawn(async move {
            let identity = format!("spiffe://d/ns/a/sa/{number}");
            let chain = signer.sign(&wanted(&identity)).await.expect("signed");
            assert_eq!(chain.chain, format!("certificate of {identity}"));
        });
    }
    let done = timeout(PATIENCE * 2, signings.join_all()).await.expect("an end");
    assert_eq!(done.len(), MANY);
    assert_eq!(bed.server.count("create", REQUESTS), MANY);
    assert_eq!(bed.server.count("watch", REQUESTS), 1);
    bed.is_empty().await;
    // 32 creations, 16 deletions, the watch, and the clean-up.
    assert!(bed.server.most_connections() <= 50, "{}", bed.server.most_connections());
}

#[tokio::test]
async fn denied_failed_and_invalid_requests_are_refused_and_deleted() {
    for status in [
        condition("Denied", "True", "policy"),
        condition("InvalidRequest", "True", "BadCSR"),
        condition("Ready", "False", "Failed"),
    ] {
        let bed = bed(|_| {}).await;
        let _controller = bed.controller(move |server, request| {
            server.set_status(REQUESTS, HOME, name(request), status.clone());
        });
        let refused = bed.sign("spiffe://d/ns/a/sa/b").await;
        assert!(
            matches!(&refused, Err(SigningError::Refused(reason)) if reason.contains("because")),
            "{refused:?}"
        );
        bed.is_empty().await;
    }
}

#[tokio::test]
async fn a_request_that_is_deleted_meanwhile_ends_the_wait() {
    let bed = bed(|_| {}).await;
    let _controller = bed.controller(|server, request| server.remove(REQUESTS, HOME, name(request)));
    let ended = bed.sign("spiffe://d/ns/a/sa/b").await;
    assert!(
        matches!(&ended, Err(SigningError::Unavailable(reason)) if reason.contains("deleted")),
        "{ended:?}"
    );
}

#[tokio::test]
async fn a_request_that_is_signed_before_its_creation_is_answered_is_not_missed() {
    let bed = bed(|_| {}).await;
    let _controller = bed.controller(sign);
    // It is created, and its answer gets lost: the next one is not confused by what the first one left.
    bed.server.inject("create", REQUESTS, Fault::LoseAnswer, 1);
    let lost = bed.sign("spiffe://d/ns/a/sa/b").await;
    assert!(matches!(lost, Err(SigningError::Unavailable(_))), "{lost:?}");
    let chain = bed.sign("spiffe://d/ns/a/sa/c").await.expect("signed");
    assert_eq!(chain.chain, "certificate of spiffe://d/ns/a/sa/c");
}

#[tokio::test]
async fn a_pending_request_waits_until_the_deadline_and_says_what_for() {
    let bed = bed(|settings| settings.deadline = Duration::from_millis(500)).await;
    let _controller = bed.controller(|server, request| {
        server.set_status(REQUESTS, HOME, name(request), condition("Ready", "False", "Pending"));
    });
    let begun = Instant::now();
    let late = bed.sign("spiffe://d/ns/a/sa/b").await;
    assert!(begun.elapsed() >= Duration::from_millis(500));
    let Err(SigningError::Unavailable(reason)) = late else { panic!("{late:?}") };
    assert!(reason.contains("Issuer.cert-manager.io istio-ca") && reason.contains("because"), "{reason}");
    bed.is_empty().await;
}

#[tokio::test]
async fn the_watch_survives_broken_connections_and_forgotten_history() {
    for (compacts, is_neat) in [(false, false), (false, true), (true, false), (true, true)] {
        let bed = bed(|_| {}).await;
        let signing = tokio::spawn({
            let signer = Arc::clone(&bed.signer);
            async move { signer.sign(&wanted("spiffe://d/ns/a/sa/b")).await }
        });
        until("the request is there", || !bed.server.list(REQUESTS, None).is_empty()).await;
        // While nobody watches, it is signed.
        bed.server.inject("watch", REQUESTS, Fault::Code(500), 2);
        if is_neat {
            bed.server.end_watches()
        } else {
            bed.server.drop_watches()
        }
        let request = bed.server.list(REQUESTS, None).remove(0);
        sign(&bed.server, &request);
        if compacts {
            bed.server.compact();
        }
        let chain = timeout(PATIENCE, signing).await.expect("an end").expect("no panic").expect("signed");
        assert_eq!(chain.chain, "certificate of spiffe://d/ns/a/sa/b");
        // And the watch lives on: the next one is not asked for by name.
        until("the watch is back", || bed.server.watches() == 1).await;
        let _controller = bed.controller(sign);
        let asked = bed.server.count("get", REQUESTS);
        bed.sign("spiffe://d/ns/a/sa/c").await.expect("signed");
        assert_eq!(bed.server.count("get", REQUESTS), asked, "{compacts} {is_neat}");
        assert_eq!(bed.server.count("list", REQUESTS) > 2, compacts, "lists anew only if it must");
    }
}

#[tokio::test]
async fn without_a_watch_requests_are_asked_for_by_name() {
    let (server, client) = double().await;
    server.deny("watch", REQUESTS);
    server.deny("list", REQUESTS);
    let active = ActiveIssuer::new(Some(issuer("istio-ca")));
    let settings = CertificateRequestSettings::new(HOME);
    let signer = CertificateRequestSigner::start(client, settings, active.subscribe(), clock());
    let bed = Bed { server: Arc::new(server), signer: Arc::new(signer) };
    let _controller = bed.controller(sign);
    bed.sign("spiffe://d/ns/a/sa/b").await.expect("signed");
    assert_eq!(bed.server.count("get", REQUESTS), 1);
}

#[tokio::test]
async fn overload_is_told_apart_from_refusals() {
    let bed = bed(|_| {}).await;
    for code in [429, 500, 503] {
        bed.server.inject("create", REQUESTS, Fault::Code(code), 1);
        let failed = bed.sign("spiffe://d/ns/a/sa/b").await;
        assert!(matches!(failed, Err(SigningError::Unavailable(_))), "{code}: {failed:?}");
    }
    bed.server.inject("create", REQUESTS, Fault::Drop, 1);
    assert!(matches!(bed.sign("spiffe://d/ns/a/sa/b").await, Err(SigningError::Unavailable(_))));
    bed.server.deny("create", REQUESTS);
    let forbidden = bed.sign("spiffe://d/ns/a/sa/b").await;
    let Err(SigningError::Refused(reason)) = forbidden else { panic!("{forbidden:?}") };
    assert!(
        reason.contains("cannot create resource \"certificaterequests\" in API group \"cert-manager.io\"")
    );
}

#[tokio::test]
async fn whoever_stops_waiting_leaves_no_request_behind() {
    let bed = bed(|_| {}).await;
    let gave_up = timeout(Duration::from_millis(300), bed.signer.sign(&wanted("spiffe://d/ns/a/sa/b"))).await;
    assert!(gave_up.is_err());
    assert_eq!(bed.server.count("create", REQUESTS), 1);
    bed.is_empty().await;
}

#[tokio::test]
async fn deletions_are_repeated_and_waited_for_at_the_end() {
    let bed = bed(|_| {}).await;
    let _controller = bed.controller(sign);
    bed.server.inject("delete", REQUESTS, Fault::Code(500), 1);
    bed.server.inject("delete", REQUESTS, Fault::LoseAnswer, 1);
    bed.sign("spiffe://d/ns/a/sa/b").await.expect("signed");
    // Others may still have it.
    bed.signer.shut_down(PATIENCE).await;
    assert!(bed.server.list(REQUESTS, None).is_empty());
}

#[tokio::test]
async fn preserved_requests_stay() {
    let bed = bed(|settings| settings.preserve = true).await;
    let _controller = bed.controller(sign);
    bed.sign("spiffe://d/ns/a/sa/b").await.expect("signed");
    bed.signer.shut_down(PATIENCE).await;
    assert_eq!(bed.server.list(REQUESTS, None).len(), 1);
    assert_eq!(bed.server.count("delete", REQUESTS), 0);
}

#[tokio::test]
async fn leftovers_of_a_crash_are_deleted_at_the_start_and_nothing_else_is() {
    let (server, client) = double().await;
    let put = |name: &str, annotation: &str| {
        server.put(
            REQUESTS,
            HOME,
            json!({
                "metadata": { "name": name, "annotations": { annotation: "spiffe://d/ns/a/sa/b" } },
                "spec": { "request": "", "issuerRef": { "name": "istio-ca" } },
            }),
        );
    };
    put("istio-csr-left1", IDENTITIES);
    put("istio-csr-left2", IDENTITIES);
    put("istio-csr-other", "example.com/other");
    put("somebody-elses", IDENTITIES);
    // The age counts in whole seconds, from times that have no fractions.
    sleep(Duration::from_millis(2100)).await;
    let mut settings = CertificateRequestSettings::new(HOME);
    settings.leftover_age = Duration::from_secs(1);
    let active = ActiveIssuer::new(None);
    let _signer = CertificateRequestSigner::start(client, settings, active.subscribe(), clock());
    until("the leftovers are gone", || server.list(REQUESTS, None).len() == 2).await;
    assert!(server.get(REQUESTS, HOME, "istio-csr-other").is_some());
    assert!(server.get(REQUESTS, HOME, "somebody-elses").is_some());
}

#[tokio::test]
async fn without_an_issuer_nothing_is_created() {
    let (server, client) = double().await;
    let active = ActiveIssuer::new(None);
    let settings = CertificateRequestSettings::new(HOME);
    let signer = CertificateRequestSigner::start(client, settings, active.subscribe(), clock());
    let refused = signer.sign(&wanted("spiffe://d/ns/a/sa/b")).await;
    assert_eq!(refused, Err(SigningError::Unavailable("no issuer is configured".into())));
    assert_eq!(server.count("create", REQUESTS), 0);
}
