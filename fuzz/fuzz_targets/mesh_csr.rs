//! A workload's certificate request, held against its caller's name.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| chancery_testkit::parsers::mesh_csr(input));
