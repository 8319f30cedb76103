//! Certificates and keys in one text.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| chancery_testkit::parsers::pem_bundle(input));
