//! `X-Forwarded-For` of a proxy that is believed.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| chancery_testkit::parsers::forwarded(input));
