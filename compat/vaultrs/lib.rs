//! Only tests: see `tests/vaultrs.rs`.
