//! A request body, before its fields are known.
#![no_main]

libfuzzer_sys::fuzz_target!(|body: &[u8]| {
    let _ = chancery_api::Input::from_body(body);
});
