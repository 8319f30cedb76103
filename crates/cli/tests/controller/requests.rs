//! CertificateRequests of others: signed, deleted at once, denied, and waiting for a sealed server.

use chancery_issuance::{Certificate, CsrRequest, KeySpec, PrivateKey, RequestedNames, Signer, create_csr};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::bed::{Bed, condition, decoded, until};
use crate::certificates::left;

const SLEEP: &str = "spiffe://cluster.local/ns/foo/sa/sleep";

/// The same for the issuer that takes every key.
pub(crate) fn quick_workload(name: &str, key: &PrivateKey) -> Value {
    let mut request = workload(name, key);
    request["spec"]["issuerRef"]["name"] = "quick-issuer".into();
    request
}

/// A request as a mesh's certificate service makes them: no subject, one identity, no usages in the CSR.
fn workload(name: &str, key: &PrivateKey) -> Value {
    let names = RequestedNames { uri_sans: vec![SLEEP.into()], ..RequestedNames::default() };
    let csr = create_csr(&CsrRequest { names, ..CsrRequest::default() }, key).expect("a CSR");
    json!({
        "apiVersion": "cert-manager.io/v1", "kind": "CertificateRequest",
        "metadata": { "name": name, "annotations": { "istio.cert-manager.io/identities": SLEEP } },
        "spec": {
            "request": data_encoding::BASE64.encode(csr.pem.as_bytes()),
            "duration": "1h", "isCA": false, "usages": ["client auth", "server auth"],
            "issuerRef": { "name": "vault-issuer", "kind": "Issuer", "group": "cert-manager.io" },
        },
    })
}

/// As Istio's agent makes them by default; the role of the walkthrough takes no others.
pub(crate) fn new_key() -> PrivateKey {
    PrivateKey::generate(KeySpec::new("rsa", 2048).expect("a kind of key")).expect("a key")
}

pub(crate) async fn of_a_mesh(bed: Bed) {
    let _controller = bed.controller(&[]);
    bed.ready_issuer().await;
    let key = new_key();
    let request = workload("istio-csr-first", &key);
    let begun = Instant::now();
    bed.create(request).await;
    let signed = bed
        .until("CertificateRequest", "istio-csr-first", |request| !request["status"]["certificate"].is_null())
        .await;
    let taken = begun.elapsed();
    assert!(taken.as_secs() < 10, "signed after {taken:?}");
    let chain = Certificate::all_from_pem(&decoded(&signed["status"]["certificate"])).expect("a chain");
    assert_eq!(chain.len(), 2);
    assert_eq!(chain[0].public_key(), Some(key.public_key()));
    assert_eq!(decoded(&signed["status"]["ca"]).trim(), bed.vault.root.pem().trim());
    bed.delete("CertificateRequest", "istio-csr-first").await;

    // Others change their minds: created and deleted, at whatever point of the work that is.
    for round in 0..20 {
        let name = format!("istio-csr-{round}");
        bed.create(workload(&name, &key)).await;
        if round % 2 == 1 {
            tokio::time::sleep(std::time::Duration::from_millis(round)).await;
        }
        bed.delete("CertificateRequest", &name).await;
    }
    bed.create(workload("istio-csr-last", &key)).await;
    bed.until_condition("CertificateRequest", "istio-csr-last", ["Ready", "True", "Issued"]).await;
    let log = bed.log();
    let is_bad = |line: &&str| line.contains("ERROR") || line.contains("WARN") || line.contains("panicked");
    let bad: Vec<_> = log.lines().filter(is_bad).collect();
    assert!(bad.is_empty(), "{bad:#?}");
}

pub(crate) async fn denied(bed: Bed) {
    let _controller = bed.controller(&["-auto-approve=false"]);
    bed.ready_issuer().await;
    bed.create_istiod().await;
    bed.until("CertificateRequest", "istiod-1", |_| true).await;
    until("the request waits, and says so", async || {
        let events = bed.events("CertificateRequest", "istiod-1").await;
        let waits = "Not signing CertificateRequest until it is Approved";
        events.iter().any(|event| event == &("WaitingForApproval".into(), waits.into())).then_some(())
    })
    .await;
    assert_eq!(bed.vault.signed().await, 0);
    let denied = json!({ "conditions": [{
        "type": "Denied", "status": "True", "reason": "Auditor", "message": "not in this house",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }]});
    bed.merge_status("CertificateRequest", "istiod-1", denied).await;
    let request = bed.until_condition("CertificateRequest", "istiod-1", ["Ready", "False", "Denied"]).await;
    let message = "The CertificateRequest was denied by an approval controller";
    assert_eq!(condition(&request, "Ready")["message"], message);
    assert!(request["status"]["failureTime"].is_string(), "{request}");
    let certificate = bed
        .until("Certificate", "istiod", |certificate| condition(certificate, "Issuing")["status"] == "False")
        .await;
    let issuing = condition(&certificate, "Issuing");
    let told = issuing["message"].as_str().unwrap_or_default();
    assert!(issuing["reason"] == "Auditor" && told.contains("not in this house"), "{issuing}");
    assert_eq!(certificate["status"]["failedIssuanceAttempts"], 1);
    assert_eq!(bed.vault.signed().await, 0);
    assert_eq!(bed.find("Secret", "istiod-tls").await, None);
}

pub(crate) async fn sealed(bed: Bed) {
    let _controller = bed.controller(&[]);
    bed.ready_issuer().await;
    bed.vault.seal().await;
    bed.create_istiod().await;
    bed.create(workload("istio-csr-1", &new_key())).await;
    for name in ["istiod-1", "istio-csr-1"] {
        let request = bed.until_condition("CertificateRequest", name, ["Ready", "False", "Pending"]).await;
        assert!(request["status"]["failureTime"].is_null(), "{request}");
    }
    // Either the login fails (VaultInitError), or the signature does, or the issuer is known not to be ready.
    until("it is told why the request waits", async || {
        let events = bed.events("CertificateRequest", "istio-csr-1").await;
        let waits = |reason: &str| ["VaultInitError", "IssuerNotReady", "SigningError"].contains(&reason);
        events.iter().any(|(reason, _)| waits(reason)).then_some(())
    })
    .await;
    bed.vault.unseal().await;
    for name in ["istiod-1", "istio-csr-1"] {
        bed.until_condition("CertificateRequest", name, ["Ready", "True", "Issued"]).await;
    }
    let certificate = bed.issued(1).await;
    assert!(certificate["status"]["lastFailureTime"].is_null(), "{certificate}");
    until("the second request remains", async || {
        (bed.names("CertificateRequest").await == ["istio-csr-1", "istiod-1"]).then_some(())
    })
    .await;
    bed.delete("CertificateRequest", "istio-csr-1").await;
    left(&bed, "istiod-1").await;
    assert_eq!(bed.vault.signed().await, 2);
}
