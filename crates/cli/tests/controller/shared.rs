//! Two Certificates that name one Secret.

use chancery_api::{Clock, SystemClock};
use jiff::Timestamp;
use serde_json::{Value, json};

use crate::bed::{Bed, certificate, condition, is_settled, until};

fn sharing(name: &str) -> Value {
    let mut certificate = certificate(name, "quick-issuer");
    certificate["spec"]["secretName"] = "shared".into();
    certificate
}

/// Of whom the Secret is.
async fn owner(bed: &Bed) -> Value {
    let secret = bed.find("Secret", "shared").await.expect("the Secret");
    secret["metadata"]["annotations"]["cert-manager.io/certificate-name"].clone()
}

async fn issued(bed: &Bed, name: &str, revision: u64) {
    bed.until("Certificate", name, |found| found["status"]["revision"] == revision && is_settled(found))
        .await;
}

async fn says_that_it_is_anothers(bed: &Bed, name: &str, other: &str) {
    let found = bed.until_condition("Certificate", name, ["Ready", "False", "IncorrectCertificate"]).await;
    let message = condition(&found, "Ready")["message"].clone();
    let begin = format!("Secret was issued for \"{other}\".");
    assert!(message.as_str().is_some_and(|message| message.starts_with(&begin)), "{message}");
    assert!(condition(&found, "Issuing").is_null(), "{found}");
}

pub(crate) async fn by_two(bed: Bed) {
    let _controller = bed.controller(&[]);
    bed.ready_quick_issuer().await;
    // Its name is the later one: that decides nothing.
    bed.create(sharing("z-elder")).await;
    issued(&bed, "z-elder", 1).await;
    // API servers count ages in seconds.
    until("a second passes", async || {
        let elder = bed.find("Certificate", "z-elder").await?;
        let created: Timestamp = elder["metadata"]["creationTimestamp"].as_str()?.parse().ok()?;
        (SystemClock.now().as_second() > created.as_second()).then_some(())
    })
    .await;
    bed.create(sharing("a-younger")).await;
    says_that_it_is_anothers(&bed, "a-younger", "z-elder").await;
    // What the elder does wakes the younger, and it lets it be.
    bed.merge("Certificate", "z-elder", json!({ "spec": { "dnsNames": ["elder.mesh.svc"] } })).await;
    issued(&bed, "z-elder", 2).await;
    bed.delete("Secret", "shared").await;
    issued(&bed, "z-elder", 3).await;
    says_that_it_is_anothers(&bed, "a-younger", "z-elder").await;
    assert_eq!(owner(&bed).await, "z-elder");
    until("only the elder's newest request is left", async || {
        (bed.names("CertificateRequest").await == ["z-elder-3"]).then_some(())
    })
    .await;
    assert_eq!(bed.vault.signed().await, 3);

    bed.merge("Certificate", "z-elder", json!({ "spec": { "secretName": "own" } })).await;
    issued(&bed, "a-younger", 1).await;
    issued(&bed, "z-elder", 4).await;
    assert_eq!(owner(&bed).await, "a-younger");
    until("each has a Secret, and no key is left", async || {
        (bed.names("Secret").await == ["cert-manager-vault-approle", "own", "shared"]).then_some(())
    })
    .await;

    // Whoever has it keeps it, also from somebody older.
    bed.merge("Certificate", "z-elder", json!({ "spec": { "secretName": "shared" } })).await;
    says_that_it_is_anothers(&bed, "z-elder", "a-younger").await;
    assert_eq!(owner(&bed).await, "a-younger");
    bed.delete("Certificate", "a-younger").await;
    issued(&bed, "z-elder", 5).await;
    assert_eq!(owner(&bed).await, "z-elder");
    assert_eq!(bed.vault.signed().await, 6);
}
