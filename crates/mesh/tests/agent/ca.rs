//! The call of the CA.

use super::*;

#[tokio::test]
async fn a_call_brings_what_istio_brings_with_the_token_of_the_moment() {
    let world = World::new().await;
    let issuer = world.issuer();
    let issued = issuer.issue(None).await.unwrap();
    assert_eq!(issued.roots.pem, world.double.ca().root_pem());
    assert_eq!(issued.key_pair.certificates.len(), 2);
    std::fs::write(world.path("token"), "another").unwrap();
    issuer.issue(None).await.unwrap();

    let calls = world.double.calls();
    let header =
        |call: usize, name: &str| calls[call].metadata.get(name).map(|value| value.to_str().unwrap());
    assert_eq!(header(0, "authorization"), Some("Bearer the token"));
    assert_eq!(header(1, "authorization"), Some("Bearer another"));
    assert_eq!(header(0, "clusterid"), Some("Kubernetes"));
    assert_eq!(header(0, "x-region"), Some("eu"));
    assert_eq!(calls[0].request.validity_duration, 86400);
    let metadata = calls[0].request.metadata.as_ref().unwrap();
    assert!(metadata.fields.contains_key("CertSigner"));
    assert!(!calls[0].certificate);
    // A new key each time.
    assert_ne!(calls[0].request.csr, calls[1].request.csr);
}

#[tokio::test]
async fn what_may_go_away_is_asked_again_and_a_refusal_is_not() {
    let world = World::new().await;
    let issuer = world.issuer();
    let refuse = |codes: &[Code]| {
        world.double.state.calls.lock().unwrap().clear();
        *world.double.state.refusals.lock().unwrap() = codes.iter().copied().collect();
    };
    refuse(&[Code::Unavailable, Code::Internal, Code::ResourceExhausted, Code::Aborted]);
    issuer.issue(None).await.unwrap();
    assert_eq!(world.double.calls().len(), 5);

    refuse(&[Code::Unavailable; 6]);
    let error = issuer.issue(None).await.expect_err("five are enough");
    assert!(error.to_string().contains("Unavailable") && error.to_string().contains('5'), "{error}");
    assert_eq!(world.double.calls().len(), 5);

    for code in [Code::Unauthenticated, Code::InvalidArgument, Code::PermissionDenied, Code::Unknown] {
        refuse(&[code]);
        issuer.issue(None).await.expect_err("refused");
        assert_eq!(world.double.calls().len(), 1, "{code:?}");
    }
}

#[tokio::test]
async fn an_answer_without_roots_is_no_answer() {
    let world = World::new().await;
    *world.double.state.leaf_only.lock().unwrap() = true;
    let error = world.issuer().issue(None).await.expect_err("one element");
    assert!(error.to_string().contains("1 elements"), "{error}");
}

#[tokio::test]
async fn a_ca_that_the_roots_do_not_vouch_for_is_not_called() {
    let world = World::new().await;
    std::fs::write(world.path("roots.pem"), Ca::new("another").root_pem()).unwrap();
    let issuer = world.issuer();
    let error = issuer.issue(None).await.expect_err("another's certificate");
    assert!(error.to_string().contains("certificate"), "{error}");
    assert!(world.double.calls().is_empty());
    // The roots are read anew for each connection.
    std::fs::write(world.path("roots.pem"), world.double.ca().root_pem()).unwrap();
    issuer.issue(None).await.unwrap();
}

#[tokio::test]
async fn without_a_token_the_workloads_own_certificate_vouches() {
    let world = World::new().await;
    let issuer = world.issuer();
    let first = issuer.issue(None).await.unwrap();
    issuer.issue(Some(&first.key_pair)).await.unwrap();
    std::fs::remove_file(world.path("token")).unwrap();
    issuer.issue(Some(&first.key_pair)).await.unwrap();
    let calls = world.double.calls();
    let seen: Vec<_> =
        calls.iter().map(|call| (call.metadata.contains_key("authorization"), call.certificate)).collect();
    assert_eq!(seen, [(true, false), (true, false), (false, true)]);
}

#[tokio::test]
async fn a_ca_without_tls_is_called_too() {
    let world = World::new().await;
    let settings = world.settings();
    // What the port 15010 says.
    let ca = CaSettings { plaintext: true, ..settings.ca.clone().unwrap() };
    Issuer::new(ca, &settings, Arc::new(SystemClock)).issue(None).await.unwrap();
    assert_eq!(world.double.calls().len(), 1);
}

#[tokio::test]
async fn a_provisioned_certificate_is_shown() {
    let mut world = World::new().await;
    let folder = world.path("provisioned");
    std::fs::create_dir(&folder).unwrap();
    let (leaf, key) = world.double.ca().leaf(ID);
    std::fs::write(folder.join("cert-chain.pem"), leaf).unwrap();
    std::fs::write(folder.join("key.pem"), key.as_bytes()).unwrap();
    world.set("PROV_CERT", folder.to_str().unwrap());
    world.issuer().issue(None).await.unwrap();
    assert!(world.double.calls()[0].certificate);
}

#[tokio::test]
async fn keys_are_of_the_kind_and_form_that_is_set() {
    let mut world = World::new().await;
    for (kind, pkcs8, spec, label) in [
        ("p384", "false", KeySpec::new("ec", 384).unwrap(), "-----BEGIN EC PRIVATE KEY-----"),
        ("rsa2048", "false", KeySpec::Rsa(2048), "-----BEGIN RSA PRIVATE KEY-----"),
        ("p256", "true", KeySpec::new("ec", 256).unwrap(), "-----BEGIN PRIVATE KEY-----"),
    ] {
        world.set("CHANCERY_AGENT_KEY", kind);
        world.set("PKCS8_KEY", pkcs8);
        let pair: KeyPair = world.issuer().issue(None).await.unwrap().key_pair;
        assert!(pair.key.starts_with(label), "{kind}");
        assert_eq!(PrivateKey::from_pem(&pair.key).unwrap().spec(), spec);
    }
}
