//! HCL version 1 or JSON, as policies and configuration files are.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    let _ = chancery_api::hcl::parse(text);
});
