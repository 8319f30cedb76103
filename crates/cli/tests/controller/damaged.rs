//! Secrets that others change, or spoil, while an issuance is under way.

use chancery_issuance::{Certificate, KeyForm, KeySpec, PrivateKey, Signer};
use serde_json::{Value, json};

use crate::bed::{Bed, certificate, condition, decoded, is_settled, until};

fn base64(text: &str) -> String {
    data_encoding::BASE64.encode(text.as_bytes())
}

/// Asks for other names: a new certificate is needed. Answers the request for it, which waits for its approval.
async fn asked(bed: &Bed, revision: u64) -> Value {
    let names = json!({ "spec": { "dnsNames": [format!("revision-{revision}.mesh.svc")] } });
    bed.merge("Certificate", "server", names).await;
    bed.until("CertificateRequest", &format!("server-{revision}"), |_| true).await
}

async fn approve(bed: &Bed, request: &str) {
    let approved = json!({ "conditions": [{
        "type": "Approved", "status": "True", "reason": "Auditor", "message": "yes",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }]});
    bed.merge_status("CertificateRequest", request, approved).await;
}

/// Waits for the certificate of this revision, and holds the Secret against it.
async fn issued(bed: &Bed, revision: u64) {
    bed.until("Certificate", "server", |found| found["status"]["revision"] == revision && is_settled(found))
        .await;
    let secret = bed.find("Secret", "server-tls").await.expect("the Secret");
    let key = PrivateKey::from_pem(&decoded(&secret["data"]["tls.key"])).expect("a key");
    let chain = Certificate::all_from_pem(&decoded(&secret["data"]["tls.crt"])).expect("a chain");
    assert_eq!(chain[0].public_key(), Some(key.public_key()));
    let request = bed.find("CertificateRequest", &format!("server-{revision}")).await.expect("the request");
    assert_eq!(request["status"]["certificate"], secret["data"]["tls.crt"]);
    until("nothing else is left", async || {
        let secrets = bed.names("Secret").await == ["cert-manager-vault-approle", "server-tls"];
        (secrets && bed.names("CertificateRequest").await == [format!("server-{revision}")]).then_some(())
    })
    .await;
}

/// The Secret with the key of the issuance that is under way.
async fn next_key(bed: &Bed) -> String {
    let certificate = bed.find("Certificate", "server").await.expect("the Certificate");
    certificate["status"]["nextPrivateKeySecretName"].as_str().expect("its name").to_owned()
}

/// Waits for another request in the place of one.
async fn asked_again(bed: &Bed, before: &Value) {
    let name = before["metadata"]["name"].as_str().expect("a name");
    until("there is another request", async || {
        let found = bed.find("CertificateRequest", name).await?;
        (found["metadata"]["uid"] != before["metadata"]["uid"]
            && found["spec"]["request"] != before["spec"]["request"])
            .then_some(())
    })
    .await;
}

pub(crate) async fn during_an_issuance(bed: Bed) {
    let _controller = bed.controller(&["-auto-approve=false"]);
    bed.ready_quick_issuer().await;
    bed.create(certificate("server", "quick-issuer")).await;
    bed.until("CertificateRequest", "server-1", |_| true).await;
    // Somebody puts something else in the place of the Secret, whose type cannot be changed then.
    bed.create(json!({
        "apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": { "name": "server-tls" },
        "data": { "tls.key": base64("garbage"), "mine": base64("mine") },
    }))
    .await;
    approve(&bed, "server-1").await;
    issued(&bed, 1).await;
    let secret = bed.find("Secret", "server-tls").await.expect("the Secret");
    assert_eq!([&secret["type"], &secret["data"]["mine"]], [&json!("Opaque"), &json!(base64("mine"))]);

    // The key of the certificate in use is replaced: that is told, and ends with the new certificate.
    asked(&bed, 2).await;
    let other = PrivateKey::generate(KeySpec::new("ec", 256).expect("a kind of key")).expect("a key");
    let other_pem = base64(&other.to_pem(KeyForm::Pkcs8));
    bed.merge("Secret", "server-tls", json!({ "data": { "tls.key": other_pem } })).await;
    bed.until_condition("Certificate", "server", ["Ready", "False", "InvalidKeyPair"]).await;
    approve(&bed, "server-2").await;
    issued(&bed, 2).await;

    // The key of the issuance is spoilt: there is another, and with it another request.
    let before = asked(&bed, 3).await;
    bed.merge("Secret", &next_key(&bed).await, json!({ "data": { "tls.key": base64("garbage") } })).await;
    asked_again(&bed, &before).await;
    approve(&bed, "server-3").await;
    issued(&bed, 3).await;

    // It is replaced by another good one: that is used, and the request is made anew for it.
    let before = asked(&bed, 4).await;
    bed.merge("Secret", &next_key(&bed).await, json!({ "data": { "tls.key": other_pem } })).await;
    asked_again(&bed, &before).await;
    approve(&bed, "server-4").await;
    issued(&bed, 4).await;
    let secret = bed.find("Secret", "server-tls").await.expect("the Secret");
    let key = PrivateKey::from_pem(&decoded(&secret["data"]["tls.key"])).expect("a key");
    assert_eq!(key.public_key(), other.public_key());

    // It is deleted.
    let before = asked(&bed, 5).await;
    bed.delete("Secret", &next_key(&bed).await).await;
    asked_again(&bed, &before).await;
    approve(&bed, "server-5").await;
    issued(&bed, 5).await;
    assert_eq!(bed.vault.signed().await, 5, "{}", bed.log());
}

pub(crate) async fn authority(bed: Bed) {
    let _controller = bed.controller(&[]);
    bed.ready_ca_issuer().await;
    bed.create(certificate("before", "ca-issuer")).await;
    bed.until("Certificate", "before", is_settled).await;
    let good = bed.find("Secret", "ca").await.expect("the Secret")["data"].clone();
    // This one may still find the authority, or find it as it is then: never does it fail for good.
    bed.create(certificate("meanwhile", "ca-issuer")).await;
    bed.merge("Secret", "ca", json!({ "data": { "tls.key": base64("garbage") } })).await;
    let issuer = bed.until_condition("Issuer", "ca-issuer", ["Ready", "False", "ErrGetKeyPair"]).await;
    let message = condition(&issuer, "Ready")["message"].clone();
    assert!(
        message.as_str().is_some_and(|message| message.contains("error decoding \"tls.key\"")),
        "{message}"
    );
    bed.create(certificate("later", "ca-issuer")).await;
    let request = bed.until_condition("CertificateRequest", "later-1", ["Ready", "False", "Pending"]).await;
    let message = &condition(&request, "Ready")["message"];
    assert_eq!(message, "Referenced issuer does not have a Ready status condition");
    let waiting = bed.find("Certificate", "later").await.expect("it");
    assert_eq!(condition(&waiting, "Issuing")["status"], "True");

    bed.merge("Secret", "ca", json!({ "data": good })).await;
    bed.until_condition("Issuer", "ca-issuer", ["Ready", "True", "KeyPairVerified"]).await;
    for name in ["before", "meanwhile", "later"] {
        let found = bed.until("Certificate", name, is_settled).await;
        assert_eq!(found["status"]["revision"], 1, "{found}");
        assert_eq!(condition(&found, "Ready")["status"], "True");
    }
    let requests = bed.names("CertificateRequest").await;
    assert_eq!(requests, ["before-1", "later-1", "meanwhile-1"]);
}
