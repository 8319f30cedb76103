//! The text of a key share, given to a sealed server.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| chancery_testkit::parsers::unseal_key(input));
