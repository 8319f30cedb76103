//! HCL version 1 or JSON, as policies and configuration files are.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| chancery_testkit::parsers::hcl(input));
