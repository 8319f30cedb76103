//! A signed request of ACME in JSON.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| chancery_testkit::parsers::acme_jws(input));
