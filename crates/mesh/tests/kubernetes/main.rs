//! What the mesh side does with a Kubernetes API: against a double of the API server, and, where `KUBEBUILDER_ASSETS` names
//! a folder with `kube-apiserver` and `etcd`, against a real one.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "helpers of tests fail as tests do"
)]

mod bed;
mod certificate_requests;
mod double;
mod election;
mod issuers;
mod istiod;
mod kubectl;
mod pods;
mod real;
mod root_config_maps;
mod token_reviews;
mod whole;
