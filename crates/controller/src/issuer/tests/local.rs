//! Issuers that sign here.

use chancery_kubernetes::cert_manager::names::PRIVATE_KEY_SECRET_NAME;

use super::*;

fn pending(error: SignError) -> (&'static str, String) {
    match error {
        SignError::Pending { reason, message, .. } => (reason, message),
        other => panic!("{other:?}"),
    }
}

fn failed(error: SignError) -> (&'static str, String) {
    match error {
        SignError::Failed { reason, message } => (reason, message),
        other => panic!("{other:?}"),
    }
}

fn leaf(signed: &Signed) -> Certificate {
    Certificate::from_pem(std::str::from_utf8(&signed.certificate).unwrap()).unwrap()
}

#[tokio::test]
async fn a_key_pair_signs_what_is_asked_for_with_its_chain() {
    let bed = Bed::new().await;
    let root = Authority::root("root");
    let middle = root.below("middle");
    bed.secret("ca", &middle.secret(&[&root.certificate]));
    bed.issuer(&json!({ "ca": { "secretName": "ca", "crlDistributionPoints": ["http://crl.example/c"],
        "ocspServers": ["http://ocsp.example"], "issuingCertificateURLs": ["http://ca.example/c"] } }));
    assert_eq!(bed.reconcile().await.unwrap(), Next::Done);
    assert_eq!(bed.ready(), ("True".into(), "KeyPairVerified".into(), "Signing CA verified".into()));
    assert_eq!(bed.event("KeyPairVerified").await["type"], "Normal");
    let (_, csr) = csr_with("web", &["a.example"], &["10.0.0.1"], &["spiffe://t/x"]);
    let signed = bed.sign(&csr).await.unwrap();
    assert_eq!(count(&signed.certificate), 2);
    assert_eq!(signed.ca.as_deref(), Some(format!("{}\n", root.certificate.pem().trim_end()).as_bytes()));
    let made = leaf(&signed);
    assert!(made.is_signed_by(&middle.certificate) && !made.is_ca());
    assert_eq!(made.common_name(), Some("web"));
    assert_eq!(made.not_after().as_second() - made.not_before().as_second(), 90 * 24 * 3600);
    assert!(made.extension(&[0x55, 0x1d, 0x1f]).is_some(), "CRL distribution points");
    assert!(made.extension(&[0x2b, 6, 1, 5, 5, 7, 1, 1]).is_some(), "authority information access");
    let usages = [KeyUsage::DigitalSignature, KeyUsage::ClientAuth];
    let duration = Some(Duration::from_secs(600));
    let order = Order { usages: &usages, duration, is_ca: true, ..order_of(&csr) };
    let made = leaf(&bed.context.issuers.sign(&order).await.unwrap());
    assert!(made.is_ca() && made.extension(&[0x55, 0x1d, 0x25]).is_some());
    assert_eq!(made.not_after().as_second() - made.not_before().as_second(), 600);
    // What outlives its issuer ends with it.
    let order = Order { duration: Some(3650 * DAY), ..order_of(&csr) };
    let made = leaf(&bed.context.issuers.sign(&order).await.unwrap());
    assert_eq!(made.not_after(), middle.certificate.not_after());
}

#[tokio::test]
async fn a_changed_key_pair_signs_from_then_on() {
    let bed = Bed::new().await;
    let (one, two) = (Authority::root("one"), Authority::root("two"));
    bed.secret("ca", &one.secret(&[]));
    bed.issuer(&json!({ "ca": { "secretName": "ca" } }));
    let (_, csr) = csr("a.example");
    assert!(leaf(&bed.sign(&csr).await.unwrap()).is_signed_by(&one.certificate));
    bed.secret("ca", &two.secret(&[]));
    let signed = bed.sign(&csr).await.unwrap();
    assert!(leaf(&signed).is_signed_by(&two.certificate));
    assert_eq!((count(&signed.certificate), count(&signed.ca.unwrap())), (1, 1));
}

#[tokio::test]
async fn key_pairs_that_are_none_are_named() {
    let bed = Bed::new().await;
    bed.issuer(&json!({ "ca": { "secretName": "ca" } }));
    bed.reconcile().await.unwrap_err();
    let missing = "Error getting keypair for CA issuer: secrets \"ca\" not found";
    assert_eq!(bed.ready(), ("False".into(), "ErrGetKeyPair".into(), missing.into()));
    let (_, csr) = csr("a.example");
    let (reason, message) = pending(bed.sign(&csr).await.unwrap_err());
    assert_eq!(
        (reason, message.as_str()),
        ("SecretMissing", "Referenced secret default/ca not found: secrets \"ca\" not found")
    );
    let root = Authority::root("root");
    let good = root.secret(&[]);
    let (key, certificate) = root.leaf("leaf.example");
    let no_ca =
        json!({ "tls.crt": base64(certificate.pem()), "tls.key": base64(&key.to_pem(KeyForm::Pkcs8)) });
    for (data, part) in [
        (json!({}), "no data for \"tls.key\" in secret 'default/ca'"),
        (json!({ "tls.key": good["tls.key"] }), "no data for \"tls.crt\""),
        (json!({ "tls.key": base64("x"), "tls.crt": good["tls.crt"] }), "error decoding \"tls.key\""),
        (json!({ "tls.key": good["tls.key"], "tls.crt": base64("x") }), "error decoding \"tls.crt\""),
        (
            json!({ "tls.key": no_ca["tls.key"], "tls.crt": good["tls.crt"] }),
            "not the key of the certificate",
        ),
    ] {
        bed.secret("ca", &data);
        bed.reconcile().await.unwrap_err();
        let (_, reason, message) = bed.ready();
        assert_eq!(reason, "ErrGetKeyPair");
        assert!(message.contains(part), "{message}");
        let (reason, message) = pending(bed.sign(&csr).await.unwrap_err());
        assert_eq!(reason, "SecretInvalidData");
        assert!(
            message.starts_with("Failed to parse signing CA keypair from secret default/ca: "),
            "{message}"
        );
    }
    bed.secret("ca", &no_ca);
    assert_eq!(bed.reconcile().await.unwrap(), Next::Done);
    let (_, reason, message) = bed.ready();
    assert_eq!(
        (reason.as_str(), message.as_str()),
        ("ErrInvalidKeyPair", "Error getting keypair for CA issuer: certificate is not a CA")
    );
    bed.secret("ca", &good);
    let garbage = failed(bed.sign("no csr").await.unwrap_err());
    assert_eq!(garbage.0, "SigningError");
    assert!(garbage.1.starts_with("Error generating certificate template: "), "{}", garbage.1);
    bed.api.inject("get", "secrets", chancery_testkit::kubernetes::Fault::Code(500), 1);
    assert_eq!(pending(bed.sign(&csr).await.unwrap_err()).0, "SecretGetError");
}

#[tokio::test]
async fn a_key_signs_for_itself() {
    let bed = Bed::new().await;
    bed.issuer(&json!({ "selfSigned": { "crlDistributionPoints": ["http://crl.example/c"] } }));
    assert_eq!(bed.reconcile().await.unwrap(), Next::Done);
    assert_eq!(bed.ready(), ("True".into(), "IsReady".into(), String::new()));
    let (key, csr) = csr_with("me", &["a.example"], &[], &[]);
    let annotations = BTreeMap::from([(PRIVATE_KEY_SECRET_NAME.to_owned(), "mine".to_owned())]);
    let sign = |csr: String, is_ca: bool, annotations: BTreeMap<String, String>| {
        let issuers = Arc::clone(&bed.context.issuers);
        async move { issuers.sign(&Order { is_ca, annotations: &annotations, ..order_of(&csr) }).await }
    };
    let bare = failed(sign(csr.clone(), false, BTreeMap::new()).await.unwrap_err());
    assert_eq!(bare.0, "MissingAnnotation");
    let missing = pending(sign(csr.clone(), false, annotations.clone()).await.unwrap_err());
    assert_eq!(missing.0, "MissingSecret");
    assert_eq!(missing.1, "Referenced secret default/mine not found: secrets \"mine\" not found");
    for data in [json!({}), json!({ "tls.key": base64("x") })] {
        bed.secret("mine", &data);
        assert_eq!(
            pending(sign(csr.clone(), false, annotations.clone()).await.unwrap_err()).0,
            "ErrorParsingKey"
        );
    }
    let other = PrivateKey::generate(KeySpec::Ec(Curve::P256)).unwrap();
    bed.secret("mine", &json!({ "tls.key": base64(&other.to_pem(KeyForm::Pkcs8)) }));
    assert_eq!(failed(sign(csr.clone(), false, annotations.clone()).await.unwrap_err()).0, "ErrorKeyMatch");
    bed.secret("mine", &json!({ "tls.key": base64(&key.to_pem(KeyForm::Pkcs8)) }));
    assert_eq!(
        failed(sign("no csr".into(), false, annotations.clone()).await.unwrap_err()).0,
        "ErrorGenerating"
    );
    for is_ca in [false, true] {
        let signed = sign(csr.clone(), is_ca, annotations.clone()).await.unwrap();
        assert_eq!(signed.ca.as_ref(), Some(&signed.certificate));
        let made = leaf(&signed);
        assert!(made.is_self_signed() && made.is_ca() == is_ca);
        assert!(made.extension(&[0x55, 0x1d, 0x1f]).is_some());
    }
    // A name that is none is worth a warning.
    let (key, csr) = csr_with("", &["a.example"], &[], &[]);
    bed.secret("mine", &json!({ "tls.key": base64(&key.to_pem(KeyForm::Pkcs8)) }));
    sign(csr, false, annotations).await.unwrap();
    assert_eq!(bed.event("BadConfig").await["involvedObject"]["name"], "request");
}
