//! Certificates of issuers without a profile.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, reason = "a test fails by panicking")]

use std::sync::Arc;
use std::time::Duration;

use chancery_issuance::{
    AiaUrls, Certificate, CsrRequest, Curve, ExtendedKeyUsage, Issuer, IssuerOptions, KeyPolicy, KeySpec,
    KeyUsage, LeafNotAfter, PlainRequest, PlainSigner, PrivateKey, Refusal, RequestedNames, SerialNumber,
    Signer, VerifiedCsr, create_csr, prepare_plain,
};
use jiff::Timestamp;

const HOUR: Duration = Duration::from_secs(3600);

fn now() -> Timestamp {
    Timestamp::from_second(1_800_000_000).unwrap()
}

fn serial() -> SerialNumber {
    SerialNumber::generate(now(), [7; 14])
}

fn csr(common_name: &str, dns: &[&str]) -> (Arc<dyn Signer>, VerifiedCsr) {
    let key = PrivateKey::generate(KeySpec::Ec(Curve::P256)).unwrap();
    let names = RequestedNames {
        common_name: common_name.into(),
        alt_names: dns.iter().map(|&name| name.to_owned()).collect(),
        exclude_cn_from_sans: true,
        ..RequestedNames::default()
    };
    let pem = create_csr(&CsrRequest { names, ..CsrRequest::default() }, &key).unwrap().pem;
    (Arc::new(key), VerifiedCsr::from_pem(&pem, &KeyPolicy::any()).unwrap())
}

fn own(request: &PlainRequest, name: &str) -> (Arc<dyn Signer>, Certificate) {
    let (key, csr) = csr(name, &[]);
    let signer = PlainSigner::Itself(&key, &AiaUrls::default());
    let made = prepare_plain(request, &csr, signer, serial(), now()).unwrap().sign().unwrap();
    (Arc::clone(&key), made.certificate().unwrap())
}

fn authority() -> PlainRequest {
    PlainRequest { is_ca: true, ttl: 10 * HOUR, ..PlainRequest::default() }
}

#[test]
fn usages_names_and_lifetime_are_those_that_were_asked_for() {
    let (key, root) = own(&authority(), "root");
    assert!(root.is_ca() && root.is_self_signed());
    assert_eq!(root.key_usage(), Some(KeyUsage::from_names(&["CertSign"])));
    let options = IssuerOptions { leaf_not_after: LeafNotAfter::Truncate, ..IssuerOptions::default() };
    let issuer = Issuer::new(root, key, options).unwrap();
    let (_, csr) = csr("", &["a.example"]);
    let usages = KeyUsage::from_names(&["DigitalSignature", "KeyEncipherment"]);
    let server = ExtendedKeyUsage::from_name("ServerAuth").unwrap();
    let mut request =
        PlainRequest { key_usage: usages, ext_key_usage: vec![server], is_ca: false, ttl: HOUR };
    let sign = |request: &PlainRequest| {
        let prepared = prepare_plain(request, &csr, PlainSigner::Issuer(&issuer), serial(), now());
        prepared.unwrap().sign().unwrap().certificate().unwrap()
    };
    let leaf = sign(&request);
    assert!(leaf.is_signed_by(issuer.certificate()) && !leaf.is_ca());
    assert_eq!(leaf.key_usage(), Some(usages));
    assert_eq!(leaf.not_before().as_second(), now().as_second());
    assert_eq!(leaf.not_after().as_second(), now().as_second() + 3600);
    // RFC 5280, 4.1.2.6: without a subject the names are critical.
    assert!(leaf.extension(&[0x55, 0x1d, 0x11]).unwrap().1);
    request.ttl = 100 * HOUR;
    assert_eq!(sign(&request).not_after(), issuer.not_after());
}

#[test]
fn a_leaf_can_sign_itself_but_not_with_another_key() {
    let request = PlainRequest { ttl: HOUR, ..PlainRequest::default() };
    let (_, leaf) = own(&request, "leaf");
    assert!(leaf.is_self_signed() && !leaf.is_ca());
    let (other, _) = csr("other", &[]);
    let (_, csr) = csr("leaf", &[]);
    let signer = PlainSigner::Itself(&other, &AiaUrls::default());
    let refused = prepare_plain(&request, &csr, signer, serial(), now()).unwrap_err();
    assert!(matches!(refused, Refusal::Certificate(_)), "{refused}");
}

#[test]
fn authorities_end_where_the_path_length_does() {
    let (key, root) = own(&authority(), "root");
    let issuer = Issuer::new(root, key, IssuerOptions::default()).unwrap();
    let (key, below) = csr("below", &[]);
    let request = PlainRequest { ttl: HOUR, ..authority() };
    let made = prepare_plain(&request, &below, PlainSigner::Issuer(&issuer), serial(), now()).unwrap();
    let made = made.sign().unwrap().certificate().unwrap();
    assert!(made.is_ca() && made.path_length().is_none());
    drop(key);
    let late = Timestamp::from_second(now().as_second() + 11 * 3600).unwrap();
    assert!(prepare_plain(&request, &below, PlainSigner::Issuer(&issuer), serial(), late).is_err());
}
