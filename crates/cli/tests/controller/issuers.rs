//! Issuers: verified, waiting for their Secret, refused and corrected.

use serde_json::json;

use crate::bed::{Bed, condition, until};

pub(crate) async fn verified(bed: Bed) {
    let _controller = bed.controller(&[]);
    bed.create_secret_id(&bed.vault.secret_id().await).await;
    bed.create_issuer().await;
    let issuer = bed.until_condition("Issuer", "vault-issuer", ["Ready", "True", "VaultVerified"]).await;
    let ready = condition(&issuer, "Ready");
    assert_eq!(ready["message"], "Vault verified");
    assert_eq!(ready["observedGeneration"], 1);
    assert!(ready["lastTransitionTime"].is_string(), "{ready}");
}

pub(crate) async fn before_its_secret(bed: Bed) {
    let _controller = bed.controller(&[]);
    bed.create_issuer().await;
    let issuer = bed.until_condition("Issuer", "vault-issuer", ["Ready", "False", "VaultError"]).await;
    let message = condition(&issuer, "Ready")["message"].to_string();
    assert!(message.contains("cert-manager-vault-approle"), "{message}");
    // Events are written beside the work.
    until("the event is there", async || {
        let events = bed.events("Issuer", "vault-issuer").await;
        events.iter().any(|(reason, _)| reason == "ErrInitIssuer").then_some(())
    })
    .await;
    bed.create_secret_id(&bed.vault.secret_id().await).await;
    bed.until_condition("Issuer", "vault-issuer", ["Ready", "True", "VaultVerified"]).await;
}

pub(crate) async fn wrong_secret_id(bed: Bed) {
    let _controller = bed.controller(&[]);
    bed.create_secret_id("00000000-0000-0000-0000-000000000000").await;
    bed.create_issuer().await;
    let issuer = bed.until_condition("Issuer", "vault-issuer", ["Ready", "False", "VaultError"]).await;
    let ready = condition(&issuer, "Ready");
    let message = ready["message"].as_str().expect("a message");
    let url = format!("URL: POST {}/v1/auth/approle/login", bed.vault.url);
    let begin = "Failed to initialize Vault client: error logging in to Vault server: ";
    assert!(message.starts_with(begin), "{message}");
    for part in [url.as_str(), "Code: 400. Errors:", "* invalid role or secret ID"] {
        assert!(message.contains(part), "{message}");
    }
    let right = data_encoding::BASE64.encode(bed.vault.secret_id().await.as_bytes());
    bed.merge("Secret", "cert-manager-vault-approle", json!({ "data": { "secretId": right } })).await;
    bed.until_condition("Issuer", "vault-issuer", ["Ready", "True", "VaultVerified"]).await;
}
