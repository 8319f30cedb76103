//! Revocation lists: every kind of key, what OpenSSL reads in them, and what is not released.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail loudly"
)]

mod common;

use chancery_issuance::{
    Certificate, CertificateError, CrlEntry, CrlExtension, CrlHead, ImportedCrl, SignError,
    SignatureAlgorithm, SignedCrl, Time, UnsignedCrl, crl_pem,
};
use common::{NOW, key, openssl, root};

fn head(number: u64) -> CrlHead<'static> {
    CrlHead {
        this_update: Time::from_second(NOW),
        next_update: Time::from_second(NOW + 3600),
        number,
        delta_base: None,
        freshest: &[],
        extensions: &[],
    }
}

fn entries(serials: &[&[u8]], reason: u8) -> Vec<u8> {
    let mut entries = Vec::new();
    for serial in serials {
        let at = Time::from_second(NOW - 60);
        CrlEntry { serial, at, reason, extensions: &[] }.encode(&mut entries);
    }
    entries
}

fn algorithm(name: &str) -> SignatureAlgorithm {
    SignatureAlgorithm::choose(key(name).public_key().spec(), 0, false).unwrap()
}

fn signed(name: &str, head: &CrlHead<'_>, pieces: &[&[u8]], count: usize) -> Result<SignedCrl, SignError> {
    let root = Certificate::from_der(&root(name).der).unwrap();
    UnsignedCrl::new(&root, algorithm(name), head, pieces, count)?.sign(&*key(name))
}

#[test]
fn openssl_reads_and_verifies_lists_of_every_kind_of_key() {
    for name in ["rsa2048", "p224", "p256", "p384", "p521", "ed25519"] {
        let entries = entries(&[&[0x80, 1], &[7]], 1);
        let crl = signed(name, &head(300), &[&entries], 2).unwrap();
        let folder = std::env::temp_dir().join(format!("chancery-crl-{}-{name}", std::process::id()));
        std::fs::create_dir_all(&folder).unwrap();
        let (list, ca) = (folder.join("crl.pem"), folder.join("ca.pem"));
        std::fs::write(&list, crl_pem(crl.der())).unwrap();
        std::fs::write(&ca, root(name).pem).unwrap();
        let (list, ca) = (list.to_str().unwrap(), ca.to_str().unwrap());
        let Some(text) = openssl(&["crl", "-in", list, "-CAfile", ca, "-noout", "-text"], b"") else {
            return;
        };
        for part in [
            "Version 2",
            "CN = Root",
            "X509v3 CRL Number: \n                300",
            "Serial Number: 8001",
            "Key Compromise",
        ] {
            assert!(text.replace("CN=", "CN = ").contains(part), "{part:?} in {text}");
        }
        std::fs::remove_dir_all(folder).unwrap();
    }
}

#[test]
fn a_list_is_laid_out_again_with_its_signature_and_with_no_other() {
    let root = Certificate::from_der(&root("p256").der).unwrap();
    let (first, second) = (entries(&[&[1], &[2]], 0), entries(&[&[3]], 0));
    let crl = signed("p256", &head(5), &[&first, &second], 3).unwrap();
    let pieces = [first.as_slice(), second.as_slice()].concat();
    assert_eq!(crl.buffer[crl.entries.clone()], pieces);
    let again = |head: &CrlHead<'_>, pieces: &[u8], count| {
        UnsignedCrl::new(&root, algorithm("p256"), head, &[pieces], count)
            .unwrap()
            .with_signature(&crl.signature)
    };
    assert_eq!(again(&head(5), &pieces, 3).unwrap().der(), crl.der());
    for (head, pieces, count) in [(head(6), &pieces, 3), (head(5), &first, 2)] {
        let error = again(&head, pieces, count).unwrap_err();
        assert!(matches!(error, SignError::ReadBackDiffers { field: "signature" }), "{error:?}");
    }
}

#[test]
fn a_list_that_is_not_what_was_meant_is_not_released() {
    let whole = entries(&[&[1], &[2]], 0);
    for (pieces, count, field) in [
        (&whole[..], 3, "count of revoked certificates"),
        (&whole[..whole.len() - 1], 2, "encoding of the CRL"),
        (&[5, 0][..], 1, "encoding of the CRL"),
    ] {
        match signed("p256", &head(1), &[pieces], count) {
            Err(SignError::ReadBackDiffers { field: found }) => assert_eq!(found, field),
            other => panic!("{other:?}"),
        }
    }
    let root = Certificate::from_der(&root("p256").der).unwrap();
    let other = UnsignedCrl::new(&root, algorithm("p256"), &head(1), &[], 0).unwrap();
    let error = other.sign(&*key("p256-other")).unwrap_err();
    assert!(matches!(error, SignError::ReadBackDiffers { field: "signature" }), "{error:?}");
}

#[test]
fn a_delta_names_its_base_and_a_complete_list_where_deltas_are() {
    let urls = ["http://a/delta".to_owned()];
    let extension = CrlExtension::new("1.2.3", true, vec![5, 0]).unwrap();
    let complete = signed("p256", &CrlHead { freshest: &urls, ..head(1) }, &[], 0).unwrap();
    let delta = CrlHead { delta_base: Some(1), extensions: &[extension], ..head(u64::MAX) };
    let delta = signed("p256", &delta, &[], 0).unwrap();
    let Some(complete) = openssl(&["crl", "-noout", "-text"], crl_pem(complete.der()).as_bytes()) else {
        return;
    };
    let delta = openssl(&["crl", "-noout", "-text"], crl_pem(delta.der()).as_bytes()).unwrap();
    assert!(
        complete.contains("X509v3 Freshest CRL") && complete.contains("URI:http://a/delta"),
        "{complete}"
    );
    assert!(complete.contains("No Revoked Certificates"), "{complete}");
    assert!(delta.contains("X509v3 Delta CRL Indicator: critical"), "{delta}");
    assert!(delta.contains("18446744073709551615") && delta.contains("1.2.3: critical"), "{delta}");
}

#[test]
fn what_was_made_reads_back_as_somebody_elses() {
    let made = signed("p256", &head(9), &[&entries(&[&[0x80, 1], &[7]], 3)], 2).unwrap();
    let read = ImportedCrl::from_pem(&format!("{}\n", crl_pem(made.der()))).unwrap();
    let serials: Vec<&[u8]> = read.entries().iter().map(|entry| &entry.serial[..]).collect();
    assert_eq!(serials, [&[0x80, 1][..], &[7]]);
    assert_eq!(read.entries()[0].at, Time::from_second(NOW - 60));
    assert!(read.is_signed_by(&Certificate::from_der(&root("p256").der).unwrap()));
    assert!(!read.is_signed_by(&Certificate::from_der(&root("p384").der).unwrap()));
    for text in ["", "x", &crl_pem(made.der()).repeat(2)] {
        assert_eq!(ImportedCrl::from_pem(text).unwrap_err(), CertificateError::NotOneCrl);
    }
    let error = ImportedCrl::from_pem(&root("p256").pem).unwrap_err();
    assert_eq!(error.to_string(), "x509: unsupported crl version");
    for length in 0..made.der().len() {
        assert!(ImportedCrl::from_der(&made.der()[..length]).is_err(), "{length} bytes");
    }
    let mut tampered = made.der().to_vec();
    let at = tampered.len() - 5;
    tampered[at] ^= 1;
    let tampered = ImportedCrl::from_der(&tampered);
    assert!(
        tampered.is_err()
            || !tampered.unwrap().is_signed_by(&Certificate::from_der(&root("p256").der).unwrap())
    );
}
