//! Istio's certificate service.
//!
//! One call, straight down:
//!
//! ```text
//! service.rs        CreateCertificate
//! authenticate/     who calls                           no -> Unauthenticated
//! impersonate.rs    whose certificate it asks for       no -> Unauthenticated
//! request.rs        the CSR: that name, nothing more    no -> Unauthenticated
//! duration.rs       how long the certificate lives
//! signer/           signed over the API                 no -> Internal
//! answer.rs         what came back is what was asked    no -> Internal
//! ```
//!
//! `metering.rs` has a line in the log and the metrics for each. Around it: `listener.rs` and `gather.rs` (the port), [`roots`] (what the mesh trusts), `serving.rs` (the service's own certificate), `health.rs`, `run.rs`.

pub mod answer;
pub mod assemble;
pub mod authenticate;
pub mod config;
pub(crate) mod der;
pub mod duration;
mod gather;
pub mod health;
pub mod impersonate;
pub mod listener;
pub mod measure;
mod metering;
pub mod request;
pub mod roots;
pub mod run;
pub mod service;
pub mod serving;
pub mod signer;
pub mod tls;

pub use metering::{SECONDS_BUCKETS, describe as describe_metrics};
