//! The times of a certificate revocation list, in PEM or DER.
#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| chancery_testkit::parsers::crl_times(input));
