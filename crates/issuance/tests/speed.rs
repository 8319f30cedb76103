//! What each step on the way of a signature costs. Prints; judges nothing, because machines differ.
//!
//! `cargo test --release -p chancery-issuance --test speed -- --ignored --nocapture`

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail loudly"
)]

mod common;

use std::hint::black_box;
use std::time::Instant;

use chancery_issuance::{
    IssuanceRequest, IssuerOptions, KeyPolicy, Profile, ProfileConfig, RequestedNames, SignatureAlgorithm,
    VerifiedCsr, prepare,
};
use common::{LIMITS, issuer_of, key, now, root, serial, urls};

fn measure<T>(what: &str, mut step: impl FnMut() -> T) {
    let mut best = f64::MAX;
    for _ in 0..20 {
        let begin = Instant::now();
        for _ in 0..50 {
            black_box(step());
        }
        best = best.min(begin.elapsed().as_secs_f64() / 50.0);
    }
    println!("{what:<40} {:8.1} µs", best * 1e6);
}

#[test]
#[ignore = "a measurement, not a check"]
fn what_a_signature_costs() {
    for (issuer_key, csr_name) in [("p256", "key_rsa2048"), ("p256", "key_p256"), ("rsa2048", "key_rsa2048")]
    {
        println!("--- issuer {issuer_key}, CSR {csr_name}");
        let path = format!("{}/testdata/csr/{csr_name}.pem", env!("CARGO_MANIFEST_DIR"));
        let pem = std::fs::read_to_string(path).unwrap();
        let config = ProfileConfig {
            allowed_domains: vec!["example.com".to_owned()],
            allow_subdomains: true,
            key_type: "any".to_owned(),
            ..ProfileConfig::default()
        };
        let profile = Profile::new(config).unwrap();
        let options = IssuerOptions { urls: urls(), ..IssuerOptions::default() };
        let issuer = issuer_of(&root(issuer_key), issuer_key, options);
        let read = || VerifiedCsr::from_pem(&pem, profile.keys()).unwrap();
        let join = |csr: &VerifiedCsr| {
            IssuanceRequest::new(&RequestedNames::default(), Some(csr), &profile, LIMITS).unwrap()
        };
        let csr = read();
        let request = join(&csr);
        let decide = |csr: &VerifiedCsr, request: &IssuanceRequest| {
            prepare(request, &csr.key(), &profile, &issuer, serial(3), now()).unwrap()
        };
        let signer = key(issuer_key);
        let algorithm = SignatureAlgorithm::choose(signer.public_key().spec(), 0, false).unwrap();

        measure("read and verify the CSR", read);
        measure("join names", || join(&csr));
        measure("prepare", || decide(&csr, &request));
        measure("sign (the key alone)", || signer.sign(algorithm, &[7; 700]).unwrap());
        measure("prepare, sign, read back, PEM", || decide(&csr, &request).sign().unwrap());
        measure("all", || {
            let csr = VerifiedCsr::from_pem(&pem, &KeyPolicy::any()).unwrap();
            decide(&csr, &join(&csr)).sign().unwrap()
        });
    }
}
