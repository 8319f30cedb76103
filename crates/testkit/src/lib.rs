//! For tests only: everything that reads input of strangers, under one signature; and servers: of Kubernetes' API
//! ([`kubernetes`]), ours ([`server`]), OpenBao ([`bao`]).
//!
//! [`parsers::ALL`] names each parser. `fuzz/fuzz_targets` holds a target for each, which cargo-fuzz
//! steers by coverage; `tests/mutated_input.rs` throws [`mutate`]d seeds at each on the stable
//! compiler, in every run of the test suite. Both start from `fuzz/seeds/NAME`. The fixed keys are in
//! `testdata`.

#![allow(clippy::expect_used, reason = "a helper of tests fails as tests do")]

pub mod bao;
pub mod ca;
pub mod kubernetes;
pub mod mutate;
pub mod parsers;
mod pipeline;
pub mod server;
