//! What the mesh side needs of a Kubernetes API.
//!
//! - `client.rs`: the way there. `follow.rs`: watches that survive what happens to watches.
//! - `token_review.rs`: whose token is this? `pods.rs`: which workload runs on which node?
//! - `certificate_request/`: signing by cert-manager. `issuer.rs`: by which of its issuers.
//! - `root_config_map/`: the mesh's roots, into every namespace.
//! - `istiod.rs`, `istiod_secret/`: istiod's own certificate, by cert-manager or without it.
//! - `leader.rs`: which replica does what only one may do.
//!
//! What is to be done is decided by functions that see only what is wanted and what is there; around them are thin loops.

mod cert_manager;
mod certificate_request;
mod client;
mod follow;
mod issuer;
mod istiod;
mod istiod_secret;
mod leader;
mod pods;
mod root_config_map;
mod selector;
mod token_review;

pub use cert_manager::{
    Certificate, CertificateRequest, CertificateRequestSpec, CertificateRequestStatus, CertificateSpec,
    Condition, IssuerReference, PrivateKeySpec,
};
pub use certificate_request::{CertificateRequestSettings, CertificateRequestSigner, IDENTITIES};
pub use client::{ApiError, ClientError, ClientOptions, REQUEST_TIMEOUT, connect};
pub use issuer::{ActiveIssuer, IssuerError, IssuerWatch, static_issuer};
pub use istiod::{IstiodCertificate, IstiodError, IstiodNames, KeyAlgorithm, run_istiod_certificate};
pub use istiod_secret::{IstiodSecret, run_istiod_secret};
pub use leader::{Elector, LEASE, LeaseTimings};
pub use pods::{PodFacts, PodIndex};
pub use root_config_map::{
    CONFIG_MAP, NotPublishable, RootConfigMapSettings, publishable, run_root_config_maps,
};
pub(crate) use selector::is_key;
pub use selector::{LabelSelector, SelectorError};
pub use token_review::{ClusterReviewer, LONGEST_MEMORY};
