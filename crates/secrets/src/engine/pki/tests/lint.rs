//! `config/lint`: what becomes of certificates that break a standard.

use super::*;

/// A name that the peer takes and no directory can hold.
const LONG: &str = "a-common-name-of-more-than-sixty-four-characters.in-all.example.com";

const SENTENCE: &str = "attributes of the subject are no longer than their upper bounds (RFC 5280, A.1; lint \
    subject_attribute_length): commonName of 67, beyond 64";

impl Bed {
    async fn lint(&self, body: Value) {
        self.write("config/lint", body).await.unwrap();
    }
}

#[tokio::test]
async fn the_setting_has_a_default_and_is_changed_field_by_field() {
    let bed = Bed::new().await;
    assert_eq!(bed.read("config/lint").await.unwrap(), json!({"rfc5280": "warn", "spiffe": "warn"}));
    bed.lint(json!({"rfc5280": "refuse"})).await;
    let answer = data(&bed.write("config/lint", json!({"spiffe": "off"})).await.unwrap());
    assert_eq!(answer, json!({"rfc5280": "refuse", "spiffe": "off"}));
    assert_eq!(bed.restarted().await.read("config/lint").await.unwrap(), answer);
    let error = bed.write("config/lint", json!({"spiffe": "Warn"})).await.unwrap_err();
    assert_eq!(error.kind, Kind::InvalidRequest);
    assert_eq!(
        error.message(),
        "Unknown value for field `spiffe`. Possible values are `off`, `warn` and `refuse`."
    );
    assert_eq!(bed.read("config/lint").await.unwrap(), answer);
}

#[tokio::test]
async fn the_setting_in_memory_is_the_one_at_rest_whatever_became_of_its_write() {
    for (fault, kept) in [(Fault::Fails, "warn"), (Fault::FailsAfterPersisting, "refuse")] {
        let bed = Bed::new().await;
        bed.next_commit(fault);
        assert!(bed.write("config/lint", json!({"rfc5280": "refuse"})).await.is_err());
        for bed in [&bed, &bed.restarted().await] {
            assert_eq!(bed.read("config/lint").await.unwrap()["rfc5280"], kept);
        }
    }
}

#[tokio::test]
async fn a_leaf_that_does_not_conform_is_warned_of_refused_or_made_in_silence() {
    let bed = Bed::new().await;
    bed.role("any", json!({"allow_any_name": true, "key_type": "any"})).await;
    let requests = [
        ("issue/any", json!({"common_name": LONG, "key_type": "ec"})),
        ("sign/any", json!({"csr": csr(LONG, &[])})),
        ("sign-verbatim", json!({"csr": csr(LONG, &[])})),
        // The key is not made in vain.
        ("issue/any", json!({"common_name": LONG, "key_type": "rsa", "key_bits": 2048})),
    ];
    for (path, body) in &requests {
        let warned = bed.write(path, body.clone()).await.unwrap();
        assert_eq!(warned.warnings, [format!("the certificate does not conform: {SENTENCE}")], "{path}");
    }
    bed.lint(json!({"rfc5280": "refuse"})).await;
    let before = bed.keys("certs", json!({})).await.len();
    for (path, body) in &requests {
        let refused = bed.write(path, body.clone()).await.unwrap_err();
        assert_eq!(refused.kind, Kind::InvalidRequest);
        assert_eq!(refused.message(), format!("the certificate was not made: {SENTENCE}"), "{path}");
    }
    assert_eq!(bed.keys("certs", json!({})).await.len(), before);
    bed.lint(json!({"rfc5280": "off"})).await;
    for (path, body) in &requests {
        assert!(bed.write(path, body.clone()).await.unwrap().warnings.is_empty(), "{path}");
    }
}

#[tokio::test]
async fn authorities_are_held_against_the_rules_too_and_no_intent_is_written_for_those_refused() {
    let bed = Bed::new().await;
    let requests = [
        ("root/generate/internal", json!({"common_name": LONG, "key_type": "ec"})),
        ("root/sign-intermediate", json!({"csr": csr("sub", &[]), "common_name": LONG, "ttl": "1h"})),
    ];
    for (path, body) in &requests {
        let warnings = bed.write(path, body.clone()).await.unwrap().warnings;
        assert!(warnings.iter().any(|warning| warning.ends_with(SENTENCE)), "{path}: {warnings:?}");
    }
    // The root above is the default issuer now; its own name is no part of what is judged.
    bed.lint(json!({"rfc5280": "refuse"})).await;
    let intents = |bed: &Bed| {
        let view = bed.engine.store.view().clone();
        async move { view.list(collection::INTENTS, None, 10).await.unwrap().len() }
    };
    let before = intents(&bed).await;
    for (path, body) in &requests {
        let refused = bed.write(path, body.clone()).await.unwrap_err();
        assert!(refused.message().ends_with(SENTENCE), "{path}: {}", refused.message());
    }
    assert_eq!(intents(&bed).await, before);
}

#[tokio::test]
async fn a_workload_is_held_against_the_rules_of_its_id() {
    let bed = Bed::new().await;
    let role = json!({"allowed_uri_sans": "*", "key_type": "ec", "require_cn": false});
    bed.role("mesh", role).await;
    let issue = |uris: &str| bed.write("issue/mesh", json!({ "uri_sans": uris }));
    assert!(issue("spiffe://td/ns/a/sa/b").await.unwrap().warnings.is_empty());
    assert!(issue("https://td/").await.unwrap().warnings.is_empty());
    let warned = issue("spiffe://td/a,spiffe://td/b").await.unwrap().warnings;
    assert_eq!(
        warned,
        ["the certificate does not conform: an SVID has exactly one URI (X.509-SVID, 2; lint spiffe_uris)"]
    );
    bed.lint(json!({"spiffe": "refuse"})).await;
    assert!(issue("spiffe://td/ns/a/sa/b").await.is_ok());
    for uris in ["spiffe://td/a,spiffe://td/b", "spiffe://td", "spiffe://td/a//b", "spiffe://td/a,https://b/"]
    {
        assert_eq!(issue(uris).await.unwrap_err().kind, Kind::InvalidRequest, "{uris}");
    }
}
