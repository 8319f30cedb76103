//! OpenSSL as the judge: it verifies chains of every kind of key and reads our requests and keys.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail loudly"
)]

mod common;

use chancery_issuance::{
    CaRequest, Certificate, CsrRequest, IssuanceRequest, Issuer, IssuerOptions, KeyForm, KeyPolicy, KeySpec,
    PrivateKey, Profile, ProfileConfig, RequestedNames, Signer, SubjectKey, VerifiedCsr, create_csr, prepare,
    prepare_intermediate, prepare_root,
};
use common::{LIMITS, hours, key, now, openssl, serial, urls};

#[test]
fn chains_of_every_key_and_signature_kind_verify() {
    let names = RequestedNames {
        common_name: "host.example.com".to_owned(),
        alt_names: vec!["me@example.com".to_owned()],
        ip_sans: vec!["10.1.2.3".to_owned(), "fd00::1".to_owned()],
        uri_sans: vec!["spiffe://cluster.local/ns/a/sa/b".to_owned()],
        other_sans: vec!["1.2.3.4;UTF8:x".to_owned()],
        ..RequestedNames::default()
    };
    let folder = tempfile();
    for (name, bits, pss) in [
        ("rsa2048", 0, false),
        ("rsa2048", 384, false),
        ("rsa2048", 512, false),
        ("rsa2048", 0, true),
        ("rsa2048", 384, true),
        ("rsa2048", 512, true),
        ("rsa2056", 0, false),
        ("p224", 0, false),
        ("p256", 512, false),
        ("p384", 0, false),
        ("p521", 0, false),
        ("ed25519", 0, false),
    ] {
        let signing = |request: CaRequest| CaRequest { signature_bits: bits, use_pss: pss, ..request };
        let request = signing(CaRequest { ttl: hours(8760), ..CaRequest::new("Root", LIMITS) });
        let root = prepare_root(&request, &key(name), &urls(), serial(1), now()).unwrap().sign().unwrap();
        let options = IssuerOptions { urls: urls(), ..IssuerOptions::default() };
        let root_issuer = common::issuer_of(&root, name, options.clone());

        let asked = CsrRequest { signature_bits: bits, use_pss: pss, ..CsrRequest::default() };
        let csr = create_csr(&asked, key("p256-other").as_ref()).unwrap();
        let csr = VerifiedCsr::from_pem(&csr.pem, &KeyPolicy::any()).unwrap();
        let request = signing(CaRequest { ttl: hours(1000), ..CaRequest::new("Intermediate", LIMITS) });
        let prepared = prepare_intermediate(&request, &csr, &root_issuer, serial(2), now()).unwrap();
        let intermediate = prepared.sign().unwrap();
        let certificate = Certificate::from_der(&intermediate.der).unwrap();
        let issuer = Issuer::new(certificate, key("p256-other"), options).unwrap();

        let config = ProfileConfig {
            allow_any_name: true,
            allowed_uri_sans: vec!["*".to_owned()],
            allowed_other_sans: vec!["*".to_owned()],
            key_type: "any".to_owned(),
            ..ProfileConfig::default()
        };
        let profile = Profile::new(config).unwrap();
        let mut request = IssuanceRequest::new(&names, None, &profile, LIMITS).unwrap();
        request.ttl = hours(1);
        let leaf_key = PrivateKey::generate(KeySpec::new("ec", 0).unwrap()).unwrap();
        let prepared =
            prepare(&request, &SubjectKey::from(&leaf_key), &profile, &issuer, serial(3), now()).unwrap();
        let leaf = prepared.sign().unwrap();

        let file = |file: &str, pem: &str| {
            let path = format!("{folder}/{file}");
            std::fs::write(&path, pem).unwrap();
            path
        };
        let roots = file("root.pem", &root.pem);
        let chain = file("chain.pem", &intermediate.pem);
        let at = common::NOW.to_string();
        let arguments = ["verify", "-x509_strict", "-attime", &at, "-CAfile", &roots, "-untrusted", &chain];
        let Some(said) = openssl(&arguments, leaf.pem.as_bytes()) else { return };
        assert_eq!(said.trim(), "stdin: OK", "{name} {bits} {pss}");
    }
    std::fs::remove_dir_all(folder).unwrap();
}

fn tempfile() -> String {
    let folder = format!("{}/openssl-{}", env!("CARGO_TARGET_TMPDIR"), std::process::id());
    std::fs::create_dir_all(&folder).unwrap();
    folder
}

#[test]
fn our_requests_verify_and_our_keys_check() {
    for name in ["rsa2048", "p224", "p256", "p384", "p521", "ed25519"] {
        let asked = CsrRequest { add_basic_constraints: true, ..CsrRequest::default() };
        let csr = create_csr(&asked, key(name).as_ref()).unwrap();
        let Some(_) = openssl(&["req", "-verify", "-noout"], csr.pem.as_bytes()) else { return };
    }
    for (key_type, bits) in
        [("rsa", 2048), ("ec", 224), ("ec", 256), ("ec", 384), ("ec", 521), ("ed25519", 0)]
    {
        let key = PrivateKey::generate(KeySpec::new(key_type, bits).unwrap()).unwrap();
        for form in [KeyForm::Traditional, KeyForm::Pkcs8] {
            openssl(&["pkey", "-check", "-noout"], key.to_pem(form).as_bytes()).unwrap();
        }
        let public = openssl(&["pkey", "-pubout"], key.to_pem(KeyForm::Pkcs8).as_bytes()).unwrap();
        let body: String = public.lines().filter(|line| !line.starts_with("-----")).collect();
        assert_eq!(data_encoding::BASE64.decode(body.as_bytes()).unwrap(), key.public_key().spki_der());
    }
}
