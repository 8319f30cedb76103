//! An OCSP request in DER.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| chancery_testkit::parsers::ocsp(input));
