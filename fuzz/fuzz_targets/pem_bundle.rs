//! Certificates and keys in one text.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    let _ = chancery_issuance::ImportedBundle::from_pem(text);
});
