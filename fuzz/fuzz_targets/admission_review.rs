//! What an API server asks of the admission webhook.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| chancery_testkit::parsers::admission_review(input));
