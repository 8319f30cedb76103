//! The path of an overlay's patch.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| chancery_testkit::parsers::overlay_path(input));
