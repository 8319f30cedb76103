//! The certificate controller: `cert-manager.io/v1` in a cluster, with a server of the Vault API behind it.
//!
//! - [`settings`] is what flags say; [`run`] starts everything, [`context`] is what all parts share.
//! - [`cache`] is what is known of the cluster: facts from watches, not objects; a change says which keys are to be worked on.
//! - [`issuer`] keeps a connection for each Issuer and ClusterIssuer, says whether it is ready, and signs.
//! - [`request`] approves CertificateRequests and has them signed.
//! - [`certificate`] keeps Certificates: keys, requests, Secrets, renewal.
//! - [`webhook`] judges objects before they are stored. [`metrics`] and [`health`] are for those who watch.
//! - [`operator`] is what people ask and do about certificates, on the command line.
//!
//! What is to be done is decided by pure functions over what was gathered; the reconcilers gather and act. Every step can be
//! repeated: killed anywhere, the controller ends in the same state.

pub mod cache;
pub mod certificate;
pub mod context;
pub mod health;
pub mod issuer;
pub mod metrics;
pub mod operator;
pub mod request;
pub mod run;
pub mod settings;
pub mod webhook;

pub use run::{Controller, run};
pub use settings::Settings;

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// An object of a namespace.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl std::fmt::Display for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.namespace, self.name)
    }
}

/// When a key is to be looked at again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// When something changes.
    Done,
    /// After this time, or when something changes.
    After(Duration),
}

/// Why a key could not be brought to its state; it is tried again.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The API server refused, or is out of reach.
    #[error(transparent)]
    Api(#[from] chancery_kubernetes::ApiError),
    /// Something else that passes.
    #[error("{0}")]
    Other(String),
}
