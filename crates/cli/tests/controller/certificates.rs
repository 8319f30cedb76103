//! The Certificate `istiod`: issued, issued again, renewed, refused and put right.

use chancery_issuance::{Certificate, PrivateKey, Signer};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::bed::{Bed, condition, decoded, name, until};

/// The first certificate of the Secret, whose key it must be for and whose chain must lead to the root.
pub(crate) fn leaf(bed: &Bed, secret: &Value) -> Certificate {
    let data = &secret["data"];
    let mut fields: Vec<_> = data.as_object().expect("data").keys().map(String::as_str).collect();
    fields.sort_unstable();
    assert_eq!(fields, ["ca.crt", "tls.crt", "tls.key"]);
    let chain = Certificate::all_from_pem(&decoded(&data["tls.crt"])).expect("a chain");
    let [leaf, intermediate] = chain.as_slice() else { panic!("{} certificates", chain.len()) };
    let authority = Certificate::all_from_pem(&decoded(&data["ca.crt"])).expect("an authority");
    assert_eq!(authority.len(), 1);
    assert_eq!(authority[0].der(), bed.vault.root.der(), "ca.crt is the root");
    assert!(leaf.is_signed_by(intermediate) && intermediate.is_signed_by(&authority[0]));
    let key = PrivateKey::from_pem(&decoded(&data["tls.key"])).expect("a key");
    assert_eq!(leaf.public_key(), Some(key.public_key()));
    leaf.clone()
}

fn time(value: &Value) -> Timestamp {
    value.as_str().expect("a time").parse().expect("a time")
}

/// Starts a controller and lets `istiod` be issued. Answers the Secret.
async fn first(bed: &Bed) -> Value {
    bed.ready_issuer().await;
    bed.create_istiod().await;
    bed.issued(1).await;
    bed.find("Secret", "istiod-tls").await.expect("the Secret")
}

/// Waits until these are all Secrets and CertificateRequests there are.
pub(crate) async fn left(bed: &Bed, request: &str) {
    until("only the Secret and the newest request are left", async || {
        let secrets = bed.names("Secret").await == ["cert-manager-vault-approle", "istiod-tls"];
        (secrets && bed.names("CertificateRequest").await == [request]).then_some(())
    })
    .await;
}

pub(crate) async fn issued(bed: Bed) {
    let _controller = bed.controller(&[]);
    let secret = first(&bed).await;
    let leaf = leaf(&bed, &secret);
    assert_eq!(secret["type"], "kubernetes.io/tls");
    assert_eq!(secret["metadata"]["labels"], json!({ "controller.cert-manager.io/fao": "true" }));
    let identity = "spiffe://cluster.local/ns/istio-system/sa/istiod-service-account";
    assert_eq!(
        secret["metadata"]["annotations"],
        json!({
            "cert-manager.io/alt-names": "istiod.istio-system.svc",
            "cert-manager.io/certificate-name": "istiod",
            "cert-manager.io/common-name": "istiod.istio-system.svc",
            "cert-manager.io/ip-sans": "",
            "cert-manager.io/issuer-group": "cert-manager.io",
            "cert-manager.io/issuer-kind": "Issuer",
            "cert-manager.io/issuer-name": "vault-issuer",
            "cert-manager.io/uri-sans": identity,
        })
    );
    assert!(secret["metadata"]["ownerReferences"].is_null(), "the Secret outlives its Certificate");
    assert_eq!(leaf.common_name(), Some("istiod.istio-system.svc"));

    let certificate = bed.issued(1).await;
    let status = &certificate["status"];
    assert_eq!(time(&status["notAfter"]).as_second(), leaf.not_after().to_timestamp().as_second());
    assert_eq!(time(&status["notAfter"]).as_second() - time(&status["renewalTime"]).as_second(), 30 * 60);
    let ready = condition(&certificate, "Ready");
    assert_eq!(ready["reason"], "Ready");
    assert_eq!(ready["message"], "Certificate is up to date and has not expired");

    left(&bed, "istiod-1").await;
    let request = bed.find("CertificateRequest", "istiod-1").await.expect("the request");
    let approved = condition(&request, "Approved");
    assert_eq!([&approved["status"], &approved["reason"]], ["True", "cert-manager.io"]);
    assert_eq!(approved["message"], "Certificate request has been approved by cert-manager.io");
    let ready = condition(&request, "Ready");
    assert_eq!([&ready["status"], &ready["reason"]], ["True", "Issued"]);
    assert_eq!(ready["message"], "Certificate fetched from issuer successfully");
    assert_eq!(request["metadata"]["annotations"]["cert-manager.io/certificate-revision"], "1");
    let owner = &request["metadata"]["ownerReferences"][0];
    assert_eq!(
        [&owner["kind"], &owner["name"], &owner["controller"]],
        [&json!("Certificate"), &json!("istiod"), &json!(true)]
    );
    assert_eq!(bed.vault.signed().await, 1);

    let events = bed.events("Certificate", "istiod").await;
    for (reason, message) in [
        ("Issuing", "Issuing certificate as Secret does not exist"),
        ("Generated", "Stored new private key in temporary Secret resource"),
        ("Requested", "Created new CertificateRequest resource \"istiod-1\""),
        ("Issuing", "The certificate has been successfully issued"),
    ] {
        let is_told = |event: &(String, String)| event.0 == reason && event.1.starts_with(message);
        assert!(events.iter().any(is_told), "{reason}: {message}: {events:?}");
    }
}

pub(crate) async fn secret_deleted(bed: Bed) {
    let _controller = bed.controller(&[]);
    let before = first(&bed).await;
    bed.delete("Secret", "istiod-tls").await;
    bed.issued(2).await;
    let after = bed.find("Secret", "istiod-tls").await.expect("made anew");
    assert_ne!(leaf(&bed, &before).public_key(), leaf(&bed, &after).public_key());
    left(&bed, "istiod-2").await;
    assert_eq!(bed.vault.signed().await, 2);
}

pub(crate) async fn changed_and_renewed(bed: Bed) {
    let _controller = bed.controller(&[]);
    let before = first(&bed).await;
    let names = ["istiod.istio-system.svc", "istiod-canary.istio-system.svc"];
    bed.merge("Certificate", "istiod", json!({ "spec": { "dnsNames": names } })).await;
    bed.issued(2).await;
    let why = "Fields on existing CertificateRequest resource not up to date: [spec.dnsNames]";
    let events = bed.events("Certificate", "istiod").await;
    assert!(events.iter().any(|event| event == &("Issuing".into(), why.into())), "{events:?}");
    let changed = bed.find("Secret", "istiod-tls").await.expect("the Secret");
    assert_eq!(changed["metadata"]["annotations"]["cert-manager.io/alt-names"], names.join(","));
    assert_ne!(leaf(&bed, &before).public_key(), leaf(&bed, &changed).public_key());
    left(&bed, "istiod-2").await;

    let output = bed.run(&["cert", "renew"], "istiod").await;
    assert!(output.status.success(), "{output:?}");
    bed.issued(3).await;
    let events = bed.events("Certificate", "istiod").await;
    let why = "Certificate re-issuance manually triggered";
    assert!(events.iter().filter(|event| event.0 == "Requested").count() == 3, "{why}: {events:?}");
    let renewed = bed.find("Secret", "istiod-tls").await.expect("the Secret");
    assert_ne!(leaf(&bed, &changed).public_key(), leaf(&bed, &renewed).public_key());
    left(&bed, "istiod-3").await;
    assert_eq!(bed.vault.signed().await, 3);
}

pub(crate) async fn forbidden_name(bed: Bed) {
    let _controller = bed.controller(&[]);
    bed.ready_issuer().await;
    bed.create_istiod().await;
    bed.issued(1).await;
    let set = async |name: &str| {
        let names = json!({ "spec": { "dnsNames": ["istiod.istio-system.svc", name] } });
        bed.merge("Certificate", "istiod", names).await;
    };
    set("istiod.example.com").await;
    let request = bed.until_condition("CertificateRequest", "istiod-2", ["Ready", "False", "Failed"]).await;
    let ready = condition(&request, "Ready");
    let message = ready["message"].as_str().expect("a message");
    assert!(message.starts_with("Vault failed to sign certificate: "), "{message}");
    assert!(message.contains("istiod.example.com not allowed by this role"), "{message}");
    assert!(request["status"]["failureTime"].is_string(), "{request}");
    until("the refusal is told", async || {
        let events = bed.events("CertificateRequest", "istiod-2").await;
        events.iter().any(|(reason, _)| reason == "SigningError").then_some(())
    })
    .await;

    let certificate = bed.until_condition("Certificate", "istiod", ["Issuing", "False", "Failed"]).await;
    let issuing = condition(&certificate, "Issuing");
    let begin = "The certificate request has failed to complete and will be retried: Vault failed to sign";
    assert!(issuing["message"].as_str().expect("a message").starts_with(begin), "{issuing}");
    let status = &certificate["status"];
    assert_eq!(status["failedIssuanceAttempts"], 1);
    assert!(status["lastFailureTime"].is_string(), "{status}");
    assert_eq!(status["revision"], 1);
    leaf(&bed, &bed.find("Secret", "istiod-tls").await.expect("the old Secret"));

    set("istiod-canary.istio-system.svc").await;
    let certificate = bed.issued(2).await;
    let status = &certificate["status"];
    assert!(status["failedIssuanceAttempts"].is_null() && status["lastFailureTime"].is_null(), "{status}");
    left(&bed, "istiod-2").await;
    assert_eq!(bed.list("CertificateRequest").await.iter().map(name).collect::<Vec<_>>(), ["istiod-2"]);
}
