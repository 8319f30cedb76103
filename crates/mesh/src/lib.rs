//! The mesh side: how workloads come to certificates, and what operators see of it.
//!
//! - [`ca`] answers Istio's agents and ztunnel (`istio.v1.auth.IstioCertificateService`): it knows the caller, checks that
//!   the CSR asks for the caller's name and nothing more, has it signed over the API, and checks what came back.
//! - [`agent`] is the workload's end: it makes keys, asks for certificates, renews them, and hands them to Envoy (SDS) and
//!   to SPIFFE clients (Workload API) on one socket.
//! - [`inspect`] tells what an Envoy holds and whether it is what the mesh's CA gave out.
//! - [`overlay`] applies the overlays of an IstioOperator, and renders the TSB ControlPlane that points Istio here.
//! - [`kubernetes`] is what all of these need of a Kubernetes API.
//! - [`token`] reads and, for trying it out, makes the tokens of service accounts.
//!
//! Certificates are signed by the server only, over its API: there is no second way to sign.

pub mod agent;
pub mod ca;
mod identity;
pub mod inspect;
pub mod kubernetes;
pub mod overlay;
pub mod proto;
pub mod token;

pub use identity::{Workload, WorkloadError};

#[cfg(test)]
#[path = "../tests/common/mod.rs"]
mod testing;
