//! A service account's token, or the claims of one.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| chancery_testkit::parsers::mesh_token(input));
