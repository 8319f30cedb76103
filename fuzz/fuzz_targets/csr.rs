//! A certificate request in PEM or DER, whatever the key.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| chancery_testkit::parsers::csr(input));
