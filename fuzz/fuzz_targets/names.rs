//! SPIFFE ids, trust domains, dates.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| chancery_testkit::parsers::names(input));
