//! The frame of the certificate service against real parts: the server over HTTP, real handshakes, real files.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

mod bao;
mod direct;
mod roots;
mod serving;
mod stability;
mod support;
