//! Head and body of an HTTP request, up to the pipeline.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| chancery_testkit::parsers::http_request(input));
