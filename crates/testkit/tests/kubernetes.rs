//! The double of the API server, over HTTP, as its clients meet it.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]

#[path = "kubernetes/access.rs"]
mod access;
#[path = "kubernetes/admission.rs"]
mod admission;
#[path = "kubernetes/apply.rs"]
mod apply;
#[path = "kubernetes/bed.rs"]
mod bed;
#[path = "kubernetes/definitions.rs"]
mod definitions;
#[path = "kubernetes/faults.rs"]
mod faults;
#[path = "kubernetes/lists.rs"]
mod lists;
#[path = "kubernetes/owners.rs"]
mod owners;
#[path = "kubernetes/speed.rs"]
mod speed;
#[path = "kubernetes/writes.rs"]
mod writes;
