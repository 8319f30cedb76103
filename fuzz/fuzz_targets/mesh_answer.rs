//! What a signer sent for a workload, in PEM.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| chancery_testkit::parsers::mesh_answer(input));
