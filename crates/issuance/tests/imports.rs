//! Certificates and bundles that others made, and the chains among them.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail loudly"
)]

mod common;

use chancery_issuance::{
    AiaUrls, BundleError, CaRequest, Certificate, CertificateError, ImportedBundle, IssuedCertificate,
    Issuer, IssuerOptions, KeyError, Signer, build_chains, prepare_intermediate, prepare_root,
    prepare_self_issued,
};
use common::{LIMITS, csr, hours, issuer, issuer_of, key, now, openssl, root, serial};

fn key_pem(name: &str) -> String {
    std::fs::read_to_string(format!("{}/../testkit/testdata/keys/{name}.pem", env!("CARGO_MANIFEST_DIR")))
        .unwrap()
}

fn intermediate(issuer: &Issuer, name: &str, csr_name: &str, number: u8) -> IssuedCertificate {
    let request = CaRequest { ttl: hours(100), ..CaRequest::new(name, LIMITS) };
    prepare_intermediate(&request, &csr(csr_name), issuer, serial(number), now()).unwrap().sign().unwrap()
}

#[test]
fn a_bundle_comes_apart_in_any_order() {
    let root = root("ed25519");
    let intermediate = intermediate(&issuer("ed25519"), "Intermediate", "key_p256", 2);
    let parts = [root.pem.clone(), key_pem("p256"), intermediate.pem.clone(), key_pem("ed25519")];
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [1, 3, 0, 2]] {
        let text: String = order.iter().map(|index| format!("some text\n{}", parts[*index])).collect();
        let bundle = ImportedBundle::from_pem(&text, true).unwrap();
        assert_eq!((bundle.certificates.len(), bundle.keys.len()), (2, 2));
        for certificate in &bundle.certificates {
            let key = bundle.key_of(certificate).unwrap();
            let expected = if certificate.common_name() == Some("Root") { "ed25519" } else { "p256" };
            assert_eq!(bundle.keys[key].public_key(), common::key(expected).public_key());
        }
    }
}

#[test]
fn a_bundle_with_an_encrypted_key_or_a_broken_certificate_is_refused() {
    let encrypted = ImportedBundle::from_pem(&key_pem("p256.encrypted"), true).unwrap_err();
    assert_eq!(encrypted, BundleError::Key { index: 0, error: KeyError::Encrypted });
    let broken = "-----BEGIN CERTIFICATE-----\nMAA=\n-----END CERTIFICATE-----\n";
    let refused = ImportedBundle::from_pem(&format!("{}{broken}", root("ed25519").pem), true).unwrap_err();
    let sentence = refused.to_string();
    assert!(sentence.starts_with("Error parsing issuer 1: certificate could not be parsed"), "{sentence}");
    assert!(sentence.ends_with(broken), "{sentence}");
}

#[test]
fn a_bundle_is_refused_for_what_is_not_to_be_imported() {
    let (certificate, key) = (root("ed25519").pem, key_pem("p256"));
    let with_key = format!("{key}{certificate}");
    assert_eq!(ImportedBundle::from_pem(&with_key, false).unwrap_err(), BundleError::KeysNotAllowed);
    assert_eq!(ImportedBundle::from_pem(&certificate, false).unwrap().certificates.len(), 1);
    for (text, block) in [
        (format!("{certificate}trailing"), 2),
        (format!("{certificate}-----BEGIN CERTIFICATE-----\nMAA="), 2),
        ("no PEM at all".to_owned(), 1),
    ] {
        assert_eq!(ImportedBundle::from_pem(&text, true).unwrap_err(), BundleError::NotPem { block });
    }
    // What is neither a certificate nor a revocation list counts as a key.
    let request = "-----BEGIN CERTIFICATE REQUEST-----\nMAA=\n-----END CERTIFICATE REQUEST-----\n";
    assert_eq!(ImportedBundle::from_pem(request, false).unwrap_err(), BundleError::KeysNotAllowed);
    assert_eq!(
        ImportedBundle::from_pem(request, true).unwrap_err(),
        BundleError::Key { index: 0, error: KeyError::Missing }
    );
    let skipped = format!("-----BEGIN X509 CRL-----\nMAA=\n-----END X509 CRL-----\n{certificate}\n \n");
    assert_eq!(ImportedBundle::from_pem(&skipped, false).unwrap().certificates.len(), 1);
}

#[test]
fn an_issuer_needs_a_ca_certificate_and_its_own_key() {
    let root = Certificate::from_der(&root("ed25519").der).unwrap();
    let mismatch = Issuer::new(root.clone(), key("p256"), IssuerOptions::default()).unwrap_err();
    assert_eq!(mismatch, CertificateError::KeyMismatch);
    assert!(root.is_self_signed() && root.is_ca());
    assert_eq!(
        root.serial_number().to_string(),
        "01:a1:ee:56:5e:00:01:01:01:01:01:01:01:01:01:01:01:01:01:01"
    );
}

#[test]
fn certificates_of_other_makers_are_read() {
    let key = format!("{}/../testkit/testdata/keys/rsa2048.pem", env!("CARGO_MANIFEST_DIR"));
    let openssl_cert = |extra: &[&str]| {
        let mut arguments = vec![
            "req",
            "-x509",
            "-new",
            "-key",
            &key,
            "-days",
            "1",
            "-subj",
            "/C=DE/O=Müller/CN=Other",
            "-utf8",
        ];
        arguments.extend_from_slice(extra);
        openssl(&arguments, b"").map(|pem| Certificate::from_pem(&pem).unwrap())
    };
    let Some(plain) = openssl_cert(&[]) else { return };
    assert!(plain.is_self_signed() && plain.is_ca());
    assert_eq!(plain.common_name(), Some("Other"));
    let zero = openssl_cert(&["-set_serial", "0"]).unwrap();
    assert_eq!(zero.serial_number().to_string(), "00");
    let large = openssl_cert(&["-set_serial", "0x00ff00000000000000000000000000000000000000"]).unwrap();
    assert!(large.serial_number().to_string().starts_with("ff:00"));
    let pss = openssl_cert(&["-sigopt", "rsa_padding_mode:pss", "-sigopt", "rsa_pss_saltlen:-1"]).unwrap();
    assert!(pss.is_self_signed());
    // Version 1 has no extensions: it is read, and is nobody's CA.
    let request = openssl(&["req", "-new", "-key", &key, "-subj", "/CN=old"], b"").unwrap();
    let old =
        openssl(&["x509", "-req", "-signkey", &key, "-days", "-1", "-in", "/dev/stdin"], request.as_bytes());
    let old = Certificate::from_pem(&old.unwrap()).unwrap();
    assert!(!old.is_ca() && old.is_self_signed() && old.not_after() < old.not_before());
    let refused = Issuer::new(old, common::key("rsa2048"), IssuerOptions::default()).unwrap_err();
    assert_eq!(refused, CertificateError::NotACa);
}

#[test]
fn a_root_with_a_weak_key_is_not_signed_anew() {
    let key = format!("{}/../testkit/testdata/keys/rsa1024.pem", env!("CARGO_MANIFEST_DIR"));
    let Some(pem) = openssl(&["req", "-x509", "-new", "-key", &key, "-subj", "/CN=weak"], b"") else {
        return;
    };
    let weak = Certificate::from_pem(&pem).unwrap();
    let refused = prepare_self_issued(&weak, &issuer("ed25519")).unwrap_err().to_string();
    assert_eq!(refused, "RSA keys < 2048 bits are unsafe and not supported");
}

#[test]
fn chains_go_from_a_certificate_to_its_root() {
    let root = root("ed25519");
    let upper = intermediate(&issuer("ed25519"), "Upper", "key_p256", 2);
    let lower = intermediate(&issuer_of(&upper, "p256", IssuerOptions::default()), "Lower", "key_p384", 3);
    let certificates: Vec<_> =
        [&lower, &root, &upper].iter().map(|one| Certificate::from_der(&one.der).unwrap()).collect();
    let all: Vec<_> = certificates.iter().collect();
    assert_eq!(build_chains(&all), [vec![0, 2, 1], vec![1], vec![2, 1]]);
    // Without its issuer a certificate stands alone.
    assert_eq!(build_chains(&[all[0], all[1]]), [vec![0], vec![1]]);
}

#[test]
fn a_name_and_key_certified_twice_leads_both_ways_up() {
    let root = root("ed25519");
    let other = prepare_root(
        &CaRequest { ttl: hours(8760), ..CaRequest::new("Other", LIMITS) },
        &key("p521"),
        &AiaUrls::default(),
        serial(4),
        now(),
    );
    let other = other.unwrap().sign().unwrap();
    let one = intermediate(&issuer("ed25519"), "Crossed", "key_p256", 2);
    let two = intermediate(&issuer_of(&other, "p521", IssuerOptions::default()), "Crossed", "key_p256", 3);
    let leaf = intermediate(&issuer_of(&one, "p256", IssuerOptions::default()), "Leaf", "key_p384", 5);
    let certificates: Vec<_> = [&leaf, &one, &two, &root, &other]
        .iter()
        .map(|one| Certificate::from_der(&one.der).unwrap())
        .collect();
    let all: Vec<_> = certificates.iter().collect();
    assert_eq!(build_chains(&all)[0], [0, 1, 3, 2, 4]);
}

#[test]
fn the_issuers_name_is_passed_on_byte_for_byte() {
    let key_file = format!("{}/../testkit/testdata/keys/rsa2048.pem", env!("CARGO_MANIFEST_DIR"));
    // OpenSSL writes the country as PrintableString and the rest as UTF8String; we would not.
    let arguments =
        ["req", "-x509", "-new", "-key", &key_file, "-days", "36500", "-subj", "/CN=Odd/C=DE/CN=Twice"];
    let Some(pem) = openssl(&arguments, b"") else { return };
    let odd = Certificate::from_pem(&pem).unwrap();
    let at = odd.not_before().to_timestamp();
    let issuer = Issuer::new(odd.clone(), key("rsa2048"), IssuerOptions::default()).unwrap();
    let request = CaRequest { ttl: hours(1), ..CaRequest::new("Below", LIMITS) };
    let below =
        prepare_intermediate(&request, &csr("key_p256"), &issuer, serial(2), at).unwrap().sign().unwrap();
    let below = below.certificate().unwrap();
    assert_eq!(below.issuer_der(), odd.subject_der());
    assert_eq!(below.authority_key_id(), odd.subject_key_id());
    assert!(below.is_signed_by(&odd));
}
