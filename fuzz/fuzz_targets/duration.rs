//! A duration in the words that clients use.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    let _ = chancery_api::duration::parse(text);
});
