//! What the mesh side does with a Kubernetes API; the way there, watches and election, and
//! cert-manager's types, are of `chancery_kubernetes`.
//!
//! - `token_review.rs`: whose token is this? `pods.rs`: which workload runs on which node?
//! - `certificate_request/`: signing by cert-manager. `issuer.rs`: by which of its issuers.
//! - `root_config_map/`: the mesh's roots, into every namespace.
//! - `istiod.rs`, `istiod_secret/`: istiod's own certificate, by cert-manager or without it.
//!
//! What is to be done is decided by functions that see only what is wanted and what is there; around them are thin loops.

mod certificate_request;
mod issuer;
mod istiod;
mod istiod_secret;
mod pods;
mod root_config_map;
mod token_review;

pub use certificate_request::{CertificateRequestSettings, CertificateRequestSigner, IDENTITIES};
pub use chancery_kubernetes::cert_manager::{CertificateRequest, IssuerReference};
pub(crate) use chancery_kubernetes::is_key;
pub use chancery_kubernetes::{
    ApiError, ClientError, ClientOptions, Elector, LabelSelector, LeaseTimings, REQUEST_TIMEOUT,
    SelectorError, connect,
};
pub use issuer::{ActiveIssuer, IssuerError, IssuerWatch, static_issuer};
pub use istiod::{IstiodCertificate, IstiodError, IstiodNames, KeyAlgorithm, run_istiod_certificate};
pub use istiod_secret::{IstiodSecret, run_istiod_secret};
pub use pods::{PodFacts, PodIndex};
pub use root_config_map::{
    CONFIG_MAP, NotPublishable, RootConfigMapSettings, publishable, run_root_config_maps,
};
pub use token_review::{ClusterReviewer, LONGEST_MEMORY};

use k8s_openapi::api::core::v1::ConfigMap;

/// A field of a ConfigMap's data.
fn datum<'a>(map: &'a ConfigMap, key: &str) -> Option<&'a str> {
    map.data.as_ref()?.get(key).map(String::as_str)
}

/// The lease of all replicas of this service.
pub const LEASE: &str = "istio-csr";
