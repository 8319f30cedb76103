//! What an Envoy says of its secrets.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| chancery_testkit::parsers::envoy_dump(input));
