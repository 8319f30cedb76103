//! Istio's certificate service.
//!
//! One call, straight down:
//!
//! ```text
//! service.rs        CreateCertificate
//! authenticate/     who calls                           no -> Unauthenticated
//! impersonate.rs    whose certificate it asks for       no -> Unauthenticated
//! request.rs        the CSR: that name, nothing more    no -> Unauthenticated
//! signer/           signed over the API                 no -> Internal
//! answer.rs         what came back is what was asked    no -> Internal
//! ```
//!
//! Around it: [`roots`] (what the mesh trusts), `serving.rs` (the service's own certificate), `health.rs`, `run.rs`.

pub mod assemble;
pub mod authenticate;
pub mod config;
pub mod health;
pub mod listener;
pub mod measure;
pub mod roots;
pub mod run;
pub mod serving;
pub mod signer;
pub mod tls;
