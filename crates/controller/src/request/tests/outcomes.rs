use chancery_testkit::kubernetes::Fault;

use super::*;

const APPROVED: [&str; 4] =
    ["Approved", "True", "cert-manager.io", "Certificate request has been approved by cert-manager.io"];
const ISSUED: [&str; 4] = ["Ready", "True", "Issued", "Certificate fetched from issuer successfully"];
const VAULT: &str = "cert-manager-certificaterequests-issuer-vault";

fn event(component: &str, kind: &str, reason: &str, message: &str) -> (String, String, String, String, u64) {
    (component.into(), kind.into(), reason.into(), message.into(), 1)
}

fn approved() -> (String, String, String, String, u64) {
    event("cert-manager-certificaterequests-approver", "Normal", APPROVED[2], APPROVED[3])
}

#[tokio::test]
async fn a_request_is_approved_and_signed_with_one_write_and_no_read() {
    let bed = Bed::new().await;
    bed.create("istiod-1");
    assert_eq!(bed.reconcile("istiod-1").await.expect("reconciled"), Next::Done);
    assert_eq!(bed.conditions("istiod-1"), [APPROVED, ISSUED]);
    let status = bed.get("istiod-1")["status"].clone();
    assert_eq!(status["ca"], BASE64.encode(b"the root"));
    assert!(status["certificate"].is_string() && status["failureTime"].is_null());
    assert_eq!(status["conditions"][1]["lastTransitionTime"], "2026-11-24T00:22:45Z");
    assert_eq!(bed.get("istiod-1")["spec"], request("istiod-1")["spec"]);
    assert_eq!((bed.server.count("update", STATUS), bed.server.count("get", REQUESTS)), (1, 0));
    let issued = event(VAULT, "Normal", "CertificateIssued", ISSUED[3]);
    assert_eq!(bed.events(2).await, [approved(), issued]);
    bed.settle("istiod-1").await;
    assert_eq!((bed.server.count("update", STATUS), bed.signer.counts()), (1, (1, 1)));
}

#[tokio::test]
async fn nothing_is_signed_before_its_approval_and_that_is_said_once() {
    let bed = Bed::with(Settings { approves: false, ..Settings::default() }).await;
    let mut object = bed.create("a");
    for _ in 0..3 {
        bed.settle("a").await;
    }
    assert_eq!((bed.conditions("a").len(), bed.signer.counts()), (0, (0, 0)));
    object["status"]["conditions"] = json!([{ "type": "Approved", "status": "True", "reason": "KubectlCertManager", "message": "by hand" }]);
    bed.server.put(REQUESTS, NAMESPACE, object);
    bed.settle("a").await;
    assert_eq!(bed.conditions("a"), [["Approved", "True", "KubectlCertManager", "by hand"], ISSUED]);
    let waiting =
        event(VAULT, "Normal", "WaitingForApproval", "Not signing CertificateRequest until it is Approved");
    assert_eq!(bed.events(2).await, [waiting, event(VAULT, "Normal", "CertificateIssued", ISSUED[3])]);
}

#[tokio::test]
async fn a_denied_request_says_so_and_keeps_what_it_has() {
    let bed = Bed::with(Settings { approves: false, ..Settings::default() }).await;
    let mut object = bed.create("a");
    object["status"] = json!({
        "certificate": BASE64.encode(b"x"), "ca": BASE64.encode(b"y"),
        "conditions": [{ "type": "Denied", "status": "True", "reason": "no", "message": "no" }],
    });
    bed.server.put(REQUESTS, NAMESPACE, object);
    bed.settle("a").await;
    let message = "The CertificateRequest was denied by an approval controller";
    assert_eq!(bed.conditions("a"), [["Denied", "True", "no", "no"], ["Ready", "False", "Denied", message]]);
    let status = &bed.get("a")["status"];
    assert_eq!(status["failureTime"], "2026-11-24T00:22:45Z");
    assert_eq!((&status["certificate"], &status["ca"]), (&json!("eA=="), &json!("eQ==")));
    assert_eq!((bed.server.count("update", STATUS), bed.signer.counts()), (1, (0, 0)));
    assert_eq!(bed.events(0).await, []);
}

#[tokio::test]
async fn a_request_waits_for_its_issuer_and_then_goes_on() {
    let bed = Bed::new().await;
    bed.issuer(false);
    bed.create("a");
    bed.settle("a").await;
    let message = "Referenced issuer does not have a Ready status condition";
    assert_eq!(bed.conditions("a"), [APPROVED, ["Ready", "False", "Pending", message]]);
    bed.server.remove("issuers", NAMESPACE, "vault-issuer");
    bed.settle("a").await;
    let absent = "Referenced \"Issuer\" not found: issuer.cert-manager.io \"vault-issuer\" not found";
    assert_eq!(bed.conditions("a"), [APPROVED, ["Ready", "False", "Pending", absent]]);
    bed.clock.advance(Duration::from_secs(60));
    bed.issuer(true);
    bed.settle("a").await;
    assert_eq!(bed.conditions("a"), [APPROVED, ISSUED]);
    let conditions = bed.get("a")["status"]["conditions"].clone();
    assert_eq!(conditions[0]["lastTransitionTime"], "2026-11-24T00:22:45Z");
    assert_eq!(conditions[1]["lastTransitionTime"], "2026-11-24T00:23:45Z");
    // It became pending once, so there is one event of it.
    let events = [
        approved(),
        event(VAULT, "Normal", "IssuerNotReady", message),
        event(VAULT, "Normal", "CertificateIssued", ISSUED[3]),
    ];
    assert_eq!(bed.events(3).await, events);
    assert_eq!(bed.signer.counts(), (1, 1));
}

#[tokio::test]
async fn what_may_be_signed_later_is_tried_again_and_its_own_echo_is_no_reason_to() {
    let bed = Bed::new().await;
    bed.create("a");
    let pause = Duration::from_secs(5);
    let sealed = |number: u32| SignError::Pending {
        reason: "VaultInitError",
        message: format!("Failed to initialise vault client for signing: Vault is sealed ({number})"),
        retry_after: Some(pause),
    };
    bed.signer.fails(sealed(1));
    bed.signer.fails(sealed(2));
    assert_eq!(bed.reconcile("a").await.expect("reconciled"), Next::After(pause));
    let message = "Failed to initialise vault client for signing: Vault is sealed (1)";
    assert_eq!(bed.conditions("a"), [APPROVED, ["Ready", "False", "Pending", message]]);
    // The watch tells what was just written.
    bed.learn();
    let Next::After(left) = bed.reconcile("a").await.expect("reconciled") else { panic!("not tried again") };
    assert!(left <= pause && left > Duration::from_secs(4));
    assert_eq!(bed.signer.counts(), (1, 0));
    // Time is up.
    assert_eq!(bed.reconcile("a").await.expect("reconciled"), Next::After(pause));
    assert_eq!(bed.signer.counts(), (2, 0));
    // The echo and the issuer's recovery come together.
    bed.issuer(true);
    bed.server.put("issuers", NAMESPACE, {
        let mut issuer = bed.server.get("issuers", NAMESPACE, "vault-issuer").expect("an issuer");
        issuer["status"]["conditions"][0]["message"] = "Vault verified".into();
        issuer
    });
    bed.learn();
    assert_eq!(bed.reconcile("a").await.expect("reconciled"), Next::Done);
    assert_eq!(bed.conditions("a"), [APPROVED, ISSUED]);
    assert_eq!(bed.signer.counts(), (3, 1));
    let events = [
        approved(),
        event(VAULT, "Normal", "VaultInitError", message),
        event(VAULT, "Normal", "CertificateIssued", ISSUED[3]),
    ];
    assert_eq!(bed.events(3).await, events);
}

#[tokio::test]
async fn an_attempt_without_a_time_is_repeated_when_something_changes() {
    let bed = Bed::new().await;
    bed.create("a");
    let message = "Required secret resource not found: secrets \"s\" not found";
    let missing =
        || SignError::Pending { reason: "SecretMissing", message: message.into(), retry_after: None };
    bed.signer.fails(missing());
    bed.signer.fails(missing());
    // Should the change be overlooked, it is not waited for without end.
    let at_last = Next::After(Duration::from_secs(300));
    assert_eq!(bed.reconcile("a").await.expect("reconciled"), at_last);
    bed.learn();
    assert!(
        matches!(bed.reconcile("a").await, Ok(Next::After(pause)) if pause <= Duration::from_secs(5)),
        "its echo"
    );
    assert_eq!(bed.reconcile("a").await.expect("reconciled"), at_last);
    assert_eq!((bed.signer.counts(), bed.server.count("update", STATUS)), ((2, 0), 1));
    bed.settle("a").await;
    assert_eq!(bed.conditions("a"), [APPROVED, ISSUED]);
}

#[tokio::test]
async fn a_refusal_ends_the_request() {
    let message = "Vault failed to sign certificate: failed to sign certificate by vault: Error making API \
        request.\n\nURL: POST http://vault/v1/istioca/sign/cluster-local\nCode: 400. Errors:\n\n* no";
    let bed = Bed::new().await;
    bed.create("a");
    bed.signer.fails(SignError::Failed { reason: "SigningError", message: message.into() });
    for _ in 0..3 {
        bed.settle("a").await;
    }
    assert_eq!(bed.conditions("a"), [APPROVED, ["Ready", "False", "Failed", message]]);
    assert_eq!(bed.get("a")["status"]["failureTime"], "2026-11-24T00:22:45Z");
    assert_eq!((bed.signer.counts(), bed.server.count("update", STATUS)), ((1, 0), 1));
    assert_eq!(bed.events(2).await, [approved(), event(VAULT, "Warning", "SigningError", message)]);
}

#[tokio::test]
async fn a_certificate_that_is_none_or_anothers_is_not_handed_out() {
    let table = [
        ("no certificate".to_owned(), "DecodeError", "Failed to decode returned certificate: "),
        (
            ANOTHERS.certificate.clone(),
            "SigningError",
            "The issuer answered with a certificate for another key",
        ),
    ];
    for (certificate, reason, message) in table {
        let bed = Bed::new().await;
        bed.create("a");
        *bed.signer.certificate.lock().expect("a lock") = Some(certificate);
        bed.settle("a").await;
        let ready = bed.conditions("a").pop().expect("a condition");
        assert_eq!(ready[..3], ["Ready", "False", "Failed"]);
        assert!(ready[3].starts_with(message), "{ready:?}");
        assert!(bed.get("a")["status"]["certificate"].is_null());
        assert_eq!(bed.events(2).await[1].2, reason);
    }
}

#[tokio::test]
async fn a_csr_that_is_not_text_is_refused_without_asking_the_issuer() {
    let bed = Bed::new().await;
    let mut object = request("a");
    object["spec"]["request"] = BASE64.encode(&[0xff, 0xfe]).into();
    bed.server.put(REQUESTS, NAMESPACE, object);
    bed.settle("a").await;
    let ready = bed.conditions("a").pop().expect("a condition");
    assert_eq!(ready[..3], ["Ready", "False", "Failed"]);
    assert_eq!(bed.signer.counts(), (0, 0));
}

#[tokio::test]
async fn a_status_that_only_says_it_is_ready_is_no_reason_to_go_round_in_circles() {
    let bed = Bed::new().await;
    let mut object = bed.create("a");
    object["status"]["conditions"] = json!([{ "type": "Ready", "status": "True", "reason": "Strange" }]);
    bed.server.put(REQUESTS, NAMESPACE, object);
    bed.settle("a").await;
    assert_eq!(bed.signer.counts(), (1, 1));
}

#[tokio::test]
async fn a_clock_that_jumps_changes_nothing_but_times() {
    for now in [Timestamp::MIN, Timestamp::UNIX_EPOCH, Timestamp::MAX] {
        let bed = Bed::new().await;
        let context = Context { clock: Arc::new(FixedClock::at(now)), ..bed.context.clone() };
        bed.create("a");
        let again = Some(Duration::MAX);
        bed.signer.fails(SignError::Pending { reason: "R", message: "m".into(), retry_after: again });
        let first = reconcile(&context, &*bed.signer, &key("a")).await.expect("reconciled");
        assert_eq!(first, Next::After(Duration::from_secs(86_400)));
        bed.learn();
        reconcile(&context, &*bed.signer, &key("a")).await.expect("reconciled");
        bed.signer.fails(SignError::Failed { reason: "R", message: "m".into() });
        reconcile(&context, &*bed.signer, &key("a")).await.expect("reconciled");
        assert_eq!(bed.conditions("a")[1][2], "Failed");
    }
}

#[tokio::test]
async fn deleted_meanwhile_is_no_error_and_what_was_signed_is_dropped() {
    for is_made_anew in [false, true] {
        let bed = Bed::new().await;
        bed.create("a");
        let server = Arc::clone(&bed.server);
        bed.signer.meanwhile(move || {
            server.remove(REQUESTS, NAMESPACE, "a");
            if is_made_anew {
                server.put(REQUESTS, NAMESPACE, request("a"));
            }
        });
        assert_eq!(bed.reconcile("a").await.expect("no error"), Next::Done);
        assert_eq!(bed.context.cache.requests_under_way.answers(), 0);
        bed.settle("a").await;
        if is_made_anew {
            // Another request under the same name does not get the first one's certificate.
            let certificate = bed.get("a")["status"]["certificate"].clone();
            let certificate = BASE64.decode(certificate.as_str().expect("text").as_bytes()).expect("base64");
            assert!(certificate.starts_with(b"signature 2\n"));
        } else {
            assert_eq!(bed.context.cache.requests_under_way.len(), 0);
        }
        assert_eq!(bed.signer.counts().1, usize::from(is_made_anew) + 1);
    }
}

#[tokio::test]
async fn one_that_is_being_deleted_is_left_alone() {
    let bed = Bed::new().await;
    let mut object = request("a");
    object["metadata"]["finalizers"] = json!(["example.com/f"]);
    bed.server.put(REQUESTS, NAMESPACE, object);
    bed.learn();
    bed.server.inject("get", REQUESTS, Fault::Code(500), 9);
    let facts = bed.context.cache.requests.get(&key("a")).expect("known");
    bed.context
        .cache
        .requests
        .apply(key("a"), RequestFacts { is_deleting: true, ..RequestFacts::clone(&facts) });
    assert_eq!(bed.reconcile("a").await.expect("reconciled"), Next::Done);
    assert_eq!((bed.signer.counts(), bed.server.count("update", STATUS)), ((0, 0), 0));
}
