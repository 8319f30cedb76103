//! Keys in and out, and signatures that OpenSSL made or would make.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail loudly"
)]

use chancery_issuance::{
    Hash, KeyError, KeyForm, KeySpec, PrivateKey, SignError, SignatureAlgorithm, Signer,
};

fn pem(name: &str) -> String {
    let path = format!("{}/../testkit/testdata/keys/{name}.pem", env!("CARGO_MANIFEST_DIR"));
    std::fs::read_to_string(path).unwrap()
}

fn key(name: &str) -> PrivateKey {
    PrivateKey::from_pem(&pem(name)).unwrap()
}

#[test]
fn keys_come_back_letter_for_letter_in_both_forms() {
    for name in ["rsa2048", "p224", "p256", "p384", "p521"] {
        for source in [key(name), key(&format!("{name}.pkcs8"))] {
            assert_eq!(*source.to_pem(KeyForm::Traditional), pem(name), "{name}");
            assert_eq!(*source.to_pem(KeyForm::Pkcs8), pem(&format!("{name}.pkcs8")), "{name}");
        }
    }
    for form in [KeyForm::Traditional, KeyForm::Pkcs8] {
        assert_eq!(*key("ed25519").to_pem(form), pem("ed25519"));
    }
}

#[test]
fn der_of_every_form_is_told_apart() {
    for name in ["rsa2048", "rsa2056", "p224", "p521", "ed25519"] {
        let key = key(name);
        for form in [KeyForm::Traditional, KeyForm::Pkcs8] {
            let again = PrivateKey::from_der(&key.to_der(form)).unwrap();
            assert_eq!(again.public_key(), key.public_key(), "{name}");
        }
    }
}

#[test]
fn odd_sizes_are_read_and_known_by_their_bits() {
    assert_eq!(key("rsa2056").spec(), KeySpec::Rsa(2056));
    assert_eq!(key("p521").spec().bits(), 521);
    assert_eq!(key("ed25519").spec().key_type().name(), "ed25519");
}

#[test]
fn what_is_not_a_usable_key_is_refused() {
    assert_eq!(PrivateKey::from_pem(&pem("p256.encrypted")).unwrap_err(), KeyError::Encrypted);
    assert_eq!(PrivateKey::from_pem(&pem("rsa2048.encrypted")).unwrap_err(), KeyError::Encrypted);
    assert_eq!(PrivateKey::from_pem("no key").unwrap_err(), KeyError::Missing);
    assert_eq!(PrivateKey::from_pem(&pem("rsa1024")).unwrap_err(), KeyError::WeakRsa { bits: 1024 });
    for name in ["k256", "ed448"] {
        assert!(matches!(PrivateKey::from_pem(&pem(name)), Err(KeyError::Malformed { .. })), "{name}");
    }
    let cut = pem("p256").replace("MHc", "MHd");
    assert!(PrivateKey::from_pem(&cut).is_err());
}

#[test]
fn a_private_key_does_not_print_its_secret() {
    for name in ["rsa2048", "p224", "p256", "ed25519"] {
        let key = key(name);
        let text = format!("{key:?}");
        assert!(text.contains("[redacted]"));
        let secret = data_encoding::HEXLOWER.encode(&key.to_der(KeyForm::Traditional));
        assert!(!text.contains(secret.get(20..40).unwrap()));
        assert!(text.len() < 300, "{text}");
    }
}

#[test]
fn generated_keys_are_of_the_kind_asked_for_and_survive_export() {
    for (key_type, bits) in [("rsa", 0), ("ec", 224), ("ec", 0), ("ec", 384), ("ec", 521), ("ed25519", 0)] {
        let spec = KeySpec::new(key_type, bits).unwrap();
        let key = PrivateKey::generate(spec).unwrap();
        assert_eq!(key.spec(), spec);
        let again = PrivateKey::from_pem(&key.to_pem(KeyForm::Traditional)).unwrap();
        assert_eq!(again.public_key(), key.public_key());
    }
}

#[test]
fn ec_keys_sign_with_the_hash_of_their_curve_and_no_other() {
    for (name, hash) in
        [("p224", Hash::Sha256), ("p256", Hash::Sha256), ("p384", Hash::Sha384), ("p521", Hash::Sha512)]
    {
        let key = key(name);
        for bits in [0, 256, 384, 512] {
            assert_eq!(
                SignatureAlgorithm::choose(key.spec(), bits, true),
                Ok(SignatureAlgorithm::Ecdsa(hash))
            );
        }
        for other in [Hash::Sha256, Hash::Sha384, Hash::Sha512] {
            let signed = key.sign(SignatureAlgorithm::Ecdsa(other), b"message");
            assert_eq!(signed.is_ok(), other == hash, "{name} {other:?}");
        }
        let wrong = key.sign(SignatureAlgorithm::RsaPkcs1(Hash::Sha256), b"message");
        assert_eq!(wrong, Err(SignError::WrongAlgorithm));
    }
}

#[test]
fn rsa_signatures_follow_signature_bits() {
    let rsa = KeySpec::Rsa(2048);
    assert_eq!(SignatureAlgorithm::choose(rsa, 0, false), Ok(SignatureAlgorithm::RsaPkcs1(Hash::Sha256)));
    assert_eq!(SignatureAlgorithm::choose(rsa, 384, true), Ok(SignatureAlgorithm::RsaPss(Hash::Sha384)));
    assert_eq!(SignatureAlgorithm::choose(rsa, 512, false), Ok(SignatureAlgorithm::RsaPkcs1(Hash::Sha512)));
    let refused = SignatureAlgorithm::choose(rsa, 128, false).unwrap_err();
    assert_eq!(refused.to_string(), "unsupported hash signature algorithm: 128");
}
