//! A request body, before its fields are known and as fields of every type.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| chancery_testkit::parsers::json_fields(input));
