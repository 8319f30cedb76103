//! A CSR in PEM, whatever the key.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    let _ = chancery_issuance::VerifiedCsr::from_pem(text, &chancery_issuance::KeyPolicy::any());
});
