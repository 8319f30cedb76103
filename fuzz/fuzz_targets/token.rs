//! A token, accessor, lease id or serial number, looked up everywhere.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| chancery_testkit::parsers::token(input));
