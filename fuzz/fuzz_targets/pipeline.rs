//! An HTTP request, through the pipeline of a server in memory.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| chancery_testkit::parsers::pipeline(input));
