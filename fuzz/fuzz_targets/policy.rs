//! The text of a policy.
#![no_main]

libfuzzer_sys::fuzz_target!(|text: &str| {
    let _ = chancery_secrets::policy::Policy::parse("fuzz", text);
});
